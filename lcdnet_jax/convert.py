"""Weights of PyTorch models as Flax variables, and back.

Each network's parameters carry the names of its official PyTorch code, up to the rule of its
layout below, so that a conversion is a renaming and a transposition, exact both ways. A network
without official code has names of our own, by these rules:

- A module's key is its Flax path, joined by dots; a name that is a keyword of Python gets an
  underscore at its end (``mid.blocks.0.global_.out``), so that it can be an attribute.
- Blocks whose Flax parameters are stacked have their numbers: ``enc3.blocks.27.norm1.weight``.
- Convolutions are ``weight`` (out, in, kh, kw), depthwise ones (out, 1, kh, kw), and ``bias``;
  dense layers are convolutions of 1x1, (out, in, 1, 1).
- Normalizations are ``weight`` and ``bias``, with ``running_mean`` and ``running_var`` where they
  keep statistics.
- A block's own factors, one for each channel, are (1, channels, 1, 1).

Files need PyTorch to be read; :func:`from_torch` takes a state dict as NumPy arrays, wherever they
come from.
"""

import dataclasses
import functools
import keyword
import os
import re
import warnings
from collections.abc import Callable, Mapping
from typing import Any

import flax.linen as nn
import jax.numpy as jnp
import numpy as np
import safetensors.numpy
from absl import logging
from flax.traverse_util import flatten_dict, unflatten_dict

from lcdnet_jax import networks
from lcdnet_jax.networks import vgg


@dataclasses.dataclass(frozen=True)
class _Layout:
    """How one network's PyTorch checkpoint differs from its Flax variables.

    Attributes:
        transposed: Pattern of PyTorch modules whose kernels are stored (in, out, kh, kw).
        dead: Pattern of keys that some official checkpoints hold but never use.
        stacked: Pattern of Flax modules whose leaves hold several blocks, along their first axis.
        rename: PyTorch's path of a module from Flax's, both joined by dots.
        former: As ``rename``, for names of earlier versions, which are still read.
    """

    transposed: str = r"(?!)"
    dead: str = r"(?!)"
    stacked: str = r"(?!)"
    rename: Callable[[str], str] = lambda path: path
    former: Callable[[str], str] | None = None


def _numbered(path: str) -> str:
    """Members of PyTorch lists: body_2 -> body.2, tail_0_2 -> tail.0.2."""
    return re.sub(r"_(\d+)", r".\1", path)


def _sequential(path: str) -> str:
    """A list of DnCNN's kind (conv, ReLU, then conv, BatchNorm, ReLU again and again, conv)."""
    stack, layer, number = re.split(r"\.|_", path)
    place = 3 * int(number) - (layer == "conv")
    return f"{stack}.{stack}.{max(place, 0)}"


def _buifd(path: str) -> str:
    """BUIFD's two lists, as DnCNN's, and its convolutions after them."""
    if path.startswith("fusion_"):
        return path.replace("fusion_", "FinalFusionLayers.fusion_layers.")
    return _sequential(path)


def _attributes(path: str) -> str:
    """Names that ``self.NAME`` can have: global -> global_."""
    return ".".join(f"{part}_" if keyword.iskeyword(part) else part for part in path.split("."))


# Networks that are not here keep their names, and have nothing special.
_LAYOUTS = {
    "buifd": _Layout(rename=_buifd, former=lambda path: path),
    "dncnn": _Layout(rename=_sequential),
    "ikc": _Layout(stacked=r"sftmd\.blocks\b"),
    "kmsr": _Layout(stacked=r"resblock_layer\b"),
    "lcdnet": _Layout(stacked=r"\w+\.blocks\b", rename=_attributes),
    "memnet": _Layout(rename=_numbered),
    # The official class makes a BatchNorm after each first convolution and does not call it.
    "n3net": _Layout(
        dead=r"blocks\.\d\.bn1\..*",
        rename=lambda path: _numbered(path).replace(
            "distance_bn", "n3aggregation.aggregation.nnn.bn"
        ),
    ),
    # One list holds a group's blocks and the convolution after them.
    "rcan": _Layout(
        stacked=r"body_\d+\.blocks\b",
        rename=lambda path: _numbered(path).replace(".blocks.", ".body."),
    ),
    "ridnet": _Layout(
        rename=lambda path: re.sub(r"\b(head|c[12])$", r"\1.body.0", _numbered(path))
    ),
    # ESRGAN's own layers for enlarging, which the code of frequency masking keeps and never calls.
    "rrdb": _Layout(
        dead=r"(upconv[1-4]|HRconv|conv_last)\..*", stacked=r"RRDB_trunk\b", rename=_numbered
    ),
    "sadnet": _Layout(
        transposed=r"up[1-3]",
        # Until April 2020 the code made these layers also where they were never called.
        dead=r"(res[2-4]|dres[1-4])\.conv0\..*|offset4\.offset_conv2\..*",
    ),
}
# Counts of batches, for plain averages of statistics; load_state_dict does not miss them.
_ALWAYS_DEAD = r".*\.num_batches_tracked"
_LEAF_NAMES = {
    "kernel": "weight",
    "scale": "weight",
    "bias": "bias",
    "mean": "running_mean",
    "var": "running_var",
}


