"""Conversion of weights between PyTorch state dicts and Flax variables.

The parameters of a network have the names of its official PyTorch code, apart from the rules in its
layout below. A conversion renames and transposes, and is exact in both directions. A network
without official code has names of our own, by these rules:

- The key of a module is its Flax path joined by dots. A part that is a Python keyword gets an
  underscore at the end (``mid.blocks.0.global_.out``), so that it can be an attribute.
- Blocks whose Flax parameters are stacked are numbered: ``enc3.blocks.27.norm1.weight``.
- Convolutions have ``weight`` (out, in, kh, kw) and ``bias``; the weight of a depthwise convolution
  is (out, 1, kh, kw). Dense layers are 1x1 convolutions, (out, in, 1, 1).
- Normalizations have ``weight`` and ``bias``, and ``running_mean`` and ``running_var`` if they keep
  statistics.
- Per-channel factors of a block are (1, channels, 1, 1).

Reading a .pth file needs PyTorch. :func:`from_torch` itself takes a state dict of NumPy arrays.
"""

import dataclasses
import functools
import keyword
import math
import os
import re
import warnings
import zipfile
from collections.abc import Callable, Mapping
from typing import Any

import jax.numpy as jnp
import numpy as np
import safetensors.numpy
from absl import logging
from flax.traverse_util import flatten_dict, unflatten_dict

from lcdnet_jax import networks
from lcdnet_jax.networks import vgg
from lcdnet_jax.networks.costs import COSTS
from lcdnet_jax.typing import Fields, PyTree, Variables


@dataclasses.dataclass(frozen=True)
class _Layout:
    """Differences between the PyTorch checkpoint of a network and its Flax variables.

    Attributes:
        transposed: Pattern of PyTorch modules whose kernels are stored as (in, out, kh, kw).
        dead: Pattern of keys that some official checkpoints hold but never use.
        stacked: Pattern of Flax modules whose leaves hold several blocks along the first axis.
        rename: Function from the Flax path of a module to its PyTorch path, both joined by dots.
        former: As ``rename``, for the names of earlier versions, which can still be read.
    """

    transposed: str = r"(?!)"
    dead: str = r"(?!)"
    stacked: str = r"(?!)"
    rename: Callable[[str], str] = lambda path: path
    former: Callable[[str], str] | None = None


def _list_name(path: str) -> str:
    """Names members of PyTorch lists: body_2 -> body.2, tail_0_2 -> tail.0.2."""
    return re.sub(r"_(\d+)", r".\1", path)


def _sequential_name(path: str) -> str:
    """Names members of a list as in DnCNN: conv, ReLU, n times (conv, BatchNorm, ReLU), conv."""
    stack, layer, number = re.split(r"\.|_", path)
    place = 3 * int(number) - (layer == "conv")
    return f"{stack}.{stack}.{max(place, 0)}"


def _buifd_name(path: str) -> str:
    """Names members of BUIFD's two lists, which are like DnCNN's, and its fusion layers."""
    if path.startswith("fusion_"):
        return path.replace("fusion_", "FinalFusionLayers.fusion_layers.")
    return _sequential_name(path)


def _restormer_name(path: str) -> str:
    """Names the layers that the official code wraps in modules of their own."""
    path = re.sub(r"\bnorm[12]$", r"\g<0>.body", path)
    path = re.sub(r"^(down|up)\d_\d$", r"\g<0>.body.0", path)
    return "patch_embed.proj" if path == "patch_embed" else path


def _attribute_name(path: str) -> str:
    """Makes names that are valid as ``self.NAME``: global -> global_."""
    return ".".join(f"{part}_" if keyword.iskeyword(part) else part for part in path.split("."))


