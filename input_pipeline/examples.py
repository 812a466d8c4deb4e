"""What sources consist of: pictures that are read when asked for, and examples made of them."""

import concurrent.futures
import dataclasses
import pathlib
from collections.abc import Callable, Mapping, Sequence

import cv2
import numpy as np
from ml_collections import ConfigDict

from lcdnet_jax import image_io
from lcdnet_jax.image_io import Header, ImageError
from lcdnet_jax.ops import TWO_VIEW_CHANNELS, clean_channels


def channels_on_disk(config: ConfigDict) -> int:
    """Channels that images are read with; two views may be made from clean images of 3."""
    channels = config.data.channels
    return channels if config.degradation.kind == "none" else clean_channels(channels)


@dataclasses.dataclass(frozen=True)
class Picture:
    """One image whose size is known and whose pixels are not yet read."""

    label: str  # what errors call it: the path, or the place in a TFDS split
    header: Header
    decode: Callable[[], np.ndarray]

    def read(self, channels: int) -> np.ndarray:
        """Decodes to ``[H, W, channels]`` uint8 or uint16, as the header says.

        Args:
          channels: 1 or 3; 6 for two views, which are left as they are.

        Raises:
          ImageError: damaged, or no longer what its header said at the start.
        """
        image = self.decode()
        bits = 8 * image.dtype.itemsize
        if (*image.shape[:2], bits) != (self.header.height, self.header.width, self.header.bits):
            raise ImageError(
                f"{self.label}: is now {image.shape[0]}x{image.shape[1]} with {bits} bits, but "
                f"was {_size(self.header)} with {self.header.bits} bits at the start; start again "
                "after changing images"
            )
        if self.header.channels == channels == TWO_VIEW_CHANNELS:
            return image
        try:
            return image_io.convert_channels(image, channels)
        except ImageError as error:
            raise ImageError(f"{self.label}: {error}") from None

    def check_alpha(self) -> None:
        """Raises what ``read`` would raise for an alpha channel, before anything is decoded."""
        header = self.header
        if header.channels in (2, 4):
            stand_in = np.broadcast_to(
                np.zeros((), f"uint{header.bits}"), (header.height, header.width, header.channels)
            )
            dataclasses.replace(self, decode=lambda: stand_in).read(3)

    def rescale(self, scale: float) -> "Picture":
        """This picture at ``scale`` in (0, 1]: bicubic, no antialiasing, sizes cut to integers.

        As the patches of SFM's released training code are made (``cv2.resize``, INTER_CUBIC), but
        for its exchange of height and width, which square images do not show.

        Raises:
          ImageError: nothing would be left of the picture.
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
        return Picture(f"{self.label} at scale {scale}", header, decode)


@dataclasses.dataclass(frozen=True)
class Example:
    """A clean image, or a pair.

    The degraded half of a pair may hold two views, and its sides may be smaller by a whole factor.
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
        """How many times larger the sides of the clean half are; 1 without another one."""
        if self.degraded is None:
            return 1
        return self.clean.header.height // self.degraded.header.height

    def read(self, channels: int) -> list[np.ndarray]:
        """Decodes ``pictures`` to ``[H, W, C]`` each; see ``Picture.read``.

        Args:
          channels: 1 or 3; 6 for pairs with two views, whose clean half has 3.

        Raises:
          ImageError: see ``Picture.read``.
        """
        clean = self.clean.read(clean_channels(channels))
        return [clean] if self.degraded is None else [clean, self.degraded.read(channels)]


