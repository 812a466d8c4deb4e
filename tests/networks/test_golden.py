"""Networks against the numbers of the authors' PyTorch modules in tests/golden."""

import functools
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from lcdnet_jax import convert, networks
from tests import golden_files
from tests.legacy_pth import read_pth
from tests.networks.by_hand import quick_jit

SADNET = {"width": 8, "offset_width": 8, "groups": 8}
NAFNET = {
    "width": 16,
    "enc_blocks": (1, 1, 1, 2),
    "mid_blocks": 1,
    "dec_blocks": (1, 1, 1, 1),
}
RESTORMER = {"width": 16, "blocks": (1, 1, 1, 2), "refinement_blocks": 1, "heads": (1, 2, 4, 8)}
# File, our network, its fields.
CASES = {
    "buifd": ("buifd", {}),
    "dncnn_rl": ("dncnn", {}),
    "memnet": ("memnet", {}),
    "nafnet": ("nafnet", NAFNET),
    "nafnet_local_train32": ("nafnet", {**NAFNET, "local_pool": 48}),
    "rcan_x2_small": ("rcan", {"scale": 2, "groups": 2, "blocks": 2, "features": 32}),
    "restormer_biasfree_gray": ("restormer", {**RESTORMER, "channels": 1, "norm_bias": False}),
    "restormer_withbias_color": ("restormer", RESTORMER),
    "restormer_withbias_dual": ("restormer", {**RESTORMER, "channels": 6}),
    "ridnet": ("ridnet", {}),
    "rrdb_x4_small": ("rrdb", {"scale": 4, "blocks": 2, "features": 16, "growth": 8}),
    "sadnet_color": ("sadnet", SADNET),
    "sadnet_gray": ("sadnet", {**SADNET, "channels": 1}),
    "unet_n2n": ("unet_n2n", {}),
}
# The authors' RRDB makes these layers and never calls them.
DEAD = {"rrdb": ("upconv", "HRconv", "conv_last")}
EACH = pytest.mark.parametrize("file", CASES)
# Of networks that other files are of, too.
VARIANTS = ("nafnet_local_train32", "restormer_biasfree_gray", "restormer_withbias_dual")


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


@pytest.mark.parametrize(
    "file", [pytest.param(f, marks=pytest.mark.extended) if f in VARIANTS else f for f in CASES]
)
def test_float32(file):
    found = outputs(file, jnp.float32)
    assert all(array.dtype == jnp.float32 for array in found)
    assert_golden(file, found, 1e-5)


@pytest.mark.extended
@EACH
def test_float64(file):
    with jax.enable_x64(True):
        assert_golden(file, outputs(file, jnp.float64), 1e-12)


@pytest.mark.extended
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


class TestOfficialNumbers:
    CASES = (
        ("dncnn", "dncnn_official_regular", "dncnn_gray_regular"),
        ("dncnn", "dncnn_official_sfm", "dncnn_gray_sfm_r0.85_s0.15"),
        ("memnet", "memnet_official_regular", "memnet_gray_regular"),
        ("memnet", "memnet_official_sfm", "memnet_gray_sfm_r0.85_s0.15"),
        ("ridnet", "ridnet_gray", None),
        ("unet_n2n", "unet_n2n", None),
    )

    @staticmethod
    @functools.cache
    def apply(name):
        return quick_jit(networks.create(name).apply)

    @pytest.fixture
    def case(self, golden, shared_data):
        """Loader of a golden file: weights, input, output (NHWC)."""

        def load(file, weights):
            data = golden(file)
            prefix = "state_dict/"
            state = {k.removeprefix(prefix): v for k, v in data.items() if k.startswith(prefix)}
            if weights is not None:
                state = read_pth(shared_data(f"weights/sfm/{weights}.pth"))
            return state, *(data[k].transpose(0, 2, 3, 1) for k in ("input", "output"))

        return load

    @pytest.mark.parametrize(("name", "file", "weights"), CASES)
    def test_float32(self, case, name, file, weights):
        state, x, expected = case(file, weights)
        variables = convert.from_torch(name, state)
        actual = self.apply(name)(variables, jnp.asarray(x))
        np.testing.assert_allclose(actual, expected, rtol=0, atol=1e-4 * np.abs(expected).max())

    def test_float64(self, case):
        state, x, expected = case(*self.CASES[0][1:])
        variables = convert.from_torch("dncnn", state)
        with jax.enable_x64(True):
            module = networks.create("dncnn", dtype=jnp.float64)
            variables = jax.tree.map(lambda a: jnp.asarray(a, jnp.float64), variables)
            actual = quick_jit(module.apply)(variables, jnp.asarray(x, jnp.float64))
        np.testing.assert_allclose(actual, expected, rtol=0, atol=1e-10 * np.abs(expected).max())

    def test_keys_of_published_files(self, case):
        state, *_ = case(*self.CASES[0][1:])
        assert all(key.startswith("module.") for key in state)
        variables = convert.from_torch("dncnn", state)
        stats = variables["batch_stats"]["dncnn"]["bn_15"]
        np.testing.assert_array_equal(stats["mean"], state["module.dncnn.dncnn.45.running_mean"])
        np.testing.assert_array_equal(stats["var"], state["module.dncnn.dncnn.45.running_var"])
        kernel = variables["params"]["dncnn"]["conv_16"]["kernel"]
        np.testing.assert_array_equal(
            kernel, state["module.dncnn.dncnn.47.weight"].transpose(2, 3, 1, 0)
        )

    def test_every_problem_is_listed(self, case):
        state, *_ = case(*self.CASES[2][1:])
        state["module.feature_extractor.bn.running_var"] = np.ones(3, np.float32)
        state["module.extra.weight"] = np.ones(3, np.float32)
        del state["module.dense_memory.5.gate_unit.conv.weight"]
        del state["module.dense_memory.0.recursive_unit.3.relu_conv2.bn.running_mean"]
        with pytest.raises(ValueError, match="not the weights of memnet") as error:
            convert.from_torch("memnet", state)
        for part in (
            "feature_extractor.bn.running_var gives (3,), the network needs (1,)",
            "unknown: extra.weight",
            "dense_memory.5.gate_unit.conv.weight",
            "dense_memory.0.recursive_unit.3.relu_conv2.bn.running_mean",
        ):
            assert part in str(error.value)


