"""Restorer: restores images of any size with a trained network."""

import contextlib
import functools
import os
import pathlib
import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, Literal, overload

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import DTypeLike
from PIL import Image

from lcdnet_jax import image_io, networks
from lcdnet_jax import weights as weights_lib
from lcdnet_jax.inference import tiling
from lcdnet_jax.inference.options import (
    check_boolean,
    check_callable,
    check_integer,
    check_layers,
    check_strength,
    configure_module,
    find_device,
)
from lcdnet_jax.inference.picture import Picture, check_image
from lcdnet_jax.inference.pixel_range import PixelRangeWarning, describe_range
from lcdnet_jax.inference.predictor import Predictor
from lcdnet_jax.inference.program import PlacedVariables, Program, find_devices
from lcdnet_jax.inference.window_layout import WindowLayout
from lcdnet_jax.messages import is_device_out_of_memory, shorten
from lcdnet_jax.ops.precision import avoid_slow_type
from lcdnet_jax.typing import Variables
from lcdnet_jax.weights import pretrained

#: Default for the largest image that is restored whole: 1536 x 1024 pixels with padding. The
#: published SADNet needs 4 GB for it (2.6 kB per pixel; LCDNet ``tiny`` needs 0.45 and SADNet
#: ``small`` 0.24 kB per pixel, by XLA's memory plans on the CPU).
MAX_PIXELS = 1536 * 1024

Progress = Callable[[int, int], None]

_Transform = Callable[[np.ndarray], np.ndarray]


class ComputeTypeWarning(UserWarning):
    """A network computes in float32, because bfloat16 is slower on a CPU."""


class MemoryWarning(UserWarning):
    """The device's memory was too small for the windows of an image; smaller ones are used."""


