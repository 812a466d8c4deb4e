import os
import pathlib
import resource
import struct
import zlib

import numpy as np
import pytest
from PIL import Image

from lcdnet_jax import image_io, storage
from lcdnet_jax.image_io import ImageError, headers
from tests.image_io.files import (
    chunk,
    dng,
    heif,
    noise,
    opencv,
    photo,
    png_with,
    saved,
    tiff,
)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", r"bad\.png: the file is empty"),
        (b"hello, I am a text file\n" * 9, r"bad\.png: contains no PNG.*b'hello"),
        (b"GIF89a" + bytes(99), r"bad\.png: contains no PNG.*convert it"),
        (b"\x89PNG\r\n\x1a\n" + bytes(99), r"bad\.png: the PNG file is cut short"),
        (b"BM" + bytes(99), r"bad\.png: the BMP header is damaged"),
        (b"\xff\xd8\xff" + bytes(99), r"bad\.png: the JPEG header is damaged"),
        (b"II*\0" + bytes(99), r"bad\.png: the TIFF header is damaged"),
        (b"RIFF" + bytes(99), r"bad\.png: the WEBP header is damaged"),
    ],
)
def test_files_that_are_no_images(tmp_path, data, message):
    path = tmp_path / "bad.png"
    path.write_bytes(data)
    for function in (image_io.read, image_io.read_header):
        with pytest.raises(ImageError, match=message):
            function(path)
    with pytest.raises(ImageError, match=message):
        image_io.decode_header(data, name="bad.png")


def test_missing_file_and_folder_instead_of_file(tmp_path):
    for path in (tmp_path / "none.png", tmp_path):
        for function in (image_io.read, image_io.read_header):
            with pytest.raises(ImageError, match=rf"{path.name}: cannot be read"):
                function(path)


def test_a_pipe_does_not_hang(tmp_path):
    os.mkfifo(tmp_path / "pipe.png")
    for path in (tmp_path / "pipe.png", "/dev/null"):
        for function in (image_io.read, image_io.read_header, image_io.read_with_metadata):
            with pytest.raises(ImageError, match="is not a regular file but a pipe or device"):
                function(path)


@pytest.mark.parametrize("limit", [1000, 4000])  # Pillow raises above twice this, else warns
def test_suspiciously_large_image(monkeypatch, limit):
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", limit)
    with pytest.raises(ImageError, match=r"^x: .*pixels.*raise PIL\.Image\.MAX_IMAGE_PIXELS"):
        image_io.decode(saved(photo(), "PNG"), name="x")


@pytest.mark.parametrize("height", [61, 99])
@pytest.mark.parametrize("function", [image_io.read, image_io.read_with_metadata])
def test_a_file_that_changes_while_it_is_read(tmp_path, monkeypatch, function, height):
    """Old and new rows would be mixed."""
    path = tmp_path / "a.tif"
    path.write_bytes(tiff(photo()))
    check_file_size = headers._check_file_size

    def change(stream, name):
        check_file_size(stream, name)
        path.write_bytes(tiff(photo(height=height)))
        os.utime(path, ns=(1, 1))  # clocks of files are coarse

    monkeypatch.setattr(headers, "_check_file_size", change)
    with pytest.raises(ImageError, match=r"a\.tif: was changed while it was read; read it"):
        function(path)


@pytest.mark.parametrize("kind", ["WEBP", "AVIF"])
def test_a_cut_header_is_no_unsupported_kind(kind):
    data = saved(photo(), kind)
    with pytest.raises(ImageError, match=f"^x: the {kind} header is damaged or cut short; copy"):
        image_io.decode(data[: len(data) // 2], name="x")


def test_damage_without_words_of_pillow(monkeypatch):
    def fail(*_):
        raise EOFError

    monkeypatch.setattr(headers, "read_orientation", fail)
    with pytest.raises(ImageError, match=r"^x: the JPEG header is damaged \(EOFError\); copy"):
        image_io.decode(saved(photo(), "JPEG"), name="x")


def test_zero_size():
    header = chunk(b"IHDR", struct.pack(">IIBBBBB", 0, 5, 8, 2, 0, 0, 0))
    data = b"\x89PNG\r\n\x1a\n" + header + chunk(b"IDAT", zlib.compress(b"")) + chunk(b"IEND", b"")
    with pytest.raises(ImageError, match="zero size"):
        image_io.decode(data, name="x")


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (
            lambda: tiff(photo()[..., 0].astype(np.float32)),
            "floating-point TIFF with 32 bits.*by read_with_metadata",
        ),
        (
            lambda: tiff(photo().astype(np.float16)),
            "floating-point TIFF with 16 bits.*by read_with_metadata",
        ),
        (lambda: tiff(photo()[..., 0].astype(np.int16)), "signed TIFF with 16 bits"),
        (lambda: tiff(photo()[..., 0].astype(np.uint32)), "unsigned TIFF with 32 bits"),
        (lambda: tiff(photo().astype(np.float64)), "floating-point TIFF with 64 bits"),
        (lambda: tiff(np.stack([photo()] * 3)), "3 pictures"),
        (lambda: tiff(np.stack([photo(np.uint16)] * 2)), "2 pictures"),
        (
            lambda: saved(
                photo(), "PNG", save_all=True, append_images=[Image.new("RGB", (67, 61))]
            ),
            "2 pictures",
        ),
        (
            lambda: saved(
                photo(), "WEBP", save_all=True, append_images=[Image.new("RGB", (67, 61))]
            ),
            "2 pictures",
        ),
        (
            lambda: png_with(opencv(photo(np.uint16), ".png"), chunk(b"tRNS", bytes(6))),
            "one transparent color",
        ),
        (lambda: tiff(photo(), compression="webp"), "TIFF compressed as WEBP is not supported"),
        (lambda: tiff(photo(), compression="png"), "TIFF compressed as PNG is not supported"),
        (lambda: tiff(photo(), compression="jpegxl"), "TIFF compressed as JPEGXL is not supported"),
        (lambda: tiff(noise((13, 17, 4)), extrasamples=["unspecified"]), "neither color nor alpha"),
    ],
)
def test_unsupported_kinds_say_so(make, message):
    with pytest.raises(ImageError, match=f"^odd: .*{message}.*save"):
        image_io.decode(make(), name="odd")


