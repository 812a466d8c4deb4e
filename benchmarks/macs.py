"""Multiply-accumulates of a network with its parameters, counted in the traced program.

What tables of papers call "FLOPs" mostly are these: products of activations with weights, in
convolutions and matrix products, without biases, activations and interpolation.

    python -m benchmarks.macs [NETWORK ...]

prints what ``lcdnet_jax/networks/costs.py`` holds. Tracing LCDNet takes its time.
"""

import argparse
import math
from typing import Any

import flax.linen as nn
import jax
from jax.extend.core import Literal

from lcdnet_jax import networks

_SIDE = 256


def count_parameters(module: nn.Module, shape: tuple[int, ...]) -> int:
    """Trainable parameters of a network for images of that shape ``[N, H, W, C]``."""
    params = _variables(module, shape)["params"]
    return sum(math.prod(leaf.shape) for leaf in jax.tree.leaves(params))


def count_macs(module: nn.Module, shape: tuple[int, ...]) -> int:
    """Multiply-accumulates of one forward pass over images of that shape ``[N, H, W, C]``.

    Raises:
      NotImplementedError: for a loop whose length is not known.
    """
    variables = _variables(module, shape)
    closed = jax.make_jaxpr(module.apply)(variables, jax.ShapeDtypeStruct(shape, "float32"))
    weights = len(jax.tree.leaves(variables))
    return _count(closed.jaxpr, [True] * weights + [False] * (len(closed.in_avals) - weights))[0]


def _variables(module: nn.Module, shape: tuple[int, ...]) -> Any:
    x = jax.ShapeDtypeStruct(shape, "float32")
    return jax.eval_shape(lambda x: module.init(jax.random.key(0), x), x)


def _count(
    jaxpr: Any, is_weight: list[bool], *, with_products: bool = False
) -> tuple[int, list[bool]]:
    """Counts one program; tells which of its inputs, and then outputs, are weights.

    A weight is a parameter or what is computed from parameters and constants only. Products
    element by element count in a convolution that is written so.
    """
    kinds: dict[Any, bool] = dict(zip(jaxpr.invars, is_weight, strict=True))
    constants = set(jaxpr.constvars)

    def kind(atom: Any) -> bool | None:
        """True for a weight, False for activations, None for a constant."""
        return None if isinstance(atom, Literal) or atom in constants else kinds.get(atom)

    total = 0
    for equation in jaxpr.eqns:
        inputs = [kind(atom) for atom in equation.invars]
        weights = True in inputs and False not in inputs
        constant = all(k is None for k in inputs)
        outputs: list[bool | None] = [None if constant else weights] * len(equation.outvars)
        name = equation.primitive.name
        if inner := _inner(equation):
            repeats, program = inner
            shifted = program.debug_info.func_name == "shifted_products"  # of ops.depthwise
            macs, known = _count(program, [bool(k) for k in inputs], with_products=shifted)
            total += repeats * macs
            outputs = list(known)
        elif True in inputs and False in inputs:
            if name == "conv_general_dilated":
                kernel = equation.invars[1].aval.shape
                out_dim = equation.params["dimension_numbers"].rhs_spec[0]
                size = math.prod(equation.outvars[0].aval.shape)
                # Of a transposed convolution only the products with pixels, not with the zeros
                # between them.
                dilation = math.prod(equation.params["lhs_dilation"])
                total += size * math.prod(kernel) // (kernel[out_dim] * dilation)
            elif name == "dot_general":
                (contracted, _), _ = equation.params["dimension_numbers"]
                lengths = [equation.invars[0].aval.shape[axis] for axis in contracted]
                total += math.prod(equation.outvars[0].aval.shape) * math.prod(lengths)
            elif name == "mul" and with_products:
                total += math.prod(equation.outvars[0].aval.shape)
        kinds.update(
            (out, k) for out, k in zip(equation.outvars, outputs, strict=True) if k is not None
        )
    return total, [kind(atom) is True for atom in jaxpr.outvars]


def _inner(equation: Any) -> tuple[int, Any] | None:
    """How often an equation runs a program of its own, and that program."""
    params = equation.params
    if equation.primitive.name == "scan":
        return params["length"], params["jaxpr"].jaxpr
    if equation.primitive.name in ("while", "cond"):
        raise NotImplementedError(
            f"the program holds a {equation.primitive.name}, whose cost is not known beforehand"
        )
    for key in ("jaxpr", "call_jaxpr", "fun_jaxpr"):
        if key in params:
            return 1, getattr(params[key], "jaxpr", params[key])
    return None


def main() -> None:
    """Prints parameters and multiply-accumulates per pixel of each preset."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    available = networks.available()
    parser.add_argument("networks", nargs="*", metavar="NETWORK", help="names; all by default")
    names: list[str] = parser.parse_args().networks or list(available)
    if unknown := ", ".join(sorted(set(names) - set(available))):
        parser.error(f"no network {unknown}; use {', '.join(available)}")
    for name in names:
        presets = networks.get(name).PRESETS
        for preset in presets or (None,):
            module = networks.create(name, preset=preset)
            shape = (1, _SIDE, _SIDE, module.channels)
            macs = round(count_macs(module, shape) / _SIDE**2)
            print(name, preset or "", count_parameters(module, shape), macs, flush=True)


if __name__ == "__main__":
    main()
