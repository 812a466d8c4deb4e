"""Files of tifffile, Pillow (libtiff) and OpenCV, and files damaged in many ways."""

import contextlib
import io
import logging
import struct

import cv2
import numpy as np
import pytest
import tifffile
from PIL import Image

from lcdnet_jax import image_io
from lcdnet_jax.image_io import ImageError, ccitt, tiff_directories, tiff_pixels
from tests.image_io.files import (
    FLOAT,
    UPRIGHT,
    check,
    noise,
    opencv,
    pages,
    photo,
    planes,
    saved,
    tiff,
)


def read(data, tmp_path):
    (tmp_path / "a.tif").write_bytes(data)
    return image_io.read_with_metadata(tmp_path / "a.tif")


# Layouts


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.float16, np.float32], ids=str)
@pytest.mark.parametrize(
    "options",
    [
        {},
        {"byteorder": ">"},
        {"bigtiff": True},
        {"bigtiff": True, "byteorder": ">", "compression": "lzw", "predictor": True},
        {"compression": "zlib", "predictor": True, "rowsperstrip": 3},
        {"compression": "zlib", "predictor": True, "rowsperstrip": 3, "byteorder": ">"},
        {"compression": "lzw", "rowsperstrip": 5},
        {"compression": "packbits", "tile": (16, 32)},
        {"compression": "lzma", "predictor": True, "tile": (16, 16)},
        {"compression": "zstd", "predictor": True},
        {"tile": (16, 16)},
    ],
    ids=str,
)
def test_layouts_are_exact(tmp_path, options, dtype):
    image = noise((43, 37, 3), np.uint16)
    image = (image / 1000).astype(dtype) if dtype().dtype.kind == "f" else image.astype(dtype)
    half = dtype == np.float16 and options.get("predictor") and options.get("byteorder") == ">"
    for data, expected in (
        (tiff(image, **options), image),
        (tiff(image[..., 0].copy(), **options), image[..., 0]),
        (planes(image, **options), image),
    ):
        if half:
            continue  # tifffile writes what libtiff reads otherwise
        found, metadata = read(data, tmp_path)
        wanted = expected.astype(np.float32) if dtype == np.float16 else expected
        assert found.dtype == wanted.dtype
        np.testing.assert_array_equal(found, wanted)
        if dtype().dtype.kind == "u":
            check(tmp_path, data, expected)
        else:
            with pytest.raises(ImageError, match=r"floating-point TIFF with \d\d bits"):
                image_io.read(tmp_path / "a.tif")
            with pytest.raises(ImageError, match=r"floating-point TIFF with \d\d bits"):
                image_io.read_header(tmp_path / "a.tif")
        compression = options.get("compression")
        assert metadata.tiff_compression == {"zlib": "deflate"}.get(compression, compression)


@pytest.mark.parametrize(
    "compression", [None, "tiff_lzw", "packbits", "tiff_adobe_deflate", "zstd"]
)
def test_files_of_libtiff_are_read_as_by_pillow(tmp_path, compression):
    color = Image.fromarray(photo())
    for image in (color, color.convert("L"), color.convert("RGBA"), color.convert("CMYK")):
        for predictor in (1, 2) if compression not in (None, "packbits") else (1,):
            info = {317: predictor} if predictor == 2 else {}
            data = saved(image, "TIFF", compression=compression, strip_size=2048, tiffinfo=info)
            with Image.open(io.BytesIO(data)) as file:
                expected = np.asarray(file.convert("RGB") if image.mode == "CMYK" else file)
            check(tmp_path, data, expected)


