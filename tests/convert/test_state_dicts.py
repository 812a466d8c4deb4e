"""Round trips by PyTorch's names, to the last bit."""

import jax
import numpy as np
import pytest

from lcdnet_jax import convert, networks
from lcdnet_jax import weights as weights_lib
from tests.legacy_pth import read_pth
from tests.random_weights import SMALL, TINY, assert_same, drawn


class TestNames:
    """Round trips by PyTorch's names."""

    @pytest.mark.extended
    def test_own_names(self):
        """LCDNet's: numbered blocks, 1x1 convolutions for dense layers, factors, keywords."""
        variables = drawn("lcdnet", **TINY["lcdnet"])
        state_dict = convert.to_torch("lcdnet", variables, **TINY["lcdnet"])
        stage = variables["params"]["enc1"]
        blocks = stage["blocks"]
        for i in (0, 1):
            prefix = f"enc1.blocks.{i}"
            kernel = blocks["local_out"]["kernel"][i]
            np.testing.assert_array_equal(
                state_dict[f"{prefix}.local_out.weight"], kernel.transpose(3, 2, 0, 1)
            )
            depthwise = state_dict[f"{prefix}.first_3.weight"]
            assert depthwise.shape == (64, 1, 3, 3)
            np.testing.assert_array_equal(
                depthwise[5, 0], blocks["first_3"]["kernel"][i, :, :, 0, 5]
            )
            np.testing.assert_array_equal(
                state_dict[f"{prefix}.gamma"], blocks["gamma"][i][None, :, None, None]
            )
            np.testing.assert_array_equal(
                state_dict[f"{prefix}.norm1.weight"], blocks["norm1"]["scale"][i]
            )
            dense = state_dict[f"{prefix}.local_sca.weight"]
            np.testing.assert_array_equal(
                dense[:, :, 0, 0], blocks["local_sca"]["kernel"][i].transpose()
            )
            assert f"{prefix}.global_.out.bias" in state_dict
        assert "enc1.blocks.2.gamma" not in state_dict
        assert state_dict["enc1.msfm.in_.weight"].shape == (32, 32, 1, 1)
        assert state_dict["down0.weight"].shape == (32, 16, 2, 2)

    @pytest.mark.extended
    def test_a_block_is_missing(self):
        state_dict = convert.to_torch("lcdnet", drawn("lcdnet", **TINY["lcdnet"]), **TINY["lcdnet"])
        del state_dict["enc1.blocks.1.gamma"]
        state_dict["enc1.blocks.0.gamma"] = np.ones(32, np.float32)
        with pytest.raises(ValueError, match="not the weights of lcdnet") as error:
            convert.from_torch("lcdnet", state_dict, **TINY["lcdnet"])
        assert "missing: enc1.blocks.1.gamma\n" in str(error.value)
        wanted = "enc1.blocks.0.gamma gives (32,), the network needs (1, 32, 1, 1)"
        assert wanted in str(error.value)

    @pytest.mark.extended
    @pytest.mark.parametrize("name", networks.available())
    def test_every_network(self, name):
        kwargs = TINY.get(name, {})
        variables = drawn(name, **kwargs)
        state_dict = convert.to_torch(name, variables, **kwargs)
        assert sum(a.size for a in state_dict.values()) == sum(
            a.size for a in jax.tree.leaves(variables)
        )
        for array in state_dict.values():
            assert array.dtype == np.float32
            assert array.flags.c_contiguous
            assert array.flags.writeable
            assert not any(np.shares_memory(array, a) for a in jax.tree.leaves(variables))
        again = convert.from_torch(name, state_dict, **kwargs)
        assert_same(again, variables)
        assert_same(convert.to_torch(name, again, **kwargs), state_dict)

    @pytest.mark.parametrize(
        ("name", "file"),
        [
            ("dncnn", "dncnn_gray_regular"),
            ("dncnn", "dncnn_gray_sfm_r0.85_s0.15"),
            ("memnet", "memnet_gray_regular"),
            ("memnet", "memnet_gray_sfm_r0.85_s0.15"),
            ("unet_n2n", "unet_n2n_bsd_regular"),
            ("unet_n2n", "unet_n2n_bsd_sfm"),
        ],
    )
    def test_official_weights(self, shared_data, name, file):
        official = read_pth(shared_data(f"weights/sfm/{file}.pth"))
        state_dict = convert.to_torch(name, convert.from_torch(name, official))
        alive = {k.removeprefix("module."): a for k, a in official.items() if "num_batch" not in k}
        assert_same(state_dict, alive)

    @pytest.mark.extended
    @pytest.mark.parametrize(
        ("name", "file", "kwargs"),
        [
            ("sadnet", "sadnet_color", {"width": 8, "offset_width": 8}),
            ("sadnet", "sadnet_gray", {"width": 8, "offset_width": 8, "channels": 1}),
            ("ridnet", "ridnet_gray", {}),
        ],
    )
    def test_official_modules(self, golden, name, file, kwargs):
        prefix = "state_dict/"
        official = {k.removeprefix(prefix): a for k, a in golden(file).items() if prefix in k}
        variables = convert.from_torch(name, official, **kwargs)
        assert_same(convert.to_torch(name, variables, **kwargs), official)

    def test_other_variables(self):
        params = drawn("dncnn", **SMALL)["params"]["dncnn"]
        variables = {"params": {"dncnn": {**params, "x": np.ones(2)}}}
        with pytest.raises(ValueError, match=r"not variables of dncnn with {'depth': 3") as error:
            convert.to_torch("dncnn", variables, depth=3, features=5)
        for part in (
            "missing: batch_stats/dncnn/bn_1/mean; batch_stats/dncnn/bn_1/var\n",
            "unknown: params/dncnn/x\n",
            "params/dncnn/conv_0/kernel is (3, 3, 1, 4), the network needs (3, 3, 1, 5)",
        ):
            assert part in str(error.value)
        with pytest.raises(ValueError, match="not variables of dncnn"):
            weights_lib.create_weights("dncnn", variables, **SMALL)


