"""Patches per second of the training pipeline; one JSON line per case.

    python -m benchmarks.bench_pipeline                  # generated JPEG files of 480x320
    python -m benchmarks.bench_pipeline --folder DIR     # your images
    python -m benchmarks.bench_pipeline --pairs          # generated PNG pairs as large as GoPro's
    python -m benchmarks.bench_pipeline --shards         # the same pairs as shards
    python -m tests._gcs data python -m benchmarks.bench_pipeline --shards --bucket gs://data
    python -m benchmarks.bench_pipeline --peer torch     # beside torch.utils.data
    python -m benchmarks.bench_pipeline --quick

The cases: images decoded once and kept in memory, or decoded for every patch; noise left to the
device, or added on the host, also after stochastic frequency masking of half of the patches. And
images that lie on the device, where jitted draws of patches are timed, one batch after another.
With --pairs: pairs of 1280x720 pixels of which none fit into ``config.data.cache_gb``, about a
third of them (as of GoPro at 4 GB), or all; and all in a temporary file
(``config.data.cache_dir``). With --shards: the pairs, and their clean halves alone, none decoded
before, as PNG files and as shards (``input_pipeline.prepare``), each read for every crop or kept
encoded in memory (``config.data.encoded_cache_gb``); with --bucket also from a bucket, here of a
server on this machine.

The peer of those in memory is a DataLoader over the same images, which crops, turns and adds noise
where ours does, without workers and with one for each core; the faster counts. All cores may be
used, so wall time is measured. ``per_core`` is patches per second of processor time of all threads.
"""

import argparse
import contextlib
import functools
import os
import pathlib
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple

import cv2
import jax
import numpy as np

import input_pipeline
from benchmarks import Result, compare_with_peer, round_significant, run_cases
from configs import default
from input_pipeline import prepare
from lcdnet_jax import image_io, resident_images, storage
from lcdnet_jax.messages import format_count
from lcdnet_jax.typing import JsonObject