# Networks that are not listed keep their names.
_LAYOUTS = {
    "buifd": _Layout(rename=_buifd_name, former=lambda path: path),
    "dncnn": _Layout(rename=_sequential_name),
    "ikc": _Layout(stacked=r"sftmd\.blocks\b"),
    "kmsr": _Layout(stacked=r"resblock_layer\b"),
    "lcdnet": _Layout(stacked=r"\w+\.blocks\b", rename=_attribute_name),
    "memnet": _Layout(rename=_list_name),
    # The official class creates a BatchNorm after each first convolution and never calls it.
    "n3net": _Layout(
        dead=r"blocks\.\d\.bn1\..*",
        rename=lambda path: _list_name(path).replace(
            "distance_bn", "n3aggregation.aggregation.nnn.bn"
        ),
    ),
    "nafnet": _Layout(stacked=r"((en|de)coders_\d|middle_blks)\b", rename=_list_name),
    # One list holds a group's blocks and the convolution after them.
    "rcan": _Layout(
        stacked=r"body_\d+\.blocks\b",
        rename=lambda path: _list_name(path).replace(".blocks.", ".body."),
    ),
    "restormer": _Layout(
        stacked=r"((en|de)coder_level\d|latent|refinement)\b", rename=_restormer_name
    ),
    "ridnet": _Layout(
        rename=lambda path: re.sub(r"\b(head|c[12])$", r"\1.body.0", _list_name(path))
    ),
    # Upsampling layers of ESRGAN, which the SFM code creates and never calls.
    "rrdb": _Layout(
        dead=r"(upconv[1-4]|HRconv|conv_last)\..*", stacked=r"RRDB_trunk\b", rename=_list_name
    ),
    "sadnet": _Layout(
        transposed=r"up[1-3]",
        # Until April 2020 the official code created these layers even where it never called them.
        dead=r"(res[2-4]|dres[1-4])\.conv0\..*|offset4\.offset_conv2\..*",
    ),
}
# Largest factor, and bytes beyond it, by which the content of a file may exceed the file.
_EXPANSION = 8
_SLACK = 2**20
# Entries of a file that may hold the state dict. "params_ema" are averaged weights.
_WRAPPERS = ("state_dict", "params_ema", "params")
# Batch counters of BatchNorm. load_state_dict works without them.
_ALWAYS_DEAD = r".*\.num_batches_tracked"
_LEAF_NAMES = {
    "kernel": "weight",
    "scale": "weight",
    "bias": "bias",
    "mean": "running_mean",
    "var": "running_var",
    "temperature": "temperature",
}


def from_torch(
    name: str, state_dict: Mapping[str, np.ndarray], **network_kwargs: Any
) -> dict[str, PyTree]:
    """Converts a PyTorch state dict into Flax variables.

    Keys that official checkpoints hold but never use are dropped with a warning.

    Args:
        name: Network name, as for :func:`lcdnet_jax.networks.create`.
        state_dict: Arrays by PyTorch name; a leading ``module.`` is accepted. Names are those of
            the official code, or of :func:`to_torch` for a network without official code. It may be
            an entry of a dict, as for :func:`read_state_dict`.
        **network_kwargs: Arguments of :func:`lcdnet_jax.networks.create`.

    Returns:
        Flax variables, float32: ``{"params": ...}``, and "batch_stats" if the network has any.

    Raises:
        ValueError: If a key is missing, unknown or of another shape. The message lists all of them,
            and names the presets of the network that fit. Also if there is no state dict, as in a
            checkpoint that holds only the state of an optimizer.
    """
    variables, dropped = convert_state_dict(name, state_dict, network_kwargs)
    if dropped:
        logging.warning("from_torch(%r): dropped unused keys: %s", name, ", ".join(dropped))
    return variables


def convert_state_dict(
    name: str, state_dict: Mapping[str, np.ndarray], network_kwargs: Fields
) -> tuple[dict[str, PyTree], list[str]]:
    """Converts as :func:`from_torch`, and returns the unused keys instead of logging them.

    Args:
        name: Network name, as for :func:`lcdnet_jax.networks.create`.
        state_dict: Arrays by PyTorch name.
        network_kwargs: Arguments of :func:`lcdnet_jax.networks.create`.

    Returns:
        Flax variables, and the sorted keys that the network does not use.

    Raises:
        ValueError: As :func:`from_torch`.
    """
    opened = _open_state_dict(state_dict, "the argument", lambda value: hasattr(value, "shape"))
    layout, wanted = _layout_and_leaves(name, network_kwargs, len(opened))
    given = {key.removeprefix("module."): np.asarray(v) for key, v in opened.items()}
    shapes = {key: value.shape for key, value in given.items()}

    found, missing, misshaped = {}, [], []
    for path, leaf in wanted.items():
        keys = _torch_keys(path, leaf.shape, layout)
        if layout.former and not given.keys() & set(keys):
            former = dataclasses.replace(layout, rename=layout.former)
            former_keys = _torch_keys(path, leaf.shape, former)
            keys = former_keys if given.keys() & set(former_keys) else keys
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
    if missing or extra or misshaped:
        title = f"these are not the weights of {name} with {dict(network_kwargs)}"
        fitting = _fitting_presets(name, shapes, network_kwargs)
        fix = "They fit " + " or ".join(f"preset={preset!r}" for preset in fitting) + "; give it."
        _raise_mismatch(title, missing, extra, misshaped, fix if fitting else _CHECK_FIELDS)
    return unflatten_dict(found), dead


