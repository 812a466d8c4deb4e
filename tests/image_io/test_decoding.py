"""Files are made with Pillow, OpenCV, tifffile or by hand, and read with lcdnet_jax.image_io."""

import io
import pathlib
import struct
import zlib

import numpy as np
import pytest
from PIL import Image

from lcdnet_jax import image_io, storage
from lcdnet_jax.image_io import ImageError
from tests.image_io.files import (
    FLOAT,
    SHAPES,
    avif_with,
    check,
    check_header,
    chunk,
    dng,
    heif,
    heif_with,
    noise,
    opencv,
    pages,
    photo,
    planes,
    profile_of,
    saved,
    tiff,
)

# Reading what others wrote


@pytest.mark.parametrize("kind", ["gray", "rgb", "rgba"])
@pytest.mark.parametrize("suffix", [".png", ".tiff"])
def test_16_bits_written_by_opencv_are_exact(tmp_path, capfd, kind, suffix):
    image = noise(SHAPES[kind], np.uint16)
    check(tmp_path, opencv(image, suffix), image)
    assert capfd.readouterr() == ("", "")  # no remarks of libtiff


def test_formats_of_8_bits(tmp_path):
    image = noise((13, 17, 3))
    alpha = noise((13, 17, 4))
    check(tmp_path, planes(image), image)
    check(tmp_path, saved(image, "BMP"), image)
    check(tmp_path, saved(image, "TIFF", compression="tiff_lzw"), image)
    check(tmp_path, saved(image[..., 0].copy(), "TIFF"), image[..., 0])
    check(tmp_path, saved(alpha[..., :2].copy(), "TIFF"), alpha[..., :2])
    check(tmp_path, saved(alpha, "WEBP", lossless=True, exact=True), alpha)
    check(tmp_path, saved(alpha[..., :2].copy(), "PNG"), alpha[..., :2])
    data = saved(image, "JPEG")
    with Image.open(io.BytesIO(data)) as decoded:
        check(tmp_path, data, np.asarray(decoded))


def test_palette_one_bit_cmyk_and_transparent_color(tmp_path):
    palette = Image.fromarray(noise((13, 17)) % 4).convert("L")
    palette = palette.convert("P")
    palette.putpalette([10, 20, 30, 40, 50, 60, 70, 80, 90, 200, 210, 220])
    index = np.asarray(palette)
    colors = np.array([[10, 20, 30], [40, 50, 60], [70, 80, 90], [200, 210, 220]], np.uint8)
    check(tmp_path, saved(palette, "PNG"), colors[index])
    check(tmp_path, saved(palette, "BMP"), colors[index])
    opacity = np.array([0, 128, 255, 255], np.uint8)
    expected = np.concatenate([colors[index], opacity[index][..., None]], -1)
    check(tmp_path, saved(palette, "PNG", transparency=opacity.tobytes()), expected)

    bits = noise((13, 17)) > 127
    for data in (saved(Image.fromarray(bits), "PNG"), saved(Image.fromarray(bits), "TIFF")):
        check(tmp_path, data, bits.astype(np.uint8) * 255)

    cmyk = Image.fromarray(photo()).convert("CMYK")
    decoded = image_io.decode(saved(cmyk, "JPEG", quality=95), name="x")
    assert np.abs(decoded.astype(int) - photo()).mean() < 5

    image = noise((13, 17, 3))
    data = saved(image, "PNG", transparency=tuple(int(v) for v in image[2, 3]))
    opaque = ~(image == image[2, 3]).all(-1)
    check(tmp_path, data, np.dstack([image, opaque.astype(np.uint8) * 255]))


# Round trips


@pytest.mark.parametrize("kind", SHAPES)
def test_lossless_round_trip(tmp_path, kind):
    cases = [(suffix, np.uint8) for suffix in (".png", ".tif", ".TIFF", ".webp", ".bmp")]
    for suffix, dtype in [*cases, (".png", np.uint16), (".tiff", np.uint16)]:
        image = noise(SHAPES[kind], dtype)
        path = tmp_path / f"file{suffix}"
        if kind == "gray+alpha" and suffix == ".bmp":
            with pytest.raises(ImageError, match=r"use \.png"):
                image_io.write(path, image)
            assert not path.exists()
            continue
        image_io.write(path, image)
        if suffix == ".webp" and "gray" in kind:  # WebP has no gray
            image = np.stack([image] * 3, -1) if image.ndim == 2 else image[..., [0, 0, 0, 1]]
        result = image_io.read(path)
        assert result.dtype == dtype
        np.testing.assert_array_equal(result, image)
        check_header(path, image)
    assert not list(tmp_path.glob(".*"))


# Every kind of file


def palette_of(image, kind, **options):
    return saved(Image.fromarray(image).quantize(16), kind, **options)


