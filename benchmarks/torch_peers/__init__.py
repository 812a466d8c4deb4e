"""Our networks in PyTorch: the same math with the same weights, as a fair peer in speed.

    peer = network("sadnet", module, variables).to(memory_format=torch.channels_last).eval()
    with torch.inference_mode():
        restored = peer(images)                      # [N, C, H, W] in [0, 1]

Written as one writes PyTorch: eager, whole-tensor operations, for either memory format. For
bfloat16 run the module, whose parameters are float32, under ``torch.autocast``: as in the Flax
module, positions, transforms, normalization and softmax then stay in float32, and what passes
between layers is bfloat16.

Names of parameters are those of :func:`lcdnet_jax.convert.to_torch`. Networks are dictionaries of
modules, because their layers are numbered. As ``torch_steps`` and ``torch_loader``, this package is
imported only where a peer is asked for.
"""

import dataclasses
from collections.abc import Mapping
from typing import Any

import flax.linen

from lcdnet_jax import convert

try:
    import torch
except ImportError as error:
    raise ImportError(
        f"a PyTorch peer needs PyTorch, which cannot be imported ({error}); run\n"
        '  pip install "lcdnet-jax[torch]"'
    ) from error

from torch import nn

from benchmarks.torch_peers.deform_conv import (
    default_deform_form,
    deform_conv2d,
    deform_inputs_from_jax,
)
from benchmarks.torch_peers.dncnn import DnCNN
from benchmarks.torch_peers.lcdnet import LCDNet
from benchmarks.torch_peers.rcan import RCAN
from benchmarks.torch_peers.sadnet import SADNet

__all__ = [
    "NETWORKS",
    "default_deform_form",
    "deform_conv2d",
    "deform_inputs_from_jax",
    "network",
]

NETWORKS = ("sadnet", "lcdnet", "dncnn", "rcan")

# Fields that the peers follow: those of the presets, and what else changes sizes only.
_FIELDS = {
    "sadnet": (
        "channels", "width", "offset_width", "groups", "dilations", "rsab_scales", "unshuffle",
    ),
    "lcdnet": (
        "channels", "width", "enc_blocks", "mid_blocks", "dec_blocks", "msfm_kernels",
        "msfm_groups", "norm_eps",
    ),
    "dncnn": ("channels", "depth", "features"),
    "rcan": ("channels", "scale", "groups", "blocks", "features"),
}  # fmt: skip
# Fields that change no result of given variables.
_FREE = {"name", "parent", "dtype", "remat", "low_memory", "zero_init_offsets"}


def network(
    name: str,
    module: flax.linen.Module,
    variables: Mapping[str, Any],
    *,
    deform_form: str | None = None,
) -> nn.Module:
    """The peer of a Flax network, with its weights, float32, on the CPU, in training mode.

    It maps ``[N, C, H, W]`` as the Flax module maps ``[N, H, W, C]``, any H and W; RCAN's enlarges
    as that does. LCDNet's takes ``all_scales=True``, too. After a training step DnCNN's running
    variances differ: PyTorch keeps n / (n - 1) times the variance of a batch of n pixels.

    Args:
        name: One of :data:`NETWORKS`.
        module: The Flax network, of any preset.
        variables: Its variables.
        deform_form: SADNet's form of :func:`deform_conv2d`, later its attribute ``form``; None
            for :func:`default_deform_form`.

    Raises:
        ValueError: For a network without a peer, or fields that the peer does not follow.
    """
    if name not in NETWORKS:
        raise ValueError(f"no PyTorch peer of {name!r}; there are those of {', '.join(NETWORKS)}")
    fields = {field: getattr(module, field) for field in _FIELDS[name]}
    others = {
        field.name: getattr(module, field.name)
        for field in dataclasses.fields(module)
        if field.name not in {*fields, *_FREE} and getattr(module, field.name) != field.default
    }
    if others:
        raise ValueError(
            f"the PyTorch peer of {name} does not follow {others}; leave these fields at their "
            "defaults, or measure without a peer"
        )
    peer: nn.Module
    if name == "sadnet":
        peer = SADNet(**fields, form=deform_form)
    else:
        peer = {"lcdnet": LCDNet, "dncnn": DnCNN, "rcan": RCAN}[name](**fields)
    weights = convert.to_torch(name, variables, **fields)
    peer.load_state_dict({key: torch.from_numpy(value) for key, value in weights.items()})
    return peer
