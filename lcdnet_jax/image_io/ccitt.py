"""Check of black-and-white TIFF data in the codes of fax machines (CCITT T.4 and T.6).

Decoders of fax data never fail: after an error they go on with wrong pixels. The codes of a picture
are unique, so the decoded picture is encoded again by libtiff, and the codes must be the same. End
marks and filling bits may differ.
"""

import io
import re

import numpy as np
import tifffile
from PIL import Image
from tifffile import COMPRESSION

_NAMES = {
    COMPRESSION.CCITTRLE: "tiff_ccitt",
    COMPRESSION.CCITT_T4: "group3",
    COMPRESSION.CCITT_T6: "group4",
}

# End of a line in T.4, a byte for each bit; no other codes have as many zeros.
_EOL = re.compile(rb"\0{11,}\x01")

_END_BYTES = 8  # more than the end mark of T.6, which is twice 11 zeros and a one

_ROWS_PER_STRIP = 278


def is_whole(data: bytes | bytearray, bits: np.ndarray, compression: int) -> bool:
    """Tells whether fax data are free of errors.

    Args:
        data: The codes of a strip or tile, most significant bit first.
        bits: ``[H, W]``, the decoded strip, as 0 and 1.
        compression: The number of the compression in TIFF files: 2, 3 (one-dimensional) or 4.

    Returns:
        Whether the data are the codes of the bits.
    """
    expected = _encode(bits, compression)
    if compression == COMPRESSION.CCITT_T4:
        return _split_lines(data) == _split_lines(expected)
    found, wanted = bytes(data).rstrip(b"\0"), expected.rstrip(b"\0")  # without filling bits
    is_t6 = compression == COMPRESSION.CCITT_T6
    return found == wanted or (is_t6 and found == _remove_end_mark(wanted))


def _encode(bits: np.ndarray, compression: int) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(bits.astype(bool)).save(
        buffer,
        "TIFF",
        compression=_NAMES[COMPRESSION(compression)],
        tiffinfo={_ROWS_PER_STRIP: len(bits)},
    )
    buffer.seek(0)
    with tifffile.TiffFile(buffer) as file:
        page = file.pages.first
        (start,), (length,) = page.dataoffsets, page.databytecounts
    return buffer.getvalue()[start : start + length]


def _remove_end_mark(data: bytes) -> bytes:
    """Removes the end mark of T.6, which some files lack: its two ones become filling bits."""
    bits = np.unpackbits(np.frombuffer(data[-_END_BYTES:], np.uint8))
    bits[np.flatnonzero(bits)[-2:]] = 0
    return (data[:-_END_BYTES] + np.packbits(bits).tobytes()).rstrip(b"\0")


def _split_lines(data: bytes | bytearray) -> list[bytes]:
    """The codes of each line, a byte for each bit, without end marks and filling bits."""
    bits = np.unpackbits(np.frombuffer(data, np.uint8)).tobytes().rstrip(b"\0")
    return [line for part in _EOL.split(bits) if (line := part.rstrip(b"\0"))]
