"""What the rules of JAX's primitives share: their type, their error, and what they read."""

from collections.abc import Callable
from typing import Any, TypeAlias

from jax.extend.core import JaxprEqn

from lcdnet_jax.export._onnx_graph import Graph, Tensor

# Adds the nodes of one equation: the graph, the inputs, the equation -> the output, or all outputs.
Rule: TypeAlias = Callable[[Graph, list[Tensor], JaxprEqn], Tensor | list[Tensor]]


class UnsupportedError(NotImplementedError):
    """A function uses something that has no form in ONNX here; the message names it."""


def get_aval(variable: Any) -> Any:
    """Returns the abstract value of a variable or literal: its shape and type."""
    return variable.aval


def get_result(eqn: JaxprEqn) -> Any:
    """Returns the abstract value of an equation's first output."""
    return eqn.outvars[0].aval
