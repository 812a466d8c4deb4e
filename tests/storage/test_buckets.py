"""Repetitions of requests, and what is logged."""

import logging

import pytest

from lcdnet_jax import storage
from lcdnet_jax.storage import StorageError, to_path


@pytest.mark.extended
@pytest.mark.slow  # it waits for the retries
def test_a_server_that_stops(bucket, gcs, caplog):
    path = to_path(f"{bucket}/run")
    gcs.stop()
    try:
        with (
            caplog.at_level(logging.WARNING),
            pytest.raises(StorageError, match=r"run: the bucket does not answer \(Cannot connect"),
        ):
            storage.read_bytes(path)
    finally:
        gcs.start()
    lines = [record.getMessage() for record in caplog.records]
    assert len(lines) == 5
    assert all("the bucket does not answer (Cannot connect" in line for line in lines)
    assert all(len(line.splitlines()) == 1 for line in lines)


def test_lines_of_gcsfs(bucket, caplog):
    to_path(bucket)
    logger, auth = logging.getLogger("gcsfs"), logging.getLogger("google.auth._default")
    with caplog.at_level(logging.WARNING):
        logger.debug("GET: b/{}/o")
        logger.warning("Could not determine bucket type for bucket name x: no credentials")
        auth.warning("Authentication failed using Compute Engine authentication due to x")
        logger.warning("something else")
    assert [record.getMessage() for record in caplog.records] == ["something else"]
