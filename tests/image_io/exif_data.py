"""EXIF data by hand, as a camera writes it."""

import struct

from lcdnet_jax.image_io import exif
from tests.image_io.files import photo, saved

ASCII, SHORT, LONG, RATIONAL, UNDEFINED = 2, 3, 4, 5, 7
TEXTS = ("José Müller", "© 2026 José", "東京の夜景", "Zeiss é")


def text(value):
    data = value.encode() + b"\0"
    return ASCII, len(data), data


def numbers(order, kind, *values):
    form = {SHORT: "H", LONG: "I", RATIONAL: "I"}[kind]
    count = len(values) // 2 if kind == RATIONAL else len(values)
    return kind, count, struct.pack(f"{order}{len(values)}{form}", *values)


def directory(order, entries, start, following=0):
    """A directory and its values."""
    head, values = b"", b""
    behind = start + 2 + 12 * len(entries) + 4
    for tag, (kind, count, value) in sorted(entries.items()):
        place = struct.pack(order + "I", behind + len(values))
        head += struct.pack(order + "HHI", tag, kind, count)
        head += value.ljust(4, b"\0") if len(value) <= 4 else place
        values += value + bytes(len(value) % 2) if len(value) > 4 else b""
    return (
        struct.pack(order + "H", len(entries)) + head + struct.pack(order + "I", following) + values
    )


def camera_exif(order="<", orientation=1, thumbnail=True):
    """EXIF data as a camera writes it, with a maker note that points to itself from the start."""
    jpeg = saved(photo()[:16, :16], "JPEG")

    def build(exif_start, note_start, second_start, jpeg_start):
        note = b"CAMERA" + struct.pack(order + "I", note_start + 10) + b"serial 4711"
        inner = {
            0x829A: numbers(order, RATIONAL, 1, 250),
            0x9214: numbers(order, SHORT, 10, 20, 5, 5),
            0x927C: (UNDEFINED, len(note), note),
            0xA002: numbers(order, SHORT, 4000),
            0xA003: numbers(order, LONG, 3000),
            0xA20E: numbers(order, RATIONAL, 5000, 1),
            0xA20F: numbers(order, RATIONAL, 6000, 1),
            0xA434: text(TEXTS[3]),
        }
        first = {
            0x010E: text(TEXTS[2]),
            0x0112: numbers(order, SHORT, orientation),
            0x011A: numbers(order, RATIONAL, 300, 1),
            0x011B: numbers(order, RATIONAL, 150, 1),
            0x0128: numbers(order, SHORT, 2),
            0x013B: text(TEXTS[0]),
            0x8298: text(TEXTS[1]),
            0x8769: numbers(order, LONG, exif_start),
        }
        second = {
            0x0201: numbers(order, LONG, jpeg_start),
            0x0202: numbers(order, LONG, len(jpeg)),
        }
        data = {"<": b"II*\0", ">": b"MM\0*"}[order] + struct.pack(order + "I", 8)
        data += directory(order, first, 8, second_start if thumbnail else 0)
        starts = [len(data)]
        data += directory(order, inner, starts[0])
        starts += [data.find(b"CAMERA"), len(data)]
        data += directory(order, second, starts[2]) if thumbnail else b""
        starts.append(len(data))
        return data + (jpeg if thumbnail else b""), starts

    _, starts = build(0, 0, 0, 0)
    return exif.PREFIX + build(*starts)[0]
