"""How far restoration in tiles is from restoration of the whole frame, by tile and overlap.

    python -m benchmarks.tiling_error --weights DIR --checkpoint runs/small
    python -m benchmarks.tiling_error --networks dncnn --tiles 512/64 --weights DIR

Restores scikit-image's photograph of a cup, enlarged to 800x1200 pixels and with noise of sigma
25, and prints one JSON object a line for each network, tile and overlap: the largest difference
between the two modes anywhere, in [0, 1], where it lies, and the PSNR of both. A network that
enlarges gets a photograph reduced to that size, without noise. Some ten minutes on two CPU cores.

Weights: those published of DnCNN and the U-Net (--weights holds the .pth files of majedelhelou/SFM,
read by PyTorch), a trained network's (--checkpoint), and random ones where there are none: of
SADNet as its training starts, of LCDNet with layer scales that are not 0, so that its global
branches count. "weights" in each line says which.
"""

import argparse
import json
import pathlib
import sys
import time
from collections.abc import Callable, Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import skimage.data

from lcdnet_jax import Restorer, checkpoints, convert, degradations, image_io, networks
from lcdnet_jax import weights as weights_lib
from lcdnet_jax.typing import JsonObject

_SIGMA = 25 / 255
_TILES = ((256, 32), (256, 64), (512, 32), (512, 64), (512, 96))
_PUBLISHED = {"dncnn": "dncnn_gray_regular.pth", "unet_n2n": "unet_n2n_bsd_regular.pth"}
_RANDOM: dict[str, tuple[str, dict[str, Any]]] = {
    "sadnet-small": ("sadnet", {"preset": "small"}),
    "sadnet-base": ("sadnet", {"preset": "base"}),
    "lcdnet-tiny": ("lcdnet", {"preset": "tiny", "layer_scale_init": 0.3}),
}
_NETWORKS = (*_PUBLISHED, *_RANDOM, "checkpoint")

# A network, its variables, and where these come from.
Loaded = tuple[networks.RestorationNetwork, Any, str]


def main() -> None:
    """Measures and prints."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--networks", help=f"of {', '.join(_NETWORKS)}; all that can be had")
    parser.add_argument("--tiles", help="such as 512/64,256/32: tile and overlap, pixels")
    parser.add_argument("--weights", type=pathlib.Path, help="folder of the published weights")
    parser.add_argument("--checkpoint", type=pathlib.Path, help="working directory of a training")
    parser.add_argument("--size", type=int, default=1200, help="width of the image, pixels")
    options = parser.parse_args()
    names = options.networks.split(",") if options.networks else _NETWORKS
    tiles: Any = _TILES
    if options.tiles:
        tiles = [tuple(map(int, pair.split("/"))) for pair in options.tiles.split(",")]
    try:
        for name in names:
            loader = _find_loader(name, options)
            if loader is None:
                print(f"left out: {name}, without weights", file=sys.stderr, flush=True)
                continue
            for line in measure(loader(), tiles, width=options.size):
                print(json.dumps({"network": name, **line}), flush=True)
    except (ValueError, OSError, ImportError, checkpoints.CheckpointError) as error:
        sys.exit(f"error: {error}")


def measure(loaded: Loaded, tiles: list[tuple[int, int]], *, width: int) -> Iterator[JsonObject]:
    """One result for each tile and overlap, on an image of ``width`` pixels."""
    module, variables, weights = loaded
    clean, degraded, plain = _make_images(width, module.channels, module.scale)
    whole = Restorer(module, variables, max_pixels=None)(degraded)
    for tile, overlap in tiles:
        begin = time.perf_counter()
        tiled = Restorer(module, variables, tile=tile, overlap=overlap)(degraded)
        difference = np.abs(tiled - whole)
        yield {
            "weights": weights,
            "image": list(degraded.shape),
            "tile": tile,
            "overlap": overlap,
            "max_difference": float(difference.max()),
            "at": [int(i) for i in np.unravel_index(difference.argmax(), difference.shape)],
            "mean_difference": float(difference.mean()),
            "change": float(np.abs(whole - plain).mean()),  # what the network does at all
            "psnr_whole": _psnr(whole, clean),
            "psnr_tiled": _psnr(tiled, clean),
            "psnr_input": _psnr(plain, clean),
            "seconds": round(time.perf_counter() - begin, 1),
        }


def _make_images(
    width: int, channels: int, scale: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The photograph, what is restored, ``[2/3 width, width, channels]``, and that enlarged."""
    height = round(width * 2 / 3)
    photo = image_io.convert_channels(image_io.to_float(skimage.data.coffee()), channels)
    shape = (height * scale, width * scale, channels)
    clean = np.asarray(jax.image.resize(photo, shape, "bilinear"))
    if scale > 1:
        reduced = degradations.bicubic(clean[None], height=height, width=width)
        plain = degradations.bicubic(reduced, height=shape[0], width=shape[1])
        return clean, np.asarray(reduced[0]), np.asarray(plain[0])
    noise = np.random.default_rng(0).normal(0, _SIGMA, clean.shape)
    noisy = (clean + noise).astype(np.float32)
    return clean, noisy, noisy


def _psnr(restored: np.ndarray, clean: np.ndarray) -> float:
    return float(-10 * np.log10(np.mean((restored.clip(0, 1) - clean) ** 2)))


def _find_loader(name: str, options: argparse.Namespace) -> Callable[[], Loaded] | None:
    """What loads the network; None where it has no weights."""
    if name in _RANDOM:
        return lambda: _load_random(name)
    if name == "checkpoint" and options.checkpoint:
        return lambda: _load_checkpoint(options.checkpoint)
    if name in _PUBLISHED and options.weights:
        return lambda: _load_published(name, options.weights / _PUBLISHED[name])
    if name not in _NETWORKS:
        raise ValueError(f"no network {name!r}; there are {', '.join(_NETWORKS)}")
    return None


def _load_checkpoint(path: pathlib.Path) -> Loaded:
    weights = weights_lib.load(path)
    return weights.module, weights.variables, f"trained, {path.name}"


def _load_random(name: str) -> Loaded:
    network, kwargs = _RANDOM[name]
    module = networks.create(network, **kwargs)
    shape = (1, 16, 16, module.channels)
    return module, jax.jit(module.init)(jax.random.key(0), jnp.zeros(shape)), "random"


def _load_published(name: str, path: pathlib.Path) -> Loaded:
    variables = convert.from_torch(name, convert.read_state_dict(path))
    return networks.create(name), variables, f"published, {path.name}"


if __name__ == "__main__":
    main()