@pytest.mark.parametrize("mode", ["1", "P", "L"])
def test_few_bits_are_read_as_by_pillow(tmp_path, mode):
    image = Image.fromarray(photo()).convert("L").convert(mode)
    data = saved(image, "TIFF", compression="tiff_lzw")
    expected = np.asarray(image.convert({"1": "L", "P": "RGB", "L": "L"}[mode]))
    check(tmp_path, data, expected)
    for bits in (2, 4):
        values = noise((13, 17)) % (1 << bits)
        for options in ({}, {"photometric": "miniswhite"}):
            data = tiff(values, bitspersample=bits, **options)
            scaled = (values * (255 // ((1 << bits) - 1))).astype(np.uint8)
            check(tmp_path, data, 255 - scaled if "photometric" in options else scaled)


def test_palette_of_four_bits(tmp_path):
    table, index = noise((3, 16), np.uint16), noise((8, 8)) % 16
    data = changed(_258=(258, 3, 1, 4), _262=(262, 3, 1, 3), _279=(279, 4, 1, 32))
    rows = [*PLAIN, (320, 3, 48, 512)]
    for tag, value in ((258, 4), (262, 3), (273, 700), (279, 32)):
        rows = [(*row[:3], value) if row[0] == tag else row for row in rows]
    packed = (index[:, ::2] << 4 | index[:, 1::2]).tobytes()
    data = directory(*rows).ljust(512, b"\0") + table.tobytes()
    data = data.ljust(700, b"\0") + packed
    check(tmp_path, data, (table >> 8).astype(np.uint8).T[index])


def test_a_fourth_channel_without_a_name_is_alpha(tmp_path):
    image = noise((13, 17, 4), np.uint16)
    check(tmp_path, tiff(image, extrasamples=["unassalpha"]), image)
    check(tmp_path, opencv(image, ".tiff"), image)


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
@pytest.mark.parametrize("compression", [None, "zlib"])
def test_tiff_where_white_is_zero(tmp_path, dtype, compression):
    image = noise((13, 17), dtype)
    data = tiff(image, photometric="miniswhite", compression=compression)
    check(tmp_path, data, np.iinfo(dtype).max - image)


def test_premultiplied_alpha_becomes_straight(tmp_path):
    straight = noise((13, 17, 4))
    stored = Image.fromarray(straight).convert("RGBa")
    data = tiff(np.asarray(stored), extrasamples=["assocalpha"])
    found = image_io.decode(data, name="x")
    expected = np.asarray(stored.convert("RGBA"))  # rounded down
    assert np.abs(found.astype(int) - expected).max() <= 1
    np.testing.assert_array_equal(found[..., 3], straight[..., 3])

    alpha = noise((13, 17, 1), np.uint16) | 0x8000
    color = noise((13, 17, 3), np.uint16)
    stored = np.rint(color / 65535 * alpha).astype(np.uint16)
    data = tiff(np.dstack([stored, alpha]), extrasamples=["assocalpha"])
    found = image_io.decode(data, name="x")
    assert np.abs(found[..., :3].astype(int) - color).max() <= 1

    values = np.dstack([FLOAT, np.full((13, 17, 1), 0.5, np.float32)])
    found, _ = read(tiff(values, extrasamples=["assocalpha"]), tmp_path)
    np.testing.assert_array_equal(found[..., :3], FLOAT * 2)
    values[..., 3] = 0  # nothing is seen
    found, _ = read(tiff(values, extrasamples=["assocalpha"]), tmp_path)
    assert not found.any()


def test_jpeg_in_tiff_is_read_as_by_pillow(tmp_path):
    files = [
        saved(Image.fromarray(photo()), "TIFF", compression="jpeg", strip_size=2048, quality=90),
        saved(Image.fromarray(photo()).convert("L"), "TIFF", compression="jpeg"),
        tiff(photo(height=64, width=80), compression="jpeg", tile=(32, 32)),
    ]
    for data in files:
        with Image.open(io.BytesIO(data)) as file:
            expected = np.asarray(file).astype(int)
        found, metadata = read(data, tmp_path)
        assert np.abs(found - expected).max() <= 1
        assert np.abs(found.astype(int) - expected).mean() < 0.1
        assert metadata.tiff_compression == "deflate"


@pytest.mark.parametrize(
    ("tag", "value", "options"),
    [
        (256, 40, {"rowsperstrip": 32}),
        (256, 160, {"rowsperstrip": 32}),
        (322, 16, {"tile": (32, 32)}),
        (322, 64, {"tile": (32, 32)}),
        (323, 64, {"tile": (32, 32)}),
    ],
)
def test_jpeg_in_tiff_of_another_size(tag, value, options):
    data = bytearray(tiff(photo(height=64, width=80), compression="jpeg", **options))
    place = entry(data, tag)
    data[place + 8 : place + 12] = struct.pack("<I", value)
    with pytest.raises(ImageError, match=r"^x: the TIFF file is .*damaged"):
        image_io.decode(bytes(data), name="x")


def test_jpeg_in_tiff_reshaped_to_as_many_bytes():
    data = bytearray(tiff(photo(height=64, width=80), compression="jpeg", rowsperstrip=64))
    for tag, value in ((256, 64), (257, 80), (278, 80)):
        place = entry(data, tag)
        data[place + 8 : place + 12] = struct.pack("<I", value)
    with pytest.raises(ImageError, match=r"strip or tile 0 has 80x64 pixels"):
        image_io.decode(bytes(data), name="x")


def test_zeros_before_the_end_of_jpeg_in_tiff(tmp_path):
    """As some cameras write them, also in files of JPEG."""
    data = tiff(photo(height=64, width=80), compression="jpeg")
    with tifffile.TiffFile(io.BytesIO(data)) as file:
        page = file.pages.first
        (start,), (length,) = page.dataoffsets, page.databytecounts
        counts = page.tags["StripByteCounts"].valueoffset
    jpeg = data[start : start + length]
    padded = data[:start] + jpeg[:-2] + bytes(100) + jpeg[-2:] + data[start + length :]
    assert counts < start
    padded = padded[:counts] + struct.pack("<I", length + 100) + padded[counts + 4 :]
    np.testing.assert_array_equal(read(padded, tmp_path)[0], read(data, tmp_path)[0])


def test_alpha_is_divided_in_blocks_of_rows(tmp_path, monkeypatch):
    """With the same result, and little memory besides the pixels."""
    values = noise((61, 67, 4), np.uint16)
    data = tiff(values, extrasamples=["assocalpha"])
    expected, _ = read(data, tmp_path)
    monkeypatch.setattr(tiff_pixels, "_PIXELS_AT_ONCE", 200)
    np.testing.assert_array_equal(read(data, tmp_path)[0], expected)


FAX = ["group3", "group4", "tiff_ccitt"]


def scan(height=96, width=120):
    """Black shapes on white, of all sizes."""
    y, x = np.mgrid[:height, :width]
    return (np.sin(x * y / 90) + np.random.default_rng(0).random((height, width)) / 9) > -0.5


@pytest.mark.parametrize("compression", FAX)
@pytest.mark.parametrize("info", [{}, {266: 2}], ids=str)
def test_fax_is_read_as_by_pillow(tmp_path, compression, info):
    for image in (scan(), np.ones((9, 33), bool), scan(17, 3000)):
        options = {"compression": compression, "tiffinfo": {**info, 278: 64}}
        data = saved(Image.fromarray(image), "TIFF", **options)
        check(tmp_path, data, image.astype(np.uint8) * 255)


def test_fax_of_group_4_without_its_end_mark():
    """At every place of the mark in its byte, as some programs write."""
    for width in range(33, 65):
        bits = scan(17, width).astype(np.uint8)
        codes = ccitt._encode(bits, 4)
        text = "".join(f"{byte:08b}" for byte in codes).rstrip("0")
        text = text.removesuffix("000000000001" * 2)
        short = bytes(int(text[k : k + 8].ljust(8, "0"), 2) for k in range(0, len(text), 8))
        assert ccitt.is_whole(codes, bits, 4)
        assert ccitt.is_whole(short, bits, 4)
        assert not ccitt.is_whole(short[:-2], bits, 4)


def test_fax_in_two_dimensions_of_group_3_is_refused():
    data = saved(Image.fromarray(scan()), "TIFF", compression="group3", tiffinfo={292: 1})
    with pytest.raises(ImageError, match=r"CCITT.*not supported; save"):
        image_io.decode(data, name="x")


# Which picture


def test_the_full_picture_is_found_and_never_a_preview(tmp_path):
    full, small = photo(np.uint16), photo()[::4, ::4]
    preview = {"subfiletype": 1}
    turned = {"extratags": [(0x0112, "H", 1, 6, True)]}
    for data, expected in (
        (pages((small, {**preview, "subifds": 1}), (full, {})), full),
        (pages((small, {**preview, "subifds": 2}), (small, preview), (full, {})), full),
        (pages((small, {**preview, **turned, "subifds": 1}), (full, {})), np.rot90(full, -1)),
        (pages((full, {"subifds": 1}), (small, {})), full),  # a pyramid without marks
        (pages((small, {"subifds": 1}), (full, {})), full),  # an unmarked preview in front
        (pages((small, preview), (full, {})), full),
        (pages((full, {}), (small, preview), (small, preview)), full),
    ):
        check(tmp_path, data, expected)


MASK = {"photometric": "minisblack", "extratags": [(254, "I", 1, 4, True)]}


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (pages((photo(), {"subfiletype": 1})), "previews only"),
        (pages((photo(), {}), (photo(), {})), "2 pictures"),
        (pages((photo(), {}), (photo()[::4, ::4], {})), "2 pictures"),
        (pages((photo()[::2], {"subifds": 1}), (photo(), {})), "2 pictures"),
        (pages((photo()[::4, ::4], {"subifds": 2}), (photo(), {}), (photo(), {})), "3 pictures"),
        (pages((photo(), {}), (photo()[..., 0], MASK)), "2 pictures"),
        (pages(*[(photo()[:1, :1], {})] * 1200), "more than 1000"),
    ],
)
def test_several_or_no_pictures(data, message):
    with pytest.raises(ImageError, match=f"^x: .*{message}"):
        image_io.decode(data, name="x")


