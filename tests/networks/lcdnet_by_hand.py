"""LCDNet and its layers in NumPy and float64, and what its tests share, beside by_hand.py."""

import jax
import jax.numpy as jnp
import numpy as np
from scipy import ndimage, special

from lcdnet_jax.networks import _lcdnet_blocks as blocks
from tests.networks.by_hand import quick_jit, shuffle


def drawn(module, *shapes):
    """Variables as after some training: every number its own, so that none can be mixed up."""
    rng = np.random.default_rng(0)

    def draw(path, leaf):
        name = path[-1].key
        if name == "kernel":
            fan = np.prod(leaf.shape[:-1]) if leaf.ndim < 5 else np.prod(leaf.shape[1:-1])
            value = rng.normal(0, fan**-0.5, leaf.shape)
        elif name == "scale":
            value = rng.uniform(0.5, 1.5, leaf.shape)
        else:
            value = rng.uniform(-0.4, 0.4, leaf.shape)
        return value.astype(np.float32)

    inputs = [jnp.zeros(shape) for shape in shapes]
    return jax.tree_util.tree_map_with_path(
        draw, {"params": jax.eval_shape(module.init, jax.random.key(0), *inputs)["params"]}
    )


def shared(**fields):
    options = {"dtype": jnp.float32, "norm_eps": 1e-6, "layer_scale_init": 0.0}
    options |= {"global_branch": "fourier_unit", "fourier": "fft", "block": "mssf"}
    return blocks.Shared(**options | fields)


# --- The layers by hand, in float64 ---------------------------------------------------------------


