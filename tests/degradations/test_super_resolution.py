"""Low-resolution images and their parts, against Pillow, MATLAB's definition and scipy."""

import functools
import math
import pathlib

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.io
from jax.sharding import Mesh, NamedSharding, PartitionSpec
from PIL import Image
from scipy import ndimage

from lcdnet_jax import degradations, image_io, storage

# Compiled without LLVM's optimization: these programs run a few times.
quick_jit = functools.partial(jax.jit, compiler_options={"xla_backend_optimization_level": 0})
bicubic = quick_jit(degradations.bicubic, static_argnames=("height", "width", "like"))
OPTIONS = ("scale", "downsampling", "noise", "quality", "protocol")
low_resolution = quick_jit(degradations.low_resolution, static_argnames=OPTIONS)
random_kernels = quick_jit(degradations.random_kernels, static_argnames=("kind", "width", "size"))

# Halves, thirds and quarters, odd sizes, one way only, enlargement, a single pixel.
SIZES = [(12, 18, 6, 9), (12, 18, 4, 6), (13, 9, 3, 2), (7, 11, 7, 4), (3, 5, 12, 11), (1, 6, 2, 1)]


@pytest.mark.parametrize("sizes", SIZES)
def test_bicubic_as_pillow(rng, sizes):
    before, (height, width) = sizes[:2], sizes[2:]
    image = rng.random((*before, 2), np.float32)
    expected = [
        np.asarray(Image.fromarray(plane).resize((width, height), Image.Resampling.BICUBIC))
        for plane in (image[..., 0], image[..., 1])
    ]
    actual = bicubic(image[None], height=height, width=width)
    np.testing.assert_allclose(actual[0], np.stack(expected, axis=-1), rtol=0, atol=1e-5)


def test_bicubic_as_pillow_in_8_bits(rng):
    """Levels where nothing is clipped between the two directions."""
    image = rng.integers(64, 192, (24, 36, 3), np.uint8)
    expected = Image.fromarray(image).resize((9, 6), Image.Resampling.BICUBIC)
    actual = bicubic(image[None].astype(np.float32), height=6, width=9)[0]
    assert abs(np.rint(actual) - np.asarray(expected, np.float32)).max() <= 1


@pytest.mark.parametrize("sizes", SIZES)
def test_bicubic_as_matlab(rng, sizes):
    image = rng.random(sizes[:2])
    expected = imresize(image, *sizes[2:])
    actual = bicubic(
        image[None, ..., None].astype(np.float32), height=sizes[2], width=sizes[3], like="matlab"
    )
    np.testing.assert_allclose(actual[0, ..., 0], expected, rtol=0, atol=2e-6)


def imresize(image, height, width):
    """MATLAB's definition, pixel by pixel; the direction of the smaller scale first."""
    scales = (height / image.shape[0], width / image.shape[1])
    for axis in np.argsort(scales, kind="stable"):
        lines = np.moveaxis(image, axis, 0)
        resized = [
            interpolated(lines, place, scales[axis])
            for place in range(1, (height, width)[axis] + 1)
        ]
        image = np.moveaxis(np.stack(resized), 0, axis)
    return image


def interpolated(lines, place, scale):
    """The line at ``place`` of the result; lines and places count from 1."""
    stretch = min(scale, 1)
    center = place / scale + 0.5 * (1 - 1 / scale)
    first = math.floor(center - 2 / stretch)
    total, weights = 0.0, 0.0
    for index in range(first, first + math.ceil(4 / stretch) + 2):
        weight = keys_cubic(stretch * (center - index))
        source = index
        while not 1 <= source <= len(lines):  # 0 is 1 again, and n + 1 is n
            source = 1 - source if source < 1 else 2 * len(lines) + 1 - source
        total, weights = total + weight * lines[source - 1], weights + weight
    return total / weights


def keys_cubic(x):
    x = abs(x)
    if x <= 1:
        return 1.5 * x**3 - 2.5 * x**2 + 1
    return -0.5 * x**3 + 2.5 * x**2 - 4 * x + 2 if x <= 2 else 0.0


def test_programs_differ_at_borders_only(rng):
    image = rng.random((1, 64, 64, 1), np.float32)
    pillow, matlab = (
        bicubic(image, height=16, width=16, like=like) for like in ("pillow", "matlab")
    )
    assert abs(pillow - matlab)[:, 2:-2, 2:-2].max() < 1e-6
    assert abs(pillow - matlab).max() > 0.01


