"""The photograph of the demo: with synthetic noise of a camera.

``python -m benchmarks.camera_photos`` makes it from the photograph "chelsea" of scikit-image, which
its author, Stéfan van der Walt, has dedicated to the public domain (CC0).
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
