"""What is written appears whole or not at all, and replaces nothing unasked."""

import errno
import os
import pathlib
import stat
import threading

import pytest

from lcdnet_jax import atomic_io
from lcdnet_jax.atomic_io import DirectoryKind, TargetError

KIND = DirectoryKind("export", required=("new",), optional=())


@pytest.fixture(params=[True, False], ids=["links", "no-links"])
def links(request, monkeypatch):
    """With and without hard links in the file system."""

    def refuse(*arguments):
        raise OSError(errno.EPERM, os.strerror(errno.EPERM))

    if not request.param:
        monkeypatch.setattr(os, "link", refuse)


def test_files(tmp_path, links):
    path = tmp_path / "a"
    atomic_io.write(path, b"1", force=False)
    with pytest.raises(TargetError, match=r"a exists; choose another name, or --force"):
        atomic_io.write(path, b"2", force=False)
    assert path.read_bytes() == b"1"
    atomic_io.write(path, b"2", force=True)
    assert path.read_bytes() == b"2"
    (tmp_path / "b").symlink_to("nowhere")
    with pytest.raises(TargetError, match="b exists"):
        atomic_io.write(tmp_path / "b", b"3", force=False)
    assert sorted(os.listdir(tmp_path)) == ["a", "b"]


def test_one_of_many_wins(tmp_path, links):
    won = []

    def write(number):
        try:
            atomic_io.write(tmp_path / "a", b"%d" % number * 999, force=False)
            won.append(number)
        except TargetError:
            pass

    threads = [threading.Thread(target=write, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    (winner,) = won
    assert (tmp_path / "a").read_bytes() == b"%d" % winner * 999
    assert os.listdir(tmp_path) == ["a"]


def test_a_failed_rename_leaves_no_empty_file(tmp_path, monkeypatch):
    def refuse(*arguments):
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    monkeypatch.setattr(os, "link", refuse)
    monkeypatch.setattr(os, "replace", refuse)
    with pytest.raises(OSError, match=r"cannot write .*a: Input/output error") as error:
        atomic_io.write(tmp_path / "a", b"1", force=False)
    assert error.value.errno == errno.EIO
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize("umask", [0o022, 0o077, 0o002])
def test_permissions(tmp_path, umask):
    """New files have those of the umask, replaced ones keep theirs."""
    before = os.umask(umask)
    try:
        atomic_io.write(tmp_path / "new", b"1", force=False)
        assert mode_of(tmp_path / "new") == 0o666 & ~umask
        for mode in (0o600, 0o640, 0o664, 0o755, 0o444):
            (tmp_path / "new").chmod(mode)
            atomic_io.write(tmp_path / "new", b"2", force=True)
            assert mode_of(tmp_path / "new") == mode
        (tmp_path / "link").symlink_to("new")
        atomic_io.write(tmp_path / "link", b"3", force=True)
        assert mode_of(tmp_path / "link") == 0o666 & ~umask
        for mode in (0o640, 0o600, 0o444):
            atomic_io.write(tmp_path / f"{mode}", b"1", force=False, mode=mode)
            assert mode_of(tmp_path / f"{mode}") == mode & ~umask
        atomic_io.write(tmp_path / "384", b"2", force=True, mode=0o666)  # 384 is 0o600
        assert mode_of(tmp_path / "384") == 0o600
    finally:
        os.umask(before)


def test_a_missing_folder(tmp_path):
    path = tmp_path / "no" / "a"
    with pytest.raises(OSError, match=r"a: the folder .*/no does not exist; make it") as error:
        atomic_io.write(path, b"1", force=False)
    assert error.value.errno == errno.ENOENT


def mode_of(path):
    return stat.S_IMODE(path.stat(follow_symlinks=False).st_mode)


@pytest.mark.skipif(not os.path.isdir("/proc/self"), reason="needs a folder that takes no files")
def test_folders_that_take_no_files():
    with pytest.raises(OSError, match=r"cannot write /proc/x: /proc takes no new files; choose a"):
        atomic_io.check_file("/proc/x", force=False)
    with pytest.raises(OSError, match=r"cannot write /proc/x/y: /proc takes no new files; choose"):
        atomic_io.check_file("/proc/x/y", force=False)


def test_check_file(tmp_path):
    (tmp_path / "a").touch()
    atomic_io.check_file(tmp_path / "new" / "er" / "b", force=False)
    atomic_io.check_file(tmp_path / "a", force=True)
    with pytest.raises(TargetError, match="a exists"):
        atomic_io.check_file(tmp_path / "a", force=False)
    with pytest.raises(TargetError, match="is a directory; give a file"):
        atomic_io.check_file(tmp_path, force=True)
    with pytest.raises(OSError, match=r"cannot write .*a/b/c: Not a directory; choose"):
        atomic_io.check_file(tmp_path / "a" / "b" / "c", force=True)
    assert os.listdir(tmp_path) == ["a"]


class TestDirectories:
    def make(self, path, meanwhile=lambda: None, *, force):
        with atomic_io.replace_directory(path, KIND, force=force) as made:
            made.mkdir()
            (made / "new").touch()
            meanwhile()

    @pytest.fixture(autouse=True)
    def nothing_is_left(self, tmp_path):
        yield
        assert not list(tmp_path.rglob(".*"))

    def test_permissions(self, tmp_path):
        for name, mode in (("empty", 0o2750), ("full", 0o700)):
            (tmp_path / name).mkdir()
            (tmp_path / name).chmod(mode)
            (tmp_path / "full" / "old").touch() if name == "full" else None
            self.make(tmp_path / name, force=name == "full")
            assert (mode_of(tmp_path / name), os.listdir(tmp_path / name)) == (mode, ["new"])

    @pytest.mark.parametrize("name", ["a" * 255, "ü" * 127])
    def test_long_names(self, tmp_path, name):
        for force in (False, True):
            self.make(tmp_path / name, force=force)
            assert os.listdir(tmp_path / name) == ["new"]

    def test_new_and_empty_ones(self, tmp_path):
        (tmp_path / "empty").mkdir()
        for name in ("empty", "new/er"):
            self.make(tmp_path / name, force=False)
            assert os.listdir(tmp_path / name) == ["new"]

    def test_what_appears_meanwhile_stays(self, tmp_path):
        def directory():
            (tmp_path / "a").mkdir()
            (tmp_path / "a" / "old").touch()

        with pytest.raises(TargetError, match="a exists; choose another name, or --force"):
            self.make(tmp_path / "a", directory, force=False)
        assert os.listdir(tmp_path / "a") == ["old"]
        with pytest.raises(TargetError, match="b exists"):
            self.make(tmp_path / "b", (tmp_path / "b").touch, force=False)
        assert (tmp_path / "b").is_file()
        self.make(tmp_path / "a", force=True)
        assert os.listdir(tmp_path / "a") == ["new"]

    def test_ctrl_c_loses_nothing(self, tmp_path, monkeypatch):
        """Right after what was there was moved away, and right after the new one took its place."""
        real = pathlib.Path.rename
        for stop_at, content in ((tmp_path / "a", ["old"]), (None, ["new"])):
            (tmp_path / "a").mkdir(exist_ok=True)
            (tmp_path / "a" / "old").touch()

            def rename(path, target, stop_at=stop_at):
                real(path, target)
                if path == stop_at or (stop_at is None and path.name == "new"):
                    raise KeyboardInterrupt

            with monkeypatch.context() as patch:
                patch.setattr(pathlib.Path, "rename", rename)
                with pytest.raises(KeyboardInterrupt):
                    self.make(tmp_path / "a", force=True)
            assert os.listdir(tmp_path / "a") == content

    def test_what_cannot_be_brought_back_is_kept_and_named(self, tmp_path, monkeypatch):
        self.make(tmp_path / "a", force=False)
        real = pathlib.Path.rename

        def rename(path, target):
            if target == tmp_path / "a":
                raise OSError(errno.EIO, os.strerror(errno.EIO))
            return real(path, target)

        with monkeypatch.context() as patch:
            patch.setattr(pathlib.Path, "rename", rename)
            with pytest.raises(OSError, match=r"cannot write .*a: Input/output error; the earlier"):
                self.make(tmp_path / "a", force=True)
        (kept,) = tmp_path.glob(".a-*.old")
        assert os.listdir(kept) == ["new"]
        kept.rename(tmp_path / "a")

    def test_what_may_be_replaced(self, tmp_path):
        def check(force):
            atomic_io.check_directory(tmp_path / "a", kind, force=force)

        kind = atomic_io.DirectoryKind("export", ("card", "model"), ("more",))

        for make in (lambda: None, (tmp_path / "a").mkdir):
            make()
            check(False)
            check(True)
        (tmp_path / "a" / "model").touch()
        with pytest.raises(TargetError, match=r"a is not an earlier export \(no card\)"):
            check(True)
        (tmp_path / "a" / "card").touch()
        (tmp_path / "a" / "more").touch()
        check(True)
        with pytest.raises(TargetError, match="a is not empty; choose another directory, or --for"):
            check(False)
        (tmp_path / "a" / "mine").touch()
        with pytest.raises(
            TargetError, match=r"not an earlier export \(mine\), and --force replaces"
        ):
            check(True)

    def test_mistakes_inside_change_nothing(self, tmp_path):
        self.make(tmp_path / "a", force=False)

        def fail():
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

        with pytest.raises(OSError, match=r"cannot write .*a: No space left"):
            self.make(tmp_path / "a", fail, force=True)
        assert os.listdir(tmp_path / "a") == ["new"]
