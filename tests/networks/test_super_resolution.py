"""Super-resolution networks, and those trained beside them: official numbers, slow references."""

import functools
import re

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from benchmarks import macs
from lcdnet_jax import Restorer, convert, networks
from lcdnet_jax.networks import _blocks
from lcdnet_jax.networks.costs import COSTS

TINY = {
    "kmsr": {"channels": 1, "features": 4, "blocks": 2},
    "rcan": {"scale": 2, "groups": 2, "blocks": 2, "features": 48},
    "rrdb": {"scale": 3, "blocks": 2, "features": 4, "growth": 3},
}

# Compiled without LLVM's optimisation: these programs run once or twice.
quick_jit = functools.partial(jax.jit, compiler_options={"xla_backend_optimization_level": 0})


def image(*shape):
    return np.random.default_rng(1).uniform(size=shape).astype(np.float32)


def codes(*shape):
    return np.random.default_rng(2).normal(size=shape).astype(np.float32)


def drawn(module, *inputs):
    """Variables as after some training: every number its own, so that none can be mixed up."""
    rng = np.random.default_rng(0)

    def draw(path, leaf):
        name = path[-1].key
        if name == "kernel":
            fan_in = np.prod(leaf.shape[-4:-1])
            value = rng.normal(0, fan_in**-0.5, leaf.shape)
        else:
            low, high = {"var": (0.5, 2), "scale": (0.5, 1.5)}.get(name, (-0.3, 0.3))
            value = rng.uniform(low, high, leaf.shape)
        return jnp.asarray(value, jnp.float32)

    shapes = jax.eval_shape(module.init, jax.random.key(0), *inputs)
    return jax.tree_util.tree_map_with_path(draw, shapes)


def size_of(tree):
    return sum(leaf.size for leaf in jax.tree.leaves(tree))


@pytest.fixture(scope="module", params=sorted(TINY))
def tiny(request):
    module = networks.create(request.param, **TINY[request.param])
    return module, drawn(module, image(1, 8, 8, 1)), quick_jit(module.apply)


# --- Layers by hand, in float64 -------------------------------------------------------------------


def exact(p):
    return jax.tree.map(lambda leaf: np.asarray(leaf, np.float64), p)


