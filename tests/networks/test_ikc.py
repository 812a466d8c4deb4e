"""The parts of IKC against slow references."""

import functools
import inspect

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from lcdnet_jax import networks
from lcdnet_jax.networks import ikc as ikc_module
from tests.networks.by_hand import (
    block_of,
    check,
    codes,
    conv,
    dense,
    drawn,
    exact,
    image,
    lrelu,
    quick_jit,
    relu,
    shuffle,
    sigmoid,
)


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


@pytest.mark.parametrize("channels", [1, 3])
def test_predictor_by_hand(channels):
    module = networks.Predictor(channels=channels, features=4, code_length=3)
    check(module, [image(2, 9, 6, channels)], predictor_by_hand)


def test_corrector_by_hand():
    module = networks.Corrector(features=4, code_length=3)
    check(module, [image(2, 9, 6, 3), codes(2, 3)], corrector_by_hand)


@pytest.mark.extended
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


IKC = pytest.mark.parametrize(
    ("module", "inputs"),
    [
        (networks.Predictor(features=4), [image(1, 9, 6, 3)]),
        (networks.Corrector(features=4), [image(1, 9, 6, 3), codes(1, 10)]),
        (networks.SFTMD(features=4, blocks=2), [image(1, 9, 6, 3), codes(1, 10)]),
    ],
)


@pytest.mark.extended
@IKC
def test_ikc_in_bfloat16(module, inputs):
    variables = drawn(module, *inputs)
    full = np.asarray(quick_jit(module.apply)(variables, *inputs))
    rough = quick_jit(module.clone(dtype=jnp.bfloat16).apply)(variables, *inputs)
    assert rough.dtype == jnp.float32
    assert 0 < np.abs(np.asarray(rough) - full).max() < 0.03 * max(1, np.abs(full).max())


@pytest.mark.extended
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


TINY = {
    **{"scale": 2, "features": 4, "blocks": 1, "iterations": 2},
    **{"code_length": 3, "kernel_size": 5, "width": (0.2, 2.0)},
}


@pytest.fixture(scope="module")
def ikc():
    """The network, and parameters as after some training."""
    module = networks.create("ikc", **TINY)
    params = drawn(module, image(1, 4, 4, 3))["params"]
    # Images around white, so that clipping shows.
    params["sftmd"]["conv_output"]["bias"] = jnp.full(3, 0.8)
    return module, params


def by_hand(params, x):
    """All codes and the last image before clipping, from the parts in float64."""
    p = exact(params)
    codes = [predictor_by_hand(x, p["predictor"])]
    for _ in range(TINY["iterations"]):
        restored = sftmd_by_hand(x, codes[-1], p["sftmd"], (2,)).clip(0, 1)
        codes.append(corrector_by_hand(restored, codes[-1], p["corrector"]))
    return np.stack(codes), sftmd_by_hand(x, codes[-1], p["sftmd"], (2,))


@pytest.mark.extended
def test_is_a_loop_of_the_three(ikc):
    module, params = ikc
    x = image(2, 7, 6, 3)

    @quick_jit
    def found(params):
        apply = functools.partial(module.apply, {"params": params}, x)
        codes = apply(method="codes")
        known = apply(codes[0], method="with_code")
        return codes, apply(train=True), apply(), apply(method="guess"), known

    codes, result = by_hand(params, x.astype(np.float64))
    assert codes.shape == (3, 2, 3)
    assert abs(codes[2] - codes[1]).max() > 1e-3
    assert result.min() < 0.99
    assert result.max() > 1.01
    known = sftmd_by_hand(x, codes[0], exact(params["sftmd"]), (2,)).clip(0, 1)
    expected = codes, result, result.clip(0, 1), codes[0], known
    for ours, theirs in zip(found(params), expected, strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=0, atol=2e-5 * np.abs(theirs).max())
    equations = jax.make_jaxpr(module.apply)({"params": params}, x).eqns
    assert [e.params["length"] for e in equations if e.primitive.name == "scan"].count(2) == 1


