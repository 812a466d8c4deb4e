"""Weights of PyTorch models as Flax variables.

Each network's parameters carry the names of its official PyTorch code, up to the rule of its
layout below, so that a conversion is a renaming and a transposition. PyTorch itself is not
needed: pass the state dict as NumPy arrays,
``{k: v.numpy() for k, v in torch.load(path, map_location="cpu", weights_only=True).items()}``.
"""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from absl import logging
from flax.traverse_util import flatten_dict, unflatten_dict

from lcdnet_jax import networks


@dataclass(frozen=True)
class _Layout:
    """How one network's PyTorch checkpoint differs from its Flax variables.

    Attributes:
        transposed: Pattern of PyTorch modules whose kernels are stored (in, out, kh, kw).
        dead: Pattern of keys that some official checkpoints hold but never use.
        rename: PyTorch's path of a module from Flax's, both joined by dots.
    """

    transposed: str = r"(?!)"
    dead: str = r"(?!)"
    rename: Callable[[str], str] = lambda path: path


def _numbered(path: str) -> str:
    """Members of a PyTorch list: body_2 -> body.2."""
    return re.sub(r"_(\d+)\b", r".\1", path)


def _sequential(path: str) -> str:
    """DnCNN's one list (conv, ReLU, then conv, BatchNorm, ReLU again and again, conv)."""
    stack, layer, number = re.split(r"\.|_", path)
    place = 3 * int(number) - (layer == "conv")
    return f"{stack}.{stack}.{max(place, 0)}"


_LAYOUTS = {
    "dncnn": _Layout(rename=_sequential),
    "memnet": _Layout(rename=_numbered),
    # The official class makes a BatchNorm after each first convolution and does not call it.
    "n3net": _Layout(
        dead=r"blocks\.\d\.bn1\..*",
        rename=lambda path: _numbered(path).replace(
            "distance_bn", "n3aggregation.aggregation.nnn.bn"
        ),
    ),
    "ridnet": _Layout(
        rename=lambda path: re.sub(r"\b(head|c[12])$", r"\1.body.0", _numbered(path))
    ),
    "sadnet": _Layout(
        transposed=r"up[1-3]",
        # Until April 2020 the code made these layers also where they were never called.
        dead=r"(res[2-4]|dres[1-4])\.conv0\..*|offset4\.offset_conv2\..*",
    ),
    "unet_n2n": _Layout(),
}
_ALWAYS_DEAD = r".*\.num_batches_tracked"
_LEAF_NAMES = {
    "kernel": "weight",
    "scale": "weight",
    "mean": "running_mean",
    "var": "running_var",
}


def from_torch(
    name: str, state_dict: Mapping[str, np.ndarray], **network_kwargs: Any
) -> dict[str, Any]:
    """Converts the weights of an official PyTorch model.

    Args:
        name: Network name, as for :func:`lcdnet_jax.networks.create`.
        state_dict: PyTorch names to arrays; a leading ``module.`` is accepted.
        **network_kwargs: Arguments of :func:`lcdnet_jax.networks.create`.

    Returns:
        Flax variables, float32: ``{"params": ...}``, and "batch_stats" where there are any.

    Raises:
        ValueError: If any key is missing, unknown or of another shape; the message lists all.
    """
    layout = _LAYOUTS.get(name)
    if layout is None:
        raise ValueError(f"no conversion for {name!r}; known: {', '.join(sorted(_LAYOUTS))}")
    module = networks.create(name, **network_kwargs)
    given = {key.removeprefix("module."): np.asarray(v) for key, v in state_dict.items()}
    wanted = flatten_dict(_abstract_variables(module))

    converted, missing, misshaped = {}, [], []
    for path, leaf in wanted.items():
        key, to_flax = _torch_key(path, layout)
        if key not in given:
            missing.append(key)
            continue
        value = to_flax(given.pop(key))
        if value.shape != leaf.shape:
            misshaped.append(f"{key} gives {value.shape}, the network needs {leaf.shape}")
        converted[path] = jnp.asarray(value, jnp.float32)

    dead = sorted(k for k in given if re.fullmatch(f"{_ALWAYS_DEAD}|{layout.dead}", k))
    extra = sorted(set(given) - set(dead))
    problems = [
        f"{title}: {'; '.join(keys)}"
        for title, keys in (("missing", missing), ("unknown", extra), ("wrong shape", misshaped))
        if keys
    ]
    if problems:
        raise ValueError(
            f"these are not the weights of {name} with {network_kwargs}\n  "
            + "\n  ".join(problems)
            + "\nCheck the network's fields (channels, sizes, preset), or the file."
        )
    if dead:
        logging.warning("from_torch(%r): dropped unused keys: %s", name, ", ".join(dead))
    return unflatten_dict(converted)


def _abstract_variables(module: Any) -> Any:
    image = jnp.zeros((1, 8, 8, module.channels))
    return jax.eval_shape(module.init, jax.random.key(0), image)


def _torch_key(
    path: tuple[str, ...], layout: _Layout
) -> tuple[str, Callable[[np.ndarray], np.ndarray]]:
    """PyTorch key of a Flax leaf, and the function that turns its array into Flax's order."""
    *modules, leaf = path[1:]  # path[0] is the collection
    prefix = layout.rename(".".join(modules))
    key = f"{prefix}.{_LEAF_NAMES.get(leaf, leaf)}"
    if leaf != "kernel":
        return key, lambda array: array
    # PyTorch: (out, in, kh, kw), transposed convolutions (in, out, kh, kw).
    # Flax: (kh, kw, in, out).
    order = (2, 3, 0, 1) if re.fullmatch(layout.transposed, prefix) else (2, 3, 1, 0)
    return key, lambda array: array.transpose(order) if array.ndim == 4 else array
