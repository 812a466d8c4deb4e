"""The state of a training run."""

import functools
from collections.abc import Callable, Mapping

import jax
import jax.numpy as jnp
import optax
from flax import struct
from jax import Array

from lcdnet_jax.networks import RestorationNetwork
from lcdnet_jax.training.initialization import split_draws
from lcdnet_jax.typing import PyTree, Variables


class TrainState(struct.PyTreeNode):
    """Everything that a step changes. It has no random key: keys follow from seed and step.

    Attributes:
        step: Number of optimizer steps made, int32 scalar.
        params: Trainable parameters, float32.
        opt_state: State of the optimizer.
        batch_stats: Running statistics of batch normalization. Empty if the network has none.
        ema: Moving average of ``params``, or None if none is kept.
        critic: State of a second network that the objective trains, else None. A ``PyTreeNode``
            with ``params``, ``opt_state`` and ``batch_stats``.
        features: Weights of a perceptual loss, else None. No step changes them and no checkpoint
            holds them. As part of the state they are not compiled into the program as constants.
    """

    step: Array
    params: PyTree
    opt_state: PyTree
    batch_stats: PyTree
    ema: PyTree
    critic: PyTree = None
    features: PyTree = None

    def items(self) -> dict[str, PyTree]:
        """Collects the parts that a checkpoint holds.

        Returns:
            Trees of arrays by name, without empty trees: "params", "opt_state", "batch_stats",
            "ema" and "critic".
        """
        parts = {
            "params": self.params,
            "opt_state": self.opt_state,
            "batch_stats": self.batch_stats,
            "ema": self.ema,
            "critic": None if self.critic is None else dict(vars(self.critic)),
        }
        return {name: tree for name, tree in parts.items() if jax.tree.leaves(tree)}

    def map_weights(self, function: Callable[[PyTree], PyTree]) -> "TrainState":
        """Applies a function to the weights of all networks in the step.

        Args:
            function: Maps a tree of arrays to a tree of the same structure.

        Returns:
            The state with the new ``params``, ``features`` and parameters of the critic.
        """
        state = self.replace(params=function(self.params), features=function(self.features))
        if self.critic is None:
            return state
        return state.replace(critic=self.critic.replace(params=function(self.critic.params)))

    def with_features(
        self, features: PyTree | None, get_sharding: Callable[[PyTree], PyTree]
    ) -> "TrainState":
        """Sets ``features``.

        Args:
            features: Weights of the perceptual loss. None changes nothing.
            get_sharding: Maps the tree to the shardings of its arrays.

        Returns:
            The state with the features on its devices.
        """
        if features is None:
            return self
        return self.replace(features=jax.device_put(features, get_sharding(features)))

    def variables(self) -> dict[str, PyTree]:
        """Collects the variables for inference.

        Returns:
            "params", which are the averaged parameters if there are any, and "batch_stats" if the
            network has any.
        """
        variables = {"params": self.params if self.ema is None else self.ema}
        if self.batch_stats:
            variables["batch_stats"] = self.batch_stats
        return variables


