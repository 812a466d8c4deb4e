"""What sources consist of: pictures that are read when asked for, and examples made of them."""

import concurrent.futures
import dataclasses
import pathlib
from collections.abc import Callable, Sequence

import cv2
import numpy as np

from lcdnet_jax import image_io
from lcdnet_jax.image_io import Header, ImageError


@dataclasses.dataclass(frozen=True)
class Picture:
    """One image whose size is known and whose pixels are not yet read."""

    label: str  # what errors call it: the path, or the place in a TFDS split
    header: Header
    decode: Callable[[], np.ndarray]

    def read(self, channels: int) -> np.ndarray:
        """Decodes to ``[H, W, channels]`` uint8 or uint16, as the header says.

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
        try:
            return image_io.convert_channels(image, channels)
        except ImageError as error:
            raise ImageError(f"{self.label}: {error}") from None

    def scaled(self, scale: float) -> "Picture":
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
    """A clean image, or a pair of equal size."""

    name: str
    clean: Picture
    degraded: Picture | None = None

    @property
    def pictures(self) -> tuple[Picture, ...]:
        """Clean, then degraded if there is one."""
        return (self.clean,) if self.degraded is None else (self.clean, self.degraded)


@dataclasses.dataclass(frozen=True)
class Source:
    """Examples sorted by name; all are pairs or none is."""

    name: str
    examples: tuple[Example, ...]

    @property
    def paired(self) -> bool:
        """Whether the examples have a degraded half."""
        return self.examples[0].degraded is not None

    def scaled(self, scales: Sequence[float]) -> "Source":
        """Every example at each of these scales, see ``Picture.scaled``; scale 1 changes nothing.

        Examples of other scales are called ``<name>_x<scale>``.

        Raises:
          ImageError: an image of which a scale would leave nothing.
        """
        if tuple(scales) == (1,):
            return self
        examples = [
            Example(
                example.name if scale == 1 else f"{example.name}_x{scale}",
                *(picture.scaled(scale) for picture in example.pictures),
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
        return f"{self.name}: {len(headers)} {'pairs' if self.paired else 'images'}, {size}"


def tiles(height: int, width: int, side: int, stride: int) -> list[tuple[int, int, int, int]]:
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


def from_files(paths: Sequence[pathlib.Path]) -> list[Picture]:
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


def from_bytes(data: bytes, label: str) -> Picture:
    """An encoded image in memory; reads its header.

    Raises:
      ImageError: no readable header.
    """
    header = image_io.decode_header(data, name=label)
    return Picture(label, header, lambda: image_io.decode(data, name=label))


def pairs_of_files(
    files: dict[str, tuple[pathlib.Path, pathlib.Path]],
    *,
    where: str,
    halves: tuple[str, str] = ("noisy", "clean"),
) -> tuple[Example, ...]:
    """Pairs, sorted by name; reads the headers.

    Args:
      files: degraded and clean file of each name.
      where: the folder, for errors.
      halves: what errors call degraded and clean.

    Raises:
      ImageError: a file without a readable header, or a pair of different sizes.
    """
    paths = sorted({path for pair in files.values() for path in pair})  # pairs may share files
    pictures = dict(zip(paths, from_files(paths), strict=True))
    examples = tuple(
        Example(name, pictures[clean], pictures[degraded])
        for name, (degraded, clean) in sorted(files.items())
    )
    check_sizes(examples, where=where, halves=halves)
    return examples


def check_sizes(
    examples: Sequence[Example], *, where: str, halves: tuple[str, str] = ("noisy", "clean")
) -> None:
    """Raises an ImageError that lists the pairs of different sizes; see ``pairs_of_files``."""
    unequal = []
    for example in examples:
        clean, *degraded = (_size(picture.header) for picture in example.pictures)
        unequal += [
            f"{example.name} ({halves[0]} {d}, {halves[1]} {clean})" for d in degraded if d != clean
        ]
    if unequal:
        raise ImageError(
            f"{where}: {len(unequal)} pairs differ in size (height x width): "
            f"{first(unequal)}; crop or resize them to equal sizes"
        )


def first(names: Sequence[str], count: int = 5) -> str:
    """The first few names, for errors."""
    return ", ".join(names[:count]) + (" ..." if len(names) > count else "")


def _size(header: Header) -> str:
    return f"{header.height}x{header.width}"
