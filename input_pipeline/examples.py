"""Pictures (one image, read on demand), examples (one or two pictures) and sources (examples)."""

import concurrent.futures
import dataclasses
import functools
import pathlib
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

import cv2
import numpy as np
from ml_collections import ConfigDict

from lcdnet_jax import image_io, storage
from lcdnet_jax.image_io import BucketError, Header, ImageError
from lcdnet_jax.image_io.headers import read_bytes
from lcdnet_jax.messages import format_count, join_some
from lcdnet_jax.ops import TWO_VIEW_CHANNELS, clean_channels


def channels_on_disk(config: ConfigDict) -> int:
    """Channels of the images on disk. Two views may be made from clean images of 3 channels."""
    channels = config.data.channels
    return channels if config.degradation.kind == "none" else clean_channels(channels)


class Box(NamedTuple):
    """A rectangle inside an image, in pixels."""

    top: int
    left: int
    height: int
    width: int

    def enlarge(self, scale: int) -> "Box":
        """The same rectangle of an image that is larger by ``scale``."""
        return Box(*(scale * number for number in self))

    def cut(self, image: np.ndarray) -> np.ndarray:
        """The pixels of ``[H, W, ...]`` inside the rectangle, not copied."""
        return image[self.top : self.top + self.height, self.left : self.left + self.width]


@dataclasses.dataclass(frozen=True)
class Picture:
    """One image. Its header is known; its pixels are read on demand."""

    label: str  # name in errors: the path, or the place in a TFDS split
    header: Header  # all zeros if it cannot be read
    decode: Callable[[], np.ndarray]
    size: int | None = None  # bytes of the encoded image, if it is one file or string
    problem: str = ""  # why the header cannot be read
    # Decodes the pixels of a box only, if that is faster.
    decode_box: Callable[[Box], np.ndarray] | None = None
    # Reads the encoded bytes; what it returns decodes them from memory.
    load: "Callable[[], Picture] | None" = None

    def read(self, channels: int, box: Box | None = None) -> np.ndarray:
        """Decodes to ``[H, W, channels]`` uint8 or uint16, as the header says.

        Args:
            channels: 1 or 3, or 6 for two views, which are not converted.
            box: The part of the image to return. None returns all of it.

        Raises:
            ImageError: The image is damaged, or no longer has the size or depth of its header.
        """
        if box is not None and self.decode_box is not None:
            return self._convert(self.decode_box(box), channels)
        image = self.decode()
        bits = 8 * image.dtype.itemsize
        if (*image.shape[:2], bits) != (self.header.height, self.header.width, self.header.bits):
            raise ImageError(
                f"{self.label}: is now {image.shape[0]}x{image.shape[1]} with {bits} bits, but "
                f"was {_size(self.header)} with {self.header.bits} bits at the start; start again "
                "after changing images"
            )
        return self._convert(image if box is None else box.cut(image), channels)

    def _convert(self, image: np.ndarray, channels: int) -> np.ndarray:
        if self.header.channels == channels == TWO_VIEW_CHANNELS:
            return image
        try:
            return image_io.convert_channels(image, channels)
        except ImageError as error:
            raise ImageError(f"{self.label}: {error}") from None

    def describe(self) -> str:
        """What is known without decoding, such as "512x768, 3 channels, 8 bits, 3210 bytes"."""
        header = self.header
        described = (
            f"{_size(header)}, {format_count(header.channels, 'channel')}, {header.bits} bits"
        )
        return described if self.size is None else f"{described}, {self.size} bytes"

    def find_problem(self) -> str:
        """Why ``read`` will fail, as far as the header tells, such as an alpha channel; or ""."""
        header = self.header
        if header.channels in (2, 4):
            stand_in = np.broadcast_to(
                np.zeros((), f"uint{header.bits}"), (header.height, header.width, header.channels)
            )
            try:
                dataclasses.replace(self, decode=lambda: stand_in).read(3)
            except ImageError as error:
                return str(error)
        return self.problem

    def rescale(self, scale: float) -> "Picture":
        """Resizes by ``scale`` in (0, 1]: bicubic, no antialiasing, sides rounded down.

        SFM's released training code makes its patches in the same way (``cv2.resize``,
        INTER_CUBIC), but exchanges height and width, which has no effect on square images.

        Raises:
            ImageError: A side would have no pixels.
        """
        if scale == 1:
            return self
        height, width = int(self.header.height * scale), int(self.header.width * scale)
        if not height or not width:
            raise ImageError(
                f"{self.label}: at scale {scale} nothing is left of {_size(self.header)} pixels; "
                "remove the image or the scale"
            )

        def decode() -> np.ndarray:
            image = self.read(self.header.channels)
            return cv2.resize(image, (width, height), interpolation=cv2.INTER_CUBIC)

        header = dataclasses.replace(self.header, height=height, width=width)
        return Picture(f"{self.label} at scale {scale}", header, decode, self.size)


