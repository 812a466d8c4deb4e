"""One photograph under every degradation, as docs/explanations/degradations.md shows it.

    python -m benchmarks.degradations_sheet --output docs/images/degradations.jpg

The photograph is scikit-image's. Half a minute on a CPU; the same code draws the same sheet.
"""

import argparse
import functools
import pathlib
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
import skimage.data
from jax import Array

from lcdnet_jax import degradations, image_io, metrics, visualization

_SEED, _COLUMNS, _WIDTH = 4, 7, 176


def _view(keys: Array, images: Array, *, right: bool) -> Array:
    views = degradations.dual_pixel(keys, images, radius=(6.0, 6.0))
    return views[..., 3:] if right else views[..., :3]


def _small(keys: Array, images: Array) -> Array:
    """A quarter of the rows and columns, drawn as squares."""
    small = degradations.gaussian_downsample(
        keys, images, factor=4, width=(1.0, 3.0), isotropic=0.0
    )
    large = small.repeat(4, axis=1).repeat(4, axis=2)
    return large[:, : images.shape[1], : images.shape[2]]


_partial = functools.partial
# Fixed where an option is drawn from a wide range, so that each picture is what its caption says.
_PICTURES: dict[str, Callable[[Array, Array], Array]] = {
    "clean": lambda keys, images: images,
    "motion, 24 pixels": _partial(degradations.motion_blur, length=(24.0, 24.0)),
    "motion and roll": _partial(
        degradations.motion_blur, length=(12.0, 12.0), rotation=6.0, grid=5
    ),
    "defocus, radius 4": _partial(degradations.defocus, radius=(4.0, 4.0)),
    "left view": _partial(_view, right=False),
    "right view": _partial(_view, right=True),
    "1/4 of the size": _small,
    "light rain": degradations.rain,
    "heavy rain": _partial(degradations.rain, kind="heavy"),
    "camera noise": _partial(degradations.camera_noise, shot=(6e-3, 6e-3)),
    "Poisson-Gaussian": _partial(degradations.poisson_gaussian, shot=0.02, read=1e-3),
    "Gaussian noise": _partial(degradations.awgn, sigma=25.0),
    "JPEG, quality 10": lambda keys, images: degradations.jpeg(images, quality=10),
    "motion, then noise": degradations.compose(
        _partial(degradations.motion_blur, length=(12.0, 12.0)),
        _partial(degradations.camera_noise, shot=(2e-3, 2e-3), quality=(60, 60)),
    ),
}


def main() -> None:
    """Degrades, draws, writes."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--output", type=pathlib.Path, required=True, help="a .jpg or .png file")
    output = parser.parse_args().output
    photo = image_io.to_float(skimage.data.astronaut())
    keys, clean = jax.random.split(jax.random.key(_SEED), 1), jnp.asarray(photo)[None]
    pictures: list[tuple[str, np.ndarray]] = []
    for caption, degrade in _PICTURES.items():
        degraded = jnp.clip(jax.jit(degrade)(keys, clean), 0, 1)
        if pictures:
            caption += f": {float(metrics.psnr(degraded, clean)[0]):.1f} dB"
        pictures.append((caption, np.asarray(degraded[0])))
    rows = [pictures[i : i + _COLUMNS] for i in range(0, len(pictures), _COLUMNS)]
    strips = [visualization.draw_panel(row, clean=photo, width=_WIDTH) for row in rows]
    image_io.write(output, np.concatenate(strips), quality=75)


if __name__ == "__main__":
    main()
