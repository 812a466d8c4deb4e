"""Degradation, masking and mixup in words."""

import pytest
from ml_collections import ConfigDict

from configs import default
from lcdnet_jax import config as config_lib


def changed(**fields):
    config = default.get_config()
    config.update_from_flattened_dict(fields)
    return config


@pytest.mark.parametrize(
    ("fields", "text"),
    [
        ({}, "awgn, sigma 50, protocol float"),
        ({"degradation.sigma_min": 0.0, "degradation.spectrum": "low",
          "degradation.protocol": "float,8bit"},
         "awgn, sigma 0 to 50, spectrum low, protocol float,8bit"),
        ({"degradation.kind": "none"}, "none, pairs from disk"),
        ({"degradation.kind": "rain+jpeg",
          "degradation.options": ConfigDict({"jpeg": {"quality": 50}, "rain": {"kind": "light"}})},
         "rain+jpeg, jpeg.quality=50, rain.kind=light, protocol float"),
    ],
)  # fmt: skip
def test_degradation(fields, text):
    config = changed(**fields)
    assert config_lib.describe_degradation(config) == text
    assert config_lib.describe_degradation(config.to_dict()) == text  # as stored


@pytest.mark.parametrize(
    ("fields", "text"),
    [
        ({}, "none"),
        ({"sfm.rate": 0.5}, "targeted (center 0.85, sigma 0.15) at rate 0.5"),
        ({"sfm.rate": 1.0, "sfm.mode": "central"}, "central at rate 1"),
        ({"sfm.rate": 0.5, "sfm.mode": "uniform", "sfm.unselected": "zero", "sfm.target": "masked"},
         "uniform at rate 0.5, other images black, target masked"),
    ],
)  # fmt: skip
def test_masking(fields, text):
    assert config_lib.describe_masking(changed(**fields)) == text


@pytest.mark.parametrize(
    ("fields", "text"),
    [
        ({}, "none"),
        ({"mixup.rate": 1.0}, "Beta(1.2, 1.2) at rate 1"),
        ({"mixup.rate": 0.5, "mixup.beta": 0.2, "mixup.groups": 8},
         "Beta(0.2, 0.2) at rate 0.5 in 8 groups"),
    ],
)  # fmt: skip
def test_mixup(fields, text):
    assert config_lib.describe_mixup(changed(**fields)) == text
