import io
import pathlib
import re
import struct
import time

import numpy as np
import pillow_heif
import pytest
import tifffile
from PIL import Image, IptcImagePlugin

from lcdnet_jax import image_io
from lcdnet_jax.image_io import metadata as metadata_lib
from tests.image_io.exif_data import camera_exif
from tests.image_io.files import (
    SHAPES,
    UPRIGHT,
    check,
    chunk,
    noise,
    photo,
    png_with,
    profile_of,
    saved,
    tiff,
)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_orientation_is_applied_once(tmp_path, orientation):
    exif = Image.Exif()
    exif[0x0112] = orientation
    upright = UPRIGHT[orientation]
    tag = [(0x0112, "H", 1, orientation, True)]
    for image in (noise((13, 17, 3)), noise((13, 17))):
        check(tmp_path, saved(image, "PNG", exif=exif), upright(image))
        check(
            tmp_path,
            saved(image, "WEBP", lossless=True, exif=exif),
            upright(image if image.ndim == 3 else np.stack([image] * 3, -1)),
        )
        check(tmp_path, tiff(image, extratags=tag), upright(image))
        check(tmp_path, saved(image, "TIFF", compression="tiff_lzw", exif=exif), upright(image))
    for shape in SHAPES.values():
        image = noise(shape, np.uint16)
        if len(shape) == 2 or shape[2] > 2:
            alpha = ["unassalpha"] if shape[2:] == (4,) else None
            check(tmp_path, tiff(image, extratags=tag, extrasamples=alpha), upright(image))
        image_io.write(tmp_path / "16.png", image)
        data = (tmp_path / "16.png").read_bytes()
        exif_chunk = chunk(b"eXIf", exif.tobytes().removeprefix(b"Exif\0\0"))
        check(tmp_path, png_with(data, exif_chunk), upright(image))
        check(tmp_path, data[:-12] + exif_chunk + data[-12:], upright(image))  # behind the pixels
    image = photo()
    decoded = image_io.decode(saved(image, "JPEG", exif=exif), name="x")
    np.testing.assert_array_equal(decoded, upright(image_io.decode(saved(image, "JPEG"), name="x")))


def test_orientation_given_as_xmp_and_broken_exif(tmp_path):
    image = noise((13, 17, 3))
    xmp = b'<rdf:Description xmlns:tiff="http://ns.adobe.com/tiff/1.0/" tiff:Orientation="6"/>'
    text = chunk(b"iTXt", b"XML:com.adobe.xmp\0\0\0\0\0" + xmp)
    check(tmp_path, png_with(saved(image, "PNG"), text), UPRIGHT[6](image))
    check(tmp_path, png_with(saved(image, "PNG"), chunk(b"eXIf", b"nonsense")), image)


METADATA = [
    ("a.png", (13, 17, 3), np.uint8),
    ("a.png", (13, 17), np.uint8),
    ("a.jpg", (13, 17, 3), np.uint8),
    ("a.webp", (13, 17, 4), np.uint8),
    ("a.tif", (13, 17, 3), np.uint8),
    ("a.png", (13, 17, 3), np.uint16),
    ("a.png", (13, 17, 2), np.uint16),
    ("a.tif", (13, 17), np.uint16),
    ("a.tif", (13, 17, 4), np.uint16),
    ("a.tif", (13, 17, 3), np.float32),
]


def full_exif(orientation=6):
    exif = Image.Exif()
    exif[0x0112], exif[0x010F], exif[0x0132] = orientation, "Maker", "2026:01:02 03:04:05"
    exif[0x011A] = 300.0  # XResolution
    exif[0xC4A5] = b"PrintIM"
    exif[0x8769] = {0x829A: 0.004, 0x9003: "2026:01:02 03:04:05", 0xA002: 99, 0x927C: b"note"}
    exif[0x8825] = {1: "N", 2: (47.0, 22.0, 1.5)}
    return exif


