"""Unknown fields: what is suggested instead."""

import pytest

from lcdnet_jax.config.schema import FIELDS
from lcdnet_jax.config.suggestions import _ALIASES, unknown_field


@pytest.mark.parametrize(
    ("name", "suggestion"),
    [
        # Misspelled.
        ("stepz", "steps"),
        ("eval.sigma", "eval.sigmas"),
        ("optimizer.learnign_rate", "optimizer.learning_rate"),
        ("data.train.pth", "data.train.path"),
        ("widht", "network.kwargs.width"),
        # What other programs call it.
        ("lr", "optimizer.learning_rate"),
        ("optimizer.lr", "optimizer.learning_rate"),
        ("bs", "batch_size"),
        ("optimizer.betas", "optimizer.beta2"),
        ("epochs", "steps (optimizer steps: an epoch is images / batch_size of them)"),
        ("train.num_epochs", "steps (optimizer steps: an epoch is images / batch_size of them)"),
        ("patch_size", "data.crop"),
        ("degradation.sigma", "degradation.sigma_min and degradation.sigma_max"),
        ("model", "network.name"),
        ("grad_clip", "optimizer.clip_norm"),
        # In another place, or written in another way.
        ("batchsize", "batch_size"),
        ("data.batch_size", "batch_size"),
        ("optimizer.batchSize", "batch_size"),
        ("learning_rate", "optimizer.learning_rate"),
        ("train.ema_decay", "ema_decay"),
        ("eval.path", "data.eval.path"),
        ("train.path", "data.train.path"),
        # Fields of networks.
        ("network.preset", "network.kwargs.preset"),
        ("preset", "network.kwargs.preset"),
        ("network.scam_type", "network.kwargs.scam_type"),
        ("kwargs.dilations", "network.kwargs.dilations"),
    ],
)
def test_suggestion(name, suggestion):
    assert unknown_field(name) == f"unknown field config.{name}; did you mean {suggestion}?"


def test_nothing_like_it():
    assert unknown_field("quux") == "unknown field config.quux; see configs/default.py"


def test_aliases_name_fields():
    for alias, suggestion in _ALIASES.items():
        assert alias == alias.lower().replace("_", "")
        for name in suggestion.partition(" (")[0].split(" and "):
            assert name in FIELDS
