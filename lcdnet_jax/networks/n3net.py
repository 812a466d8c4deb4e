"""N3Net: convolutional networks with non-local blocks of neural nearest neighbors between them.

Plötz and Roth, "Neural Nearest Neighbors Networks", NeurIPS 2018 (arXiv 1810.12575), with the
sizes of the authors' denoising code. The code of stochastic frequency masking (ECCV 2020,
arXiv 2003.07119) keeps these sizes. Read :class:`N3Net` first, then :class:`N3Block`.
"""

from collections.abc import Mapping
from typing import ClassVar

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.typing import DTypeLike

from lcdnet_jax.networks._base import RestorationNetwork
from lcdnet_jax.networks._blocks import (
    batch_norm,
    check_fields,
    check_image,
    conv,
    torch_default,
)
from lcdnet_jax.ops.precision import at_least_float32
from lcdnet_jax.typing import Fields

_HIGHEST = jax.lax.Precision.HIGHEST
_fan_out_normal = nn.initializers.variance_scaling(2.0, "fan_out", "normal")


class N3Net(RestorationNetwork):
    """Three local networks with two non-local blocks between them.

    A non-local block needs ``window`` patches in each direction. A smaller image (a side under 76
    pixels with the default sizes) is mirrored up to that size, and the result is cropped. The
    official code fails there. Initialization as in the official code, see the blocks.

    The official class creates three BatchNorms, 384 parameters, that it never uses. They are
    omitted here.

    Attributes:
        channels: Channels of the image.
        width: Channels between the local networks, and of the embedding.
        features: Channels inside the local networks and inside the embedding network.
        depth: Convolutions of a local network.
        neighbours: Neighbors that a non-local block adds for each patch.
        patch: Side of a patch in pixels.
        stride: Distance between patches in pixels, at most ``patch``.
        window: Each patch is compared with the ``window`` x ``window`` patches around it.
        dtype: Compute type of convolutions. Everything else is float32.
    """

    channels: int = 1
    width: int = 8
    features: int = 64
    depth: int = 6
    neighbours: int = 7
    patch: int = 10
    stride: int = 5
    window: int = 15
    dtype: DTypeLike = jnp.float32

    # The contract, see RestorationNetwork.
    scale = 1
    # stride is a field, the distance between patches.
    input_range = (0.0, 1.0)
    tile_overlap = 64
    two_views = False
    global_means = False
    has_scales = False
    LARGEST: ClassVar[Mapping[str, int]] = {
        "neighbours": 64,
        "patch": 32,
        "stride": 32,
        "window": 31,
    }

    def __post_init__(self) -> None:
        sizes = ("channels", "width", "features", "neighbours", "patch", "stride")
        check_fields(self, depth=2, window=2, **dict.fromkeys(sizes, 1))
        if self.stride > self.patch:
            raise ValueError(
                f"N3Net stride {self.stride} leaves pixels between patches of {self.patch}; use a "
                f"stride of at most {self.patch}"
            )
        if self.neighbours > self.window**2 - 1:
            raise ValueError(
                f"N3Net window {self.window} has {self.window**2 - 1} other patches, fewer than "
                f"{self.neighbours} neighbours; use a larger window or fewer neighbours"
            )
        super().__post_init__()

    @nn.compact
    def __call__(self, x: Array, *, train: bool = False, axis_name: str | None = None) -> Array:
        """Restores ``x [N, H, W, channels]``."""
        check_image(x, "N3Net", self.channels)
        _, height, width, _ = x.shape
        # The last patch needs only one pixel inside the image beyond the previous patch.
        least = self.patch + (self.window - 2) * self.stride + 1
        below, right = max(0, least - height), max(0, least - width)
        y = jnp.pad(x, ((0, 0), (0, below), (0, right), (0, 0)), mode="reflect")
        y = y.astype(at_least_float32(self.dtype))
        for i, features in enumerate((self.width, self.width, self.channels)):
            local = LocalNet(
                features, self.features, self.depth, dtype=self.dtype, name=f"blocks_{i}"
            )
            y = local(y, train=train, axis_name=axis_name)
            if i < 2:
                block = N3Block(
                    self.features,
                    self.neighbours,
                    self.patch,
                    self.stride,
                    self.window,
                    dtype=self.dtype,
                    name=f"nls_{i}",
                )
                y = block(y, train=train, axis_name=axis_name)
        return y[:, :height, :width].astype(x.dtype)


class LocalNet(nn.Module):
    """A DnCNN that adds the input's first channels to the output's first channels.

    ``[N, H, W, C]`` -> ``[N, H, W, out]``. Initialization: convolutions
    N(0, 2 / (9 * output channels)).
    """

    out: int
    features: int
    depth: int
    dtype: DTypeLike = jnp.float32

    @nn.compact
    def __call__(self, x: Array, *, train: bool, axis_name: str | None) -> Array:
        options: Fields = {"dtype": self.dtype, "kernel_init": _fan_out_normal}
        y = nn.relu(conv(x, self.features, bias=True, name="conv1", **options))
        for i in range(self.depth - 2):
            y = conv(y, self.features, name=f"layer1_{3 * i}", **options)
            name = f"layer1_{3 * i + 1}"
            y = nn.relu(_slow_batch_norm(y, train, axis_name, self.dtype, name))
        y = conv(y, self.out, bias=True, name="conv2", **options).astype(x.dtype)
        shared = min(self.out, x.shape[-1])
        return y.at[..., :shared].add(x[..., :shared])