def from_torch(
    name: str, state_dict: Mapping[str, np.ndarray], **network_kwargs: Any
) -> dict[str, Any]:
    """Converts the weights of a PyTorch model.

    Args:
        name: Network name, as for :func:`lcdnet_jax.networks.create`.
        state_dict: PyTorch names to arrays; a leading ``module.`` is accepted. Names are those of
            the official code; of a network without, those of :func:`to_torch`.
        **network_kwargs: Arguments of :func:`lcdnet_jax.networks.create`.

    Returns:
        Flax variables, float32: ``{"params": ...}``, and "batch_stats" where there are any.

    Raises:
        ValueError: If any key is missing, unknown or of another shape; the message lists all.
    """
    variables, dropped = converted(name, state_dict, network_kwargs)
    if dropped:
        logging.warning("from_torch(%r): dropped unused keys: %s", name, ", ".join(dropped))
    return variables


def converted(
    name: str, state_dict: Mapping[str, np.ndarray], network_kwargs: Mapping[str, Any]
) -> tuple[dict[str, Any], list[str]]:
    """As :func:`from_torch`: the variables, and the keys that went unused."""
    layout, wanted = _layout_and_leaves(name, network_kwargs)
    given = {key.removeprefix("module."): np.asarray(v) for key, v in state_dict.items()}

    found, missing, misshaped = {}, [], []
    for path, leaf in wanted.items():
        keys = _torch_keys(path, leaf.shape, layout)
        if layout.former and not given.keys() & set(keys):
            former = dataclasses.replace(layout, rename=layout.former)
            of_before = _torch_keys(path, leaf.shape, former)
            keys = of_before if given.keys() & set(of_before) else keys
        blocks = []
        for key in keys:
            if key not in given:
                missing.append(key)
                continue
            shape = leaf.shape[1:] if _is_stacked(path, layout) else leaf.shape
            axes, expected = _torch_axes(path, shape, layout)
            value = given.pop(key)
            if value.shape != expected:
                misshaped.append(f"{key} gives {value.shape}, the network needs {expected}")
                continue
            blocks.append(value.transpose(np.argsort(axes)).reshape(shape))
        if len(blocks) == len(keys):
            whole = np.stack(blocks) if _is_stacked(path, layout) else blocks[0]
            found[path] = jnp.asarray(whole, jnp.float32)

    dead = sorted(k for k in given if re.fullmatch(f"{_ALWAYS_DEAD}|{layout.dead}", k))
    extra = sorted(set(given) - set(dead))
    _refuse(f"these are not the weights of {name} with {dict(network_kwargs)}",
            missing, extra, misshaped)  # fmt: skip
    return unflatten_dict(found), dead


def to_torch(
    name: str, variables: Mapping[str, Any], **network_kwargs: Any
) -> dict[str, np.ndarray]:
    """Converts Flax variables into a PyTorch state dict; the inverse of :func:`from_torch`.

    What official files hold and never use is left out: ``num_batches_tracked``, which
    ``load_state_dict`` does not miss, and N3Net's ``bn1`` layers, for which its official class
    wants ``strict=False``.

    Args:
        name: Network name, as for :func:`lcdnet_jax.networks.create`.
        variables: What the network's ``init`` or a checkpoint gives.
        **network_kwargs: Arguments of :func:`lcdnet_jax.networks.create`.

    Returns:
        PyTorch names to float32 arrays in PyTorch's layout: names of the official code, or of our
        own by the rules of this module.

    Raises:
        ValueError: If any variable is missing, unknown or of another shape; the message lists all.
    """
    layout, wanted = _layout_and_leaves(name, network_kwargs)
    given = flatten_dict(dict(variables))
    _check_variables(given, wanted, f"{name} with {network_kwargs}")
    state_dict = {}
    for path in wanted:
        whole = np.asarray(given[path], np.float32)
        blocks = whole if _is_stacked(path, layout) else [whole]
        for key, block in zip(_torch_keys(path, whole.shape, layout), blocks, strict=True):
            axes, shape = _torch_axes(path, block.shape, layout)
            padded = (1,) * (len(axes) - block.ndim) + block.shape
            turned = block.reshape(padded).transpose(axes)
            # A copy, since PyTorch's tensors are writable.
            state_dict[key] = np.array(turned, order="C").reshape(shape)
    return state_dict


