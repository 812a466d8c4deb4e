"""Restorer: restores images of any size with a trained network."""

import pathlib
import warnings
from collections.abc import Callable, Iterator, Sequence
from typing import Any, overload

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import DTypeLike
from PIL import Image

from lcdnet_jax import image_io, networks, value_rules
from lcdnet_jax import weights as weights_lib
from lcdnet_jax.inference import self_ensemble, tiling
from lcdnet_jax.inference.picture import Picture, check_image, convert_dtype
from lcdnet_jax.inference.pixel_range import PixelRangeWarning, describe_range
from lcdnet_jax.typing import Variables
from lcdnet_jax.weights import pretrained

# Default for the largest image that is restored whole: 1536 x 1024 pixels with padding. The
# published SADNet needs 4 GB for it (2.6 kB per pixel; LCDNet `tiny` and SADNet `small` need 0.7 kB
# per pixel, by XLA's memory plans on the CPU).
MAX_PIXELS = 1536 * 1024

_Transform = Callable[[np.ndarray], np.ndarray]


class Restorer:
    """Restores images of any size with one network, whole or in tiles.

    A whole image is padded by reflection at the bottom and right to one of a few sizes (see
    ``bucket``) and the result is cropped, so that images of many sizes share a few compiled
    programs. At the top and left the network uses its own padding (most often zeros). At the bottom
    and right it sees the reflected image, unless the size needs no padding. A network with
    ``global_means`` would see the padding in every pixel. Its whole images are padded to its stride
    only, with zeros if the network pads so, and each padded size is compiled.

    All tiles share one compiled program, and device memory does not grow with the image. The host
    holds the image, the result and a band of ``tile`` rows (columns, for a wide image) in float32.
    If the receptive field of a network is within ``overlap``, and ``tile`` and ``bucket`` are
    multiples of ``tiling.STRIDE``, tiles give the same result as the whole image. A network with
    means over the image gives another result, which may be better or worse. Tiles and
    ``local_pool`` are closer to the crops that the network was trained on.

    A restorer can be pickled, for example for a pool of processes. It then holds its variables as
    NumPy arrays and compiles again where it is used.

    Args:
        module: A network of ``lcdnet_jax.networks``.
        variables: Its variables, as ``module.init`` or a checkpoint gives them.
        tile: Side of the square tiles in pixels, at least ``tiling.STRIDE`` and preferably a
            multiple of it. A side of the image of at most ``tile`` pixels is not split. It is
            padded beyond ``tile`` only as far as ``overlap`` needs. None restores images of up to
            ``max_pixels`` whole, and larger ones with ``tiling.TILE``.
        overlap: Pixels, at least 0, that are discarded at the edges of tiles inside the image. Next
            to them, tiles blend over ``tiling.RAMP`` pixels. None means the network's
            ``tile_overlap``, which is 64, or 96 for the U-Net. With it, tiles and whole images
            agree to 2e-3 for the networks that docs/inference.md lists: SADNet, DnCNN, the U-Net.
        max_pixels: Number of pixels, with padding and at the size of the result, up to which an
            image is restored whole if ``tile`` is None. None means no limit.
        bucket: Sides are padded to a multiple of this many pixels. None pads to the next of 64, 96,
            128, 192, 256, 384, 512, 768, ..., which needs fewer programs but more computation than
            64. Not for whole images of a network with ``global_means``.
        tile_batch: Tiles per call of the network, at least 1. The last batch is filled up.
        ensemble: Whether to return the self-ensemble: the mean of the results for all eight
            orientations of the image (four for networks of two views, see
            ``input_pipeline.tf_ops.orient``). It takes eight times the computation.
        strength: How much of the result is used, from 0 to 1: the image plus ``strength`` times
            the change. 0 gives the pixels of the image, 1 the result. Below 1 only for networks
            that neither enlarge nor take two views.
        local_pool: Side of windows in pixels. Means over the image become means over such windows,
            in networks with this field (LCDNet, NAFNet). None keeps the module's value.
        dtype: Compute type, float32 or bfloat16. None keeps the module's value.
        device: A JAX device, or a name such as "cpu" or "gpu:1". None means JAX's default.

    Raises:
        ValueError: If ``tile`` is too small for ``overlap``, the network has no local means, or
            an option has a value out of its range.
        TypeError: If ``module`` does not derive from ``lcdnet_jax.networks.RestorationNetwork``.
    """

    def __init__(
        self,
        module: networks.RestorationNetwork,
        variables: Variables,
        *,
        tile: int | None = None,
        overlap: int | None = None,
        max_pixels: int | None = MAX_PIXELS,
        bucket: int | None = None,
        tile_batch: int = 1,
        ensemble: bool = False,
        strength: float = 1.0,
        local_pool: int | None = None,
        dtype: DTypeLike | None = None,
        device: jax.Device | str | None = None,
    ):
        networks.check_module(module)
        if overlap is None:
            overlap = module.tile_overlap
        for name, value, least in (
            ("tile", tile, tiling.STRIDE),
            ("overlap", overlap, 0),
            ("max_pixels", max_pixels, 1),
            ("bucket", bucket, 1),
            ("tile_batch", tile_batch, 1),
        ):
            _check_integer(name, value, least)
        _check_strength(strength, module)
        if tile is not None or max_pixels is not None:
            tiling.check(tiling.TILE if tile is None else tile, overlap)
        if local_pool is not None:
            if "local_pool" not in networks.field_names(module):
                raise ValueError(
                    f"{type(module).__name__} has no local_pool; leave it None"
                    + (
                        ", or use tile to show the network smaller windows"
                        if module.global_means
                        else ", as the network has no means over the image"
                    )
                )
            module = module.clone(local_pool=local_pool)
        if dtype is not None:
            if dtype not in ("float32", "bfloat16", jnp.float32, jnp.bfloat16):
                raise ValueError(f"dtype must be float32 or bfloat16, got {dtype!r}")
            if "dtype" not in networks.field_names(module):
                raise ValueError(f"{type(module).__name__} has no dtype; leave it None")
            module = module.clone(dtype=jnp.dtype(dtype))
        self.module = module
        self.variables = variables
        self.bucket = bucket
        self.tile = tile
        self.overlap = overlap
        self.max_pixels = max_pixels
        self.tile_batch = tile_batch
        self.ensemble = ensemble
        self.strength = float(strength)
        self._device = _find_device(device)
        self._device_variables: Any = None  # set when the first image is restored
        self._apply = jax.jit(module.apply)

    @classmethod
    def from_checkpoint(
        cls, path: str | pathlib.Path, *, ema: bool = True, step: int | None = None, **options: Any
    ) -> "Restorer":
        """Loads a trained network.

        Args:
            path: Working directory of a training run, a directory that ``lcdnet-jax convert`` or
                ``export`` wrote, or a safetensors file of this library; see ``weights.load``.
            ema: Whether averaged weights (EMA) are used if the checkpoint has them.
            step: Training step to load; None means the newest.
            **options: Options of :class:`Restorer`.

        Returns:
            The restorer.

        Raises:
            CheckpointError, ConfigError, CardError, ValueError: If the path has no usable weights.
        """
        weights = weights_lib.load(path, ema=ema, step=step)
        return cls(weights.module, weights.variables, **options)

    @classmethod
    def from_pretrained(cls, name: str = pretrained.DEFAULT, **options: Any) -> "Restorer":
        """Loads pretrained weights that are installed with the library.

        Args:
            name: Name of the weights, one of ``lcdnet_jax.weights.pretrained.names()``.
            **options: Options of :class:`Restorer`.

        Returns:
            The restorer.

        Raises:
            PretrainedError: If the name is unknown, or the file is missing or damaged. The message
                lists the known names. It is a ValueError.
        """
        return cls.from_checkpoint(pretrained.path(name), **options)

    @property
    def mode(self) -> str:
        """Summary of the options for tables, such as "full" or "tiled 256/64, local 96"."""
        local = self.module.local_pool
        parts = []
        if self.tile is not None:
            parts.append(f"tiled {self.tile}/{self.overlap}")
        elif self.max_pixels is not None:
            parts.append(f"tiled {tiling.TILE}/{self.overlap} above {self.max_pixels} pixels")
        if local is not None:
            parts.append(f"local {local}")
        if self.ensemble:
            parts.append("ensemble")
        if self.strength < 1:
            parts.append(f"strength {self.strength:g}")
        return ", ".join(parts) or "full"

    def with_variables(self, variables: Variables) -> "Restorer":
        """Makes a restorer with other weights that shares the compiled programs.

        Args:
            variables: Variables of the same network, with the same names and shapes.

        Returns:
            A new restorer; this one is not changed.
        """
        return self._copy(variables=variables, _device_variables=None)

    def with_bucket(self, bucket: int | None) -> "Restorer":
        """Makes a restorer with other padding that shares the compiled programs.

        Args:
            bucket: As for :class:`Restorer`.

        Returns:
            A new restorer; this one is not changed.

        Raises:
            ValueError: If ``bucket`` is neither None nor an integer of at least 1.
        """
        _check_integer("bucket", bucket, 1)
        return self._copy(bucket=bucket)

    def _copy(self, **changes: Any) -> "Restorer":
        """Copies this restorer with its compiled programs and changes attributes of the copy."""
        other = object.__new__(type(self))
        other.__dict__.update(self.__dict__, **changes)
        return other

    def __getstate__(self) -> dict[str, Any]:
        """What another process needs: compiled programs and arrays on devices stay here."""
        state = {**self.__dict__, "variables": jax.tree.map(np.asarray, self.variables)}
        del state["_apply"], state["_device_variables"]
        if self._device is not None:  # by its place among the devices of its kind
            platform = self._device.platform
            number = jax.local_devices(backend=platform).index(self._device)
            state["_device"] = f"{platform}:{number}"
        return state

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state, _device=_find_device(state["_device"]), _device_variables=None)
        self._apply = jax.jit(self.module.apply)

    @overload
    def __call__(self, image: np.ndarray | Image.Image) -> np.ndarray: ...

    @overload
    def __call__(self, image: Sequence[np.ndarray | Image.Image]) -> list[np.ndarray]: ...

    def __call__(
        self, image: np.ndarray | Image.Image | Sequence[np.ndarray | Image.Image]
    ) -> np.ndarray | list[np.ndarray]:
        """Restores one image or several.

        Floating-point images are not clipped, neither before nor after the network. Integer results
        are clipped and rounded. For a color network, a gray image is repeated over the channels and
        the mean of the result is returned. A color image whose channels are equal in all visible
        pixels is restored as that gray image, so that no color appears. For a gray network, the
        channels of a color image are restored one by one.

        Alpha is copied. If the network enlarges, alpha is resized by Pillow's bicubic interpolation
        and clipped to its own range. Pixels whose alpha is 0 do not influence the others: the
        network sees colors of visible pixels in their place
        (:func:`~lcdnet_jax.inference.transparency.fill_hidden_colors`). They come back as they
        were. If the network enlarges, they come back with the colors that the network saw.

        Args:
            image: ``[H, W]`` or ``[H, W, C]`` with C = 1 (gray), 2 (gray, alpha), 3 (color) or 4
                (color, alpha); uint8, uint16 or floating point (in [0, 1] as in training), in any
                byte order. For a network of the two views of a dual-pixel camera ``[H, W, 6]``
                (left RGB, right RGB). A PIL image is converted to such an array by
                :func:`lcdnet_jax.image_io.from_pil`. Several images are a list, whose sizes and
                types may differ, or ``[N, H, W, C]``.

        Returns:
            The restored image: a NumPy array of the same shape and dtype, also for a PIL image. If
            the network enlarges, height and width are multiplied by ``module.scale``. Two views
            give ``[H, W, 3]``. A list gives a list, and ``[N, H, W, C]`` a batch.

        Raises:
            ImageError: For another shape, dtype or mode of PIL, for NaN or infinite pixels, or if
                the result has such pixels.

        Warns:
            PixelRangeWarning: If floating-point pixels are far outside of [0, 1], as 0 to 255.
        """
        if isinstance(image, list | tuple):
            return self._restore_each(image)
        image = image_io.to_array(image)
        if image.ndim == 4 and len(image):
            return np.stack(self._restore_each(image))
        return self._restore_one(image)

    def predict(self, image: np.ndarray) -> np.ndarray:
        """Applies the network to one image without the rules for pictures, for scores.

        Channels are never treated as equal or as alpha, ``strength`` does not count, and pixels of
        the result that are not finite are returned.

        Args:
            image: ``[H, W, C]`` floating point, with the channels of the network, or gray or color.

        Returns:
            The result of the network in the same dtype, ``[s H, s W, C]`` for a scale s.

        Raises:
            ImageError: For another shape or dtype, or NaN or infinite pixels.
        """
        colors = check_image(image, self.module)
        if image.dtype.kind == "u" or image.shape[2:] != (colors,):
            raise image_io.ImageError(
                f"expected [H, W, C] floating-point pixels without alpha, got {image.dtype} of "
                f"shape {image.shape}; call the restorer for pictures"
            )
        return self._apply_network(image)

    def _restore_each(
        self, images: Sequence[np.ndarray | Image.Image] | np.ndarray
    ) -> list[np.ndarray]:
        restored = []
        for i, image in enumerate(images):
            try:
                restored.append(self._restore_one(image_io.to_array(image)))
            except image_io.ImageError as error:
                raise image_io.ImageError(f"image {i} of {len(images)}: {error}") from None
        return restored

    def _restore_one(self, image: np.ndarray) -> np.ndarray:
        """Restores one picture in its own type."""
        picture = Picture(image, self.module)
        if message := describe_range(image):
            warnings.warn(message, PixelRangeWarning, stacklevel=3)
        if self.strength == 0:
            return image.copy()
        return picture.finish(self._apply_network(picture.pixels), strength=self.strength)

    def _apply_network(self, pixels: np.ndarray) -> np.ndarray:
        """Restores ``[H, W, C]`` without alpha in its own type, whole or in tiles."""
        with np.errstate(over="ignore", invalid="ignore"):  # the caller checks the result
            if self._is_whole(*pixels.shape[:2]):
                restored = self._predict(pixels[None], self._whole_bucket)[0]
                return convert_dtype(restored, pixels.dtype)
            return self._restore_tiled(pixels)

    @property
    def _scale(self) -> int:
        return self.module.scale

    @property
    def _whole_bucket(self) -> int | None:
        """The bucket of whole images."""
        if not self.module.global_means:
            return self.bucket
        # Mirrored pixels in the place of the network's own zeros would change all means.
        return self.module.stride if self.module.padding == "reflect" else 1

    def _is_whole(self, height: int, width: int) -> bool:
        if self.tile is not None:
            return max(height, width) <= self.tile
        bucket = self._whole_bucket
        frame = tiling.padded_size(height, bucket) * tiling.padded_size(width, bucket)
        return self.max_pixels is None or frame * self._scale**2 <= self.max_pixels

    def _restore_tiled(self, pixels: np.ndarray) -> np.ndarray:
        """Restores ``[H, W, C]`` in tiles, one band after the other along the longer side.

        Only ``pixels`` and the result, both in the type of the image, grow with both sides. Tiles
        are cut from the image, and their weighted sum in float32 covers one band.
        """
        wide = pixels.shape[1] > pixels.shape[0]

        def transpose(x: np.ndarray) -> np.ndarray:
            return x.swapaxes(-3, -2) if wide else x

        pixels = transpose(pixels)
        (height, width), scale = pixels.shape[:2], self._scale
        (tops, row_weights), (lefts, column_weights) = (
            tiling.place_tiles(
                side, tile=self.tile or tiling.TILE, overlap=self.overlap, bucket=self.bucket
            )
            for side in (height, width)
        )
        tile_height, tile_width = row_weights.shape[1], column_weights.shape[1]
        rows = _reflect_indices(height, tops[-1] + tile_height)
        columns = _reflect_indices(width, lefts[-1] + tile_width)
        row_weights = row_weights.repeat(scale, axis=1)
        column_weights = column_weights.repeat(scale, axis=1)
        result = total = np.empty(0)
        for k, top in enumerate(tops):
            band = pixels[np.ix_(rows[top : top + tile_height], columns)]
            tiles = self._restore_tiles(band, lefts, tile_width, transpose)
            for left, weights, tile in zip(lefts, column_weights, tiles, strict=True):
                if not result.size:  # the number of channels is known only now
                    channels = tile.shape[-1]
                    result = np.empty((height * scale, width * scale, channels), pixels.dtype)
                    total = np.zeros(
                        (tile_height * scale, columns.size * scale, channels), np.float32
                    )
                blend = np.multiply.outer(row_weights[k], weights)[..., None]
                total[:, left * scale : (left + tile_width) * scale] += tile * blend
            # The rows before the next band are complete.
            complete = (tops[k + 1] - top if k + 1 < len(tops) else tile_height) * scale
            part = result[top * scale : top * scale + complete]
            part[...] = convert_dtype(total[: len(part), : width * scale], pixels.dtype)
            total[:-complete] = total[complete:]
            total[-complete:] = 0
        return np.ascontiguousarray(transpose(result))

    def _restore_tiles(
        self, band: np.ndarray, lefts: Sequence[int], tile_width: int, transpose: _Transform
    ) -> Iterator[np.ndarray]:
        """Restores the tiles of a band."""
        for k in range(0, len(lefts), self.tile_batch):
            tiles = [
                transpose(band[:, left : left + tile_width])
                for left in lefts[k : k + self.tile_batch]
            ]
            batch = tiles + tiles[-1:] * (self.tile_batch - len(tiles))  # for one program
            yield from map(transpose, self._predict(np.stack(batch), bucket=1)[: len(tiles)])

    def _predict(self, pixels: np.ndarray, bucket: int | None) -> np.ndarray:
        """Runs the network on ``[N, H, W, C]`` of any type and channels; returns float32."""
        x = image_io.to_float(pixels)
        channels, wanted = x.shape[-1], self.module.channels
        if channels == wanted:
            return self._predict_orientations(x, bucket)
        if channels == 1:
            repeated = np.repeat(x, wanted, axis=-1)
            return self._predict_orientations(repeated, bucket).mean(axis=-1, keepdims=True)
        planes = [self._predict_orientations(x[..., c : c + 1], bucket) for c in range(channels)]
        return np.concatenate(planes, axis=-1)

    def _predict_orientations(self, x: np.ndarray, bucket: int | None) -> np.ndarray:
        """Runs the network; with ``ensemble``, returns the mean over the orientations."""
        if self._device_variables is None:
            _check_layers(self.module, self.variables)
            self._device_variables = jax.device_put(self.variables, self._device)
        two_views = self.module.takes_two_views
        total: Any = 0
        orientations = self_ensemble.orientations(two_views=two_views)
        for orientation in orientations if self.ensemble else orientations[:1]:
            oriented = self_ensemble.orient(x, orientation, two_views=two_views)
            height, width = (side * self._scale for side in oriented.shape[1:3])
            padded = pad_to_bucket(oriented, bucket, tile=self.tile, overlap=self.overlap)
            placed = jax.device_put(padded, self._device)
            restored = np.asarray(self._apply(self._device_variables, placed), np.float32)
            total = total + self_ensemble.revert(restored[:, :height, :width], orientation)
        return total / (len(orientations) if self.ensemble else 1)