class N3Block(nn.Module):
    """``[N, H, W, C]`` -> ``[N, H, W, (1 + neighbours) * C]``: the input, then its neighbors.

    A neighbor of a patch is a weighted mean of the patches around it. The weight that one neighbor
    gives to a patch reduces the weight in the next neighbor (equations 8 to 11). Distances are
    between patches of an embedding. A second network predicts the temperature. Overlapping
    neighbors are averaged, and the input is subtracted from each.

    Initialization: convolutions as PyTorch's default, the BatchNorm of distances at identity.
    """

    features: int
    neighbours: int
    patch: int
    stride: int
    window: int
    dtype: DTypeLike = jnp.float32

    @nn.compact
    def __call__(self, x: Array, *, train: bool, axis_name: str | None) -> Array:
        n, *size, channels = x.shape
        embedding = self._cnn(x, channels, "embedcnn", train, axis_name)
        log_temperature = self._cnn(x, 1, "tempcnn", train, axis_name)

        grid = PatchGrid((size[0], size[1]), self.patch, self.stride)
        rows, columns = grid.shape
        distances = jax.vmap(lambda e: window_distances(e, self.window))
        distance = distances(grid.patches(embedding).reshape(n, rows, columns, -1))
        # A patch is not its own neighbor, and its distance of 0 stays out of the statistics.
        other = jnp.asarray(~_self_positions(rows, columns, self.window))[None]
        logits = batch_norm(
            -distance[..., None],
            train=train,
            axis_name=axis_name,
            dtype=x.dtype,
            scale_init=nn.initializers.ones,
            mask=other[..., None],
            name="distance_bn",
        )[..., 0]
        # 0.1 is exp(temp_bias), an option of the official code.
        temperature = 0.1 * jnp.exp(grid.patches(log_temperature).mean(axis=(3, 4, 5)))
        logits = jnp.where(other, logits / temperature[..., None, None], -jnp.inf)
        weights = weigh_neighbors(logits.reshape(n, rows, columns, -1), self.neighbours)

        weights = weights.reshape(*logits.shape, self.neighbours)
        values = grid.patches(x).reshape(n, rows, columns, -1)
        found = jax.vmap(lambda v, w: window_sums(v, w, self.window))(values, weights)
        found = found.reshape(n, rows, columns, -1, self.patch, self.patch, channels)
        found = jnp.moveaxis(found, 3, -2).reshape(*found.shape[:3], self.patch, self.patch, -1)
        return jnp.concatenate([x, grid.image(found) - jnp.tile(x, self.neighbours)], axis=-1)

    def _cnn(self, x: Array, out: int, name: str, train: bool, axis_name: str | None) -> Array:
        """Three convolutions, BatchNorm after the first two: ``[N, H, W, out]`` of ``x``'s type."""
        options: Fields = {"dtype": self.dtype, "kernel_init": torch_default}
        y = x
        for i in (0, 3):
            y = conv(y, self.features, name=f"{name}_{i}", **options)
            y = nn.relu(_slow_batch_norm(y, train, axis_name, self.dtype, f"{name}_{i + 1}"))
        return conv(y, out, bias=True, name=f"{name}_6", **options).astype(x.dtype)


