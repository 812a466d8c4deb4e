"""Where images come from: photos, folder, tfds. A source knows every header and decodes nothing.

Examples are sorted by name, so that their numbers do not depend on the file system.
"""

import collections
import concurrent.futures
import dataclasses
import importlib
import importlib.util
import pathlib
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from lcdnet_jax import image_io
from lcdnet_jax.image_io import Header, ImageError

# Colour photographs inside scikit-image's wheel. The two views of the stereo motorcycle show
# the same scene, so both are on one side.
PHOTOS = {
    "train": (
        "astronaut.png",
        "hubble_deep_field.jpg",
        "ihc.png",
        "motorcycle_left.png",
        "motorcycle_right.png",
        "retina.jpg",
    ),
    "test": ("chelsea.png", "coffee.png", "rocket.jpg"),
}


@dataclasses.dataclass(frozen=True)
class Picture:
    """One encoded image."""

    label: str  # what errors call it: the path, or the place in a TFDS split
    header: Header
    decode: Callable[[], np.ndarray]

    def read(self, channels: int) -> np.ndarray:
        """Decodes to ``[H, W, channels]`` uint8 or uint16, as the header says.

        Raises:
          ImageError: damaged, or no longer what its header said at the start.
        """
        image = self.decode()
        bits = 8 * image.dtype.itemsize
        if (*image.shape[:2], bits) != (self.header.height, self.header.width, self.header.bits):
            raise ImageError(
                f"{self.label}: is now {image.shape[0]}x{image.shape[1]} with {bits} bits, but "
                f"was {_size(self.header)} with {self.header.bits} bits at the start; start again "
                "after changing images"
            )
        try:
            return image_io.convert_channels(image, channels)
        except ImageError as error:
            raise ImageError(f"{self.label}: {error}") from None


@dataclasses.dataclass(frozen=True)
class Example:
    """A clean image, or a pair of equal size."""

    name: str
    clean: Picture
    degraded: Picture | None = None

    @property
    def pictures(self) -> tuple[Picture, ...]:
        """Clean, then degraded if there is one."""
        return (self.clean,) if self.degraded is None else (self.clean, self.degraded)


@dataclasses.dataclass(frozen=True)
class Source:
    """Examples sorted by name; all are pairs or none is."""

    name: str
    examples: tuple[Example, ...]

    @property
    def paired(self) -> bool:
        """Whether the examples have a degraded half."""
        return self.examples[0].degraded is not None

    def describe(self) -> str:
        """One line: name, number, sizes."""
        headers = [example.clean.header for example in self.examples]
        heights, widths = {h.height for h in headers}, {h.width for h in headers}
        size = f"{min(heights)}x{min(widths)}"
        if len(heights) + len(widths) > 2:
            size = f"from {size} to {max(heights)}x{max(widths)}"
        return f"{self.name}: {len(headers)} {'pairs' if self.paired else 'images'}, {size}"


def open_source(spec: Mapping[str, Any], *, field: str) -> Source:
    """Lists the examples of a source and checks all headers.

    Args:
      spec: ``source`` ("photos", "folder" or "tfds") and the fields that it needs of ``path``,
        ``split`` and ``feature``, as in configs/default.py.
      field: name of ``spec`` in errors, such as "config.data.train".

    Raises:
      ValueError: a field that cannot be right.
      ImageError: (a ValueError) a folder or file that cannot be used.
    """
    openers = {"photos": _photos, "folder": _folder, "tfds": _tfds}
    kind = _value(spec, field, "source")
    if kind not in openers:
        raise ValueError(f'{field}.source is "{kind}"; use one of {", ".join(openers)}')
    source = openers[kind](spec, field)
    for example in source.examples:
        for picture in example.pictures:
            _check_alpha(picture)
    return dataclasses.replace(
        source, examples=tuple(sorted(source.examples, key=lambda example: example.name))
    )


# The three kinds


def _photos(spec: Mapping[str, Any], field: str) -> Source:
    split = _value(spec, field, "split")
    if split not in PHOTOS:
        raise ValueError(f'{field}.split is "{split}"; photos have the splits {", ".join(PHOTOS)}')
    found = importlib.util.find_spec("skimage")  # looked for only: importing it is slow
    if found is None or found.origin is None:
        raise ImageError(
            f'{field}.source "photos" reads files of scikit-image, which is not installed; '
            'pip install "lcdnet-jax[train]"'
        )
    folder = pathlib.Path(found.origin).parent / "data"
    paths = [folder / name for name in PHOTOS[split]]
    missing = [path.name for path in paths if not path.is_file()]
    if missing:
        raise ImageError(
            f'{field}.source "photos": {folder} lacks {", ".join(missing)}; '
            'pip install --force-reinstall "scikit-image>=0.25", whose wheel holds them'
        )
    return Source(f"photos {split}", _unpaired(paths))


def _folder(spec: Mapping[str, Any], field: str) -> Source:
    folder = pathlib.Path(_value(spec, field, "path")).expanduser()
    inputs, targets = folder / "input", folder / "target"
    try:
        if not inputs.is_dir() and not targets.is_dir():
            examples = _unpaired(image_io.find_images(folder))
        elif inputs.is_dir() and targets.is_dir():
            examples = _paired(inputs, targets)
        else:
            there, lacking = (inputs, targets) if inputs.is_dir() else (targets, inputs)
            raise ImageError(
                f"{folder}: has {there.name}/ but no {lacking.name}/; add it for pairs, or point "
                "the path at a folder of clean images"
            )
    except ImageError as error:
        raise ImageError(f"{field}.path: {error}") from error
    return Source(f"folder {folder}", examples)


