"""Registry of data sets: one row for each name that ``config.data.*.source`` takes.

A row holds the facts about a data set that more than one part of the library needs. The
configuration checks names against the rows, :mod:`lcdnet_jax.protocols` takes the evaluation
protocol from them, ``eval.py`` and ``input_pipeline`` the splits and views, and
``docs/reference/data_sets.md`` shows all of them. ``input_pipeline/sources.py`` has a reader for
each name.

To add a data set, add:

1. a row here, with where to obtain it;
2. for a folder as published, a reader in ``input_pipeline/layouts/``, with a line in ``LAYOUTS`` of
   its ``__init__.py``; otherwise one in ``READERS`` of ``input_pipeline/sources.py``;
3. the name in the comment on ``config.data.train`` in ``configs/default.py``;
4. the row in ``docs/reference/data_sets.md``.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

# What the degraded half of a pair shows. "none": the data set has clean images only. "any": the
# files decide, and they may also be clean images.
Pairs = Literal["none", "any", "noise", "blur", "defocus", "rain", "low resolution"]


@dataclass(frozen=True)
class DataSet:
    """One data set.

    Attributes:
        name: Value of ``config.data.train.source`` and ``config.data.eval.source``.
        description: One line: the full name, where it was published and what it shows.
        pairs: What the degraded halves show.
        two_views: Whether degraded halves hold the two views of a dual-pixel camera; None if the
            files decide.
        protocol: Name of the protocol under which papers score the pairs.
        splits: Values of ``config.data.*.split``, each with the number of pairs (of images, if
            there are none) as published, or None if that number is not checked. Empty if ``split``
            is not used or, for TFDS, if the files decide.
        groups: Splits that consist of other splits. Papers also score those separately.
        averages_sets: Whether papers average the scores of the splits of a group, each with the
            same weight, instead of those of all its images.
        bits: Bits of a pixel value as published.
        is_folder: Whether ``config.data.*.path`` is a folder.
        needs_tensorflow: Whether reading needs TensorFlow and TensorFlow Datasets, also for
            evaluation.
        obtain: Where those who distribute it say how to obtain it; "" if there is nothing to
            obtain. The pages were found in the documentation of programs that use the data sets.
        has_ground_truth: False if the clean images are not public. Such a data set can be restored
            for submission (``eval.py --data``), but not used in a configuration.
    """

    name: str
    description: str
    pairs: Pairs
    two_views: bool | None = False
    protocol: str = "pairs"
    splits: Mapping[str, int | None] = field(default_factory=dict)
    groups: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    averages_sets: bool = False
    bits: int = 8
    is_folder: bool = True
    needs_tensorflow: bool = False
    has_ground_truth: bool = True
    obtain: str = ""


_GOPRO = {"train": 2103, "test": 1111}
_REDS = {"train": 24_000, "val": 3_000}  # 240 and 30 sequences of 100 frames
_REALBLUR = {"train": 3758, "test": 980}
_DPDD = {"train": 350, "val": 74, "test": 76, "test_indoor": 37, "test_outdoor": 39}
_DPDD_GROUPS = {"test": ("test_indoor", "test_outdoor")}

# The five test sets of Rain13K. The files that Restormer's authors distribute lack one of the
# 13,712 training pairs of the paper, whose halves differed in size. Test100 has had 98 pairs since
# the first paper that used it.
_RAIN_TESTS = {"Test100": 98, "Rain100H": 100, "Rain100L": 100, "Test2800": 2800, "Test1200": 1200}

# By name, in the order in which messages and docs list them.
DATA_SETS: dict[str, DataSet] = {
    row.name: row
    for row in (
        DataSet(
            "photos",
            "Color photographs inside scikit-image's wheel",
            pairs="none",
            splits={"train": None, "test": None},
            is_folder=False,
        ),
        DataSet(
            "folder",
            "Any folder of clean images, or of pairs in input/ and target/ (or noisy/ and clean/)",
            pairs="any",
        ),
        DataSet(
            "tfds",
            "Any TFDS data set of images, or of pairs; the path is its TFDS name",
            pairs="any",
            two_views=None,
            is_folder=False,
            needs_tensorflow=True,
        ),
        DataSet(
            "shards",
            "A folder that `python -m input_pipeline.prepare` has made of any of the others",
            pairs="any",
            two_views=None,
        ),
        DataSet(
            "sidd",
            "SIDD-Medium sRGB (Abdelhamed et al., CVPR 2018): smartphone photographs",
            pairs="noise",
            obtain="https://www.eecs.yorku.ca/~kamel/sidd/dataset.php",
        ),
        DataSet(
            "renoir",
            "RENOIR, aligned images (Anaya and Barbu, JVCIR 2018): low light, three cameras",
            pairs="noise",
            obtain="https://ani.stat.fsu.edu/~abarbu/Renoir.html",
        ),
        DataSet(
            "polyu",
            "PolyU (Xu et al., arXiv 1804.02603): 100 pairs of 512x512 pixels",
            pairs="noise",
            obtain="https://github.com/csjunxu/PolyU-Real-World-Noisy-Images-Dataset",
        ),
        DataSet(
            "nam",
            "CC or Nam (Nam et al., CVPR 2016): 15 or 25 patches",
            pairs="noise",
            obtain="https://github.com/csjunxu/MCWNNM-ICCV2017",
        ),
        DataSet(
            "sidd_validation",
            "SIDD validation (Abdelhamed et al., CVPR 2018): 1280 blocks of 256x256 pixels",
            pairs="noise",
            protocol="sidd",
            obtain="https://www.eecs.yorku.ca/~kamel/sidd/benchmark.php",
        ),
        DataSet(
            "fmd",
            "FMD (Zhang et al., CVPR 2019): fluorescence microscopy",
            pairs="noise",
            splits={"train": None, "test": None},
            obtain="https://github.com/yinhaoz/denoising-fluorescence",
        ),
        DataSet(
            "gopro",
            "GOPRO_Large (Nah et al., CVPR 2017): motion blur, averaged frames",
            pairs="blur",
            protocol="gopro",
            splits=_GOPRO,
            obtain="https://seungjunnah.github.io/Datasets/gopro",
        ),
        DataSet(
            "gopro_gamma",
            "GOPRO_Large, averaged behind a camera response curve of gamma 2.2",
            pairs="blur",
            protocol="gopro",
            splits=_GOPRO,
            obtain="https://seungjunnah.github.io/Datasets/gopro",
        ),
        DataSet(
            "reds",
            "REDS (Nah et al., CVPR Workshops 2019): frames of videos, scored as GoPro",
            pairs="blur",
            protocol="gopro",
            splits=_REDS,
            obtain="https://seungjunnah.github.io/Datasets/reds.html",
        ),
        DataSet(
            "reds_jpeg",
            "REDS, the blurred frames also compressed as JPEG",
            pairs="blur",
            protocol="gopro",
            splits=_REDS,
            obtain="https://seungjunnah.github.io/Datasets/reds.html",
        ),
        DataSet(
            "hide",
            "HIDE (Shen et al., ICCV 2019): motion blur of people",
            pairs="blur",
            protocol="gopro",
            splits={"train": 6397, "test": 2025},
            obtain="https://github.com/joanshen0508/HA_deblur",
        ),
        DataSet(
            "realblur_j",
            "RealBlur-J (Rim et al., ECCV 2020): camera shake, the camera's JPEGs",
            pairs="blur",
            protocol="realblur",
            splits=_REALBLUR,
            obtain="http://cg.postech.ac.kr/research/realblur/",
        ),
        DataSet(
            "realblur_r",
            "RealBlur-R: the scenes of RealBlur-J, developed from raw files",
            pairs="blur",
            protocol="realblur",
            splits=_REALBLUR,
            obtain="http://cg.postech.ac.kr/research/realblur/",
        ),
        DataSet(
            "dpdd",
            "DPDD (Abuolaim and Brown, ECCV 2020): defocus, one picture of a scene",
            pairs="defocus",
            protocol="dpdd",
            splits=_DPDD,
            groups=_DPDD_GROUPS,
            bits=16,
            obtain="https://github.com/Abdullah-Abuolaim/defocus-deblurring-dual-pixel",
        ),
        DataSet(
            "dpdd_dual",
            "DPDD: the left and right view of a dual-pixel sensor",
            pairs="defocus",
            two_views=True,
            protocol="dpdd",
            splits=_DPDD,
            groups=_DPDD_GROUPS,
            bits=16,
            obtain="https://github.com/Abdullah-Abuolaim/defocus-deblurring-dual-pixel",
        ),
        DataSet(
            "rain13k",
            "Rain13K and its five test sets (Jiang et al., CVPR 2020), as of Restormer's authors",
            pairs="rain",
            protocol="rain",
            splits={"train": 13_711, **_RAIN_TESTS, "test": sum(_RAIN_TESTS.values())},
            groups={"test": tuple(_RAIN_TESTS)},
            averages_sets=True,
            obtain="https://github.com/swz30/Restormer/tree/main/Deraining",
        ),
        DataSet(
            "realsr",
            "RealSR (Cai et al., ICCV 2019): pairs taken with a zoom lens",
            pairs="low resolution",
            splits={f"{part}_x{scale}": None for part in ("train", "test") for scale in (2, 3, 4)},
            obtain="https://github.com/csjcai/RealSR",
        ),
        DataSet(
            "div2k",
            "DIV2K (Agustsson and Timofte, CVPR Workshops 2017): large clean photographs",
            pairs="none",
            splits={"train": 800, "valid": 100},
            obtain="https://data.vision.ee.ethz.ch/cvl/DIV2K/",
        ),
        DataSet(
            "dnd",
            "DND (Ploetz and Roth, CVPR 2017): noisy crops, scored by the server of its authors",
            pairs="noise",
            has_ground_truth=False,
            obtain="https://noise.visinf.tu-darmstadt.de",
        ),
    )
}

# Names that a configuration may use.
SOURCES = tuple(row.name for row in DATA_SETS.values() if row.has_ground_truth)


def rows(source: str) -> tuple[DataSet, ...]:
    """Finds the rows of a value of ``config.data.*.source``.

    Args:
        source: Name of a data set, or several joined by commas.

    Returns:
        The rows, in the order of the names.

    Raises:
        ValueError: If a name is unknown. The message lists the known ones.
    """
    names = [name.strip() for name in source.split(",")]
    for name in names:
        if name not in DATA_SETS:
            raise ValueError(f"no data set {name!r}; known data sets: {', '.join(DATA_SETS)}")
    return tuple(DATA_SETS[name] for name in names)
