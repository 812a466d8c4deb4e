"""What LiteRT files cost in PSNR: float32 and 8-bit weights beside the network itself.

    python -m benchmarks.litert_cost sadnet-color-blind --data kodak24 --sigmas 25,50

Each image is cropped in the middle to one size, for which the network is exported. Smaller images
are left out. Clean images get noise as ``eval.py`` adds it; pairs are restored as they are.
"""

import argparse
import itertools
import pathlib
import tempfile
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np

from input_pipeline import create_eval_dataset
from lcdnet_jax import Restorer, export, protocols
from lcdnet_jax import weights as weights_lib
from lcdnet_jax.evaluation import Evaluator
from lcdnet_jax.messages import format_count
from lcdnet_jax.weights import pretrained

_Restore = Callable[[np.ndarray], np.ndarray]


def main() -> None:
    """Exports, restores and scores, then prints a table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("weights", help="as for lcdnet-jax export")
    parser.add_argument("--data", required=True, help="folder of clean images or of pairs")
    parser.add_argument("--sigmas", default="50", help="noise levels, for clean images")
    parser.add_argument("--protocol", default="8bit", help="for clean images")
    parser.add_argument("--side", type=int, default=256, help="of the square that is restored")
    parser.add_argument("--max-images", type=int, help="the first by name")
    options = parser.parse_args()
    weights = weights_lib.load(pretrained.find(options.weights))
    spec = {"source": "folder", "path": options.data, "split": "", "feature": ""}
    data = create_eval_dataset(spec, weights.module.channels, field="--data")
    paired = data.source.is_paired
    protocol = "pairs" if paired else options.protocol
    sigmas = [None] if paired else [float(sigma) for sigma in options.sigmas.split(",")]
    with tempfile.TemporaryDirectory() as folder:
        programs = _make_programs(weights, options.side, pathlib.Path(folder))
        for sigma in sigmas:
            examples = list(_crop(itertools.islice(data, options.max_images), options.side))
            _print_scores(programs, examples, protocol, sigma)


def _make_programs(
    weights: weights_lib.Weights, side: int, folder: pathlib.Path
) -> dict[str, _Restore]:
    """The network, and its exports, as functions of one image ``[H, W, C]``."""
    from ai_edge_litert.interpreter import Interpreter

    restorer = Restorer(weights.module, weights.variables)
    programs: dict[str, _Restore] = {"network": lambda noisy: restorer.predict(noisy)}
    for quantize in (None, "int8"):
        name = quantize or "float32"
        path = folder / f"{name}.tflite"
        export.write_litert(
            path, weights.module, weights.variables, size=(side, side), quantize=quantize
        )
        print(f"LiteRT {name:8} {path.stat().st_size / 1e6:.2f} MB")
        run = Interpreter(str(path), num_threads=1).get_signature_runner()

        def restore(noisy: np.ndarray, run: Any = run) -> np.ndarray:
            return run(images=noisy[None].astype(np.float32))["restored"][0]

        programs[f"LiteRT {name}"] = restore
    return programs


def _crop(examples: Iterator[Mapping[str, Any]], side: int) -> Iterator[dict[str, Any]]:
    """Cuts the middle out of every image of an example."""
    for example in examples:
        cropped = dict(example)
        for name, image in example.items():
            if getattr(image, "ndim", 0) == 3:
                top, left = ((have - side) // 2 for have in image.shape[:2])
                if min(top, left) < 0:
                    break
                cropped[name] = image[top : top + side, left : left + side]
        else:
            yield cropped


def _print_scores(
    programs: Mapping[str, _Restore],
    examples: list[dict[str, Any]],
    protocol: str,
    sigma: float | None,
) -> None:
    evaluator = Evaluator(protocols.get(protocol))
    level = "pairs" if sigma is None else f"sigma {sigma:g}, {protocol}"
    print(f"{format_count(len(examples), 'image')}, {level}")
    for name, restore in programs.items():
        scored = list(evaluator.score_images(restore, examples, sigma=sigma))
        psnr, ssim = (
            np.mean([getattr(row, score) for row in scored]) for score in ("psnr", "ssim")
        )
        print(f"  {name:15} PSNR {psnr:.3f} dB  SSIM {ssim:.4f}", flush=True)


if __name__ == "__main__":
    main()
