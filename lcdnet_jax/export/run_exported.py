"""Runs a network that ``lcdnet_jax.export`` wrote.

This file can be copied anywhere. It needs the exported file, JAX, NumPy and flatbuffers (with which
JAX reads programs), and no other file of lcdnet_jax. In Python::

    restore = run_exported.load("model.jaxprog")
    restored = restore(images)  # [N, H, W, C], floating point in [0, 1], any H and W

For one 8-bit image file, with Pillow::

    python run_exported.py model.jaxprog in.png out.png
"""

import argparse
import json
import os
import pathlib
import sys
import zipfile
from collections.abc import Sequence
from typing import IO, Any

import jax
import numpy as np

FORMAT = "lcdnet_jax program 1"
_MAX_CARD = 2**24  # bytes
_MAX_SIDE = 16_000  # pixels, that of lcdnet_jax.export

# Of pictures that are written: without loss, and JPEG.
_SUFFIXES = (".png", ".tif", ".tiff", ".bmp", ".jpg", ".jpeg")


class ProgramError(ValueError):
    """A file or an image cannot be used; the message names the fix."""


class Program:
    """A network with its weights, made by :func:`load`.

    Attributes:
        card: Description of the program: "network", "channels" of an image, "scale" (the factor
            between the sides of results and images), "platforms", "verified" and more.
    """

    def __init__(self, card: dict[str, Any], programs: Sequence[bytes], device: jax.Device):
        self.card = card
        self._device = device
        self._functions = [jax.jit(_deserialize(data, card).call) for data in programs]

    def __call__(self, images: np.ndarray) -> np.ndarray:
        """Restores a batch.

        An image is mirrored at the bottom and right up to a size that the program takes, and the
        result is cropped. For a network that pads with zeros ("padding" in the card is "constant"),
        zeros are appended instead. JAX compiles once for each such size and number of images.

        Args:
            images: ``[N, H, W, C]``, floating point in [0, 1].

        Returns:
            ``[N, H, W, C]`` (H and W times "scale"), float32, not clipped.

        Raises:
            ProgramError: For other arrays, NaN or infinity, or images larger than the program's.
        """
        images, channels = np.asarray(images), self.card["channels"]
        if images.ndim != 4 or images.shape[3] != channels or images.size == 0:
            raise ProgramError(f"expected images [N, H, W, {channels}], got shape {images.shape}")
        if images.dtype.kind != "f":
            raise ProgramError(
                f"expected floating point in [0, 1], got {images.dtype}; divide by the largest "
                "value of the type"
            )
        if not np.isfinite(images).all():
            raise ProgramError("the images hold NaN or infinity; fix them first")
        height, width = images.shape[1:3]
        number, (full_height, full_width) = self._choose_program(height, width)
        margin = ((0, 0), (0, full_height - height), (0, full_width - width), (0, 0))
        mode: Any = self.card.get("padding") or "reflect"  # older cards have none
        padded = np.pad(images.astype(np.float32), margin, mode=mode)
        restored = np.asarray(self._functions[number](jax.device_put(padded, self._device)))
        scale = self.card["scale"]
        if restored.shape[1:3] != (full_height * scale, full_width * scale):
            raise ProgramError(
                f"the program does not enlarge images by a factor of {scale}, as its card says; "
                "export it again"
            )
        return restored[:, : height * scale, : width * scale]

    def _choose_program(self, height: int, width: int) -> tuple[int, tuple[int, int]]:
        """Index of the program for images of this size, and the size to pad them to."""
        sizes, stride, limit = (self.card[key] for key in ("sizes", "stride", "max_side"))
        if sizes is None:
            padded = (height + -height % stride, width + -width % stride)
            if max(padded) <= limit:
                return 0, padded
            known = f"sides of up to {limit} pixels"
        else:
            fit = [(h * w, i) for i, (h, w) in enumerate(sizes) if height <= h and width <= w]
            if fit:
                _, number = min(fit)
                return number, tuple(sizes[number])
            known = " or ".join(f"{h}x{w}" for h, w in sizes)
        raise ProgramError(
            f"an image of {height}x{width} pixels is too large for this program, which takes "
            f"{known}; cut the image or export for a larger size"
        )


