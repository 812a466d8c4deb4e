"""Scores of BM3D, the classical denoiser, on the noisy images that ``eval.py`` gives a network.

    pip install bm3d PyWavelets     # its license allows non-commercial use only
    python -m benchmarks.score_bm3d --data kodak24 --sigmas 25,50 --output bm3d.jsonl
    python -m benchmarks.score_bm3d --data polyu,cc --output bm3d.jsonl

For clean images BM3D is told the true noise level, which a blind network is not. Of pairs it is
estimated: ``estimate_sigma`` of scikit-image, the mean over channels. The package is that of the
authors (Makinen, Azzari and Foi, IEEE TIP 2020) with its defaults, ``bm3d_rgb`` for color and
``bm3d`` for gray. A megapixel in color takes minutes of processor time, so the score of every
image is written at once, and a run that is begun again leaves out what is there.
"""

import argparse
import itertools
import json
import pathlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from input_pipeline import create_eval_dataset
from lcdnet_jax import protocols
from lcdnet_jax.evaluation import Evaluator
from lcdnet_jax.messages import format_count
from lcdnet_jax.typing import JsonObject

# What the scores of one image are of.
_KEY = ("dataset", "sigma", "protocol", "channels", "image")


def main() -> None:
    """Restores and scores, then prints means."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", required=True, help="folders, of clean images or of pairs")
    parser.add_argument("--sigmas", default="50", help="noise levels, for clean images")
    parser.add_argument("--protocols", default="float,8bit", help="for clean images")
    parser.add_argument("--channels", type=int, default=3, choices=(1, 3), help="1 for gray")
    parser.add_argument("--max-images", type=int, help="of each folder, the first by name")
    parser.add_argument("--output", type=pathlib.Path, required=True, help="lines of JSON")
    options = parser.parse_args()
    output: pathlib.Path = options.output
    done = {tuple(row[field] for field in _KEY): row for row in _read_earlier(output)}
    for folder in options.data.split(","):
        spec = {"source": "folder", "path": folder, "split": "", "feature": ""}
        data = create_eval_dataset(spec, options.channels, field="--data")
        name = pathlib.Path(folder).absolute().name
        settings: list[tuple[str, float | None]] = [("pairs", None)]
        if not data.source.is_paired:
            settings = [
                (protocol, float(sigma))
                for protocol in options.protocols.split(",")
                for sigma in options.sigmas.split(",")
            ]
        for protocol, sigma in settings:
            rows = []
            for example in itertools.islice(data, options.max_images):
                key = (name, sigma, protocol, options.channels, example["name"])
                if key not in done:
                    scores = _score(example, protocol, sigma)
                    done[key] = {**dict(zip(_KEY, key, strict=True)), **scores}
                    with output.open("a") as file:
                        file.write(json.dumps(done[key]) + "\n")
                rows.append(done[key])
            _print_mean(rows)


def _read_earlier(output: pathlib.Path) -> list[JsonObject]:
    """What earlier runs have scored, without a line that was cut off when one was killed."""
    text = output.read_text() if output.exists() else ""
    whole, _, cut = text.rpartition("\n")
    if cut:
        output.write_text(whole + "\n" * bool(whole))
    return [json.loads(line) for line in whole.splitlines()]


def _score(example: Mapping[str, Any], protocol: str, sigma: float | None) -> dict[str, float]:
    evaluator = Evaluator(protocols.get(protocol))
    (scored,) = evaluator.score_images(_bm3d(sigma), [example], sigma=sigma)
    return {"psnr": scored.psnr, "ssim": scored.ssim, "input_psnr": scored.input_psnr}


def _bm3d(sigma: float | None) -> Callable[[np.ndarray], np.ndarray]:
    """BM3D for a noise level in 8-bit units, or one that it estimates."""
    import bm3d
    from skimage.restoration import estimate_sigma

    def restore(noisy: np.ndarray) -> np.ndarray:
        level = (
            sigma / 255
            if sigma is not None
            else estimate_sigma(noisy, channel_axis=-1, average_sigmas=True)
        )
        if noisy.shape[-1] == 1:
            restored = bm3d.bm3d(noisy[..., 0], level)[..., None]
        else:
            restored = bm3d.bm3d_rgb(noisy, level)
        return restored.astype(np.float32)

    return restore


def _print_mean(rows: Sequence[Mapping[str, Any]]) -> None:
    psnr, ssim, before = (np.mean([row[k] for row in rows]) for k in ("psnr", "ssim", "input_psnr"))
    sigma = "-" if rows[0]["sigma"] is None else f"{rows[0]['sigma']:g}"
    print(
        f"{rows[0]['dataset']:<12} sigma {sigma:>3}  {rows[0]['protocol']:<6} input {before:5.2f}  "
        f"PSNR {psnr:5.2f} dB  SSIM {ssim:.4f}  {format_count(len(rows), 'image')}",
        flush=True,
    )


if __name__ == "__main__":
    main()