def _fitting_presets(
    name: str, shapes: Mapping[str, tuple[int, ...]], network_kwargs: Fields
) -> list[str]:
    """Presets of a network whose PyTorch arrays have these names and shapes."""
    layout = _LAYOUTS.get(name, _Layout())
    size = sum(math.prod(shape) for shape in shapes.values())
    fitting = []
    for preset, fields in networks.get(name).PRESETS.items():
        parameters, _ = COSTS.get(name, {}).get(preset, (size, 0))
        if not 0.98 < size / parameters < 1.02:  # as shapes take seconds to compute
            continue
        channels = {k: v for k, v in network_kwargs.items() if k == "channels" and k not in fields}
        expected = {}
        for path, leaf in _leaves(networks.create(name, preset=preset, **channels)).items():
            shape = leaf.shape[1:] if _is_stacked(path, layout) else leaf.shape
            for key in _torch_keys(path, leaf.shape, layout):
                expected[key] = _torch_axes(path, shape, layout)[1]
        dead = f"{_ALWAYS_DEAD}|{layout.dead}"
        if expected == {k: v for k, v in shapes.items() if not re.fullmatch(dead, k)}:
            fitting.append(preset)
    return fitting


def to_torch(name: str, variables: Variables, **network_kwargs: Any) -> dict[str, np.ndarray]:
    """Converts Flax variables into a PyTorch state dict, the inverse of :func:`from_torch`.

    Keys that official files hold but never use are left out. These are ``num_batches_tracked``,
    which ``load_state_dict`` does not need, and the ``bn1`` layers of N3Net, for which its official
    class needs ``strict=False``.

    Args:
        name: Network name, as for :func:`lcdnet_jax.networks.create`.
        variables: Flax variables, from the network's ``init`` or from a checkpoint.
        **network_kwargs: Arguments of :func:`lcdnet_jax.networks.create`.

    Returns:
        Float32 arrays in PyTorch's layout by PyTorch name: the names of the official code, or those
        of the rules of this module.

    Raises:
        ValueError: If a variable is missing, unknown or of another shape. The message lists all of
            them.
    """
    given = flatten_dict(dict(variables))
    layout, wanted = _layout_and_leaves(name, network_kwargs, len(given))
    _check_variables(given, wanted, f"{name} with {network_kwargs}")
    state_dict = {}
    for path in wanted:
        whole = np.asarray(given[path], np.float32)
        blocks = whole if _is_stacked(path, layout) else [whole]
        for key, block in zip(_torch_keys(path, whole.shape, layout), blocks, strict=True):
            axes, shape = _torch_axes(path, block.shape, layout)
            padded = (1,) * (len(axes) - block.ndim) + block.shape
            turned = block.reshape(padded).transpose(axes)
            # Copied, because PyTorch tensors must be writable.
            state_dict[key] = np.array(turned, order="C").reshape(shape)
    return state_dict


def check_variables(name: str, variables: Variables, network_kwargs: Fields) -> None:
    """Checks that the names and shapes of variables fit a network.

    Args:
        name: Network name, as for :func:`lcdnet_jax.networks.create`.
        variables: Nested dicts of arrays: "params", and "batch_stats" if the network has any.
        network_kwargs: Arguments of :func:`lcdnet_jax.networks.create`.

    Raises:
        ValueError: If a variable is missing, unknown or of another shape; the message lists all of
            them. Also if the network or one of its arguments is unknown.
    """
    check_arrays(name, flatten_dict(dict(variables)), network_kwargs)


