"""The parts of IKC against slow references."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from lcdnet_jax import networks
from tests.networks.by_hand import (
    block_of,
    check,
    codes,
    conv,
    dense,
    drawn,
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


@pytest.mark.extended
def test_is_a_loop_of_the_three(ikc):
    module, params = ikc
    of_codes = {"features": 4, "code_length": 3}
    parts = {
        "predictor": networks.Predictor(**of_codes),
        "corrector": networks.Corrector(**of_codes),
        "sftmd": networks.SFTMD(scale=2, blocks=1, **of_codes),
    }

    @jax.jit
    def by_hand(params, x):
        predictor, corrector, sftmd = (
            functools.partial(part.apply, {"params": params[name]}) for name, part in parts.items()
        )
        codes = [predictor(x)]
        for _ in range(2):
            codes.append(corrector(sftmd(x, codes[-1]), codes[-1]))
        last = codes[-1]
        return jnp.stack(codes), sftmd(x, last), sftmd(x, last, train=True)

    @jax.jit
    def ours(params, x):
        apply = functools.partial(module.apply, {"params": params}, x)
        return apply(method="codes"), apply(), apply(train=True)

    x = image(2, 7, 6, 3)
    params = params | {"sftmd": {**params["sftmd"]}}
    output = params["sftmd"]["conv_output"]
    params["sftmd"]["conv_output"] = {**output, "bias": output["bias"] + np.float32(0.3)}
    codes, clipped, result = by_hand(params, x)
    assert abs(codes[2] - codes[1]).max() > 1e-3
    assert clipped.max() == 1 < result.max()
    assert clipped.min() < 0.99
    for found, expected in zip(ours(params, x), (codes, clipped, result), strict=True):
        np.testing.assert_allclose(found, expected, rtol=0, atol=1e-5)
    equations = jax.make_jaxpr(module.apply)({"params": params}, x).eqns
    assert [e.params["length"] for e in equations if e.primitive.name == "scan"].count(2) == 1


@pytest.mark.extended
def test_codes_are_of_principal_components(ikc):
    module, params = ikc
    basis = np.asarray(params["basis"]["kernel"])
    np.testing.assert_allclose(basis.T @ basis, np.eye(3), rtol=0, atol=1e-6)
    offsets, widths = np.arange(-2, 3), np.linspace(0.2, 2, 1000)
    lines = np.exp(-((offsets / widths[:, None]) ** 2) / 2)
    kernels = lines[:, :, None] * lines[:, None]
    kernels /= kernels.sum(axis=(1, 2), keepdims=True)
    expected = degradations.fit_kernel_code(kernels, components=3)
    np.testing.assert_allclose(basis, expected, rtol=0, atol=1e-3)
    few = kernels[::300].astype(np.float32)

    def encode(params):
        return module.apply({"params": params}, few, method="encode")

    np.testing.assert_array_equal(encode(params), degradations.encode_kernels(few, basis))
    grads = jax.grad(lambda params: encode(params).sum())(params)
    assert max(abs(leaf).max() for leaf in jax.tree.leaves(grads)) == 0


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
