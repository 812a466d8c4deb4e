"""The table of objectives, and the checks that read it."""

import pytest
from ml_collections import ConfigDict

from configs import sr_ikc, tiny
from lcdnet_jax import losses, networks
from lcdnet_jax.config import OBJECTIVES, ConfigError, validate


def problems(config) -> list[str]:
    with pytest.raises(ConfigError) as error:
        validate(config)
    return str(error.value).splitlines()


def test_rows():
    assert set(OBJECTIVES) == {
        "supervised", "noise2noise", "noise2self", "gan",
        "ikc_sftmd", "ikc_predictor", "ikc_corrector",
    }  # fmt: skip
    correction = ["ikc_sftmd", "ikc_predictor", "ikc_corrector"]
    assert [name for name, row in OBJECTIVES.items() if row.needs_kernels] == correction
    assert [name for name, row in OBJECTIVES.items() if row.network == "ikc"] == correction
    compared = [name for name, row in OBJECTIVES.items() if row.compares_with_clean]
    assert compared == ["supervised", "gan", *correction]
    for row in OBJECTIVES.values():
        assert row.network is None or row.network in networks.available()
        assert row.losses is None or set(row.losses.values) <= set(losses.NAMES)


@pytest.mark.parametrize("objective", OBJECTIVES)
def test_messages_name_value_and_objective(objective):
    row = OBJECTIVES[objective]
    for allowed in (row.kinds, row.losses):
        if allowed is not None:
            text = allowed.message.format(value="VALUE", objective=objective)
            assert repr("VALUE") in text
            assert repr(objective) in text
            assert "{" not in text


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        (
            {"objective": "noise2noise", "degradation.kind": "none"},
            "makes the second noisy copy itself, for config.degradation.kind 'awgn', not 'none'",
        ),
        (
            {"objective": "noise2noise", "degradation.where": "host"},
            "config.objective 'noise2noise' makes both noisy copies on the device; set "
            "config.degradation.where to 'device'",
        ),
        (
            {"objective": "noise2self", "degradation.kind": "jpeg"},
            "config.objective 'noise2self' is for noise, but config.degradation.kind is 'jpeg'",
        ),
        (
            {"objective": "noise2self", "loss": "l1_fft"},
            "config.loss 'l1_fft' compares whole spectra, but config.objective 'noise2self' some",
        ),
        (
            {"objective": "gan", "gan.vgg": "a", "loss": "l1", "data.crop": 48},
            "config.data.crop (48) is not a multiple of 32, as the critic of config.objective "
            "'gan' needs it; use 32",
        ),
        (
            {"objective": "gan", "loss": "l1", "data.crop": 32},
            "config.gan.perceptual_weight (1.0) needs weights of VGG19",
        ),
        (
            {"objective": "gan", "gan.vgg": "a", "loss": "l1", "data.crop": 32, "accumulate": 2},
            "config.accumulate (2) cuts the batch",
        ),
        (
            {"objective": "gan", "gan.vgg": "a", "loss": "l1", "data.crop": 32, "batch_size": 1},
            "leave the critic one value per channel",
        ),
        (
            {"objective": "gan", "gan.vgg": "a", "data.crop": 32, "loss": "sse"},
            "config.loss 'sse' is not one of the pixel losses of config.objective 'gan'",
        ),
        (
            {"objective": "gan", "gan.vgg": "a", "data.crop": 32, "loss": "l1",
             "dct_loss_weight": 1.0},
            "config.dct_loss_weight (1.0) is not used by config.objective 'gan'; set it to 0",
        ),
        (
            {"objective": "ikc_sftmd"},
            "config.objective 'ikc_sftmd' and config.network.name 'sadnet' do not go together",
        ),
    ],
    ids=str,
)  # fmt: skip
def test_fields_that_do_not_suit(fields, message):
    config = tiny.get_config()
    config.update_from_flattened_dict(fields)
    (found,) = problems(config)
    assert message in found


def test_a_network_of_its_own_objectives():
    config = sr_ikc.get_config()
    validate(config)
    config.objective = "supervised"
    (found,) = problems(config)
    assert "'supervised' and config.network.name 'ikc' do not go together" in found
    names = "'ikc_sftmd', 'ikc_predictor', 'ikc_corrector'"
    assert f": {names} train the network 'ikc', in turn, and no other" in found
    config = sr_ikc.get_config()
    config.degradation.options = ConfigDict({"low_resolution": {"scale": 4}})
    (found,) = problems(config)
    assert "needs kernels to estimate; set config.degradation.options.low_resolution.ker" in found