def test_bicubic_messages():
    image = np.zeros((1, 4, 4, 1), np.float32)
    with pytest.raises(ValueError, match="cannot have 0x4 pixels; use 1 or more"):
        degradations.bicubic(image, height=0, width=4)
    with pytest.raises(ValueError, match="like 'opencv'; use one of pillow, matlab"):
        degradations.bicubic(image, height=2, width=2, like="opencv")
    with pytest.raises(TypeError, match="got uint8; convert with"):
        degradations.bicubic(image.astype(np.uint8), height=2, width=2)


def spread(kernels):
    """Sums and central second moments; all kernels must be centered."""
    kernels = np.asarray(kernels, np.float64)
    places = np.mgrid[: kernels.shape[1], : kernels.shape[2]] - kernels.shape[1] // 2
    np.testing.assert_allclose(np.einsum("nij,aij->na", kernels, places), 0, atol=1e-4)
    return kernels.sum(axis=(1, 2)), np.einsum("nij,aij,bij->nab", kernels, places, places)


@pytest.mark.extended
@pytest.mark.parametrize("kind", ["isotropic", "anisotropic", "disk", "motion"])
def test_kernels_have_their_width(kind):
    keys = jax.random.split(jax.random.key(0), 40)
    low, high, size = (6.0, 14.0, 15) if kind == "motion" else (1.0, 3.0, 21)
    kernels = random_kernels(keys, kind=kind, width=(low, high), size=size)
    assert kernels.shape == (40, size, size)
    assert kernels.dtype == jnp.float32
    assert kernels.min() >= 0
    total, moments = spread(kernels)
    np.testing.assert_allclose(total, 1, atol=1e-5)
    narrow, wide = np.sqrt(np.linalg.eigvalsh(moments)).T
    if kind == "motion":
        # A straight path has the most, length / sqrt(12), and its pixels are blurred by at most
        # half a pixel.
        assert (np.trace(moments, axis1=1, axis2=2) < high**2 / 12 + 0.5).all()
        assert wide.max() > 2
        assert wide.max() - wide.min() > 1
        assert (narrow < 0.7 * wide).sum() > 20
        return
    scale = 2 if kind == "disk" else 1  # a disk's second moment is radius / 2
    assert 0.93 * low < narrow.min() * scale < 1.5
    assert 2.5 < wide.max() * scale < 1.02 * high
    if kind == "anisotropic":
        assert (wide - narrow > 0.1).sum() > 25
        assert 5 < (moments[:, 0, 1] > 0.05).sum() < 35  # at any angle
    else:
        np.testing.assert_allclose(narrow, wide, atol=0.02)


@pytest.mark.extended
def test_kernels_of_fixed_width():
    """Those of another key are the same; no width means no blur."""
    keys = jax.random.split(jax.random.key(1), 2)
    fixed = np.asarray(random_kernels(keys, kind="isotropic", width=(1.5, 1.5)))
    np.testing.assert_array_equal(fixed[0], fixed[1])
    np.testing.assert_allclose(np.sqrt(spread(fixed)[1][0]), np.diag([1.5, 1.5]), atol=2e-3)
    point = np.zeros((5, 5))
    point[2, 2] = 1
    for kind in ("isotropic", "anisotropic", "disk", "motion"):
        (kernel,) = random_kernels(keys[:1], kind=kind, width=(0.0, 0.0), size=5)
        np.testing.assert_allclose(kernel, point, atol=1e-6)


def test_pool(rng):
    """Each is drawn, about equally often, and scaled."""
    pool = rng.random((3, 5, 5), np.float32)
    keys = jax.random.split(jax.random.key(0), 90)
    kernels = np.asarray(random_kernels(keys, kind="pool", pool=pool))
    distances = abs(kernels[:, None] - pool / pool.sum(axis=(1, 2), keepdims=True)).max(axis=(2, 3))
    assert (distances.min(axis=1) < 1e-6).all()
    assert (np.bincount(distances.argmin(axis=1), minlength=3) > 15).all()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"kind": "box"}, "kind 'box'; use one of isotropic, anisotropic, disk, motion, pool"),
        ({"kind": "pool"}, "give pool, an array of kernels, with kind='pool'"),
        ({"kind": "disk", "pool": np.ones((1, 3, 3))}, "and with no other kind"),
        ({"kind": "pool", "pool": np.ones((3, 3))}, r"\[K, S, S\] with S odd, got shape \(3, 3\)"),
        ({"kind": "pool", "pool": np.ones((1, 3, 5))}, "expected a pool"),
        ({"kind": "pool", "pool": np.ones((1, 4, 4))}, "read_kernels pads"),
        ({"kind": "isotropic", "width": (3.0, 1.0)}, "use two numbers"),
        ({"kind": "isotropic", "size": 20}, "size is 20; use an odd number, 1 or more"),
        ({"kind": "disk", "size": 7}, "size is 7; use an odd number, 9 or more .* up to 4"),
        ({"kind": "motion", "width": (1.0, 7.5), "size": 7}, "9 or more"),
    ],
)
def test_kernel_messages(options, message):
    with pytest.raises(ValueError, match=message):
        degradations.random_kernels(jax.random.split(jax.random.key(0), 1), **options)


