"""N3Net against slow references."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import special, stats

from lcdnet_jax import convert, networks
from lcdnet_jax.networks import n3net
from tests.networks.by_hand import (
    assert_fills,
    conv,
    image,
    norm_by_hand,
    params_of,
    quick_jit,
    variables_of,
)


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


@pytest.mark.extended
def test_initialization():
    state = {"train": False, "axis_name": None}
    local = n3net.LocalNet(8, 64, 3)
    names = ("conv1", "conv2", "layer1_1")
    first, last, norm = params_of(local, *names, channels=64, **state)
    assert np.std(first["kernel"]) == pytest.approx((2 / (9 * 64)) ** 0.5, rel=0.03)
    assert np.std(last["kernel"]) == pytest.approx((2 / (9 * 8)) ** 0.5, rel=0.03)
    assert_fills(first["bias"], (9 * 64) ** -0.5)
    assert norm["scale"].min() == np.float32(0.025)
    assert norm["scale"].max() > 0.1
    block = n3net.N3Block(64, 2, 4, 2, 3)
    names = ("embedcnn_0", "distance_bn")
    conv, norm = params_of(block, *names, channels=8, **state)
    assert_fills(conv["kernel"], (9 * 8) ** -0.5)
    assert norm["scale"].item() == 1


def test_initial_scales_of_slow_batch_norm():
    """Half normal, and at least 0.025."""
    scales = quick_jit(lambda key: n3net._positive_normal(key, (50_000,)))(jax.random.key(0))
    assert (scales == np.float32(0.025)).all()  # of so many channels
    draw = quick_jit(jax.vmap(lambda key: n3net._positive_normal(key, (5,))))
    scales = np.ravel(draw(jax.random.split(jax.random.key(0), 10_000)))
    law = stats.halfnorm(0, (2 / (9 * 5)) ** 0.5)
    clipped = scales == np.float32(0.025)
    assert scales.min() == np.float32(0.025)
    assert abs(clipped.mean() - law.cdf(0.025)) < 5 * (law.cdf(0.025) / scales.size) ** 0.5
    above = (law.cdf(scales[~clipped]) - law.cdf(0.025)) / law.sf(0.025)
    assert stats.kstest(above, "uniform").statistic < 3 / above.size**0.5


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


def neighbors_by_hand(x, embedding, log_temperature, normalize, *, k, patch, stride, window):
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
        logits = normalize(negative_distances) / np.exp(mean + np.log(0.1))
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
        z = np.maximum(conv(y, p["conv1"]), 0)
        z = norm_by_hand(conv(z, p["layer1_0"]), p["layer1_1"], s["layer1_1"])
        z = conv(np.maximum(z, 0), p["conv2"])
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
                z = norm_by_hand(conv(z, p[f"{cnn}_{j}"]), p[norm], s[norm])
                z = np.maximum(z, 0)
            maps.append(conv(z, p[f"{cnn}_6"]))
        normalize = functools.partial(norm_by_hand, layer=p["distance_bn"], stats=s["distance_bn"])
        sizes = {"k": neighbours, "patch": patch, "stride": stride, "window": window}
        images = zip(y, *maps, strict=True)
        y = np.stack([neighbors_by_hand(*maps, normalize, **sizes) for maps in images])


@pytest.mark.extended
@pytest.mark.parametrize(
    ("size", "channels", "sizes"),
    [
        ((7, 13), 1, {"neighbours": 3, "patch": 4, "stride": 2, "window": 3}),
        ((13, 12), 3, {"neighbours": 2, "patch": 5, "stride": 3, "window": 2}),
    ],
)
def test_n3net_by_hand(size, channels, sizes):
    """Sides do not fit whole patches; one is as small as it may be without padding."""
    kwargs = {"width": 2, "features": 3, "depth": 3}
    module = networks.create("n3net", channels=channels, **kwargs, **sizes)
    x = image(2, *size, channels)
    variables = variables_of(module, channels)
    expected = n3net_by_hand(x, variables, **sizes)
    actual = quick_jit(module.apply)(variables, x)
    np.testing.assert_allclose(actual, expected, atol=1e-4 * np.abs(expected).max())


@pytest.mark.extended
def test_n3net_distances_enter_the_statistics_without_the_patch_itself():
    sizes = {"patch": 4, "stride": 2, "window": 3}
    block = n3net.N3Block(3, 2, **sizes)
    x = image(2, 10, 12, 2)
    state = {"train": True, "axis_name": None}
    variables = variables_of(block, 2, **state)

    def embedding(z, variables):
        """By the statistics of the batch, as in training."""
        p = variables["params"]
        for j in (0, 3):
            z = conv(z, p[f"embedcnn_{j}"])
            batch = {"mean": z.mean((0, 1, 2)), "var": z.var((0, 1, 2))}
            z = np.maximum(norm_by_hand(z, p[f"embedcnn_{j + 1}"], batch), 0)
        return conv(z, p["embedcnn_6"])

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
    variables = variables_of(block, **state)
    apply = quick_jit(lambda v: block.apply(v, x, **state, mutable=["batch_stats"]))
    _, updates = apply(variables)
    y = np.maximum(conv(np.asarray(x, np.float64), variables["params"]["conv1"]), 0)
    mean = conv(y, variables["params"]["layer1_0"]).mean((0, 1, 2))
    new, old = (v["batch_stats"]["layer1_1"]["mean"] for v in (updates, variables))
    np.testing.assert_allclose(new, 0.999 * old + 0.001 * mean, atol=1e-6)


@pytest.mark.parametrize(("size", "patch", "stride"), [((9, 12), 4, 3), ((7, 6), 3, 1)])
def test_patches_by_hand(size, patch, stride):
    """Zeros around, the odd one after the image; overlaps are averaged over all patches."""
    x = image(2, *size, 3)
    grid = n3net.PatchGrid(size, patch, stride)
    lacking = [-(side - patch) % stride for side in size]
    padded = np.pad(x, [(0, 0), *((lack // 2, -(-lack // 2)) for lack in lacking), (0, 0)])
    rows, columns = (
        len(range(0, side + lack - patch + 1, stride))
        for side, lack in zip(size, lacking, strict=True)
    )
    assert grid.shape == (rows, columns)
    patches = np.zeros((2, rows, columns, patch, patch, 3), np.float32)
    for n, i, j in np.ndindex(2, rows, columns):
        patches[n, i, j] = cut(padded[n], i, j, patch, stride)
    found = grid.patches(jnp.asarray(x))
    np.testing.assert_array_equal(found, patches)
    np.testing.assert_allclose(grid.image(found), x, atol=1e-6)

    changed = image(*patches.shape)
    total, count = np.zeros(padded.shape), np.zeros(padded.shape)
    for n, i, j in np.ndindex(2, rows, columns):
        place = np.s_[n, i * stride : i * stride + patch, j * stride : j * stride + patch]
        total[place] += changed[n, i, j]
        count[place] += 1
    (above, left), (height, width) = (lack // 2 for lack in lacking), size
    inside = np.s_[:, above : above + height, left : left + width]
    expected = total[inside] / count[inside]
    np.testing.assert_allclose(grid.image(jnp.asarray(changed)), expected, atol=1e-6)


@pytest.mark.parametrize(("rows", "columns", "window"), [(5, 4, 3), (4, 7, 4)])
def test_windows_by_hand(rows, columns, window):
    """Around each item, moved inward at the borders; an even one has its middle after the item."""
    items, weights = image(rows, columns, 6), image(rows, columns, window, window, 2)
    distances = quick_jit(functools.partial(n3net.window_distances, window=window))(items)
    sums = quick_jit(functools.partial(n3net.window_sums, window=window))(items, weights)
    own = n3net._self_positions(rows, columns, window)
    for i, j in np.ndindex(rows, columns):
        top = min(max(i - window // 2, 0), rows - window)
        left = min(max(j - window // 2, 0), columns - window)
        near = items[top : top + window, left : left + window].astype(np.float64)
        np.testing.assert_allclose(
            distances[i, j], ((near - items[i, j]) ** 2).sum(-1), atol=2e-6
        )  # fmt: skip
        expected = np.einsum("abk,abf->kf", weights[i, j], near)
        np.testing.assert_allclose(sums[i, j], expected, rtol=1e-5)
        assert own[i, j].sum() == 1
        assert own[i, j, i - top, j - left]


def test_neighbors_by_the_equations():
    """9 to 11: what one neighbor takes of a candidate is missing in the logits of the next."""
    logits = np.random.default_rng(0).normal(size=(2, 3, 7))
    found = quick_jit(lambda x: n3net.weigh_neighbors(x, 3))(logits.astype(np.float32))
    left = logits
    for k in range(3):
        weights = special.softmax(left, -1)
        np.testing.assert_allclose(found[..., k], weights, rtol=1e-5)
        left = left + np.log(1 - weights)


@pytest.mark.extended
def test_cold_neighbors_are_the_nearest_ones_in_order():
    logits = jnp.asarray([[-3.0, -1.0, -2.0, -9.0, -4.0]]) * 200
    weights = n3net.weigh_neighbors(logits, 3)[0]
    np.testing.assert_allclose(weights, np.eye(5)[:, [1, 2, 0]], atol=1e-6)

    def loss(logits):
        return (n3net.weigh_neighbors(logits, 3) * jnp.arange(3.0)[None, None]).sum()

    # The first takes all of its candidate, where the logarithm's slope is infinite.
    assert np.isfinite(quick_jit(jax.grad(loss))(logits)).all()


@pytest.mark.extended
def test_log1mexp():
    x = np.float32([-100, -20, -0.7, -0.69, -1e-3, -1e-6])
    expected = np.log1p(-np.exp(x.astype(np.float64)))
    np.testing.assert_allclose(n3net._log1mexp(jnp.asarray(x)), expected, rtol=1e-4, atol=1e-30)
    ends = jnp.asarray([-np.inf, 0.0, 5e-7])  # the last from rounding in a softmax
    np.testing.assert_array_equal(n3net._log1mexp(ends), [0, -np.inf, -np.inf])


@pytest.mark.extended
def test_log1mexp_makes_no_nan_on_the_way():
    """Or JAX's search for NaNs would stop at it."""
    with jax.debug_nans(True):
        n3net._log1mexp(jnp.float32([-100, -0.7, -0.69, -1e-6]))


@pytest.mark.extended
def test_gradient_of_log1mexp():
    """Exact below log 1/2; above it 1 - exp(x) counts as 1e-7 more, so that it stays bounded."""
    x = np.float32([-20, -3, -0.7, -0.69, -0.1, -1e-3, -1e-6, -1e-7, -1e-8])
    rest = -np.expm1(x.astype(np.float64))
    expected = -np.exp(x.astype(np.float64)) / (rest + np.where(x < -0.693, 0, 1e-7))
    gradient = jax.vmap(jax.grad(n3net._log1mexp))(jnp.asarray(x))
    np.testing.assert_allclose(gradient, expected, rtol=1e-4)