@pytest.mark.parametrize(("name", "shape", "dtype"), METADATA)
def test_metadata_survive(tmp_path, name, shape, dtype):
    """From a JPEG, which has all of them, through every format."""
    profile = profile_of(b"GRAY" if len(shape) == 2 or shape[2] == 2 else b"RGB ")
    (tmp_path / "source.jpg").write_bytes(saved(photo(), "JPEG", exif=full_exif()))
    read, metadata = image_io.read_with_metadata(tmp_path / "source.jpg")
    assert read.shape == (67, 61, 3)
    image = noise(shape, np.uint16).astype(dtype)
    image_io.write(tmp_path / name, image, metadata=image_io.Metadata(profile, metadata.exif))
    result, found = image_io.read_with_metadata(tmp_path / name)
    assert result.shape == shape  # upright already
    assert found.icc_profile == profile
    exif = Image.Exif()
    exif.load(found.exif)
    assert (exif[0x010F], exif[0x0132], exif[0x0112]) == ("Maker", "2026:01:02 03:04:05", 1)
    assert float(exif[0x011A]) == 300
    assert exif[0xC4A5] == b"PrintIM"
    inner = exif.get_ifd(0x8769)
    assert (float(inner[0x829A]), inner[0x9003]) == (0.004, "2026:01:02 03:04:05")
    # Maker notes may point to places in the EXIF data, which a TIFF does not hold as one piece.
    assert inner.get(0x927C) == (None if name == "a.tif" else b"note")
    assert inner[0xA002] == 17  # the width is another now
    gps = exif.get_ifd(0x8825)
    assert (gps[1], [float(v) for v in gps[2]]) == ("N", [47, 22, 1.5])


def test_bmp_holds_nothing_but_a_resolution(tmp_path):
    metadata = image_io.Metadata(profile_of(b"RGB "), full_exif().tobytes())
    left_out = image_io.write(tmp_path / "a.bmp", noise((13, 17, 3)), metadata=metadata)
    assert left_out == ("color profile", "EXIF")
    _, found = image_io.read_with_metadata(tmp_path / "a.bmp")
    assert found == image_io.Metadata()


@pytest.mark.parametrize(
    "profile", [b"", b"nonsense" * 20, profile_of(b"CMYK"), profile_of(b"GRAY")]
)
def test_a_profile_of_other_pixels_is_dropped(tmp_path, profile):
    (tmp_path / "a.png").write_bytes(saved(photo(), "PNG", icc_profile=profile))
    assert image_io.read_with_metadata(tmp_path / "a.png")[1].icc_profile is None
    image_io.write(tmp_path / "b.png", photo(), metadata=image_io.Metadata(profile))
    assert image_io.read_with_metadata(tmp_path / "b.png")[1].icc_profile is None


@pytest.mark.filterwarnings("ignore:Corrupt EXIF data:UserWarning")
@pytest.mark.parametrize("exif", [b"nonsense", b"Exif\0\0II*\0\xff\xff\xff\xff", b"Exif\0\0"])
def test_broken_exif_is_dropped(tmp_path, exif):
    (tmp_path / "a.jpg").write_bytes(saved(photo(), "JPEG", exif=exif))
    image, metadata = image_io.read_with_metadata(tmp_path / "a.jpg")
    assert image.shape == photo().shape
    assert metadata.exif is None


def test_exif_that_jpeg_cannot_hold_is_dropped(tmp_path):
    exif = Image.Exif()
    exif[0x010E] = "long" * 20_000
    metadata = image_io.Metadata(exif=exif.tobytes())
    for name, survives in (("a.jpg", False), ("a.png", True)):
        image_io.write(tmp_path / name, photo(), metadata=metadata)
        assert (image_io.read_with_metadata(tmp_path / name)[1].exif is not None) == survives


# The table in docs/reference/image_files.md


AUTHOR = "José Müller"
XMP = '<x:xmpmeta xmlns:x="adobe:ns:meta/">© José</x:xmpmeta>'.encode()
CHUNKS = {
    "gAMA": struct.pack(">I", 100_000),
    "cHRM": struct.pack(">8I", *range(8)),
    "sRGB": b"\0",
    "cICP": bytes([9, 16, 0, 1]),
    "mDCV": bytes(24),
    "cLLI": bytes(8),
    "bKGD": bytes(6),
    "tIME": struct.pack(">HBBBBB", 2026, 1, 2, 3, 4, 5),
    "iTXt": b"Title\0\0\0\0\0caf\xc3\xa9",
}
ROWS = {
    "color profile": lambda file: file.image.info.get("icc_profile") == profile_of(b"RGB "),
    "EXIF": lambda file: AUTHOR.encode() in file.data and 0x013B in file.image.getexif(),
    "maker notes": lambda file: b"CAMERA" in file.data and b"serial 4711" in file.data,
    "XMP": lambda file: file.xmp() == XMP,
    "IPTC": lambda file: IptcImagePlugin.getiptcinfo(file.image) == {(2, 80): AUTHOR.encode()},
    "comments": lambda file: "a comment" in (file.text("comment"), file.text("Comment")),
    "resolution": lambda file: file.resolution() == (300, 150),
    "gAMA": lambda file: all(name.encode() + value in file.data for name, value in CHUNKS.items()),
}