@dataclasses.dataclass(frozen=True)
class Example:
    """A clean image or a pair.

    The degraded half of a pair may hold two views. Its sides may be smaller by an integer factor.
    """

    name: str
    clean: Picture
    degraded: Picture | None = None

    @property
    def pictures(self) -> tuple[Picture, ...]:
        """Clean, then degraded if there is one."""
        return (self.clean,) if self.degraded is None else (self.clean, self.degraded)

    @property
    def scale(self) -> int:
        """Factor by which the sides of the clean half are larger; 1 for a clean image."""
        if self.degraded is None:
            return 1
        return self.clean.header.height // self.degraded.header.height

    def read(self, channels: int, box: Box | None = None) -> list[np.ndarray]:
        """Decodes ``pictures`` to ``[H, W, C]`` each; see ``Picture.read``.

        Args:
            channels: 1 or 3, or 6 for pairs with two views, whose clean half has 3.
            box: The part to return, in pixels of the degraded half if there is one.

        Raises:
            ImageError: See ``Picture.read``.
        """
        clean_box = None if box is None else box.enlarge(self.scale)
        clean = self.clean.read(clean_channels(channels), clean_box)
        return [clean] if self.degraded is None else [clean, self.degraded.read(channels, box)]

    @property
    def size(self) -> int | None:
        """Bytes of the encoded pictures; None if one of them cannot be loaded."""
        sizes = [picture.size if picture.load else None for picture in self.pictures]
        return None if None in sizes else sum(size or 0 for size in sizes)

    def load(self) -> "Example":
        """Reads the encoded bytes of the pictures, which are decoded from memory afterwards.

        Raises:
            ImageError: A file cannot be read.
        """
        pictures = [picture.load() if picture.load else picture for picture in self.pictures]
        return dataclasses.replace(
            self, clean=pictures[0], degraded=pictures[1] if pictures[1:] else None
        )


