"""The photograph of the demo: with synthetic noise of a camera.

It is the photograph "chelsea" of scikit-image after ``degradations.camera_noise`` with ``shot``
0.005, saved as JPEG of quality 90. Its author, Stéfan van der Walt, has dedicated it to the public
domain (CC0).
"""

import pathlib

# The name of the file that the page sends.
NAME = "demo.jpg"

_FILE = pathlib.Path(__file__).parent / NAME


def read() -> bytes:
    """Reads the photograph.

    Returns:
        The bytes of a JPEG.
    """
    return _FILE.read_bytes()