def pad_to_bucket(
    batch: np.ndarray, bucket: int | None, *, tile: int | None = None, overlap: int = 0
) -> np.ndarray:
    """Pads images by reflection at the bottom and right.

    :func:`lcdnet_jax.inference.tiling.padded_size` computes the size.

    Args:
        batch: Images ``[N, H, W, C]`` of any dtype.
        bucket: Sides are padded to a multiple of this many pixels, or to the next common size if
            it is None.
        tile: Side of the tiles in pixels, or None for whole images.
        overlap: Overlap of the tiles in pixels.

    Returns:
        A copy ``[N, H', W', C]`` of the same dtype.
    """
    rows, columns = (
        _reflect_indices(side, tiling.padded_size(side, bucket, tile=tile, overlap=overlap))
        for side in batch.shape[1:3]
    )
    return batch[:, rows[:, None], columns]


def _reflect_indices(side: int, end: int) -> np.ndarray:
    """Indices that pad a side to ``end`` pixels by reflection."""
    return np.pad(np.arange(side), (0, max(end - side, 0)), mode="reflect")


def _check_layers(module: networks.RestorationNetwork, variables: Variables) -> None:
    """Raises ValueError for weights of another scale, which Flax may accept.

    A network of scale 4 has all layers of the network of scale 2 and one more. Flax would ignore
    the additional layer.
    """
    if module.scale == 1:
        return
    expected, given = (
        {jax.tree_util.keystr(path) for path, _ in jax.tree_util.tree_leaves_with_path(tree)}
        for tree in (networks.abstract_variables(module).get("params"), variables.get("params"))
    )
    if expected != given:
        raise ValueError(
            f"the variables are of another network than this {type(module).__name__} of scale "
            f"{module.scale}, which has {len(expected)} arrays where they have {len(given)}; "
            "create it with the scale and the sizes that they were trained with"
        )