@dataclasses.dataclass(frozen=True)
class Source:
    """Examples sorted by name. Either all or none are pairs, and all have the same number of views.

    ``check_scale`` checks that all of them have the scale of the network.
    """

    name: str
    examples: tuple[Example, ...]
    published: int | None = None  # number of pairs or images as published
    left_out: int = 0  # number of further examples, whose images cannot be used

    @property
    def is_paired(self) -> bool:
        """Whether the examples have a degraded half."""
        return self.examples[0].degraded is not None

    @property
    def two_views(self) -> bool:
        """Whether the degraded halves hold the two views of a dual-pixel camera."""
        degraded = self.examples[0].degraded
        return degraded is not None and degraded.header.channels == TWO_VIEW_CHANNELS

    def check_channels(self, channels: int, *, field: str) -> None:
        """Raises ValueError, naming ``field``, if the examples do not have these channels."""
        if self.two_views and channels != TWO_VIEW_CHANNELS:
            raise ValueError(
                f"{field} ({self.name}) holds two views of every scene, together "
                f"{TWO_VIEW_CHANNELS} channels, but config.data.channels is {channels}; set it to "
                f"{TWO_VIEW_CHANNELS}, or the "
                'source to one with a single picture, such as "dpdd"'
            )
        if channels == TWO_VIEW_CHANNELS and not self.two_views:
            raise ValueError(
                f"{field} ({self.name}) holds one view of every scene, but config.data.channels is "
                f"{TWO_VIEW_CHANNELS}, for the two views of a dual-pixel camera; set it to 3, or "
                "the "
                'source to one with two views, such as "dpdd_dual"'
            )

    @property
    def scale(self) -> int:
        """Factor by which the sides of clean halves are larger; 1 without pairs."""
        return self.examples[0].scale

    def check_scale(self, scale: int, *, field: str) -> None:
        """Raises ValueError if a pair does not have the scale of the network.

        Args:
            scale: Factor by which the network enlarges.
            field: Name of the source in errors.
        """
        others = [
            f"{example.name} (degraded {_size(example.degraded.header)}, "
            f"clean {_size(example.clean.header)})"
            for example in self.examples
            if example.degraded is not None and example.scale != scale
        ]
        if others:
            larger = f"{scale} times larger than" if scale > 1 else "of the size of"
            raise ValueError(
                f"{field} ({self.name}): for this network the clean image of a pair must be "
                f"{larger} the degraded one (height x width), but is not in "
                f"{join_some(others, 5)}; use other pairs, or a network of their scale"
            )

    def rescale(self, scales: Sequence[float]) -> "Source":
        """Every example at each of these scales, see ``Picture.rescale``.

        Scale 1 changes nothing. Examples of other scales are called ``<name>_x<scale>``.

        Raises:
            ImageError: A side of a rescaled image would have no pixels.
        """
        if tuple(scales) == (1,):
            return self
        examples = [
            Example(
                example.name if scale == 1 else f"{example.name}_x{scale}",
                *(picture.rescale(scale) for picture in example.pictures),
            )
            for example in self.examples
            for scale in scales
        ]
        examples.sort(key=lambda example: example.name)
        name = f"{self.name} at scales {', '.join(map(str, scales))}"
        return Source(name, tuple(examples), left_out=self.left_out)

    def list_images(self) -> dict[str, str]:
        """Describes the pictures of each example by its name, see ``Picture.describe``."""
        return {
            example.name: "; ".join(picture.describe() for picture in example.pictures)
            for example in self.examples
        }

    def describe_count(self) -> str:
        """The number of pairs or images, compared with the number as published."""
        kind = "pair" if self.is_paired else "image"
        return describe_count(len(self.examples), self.published, kind)

    def describe(self) -> str:
        """One line: name, number of images and their sizes."""
        headers = [example.clean.header for example in self.examples]
        heights, widths = {h.height for h in headers}, {h.width for h in headers}
        size = f"{min(heights)}x{min(widths)}"
        if len(heights) + len(widths) > 2:
            size = f"from {size} to {max(heights)}x{max(widths)}"
        many = self.describe_count()
        bad = f" ({self.left_out} left out, which cannot be used)" if self.left_out else ""
        return f"{self.name}: {many}{bad}, {size}"


def describe_count(count: int, published: int | None = None, kind: str = "pair") -> str:
    """The number of pairs or images in words, compared with the number as published."""
    counted = format_count(count, kind)
    if published is None:
        return counted
    return f"{counted} ({'as published' if count == published else f'published: {published:,}'})"


def list_tiles(height: int, width: int, side: int, stride: int) -> list[tuple[int, int, int, int]]:
    """Square tiles inside an image that begin at multiples of ``stride``.

    A side of the image below ``side`` is not cut. SADNet's data preparation skips tiles that end
    exactly at the border. They are kept here.

    Returns:
        Top, left, height, width of each.
    """
    rows, columns = min(side, height), min(side, width)
    return [
        (top, left, rows, columns)
        for top in range(0, height - rows + 1, stride)
        for left in range(0, width - columns + 1, stride)
    ]


def pictures_from_files(paths: Sequence[pathlib.Path]) -> list[Picture]:
    """One picture for each file. Reads the headers; see ``Picture.problem``.

    Raises:
        BucketError: A bucket does not answer.
    """

    def make(path: pathlib.Path) -> Picture:
        header, problem = _try_header(lambda: image_io.read_header(path))
        size = None if problem else storage.find_size(path)
        decode = functools.partial(image_io.read, path)
        picture = Picture(str(path), header, decode, size, problem)
        return dataclasses.replace(picture, load=functools.partial(_load, picture, path))

    with concurrent.futures.ThreadPoolExecutor() as pool:  # faster on a network file system
        return list(pool.map(make, paths))


def _load(picture: Picture, path: pathlib.Path) -> Picture:
    decode = functools.partial(image_io.decode, read_bytes(path), name=picture.label)
    return dataclasses.replace(picture, decode=decode, load=None)


