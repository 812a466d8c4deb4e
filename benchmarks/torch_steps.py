"""PyTorch's side of the benchmarks: forward passes and training steps of the peers, ready to time.

Import it only where a peer is asked for.
"""

import functools
from collections.abc import Callable, Mapping
from typing import Any

import flax.linen
import jax
import numpy as np

from benchmarks import torch_peers  # says what to install where PyTorch is missing
from benchmarks.timing import Call, Peer

# isort: split
import torch
import torch.nn.functional as F
from torch import Tensor

LEARNING_RATE = 1e-3
FIRST_LOSSES = 2  # of a new network, which are compared

Makers = dict[str, Callable[[], Peer]]
_FORMATS = {"contiguous": torch.contiguous_format, "channels_last": torch.channels_last}


@functools.cache
def device() -> torch.device:
    """The device of JAX, set up as fast as PyTorch's users set it up.

    Raises:
        RuntimeError: PyTorch does not see it.
    """
    backend = jax.default_backend()
    if backend == "cpu":
        torch.set_num_threads(1)  # as many as cores, see timing.use_one_core
        return torch.device("cpu")
    if backend != "gpu" or not torch.cuda.is_available():
        raise RuntimeError(
            f"JAX runs on {backend}, which PyTorch {torch.__version__} does not see; install a "
            "build for that device, or measure without --peer"
        )
    torch.backends.cuda.matmul.allow_tf32 = True
    torch.backends.cudnn.allow_tf32 = True
    torch.backends.cudnn.benchmark = True
    return torch.device("cuda")


def network_makers(
    name: str,
    module: flax.linen.Module,
    variables: Mapping[str, Any],
    images: np.ndarray,
    target: np.ndarray | None,
    *,
    dtype: str,
    compiled: bool = False,
) -> Makers:
    """Peers of a forward pass, or with ``target`` of a training step, in several forms.

    Args:
        name: Network.
        module: Our module.
        variables: Its variables.
        images: ``[N, H, W, C]``.
        target: The same for the mean squared error that a step of Adam lessens, or None.
        dtype: "float32", with TF32 on CUDA, or "bfloat16", by autocast.
        compiled: Also those by ``torch.compile``, which takes its time.

    Returns:
        Makers of peers by form. Their values are the output ``[N, H, W, C]``, or the first losses.
    """
    if device().type == "cuda":
        torch.cuda.empty_cache()
    deform_forms: list[str | None] = [*_deform_forms()] if name == "sadnet" else [None]
    makers: Makers = {}
    for memory_format in _FORMATS:
        for deform_form in deform_forms:
            for mode in (None, "reduce-overhead") if compiled else (None,):
                make = functools.partial(
                    torch_peers.network, name, module, variables, deform_form=deform_form
                )
                parts = ("torch", memory_format, deform_form, mode and f"compile {mode}")
                makers[" ".join(filter(None, parts))] = functools.partial(
                    _network_peer, make, images, target, memory_format, dtype, mode
                )
    return makers


def _deform_forms() -> list[str]:
    """On CUDA only the compiled operation, where it is there; on a CPU it may lose."""
    fastest = torch_peers.default_deform_form(device())
    if fastest == "torchvision":
        return [fastest]
    try:
        import torchvision  # noqa: F401
    except ImportError:
        return ["grid_sample"]
    return ["grid_sample", "torchvision"]


def _network_peer(
    make: Callable[[], torch.nn.Module],
    images: np.ndarray,
    target: np.ndarray | None,
    memory_format: str,
    dtype: str,
    mode: str | None,
) -> Peer:
    before = _allocated_bytes()
    form = _FORMATS[memory_format]
    x, y = (
        None if array is None else torch.from_numpy(array.transpose(0, 3, 1, 2).copy()).to(device())
        for array in (images, target)
    )
    assert x is not None
    x = x.to(memory_format=form)
    net = make().to(device(), memory_format=form)
    run = torch.compile(net, mode=mode) if mode else net
    autocast = functools.partial(
        torch.autocast, device().type, torch.bfloat16, enabled=dtype == "bfloat16"
    )
    if y is None:
        call = _forward(net.eval(), run, x, autocast)
        values = call().float().permute(0, 2, 3, 1).cpu().numpy()
    else:
        call = _training(net.train(), run, x, y.to(memory_format=form), autocast)
        values = np.array([call().item() for _ in range(FIRST_LOSSES)])
    return Peer(call, values, _measure_peak(call, before))