def conv(x, p):
    """Zero-padded, by shifted products; grouped where the kernel has fewer inputs."""
    kernel = np.asarray(p["kernel"], np.float64)
    size, per_group, out = kernel.shape[0], kernel.shape[2], kernel.shape[3]
    reach = size // 2
    height, width = x.shape[1:3]
    padded = np.pad(x, ((0, 0), (reach, reach), (reach, reach), (0, 0)))
    total = 0
    for i in range(size):
        for j in range(size):
            part = padded[:, i : i + height, j : j + width]
            if per_group == x.shape[3]:
                total = total + part @ kernel[i, j]
            else:  # depthwise: output o belongs to input o // multiplier
                total = total + part.repeat(out // x.shape[3], axis=-1) * kernel[i, j, 0]
    return total + np.asarray(p.get("bias", np.zeros(out)), np.float64)


def dense(x, p):
    return x @ np.asarray(p["kernel"], np.float64) + np.asarray(p.get("bias", 0), np.float64)


def norm(x, p, axes=-1, eps=1e-6):
    centered = x - x.mean(axes, keepdims=True)
    unit = centered / np.sqrt((centered**2).mean(axes, keepdims=True) + eps)
    return unit * np.asarray(p["scale"], np.float64) + np.asarray(p["bias"], np.float64)


def gate(x):
    half = x.shape[-1] // 2
    return x[..., :half] * x[..., half:]


def mean(x):
    return x.mean((1, 2), keepdims=True)


def softmax(x, axis):
    weights = np.exp(x - x.max(axis, keepdims=True))
    return weights / weights.sum(axis, keepdims=True)


def cat(*parts):
    return np.concatenate(parts, axis=-1)


def head_of(x, p, name):
    return gate(conv(conv(x, p[f"{name}_expand"]), p[f"{name}_dw"]))


def mssf_block(x, p):
    n = norm(x, p["norm1"])
    local = head_of(n, p, "local")
    total = x + p["beta_local"] * conv(local * dense(mean(local), p["local_sca"]), p["local_out"])

    f = p["global"]
    spectrum = np.fft.rfft2(head_of(n, f, "spatial"), axes=(1, 2), norm="ortho")
    mixed = gate(norm(conv(cat(spectrum.real, spectrum.imag), f["spectral"]), f["norm"]))
    half = mixed.shape[-1] // 2
    spectrum = mixed[..., :half] + 1j * mixed[..., half:]
    y = np.fft.irfft2(spectrum, x.shape[1:3], axes=(1, 2), norm="ortho")
    total = total + p["beta_global"] * conv(y * dense(mean(y), f["sca"]), f["out"])

    h = conv(norm(total, p["norm2"]), p["expand"])
    small, large = gate(conv(h, p["first_3"])), gate(conv(h, p["first_5"]))
    half = small.shape[-1] // 2
    u = gate(conv(cat(small[..., :half], large[..., :half]), p["second_3"]))
    v = gate(conv(cat(small[..., half:], large[..., half:]), p["second_5"]))
    return total + p["gamma"] * conv(cat(u, v), p["reduce"])


def msfm(x, p, groups=8):
    y = conv(x, p["in"])
    half = y.shape[-1] // 2
    branches = []
    for part, size in ((y[..., :half], 3), (y[..., half:], 5)):
        name = f"{size}x{size}"
        logits = norm(dense(mean(part), p[f"filter_{name}"]), p[f"filter_norm_{name}"])
        filters = softmax(logits.reshape(len(x), groups, size * size), -1)
        low = np.empty_like(part)
        for n in range(len(x)):
            for channel in range(half):
                kernel = filters[n, channel // (half // groups)].reshape(size, size)
                low[n, ..., channel] = ndimage.correlate(
                    part[n, ..., channel], kernel, mode="mirror"
                )
        high = part - low
        z = dense(mean(low + high), p[f"squeeze_{name}"])
        weights = softmax(np.stack([dense(z, p[f"{name}_{i}"]) for i in (0, 1)]), 0)
        branches.append(conv(weights[0] * high + weights[1] * low, p[f"out_{name}"]))
    return conv(cat(*branches), p["out"])


def stage(x, p):
    blocks = p["blocks"]
    for i in range(blocks["gamma"].shape[0]):
        x = mssf_block(x, jax.tree.map(lambda leaf, i=i: np.asarray(leaf[i], np.float64), blocks))
    return x + msfm(x, p["msfm"])


def scam(e, d, p):
    t = gate(dense(mean(e + d), p["squeeze"]))
    weights = softmax(np.stack([dense(t, p[f"gate_{i}"]) for i in (0, 1)]), 0)
    return weights[0] * e + weights[1] * d


def scam_of_normalized_means(e, d, p):
    t = gelu(dense(norm(mean(e + d), p["norm"], -1, 1e-6), p["squeeze"]))
    weights = softmax(np.stack([dense(t, p[f"gate_{i}"]) for i in (0, 1)]), 0)
    return weights[0] * e + weights[1] * d


def scam_of_pixels(e, d, p):
    return e / (1 + np.exp(-conv(cat(e, d), p["gate"])))


def gelu(y):
    return y * (1 + special.erf(y / np.sqrt(2))) / 2


def sfe(x, p):
    y = gelu(conv(gelu(conv(gelu(conv(x, p["conv1"])), p["conv2"])), p["conv3"]))
    return norm(conv(y, p["conv4"]), p["norm"], (1, 2), 1e-5)


def down(x, p):
    kernel = np.asarray(p["kernel"], np.float64)
    cells = [x[:, i::2, j::2] @ kernel[i, j] for i in (0, 1) for j in (0, 1)]
    return sum(cells) + np.asarray(p["bias"], np.float64)


def up(x, p):
    """Pixel shuffle: channel 4 c + 2 i + j becomes pixel (i, j) of channel c."""
    y = conv(x, p["conv"])
    n, height, width, channels = y.shape
    out = np.empty((n, 2 * height, 2 * width, channels // 4))
    for i in (0, 1):
        for j in (0, 1):
            out[:, i::2, j::2] = y[..., 2 * i + j :: 4]
    return out


def sff(skips, context, p):
    """Of MSFSNet: mixed from all scales, gated with a context from coarse to fine, mixed again."""

    def mix(features, name):
        mixed = []
        for to, own in enumerate(features):
            parts = []
            for source, other in enumerate(features):
                label = f"{name}_{source}_to_{to}"
                factor = 2 ** abs(to - source)
                if source < to:  # every so many pixels of a finer scale
                    parts.append(conv(other[:, ::factor, ::factor], p[label]))
                elif source > to:
                    parts.append(shuffle(conv(other, p[label]), factor))
                else:
                    parts.append(own)
            mixed.append(conv(cat(*parts), p[f"{name}_{to}"]))
        return mixed

    features, gated = mix(skips, "before"), []
    for scale in reversed(range(len(skips))):
        feature, context = features[scale], up(context, p[f"context{scale}"])
        t = gate(dense(mean(feature + context), p[f"squeeze{scale}"]))
        of_feature, of_context = (
            softmax(dense(t, p[f"{name}{scale}"]), -1) for name in ("feature", "gate")
        )
        context = context * (1 + of_context)
        gated.insert(0, feature * (1 + of_feature) + context)
    return mix(gated, "after")


def lcdnet_by_hand(x, p):
    height, width = x.shape[1:3]
    below, right = -height % 16, -width % 16
    image = np.pad(x.astype(np.float64), ((0, 0), (0, below), (0, right), (0, 0)), mode="reflect")
    images = [image[:, :: 2**k, :: 2**k] for k in range(4)]
    feature, skips = conv(image, p["stem"]), []
    for k in range(4):
        if k:
            feature = conv(cat(sfe(images[k], p[f"sfe{k}"]), feature), p[f"merge{k}"])
        feature = stage(feature, p[f"enc{k}"])
        skips.append(feature)
        feature = down(feature, p[f"down{k}"])
    feature = stage(feature, p["mid"])
    outputs = []
    for k in (3, 2, 1, 0):
        feature = up(feature, p[f"up{k}"])
        feature = conv(cat(feature, scam(skips[k], feature, p[f"scam{k}"])), p[f"skip{k}"])
        feature = stage(feature, p[f"dec{k}"])
        outputs.insert(0, images[k] + conv(feature, p[f"head{k}"]))
    return [outputs[0][:, :height, :width], *outputs[1:]]


def assert_equals(module, by_hand, *inputs):
    """Within 4e-5 of the largest magnitude: rounding differs between processors."""
    variables = drawn(module, *(x.shape for x in inputs))
    p = jax.tree.map(lambda leaf: np.asarray(leaf, np.float64), variables["params"])
    expected = by_hand(*(x.astype(np.float64) for x in inputs), p)
    actual = quick_jit(module.apply)(variables, *inputs)
    assert actual.dtype == jnp.float32
    np.testing.assert_allclose(actual, expected, rtol=0, atol=4e-5 * np.abs(expected).max())
    return variables["params"]
