"""Checkpoints: what is offered, and what failing saves and kills leave."""

import itertools
import pathlib
import shutil
import subprocess
import sys
import tempfile
import threading

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from lcdnet_jax import checkpoints
from lcdnet_jax.checkpoints import CheckpointError, Checkpoints, arrays, manifest
from tests.checkpoints.saved_runs import assert_equal_trees, entries, files, save, state

ROOT = pathlib.Path(__file__).resolve().parents[2]


class TestSaving:
    def test_round_trip(self, workdir, opened):
        reader = opened(workdir)
        assert reader.steps() == [4, 8]
        assert reader.latest_step() == 8
        for step in (4, 8):
            assert_equal_trees(reader.restore(step, state(0)), state(step))
        assert reader.restore_latest(state(0))[0] == 8
        step, items = reader.restore_latest({"params": state(0)["params"]}, before=8)
        assert step == 4
        assert_equal_trees(items, {"params": state(4)["params"]})
        assert set(reader.items(8)) == {"params", "ema", "opt_state"}

    def test_other_devices(self, tmp_path, opened):
        whole = np.arange(32, dtype=np.float32).reshape(16, 2)
        spread = NamedSharding(Mesh(np.array(jax.devices()), ("data",)), PartitionSpec("data"))
        everywhere = NamedSharding(Mesh(np.array(jax.devices()), ("data",)), PartitionSpec())
        single = jax.sharding.SingleDeviceSharding(jax.devices()[3])
        places = [spread, everywhere, single, spread]
        run = opened(tmp_path, keep=9)
        for step, (source, target) in enumerate(itertools.pairwise(places)):
            run.save(step, {"params": {"w": jax.device_put(whole, source)}})
            run.finish(step)
            wanted = {"w": jax.ShapeDtypeStruct(whole.shape, whole.dtype, sharding=target)}
            restored = run.restore(step, {"params": wanted})["params"]["w"]
            assert restored.sharding == target
            np.testing.assert_array_equal(restored, whole)

    def test_saving_goes_on_in_the_background(self, tmp_path, opened, monkeypatch):
        """Neither is the new checkpoint offered nor the old one removed before it is complete."""
        reached, go_on = threading.Event(), threading.Event()
        write = manifest.write

        def wait(*args):
            reached.set()
            assert go_on.wait(30)
            write(*args)

        run = opened(tmp_path, keep=1)
        run.save(1, state(1))
        run.finish(1)
        monkeypatch.setattr(manifest, "write", wait)
        arrays = jax.tree.map(jnp.asarray, state(2))
        run.save(2, arrays)
        for array in jax.tree.leaves(arrays):
            array.delete()  # as donating it would
        assert reached.wait(30)
        assert entries(tmp_path) == ["1", "saving-2"]
        assert run.steps() == [1]
        go_on.set()
        assert run.saved() == "step 2 is saved"
        run.finish(2)
        assert entries(tmp_path) == ["2"]
        assert_equal_trees(run.restore(2, state(0)), state(2))

    def test_close_waits(self, tmp_path):
        run = Checkpoints(tmp_path, keep=1)
        assert run.saved() == "there is no checkpoint yet"
        run.save(1, state(1))
        run.close()
        assert entries(tmp_path) == ["1"]

    def test_newest_are_kept(self, tmp_path):
        save(tmp_path, 1, 9, 10, keep=2)
        assert entries(tmp_path) == ["10", "9"]
        save(tmp_path, 11, keep=1)
        assert entries(tmp_path) == ["11"]

    def test_protected_one_is_kept(self, tmp_path, opened):
        run = opened(tmp_path, keep=1)
        run.save(1, state(1))
        run.protect(1)
        for step in (2, 3):
            run.save(step, state(step))
        run.protect(1)  # waits
        assert entries(tmp_path) == ["1", "3"]
        run.protect(3)
        assert entries(tmp_path) == ["3"]
        with pytest.raises(ValueError, match="opened to read only"):
            opened(tmp_path).protect(3)

    def test_complete_step_stays_as_it_is(self, workdir, opened):
        run = opened(workdir, keep=9)
        run.save(8, state(5))
        run.finish(8)
        assert_equal_trees(run.restore(8, state(0)), state(8))

    def test_read_only(self, workdir, tmp_path):
        reader = Checkpoints(workdir)
        with pytest.raises(ValueError, match="opened to read only"):
            reader.save(9, state(9))
        reader.close()
        with pytest.raises(CheckpointError, match="does not exist; give a working directory"):
            Checkpoints(tmp_path)
        assert not (tmp_path / "checkpoints").exists()

    def test_what_is_no_checkpoint_is_not_offered(self, workdir, opened):
        for name in ("07", "²", "9x", "damaged-9", "saving-9", "trash/9"):
            (workdir / "checkpoints" / name).mkdir(parents=True)
        (workdir / "checkpoints" / "9").write_text("a file")
        assert opened(workdir).steps() == [4, 8]

    def test_steps_that_are_not_there(self, workdir, tmp_path, opened):
        with pytest.raises(CheckpointError, match="no step 5; there are: 4, 8"):
            opened(workdir).restore(5, state(0))
        with pytest.raises(CheckpointError, match="no step 5; there are: 4, 8"):
            checkpoints.restore_variables(workdir, state(0), step=5)
        empty = opened(tmp_path, keep=1)
        with pytest.raises(CheckpointError, match="contains no complete checkpoint; train first"):
            empty.restore_latest(state(0))
        with pytest.raises(CheckpointError, match="checkpoint before step 4; train first"):
            opened(workdir).restore_latest(state(0), before=4)


