import shutil

import numpy as np
import pytest

from lcdnet_jax import image_io
from lcdnet_jax.image_io import ImageError, Metadata
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
        monkeypatch.setattr(limits, "find_available_memory", lambda: least)
        header = image_io.read_header(path)
        limits.check_memory(path, header, scale)
        monkeypatch.setattr(limits, "find_available_memory", lambda: least - 1)
        with pytest.raises(ImageError, match=rf"a\.png: {text}"):
            limits.check_memory(path, header, scale)
        monkeypatch.setattr(limits, "find_available_memory", lambda: None)
        limits.check_memory(path, header, scale)

    def test_available(self, tmp_path, monkeypatch):
        """That of the machine, or what a container has left; its cache can be freed."""
        monkeypatch.setattr(limits, "_CGROUP", tmp_path)
        machine = limits.find_available_memory()
        assert machine is None or machine > 10**6
        (tmp_path / "memory.max").write_text("max\n")
        assert (limits.find_available_memory() is None) == (machine is None)
        (tmp_path / "memory.max").write_text("5000\n")
        (tmp_path / "memory.current").write_text("3000\n")
        (tmp_path / "memory.stat").write_text("anon 9\ninactive_file 300\nactive_file 40\n")
        assert limits.find_available_memory() == 2340


class TestDisk:
    @pytest.fixture
    def free(self, monkeypatch):
        """Sets how many bytes are free."""
        return lambda size: monkeypatch.setattr(
            shutil, "disk_usage", lambda path: shutil._ntuple_diskusage(10**9, 0, size)
        )

    @pytest.mark.parametrize("name", ["a.bmp", "a.tif"])
    def test_without_compression(self, tmp_path, free, name):
        """In a folder that does not exist yet. It is an error of this file only."""
        target = tmp_path / "new" / "er" / name
        free(1000)
        limits.check_disk(target, np.zeros((10, 25), np.uint8), Metadata(), 2)
        free(999)
        with pytest.raises(
            ImageError, match=rf"cannot write .*{name}: it needs about 1\.0 kB, and"
        ):
            limits.check_disk(target, np.zeros((10, 25), np.uint8), Metadata(), 2)

    def test_compressed_files_may_be_small(self, tmp_path, free):
        """A blank picture is, whatever its size."""
        free(100)
        blank = np.zeros((100, 100), np.uint8)
        for name in ("a.png", "a.jpg", "a.webp"):
            limits.check_disk(tmp_path / name, blank, Metadata(), 1)
        lzw = Metadata(tiff_compression="lzw")
        limits.check_disk(tmp_path / "a.tif", blank, lzw, 1)
        limits.check_disk(tmp_path / "a.tif", blank.astype(np.uint16), Metadata(), 1)

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
        limits.check_disk(tmp_path / "a.bmp", np.zeros((9, 9), np.uint8), Metadata(), 10**6)
        assert limits.describe_disk([job], 1) is None
