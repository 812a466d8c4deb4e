"""Darmstadt Noise Dataset (DND): reads its noisy crops and writes a submission to its server.

Ploetz and Roth, CVPR 2017. Its 1000 clean crops (20 in each of 50 photographs) are not public;
scores come from the server at ``SERVER``. Only sRGB is supported.
"""

import contextlib
import io
import os
import pathlib
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
import scipy.io

from lcdnet_jax import atomic_io, storage
from lcdnet_jax.image_io import ImageError
from lcdnet_jax.messages import escape, format_count, join_some

SERVER = "https://noise.visinf.tu-darmstadt.de"


class DND:
    """The noisy crops of the folder ``dnd_2017``.

    MATLAB stores arrays column by column, so that h5py sees all axes in reverse.

    Args:
        folder: Holds ``info.mat`` and ``images_srgb/0001.mat`` and so on, both HDF5.

    Raises:
        ImageError: The folder has another layout, or a file cannot be read.
        ValueError: H5py is not installed.
    """

    def __init__(self, folder: str | os.PathLike[str]):
        try:
            import h5py  # imported here, because only DND needs it
        except ImportError as error:
            raise ValueError('DND needs h5py; pip install "lcdnet-jax[train]"') from error
        self._file = h5py.File
        root = storage.list_once(storage.to_path(folder).expanduser())
        self._boxes = self._read_boxes(root / "info.mat")
        self._paths = [root / "images_srgb" / f"{i + 1:04d}.mat" for i in range(len(self._boxes))]
        missing = [path.name for path in self._paths if not path.is_file()]
        if missing:
            raise ImageError(
                f"{root}: images_srgb/ lacks {len(missing)} of "
                f"{format_count(len(self._paths), 'image')}, the first is {missing[0]}; extract "
                "the archive of DND again"
            )

    @contextlib.contextmanager
    def _open(self, path: pathlib.Path) -> Iterator[Any]:
        with storage.local_file(path) as local, self._file(local, "r") as file:
            yield file

    def __len__(self) -> int:
        """Number of images."""
        return len(self._paths)

    def crops(self, index: int) -> list[np.ndarray]:
        """The noisy crops of one image.

        Args:
            index: 0 to ``len(self) - 1``.

        Returns:
            ``[H, W, 3]`` float32 in [0, 1] each, 20 of 512x512 in the published data.

        Raises:
            ImageError: The file cannot be read, or does not fit the boxes.
        """
        path = self._paths[index]
        try:
            with self._open(path) as file:
                image = file["InoisySRGB"]  # [3, width, height]
                if image.ndim != 3 or len(image) != 3 or image.dtype.kind != "f":
                    raise _damage_error(path, f"InoisySRGB is {image.dtype} {image.shape}")
                _, width, height = image.shape
                crops = []
                # One-based, both ends included.
                for y0, x0, y1, x1 in self._boxes[index]:
                    if not (1 <= y0 <= y1 <= height and 1 <= x0 <= x1 <= width):
                        raise ImageError(
                            f"{path}: is {height}x{width}, but info.mat has the box "
                            f"{[y0, x0, y1, x1]}; extract the archive of DND again"
                        )
                    crop = image[:, x0 - 1 : x1, y0 - 1 : y1]
                    crops.append(np.ascontiguousarray(crop.T, dtype=np.float32))
        except storage.StorageError:
            raise
        except (OSError, KeyError, AttributeError) as error:  # the last: a group, not an array
            raise _damage_error(path, error) from error
        return crops

    def _read_boxes(self, path: pathlib.Path) -> list[list[list[int]]]:
        """For each image a list of boxes y0, x0, y1, x1."""
        if not path.is_file():
            raise ImageError(
                f"{path}: does not exist; give the folder dnd_2017, which holds info.mat and "
                "images_srgb/"
            )
        try:
            with self._open(path) as file:
                references = np.ravel(file["info/boundingboxes"][()])
                boxes = [np.asarray(file[r]).T.astype(int) for r in references]
        except storage.StorageError:
            raise
        except (OSError, KeyError, TypeError, ValueError, AttributeError) as error:
            raise _damage_error(path, f"info/boundingboxes: {error}") from error
        if not boxes or any(b.ndim != 2 or b.shape[1] != 4 or not len(b) for b in boxes):
            shapes = [b.shape for b in boxes]
            raise _damage_error(
                path, f"info/boundingboxes holds {shapes}, not arrays of [boxes, 4]"
            )
        return [b.tolist() for b in boxes]


def check_folder(folder: pathlib.Path) -> None:
    """Raises ImageError if a folder already has files of a submission: two would mix."""
    if found := sorted(path.name for path in storage.list_once(folder).glob("*.mat")):
        raise ImageError(
            f"{folder}: holds a submission already ({join_some(found, 5)}), which must not mix "
            "with another; move the folder away, or give another for the results"
        )


def submit(
    restore: Callable[[np.ndarray], np.ndarray], benchmark: DND, folder: pathlib.Path
) -> None:
    """Restores all crops, writes the submission and prints the progress.

    Args:
        restore: ``[H, W, 3]`` float32 to the same shape, such as a ``Restorer``.
        benchmark: The noisy crops.
        folder: Folder of the submission; made if missing.

    Raises:
        ImageError: As ``check_folder``, before anything is restored.
        OSError: The disk refuses.
    """
    storage.make_folder(folder)
    check_folder(folder)
    for i in range(len(benchmark)):
        path = write(folder, i, [restore(crop) for crop in benchmark.crops(i)])
        print(f"DND: image {i + 1} of {len(benchmark)}, {escape(path.name)}", flush=True)
    print(f"written: {folder}; DND's server scores these files, {SERVER}", flush=True)


def write(folder: pathlib.Path, index: int, restored: Sequence[np.ndarray]) -> pathlib.Path:
    """Writes the restored crops of one image as a file that the server takes, atomically.

    Args:
        folder: Existing folder of the submission. It must be free of other submissions when the
            first image is written; call ``check_folder`` before restoring anything.
        index: Number of the image, from 0.
        restored: ``[H, W, 3]`` floating point, with the sizes and order of ``DND.crops``. They are
            clipped to [0, 1].

    Returns:
        Path of the file: ``0001.mat`` for index 0.

    Raises:
        ImageError: For index 0, see ``check_folder``.
        OSError: The file cannot be written.
    """
    if index == 0:
        check_folder(folder)
    cell = np.empty((1, len(restored)), object)
    for i, crop in enumerate(restored):
        cell[0, i] = np.clip(crop, 0, 1).astype(np.float32)
    content = io.BytesIO()
    scipy.io.savemat(content, {"Idenoised": cell, "israw": False, "eval_version": "1.0"})
    path = folder / f"{index + 1:04d}.mat"
    atomic_io.write(path, content.getvalue(), force=True)
    return path


def _damage_error(path: pathlib.Path, error: object) -> ImageError:
    return ImageError(
        f"{path}: is not an HDF5 file of DND, or is damaged ({error}); extract the archive again"
    )
