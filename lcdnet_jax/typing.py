"""Aliases for type annotations.

``Any`` itself stands only where a value may be of any type: in ``**kwargs``, for values that are
about to be checked, and for objects of packages that have no types.
"""

from collections.abc import Mapping
from typing import Any, TypeAlias

from jax import Array

# Nested containers of arrays, or of anything else that JAX maps over (shapes, shardings).
PyTree: TypeAlias = Any

# What ``module.apply`` takes first: "params" and, if the network has them, "batch_stats".
Variables: TypeAlias = Mapping[str, PyTree]

# What JSON holds: None, bool, int, float, str, and lists and dicts of such values.
Json: TypeAlias = Any
JsonObject: TypeAlias = dict[str, Json]

# Arguments of a network's class, or of another function, by name.
Fields: TypeAlias = Mapping[str, Any]

# Arrays of one training batch by name, such as "clean" ``[B, H, W, C]`` and "mask" ``[B]``.
Batch: TypeAlias = Mapping[str, Array]

# Scalars of one training step by name, such as "loss".
Metrics: TypeAlias = dict[str, Array]
