"""Files with weights of VGG19."""

import os

import numpy as np
import safetensors.numpy

from lcdnet_jax import storage
from lcdnet_jax.convert.state_dict_file import read_state_dict
from lcdnet_jax.networks import vgg


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
            data = storage.read_bytes(storage.to_path(path))
        except storage.StorageError:
            raise
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