def conv(x, p, stride=1):
    """By shifted products, (size - 1) // 2 zeros around."""
    kernel = p["kernel"]
    size = kernel.shape[0]
    pad = (size - 1) // 2
    padded = np.pad(x, ((0, 0), (pad, pad), (pad, pad), (0, 0)))
    height, width = ((side + 2 * pad - size) // stride + 1 for side in x.shape[1:3])
    total = p.get("bias", 0)
    for i in range(size):
        for j in range(size):
            rows = slice(i, i + stride * (height - 1) + 1, stride)
            columns = slice(j, j + stride * (width - 1) + 1, stride)
            total = total + padded[:, rows, columns] @ kernel[i, j]
    return total


def dense(x, p):
    return x @ p["kernel"] + p["bias"]


def lrelu(x):
    return np.where(x > 0, x, 0.2 * x)


def relu(x):
    return np.maximum(x, 0)


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


def block_of(stacked, number):
    return jax.tree.map(lambda leaf: leaf[number], stacked)


def shuffle(x, factor):
    """Channel c f f + i f + j is pixel (i, j) of its cell."""
    n, height, width, channels = x.shape
    out = np.zeros((n, factor * height, factor * width, channels // factor**2), x.dtype)
    for k in range(channels):
        c, cell = divmod(k, factor**2)
        i, j = divmod(cell, factor)
        out[:, i::factor, j::factor, c] = x[..., k]
    return out


def kmsr_by_hand(x, p):
    y = relu(conv(x, p["input"]))
    for i in range(len(p["resblock_layer"]["conv1"]["kernel"])):
        block = block_of(p["resblock_layer"], i)
        y = relu(y + conv(relu(conv(y, block["conv1"])), block["conv2"]))
    return conv(y, p["output"])


def convnet_by_hand(x, p, halved_at):
    for i in range(sum(name.startswith("ConvNet") for name in p)):
        x = lrelu(conv(x, p[f"ConvNet_{2 * i}"], 2 if i in halved_at else 1))
    return x


def predictor_by_hand(x, p):
    return convnet_by_hand(x, p, (3,)).mean((1, 2))


def corrector_by_hand(x, code, p):
    seen = convnet_by_hand(x, p, (1, 3))
    known = lrelu(dense(lrelu(dense(code, p["code_dense_0"])), p["code_dense_2"]))
    known = np.broadcast_to(known[:, None, None], (*seen.shape[:3], known.shape[1]))
    y = np.concatenate([seen, known], axis=-1)
    for name in ("global_dense_0", "global_dense_2"):
        y = lrelu(conv(y, p[name]))
    return code + conv(y, p["global_dense_4"]).mean((1, 2))


def sft_by_hand(x, code, p):
    both = np.concatenate([x, np.broadcast_to(code, (*x.shape[:3], code.shape[-1]))], axis=-1)
    factor, shift = (
        conv(lrelu(conv(both, p[f"{name}_conv1"])), p[f"{name}_conv2"]) for name in ("mul", "add")
    )
    return x * sigmoid(factor) + shift


def sftmd_by_hand(x, code, p, factors):
    """Without clipping."""
    code = code[:, None, None]
    before = conv(lrelu(conv(lrelu(conv(x, p["conv1"])), p["conv2"])), p["conv3"])
    y = before
    for i in range(len(p["blocks"]["conv1"]["kernel"])):
        block = block_of(p["blocks"], i)
        z = conv(relu(sft_by_hand(y, code, block["sft1"])), block["conv1"])
        y = y + conv(relu(sft_by_hand(z, code, block["sft2"])), block["conv2"])
    y = conv(sft_by_hand(y + before, code, p["sft"]), p["conv_mid"])
    for i, factor in enumerate(factors):
        y = lrelu(shuffle(conv(y, p[f"upscale_{2 * i}"]), factor))
    return conv(y, p["conv_output"])


def discriminator_by_hand(x, p, normalise):
    for i in range(5):
        x = conv(x, p[f"conv{i}_0"])
        x = lrelu(normalise(x, f"bn{i}_0") if i else x)
        x = lrelu(normalise(conv(x, p[f"conv{i}_1"], 2), f"bn{i}_1"))
    return dense(lrelu(dense(x.reshape(len(x), -1), p["linear1"])), p["linear2"])[:, 0]


# --- Official numbers, and names ------------------------------------------------------------------


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
        variables, dropped = convert.converted(name, state, kwargs)
        dead = sorted(key for key in state if re.fullmatch(self.DEAD, key))
        assert dropped == dead
        assert len(dead) == (12 if name == "rrdb" else 0)
        again = convert.to_torch(name, variables, **kwargs)
        assert sorted(again) == sorted(set(state) - set(dead))
        for key, array in again.items():
            np.testing.assert_array_equal(array, state[key])
        assert convert.converted(name, again, kwargs)[1] == []  # dead layers may be absent

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


@pytest.mark.parametrize("name", ["rcan", "rrdb"])
def test_weights_for_twice_as_much(name):
    """Have all layers that are needed, and one more."""
    kwargs = TINY[name]
    variables = drawn(networks.create(name, **kwargs | {"scale": 4}), image(1, 8, 8, 1))
    module = networks.create(name, **kwargs | {"scale": 2})
    with pytest.raises(ValueError, match=r"of another network than this \w+ of scale 2, which has"):
        Restorer(module, variables)(image(20, 20, 1))


def test_kmsr_names():
    """Those of the class in the code of frequency masking."""
    kwargs = TINY["kmsr"]
    variables = drawn(networks.create("kmsr", **kwargs), image(1, 8, 8, 1))
    state = convert.to_torch("kmsr", variables, **kwargs)
    layers = [
        f"resblock_layer.{i}.conv{j}.{k}"
        for i in (0, 1)
        for j in (1, 2)
        for k in ("weight", "bias")
    ]
    assert sorted(state) == sorted(["input.weight", "output.weight", *layers])
    kernel = variables["params"]["resblock_layer"]["conv2"]["kernel"][1]
    np.testing.assert_array_equal(
        state["resblock_layer.1.conv2.weight"], kernel.transpose(3, 2, 0, 1)
    )
    again = convert.from_torch("kmsr", state, **kwargs)
    jax.tree.map(np.testing.assert_array_equal, again, variables)
    del state["output.weight"]
    with pytest.raises(ValueError, match=r"missing: output\.weight"):
        convert.from_torch("kmsr", state, **kwargs)


# --- Sizes ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "kwargs", "expected"),
    [
        ("rcan", {}, 15_590_049),
        ("rcan", {"scale": 2}, 15_442_337),
        ("rcan", {"scale": 3}, 15_442_337 + 5 * 64 * (9 * 64 + 1)),
        ("rcan", {"channels": 3}, 15_590_049 + 2 * 9 * 64 + 2 * (9 * 64 + 1)),
        (
            "rrdb",
            {},
            17_065_538 - 185_217,
        ),  # without the layers that the official class never calls
        ("rrdb", {"channels": 3, "scale": 2}, 16_880_321 - 147_712 + 2 * 9 * 64 + 2 * (9 * 64 + 1)),
        ("ikc", {}, 430_730 + 649_930 + 4_234_691 + 441 * 10),
        ("kmsr", {}, 1_185_152),
        ("kmsr", {"channels": 1}, 1_185_152 - 2 * 2 * 9 * 64),
    ],
)
def test_parameter_counts(name, kwargs, expected):
    module = networks.create(name, **kwargs)
    x = jnp.zeros((1, 7, 8, module.channels))
    y, variables = jax.eval_shape(module.init_with_output, jax.random.key(0), x)
    scale = module.scale
    assert y.shape == (1, 7 * scale, 8 * scale, module.channels)
    assert set(variables) == {"params"}
    assert size_of(variables) == expected
    assert name in networks.available()


def test_small_rcan():
    module = networks.create("rcan", preset="small", scale=2)
    assert module.scale == 2
    assert 100_000 < size_of(networks.abstract_variables(module)) < 300_000
    assert networks.create("rcan", preset="base") == networks.create("rcan")


@pytest.mark.parametrize(("name", "preset"), [("rcan", "small"), ("kmsr", "")])
def test_costs_are_as_counted(name, preset):
    module = networks.create(name, preset=preset or None)
    shape = (1, 256, 256, module.channels)
    parameters, cost = COSTS[name][preset]
    assert macs.count_parameters(module, shape) == parameters
    assert round(macs.count_macs(module, shape) / 256**2) == cost


@pytest.mark.parametrize(
    ("module", "inputs", "expected"),
    [
        (networks.Discriminator(), [(2, 128, 128, 1)], 14_498_249),
        (networks.Predictor(), [(2, 9, 8, 3)], 430_730),
        (networks.Corrector(), [(2, 9, 8, 3), (2, 10)], 649_930),
        (networks.SFTMD(), [(2, 9, 8, 3), (2, 10)], 4_234_691),
    ],
)
def test_parameter_counts_outside_the_registry(module, inputs, expected):
    variables = jax.eval_shape(module.init, jax.random.key(0), *map(jnp.zeros, inputs))
    assert size_of(variables["params"]) == expected
    assert ("batch_stats" in variables) == isinstance(module, networks.Discriminator)
    assert type(module) not in map(networks.get, networks.available())


@pytest.mark.parametrize("size", [(1, 1), (9, 6)])
def test_any_size(tiny, size):
    module, variables, apply = tiny
    x = image(2, *size, 1)
    y = apply(variables, x)
    scale = module.scale
    assert y.shape == (2, size[0] * scale, size[1] * scale, 1)
    assert np.isfinite(y).all()


@pytest.mark.parametrize("scale", [2, 3, 4])
def test_colour_at_every_scale(scale):
    module = networks.create("rrdb", **TINY["rrdb"] | {"channels": 3, "scale": scale})
    x = image(1, 3, 4, 3)
    y = np.asarray(quick_jit(module.apply)(drawn(module, x), x))
    assert y.shape == (1, 3 * scale, 4 * scale, 3)
    assert np.ptp(y.mean((0, 1, 2))) > 1e-3 * np.abs(y).max()


@pytest.mark.parametrize("factor", [1, 2, 3])
def test_pixel_shuffle(factor):
    x = image(2, 3, 4, 2 * factor**2)
    y = _blocks.pixel_shuffle(jnp.asarray(x), factor)
    np.testing.assert_array_equal(y, shuffle(x, factor))


def test_images_of_a_batch_do_not_mix(tiny):
    _, variables, apply = tiny
    x = image(2, 9, 6, 1)
    np.testing.assert_allclose(apply(variables, x)[1:], apply(variables, x[1:]), atol=1e-5)


def test_equal_blocks_are_one_loop():
    """Or hundreds of them would be compiled, which takes minutes."""

    def loops(module):
        x = jnp.zeros((1, 8, 8, module.channels))
        variables = jax.eval_shape(module.init, jax.random.key(0), x)
        equations = jax.make_jaxpr(module.apply)(variables, x).eqns
        return [e.params["length"] for e in equations if e.primitive.name == "scan"]

    assert loops(networks.create("rcan", groups=3)) == [20, 20, 20]
    assert loops(networks.create("rrdb")) == [23]
    assert loops(networks.create("kmsr")) == [16]


# --- Training -------------------------------------------------------------------------------------


def test_training_reaches_every_variable(tiny):
    module, variables, _ = tiny

    def loss(variables, x):
        return (module.apply(variables, x, train=True) ** 2).mean()

    grad = quick_jit(jax.grad(loss))
    for path, leaf in jax.tree_util.tree_leaves_with_path(grad(variables, image(2, 5, 6, 1))):
        assert np.isfinite(leaf).all(), path
        each = np.abs(leaf).max(axis=(1, 2, 3, 4)) if leaf.ndim == 5 else np.abs(leaf).max()
        assert np.all(each > 0), path  # in every one of equal blocks
    for leaf in jax.tree.leaves(grad(variables, np.zeros((2, 5, 6, 1), np.float32))):
        assert np.isfinite(leaf).all()


def test_bfloat16_is_near_float32(tiny):
    module, variables, apply = tiny
    x = image(1, 9, 6, 1)
    full = np.asarray(apply(variables, x))
    half = module.clone(dtype=jnp.bfloat16).apply
    assert jax.eval_shape(half, variables, jnp.asarray(x, jnp.bfloat16)).dtype == jnp.bfloat16
    rough = quick_jit(half)(variables, x)
    assert rough.dtype == jnp.float32
    assert 0 < np.abs(np.asarray(rough) - full).max() < 0.02 * max(1, np.abs(full).max())


class TestInitialisation:
    @staticmethod
    def assert_fills(array, bound):
        assert 0.95 * bound < np.abs(array).max() <= bound

    def test_as_pytorch(self):
        module = networks.create("rcan", groups=1, blocks=2, features=32, scale=2)
        x = image(1, 4, 4, 1)
        params = quick_jit(module.init)(jax.random.key(0), x)["params"]
        blocks = params["body_0"]["blocks"]["body_0"]
        for layer, fan_in in (
            (params["head_0"], 9),
            (params["tail_0_0"], 9 * 32),
            (block_of(blocks, 0), 9 * 32),
            (block_of(blocks, 1), 9 * 32),
        ):
            self.assert_fills(layer["kernel"], fan_in**-0.5)
            assert 0.7 * fan_in**-0.5 < np.abs(layer["bias"]).max() <= fan_in**-0.5
        assert (blocks["kernel"][0] != blocks["kernel"][1]).mean() > 0.9
        again = quick_jit(module.apply)({"params": params}, x)  # nothing is missing
        assert np.isfinite(again).all()

    def test_kmsr(self):
        module = networks.KMSR(blocks=2)
        params = quick_jit(module.init)(jax.random.key(0), image(1, 4, 4, 3))["params"]
        gain = 2**0.5
        self.assert_fills(params["input"]["kernel"], gain * (6 / (9 * (3 + 64))) ** 0.5)
        for i in (0, 1):
            layer = block_of(params["resblock_layer"]["conv2"], i)
            self.assert_fills(layer["kernel"], gain * (6 / (9 * (64 + 64))) ** 0.5)
            self.assert_fills(layer["bias"], (9 * 64) ** -0.5)

    def test_discriminator(self):
        module = networks.Discriminator(size=32, features=4)
        variables = quick_jit(module.init)(jax.random.key(0), image(1, 32, 32, 1))
        params = variables["params"]
        assert [name for name in params if "bias" in params[name] and "conv" in name] == ["conv0_0"]
        self.assert_fills(params["conv1_1"]["kernel"], (16 * 8) ** -0.5)
        self.assert_fills(params["linear1"]["kernel"], 32**-0.5)
        self.assert_fills(params["linear1"]["bias"], 32**-0.5)
        np.testing.assert_array_equal(params["bn4_1"]["scale"], np.ones(32))
        np.testing.assert_array_equal(params["bn4_1"]["bias"], np.zeros(32))


# --- Against slow references ----------------------------------------------------------------------


@pytest.mark.parametrize(("size", "side"), [(5, (6, 8)), (5, (7, 5)), (5, (1, 1)), (4, (6, 8))])
def test_stride_two_pads_as_pytorch(size, side):
    class Layer(nn.Module):
        @nn.compact
        def __call__(self, x):
            return _blocks.conv_down(x, 3, size, dtype=jnp.float32, name="conv")

    before = {5: 2, 4: 1}[size]
    x = image(1, *side, 2)
    variables = drawn(Layer(), x)
    kernel, bias = (np.asarray(variables["params"]["conv"][k]) for k in ("kernel", "bias"))
    out = [(length + 2 * before - size) // 2 + 1 for length in side]
    expected = np.zeros((*out, 3)) + bias
    for row, column in np.ndindex(*out):
        for i, j in np.ndindex(size, size):
            r, c = 2 * row + i - before, 2 * column + j - before
            if 0 <= r < side[0] and 0 <= c < side[1]:
                expected[row, column] += x[0, r, c] @ kernel[i, j]
    actual = Layer().apply(variables, x)
    assert actual.shape == (1, *expected.shape)
    np.testing.assert_allclose(actual[0], expected, atol=1e-5)
    np.testing.assert_allclose(
        conv(x, exact(variables["params"]["conv"]), 2)[0], expected, atol=1e-5
    )


def check(module, inputs, by_hand, **kwargs):
    variables = drawn(module, *inputs)
    expected = by_hand(*(a.astype(np.float64) for a in inputs), exact(variables["params"]))
    actual = quick_jit(functools.partial(module.apply, **kwargs))(variables, *inputs)
    assert actual.dtype == jnp.float32
    assert expected.std() > 1e-3
    np.testing.assert_allclose(actual, expected, rtol=0, atol=2e-5 * np.abs(expected).max())
    return variables, expected


@pytest.mark.parametrize("channels", [1, 3])
def test_kmsr_by_hand(channels):
    check(
        networks.KMSR(channels=channels, features=5, blocks=3),
        [image(2, 5, 6, channels)],
        kmsr_by_hand,
    )


@pytest.mark.parametrize("channels", [1, 3])
def test_predictor_by_hand(channels):
    module = networks.Predictor(channels=channels, features=4, code_length=3)
    check(module, [image(2, 9, 6, channels)], predictor_by_hand)


def test_corrector_by_hand():
    module = networks.Corrector(features=4, code_length=3)
    check(module, [image(2, 9, 6, 3), codes(2, 3)], corrector_by_hand)


@pytest.mark.parametrize(("scale", "factors"), [(2, (2,)), (3, (3,)), (4, (2, 2))])
def test_sftmd_by_hand(scale, factors):
    module = networks.SFTMD(scale=scale, features=4, blocks=2, code_length=3)
    x, code = image(2, 4, 5, 3), codes(2, 3)
    by_hand = functools.partial(sftmd_by_hand, factors=factors)
    variables, expected = check(module, [x, code], by_hand, train=True)
    assert expected.shape == (2, 4 * scale, 5 * scale, 3)
    if scale == 2:
        assert expected.min() < 0  # so that clipping shows
        clipped = quick_jit(module.apply)(variables, x, code)
        np.testing.assert_allclose(clipped, expected.clip(0, 1), atol=1e-5)
        other = quick_jit(module.apply)(variables, x, code + np.float32([1, 0, 0]))
        assert np.abs(other - clipped).max() > 1e-3


class TestDiscriminator:
    MODULE = networks.Discriminator(channels=3, size=64, features=2)
    X = image(4, 64, 64, 3)

    @functools.cached_property
    def variables(self):
        return drawn(self.MODULE, self.X)

    def by_hand(self, stats):
        """``stats`` of a layer and its input: mean and variance."""
        params = exact(self.variables["params"])

        def normalise(y, name):
            mean, var = stats(y, name)
            return (y - mean) / np.sqrt(var + 1e-5) * params[name]["scale"] + params[name]["bias"]

        return discriminator_by_hand(self.X.astype(np.float64), params, normalise)

    def test_by_hand(self):
        kept = exact(self.variables["batch_stats"])
        expected = self.by_hand(lambda _, name: (kept[name]["mean"], kept[name]["var"]))
        actual = quick_jit(self.MODULE.apply)(self.variables, self.X)
        assert actual.shape == (4,)
        assert expected.std() > 1e-3
        np.testing.assert_allclose(actual, expected, atol=1e-4 * np.abs(expected).max())

    def test_training_by_hand(self):
        seen = {}

        def stats(y, name):
            seen[name] = y.mean((0, 1, 2)), y.var((0, 1, 2))
            return seen[name]

        expected = self.by_hand(stats)
        apply = functools.partial(self.MODULE.apply, train=True, mutable=["batch_stats"])
        actual, updates = quick_jit(apply)(self.variables, self.X)
        np.testing.assert_allclose(actual, expected, atol=1e-3 * np.abs(expected).max())
        old = self.variables["batch_stats"]
        assert set(updates["batch_stats"]) == set(seen)
        for name, new in updates["batch_stats"].items():
            for kind, value in zip(("mean", "var"), seen[name], strict=True):
                np.testing.assert_allclose(
                    new[kind], 0.9 * old[name][kind] + 0.1 * value, rtol=1e-4, atol=1e-5
                )

    def test_statistics_are_shared_over_the_mapped_axis(self):
        apply = functools.partial(
            self.MODULE.apply, self.variables, train=True, mutable=["batch_stats"]
        )
        y, together = quick_jit(apply)(self.X)
        parts = jax.vmap(functools.partial(apply, axis_name="i"), axis_name="i")
        mapped, apart = quick_jit(parts)(self.X.reshape(2, 2, 64, 64, 3))
        np.testing.assert_allclose(mapped.reshape(-1), y, atol=1e-4)
        for one, both in zip(jax.tree.leaves(together), jax.tree.leaves(apart), strict=True):
            np.testing.assert_allclose(both, np.stack([one, one]), rtol=1e-4, atol=1e-5)

    def test_gradients_reach_the_image(self):
        def loss(x):
            return self.MODULE.apply(self.variables, x).mean()

        gradient = quick_jit(jax.grad(loss))(self.X)
        assert np.isfinite(gradient).all()
        assert (np.asarray(gradient) != 0).mean() > 0.9

    def test_bfloat16_gives_float32_logits(self):
        module = self.MODULE.clone(dtype=jnp.bfloat16)
        logits = jax.eval_shape(module.apply, self.variables, self.X)
        assert (logits.shape, logits.dtype) == ((4,), jnp.float32)


IKC = pytest.mark.parametrize(
    ("module", "inputs"),
    [
        (networks.Predictor(features=4), [image(1, 9, 6, 3)]),
        (networks.Corrector(features=4), [image(1, 9, 6, 3), codes(1, 10)]),
        (networks.SFTMD(features=4, blocks=2), [image(1, 9, 6, 3), codes(1, 10)]),
    ],
)


@IKC
def test_ikc_in_bfloat16(module, inputs):
    variables = drawn(module, *inputs)
    full = np.asarray(quick_jit(module.apply)(variables, *inputs))
    rough = quick_jit(module.clone(dtype=jnp.bfloat16).apply)(variables, *inputs)
    assert rough.dtype == jnp.float32
    assert 0 < np.abs(np.asarray(rough) - full).max() < 0.03 * max(1, np.abs(full).max())


@IKC
def test_training_reaches_every_variable_of_ikc(module, inputs):
    """And its inputs, the code among them."""

    def loss(variables, inputs):
        return (module.apply(variables, *inputs, train=True) ** 2).mean()

    grads = quick_jit(jax.grad(loss, argnums=(0, 1)))(drawn(module, *inputs), inputs)
    for path, leaf in jax.tree_util.tree_leaves_with_path(grads):
        assert np.isfinite(leaf).all(), path
        assert np.abs(leaf).max() > 0, path


def test_ikc_takes_a_single_pixel():
    x, code = image(1, 1, 1, 3), codes(1, 10)
    for module, inputs, by_hand in (
        (networks.Predictor(features=4), [x], predictor_by_hand),
        (networks.Corrector(features=4), [x, code], corrector_by_hand),
    ):
        check(module, inputs, by_hand)
    enlarged = jax.eval_shape(networks.SFTMD().init_with_output, jax.random.key(0), x, code)[0]
    assert enlarged.shape == (1, 4, 4, 3)


def test_channel_attention_by_hand():
    layer = _blocks.ChannelAttention(_blocks.torch_conv, ("conv_du_0", "conv_du_2"))
    x = image(2, 3, 4, 32)
    variables = drawn(layer, x)
    p = exact(variables["params"])
    means = x.astype(np.float64).mean((1, 2), keepdims=True)
    weights = sigmoid(conv(relu(conv(means, p["conv_du_0"])), p["conv_du_2"]))
    assert weights.shape == (2, 1, 1, 32)
    np.testing.assert_allclose(layer.apply(variables, x), x * weights, atol=1e-6)


# --- Mistakes -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "kwargs", "message"),
    [
        ("rcan", {"scale": 5}, "RCAN scale must be 2, 3 or 4, got 5"),
        ("rcan", {"scale": 2.0}, "RCAN scale must be 2, 3 or 4, got 2.0"),
        ("rcan", {"scale": 1}, "RCAN scale must be 2, 3 or 4, got 1"),
        ("rcan", {"features": 40}, "RCAN features 40 is not divisible by 16"),
        ("rcan", {"groups": 0}, "RCAN groups must be an integer of at least 1, got 0"),
        ("rcan", {"blocks": 0}, "RCAN blocks must be an integer of at least 1, got 0"),
        ("rcan", {"growth": 3}, "has no field 'growth'; its fields: blocks, channels, dtype"),
        ("rcan", {"preset": "large"}, "no preset 'large'; its presets: base, small"),
        ("rrdb", {"scale": "4"}, "RRDB scale must be 2, 3 or 4, got '4'"),
        ("rrdb", {"growth": 0}, "RRDB growth must be an integer of at least 1, got 0"),
        ("kmsr", {"blocks": 0}, "KMSR blocks must be an integer of at least 1, got 0"),
        ("kmsr", {"channels": 0}, "KMSR channels must be an integer of at least 1, got 0"),
        ("kmsr", {"scale": 4}, "network 'kmsr' has no field 'scale'"),
        ("sftmd", {}, "no network 'sftmd'; known networks: "),
    ],
)
def test_bad_fields_are_explained(name, kwargs, message):
    with pytest.raises(ValueError, match=message):
        networks.create(name, **kwargs)


@pytest.mark.parametrize(
    ("cls", "kwargs", "message"),
    [
        (networks.Discriminator, {"size": 100}, "Discriminator size 100 is not divisible by 32"),
        (networks.Discriminator, {"size": 0}, "Discriminator size must be an integer of at least"),
        (networks.Predictor, {"code_length": 0}, "Predictor code_length must be an integer of at"),
        (networks.Corrector, {"features": 0}, "Corrector features must be an integer of at least"),
        (networks.SFTMD, {"scale": 8}, "SFTMD scale must be 2, 3 or 4, got 8"),
    ],
)
def test_bad_fields_outside_the_registry_are_explained(cls, kwargs, message):
    with pytest.raises(ValueError, match=message):
        cls(**kwargs)


def test_bad_images_are_explained(tiny):
    module, variables, _ = tiny
    with pytest.raises(TypeError, match="takes floating-point images"):
        module.apply(variables, jnp.zeros((1, 8, 8, 1), jnp.uint8))
    with pytest.raises(ValueError, match="got no pixels"):
        module.apply(variables, jnp.zeros((1, 0, 8, 1)))
    for shape in ((1, 8, 8, 3), (8, 8, 1)):
        with pytest.raises(ValueError, match=r"\(channels=1\) takes \[N, H, W, 1\], got shape"):
            module.apply(variables, jnp.zeros(shape))


def test_bad_inputs_outside_the_registry_are_explained():
    key = jax.random.key(0)
    with pytest.raises(ValueError, match=r"Discriminator\(size=64\) takes images of 64x64 pixels, "
                       "got 64x32; crop them"):  # fmt: skip
        networks.Discriminator(size=64).init(key, jnp.zeros((1, 64, 32, 1)))
    with pytest.raises(ValueError, match=r"Predictor\(channels=3\) takes \[N, H, W, 3\]"):
        networks.Predictor().init(key, jnp.zeros((1, 8, 8, 1)))
    x = jnp.zeros((2, 8, 8, 3))
    for module in (networks.Corrector(), networks.SFTMD()):
        name = type(module).__name__
        for shape in ((10,), (1, 10), (2, 9), (2, 10, 1)):
            message = rf"{name}\(code_length=10\) takes a code for each image, \[2, 10\], got shape"
            with pytest.raises(ValueError, match=message):
                module.init(key, x, jnp.zeros(shape))
        with pytest.raises(TypeError, match=f"{name} takes floating-point codes, got int32"):
            module.init(key, x, jnp.zeros((2, 10), jnp.int32))
        with pytest.raises(ValueError, match="takes \\[N, H, W, 3\\]"):
            module.init(key, x[..., :1], jnp.zeros((2, 10)))