@dataclasses.dataclass(frozen=True)
class Source:
    """Examples sorted by name; all are pairs or none is, and all have as many views.

    ``check_scale`` sees to it that all have one scale.
    """

    name: str
    examples: tuple[Example, ...]
    published: int | None = None  # how many there are in the data set as published

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
        """Raises ValueError, calling the source ``field``, unless it suits ``channels``."""
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
        """How many times larger the sides of clean halves are; 1 without pairs."""
        return self.examples[0].scale

    def check_scale(self, scale: int, *, field: str) -> None:
        """Raises ValueError, calling the source ``field``, unless its pairs suit a network.

        Args:
          scale: by which the network enlarges.
          field: name of the source.
        """
        others = [
            f"{example.name} ({_size(example.degraded.header)}, {_size(example.clean.header)})"
            for example in self.examples
            if example.degraded is not None and example.scale != scale
        ]
        if others:
            larger = f"{scale} times larger than" if scale > 1 else "of the size of"
            raise ValueError(
                f"{field} ({self.name}): for this network clean halves must be {larger} degraded "
                f"ones, but {len(others)} pairs are not (height x width): {list_first(others)}; "
                "use other pairs, or a network whose scale is theirs"
            )

    def rescale(self, scales: Sequence[float]) -> "Source":
        """Every example at each of these scales, see ``Picture.rescale``; scale 1 changes nothing.

        Examples of other scales are called ``<name>_x<scale>``.

        Raises:
          ImageError: an image of which a scale would leave nothing.
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
        return Source(f"{self.name} at scales {', '.join(map(str, scales))}", tuple(examples))

    def describe(self) -> str:
        """One line: name, number, sizes."""
        headers = [example.clean.header for example in self.examples]
        heights, widths = {h.height for h in headers}, {h.width for h in headers}
        size = f"{min(heights)}x{min(widths)}"
        if len(heights) + len(widths) > 2:
            size = f"from {size} to {max(heights)}x{max(widths)}"
        many = (
            describe_count(len(headers), self.published)
            if self.is_paired
            else f"{len(headers)} images"
        )
        return f"{self.name}: {many}, {size}"


def describe_count(count: int, published: int | None = None) -> str:
    """A number of pairs in words, and whether it is that of the data set as published."""
    if published is None:
        return f"{count} pairs"
    return f"{count} pairs ({'as published' if count == published else f'published: {published}'})"


def list_tiles(height: int, width: int, side: int, stride: int) -> list[tuple[int, int, int, int]]:
    """Squares that begin at multiples of ``stride`` and lie wholly inside an image.

    An image with a side below ``side`` is not cut along it. SADNet's preparation also leaves out
    squares that end exactly at the border; these are kept here.

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
    """One picture a file; reads the headers.

    Raises:
      ImageError: a file without a readable header.
    """
    with concurrent.futures.ThreadPoolExecutor() as pool:  # matters on a network file system
        headers = list(pool.map(image_io.read_header, paths))
    return [
        # The default binds the path of this turn.
        Picture(str(path), header, lambda path=path: image_io.read(path))  # type: ignore[misc]
        for path, header in zip(paths, headers, strict=True)
    ]


def picture_from_bytes(data: bytes, label: str) -> Picture:
    """An encoded image in memory; reads its header.

    Raises:
      ImageError: no readable header.
    """
    header = image_io.decode_header(data, name=label)
    return Picture(label, header, lambda: image_io.decode(data, name=label))


def join_views(views: Sequence[Picture]) -> Picture:
    """One picture as it is; the left and right view of a scene as one of six channels, RGB each.

    Raises:
      ImageError: views of different size or depth, or with an alpha channel.
    """
    if len(views) == 1:
        return views[0]
    left, right = views
    kinds = [(view.header.height, view.header.width, view.header.bits) for view in views]
    if kinds[0] != kinds[1]:
        described = [f"{_size(v.header)} with {v.header.bits} bits" for v in views]
        raise ImageError(
            f"{left.label} and {right.label} are views of one scene, but differ "
            f"({', '.join(described)}); copy or download them again"
        )
    for view in views:
        view.check_alpha()
    return Picture(
        f"{left.label} and {right.label}",
        dataclasses.replace(left.header, channels=TWO_VIEW_CHANNELS),
        lambda: np.concatenate([left.read(3), right.read(3)], axis=-1),
    )


def pairs_from_files(
    files: Mapping[str, tuple[pathlib.Path, ...]],
    *,
    where: str,
    halves: tuple[str, str] = ("noisy", "clean"),
    allow_smaller: bool = False,
) -> tuple[Example, ...]:
    """Pairs, sorted by name; reads the headers.

    Args:
      files: degraded and clean file of each name; left, right and clean file for two views.
      where: the folder, for errors.
      halves: what errors call degraded and clean.
      allow_smaller: whether the sides of degraded halves may be smaller by a whole factor.

    Raises:
      ImageError: a file without a readable header, or a pair of other sizes, or views of
        different kinds.
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
    """Raises an ImageError that lists the pairs of other sizes; see ``pairs_from_files``."""
    unequal = []
    for example in examples:
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
            f"{where}: {len(unequal)} pairs differ in size (height x width): "
            f"{list_first(unequal)}; crop or resize them to equal sizes{multiples}"
        )


def list_first(names: Sequence[str], count: int = 5) -> str:
    """The first few names, for errors."""
    return ", ".join(names[:count]) + (" ..." if len(names) > count else "")


def _size(header: Header) -> str:
    return f"{header.height}x{header.width}"