def test_read_kernels(rng, tmp_path):
    """Every kind of file; small and even kernels keep their center."""
    three, four = rng.random((2, 3, 3)), rng.random((4, 4))
    three /= three.sum(axis=(1, 2), keepdims=True)
    four /= four.sum()
    np.save(tmp_path / "a.npy", three * 1.005)
    scipy.io.savemat(tmp_path / "b.mat", {"Kernel": four})
    levels = rng.integers(0, 256, (7, 7), np.uint8)
    image_io.write(tmp_path / "c.png", levels)
    image_io.write(tmp_path / "d.tif", three[0].astype(np.float32) * 9)
    (tmp_path / "readme.txt").write_text("ignored")
    (tmp_path / "._a.npy").write_text("ignored")
    kernels = degradations.read_kernels(tmp_path)
    assert kernels.shape == (5, 7, 7)
    assert kernels.dtype == np.float32
    np.testing.assert_allclose(kernels.sum(axis=(1, 2)), 1, rtol=1e-6)
    for i, kernel in ((0, three[0]), (1, three[1]), (4, three[0])):
        np.testing.assert_allclose(kernels[i], np.pad(kernel, 2), atol=1e-6)
    np.testing.assert_allclose(kernels[2], np.pad(four, (1, 2)), atol=1e-6)
    np.testing.assert_allclose(kernels[3], levels / levels.sum(), atol=1e-6)

    # scipy places the center of an even kernel there, too.
    image = rng.random((1, 9, 9, 1), np.float32)
    blurred = degradations.filter_images(image, kernels[2:3])[0, ..., 0]
    np.testing.assert_allclose(
        blurred, ndimage.convolve(image[0, ..., 0], four, mode="mirror"), atol=1e-5
    )


def test_read_kernels_of_a_bucket(tmp_path, bucket):
    np.save(tmp_path / "a.npy", np.full((3, 3), 1 / 9))
    scipy.io.savemat(tmp_path / "b.mat", {"kernel": np.eye(3) / 3})
    image_io.write(tmp_path / "c.png", np.eye(5, dtype=np.uint8))
    storage.upload(tmp_path, storage.to_path(f"{bucket}/pool"))
    found = degradations.read_kernels(f"{bucket}/pool")
    np.testing.assert_array_equal(found, degradations.read_kernels(tmp_path))
    with pytest.raises(ValueError, match=r"gs://.*/none: no such folder"):
        degradations.read_kernels(f"{bucket}/none")


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("k.npy", np.full((3, 5), 1 / 15), r"must be square, .* shape \(3, 5\); pad it by zeros"),
        ("k.npy", np.full((3, 3), 1.0), "sum is 9, not 1; divide it by its sum"),
        ("k.npy", np.full((3, 3), np.nan), "NaN or infinity"),
        ("k.npy", np.array([[2.0, -1.0], [0.0, 0.0]]), "negative values, down to -1; set them to"),
        ("k.npy", np.zeros((3, 3)), "0 everywhere; remove"),
        ("k.npy", np.ones((3, 3), np.complex64), "complex64, not real numbers"),
        ("k.npy", None, "cannot be read .*np.save"),
        ("k.mat", None, "cannot be read .*-v7"),
        ("k.mat", {"a": np.eye(3), "b": np.eye(3)}, r"2 variables \(a, b\); store the kernel"),
        ("k.mat", {"a": np.full((2, 3, 3), 1 / 9)}, "must be square"),
        ("k.png", np.ones((3, 3, 3), np.uint8), "a gray image without alpha; convert it"),
        ("k.png", np.ones((3, 4), np.uint8), "must be square"),
        ("k.png", None, "k.png"),
        ("k.txt", None, r"contains no kernel; put .npy, .mat, .png or .tif files into it"),
    ],
)
def test_files_that_are_no_kernels(tmp_path, name, content, message):
    path = tmp_path / name
    if content is None:
        path.write_bytes(b"nothing of this kind")
    elif name.endswith(".npy"):
        np.save(path, content)
    elif name.endswith(".mat"):
        scipy.io.savemat(path, content)
    else:
        image_io.write(path, content)
    with pytest.raises(ValueError, match=message) as caught:
        degradations.read_kernels(tmp_path)
    assert str(tmp_path) in str(caught.value)


