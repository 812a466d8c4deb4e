"""BUIFD against a slow reference, and its names in PyTorch files."""

import jax
import numpy as np
import pytest

from lcdnet_jax import convert, networks
from tests import golden_files
from tests.networks.by_hand import (
    conv,
    image,
    quick_jit,
    stack_by_hand,
    variables_of,
)
from tests.networks.every_network import TINY


@pytest.mark.parametrize("channels", [1, 3])
def test_buifd_by_hand(channels):
    module = networks.create("buifd", channels=channels, **TINY["buifd"])
    x = image(2, 7, 9, channels)
    variables = variables_of(module, channels)
    params, stats = variables["params"], variables["batch_stats"]
    noisy = np.asarray(x, np.float64)
    prior = noisy - stack_by_hand(noisy, params["dncnn"], stats["dncnn"], 3)
    logit = stack_by_hand(noisy, params["noisecnn"], stats["noisecnn"], 7)
    level = 1 / (1 + np.exp(-logit))
    fused = np.concatenate([noisy, prior, level, noisy * (1 - level), prior * level], axis=-1)
    for i in range(3):
        fused = conv(fused, params[f"fusion_{i}"])

    restored, map_ = quick_jit(lambda x: module.apply(variables, x, return_level=True))(x)
    np.testing.assert_allclose(map_, level, atol=1e-5)
    np.testing.assert_allclose(restored, fused, atol=1e-5 * np.abs(fused).max())
    alone = jax.eval_shape(module.apply, variables, x)
    assert (alone.shape, alone.dtype) == (x.shape, x.dtype)
    assert level.std() > 0.01


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
        convert.from_torch("buifd", {"other": np.ones(1, np.float32)})
