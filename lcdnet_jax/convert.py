"""Weights of PyTorch models as Flax variables.

Each network's parameters carry the names of its official PyTorch code, up to the rule of its
layout below, so that a conversion is a renaming and a transposition. Only :func:`read_state_dict`
needs PyTorch; :func:`from_torch` takes a state dict as NumPy arrays, wherever they come from.
"""

import os
import re
import warnings
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


def read_state_dict(path: str | os.PathLike[str]) -> dict[str, np.ndarray]:
    """Reads a PyTorch weights file, in today's or in the legacy format, without running its code.

    Args:
        path: A file that ``torch.save`` wrote of a state dict, alone or as the entry
            "state_dict", "params" or "params_ema" of a dict.

    Returns:
        PyTorch names to arrays; bfloat16 comes as float32.

    Raises:
        ImportError: Where PyTorch is not installed.
        OSError: For a file that cannot be opened.
        ValueError: For a file that is none of PyTorch's, wants to run code, or holds something
            else than named tensors.
    """
    try:
        import torch
    except ImportError as error:
        raise ImportError(
            "reading a .pth file needs PyTorch, which is not installed; run\n"
            '  pip install "lcdnet-jax[torch]"'
        ) from error
    with open(path, "rb"):  # names the reason, which torch.load would hide
        pass
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of pickles that it then refuses
            loaded = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # of any kind, for files that are not PyTorch's
        if blocked := re.search(r"Unsupported global: GLOBAL (\S+)", str(error)):
            raise ValueError(
                f"{path} does not hold plain weights: loading it would run code "
                f"({blocked[1]}), so it was not loaded. Save its state dict alone, "
                "torch.save(model.state_dict(), FILE), where the file is trusted"
            ) from error
        raise ValueError(
            f"{path} is no file that torch.save wrote, or is damaged; give a .pth or .pt file"
        ) from error
    for wrapper in ("state_dict", "params_ema", "params"):
        if isinstance(loaded, Mapping) and isinstance(loaded.get(wrapper), Mapping):
            loaded = loaded[wrapper]
            break
    tensors = isinstance(loaded, Mapping) and all(
        isinstance(k, str) and isinstance(v, torch.Tensor) for k, v in loaded.items()
    )
    if not tensors or not loaded:
        raise ValueError(
            f"{path} holds no state dict (names and tensors) but {_described(loaded)}; save "
            "model.state_dict()"
        )
    return {k: (v.float() if v.is_floating_point() else v).numpy() for k, v in loaded.items()}


def _described(value: Any) -> str:
    if isinstance(value, Mapping):
        kinds = {str(k): type(v).__name__ for k, v in list(value.items())[:4]}
        return "a dict of " + (", ".join(f"{k} ({kind})" for k, kind in kinds.items()) or "nothing")
    return f"a {type(value).__name__}"


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
