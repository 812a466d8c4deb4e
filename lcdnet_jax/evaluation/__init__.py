"""Evaluation: scores of restorers under named protocols."""

from lcdnet_jax.evaluation.evaluator import (
    Evaluator,
    Example,
    ScoredImage,
    Summary,
    mean,
    summarize,
)
from lcdnet_jax.evaluation.sweep import Case, DataSet, Row, Setting, add_means, sweep

__all__ = [
    "Case",
    "DataSet",
    "Evaluator",
    "Example",
    "Row",
    "ScoredImage",
    "Setting",
    "Summary",
    "add_means",
    "mean",
    "summarize",
    "sweep",
]