def _check_integer(name: str, value: Any, least: int) -> None:
    """Raises ValueError unless an option is None or an integer of at least ``least``."""
    plain = int(value) if isinstance(value, np.integer) else value
    if value is not None and (wanted := value_rules.integer(least)(plain)):
        raise ValueError(f"{name} must be {wanted}, got {value!r}")


def _check_strength(strength: Any, module: networks.RestorationNetwork) -> None:
    """Raises ValueError for a strength outside of [0, 1], or that the network cannot have."""
    plain = strength.item() if isinstance(strength, np.generic) else strength
    if value_rules.number(0, high=1)(plain):
        raise ValueError(f"strength must be a number from 0 to 1, got {strength!r}")
    if plain < 1 and (module.scale > 1 or module.takes_two_views):
        reason = f"enlarges by {module.scale}" if module.scale > 1 else "takes two views"
        raise ValueError(
            f"{type(module).__name__} {reason}, so its result cannot be mixed with the image; "
            "leave strength 1"
        )


def _find_device(device: jax.Device | str | None) -> jax.Device | None:
    if not isinstance(device, str):
        return device
    platform, colon, number = device.partition(":")
    try:
        if platform and (
            number.isdecimal() or not colon
        ):  # an index of -1 would give the last device
            return jax.local_devices(backend=platform)[int(number or 0)]
        raise ValueError
    except (RuntimeError, ValueError, IndexError):
        found = ", ".join(f"{d.platform}:{d.id}" for d in jax.local_devices())
        raise ValueError(f"no device {device!r}; use one of {found}") from None
