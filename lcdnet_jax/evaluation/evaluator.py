"""Scores of a restorer on full images, under a named protocol.

The noise of an image is a pure function of (seed, its name): it depends neither on the other
images of the set nor on their order, so two evaluations agree exactly.
"""

import functools
import math
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from lcdnet_jax import degradations, metrics
from lcdnet_jax.inference import pad_to_bucket
from lcdnet_jax.metrics import lpips, registration
from lcdnet_jax.ops import TWO_VIEW_CHANNELS, mean_of_views
from lcdnet_jax.protocols import Protocol

Example = Mapping[str, Any]

# Noise is drawn for padded sides, so that few shapes are compiled. Fixed: it enters the draw.
_NOISE_BUCKET = 64


@dataclass(frozen=True)
class ScoredImage:
    """One image and its scores.

    Attributes:
        name: Name of the image.
        clean, degraded, restored: ``[H, W, C]`` float32, cut as the protocol says; ``restored``
            as the network returned it, ``degraded`` the mean of two views, and enlarged to the
            size of ``clean`` by ``degradations.bicubic`` where it is smaller.
        psnr, ssim: Scores of ``restored``, dB and [-1, 1].
        input_psnr: Score of ``degraded`` under the same protocol, dB.
        extra: Further scores of ``restored`` under the protocol, such as "mae" and "lpips".
    """

    name: str
    clean: np.ndarray
    degraded: np.ndarray
    restored: np.ndarray
    psnr: float
    ssim: float
    input_psnr: float
    extra: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class Summary:
    """Mean scores of a data set.

    Attributes:
        psnr, ssim, input_psnr: Means over the images; of SSIM over images that have one.
        n: Number of images.
        extra: Means of the further scores.
    """

    psnr: float
    ssim: float
    input_psnr: float
    n: int
    extra: Mapping[str, float] = field(default_factory=dict)


