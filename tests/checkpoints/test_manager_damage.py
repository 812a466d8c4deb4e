"""Checkpoints: files that are damaged or gone, and checkpoints without a manifest."""

import pathlib
import shutil

import numpy as np
import orbax.checkpoint as ocp
import pytest

from lcdnet_jax import checkpoints
from lcdnet_jax.checkpoints import CheckpointError, DamagedCheckpointError, manifest
from tests.checkpoints.saved_runs import (
    assert_equal_trees,
    entries,
    files,
    flip,
    one_file,
    replace_by_folder,
    save,
    state,
    truncate,
)


class TestDamage:
    @pytest.mark.extended
    @pytest.mark.parametrize("damage", [flip, truncate, pathlib.Path.unlink, replace_by_folder])
    def test_every_file(self, workdir, opened, damage):
        """Found and named for the item it belongs to, and without effect on the others."""
        reader = opened(workdir)
        directory = workdir / "checkpoints" / "8"
        names = [name for name in files(directory) if name != manifest.NAME]
        assert len(names) > 20
        for name in names:
            item = name.partition("/")[0] if "/" in name else "params"
            path, wanted = directory / name, {item: state(0)[item]}
            content = path.read_bytes()
            damage(path)
            with pytest.raises(DamagedCheckpointError) as error:
                reader.restore(8, wanted)
            assert f"{directory} is damaged: {name} " in str(error.value)
            assert "Restore the damaged files from a backup" in str(error.value)
            if "/" in name:
                other = "ema" if item == "params" else "params"
                reader.restore(8, {other: state(0)[other]})
            if path.is_dir():
                path.rmdir()
            path.write_bytes(content)
        assert_equal_trees(reader.restore(8, state(0)), state(8))

    def test_every_byte_of_the_manifest(self, workdir):
        directory = workdir / "checkpoints" / "8"
        path = directory / manifest.NAME
        content = path.read_bytes()
        for i in range(0, len(content), 11):
            changed = bytearray(content)
            changed[i] ^= 1 << (i % 8)
            path.write_bytes(changed)
            with pytest.raises(manifest.DamageError):
                manifest.read(directory, 8)
        for changed in (b"", b"[]", b"{}", content[:-1], content + b"\n"):
            path.write_bytes(changed)
            with pytest.raises(manifest.DamageError, match=r"manifest.json is not what was"):
                manifest.read(directory, 8)
        path.write_bytes(content)
        with pytest.raises(manifest.DamageError, match="is of step 8"):
            manifest.read(directory, 9)

    @pytest.mark.parametrize("item", ["params", "ema", "opt_state", "", manifest.NAME])
    def test_training_continues_from_the_newest_good_one(self, workdir, opened, caplog, item):
        run = opened(workdir, keep=9)
        directory = workdir / "checkpoints" / "8"
        file = directory / item if item == manifest.NAME else one_file(directory, item)
        flip(file)
        content = {name: (directory / name).read_bytes() for name in files(directory)}
        step, restored = run.restore_latest(state(0))
        assert step == 4
        assert_equal_trees(restored, state(4))
        (record,) = [r for r in caplog.records if r.levelname == "ERROR"]
        text = record.getMessage()
        assert f"{directory} is damaged: {file.relative_to(directory)} " in text
        assert text.endswith("step 4 is used instead and it is moved to damaged-8")
        assert "\n" not in text
        # Moved with every byte, out of the way of the step when it is made again.
        assert entries(workdir) == ["4", "damaged-8"]
        aside = workdir / "checkpoints" / "damaged-8"
        assert {name: (aside / name).read_bytes() for name in files(aside)} == content
        run.save(8, state(8))
        run.finish(8)
        assert_equal_trees(run.restore_latest(state(0))[1], state(8))
        flip(one_file(directory, "params"))
        assert run.restore_latest(state(0))[0] == 4
        assert entries(workdir) == ["4", "damaged-8", "damaged-8-2"]

    def test_reading_moves_nothing(self, workdir, opened, caplog):
        flip(one_file(workdir / "checkpoints" / "8", "ema"))
        wanted = {"params": state(0)["params"]}
        variables, step = checkpoints.restore_variables(workdir, wanted)
        assert step == 4
        assert_equal_trees(variables["params"], state(4)["ema"])
        (record,) = [r for r in caplog.records if r.levelname == "ERROR"]
        assert record.getMessage().endswith("step 4 is used instead")
        with pytest.raises(DamagedCheckpointError, match="damaged: ema/"):
            checkpoints.restore_variables(workdir, wanted, step=8)
        variables, step = checkpoints.restore_variables(workdir, wanted, ema=False)
        assert step == 8
        assert_equal_trees(variables["params"], state(8)["params"])
        assert entries(workdir) == ["4", "8"]

    def test_item_that_is_gone_is_not_taken_for_one_never_saved(self, workdir):
        shutil.rmtree(workdir / "checkpoints" / "8" / "ema")
        with pytest.raises(DamagedCheckpointError, match=r"damaged: ema/.* is missing"):
            checkpoints.restore_variables(workdir, {"params": state(0)["params"]}, step=8)

    def test_all_damaged(self, workdir, opened):
        for step in ("4", "8"):
            flip(one_file(workdir / "checkpoints" / step, "params"))
        run = opened(workdir, keep=9)
        with pytest.raises(DamagedCheckpointError) as error:
            run.restore_latest(state(0))
        first, *listed, fix = str(error.value).splitlines()
        assert first == f"no checkpoint in {workdir}/checkpoints is usable:"
        assert [f"checkpoints/{step} is damaged: params/" in line
                for step, line in zip(("8", "4"), listed, strict=True)] == [True, True]  # fmt: skip
        assert "from a backup" in fix
        assert entries(workdir) == ["4", "8"]

    def test_another_network_is_no_damage(self, workdir, opened, caplog):
        run = opened(workdir, keep=9)
        wanted = {"params": {"conv": {"kernel": np.zeros((8, 7), np.float32)}}}
        with pytest.raises(CheckpointError, match="belongs to another network") as error:
            run.restore_latest(wanted)
        assert not isinstance(error.value, DamagedCheckpointError)
        assert "params/conv/kernel: shape (8, 6) there, (8, 7) needed" in str(error.value)
        with pytest.raises(CheckpointError, match="batch_stats: not in the checkpoint"):
            run.restore_latest({"batch_stats": wanted})
        assert entries(workdir) == ["4", "8"]
        assert not caplog.records

    def test_refused_access_is_no_damage(self, workdir, opened, monkeypatch):
        run = opened(workdir, keep=9)

        def refuse(path):
            raise PermissionError(13, "Permission denied", str(path))

        monkeypatch.setattr(manifest.storage, "compute_sha256", refuse)
        with pytest.raises(CheckpointError, match=r"cannot read .*/8: .*; check perm") as error:
            run.restore_latest(state(0))
        assert not isinstance(error.value, DamagedCheckpointError)
        assert entries(workdir) == ["4", "8"]


