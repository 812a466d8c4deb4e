"""Small networks with random weights, and comparisons to the last bit."""

import numpy as np
from flax.traverse_util import flatten_dict, unflatten_dict

from lcdnet_jax import networks
from lcdnet_jax.convert.variables import list_leaves

SMALL = {"depth": 3, "features": 4}  # of DnCNN
TINY = {
    "buifd": {"depth": 3, "features": 4},
    "dncnn": SMALL,
    "ikc": {"features": 4, "blocks": 2, "code_length": 3, "kernel_size": 5, "iterations": 2},
    "kmsr": {"features": 4, "blocks": 2},
    "lcdnet": {"width": 16, "enc_blocks": (1, 2, 1, 1)},
    "memnet": {"features": 4, "blocks": 2, "units": 2},
    "n3net": {"width": 2, "features": 4, "depth": 3, "patch": 4, "stride": 2, "window": 3},
    "nafnet": {"width": 4, "enc_blocks": (1, 2, 1, 1)},
    "rcan": {"scale": 2, "groups": 2, "blocks": 2, "features": 16},
    "restormer": {
        **{"width": 4, "blocks": (1, 2, 1, 1)},
        **{"refinement_blocks": 1, "heads": (1, 2, 2, 4)},
    },
    "ridnet": {"features": 16, "blocks": 1},
    "rrdb": {"scale": 4, "blocks": 2, "features": 4, "growth": 2},
    "sadnet": {"width": 4, "offset_width": 4, "groups": 2},
}


def drawn(name, seed=0, **kwargs):
    """Variables of a network, every number its own."""
    rng = np.random.default_rng(seed)
    shapes = list_leaves(networks.create(name, **kwargs))
    values = {path: rng.normal(size=leaf.shape) for path, leaf in shapes.items()}
    return unflatten_dict({path: value.astype(np.float32) for path, value in values.items()})


def assert_same(found, expected):
    """Of nested or flat dicts of arrays: the same names, types and bits."""
    found, expected = flatten_dict(dict(found)), flatten_dict(dict(expected))
    assert sorted(found) == sorted(expected)
    for name, array in expected.items():
        ours, theirs = np.asarray(found[name]), np.asarray(array)
        assert (ours.dtype, ours.shape) == (theirs.dtype, theirs.shape), name
        assert ours.tobytes() == theirs.tobytes(), name


def contents(directory):
    return {p.relative_to(directory): p.read_bytes() for p in directory.rglob("*") if p.is_file()}