class TestReadingWhileTraining:
    def test_a_step_that_is_deleted_meanwhile(self, workdir, opened):
        """One checkpoint is kept, and a newer one is complete in the middle of reading."""
        reader, read = opened(workdir), []

        save(workdir / "made", 9, 10)
        for step in (9, 10):
            shutil.move(workdir / "made" / "checkpoints" / str(step), workdir / f"new-{step}")
        shutil.rmtree(workdir / "checkpoints" / "4")

        def replace(step):
            read.append(step)
            if step < 10:
                shutil.move(workdir / f"new-{step + 1}", workdir / "checkpoints" / str(step + 1))
                shutil.rmtree(workdir / "checkpoints" / str(step))
            return reader.restore(step, state(0))["params"]

        step, params = reader.read_newest(replace)
        assert step == 10
        assert read == [8, 9, 10]
        assert_equal_trees(params, state(10)["params"])

    def test_the_last_step_is_deleted(self, workdir, opened):
        reader = opened(workdir)

        def lose(step):
            shutil.rmtree(workdir / "checkpoints")
            (workdir / "checkpoints").mkdir()
            return reader.restore(step, state(0))

        with pytest.raises(CheckpointError, match="has no step 8; there are: none"):
            reader.read_newest(lose)


class TestPath:
    """Orbax takes a path for a pattern."""

    @pytest.mark.parametrize("name", ["runs [v2]", "a*b", "what?", "a\\b", "gs:"])
    def test_is_literal(self, tmp_path, opened, name):
        workdir = tmp_path / name / "run"
        (tmp_path / "runs v").mkdir()  # what the first of the patterns matches
        save(workdir, 4, 8)
        assert entries(workdir) == ["4", "8"]
        assert_equal_trees(opened(workdir).restore(8, state(0)), state(8))
        assert opened(workdir).items(8).keys() == state(0).keys()
        with pytest.raises(CheckpointError) as error:
            opened(workdir).restore(8, {"params": {"other": np.zeros(3)}})
        assert str(workdir / "checkpoints" / "8") in str(error.value)

    def test_leaves_no_link(self, tmp_path, monkeypatch):
        monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "temporary"))
        (tmp_path / "temporary").mkdir()
        save(tmp_path / "[v2]", 4)
        assert list((tmp_path / "temporary").iterdir()) == []

    def test_that_no_link_can_stand_for(self, tmp_path, monkeypatch):
        monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "[temporary]"))
        (tmp_path / "[temporary]").mkdir()
        with pytest.raises(CheckpointError, match=r"literally, and a link.*use a path without"):
            Checkpoints(tmp_path / "[v2]", keep=1)


class TestReadBack:
    def test_arrays_that_are_not_on_disk(self, tmp_path, opened, monkeypatch):
        """The save reports success, but what is written cannot be read."""
        run = opened(tmp_path, keep=9)
        run.save(4, state(4))
        run.finish(4)

        def lose(where, checksums):
            shutil.rmtree(where / "params")
            read_back(where, checksums)

        read_back = arrays.read_back
        monkeypatch.setattr(arrays, "read_back", lose)
        run.save(8, state(8))
        with pytest.raises(CheckpointError, match=r"cannot be read back.*\n.*step 4 is saved"):
            run.finish(8)
        assert entries(tmp_path) == ["4"]

    @pytest.mark.parametrize("dtype", ["float32", "bfloat16", "int32"])
    @pytest.mark.parametrize("shape", [(), (3, 5)])
    def test_values(self, tmp_path, opened, monkeypatch, dtype, shape):
        run = opened(tmp_path, keep=9)
        tree = {"x": jnp.ones(shape, dtype), "y": jnp.ones(3)}
        run.save(4, {"params": tree})
        run.finish(4)
        where = tmp_path / "checkpoints" / "4"
        arrays.read_back(where, arrays.compute_checksums({"params": tree}))
        other = {**tree, "x": jnp.zeros(shape, dtype)}
        checksums = arrays.compute_checksums({"params": other})
        with pytest.raises(ValueError, match="params/x is not as it was saved"):
            arrays.read_back(where, checksums)


