"""Training images in the memory of each device, and batches drawn from them inside the jitted step.

    images = ResidentImages.from_arrays(arrays)      # NumPy; placing them on devices is left to you
    images = jax.device_put(images, replicated)
    batch = draw(images, step, seed=0, crop=128, augment=True, batch_size=16)    # under jit

Give ``images`` to a jitted function as an argument: what it captures instead becomes a constant of
the program, compiled into it.
"""

from collections.abc import Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import struct
from jax import Array

from lcdnet_jax import image_io
from lcdnet_jax.ops import TWO_VIEW_CHANNELS

# Pixels of a row of the storage. Rows of whole pixels let a gather take all channels of a pixel at
# once; 128 of them fill the lanes of a TPU, and little is lost at the end of small images.
ROW_PIXELS = 128

# Two streams of random numbers, folded into the seed first. Both are above every step, which is
# what prepare.py folds there, so no key is used twice. Changing one changes every training run.
_ORDER, _PLACE = np.uint32(0xD0000000), np.uint32(0xD0000001)


class ResidentImages(struct.PyTreeNode):
    """Images of any sizes, and the parts of them from which crops are taken.

    A pair is one image, the channels of its clean half before those of its degraded half.

    Attributes:
        pixels: ``[rows, ROW_PIXELS * depth]`` uint8 or uint16; the pixels of each image row by
            row, beginning with a new row of the storage. Two axes, so that no index exceeds int32
            in sets over 2 GB.
        table: ``[tiles, 6]`` int32; first row in ``pixels`` and width of the image, then top, left,
            height and width of the tile in it.
        clean_channels: Channels of the clean half.
        longest_side: The largest height or width of all images.
    """

    pixels: Array | np.ndarray
    table: Array | np.ndarray
    clean_channels: int = struct.field(pytree_node=False)
    longest_side: int = struct.field(pytree_node=False)

    def __len__(self) -> int:
        """Number of tiles, which is the length of an epoch."""
        return self.table.shape[0]

    @property
    def depth(self) -> int:
        """Channels of a pixel: clean, then degraded if there are pairs."""
        return self.pixels.shape[1] // ROW_PIXELS

    @property
    def two_views(self) -> bool:
        """Whether the degraded halves hold the left and right view of a dual-pixel camera."""
        return self.depth - self.clean_channels == TWO_VIEW_CHANNELS

    @classmethod
    def from_arrays(
        cls,
        images: Sequence[np.ndarray],
        *,
        degraded: Sequence[np.ndarray] | None = None,
        tiles: np.ndarray | None = None,
    ) -> "ResidentImages":
        """Copies images into one array in the memory of the host.

        Args:
            images: ``[H, W]`` or ``[H, W, C]`` each, all uint8 or all uint16, of as many channels.
            degraded: For pairs, the degraded half of each image: as many channels; or 6, the left
                and right view, where the clean half has 3.
            tiles: ``[tiles, 5]`` integers: number of the image, top, left, height, width of the
                parts from which crops are taken, each equally often. None = the whole images.

        Raises:
            ValueError: No images, or images or tiles of another kind.
        """
        halves = [_with_channels(images, "images")]
        if degraded is not None:
            halves.append(_with_channels(degraded, "degraded"))
            _check_halves(*halves)
        dtypes = sorted({str(image.dtype) for half in halves for image in half})
        if dtypes not in (["uint8"], ["uint16"]):
            raise ValueError(
                f"images of dtype {', '.join(dtypes)}; give all as uint8 or all as uint16 "
                "(lcdnet_jax.image_io.to_uint16 turns the former into the latter)"
            )
        sides = np.array([image.shape[:2] for image in halves[0]])
        depth = sum(half[0].shape[2] for half in halves)
        counts = sides.prod(axis=1)
        rows = -(-counts // ROW_PIXELS)
        starts = np.cumsum(rows) - rows
        pixels = np.zeros((rows.sum(), ROW_PIXELS * depth), dtypes[0])
        for start, count, *parts in zip(starts, counts, *halves, strict=True):
            flat = pixels[start:].reshape(-1, depth)
            np.concatenate(parts, axis=2, out=flat[:count].reshape(*parts[0].shape[:2], depth))
        if tiles is None:
            tiles = np.array([(k, 0, 0, *side) for k, side in enumerate(sides)])
        _check_tiles(tiles, sides)
        return cls.from_rows(
            pixels, starts=starts, sides=sides, tiles=tiles, clean_channels=halves[0][0].shape[2]
        )

    @classmethod
    def from_rows(
        cls,
        pixels: np.ndarray,
        *,
        starts: np.ndarray,
        sides: np.ndarray,
        tiles: np.ndarray,
        clean_channels: int,
    ) -> "ResidentImages":
        """Takes pixels that are stored as ``pixels`` already, without copying or checking them.

        Args:
            pixels: See the attribute.
            starts: ``[images]``; first row of each image.
            sides: ``[images, 2]``; height and width of each.
            tiles: ``[tiles, 5]``, see ``from_arrays``.
            clean_channels: See the attribute.
        """
        image = tiles[:, 0]
        table = np.column_stack([starts[image], sides[image, 1], tiles[:, 1:]]).astype(np.int32)
        return cls(pixels, table, clean_channels, int(sides[image].max()))


class Draws(NamedTuple):
    """What is random about ``b`` examples.

    Attributes:
        tile: ``[b]`` int32.
        place: ``[b, 2]`` float32 in [0, 1), from the first possible row and column to the last.
        turns: ``[b, 3]`` bool: flip the rows, flip the columns, then transpose.
    """

    tile: Array
    place: Array
    turns: Array


def draw(
    images: ResidentImages,
    step: Array | int,
    *,
    seed: int,
    crop: int,
    augment: bool,
    batch_size: int,
    first: Array | int = 0,
    count: int | None = None,
) -> dict[str, Array]:
    """The batch of a step, or a part of it: random crops, as ``input_pipeline.TrainDataset`` does.

    A pure function of (seed, step, place in the global batch). Of the same distribution as the
    batches of ``TrainDataset``, from other random numbers.

    Under ``jax.jit`` with ``images`` on every device and the result constrained to be split over
    them, each device cuts its own part and none talks to another. Under ``jax.pmap`` each device
    gives its own ``first``.

    Args:
        images: Where crops come from.
        step: From 0, may be traced; ``(step + 1) * batch_size`` must stay below 2^31.
        seed: Of the run.
        crop: Side of the crops, pixels. Smaller tiles are extended by reflection.
        augment: Whether crops are flipped and transposed, each with probability 1/2. Two views are
            exchanged by a flip of the columns, and never transposed.
        batch_size: Examples of the global batch.
        first: Place in the global batch of the first example wanted; may be traced.
        count: Number of examples wanted; None = ``batch_size``.

    Returns:
        "clean" ``[count, crop, crop, C]`` float32 in [0, 1], "mask" ``[count]`` float32 ones and,
        for pairs, "degraded" like "clean" (of two views with 6 channels).

    Raises:
        ValueError: A crop larger than both sides of every image.
    """
    if crop > images.longest_side:
        raise ValueError(
            f"crop {crop} is larger than every image, so that every example would be padded on "
            f"both sides; use at most {images.longest_side}, or larger images"
        )
    chosen = draws(
        len(images),
        step,
        seed=seed,
        augment=augment,
        batch_size=batch_size,
        first=first,
        count=count,
    )
    pixels = jax.vmap(lambda one: _cut(images, one, crop))(chosen)
    # A table, because accelerators may divide with an error in the last bit.
    levels = jnp.asarray(
        image_io.to_float(np.arange(jnp.iinfo(pixels.dtype).max + 1, dtype=pixels.dtype))
    )
    values = levels.at[pixels].get(mode="promise_in_bounds")
    batch = {
        "clean": values[..., : images.clean_channels],
        "mask": jnp.ones(values.shape[0], jnp.float32),
    }
    if images.depth > images.clean_channels:
        batch["degraded"] = values[..., images.clean_channels :]
    return batch


def draws(
    tiles: int,
    step: Array | int,
    *,
    seed: int,
    augment: bool,
    batch_size: int,
    first: Array | int = 0,
    count: int | None = None,
) -> Draws:
    """The random numbers of ``draw``, for ``tiles`` tiles.

    Example number i of the whole training (example j of the global batch k of B has i = k B + j)
    belongs to epoch i // n and shows the tile at place i % n of that epoch's permutation.
    """
    count = batch_size if count is None else count
    start = jnp.asarray(step, jnp.int32) * batch_size + first
    numbers = start + jnp.arange(count, dtype=jnp.int32)
    order, place = (jax.random.fold_in(jax.random.key(seed), stream) for stream in (_ORDER, _PLACE))

    def permutation(epoch: Array) -> Array:
        return jax.random.permutation(jax.random.fold_in(order, epoch), tiles)

    def uniform(number: Array) -> Array:
        return jax.random.uniform(jax.random.fold_in(place, number), (5,), jnp.float32)

    # As many epochs as so many examples can touch, wherever the first stands in its epoch.
    touched = (count + tiles - 2) // tiles + 1
    epoch = start // tiles
    orders = jax.vmap(permutation)(epoch + jnp.arange(touched, dtype=jnp.int32))
    random = jax.vmap(uniform)(numbers)
    return Draws(
        tile=orders[numbers // tiles - epoch, numbers % tiles],
        place=random[:, :2],
        turns=random[:, 2:] < (0.5 if augment else 0.0),
    )


def _cut(images: ResidentImages, chosen: Draws, crop: int) -> Array:
    """One example, ``[crop, crop, depth]`` of the stored dtype."""
    row, image_width, *tile = jnp.asarray(images.table)[chosen.tile]
    corner, size = jnp.stack(tile[:2]), jnp.stack(tile[2:])
    free = jnp.maximum(size - crop, 0)
    offset = (chosen.place * (free + 1).astype(jnp.float32)).astype(jnp.int32)
    corner = corner + jnp.minimum(offset, free)  # the product may round up
    flip_rows, flip_columns, transpose = chosen.turns
    rows = corner[0] + _reflected(crop, size[0], flip=flip_rows)
    columns = corner[1] + _reflected(crop, size[1], flip=flip_columns)
    number = rows[:, None] * image_width + columns[None, :]  # of each pixel in its image
    if not images.two_views:
        number = jnp.where(transpose, number.T, number)
    place = jnp.stack([row + number // ROW_PIXELS, number % ROW_PIXELS * images.depth], axis=-1)
    pixels = jax.lax.gather(
        jnp.asarray(images.pixels),
        place,
        jax.lax.GatherDimensionNumbers(
            offset_dims=(2,), collapsed_slice_dims=(0,), start_index_map=(0, 1)
        ),
        slice_sizes=(1, images.depth),
        mode="promise_in_bounds",
    )
    if images.two_views:
        clean, views = pixels[..., :-TWO_VIEW_CHANNELS], pixels[..., -TWO_VIEW_CHANNELS:]
        exchanged = jnp.concatenate([clean, views[..., 3:], views[..., :3]], axis=-1)
        pixels = jnp.where(flip_columns, exchanged, pixels)
    return pixels


def _reflected(crop: int, size: Array, *, flip: Array) -> Array:
    """``[crop]`` positions along a side of ``size`` pixels, as ``np.pad(mode="reflect")`` has them.

    They go up, or down where flipped, and back and forth where the side is too short.
    """
    position = jnp.arange(crop, dtype=jnp.int32)
    position = jnp.where(flip, crop - 1 - position, position)
    period = jnp.maximum(2 * (size - 1), 1)
    position = position % period
    return jnp.minimum(position, period - position)


def _with_channels(images: Sequence[np.ndarray], name: str) -> list[np.ndarray]:
    """``[H, W, C]`` each, with equal C."""
    for number, image in enumerate(images):
        if image.ndim not in (2, 3) or not image.size:
            raise ValueError(
                f"{name}[{number}] has the shape {image.shape}; needs [H, W] or [H, W, C], "
                "none of them 0"
            )
    images = [image if image.ndim == 3 else image[..., None] for image in images]
    channels = sorted({image.shape[2] for image in images})
    if not channels:
        raise ValueError(f"{name} is empty; give at least one image")
    if len(channels) > 1:
        raise ValueError(
            f"{name} have {', '.join(map(str, channels))} channels; convert them to as many "
            "(lcdnet_jax.image_io.convert_channels)"
        )
    return images


def _check_halves(clean: Sequence[np.ndarray], degraded: Sequence[np.ndarray]) -> None:
    if len(clean) != len(degraded):
        raise ValueError(
            f"{len(clean)} images, but {len(degraded)} degraded ones; give one for each"
        )
    for number, (one, other) in enumerate(zip(clean, degraded, strict=True)):
        if one.shape[:2] != other.shape[:2]:
            raise ValueError(
                f"images[{number}] is {one.shape[0]}x{one.shape[1]}, but its degraded half "
                f"{other.shape[0]}x{other.shape[1]}; crop or resize them to equal sizes, or draw "
                "pairs of different size on the host (config.data.where)"
            )
    channels = clean[0].shape[2], degraded[0].shape[2]
    if channels != (3, TWO_VIEW_CHANNELS) and channels[0] != channels[1]:
        raise ValueError(
            f"images have {channels[0]} channels, but degraded ones {channels[1]}; give both as "
            f"many, or 3 and {TWO_VIEW_CHANNELS} for two views"
        )


def _check_tiles(tiles: np.ndarray, sides: np.ndarray) -> None:
    """Refuses what would be read from another image."""
    if tiles.ndim != 2 or tiles.shape[1] != 5 or not len(tiles):
        raise ValueError(
            f"tiles have the shape {tiles.shape}; needs [tiles, 5]: number of the image, top, "
            "left, height, width"
        )
    image, corners, sizes = tiles[:, 0], tiles[:, 1:3], tiles[:, 3:]
    good = (image >= 0) & (image < len(sides))
    inside = (corners >= 0) & (sizes > 0) & (corners + sizes <= sides[np.where(good, image, 0)])
    good &= inside.all(axis=1)
    if not good.all():
        number = int(np.argmin(good))
        raise ValueError(
            f"tiles[{number}] is {tiles[number].tolist()}, which is no part of one of the "
            f"{len(sides)} images; needs number of the image, top, left, height, width"
        )