def test_folder_that_cannot_be_read(tmp_path, monkeypatch):
    def refuse(path):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(pathlib.Path, "iterdir", refuse)
    with pytest.raises(ValueError, match=r"cannot be read \(Permission denied\); give"):
        degradations.read_kernels(tmp_path)


def test_no_folder_of_kernels(tmp_path):
    with pytest.raises(ValueError, match="no such folder; give the one that holds"):
        degradations.read_kernels(tmp_path / "kernels")


@pytest.mark.parametrize("wrong", [0.0, np.nan, [[0, 0, 0], [0, 2, -1], [0, 0, 0]]])
def test_pools_of_no_kernels(wrong):
    pool = np.full((2, 3, 3), 1 / 9, np.float32)
    pool[1] = wrong
    keys = jax.random.split(jax.random.key(0), 1)
    with pytest.raises(ValueError, match="is negative somewhere, not finite, or 0 everywhere"):
        degradations.random_kernels(keys, kind="pool", pool=pool)


@pytest.mark.parametrize("scale", [2, 3, 4])
@pytest.mark.parametrize("downsampling", ["pillow", "matlab", "direct"])
def test_blur_and_downsampling(rng, scale, downsampling):
    """Scipy's mirrored convolution, then one of the two bicubics or the upper left pixels."""
    channels = 1 if scale == 3 else 3
    images = rng.random((2, 3 * scale, 5 * scale, channels), np.float32)
    kernels = rng.random((2, 5, 5), np.float32)
    kernels /= kernels.sum(axis=(1, 2), keepdims=True)
    keys = jax.random.split(jax.random.key(0), 2)
    actual = low_resolution(keys, images, scale=scale, kernels=kernels, downsampling=downsampling)
    blurred = np.stack(
        [
            np.stack([ndimage.convolve(x[..., c], k, mode="mirror") for c in range(channels)], -1)
            for x, k in zip(images, kernels, strict=True)
        ]
    )
    if downsampling == "direct":
        expected = blurred[:, ::scale, ::scale]
    else:
        expected = bicubic(blurred, height=3, width=5, like=downsampling)
    assert actual.shape == (2, 3, 5, channels)
    np.testing.assert_allclose(actual, expected, atol=3e-6)


def test_shift_of_direct_downsampling():
    """By half a block less one half, as the docstring says."""
    ramp = jnp.broadcast_to(jnp.arange(32, dtype=jnp.float32)[None, :, None, None], (1, 32, 4, 1))
    keys = jax.random.split(jax.random.key(0), 1)
    direct, middle = (
        low_resolution(keys, ramp, scale=4, downsampling=name) for name in ("direct", "pillow")
    )
    np.testing.assert_allclose((middle - direct)[0, 2:-2], 1.5, atol=1e-4)


def test_noise_and_jpeg():
    """Levels of noise differ and lie in their range; files hold 256 levels; JPEG changes flats."""
    keys = jax.random.split(jax.random.key(0), 12)
    flat = jnp.full((12, 64, 64, 1), 0.5, jnp.float32)
    noisy = low_resolution(keys, flat, scale=2, noise=(5.0, 25.0))
    levels = np.std(np.asarray(noisy) - 0.5, axis=(1, 2, 3)) * 255
    assert 4.5 < levels.min() < 10
    assert 20 < levels.max() < 27
    stored = low_resolution(keys, flat, scale=2, noise=(5.0, 25.0), protocol="8bit") * 255
    np.testing.assert_allclose(stored, np.rint(noisy * 255), atol=1e-3)
    saved = low_resolution(keys, flat, scale=2, noise=(5.0, 25.0), quality=(20, 20)) * 255
    np.testing.assert_allclose(saved, np.rint(saved), atol=1e-3)
    assert abs(saved - stored).mean() > 1


