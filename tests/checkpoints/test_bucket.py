"""Checkpoints in a bucket, and the lock that keeps a second run out."""

import os
import subprocess
import sys
import time

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from lcdnet_jax import checkpoints as checkpoints_lib
from lcdnet_jax import storage
from lcdnet_jax.checkpoints import CheckpointError, Checkpoints, arrays, bucket
from lcdnet_jax.checkpoints.bucket import LOCK, BucketFolder, BucketLock


@pytest.fixture
def hasty(monkeypatch):
    """Signs of life come faster."""
    for name, seconds in (("BEAT", 0.2), ("STALE", 1.5), ("SETTLE", 0.1)):
        monkeypatch.setattr(f"lcdnet_jax.checkpoints.bucket.{name}", seconds)


@pytest.fixture
def path(bucket):
    return storage.to_path(f"{bucket}/run") / "checkpoints"


def make_folder(path, *, writable=True):
    return BucketFolder(path, writable=writable)


def write(path, *names):
    for name in names:
        storage.write(path / name, b"")


def top(path):
    return sorted({name.partition("/")[0] for name in storage.list_files(path)})


class TestFolder:
    def test_complete_ones_have_a_manifest(self, path):
        write(
            path, "2/params/d", "2/manifest.json", "4/params/d", "x/manifest.json", "manifest.json"
        )
        assert make_folder(path, writable=False).steps() == [2]

    def test_opening_deletes_what_is_incomplete(self, path):
        write(path, "2/params/d", "2/manifest.json", "4/params/d", "damaged-1/params/d", "notes/a")
        folder = make_folder(path)
        folder.open()
        assert top(path) == ["2", "damaged-1", LOCK, "notes"]
        assert folder.has_damaged()
        folder.unlock()
        assert LOCK not in top(path)

    def test_opening_to_read_makes_nothing(self, path):
        with pytest.raises(CheckpointError, match="does not exist; give a working directory"):
            make_folder(path, writable=False).open()
        write(path, "2/params/d")
        make_folder(path, writable=False).open()
        assert top(path) == ["2"]

    def test_the_newest_and_the_protected_one_are_kept(self, path, monkeypatch):
        write(path, *(f"{step}/{name}" for step in range(5) for name in ("d", "manifest.json")))
        removed = []
        monkeypatch.setattr(
            storage, "remove", lambda path, marker: removed.append((path.name, marker))
        )
        make_folder(path).delete_old(keep=2, protected=1)
        assert removed == [("0", "manifest.json"), ("2", "manifest.json")]

    def test_damaged_ones_are_moved_aside(self, path):
        write(path, "4/d", "4/manifest.json", "damaged-4/d")
        folder = make_folder(path)
        assert folder.move_aside(4, "4 is damaged") == "damaged-4-2"
        assert list(storage.list_files(path)) == [
            *("damaged-4-2/d", "damaged-4-2/manifest.json", "damaged-4/d")
        ]

    def test_a_bucket_that_does_not_exist(self, bucket):
        folder = make_folder(storage.to_path("gs://no-such/run/checkpoints"))
        with pytest.raises(CheckpointError, match=r"cannot use gs://no-such/run/checkpoints: "):
            folder.open()


@pytest.mark.usefixtures("hasty")
class TestLock:
    def test_one_writer(self, path):
        first, second = BucketLock(path / LOCK), BucketLock(path / LOCK)
        first.acquire()
        assert first.is_owned()
        with pytest.raises(CheckpointError, match=rf"in use by another .*process {os.getpid()} on"):
            second.acquire()
        second.release()
        first.release()
        assert storage.list_files(path) == {}
        second.acquire()
        second.release()

    def test_an_owner_on_another_host_that_is_silent(self, path, monkeypatch):
        first, second = BucketLock(path / LOCK), BucketLock(path / LOCK)
        monkeypatch.setattr(first, "_owner", {**first._owner, "system": "other", "process": 1})
        storage.write(path / LOCK, first._render())
        begin = time.monotonic()
        second.acquire()
        assert time.monotonic() - begin > bucket.STALE
        assert second.is_owned()
        assert not first.is_owned()
        second.release()

    def test_a_dead_owner_is_known_at_once(self, path, monkeypatch):
        ended = subprocess.Popen([sys.executable, "-c", ""])
        ended.wait()
        first, second = BucketLock(path / LOCK), BucketLock(path / LOCK)
        monkeypatch.setattr(first, "_owner", {**first._owner, "process": ended.pid})
        storage.write(path / LOCK, first._render())
        begin = time.monotonic()
        second.acquire()
        assert time.monotonic() - begin < bucket.STALE
        second.release()

    def test_damaged(self, path):
        storage.write(path / LOCK, b"{")
        lock = BucketLock(path / LOCK)
        lock.acquire()
        lock.release()

    def test_losing_it(self, path):
        folder = make_folder(path)
        folder.open()
        folder.check_identity()
        storage.write(path / LOCK, b"{}")
        with pytest.raises(CheckpointError, match=r"not this run's any more: its lock.json was"):
            folder.check_identity()
        folder.unlock()
        assert top(path) == [LOCK]  # it belongs to the other one


