"""Operators that exports keep whole.

Other formats have operators of their own for some functions of :mod:`lcdnet_jax.ops`, such as
ONNX's ``DeformConv``. Traced as usual, such a function is dozens of small operations, from which
the operator cannot be recognized. Within :func:`keep_operators` a function that :func:`operator`
marks is one equation of the trace, with the primitive :data:`operator_p`. Everywhere else the mark
does nothing.
"""

import contextlib
import contextvars
import functools
from collections.abc import Callable, Iterator
from typing import Any, TypeVar

import jax
import jax.extend.core
from jax import Array

_Function = TypeVar("_Function", bound=Callable[..., Any])

_kept: contextvars.ContextVar[bool] = contextvars.ContextVar("kept", default=False)

# Parameters of an equation: "name" of the function, "function", "shape" (see :func:`operator`),
# "arguments" (the positional ones, with None in the place of arrays), "places" (the places of the
# arrays among them), "options" (the keyword arguments as pairs). It can be traced, not computed.
operator_p = jax.extend.core.Primitive("lcdnet_operator")


@contextlib.contextmanager
def keep_operators() -> Iterator[None]:
    """Traces marked functions as single equations, in this thread and this block.

    JAX keeps traces of a function by its identity. Trace a function of your own, such as a new
    lambda, that was not traced elsewhere.
    """
    token = _kept.set(True)
    try:
        yield
    finally:
        _kept.reset(token)


def operator(
    shape: Callable[..., tuple[Any, ...]] | None = None,
) -> Callable[[_Function], _Function]:
    """Marks a function of arrays, with one result, as an operator.

    The function's positional arguments are arrays or hashable values, its keyword arguments
    hashable values.

    Args:
        shape: Computes the shape of the result, from the arguments of the function, which may have
            symbolic sizes. The result has the type of the first argument. None traces the function.

    Returns:
        A decorator. The function that it returns behaves as the marked one.
    """
    return lambda function: _mark(function, shape)


def _mark(function: _Function, shape: Callable[..., tuple[Any, ...]] | None) -> _Function:
    @functools.wraps(function)
    def call(*arguments: Any, **options: Any) -> Array:
        if not _kept.get():
            return function(*arguments, **options)
        places = tuple(i for i, argument in enumerate(arguments) if hasattr(argument, "dtype"))
        return operator_p.bind(
            *(arguments[i] for i in places),
            name=function.__name__,
            function=function,
            shape=shape,
            arguments=tuple(None if i in places else a for i, a in enumerate(arguments)),
            places=places,
            options=tuple(sorted(options.items())),
        )

    return call  # type: ignore[return-value]


def call_operator(*arrays: Any, **parameters: Any) -> Any:
    """Calls the function of an equation.

    Args:
        *arrays: The inputs of the equation.
        **parameters: The parameters of the equation.

    Returns:
        The result of the function.
    """
    arguments = list(parameters["arguments"])
    for place, array in zip(parameters["places"], arrays, strict=True):
        arguments[place] = array
    return parameters["function"](*arguments, **dict(parameters["options"]))


@operator_p.def_abstract_eval
def _infer_shape(*arrays: Any, **parameters: Any) -> Any:
    shapes = [jax.ShapeDtypeStruct(array.shape, array.dtype) for array in arrays]
    if parameters["shape"] is not None:
        sides = call_operator(*shapes, **{**parameters, "function": parameters["shape"]})
        return jax.core.ShapedArray(sides, arrays[0].dtype)
    result = jax.eval_shape(functools.partial(call_operator, **parameters), *shapes)
    return jax.core.ShapedArray(result.shape, result.dtype)
