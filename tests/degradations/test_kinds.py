"""What holds for every degradation: shapes, types, keys, batches, devices, messages."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from lcdnet_jax import degradations

# Compiled without LLVM's optimization: these programs run a few times.
quick_jit = functools.partial(jax.jit, compiler_options={"xla_backend_optimization_level": 0})
partial = functools.partial

# All steps of a camera.
CAMERA = {
    "color_matrix": (0.0, 1.0),
    "balance": "demosaiced",
    "contrast": (0.0, 1.0),
    "zoom": (1.0, 2.0),
    "denoise": (0.0, 1.0),
    "sharpen": (0.0, 1.0),
    "ground_truth": "average",
    "subsampling": "random",
    "shift_blocks": True,
    "second_quality": (50, 100),
    "processed": 0.5,
}
# Rounded, so the last bit of a sum may become a whole level.
STORED = {"camera noise", "whole camera", "JPEG"}
UNBOUNDED = {"Poisson-Gaussian"}
ALL = {
    "motion": partial(degradations.motion_blur, length=(2.0, 6.0), rotation=9.0, grid=2),
    "defocus": partial(degradations.defocus, radius=(1.0, 3.0)),
    "dual pixel": partial(degradations.dual_pixel, radius=(-2.0, 3.0)),
    "rain": partial(degradations.rain, kind="heavy"),
    "camera noise": degradations.camera_noise,
    "whole camera": partial(degradations.camera_noise, **CAMERA),
    "Poisson-Gaussian": partial(degradations.poisson_gaussian, shot=0.01, read=1e-3),
    "JPEG": degradations.random_jpeg,
    "downsampling": partial(degradations.gaussian_downsample, factor=3),
}


def expected_shape(name, count, height, width, channels):
    if name == "dual pixel":
        channels *= 2
    if name == "downsampling":
        height, width = -(-height // 3), -(-width // 3)
    return count, height, width, channels


@pytest.mark.extended
@pytest.mark.parametrize("name", ALL)
def test_an_image_depends_on_itself_and_its_key(name, rng):
    """Neither on other images nor on its place, on the batch's size, or on how devices share it."""
    split = NamedSharding(Mesh(np.array(jax.devices()[:2]), ("data",)), PartitionSpec("data"))
    keys = jax.random.split(jax.random.key(0), 4)
    clean = rng.random((4, 7, 10, 3), np.float32)
    shared = jax.device_put((keys, clean), split)
    program = quick_jit(ALL[name], out_shardings=split).lower(*shared).compile()
    text = program.as_text()
    assert not [op for op in ("all-gather", "all-reduce", "all-to-all", "permute") if op in text]

    degraded = np.asarray(program(*shared))
    assert degraded.shape == expected_shape(name, *clean.shape)
    assert degraded.dtype == np.float32
    if name not in UNBOUNDED:
        assert degraded.min() > -1e-5
        assert degraded.max() < 1 + 1e-5
    if name in STORED:
        np.testing.assert_allclose(degraded * 255, np.rint(degraded * 255), atol=1e-4)
    mixed = (keys[np.array([1, 0, 0, 2])], clean[[1, 1, 0, 3]])
    others = np.asarray(program(*jax.device_put(mixed, split)))
    alone = np.asarray(quick_jit(ALL[name])(keys[1:2], clean[1:2]))
    for same in (others[0], alone[0]):
        assert abs(same - degraded[1]).mean() < (1e-3 if name in STORED else 1e-6)
    assert abs(others[1] - degraded[1]).mean() > 0.005  # another key


@pytest.mark.parametrize(
    "name",
    [pytest.param(n, marks=pytest.mark.extended) if n == "whole camera" else n for n in ALL],
)
def test_one_gray_pixel_of_bfloat16(name):
    clean = jnp.full((1, 1, 1, 1), 0.5, jnp.bfloat16)
    degraded = quick_jit(ALL[name])(jax.random.split(jax.random.key(3), 1), clean)
    assert degraded.shape == expected_shape(name, 1, 1, 1, 1)
    assert degraded.dtype == jnp.bfloat16
    degraded = np.asarray(degraded, np.float32)
    assert np.isfinite(degraded).all()
    if name not in ("rain", "camera noise", "whole camera", "Poisson-Gaussian"):
        np.testing.assert_allclose(degraded, 0.5, atol=0.004)  # nothing to blur or compress


