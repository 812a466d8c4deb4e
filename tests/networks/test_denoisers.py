"""The denoisers of the SFM paper's code: official numbers, slow references, any image size."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from lcdnet_jax import convert, networks
from lcdnet_jax.networks import memnet, n3net
from tests.legacy_pth import read_pth

TINY = {
    "buifd": {"depth": 3, "features": 4},
    "dncnn": {"depth": 3, "features": 4},
    "memnet": {"features": 4, "blocks": 2, "units": 2},
    "n3net": {
        **{"width": 2, "features": 4, "depth": 3},
        **{"neighbours": 2, "patch": 4, "stride": 2, "window": 3},
    },
    "ridnet": {"features": 48, "blocks": 1},
    "unet_n2n": {},
}
NORMALISED = ("buifd", "dncnn", "memnet", "n3net")


def quick_jit(function):
    """Compiled without LLVM's optimisation: these programs run once or twice."""
    return jax.jit(function, compiler_options={"xla_backend_optimization_level": 0})


def image(*shape):
    return np.random.default_rng(1).uniform(size=shape).astype(np.float32)


def drawn(module, channels=1, **kwargs):
    """Variables as after some training: every number its own, so that none can be mixed up."""
    rng = np.random.default_rng(0)

    def draw(path, leaf):
        name = path[-1].key
        if name == "kernel":
            value = rng.normal(0, (0.5 / np.prod(leaf.shape[:-1])) ** 0.5, leaf.shape)
        else:
            low, high = {"var": (0.5, 2), "scale": (0.5, 1.5)}.get(name, (-0.3, 0.3))
            if [k.key for k in path[-2:]] == ["distance_bn", "var"]:
                low, high = 5, 10  # many candidates share in each neighbour
            value = rng.uniform(low, high, leaf.shape)
        return jnp.asarray(value, jnp.float32)

    x = jnp.zeros((1, 16, 16, channels))
    init = functools.partial(module.init, **kwargs)
    return jax.tree_util.tree_map_with_path(draw, jax.eval_shape(init, jax.random.key(0), x))


@pytest.fixture(scope="module", params=sorted(TINY))
def tiny(request):
    module = networks.create(request.param, **TINY[request.param])
    return module, drawn(module), quick_jit(module.apply)


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


def test_n3net_keys_are_the_official_ones():
    def shapes(state):
        with pytest.raises(ValueError, match="not the weights of n3net") as error:
            convert.from_torch("n3net", state)
        return str(error.value)

    unused = {f"blocks.{i}.bn1.weight": np.ones(64, np.float32) for i in range(3)}
    message = shapes({**unused, "nls.0.n3aggregation.aggregation.nnn.bn.weight": np.ones(2)})
    assert "unknown" not in message
    assert "nnn.bn.weight gives (2,), the network needs (1,)" in message
    for key in (
        "blocks.0.conv1.bias",
        "blocks.2.layer1.10.running_mean",
        "nls.1.embedcnn.6.bias",
        "nls.1.tempcnn.4.weight",
        "nls.1.n3aggregation.aggregation.nnn.bn.running_var",
    ):
        assert key in message


@pytest.mark.parametrize(
    ("name", "channels", "expected"),
    [
        ("buifd", 1, 1_075_040),
        ("buifd", 3, 1_085_472),
        ("dncnn", 1, 556_032),
        ("dncnn", 3, 558_336),
        ("memnet", 1, 194_922),
        ("memnet", 3, 195_646),
        ("n3net", 1, 705_895 - 3 * 128),  # without the three unused BatchNorms
        ("n3net", 3, 705_895 - 3 * 128 + 2 * (9 * 64) + 2 * (9 * 64 + 1)),
        ("ridnet", 1, 1_497_045),
        ("ridnet", 3, 1_499_371),
        ("unet_n2n", 1, 987_408),
        ("unet_n2n", 3, 987_408 + 2 * 9 * (48 + 64 + 32)),
    ],
)
def test_parameter_counts(name, channels, expected):
    module = networks.create(name, channels=channels)
    x = jnp.zeros((1, 8, 8, channels))
    y, variables = jax.eval_shape(module.init_with_output, jax.random.key(0), x)
    assert y.shape == x.shape
    assert sum(leaf.size for leaf in jax.tree.leaves(variables["params"])) == expected
    assert ("batch_stats" in variables) == (name in NORMALISED)
    assert name in networks.available()


