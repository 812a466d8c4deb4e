"""JPEG files: what the decoder warns of is an error, and healthy files of all kinds are read."""

import base64
import io
import struct

import cv2
import numpy as np
import pytest
from PIL import Image

from lcdnet_jax import image_io
from lcdnet_jax.image_io import ImageError
from tests.image_io.files import noise, opencv, photo, profile_of, saved

# A gradient of 24x16 pixels by cjpeg: arithmetic coding; colors of a quarter of the width.
ARITHMETIC = base64.b64decode(
    "/9j/4AAQSkZJRgABAQAAAQABAAD/2wBDAA0JCgsKCA0LCgsODg0PEyAVExISEyccHhcgLikxMC4pLSwzOko+MzZG"
    "NywtQFdBRkxOUlNSMj5aYVpQYEpRUk//2wBDAQ4ODhMREyYVFSZPNS01T09PT09PT09PT09PT09PT09PT09PT09P"
    "T09PT09PT09PT09PT09PT09PT09PT09PT0//yQARCAAQABgDASIAAhEBAxEB/8wACgAQEAUBEBEF/9oADAMBAAIR"
    "AxEAPwD/AJ/Wyu0sn0Yu3PQN+Wf/AIWn9Jc1Rb2ufqwT5i0a7BmSZj8StdZD2ZCA/9k="
)
UNUSUAL_COLORS = base64.b64decode(
    "/9j/4AAQSkZJRgABAQAAAQABAAD/2wBDAA0JCgsKCA0LCgsODg0PEyAVExISEyccHhcgLikxMC4pLSwzOko+MzZG"
    "NywtQFdBRkxOUlNSMj5aYVpQYEpRUk//2wBDAQ4ODhMREyYVFSZPNS01T09PT09PT09PT09PT09PT09PT09PT09P"
    "T09PT09PT09PT09PT09PT09PT09PT09PT0//wAARCAAQABgDAUIAAhEBAxEB/8QAFwABAQEBAAAAAAAAAAAAAAAA"
    "BQAEBv/EABgQAAIDAAAAAAAAAAAAAAAAAAADBSIx/8QAFQEBAQAAAAAAAAAAAAAAAAAAAwT/xAAYEQADAQEAAAAA"
    "AAAAAAAAAAAAAwUiMf/aAAwDAQACEQMRAD8A4xEdlRJEdlRFEdlSNaI7KiSI7KiKI7KkGtxTLo56f//Z"
)

SUBSAMPLINGS = ("4:4:4", "4:2:2", "4:2:0")


def pillow(data):
    image = Image.open(io.BytesIO(data))
    return np.asarray(image.convert("RGB") if image.mode == "CMYK" else image)


def segment(marker, payload):
    return bytes([0xFF, marker]) + struct.pack(">H", len(payload) + 2) + payload


def behind_start(data, *segments):
    return data[:2] + b"".join(segments) + data[2:]


def large(**options):
    return saved(photo(height=300, width=400), "JPEG", **options)


ENCODINGS = {
    "baseline": large,
    "progressive": lambda: large(progressive=True),
    "restart markers": lambda: large(restart_marker_blocks=4),
    "gray": lambda: saved(photo(height=300, width=400)[..., 0], "JPEG"),
    "CMYK": lambda: saved(Image.fromarray(photo(height=300, width=400)).convert("CMYK"), "JPEG"),
}


def hole(data):
    middle = len(data) // 2
    return data[:middle] + bytes(2048) + data[middle + 2048 :]


