"""Paths below a folder of a bucket whose objects were listed once.

Their methods ``exists``, ``is_dir``, ``is_file``, ``iterdir``, ``glob`` and ``walk`` answer from
the list, as those of ``pathlib`` do from a disk, so that code for local folders reads buckets, too,
without a request for each question. What appears later is not in the list.
"""

import bisect
import fnmatch
import functools
import pathlib
from collections.abc import Iterator, Mapping
from typing import ClassVar, Self

from etils.epath import gpath


class Listing:
    """The objects below a folder.

    Args:
        root: The URL of the folder, without a slash at the end.
        sizes: Bytes of each object by its path below the folder.
    """

    def __init__(self, root: str, sizes: Mapping[str, int]):
        self.root = root
        # A path cannot name "/b", "a//b" or "a/../b", which a bucket may hold.
        self.sizes = {
            name: size
            for name, size in sizes.items()
            if str(pathlib.PurePosixPath("/", name)) == f"/{name}" and ".." not in name.split("/")
        }
        self._names = sorted(self.sizes)

    def has_folder(self, name: str) -> bool:
        """Whether there are objects below a folder, "" for the folder that was listed."""
        start = f"{name}/" if name else ""
        place = bisect.bisect_left(self._names, start)
        return place < len(self._names) and self._names[place].startswith(start)

    @functools.cached_property
    def entries(self) -> Mapping[str, Mapping[str, bool]]:
        """Names in each folder, sorted, and whether they are folders."""
        found: dict[str, dict[str, bool]] = {}
        for name in self._names:
            is_folder = False
            while name:
                folder, _, last = name.rpartition("/")
                known = found.setdefault(folder, {})
                if known.get(last) or (last in known and not is_folder):
                    break  # the folders above are known, too
                known[last], name, is_folder = is_folder, folder, True
        return {folder: dict(sorted(names.items())) for folder, names in found.items()}


class ListedPath(gpath.PosixGPath):
    """A path in a bucket that answers from a list; see :func:`make_listed_path`."""

    # Of the class, since a path that is made from another one keeps its class and nothing else.
    listing: ClassVar[Listing]

    @property
    def name_below(self) -> str | None:
        """The path below the listed folder, "" for that folder, None for a path elsewhere."""
        text, root = str(self), self.listing.root
        if text == root:
            return ""
        return text[len(root) + 1 :] if text.startswith(f"{root}/") else None

    @property
    def size(self) -> int | None:
        """Bytes of the object; None if it is not in the list."""
        name = self.name_below
        return None if name is None else self.listing.sizes.get(name)

    def exists(self) -> bool:
        """Whether there is an object or folder of this name."""
        return self.is_file() or self.is_dir()

    def is_file(self) -> bool:
        """Whether there is an object of this name."""
        return self.size is not None

    def is_dir(self) -> bool:
        """Whether there are objects below this path."""
        name = self.name_below
        return name is not None and self.listing.has_folder(name)

    def is_symlink(self) -> bool:
        """False: a bucket has no links."""
        return False

    def absolute(self) -> Self:
        """The path itself."""
        return self

    def iterdir(self) -> Iterator[Self]:
        """The objects and folders in this folder, sorted by name."""
        for name in self._list_entries():
            yield self / name

    def glob(self, pattern: str) -> Iterator[Self]:
        """The objects and folders that match a pattern without ``**``."""
        first, _, rest = pattern.partition("/")
        for name in fnmatch.filter(self._list_entries(), first):
            if rest:
                yield from (self / name).glob(rest)
            else:
                yield self / name

    def walk(self) -> Iterator[tuple[Self, list[str], list[str]]]:
        """This folder and those below it, each with the names of its folders and objects.

        As for ``os.walk``, folders that the caller removes from the list are left out.
        """
        entries = self._list_entries()
        folders = [name for name, is_folder in entries.items() if is_folder]
        yield self, folders, [name for name, is_folder in entries.items() if not is_folder]
        for name in folders:
            yield from (self / name).walk()

    def _list_entries(self) -> Mapping[str, bool]:
        name = self.name_below
        return {} if name is None else self.listing.entries.get(name, {})


def make_listed_path(root: str, sizes: Mapping[str, int]) -> ListedPath:
    """Makes the path of a folder whose objects are known.

    Args:
        root: The URL of the folder.
        sizes: Bytes of each object by its path below the folder.

    Returns:
        The path. Paths made from it know the list, too.
    """
    root = root.rstrip("/")

    class Listed(ListedPath):
        listing = Listing(root, sizes)

    return Listed(root)
