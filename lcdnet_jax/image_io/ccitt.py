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

_EOL = re.compile("0{11,}1")  # end of a line in T.4; no other codes have as many zeros

_END_MARK = ("0" * 11 + "1") * 2  # of T.6

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
    found, wanted = _trim(data), _trim(expected)
    if compression == COMPRESSION.CCITT_T6 and len(found) != len(wanted):
        wanted = wanted[: -len(_END_MARK)].rstrip("0")  # a file without it
    return found == wanted


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


def _split_lines(data: bytes | bytearray) -> list[str]:
    """The codes of each line, without end marks and filling bits."""
    return [line for part in _EOL.split(_trim(data)) if (line := part.rstrip("0"))]


def _trim(data: bytes | bytearray) -> str:
    """The bits as text, without filling bits at the end."""
    return "".join(f"{byte:08b}" for byte in data).rstrip("0")
