"""What restoring a photo costs beside the network: processor time, memory, and the first start.

    python -m benchmarks.restore_speed                          # 12 megapixels, two networks
    python -m benchmarks.restore_speed --megapixels 2 --weights sadnet-photo
    python -m benchmarks.restore_speed --startup                # 0.1 megapixels in new processes

Prints one JSON object a line. Times are processor time (user and system) of the process, which
keeps to one core, after all programs are compiled.

``ratio`` is the time to decode, restore and encode a JPEG file, as ``lcdnet-jax restore`` does it,
over that of the network alone on as many pixels: windows of ``--alone`` pixels in float32, run
twice after each file. ``computed`` is the number of pixels that the network sees for one of
the photo. ``peak_gb`` is the peak resident memory after the first file, before the network alone is
compiled. Of several runs the least counts.

``--startup`` starts ``lcdnet-jax restore`` on a small photo, first with an empty folder of compiled
programs, then with the full one, and prints the processor seconds of the whole process.
"""

import argparse
import json
import os
import pathlib
import resource
import subprocess
import sys
import tempfile
import time
from typing import Any

import numpy as np

from lcdnet_jax import messages

WEIGHTS = ("sadnet-photo", "checkpoints/lcdnet-rain.safetensors")
_ROOT = pathlib.Path(__file__).parents[1]


