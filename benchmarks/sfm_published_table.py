"""The published denoising table of stochastic frequency masking, from the authors' weights.

    python -m benchmarks.sfm_published_table --weights DIR --images DIR
    python -m benchmarks.sfm_published_table ... --models dncnn,dncnn-sfm --sigmas 25,50

Denoises BSD68 (gray) by DnCNN, MemNet and the Noise2Noise U-Net of El Helou, Zhou and Süsstrunk
(ECCV 2020), each trained with and without masking, and prints mean PSNR beside what they
published. Some 80 minutes of CPU time for everything; each score is written to --cache when it is
known and not computed again, so the program can be stopped, and several can share the work by
--models. Needs PyTorch to read the weights.

Protocol: noise is added to the full gray image and clipped to [0, 1], the output is clipped, PSNR
with data range 1, mean over the images. The U-Net halves its input five times, so its authors
leave out the first row and the first column where their number is odd, and so does this.

--weights holds the .pth and psnr_bsd68_*.csv files of the authors' repository (majedelhelou/SFM),
named as below. --images holds the 68 color images of CBSD68 (the gray ones follow from them).
"""

import argparse
import csv
import hashlib
import pathlib
import sys
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from lcdnet_jax import Restorer, convert, image_io, networks, protocols
from lcdnet_jax.evaluation import Evaluator
from lcdnet_jax.messages import format_count

_ALL = tuple(range(5, 101, 5))
_COUNT = 68  # images
_TOLERANCE = 0.05  # dB, of a mean

# Red, green, blue: rounded, they give BSD68's gray files from CBSD68's color files, pixel for
# pixel. image_io.convert_channels differs by one level here and there.
_GRAY = (0.2989360213, 0.5870430745, 0.1140209043)


@dataclass(frozen=True)
class _Model:
    """One column: the network, its weights, and what was published, by sigma.

    ``published`` is a file of scores by image (rows) and sigma 5, 10, ..., 100 (columns), or the
    means at sigma 10, 20, ..., 100.
    """

    network: str
    weights: str
    published: str | tuple[float, ...]


_MODELS = {
    "dncnn": _Model("dncnn", "dncnn_gray_regular.pth", "psnr_bsd68_dncnn_gray_regular.csv"),
    "dncnn-sfm": _Model(
        "dncnn", "dncnn_gray_sfm_r0.85_s0.15.pth", "psnr_bsd68_dncnn_gray_sfm_r0.85_s0.15.csv"
    ),
    "memnet": _Model("memnet", "memnet_gray_regular.pth", "psnr_bsd68_memnet_gray_regular.csv"),
    "memnet-sfm": _Model(
        "memnet", "memnet_gray_sfm_r0.85_s0.15.pth", "psnr_bsd68_memnet_gray_sfm_r0.85_s0.15.csv"
    ),
    # The means of Microscopy/view_results_BSD.ipynb of the authors' repository.
    "n2n": _Model(
        "unet_n2n",
        "unet_n2n_bsd_regular.pth",
        (32.67, 28.84, 26.61, 25.02, 23.76, 22.69, 21.74, 20.88, 20.11, 19.41),
    ),
    "n2n-sfm": _Model(
        "unet_n2n",
        "unet_n2n_bsd_sfm.pth",
        (32.55, 28.94, 26.84, 25.31, 24.11, 23.05, 22.14, 21.32, 20.61, 19.95),
    ),
}

# (image, sigma) -> dB
Scores = dict[tuple[str, int], float]


def main() -> None:
    """Scores what is not in the cache, prints the table; status 1 if a mean is off."""
    options = _parse_options()
    try:
        _compare(options)
    except (ValueError, OSError, ImportError) as error:
        sys.exit(f"error: {error}")


def _compare(options: argparse.Namespace) -> None:
    images = sorted(image_io.find_images(options.images), key=lambda path: path.stem)
    if len(images) != _COUNT:
        raise ValueError(
            f"{options.images} holds {format_count(len(images), 'image')}; CBSD68 has {_COUNT}"
        )
    options.cache.mkdir(parents=True, exist_ok=True)
    off = []
    for name in options.models:
        published = _read_published(_MODELS[name], options.weights)
        if not set(options.sigmas or published) <= set(published):
            sys.exit(f"error: of {name} only sigma {', '.join(map(str, published))} was published")
        sigmas = options.sigmas or list(published)
        scores = _scores(name, options, images, sigmas)
        print(f"\n{name}\n{'sigma':>5} {'here':>7} {'published':>9} {'difference':>10}")
        for sigma in sigmas:
            here = float(np.mean([scores[path.stem, sigma] for path in images]))
            difference = here - published[sigma]
            if not abs(difference) <= _TOLERANCE:  # nor NaN
                off.append(f"{name} at {sigma}")
            print(f"{sigma:>5} {here:7.2f} {published[sigma]:9.2f} {difference:+10.3f}")
    if off:
        sys.exit(f"error: more than {_TOLERANCE} dB from the published mean: {', '.join(off)}")
    print(f"\nall means are within {_TOLERANCE} dB of the published ones")


