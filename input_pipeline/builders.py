"""TFDS data sets of pairs with real noise, made from folders as published.

    python -m input_pipeline.builders polyu --manual_dir /data/PolyU
    python -m input_pipeline.builders renoir/tiles --manual_dir /data/RENOIR --data_dir /data/tfds

prepares one of ``sidd_medium``, ``renoir`` and ``polyu``, whose layouts ``real_noise.py``
describes. Without a name after the slash the pairs are whole ("full"); "tiles" are squares of 300
pixels, one every 150, as in the data preparation of SADNet. Training then reads them with

    --config.data.train.source=tfds --config.data.train.path=renoir/tiles
    --config.data.train.feature=noisy:clean --config.degradation.kind=none

Tiles overlap, so that they take four times the space, and the source keeps all encoded images in
memory: for SIDD prefer ``config.data.tile``, which cuts the same tiles out of whole images.
"""

import argparse
import pathlib
import sys
from collections.abc import Iterator, Sequence
from typing import Any

from input_pipeline.host_only import tf  # noqa: F401  (first: it keeps TensorFlow off accelerators)

# isort: split
import tensorflow_datasets as tfds

from input_pipeline import real_noise
from input_pipeline.examples import tiles

TILE, STRIDE = 300, 150


class _Pairs(tfds.core.GeneratorBasedBuilder, skip_registration=True):  # type: ignore[call-arg]
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
        "--manual_dir DIR; input_pipeline/real_noise.py describes the layouts."
    )
    LAYOUT: str  # name of the function in real_noise.LAYOUTS

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
        for example in real_noise.LAYOUTS[self.LAYOUT](root):
            clean, noisy = (picture.read(3) for picture in example.pictures)
            if self.builder_config.name == "full":
                yield example.name, {"noisy": noisy, "clean": clean, "name": example.name}
                continue
            for top, left, height, width in tiles(clean.shape[0], clean.shape[1], TILE, STRIDE):
                name = f"{example.name}_{top:04d}_{left:04d}"
                tile = (slice(top, top + height), slice(left, left + width))
                yield name, {"noisy": noisy[tile], "clean": clean[tile], "name": name}


class SiddMedium(_Pairs):
    """SIDD-Medium sRGB, 320 pairs of smartphone photographs."""

    LAYOUT = "sidd"


class Renoir(_Pairs):
    """RENOIR, pairs in low light of three cameras; clean is the mean of two images."""

    LAYOUT = "renoir"


class Polyu(_Pairs):
    """PolyU, 100 pairs of 512x512 pixels; clean is the mean of many images."""

    LAYOUT = "polyu"


def main(arguments: Sequence[str] | None = None) -> None:
    """Prepares one data set."""
    parser = argparse.ArgumentParser(
        prog="python -m input_pipeline.builders",
        description="Prepares pairs with real noise as a TFDS data set.",
    )
    builders = {builder.name: builder for builder in (SiddMedium, Renoir, Polyu)}
    names = [f"{name}{config}" for name in builders for config in ("", "/full", "/tiles")]
    parser.add_argument("name", choices=names, metavar="NAME", help=", ".join(names))
    parser.add_argument("--manual_dir", required=True, help="folder of the data set, as published")
    parser.add_argument("--data_dir", help="where to put it; by default that of TFDS")
    given = parser.parse_args(arguments)
    name, _, config = given.name.partition("/")
    try:
        builder = builders[name](config=config or "full", data_dir=given.data_dir)
        builder.download_and_prepare(
            download_config=tfds.download.DownloadConfig(manual_dir=given.manual_dir)
        )
    except (ValueError, OSError, AssertionError) as error:
        sys.exit(f"error: {error}")
    print(f"{builder.info.splits['train'].num_examples} pairs in {builder.data_dir}")


if __name__ == "__main__":
    main()