@pytest.mark.parametrize("size", [(1, 1), (1, 13), (17, 30)])
def test_any_size(tiny, size):
    _, variables, apply = tiny
    x = image(2, *size, 1)
    y = apply(variables, x)
    assert y.shape == x.shape
    assert np.isfinite(y).all()


@pytest.mark.parametrize(
    ("name", "size", "inside"), [("n3net", (1, 13), (7, 13)), ("unet_n2n", (17, 40), (32, 64))]
)
def test_cropping_undoes_padding(name, size, inside):
    module = networks.create(name, **TINY[name])
    x = image(1, *size, 1)
    pads = [(0, large - small) for large, small in zip(inside, size, strict=True)]
    by_hand = np.pad(x, ((0, 0), *pads, (0, 0)), mode="reflect")

    @quick_jit
    def both(variables):
        return module.apply(variables, x), module.apply(variables, by_hand)

    y, whole = both(drawn(module))
    np.testing.assert_allclose(y, whole[:, : size[0], : size[1]], atol=1e-5)


class TestInputRange:
    """UnetN2N takes and gives [0, 1], whatever its weights want."""

    @staticmethod
    @functools.cache
    def plain():
        module = networks.UnetN2N()
        return drawn(module), quick_jit(module.apply)

    @pytest.mark.parametrize(("low", "high"), [(-0.5, 0.5), (-1, 3)])
    def test_is_a_change_of_units(self, low, high):
        variables, apply = self.plain()
        x = image(1, 17, 30, 1)
        inside = apply(variables, x * np.float32(high - low) + np.float32(low))
        expected = (np.asarray(inside, np.float64) - low) / (high - low)
        ranged = quick_jit(networks.create("unet_n2n", input_range=[low, high]).apply)
        np.testing.assert_allclose(ranged(variables, x), expected, atol=1e-6)
        assert np.abs(expected - apply(variables, x)).max() > 0.1

    def test_default_computes_nothing_more(self):
        def program(**kwargs):
            module = networks.UnetN2N(**kwargs)
            return str(jax.make_jaxpr(module.apply)(drawn(module), image(1, 32, 32, 1)))

        assert program() == program(input_range=(0, 1))
        counts = [program(**k).count(" sub ") for k in ({}, {"input_range": (-0.5, 0.5)})]
        assert counts == [0, 1]

    def test_half_precision_images_are_shifted_in_full(self):
        """In bfloat16 steps above 8 are 1/16."""
        variables, _ = self.plain()
        exactly = {"xla_backend_optimization_level": 0, "xla_allow_excess_precision": False}
        module = networks.UnetN2N(input_range=(8.0, 9.0))
        apply = jax.jit(module.apply, compiler_options=exactly)
        x = jnp.asarray(image(1, 8, 8, 1), jnp.bfloat16)
        y = apply(variables, x)
        assert y.dtype == jnp.bfloat16
        full = apply(variables, x.astype(jnp.float32))
        np.testing.assert_array_equal(y, full.astype(jnp.bfloat16))

    @pytest.mark.parametrize("value", [(0, 0), (1, 0), (0, 1, 2), 3, "01", (0, "1"), (0, np.inf)])
    def test_mistakes(self, value):
        with pytest.raises(ValueError, match="input_range must be a tuple of two numbers"):
            networks.create("unet_n2n", input_range=value)


def test_images_of_a_batch_do_not_mix(tiny):
    _, variables, apply = tiny
    x = image(2, 17, 30, 1)
    np.testing.assert_allclose(apply(variables, x)[1:], apply(variables, x[1:]), atol=1e-5)