# Damage


def entry(data, tag):
    """The place of a tag in the first directory of a small little-endian file."""
    (start,) = struct.unpack_from("<I", data, 4)
    (count,) = struct.unpack_from("<H", data, start)
    places = range(start + 2, start + 2 + 12 * count, 12)
    return next(p for p in places if struct.unpack_from("<H", data, p)[0] == tag)


def segments(data):
    with tifffile.TiffFile(io.BytesIO(data)) as file:
        page = file.pages[0]
        return list(zip(page.dataoffsets, page.databytecounts, strict=True))


COMPRESSED = ["tiff_lzw", "tiff_adobe_deflate", "packbits", "lzma", "zstd", "jpeg"]


def compressed(compression):
    image = np.kron(noise((8, 8, 3)), np.ones((8, 8, 1), np.uint8))
    return bytearray(saved(image, "TIFF", compression=compression, strip_size=2048))


@pytest.mark.parametrize("compression", [None, *COMPRESSED])
def test_strips_that_do_not_cover_the_picture(compression):
    data = compressed(compression)
    image_io.decode(bytes(data), name="whole")
    with tifffile.TiffFile(io.BytesIO(data)) as file:
        tags = file.pages[0].tags
        many = tags[273].count > 1
        height = tags[257].value
    for tag, place, value in (
        (257, 8, height + 32),  # more rows
        (257, 8, height - 32),  # fewer rows: pixels would be cut off
        *(((273, 4, 1), (279, 4, 1)) if many else ()),  # strips are missing
    ):
        damaged = bytearray(data)
        struct.pack_into("<I", damaged, entry(data, tag) + place, value)
        for function in (image_io.decode_header, image_io.decode):
            with pytest.raises(ImageError, match=r"need \d+ strips?, but it lists|cut short"):
                function(bytes(damaged), name="x")


