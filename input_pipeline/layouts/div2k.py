"""DIV2K, clean photographs of about two megapixels, as published.

Agustsson and Timofte, "NTIRE 2017 Challenge on Single Image Super-Resolution: Dataset and Study",
CVPR Workshops 2017.

Reconstruction: the layout was not compared with the published files. It is that of the archives
``DIV2K_train_HR.zip`` and ``DIV2K_valid_HR.zip``, on which programs of users agree.
"""

import pathlib

from input_pipeline.examples import Example, pictures_from_files
from input_pipeline.layouts.folders import layout_error, list_images


def read_div2k(root: pathlib.Path, split: str) -> tuple[Example, ...]:
    """The large images. Networks that enlarge make small ones from them.

    Args:
        root: Holds ``DIV2K_train_HR/0001.png`` and ``DIV2K_valid_HR/0801.png`` and so on.
        split: "train" or "valid".

    Returns:
        Examples named as the file, ``0001``.

    Raises:
        ImageError: The folder has another layout.
    """
    folder = root / f"DIV2K_{split}_HR"
    if not folder.is_dir():
        raise layout_error(root, f"{folder.name}/", "give the folder with the extracted archives")
    paths = list_images(folder)
    if not paths:
        raise layout_error(folder, "images such as 0001.png", "extract the archive again")
    return tuple(
        Example(path.stem, picture)
        for path, picture in zip(paths, pictures_from_files(paths), strict=True)
    )
