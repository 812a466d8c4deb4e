"""RealSR: pairs for super-resolution taken with a zoom lens, in the folders as published.

Cai, Zeng, Yong, Cao and Zhang, "Toward Real-World Single Image Super-Resolution: A New Benchmark
and a New Model", ICCV 2019. According to the authors' page, versions 1 and 2 have both pictures of
a scene in one size, for networks that do not enlarge, and version 3 has the small one smaller by
the scale. The sizes of the pictures decide here, too.

None of it was compared with the published files: folders and names are what programs of users of
version 3 agree on, and that versions 1 and 2 have them too is a guess.
"""

import pathlib

from input_pipeline.examples import Example, list_first, pairs_from_files
from input_pipeline.layouts.folders import layout_error, list_entries, list_images
from lcdnet_jax.image_io import ImageError

_CAMERAS = ("Canon", "Nikon")


def read_realsr(root: pathlib.Path, split: str) -> tuple[Example, ...]:
    """Pairs of one scale, of both cameras or of one.

    Args:
      root: holds ``Canon`` and ``Nikon`` (either or both), or is one of these, with
        ``Train/4/Canon_001_HR.png``, ``Train/4/Canon_001_LR4.png``, ``Test/2/...`` and so on.
      split: "train_x2" to "train_x4" or "test_x2" to "test_x4", part and scale.

    Returns:
      Examples called ``<camera>_<number>``, sorted by name.

    Raises:
      ImageError: another layout, a file without its other half, a large picture whose sides are
        no whole multiple of the small one's, or a file that cannot be read.
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
                path.stem.removesuffix(suffix): path
                for path in list_images(folder)
                if path.stem.endswith(suffix)
            }
            for suffix in ("_HR", f"_LR{scale}")
        )
        if alone := sorted(large.keys() ^ small.keys()):
            raise ImageError(
                f"{folder}: {len(alone)} pictures have only one of *_HR and *_LR{scale}: "
                f"{list_first(alone)}; copy what is missing or remove the rest"
            )
        if not large:
            raise layout_error(folder, f"*_HR.png and *_LR{scale}.png", "extract it again")
        for name in large:
            ours = name if name.startswith(camera.name) else f"{camera.name}_{name}"
            files[ours] = small[name], large[name]
    return pairs_from_files(files, where=str(root), halves=("LR", "HR"), allow_smaller=True)
