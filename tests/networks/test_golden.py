"""Networks against the numbers of the authors' PyTorch modules in tests/golden."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from lcdnet_jax import convert, networks
from tests import golden_files

SADNET = {"width": 8, "offset_width": 8, "groups": 8}
# File, our network, its fields.
CASES = {
    "buifd": ("buifd", {}),
    "dncnn_rl": ("dncnn", {}),
    "memnet": ("memnet", {}),
    "rcan_x2_small": ("rcan", {"scale": 2, "groups": 2, "blocks": 2, "features": 32}),
    "ridnet": ("ridnet", {}),
    "rrdb_x4_small": ("rrdb", {"scale": 4, "blocks": 2, "features": 16, "growth": 8}),
    "sadnet_color": ("sadnet", SADNET),
    "sadnet_gray": ("sadnet", {**SADNET, "channels": 1}),
    "unet_n2n": ("unet_n2n", {}),
}
# The authors' RRDB makes these layers and never calls them.
DEAD = {"rrdb": ("upconv", "HRconv", "conv_last")}
EACH = pytest.mark.parametrize("file", CASES)


def quick_jit(function):
    """Compiled without LLVM's optimisation: these programs run once."""
    return jax.jit(function, compiler_options={"xla_backend_optimization_level": 0})


def outputs(file, dtype, **fields):
    """What our network gives for the file's input and weights, a list."""
    name, kwargs = CASES[file]
    module = networks.create(name, dtype=dtype, **kwargs, **fields)
    variables = convert.from_torch(name, golden_files.state_dict(file), **kwargs)
    variables = jax.tree.map(lambda leaf: jnp.asarray(leaf, dtype), variables)
    further = {"return_level": True} if name == "buifd" else {}
    apply = quick_jit(functools.partial(module.apply, **further))
    result = apply(variables, jnp.asarray(golden_files.image(file, "input"), dtype))
    return list(result) if further else [result]


def assert_golden(file, found, tolerance):
    keys = [key for key in golden_files.load(file) if key.startswith("output")]
    for key, array in zip(sorted(keys), found, strict=True):
        expected = golden_files.image(file, key)
        assert array.shape == expected.shape
        golden_files.assert_close(array, expected, tolerance)


@EACH
def test_float32(file):
    found = outputs(file, jnp.float32)
    assert all(array.dtype == jnp.float32 for array in found)
    assert_golden(file, found, 1e-5)


@EACH
def test_float64(file):
    with jax.enable_x64(True):
        assert_golden(file, outputs(file, jnp.float64), 1e-12)


@EACH
def test_state_dicts_come_back(file):
    """To the same names, shapes and bits."""
    name, kwargs = CASES[file]
    official = golden_files.state_dict(file)
    again = convert.to_torch(name, convert.from_torch(name, official, **kwargs), **kwargs)
    alive = {k for k in official if not k.startswith(DEAD.get(name, ()))}
    assert set(again) == alive
    assert (alive == set(official)) == (name not in DEAD)
    for key in alive:
        np.testing.assert_array_equal(again[key], official[key], strict=True)


def test_unet_with_the_range_of_microscopy():
    """The file's input is an image minus 0.5, which the network can do by itself."""
    kwargs = {"input_range": (-0.5, 0.5)}
    module = networks.create("unet_n2n", **kwargs)
    variables = convert.from_torch("unet_n2n", golden_files.state_dict("unet_n2n"), **kwargs)
    x = jnp.asarray(golden_files.image("unet_n2n", "input") + 0.5)
    found = np.asarray(quick_jit(module.apply)(variables, x)) - 0.5
    golden_files.assert_close(found, golden_files.image("unet_n2n", "output"), 1e-5)


def test_buifd_by_names_of_earlier_versions():
    """Files of these are still read: Flax paths with PyTorch's names of leaves."""
    official = golden_files.state_dict("buifd")
    wanted = convert.from_torch("buifd", official)
    former = {
        "dncnn.conv_0.weight": "dncnn.dncnn.0.weight",
        "dncnn.conv_16.weight": "dncnn.dncnn.47.weight",
        "noisecnn.conv_0.weight": "noisecnn.noisecnn.0.weight",
        "noisecnn.conv_6.weight": "noisecnn.noisecnn.17.weight",
    }
    for part, count in (("dncnn", 16), ("noisecnn", 6)):
        for i in range(1, count):
            former[f"{part}.conv_{i}.weight"] = f"{part}.{part}.{3 * i - 1}.weight"
            for leaf in ("weight", "bias", "running_mean", "running_var"):
                former[f"{part}.bn_{i}.{leaf}"] = f"{part}.{part}.{3 * i}.{leaf}"
    for i in range(3):
        former[f"fusion_{i}.weight"] = f"FinalFusionLayers.fusion_layers.{i}.weight"
    found = convert.from_torch("buifd", {old: official[new] for old, new in former.items()})
    jax.tree.map(np.testing.assert_array_equal, found, wanted)
    assert len(former) == len(official)


def test_buifd_errors_name_official_keys():
    with pytest.raises(ValueError, match=r"missing: .*dncnn\.dncnn\.0\.weight"):
        convert.from_torch("buifd", {})