class Restorer:
    """Restores images of any size with one network, whole or in tiles.

    A whole image is padded by reflection at the bottom and right to one of a few sizes (see
    ``bucket``) and the result is cropped, so that images of many sizes share a few compiled
    programs. At the top and left the network uses its own padding (most often zeros). At the bottom
    and right it sees the reflected image, unless the size needs no padding. A network with
    ``global_means`` would see the padding in every pixel. Its whole images are padded to its stride
    only, with zeros if the network pads so, and each padded size is compiled.

    Larger images are restored in windows, whose size :mod:`~lcdnet_jax.inference.windows` chooses
    for each image size, or in tiles of the size ``tile``. All tiles of an image share one compiled
    program, and device memory does not grow with the image. The host holds the image, the result
    and a band of one row (column, for a wide image) of tiles in float32. If the receptive field of
    a network is within ``overlap``, and ``tile`` and ``bucket`` are multiples of
    :data:`tiling.STRIDE`, tiles give the same result as the whole image. A network with
    means over the image gives another result, which may be better or worse. Tiles and
    ``local_pool`` are closer to the crops that the network was trained on.

    A restorer can be pickled, for example for a pool of processes. It then holds its variables as
    NumPy arrays and compiles again where it is used.

    Args:
        module: A network of ``lcdnet_jax.networks``.
        variables: Its variables, as ``module.init`` or a checkpoint gives them.
        tile: Side of the square tiles in pixels, at least :data:`tiling.STRIDE` and preferably a
            multiple of it. A side of the image of at most ``tile`` pixels is not split. It is
            padded beyond ``tile`` only as far as ``overlap`` needs. None restores images of up to
            ``max_pixels`` whole, and larger ones in windows that fit the image, of up to
            the network's ``window_pixels`` divided by its scale.
        overlap: Pixels, at least 0, that are discarded at the edges of tiles inside the image. Next
            to them, tiles blend over :data:`tiling.RAMP` pixels. None means the network's
            ``tile_overlap``: 64, 32 for LCDNet, 96 for the U-Net, 85 for SADNet, 184 for its preset
            "fast". With it, tiles and whole images agree to 2e-3 for the networks that
            docs/explanations/tiling.md lists: SADNet, DnCNN, the U-Net.
        max_pixels: Number of pixels, with padding and at the size of the result, up to which an
            image is restored whole if ``tile`` is None. None means no limit. Less than
            :data:`windows.MOST_PIXELS` also makes windows smaller, but not so small that more than
            about five pixels are computed per pixel of the result (``windows.limit_pixels``).
            ``tile`` may be smaller.
        bucket: Sides are padded to a multiple of this many pixels. None pads to the next of 64, 96,
            128, 192, 256, 384, 512, 768, ..., which needs fewer programs but more computation than
            64. Not for whole images of a network with ``global_means``.
        tile_batch: Windows in one call of the network on each device, at least 1: tiles, or whole
            images of equal padded size if several are given. An incomplete call is filled up. None
            means 1 on a CPU, and on other devices as many as have a megapixel together, up to 16.
            The number changes results by rounding errors.
        ensemble: Whether to return the self-ensemble: the mean of the results for all eight
            orientations of the image (four for networks of two views, see
            ``input_pipeline.tf_ops.orient``). It takes eight times the computation.
        strength: How much of the result is used, from 0 to 1: the image plus ``strength`` times
            the change. 0 gives the pixels of the image, 1 the result. Below 1 only for networks
            that neither enlarge nor take two views.
        local_pool: Side of windows in pixels. Means over the image become means over such windows,
            in networks with this field (LCDNet, NAFNet). None keeps the module's value.
        dtype: Compute type, float32 or bfloat16. None keeps the module's value. On a CPU the
            network computes in float32 instead of bfloat16, which is slower there, and a
            :class:`ComputeTypeWarning` says so.
        device: The only device, a JAX device or a name such as "cpu" or "gpu:1". None means all
            devices of this process: tiles, and whole images of equal padded size, are divided
            among them. They give the same pixels as one device.
        progress: Called as ``progress(done, total)`` after each window (a tile, or a whole image):
            the number of windows that are complete, and that of all windows of this call. An
            exception that it raises ends the call. It is not pickled.
        on_compile: Called as ``on_compile(height, width)`` before the network is compiled for
            windows of another number or size. It is not pickled.

    Raises:
        OptionError: If ``tile`` is too small for ``overlap``, the network has no local means, or
            an option has a value out of its range. It is a ValueError.
        ValueError: If there is no such device.
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
        tile_batch: int | None = None,
        ensemble: bool = False,
        strength: float = 1.0,
        local_pool: int | None = None,
        dtype: DTypeLike | None = None,
        device: jax.Device | str | None = None,
        progress: Progress | None = None,
        on_compile: Callable[[int, int], None] | None = None,
    ):
        if isinstance(module, str | os.PathLike):
            raise TypeError(
                f"Restorer takes a network and its variables, got {shorten(os.fspath(module))}; "
                "use Restorer.from_checkpoint(path) or Restorer.from_pretrained(name)"
            )
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
            check_integer(name, value, least)
        check_boolean("ensemble", ensemble)
        check_callable("progress", progress)
        check_callable("on_compile", on_compile)
        check_strength(strength, module)
        if tile is not None:
            tiling.check(tile, overlap)
        module = configure_module(module, local_pool=local_pool, dtype=dtype)
        self._device = find_device(device)
        module = _avoid_slow_type(module, self._device)
        self.module = module
        self.variables = variables
        self.bucket = bucket
        self.tile = tile
        self.overlap = overlap
        self.max_pixels = max_pixels
        self.tile_batch = tile_batch
        self.ensemble = ensemble
        self.strength = float(strength)
        self._progress = progress
        self._on_compile = on_compile
        self._placed: PlacedVariables | None = None  # set when the first image is restored
        # Pixels in one call that did not fit into the device's memory, and a restorer with smaller
        # windows for images that need as many. Other images do not depend on what came before.
        self._smaller: tuple[int, Restorer] | None = None
        self._program = Program(module, self._device)

    @classmethod
    def from_checkpoint(
        cls,
        path: str | pathlib.Path,
        *,
        ema: bool = True,
        step: int | Literal["best"] | None = None,
        **options: Any,
    ) -> "Restorer":
        """Loads a trained network.

        Args:
            path: Working directory of a training run, a directory that ``lcdnet-jax convert`` or
                ``export`` wrote, or a safetensors file of this library; see ``weights.load``.
            ema: Whether averaged weights (EMA) are used if the checkpoint has them.
            step: Training step to load. "best" means the one with the best evaluation, if
                ``config.best_metric`` of the training keeps it, and None the newest.
            **options: Options of :class:`Restorer`.

        Returns:
            The restorer.

        Raises:
            CheckpointError, ConfigError, CardError, ValueError: If the path has no usable weights.
        """
        is_name = str(path) in pretrained.names() or weights_lib.hub.is_name(path)
        if is_name and not os.path.exists(path):
            raise ValueError(
                f"{path} does not exist; pretrained weights are loaded by "
                f"Restorer.from_pretrained({str(path)!r})"
            )
        weights = weights_lib.load(path, ema=ema, step=step)
        return cls(weights.module, weights.variables, **options)

    @classmethod
    def from_pretrained(cls, name: str = pretrained.DEFAULT, **options: Any) -> "Restorer":
        """Loads pretrained weights, installed with the library or from the Hugging Face hub.

        Args:
            name: Name of the weights, one of ``lcdnet_jax.weights.pretrained.names()``, or
                ``hf://ORG/NAME[@REVISION]`` for weights that ``lcdnet-jax export --push-to-hub``
                uploaded (extra ``hub``). They are downloaded once and then found without a network.
            **options: Options of :class:`Restorer`.

        Returns:
            The restorer.

        Raises:
            PretrainedError: If the name is unknown, or the file is missing or damaged. The message
                lists the known names. It is a ValueError.
            HubError, CardError, ImportError, OSError: For a name of the hub, see
                :func:`lcdnet_jax.weights.hub.download`.
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
            parts.append(f"windows with overlap {self.overlap} above {self.max_pixels} pixels")
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
        return self._copy(variables=variables, _placed=None)

    def with_bucket(self, bucket: int | None) -> "Restorer":
        """Makes a restorer with other padding that shares the compiled programs.

        Args:
            bucket: As for :class:`Restorer`.

        Returns:
            A new restorer; this one is not changed.

        Raises:
            ValueError: If ``bucket`` is neither None nor an integer of at least 1.
        """
        check_integer("bucket", bucket, 1)
        return self._copy(bucket=bucket)

    def with_strength(self, strength: float) -> "Restorer":
        """Makes a restorer of another strength that shares the compiled programs.

        Args:
            strength: As for :class:`Restorer`.

        Returns:
            A new restorer; this one is not changed.

        Raises:
            ValueError: If ``strength`` is not in [0, 1], or less than 1 for a network that enlarges
                or takes two views.
        """
        check_strength(strength, self.module)
        return self._copy(strength=float(strength))

    def with_progress(
        self,
        progress: Progress | None,
        *,
        on_compile: Callable[[int, int], None] | None = None,
    ) -> "Restorer":
        """Makes a restorer with other reports of progress that shares the compiled programs.

        Args:
            progress: As for :class:`Restorer`.
            on_compile: As for :class:`Restorer`.

        Returns:
            A new restorer; this one is not changed.

        Raises:
            ValueError: If one of them is neither None nor callable.
        """
        check_callable("progress", progress)
        check_callable("on_compile", on_compile)
        return self._copy(_progress=progress, _on_compile=on_compile)

    def _copy(self, **changes: Any) -> "Restorer":
        """Copies this restorer with its compiled programs and changes attributes of the copy."""
        other = object.__new__(type(self))
        other.__dict__.update(self.__dict__, **{"_smaller": None, **changes})
        return other

    def __getstate__(self) -> dict[str, Any]:
        """What another process needs: compiled programs and arrays on devices stay here."""
        state = {**self.__dict__, "variables": jax.tree.map(np.asarray, self.variables)}
        for name in ("_program", "_placed", "_smaller", "_progress", "_on_compile"):
            del state[name]
        if self._device is not None:  # by its place among the devices of its kind
            platform = self._device.platform
            number = jax.local_devices(backend=platform).index(self._device)
            state["_device"] = f"{platform}:{number}"
        return state

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state, _device=find_device(state["_device"]))
        self._placed = self._smaller = self._progress = self._on_compile = None
        self._program = Program(self.module, self._device)

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
            return self._restore_each(image, _list_names(len(image)))
        image = image_io.to_array(image)
        if image.ndim == 4 and len(image):
            return np.stack(self._restore_each(list(image), _list_names(len(image))))
        return self._restore_each([image], [""])[0]

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
        return next(self.predict_each([image]))

    def predict_each(self, images: Iterable[np.ndarray]) -> Iterator[np.ndarray]:
        """Applies the network to images as :meth:`predict` does, on all devices.

        Images of equal padded size that follow each other are computed together. With
        ``tile_batch`` 1 the results do not depend on what is computed together.

        Args:
            images: Images as for :meth:`predict`. A few are read before a result is yielded.

        Yields:
            The results, in the order of the images.

        Raises:
            ImageError: As :meth:`predict`, for the image that was read last.
        """
        group: list[np.ndarray] = []
        most, key = 1, None
        for image in images:
            self._check_for_scores(image)
            found = self.find_batch_key(image)
            if group and found != (most, key):
                yield from self._predict_group(group)
                group = []
            most, key = found
            group.append(image)
            if len(group) == most:
                yield from self._predict_group(group)
                group = []
        if group:
            yield from self._predict_group(group)

    def _check_for_scores(self, image: np.ndarray) -> None:
        """Raises ImageError unless the image suits :meth:`predict`."""
        colors = check_image(image, self.module)
        if image.dtype.kind == "u" or image.shape[2:] != (colors,):
            raise image_io.ImageError(
                f"expected [H, W, C] floating-point pixels without alpha, got {image.dtype} of "
                f"shape {image.shape}; call the restorer for pictures"
            )

    def _predict_group(self, images: Sequence[np.ndarray]) -> list[np.ndarray]:
        return self._make_predictor().restore(images, lambda count: None)

    def find_batch_key(self, image: np.ndarray) -> tuple[int, object]:
        """Finds which images a call computes faster together than one by one.

        Args:
            image: An image as for a call, no PIL image.

        Returns:
            The most images that are computed together, and a key. Only images with equal keys are.
        """
        layout = self._choose_windows(image.shape)._layout
        height, width, *channels = image.shape
        if not layout.is_whole(height, width):
            return 1, None
        frame = layout.pad_sides(height, width)
        key = (frame, layout.tile, layout.tile_batch, tuple(channels), image.dtype)
        return layout.count_windows_per_call(*frame), key

    def count_windows(self, image: np.ndarray) -> int:
        """Counts the windows of an image, as a call computes it and reports its progress.

        Args:
            image: An image as for a call, no PIL image.

        Returns:
            The number of windows; 1 for an image that is restored whole.
        """
        return self._choose_windows(image.shape)._layout.count_windows(*image.shape[:2])

    def _restore_each(
        self, images: Sequence[np.ndarray | Image.Image], names: Sequence[str]
    ) -> list[np.ndarray]:
        """Restores images, together if they have one key. Errors begin with their names."""
        arrays = []
        for image, name in zip(images, names, strict=True):
            with _name_in_errors(name):
                arrays.append(image_io.to_array(image))
                check_image(arrays[-1], self.module)
        return self._restore_groups(arrays, names)

    def _restore_groups(
        self, images: Sequence[np.ndarray], names: Sequence[str]
    ) -> list[np.ndarray]:
        """Restores images; with smaller windows where the device's memory is too small."""
        counts = [self.count_windows(image) for image in images]
        done, total = 0, sum(counts)
        restored: list[np.ndarray] = []
        while (first := len(restored)) < len(images):
            last = self._find_group_end(images, first)
            group, chosen = images[first:last], self._choose_windows(images[first].shape)
            report = functools.partial(self._report, done, total)
            try:
                restored += chosen._restore_group(group, names[first:last], report)
            except Exception as error:
                if not is_device_out_of_memory(error):
                    raise
                if not chosen._add_smaller_windows(group[0].shape):
                    raise
            if len(restored) > first:
                done += sum(counts[first:last])
                continue
            # Outside the handler, which holds arrays.
            counts[first:] = [self.count_windows(image) for image in images[first:]]
            total = done + sum(counts[first:])
        return restored

    def _report(self, done: int, total: int, count: int) -> None:
        """Reports that ``count`` more windows are complete."""
        if self._progress is not None:
            self._progress(done + count, total)

    def _find_group_end(self, images: Sequence[np.ndarray], first: int) -> int:
        """Finds the index behind the images from ``first`` that are computed together."""
        most, key = self.find_batch_key(images[first])
        end = min(first + most, len(images))
        return next(
            (i for i in range(first + 1, end) if self.find_batch_key(images[i])[1] != key), end
        )

    def _restore_group(
        self, images: Sequence[np.ndarray], names: Sequence[str], report: Callable[[int], None]
    ) -> list[np.ndarray]:
        """Restores pictures of one padded size, or one in tiles, each in its own type."""
        for image in images:
            if message := describe_range(image, channels=self.module.channels):
                warnings.warn(message, PixelRangeWarning, stacklevel=5)
        if self.strength == 0:
            report(sum(self._layout.count_windows(*image.shape[:2]) for image in images))
            return [image.copy() for image in images]
        pictures = [Picture(image, self.module) for image in images]
        pixels = [picture.pixels for picture in pictures]
        results = self._make_predictor().restore(pixels, report)
        finished = []
        for picture, result, name in zip(pictures, results, names, strict=True):
            with _name_in_errors(name):
                finished.append(picture.finish(result, strength=self.strength))
        return finished

    def _make_predictor(self) -> Predictor:
        if self._placed is None:
            check_layers(self.module, self.variables)
            self._placed = self._program.place(self.variables)
        return Predictor(self._layout, self._program, self._placed, self.ensemble, self._on_compile)

    @property
    def _layout(self) -> WindowLayout:
        return WindowLayout(
            self.module,
            tile=self.tile,
            overlap=self.overlap,
            max_pixels=self.max_pixels,
            bucket=self.bucket,
            tile_batch=self.tile_batch,
            devices=self._program.devices,
        )

    def _choose_windows(self, shape: tuple[int, ...]) -> "Restorer":
        """Chooses this restorer, or one with smaller windows for an image that needs them."""
        if self._smaller is None:
            return self
        too_many, smaller = self._smaller
        is_small = self._layout.count_pixels_per_call(*shape[:2]) < too_many
        return self if is_small else smaller._choose_windows(shape)

    def _add_smaller_windows(self, shape: tuple[int, ...]) -> bool:
        """Chooses smaller windows for images as large as one that did not fit into memory.

        It warns that results will be computed in another way. It returns False if no windows are
        smaller.
        """
        height, width = shape[:2]
        layout = self._layout
        count = layout.count_pixels_per_call(height, width)
        if self._smaller is not None:  # for larger images
            self._smaller = count, self._smaller[1]
            return True
        smaller = layout.find_smaller(height, width)
        if smaller is None:
            return False
        rows, columns = layout.measure_window(height, width)
        warnings.warn(
            f"windows of {columns}x{rows} pixels do not fit into memory; {smaller.description}",
            MemoryWarning,
            stacklevel=4,
        )
        self._smaller = count, self._copy(**smaller.options)
        return True


def _list_names(count: int) -> list[str]:
    """Names of images in messages."""
    return [f"image {i} of {count}: " for i in range(count)]


@contextlib.contextmanager
def _name_in_errors(name: str) -> Iterator[None]:
    """Puts a name before the messages of errors."""
    try:
        yield
    except image_io.ImageError as error:
        raise image_io.ImageError(f"{name}{error}") from None


def _avoid_slow_type(
    module: networks.RestorationNetwork, device: jax.Device | None
) -> networks.RestorationNetwork:
    """The network in float32, with a warning, if it would compute in bfloat16 on a CPU."""
    if "dtype" not in networks.field_names(module) or module.dtype != jnp.bfloat16:
        return module
    dtype = avoid_slow_type(module.dtype, find_devices(device)[0].platform)
    if dtype == module.dtype:
        return module
    message = f"{type(module).__name__} computes in float32, as bfloat16 is slower on a CPU"
    warnings.warn(message, ComputeTypeWarning, stacklevel=3)
    return module.clone(dtype=dtype)
