"""Files of PyTorch with a state dict. No code of a file is run."""

import os
import pathlib
import re
import warnings
import zipfile
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from lcdnet_jax import storage

# Largest factor, and bytes beyond it, by which the content of a file may exceed the file.
_EXPANSION = 8
_SLACK = 2**20
# Entries of a file that may hold the state dict. "params_ema" are averaged weights.
_WRAPPERS = ("state_dict", "params_ema", "params")


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
    path = storage.to_path(path)
    try:
        with storage.local_file(path) as local, open(local, "rb") as file:
            empty = not file.read(1)
            if not empty:
                return _read(torch, path, local)
    except storage.StorageError:
        raise
    except OSError as error:
        raise OSError(f"cannot read {path}: {error.strerror}; give a .pth or .pt file") from error
    raise ValueError(f"{path} is empty; download it again")


def _read(torch: Any, path: pathlib.Path, local: pathlib.Path) -> dict[str, np.ndarray]:
    """Reads the local copy of a file, see :func:`read_state_dict`."""
    size = local.stat().st_size
    _check_archive(path, local, size)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # warns about pickles that it then rejects
            loaded = torch.load(local, map_location="cpu", weights_only=True)
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
    opened = open_state_dict(loaded, str(path), lambda value: isinstance(value, torch.Tensor))
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


def open_state_dict(loaded: Any, where: str, is_tensor: Callable[[Any], bool]) -> Mapping[str, Any]:
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


def _check_archive(path: pathlib.Path, local: pathlib.Path, size: int) -> None:
    """Raises ValueError for a zip archive that grows far beyond its size; torch.save's do not."""
    if not zipfile.is_zipfile(local):
        return
    try:
        with zipfile.ZipFile(local) as file:
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


def _describe(value: object) -> str:
    if isinstance(value, Mapping):
        kinds = {str(k): type(v).__name__ for k, v in list(value.items())[:4]}
        return "a dict of " + (", ".join(f"{k} ({kind})" for k, kind in kinds.items()) or "nothing")
    return f"a {type(value).__name__}"