@pytest.mark.extended
def test_each_code_trains_its_own_part(ikc):
    """The first estimate the predictor, corrections the corrector, and none the SFTMD."""
    module, params = ikc
    x = image(2, 7, 6, 3)

    @quick_jit
    def gradients(params):
        def code(params, i):
            return (module.apply({"params": params}, x, method="codes")[i] ** 2).sum()

        return [jax.grad(code)(params, i) for i in range(3)]

    @quick_jit
    def last_correction(params):
        codes = module.apply({"params": params}, x, method="codes")
        restored = module.apply({"params": params}, x, codes[1], method="with_code")
        corrector = networks.Corrector(features=4, code_length=3)

        def loss(p):
            return (corrector.apply({"params": p}, restored, codes[1]) ** 2).sum()

        return jax.grad(loss)(params["corrector"])

    def trained(gradient):
        return {
            part for part in gradient if any(np.any(g) for g in jax.tree.leaves(gradient[part]))
        }

    found = gradients(params)
    assert [trained(gradient) for gradient in found] == [{"predictor"}, *2 * [{"corrector"}]]
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=0, atol=1e-5 * np.abs(b).max()),
        found[2]["corrector"],
        last_correction(params),
    )


def test_codes_are_of_principal_components():
    """Those of 1000 isotropic Gaussians, computed in float64."""
    basis = ikc_module.Basis(5, 3, (0.2, 2.0))
    matrix = np.asarray(basis.init(jax.random.key(0), np.zeros((1, 5, 5)))["params"]["kernel"])
    np.testing.assert_allclose(matrix.T @ matrix, np.eye(3), rtol=0, atol=1e-6)
    offsets, widths = np.arange(-2, 3), np.linspace(0.2, 2, 1000)
    lines = np.exp(-((offsets / widths[:, None]) ** 2) / 2)
    kernels = lines[:, :, None] * lines[:, None]
    kernels /= kernels.sum(axis=(1, 2), keepdims=True)
    vectors = kernels.reshape(1000, 25)
    _, _, directions = np.linalg.svd(vectors - vectors.mean(0))
    expected = directions[:3].T
    expected *= np.sign(expected[abs(expected).argmax(0), range(3)])
    np.testing.assert_allclose(matrix, expected, rtol=0, atol=1e-7)

    few = kernels[::300].astype(np.float32)

    def encode(matrix):
        return basis.apply({"params": {"kernel": matrix}}, few)

    codes = few.reshape(-1, 25).astype(np.float64) @ matrix
    np.testing.assert_allclose(encode(matrix), codes, rtol=0, atol=1e-6)
    assert not jax.grad(lambda matrix: encode(matrix).sum())(jnp.asarray(matrix)).any()


def test_initialization_makes_the_parameters_of_all_parts():
    params = networks.abstract_variables(networks.create("ikc", **TINY))["params"]
    assert {"predictor", "corrector", "sftmd", "basis"} == set(params)
    assert params["basis"]["kernel"].shape == (25, 3)


@pytest.mark.parametrize("part", [networks.Predictor, networks.Corrector, networks.SFTMD])
def test_parts_do_not_train_by_default(part):
    assert inspect.signature(part.__call__).parameters["train"].default is False


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"kernel_size": 4}, r"kernel_size 4 must be odd, and its square at least code_length \("),
        ({"kernel_size": 3}, r"kernel_size 3 must be odd, and its square at least .* \(10\)"),
        ({"width": (2.0, 0.2)}, r"width must be two numbers \(low, high\) with .*got \(2.0, 0.2\)"),
        ({"width": 2.0}, r"width must be two numbers .*, got 2.0"),
        ({"iterations": 0}, "IKC iterations must be an integer of at least 1, got 0"),
        ({"scale": 5}, "IKC scale must be 2, 3 or 4, got 5"),
    ],
    ids=str,
)
def test_bad_fields(fields, message):
    with pytest.raises(ValueError, match=message):
        networks.create("ikc", **fields)