@pytest.mark.parametrize("name", ALL)
def test_messages(name):
    keys = jax.random.split(jax.random.key(0), 2)
    with pytest.raises(TypeError, match="got uint8; convert with"):
        ALL[name](keys, np.zeros((2, 4, 4, 3), np.uint8))
    with pytest.raises(
        ValueError, match=r"keys have shape \(2,\), expected \(3,\); .*jax\.random\.split"
    ):
        ALL[name](keys, np.zeros((3, 4, 4, 3), np.float32))
    with pytest.raises(ValueError, match=r"expected images \[N, H, W, C\]"):
        ALL[name](keys, np.zeros((2, 4, 4), np.float32))
    with pytest.raises(ValueError, match=r"\(2, 0, 4, 3\) are empty"):
        ALL[name](keys, np.zeros((2, 0, 4, 3), np.float32))


@pytest.mark.parametrize(
    ("function", "options", "message"),
    [
        ("motion_blur", {"length": (9.0, 3.0)}, r"length is \(9.0, 3.0\); use two numbers"),
        ("motion_blur", {"length": (-1.0, 3.0)}, r"\(low, high\) with 0 <= low <= high"),
        ("motion_blur", {"length": 5.0}, "length is 5.0; use two numbers"),
        ("motion_blur", {"length": (1.0, float("inf"))}, "use two numbers"),
        ("motion_blur", {"anxiety": -1.0}, "use 0"),
        ("motion_blur", {"rotation": 90.0}, "use degrees from 0 to 45"),
        ("motion_blur", {"grid": 1}, "use 2 or more"),
        ("motion_blur", {"gamma": 0.0}, "use a positive number, 1 for no tone curve"),
        ("defocus", {"radius": (-1.0, 3.0)}, "0 <= low"),
        ("dual_pixel", {"radius": (3.0, 2.0)}, "use two numbers"),
        ("dual_pixel", {"gamma": -1.0}, "use a positive number"),
        ("rain", {"kind": "purple"}, "no rain 'purple'; use one of light, heavy, or a Rain"),
        ("camera_noise", {"shot": (0.0, 0.1)}, "shot is"),
        ("camera_noise", {"quality": (0, 200)}, "1 <= low <= high <= 100"),
        ("random_jpeg", {"subsampling": "4:2:2"}, "use one of 4:2:0, 4:4:4, random"),
        ("random_jpeg", {"shift_blocks": "yes"}, "shift_blocks is 'yes'; use True or False"),
        ("random_jpeg", {"quality": (0, 90)}, "1 <= low"),
        ("gaussian_downsample", {"factor": 0}, "use 1 or more"),
        ("gaussian_downsample", {"factor": 2, "width": (0.0, 1.0)}, "0.1 <= low"),
        ("gaussian_downsample", {"factor": 2, "isotropic": 2.0}, "use a probability"),
    ],
)
def test_options_out_of_range(function, options, message):
    keys, clean = jax.random.split(jax.random.key(0), 1), np.zeros((1, 3, 3, 3), np.float32)
    with pytest.raises(ValueError, match=message):
        getattr(degradations, function)(keys, clean, **options)


@pytest.mark.parametrize("name", ["JPEG", "camera noise"])
def test_number_of_channels(name):
    keys = jax.random.split(jax.random.key(0), 1)
    with pytest.raises(ValueError, match=r"expected 1 or 3 channels, got 6; .*convert_channels"):
        ALL[name](keys, np.zeros((1, 3, 3, 6), np.float32))


def test_composition():
    def add(keys, images, *, scale):
        noise = jax.vmap(lambda key: jax.random.normal(key, images.shape[1:], jnp.float32))(keys)
        return images + scale * noise

    keys, clean = jax.random.split(jax.random.key(1), 2), jnp.zeros((2, 2, 3, 1), jnp.float32)
    child = [jnp.stack([jax.random.fold_in(key, i) for key in keys]) for i in range(2)]
    one, both = (
        degradations.compose(*steps)(keys, clean)
        for steps in ([partial(add, scale=1.0)], [partial(add, scale=1.0), partial(add, scale=9.0)])
    )
    np.testing.assert_array_equal(one, add(child[0], clean, scale=1.0))
    np.testing.assert_array_equal(both, add(child[1], one, scale=9.0))
    np.testing.assert_array_equal(degradations.compose()(keys, clean), clean)


def test_public_names():
    assert all(callable(getattr(degradations, n)) or n.isupper() for n in degradations.__all__)
    assert sorted(degradations.__all__, key=lambda n: (not n.isupper(), not n[0].isupper(), n)) == (
        degradations.__all__
    )