def picture_from_bytes(data: bytes, label: str) -> Picture:
    """The picture of an encoded image in memory. Reads its header; see ``Picture.problem``."""
    header, problem = _try_header(lambda: image_io.decode_header(data, name=label))
    return Picture(label, header, lambda: image_io.decode(data, name=label), len(data), problem)


def _try_header(read: Callable[[], Header]) -> tuple[Header, str]:
    """A header and "", or zeros and why it cannot be read."""
    try:
        return read(), ""
    except BucketError:  # says nothing about the image
        raise
    except ImageError as error:
        return Header(0, 0, 0, 0), str(error)


def join_views(views: Sequence[Picture]) -> Picture:
    """Joins the left and right RGB view of a scene to six channels. One picture stays as it is.

    Raises:
        ImageError: The views differ in size or depth.
    """
    if len(views) == 1:
        return views[0]
    left, right = views
    if bad := [view for view in views if view.find_problem()]:
        return dataclasses.replace(bad[0], problem=bad[0].find_problem())
    kinds = [(view.header.height, view.header.width, view.header.bits) for view in views]
    if kinds[0] != kinds[1]:
        described = [f"{_size(v.header)} with {v.header.bits} bits" for v in views]
        raise ImageError(
            f"{left.label} and {right.label} are views of one scene, but differ "
            f"({', '.join(described)}); copy or download them again"
        )

    def decode(box: Box | None = None) -> np.ndarray:
        return np.concatenate([view.read(3, box) for view in (left, right)], axis=-1)

    def load() -> Picture:
        return join_views([view.load() if view.load else view for view in (left, right)])

    return Picture(
        f"{left.label} and {right.label}",
        dataclasses.replace(left.header, channels=TWO_VIEW_CHANNELS),
        decode,
        None if left.size is None or right.size is None else left.size + right.size,
        decode_box=decode if left.decode_box and right.decode_box else None,
        load=load if left.load and right.load else None,
    )


def pairs_from_files(
    files: Mapping[str, tuple[pathlib.Path, ...]],
    *,
    where: str,
    halves: tuple[str, str] = ("noisy", "clean"),
    allow_smaller: bool = False,
) -> tuple[Example, ...]:
    """Pairs, sorted by name. Reads the headers.

    Args:
        files: Degraded and clean file by name; left, right and clean file for two views.
        where: The folder, for errors.
        halves: Names of the degraded and the clean half in errors.
        allow_smaller: Whether the sides of degraded halves may be smaller by an integer factor.

    Raises:
        ImageError: The halves of a pair differ in size, or two views differ in size or depth.
    """
    paths = sorted({path for pair in files.values() for path in pair})  # pairs may share files
    pictures = dict(zip(paths, pictures_from_files(paths), strict=True))
    examples = tuple(
        Example(name, pictures[clean], join_views([pictures[path] for path in degraded]))
        for name, (*degraded, clean) in sorted(files.items())
    )
    check_sizes(examples, where=where, halves=halves, allow_smaller=allow_smaller)
    return examples


def check_sizes(
    examples: Sequence[Example],
    *,
    where: str,
    halves: tuple[str, str] = ("noisy", "clean"),
    allow_smaller: bool = False,
) -> None:
    """Raises ImageError if halves of a pair differ in size; see ``pairs_from_files``."""
    unequal = []
    for example in examples:
        if any(picture.problem for picture in example.pictures):  # reported by open_source
            continue
        clean, *degraded = (picture.header for picture in example.pictures)
        for header in degraded:
            scale = max(example.scale, 1) if allow_smaller else 1
            if (clean.height, clean.width) != (scale * header.height, scale * header.width):
                unequal.append(
                    f"{example.name} ({halves[0]} {_size(header)}, {halves[1]} {_size(clean)})"
                )
    if unequal:
        multiples = f", or the {halves[1]} one to a multiple of the other" if allow_smaller else ""
        raise ImageError(
            f"{where}: the halves of some pairs differ in size (height x width): "
            f"{join_some(unequal, 5)}; crop or resize them to equal sizes{multiples}"
        )


def _size(header: Header) -> str:
    return f"{header.height}x{header.width}"