def main() -> None:
    """Measures and prints; each network in a process of its own."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--weights", action="append", help="as --checkpoint of lcdnet-jax restore")
    parser.add_argument("--megapixels", type=float, default=None, help="12, or 0.1 for --startup")
    parser.add_argument("--alone", type=int, default=512, help="side of the network's windows")
    parser.add_argument("--runs", type=int, default=2)
    parser.add_argument("--startup", action="store_true")
    parser.add_argument("--here", action="store_true", help="measure one network in this process")
    options = parser.parse_args()
    names = options.weights or (WEIGHTS[:1] if options.startup else WEIGHTS)
    if options.here:
        print(json.dumps(measure(names[0], options.megapixels, options.alone, options.runs)))
        return
    for name in names:
        if options.startup:
            print(json.dumps(measure_start(name, options.megapixels or 0.1, options.runs)))
            continue
        arguments = {
            "--weights": name,
            "--megapixels": options.megapixels or 12,
            "--alone": options.alone,
            "--runs": options.runs,
        }
        words = [str(word) for pair in arguments.items() for word in pair]
        command = [sys.executable, "-m", "benchmarks.restore_speed", "--here", *words]
        subprocess.run(command, check=True, cwd=_ROOT)


def measure(name: str, megapixels: float, alone: int, runs: int) -> dict[str, Any]:
    """Restores a photo in this process, and runs the network alone."""
    from lcdnet_jax.cli import _compilation

    _compilation.set_environment(quiet=True)  # as the command does

    from benchmarks import timing

    timing.use_one_core()
    import jax

    from lcdnet_jax import Restorer
    from lcdnet_jax import weights as weights_lib
    from lcdnet_jax.inference import batch, plan
    from lcdnet_jax.weights import pretrained

    weights = weights_lib.load(pretrained.find(name), on_network=_compilation.set_network_options)
    restorer = Restorer(weights.module, weights.variables)
    seen: list[tuple[int, ...]] = []
    apply = restorer._program.run

    def apply_and_note(variables: Any, x: Any) -> Any:
        seen.append(x.shape)
        return apply(variables, x)

    program: Any = restorer._program
    program.run = apply_and_note

    variables = jax.device_put(weights.variables)
    window = np.random.default_rng(0).random((1, alone, alone, weights.module.channels), np.float32)
    network = jax.jit(weights.module.apply)
    window = jax.device_put(window)

    def run_alone() -> float:
        """Seconds of the network for one pixel."""
        begin = _processor_time()
        count = max(1, round(megapixels * 1e6 / 8 / alone**2))
        for _ in range(count):
            network(variables, window).block_until_ready()
        return (_processor_time() - begin) / count / alone**2

    with tempfile.TemporaryDirectory() as folder:
        source, target = pathlib.Path(folder, "photo.jpg"), pathlib.Path(folder, "restored.jpg")
        shape = write_photo(source, megapixels)
        pixels = shape[0] * shape[1]
        (job,) = plan.plan_jobs([str(source)], str(target), stdin_paths=iter(()))
        _compile_windows(restorer, shape)
        seen.clear()
        files: list[float] = []
        networks: list[float] = []
        for _ in range(runs):
            begin = _processor_time()
            ((_, outcome),) = batch.restore(restorer, [job], force=True)
            files.append(_processor_time() - begin)
            if isinstance(outcome, Exception):
                raise outcome
            if not networks:  # before the network alone is compiled
                peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
                network(variables, window).block_until_ready()
            networks += [run_alone(), run_alone()]
    return {
        "weights": name,
        "image": [*shape],
        "windows": [len(seen) // runs, *seen[0][1:3]],
        "computed": round(sum(s[1] * s[2] for s in seen) / runs / pixels, 3),
        "seconds": round(min(files), 2),
        "network_seconds": round(min(networks) * pixels, 2),
        "ratio": round(min(files) / (min(networks) * pixels), 3),
        "peak_gb": round(peak / 1e9, 3),
        "runs": runs,
        "machine": messages.describe_processor(),
        "jax": jax.__version__,
    }


def _compile_windows(restorer: Any, shape: tuple[int, int]) -> None:
    """Compiles the program for a photo without restoring all of it."""
    apply = restorer._program.run
    compiled: list[np.ndarray] = []

    def apply_once(variables: Any, x: Any) -> Any:
        if not compiled:
            compiled.append(np.asarray(apply(variables, x)))
        return compiled[0]

    restorer._program.run = apply_once
    restorer(np.zeros((*shape, 3), np.uint8))
    restorer._program.run = apply


def measure_start(name: str, megapixels: float, runs: int) -> dict[str, Any]:
    """Starts the command on a small photo, with an empty and with a full folder of programs."""
    code = "import sys; from lcdnet_jax.cli.main import main; main(sys.argv[1:])"
    command = [sys.executable, "-c", code, "restore"]
    seconds: dict[str, list[float]] = {"empty": [], "full": []}
    walls: dict[str, list[float]] = {"empty": [], "full": []}
    # As a user has it: Python keeps the bytecode of an installed package.
    left_out = ("JAX_", "XLA_", "PYTHONDONTWRITEBYTECODE")
    kept = {k: v for k, v in os.environ.items() if not k.startswith(left_out)}
    subprocess.run([sys.executable, "-m", "compileall", "-q", str(_ROOT / "lcdnet_jax")], env=kept)
    with tempfile.TemporaryDirectory() as folder:
        source, target = pathlib.Path(folder, "photo.jpg"), pathlib.Path(folder, "restored.jpg")
        shape = write_photo(source, megapixels)
        for run in range(runs):
            caches = {"XDG_CACHE_HOME": str(pathlib.Path(folder, f"caches{run}"))}
            for kind in seconds:
                arguments = [str(source), "-o", str(target), "--force", "--checkpoint", name]
                before, begin = _children_time(), time.perf_counter()
                subprocess.run(
                    [*command, *arguments], check=True, env={**kept, **caches}, cwd=_ROOT,
                    stdout=subprocess.DEVNULL,
                )  # fmt: skip
                seconds[kind].append(_children_time() - before)
                walls[kind].append(time.perf_counter() - begin)
    return {
        "weights": name,
        "image": [*shape],
        "empty_seconds": round(min(seconds["empty"]), 2),
        "full_seconds": round(min(seconds["full"]), 2),
        "empty_wall": round(min(walls["empty"]), 2),
        "full_wall": round(min(walls["full"]), 2),
        "runs": runs,
        "machine": messages.describe_processor(),
    }


def write_photo(path: pathlib.Path, megapixels: float) -> tuple[int, int]:
    """Writes a noisy photograph of 4 to 3 as JPEG; returns height and width."""
    import skimage.data

    from lcdnet_jax import image_io

    height = round((megapixels * 1e6 * 3 / 4) ** 0.5)
    shape = (height, round(megapixels * 1e6 / height))
    photo = skimage.data.coffee()
    repeats = [-(-side // length) for side, length in zip(shape, photo.shape, strict=False)]
    photo = np.tile(photo, (*repeats, 1))[: shape[0], : shape[1]]
    noise = np.random.default_rng(0).integers(-16, 17, photo.shape, np.int16)
    image_io.write(path, (photo + noise).clip(0, 255).astype(np.uint8))
    return shape


def _processor_time() -> float:
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


def _children_time() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


if __name__ == "__main__":
    main()
