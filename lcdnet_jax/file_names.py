"""Names of files: made of others, looking the same, or several joined by commas.

A name is bytes. Python holds bytes that are not UTF-8 as surrogates (``surrogateescape``).
"""

import hashlib
import os
import unicodedata
from collections.abc import Collection

# Longest name of a file or folder, in bytes. Most file systems have this limit.
LONGEST = 255


def shorten_name(name: str, ending: str) -> str:
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


def split_list(text: str, *, prefixes: Collection[str] = ()) -> list[str]:
    """Splits a list of paths at commas, except at those in names of files that exist.

    Args:
        text: Names and paths joined by commas, perhaps as PREFIX:PATH. Spaces around a comma that
            separates do not count.
        prefixes: Known values of PREFIX. Any other text before a colon belongs to the path.

    Returns:
        The parts, in order; no parts for an empty text. Of several ways to split, the first part
        that exists and is longest is taken.
    """
    pieces = text.split(",") if text else []
    parts = []
    while pieces:
        count = next(
            (n for n in range(len(pieces), 1, -1) if _exists(",".join(pieces[:n]), prefixes)), 1
        )
        parts.append(",".join(pieces[:count]).strip())
        del pieces[:count]
    return parts


def _exists(text: str, prefixes: Collection[str]) -> bool:
    prefix, colon, path = text.strip().partition(":")
    if colon and prefix in prefixes:
        text = path
    return os.path.lexists(os.path.expanduser(text.strip()))