def load(path: str | os.PathLike[str] | IO[bytes], *, device: jax.Device | None = None) -> Program:
    """Opens an exported network.

    Args:
        path: The file, or its content as an open binary stream.
        device: The JAX device that runs the program; None means JAX's first.

    Returns:
        The program, a function of images.

    Raises:
        ProgramError: For a damaged file, another kind of file, or a program for other devices.
        ImportError: If flatbuffers is not installed.
        OSError: If the file cannot be read.
    """
    try:
        with zipfile.ZipFile(path) as file:
            _check_archive(file)
            card = json.loads(file.read("card.json"))
            _check_card(card)
            programs = [file.read(name) for name in card["programs"]]
    except (ProgramError, OSError):
        raise
    except Exception as error:  # of many types, from zipfile, zlib, json and the card's fields
        raise ProgramError(
            f"this is not an exported network, or a damaged one ({str(error)[:200]}); restore it "
            "from a backup, or export it again"
        ) from error
    device = device or _first_device()
    names = {"cuda", "rocm"} if device.platform == "gpu" else {device.platform}
    if names.isdisjoint(card["platforms"]):
        raise ProgramError(
            f"the program is for {', '.join(card['platforms'])}, the device is {device.platform}; "
            "export it for that platform"
        )
    return Program(card, programs, device)


def _first_device() -> jax.Device:
    try:
        return jax.local_devices()[0]
    except (AssertionError, RuntimeError) as error:  # JAX asserts where a plugin is missing
        asked = os.environ.get("JAX_PLATFORMS", "")
        raise ProgramError(
            f"JAX finds no device with JAX_PLATFORMS={asked!r}; unset JAX_PLATFORMS, or install "
            "JAX's plugin for it"
        ) from error


def _check_archive(file: zipfile.ZipFile) -> None:
    """Raises an error if the archive would unpack to more than its own size."""
    members = {member.filename: member for member in file.infolist()}
    unpacked = sum(member.file_size for member in file.infolist())
    end = file.fp.seek(0, os.SEEK_END) if file.fp else 0
    if len(members) != len(file.infolist()) or unpacked > end:
        raise ValueError("its members are repeated or compressed, which this program never does")
    if members["card.json"].file_size > _MAX_CARD:
        raise ValueError("its card is too large")


