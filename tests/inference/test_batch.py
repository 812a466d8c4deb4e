"""Restoration of files one by one, of a network that halves its images."""

import errno
import os
import shutil
import signal
import threading
import time

import jax.numpy as jnp
import numpy as np
import pytest
from skimage import metrics as skimage_metrics

from lcdnet_jax import Restorer, atomic_io, image_io, inference, storage
from lcdnet_jax.image_io import ImageError
from lcdnet_jax.inference import batch, limits
from lcdnet_jax.inference.plan import Job
from tests.cli.halving import Halving, halved, noise, put, same


@pytest.fixture(scope="module")
def restorer():
    return Restorer(Halving(), {"params": {"gain": jnp.full(1, 0.5)}})


def make_jobs(folder, *names, reference=None):
    return [Job(folder / name, folder / "out" / name, reference) for name in names]


def test_one_bad_file_does_not_stop_the_others(tmp_path, restorer):
    put(tmp_path / "a.png")
    put(tmp_path / "c.png", noise((12, 9), np.uint16))
    (tmp_path / "b.png").write_bytes(b"text")
    jobs = make_jobs(tmp_path, "a.png", "b.png", "c.png")
    outcomes = list(batch.restore(restorer, jobs))
    assert [job for job, _ in outcomes] == jobs
    first, second, third = (outcome for _, outcome in outcomes)
    assert (first, third) == (batch.Result(20, 30), batch.Result(12, 9))
    assert isinstance(second, ImageError)
    assert str(second).startswith(f"{tmp_path}/b.png: ")
    for name in ("a.png", "c.png"):
        same(tmp_path / "out" / name, halved(image_io.read(tmp_path / name)))
    assert not (tmp_path / "out" / "b.png").exists()


def test_existing_files_and_the_input_are_kept(tmp_path, restorer):
    put(tmp_path / "a.png")
    put(tmp_path / "out" / "a.png", noise(seed=1))
    before = (tmp_path / "out" / "a.png").read_bytes()
    ((_, outcome),) = batch.restore(restorer, make_jobs(tmp_path, "a.png"))
    assert "exists; " in str(outcome)
    assert str(outcome).endswith("--skip-existing to keep it")
    assert (tmp_path / "out" / "a.png").read_bytes() == before
    itself = Job(tmp_path / "a.png", tmp_path / "a.png")
    ((_, outcome),) = batch.restore(restorer, [itself])
    assert "a.png is the input itself" in str(outcome)
    ((_, outcome),) = batch.restore(restorer, make_jobs(tmp_path, "a.png"), force=True)
    assert outcome == batch.Result(20, 30)


def test_scores_are_of_the_written_file(tmp_path, restorer):
    put(tmp_path / "a.png")
    reference = put(tmp_path / "truth.png", noise(seed=1))
    ((_, result),) = batch.restore(restorer, make_jobs(tmp_path, "a.png", reference=reference))
    a, b = image_io.read(tmp_path / "out" / "a.png"), image_io.read(reference)
    expected = skimage_metrics.peak_signal_noise_ratio(b, a, data_range=255)
    assert result.psnr == pytest.approx(expected, abs=1e-3)


def test_windows_are_reported(tmp_path):
    """Before the first window and after each, also if several images are computed together."""
    variables = {"params": {"gain": jnp.full(1, 0.5)}}
    tiled = Restorer(Halving(), variables, tile=32, overlap=0, device="cpu", tile_batch=2)
    put(tmp_path / "a.png", noise((64, 32, 3)))
    put(tmp_path / "b.png", noise((20, 30, 3)))
    seen = []
    outcomes = batch.restore(
        tiled,
        make_jobs(tmp_path, "a.png", "b.png"),
        on_windows=lambda done, total: seen.append((done, total)),
    )
    assert [outcome for _, outcome in outcomes] == [batch.Result(64, 32), batch.Result(20, 30)]
    count = tiled.count_windows(noise((64, 32, 3)))
    assert count > 1
    assert seen[0] == (0, count)
    assert seen[-3:] == [(count, count), (0, 1), (1, 1)]


@pytest.mark.parametrize("when", [0, 1])
def test_an_image_is_left_off_between_windows(tmp_path, when):
    variables = {"params": {"gain": jnp.full(1, 0.5)}}
    tiled = Restorer(Halving(), variables, tile=32, overlap=0, device="cpu")
    put(tmp_path / "a.png", noise((96, 32, 3)))
    seen = []

    def stop(done, total):
        seen.append(done)
        if done == when:
            raise InterruptedError("stopped")

    ((_, outcome),) = batch.restore(tiled, make_jobs(tmp_path, "a.png"), on_windows=stop)
    assert "stopped" in str(outcome)
    assert seen == list(range(when + 1))
    assert not (tmp_path / "out" / "a.png").exists()