class TestOfficialModules:
    CASES = (
        ("rcan", "rcan_x2_small", {"scale": 2, "groups": 2, "blocks": 2, "features": 32}),
        ("rrdb", "rrdb_x4_small", {"scale": 4, "blocks": 2, "features": 16, "growth": 8}),
    )
    EACH = pytest.mark.parametrize(("name", "file", "kwargs"), CASES)
    DEAD = r"(upconv[1-4]|HRconv|conv_last)\.(weight|bias)"

    @pytest.fixture
    def case(self, golden):
        """Loader of a golden file: weights, input, output (NHWC)."""

        def load(file):
            data = golden(file)
            prefix = "state_dict/"
            state = {k.removeprefix(prefix): v for k, v in data.items() if k.startswith(prefix)}
            return state, *(data[k].transpose(0, 2, 3, 1) for k in ("input", "output"))

        return load

    @EACH
    def test_float32(self, case, name, file, kwargs):
        state, x, expected = case(file)
        module = networks.create(name, **kwargs)
        actual = quick_jit(module.apply)(convert.from_torch(name, state, **kwargs), jnp.asarray(x))
        np.testing.assert_allclose(actual, expected, rtol=0, atol=1e-4 * np.abs(expected).max())

    @pytest.mark.extended
    @EACH
    def test_float64(self, case, name, file, kwargs):
        state, x, expected = case(file)
        variables = convert.from_torch(name, state, **kwargs)
        with jax.enable_x64(True):
            module = networks.create(name, dtype=jnp.float64, **kwargs)
            variables = jax.tree.map(lambda a: jnp.asarray(a, jnp.float64), variables)
            actual = quick_jit(module.apply)(variables, jnp.asarray(x, jnp.float64))
        np.testing.assert_allclose(actual, expected, rtol=0, atol=1e-10 * np.abs(expected).max())

    @EACH
    def test_dead_layers_are_reported_and_the_others_come_back(self, case, name, file, kwargs):
        state, *_ = case(file)
        variables, dropped = convert.convert_state_dict(name, state, kwargs)
        dead = sorted(key for key in state if re.fullmatch(self.DEAD, key))
        assert dropped == dead
        assert len(dead) == (12 if name == "rrdb" else 0)
        again = convert.to_torch(name, variables, **kwargs)
        assert sorted(again) == sorted(set(state) - set(dead))
        for key, array in again.items():
            np.testing.assert_array_equal(array, state[key])
        assert convert.convert_state_dict(name, again, kwargs)[1] == []  # dead layers may be absent

    @EACH
    def test_every_problem_is_listed(self, case, name, file, kwargs):
        state, *_ = case(file)
        state["module.extra.weight"] = np.ones(3, np.float32)
        state["tail.1.bias"] = np.ones(2, np.float32)
        lost = {
            "rcan": "body.1.body.1.body.3.conv_du.2.bias",
            "rrdb": "RRDB_trunk.1.RDB2.conv4.bias",
        }
        del state[lost[name]]
        with pytest.raises(ValueError, match=f"not the weights of {name}") as error:
            convert.from_torch(name, state, **kwargs)
        for part in (
            f"missing: {lost[name]}\n",
            "unknown: extra.weight\n",
            "tail.1.bias gives (2,), the network needs (1,)",
        ):
            assert part in str(error.value)

    @EACH
    def test_another_scale_is_refused(self, case, name, file, kwargs):
        state, *_ = case(file)
        with pytest.raises(ValueError, match=r"tail\.0\.0\.weight gives \(\d+, \d+, 3, 3\), the"):
            convert.from_torch(name, state, **kwargs | {"scale": 3})