def main() -> None:
    """Runs the six cases, ``--seconds`` each."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--peer", choices=["torch"], help="what to compare with")
    parser.add_argument("--folder", help="clean images; default: generated")
    parser.add_argument("--pairs", action="store_true", help="pairs of PNG files of 1280x720")
    parser.add_argument("--shards", action="store_true", help="the pairs as shards")
    parser.add_argument("--bucket", help="with --shards: URL of a bucket for copies of the data")
    parser.add_argument("--images", type=int, default=100, help="number to generate")
    parser.add_argument("--crop", type=int, default=128, help="side of a patch")
    parser.add_argument("--batch", type=int, default=16, help="patches a batch")
    parser.add_argument("--seconds", type=float, default=5.0, help="time per case")
    parser.add_argument("--quick", action="store_true", help="fewer images, two seconds per case")
    options = parser.parse_args()
    if options.quick:
        options.images, options.seconds = 40, 2.0
    if options.pairs or options.shards:
        (_run_shards if options.shards else _run_pairs)(options)
        return
    with tempfile.TemporaryDirectory() as scratch:
        folder = options.folder or scratch
        if not options.folder:
            _write_images(pathlib.Path(scratch), options.images)
        on_host = {"degradation.where": "host"}
        masked = {**on_host, "sfm.where": "host", "sfm.rate": 0.5}
        peer = functools.cache(functools.partial(_measure_peer, folder, options))
        run_cases(
            "pipeline",
            [
                (
                    f"{images}, {work}",
                    functools.partial(_measure, folder, cache_gb, fields, options, peer),
                )
                for images, cache_gb, work, fields in (
                    ("in memory", 4.0, "noise on the device", {}),
                    ("in memory", 4.0, "noise on the host", on_host),
                    ("in memory", 4.0, "masking and noise on the host", masked),
                    ("decoded per patch", 0.0, "noise on the device", {}),
                    ("decoded per patch", 0.0, "noise on the host", on_host),
                    ("on the device", 4.0, "noise on the device", {"data.where": "device"}),
                )
            ],
        )


def _run_pairs(options: argparse.Namespace) -> None:
    """Crops of pairs, decoded for each crop, partly in memory, in a temporary file, in memory."""
    with tempfile.TemporaryDirectory() as scratch:
        folder, cache = pathlib.Path(scratch, "pairs"), pathlib.Path(scratch, "cache")
        cache.mkdir()
        count = _write_pairs(folder, options)
        whole = 2 * count * 1280 * 720 * 3 / 1e9
        run_cases(
            "pipeline",
            [
                (
                    f"pairs, {images}",
                    functools.partial(
                        _measure,
                        str(folder),
                        share * whole,
                        {"degradation.kind": "none", **fields},
                        options,
                        None,
                    ),
                )
                for images, share, fields in (
                    ("decoded per patch", 0.0, {}),
                    ("a third in memory", 0.35, {}),
                    ("in a temporary file", 0.0, {"data.cache_dir": str(cache)}),
                    ("in memory", 1.0, {}),
                )
            ],
        )


def _run_shards(options: argparse.Namespace) -> None:
    """Crops of pairs and of clean images from files and from shards, on a disk and in a bucket."""
    with tempfile.TemporaryDirectory() as scratch:
        pairs = pathlib.Path(scratch, "pairs")
        _write_pairs(pairs, options)
        paths = {"pairs": str(pairs), "clean images": str(pairs / "target")}
        cases = []
        for what, path in paths.items():
            places = [(f"{what}, PNG files", path, "folder")]
            roots = [scratch, options.bucket] if options.bucket else [scratch]
            for root in roots:
                place = "" if root == scratch else " in a bucket"
                shards = f"{root}/{what.replace(' ', '-')}-shards"
                prepare.main(["folder", path, shards])
                places.append((f"{what}, shards{place}", shards, "shards"))
            if options.bucket and what == "pairs":
                files = storage.to_path(f"{options.bucket}/files")
                storage.upload(pairs, files)
                places.append((f"{what}, PNG files in a bucket", str(files), "folder"))
            kind = {"degradation.kind": "none"} if what == "pairs" else {}
            for name, place, source in places:
                for cached, cache_gb in (("", 0.0), (", encoded in memory", 100.0)):
                    fields = {"data.train.source": source, "data.encoded_cache_gb": cache_gb}
                    cases.append(
                        (
                            f"{name}{cached}",
                            functools.partial(
                                _measure, place, 0.0, {**fields, **kind}, options, None
                            ),
                        )
                    )
        run_cases("pipeline", cases)


def _write_pairs(folder: pathlib.Path, options: argparse.Namespace) -> int:
    """Writes pairs of 1280x720 pixels and returns their number."""
    count = max(options.images // 4, 3)
    for half in ("input", "target"):
        (folder / half).mkdir(parents=True)
        _write_images(folder / half, count, width=1280, height=720, suffix="png")
    return count


def _write_images(
    folder: pathlib.Path,
    count: int,
    *,
    width: int = 480,
    height: int = 320,
    suffix: str = "jpg",
) -> None:
    """Smooth color noise, whose JPEG files are about as large as those of photographs."""
    rng = np.random.default_rng(0)
    for k in range(count):
        coarse = rng.integers(0, 256, (height * 5 // 32, width * 5 // 32, 3), np.uint8)
        image = cv2.resize(coarse, (width, height))
        image_io.write(folder / f"{k:04d}.{suffix}", image, quality=90)


def _measure(
    folder: str,
    cache_gb: float,
    fields: Mapping[str, Any],
    options: argparse.Namespace,
    peer: Callable[[float | None], Mapping[str, float]] | None,
) -> Result:
    config = default.get_config()
    config.data.train.source = "folder"
    config.data.train.path = folder
    config.data.crop = options.crop
    config.data.cache_gb = cache_gb
    config.batch_size = options.batch
    config.update_from_flattened_dict(fields)
    start = time.perf_counter()
    dataset = input_pipeline.create_dataset(config, "train")
    created = time.perf_counter() - start
    if isinstance(dataset, input_pipeline.DeviceDataset):
        speed = _measure_draws(dataset.resident, options)
    else:
        assert isinstance(dataset, input_pipeline.TrainDataset)
        batches = dataset.batches()
        speed = _measure_batches(batches, options)
        batches.close()  # stops reading ahead, which would slow the next case
    compared: JsonObject = {}
    if options.peer and peer and cache_gb and not config.sfm.rate:
        on_host = config.degradation.where == "host"
        theirs = peer(config.degradation.sigma_max if on_host else None)
        best = max(theirs, key=theirs.__getitem__)
        compared = dict(compare_with_peer(speed.wall, best, theirs[best], is_rate=True))
        compared["peer_trials"] = {name: round_significant(trial) for name, trial in theirs.items()}
    return {
        "value": round(speed.wall, 1),
        "unit": "patches/s",
        "per_core": round(speed.core, 1),
        **compared,
        "created_in_seconds": round(created, 2),
        "crop": options.crop,
        "batch": options.batch,
        "data": dataset.describe().partition(": ")[2],
    }


def _measure_peer(
    folder: str, options: argparse.Namespace, sigma: float | None
) -> Mapping[str, float]:
    """Patches a second of PyTorch's loader, by its name, without and with workers."""
    from benchmarks import torch_loader

    images = [
        image_io.convert_channels(image_io.read(path), 3) for path in image_io.find_images(folder)
    ]
    if any(image.dtype != np.uint8 or min(image.shape[:2]) < options.crop for image in images):
        raise ValueError(
            f"the peer cuts crops of {options.crop} pixels from 8-bit images no smaller; choose "
            "another --folder or --crop, or measure without --peer"
        )
    rates = {}
    for workers in (0, os.cpu_count() or 1):
        batches = torch_loader.batches(
            images, crop=options.crop, batch=options.batch, sigma=sigma, workers=workers
        )
        with contextlib.closing(batches):
            name = f"torch DataLoader, {format_count(workers, 'worker')}"
            rates[name] = _measure_batches(batches, options).wall
    return rates


class _Speed(NamedTuple):
    """Patches per second of wall time, and of processor time of this process."""

    wall: float
    core: float


def _measure_draws(resident: resident_images.ResidentImages, options: argparse.Namespace) -> _Speed:
    draw = jax.jit(
        functools.partial(
            resident_images.draw, seed=0, crop=options.crop, augment=True, batch_size=options.batch
        )
    )
    images = jax.device_put(resident, jax.devices()[0])
    return _patches_per_second(lambda step: jax.block_until_ready(draw(images, step)), options)


def _measure_batches(batches: Iterator[Mapping[str, Any]], options: argparse.Namespace) -> _Speed:
    return _patches_per_second(lambda step: next(batches), options)


def _patches_per_second(
    batch: Callable[[int], Mapping[str, Any]], options: argparse.Namespace
) -> _Speed:
    """Of the batches of steps 3, 4, ...; those before warm up."""
    for step in range(3):
        batch(step)
    step, start, start_core = 3, time.perf_counter(), time.process_time()
    while time.perf_counter() - start < options.seconds:
        batch(step)
        step += 1
    patches = (step - 3) * options.batch
    wall, core = time.perf_counter() - start, time.process_time() - start_core
    return _Speed(patches / wall, patches / core)


if __name__ == "__main__":
    main()