def check_variables(
    name: str, variables: Mapping[str, Any], network_kwargs: Mapping[str, Any]
) -> None:
    """Compares names and shapes with what the network's ``init`` would give; values do not matter.

    Args:
        name: Network name, as for :func:`lcdnet_jax.networks.create`.
        variables: Nested dicts of arrays: "params", and "batch_stats" where the network has any.
        network_kwargs: Arguments of :func:`lcdnet_jax.networks.create`.

    Raises:
        ValueError: If they are not alike, with everything that is missing, unknown or of another
            shape; also for an unknown network or wrong arguments of it.
    """
    _, wanted = _layout_and_leaves(name, network_kwargs)
    given = flatten_dict(dict(variables))
    _check_variables(given, wanted, f"{name} with {dict(network_kwargs)}")


def _check_variables(
    given: Mapping[tuple[str, ...], Any], wanted: Mapping[tuple[str, ...], Any], described: str
) -> None:
    misshaped = [
        f"{'/'.join(path)} is {np.shape(given[path])}, the network needs {leaf.shape}"
        for path, leaf in wanted.items()
        if path in given and np.shape(given[path]) != leaf.shape
    ]
    missing, extra = (
        ["/".join(path) for path in sorted(set(one) - set(other))]
        for one, other in ((wanted, given), (given, wanted))
    )
    _refuse(f"these are not variables of {described}", missing, extra, misshaped)


def _layout_and_leaves(
    name: str, network_kwargs: Mapping[str, Any]
) -> tuple[_Layout, dict[tuple[str, ...], Any]]:
    """How a network is converted, and the shape of each of its variables."""
    return _LAYOUTS.get(name, _Layout()), _leaves(networks.create(name, **network_kwargs))


@functools.lru_cache(maxsize=8)  # tracing LCDNet takes seconds
def _leaves(module: nn.Module) -> dict[tuple[str, ...], Any]:
    return flatten_dict(networks.abstract_variables(module))


def _refuse(title: str, missing: list[str], unknown: list[str], misshaped: list[str]) -> None:
    problems = [
        f"{kind}: {'; '.join(keys)}"
        for kind, keys in (("missing", missing), ("unknown", unknown), ("wrong shape", misshaped))
        if keys
    ]
    if problems:
        raise ValueError(
            f"{title}\n  "
            + "\n  ".join(problems)
            + "\nCheck the network's fields (channels, sizes, preset), or the file."
        )


def _is_stacked(path: tuple[str, ...], layout: _Layout) -> bool:
    return re.match(layout.stacked, ".".join(path[1:-1])) is not None


def _torch_keys(path: tuple[str, ...], shape: tuple[int, ...], layout: _Layout) -> list[str]:
    """PyTorch keys of a Flax leaf: one, or one for each block that it holds."""
    *modules, leaf = path[1:]  # path[0] is the collection
    module, name = ".".join(modules), _LEAF_NAMES.get(leaf, leaf)
    if stack := re.match(layout.stacked, module):
        inside = module[stack.end() :]
        modules = [f"{stack[0]}.{number}{inside}" for number in range(shape[0])]
    else:
        modules = [module]
    return [f"{layout.rename(module)}.{name}" for module in modules]