def _tfds(spec: Mapping[str, Any], field: str) -> Source:
    """Keeps the encoded bytes of one split in memory."""
    try:
        # First, or TFDS would import TensorFlow with the accelerators in its sight.
        importlib.import_module("input_pipeline.host_only")
        import tensorflow_datasets as tfds
    except ImportError as error:
        raise ValueError(
            f'{field}.source "tfds" needs tensorflow-datasets; pip install "lcdnet-jax[train]"'
        ) from error
    path, split = _value(spec, field, "path"), _value(spec, field, "split")
    key = _value(spec, field, "feature")
    try:
        builder = tfds.builder(path)
    except ValueError as error:  # unknown name or config; the rest of the message lists hundreds
        reason = str(error).splitlines()[0]
        raise ValueError(
            f'{field}.path "{path}" is no TFDS data set ({reason}); names are listed at '
            "https://www.tensorflow.org/datasets/catalog/overview"
        ) from None
    features = builder.info.features
    images = [
        name
        for name, feature in features.items()
        if isinstance(feature, tfds.features.Image) and feature.np_dtype in (np.uint8, np.uint16)
    ]
    if key not in images:
        raise ValueError(
            f'{field}.feature "{key}" is no 8- or 16-bit image of TFDS {path}; '
            + (f"use one of {', '.join(images)}" if images else "it has none")
        )
    if not builder.is_prepared():
        raise ValueError(
            f"TFDS {path} ({field}.path) is not prepared in {builder.data_dir}; run "
            f"`tfds build {path}`, which downloads it, or set TFDS_DATA_DIR to where it is"
        )
    decoders = tfds.decode.PartialDecoding({key: True}, decoders={key: tfds.decode.SkipDecoding()})
    try:
        rows = builder.as_dataset(split=split, shuffle_files=False, decoders=decoders)
    except ValueError as error:
        raise ValueError(f'{field}.split "{split}" of TFDS {path}: {error}') from error
    examples = []
    for number, row in enumerate(rows.as_numpy_iterator()):
        name = f"{number:07d}"
        examples.append(Example(name, _encoded_picture(row[key], f"TFDS {path} {split} {name}")))
    if not examples:
        raise ValueError(f'{field}.split "{split}" of TFDS {path} is empty; use another split')
    return Source(f"tfds {path} {split}", tuple(examples))


# Helpers


def _unpaired(paths: list[pathlib.Path]) -> tuple[Example, ...]:
    """One example a file, called by its stem, or by its full name where stems are equal."""
    stems = collections.Counter(path.stem for path in paths)
    return tuple(
        Example(path.stem if stems[path.stem] == 1 else path.name, picture)
        for path, picture in zip(paths, _pictures(paths), strict=True)
    )


def _paired(inputs: pathlib.Path, targets: pathlib.Path) -> tuple[Example, ...]:
    """Files of two folders, matched by stem, of equal sizes."""
    degraded, clean = _by_stem(inputs), _by_stem(targets)
    alone = sorted(
        [path for stem, path in degraded.items() if stem not in clean]
        + [path for stem, path in clean.items() if stem not in degraded]
    )
    if alone:
        names = [f"{path.parent.name}/{path.name}" for path in alone]
        raise ImageError(
            f"{inputs.parent}: {len(alone)} files have no partner: {_first(names)}; files in "
            "input/ and target/ must have equal names (the suffix may differ)"
        )
    names = sorted(clean)
    examples = tuple(
        Example(name, *pair)
        for name, *pair in zip(
            names,
            _pictures([clean[name] for name in names]),
            _pictures([degraded[name] for name in names]),
            strict=True,
        )
    )
    sizes = [
        (example.name, *(_size(picture.header) for picture in example.pictures))
        for example in examples
    ]
    unequal = [f"{name} (input {d}, target {c})" for name, c, d in sizes if c != d]
    if unequal:
        raise ImageError(
            f"{inputs.parent}: {len(unequal)} pairs differ in size (height x width): "
            f"{_first(unequal)}; crop or resize them to equal sizes"
        )
    return examples


def _by_stem(folder: pathlib.Path) -> dict[str, pathlib.Path]:
    found: dict[str, pathlib.Path] = {}
    for path in image_io.find_images(folder):
        if path.stem in found:
            raise ImageError(
                f"{folder}: {found[path.stem].name} and {path.name} have equal names, so their "
                "partner is not clear; remove or rename one"
            )
        found[path.stem] = path
    return found


def _pictures(paths: list[pathlib.Path]) -> list[Picture]:
    with concurrent.futures.ThreadPoolExecutor() as pool:  # matters on a network file system
        headers = list(pool.map(image_io.read_header, paths))
    return [
        # The default binds the path of this turn.
        Picture(str(path), header, lambda path=path: image_io.read(path))  # type: ignore[misc]
        for path, header in zip(paths, headers, strict=True)
    ]


def _encoded_picture(data: bytes, label: str) -> Picture:
    header = image_io.decode_header(data, name=label)
    return Picture(label, header, lambda: image_io.decode(data, name=label))


def _check_alpha(picture: Picture) -> None:
    """Raises what reading the picture would raise, before anything is decoded."""
    header = picture.header
    if header.channels in (2, 4):
        stand_in = np.broadcast_to(
            np.zeros((), f"uint{header.bits}"), (header.height, header.width, header.channels)
        )
        dataclasses.replace(picture, decode=lambda: stand_in).read(3)


def _value(spec: Mapping[str, Any], field: str, key: str) -> str:
    value = spec.get(key)
    if not value or not isinstance(value, str):
        raise ValueError(
            f'{field}.{key} is {value!r}; {field}.source "{spec.get("source")}" needs it'
        )
    return value


def _size(header: Header) -> str:
    return f"{header.height}x{header.width}"


def _first(names: list[str], count: int = 5) -> str:
    return ", ".join(names[:count]) + (" ..." if len(names) > count else "")
