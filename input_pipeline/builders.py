"""Command that prepares TFDS data sets of pairs from folders as published.

    python -m input_pipeline.builders polyu --manual_dir /data/PolyU
    python -m input_pipeline.builders renoir/tiles --manual_dir /data/RENOIR --data_dir /data/tfds
    python -m input_pipeline.builders gopro --manual_dir /data/GOPRO_Large

prepares one of ``sidd_medium``, ``renoir`` and ``polyu``, whose layouts ``layouts/real_noise.py``
describes, or one of ``gopro`` and the other layouts of ``layouts/restoration_pairs.py``. The first
three take a name after the slash: with "full", the default, examples are whole images; with "tiles"
they are squares of 300 pixels, one every 150, as in the data preparation of SADNet. Training then
reads them with

    --config.data.train.source=tfds --config.data.train.path=renoir/tiles
    --config.data.train.feature=noisy:clean --config.degradation.kind=none

The feature is "degraded:clean" for ``gopro`` and the other restoration layouts, and
"left:right:clean" (with ``--config.data.channels=6``) for ``dpdd_dual``.

Training on TFDS keeps all encoded images in memory, and tiles, which overlap, need four times the
space. For large data sets use their folders and ``config.data.tile``, which cuts the same tiles out
of whole images.
"""

import argparse
import pathlib
import sys
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from input_pipeline.tensorflow_cpu import tf  # noqa: F401  (first: keeps it off accelerators)

# isort: split
import tensorflow_datasets as tfds

from input_pipeline.examples import describe_count, list_tiles
from input_pipeline.layouts import LAYOUTS
from lcdnet_jax.data_sets import DATA_SETS
from lcdnet_jax.image_io import to_uint16
from lcdnet_jax.messages import escape

TILE, STRIDE = 300, 150


class _NoisePairs(tfds.core.GeneratorBasedBuilder, skip_registration=True):  # type: ignore[call-arg]
    """One split, "train", of the features ``noisy``, ``clean`` (uint8 RGB, PNG) and ``name``."""

    VERSION = tfds.core.Version("1.0.0")
    BUILDER_CONFIGS = [  # noqa: RUF012  (as TFDS has it)
        tfds.core.BuilderConfig(name="full", description="Whole images."),
        tfds.core.BuilderConfig(
            name="tiles", description=f"Squares of {TILE} pixels, one every {STRIDE} pixels."
        ),
    ]
    MANUAL_DOWNLOAD_INSTRUCTIONS = (
        "Give the folder of the data set as published: python -m input_pipeline.builders NAME "
        "--manual_dir DIR; input_pipeline/layouts/real_noise.py describes the layouts."
    )
    DATA_SET: str  # its name in lcdnet_jax/data_sets.py

    def _info(self) -> tfds.core.DatasetInfo:
        image = tfds.features.Image(shape=(None, None, 3), encoding_format="png")
        return tfds.core.DatasetInfo(
            builder=self,
            description=(self.__doc__ or "") + "\n" + self.builder_config.description,
            features=tfds.features.FeaturesDict(
                {"noisy": image, "clean": image, "name": tfds.features.Text()}
            ),
        )

    def _split_generators(self, dl_manager: tfds.download.DownloadManager) -> dict[str, Any]:
        return {"train": self._generate_examples(pathlib.Path(dl_manager.manual_dir))}

    def _generate_examples(self, root: pathlib.Path) -> Iterator[tuple[str, dict[str, Any]]]:
        for example in LAYOUTS[self.DATA_SET](root):
            clean, noisy = (picture.read(3) for picture in example.pictures)
            if self.builder_config.name == "full":
                yield example.name, {"noisy": noisy, "clean": clean, "name": example.name}
                continue
            for top, left, height, width in list_tiles(
                clean.shape[0], clean.shape[1], TILE, STRIDE
            ):
                name = f"{example.name}_{top:04d}_{left:04d}"
                tile = (slice(top, top + height), slice(left, left + width))
                yield name, {"noisy": noisy[tile], "clean": clean[tile], "name": name}


class SiddMedium(_NoisePairs):
    """SIDD-Medium sRGB, 320 pairs of smartphone photographs."""

    DATA_SET = "sidd"


class Renoir(_NoisePairs):
    """RENOIR, pairs in low light of three cameras; clean is the mean of two images."""

    DATA_SET = "renoir"


class Polyu(_NoisePairs):
    """PolyU, 100 pairs of 512x512 pixels; clean is the mean of many images."""

    DATA_SET = "polyu"


