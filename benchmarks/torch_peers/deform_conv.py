"""Deformable convolution in PyTorch."""

import functools
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor


def deform_conv2d(
    x: Tensor,
    offset: Tensor,
    mask: Tensor | None,
    weight: Tensor,
    bias: Tensor | None,
    *,
    form: str,
) -> Tensor:
    """Modulated deformable convolution, 3x3, zero-padded by 1, stride 1.

    Samples are taken in float32 (float64 for float64) whatever ``x`` is.

    Args:
        x: ``[N, C, H, W]``.
        offset: ``[N, G * 9 * 2, H, W]``, by group, tap and (dy, dx), float32 or float64.
        mask: ``[N, G * 9, H, W]``, of ``offset``'s type, or None for 1.
        weight: ``[O, C, 3, 3]``.
        bias: ``[O]`` or None.
        form: "torchvision", its compiled operation, which knows no bfloat16 and runs in float32
            as a whole; or "grid_sample", PyTorch's bilinear sampling and a matrix product in
            ``x``'s type.

    Returns:
        ``[N, O, H, W]`` in ``x``'s type.

    Raises:
        ImportError: For "torchvision" where it cannot be imported.
        ValueError: For another form.
    """
    exact = torch.promote_types(x.dtype, torch.float32)
    if form == "torchvision":
        operation = _torchvision_operation()
        with torch.autocast(x.device.type, enabled=False):
            bias = None if bias is None else bias.to(exact)
            y = operation(x.to(exact), offset, weight.to(exact), bias, padding=1, mask=mask)
        return y.to(x.dtype)
    if form != "grid_sample":
        raise ValueError(f"form must be 'torchvision' or 'grid_sample', got {form!r}")

    n, channels, height, width = x.shape
    groups = offset.shape[1] // 18
    # Positions in grid_sample's units, in which the image reaches from -1 to 1.
    tap, row, column = (
        torch.arange(size, device=x.device, dtype=offset.dtype) for size in (3, height, width)
    )
    at_y = ((2 * (row + tap[:, None]) - 1) / height - 1).view(1, 1, 3, 1, height, 1)
    at_x = ((2 * (column + tap[:, None]) - 1) / width - 1).view(1, 1, 1, 3, 1, width)
    dy, dx = offset.view(n, groups, 3, 3, 2, height, width).unbind(4)
    grid = torch.stack([at_x + dx * (2 / width), at_y + dy * (2 / height)], dim=-1)
    samples = F.grid_sample(
        x.to(exact).reshape(n * groups, channels // groups, height, width),
        grid.view(n * groups, 9 * height, width, 2),
        align_corners=False,
    )
    samples = samples.view(n, groups, channels // groups, 9, height, width)
    if mask is not None:
        samples = samples * mask.view(n, groups, 1, 9, height, width)
    columns = samples.reshape(n, channels * 9, height * width).to(x.dtype)
    # Not matmul, which would turn the columns to fold the batch into them.
    matrices = weight.to(x.dtype).reshape(1, -1, 9 * channels).expand(n, -1, -1)
    if bias is None:
        y = torch.bmm(matrices, columns)
    else:
        y = torch.baddbmm(bias.to(x.dtype).view(1, -1, 1), matrices, columns)
    return y.view(n, -1, height, width)


def default_deform_form(device: torch.device) -> str:
    """What is fastest: "torchvision" on CUDA where it can be imported, else "grid_sample"."""
    if device.type != "cuda":
        return "grid_sample"
    try:
        _torchvision_operation()
    except ImportError:
        return "grid_sample"
    return "torchvision"


@functools.cache
def _torchvision_operation() -> Any:
    try:
        from torchvision.ops import deform_conv2d as operation
    except (ImportError, RuntimeError) as error:  # RuntimeError: made for another PyTorch
        raise ImportError(
            f"torchvision cannot be imported ({error}); install the version that belongs to "
            f"PyTorch {torch.__version__}, or choose the form 'grid_sample'"
        ) from error
    return operation


def deform_inputs_from_jax(
    x: Any, offset: Any, mask: Any | None, kernel: Any, bias: Any | None
) -> tuple[Tensor, Tensor, Tensor | None, Tensor, Tensor | None]:
    """Inputs of :func:`lcdnet_jax.ops.deform_conv2d` as those of :func:`deform_conv2d`.

    Args:
        x: ``[N, H, W, C]``.
        offset: ``[N, H, W, G, 9, 2]``.
        mask: ``[N, H, W, G, 9]`` or None.
        kernel: ``[3, 3, C, O]``.
        bias: ``[O]`` or None.

    Returns:
        Copies on the CPU, float64 where they were, otherwise float32.
    """
    n, height, width = offset.shape[:3]

    def tensor(array: Any, axes: tuple[int, ...]) -> Tensor:
        exact = np.float64 if array.dtype == np.float64 else np.float32
        return torch.from_numpy(np.array(np.asarray(array).transpose(axes), exact, order="C"))

    return (
        tensor(x, (0, 3, 1, 2)),
        tensor(offset, (0, 3, 4, 5, 1, 2)).view(n, -1, height, width),
        None if mask is None else tensor(mask, (0, 3, 4, 1, 2)).view(n, -1, height, width),
        tensor(kernel, (3, 2, 0, 1)),
        None if bias is None else tensor(bias, (0,)),
    )
