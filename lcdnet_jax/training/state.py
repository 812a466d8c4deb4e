"""The state of a training run."""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import optax
from flax import struct
from jax import Array

Tree = Any


class Critic(struct.PyTreeNode):
    """The network that judges the other one's images; attributes as those of TrainState."""

    params: Tree
    opt_state: Tree
    batch_stats: Tree


class CriticMaker(NamedTuple):
    """What :func:`create_state` makes a critic of: for images ``[N, size, size, channels]``."""

    module: nn.Module
    tx: optax.GradientTransformation


class TrainState(struct.PyTreeNode):
    """Everything that a step changes. Randomness is not state: it follows from seed and step.

    Attributes:
        step: Number of optimiser steps made, int32 scalar.
        params: Trainable parameters, float32.
        opt_state: State of the optimiser.
        batch_stats: Running statistics of batch normalisation; empty where there is none.
        ema: Moving average of ``params``, or None when none is kept.
        critic: Of adversarial training, else None.
        features: Weights that a perceptual loss compares by, else None. No step changes them and
            no checkpoint has them: they are here so that the program need not hold them.
    """

    step: Array
    params: Tree
    opt_state: Tree
    batch_stats: Tree
    ema: Tree | None
    critic: Critic | None = None
    features: Tree | None = None

    def items(self) -> dict[str, Tree]:
        """The parts that a checkpoint holds, by name; absent ones left out."""
        parts = {
            "params": self.params,
            "opt_state": self.opt_state,
            "batch_stats": self.batch_stats,
            "ema": self.ema,
            "critic": None if self.critic is None else dict(vars(self.critic)),
        }
        return {name: tree for name, tree in parts.items() if jax.tree.leaves(tree)}

    def variables(self) -> dict[str, Tree]:
        """What inference applies the network with: averaged parameters when there are any."""
        variables = {"params": self.params if self.ema is None else self.ema}
        if self.batch_stats:
            variables["batch_stats"] = self.batch_stats
        return variables


def create_state(
    key: Array,
    module: nn.Module,
    tx: optax.GradientTransformation,
    *,
    ema: bool,
    critic: CriticMaker | None = None,
    place: Callable[[Tree], Tree] | None = None,
    variables: Mapping[str, Tree] | None = None,
) -> TrainState:
    """A fresh state, a pure function of ``key`` and ``variables``.

    Args:
        key: Of the initialisation.
        module: The network.
        tx: The optimiser.
        ema: Whether to keep an average of the parameters.
        critic: For adversarial training.
        place: From a state's shapes to the shardings of its arrays; None for one device.
        variables: ``params``, and ``batch_stats`` if any, to start from in place of random ones.
    """
    # This runs once and is all random numbers, which LLVM is slow to optimise.
    on_cpu = jax.default_backend() == "cpu"
    options = {"xla_backend_optimization_level": 0} if on_cpu else None
    how: dict[str, Any] = {"ema": ema, "critic": critic}
    create = jax.jit(
        lambda key, variables: _fresh_state(key, module, tx, variables=variables, **how),
        out_shardings=None if place is None else place(abstract_state(module, tx, **how)),
        compiler_options=options,
    )
    return create(key, variables)


def abstract_state(
    module: nn.Module,
    tx: optax.GradientTransformation,
    *,
    ema: bool,
    critic: CriticMaker | None = None,
    place: Callable[[Tree], Tree] | None = None,
) -> TrainState:
    """Shapes, types and placement of :func:`create_state`'s result, computing nothing."""
    shapes = jax.eval_shape(
        lambda key: _fresh_state(key, module, tx, ema=ema, critic=critic), jax.random.key(0)
    )
    if place is None:
        return shapes
    return jax.tree.map(
        lambda x, sharding: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=sharding),
        shapes,
        place(shapes),
    )


def _fresh_state(
    key: Array,
    module: nn.Module,
    tx: optax.GradientTransformation,
    *,
    ema: bool,
    critic: CriticMaker | None,
    variables: Mapping[str, Tree] | None = None,
) -> TrainState:
    if variables is None:
        image = jnp.zeros((1, 8, 8, module.channels), jnp.float32)
        variables = module.init(key, image)
    params = variables["params"]
    return TrainState(
        step=jnp.zeros((), jnp.int32),
        params=params,
        opt_state=tx.init(params),
        batch_stats=variables.get("batch_stats", {}),
        # A copy: two leaves of a donated state must not share a buffer.
        ema=jax.tree.map(jnp.copy, params) if ema else None,
        # The network itself starts as without a critic.
        critic=None if critic is None else _fresh_critic(jax.random.fold_in(key, 1), *critic),
    )


def _fresh_critic(key: Array, module: nn.Module, tx: optax.GradientTransformation) -> Critic:
    image = jnp.zeros((1, module.size, module.size, module.channels), jnp.float32)
    variables = module.init(key, image)
    params = variables["params"]
    return Critic(params, tx.init(params), variables["batch_stats"])
