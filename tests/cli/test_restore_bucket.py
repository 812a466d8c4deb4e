"""The command restore: images and weights in buckets."""

import subprocess
import sys

import numpy as np
import pytest

from lcdnet_jax import Restorer, image_io, storage
from lcdnet_jax.cli import main
from lcdnet_jax.networks import registered
from tests.cli.commands import ROOT
from tests.cli.halving import Halving, halved, noise, put, same

pytestmark = pytest.mark.usefixtures("stand_in")


@pytest.mark.extended
class TestBuckets:
    @pytest.fixture
    def photos(self, bucket, place):
        """Images in a bucket and in the folder ``in``."""
        for name in ("in/a.png", "in/sub/b.tif"):
            put(place / name)
        (place / "in/notes.txt").write_text("")
        storage.upload(place / "in", storage.to_path(f"{bucket}/in"))
        return bucket

    def test_in_and_out(self, place, run, photos):
        """As folders, with nothing left besides and no local folder called gs:."""
        local = run("in", "-o", "out", "--reference", "in")
        out = run(f"{photos}/in", "-o", f"{photos}/out/", "--reference", f"{photos}/in")
        assert without_time(out.replace(f"{photos}/", "")) == without_time(local)
        run("in", "-o", f"{photos}/up")
        run(f"{photos}/in/*/*.tif", "-o", "down")
        run(f"{photos}/in/a.png")
        files = storage.list_files(storage.to_path(photos))
        written = [name for name in files if not name.startswith("in/")]
        assert written == ["out/a.png", "out/sub/b.tif", "up/a.png", "up/sub/b.tif"]
        for name in ("a.png", "sub/b.tif"):
            expected = (place / "out" / name).read_bytes()
            for folder in ("out", "up"):
                path = storage.to_path(f"{photos}/{folder}/{name}")
                assert storage.read_bytes(path) == expected
        same(place / "down/b.tif", halved(image_io.read("in/sub/b.tif")))
        same(storage.to_path(f"{photos}/in/a.restored.png"), halved(image_io.read("in/a.png")))

    def test_skip_existing(self, place, run, photos, error_of):
        run(f"{photos}/in/a.png", "-o", f"{photos}/out/")
        assert "out/a.png exists; " in error_of(f"{photos}/in/", "-o", f"{photos}/out")
        out = run("in", "-o", f"{photos}/out", "--skip-existing")
        assert "2 of 2 images skipped" in out
        run(f"{photos}/in/a.png", "-o", f"{photos}/out/", "--force")

    def test_weights(self, photos, capsys, place, checkpoint):
        """Of all kinds, named as a directory or file is."""
        for name in ("w", "w.safetensors"):
            main.main(["export", str(checkpoint), "-o", f"{photos}/{name}"])
            arguments = ["restore", "in/a.png", "-o", "b.png", "--force"]
            main.main([*arguments, "--checkpoint", f"{photos}/{name}"])
            same(place / "b.png", halved(image_io.read("in/a.png")))
        shared = Restorer.from_checkpoint(f"{photos}/w")(image_io.read("in/a.png"))
        np.testing.assert_array_equal(shared, image_io.read("b.png"))

    @pytest.mark.slow  # tests/storage and tests/training have a quicker one
    def test_a_server_that_stops(self, place, photos, checkpoint, gcs):
        """Repetitions with a line each, then one clear error; it continues when it is back."""
        code = (
            "import sys; from tests.cli.test_restore_bucket import run_halving; "
            "run_halving(sys.argv)"
        )
        command = [sys.executable, "-c", code, "restore", f"{photos}/many", "-o", f"{photos}/out/"]
        command += ["--checkpoint", str(checkpoint)]
        put(place / "many.png", noise((200, 200, 3)))
        data = (place / "many.png").read_bytes()
        for k in range(200):
            storage.write(storage.to_path(f"{photos}/many/{k:03d}.png"), data)
        process = subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=ROOT
        )
        first = process.stdout.readline()
        gcs.stop()
        try:
            out, err = process.communicate(timeout=400)
        finally:
            gcs.start()
        assert process.returncode == 1
        *lines, last = err.splitlines()
        repeated = [line for line in lines if "the request is repeated" in line]
        assert 4 < len(repeated) < 200
        assert lines[-1].startswith("error: ")
        assert "not tried" in lines[-1]
        assert "the bucket does not answer" in last
        done = len([line for line in (first + out).splitlines() if line.endswith("200x200")])
        files = storage.list_files(storage.to_path(f"{photos}/out"))
        assert done <= len(files) < 200
        assert not [name for name in files if not name.endswith(".png")]
        finished = subprocess.run(
            [*command, "--skip-existing"], check=True, capture_output=True, text=True, cwd=ROOT
        )
        assert f"{len(files)} of 200 images skipped" in finished.stdout
        assert len(storage.list_files(storage.to_path(f"{photos}/out"))) == 200


def without_time(out):
    return [line for line in out.splitlines() if "megapixels/s" not in line]


def run_halving(arguments):
    """Runs a command in a process of its own, with the network of these tests."""
    with registered("sadnet", Halving):
        main.main(arguments[1:])
