"""The command that runs another one with a server of buckets."""

import pytest

from tests import _gcs


def test_mistakes(monkeypatch):
    with pytest.raises(SystemExit, match=r"^usage: python -m tests\._gcs BUCKET COMMAND"):
        _gcs.main(["data"])

    def fail():
        raise _gcs.Missing("no server; install it")

    monkeypatch.setattr(_gcs, "_find_program", fail)
    with pytest.raises(SystemExit, match=r"^error: no server; install it$"):
        _gcs.main(["data", "ls"])