def _parse_options() -> argparse.Namespace:
    def names(text: str) -> list[str]:
        chosen = text.split(",")
        if unknown := set(chosen) - set(_MODELS):
            raise argparse.ArgumentTypeError(f"no {', '.join(unknown)}; use {', '.join(_MODELS)}")
        return chosen

    def levels(text: str) -> list[int]:
        chosen = [int(s) for s in text.split(",")]
        if not set(chosen) <= set(_ALL):
            raise argparse.ArgumentTypeError("multiples of 5 from 5 to 100 were published")
        return chosen

    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--weights", type=pathlib.Path, required=True, metavar="DIR")
    parser.add_argument("--images", type=pathlib.Path, required=True, metavar="DIR")
    parser.add_argument("--models", type=names, default=list(_MODELS), help=", ".join(_MODELS))
    parser.add_argument("--sigmas", type=levels, default=[], help="of 5,10,...,100; all")
    parser.add_argument(
        "--cache", type=pathlib.Path, default=pathlib.Path("runs/sfm_published_table")
    )
    return parser.parse_args()


def _read_published(model: _Model, folder: pathlib.Path) -> dict[int, float]:
    """Published means by sigma."""
    if not isinstance(model.published, str):
        return dict(zip(_ALL[1::2], model.published, strict=True))
    table = np.loadtxt(folder / model.published, delimiter=",", skiprows=1)
    return dict(zip(_ALL, table.mean(axis=0), strict=True))


def _scores(
    name: str, options: argparse.Namespace, images: list[pathlib.Path], sigmas: list[int]
) -> Scores:
    """Reads the cache, and computes and adds what it lacks."""
    model = _MODELS[name]
    weights = options.weights / model.weights
    digest = hashlib.sha256(weights.read_bytes()).hexdigest()[:8]
    file = options.cache / f"{name}-{digest}.csv"
    scores = dict(_read_cache(file))
    missing = [(p, s) for p in images for s in sigmas if (p.stem, s) not in scores]
    if not missing:
        return scores
    state_dict = convert.read_state_dict(weights)
    variables = convert.from_torch(model.network, state_dict)
    restorer = Restorer(networks.create(model.network), variables, bucket=1, max_pixels=None)
    evaluator = Evaluator(protocols.get("clipped"), bucket=1)
    with file.open("a", newline="") as out:
        out.write("\n")  # after a row that a kill may have cut off
        writer = csv.writer(out)
        for i, (path, sigma) in enumerate(missing, 1):
            clean = _read_gray(path)
            if model.network == "unet_n2n":
                clean = clean[clean.shape[0] % 2 :, clean.shape[1] % 2 :]
            noisy = evaluator.degrade(clean, path.stem, sigma=sigma)
            scores[path.stem, sigma] = evaluator.score(restorer(noisy), clean)["psnr"]
            writer.writerow([path.stem, sigma, f"{scores[path.stem, sigma]:.4f}"])
            if i % 20 == 0 or i == len(missing):
                out.flush()
                print(f"{name}: {i} of {len(missing)}", file=sys.stderr, flush=True)
    return scores


def _read_cache(file: pathlib.Path) -> Iterator[tuple[tuple[str, int], float]]:
    if file.exists():
        with file.open(newline="") as rows:
            for row in csv.reader(rows):
                if len(row) == 3 and len(row[2].partition(".")[2]) == 4:  # not cut off by a kill
                    yield (row[0], int(row[1])), float(row[2])


def _read_gray(path: pathlib.Path) -> np.ndarray:
    """The gray image, ``[H, W, 1]`` float32 in [0, 1]."""
    gray = np.round(image_io.read(path) @ np.array(_GRAY))
    return (gray[..., None] / 255).astype(np.float32)


if __name__ == "__main__":
    main()
