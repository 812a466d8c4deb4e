"""Names of files: names that are made of others, and names that look the same.

A name is bytes. Python holds bytes that are no UTF-8 as surrogates (``surrogateescape``).
"""

import hashlib
import os
import unicodedata

# Longest name of a file or folder, in bytes. Most file systems have this limit.
LONGEST = 255


def fit(name: str, ending: str) -> str:
    """Makes the name of a file from the name of an image or data set.

    Args:
        name: The beginning of the name.
        ending: The end of the name, at most 100 bytes; it is kept.

    Returns:
        ``name`` and ``ending``. If that is longer than :data:`LONGEST`, ``name`` is cut, and a
        checksum of it keeps names different.
    """
    data, tail = os.fsencode(name), os.fsencode(ending)
    if len(data) + len(tail) <= LONGEST:
        return name + ending
    digest = f"~{hashlib.sha256(data).hexdigest()[:12]}"
    length = LONGEST - len(tail) - len(digest)
    while length and data[length] & 0xC0 == 0x80:  # not in the middle of a character
        length -= 1
    return os.fsdecode(data[:length]) + digest + ending


def normalize(name: str) -> str:
    """Converts a name to one form of Unicode, to compare names from different systems.

    Args:
        name: The name. Systems write "é" as one character, or as "e" and an accent.

    Returns:
        The name in the form NFC.
    """
    return unicodedata.normalize("NFC", name)
