"""Runs an ONNX file that ``lcdnet_jax.export`` wrote, with ONNX Runtime.

This file can be copied anywhere. It needs onnxruntime, NumPy and, for picture files, Pillow; no
JAX, and no other file of lcdnet_jax. For one picture::

    python run_onnx.py model.onnx in.png out.png

In Python::

    model = run_onnx.load("model.onnx")
    restored = model.restore(image)  # [H, W, C], floating point in [0, 1], of any size
    restored = model(images)  # the same for a batch [N, H, W, C], without windows
"""

import argparse
import json
import os
import pathlib
import struct
import sys
import zlib
from collections.abc import Iterator, Sequence
from typing import Any, Literal

import numpy as np

FORMAT = "lcdnet_jax ONNX 1"
CARD = "lcdnet_jax"  # the entry of the metadata that holds the card

# Sides of windows in pixels, by default. Larger ones compute fewer pixels twice.
TILE = 768

_STEP = 32  # sides are padded to a multiple of it

# Of pictures that are written: without loss, and JPEG.
_SUFFIXES = (".png", ".tif", ".tiff", ".bmp", ".jpg", ".jpeg")


class ModelError(ValueError):
    """A file or an image cannot be used; the message names the fix."""


class Model:
    """A network with its weights, made by :func:`load`.

    Attributes:
        card: Description of the network: "network", "channels" of an image, "scale" (the factor
            between the sides of results and images), "stride" (of which sides are multiples inside
            the file; the model pads), "range" of values, "verified" and more.
    """

    def __init__(self, card: dict[str, Any], session: Any):
        self.card = card
        self._session = session

    def __call__(self, images: np.ndarray) -> np.ndarray:
        """Restores a batch.

        Images are padded at the bottom and right to a size that the file takes, as the network
        itself does ("padding" in the card), and the result is cropped.

        Args:
            images: ``[N, H, W, C]``, floating point in [0, 1].

        Returns:
            ``[N, H, W, C]`` (H and W times "scale"), float32, not clipped.

        Raises:
            ModelError: For other arrays, NaN or infinity, or images larger than the file takes.
        """
        images = np.asarray(images)
        self._check(images, 4)
        height, width = images.shape[1:3]
        full_height, full_width = self._pad_sides(height, width)
        margin = ((0, 0), (0, full_height - height), (0, full_width - width), (0, 0))
        mode: Literal["reflect", "constant"] = self.card["padding"] or "reflect"
        restored = self._run(np.pad(images.astype(np.float32), margin, mode=mode))
        scale = self.card["scale"]
        return restored[:, : height * scale, : width * scale]

    def restore(self, image: np.ndarray, *, tile: int | None = None) -> np.ndarray:
        """Restores an image of any size, in windows if it is large.

        Windows overlap. A network whose results depend on the whole image (means, Fourier
        transforms) takes it whole, unless the file has a fixed size or ``tile`` is given, and
        windows give it other results.

        Args:
            image: ``[H, W, C]``, floating point in [0, 1]. A color image is restored channel by
                channel by a network for gray ones, and a gray image as color by one for color.
            tile: Largest side of a window in pixels. None means :data:`TILE`.

        Returns:
            ``[H, W, C]`` (H and W times "scale"), float32, not clipped.

        Raises:
            ModelError: For other arrays, NaN or infinity, or a tile that is too small.
        """
        image, wanted = np.asarray(image), self.card["channels"]
        channels = image.shape[-1] if image.ndim == 3 else 0
        if wanted == 1 and channels > 1:
            planes = [self.restore(image[..., c : c + 1], tile=tile) for c in range(channels)]
            return np.concatenate(planes, axis=-1)
        if wanted == 3 and channels == 1:
            color = np.repeat(image, 3, axis=-1)
            return self.restore(color, tile=tile).mean(axis=-1, keepdims=True)
        self._check(image, 3)
        if tile is None and self.card["global_means"] and not self.card["sizes"]:
            return self(image[None])[0]
        return self._restore_windows(image.astype(np.float32), tile)

    def _restore_windows(self, image: np.ndarray, tile: int | None) -> np.ndarray:
        height, width, _ = image.shape
        rows, columns = self._plan_windows(height, width, tile)
        margin = ((0, rows.end - height), (0, columns.end - width), (0, 0))
        padded = np.pad(image, margin, mode="reflect")
        scale = self.card["scale"]
        result = np.empty(0)
        for top, first_row, last_row in rows:
            for left, first, last in columns:
                window = padded[top : top + rows.tile, left : left + columns.tile]
                restored = self._run(window[None])[0]
                if not result.size:
                    shape = (rows.end * scale, columns.end * scale, restored.shape[-1])
                    result = np.empty(shape, np.float32)
                result[first_row * scale : last_row * scale, first * scale : last * scale] = (
                    restored[
                        (first_row - top) * scale : (last_row - top) * scale,
                        (first - left) * scale : (last - left) * scale,
                    ]
                )
        return result[: height * scale, : width * scale]

    def _plan_windows(
        self, height: int, width: int, tile: int | None
    ) -> tuple["_Windows", "_Windows"]:
        stride, overlap = self.card["stride"] or 1, self.card["tile_overlap"]
        if self.card["sizes"]:
            sides = self.card["sizes"][0]
            if tile not in (None, *sides):
                raise ModelError(
                    f"the file takes {sides[0]}x{sides[1]} pixels; leave tile off, or export it "
                    "for another size"
                )
            ends = [max(full, side) for full, side in zip(sides, (height, width), strict=True)]
            # A fixed size may be hardly larger than the overlap of the network.
            overlaps = [min(overlap, side // 4) for side in sides]
        else:
            # As far as the network sees, the image is mirrored to one of a few sizes, as
            # lcdnet-jax restore does.
            ends = [
                min(_round_up(side), side + overlap + -(side + overlap) % _STEP)
                for side in (height, width)
            ]
            ends = [end + -end % stride for end in ends]
            largest = TILE if tile is None else tile
            sides = [min(largest - largest % stride, end) for end in ends]
            overlaps = [overlap] * 2
        for side, end, margin in zip(sides, ends, overlaps, strict=True):
            if side < end and side < 2 * margin + stride:
                raise ModelError(
                    f"a tile of {tile} pixels is too small for an overlap of {margin} on both "
                    f"sides; use at least {4 * margin}"
                )
        rows, columns = (
            _Windows(end, side, margin, stride)
            for end, side, margin in zip(ends, sides, overlaps, strict=True)
        )
        return rows, columns

    def _run(self, images: np.ndarray) -> np.ndarray:
        (restored,) = self._session.run(None, {"images": np.ascontiguousarray(images)})
        expected = tuple(side * self.card["scale"] for side in images.shape[1:3])
        if restored.shape[1:3] != expected:
            raise ModelError(
                f"the file does not enlarge images by a factor of {self.card['scale']}, as its "
                "card says; export it again"
            )
        return restored

    def _pad_sides(self, height: int, width: int) -> tuple[int, int]:
        sizes, stride, limit = (self.card[key] for key in ("sizes", "stride", "max_side"))
        if sizes is None:
            padded = (height + -height % stride, width + -width % stride)
            if max(padded) <= limit:
                return padded
            known = f"sides of up to {limit} pixels"
        else:
            full_height, full_width = sizes[0]
            if height <= full_height and width <= full_width:
                return full_height, full_width
            known = f"{full_height}x{full_width}"
        raise ModelError(
            f"an image of {height}x{width} pixels is too large for this file, which takes {known}; "
            "use restore, which cuts it into windows"
        )

    def _check(self, images: np.ndarray, rank: int) -> None:
        channels, axes = self.card["channels"], "N, H, W" if rank == 4 else "H, W"
        if images.ndim != rank or images.shape[-1] != channels or images.size == 0:
            raise ModelError(f"expected [{axes}, {channels}], got shape {images.shape}")
        if images.dtype.kind != "f":
            raise ModelError(
                f"expected floating point in [0, 1], got {images.dtype}; divide by the largest "
                "value of the type"
            )
        if not np.isfinite(images).all():
            raise ModelError("the images hold NaN or infinity; fix them first")


class _Windows:
    """Windows along one side: iterates over (start, first pixel to keep, end of those to keep)."""

    def __init__(self, end: int, tile: int, overlap: int, stride: int):
        self.end, self.tile = end, tile
        step = max((tile - 2 * overlap) // stride * stride, stride)
        self._starts = [*range(0, end - tile, step), end - tile]
        self._overlap = overlap

    def __iter__(self) -> Iterator[tuple[int, int, int]]:
        last = len(self._starts) - 1
        for i, start in enumerate(self._starts):
            yield (
                start,
                start + (self._overlap if i else 0),
                start + self.tile - (self._overlap if i < last else 0),
            )


def _round_up(side: int) -> int:
    """The next of 64, 96, 128, 192, 256, ...: powers of two, and 1.5 times each."""
    power = max(64, 1 << (side - 1).bit_length())
    return power * 3 // 4 if side <= power * 3 // 4 and power > 64 else power


def load(
    path: str | os.PathLike[str] | bytes,
    *,
    threads: int = 0,
    providers: Sequence[str] | None = None,
) -> Model:
    """Opens a file.

    Args:
        path: The file, or its content.
        threads: Number of threads; 0 means one per core.
        providers: Execution providers of ONNX Runtime; None means the CPU.

    Returns:
        The model, a function of images.

    Raises:
        ModelError: For a damaged file, another kind of file, or one of another version.
        OSError: If the file cannot be read.
        ImportError: If ONNX Runtime is not installed.
    """
    onnxruntime = _import_onnxruntime()
    data = path if isinstance(path, bytes) else pathlib.Path(path).read_bytes()
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    try:
        session = onnxruntime.InferenceSession(
            data, options, providers=providers or ["CPUExecutionProvider"]
        )
    except Exception as error:  # of many types, which derive from nothing else
        raise ModelError(
            "ONNX Runtime cannot load this file "
            f"({' '.join(str(error).split())[:200]}); install a newer onnxruntime, or export it "
            "again"
        ) from error
    return Model(_read_card(session.get_modelmeta().custom_metadata_map), session)


def _import_onnxruntime() -> Any:
    try:
        import onnxruntime
    except ImportError as error:
        raise ImportError(
            f"ONNX files need ONNX Runtime ({error}); run\n  pip install onnxruntime"
        ) from error
    return onnxruntime


def _read_card(metadata: dict[str, str]) -> dict[str, Any]:
    if CARD not in metadata:
        raise ModelError(
            "the file has no card of lcdnet_jax; give one that 'lcdnet-jax export' wrote"
        )
    try:
        card = json.loads(metadata[CARD])
        _check_card(card)
    except ModelError:
        raise
    except Exception as error:  # of many types, from the fields of the card
        raise ModelError(
            f"the card of the file is damaged ({str(error)[:200]}); export it again"
        ) from error
    return card


def _check_card(card: Any) -> None:
    """Raises an error for a card of another version, or one that :class:`Model` cannot use."""
    known = card["format"]
    if known != FORMAT:
        raise ModelError(
            f"the file has the format {str(known)[:60]!r}, this is for {FORMAT!r}; use the "
            "run_onnx.py of the version that wrote it"
        )
    sizes, stride = card["sizes"], card["stride"]
    numbers = [card["channels"], card["scale"]]
    if sizes is None:
        numbers += [stride, card["max_side"]]
    else:
        ((height, width),) = sizes
        numbers += [height, width]
    overlap = card["tile_overlap"]
    if not all(type(number) is int and 1 <= number <= 2**24 for number in numbers):
        raise ValueError("its numbers of pixels are not positive integers")
    if type(overlap) is not int or not 0 <= overlap <= 2**16:
        raise ValueError("tile_overlap is not a number of pixels")
    if card["padding"] not in (None, "reflect", "constant"):
        raise ValueError("padding is neither 'reflect' nor 'constant'")
    if not isinstance(card["global_means"], bool):
        raise ValueError("global_means is neither true nor false")


def read_picture(path: str | os.PathLike[str]) -> tuple[np.ndarray, int]:
    """Reads a gray or RGB picture with 8 or 16 bits.

    Args:
        path: A file that Pillow reads; of those with 16 bits per color, PNG.

    Returns:
        ``[H, W, 1]`` or ``[H, W, 3]`` float32 in [0, 1], turned upright, and the number of bits.

    Raises:
        ModelError: For other kinds of pictures and damaged files.
        OSError: If the file cannot be read.
        ImportError: If Pillow is not installed.
    """
    Image, ImageOps = _import_pillow()
    data = pathlib.Path(path).read_bytes()
    # Pillow reads such a PNG with 8 bits: the high bytes, or the low ones if it is told that the
    # bytes come in the other order.
    deep = data[:8] == b"\x89PNG\r\n\x1a\n" and data[24:26] == b"\x10\x02"
    parts = []
    try:
        for order in ("RGB;16B", "RGB;16L") if deep else (None,):
            with Image.open(pathlib.Path(path)) as file:
                if deep:
                    file.tile = [tile._replace(args=order) for tile in file.tile]
                mode = file.mode
                transparent = "transparency" in file.info
                parts.append(np.asarray(ImageOps.exif_transpose(file)))
    except OSError as error:
        raise ModelError(f"{path} cannot be read ({error})") from error
    except Exception as error:  # of many types, from Pillow's readers of damaged files
        raise ModelError(f"{path} cannot be read ({error}); restore it from a backup") from error
    if mode not in ("L", "RGB", "I;16") or transparent:
        raise ModelError(
            f"{path} is of Pillow's mode {mode}{', with transparency' if transparent else ''}; "
            "this program takes gray (L, I;16) and RGB; convert it, or use lcdnet-jax restore"
        )
    pixels = parts[0]
    if deep:
        pixels = parts[0].astype(np.uint16) * 256 + parts[1]
    bits = 16 if deep or mode == "I;16" else 8
    pixels = pixels[..., None] if pixels.ndim == 2 else pixels
    return pixels.astype(np.float32) / np.float32(2**bits - 1), bits


def write_picture(path: str | os.PathLike[str], image: np.ndarray, bits: int) -> None:
    """Writes a picture, completely or not at all.

    Args:
        path: The file. Its suffix selects the format; with 16 bits it must be ".png".
        image: ``[H, W, 1]`` or ``[H, W, 3]``, floating point, clipped to [0, 1].
        bits: 8 or 16.

    Raises:
        ModelError: For 16 bits in another format.
        OSError, ValueError: If Pillow cannot write it.
        ImportError: If Pillow is not installed.
    """
    Image, _ = _import_pillow()
    path = pathlib.Path(path)
    if bits == 16 and path.suffix.lower() != ".png":
        raise ModelError(f"16 bits are written as PNG only, not as {path.suffix}; name it .png")
    kind = np.uint16 if bits == 16 else np.uint8
    pixels = np.rint(np.clip(image, 0, 1) * np.float32(2**bits - 1)).astype(kind)
    temporary = path.with_name(f".{os.getpid()}{path.suffix}")
    try:
        if bits == 16 and pixels.shape[-1] == 3:
            temporary.write_bytes(_encode_png(pixels))
        else:
            options = {"quality": 95} if path.suffix.lower() in (".jpg", ".jpeg") else {}
            gray = pixels.shape[-1] == 1
            Image.fromarray(pixels[..., 0] if gray else pixels).save(temporary, **options)
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def _encode_png(pixels: np.ndarray) -> bytes:
    """Encodes RGB with 16 bits, which Pillow cannot write."""
    height, width, _ = pixels.shape
    rows = pixels.astype(">u2").view(np.uint8).reshape(height, -1)
    filtered = rows.copy()
    filtered[1:] -= rows[:-1]  # PNG's filter 2: the difference to the row above, modulo 256
    lines = np.concatenate([np.full((height, 1), 2, np.uint8), filtered], axis=1)
    header = struct.pack(">IIBBBBB", width, height, 16, 2, 0, 0, 0)
    chunks = ((b"IHDR", header), (b"IDAT", zlib.compress(lines.tobytes(), 6)), (b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        for kind, data in chunks
    )


def _check_output(path: str, *, force: bool) -> None:
    """Raises an error before anything is computed if the output cannot be written."""
    output = pathlib.Path(path)
    if output.suffix.lower() not in _SUFFIXES:
        raise ModelError(f"{output}: name the output {', '.join(_SUFFIXES)}")
    if not output.parent.is_dir():
        raise ModelError(f"{output.parent} is not a folder; create it first")
    if output.exists() and not force:
        raise ModelError(f"{output} exists; choose another name, or --force")


def _import_pillow() -> tuple[Any, Any]:
    try:
        from PIL import Image, ImageOps
    except ImportError as error:
        raise ImportError(
            f"pictures need Pillow ({error}); run\n  pip install pillow\nor call load in Python"
        ) from error
    return Image, ImageOps


def main(arguments: list[str] | None = None) -> None:
    """Restores one picture file.

    Args:
        arguments: The command line without the program's name; None means that of the process.

    Raises:
        SystemExit: With one line that names the error.
    """
    parser = argparse.ArgumentParser(description="Restores one picture with an ONNX file.")
    parser.add_argument("model", help="the ONNX file")
    parser.add_argument("input", help="the picture: gray or RGB, 8 bits, or 16 bits in a PNG")
    parser.add_argument("output", help="the result, with the bits of the picture")
    parser.add_argument("--tile", type=int, metavar="N", help="largest side of a window")
    parser.add_argument("--threads", type=int, default=0, metavar="N", help="default: all cores")
    parser.add_argument("--force", action="store_true", help="replace the output")
    options = parser.parse_args(arguments)
    try:
        _check_output(options.output, force=options.force)
        model = load(options.model, threads=options.threads)
        image, bits = read_picture(options.input)
        write_picture(options.output, model.restore(image, tile=options.tile), bits)
    except Exception as error:  # a program of one command reports every failure in one line
        text = " ".join(str(error).split()) or type(error).__name__
        sys.exit("error: " + "".join(c if c.isprintable() else repr(c)[1:-1] for c in text))


if __name__ == "__main__":
    main()
