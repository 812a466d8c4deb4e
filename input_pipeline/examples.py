"""What sources consist of: pictures that are read when asked for, and examples made of them."""

import concurrent.futures
import dataclasses
import pathlib
from collections.abc import Callable, Sequence

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
    names = sorted(files)
    degraded = from_files([files[name][0] for name in names])
    clean = from_files([files[name][1] for name in names])
    examples = tuple(map(Example, names, clean, degraded))
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