class PatchGrid:
    """Overlapping patches of images of one size, zero-padded so that patches cover them exactly.

    Attributes:
        shape: Number of patches, (rows, columns).
    """

    def __init__(self, size: tuple[int, int], patch: int, stride: int) -> None:
        lacking = [-(side - patch) % stride for side in size]
        self._padding = [(pad // 2, pad - pad // 2) for pad in lacking]
        self._size = size
        self.shape = tuple(
            (side + pad - patch) // stride + 1 for side, pad in zip(size, lacking, strict=True)
        )
        self._pixels = [
            stride * np.arange(count)[:, None] + np.arange(patch) for count in self.shape
        ]

    def patches(self, x: Array) -> Array:
        """``[N, H, W, C]`` -> ``[N, rows, columns, patch, patch, C]``."""
        x = jnp.pad(x, ((0, 0), *self._padding, (0, 0)))
        rows, columns = self._pixels
        return jnp.moveaxis(x[:, rows][:, :, :, columns], 2, 3)

    def image(self, patches: Array) -> Array:
        """``[N, rows, columns, patch, patch, C]`` -> ``[N, H, W, C]``, overlaps averaged.

        The inverse of :meth:`patches`.
        """
        shape = (patches.shape[0], *self._size, patches.shape[-1])
        # Summing overlapping patches is the transpose of extracting them.
        (total,) = jax.linear_transpose(self.patches, jax.ShapeDtypeStruct(shape, patches.dtype))(
            patches
        )
        vertically, horizontally = (
            np.bincount(pixels.ravel())[before : before + side]
            for pixels, (before, _), side in zip(
                self._pixels, self._padding, self._size, strict=True
            )
        )
        count = np.outer(vertically, horizontally)[None, :, :, None]
        return total / jnp.asarray(count, total.dtype)


def window_distances(items: Array, window: int) -> Array:
    """Squared distances between each item and the items of the window around it.

    Args:
        items: ``[rows, columns, E]``, at least ``window`` rows and columns.
        window: Side of the window in items. It is shifted inward at the borders.

    Returns:
        ``[rows, columns, window, window]``.
    """
    place = jnp.asarray(_window_columns(items.shape[1], window), items.dtype)

    # One row of items at a time, as matrix products, recomputed in the backward pass. The windows
    # of all items at once would take window**2 times the memory of the image.
    @jax.checkpoint
    def of_row(row: tuple[Array, Array]) -> Array:
        query, top = row
        near = jax.lax.dynamic_slice_in_dim(items, top, window)
        product = jnp.einsum("qe,ace->qac", query, near, precision=_HIGHEST)
        square = (query**2).sum(-1)[:, None, None] + (near**2).sum(-1)[None]
        return jnp.einsum("qac,qbc->qab", square - 2 * product, place, precision=_HIGHEST)

    return jax.lax.map(of_row, (items, jnp.asarray(_starts(items.shape[0], window))))


def window_sums(items: Array, weights: Array, window: int) -> Array:
    """Weighted sums over the window around each item.

    Args:
        items: ``[rows, columns, F]``, at least ``window`` rows and columns.
        weights: ``[rows, columns, window, window, K]``.
        window: Side of the window in items. It is shifted inward at the borders.

    Returns:
        ``[rows, columns, K, F]``.
    """
    place = jnp.asarray(_window_columns(items.shape[1], window), items.dtype)

    @jax.checkpoint
    def of_row(row: tuple[Array, Array]) -> Array:
        weight, top = row
        near = jax.lax.dynamic_slice_in_dim(items, top, window)
        spread = jnp.einsum("qabk,qbc->qkac", weight, place, precision=_HIGHEST)
        return jnp.einsum("qkac,acf->qkf", spread, near, precision=_HIGHEST)

    return jax.lax.map(of_row, (weights, jnp.asarray(_starts(items.shape[0], window))))


def weigh_neighbors(logits: Array, neighbours: int) -> Array:
    """Continuous nearest neighbors: logits ``[..., O]`` -> weights ``[..., O, neighbours]``.

    The weights of each neighbor sum to 1. As the temperature goes to 0 they select the nearest
    candidates in order. That relies on float32, where a weight of 1 - 1e-8 is 1. In exact
    arithmetic equation 9 leaves such a candidate as much weight as the next candidate has.
    """
    weights = []
    for _ in range(neighbours):
        log_weight = jax.nn.log_softmax(logits)
        weights.append(jnp.exp(log_weight))
        logits = logits + _log1mexp(log_weight)
    return jnp.stack(weights, axis=-1)


def _log1mexp(x: Array) -> Array:
    """log(1 - exp(x)) for x <= 0, accurate at both ends; the gradient stays bounded near x = 0."""
    small = x < np.log(0.5)
    far = jnp.log1p(-jnp.exp(jnp.where(small, x, -1.0)))
    # Rounding may have made x positive.
    rest = jnp.maximum(-jnp.expm1(jnp.where(small, -1.0, x)), 0.0)
    bounded = jnp.log(rest + 1e-7)
    near = bounded + jax.lax.stop_gradient(jnp.log(rest) - bounded)
    return jnp.where(small, far, near)


def _starts(count: int, window: int) -> np.ndarray:
    """Index of the first item of the window around each of ``count`` items in a line."""
    return np.clip(np.arange(count) - window // 2, 0, count - window)


def _window_columns(count: int, window: int) -> np.ndarray:
    """``[count, window, count]``: True at (q, b, c) where place b of item q's window is item c."""
    inside = _starts(count, window)[:, None] + np.arange(window)
    return inside[:, :, None] == np.arange(count)


def _self_positions(rows: int, columns: int, window: int) -> np.ndarray:
    """``[rows, columns, window, window]``: True where an item's window holds the item itself."""
    vertically, horizontally = (
        np.arange(count)[:, None] == _starts(count, window)[:, None] + np.arange(window)
        for count in (rows, columns)
    )
    return vertically[:, None, :, None] & horizontally[None, :, None, :]


def _slow_batch_norm(
    x: Array, train: bool, axis_name: str | None, dtype: DTypeLike, name: str
) -> Array:
    """BatchNorm with momentum 0.999 and initial scales max(|N(0, 2 / (9 * channels))|, 0.025)."""
    return batch_norm(
        x,
        train=train,
        axis_name=axis_name,
        dtype=dtype,
        momentum=0.999,
        scale_init=_positive_normal,
        name=name,
    )


def _positive_normal(key: Array, shape: tuple[int, ...], dtype: DTypeLike = jnp.float32) -> Array:
    scale = (2 / (9 * shape[0])) ** 0.5 * jax.random.normal(key, shape, dtype)
    return jnp.maximum(jnp.abs(scale), 0.025)