def test_create_restorer(tmp_path):
    assert batch.create_restorer(None).module.channels == 3
    gray = batch.create_restorer("sadnet-gray-blind", strength=0.5, tile=512)
    assert (gray.module.channels, gray.strength, gray.tile) == (1, 0.5, 512)
    with pytest.raises(ValueError, match="does not exist; give a working directory"):
        batch.create_restorer(tmp_path / "none")


def test_a_full_disk_ends_the_run(tmp_path, restorer, monkeypatch):
    for name in ("a.png", "b.png"):
        put(tmp_path / name)

    def fail(path):
        raise OSError(errno.ENOSPC, "No space left on device", str(path))

    monkeypatch.setattr(atomic_io, "make_folder", fail)
    ((job, outcome),) = batch.restore(restorer, make_jobs(tmp_path, "a.png", "b.png"))
    assert job.source == tmp_path / "a.png"
    assert isinstance(outcome, batch.DiskError)
    assert "No space left on device" in str(outcome)


def test_an_image_too_large_for_the_disk_does_not_stop_the_others(tmp_path, restorer, monkeypatch):
    put(tmp_path / "a.bmp", noise((60, 90, 3)))
    put(tmp_path / "b.bmp")
    usage = shutil.disk_usage(tmp_path)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage._replace(free=5000))
    (_, first), (_, second) = batch.restore(restorer, make_jobs(tmp_path, "a.bmp", "b.bmp"))
    assert "a.bmp: it needs about 16.2 kB, and 5.0 kB are free" in str(first)
    assert second == batch.Result(20, 30)


def test_memory_for_floating_point_is_checked(tmp_path, restorer, monkeypatch):
    """Before it is decoded. A damaged file has an error of its own."""
    put(tmp_path / "a.tif", np.float32(noise()) / 255)
    (tmp_path / "b.tif").write_bytes(b"text")
    monkeypatch.setattr(limits, "find_available_memory", lambda: 4 * 20 * 30 * 3 * 4 - 1)
    (_, first), (_, second) = batch.restore(restorer, make_jobs(tmp_path, "a.tif", "b.tif"))
    assert "a.tif: 30x20 pixels need about 28.8 kB of memory" in str(first)
    assert "contains no PNG" in str(second)


def test_estimates(tmp_path, restorer, monkeypatch):
    """Image, result and reference; of a file without a header, its bytes; it never fails."""
    put(tmp_path / "a.tif", np.zeros((20, 30, 3), np.float32))
    put(tmp_path / "b.png", np.zeros((20, 30), np.uint16))
    (tmp_path / "c.png").write_bytes(b"text")
    run = batch._Run(restorer, False, 95, None, None)
    estimates = [
        run._estimate_bytes(Job(tmp_path / name, tmp_path / "out.png", reference))
        for name, reference in [
            ("a.tif", None),
            ("b.png", tmp_path / "a.tif"),
            ("c.png", None),
            ("none.png", tmp_path / "none.png"),
            ("n" * 300, None),
        ]
    ]
    run.pipeline.stop()
    run.pipeline.join()
    assert estimates == [2 * 7200, 2 * 1200 + 7200, 2 * 4, 0, 0]


def test_images_of_one_size_are_computed_together(tmp_path, restorer, monkeypatch):
    """If the network fails for several, each is computed alone, so that the error names a file."""
    names = [f"{i}.png" for i in range(9)]
    for i, name in enumerate(names):
        put(tmp_path / name, noise((20 + i % 2, 30, 3), seed=i))
    (tmp_path / "3.png").write_bytes(b"text")
    bad = image_io.read(tmp_path / "2.png")
    calls, call = [], Restorer.__call__

    def fail(self, images):
        single = isinstance(images, np.ndarray)
        calls.append(1 if single else len(images))
        if any(np.array_equal(image, bad) for image in ([images] if single else images)):
            raise ValueError("the third" if single else "one of these")
        return call(self, images)

    monkeypatch.setattr(Restorer, "__call__", fail)
    four = Restorer(restorer.module, restorer.variables, tile_batch=4, device="cpu")
    outcomes = [outcome for _, outcome in batch.restore(four, make_jobs(tmp_path, *names))]
    assert calls == [4, 1, 1, 1, 1, 4]
    assert [i for i, outcome in enumerate(outcomes) if isinstance(outcome, Exception)] == [2, 3]
    assert str(outcomes[2]) == f"{tmp_path}/2.png: the third"
    same(tmp_path / "out" / "8.png", halved(image_io.read(tmp_path / "8.png")))