class StateCreator:
    """Creates the state at step 0. It traces the initialization of the network once.

    Args:
        module: The network.
        tx: The optimizer.
        ema: Whether to keep an average of the parameters.
        init_extra_state: Maps a random key to further fields of the state, see
            ``Objective.make_extra_state_init``.
        get_sharding: Maps the shapes of a state to the shardings of its arrays. None: one device.
    """

    def __init__(
        self,
        module: RestorationNetwork,
        tx: optax.GradientTransformation,
        *,
        ema: bool,
        init_extra_state: Callable[[Array], Mapping[str, PyTree]] | None = None,
        get_sharding: Callable[[PyTree], PyTree] | None = None,
    ):
        # JAX traces the same function object once.
        self._init = functools.partial(
            _init_state, module=module, tx=tx, ema=ema, init_extra_state=init_extra_state
        )
        self._get_sharding = get_sharding

    def abstract(self) -> TrainState:
        """Shapes, types and shardings of a state, without arrays."""
        shapes: TrainState = jax.jit(self._init).eval_shape(jax.random.key(0), None)
        if self._get_sharding is None:
            return shapes
        return jax.tree.map(
            lambda x, sharding: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=sharding),
            shapes,
            self._get_sharding(shapes),
        )

    def create(self, key: Array, variables: Variables | None = None) -> TrainState:
        """Creates the state, a pure function of its arguments.

        Args:
            key: Random key of the initialization.
            variables: "params", and "batch_stats" if any, to start from. None: random parameters.

        Returns:
            The state on its devices.
        """
        # This runs once and mostly draws random numbers, which LLVM is slow to optimize.
        on_cpu = jax.default_backend() == "cpu"
        options = {"xla_backend_optimization_level": 0} if on_cpu else None
        sharding = self._get_sharding and self._get_sharding(self.abstract())
        compiled = functools.partial(jax.jit, out_shardings=sharding, compiler_options=options)
        state: TrainState
        if variables is not None:
            state = compiled(self._init)(key, variables)
            return state
        traced = jax.jit(self._init).trace(key, None)
        draw, finish = split_draws(traced.jaxpr, options)
        structure = jax.tree.structure(traced.out_info)
        create = compiled(lambda *arguments: jax.tree.unflatten(structure, finish(*arguments)))
        state = create(key, draw(key))
        return state


def create_state(
    key: Array,
    module: RestorationNetwork,
    tx: optax.GradientTransformation,
    *,
    ema: bool,
    init_extra_state: Callable[[Array], Mapping[str, PyTree]] | None = None,
    get_sharding: Callable[[PyTree], PyTree] | None = None,
    variables: Variables | None = None,
) -> TrainState:
    """Creates the state at step 0, a pure function of ``key`` and ``variables``.

    Args:
        key: Random key of the initialization.
        module: The network.
        tx: The optimizer.
        ema: Whether to keep an average of the parameters.
        init_extra_state: As for :class:`StateCreator`.
        get_sharding: As for :class:`StateCreator`.
        variables: "params", and "batch_stats" if any, to start from. None: random parameters.

    Returns:
        The state on its devices.
    """
    creator = StateCreator(
        module, tx, ema=ema, init_extra_state=init_extra_state, get_sharding=get_sharding
    )
    return creator.create(key, variables)


def abstract_state(
    module: RestorationNetwork,
    tx: optax.GradientTransformation,
    *,
    ema: bool,
    init_extra_state: Callable[[Array], Mapping[str, PyTree]] | None = None,
    get_sharding: Callable[[PyTree], PyTree] | None = None,
) -> TrainState:
    """Shapes, types and shardings of the result of :func:`create_state`, without arrays."""
    creator = StateCreator(
        module, tx, ema=ema, init_extra_state=init_extra_state, get_sharding=get_sharding
    )
    return creator.abstract()


def _init_state(
    key: Array,
    variables: Variables | None,
    *,
    module: RestorationNetwork,
    tx: optax.GradientTransformation,
    ema: bool,
    init_extra_state: Callable[[Array], Mapping[str, PyTree]] | None,
) -> TrainState:
    if variables is None:
        image = jnp.zeros((1, 8, 8, module.channels), jnp.float32)
        variables = module.init(key, image)
    params = variables["params"]
    # The network starts from the same parameters with and without extra state.
    extra = {} if init_extra_state is None else init_extra_state(jax.random.fold_in(key, 1))
    return TrainState(
        step=jnp.zeros((), jnp.int32),
        params=params,
        opt_state=tx.init(params),
        batch_stats=variables.get("batch_stats", {}),
        # A copy: two leaves of a donated state must not share a buffer.
        ema=jax.tree.map(jnp.copy, params) if ema else None,
        **extra,
    )
