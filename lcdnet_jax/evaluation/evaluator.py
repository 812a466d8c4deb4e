"""Scores of a restorer on full images, under a named protocol.

The noise of an image is a pure function of the seed and of its name. It does not depend on other
images of the data set or on their order, so two evaluations agree exactly.
"""

import functools
import math
import zlib
from collections import deque
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

# Noise is drawn for padded sides, so that few shapes are compiled. The number is fixed, because the
# noise depends on it.
_NOISE_BUCKET = 64


@dataclass(frozen=True)
class ScoredImage:
    """One image and its scores.

    Attributes:
        name: Name of the image.
        clean: ``[H, W, C]`` float32, cut as the protocol requires.
        degraded: The same.
        restored: The same.
            ``restored`` is the output of the network, not clipped. ``degraded`` is the mean of two
            views, if there are two. If it is smaller than ``clean``, it is enlarged to its size by
            ``degradations.bicubic``.
        psnr, ssim: Scores of ``restored``, in dB and in [-1, 1].
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

    def scores(self) -> dict[str, float]:
        """Collects all scores.

        Returns:
            The scores by name: "psnr", "ssim", "input_psnr" and those of ``extra``.
        """
        scores = {"psnr": self.psnr, "ssim": self.ssim, "input_psnr": self.input_psnr, **self.extra}
        return {name: float(score) for name, score in scores.items()}


@dataclass(frozen=True)
class Summary:
    """Mean scores of a data set.

    Attributes:
        psnr, ssim, input_psnr: Means over the images. Images without an SSIM do not count in
            its mean.
        n: Number of images.
        extra: Means of the further scores by name.
    """

    psnr: float
    ssim: float
    input_psnr: float
    n: int
    extra: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class _Prepared:
    """An image before it is restored: ``degraded`` is the input of the network."""

    name: str
    clean: np.ndarray
    degraded: np.ndarray


class Evaluator:
    """Degrades, restores and scores images under one protocol.

    Args:
        protocol: How images are degraded and scored.
        degradation: Function of ``[N]`` random keys and clean images ``[N, H, W, C]`` that returns
            degraded images. Required if ``protocol.degradation`` names one; None for noise.
        seed: Seed of the noise or degradation.
        bucket: Metrics are compiled for sides that are multiples of this, pixels.

    Raises:
        ValueError: If protocol and degradation do not fit together.
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
        # The function of the class, so that evaluators of one protocol share compiled programs.
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
            restore: Maps a degraded image ``[H, W, C]`` float32 to one of the shape of the clean
                image, for example a ``Restorer``. Two views ``[H, W, 6]`` give ``[H, W, 3]``.
            examples: Mappings with "name" and "clean" ``[H, W, C]`` float32 in [0, 1]. If degraded
                images come from disk, they hold "degraded", too: the same shape, or sides smaller
                by an integer factor, or ``[H, W, 6]`` for the left and right view of a dual-pixel
                camera.
            sigma: Noise level in 8-bit units. None for other degradations and images from disk.

        Yields:
            The images with their scores, in the order of ``examples``.

        Raises:
            ValueError: If examples, protocol and sigma do not fit together, or an image cannot be
                scored.
        """
        return self.score_each(functools.partial(map, restore), examples, sigma=sigma)

    def score_each(
        self,
        restore_each: Callable[[Iterable[np.ndarray]], Iterator[np.ndarray]],
        examples: Iterable[Example],
        *,
        sigma: float | None = None,
    ) -> Iterator[ScoredImage]:
        """Scores images as :meth:`score_images` does, several of which may be restored together.

        Args:
            restore_each: Maps degraded images to restored ones in the same order, such as
                ``Restorer.predict_each``. An error that it raises is taken for one of the image
                that it read last.
            examples: As for :meth:`score_images`.
            sigma: As for :meth:`score_images`.

        Yields:
            The images with their scores, in the order of ``examples``.

        Raises:
            ValueError: As :meth:`score_images`.
        """
        waiting: deque[_Prepared] = deque()
        named: list[Exception] = []  # errors that need no name of an image

        def read() -> Iterator[np.ndarray]:
            try:
                for example in examples:
                    waiting.append(self._prepare(example, sigma))
                    yield waiting[-1].degraded
            except Exception as error:
                named.append(error)
                raise

        restored_images = restore_each(read())
        while True:
            try:
                restored = next(restored_images)
            except StopIteration:
                return
            except ValueError as error:
                if error in named or not waiting:
                    raise
                raise ValueError(f"{waiting[-1].name}: {error}") from error
            yield self._score_restored(waiting.popleft(), restored)

    def _prepare(self, example: Example, sigma: float | None) -> _Prepared:
        """Degrades an image, if it is not, and cuts it. Raises ValueError with its name."""
        name, clean = example["name"], np.asarray(example["clean"], np.float32)
        degraded = example.get("degraded")
        if degraded is None:
            if self.protocol.noise is None or (sigma is None and self.protocol.degradation is None):
                raise ValueError(
                    f"protocol {self.protocol.name!r} with sigma {sigma} needs degraded images "
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
                raise ValueError("the clean image holds NaN or infinite pixels; replace them")
        except ValueError as error:
            raise ValueError(f"{name}: {error}") from error
        return _Prepared(name, clean, degraded)

    def _score_restored(self, image: _Prepared, restored: np.ndarray) -> ScoredImage:
        """Scores a restored image. Raises ValueError with its name."""
        name, clean, degraded = image.name, image.clean, image.degraded
        try:
            if degraded.shape[-1] == TWO_VIEW_CHANNELS:
                degraded = mean_of_views(degraded)
            if len(degraded) < len(clean):
                degraded = _enlarge(degraded, *clean.shape[:2])
            scores = self.score(restored, clean)
            input_psnr = self._scores(degraded, clean)["psnr"]
        except ValueError as error:
            raise ValueError(f"{name}: {error}") from error
        psnr, ssim = scores.pop("psnr"), scores.pop("ssim")
        return ScoredImage(name, clean, degraded, restored, psnr, ssim, input_psnr, scores)

    def degrade(self, clean: np.ndarray, name: str, *, sigma: float | None = None) -> np.ndarray:
        """Degrades a clean image under the protocol.

        Args:
            clean: ``[H, W, C]`` float32 in [0, 1].
            name: Name of the image, on which the random draw depends.
            sigma: Noise level in 8-bit units. None for a degradation other than noise.

        Returns:
            The degraded image, float32. It is smaller for super-resolution.

        Raises:
            ValueError: If the protocol degrades nothing, or if ``sigma`` is missing or unused.
        """
        if self.protocol.noise is None:
            raise ValueError(f"protocol {self.protocol.name!r} degrades nothing")
        height, width = clean.shape[:2]
        # The bytes of the name, which need not be UTF-8.
        name_hash = zlib.crc32(name.encode(errors="surrogateescape"))
        key = jax.random.fold_in(jax.random.key(self._seed), name_hash)
        if self._degradation is not None:
            if sigma is not None:
                raise ValueError(f"protocol {self.protocol.name!r} adds no noise; leave sigma None")
            degraded = self._degradation(key[None], jnp.asarray(clean[None]))
            return np.asarray(degradations.apply_protocol(degraded, self.protocol.noise))[0]
        if sigma is None:
            raise ValueError(f"protocol {self.protocol.name!r} adds noise; give its sigma")
        level = np.asarray(sigma, np.float32)
        if self.protocol.spread:
            level = degradations.varying_sigma(width, sigma=sigma, spread=self.protocol.spread)
        # Filtered noise depends on the image size, and a level that varies by column on the width.
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
        """Scores one restored image.

        Args:
            restored: ``[H, W, C]`` float, output of the network.
            clean: ``[H, W, C]`` float in [0, 1].

        Returns:
            "psnr" in dB, "ssim" (NaN for an image smaller than its window), and further scores of
            the protocol.

        Raises:
            ValueError: If the shapes differ, or the protocol aligns and the images cannot be
                aligned.
        """
        if restored.shape != clean.shape:
            raise ValueError(
                f"the restored image {list(restored.shape)} and the clean one {list(clean.shape)} "
                "differ in shape; the scale of the network must match that of the degradation"
            )
        scores = self._scores(restored, clean)
        if self.protocol.lpips and lpips.available():
            inner = (slice(self.protocol.border, -self.protocol.border or None),) * 2
            stored = np.asarray(self.protocol.clip_and_round(jnp.asarray(restored)))
            scores["lpips"] = lpips.lpips(stored[inner], clean[inner])
        return scores

    def _scores(self, restored: np.ndarray, clean: np.ndarray) -> dict[str, float]:
        """All scores except LPIPS, which is slow and not needed for the degraded image."""
        images = [restored, clean]
        if self.protocol.aligned:
            stored = np.asarray(self.protocol.clip_and_round(jnp.asarray(restored)))
            aligned, valid = registration.align(stored, clean)
            images = [aligned, clean, valid[..., None]]
        return metrics.score_padded(self._score, *images, bucket=self._bucket)


def _enlarge(degraded: np.ndarray, height: int, width: int) -> np.ndarray:
    return np.asarray(degradations.bicubic(degraded[None], height=height, width=width))[0]


def summarize(scored: Iterable[ScoredImage]) -> Summary:
    """Averages scores over the images of a data set.

    Images smaller than the window of SSIM have no SSIM (NaN) and do not count in its mean. The
    mean is NaN if no image has one. NaN in the output of a network makes the other scores NaN.

    Args:
        scored: The images.

    Returns:
        The mean scores.

    Raises:
        ValueError: If there are no images.
    """
    return summarize_scores(image.scores() for image in scored)


def summarize_scores(scores: Iterable[Mapping[str, float]]) -> Summary:
    """Averages scores over the images of a data set, as :func:`summarize` does.

    Args:
        scores: :meth:`ScoredImage.scores` of the images.

    Returns:
        The mean scores.

    Raises:
        ValueError: If there are no images.
    """
    rows = [dict(row) for row in scores]
    if not rows:
        raise ValueError("no image to score; the data set is empty")
    ssim = mean(row.pop("ssim") for row in rows)
    means = {name: float(np.mean([row[name] for row in rows])) for name in rows[0]}
    psnr, input_psnr = means.pop("psnr"), means.pop("input_psnr")
    return Summary(psnr, ssim, input_psnr, len(rows), means)


def mean(values: Iterable[float]) -> float:
    """Averages values that are not NaN.

    Args:
        values: The values.

    Returns:
        Their mean. NaN if there are none.
    """
    known = [value for value in values if not math.isnan(value)]
    return sum(known) / len(known) if known else math.nan