def test_progress(tmp_path, restorer):
    """By windows; images and pixels add up, also with failures and after a second try."""
    put(tmp_path / "a.png", noise((60, 90, 3)))
    (tmp_path / "b.png").write_bytes(b"text")
    put(tmp_path / "c.png", noise((20, 30)))
    tiled = Restorer(restorer.module, restorer.variables, tile=32, overlap=0, device="cpu")
    steps = []
    jobs = make_jobs(tmp_path, "a.png", "b.png", "c.png")
    list(batch.restore(tiled, jobs, progress=lambda *step: steps.append(step)))
    images, pixels = np.sum(steps, axis=0)
    assert images == pytest.approx(3)
    assert pixels == pytest.approx(60 * 90 + 20 * 30)
    assert len(steps) > 6
    assert max(images for images, pixels in steps if pixels) == 1  # c.png
    assert min(images for images, pixels in steps) < 1 / 5


def test_an_interruption_finishes_what_is_written(tmp_path, restorer, monkeypatch):
    """By Ctrl-C while c.png is computed and b.png is written."""
    names = ("a.png", "b.png", "c.png", "d.png")
    for i, name in enumerate(names):
        put(tmp_path / name, noise((20 + i, 30, 3)))
    begun, write, call = threading.Event(), image_io.write, Restorer.__call__

    def slow_write(path, *arguments, **options):
        if path.name == "b.png":
            begun.set()
            time.sleep(0.2)
        return write(path, *arguments, **options)

    def interrupt(self, image):
        if len(image) == 22:
            assert begun.wait(20)
            os.kill(os.getpid(), signal.SIGINT)
            time.sleep(0.1)
        return call(self, image)

    monkeypatch.setattr(image_io, "write", slow_write)
    monkeypatch.setattr(Restorer, "__call__", interrupt)
    one = Restorer(restorer.module, restorer.variables, device="cpu")
    results, reported = batch.restore(one, make_jobs(tmp_path, *names)), []
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    with pytest.raises(KeyboardInterrupt):
        reported.extend(job.source.name for job, _ in results)
    signal.signal(signal.SIGINT, before)
    assert reported == ["a.png", "b.png"]
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == reported


def test_a_second_interruption_does_not_wait(tmp_path, restorer, monkeypatch):
    """The first one waits for b.png, which may be compiled; a.png is reported before."""
    for i, name in enumerate(("a.png", "b.png")):
        put(tmp_path / name, noise((20 + i, 30, 3)))
    computing, end, call = threading.Event(), threading.Event(), Restorer.__call__

    def compile_long(self, image):
        if len(image) == 21:
            computing.set()
            assert end.wait(20)
        return call(self, image)

    monkeypatch.setattr(Restorer, "__call__", compile_long)
    one = Restorer(restorer.module, restorer.variables, device="cpu")
    results = batch.restore(one, make_jobs(tmp_path, "a.png", "b.png"))
    assert next(results)[0].source.name == "a.png"
    assert computing.wait(20)
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    threading.Timer(0.1, os.kill, (os.getpid(), signal.SIGINT)).start()
    threading.Timer(0.5, os.kill, (os.getpid(), signal.SIGINT)).start()
    start = time.monotonic()
    with pytest.raises(KeyboardInterrupt):
        next(results)
    assert 0.4 < time.monotonic() - start < 10
    signal.signal(signal.SIGINT, before)
    end.set()


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (
            MemoryError(),
            "a.png: does not fit into memory, not even in small tiles; close other "
            "programs, or use a machine with more memory",
        ),
        (RuntimeError("two\n lines"), "a.png: RuntimeError: two lines"),
        (ValueError("wrong"), "a.png: wrong"),
    ],
)
def test_errors_are_one_line(tmp_path, restorer, monkeypatch, error, message):
    def fail(self, image):
        raise error

    put(tmp_path / "a.png")
    monkeypatch.setattr(Restorer, "__call__", fail)
    ((_, outcome),) = batch.restore(restorer, make_jobs(tmp_path, "a.png"))
    assert isinstance(outcome, ImageError)
    assert str(outcome) == f"{tmp_path}/{message}"


def test_score_pair(rng):
    """Alpha does not count, nor does the type of the reference."""
    a = rng.integers(0, 256, (16, 20, 4), np.uint8)
    b = rng.integers(0, 65536, (16, 20, 3), np.uint16)
    psnr, ssim = batch.score_pair(a, b)
    floats = a[..., :3] / 255, b / 65535
    assert psnr == pytest.approx(-10 * np.log10(np.mean(np.subtract(*floats) ** 2)), abs=1e-4)
    assert -1 <= ssim < 0.5
    with pytest.raises(ImageError, match="it is 20x16 with 1 channel, the restored image 20x16"):
        batch.score_pair(a, b[..., 0])


