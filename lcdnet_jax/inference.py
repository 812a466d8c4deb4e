"""Restorer: from trained weights and an image to a restored image."""

import itertools
import pathlib
from collections.abc import Mapping
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from lcdnet_jax import checkpoints, image_io, tiling


class Restorer:
    """Restores images of any size with one network, whole or in windows.

    Sides are mirrored up to a multiple of ``bucket`` and cropped back, so that images of many
    sizes share a few compiled programs. With ``tile`` all images larger than that share one, and
    memory of the device does not grow with the image; only the output of a window is then added
    up on the host. A network that sees no further than ``overlap`` gives the same either way, if
    its stride divides ``bucket``, ``tile`` and twice ``overlap``. One
    with means over the image gives something else, which may be better or worse: windows are
    closer to the crops it was trained on, as is ``local_pool``.

    Args:
        module: A network of ``lcdnet_jax.networks``.
        variables: Its variables, as ``module.init`` or a checkpoint gives them.
        bucket: Pixels; larger means fewer programs and more computation.
        tile: Side of the square windows that the network sees, pixels; None for whole images. A
            side of the image that is not longer is not cut.
        overlap: Pixels next to the edges of windows inside the image whose result is thrown away.
            Beyond that windows blend over ``tiling.RAMP`` pixels.
        local_pool: Means over the image become means over windows of so many pixels, in networks
            that have such a field (:class:`~lcdnet_jax.networks.lcdnet.LCDNet`). None: as the
            module is.

    Raises:
        ValueError: If ``tile`` is too small for ``overlap``, or the network has no local means.
    """

    def __init__(
        self,
        module: nn.Module,
        variables: Mapping[str, Any],
        *,
        bucket: int = 64,
        tile: int | None = None,
        overlap: int = 64,
        local_pool: int | None = None,
    ):
        if bucket < 1:
            raise ValueError(f"bucket must be at least 1 pixel, got {bucket}")
        if tile is not None:
            tiling.check(tile, overlap)
        if local_pool is not None:
            if not hasattr(module, "local_pool"):
                raise ValueError(
                    f"{type(module).__name__} has no local_pool; leave it None, or use tile to "
                    "show the network smaller windows"
                )
            module = module.clone(local_pool=local_pool)
        self.module = module
        self.variables = variables
        self.bucket = bucket
        self.tile = tile
        self.overlap = overlap
        self._apply = jax.jit(module.apply)

    @classmethod
    def from_checkpoint(
        cls, path: str | pathlib.Path, *, ema: bool = True, step: int | None = None, **options: Any
    ) -> "Restorer":
        """Loads a trained network.

        Args:
            path: Working directory of a training run.
            ema: Use averaged weights where the checkpoint has them.
            step: Step to load; None for the newest.
            **options: Arguments of :class:`Restorer`.

        Raises:
            CheckpointError, ConfigError: If the directory holds no usable checkpoint.
        """
        module, variables, _ = checkpoints.load_variables(path, ema=ema, step=step)
        return cls(module, variables, **options)

    @property
    def mode(self) -> str:
        """How much of an image the network sees, for tables: "full", "tiled 256/64, local 96"."""
        local = getattr(self.module, "local_pool", None)
        parts = [f"tiled {self.tile}/{self.overlap}"] if self.tile is not None else []
        parts += [f"local {local}"] if local is not None else []
        return ", ".join(parts) or "full"

    def with_variables(self, variables: Mapping[str, Any]) -> "Restorer":
        """The same network with other weights, sharing the compiled programs."""
        other = object.__new__(Restorer)
        other.__dict__.update(self.__dict__, variables=variables)
        return other

    def __call__(self, image: np.ndarray) -> np.ndarray:
        """Restores one image.

        Floating-point input is neither clipped nor refused for its range, and its output is not
        clipped; integer output is clipped and rounded. A grey image in a colour network is
        repeated over the channels and the mean of the result returned; the channels of a colour
        image in a grey network are restored one by one.

        Args:
            image: ``[H, W]`` or ``[H, W, C]`` with C = 1 or 3, or ``[H, W, 6]`` (left RGB, right
                RGB) for a network of the two views of a dual-pixel camera; uint8, uint16 or
                floating point (in [0, 1] as the network was trained).

        Returns:
            Restored image of the same shape and dtype; of two views ``[H, W, 3]``.

        Raises:
            ImageError: For another shape or dtype, or NaN or infinite pixels.
        """
        image = np.asarray(image)
        channels = image.shape[2] if image.ndim == 3 else 1
        wanted = self.module.channels
        if wanted == 6 and (image.ndim != 3 or channels != 6 or image.size == 0):
            raise image_io.ImageError(
                "the network takes the left and right view of a dual-pixel camera as [H, W, 6], "
                f"got shape {image.shape}; join the views along the last axis"
            )
        if wanted != 6 and (image.ndim not in (2, 3) or channels not in (1, 3) or image.size == 0):
            raise image_io.ImageError(
                f"expected an image [H, W], [H, W, 1] or [H, W, 3], got shape {image.shape}; "
                "take alpha off first and pass batches one image at a time"
            )
        pixels = image_io.to_float(image).reshape(*image.shape[:2], channels)
        if not np.isfinite(pixels).all():
            raise image_io.ImageError("the image holds NaN or infinite pixels; mend them first")
        if channels == wanted:
            restored = self._run(pixels[None])[0]
        elif channels == 1:
            restored = self._run(np.repeat(pixels, wanted, axis=-1)[None])[0]
            restored = restored.mean(axis=-1, keepdims=True)
        else:
            planes = np.moveaxis(pixels, -1, 0)[..., None]
            restored = np.concatenate([self._run(plane[None])[0] for plane in planes], axis=-1)
        if image.ndim == 2:
            restored = restored[..., 0]
        if image.dtype == np.uint8:
            return image_io.to_uint8(restored)
        if image.dtype == np.uint16:
            return image_io.to_uint16(restored)
        return restored.astype(image.dtype)

    def _run(self, batch: np.ndarray) -> np.ndarray:
        height, width = batch.shape[1:3]
        padded = pad_to_bucket(batch, self.bucket)
        if self.tile is None or max(height, width) <= self.tile:
            restored = np.asarray(self._apply(self.variables, jnp.asarray(padded)))
        else:
            restored = self._tiled(padded, height, width, self.tile)
        return restored[:, :height, :width]

    def _tiled(self, padded: np.ndarray, height: int, width: int, tile: int) -> np.ndarray:
        """Restores ``padded`` window by window; height and width are those before padding."""
        rows, columns = (
            tiling.windows(side, tile=tile, overlap=self.overlap, bucket=self.bucket)
            for side in (height, width)
        )
        restored = np.empty(0, np.float32)
        for (top, down), (left, across) in itertools.product(
            zip(*rows, strict=True), zip(*columns, strict=True)
        ):
            area = np.s_[:, top : top + down.size, left : left + across.size]
            window = self._apply(self.variables, jnp.asarray(padded[area]))
            if not restored.size:  # only the result says how many channels there are
                restored = np.zeros((*padded.shape[:3], window.shape[-1]), np.float32)
            weights = np.multiply.outer(down, across)[..., None]
            restored[area] += np.asarray(window, np.float32) * weights
        return restored


def pad_to_bucket(batch: np.ndarray, bucket: int) -> np.ndarray:
    """Mirrors ``[N, H, W, C]`` at the bottom and right up to multiples of ``bucket``."""
    below, right = -batch.shape[1] % bucket, -batch.shape[2] % bucket
    return np.pad(batch, ((0, 0), (0, below), (0, right), (0, 0)), mode="reflect")
