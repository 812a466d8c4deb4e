import shutil

import numpy as np
import pytest

from lcdnet_jax.image_io import ImageError
from lcdnet_jax.inference import limits
from lcdnet_jax.inference.plan import Job
from tests.cli.halving import noise, put


class TestMemory:
    @pytest.mark.parametrize(
        ("dtype", "scale", "least", "text"),
        [
            (np.uint8, 1, 2400, r"30x20 pixels need about 2\.4 kB of memory, and 2\.4 kB are left"),
            (np.uint16, 1, 4800, "30x20 pixels need"),
            (np.uint8, 2, 6000, "30x20 pixels, enlarged by 2, need"),
        ],
    )
    def test_check(self, tmp_path, monkeypatch, dtype, scale, least, text):
        path = put(tmp_path / "a.png", noise((20, 30), dtype))
        monkeypatch.setattr(limits, "available_memory", lambda: least)
        limits.check_memory(path, scale)
        monkeypatch.setattr(limits, "available_memory", lambda: least - 1)
        with pytest.raises(ImageError, match=rf"a\.png: {text}"):
            limits.check_memory(path, scale)
        monkeypatch.setattr(limits, "available_memory", lambda: None)
        limits.check_memory(path, scale)

    def test_files_that_cannot_be_read_fail_later(self, tmp_path):
        (tmp_path / "a.png").write_bytes(b"text")
        for name in ("a.png", "none.png"):
            limits.check_memory(tmp_path / name, 1)

    def test_available(self, tmp_path, monkeypatch):
        """That of the machine, or what a container has left; its cache can be freed."""
        monkeypatch.setattr(limits, "_CGROUP", tmp_path)
        machine = limits.available_memory()
        assert machine is None or machine > 10**6
        (tmp_path / "memory.max").write_text("max\n")
        assert (limits.available_memory() is None) == (machine is None)
        (tmp_path / "memory.max").write_text("5000\n")
        (tmp_path / "memory.current").write_text("3000\n")
        (tmp_path / "memory.stat").write_text("anon 9\ninactive_file 300\nactive_file 40\n")
        assert limits.available_memory() == 2340


class TestDisk:
    @pytest.fixture
    def free(self, monkeypatch):
        """Sets how many bytes are free."""
        return lambda size: monkeypatch.setattr(
            shutil, "disk_usage", lambda path: shutil._ntuple_diskusage(10**9, 0, size)
        )

    @pytest.mark.parametrize(
        ("name", "least"), [("a.bmp", 1000), ("a.tif", 300), ("a.png", 200), ("a.jfif", 10)]
    )
    def test_check(self, tmp_path, free, name, least):
        """In a folder that does not exist yet."""
        job = Job(tmp_path / "in.png", tmp_path / "new" / "er" / name)
        free(least)
        limits.check_disk(job, 1000)
        free(least - 1)
        with pytest.raises(
            limits.DiskError, match=rf"cannot write .*{name}: it needs about \d+\.\d kB, and"
        ):
            limits.check_disk(job, 1000)

    def test_of_a_run(self, tmp_path, free):
        """Counts files that keep their format."""
        sources = [put(tmp_path / name) for name in ("a.png", "b.png")]
        sources += [tmp_path / "none.png"]
        jobs = [Job(source, tmp_path / "out" / source.name) for source in sources]
        needed = sum(path.stat().st_size for path in sources[:2])
        free(needed)
        assert limits.describe_disk(jobs, 1) is None
        assert limits.describe_disk([], 1) is None
        message = limits.describe_disk(jobs, 2)
        assert message is not None
        assert f"are free for {tmp_path}/out; the run ends where the disk is full" in message
        free(needed - 1)
        assert limits.describe_disk(jobs, 1) is not None
        converted = [Job(job.source, job.target.with_suffix(".jpg")) for job in jobs]
        assert limits.describe_disk(converted, 1) is None

    def test_a_disk_that_does_not_tell(self, tmp_path, monkeypatch):
        def refuse(path):
            raise PermissionError

        monkeypatch.setattr(shutil, "disk_usage", refuse)
        job = Job(put(tmp_path / "a.png"), tmp_path / "out.png")
        limits.check_disk(job, 10**15)
        assert limits.describe_disk([job], 1) is None