def test_training_reaches_every_variable(tiny):
    module, variables, _ = tiny
    old = variables.get("batch_stats", {})

    def loss(params, x):
        variables = {"params": params, "batch_stats": old}
        y, updates = module.apply(variables, x, train=True, mutable=["batch_stats"])
        return ((y - x / 2) ** 2).mean(), updates.get("batch_stats", {})

    grad = quick_jit(jax.grad(loss, has_aux=True))
    grads, new = grad(variables["params"], image(2, 9, 14, 1))
    for path, leaf in jax.tree_util.tree_leaves_with_path(grads):
        assert np.isfinite(leaf).all(), path
        assert np.abs(leaf).max() > 0, path
    moved = jax.tree.map(lambda a, b: (np.asarray(a) != np.asarray(b)).any(), old, new)
    assert all(jax.tree.leaves(moved))
    # Outside training Flax refuses to write statistics, so every other test shows they stay.
    for leaf in jax.tree.leaves(grad(variables["params"], np.full((2, 9, 14, 1), 0.5, np.float32))):
        assert np.isfinite(leaf).all()


def test_bfloat16_is_near_float32(tiny):
    module, variables, apply = tiny
    x = image(1, 17, 30, 1)
    exact = np.asarray(apply(variables, x))
    half = module.clone(dtype=jnp.bfloat16).apply
    assert jax.eval_shape(half, variables, jnp.asarray(x, jnp.bfloat16)).dtype == jnp.bfloat16
    rough = quick_jit(half)(variables, x)
    assert rough.dtype == jnp.float32
    assert 0 < np.abs(np.asarray(rough) - exact).max() < 0.02 * max(1, np.abs(exact).max())


def test_normalisation_by_hand():
    layer = memnet.BNReLUConv(3, size=1)
    x = image(2, 5, 4, 2)
    state = {"train": True, "axis_name": None}
    variables = drawn(layer, 2, **state)
    apply = quick_jit(lambda v: layer.apply(v, x, **state, mutable=["batch_stats"]))
    y, updates = apply(variables)
    pixels = np.asarray(x, np.float64)
    mean, var = pixels.mean((0, 1, 2)), pixels.var((0, 1, 2))
    stats = updates["batch_stats"]["bn"]
    old = variables["batch_stats"]["bn"]
    np.testing.assert_allclose(stats["mean"], 0.9 * old["mean"] + 0.1 * mean, rtol=1e-5)
    np.testing.assert_allclose(stats["var"], 0.9 * old["var"] + 0.1 * var, rtol=1e-5)
    params = variables["params"]
    normal = (pixels - mean) / np.sqrt(var + 1e-5) * np.asarray(params["bn"]["scale"])
    normal += np.asarray(params["bn"]["bias"])
    expected = np.maximum(normal, 0) @ np.asarray(params["conv"]["kernel"])[0, 0]
    np.testing.assert_allclose(y, expected, atol=1e-6)


def test_statistics_are_shared_over_the_mapped_axis():
    module = networks.create("dncnn", **TINY["dncnn"])
    x = image(4, 6, 5, 1)
    variables = drawn(module)

    def apply(x, axis_name=None):
        return module.apply(variables, x, train=True, axis_name=axis_name, mutable=["batch_stats"])

    y, together = quick_jit(apply)(x)
    parts = jax.vmap(lambda part: apply(part, "i"), axis_name="i")
    mapped, apart = quick_jit(parts)(x.reshape(2, 2, *x.shape[1:]))
    np.testing.assert_allclose(mapped.reshape(y.shape), y, atol=1e-6)
    for one, both in zip(jax.tree.leaves(together), jax.tree.leaves(apart), strict=True):
        np.testing.assert_allclose(both, np.stack([one, one]), rtol=1e-5, atol=1e-7)