class Evaluator:
    """Degrades, restores and scores images under one protocol.

    Args:
        protocol: How images are degraded and scored.
        degradation: Function of ``[N]`` keys and clean images ``[N, H, W, C]`` that degrades
            them, where ``protocol.degradation`` names one; None for noise.
        seed: Seed of the noise or degradation.
        bucket: Metrics are compiled for sides that are multiples of this, pixels.
    """

    def __init__(
        self,
        protocol: Protocol,
        *,
        degradation: degradations.Step | None = None,
        seed: int = 0,
        bucket: int = 64,
    ):
        if (degradation is None) != (protocol.degradation is None):
            raise ValueError(
                f"protocol {protocol.name!r} has the degradation {protocol.degradation!r}, but the "
                f"function given is {degradation!r}; use Protocol.with_degradation with a function"
            )
        self.protocol = protocol
        self._seed = seed
        self._bucket = bucket
        # By the function of the class, so that evaluators of one protocol share programs.
        self._score = functools.partial(jax.jit(Protocol.score, static_argnums=0), protocol)
        self._awgn = jax.jit(degradations.awgn, static_argnames=("protocol", "spectrum"))
        self._degradation = None if degradation is None else jax.jit(degradation)

    def score_images(
        self,
        restore: Callable[[np.ndarray], np.ndarray],
        examples: Iterable[Example],
        *,
        sigma: float | None = None,
    ) -> Iterator[ScoredImage]:
        """Scores images one by one.

        Args:
            restore: ``[H, W, C]`` float32 to the same shape, such as a ``Restorer``, or to that of
                the clean image where the degraded one is smaller; two views ``[H, W, 6]`` to
                ``[H, W, 3]``.
            examples: Mappings with "name" and "clean" ``[H, W, C]`` float32 in [0, 1], and
                "degraded" where degraded images come from disk: the same shape, or with smaller
                sides by one whole factor, or ``[H, W, 6]`` for the left and right view of a
                dual-pixel camera.
            sigma: Noise level in 8-bit units; None where degraded images come from disk.

        Raises:
            ValueError: If examples, protocol and sigma do not fit together, or an image cannot be
                scored.
        """
        for example in examples:
            name, clean = example["name"], np.asarray(example["clean"], np.float32)
            degraded = example.get("degraded")
            if degraded is None:
                if self.protocol.noise is None or (
                    sigma is None and self.protocol.degradation is None
                ):
                    raise ValueError(
                        f"protocol {self.protocol.name!r} with sigma {sigma} wants degraded images "
                        f"from disk and {name} has none; use a protocol with noise and a sigma"
                    )
            elif self.protocol.noise is not None or sigma is not None:
                raise ValueError(
                    f"{name} is degraded already; use a protocol for pairs, such as 'pairs' or "
                    "'gopro', and no sigma"
                )
            try:
                if degraded is None:
                    scale = self.protocol.scale
                    clean = clean[: len(clean) // scale * scale, : clean.shape[1] // scale * scale]
                    degraded = self.degrade(clean, name, sigma=sigma)
                ratio = max(len(clean) // len(degraded), 1)
                clean = self.protocol.cut(clean)
                height, width = clean.shape[:2]
                degraded = np.asarray(degraded)[: height // ratio, : width // ratio]
                if not np.isfinite(clean).all():
                    raise ValueError("the clean image holds NaN or infinite pixels; mend them")
                restored = restore(degraded)
                if degraded.shape[-1] == TWO_VIEW_CHANNELS:
                    degraded = mean_of_views(degraded)
                if ratio > 1:
                    degraded = _enlarge(degraded, height, width)
                scores = self.score(restored, clean)
                input_psnr = self._scores(degraded, clean)["psnr"]
            except ValueError as error:
                raise ValueError(f"{name}: {error}") from error
            psnr, ssim = scores.pop("psnr"), scores.pop("ssim")
            yield ScoredImage(name, clean, degraded, restored, psnr, ssim, input_psnr, scores)

    def degrade(self, clean: np.ndarray, name: str, *, sigma: float | None = None) -> np.ndarray:
        """The degraded version of an image ``[H, W, C]`` float32; ``sigma`` is of noise.

        Raises:
            ValueError: If the protocol degrades nothing, or lacks or has no use for ``sigma``.
        """
        if self.protocol.noise is None:
            raise ValueError(f"protocol {self.protocol.name!r} degrades nothing")
        height, width = clean.shape[:2]
        key = jax.random.fold_in(jax.random.key(self._seed), zlib.crc32(name.encode()))
        if self._degradation is not None:
            if sigma is not None:
                raise ValueError(
                    f"sigma is of noise, which protocol {self.protocol.name!r} does not add; leave "
                    "it None"
                )
            degraded = self._degradation(key[None], jnp.asarray(clean[None]))
            return np.asarray(degradations.apply_protocol(degraded, self.protocol.noise))[0]
        if sigma is None:
            raise ValueError(f"protocol {self.protocol.name!r} adds noise; give its sigma")
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
        """Scores of one image ``[H, W, C]``: "psnr", "ssim", and those the protocol adds.

        Raises:
            ValueError: For images of different shapes, or that cannot be aligned where the
                protocol aligns.
        """
        if restored.shape != clean.shape:
            raise ValueError(
                f"the restored image {list(restored.shape)} and the clean one {list(clean.shape)} "
                "differ in shape; a network must enlarge as often as images are made smaller"
            )
        scores = self._scores(restored, clean)
        if self.protocol.lpips and lpips.available():
            inner = (slice(self.protocol.border, -self.protocol.border or None),) * 2
            stored = np.asarray(self.protocol.stored(jnp.asarray(restored)))
            scores["lpips"] = lpips.lpips(stored[inner], clean[inner])
        return scores

    def _scores(self, restored: np.ndarray, clean: np.ndarray) -> dict[str, float]:
        """All scores except LPIPS, which is slow and not needed for the degraded image."""
        images = [restored, clean]
        if self.protocol.aligned:
            stored = np.asarray(self.protocol.stored(jnp.asarray(restored)))
            aligned, valid = registration.align(stored, clean)
            images = [aligned, clean, valid[..., None]]
        return metrics.score_padded(self._score, *images, bucket=self._bucket)


def _enlarge(degraded: np.ndarray, height: int, width: int) -> np.ndarray:
    return np.asarray(degradations.bicubic(degraded[None], height=height, width=width))[0]


def summarize(scored: Iterable[ScoredImage]) -> Summary:
    """Means over the images of a data set.

    Images smaller than the window of SSIM have no SSIM (NaN) and do not count in its mean. The
    mean is NaN if no image has one. NaN in the output of a network shows in the other scores.

    Raises:
        ValueError: If there are no images.
    """
    rows = [{"psnr": s.psnr, "ssim": s.ssim, "input_psnr": s.input_psnr, **s.extra} for s in scored]
    if not rows:
        raise ValueError("no image to score; the data set is empty")
    ssim = mean(row.pop("ssim") for row in rows)
    means = {name: float(np.mean([row[name] for row in rows])) for name in rows[0]}
    psnr, input_psnr = means.pop("psnr"), means.pop("input_psnr")
    return Summary(psnr, ssim, input_psnr, len(rows), means)


def mean(values: Iterable[float]) -> float:
    """Mean of the values that are not NaN; NaN if there are none."""
    known = [value for value in values if not math.isnan(value)]
    return sum(known) / len(known) if known else math.nan
