"""LPIPS, a learned perceptual distance, computed by the optional package ``lpips`` (PyTorch).

Source: Zhang et al., "The Unreasonable Effectiveness of Deep Features as a Perceptual Metric", CVPR
2018. It is computed on the CPU. Install the package with ``pip install "lcdnet-jax[torch]"``.
"""

import functools
import importlib.util
import warnings
from typing import Any

import numpy as np

_MIN_SIDE = 31


def available() -> bool:
    """Tells whether the package ``lpips`` is installed, without loading it.

    Returns:
        True if it is installed.
    """
    return importlib.util.find_spec("lpips") is not None


def lpips(restored: np.ndarray, clean: np.ndarray) -> float:
    """Computes LPIPS of two images with the features of AlexNet, version 0.1.

    Args:
        restored: Image ``[H, W, C]`` in [0, 1], C = 1 or 3. Gray counts as three equal channels. H
            and W are at least 31, because AlexNet's last layers are empty for smaller images.
        clean: Image of the same shape, in [0, 1].

    Returns:
        The distance, at least 0; 0 for identical images.

    Raises:
        ImportError: If the package or PyTorch cannot be imported.
        OSError: If AlexNet's weights are neither found nor downloaded.
        ValueError: For other shapes.
    """
    shape = clean.shape
    good = len(shape) == 3 and shape[-1] in (1, 3) and min(shape[:2]) >= _MIN_SIDE
    if restored.shape != shape or not good:
        raise ValueError(
            f"LPIPS needs two images [H, W, 1] or [H, W, 3] of one shape, H and W at least "
            f"{_MIN_SIDE}, got {restored.shape} and {shape}; crop or convert them, or score under "
            "a protocol without LPIPS"
        )
    torch, network = _load_network()

    def planes(image: np.ndarray) -> Any:
        image = np.broadcast_to(image, (*image.shape[:2], 3))
        return torch.from_numpy(np.array(image.transpose(2, 0, 1)[None], np.float32, order="C"))

    with torch.no_grad():
        return float(network(planes(clean), planes(restored), normalize=True).item())


@functools.cache
def _load_network() -> tuple[Any, Any]:
    """Loads PyTorch and the network once; torchvision downloads AlexNet's weights if needed."""
    try:
        import lpips
        import torch
    except ImportError as error:
        raise ImportError(
            f"LPIPS needs PyTorch and the package lpips, which cannot be imported ({error}); run\n"
            '  pip install "lcdnet-jax[torch]"'
        ) from error
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # torchvision warns that its arguments were renamed
            return torch, lpips.LPIPS(net="alex", verbose=False)
    except OSError as error:
        raise OSError(
            f"LPIPS needs torchvision's weights of AlexNet, which could not be loaded ({error}); "
            "run it once where they can be downloaded, or copy them to torch.hub's checkpoints"
        ) from error