@pytest.mark.parametrize("compression", COMPRESSED)
def test_a_damaged_strip_is_an_error(compression):
    data = compressed(compression)
    for start, length in segments(data):
        hole = bytes(length)
        half = data[start : start + length // 2] + bytes(length - length // 2)
        few = data[start : start + length // 2] + b"\0" * 9 + data[start + length // 2 + 9 :]
        has_checksum = compression in ("tiff_adobe_deflate", "lzma")
        for change in (hole, half, few[:length]) if has_checksum else (hole, half):
            damaged = data[:start] + change + data[start + length :]
            with pytest.raises(ImageError, match=r"^x: the TIFF file is (cut short or )?damaged"):
                image_io.decode(bytes(damaged), name="x")


@pytest.mark.parametrize("compression", COMPRESSED)
def test_a_shorter_strip_is_an_error(compression):
    data = compressed(compression)
    place = entry(data, 279)
    count = struct.unpack_from("<I", data, place + 4)[0]
    where = place + 8 if count == 1 else struct.unpack_from("<I", data, place + 8)[0]
    kind = "<H" if struct.unpack_from("<H", data, place + 2)[0] == 3 else "<I"
    (length,) = struct.unpack_from(kind, data, where)
    struct.pack_into(kind, data, where, length * 2 // 3)
    with pytest.raises(ImageError, match=r"^x: the TIFF file is (cut short or )?damaged"):
        image_io.decode(bytes(data), name="x")


def test_empty_strips_are_an_error():
    data = bytearray(tiff(photo()))
    struct.pack_into("<I", data, entry(data, 279) + 8, 0)
    with pytest.raises(ImageError, match="empty strips or tiles"):
        image_io.decode_header(bytes(data), name="x")


@pytest.mark.parametrize("compression", FAX)
def test_damaged_fax_is_an_error(compression):
    data = saved(Image.fromarray(scan()), "TIFF", compression=compression)
    good = image_io.decode(data, name="x")
    ((start, length),) = segments(data)
    wrong = 0
    for place in range(start, start + length - 4, 11):
        damaged = bytearray(data)
        damaged[place] ^= 0x10
        with contextlib.suppress(ImageError):
            found = image_io.decode(bytes(damaged), name="x")
            wrong += not np.array_equal(found, good)  # the codes of another picture
    assert wrong <= length // 11 * 0.15
    damaged = bytearray(data)
    damaged[start + length // 2 : start + length] = bytes(length - length // 2)
    with pytest.raises(ImageError, match="fax data"):
        image_io.decode(bytes(damaged), name="x")


@pytest.mark.parametrize("tag", [256, 257, 258, 259, 262, 273, 277, 278, 279, 317, 338])
def test_an_unreadable_tag_is_an_error(tag):
    """Decoders would take a default instead: no predictor, white for black."""
    image = noise((13, 17, 4))
    data = bytearray(tiff(image, compression="zlib", predictor=2, extrasamples=["unassalpha"]))
    struct.pack_into("<H", data, entry(data, tag) + 2, 99)  # no such type
    with pytest.raises(ImageError, match="the TIFF header is damaged"):
        image_io.decode(bytes(data), name="x")


def test_an_unreadable_tag_of_no_consequence(tmp_path):
    image = noise((13, 17, 3))
    data = bytearray(tiff(image, software="somebody's"))
    struct.pack_into("<H", data, entry(data, 305) + 2, 99)
    check(tmp_path, bytes(data), image)


# Hostile files


def directory(*entries, following=0):
    """A file of one directory: pairs of a tag and a type, count and value."""
    rows = b"".join(struct.pack("<HHII", *row) for row in sorted(entries))
    start = b"II*\0" + struct.pack("<IH", 8, len(entries))
    return start + rows + struct.pack("<I", following) + bytes(64)


PLAIN = [
    (256, 4, 1, 8),
    (257, 4, 1, 8),
    (258, 3, 1, 8),
    (259, 3, 1, 1),
    (262, 3, 1, 1),
    (273, 4, 1, 8),
    (277, 3, 1, 1),
    (278, 4, 1, 8),
    (279, 4, 1, 64),
]


def changed(**values):
    changes = {int(tag[1:]): value for tag, value in values.items()}
    rows = [changes.pop(row[0], row) for row in PLAIN]
    return directory(*rows, *changes.values())


def test_hostile_files_end_in_an_error():
    image_io.decode(directory(*PLAIN), name="good")
    big = 2**32 - 1
    for data in (
        directory(*PLAIN, following=8),  # a loop
        directory(*PLAIN, (330, 4, 1, 8)),  # a loop of sub-directories
        directory(*PLAIN, (330, 4, big, 8)),
        directory(),
        changed(_256=(256, 4, 1, big), _257=(257, 4, 1, big)),
        changed(_256=(256, 4, 1, 0)),
        changed(_256=(256, 11, 1, 0x41000000)),  # floating point
        changed(_256=(256, 3, 2, 0x00080008)),
        changed(_257=(257, 9, 1, big)),  # negative
        changed(_258=(258, 3, 1, 0)),
        changed(_258=(258, 3, 1, 3)),
        changed(_259=(259, 3, 1, 999)),
        changed(_262=(262, 3, 1, 999)),
        changed(_273=(273, 4, 1, big)),
        changed(_273=(273, 4, 2**30, 8)),
        changed(_277=(277, 3, 1, 65535)),
        changed(_277=(277, 3, 1, 0)),
        changed(_278=(278, 4, 1, 0)),
        changed(_278=(278, 4, 1, 1)),
        changed(_279=(279, 4, 1, 0)),
        changed(_279=(279, 4, 1, 63)),
        changed(_284=(284, 3, 1, 7)),
        changed(_317=(317, 3, 1, 9)),
        changed(_322=(322, 4, 1, big), _323=(323, 4, 1, big)),
        changed(_322=(322, 4, 1, 0), _323=(323, 4, 1, 8)),
        changed(_339=(339, 3, 1, 5)),
        changed(_32997=(32997, 4, 1, 99)),
    ):
        for function in (image_io.decode_header, image_io.decode):
            with pytest.raises(ImageError, match=r"^bad: "):
                function(data, name="bad")


def test_headers_of_gigabytes_are_not_read(tmp_path):
    """A tag of 2^28 numbers in a file that is long enough to hold them."""
    data = changed(_273=(273, 4, 2**28, 512))
    with open(tmp_path / "a.tif", "wb") as file:
        file.write(data)
        file.truncate(2**31)
    with pytest.raises(ImageError, match="larger than any picture needs"):
        image_io.read_header(tmp_path / "a.tif")


def test_tifffile_speaks_to_its_other_users_only(caplog, capfd):
    with pytest.raises(ImageError):
        image_io.decode(changed(_259=(259, 99, 1, 1)), name="x")
    assert capfd.readouterr() == ("", "")
    assert not caplog.records
    with (
        caplog.at_level(logging.WARNING),
        tifffile.TiffFile(io.BytesIO(changed(_259=(259, 99, 1, 1)))),
    ):
        pass
    assert caplog.records


def test_errors_that_tifffile_tells_while_pixels_are_decoded():
    data = tiff(photo())
    with (
        pytest.raises(ImageError, match=r"^x: the TIFF file is .*damaged \(a strip is odd\)"),
        tiff_directories.open_picture(io.BytesIO(data), "x"),
    ):
        tifffile.logger().error("a strip is odd")
    with tiff_directories.open_picture(io.BytesIO(data), "x"):
        tifffile.logger().error("TiffTag 270 is of no consequence")


# Writing


@pytest.mark.parametrize("compression", [None, "lzw", "deflate", "packbits", "lzma", "zstd"])
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.float32], ids=str)
def test_written_files_are_read_by_others(tmp_path, dtype, compression):
    """Several strips, of which the last is shorter."""
    scale = 16 if compression in ("lzma", "packbits") else 1  # which are slow
    for shape in ((700, 900), (700, 900, 2), (350, 900, 3), (350, 900, 4)):
        shape = (shape[0] // scale, *shape[1:])
        image = np.cumsum(noise(shape, np.uint16) >> 11, axis=1).astype(dtype)
        path = tmp_path / "a.tif"
        image_io.write(path, image, metadata=image_io.Metadata(tiff_compression=compression))
        np.testing.assert_array_equal(tifffile.imread(path), image)
        found, metadata = image_io.read_with_metadata(path)
        np.testing.assert_array_equal(found, image)
        default = None if dtype == np.uint8 else "deflate"
        assert metadata.tiff_compression == (compression or default)
        if compression not in ("lzma", "zstd") and shape[2:] != (2,):  # which OpenCV does not read
            seen = cv2.imread(str(path), cv2.IMREAD_UNCHANGED)
            order = [2, 1, 0, 3][: seen.shape[2]] if seen.ndim == 3 else ...
            alike = seen[..., order] if seen.ndim == 3 else seen
            opaque = shape[2:] != (4,) or dtype != np.uint8  # else OpenCV multiplies by alpha
            np.testing.assert_array_equal(alike, image) if opaque else None
        if dtype == np.uint8:
            with Image.open(path) as file:
                np.testing.assert_array_equal(np.asarray(file), image)
    with tifffile.TiffFile(path) as file:
        assert scale > 1 or len(file.pages[0].dataoffsets) > 1
        assert file.pages[0].photometric.name == "RGB"
        assert file.pages[0].extrasamples == (2,)


@pytest.mark.parametrize("compression", ["lzw", "zlib", "packbits", "lzma", "zstd"])
def test_compressed_files_stay_small(tmp_path, compression):
    for dtype in (np.uint8, np.uint16, np.float32):
        image = np.zeros((120, 160, 3), dtype)
        image[10:30, 20:50] = 7
        source, target = tmp_path / "a.tif", tmp_path / "b.tif"
        source.write_bytes(tiff(image, compression=compression, predictor=compression == "lzw"))
        found, metadata = image_io.read_with_metadata(source)
        image_io.write(target, found, metadata=metadata)
        assert target.stat().st_size < 2 * source.stat().st_size


def test_values_of_float_tiff_are_exact(tmp_path):
    for data in [tiff(FLOAT), opencv(FLOAT, ".tiff"), tiff(FLOAT, byteorder=">")]:
        image, _ = read(data, tmp_path)
        np.testing.assert_array_equal(image, FLOAT)
        image_io.write(tmp_path / "b.tif", image)
        np.testing.assert_array_equal(tifffile.imread(tmp_path / "b.tif"), FLOAT)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_tiff_is_turned(tmp_path, orientation):
    for image in (FLOAT, FLOAT[..., 0], photo()):
        data = tiff(image, extratags=[(0x0112, "H", 1, orientation, True)])
        found, metadata = read(data, tmp_path)
        np.testing.assert_array_equal(found, UPRIGHT[orientation](image))
        image_io.write(tmp_path / "b.tif", found, metadata=metadata)
        again, _ = image_io.read_with_metadata(tmp_path / "b.tif")
        np.testing.assert_array_equal(again, found)


@pytest.mark.parametrize("text", [None, "ImageJ=1.54\nimages=3", "<?xml?><OME></OME>", "a photo"])
def test_descriptions_of_the_layout_are_not_passed_on(tmp_path, text):
    """tifffile writes one itself, without being asked."""
    image, metadata = read(planes(photo(), description=text), tmp_path)
    layout = text != "a photo"
    assert metadata.left_out == ("description of the stored planes",) * (layout and bool(text))
    image_io.write(tmp_path / "b.tif", image, metadata=metadata)
    with tifffile.TiffFile(tmp_path / "b.tif") as file:
        assert file.pages[0].description == ("" if layout else text)


@pytest.mark.parametrize("text", ['{"shape": [61, 67, 3]}', "ImageJ=1.54", "shape=(61, 67, 3)"])
def test_descriptions_of_the_layout_in_exif_data(tmp_path, text):
    """As converters of TIFF files keep them."""
    exif = Image.Exif()
    exif[270], exif[271] = text, "Maker"
    (tmp_path / "a.png").write_bytes(saved(photo(), "PNG", exif=exif))
    image, metadata = image_io.read_with_metadata(tmp_path / "a.png")
    assert metadata.left_out == ("description of the stored planes",)
    image_io.write(tmp_path / "b.png", image, metadata=metadata)
    with Image.open(tmp_path / "b.png") as file:
        assert 270 not in file.getexif()
        assert file.getexif()[271] == "Maker"


def test_descriptions_of_tifffile_with_more_than_the_shape_are_reported(tmp_path):
    data = tiff(photo(), metadata={"axes": "YXS", "unit": "um"})
    assert read(data, tmp_path)[1].left_out == ("description of the stored planes",)
    assert read(tiff(photo()), tmp_path)[1].left_out == ()


def test_resolution_and_exif_of_a_bigtiff_are_kept(tmp_path):
    for big in (False, True):
        data = tiff(photo(), resolution=(300, 150), bigtiff=big, datetime="2026:01:02 03:04:05")
        image, metadata = read(data, tmp_path)
        image_io.write(tmp_path / "b.tif", image, metadata=metadata)
        with tifffile.TiffFile(tmp_path / "b.tif") as file:
            page = file.pages[0]
            assert page.tags.valueof(282) == (300, 1)
            assert page.tags.valueof(283) == (150, 1)
            assert page.tags.valueof(306) == "2026:01:02 03:04:05"


def test_header_of_floating_point(tmp_path):
    """As read_with_metadata reads it, float16 too."""
    for dtype in ("f2", "f4"):
        tifffile.imwrite(tmp_path / "a.tif", np.zeros((5, 7, 3), dtype), photometric="rgb")
        with pytest.raises(ImageError, match="floating-point"):
            image_io.read_header(tmp_path / "a.tif")
        header = image_io.read_header(tmp_path / "a.tif", floats=True)
        assert header == image_io.Header(5, 7, 3, 32)