def _torch_axes(
    path: tuple[str, ...], shape: tuple[int, ...], layout: _Layout
) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Order of a Flax leaf's axes in PyTorch, and its shape there.

    The leaf has as many axes as the order: it gets axes of length 1 in front where it has fewer.
    """
    *modules, leaf = path[1:]
    if leaf == "kernel":  # (kh, kw, in, out); of dense layers (in, out)
        transposed = re.fullmatch(layout.transposed, layout.rename(".".join(modules)))
        axes: tuple[int, ...] = (2, 3, 0, 1) if transposed else (3, 2, 0, 1)
    elif leaf in _LEAF_NAMES:
        axes = tuple(range(len(shape)))
    else:  # factors, (channels,)
        axes = (0, 3, 1, 2)
    padded = (1,) * (len(axes) - len(shape)) + tuple(shape)
    return axes, tuple(padded[axis] for axis in axes)


def import_torch(purpose: str) -> Any:
    """PyTorch; ImportError naming the extra where it cannot be imported."""
    try:
        import torch
    except ImportError as error:
        raise ImportError(
            f"{purpose} a .pth file needs PyTorch, which cannot be imported ({error}); run\n"
            '  pip install "lcdnet-jax[torch]"'
        ) from error
    return torch


def read_state_dict(path: str | os.PathLike[str]) -> dict[str, np.ndarray]:
    """Reads a PyTorch weights file, in today's or in the legacy format, without running its code.

    Args:
        path: A file that ``torch.save`` wrote of a state dict, alone or as an entry of a dict:
            "state_dict", else "params_ema" (averaged weights), else "params".

    Returns:
        PyTorch names to arrays; bfloat16 comes as float32.

    Raises:
        ImportError: Where PyTorch cannot be imported.
        OSError: For a file that cannot be opened.
        ValueError: For a file that is none of PyTorch's, wants to run code, or holds something
            else than named tensors.
    """
    torch = import_torch("reading")
    try:
        with open(path, "rb") as file:
            empty = not file.read(1)
    except OSError as error:
        raise OSError(f"cannot read {path}: {error.strerror}; give a .pth or .pt file") from error
    if empty:
        raise ValueError(f"{path} is empty; download it again")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of pickles that it then refuses
            loaded = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # of any kind, for files that are not PyTorch's
        if blocked := re.search(
            r"unsupported (?:global: )?GLOBAL (\S+)", str(error), re.IGNORECASE
        ):
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
    named = isinstance(loaded, Mapping) and all(
        isinstance(k, str) and isinstance(v, torch.Tensor) for k, v in loaded.items()
    )
    if not named or not loaded:
        raise ValueError(
            f"{path} holds no state dict (names and tensors) but {_described(loaded)}; save "
            "model.state_dict()"
        )
    tensors = {k: v.detach() for k, v in loaded.items()}
    return {k: (v.float() if v.is_floating_point() else v).numpy() for k, v in tensors.items()}


def read_vgg19(path: str | os.PathLike[str]) -> tuple[tuple[np.ndarray, np.ndarray], ...]:
    """Reads weights of VGG19 for :func:`lcdnet_jax.networks.vgg.vgg19`.

    Args:
        path: A state dict of torchvision's ``vgg19``, whole or its convolutions alone
            (``features.0.weight`` to ``features.34.bias``): a file that ``torch.save`` wrote, or a
            .safetensors file.

    Returns:
        Kernel ``[3, 3, C, O]`` and bias ``[O]`` of each convolution, float32.

    Raises:
        ImportError: For a file of PyTorch, where that cannot be imported.
        OSError: For a file that cannot be opened.
        ValueError: For a file that is damaged, or holds something else.
    """
    if os.fspath(path).lower().endswith(".safetensors"):
        try:
            with open(path, "rb") as file:
                data = file.read()
        except OSError as error:
            raise OSError(f"cannot read {path}: {error.strerror}") from error
        try:
            tensors = safetensors.numpy.load(data)
        except Exception as error:  # of several kinds, for types that NumPy lacks
            raise ValueError(f"{path} is no safetensors file, or is damaged ({error})") from error
    else:
        tensors = read_state_dict(path)
    weights, missing, misshaped = [], [], []
    channels = 3
    for layer, width in zip(vgg.LAYERS, vgg.WIDTHS, strict=True):
        names = f"features.{layer}.weight", f"features.{layer}.bias"
        for name, shape in zip(names, ((width, channels, 3, 3), (width,)), strict=True):
            if name not in tensors:
                missing.append(name)
            elif tensors[name].shape != shape:
                misshaped.append(f"{name} is {tensors[name].shape}, VGG19 has {shape}")
        if not missing and not misshaped:
            kernel, bias = (np.asarray(tensors[name], np.float32) for name in names)
            weights.append((kernel.transpose(2, 3, 1, 0), bias))
        channels = width
    if missing or misshaped:
        problems = misshaped + [f"{name} is missing" for name in missing]
        more = f" (and {len(problems) - 1} more)" if len(problems) > 1 else ""
        raise ValueError(f"{path} does not hold torchvision's vgg19: {problems[0]}{more}")
    return tuple(weights)


def _described(value: Any) -> str:
    if isinstance(value, Mapping):
        kinds = {str(k): type(v).__name__ for k, v in list(value.items())[:4]}
        return "a dict of " + (", ".join(f"{k} ({kind})" for k, kind in kinds.items()) or "nothing")
    return f"a {type(value).__name__}"