def _escape(text: str) -> str:
    """Shows control characters, which may come from the file, as backslash sequences."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def _check_card(card: dict[str, Any]) -> None:
    """Raises an error, which may be of any type, unless the card is complete."""
    if card["format"] != FORMAT:
        raise ProgramError(
            f"the file's format is {card['format']!r}, not {FORMAT!r}; use the run_exported.py of "
            "the version that wrote it"
        )
    fields = ("channels", "scale", "sizes", "stride", "max_side", "platforms", "programs", "jax")
    if missing := [name for name in fields if name not in card]:
        raise ValueError(f"its card has no {', '.join(missing)}")
    sizes, programs = card["sizes"], card["programs"]
    if len(set(programs)) != len(programs):
        raise ValueError("its card names a program twice")
    counts = ["channels", "scale", *(("stride", "max_side") if sizes is None else ())]
    numbers = [card[name] for name in counts] + [side for size in sizes or () for side in size]
    # No larger: images are padded to these sizes.
    if not all(type(number) is int and 1 <= number <= _MAX_SIDE for number in numbers):
        raise ValueError(f"{', '.join(counts)} or sizes in its card are not numbers of pixels")
    if card.get("padding") not in (None, "reflect", "constant"):
        raise ValueError("padding in its card is neither 'reflect' nor 'constant'")
    if not all(isinstance(text, str) for text in (card["jax"], *card["platforms"], *programs)):
        raise ValueError("jax, platforms or programs in its card are not names")
    if len(programs) != (1 if sizes is None else len(sizes)) or not all(
        len(size) == 2 for size in sizes or ()
    ):
        raise ValueError("sizes and programs in its card do not fit together")


def _deserialize(data: bytes, card: dict[str, Any]) -> Any:
    from jax import export

    try:
        return export.deserialize(bytearray(data))
    except ImportError as error:
        raise ImportError(
            f"JAX reads programs with flatbuffers, which cannot be imported ({error}); run\n"
            "  pip install flatbuffers"
        ) from error
    except Exception as error:  # JAX does not document the types
        raise ProgramError(
            f"JAX {jax.__version__} cannot read this program, written with JAX {card['jax']} "
            f"({str(error).partition(chr(10))[0]}); use that version or a newer one"
        ) from error


def main(argv: Sequence[str] | None = None) -> None:
    """Restores one picture.

    Args:
        argv: The arguments without the name of the program. None means those of the command line.

    Raises:
        SystemExit: With a message of one line if the picture cannot be restored.
    """
    parser = argparse.ArgumentParser(description="Restores an 8-bit picture; needs Pillow.")
    parser.add_argument("model", help="file that lcdnet_jax.export wrote")
    parser.add_argument("input", help="picture, 8-bit gray or RGB")
    parser.add_argument("output", help="picture to write, without metadata")
    parser.add_argument("--force", action="store_true", help="replace the output")
    arguments = parser.parse_args(argv)
    try:
        _restore_file(arguments.model, arguments.input, arguments.output, arguments.force)
    except Exception as error:  # also of JAX, for an image that does not fit into memory
        sys.exit(f"error: {_escape(' '.join(str(error).split()) or repr(error))}")


def _check_output(path: str, *, force: bool) -> None:
    """Raises an error before anything is computed if the output cannot be written."""
    output = pathlib.Path(path)
    if output.suffix.lower() not in _SUFFIXES:
        raise ProgramError(f"{output}: name the output {', '.join(_SUFFIXES)}")
    if not output.parent.is_dir():
        raise ProgramError(f"{output.parent} is not a folder; create it first")
    if output.exists() and not force:
        raise ProgramError(f"{output} exists; choose another name, or --force")


def _restore_file(model: str, source: str, target: str, force: bool) -> None:
    try:
        from PIL import Image, ImageOps
    except ImportError as error:
        raise ImportError(
            f"pictures need Pillow ({error}); run\n  pip install pillow\nor call load in Python"
        ) from error
    _check_output(target, force=force)
    output = pathlib.Path(target)
    restore = load(model)
    try:
        with Image.open(source) as file:
            mode = file.mode
            pixels = np.asarray(ImageOps.exif_transpose(file), np.float32) / 255
    except OSError:
        raise
    except Exception as error:  # of many types, from Pillow's readers of damaged files
        raise ProgramError(
            f"{source} cannot be read ({error}); restore it from a backup"
        ) from error
    if mode not in ("L", "RGB"):
        raise ProgramError(
            f"{source} is of Pillow's mode {mode}, this program takes 8-bit gray (L) and RGB; "
            "convert it, or use lcdnet-jax restore"
        )
    gray = mode == "L"
    if restore.card["channels"] == 1:  # colors one by one
        planes = pixels[None] if gray else pixels.transpose(2, 0, 1)
        restored = restore(planes[..., None])[..., 0].transpose(1, 2, 0)
    else:  # gray as a color image
        color = np.stack([pixels] * 3, axis=-1) if gray else pixels
        restored = restore(color[None])[0]
        restored = restored.mean(axis=-1, keepdims=True) if gray else restored
    image = np.rint(np.clip(restored, 0, 1) * 255).astype(np.uint8)
    temporary = output.with_name(f".{os.getpid()}{output.suffix}")
    try:
        options: dict[str, Any] = (
            {"quality": 95} if output.suffix.lower() in (".jpg", ".jpeg") else {}
        )
        Image.fromarray(image[..., 0] if gray else image).save(temporary, **options)
        os.replace(temporary, output)
    finally:
        temporary.unlink(missing_ok=True)


if __name__ == "__main__":
    main()