def check_arrays(
    name: str, arrays: Mapping[tuple[str, ...], Any], network_kwargs: Mapping[str, Any]
) -> None:
    """Checks that variables fit a network, as :func:`check_variables`, by their paths.

    Args:
        name: Network name, as for :func:`lcdnet_jax.networks.create`.
        arrays: Arrays by path, such as ("params", "out", "kernel").
        network_kwargs: Arguments of :func:`lcdnet_jax.networks.create`.

    Raises:
        ValueError: As :func:`check_variables`.
    """
    _, wanted = _layout_and_leaves(name, network_kwargs, len(arrays))
    _check_variables(arrays, wanted, f"{name} with {dict(network_kwargs)}")


def _check_variables(
    given: Mapping[tuple[str, ...], PyTree],
    wanted: Mapping[tuple[str, ...], PyTree],
    described: str,
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
    _raise_mismatch(f"these are not variables of {described}", missing, extra, misshaped)


def _layout_and_leaves(
    name: str, network_kwargs: Fields, count: int
) -> tuple[_Layout, dict[tuple[str, ...], PyTree]]:
    """Returns the layout of a network and the shape of each of its variables.

    Raises ValueError if the network has far more variables than ``count``.
    """
    return _LAYOUTS.get(name, _Layout()), _leaves(networks.create(name, **network_kwargs), count)


@functools.lru_cache(maxsize=8)  # tracing LCDNet takes seconds
def _leaves(
    module: networks.RestorationNetwork, count: int | None = None
) -> dict[tuple[str, ...], PyTree]:
    return flatten_dict(networks.abstract_variables(module, count=count))


_CHECK_FIELDS = "Check the network's fields (channels, sizes, preset), or the file."


def _raise_mismatch(
    title: str,
    missing: list[str],
    unknown: list[str],
    misshaped: list[str],
    fix: str = _CHECK_FIELDS,
) -> None:
    problems = [
        f"{kind}: {'; '.join(keys)}"
        for kind, keys in (("missing", missing), ("unknown", unknown), ("wrong shape", misshaped))
        if keys
    ]
    if problems:
        raise ValueError("\n  ".join([title, *problems]) + f"\n{fix}")


def _is_stacked(path: tuple[str, ...], layout: _Layout) -> bool:
    return re.match(layout.stacked, ".".join(path[1:-1])) is not None


def _torch_keys(path: tuple[str, ...], shape: tuple[int, ...], layout: _Layout) -> list[str]:
    """Returns the PyTorch keys of a Flax leaf: one, or one for each stacked block."""
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
    """Returns the order of a Flax leaf's axes in PyTorch, and its shape there.

    If the leaf has fewer axes than the order, axes of length 1 are added in front.
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
    """Imports PyTorch.

    Args:
        purpose: What PyTorch is needed for, for the error message, such as "reading".

    Returns:
        The module ``torch``.

    Raises:
        ImportError: If PyTorch cannot be imported. The message names the extra to install.
    """
    try:
        import torch
    except ImportError as error:
        raise ImportError(
            f"{purpose} a .pth file needs PyTorch, which cannot be imported ({error}); run\n"
            '  pip install "lcdnet-jax[torch]"'
        ) from error
    return torch


def read_state_dict(path: str | os.PathLike[str]) -> dict[str, np.ndarray]:
    """Reads a PyTorch weights file of the current or legacy format, without running code from it.

    Args:
        path: File that ``torch.save`` wrote. It holds a state dict, alone or as an entry of a dict:
            "state_dict", else "params_ema" (averaged weights), else "params".

    Returns:
        Arrays by PyTorch name. Floating-point tensors are float32.

    Raises:
        ImportError: If PyTorch cannot be imported.
        OSError: If the file cannot be opened.
        ValueError: If the file is not a PyTorch file, would run code, or does not hold named
            tensors.
    """
    torch = import_torch("reading")
    try:
        with open(path, "rb") as file:
            empty = not file.read(1)
    except OSError as error:
        raise OSError(f"cannot read {path}: {error.strerror}; give a .pth or .pt file") from error
    if empty:
        raise ValueError(f"{path} is empty; download it again")
    size = os.path.getsize(path)
    _check_archive(path, size)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # warns about pickles that it then rejects
            loaded = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # files that are not PyTorch's raise any type
        if blocked := re.search(
            r"unsupported (?:global: )?GLOBAL (\S+)", str(error), re.IGNORECASE
        ):
            raise ValueError(
                f"{path} does not hold plain weights: loading it would run code "
                f"({blocked[1]}), so it was not loaded. Save its state dict alone, "
                "torch.save(model.state_dict(), FILE), where the file is trusted"
            ) from error
        raise ValueError(
            f"{path} was not written by torch.save, or is damaged; give a .pth or .pt file"
        ) from error
    opened = _open_state_dict(loaded, str(path), lambda value: isinstance(value, torch.Tensor))
    try:
        # Tensors may share memory and repeat it, so that a small file describes huge ones.
        if sum(v.nbytes for v in opened.values()) > _EXPANSION * size + _SLACK:
            raise ValueError(f"{path} describes tensors far larger than the file; it is damaged")
        tensors = {k: v.detach() for k, v in opened.items()}
        return {k: (v.float() if v.is_floating_point() else v).numpy() for k, v in tensors.items()}
    except ValueError:
        raise
    except Exception as error:  # of several types, for tensors that are sparse or quantized
        reason = " ".join(str(error).split())[:200]
        raise ValueError(
            f"{path} holds tensors that are not plain arrays ({reason}); save a dense state dict"
        ) from error


def _open_state_dict(
    loaded: Any, where: str, is_tensor: Callable[[Any], bool]
) -> Mapping[str, Any]:
    """Finds the state dict in the content of a file. Raises ValueError if there is none."""
    for wrapper in _WRAPPERS:
        if isinstance(loaded, Mapping) and isinstance(loaded.get(wrapper), Mapping):
            loaded = loaded[wrapper]
            break
    named = isinstance(loaded, Mapping) and all(
        isinstance(key, str) and is_tensor(value) for key, value in loaded.items()
    )
    if named and loaded:
        return loaded
    found = f"contains no state dict (names and tensors) but {_describe(loaded)}"
    if isinstance(loaded, Mapping) and any("optim" in str(key) for key in loaded):
        raise ValueError(
            f"{where} {found}: it is a checkpoint with the state of an optimizer. Give the file of "
            f"the weights, or save them alone or as {', '.join(map(repr, _WRAPPERS))}"
        )
    raise ValueError(f"{where} {found}; save model.state_dict()")


def _check_archive(path: str | os.PathLike[str], size: int) -> None:
    """Raises ValueError for a zip archive that grows far beyond its size; torch.save's do not."""
    if not zipfile.is_zipfile(path):
        return
    try:
        with zipfile.ZipFile(path) as file:
            unpacked = sum(member.file_size for member in file.infolist())
    except Exception as error:  # zipfile raises several types for damaged archives
        raise ValueError(
            f"{path} was not written by torch.save, or is damaged; give a .pth or .pt file"
        ) from error
    if unpacked > _EXPANSION * size + _SLACK:
        raise ValueError(
            f"{path} has {size} bytes and would unpack to {unpacked}, far more than weights do; it "
            "was not written by torch.save, or is damaged"
        )


def read_vgg19(path: str | os.PathLike[str]) -> tuple[tuple[np.ndarray, np.ndarray], ...]:
    """Reads weights of VGG19 for :func:`lcdnet_jax.networks.vgg.vgg19`.

    Args:
        path: File that ``torch.save`` wrote, or a .safetensors file. It holds the state dict of
            torchvision's ``vgg19``, or at least its convolutions (``features.0.weight`` to
            ``features.34.bias``).

    Returns:
        Kernel ``[3, 3, C, O]`` and bias ``[O]`` of each convolution, float32.

    Raises:
        ImportError: If the file is PyTorch's and PyTorch cannot be imported.
        OSError: If the file cannot be opened.
        ValueError: If the file is damaged or holds something else.
    """
    if os.fspath(path).lower().endswith(".safetensors"):
        try:
            with open(path, "rb") as file:
                data = file.read()
        except OSError as error:
            raise OSError(f"cannot read {path}: {error.strerror}") from error
        try:
            tensors = safetensors.numpy.load(data)
        except Exception as error:  # several types, among them those for dtypes that NumPy lacks
            raise ValueError(
                f"{path} is not a safetensors file, or is damaged ({error})"
            ) from error
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


def _describe(value: Any) -> str:
    if isinstance(value, Mapping):
        kinds = {str(k): type(v).__name__ for k, v in list(value.items())[:4]}
        return "a dict of " + (", ".join(f"{k} ({kind})" for k, kind in kinds.items()) or "nothing")
    return f"a {type(value).__name__}"