def degrade(keys, images, *, pool):
    kernel_keys, rest = (jax.vmap(jax.random.fold_in, (0, None))(keys, i) for i in (0, 1))
    kernels = degradations.random_kernels(kernel_keys, kind="pool", pool=pool)
    return degradations.low_resolution(
        rest, images, scale=2, kernels=kernels, downsampling="matlab", noise=(1.0, 9.0)
    )


def test_an_image_depends_on_itself_and_its_key(rng):
    """Neither on others, nor on its place, nor on how devices share the batch."""
    split = NamedSharding(Mesh(np.array(jax.devices()[:2]), ("data",)), PartitionSpec("data"))
    keys = jax.random.split(jax.random.key(0), 4)
    images = rng.random((4, 6, 10, 3), np.float32)
    function = functools.partial(degrade, pool=rng.random((7, 3, 3), np.float32))
    shared = jax.device_put((keys, images), split)
    program = quick_jit(function, out_shardings=split).lower(*shared).compile()
    text = program.as_text()
    assert not [op for op in ("all-gather", "all-reduce", "all-to-all", "permute") if op in text]
    low = np.asarray(program(*shared))
    mixed = jax.device_put((keys[np.array([1, 0, 0, 2])], images[[1, 1, 0, 3]]), split)
    others = np.asarray(program(*mixed))
    alone = np.asarray(quick_jit(function)(keys[1:2], images[1:2]))
    np.testing.assert_allclose(others[0], low[1], atol=1e-6)
    np.testing.assert_allclose(alone[0], low[1], atol=1e-6)
    assert abs(others[1] - low[1]).mean() > 0.005  # another key


@pytest.mark.extended
@pytest.mark.parametrize("kind", ["anisotropic", "disk", "motion"])
def test_kernels_need_no_exchange(kind):
    split = NamedSharding(Mesh(np.array(jax.devices()[:2]), ("data",)), PartitionSpec("data"))
    keys = jax.device_put(jax.random.split(jax.random.key(0), 4), split)
    draw = functools.partial(degradations.random_kernels, kind=kind, width=(1.0, 3.0), size=7)
    program = quick_jit(draw, out_shardings=split).lower(keys).compile()
    text = program.as_text()
    assert not [op for op in ("all-gather", "all-reduce", "all-to-all", "permute") if op in text]
    np.testing.assert_allclose(program(keys)[3], quick_jit(draw)(keys[3:])[0], atol=1e-6)


def test_type_of_images():
    """Numbers are float32 inside: rounding to bfloat16 comes last."""
    ramp = jnp.linspace(0, 1, 8 * 12 * 3).astype(jnp.bfloat16).reshape(1, 8, 12, 3)
    keys = jax.random.split(jax.random.key(0), 1)
    kernels = jnp.full((1, 3, 3), 1 / 9, jnp.float32)
    options = {"scale": 2, "noise": (5.0, 5.0), "protocol": "8bit", "quality": (90, 90)}
    low = low_resolution(keys, ramp, kernels=kernels, **options)
    exact = low_resolution(keys, ramp.astype(jnp.float32), kernels=kernels, **options)
    assert low.dtype == jnp.bfloat16
    np.testing.assert_array_equal(low, exact.astype(jnp.bfloat16))
    assert bicubic(ramp, height=3, width=30).dtype == jnp.bfloat16


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"scale": 3}, "images of 8x12 pixels cannot be reduced to 1/3; crop or pad .* of 3"),
        ({"scale": 1}, "scale is 1; use a whole number, 2 or more"),
        ({"downsampling": "area"}, "'area'; use one of pillow, matlab, direct"),
        ({"kernels": np.ones((1, 9, 9))}, "9x9 pixels are larger than images of 8x12; use larger"),
        ({"kernels": np.ones((1, 4, 4))}, "odd"),
        ({"kernels": np.ones((2, 3, 3))}, "one for each image"),
        ({"noise": 5.0}, "noise is 5.0; use two numbers"),
        ({"quality": (0, 50)}, "1 <= low <= high <= 100"),
        ({"protocol": "png"}, "no noise protocol 'png'"),
    ],
)
def test_low_resolution_messages(options, message):
    keys, image = jax.random.split(jax.random.key(0), 1), np.zeros((1, 8, 12, 3), np.float32)
    with pytest.raises(ValueError, match=message):
        degradations.low_resolution(keys, image, **{"scale": 2, **options})
    with pytest.raises(ValueError, match=r"keys have shape .*, expected \(2,\); give one"):
        degradations.low_resolution(keys, np.zeros((2, 8, 12, 3), np.float32), scale=2)
