"""Evaluation: scores of a restorer under named protocols."""

from lcdnet_jax.evaluation.evaluator import (
    Evaluator,
    Example,
    Scored,
    Summary,
    mean,
    summarise,
)

__all__ = [
    "Evaluator",
    "Example",
    "Scored",
    "Summary",
    "mean",
    "summarise",
]
