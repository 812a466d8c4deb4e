"""Weights as files: loading, saving, cards, and the weights in the wheel.

Formats are working directories of a training, parameters-only directories
(:mod:`~lcdnet_jax.weights.directory`), safetensors files
(:mod:`~lcdnet_jax.weights.safetensors_file`) and PyTorch state dicts
(:mod:`~lcdnet_jax.weights.torch_file`). :func:`load` reads all of them. Repositories of the
Hugging Face hub (:mod:`~lcdnet_jax.weights.hub`) hold safetensors files.
``Restorer.from_checkpoint``, ``eval.py --checkpoint`` and ``config.init_from`` read all except
PyTorch files, which do not name their network. Saving writes a temporary file or directory and
renames it, so that no output is incomplete. It replaces nothing unless ``force`` is set.
"""

from lcdnet_jax.weights import hub, pretrained
from lcdnet_jax.weights.card import Card, CardError, format_identity, training_config
from lcdnet_jax.weights.loader import load, load_card
from lcdnet_jax.weights.network import Weights, create_weights
from lcdnet_jax.weights.saver import save_directory, save_safetensors, save_to_hub, save_torch
from lcdnet_jax.weights.scores import read_results

__all__ = [
    "Card",
    "CardError",
    "Weights",
    "create_weights",
    "format_identity",
    "hub",
    "load",
    "load_card",
    "pretrained",
    "read_results",
    "save_directory",
    "save_safetensors",
    "save_to_hub",
    "save_torch",
    "training_config",
]
