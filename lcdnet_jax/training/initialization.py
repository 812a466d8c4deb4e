"""Initialization of a state that compiles in seconds.

Compiled as one program, each random array is a loop of its own, and so is the key of each: 287 of
each in LCDNet ``tiny``, which took a minute. Here one program draws all arrays of about the same
size, one after the other, and the program of the state only scales and stacks them. The bits are
those of one program on a CPU with jax 0.10.1 and 0.12.0.1; a GPU was not tried.
"""

import functools
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.extend.core import ClosedJaxpr, Jaxpr, Literal, Var, jaxpr_as_fun

_Bounds = tuple[float, ...]


def _uniform(key: Array, bounds: _Bounds, size: int) -> Array:
    low, high = bounds or (float(np.nextafter(np.float32(-1), np.float32(0))), 1.0)  # of _normal
    return jax.random.uniform(key, (size,), jnp.float32, low, high)


def _truncated_normal(key: Array, bounds: _Bounds, size: int) -> Array:
    low, high = bounds
    return jax.random.truncated_normal(key, low, high, (size,), jnp.float32)


# Functions of jax.random by their names in a jaxpr: how to draw, and what the program of the state
# does with the numbers. XLA merges the last factor of a normal draw with the standard deviation by
# which an initializer multiplies, so both must be in one program for the same bits. The others end
# in a clamp, which XLA does not merge.
_DRAWS: dict[str, tuple[Callable[[Array, _Bounds, int], Array], Callable[[Array], Array]]] = {
    "_uniform": (_uniform, lambda x: x),
    "_truncated_normal": (_truncated_normal, lambda x: x),
    "_normal": (_uniform, lambda x: np.float32(np.sqrt(2)) * jax.lax.erf_inv(x)),
}
_Atom = Var | Literal  # equations are Any: JAX's types do not tell the shape of a variable


def split_draws(
    closed: ClosedJaxpr, options: dict[str, int] | None
) -> tuple[Callable[[Array], list[Array]], Callable[[Array, list[Array]], list[Array]]]:
    """Splits a function of a random key into its draws and the rest.

    The results are those of the function compiled as a whole, bit for bit.

    Args:
        closed: The traced function, of one key.
        options: Options of the compiler for the draws.

    Returns:
        A function that draws, which is not to be compiled as a whole, and a function of the same
        key and the drawn numbers, which returns the results as a list.
    """
    jaxpr = closed.jaxpr
    # The forward pass of the network is traced too. Nothing needs it.
    draws = [eqn for eqn in _find_needed(jaxpr.eqns, jaxpr.outvars) if _is_draw(eqn)]
    keys = _make_function(closed, jaxpr.invars, draws, [eqn.invars[0] for eqn in draws])

    def draw(key: Array) -> list[Array]:
        return [
            _make_draw(
                eqn.params["name"],
                tuple(float(bound.val) for bound in eqn.invars[1:]),
                _round_up(eqn.outvars[0].aval.size),
                tuple(sorted((options or {}).items())),
            )(each)
            for eqn, each in zip(draws, keys(key), strict=True)
        ]

    drawn = [eqn.outvars[0] for eqn in draws]
    rest = _make_function(closed, [*jaxpr.invars, *drawn], draws, jaxpr.outvars)

    def finish(key: Array, numbers: list[Array]) -> list[Array]:
        arrays = (
            _DRAWS[eqn.params["name"]][1](flat[: var.aval.size].reshape(var.aval.shape))
            for flat, eqn, var in zip(numbers, draws, drawn, strict=True)
        )
        return rest(key, *arrays)

    return draw, finish


def _is_draw(eqn: Any) -> bool:
    return bool(
        eqn.params.get("name") in _DRAWS
        and eqn.outvars[0].aval.dtype == jnp.float32
        and not eqn.invars[0].aval.shape  # nn.vmap draws with several keys at once
        and all(isinstance(bound, Literal) for bound in eqn.invars[1:])
    )


def _round_up(size: int) -> int:
    """The next power of 4: threefry draws each number from its index, so the first are the same."""
    return 4 ** -(-(size - 1).bit_length() // 2)


@functools.cache
def _make_draw(
    name: str, bounds: _Bounds, size: int, options: tuple[tuple[str, int], ...]
) -> Callable[[Array], Array]:
    # The bounds are constants, as in the program as a whole, because XLA computes with them then.
    return jax.jit(
        lambda key: _DRAWS[name][0](key, bounds, size),
        compiler_options=dict(options) or None,
    )


def _make_function(
    closed: ClosedJaxpr,
    arguments: Sequence[Var],
    left_out: Sequence[Any],
    results: Sequence[_Atom],
) -> Callable[..., list[Array]]:
    """The part of the traced function that computes ``results``, without some equations."""
    ignored = set(map(id, left_out))
    eqns = [eqn for eqn in closed.jaxpr.eqns if id(eqn) not in ignored]
    jaxpr = Jaxpr(
        closed.jaxpr.constvars, arguments, results, _find_needed(eqns, results),
        debug_info=closed.jaxpr.debug_info,
    )  # fmt: skip
    return jaxpr_as_fun(ClosedJaxpr(jaxpr, closed.consts))


def _find_needed(eqns: Sequence[Any], results: Sequence[_Atom]) -> list[Any]:
    """Finds the equations that the results depend on, in their order."""
    wanted = {var for var in results if isinstance(var, Var)}
    needed = []
    for eqn in reversed(eqns):
        if not wanted.isdisjoint(eqn.outvars):
            needed.append(eqn)
            wanted.update(var for var in eqn.invars if isinstance(var, Var))
    return needed[::-1]
