"""Scores of a restorer on full images, under a named protocol.

The noise of an image is a pure function of (seed, its name): it depends neither on the other
images of the set nor on their order, so two evaluations agree exactly.
"""

import functools
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from lcdnet_jax import degradations
from lcdnet_jax.inference import pad_to_bucket
from lcdnet_jax.protocols import Protocol

Example = Mapping[str, Any]

# Noise is drawn for padded sides, so that few shapes are compiled. Fixed: it enters the draw.
_NOISE_BUCKET = 64


@dataclass(frozen=True)
class Scored:
    """One image and its scores.

    Attributes:
        name: Name of the image.
        clean, degraded, restored: ``[H, W, C]`` float32, cut as the protocol says; ``restored``
            as the network gave it, ``degraded`` the mean where there are two views.
        psnr, ssim: Scores of ``restored``, dB and [-1, 1].
        input_psnr: Score of ``degraded`` under the same protocol, dB.
    """

    name: str
    clean: np.ndarray
    degraded: np.ndarray
    restored: np.ndarray
    psnr: float
    ssim: float
    input_psnr: float


@dataclass(frozen=True)
class Summary:
    """Mean scores of a data set.

    Attributes:
        psnr, ssim, input_psnr: Means over the images.
        n: Number of images.
    """

    psnr: float
    ssim: float
    input_psnr: float
    n: int


class Evaluator:
    """Degrades, restores and scores images under one protocol.

    Args:
        protocol: What the scores mean.
        seed: Of the noise.
        bucket: Metrics are compiled for sides that are multiples of this, pixels.
    """

    def __init__(self, protocol: Protocol, *, seed: int = 0, bucket: int = 64):
        self.protocol = protocol
        self._seed = seed
        self._bucket = bucket
        # By the function of the class, so that evaluators of one protocol share programs.
        self._score = functools.partial(jax.jit(Protocol.score, static_argnums=0), protocol)
        self._awgn = jax.jit(degradations.awgn, static_argnames=("protocol", "spectrum"))

    def score_images(
        self,
        restore: Callable[[np.ndarray], np.ndarray],
        examples: Iterable[Example],
        *,
        sigma: float | None = None,
    ) -> Iterator[Scored]:
        """Scores images one after the other.

        Args:
            restore: ``[H, W, C]`` float32 to the same shape, such as a ``Restorer``; two views
                ``[H, W, 6]`` to ``[H, W, 3]``.
            examples: Mappings with "name" and "clean" ``[H, W, C]`` float32 in [0, 1], and
                "degraded" where degraded images come from disk: the same shape, or ``[H, W, 6]``
                for the left and right view of a dual-pixel camera.
            sigma: Noise level in 8-bit units; None where degraded images come from disk.

        Raises:
            ValueError: If examples, protocol and sigma do not belong together.
        """
        for example in examples:
            name, clean = example["name"], np.asarray(example["clean"], np.float32)
            degraded = example.get("degraded")
            if degraded is None:
                if self.protocol.noise is None or sigma is None:
                    raise ValueError(
                        f"protocol {self.protocol.name!r} with sigma {sigma} wants degraded images "
                        f"from disk and {name} has none; use a protocol with noise and a sigma"
                    )
                degraded = self.degrade(clean, name, sigma=sigma)
            elif self.protocol.noise is not None or sigma is not None:
                raise ValueError(
                    f"{name} is degraded already; use the protocol 'pairs' and no sigma"
                )
            try:
                clean, degraded = self.protocol.cut(clean), self.protocol.cut(np.asarray(degraded))
            except ValueError as error:
                raise ValueError(f"{name}: {error}") from None
            restored = restore(degraded)
            if degraded.shape[-1] == 6:
                degraded = (degraded[..., :3] + degraded[..., 3:]) / 2
            after, before = self.score(restored, clean), self.score(degraded, clean)
            yield Scored(
                name, clean, degraded, restored, after["psnr"], after["ssim"], before["psnr"]
            )

    def degrade(self, clean: np.ndarray, name: str, *, sigma: float) -> np.ndarray:
        """The noisy version of an image, ``[H, W, C]`` float32 to the same."""
        if self.protocol.noise is None:
            raise ValueError(f"protocol {self.protocol.name!r} adds no noise")
        height, width = clean.shape[:2]
        key = jax.random.fold_in(jax.random.key(self._seed), zlib.crc32(name.encode()))
        level = np.asarray(sigma, np.float32)
        if self.protocol.spread:
            level = degradations.varying_sigma(width, sigma=sigma, spread=self.protocol.spread)
        # Filtered noise depends on the size of the image, a level by column on its width.
        white = self.protocol.spectrum == "white" and not self.protocol.spread
        noisy = self._awgn(
            key[None],
            pad_to_bucket(clean[None], _NOISE_BUCKET if white else 1),
            sigma=level,
            protocol=self.protocol.noise,
            spectrum=self.protocol.spectrum,
        )
        return np.asarray(noisy)[0, :height, :width]

    def score(self, restored: np.ndarray, clean: np.ndarray) -> dict[str, float]:
        """PSNR and SSIM of one image ``[H, W, C]``."""
        sizes = jnp.asarray([clean.shape[:2]], jnp.int32)
        padded = (jnp.asarray(pad_to_bucket(a[None], self._bucket)) for a in (restored, clean))
        return {name: float(value[0]) for name, value in self._score(*padded, sizes).items()}


def summarise(scored: Iterable[Scored]) -> Summary:
    """Means over the images of a data set.

    Raises:
        ValueError: If there is none.
    """
    rows = [(s.psnr, s.ssim, s.input_psnr) for s in scored]
    if not rows:
        raise ValueError("no image to score; the data set is empty")
    psnr, ssim, input_psnr = (float(v) for v in np.mean(rows, axis=0))
    return Summary(psnr, ssim, input_psnr, len(rows))
