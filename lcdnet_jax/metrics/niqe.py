"""NIQE, a score of an image without ground truth, computed by the package ``pyiqa`` (PyTorch).

Source: Mittal, Soundararajan and Bovik, "Making a 'Completely Blind' Image Quality Analyzer", IEEE
Signal Processing Letters 2013. It is computed on the CPU. Install the package with ``pip install
pyiqa``.
"""

import functools
import importlib.util
import warnings
from typing import Any

import numpy as np

_BLOCK = 96


def available() -> bool:
    """Tells whether the package ``pyiqa`` is installed, without loading it.

    Returns:
        True if it is installed.
    """
    return importlib.util.find_spec("pyiqa") is not None


def niqe(image: np.ndarray) -> float:
    """Computes NIQE of an image with the parameters of the authors, on luma.

    Args:
        image: Image ``[H, W, C]`` in [0, 1], C = 1 or 3. Gray counts as three equal channels. H and
            W are at least 96, the side of the blocks whose statistics are compared.

    Returns:
        The score. Lower is better.

    Raises:
        ImportError: If the package or PyTorch cannot be imported.
        OSError: If the parameters are neither found nor downloaded.
        ValueError: For another shape.
    """
    if image.ndim != 3 or image.shape[-1] not in (1, 3) or min(image.shape[:2]) < _BLOCK:
        raise ValueError(
            f"NIQE needs an image [H, W, 1] or [H, W, 3], H and W at least {_BLOCK}, got "
            f"{list(image.shape)}; leave NIQE off for smaller ones"
        )
    torch, metric = _load_metric()
    planes = np.broadcast_to(image, (*image.shape[:2], 3)).transpose(2, 0, 1)[None]
    with torch.no_grad():
        return float(metric(torch.from_numpy(np.array(planes, np.float32, order="C"))).item())


@functools.cache
def _load_metric() -> tuple[Any, Any]:
    """Loads PyTorch and the metric once; pyiqa downloads the parameters if needed."""
    try:
        import pyiqa
        import torch
    except ImportError as error:
        raise ImportError(
            f"NIQE needs PyTorch and the package pyiqa, which cannot be imported ({error}); run\n"
            "  pip install pyiqa"
        ) from error
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of its many dependencies
            return torch, pyiqa.create_metric("niqe", device="cpu")
    except OSError as error:
        raise OSError(
            f"NIQE needs the parameters that pyiqa downloads, which could not be loaded ({error}); "
            "run it once where they can be downloaded, or copy its folder of the torch.hub cache"
        ) from error