class TestAbsence:
    """What is missing is damage, not an older version, where other checkpoints have a manifest."""

    def lose(self, workdir, *names):
        for name in names:
            path = workdir / "checkpoints" / name
            shutil.rmtree(path) if path.is_dir() else path.unlink()

    @pytest.mark.parametrize("names", [["8/manifest.json"], ["8/manifest.json", "8/ema"]])
    def test_of_the_manifest(self, workdir, opened, caplog, names):
        self.lose(workdir, *names)
        variables, step = checkpoints.restore_variables(workdir, {"params": state(0)["params"]})
        assert step == 4
        assert_equal_trees(variables["params"], state(4)["ema"])
        with pytest.raises(DamagedCheckpointError, match=r"manifest.json is missing, which other"):
            checkpoints.restore_variables(workdir, {"params": state(0)["params"]}, step=8)
        assert opened(workdir, keep=9).restore_latest(state(0))[0] == 4
        assert entries(workdir) == ["4", "damaged-8"]
        assert [r.levelname for r in caplog.records] == ["ERROR", "ERROR"]

    def test_of_everything(self, workdir, opened):
        (workdir / "checkpoints" / "5000").mkdir()
        wanted = {"params": state(0)["params"]}
        assert checkpoints.restore_variables(workdir, wanted)[1] == 8
        assert opened(workdir, keep=9).restore_latest(state(0))[0] == 8
        assert entries(workdir) == ["4", "8", "damaged-5000"]

    def test_of_everything_in_the_only_one(self, tmp_path, opened):
        (tmp_path / "checkpoints" / "5000").mkdir(parents=True)
        with pytest.raises(DamagedCheckpointError, match="has no ema, opt_state, params, and no"):
            opened(tmp_path).restore(5000, state(0))


class TestWithoutManifest:
    """Checkpoints of older versions."""

    @pytest.fixture
    def old(self, tmp_path):
        with ocp.CheckpointManager(
            tmp_path / "checkpoints",
            item_handlers={name: ocp.StandardCheckpointHandler() for name in state(0)},
        ) as manager:
            for step in (1, 2):
                items = {k: ocp.args.StandardSave(v) for k, v in state(step).items()}
                manager.save(step, args=ocp.args.Composite(**items))
        return tmp_path

    def test_is_read_with_a_warning(self, old, opened, caplog):
        step, restored = opened(old).restore_latest(state(0))
        assert step == 2
        assert_equal_trees(restored, state(2))
        (record,) = caplog.records
        assert record.levelname == "WARNING"
        assert "checkpoints/2 has no manifest" in record.getMessage()

    def test_damage_that_orbax_notices(self, old, opened, caplog):
        truncate(one_file(old / "checkpoints" / "2", "params"))
        run = opened(old, keep=2)
        with pytest.raises(DamagedCheckpointError, match="no manifest to verify it"):
            run.restore(2, state(0))
        assert run.restore_latest(state(0))[0] == 1
        assert entries(old) == ["1", "damaged-2"]

    def test_run_goes_on(self, old):
        save(old, 3, keep=2)
        assert entries(old) == ["2", "3"]