def png_bits(depth):
    """A gray PNG with so few bits a pixel that Pillow does not write it."""
    top = 2**depth - 1
    values = np.arange(64).reshape(8, 8) % (top + 1)
    bits = np.unpackbits(values.astype(np.uint8)[..., None], axis=2)[..., -depth:]
    rows = np.pad(np.packbits(bits.reshape(8, -1), axis=1), ((0, 0), (1, 0)))
    data = (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", struct.pack(">IIBBBBB", 8, 8, depth, 0, 0, 0, 0))
        + chunk(b"IDAT", zlib.compress(rows.tobytes()))
        + chunk(b"IEND", b"")
    )
    return data, (values * (255 // top)).astype(np.uint8)


def each(images, *makers):
    return [make(image) for image in images for make in makers]


def ways(*kinds, **options):
    return [lambda image, kind=kind: saved(image, kind, **options) for kind in kinds]


GRAY, COLOR = photo()[..., 0].copy(), photo()

PAIR, FOUR = (np.dstack([x, noise((61, 67))]) for x in (GRAY, COLOR))

DEEP = {c: noise((13, 17, c) if c > 1 else (13, 17), np.uint16) for c in (1, 2, 3, 4)}

SECOND = Image.new("RGB", (67, 61))


def written(image, suffix, tmp_path):
    image_io.write(tmp_path / f"made{suffix}", image)
    return (tmp_path / f"made{suffix}").read_bytes()


# Row of image_io.KINDS, by its first words: makers of such files.
MAKERS = {
    "PNG, JPEG, BMP, TIFF, AVIF, HEIC: gray": lambda _: [
        *each([GRAY], *ways("PNG", "JPEG", "BMP", "TIFF", "AVIF"), heif),
        tiff(GRAY, photometric="miniswhite"),
    ],
    "PNG, JPEG, WebP, BMP, TIFF, AVIF, HEIC: color": lambda _: each(
        [COLOR], *ways("PNG", "JPEG", "WEBP", "BMP", "TIFF", "AVIF"), heif
    ),
    "PNG, TIFF: gray and alpha, 8": lambda _: each([PAIR], *ways("PNG", "TIFF")),
    "PNG, WebP, BMP, TIFF, AVIF, HEIC: color, alpha": lambda _: [
        *each([FOUR], *ways("PNG", "WEBP", "TIFF", "AVIF"), heif),
        opencv(FOUR, ".bmp"),
    ],
    "PNG, TIFF: gray, 16": lambda _: [opencv(DEEP[1], ".png"), opencv(DEEP[1], ".tiff")],
    "TIFF: gray, 16 bits, white": lambda _: [tiff(DEEP[1], photometric="miniswhite")],
    "PNG, TIFF: color, 16": lambda _: [opencv(DEEP[3], ".png"), tiff(DEEP[3])],
    "PNG, TIFF: gray and alpha, 16": lambda folder: [
        written(DEEP[2], ".png", folder),
        tiff(DEEP[2], photometric="minisblack", extrasamples=["unassalpha"]),
    ],
    "PNG, TIFF: color and alpha, 16": lambda _: [
        opencv(DEEP[4], ".png"),
        tiff(DEEP[4], extrasamples=["unassalpha"]),
    ],
    "TIFF: gray, float16": lambda _: [
        tiff(FLOAT[..., 0].astype(np.float16)),
        tiff(FLOAT[..., 0]),
        saved(Image.fromarray(FLOAT[..., 0].copy()), "TIFF"),
        tiff(FLOAT[..., 0], byteorder=">", compression="zlib", rowsperstrip=3),
    ],
    "TIFF: color, float16": lambda _: [
        planes(FLOAT),
        tiff(FLOAT),
        opencv(FLOAT, ".tiff"),
        tiff(FLOAT, tile=(16, 16), compression="zlib"),
    ],
    "TIFF: float32, gray and": lambda _: [
        tiff(FLOAT[..., :2], photometric="minisblack", extrasamples=["unassalpha"])
    ],
    "TIFF: float32, color and": lambda _: [
        tiff(np.dstack([FLOAT, FLOAT[..., :1]]), extrasamples=["unassalpha"])
    ],
    "TIFF: premultiplied": lambda _: [tiff(FOUR, extrasamples=["assocalpha"])],
    "PNG, TIFF: 1, 2": lambda _: [
        *each([GRAY > 127], *ways("PNG", "BMP", "TIFF")),
        png_bits(2)[0],
        png_bits(4)[0],
    ],
    "PNG, BMP, TIFF: palette": lambda _: [palette_of(COLOR, k) for k in ("PNG", "BMP", "TIFF")],
    "PNG: palette or color with": lambda _: [
        palette_of(COLOR, "PNG", transparency=bytes(range(16))),
        saved(COLOR, "PNG", transparency=(1, 2, 3)),
    ],
    "PNG: gray with a transparent": lambda _: [saved(GRAY, "PNG", transparency=3)],
    "WebP: gray": lambda _: [saved(GRAY, "WEBP")],
    "HEIC: 10": lambda _: [heif(photo(np.uint16), bit_depth=bits) for bits in (10, 12)],
    "raw of": lambda _: [dng(), dng(preview=False)],
    "JPEG, TIFF: CMYK": lambda _: each(
        [Image.fromarray(COLOR).convert("CMYK")],
        *ways("JPEG", "TIFF", icc_profile=profile_of(b"CMYK")),
    ),
    "JPEG with further": lambda _: [
        saved(Image.fromarray(COLOR), "MPO", save_all=True, append_images=[SECOND])
    ],
    "PNG, WebP, TIFF: animation": lambda _: [
        saved(COLOR, kind, save_all=True, append_images=[SECOND])
        for kind in ("PNG", "WEBP")
    ]
    + [tiff(np.stack([COLOR] * 2)), tiff(np.stack([FLOAT] * 2))],
    "TIFF: a preview": lambda _: [
        pages((COLOR[::4, ::4], {"subfiletype": 1, "subifds": 1}), (COLOR, {})),
        pages((COLOR, {"subifds": 1}), (COLOR[::4, ::4], {"subfiletype": 1})),
        pages((COLOR, {}), (COLOR[::4, ::4], {"subfiletype": 1})),
    ],
    "TIFF: 12 bits": lambda _: [
        *(tiff(np.ones((9, 11), kind)) for kind in ("u4", "i4", "f8", "i2", "i1")),
        tiff(np.ones((9, 11), "u2"), bitspersample=12),
        tiff(DEEP[4], photometric="separated"),
        tiff(COLOR, photometric="cielab"),
    ],
    "TIFF: masks": lambda _: [
        tiff(FOUR, extrasamples=["unspecified"]),
        tiff(DEEP[4], extrasamples=["unspecified"]),
        tiff(np.dstack([FOUR, GRAY]), extrasamples=["unassalpha", "unspecified"]),
        tiff(PAIR, extrasamples=["unspecified"], photometric="minisblack"),
        tiff(FLOAT[..., 0], photometric="miniswhite"),
        tiff(COLOR, subfiletype=1),
    ],
    "AVIF: 10": lambda _: [
        avif_with(bits=10),
        avif_with(primaries=9),
        avif_with(transfer=16),
        heif_with(primaries=9),
        heif_with(transfer=18),
    ],
    "other formats": lambda _: [saved(COLOR, "GIF"), saved(COLOR, "JPEG2000")],
    "missing, empty": lambda _: [b"", saved(COLOR, "PNG")[:99], tiff(FLOAT)[:-9]],
}  # fmt: skip

SUFFIXES = {b"\x89P": ".png", b"\xff\xd8": ".jpg", b"RI": ".webp", b"BM": ".bmp"}

BRANDS = {b"avif": ".avif", b"heic": ".heic", b"heix": ".heic"}

LOSSY = (".jpg", ".avif", ".heic")


@pytest.mark.parametrize("words", MAKERS)
def test_table_of_kinds(tmp_path, words):
    ((_, read, kept),) = [row for row in image_io.KINDS if row[0].startswith(words)]
    for data in MAKERS[words](tmp_path):
        suffix = BRANDS.get(data[8:12]) or SUFFIXES.get(data[:2], ".tif")
        path = tmp_path / f"a{suffix}"
        path.write_bytes(data)
        if read == "refused":
            assert kept == ""
            with pytest.raises(ImageError, match=rf"^{path}: "):
                image_io.read_with_metadata(path)
            continue
        image, metadata = image_io.read_with_metadata(path)
        shape = {2: "[H, W]", 3: f"[H, W, {image.shape[-1]}]"}[image.ndim]
        if not read.startswith("the"):
            assert read.startswith(f"{shape} {image.dtype}")
        if image.dtype != np.float32:
            np.testing.assert_array_equal(image, image_io.read(path))
        image_io.write(path, image, metadata=metadata, quality=100)
        again, left = image_io.read_with_metadata(path)
        tolerance = 0
        if suffix in LOSSY:
            tolerance = 9 if image.dtype == np.uint8 else 9 * 257
        assert again.dtype == image.dtype
        np.testing.assert_allclose(again.astype(float), image, atol=tolerance)
        assert left.icc_profile is None


def test_table_of_kinds_has_no_other_rows():
    assert len(MAKERS) == len(image_io.KINDS)


def test_table_of_kinds_is_in_the_docs():
    document = pathlib.Path(__file__).parents[2] / "docs/reference/image_files.md"
    rows = "".join(f"| {' | '.join(row)} |\n" for row in image_io.KINDS)
    assert f"|---|---|---|\n{rows}\n" in document.read_text()


def test_few_bits_span_the_range(tmp_path):
    for depth in (1, 2, 4):
        data, expected = png_bits(depth)
        np.testing.assert_array_equal(image_io.decode(data, name="x"), expected)


# Bad files


CUT = {
    "png": lambda: saved(photo(), "PNG"),
    "palette.png": lambda: saved(Image.fromarray(photo()).quantize(16), "PNG"),
    "jpeg": lambda: saved(photo(), "JPEG"),
    "progressive.jpeg": lambda: saved(photo(), "JPEG", progressive=True),
    "webp": lambda: saved(photo(), "WEBP"),
    "lossless.webp": lambda: saved(photo(), "WEBP", lossless=True),
    "bmp": lambda: saved(photo(), "BMP"),
    "tiff": lambda: saved(photo(), "TIFF"),
    "lzw.tiff": lambda: saved(photo(), "TIFF", compression="tiff_lzw"),
    "16.png": lambda: opencv(photo(np.uint16), ".png"),
    "gray16.png": lambda: opencv(photo(np.uint16)[..., 0], ".png"),
    "16.tiff": lambda: opencv(photo(np.uint16), ".tiff"),
    "gray16.tiff": lambda: opencv(photo(np.uint16)[..., 0], ".tiff"),
    "index_first16.tiff": lambda: tiff(photo(np.uint16)),
    "tiles16.tiff": lambda: tiff(photo(np.uint16), tile=(16, 16)),
    "planes.tiff": lambda: planes(photo()),
}


@pytest.mark.parametrize("kind", CUT)
def test_a_cut_file_is_an_error_wherever_it_is_cut(tmp_path, kind):
    data = CUT[kind]()
    image_io.decode(data, name="whole")
    for part in (0.5, 0.9, 0.3, 0.02):
        path = tmp_path / f"cut.{kind}"
        path.write_bytes(data[: int(len(data) * part)])
        with pytest.raises(ImageError, match=r"cut\..*(cut short|damaged)"):
            image_io.read(path)
        if kind.endswith(("png", "tiff")):  # found without decoding
            with pytest.raises(ImageError, match="cut short"):
                image_io.read_header(path)
            with pytest.raises(ImageError, match=r"^record 7: .*cut short"):
                image_io.decode_header(path.read_bytes(), name="record 7")
    if kind.endswith("png"):  # pixels whole, end mark missing
        with pytest.raises(ImageError, match="cut short"):
            image_io.decode(data[:-12], name="cut")


def test_picture_with_previews_is_read(tmp_path):
    first = Image.fromarray(photo())
    data = saved(first, "MPO", save_all=True, append_images=[first.resize((8, 8))])
    assert image_io.decode(data, name="x").shape == photo().shape


@pytest.mark.parametrize("name", ["denoise/set12", "denoise/cbsd68"])
def test_real_images(shared_data, name):
    paths: list[pathlib.Path] = image_io.find_images(shared_data(name))
    for path in paths[:3]:
        image = image_io.read(path)
        check_header(path, image)
        with Image.open(path) as reference:
            np.testing.assert_array_equal(image, np.asarray(reference))
        gray = image_io.convert_channels(image, 1)
        assert gray.shape == (*image.shape[:2], 1)
        np.testing.assert_array_equal(image_io.convert_channels(image, 1), gray)


def test_files_in_a_bucket(bucket, tmp_path, monkeypatch):
    """As local ones, also if a request reads only a part of them."""
    monkeypatch.setattr(storage.reading, "_BLOCK", 1000)
    folder = storage.to_path(f"{bucket}/in")
    names = {"a.png": noise((60, 50, 3)), "b.jpg": photo(), "c.tif": noise((40, 30), np.uint16)}
    for name, image in names.items():
        assert image_io.write(folder / name, image) == ()
        image_io.write(tmp_path / name, image)
        for path in (folder / name, str(folder / name), storage.list_once(folder) / name):
            local = image_io.read_header(tmp_path / name)
            assert image_io.read_header(path) == local
            np.testing.assert_array_equal(image_io.read(path), image_io.read(tmp_path / name))
            _, metadata = image_io.read_with_metadata(path)
            assert metadata == image_io.read_with_metadata(tmp_path / name)[1]
    found = image_io.find_images(folder)
    assert [path.name for path in found] == list(names)
    with pytest.raises(ImageError, match=r"in/none.png: cannot be read \(No such file"):
        image_io.read(folder / "none.png")
    with pytest.raises(ImageError, match=r"a.png exists; choose another name"):
        image_io.write(folder / "a.png", photo(), force=False)
    storage.write(folder / "d.png", b"")
    with pytest.raises(ImageError, match=r"d.png: the file is empty"):
        image_io.read(folder / "d.png")
