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

from lcdnet_jax.convert.state_dict_file import import_torch, read_state_dict
from lcdnet_jax.convert.state_dicts import convert_state_dict, from_torch, to_torch
from lcdnet_jax.convert.variables import check_arrays, check_variables
from lcdnet_jax.convert.vgg19 import read_vgg19

__all__ = [
    "check_arrays",
    "check_variables",
    "convert_state_dict",
    "from_torch",
    "import_torch",
    "read_state_dict",
    "read_vgg19",
    "to_torch",
]