class Written:
    """A written file, seen by other readers."""

    def __init__(self, path):
        self.path, self.data = path, path.read_bytes()
        if path.suffix == ".heic":
            self.image = pillow_heif.read_heif(self.data).to_pillow()
        else:
            self.image = Image.open(io.BytesIO(self.data))
        self.image.load()

    def text(self, name):
        text = self.image.info.get(name, "")
        return text.decode() if isinstance(text, bytes) else text

    def xmp(self):
        if self.path.suffix != ".tiff":
            return self.image.info.get("xmp")
        with tifffile.TiffFile(self.path) as file:
            tag = file.pages[0].tags.get(700)
            return tag and bytes(tag.value)

    def resolution(self):
        if self.path.suffix not in (".webp", ".avif", ".heic"):
            return tuple(round(value) for value in self.image.info.get("dpi", ()))
        exif = self.image.getexif()
        return exif.get(282), exif.get(283)


def documented():
    """Whether the table says "kept", by the first words of a row and the suffix of a format."""
    docs = pathlib.Path(__file__).resolve().parents[2] / "docs/reference/image_files.md"
    table = docs.read_text(encoding="utf-8").partition("| metadata |")[2].partition("\n\n")[0]
    head, _, *rows = table.splitlines()
    formats = [name.strip().lower() for name in head.split("|")[:-1]]
    for row in rows:
        first, *cells = (cell.strip() for cell in row.split("|")[1:-1])
        (name,) = (name for name in ROWS if first.startswith(name))
        for suffix, cell in zip(formats, cells, strict=True):
            assert cell in ("kept", "")
            yield name, suffix, cell == "kept"


def rich_file(row):
    """A file with all metadata: a PNG with chunks, or a JPEG with the rest."""
    exif = camera_exif("<", thumbnail=False)
    if row == "gAMA":
        chunks = [chunk(name.encode(), value) for name, value in CHUNKS.items()]
        return png_with(saved(photo(), "PNG"), *chunks)
    iptc = bytes([0x1C, 2, 80]) + struct.pack(">H", len(AUTHOR.encode())) + AUTHOR.encode()
    resources = b"8BIM\4\4\0\0" + struct.pack(">I", len(iptc)) + iptc + b"\0" * (len(iptc) % 2)
    data = saved(
        photo(),
        "JPEG",
        exif=exif,
        icc_profile=profile_of(b"RGB "),
        dpi=(300, 150),
        comment="a comment",
    )
    segments = (
        (0xE1, b"http://ns.adobe.com/xap/1.0/\0" + XMP),
        (0xED, b"Photoshop 3.0\0" + resources),
    )
    added = [struct.pack(">BBH", 255, m, len(content) + 2) + content for m, content in segments]
    return data[:2] + b"".join(added) + data[2:]


def test_table_of_metadata_has_all_rows():
    assert {row for row, _, _ in documented()} == {*ROWS}
    formats = {"png", "jpeg", "webp", "avif", "heic", "tiff", "bmp"}
    assert {suffix for _, suffix, _ in documented()} == formats


@pytest.mark.parametrize(("row", "suffix", "kept"), list(documented()))
def test_table_of_metadata_is_true(tmp_path, row, suffix, kept):
    source, target = tmp_path / "source", tmp_path / f"target.{suffix}"
    source.write_bytes(rich_file(row))
    image, metadata = image_io.read_with_metadata(source)
    left_out = image_io.write(target, image, metadata=metadata)
    assert ROWS[row](Written(target)) == kept
    names = {"gAMA": "PNG", "comments": "comment", "maker notes": "maker notes|EXIF"}
    assert bool(re.search(names.get(row, row), " ".join(left_out))) != kept
    # What is written once is read again, and nothing further is lost.
    image, metadata = image_io.read_with_metadata(target)
    assert metadata.left_out == ()
    assert image_io.write(target, image, metadata=metadata) == ()
    assert ROWS[row](Written(target)) == kept


