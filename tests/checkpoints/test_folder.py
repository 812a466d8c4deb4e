"""The folder of checkpoints on disk."""

import pytest

from lcdnet_jax.checkpoints import CheckpointError
from lcdnet_jax.checkpoints.folder import CheckpointFolder


@pytest.fixture
def folder(tmp_path):
    folder = CheckpointFolder(tmp_path / "run" / "checkpoints", writable=True)
    folder.open()
    yield folder
    folder.unlock()


def names(folder):
    return sorted(path.name for path in folder.path.iterdir())


def test_only_plain_numbers_are_checkpoints(folder):
    too_large = (str(2**31), "9" * 20)  # the state counts in 32 bits
    for name in ("0", "12", "03", "saving-4", "damaged-5", "-6", "x7", *too_large):
        (folder.path / name).mkdir()
    (folder.path / "8").write_bytes(b"")
    assert folder.steps() == [0, 12]


def test_opening_deletes_what_is_incomplete(folder):
    for name in ("2", "saving-4", "saving-5.orbax-checkpoint-tmp", "trash", "damaged-1"):
        (folder.path / name).mkdir()
    folder.unlock()
    again = CheckpointFolder(folder.path, writable=True)
    again.open()
    again.unlock()
    assert names(folder) == ["2", "damaged-1"]


def test_opening_to_read_makes_nothing(tmp_path):
    folder = CheckpointFolder(tmp_path / "checkpoints", writable=False)
    with pytest.raises(CheckpointError, match="does not exist; give a working directory"):
        folder.open()
    assert folder.steps() == []


def test_one_writer(folder):
    pytest.importorskip("fcntl")
    with pytest.raises(CheckpointError, match="in use by another training"):
        CheckpointFolder(folder.path, writable=True).open()
    CheckpointFolder(folder.path, writable=False).open()


def test_completing_a_save(folder):
    (folder.path / "saving-3").mkdir()
    folder.complete(3)
    assert names(folder) == ["3"]


@pytest.mark.parametrize(
    ("protected", "kept"),
    [(None, ["3", "4"]), (1, ["1", "3", "4"]), (3, ["3", "4"]), (9, ["3", "4"])],
)
def test_the_newest_and_the_protected_one_are_kept(folder, protected, kept):
    for name in ("1", "2", "3", "4"):
        (folder.path / name).mkdir()
    folder.delete_old(keep=2, protected=protected)
    assert names(folder) == kept


def test_damaged_ones_are_moved_aside(folder):
    for name in ("4", "damaged-4"):
        (folder.path / name).mkdir()
    assert folder.move_aside(4, "4 is damaged") == "damaged-4-2"
    assert names(folder) == ["damaged-4", "damaged-4-2"]
    with pytest.raises(CheckpointError, match="4 is damaged; it cannot be moved aside"):
        folder.move_aside(4, "4 is damaged")


def test_identity(folder, tmp_path):
    folder.check_identity()
    (tmp_path / "run").rename(tmp_path / "elsewhere")
    with pytest.raises(CheckpointError, match="it was moved, deleted or unmounted"):
        folder.check_identity()
    folder.path.mkdir(parents=True)
    with pytest.raises(CheckpointError, match="it was moved, deleted or unmounted"):
        folder.check_identity()