DAMAGES = {
    "hole of zeros": hole,
    "bytes lost": lambda data: data[: len(data) // 2] + data[len(data) // 2 + 500 :],
    "bytes added": lambda data: (
        data[: len(data) // 2] + noise(900).tobytes() + data[len(data) // 2 :]
    ),
    "end lost": lambda data: data[:-200],
    "bytes behind the pixels": lambda data: data[:-2] + b"x" * 50 + data[-2:],
}


@pytest.mark.parametrize("damage", DAMAGES)
@pytest.mark.parametrize("encoding", ENCODINGS)
def test_damaged_pixels_are_an_error(encoding, damage):
    data = ENCODINGS[encoding]()
    image_io.decode(data, name="whole")
    with pytest.raises(ImageError, match=r"^a\.jpg: the JPEG file is cut short or damaged"):
        image_io.decode(DAMAGES[damage](data), name="a.jpg")


def test_restart_markers_in_a_wrong_order_are_an_error():
    data = ENCODINGS["restart markers"]()
    assert data.count(b"\xff\xd2") > 1
    with pytest.raises(ImageError, match="damaged"):
        image_io.decode(data.replace(b"\xff\xd2", b"\xff\xd5", 1), name="x")


def test_endless_segments_are_an_error():
    data = saved(photo(), "JPEG")
    with pytest.raises(ImageError, match="header is damaged"):
        image_io.decode(behind_start(data, b"\xff\xe5\0\2" * 70_000), name="x")
    place = data.find(b"\xff\xda")  # behind the frame
    with pytest.raises(ImageError, match="damaged"):
        image_io.decode(data[:place] + b"\xff\xfe\0\2" * 70_000 + data[place:], name="x")


def test_advice_for_a_damaged_file_does_not_remove_it():
    with pytest.raises(ImageError) as error:
        image_io.decode(hole(large()), name="x")
    assert "copy or download it again" in str(error.value)
    assert "remove" not in str(error.value)


def _exif():
    exif = Image.Exif()
    exif[0x010F] = "Maker"
    return exif


# Junk that a decoder may warn of, but which has no effect on the pixels.
HARMLESS = {
    "bytes behind the end": lambda data: data + b"junk" * 100,
    "another JPEG behind the end": lambda data: data + saved(photo(), "JPEG"),
    "zeros before the end": lambda data: data[:-2] + bytes(100) + data[-2:],
    "fill bytes": lambda data: behind_start(data, b"\xff\xff\xff"),
    "segments of other programs": lambda data: behind_start(
        data, *(segment(0xE0 + n, b"junk" * n) for n in range(16))
    ),
    "a thumbnail": lambda data: behind_start(
        data, segment(0xE1, b"Exif\0\0" + saved(photo(), "JPEG"))
    ),
    "a comment": lambda data: behind_start(data, segment(0xFE, b"\xff\xd9 is no end here")),
    "JFIF of version 2": lambda data: data.replace(b"JFIF\0\1", b"JFIF\0\2"),
    "no JFIF": lambda data: data[:2] + data[20:],
    "a scan of strange bounds": lambda data: data.replace(b"\0\x3f\0", b"\0\0\0"),
}


@pytest.mark.parametrize("name", HARMLESS)
def test_harmless_bytes_are_no_damage(name):
    data = saved(photo(), "JPEG")
    changed = HARMLESS[name](data)
    assert changed != data
    np.testing.assert_array_equal(image_io.decode(changed, name="x"), pillow(data))
    assert image_io.decode_header(changed, name="x") == image_io.Header(61, 67, 3, 8)


@pytest.mark.parametrize("side", [1, 7, 8, 9, 15, 16, 17, 31, 33])
@pytest.mark.parametrize("progressive", [False, True])
def test_pixels_are_those_of_pillow(side, progressive):
    image = photo()[:side, : side + 3]
    files = [
        saved(image, "JPEG", subsampling=subsampling, progressive=progressive)
        for subsampling in SUBSAMPLINGS
    ]
    files += [
        saved(image, "JPEG", progressive=progressive, **options)
        for options in (
            {"restart_marker_blocks": 1},
            {"restart_marker_rows": 1},
            {"quality": 1},
            {"quality": 100, "optimize": True},
            {"keep_rgb": True},
            {"exif": _exif(), "dpi": (300, 300), "comment": "text", "icc_profile": bytes(70_000)},
        )
    ]
    files += [
        saved(image[..., 0], "JPEG", progressive=progressive),
        saved(Image.fromarray(image).convert("CMYK"), "JPEG", progressive=progressive),
        saved(
            Image.fromarray(image), "MPO", save_all=True, append_images=[Image.new("RGB", (9, 9))]
        ),
        opencv(image, ".jpg"),
    ]
    for sampling in (0x411111, 0x211111, 0x121111, 0x221111, 0x111111):
        options = [cv2.IMWRITE_JPEG_SAMPLING_FACTOR, sampling]
        files.append(cv2.imencode(".jpg", image, options)[1].tobytes())
    for data in files:
        np.testing.assert_array_equal(image_io.decode(data, name="x"), pillow(data))


def test_arithmetic_coding():
    np.testing.assert_array_equal(image_io.decode(ARITHMETIC, name="x"), pillow(ARITHMETIC))


def test_colors_in_an_unusual_resolution_are_decoded_by_pillow():
    """Their damage is noticed only as far as Pillow tells."""
    np.testing.assert_array_equal(image_io.decode(UNUSUAL_COLORS, name="x"), pillow(UNUSUAL_COLORS))
    with pytest.raises(ImageError, match=r"^x: the JPEG file is cut short or damaged"):
        image_io.decode(UNUSUAL_COLORS[:-30], name="x")


def segments_of(data):
    """Marker and content of each segment before the pixels."""
    found, place = [], 2
    while data[place + 1] != 0xDA:
        assert data[place] == 0xFF
        (length,) = struct.unpack_from(">H", data, place + 2)
        found.append((data[place + 1], data[place + 4 : place + 2 + length]))
        place += 2 + length
    return found


def rewritten(tmp_path, data, suffix=".jpg"):
    """The file that is written after ``data`` was read, and what was left out."""
    (tmp_path / "in.jpg").write_bytes(data)
    image, metadata = image_io.read_with_metadata(tmp_path / "in.jpg")
    left_out = image_io.write(tmp_path / f"out{suffix}", image, metadata=metadata)
    return (tmp_path / f"out{suffix}").read_bytes(), left_out


def resource(number, content, name=b""):
    padded = bytes([len(name)]) + name + b"\0" * ((len(name) + 1) % 2)
    head = b"8BIM" + struct.pack(">H", number) + padded + struct.pack(">I", len(content))
    return head + content + b"\0" * (len(content) % 2)


XMP = (
    b'<?xpacket begin="" id="W5M0MpCehiHzreSzNTczkc9d"?><x:xmpmeta xmlns:x="adobe:ns:meta/">'
    b'<rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#"><rdf:Description '
    b'xmlns:tiff="http://ns.adobe.com/tiff/1.0/" xmlns:dc="http://purl.org/dc/elements/1.1/" '
    b'xmlns:exif="http://ns.adobe.com/exif/1.0/" xmlns:xmp="http://ns.adobe.com/xap/1.0/" '
    b'xmlns:xmpNote="http://ns.adobe.com/xmp/note/" tiff:Orientation="6" '
    b'xmpNote:HasExtendedXMP="0123456789ABCDEF0123456789ABCDEF" exif:PixelXDimension="4000">'
    b"<exif:PixelYDimension>3000</exif:PixelYDimension><xmp:Thumbnails><rdf:Alt>x</rdf:Alt>"
    b"</xmp:Thumbnails><dc:rights>\xc2\xa9 Jos\xc3\xa9</dc:rights></rdf:Description></rdf:RDF>"
    b'</x:xmpmeta><?xpacket end="w"?>'
)
IPTC = bytes([0x1C, 2, 80]) + struct.pack(">H", 12) + "José Müller".encode()[:12]


def test_comments_resolution_and_iptc(tmp_path):
    resources = (
        resource(0x03ED, bytes(16)) + resource(0x0404, IPTC, b"odd") + resource(0x040C, b"x" * 31)
    )
    data = behind_start(
        saved(photo(), "JPEG", dpi=(300, 150)),
        segment(0xFE, b"first \xff\xfe"),
        segment(0xFE, b"second"),
        segment(0xED, b"Photoshop 3.0\0" + resources),
    )
    written, left_out = rewritten(tmp_path, data)
    found = segments_of(written)
    assert [content for marker, content in found if marker == 0xFE] == [
        b"first \xff\xfe",
        b"second",
    ]
    kept = b"Photoshop 3.0\0" + resource(0x0404, IPTC, b"odd")
    assert [content for marker, content in found if marker == 0xED] == [kept]
    assert Image.open(io.BytesIO(written)).info["dpi"] == (300, 150)
    assert left_out == ("thumbnail",)


@pytest.mark.parametrize("density", [(1, 72, 72), (2, 118, 59), (1, 65535, 1)])
def test_densities_are_exact(tmp_path, density):
    data = bytearray(saved(photo(), "JPEG"))
    data[13:18] = struct.pack(">BHH", *density)
    written, left_out = rewritten(tmp_path, bytes(data))
    assert struct.unpack_from(">BHH", segments_of(written)[0][1], 7) == density
    assert left_out == ()


def test_xmp_is_adapted(tmp_path):
    data = behind_start(
        saved(photo(), "JPEG"),
        segment(0xE1, b"http://ns.adobe.com/xap/1.0/\0" + XMP),
        segment(0xE1, b"http://ns.adobe.com/xmp/extension/\0" + bytes(40)),
    )
    written, left_out = rewritten(tmp_path, data)
    image = Image.open(io.BytesIO(written))
    assert image.size == (61, 67)  # turned as the XMP says
    expected = (
        XMP.replace(b'tiff:Orientation="6"', b'tiff:Orientation="1"')
        .replace(b' xmpNote:HasExtendedXMP="0123456789ABCDEF0123456789ABCDEF"', b"")
        .replace(b"4000", b"61")
        .replace(b"3000", b"67")
        .replace(b"<xmp:Thumbnails><rdf:Alt>x</rdf:Alt></xmp:Thumbnails>", b"")
    )
    assert image.info["xmp"] == expected
    assert left_out == ("extended XMP", "thumbnail")


@pytest.mark.parametrize(
    ("xmp", "name"),
    [
        (XMP.replace(b"</rdf:RDF>", b""), "damaged XMP"),
        (b'<!DOCTYPE x [<!ENTITY a "aaaa">]><x>&a;</x>', "damaged XMP"),
        (b"<x>\xff</x>", "damaged XMP"),
        (b'<x a:MicroVideo="1" GCamera:MicroVideoOffset="9"/>', "XMP about other pictures"),
        (b'<x tiff:Orientation="6"><mwg-rs:Regions/></x>', "XMP with regions of the rotated"),
    ],
)
def test_xmp_that_is_left_out(tmp_path, xmp, name):
    data = behind_start(
        saved(photo(), "JPEG"), segment(0xE1, b"http://ns.adobe.com/xap/1.0/\0" + xmp)
    )
    written, left_out = rewritten(tmp_path, data)
    assert b"ns.adobe.com" not in written
    assert len(left_out) == 1
    assert left_out[0].startswith(name)


def test_what_is_left_out_is_named(tmp_path):
    frames = [Image.new("RGB", (9, 9))]
    several = saved(Image.fromarray(photo()), "MPO", save_all=True, append_images=frames)
    data = behind_start(
        several,
        segment(0xE0, b"JFXX\0\x10"),
        segment(0xE3, b"Meta\x1b[31m\0\1"),
        segment(0xEB, b"JP\0\1 jumb"),
        segment(0xEC, b"Ducky\0"),
        segment(0xED, b"Photoshop 3.0\0nonsense, damaged"),
    )
    written, left_out = rewritten(tmp_path, data)
    assert left_out == (
        "thumbnail", "APP3 Meta", "content credentials", "further pictures", "damaged IPTC",
    )  # fmt: skip
    assert {marker for marker, _ in segments_of(written) if marker >= 0xE0} == {0xE0}


def test_a_large_profile_takes_several_segments(tmp_path):
    profile = profile_of(b"RGB ") + noise((200_000,)).tobytes()
    data = saved(photo(), "JPEG", icc_profile=profile)
    for suffix in (".jpg", ".png", ".tif", ".webp"):
        written, left_out = rewritten(tmp_path, data, suffix)
        assert Image.open(io.BytesIO(written)).info["icc_profile"] == profile
        assert left_out == ()


def test_exif_that_does_not_fit_is_named(tmp_path):
    exif = Image.Exif()
    exif[0x010E] = "long" * 20_000
    metadata = image_io.Metadata(exif=exif.tobytes(), xmp=b"<x>" + b"x" * 70_000 + b"</x>")
    left_out = image_io.write(tmp_path / "a.jpg", photo(), metadata=metadata)
    assert left_out == ("EXIF of more than 65 kB", "XMP of more than 65 kB")
