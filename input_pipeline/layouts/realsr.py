"""RealSR, pairs for super-resolution taken with a zoom lens, as published.

Cai, Zeng, Yong, Cao and Zhang, "Toward Real-World Single Image Super-Resolution: A New Benchmark
and a New Model", ICCV 2019. According to the authors' page, versions 1 and 2 have both pictures of
a scene in one size, for networks that do not enlarge. In version 3 the low-resolution picture is
smaller by the scale. The reader takes the scale from the sizes of the pictures.

Reconstruction: the layout was not compared with the published files. Several programs of users of
version 3 agree on its folders and names. Versions 1 and 2 are assumed to have the same.
"""

import pathlib

from input_pipeline.examples import Example, pairs_from_files
from input_pipeline.layouts.folders import layout_error, list_entries, list_images
from lcdnet_jax import file_names
from lcdnet_jax.image_io import ImageError
from lcdnet_jax.messages import join_some

_CAMERAS = ("Canon", "Nikon")


def read_realsr(root: pathlib.Path, split: str) -> tuple[Example, ...]:
    """Pairs of one scale, of both cameras or of one.

    Args:
        root: Holds ``Canon`` and ``Nikon`` (either or both), or is one of these, with
            ``Train/4/Canon_001_HR.png``, ``Train/4/Canon_001_LR4.png``, ``Test/2/...`` and so on.
        split: "train_x2" to "train_x4" or "test_x2" to "test_x4", part and scale.

    Returns:
        Examples named ``<camera>_<number>``, sorted by name.

    Raises:
        ImageError: The folder has another layout, a file lacks its other half, the sides of a large
            picture are not an integer multiple of the small one's, or a file cannot be read.
    """
    part, _, scale = split.partition("_x")
    list_entries(root)  # raises where there is no folder
    files: dict[str, tuple[pathlib.Path, ...]] = {}
    for camera in [root / name for name in _CAMERAS if (root / name).is_dir()] or [root]:
        folder = camera / part.capitalize() / scale
        if not folder.is_dir():
            wanted = f"{folder.relative_to(camera)}/"
            raise layout_error(camera, wanted, "give the folder that holds Canon/ and Nikon/")
        large, small = (
            {
                file_names.normalize(path.stem).removesuffix(suffix): path
                for path in list_images(folder)
                if path.stem.endswith(suffix)
            }
            for suffix in ("_HR", f"_LR{scale}")
        )
        if alone := sorted(large.keys() ^ small.keys()):
            raise ImageError(
                f"{folder}: pictures with only one of *_HR and *_LR{scale}: "
                f"{join_some(alone, 5)}; copy what is missing or remove the rest"
            )
        if not large:
            raise layout_error(folder, f"*_HR.png and *_LR{scale}.png", "extract it again")
        for name in large:
            ours = name if name.startswith(camera.name) else f"{camera.name}_{name}"
            files[ours] = small[name], large[name]
    return pairs_from_files(files, where=str(root), halves=("LR", "HR"), allow_smaller=True)