class TestLeftovers:
    """What kills leave behind."""

    @pytest.fixture
    def leftovers(self, workdir):
        directory = workdir / "checkpoints"
        for name in ("saving-9", "trash/3", "saving-10.orbax-checkpoint-tmp", "12"):
            shutil.copytree(directory / "8", directory / name)
        (directory / "12").rename(directory / "12.orbax-checkpoint-tmp-17")  # of older versions
        return workdir

    def test_are_not_offered_and_left_alone_by_readers(self, leftovers, opened):
        before = files(leftovers)
        reader = opened(leftovers)
        assert reader.steps() == [4, 8]
        assert reader.restore_latest(state(0))[0] == 8
        assert files(leftovers) == before

    def test_are_deleted_by_the_next_training(self, leftovers, opened):
        run = opened(leftovers, keep=9)
        assert entries(leftovers) == ["4", "8"]
        run.save(9, state(9))
        run.finish(9)
        assert run.steps() == [4, 8, 9]

    def test_kill_while_deleting(self, tmp_path, opened, monkeypatch):
        monkeypatch.setattr(shutil, "rmtree", lambda *args, **kwargs: None)
        trash = tmp_path / "checkpoints" / "trash"
        save(tmp_path, 1, 2, keep=1)
        assert entries(tmp_path) == ["2", "trash"]
        assert opened(tmp_path).steps() == [2]
        (tmp_path / "checkpoints" / "2").rename(trash / "2")
        save(tmp_path, 1, 3, keep=1)  # a step of that name is in the trash already
        assert sorted(path.name for path in trash.iterdir()) == ["1", "1-2", "2"]
        monkeypatch.undo()
        opened(tmp_path, keep=1)
        assert entries(tmp_path) == ["3"]


class TestFailingSaves:
    @pytest.mark.extended
    def test_size_limit_of_the_system(self, workdir):
        """The real error of a write, in a process that may write small files only."""
        code = """
import resource, signal, sys
import numpy as np
from lcdnet_jax.checkpoints import CheckpointError, Checkpoints, silence_orbax

silence_orbax()
run = Checkpoints(sys.argv[1], keep=1)
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 16, 1 << 16))
noise = np.random.default_rng(0).normal(size=1 << 18)  # does not compress
try:
    run.save(9, {"params": {"w": noise}})
    run.finish(9)
except CheckpointError as error:
    print(error)
run.save(10, {"params": {"w": noise[:9]}})
run.finish(10)
run.close()
"""
        out = subprocess.run(
            [sys.executable, "-c", code, workdir],
            capture_output=True,
            text=True,
            timeout=120,
            cwd=ROOT,
            check=True,
        ).stdout
        assert "cannot write the checkpoint of step 9 to" in out
        assert "too large" in out.lower()
        assert "Nothing saved before is lost: step 8 is saved" in out
        assert entries(workdir) == ["10"]  # a small one fits, and only it removes others

    @pytest.mark.extended
    @pytest.mark.parametrize("function", ["write", "rename"])
    @pytest.mark.parametrize("where", ["finish", "next save"])
    def test_error_in_the_background(self, workdir, opened, monkeypatch, function, where):
        owner = manifest if function == "write" else pathlib.Path
        real = getattr(owner, function)

        def fail(path, *args):
            if path.name == "saving-9":
                raise OSError(28, "No space left on device")
            real(path, *args)

        run = opened(workdir, keep=2)
        monkeypatch.setattr(owner, function, fail)
        run.save(9, state(9))
        message = (
            r"checkpoint of step 9 to .*: \[Errno 28\] No space left on device\n"
            r"Nothing saved before is lost: step 8 is saved. Free disk space"
        )
        with pytest.raises(CheckpointError, match=message):
            run.finish(9) if where == "finish" else run.save(10, state(10))
        assert entries(workdir) == ["4", "8"]
        monkeypatch.undo()
        run.save(9, state(9))
        run.finish(9)
        assert run.steps() == [8, 9]
        assert_equal_trees(run.restore(8, state(0)), state(8))

    def test_error_when_closing_is_logged(self, workdir, monkeypatch, caplog):
        def fail(*args):
            raise OSError(28, "No space left on device")

        run = Checkpoints(workdir, keep=2)
        monkeypatch.setattr(manifest, "write", fail)
        run.save(9, state(9))
        run.close()
        assert "not completed: [Errno 28] No space left" in caplog.text
        save(workdir, keep=2)
        assert entries(workdir) == ["4", "8"]

    def test_one_run_at_a_time(self, workdir, opened):
        run = opened(workdir, keep=2)
        with pytest.raises(CheckpointError, match="is in use by another training; stop it or wait"):
            Checkpoints(workdir, keep=2)
        assert opened(workdir).steps() == [4, 8]  # reading is free
        run.close()
        save(workdir, 9, keep=2)
        assert entries(workdir) == ["8", "9"]

    def test_place_that_cannot_hold_checkpoints(self, tmp_path):
        (tmp_path / "checkpoints").write_text("")
        with pytest.raises(CheckpointError, match=r"cannot use .*; use a writable --workdir"):
            Checkpoints(tmp_path, keep=1)