def test_double_precision_is_advised_to_be_saved_in_single_precision():
    with pytest.raises(ImageError, match=r"restore, as floating-point numbers with 32 bits$"):
        image_io.decode(tiff(photo().astype(np.float64)), name="x")


@pytest.mark.parametrize(("kind", "module"), [("HEIC", "heic"), ("RAW", "raw")])
def test_formats_whose_header_is_the_file_are_opened_once(tmp_path, monkeypatch, kind, module):
    """Their readers of headers read all of it."""
    path = tmp_path / "a.dng"
    path.write_bytes({"HEIC": heif(photo()), "RAW": dng()}[kind])
    reader, opened = getattr(headers, module), []
    original = reader._open
    monkeypatch.setattr(reader, "_open", lambda *args: opened.append(1) or original(*args))
    image_io.read_with_metadata(path)
    assert len(opened) == 1


class TestLargeFiles:
    """Whose content is not an image: their header is read, not the whole file."""

    @pytest.fixture(autouse=True)
    def no_memory(self):
        before = resource.getrlimit(resource.RLIMIT_AS)
        used = int(pathlib.Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
        resource.setrlimit(resource.RLIMIT_AS, (used + 2**30, before[1]))
        yield
        resource.setrlimit(resource.RLIMIT_AS, before)

    @pytest.mark.parametrize(
        "start",
        [
            b"\x89PNG\r\n\x1a\n",
            b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR\0\0\0\5\0\0\0\5\x08\0\0\0\0",
            b"\xff\xd8\xff",
            b"RIFF\0\0\0\0WEBP",
            b"BM",
            b"II*\0",
            b"II*\0\x08\0\0\0",
            b"MM\0+",
            b"\0\0\0\x18ftypavif",
            b"\0\0\0\x18ftypheic",
            b"FUJIFILMCCD-RAW",
            b"text",
            b"",
        ],
        ids=repr,
    )
    @pytest.mark.parametrize("reader", [image_io.read, image_io.read_with_metadata])
    def test_header_alone(self, tmp_path, start, reader):
        with open(tmp_path / "a.png", "wb") as file:
            file.write(start)
            file.truncate(3 * 2**30)
        with pytest.raises(ImageError, match=r"a\.png: "):
            reader(tmp_path / "a.png")

    @pytest.mark.parametrize("suffix", [".png", ".jpg", ".webp", ".bmp", ".tif", ".avif", ".heic"])
    def test_image_with_a_long_end(self, tmp_path, suffix):
        path = tmp_path / f"a{suffix}"
        image_io.write(path, np.zeros((5, 5, 3), np.uint8))
        with open(path, "r+b") as file:
            file.truncate(3 * 2**30)
        with pytest.raises(ImageError, match=r"far more than an image of 5x5|larger than 1 GiB"):
            image_io.read(path)


def test_a_bucket_that_does_not_answer(bucket, monkeypatch):
    """Neither a header nor a file is then called damaged, although decoders hide the cause."""
    monkeypatch.setattr(storage.reading, "_BLOCK", 100)
    path = storage.to_path(f"{bucket}/a.tif")
    image_io.write(path, noise((40, 30, 3)))
    filesystem, calls = storage.buckets.get_filesystem(path), []
    cat_file = filesystem.cat_file

    def fail_later(name, start, end):
        calls.append(start)
        if len(calls) % 2 == 0:
            raise ConnectionError("no route")
        return cat_file(name, start=start, end=end)

    monkeypatch.setattr(filesystem, "cat_file", fail_later)
    message = r"^gs://.*a.tif: the bucket does not answer"
    for read in (image_io.read, image_io.read_header):
        with pytest.raises(image_io.BucketError, match=message):
            read(path)

    def fail(*arguments, **options):
        raise ConnectionError("no route")

    monkeypatch.setattr(filesystem, "pipe_file", fail)
    with pytest.raises(image_io.BucketError, match=message):
        image_io.write(path, noise((4, 5)))