class _RestorationPairs(tfds.core.GeneratorBasedBuilder, skip_registration=True):  # type: ignore[call-arg]
    """The splits that the folder of a data set has, as images of its bit depth (RGB, PNG).

    Features are ``degraded`` (or ``left`` and ``right``), ``clean`` and ``name``.
    """

    VERSION = tfds.core.Version("1.0.0")
    MANUAL_DOWNLOAD_INSTRUCTIONS = (
        "Give the folder of the data set as published: python -m input_pipeline.builders NAME "
        "--manual_dir DIR; input_pipeline/layouts/restoration_pairs.py describes the layouts."
    )

    # Splits that share no pair, and the part of the folder that each of them needs.
    PARTS: Mapping[str, str]

    def _info(self) -> tfds.core.DatasetInfo:
        row = DATA_SETS[self.name]
        dtype = np.uint16 if row.bits == 16 else np.uint8
        image = tfds.features.Image(shape=(None, None, 3), dtype=dtype, encoding_format="png")
        degraded = ("left", "right") if row.two_views else ("degraded",)
        return tfds.core.DatasetInfo(
            builder=self,
            description=self.__doc__ or "",
            features=tfds.features.FeaturesDict(
                {**dict.fromkeys(degraded, image), "clean": image, "name": tfds.features.Text()}
            ),
        )

    def _split_generators(self, dl_manager: tfds.download.DownloadManager) -> dict[str, Any]:
        root = pathlib.Path(dl_manager.manual_dir)
        splits = [split for split, part in self.PARTS.items() if (root / part).exists()]
        if not splits:  # the reader of the first split says what it has looked for
            splits = [*self.PARTS][:1]
        return {split: self._generate_examples(root, split) for split in splits}

    def _generate_examples(
        self, root: pathlib.Path, split: str
    ) -> Iterator[tuple[str, dict[str, Any]]]:
        row = DATA_SETS[self.name]
        views = 2 if row.two_views else 1
        for example in LAYOUTS[self.name](root, split):
            clean, degraded = example.read(3 * views)
            images = [*np.split(degraded, views, axis=-1), clean]
            if row.bits == 16:
                images = [to_uint16(image) for image in images]
            keys = ("left", "right", "clean") if views == 2 else ("degraded", "clean")
            yield example.name, {**dict(zip(keys, images, strict=True)), "name": example.name}


_TRAIN_AND_TEST = {"train": "train", "test": "test"}
_REDS_PARTS = {"train": "train/train_sharp", "val": "val/val_sharp"}
_REALBLUR_PARTS = {
    version: {split: f"RealBlur_{version}_{split}_list.txt" for split in ("train", "test")}
    for version in ("J", "R")
}
_DPDD_PARTS = {split: f"{split}_c" for split in ("train", "val", "test")}
_RAIN_TESTS = DATA_SETS["rain13k"].groups["test"]
_RAIN_PARTS = {"train": "train/Rain13K", **{name: f"test/{name}" for name in _RAIN_TESTS}}


class Gopro(_RestorationPairs):
    """GOPRO_Large, motion blur, 1280x720 pixels; the pairs of the usual benchmark."""

    PARTS = _TRAIN_AND_TEST


class GoproGamma(_RestorationPairs):
    """GOPRO_Large, motion blur, 1280x720 pixels; the pairs with a camera response of gamma 2.2."""

    PARTS = _TRAIN_AND_TEST


class Reds(_RestorationPairs):
    """REDS, motion blur, 1280x720 pixels."""

    PARTS = _REDS_PARTS


class RedsJpeg(_RestorationPairs):
    """REDS, motion blur, the blurred frames also compressed as JPEG."""

    PARTS = _REDS_PARTS


class Hide(_RestorationPairs):
    """HIDE, motion blur of people."""

    PARTS = _TRAIN_AND_TEST


class RealblurJ(_RestorationPairs):
    """RealBlur-J, camera shake, the camera's JPEGs."""

    PARTS = _REALBLUR_PARTS["J"]


class RealblurR(_RestorationPairs):
    """RealBlur-R, camera shake, developed from raw files."""

    PARTS = _REALBLUR_PARTS["R"]


class Dpdd(_RestorationPairs):
    """DPDD, defocus, 1680x1120 pixels of 16 bits."""

    PARTS = _DPDD_PARTS


class DpddDual(_RestorationPairs):
    """DPDD, defocus, the left and right view of a dual-pixel sensor, 16 bits."""

    PARTS = _DPDD_PARTS


class Rain13k(_RestorationPairs):
    """Rain13K, synthetic rain, and its five test sets, each a split."""

    PARTS = _RAIN_PARTS


def main(arguments: Sequence[str] | None = None) -> None:
    """Prepares one data set."""
    parser = argparse.ArgumentParser(
        prog="python -m input_pipeline.builders",
        description="Prepares pairs in the folders of their makers as a TFDS data set.",
    )
    noise = (SiddMedium, Renoir, Polyu)
    restoration = (
        Gopro,
        GoproGamma,
        Reds,
        RedsJpeg,
        Hide,
        RealblurJ,
        RealblurR,
        Dpdd,
        DpddDual,
        Rain13k,
    )
    builders = {builder.name: builder for builder in (*noise, *restoration)}
    names = [f"{builder.name}{config}" for builder in noise for config in ("", "/full", "/tiles")]
    names += [builder.name for builder in restoration]
    parser.add_argument("name", choices=names, metavar="NAME", help=", ".join(names))
    parser.add_argument("--manual_dir", required=True, help="folder of the data set, as published")
    parser.add_argument("--data_dir", help="where to put it; by default that of TFDS")
    options = parser.parse_args(arguments)
    name, _, config = options.name.partition("/")
    try:
        config = config or ("full" if builders[name] in noise else None)
        builder = builders[name](config=config, data_dir=options.data_dir)
        builder.download_and_prepare(
            download_config=tfds.download.DownloadConfig(manual_dir=options.manual_dir)
        )
    except (ValueError, OSError, AssertionError) as error:
        sys.exit(f"error: {escape(str(error))}")
    published = {} if builders[name] in noise else DATA_SETS[name].splits
    for split, info in builder.info.splits.items():
        count = describe_count(info.num_examples, published.get(split))
        print(f"{split}: {count} in {builder.data_dir}")


if __name__ == "__main__":
    main()