class TestInitialisation:
    @staticmethod
    def params(module, *names, channels=1, **kwargs):
        """Only the named layers, which spares computing the others."""
        x = jnp.zeros((1, 16, 16, channels))

        def init(key):
            params = module.init(key, x, **kwargs)["params"]
            return [functools.reduce(lambda tree, k: tree[k], n.split("."), params) for n in names]

        return quick_jit(init)(jax.random.key(0))

    @staticmethod
    def assert_fills(array, bound):
        assert 0.95 * bound < np.abs(array).max() <= bound

    def test_dncnn(self):
        module = networks.create("dncnn", depth=4)
        conv, *norms = self.params(module, "dncnn.conv_1", "dncnn.bn_1", "dncnn.bn_2")
        std = (2 / (9 * 64)) ** 0.5
        assert np.std(conv["kernel"]) == pytest.approx(std, rel=0.03)
        assert np.abs(conv["kernel"]).max() > 3.5 * std  # tails and all
        scale = np.asarray([norm["scale"] for norm in norms])
        assert np.abs(scale).max() == np.float32(0.025)
        assert (scale > 0).mean() == pytest.approx(0.5, abs=0.15)
        # P(|N(0, 0.0589)| > 0.025) = 0.671
        assert (np.abs(scale) == np.float32(0.025)).mean() == pytest.approx(0.671, abs=0.12)
        assert not norms[0]["bias"].any()

    @pytest.mark.parametrize(
        ("channels", "mean"),
        [(1, [(0.4488 + 0.4371 + 0.4040) / 3]), (3, [0.4488, 0.4371, 0.4040])],
    )
    def test_ridnet(self, channels, mean):
        module = networks.create("ridnet", channels=channels, blocks=1)
        names = ("sub_mean", "add_mean", "b1.r1.body3_0")
        sub, add, merged = self.params(module, *names, channels=channels)
        np.testing.assert_allclose(sub["bias"], np.negative(mean), rtol=1e-6)
        np.testing.assert_allclose(add["bias"], mean, rtol=1e-6)
        for shift in (sub, add):
            np.testing.assert_array_equal(shift["kernel"][0, 0], np.eye(channels))
        assert np.std(merged["kernel"]) == pytest.approx((2 / (9 * 128)) ** 0.5, rel=0.03)
        self.assert_fills(merged["bias"], (9 * 128) ** -0.5)

    def test_unet(self):
        (conv,) = self.params(networks.create("unet_n2n"), "dec_conv4a")
        self.assert_fills(conv["kernel"], (9 * 144) ** -0.5)

    def test_n3net(self):
        state = {"train": False, "axis_name": None}
        local = n3net.LocalNet(8, 64, 3)
        names = ("conv1", "conv2", "layer1_1")
        first, last, norm = self.params(local, *names, channels=64, **state)
        assert np.std(first["kernel"]) == pytest.approx((2 / (9 * 64)) ** 0.5, rel=0.03)
        assert np.std(last["kernel"]) == pytest.approx((2 / (9 * 8)) ** 0.5, rel=0.03)
        self.assert_fills(first["bias"], (9 * 64) ** -0.5)
        assert norm["scale"].min() == np.float32(0.025)
        assert norm["scale"].max() > 0.1
        block = n3net.N3Block(64, 2, 4, 2, 3)
        names = ("embedcnn_0", "distance_bn")
        conv, norm = self.params(block, *names, channels=8, **state)
        self.assert_fills(conv["kernel"], (9 * 8) ** -0.5)
        assert norm["scale"].item() == 1


# Slow references in float64, written from the description and not from the code above.


