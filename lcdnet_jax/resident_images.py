"""Training images in device memory, and batches that the jitted step draws from them.

    images = ResidentImages.from_arrays(arrays)  # NumPy arrays in host memory
    images = jax.device_put(images, replicated)
    batch = draw(images, step, seed=0, crop=128, augment=True, batch_size=16)  # under jit

Pass ``images`` to a jitted function as an argument. If the function captures them, they become a
constant that is compiled into the program.
"""

from collections.abc import Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import struct
from jax import Array

from lcdnet_jax import image_io
from lcdnet_jax.messages import format_count
from lcdnet_jax.ops import TWO_VIEW_CHANNELS

#: Pixels in a row of the storage. With whole pixels in a row, one gather takes all channels of a
#: pixel. 128 pixels fill the lanes of a TPU and waste little memory at the end of small images.
ROW_PIXELS = 128

# Two random streams, folded into the seed first. The training step folds step numbers into the same
# key. Both constants are above every step number, so no key is used twice. Changing a constant
# changes every training run.
_ORDER, _PLACE = np.uint32(0xD0000000), np.uint32(0xD0000001)


class ResidentImages(struct.PyTreeNode):
    """Images of any size, and the tiles from which crops are drawn.

    A pair is stored as one image: the channels of the clean image, then those of the degraded one.

    Attributes:
        pixels: ``[rows, ROW_PIXELS * depth]`` uint8 or uint16, the pixels of each image in
            row-major order. Each image starts in a new row. Two axes keep all indices within int32
            for data sets over 2 GB.
        table: ``[tiles, 6]`` int32: first row in ``pixels`` and width of the image, then top, left,
            height and width of the tile.
        clean_channels: Channels of the clean image.
        longest_side: Largest height or width of all images, pixels.
    """

    pixels: Array | np.ndarray
    table: Array | np.ndarray
    clean_channels: int = struct.field(pytree_node=False)
    longest_side: int = struct.field(pytree_node=False)

    def __len__(self) -> int:
        """Number of tiles, which is the number of examples in an epoch."""
        return self.table.shape[0]

    @property
    def depth(self) -> int:
        """Channels of a pixel, of the clean image and, in pairs, of the degraded one."""
        return self.pixels.shape[1] // ROW_PIXELS

    @property
    def two_views(self) -> bool:
        """Whether degraded images hold the left and right view of a dual-pixel camera."""
        return self.depth - self.clean_channels == TWO_VIEW_CHANNELS

    @classmethod
    def from_arrays(
        cls,
        images: Sequence[np.ndarray],
        *,
        degraded: Sequence[np.ndarray] | None = None,
        tiles: np.ndarray | None = None,
    ) -> "ResidentImages":
        """Copies images into one array in host memory.

        Args:
            images: Images ``[H, W]`` or ``[H, W, C]``, all uint8 or all uint16, with the same C.
            degraded: For pairs, the degraded image of each, of the same size and channels; or with
                6 channels, the left and right view, if the clean images have 3.
            tiles: ``[tiles, 5]`` integers: index of the image, then top, left, height and width of
                a region from which crops are drawn. All tiles are equally likely. None uses each
                whole image as a tile.

        Returns:
            The images with NumPy arrays.

        Raises:
            ValueError: If there are no images, or images or tiles have another shape or type.
        """
        halves = [_with_channels(images, "images")]
        if degraded is not None:
            halves.append(_with_channels(degraded, "degraded"))
            _check_halves(*halves)
        dtypes = sorted({str(image.dtype) for half in halves for image in half})
        if dtypes not in (["uint8"], ["uint16"]):
            raise ValueError(
                f"images have dtype {', '.join(dtypes)}; give all as uint8 or all as uint16 "
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
        """Wraps pixels that are already in the layout of ``pixels``, without copy or check.

        Args:
            pixels: As the attribute.
            starts: ``[images]``, first row of each image.
            sides: ``[images, 2]``, height and width of each image.
            tiles: ``[tiles, 5]``, as for :meth:`from_arrays`.
            clean_channels: As the attribute.

        Returns:
            The images with NumPy arrays.
        """
        image = tiles[:, 0]
        table = np.column_stack([starts[image], sides[image, 1], tiles[:, 1:]]).astype(np.int32)
        return cls(pixels, table, clean_channels, int(sides[image].max()))


class Draws(NamedTuple):
    """Random choices of ``b`` examples.

    Attributes:
        tile: ``[b]`` int32, index of the tile.
        place: ``[b, 2]`` float32 in [0, 1), position of the crop from the first possible row and
            column to the last.
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
    """Draws the batch of a step, or a part of it: random crops with augmentation.

    The result is a pure function of seed, step and position in the global batch. It has the same
    distribution as the batches of ``input_pipeline.TrainDataset``, but other random numbers.

    Under ``jax.jit``, with ``images`` replicated and the result sharded over the devices, each
    device cuts its own part without communication. Under ``jax.pmap`` each device passes its own
    ``first``.

    Args:
        images: Images to draw from.
        step: Step number from 0, may be traced. ``(step + 1) * batch_size`` must be below 2^31.
        seed: Seed of the run.
        crop: Side of the crops, pixels. Smaller tiles are padded by reflection.
        augment: Whether to flip rows, flip columns and transpose, each with probability 1/2. For
            dual-pixel views, a flip of the columns exchanges the views, and nothing is transposed.
        batch_size: Number of examples in the global batch.
        first: Position in the global batch of the first example to draw; may be traced.
        count: Number of examples to draw; None draws ``batch_size``.

    Returns:
        "clean" ``[count, crop, crop, C]`` float32 in [0, 1]; "mask" ``[count]`` float32, all 1;
        and, for pairs, "degraded" like "clean" (6 channels for two views).

    Raises:
        ValueError: If the crop is larger than both sides of every image.
    """
    if crop > images.longest_side:
        raise ValueError(
            f"crop {crop} is larger than every image, so that every example would be padded on "
            f"both sides; use at most {images.longest_side}, or larger images"
        )
    chosen = draw_choices(
        len(images),
        step,
        seed=seed,
        augment=augment,
        batch_size=batch_size,
        first=first,
        count=count,
    )
    pixels = jax.vmap(lambda one: _cut(images, one, crop))(chosen)
    # A lookup table, because division on accelerators may differ in the last bit.
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


def draw_choices(
    tiles: int,
    step: Array | int,
    *,
    seed: int,
    augment: bool,
    batch_size: int,
    first: Array | int = 0,
    count: int | None = None,
) -> Draws:
    """Draws the random choices of :func:`draw`.

    Example j of the global batch k of B examples has number ``i = k B + j``. With n tiles it
    belongs to epoch ``i // n`` and uses tile ``i % n`` of the random permutation of that epoch.

    Args:
        tiles: Number of tiles, n.
        step: Step number from 0, may be traced.
        seed: Seed of the run.
        augment: Whether crops are flipped and transposed.
        batch_size: Number of examples in the global batch.
        first: Position in the global batch of the first example; may be traced.
        count: Number of examples; None draws ``batch_size``.

    Returns:
        The choices of ``count`` examples.
    """
    count = batch_size if count is None else count
    start = jnp.asarray(step, jnp.int32) * batch_size + first
    numbers = start + jnp.arange(count, dtype=jnp.int32)
    order, place = (jax.random.fold_in(jax.random.key(seed), stream) for stream in (_ORDER, _PLACE))

    def permutation(epoch: Array) -> Array:
        return jax.random.permutation(jax.random.fold_in(order, epoch), tiles)

    def uniform(number: Array) -> Array:
        return jax.random.uniform(jax.random.fold_in(place, number), (5,), jnp.float32)

    # Largest number of epochs that ``count`` consecutive examples can belong to.
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
    """Cuts one example, ``[crop, crop, depth]``, in the stored dtype."""
    row, image_width, *tile = jnp.asarray(images.table)[chosen.tile]
    corner, size = jnp.stack(tile[:2]), jnp.stack(tile[2:])
    free = jnp.maximum(size - crop, 0)
    offset = (chosen.place * (free + 1).astype(jnp.float32)).astype(jnp.int32)
    corner = corner + jnp.minimum(offset, free)  # the product may round up
    flip_rows, flip_columns, transpose = chosen.turns
    rows = corner[0] + _reflect(crop, size[0], flip=flip_rows)
    columns = corner[1] + _reflect(crop, size[1], flip=flip_columns)
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


def _reflect(crop: int, size: Array, *, flip: Array) -> Array:
    """Computes ``[crop]`` positions along a side, reflected as by ``np.pad(mode="reflect")``.

    They ascend, or descend with ``flip``, and are reflected if the side is shorter than the crop.
    """
    position = jnp.arange(crop, dtype=jnp.int32)
    position = jnp.where(flip, crop - 1 - position, position)
    period = jnp.maximum(2 * (size - 1), 1)
    position = position % period
    return jnp.minimum(position, period - position)


def _with_channels(images: Sequence[np.ndarray], name: str) -> list[np.ndarray]:
    """Checks images and gives all of them three axes, ``[H, W, C]``, with equal C."""
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
            f"got {format_count(len(clean), 'clean image')} and "
            f"{format_count(len(degraded), 'degraded image')}; give as many degraded as clean ones"
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
            f"clean images have {format_count(channels[0], 'channel')}, degraded ones "
            f"{channels[1]}; give both the same number, or 3 and {TWO_VIEW_CHANNELS} for two views"
        )


def _check_tiles(tiles: np.ndarray, sides: np.ndarray) -> None:
    """Raises ValueError for tiles that reach outside their image."""
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
            f"tiles[{number}] is {tiles[number].tolist()}, which is not inside an image; needs "
            f"number of the image (0 to {len(sides) - 1}), top, left, height, width"
        )
