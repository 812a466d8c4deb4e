"""The windows of an image: whether it is one window, and their sizes, places and number."""

import dataclasses
from typing import NamedTuple

import jax

from lcdnet_jax import networks
from lcdnet_jax.inference import tiling, windows

# Pixels of the result that an accelerator computes in one call, if ``tile_batch`` is None, and the
# most windows of them. A CPU computes one window: several take no less time and more memory.
_PIXELS_PER_CALL = 2**20
_MOST_WINDOWS_PER_CALL = 16


class SmallerWindows(NamedTuple):
    """Options that make the windows of an image smaller.

    Attributes:
        options: New values of ``tile`` or ``tile_batch``.
        description: What they do, for a message.
    """

    options: dict[str, int]
    description: str


@dataclasses.dataclass(frozen=True)
class WindowLayout:
    """The windows of images of any size, for one network and one set of options.

    A window is a whole image with its padding, a tile of the size that the user gives, or a part of
    a size that :mod:`~lcdnet_jax.inference.windows` chooses.

    Attributes:
        module: The network.
        tile, overlap, max_pixels, bucket, tile_batch: As for
            :class:`~lcdnet_jax.inference.Restorer`.
        devices: The devices that compute.
    """

    module: networks.RestorationNetwork
    tile: int | None
    overlap: int
    max_pixels: int | None
    bucket: int | None
    tile_batch: int | None
    devices: tuple[jax.Device, ...]

    @property
    def whole_bucket(self) -> int | None:
        """The bucket of whole images."""
        if not self.module.global_means:
            return self.bucket
        # Mirrored pixels in the place of the network's own zeros would change all means.
        return self.module.stride if self.module.padding == "reflect" else 1

    def is_whole(self, height: int, width: int) -> bool:
        """Whether an image is one window."""
        if self.tile is not None:
            return max(height, width) <= self.tile
        rows, columns = self.pad_sides(height, width)
        pixels = rows * columns * self.module.scale**2
        return self.max_pixels is None or pixels <= self.max_pixels

    def pad_sides(self, height: int, width: int) -> tuple[int, int]:
        """Computes height and width of a whole image with its padding."""
        rows, columns = (
            tiling.compute_padded_size(
                side, self.whole_bucket, tile=self.tile, overlap=self.overlap
            )
            for side in (height, width)
        )
        return rows, columns

    def place_windows(self, height: int, width: int) -> tuple[windows.Places, windows.Places]:
        """Places tiles of the size that was asked for, or windows that fit the image.

        Returns:
            The places of the windows' rows and of their columns.
        """
        if self.tile is None:
            return windows.choose_windows(
                height,
                width,
                overlap=self.overlap,
                stride=self.module.stride,
                bucket=self.bucket,
                most_pixels=windows.limit_pixels(
                    self.max_pixels,
                    overlap=self.overlap,
                    scale=self.module.scale,
                    window_pixels=self.module.window_pixels,
                ),
            )
        rows, columns = (
            tiling.place_tiles(side, tile=self.tile, overlap=self.overlap, bucket=self.bucket)
            for side in (height, width)
        )
        return rows, columns

    def measure_window(self, height: int, width: int) -> tuple[int, int]:
        """Computes height and width of the windows of an image."""
        if self.is_whole(height, width):
            return self.pad_sides(height, width)
        (_, row_weights), (_, column_weights) = self.place_windows(height, width)
        return row_weights.shape[1], column_weights.shape[1]

    def count_windows(self, height: int, width: int) -> int:
        """Counts the windows of an image."""
        if self.is_whole(height, width):
            return 1
        (tops, _), (lefts, _) = self.place_windows(height, width)
        return len(tops) * len(lefts)

    def count_windows_per_call(self, height: int, width: int) -> int:
        """Counts the windows of one size in one call, on all devices together."""
        each = self.tile_batch
        if each is None:
            fitting = _PIXELS_PER_CALL // (height * width * self.module.scale**2)
            on_cpu = self.devices[0].platform == "cpu"
            each = 1 if on_cpu else max(1, min(fitting, _MOST_WINDOWS_PER_CALL))
        return each * len(self.devices)

    def count_pixels_per_call(self, height: int, width: int) -> int:
        """Counts the pixels of all windows in one call for an image."""
        rows, columns = self.measure_window(height, width)
        return rows * columns * self.count_windows_per_call(rows, columns)

    def find_smaller(self, height: int, width: int) -> SmallerWindows | None:
        """Finds options that need less memory for an image; None if no windows are smaller."""
        frame = self.measure_window(height, width)
        if self.count_windows_per_call(*frame) > len(self.devices):
            return SmallerWindows({"tile_batch": 1}, "windows as large are computed one by one")
        least = 2 * self.overlap + tiling.RAMP + 1
        least += -least % tiling.STRIDE
        tile = min(tiling.TILE, max(frame) // 2 // tiling.STRIDE * tiling.STRIDE)
        tile = max(tile, least)
        if tile >= max(frame):
            return None
        description = f"using tiles of {tile}x{tile} for images as large"
        if self.is_whole(height, width) and self.module.global_means:
            description += ", which change the result of this network"
        return SmallerWindows({"tile": tile}, description)
