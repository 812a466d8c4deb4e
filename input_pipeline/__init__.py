"""Input pipeline: training batches and evaluation images from folders, TFDS and photographs.

Training batches are a pure function of (seed, step). tf.data draws them on the host
(``train_host.py``), or the device draws them from decoded images in its memory
(``train_device.py``). Evaluation images are read one by one (``eval_images.py``). TensorFlow is
imported only for training batches on the host and for TFDS. ``lcdnet_jax/data_sets.py`` lists the
data sets.

    datasets = input_pipeline.create_datasets(config)
    for batch in datasets["train"].batches(start_step=1000): ...
    for image in datasets["eval"]: ...
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal, overload

from ml_collections import ConfigDict

from input_pipeline.eval_images import (
    EvalDataset,
    create_eval_dataset,
    open_for_network,
    parse_sources,
    split_groups,
)
from input_pipeline.examples import Source, channels_on_disk
from input_pipeline.sources import open_source
from lcdnet_jax import config as config_lib
from lcdnet_jax.messages import format_count, join_some

if TYPE_CHECKING:
    from input_pipeline.train_device import DeviceDataset
    from input_pipeline.train_host import TrainDataset
    from lcdnet_jax.training.program import Datasets

__all__ = [
    "DeviceDataset",
    "EvalDataset",
    "TrainDataset",
    "create_dataset",
    "create_datasets",
    "create_eval_dataset",
    "open_for_network",
    "parse_sources",
    "split_groups",
]


def __getattr__(name: str) -> Any:
    if name == "DeviceDataset":
        from input_pipeline.train_device import DeviceDataset

        return DeviceDataset
    if name == "TrainDataset":
        from input_pipeline.train_host import TrainDataset

        return TrainDataset
    raise AttributeError(f"module 'input_pipeline' has no attribute {name!r}")


@overload
def create_dataset(config: ConfigDict, split: Literal["train"]) -> TrainDataset | DeviceDataset: ...


@overload
def create_dataset(config: ConfigDict, split: Literal["eval"]) -> EvalDataset: ...


def create_dataset(config: ConfigDict, split: str) -> TrainDataset | DeviceDataset | EvalDataset:
    """Opens and checks the images of one split.

    Reads the header of every image. Also decodes training images, as many as fit into
    ``config.data.cache_gb``. With ``config.data.where`` "device" all of them must fit.

    Args:
        config: The fields of configs/default.py. All are validated before any image is read. Only
            seed, data, degradation, sfm, objective, network and batch_size are used.
        split: "train" or "eval".

    Returns:
        For "train" a ``TrainDataset`` (endless batches) or, with ``config.data.where`` "device", a
        ``DeviceDataset`` (images from which the step draws batches). For "eval" an ``EvalDataset``
        (full images).

    Raises:
        ConfigError: (a ValueError) See ``lcdnet_jax.config.validate``.
        ValueError: A config field does not fit the images. The message names it and the fix.
        ImageError: (a ValueError) A folder or file cannot be used. The message names it.
    """
    if split not in ("train", "eval"):
        raise ValueError(f'split is {split!r}; use "train" or "eval"')
    config_lib.validate_once(config)
    source = _open(config, split)
    return _create_train(config, source) if split == "train" else _create_eval(config, source)


def create_datasets(config: ConfigDict) -> Datasets:
    """``{"train": ..., "eval": ...}``, see ``create_dataset``.

    Raises:
        ValueError: Also if ``config.data.train.names`` or ``config.data.eval.names`` holds images
            out, and one is in both.
    """
    config_lib.validate_once(config)
    train, evaluated = (_open(config, split) for split in ("train", "eval"))
    if config.data.train.names or config.data.eval.names:
        _check_held_out(train, evaluated)
    return {"train": _create_train(config, train), "eval": _create_eval(config, evaluated)}


def _check_held_out(train: Source, evaluated: Source) -> None:
    """Raises ValueError if an evaluation image is a training image."""
    trained = {picture.label for example in train.examples for picture in example.pictures}
    both = [
        example.name
        for example in evaluated.examples
        if any(picture.label in trained for picture in example.pictures)
    ]
    if both:
        raise ValueError(
            f"{format_count(len(both), 'image')} of config.data.eval are training images, too: "
            f"{join_some(both, 5)}; make config.data.train.names and config.data.eval.names "
            'complements, such as "!*7" and "*7"'
        )


def _open(config: ConfigDict, split: str) -> Source:
    """Opens the images of a split, and checks that they fit the configuration."""
    field = f"config.data.{split}"
    on_bad_image = config.data.on_bad_image if split == "train" else None
    source = open_source(config.data[split], field=field, on_bad_image=on_bad_image)
    channels = channels_on_disk(config)
    source.check_channels(channels, field=field)
    kind, objective = config.degradation.kind, config_lib.OBJECTIVES[config.objective]
    if source.is_paired and kind != "none":
        raise ValueError(
            f"{field} ({source.name}) holds pairs, which bring their own degradation, but "
            f'config.degradation.kind is "{kind}"; set it to "none", or point {field}.path at a '
            "folder of clean images, such as its target/"
        )
    degraded_only = kind == "none" and objective.compares_with_input
    if not source.is_paired and degraded_only and split == "eval":
        raise ValueError(
            f"{field} ({source.name}) contains no pairs, but scores need clean images beside the "
            f"degraded ones; config.objective {config.objective!r} does without them in "
            "config.data.train only"
        )
    if not source.is_paired and kind == "none" and not degraded_only:
        raise ValueError(
            f'config.degradation.kind is "none" but {field} ({source.name}) holds clean images '
            'only; set the kind to "awgn" or another degradation, or '
            f"{field} to a folder with input/ and target/"
        )
    source.check_scale(config_lib.network(config).scale, field=field)
    return source


def _create_eval(config: ConfigDict, source: Source) -> EvalDataset:
    return EvalDataset(source, channels=channels_on_disk(config))


def _create_train(config: ConfigDict, source: Source) -> TrainDataset | DeviceDataset:
    source = source.rescale(config.data.scales)
    if config.data.where == "device":
        from input_pipeline.train_device import DeviceDataset

        return DeviceDataset(source, config)
    try:
        from input_pipeline.train_host import TrainDataset  # imports TensorFlow
    except ImportError as error:
        raise ValueError(
            f"config.data.where is {config.data.where!r}, which needs TensorFlow ({error}); "
            "install lcdnet-jax[train], or set it to 'device'"
        ) from error
    return TrainDataset(source, config)