def conv_by_hand(x, layer):
    kernel = np.asarray(layer["kernel"], np.float64)
    size = kernel.shape[0]
    padded = np.pad(x, ((0, 0), (size // 2,) * 2, (size // 2,) * 2, (0, 0)))
    out = np.zeros((*x.shape[:3], kernel.shape[-1]))
    for i in range(size):
        for j in range(size):
            out += padded[:, i : i + x.shape[1], j : j + x.shape[2]] @ kernel[i, j]
    return out + np.asarray(layer.get("bias", 0.0), np.float64)


def norm_by_hand(x, layer, stats):
    layer, stats = ({k: np.asarray(v, np.float64) for k, v in d.items()} for d in (layer, stats))
    return (x - stats["mean"]) / np.sqrt(stats["var"] + 1e-5) * layer["scale"] + layer["bias"]


def stack_by_hand(x, params, stats, convolutions):
    y = np.maximum(conv_by_hand(x, params["conv_0"]), 0)
    for i in range(1, convolutions - 1):
        y = conv_by_hand(y, params[f"conv_{i}"])
        y = np.maximum(norm_by_hand(y, params[f"bn_{i}"], stats[f"bn_{i}"]), 0)
    return conv_by_hand(y, params[f"conv_{convolutions - 1}"])


@pytest.mark.parametrize("channels", [1, 3])
def test_buifd_by_hand(channels):
    module = networks.create("buifd", channels=channels, **TINY["buifd"])
    x = image(2, 7, 9, channels)
    variables = drawn(module, channels)
    params, stats = variables["params"], variables["batch_stats"]
    noisy = np.asarray(x, np.float64)
    prior = noisy - stack_by_hand(noisy, params["dncnn"], stats["dncnn"], 3)
    logit = stack_by_hand(noisy, params["noisecnn"], stats["noisecnn"], 7)
    level = 1 / (1 + np.exp(-logit))
    fused = np.concatenate([noisy, prior, level, noisy * (1 - level), prior * level], axis=-1)
    for i in range(3):
        fused = conv_by_hand(fused, params[f"fusion_{i}"])

    restored, map_ = quick_jit(lambda x: module.apply(variables, x, return_level=True))(x)
    np.testing.assert_allclose(map_, level, atol=1e-5)
    np.testing.assert_allclose(restored, fused, atol=1e-5 * np.abs(fused).max())
    assert level.std() > 0.01


def cut(x, i, j, patch, stride):
    return x[i * stride : i * stride + patch, j * stride : j * stride + patch]


def candidates_by_hand(embedding, *, patch, stride, window):
    """For each patch of a map ``[H, W, C]``: its place, those of others, minus the distances."""
    rows, columns = ((side - patch) // stride + 1 for side in embedding.shape[:2])
    for i in range(rows):
        for j in range(columns):
            first_row = min(max(i - window // 2, 0), rows - window)
            first_column = min(max(j - window // 2, 0), columns - window)
            others = [
                (a, b)
                for a in range(first_row, first_row + window)
                for b in range(first_column, first_column + window)
                if (a, b) != (i, j)
            ]
            assert len(others) == window**2 - 1
            query = cut(embedding, i, j, patch, stride)
            differences = [query - cut(embedding, a, b, patch, stride) for a, b in others]
            yield i, j, others, -np.square(differences).sum((1, 2, 3))


def neighbours_by_hand(x, embedding, log_temperature, normalise, *, k, patch, stride, window):
    """One non-local block on one image ``[H, W, C]``, patch by patch."""
    height, width, channels = x.shape
    pads = [(-(side - patch)) % stride for side in (height, width)]
    top, left = (pad // 2 for pad in pads)
    around = ((top, pads[0] - top), (left, pads[1] - left), (0, 0))
    x, embedding, log_temperature = (np.pad(a, around) for a in (x, embedding, log_temperature))
    total = np.zeros((*x.shape[:2], k, channels))
    count = np.zeros(x.shape[:2])
    sharpest = []
    sizes = {"patch": patch, "stride": stride, "window": window}
    for i, j, others, negative_distances in candidates_by_hand(embedding, **sizes):
        mean = cut(log_temperature, i, j, patch, stride).mean()
        logits = normalise(negative_distances) / np.exp(mean + np.log(0.1))
        for r in range(k):
            weights = np.exp(logits - logits.max())
            weights /= weights.sum()
            # Beyond this the result depends on the precision: what is left of a patch that
            # was taken whole is 0 in float32, and as much as the next patch has in float64.
            assert weights.max() < 1 - 1e-4
            sharpest.append(weights.max())
            logits = logits + np.log(1 - weights)
            for weight, (a, b) in zip(weights, others, strict=True):
                cut(total, i, j, patch, stride)[:, :, r] += weight * cut(x, a, b, patch, stride)
        cut(count, i, j, patch, stride)[:] += 1
    assert max(sharpest) > 2 / window**2
    found = total / count[:, :, None, None] - x[:, :, None]
    whole = np.concatenate([x, found.reshape(*x.shape[:2], -1)], axis=-1)
    return whole[top : top + height, left : left + width]


def n3net_by_hand(x, variables, *, neighbours, patch, stride, window):
    """N3Net of depth 3."""
    params, stats = variables["params"], variables["batch_stats"]
    y = np.asarray(x, np.float64)
    for i in range(3):
        p, s = params[f"blocks_{i}"], stats[f"blocks_{i}"]
        z = np.maximum(conv_by_hand(y, p["conv1"]), 0)
        z = norm_by_hand(conv_by_hand(z, p["layer1_0"]), p["layer1_1"], s["layer1_1"])
        z = conv_by_hand(np.maximum(z, 0), p["conv2"])
        shared = min(y.shape[-1], z.shape[-1])
        z[..., :shared] += y[..., :shared]
        y = z
        if i == 2:
            return y
        p, s = params[f"nls_{i}"], stats[f"nls_{i}"]
        maps = []
        for cnn in ("embedcnn", "tempcnn"):
            z = y
            for j in (0, 3):
                norm = f"{cnn}_{j + 1}"
                z = norm_by_hand(conv_by_hand(z, p[f"{cnn}_{j}"]), p[norm], s[norm])
                z = np.maximum(z, 0)
            maps.append(conv_by_hand(z, p[f"{cnn}_6"]))
        normalise = functools.partial(norm_by_hand, layer=p["distance_bn"], stats=s["distance_bn"])
        sizes = {"k": neighbours, "patch": patch, "stride": stride, "window": window}
        images = zip(y, *maps, strict=True)
        y = np.stack([neighbours_by_hand(*maps, normalise, **sizes) for maps in images])


@pytest.mark.parametrize(
    ("channels", "sizes"),
    [
        (1, {"neighbours": 3, "patch": 4, "stride": 2, "window": 3}),
        (3, {"neighbours": 2, "patch": 5, "stride": 3, "window": 2}),
    ],
)
def test_n3net_by_hand(channels, sizes):
    kwargs = {"width": 2, "features": 3, "depth": 3}
    module = networks.create("n3net", channels=channels, **kwargs, **sizes)
    x = image(2, 13, 12, channels)  # neither side fits whole patches
    variables = drawn(module, channels)
    expected = n3net_by_hand(x, variables, **sizes)
    actual = quick_jit(module.apply)(variables, x)
    np.testing.assert_allclose(actual, expected, atol=1e-4 * np.abs(expected).max())


def test_n3net_distances_enter_the_statistics_without_the_patch_itself():
    sizes = {"patch": 4, "stride": 2, "window": 3}
    block = n3net.N3Block(3, 2, **sizes)
    x = image(2, 10, 12, 2)
    state = {"train": True, "axis_name": None}
    variables = drawn(block, 2, **state)

    def embedding(z, variables):
        """By the statistics of the batch, as in training."""
        p = variables["params"]
        for j in (0, 3):
            z = conv_by_hand(z, p[f"embedcnn_{j}"])
            batch = {"mean": z.mean((0, 1, 2)), "var": z.var((0, 1, 2))}
            z = np.maximum(norm_by_hand(z, p[f"embedcnn_{j + 1}"], batch), 0)
        return conv_by_hand(z, p["embedcnn_6"])

    maps = embedding(np.asarray(x, np.float64), variables)
    distances = [d for e in maps for *_, d in candidates_by_hand(e, **sizes)]
    apply = quick_jit(lambda v: block.apply(v, x, **state, mutable=["batch_stats"]))
    stats = apply(variables)[1]["batch_stats"]["distance_bn"]
    old = variables["batch_stats"]["distance_bn"]
    mean, var = np.mean(distances), np.var(distances)
    np.testing.assert_allclose(stats["mean"], 0.9 * old["mean"] + 0.1 * mean, rtol=1e-4)
    np.testing.assert_allclose(stats["var"], 0.9 * old["var"] + 0.1 * var, rtol=1e-4)


def test_n3net_statistics_move_slowly():
    block = n3net.LocalNet(1, 4, 3)
    x = image(2, 6, 6, 1)
    state = {"train": True, "axis_name": None}
    variables = drawn(block, **state)
    apply = quick_jit(lambda v: block.apply(v, x, **state, mutable=["batch_stats"]))
    _, updates = apply(variables)
    y = np.maximum(conv_by_hand(np.asarray(x, np.float64), variables["params"]["conv1"]), 0)
    mean = conv_by_hand(y, variables["params"]["layer1_0"]).mean((0, 1, 2))
    new, old = (v["batch_stats"]["layer1_1"]["mean"] for v in (updates, variables))
    np.testing.assert_allclose(new, 0.999 * old + 0.001 * mean, atol=1e-6)


def test_cold_neighbours_are_the_nearest_ones_in_order():
    logits = jnp.asarray([[-3.0, -1.0, -2.0, -9.0, -4.0]]) * 200
    weights = n3net.neighbour_weights(logits, 3)[0]
    np.testing.assert_allclose(weights, np.eye(5)[:, [1, 2, 0]], atol=1e-6)

    def loss(logits):
        return (n3net.neighbour_weights(logits, 3) * jnp.arange(3.0)[None, None]).sum()

    # The first takes all of its candidate, where the logarithm's slope is infinite.
    assert np.isfinite(quick_jit(jax.grad(loss))(logits)).all()


def test_log1mexp():
    x = np.float32([-100, -20, -0.7, -0.69, -1e-3, -1e-6])
    expected = np.log1p(-np.exp(x.astype(np.float64)))
    np.testing.assert_allclose(n3net._log1mexp(jnp.asarray(x)), expected, rtol=1e-4, atol=1e-30)
    ends = jnp.asarray([-np.inf, 0.0, 5e-7])  # the last from rounding in a softmax
    np.testing.assert_array_equal(n3net._log1mexp(ends), [0, -np.inf, -np.inf])


@pytest.mark.parametrize(
    ("name", "kwargs", "message"),
    [
        ("dncnn", {"depth": 1}, "DnCNN depth must be an integer of at least 2, got 1"),
        ("dncnn", {"features": 6.5}, "DnCNN features must be an integer of at least 1, got 6.5"),
        ("memnet", {"blocks": 0}, "MemNet blocks must be an integer of at least 1, got 0"),
        ("buifd", {"channels": 0}, "BUIFD channels must be an integer of at least 1, got 0"),
        ("unet_n2n", {"channels": "1"}, "UnetN2N channels must be an integer of at least 1"),
        ("ridnet", {"channels": 2}, "RIDNet channels must be 1 or 3, got 2"),
        ("ridnet", {"features": 40}, "RIDNet features 40 is not divisible by 16"),
        ("n3net", {"stride": 11}, "N3Net stride 11 leaves pixels between patches of 10"),
        ("n3net", {"neighbours": 9, "window": 3}, "window 3 has 8 other patches, fewer than 9"),
    ],
)
def test_bad_fields_are_explained(name, kwargs, message):
    with pytest.raises(ValueError, match=message):
        networks.create(name, **kwargs)


def test_bad_inputs_are_explained(tiny):
    module, variables, _ = tiny
    with pytest.raises(TypeError, match="takes floating-point images"):
        module.apply(variables, jnp.zeros((1, 8, 8, 1), jnp.uint8))
    for shape in ((1, 8, 8, 3), (8, 8, 1)):
        with pytest.raises(ValueError, match=r"\(channels=1\) takes \[N, H, W, 1\], got shape"):
            module.apply(variables, jnp.zeros(shape))
