"""The checkpoint that ``eval.py`` scores: its path, and the configuration of its training."""

import pathlib

from ml_collections import ConfigDict

from lcdnet_jax import config as config_lib
from lcdnet_jax import data_sets, storage
from lcdnet_jax import weights as weights_lib


def find_checkpoint(workdir: str | None, checkpoint: str | None) -> pathlib.Path:
    """Finds what ``--workdir`` or ``--checkpoint`` names.

    Args:
        workdir: Working directory of train.py, or None.
        checkpoint: Working directory, directory or file with weights, or name of pretrained
            weights, also of the Hugging Face hub; or None.

    Returns:
        The directory or file.

    Raises:
        ValueError: If both arguments are given or none is, or nothing has this name.
        ImportError, OSError: For a name of the hub, as ``hub.download``.
    """
    if bool(workdir) == bool(checkpoint):
        raise ValueError("give one directory, as --workdir or as --checkpoint")
    if workdir and storage.exists(path := storage.to_path(workdir)):
        return path  # even if pretrained weights have the same name
    return weights_lib.pretrained.find(workdir or checkpoint or "")


def training_config(
    checkpoint: pathlib.Path,
    weights: weights_lib.Weights,
    defaults: ConfigDict,
    *,
    needs_eval_data: bool,
) -> ConfigDict:
    """Reads the configuration of the training and adds missing fields.

    Args:
        checkpoint: The result of :func:`find_checkpoint`.
        weights: What :func:`lcdnet_jax.weights.load` read from it.
        defaults: Values of missing fields. Weights outside a working directory store only a part
            of their configuration.
        needs_eval_data: Whether the images of the evaluation are those of the training.

    Returns:
        The configuration, with all fields of ``defaults``.

    Raises:
        ValueError: If ``needs_eval_data`` is set, but the card only names a folder of images.
    """
    if weights.is_workdir:
        stored = ConfigDict(config_lib.upgrade(weights.card["training"] or {}))
    else:
        stored = weights_lib.training_config(weights.card, str(checkpoint))
        source = stored.data.get("eval", {}).get("source", "photos")
        if needs_eval_data and any(row.is_folder for row in data_sets.rows(source)):
            raise ValueError(
                f"{checkpoint} was evaluated in training on a folder that its card only names "
                f"({stored.data.eval.path}); give --data"
            )
    config = defaults.copy_and_resolve_references()
    with config.ignore_type():
        config.update(stored)
        config.network = stored.network  # not mixed with the default network's fields
    return config
