"""Weights of PyTorch models as Flax variables.

Each network's parameters carry the names of its official PyTorch code, up to the rule of its
layout below, so that a conversion is a renaming and a transposition. Files need PyTorch to be
read; :func:`from_torch` takes a state dict as NumPy arrays, wherever they come from.
"""

import hashlib
import json
import os
import pathlib
import re
import tempfile
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from absl import logging
from flax.traverse_util import flatten_dict, unflatten_dict
from ml_collections import ConfigDict

from lcdnet_jax import checkpoints, networks
from lcdnet_jax import config as config_lib
from lcdnet_jax._version import __version__


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
    layout = _layout(name)
    module = networks.create(name, **network_kwargs)
    variables, dropped = _converted(module, layout, state_dict, f"{name} with {network_kwargs}")
    if dropped:
        logging.warning("from_torch(%r): dropped unused keys: %s", name, ", ".join(dropped))
    return variables


def _layout(name: str) -> _Layout:
    if name not in _LAYOUTS:
        unpublished = name in networks.available()
        raise ValueError(
            f"no conversion for {name!r}"
            + (", of which no official weights are published" if unpublished else "")
            + f"; known: {', '.join(sorted(_LAYOUTS))}"
        )
    return _LAYOUTS[name]


def _converted(
    module: nn.Module, layout: _Layout, state_dict: Mapping[str, np.ndarray], described: str
) -> tuple[dict[str, Any], list[str]]:
    """Flax variables, and the keys that went unused."""
    given = {key.removeprefix("module."): np.asarray(v) for key, v in state_dict.items()}
    wanted = flatten_dict(checkpoints.abstract_variables(module))

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
            f"these are not the weights of {described}\n  "
            + "\n  ".join(problems)
            + "\nCheck the network's fields (channels, sizes, preset), or the file."
        )
    return unflatten_dict(converted), dead


def convert_file(
    name: str,
    path: str | os.PathLike[str],
    output: str | os.PathLike[str],
    *,
    network_kwargs: Mapping[str, Any] | None = None,
    force: bool = False,
) -> dict[str, Any]:
    """Turns a PyTorch weights file into a checkpoint directory, all or nothing.

    ``Restorer.from_checkpoint``, eval.py and ``config.init_from`` take the directory. Beside the
    checkpoint and its configuration it holds ``card.json``, which says where the weights are from.

    Args:
        name: Network name, as for :func:`lcdnet_jax.networks.create`.
        path: The file, see :func:`read_state_dict`.
        output: The directory to write.
        network_kwargs: Arguments of :func:`lcdnet_jax.networks.create`.
        force: Replace ``output`` where it is an earlier conversion.

    Returns:
        What ``card.json`` holds: "network", its "kwargs" and "channels", the number of
        "parameters", the "input_range" that the weights were trained for, the "source" (the
        file's name and SHA-256), the keys "dropped" as unused, and the version of "lcdnet_jax".

    Raises:
        ImportError, OSError, ValueError: As :func:`read_state_dict` and :func:`from_torch`; also
            for an output that may not be replaced or cannot be written.
        CheckpointError: If the disk refuses.
    """
    output = pathlib.Path(output).resolve()
    _check_free(output, force)
    layout = _layout(name)
    module, config = _network(name, network_kwargs or {})
    state_dict = read_state_dict(path)
    described = f"{name} with {dict(network_kwargs or {})}"
    variables, dropped = _converted(module, layout, state_dict, described)
    with open(path, "rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    card = {
        "network": name,
        "kwargs": config.network.kwargs.to_dict(),
        "channels": config.data.channels,
        "parameters": sum(leaf.size for leaf in jax.tree.leaves(variables["params"])),
        "input_range": list(getattr(module, "input_range", (0.0, 1.0))),
        "source": {"file": pathlib.Path(path).name, "sha256": digest},
        "dropped": dropped,
        "lcdnet_jax": __version__,
    }
    try:
        output.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=f".{output.name}-", dir=output.parent) as scratch:
            made = pathlib.Path(scratch) / "new"
            _write(made, variables, config, card)
            old = made.with_name("old")  # deleted with the scratch directory
            if output.exists():
                output.rename(old)
            try:
                made.rename(output)
            except BaseException:
                if old.exists():
                    old.rename(output)
                raise
    except OSError as error:
        raise OSError(
            f"cannot write {output}: {error.strerror or error}; choose a writable directory on a "
            "disk with free space"
        ) from error
    return card


# What a converted checkpoint holds, and what eval.py adds to it.
_CONTENT = {"config.json", "card.json", "checkpoints", "eval"}


def _check_free(output: pathlib.Path, force: bool) -> None:
    """Raises ValueError if the output exists and may not be replaced."""
    if not output.exists():
        return
    if not output.is_dir():
        raise ValueError(f"{output} is a file; give a directory")
    content = {entry.name for entry in output.iterdir()}
    if content and not force:
        raise ValueError(f"{output} is not empty; choose another directory, or --force")
    if content and not ("card.json" in content and content <= _CONTENT):
        shown = ", ".join(sorted(content - _CONTENT)[:4]) or "no card.json"
        raise ValueError(
            f"{output} is no earlier conversion ({shown}), and --force replaces nothing else; "
            "choose another directory"
        )


def _network(name: str, kwargs: Mapping[str, Any]) -> tuple[nn.Module, ConfigDict]:
    """The network, and what of a training's configuration describes it."""
    try:
        module = networks.create(name, **kwargs)
        dtype = jnp.dtype(module.dtype).name
    except TypeError as error:  # for a value of a kind that the network does not look for
        raise ValueError(f"{name} with {dict(kwargs)}: {error}") from error
    for field, value in (("data.channels", module.channels), ("network.dtype", dtype)):
        if wanted := config_lib.RULES[field](value):
            raise ValueError(f"{field.rpartition('.')[2]} must be {wanted}, got {value!r}")
    fields = {k: v for k, v in kwargs.items() if k not in ("channels", "dtype")}
    network = {"name": name, "kwargs": fields, "dtype": dtype}
    return module, ConfigDict({"network": network, "data": {"channels": module.channels}})


def _write(
    directory: pathlib.Path, variables: dict[str, Any], config: ConfigDict, card: dict[str, Any]
) -> None:
    directory.mkdir()
    config_lib.save(config, directory / "config.json")
    (directory / "card.json").write_text(json.dumps(card, indent=2) + "\n")
    writer = checkpoints.Checkpoints(directory, keep=1)
    try:
        writer.save(0, variables)
        writer.finish(0)
    finally:
        writer.close()


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
    try:
        import torch
    except ImportError as error:
        raise ImportError(
            f"reading a .pth file needs PyTorch, which cannot be imported ({error}); run\n"
            '  pip install "lcdnet-jax[torch]"'
        ) from error
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


def _described(value: Any) -> str:
    if isinstance(value, Mapping):
        kinds = {str(k): type(v).__name__ for k, v in list(value.items())[:4]}
        return "a dict of " + (", ".join(f"{k} ({kind})" for k, kind in kinds.items()) or "nothing")
    return f"a {type(value).__name__}"


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
