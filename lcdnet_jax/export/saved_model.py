"""SavedModels of TensorFlow."""

import json
import os
import pathlib
from collections.abc import Mapping, Sequence
from types import ModuleType
from typing import Any

import numpy as np

from lcdnet_jax import atomic_io, storage
from lcdnet_jax.export._prepare import (
    DEFAULT_PLATFORMS,
    ExportError,
    Network,
    Sizes,
    prepare,
    symbolic_shape,
    without_tracebacks,
)
from lcdnet_jax.export._verify import verify
from lcdnet_jax.networks import RestorationNetwork
from lcdnet_jax.typing import Json, JsonObject, Variables

_KIND = atomic_io.DirectoryKind(
    name="export",
    required=("saved_model.pb", "card.json"),
    optional=("assets", "fingerprint.pb", "variables"),
)


def write_saved_model(
    path: str | os.PathLike[str],
    module: RestorationNetwork,
    variables: Variables,
    *,
    sizes: Sizes | None = None,
    platforms: Sequence[str] = DEFAULT_PLATFORMS,
    batch: int | None = None,
    about: Mapping[str, Json] | None = None,
    force: bool = False,
) -> JsonObject:
    """Writes a SavedModel of TensorFlow, completely or not at all.

    ``tf.saved_model.load(path)(images)`` restores ``[N, H, W, C]`` float32 in [0, 1]. A model for
    any size pads and crops. Height and width must be at least the network's stride. A model for
    fixed sizes accepts only these. Its signatures are "serving_default" for the first size and
    "size_HxW" for each further one. The weights are constants, so that the model cannot be trained.
    The model is verified as by :func:`export_program`.

    Args:
        path: The directory.
        module: As for :func:`export_program`.
        variables: As for :func:`export_program`.
        sizes: As for :func:`export_program`.
        platforms: As for :func:`export_program`; must include "cpu".
        batch: Number of images, for converters that need a fixed one. None: any number.
        about: As for :func:`export_program`.
        force: Whether an earlier export is replaced.

    Returns:
        The card, which ``card.json`` in the directory contains.

    Raises:
        ExportError: As for :func:`export_program`, if ``platforms`` lacks "cpu" or ``batch`` is
            less than 1, or if the path contains ``*``, ``?`` or ``[``, which TensorFlow takes for a
            pattern.
        TargetError: If the path may not be replaced, even if it has changed during the export.
        OSError: If writing fails.
        ImportError: If TensorFlow is not installed.
    """
    path = storage.resolve(storage.to_path(path))
    if any(character in str(path) for character in "*?["):
        raise ExportError(
            f"TensorFlow cannot read a SavedModel from {path}, because it takes *, ? and [ for a "
            "pattern; use a path without them"
        )
    atomic_io.check_directory(path, _KIND, force=force)
    if "cpu" not in platforms:
        raise ExportError("a SavedModel is verified on the CPU; add cpu to platforms")
    if batch is not None and batch < 1:
        raise ExportError(f"batch is a number of images, at least 1, got {batch}")
    tf, jax2tf = _import_tensorflow()
    network = prepare(module, variables, sizes, platforms, about)
    card = network.card
    card |= {"format": "TensorFlow SavedModel", "batch": batch}
    with atomic_io.replace_directory(path, _KIND, force=force) as made:
        _write_model(tf, jax2tf, made, network)
        loaded = tf.saved_model.load(str(made))

        def restore(images: np.ndarray) -> np.ndarray:
            return loaded(tf.constant(images)).numpy()

        card["verified"] = verify(restore, network, pads=sizes is None)
        (made / "card.json").write_text(json.dumps(card, indent=2) + "\n")
        atomic_io.check_directory(path, _KIND, force=force)  # it may have changed
    return card


def _import_tensorflow() -> tuple[ModuleType, ModuleType]:
    try:
        import tensorflow as tf
        from jax.experimental import jax2tf
    except ImportError as error:
        raise ImportError(
            f"a SavedModel needs TensorFlow, which cannot be imported ({error}); run\n"
            '  pip install "lcdnet-jax[train]"'
        ) from error
    return tf, jax2tf


def _write_model(
    tf: ModuleType, jax2tf: ModuleType, directory: pathlib.Path, network: Network
) -> None:
    """Writes the network, unverified, as a SavedModel."""
    card = network.card
    sizes, stride, scale = card["sizes"], card["stride"], card["scale"]
    shape, constraints = symbolic_shape(card, None) if sizes is None else ("b, ...", ())
    if card["batch"] is not None:
        shape = shape.replace("b", str(card["batch"]), 1)
    converted = jax2tf.convert(
        network.apply,
        polymorphic_shapes=[f"({shape})"],
        polymorphic_constraints=constraints,
        native_serialization_platforms=tuple(card["platforms"]),
        with_gradient=False,
    )

    def restore(images: Any) -> Any:
        if sizes is not None:
            return converted(images)
        height, width = tf.unstack(tf.shape(images)[1:3])
        margin = [[0, 0], [0, -height % stride], [0, -width % stride], [0, 0]]
        restored = converted(tf.pad(images, margin, card["padding"].upper()))
        return restored[:, : height * scale, : width * scale]

    model = tf.Module()
    model.__call__ = tf.function(restore, autograph=False)
    signatures = {}
    for number, (height, width) in enumerate(sizes or [(None, None)]):
        name = f"size_{height}x{width}" if number else "serving_default"
        images = tf.TensorSpec(
            [card["batch"], height, width, card["channels"]], tf.float32, "images"
        )
        with without_tracebacks():
            signatures[name] = model.__call__.get_concrete_function(images)
    tf.saved_model.save(model, str(directory), signatures=signatures)