class TestFormsOfStateDicts:
    """What training code wraps around a state dict."""

    STATE = convert.to_torch("dncnn", drawn("dncnn", **SMALL), **SMALL)

    @pytest.mark.parametrize("level", ["state_dict", "params_ema", "params"])
    def test_an_entry_is_opened(self, level):
        content = {"params": {"x": np.ones(1)}, "epoch": 3, "optimizer": {}} | {level: self.STATE}
        if level == "params_ema":
            content["params"] = {}
        found = convert.from_torch("dncnn", content, **SMALL)
        assert_same(found, convert.from_torch("dncnn", self.STATE, **SMALL))

    @pytest.mark.parametrize(
        "content",
        [
            {"epoch": 1, "iter": 9, "optimizers": [{"state": {}}], "schedulers": []},
            {"model": {"a": np.ones(1)}, "optimizer": {"state": {}, "param_groups": []}},
        ],
    )
    def test_the_state_of_an_optimizer(self, content):
        with pytest.raises(
            ValueError,
            match=r"contains no state dict .* a dict of .*: it is a checkpoint with the state of "
            "an optimizer. Give the file of the weights, or save them alone or as 'state_dict', ",
        ):
            convert.from_torch("dncnn", content, **SMALL)

    @pytest.mark.parametrize("content", [{}, {"a": 3}, {"weights": {"a": np.ones(1)}}])
    def test_no_state_dict(self, content):
        with pytest.raises(
            ValueError, match=r"the argument contains no state dict .*; save model\.st"
        ):
            convert.from_torch("dncnn", content, **SMALL)

    @pytest.mark.parametrize(
        ("dtype", "value", "message"),
        [
            (
                np.float32,
                np.nan,
                r"hold NaN or infinite numbers: \S+, \S+, \S+ and 4 more; give an earlier",
            ),
            (np.float64, 1e300, "hold NaN or infinite numbers"),  # not in float32
            (np.complex64, 1, r"are real numbers, but these are not: \S+ \(complex64\), "),
            (object, None, r"these are not: \S+ \(object\)"),
        ],
    )
    def test_weights_that_are_no_real_numbers(self, dtype, value, message):
        state = {key: np.full(array.shape, value, dtype) for key, array in self.STATE.items()}
        with pytest.raises(ValueError, match=message):
            convert.from_torch("dncnn", state, **SMALL)

    def test_unused_keys_may_hold_anything(self):
        unused = {"layer.num_batches_tracked": np.float32(np.nan)}
        expected = convert.from_torch("dncnn", self.STATE, **SMALL)
        found = convert.from_torch("dncnn", {**self.STATE, **unused}, **SMALL)
        jax.tree.map(np.testing.assert_array_equal, found, expected)