def test_sides_after_enlarging_are_checked_first(tmp_path):
    """Before the network runs."""

    enlarging = Restorer(type("Twice", (Halving,), {"scale": 2})(), {})  # which would fail
    put(tmp_path / "a.jpg", np.zeros((8, 32751, 3), np.uint8))
    ((_, outcome),) = batch.restore(enlarging, make_jobs(tmp_path, "a.jpg"))
    assert str(outcome) == (
        f"{tmp_path}/out/a.jpg: JPEG holds at most 65500 pixels a side, and the image has "
        "65502x16; use .png or .tiff"
    )
    assert not (tmp_path / "out").exists()


def test_every_error_names_its_file(tmp_path, restorer, monkeypatch):
    def fail(*arguments, **options):
        raise ImageError("broken data stream")

    put(tmp_path / "a.png")
    monkeypatch.setattr(image_io, "write", fail)
    ((_, outcome),) = batch.restore(restorer, make_jobs(tmp_path, "a.png"))
    assert str(outcome) == f"{tmp_path}/a.png: broken data stream"


def test_warnings_come_with_the_result(tmp_path, restorer):
    image = np.float32(noise())
    put(tmp_path / "a.tif", image)
    put(tmp_path / "b.tif", image / 255)
    with pytest.warns(inference.PixelRangeWarning):
        (_, first), (_, second) = batch.restore(restorer, make_jobs(tmp_path, "a.tif", "b.tif"))
    assert first.warning.startswith(f"{tmp_path}/a.tif: the pixels are from 0 to 255, far outside")
    assert second == batch.Result(20, 30)


def test_a_bucket(bucket, tmp_path, restorer):
    folder = storage.to_path(bucket)
    image = noise((12, 9), np.uint16)
    image_io.write(folder / "in/a.png", image)
    image_io.write(folder / "truth.png", image // 2)
    storage.write(folder / "in/b.png", b"text")
    jobs = [
        Job(folder / "in" / name, folder / "out" / name, folder / "truth.png")
        for name in ("a.png", "b.png", "none.png")
    ]
    (_, first), (_, second), (_, third) = batch.restore(restorer, jobs)
    assert (first.height, first.width, first.left_out) == (12, 9, ())
    assert first.psnr > 90
    assert str(second).startswith(f"{bucket}/in/b.png: contains no PNG")
    assert str(third).startswith(f"{bucket}/in/none.png: cannot be read")
    assert sorted(storage.list_files(folder)) == ["in/a.png", "in/b.png", "out/a.png", "truth.png"]
    same(folder / "out/a.png", halved(image))
    ((_, outcome),) = batch.restore(restorer, jobs[:1])
    assert f"{bucket}/out/a.png exists; " in str(outcome)
    itself = Job(folder / "in/a.png", folder / "in/a.png")
    ((_, outcome),) = batch.restore(restorer, [itself])
    assert "a.png is the input itself" in str(outcome)
    assert limits.describe_disk(jobs, 1) is None
    local = Job(storage.list_once(folder / "in") / "a.png", tmp_path / "b.png")
    ((_, outcome),) = batch.restore(restorer, [local])
    assert outcome == batch.Result(12, 9)
    assert (tmp_path / "b.png").stat().st_mode & 0o600 == 0o600


def test_a_bucket_that_does_not_answer_ends_the_run(bucket, restorer, monkeypatch):
    folder = storage.to_path(bucket)
    jobs = [Job(folder / f"{k}.png", folder / "out" / f"{k}.png") for k in range(300)]
    image_io.write(folder / "0.png", noise())
    asked = []

    def fail(name, *arguments, **options):
        asked.append(name)
        raise ConnectionError("no route")

    monkeypatch.setattr(storage.buckets.get_filesystem(folder), "cat_file", fail)
    monkeypatch.setattr(storage.buckets.get_filesystem(folder), "size", lambda name: 1000)
    monkeypatch.setattr(storage.buckets.get_filesystem(folder), "isdir", lambda name: False)
    monkeypatch.setattr(storage.buckets.get_filesystem(folder), "exists", lambda name: False)
    ((job, outcome),) = batch.restore(restorer, jobs)
    assert job == jobs[0]
    assert isinstance(outcome, image_io.BucketError)
    assert str(outcome).startswith(f"{bucket}/0.png: the bucket does not answer (no route); ")
    assert len(asked) < 150