ITEMS = {
    "params": {"a": jnp.arange(12.0), "b": {"c": jnp.ones((3, 4))}},
    "ema": {"a": jnp.zeros(())},
}


@pytest.fixture
def checkpoints(path):
    checkpoints = Checkpoints(str(path.parent), keep=2)
    yield checkpoints
    checkpoints.close()


def save(checkpoints, step):
    checkpoints.save(step, jax.tree.map(lambda x: x + step, ITEMS))
    checkpoints.finish(step)


@pytest.mark.extended
class TestCheckpoints:
    def test_save_and_restore(self, checkpoints, path):
        for step in (1, 2, 3):
            save(checkpoints, step)
        assert top(path) == ["2", "3", LOCK]
        step, items = checkpoints.restore_latest(ITEMS)
        assert step == 3
        jax.tree.map(np.testing.assert_array_equal, items, jax.tree.map(lambda x: x + 3, ITEMS))
        variables, step = checkpoints_lib.restore_variables(
            str(path.parent), {"params": ITEMS["params"]}, ema=False, step=2
        )
        np.testing.assert_array_equal(variables["params"]["a"], ITEMS["params"]["a"] + 2)

    @pytest.mark.parametrize("damage", ["changed", "missing"])
    def test_damage_is_passed_over(self, checkpoints, path, damage):
        for step in (1, 2):
            save(checkpoints, step)
        victim = next(name for name in storage.list_files(path) if name.startswith("2/params/d/"))
        content = bytearray(storage.read_bytes(path / victim))
        storage.remove(path / victim)
        if damage == "changed":
            content[len(content) // 2] ^= 1
            storage.write(path / victim, bytes(content))
        step, _ = checkpoints.restore_latest(ITEMS)
        assert step == 1
        assert top(path) == ["1", "damaged-2", LOCK]

    def test_another_run_took_over(self, checkpoints, path):
        save(checkpoints, 1)
        storage.write(path / LOCK, b"{}")
        with pytest.raises(CheckpointError, match="another training has taken it over"):
            save(checkpoints, 2)
        assert checkpoints.steps() == [1]

    def test_a_bucket_that_does_not_answer(self, checkpoints, monkeypatch):
        save(checkpoints, 1)

        def fail(*arguments, **options):
            raise ConnectionError("no route")

        with monkeypatch.context() as patch:
            patch.setattr(storage.buckets.get_filesystem(checkpoints.directory), "find", fail)
            message = (
                r"cannot list gs://.*: the bucket does not answer \(no route\); step 1 is saved"
            )
            with pytest.raises(CheckpointError, match=f"{message}. Check the network and the acc"):
                save(checkpoints, 2)
        save(checkpoints, 2)
        assert checkpoints.steps() == [1, 2]

    def test_requests_are_given_up_after_a_minute(self, checkpoints):
        from orbax.checkpoint._src.serialization import tensorstore_utils

        spec = tensorstore_utils.get_ts_context().spec.to_json()
        assert spec["gcs_request_retries"] == {"max_retries": 6}

    @pytest.mark.parametrize("name", ["runs [v2]", "a*"])
    def test_patterns(self, bucket, name):
        with pytest.raises(CheckpointError, match="a bucket has no links"):
            Checkpoints(f"{bucket}/{name}", keep=1)
        assert storage.list_files(storage.to_path(bucket)) == {}


def test_other_buckets_hold_no_checkpoints(monkeypatch):
    monkeypatch.setattr(storage.paths.importlib.util, "find_spec", lambda name: True)
    with pytest.raises(CheckpointError, match="in buckets of Google Cloud Storage; use a local"):
        Checkpoints("s3://bucket/run")


def test_literal_paths(bucket):
    assert arrays._is_literal(storage.to_path(f"{bucket}/a/b"))
    assert not arrays._is_literal(storage.to_path(f"{bucket}/a/b?"))