@pytest.mark.parametrize("suffix", ["jpg", "png", "webp", "tif", "bmp"])
@pytest.mark.parametrize("shape", [(9, 8), (9, 8, 3), (9, 8, 4)])
def test_resolution_without_exif(tmp_path, suffix, shape):
    if shape[2:] == (4,) and suffix == "jpg":
        return
    metadata = image_io.Metadata(resolution=(72.0, 300.0))
    assert image_io.write(tmp_path / f"a.{suffix}", noise(shape), metadata=metadata) == ()
    _, found = image_io.read_with_metadata(tmp_path / f"a.{suffix}")
    np.testing.assert_allclose(found.resolution, (72, 300), rtol=2e-3)
    with Image.open(tmp_path / f"a.{suffix}") as image:
        if suffix != "webp":
            dpi = [float(value) for value in image.info["dpi"]]
            np.testing.assert_allclose(dpi, (72, 300), rtol=2e-3)


@pytest.mark.parametrize("suffix", ["webp", "avif", "heic"])
def test_resolution_that_exif_contradicts_or_lacks(tmp_path, suffix):
    """It replaces that of EXIF, and is named if EXIF has no place for it."""
    for told, unit in ((72, 2), (28, 3), (300.2, 2), (None, 2)):
        exif = Image.Exif()
        exif[0x010F] = "Maker"
        if told:
            exif[0x011A] = exif[0x011B] = told
            exif[0x0128] = unit
        (tmp_path / "a.jpg").write_bytes(saved(photo(), "JPEG", exif=exif, dpi=(300, 300)))
        image, metadata = image_io.read_with_metadata(tmp_path / "a.jpg")
        left_out = image_io.write(tmp_path / f"b.{suffix}", image, metadata=metadata)
        _, found = image_io.read_with_metadata(tmp_path / f"b.{suffix}")
        if told:
            np.testing.assert_allclose(found.resolution, (300, 300), rtol=1e-3)
        assert left_out == (() if told else ("resolution",))
        assert b"Maker" in found.exif


def test_resolution_is_turned_with_the_image(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6
    (tmp_path / "a.jpg").write_bytes(saved(photo(), "JPEG", exif=exif, dpi=(300, 150)))
    _, metadata = image_io.read_with_metadata(tmp_path / "a.jpg")
    assert metadata.resolution == (150, 300)


def test_a_damaged_profile_is_named(tmp_path):
    (tmp_path / "a.png").write_bytes(saved(photo(), "PNG", icc_profile=b"nonsense" * 20))
    _, metadata = image_io.read_with_metadata(tmp_path / "a.png")
    assert metadata.left_out == ("color profile that does not fit the pixels",)


def test_damaged_metadata_of_a_caller(tmp_path):
    metadata = image_io.Metadata(icc_profile=b"?", exif=b"nonsense", resolution=(72, 72))
    larger = image_io.enlarge_metadata(metadata, 2)
    assert (larger.exif, larger.left_out) == (None, ("damaged EXIF",))
    left_out = image_io.write(tmp_path / "a.png", photo(), metadata=metadata)
    assert left_out == ("color profile that does not fit the pixels", "damaged EXIF")


def test_thumbnails_of_xmp_are_removed():
    xmp = (
        b"<a><xmp:Thumbnails>1</xmp:Thumbnails>2<xap:Thumbnails x='3'>4</xap:Thumbnails>"
        b"<xmp:Thumbnails>5<!-- <xap:Thumbnails> --></xmp:Thumbnails>6</a>"
    )
    found = metadata_lib.adapt(image_io.Metadata(xmp=xmp), 3, 1)
    assert found.xmp == b"<a>26</a>"
    assert found.left_out == ("thumbnail",)


def test_many_thumbnails_without_an_end_are_read_soon():
    """A search for the end from each of them would take minutes."""
    xmp = b"<a>" + b"<xmp:Thumbnails/><xap:Thumbnails/>" * 30_000 + b"</a>"
    start = time.perf_counter()
    assert metadata_lib.adapt(image_io.Metadata(xmp=xmp), 3, 1).xmp == xmp
    assert time.perf_counter() - start < 2