def _forward(
    net: torch.nn.Module, run: Callable[[Tensor], Tensor], x: Tensor, autocast: Callable[[], Any]
) -> Call:
    def forward() -> Tensor:
        with torch.inference_mode(), autocast():
            return run(x)

    return Call(forward, _wait)


def _training(
    net: torch.nn.Module,
    run: Callable[[Tensor], Tensor],
    x: Tensor,
    y: Tensor,
    autocast: Callable[[], Any],
) -> Call:
    optimizer = torch.optim.Adam(net.parameters(), lr=LEARNING_RATE, fused=True)

    def step() -> Tensor:
        optimizer.zero_grad(set_to_none=True)
        with autocast():
            loss = F.mse_loss(run(x).float(), y)
        loss.backward()
        optimizer.step()
        return loss.detach()

    return Call(step, _wait)


def deform_makers(
    inputs: tuple[np.ndarray, ...], cotangent: np.ndarray | None, *, dtype: str
) -> Makers:
    """Peers of the deformable convolution, or with ``cotangent`` of it and its gradients.

    Args:
        inputs: Those of :func:`lcdnet_jax.ops.deform_conv2d`, float32.
        cotangent: Gradient of the output ``[N, H, W, O]``, or None.
        dtype: Of ``x``; the others stay float32.

    Returns:
        Makers of peers by form. Their values are those of ours, in the same order and layout.
    """
    device()
    forms = sorted({"grid_sample", *_deform_forms()})
    return {
        f"torch {form}": functools.partial(_deform_peer, form, inputs, cotangent, dtype)
        for form in forms
    }


def _deform_peer(
    form: str, inputs: tuple[np.ndarray, ...], cotangent: np.ndarray | None, dtype: str
) -> Peer:
    before = _allocated_bytes()
    tensors = [t.to(device()) for t in torch_peers.deform_inputs_from_jax(*inputs) if t is not None]
    tensors[0] = tensors[0].to(getattr(torch, dtype))

    def forward() -> Tensor:
        with torch.inference_mode():
            return torch_peers.deform_conv2d(*tensors, form=form)

    if cotangent is None:
        call = Call(forward, _wait)
        return Peer(call, (_to_channels_last(call()),), _measure_peak(call, before))
    for tensor in tensors:
        tensor.requires_grad_()
    pull = torch.from_numpy(cotangent.transpose(0, 3, 1, 2).copy())
    pull = pull.to(device(), getattr(torch, dtype))

    def gradient() -> tuple[Tensor, ...]:
        y = torch_peers.deform_conv2d(*tensors, form=form)
        return (y.detach(), *torch.autograd.grad(y, tensors, pull))

    call = Call(gradient, _wait)
    y, x, offset, mask, kernel, bias = call()
    n, height, width, groups, taps = inputs[2].shape
    values = (
        _to_channels_last(y),
        _to_channels_last(x),
        _to_channels_last(offset).reshape(n, height, width, groups, taps, 2),
        _to_channels_last(mask).reshape(n, height, width, groups, taps),
        kernel.permute(2, 3, 1, 0).cpu().numpy(),
        bias.cpu().numpy(),
    )
    return Peer(call, values, _measure_peak(call, before))


def _to_channels_last(x: Tensor) -> np.ndarray:
    """``[N, C, H, W]`` with the channels last, in NumPy."""
    return x.float().permute(0, 2, 3, 1).cpu().numpy()


def _wait(result: Any) -> None:
    if device().type == "cuda":
        torch.cuda.synchronize()


def _allocated_bytes() -> int:
    return torch.cuda.memory_allocated() if device().type == "cuda" else 0


def _measure_peak(call: Call, before: int) -> int | None:
    """Most memory of another run beyond what was taken before; None on a CPU."""
    if device().type != "cuda":
        return None
    torch.cuda.reset_peak_memory_stats()
    call()
    return torch.cuda.max_memory_allocated() - before
