"""The adapter of the package lpips."""

import contextlib
import importlib.machinery
import re
import sys
import types

import numpy as np
import pytest

from lcdnet_jax.metrics import lpips as lpips_lib


@pytest.fixture
def package(monkeypatch):
    """Stand-ins for lpips and torch; calls are recorded, the distance is the mean error."""
    torch, lpips = types.ModuleType("torch"), types.ModuleType("lpips")
    torch.from_numpy, torch.no_grad = np.asarray, contextlib.nullcontext
    made, seen = [], []

    def network(*images, normalize):
        assert normalize
        seen.append(images)
        return np.abs(images[0] - images[1]).mean(keepdims=True)

    def make(**options):
        made.append(options)
        return network

    lpips.LPIPS = make
    lpips.__spec__ = importlib.machinery.ModuleSpec("lpips", None)
    monkeypatch.setitem(sys.modules, "torch", torch)
    monkeypatch.setitem(sys.modules, "lpips", lpips)
    lpips_lib._load_network.cache_clear()
    yield types.SimpleNamespace(module=lpips, made=made, seen=seen)
    lpips_lib._load_network.cache_clear()


def test_what_the_network_sees(package, rng):
    a, b = rng.random((2, 31, 35, 3))
    assert lpips_lib.available()
    np.testing.assert_allclose(lpips_lib.lpips(a, b), np.abs(a - b).mean(), rtol=1e-6)
    for image, seen in zip((b, a), package.seen[0], strict=True):
        assert seen.dtype == np.float32
        assert seen.flags.c_contiguous
        np.testing.assert_array_equal(seen, image.transpose(2, 0, 1)[None].astype(np.float32))
    lpips_lib.lpips(a[..., :1], b[..., :1])
    for image, seen in zip((b, a), package.seen[1], strict=True):
        np.testing.assert_allclose(seen[0], np.repeat(image[None, ..., 0], 3, 0), rtol=1e-6)
    assert package.made == [{"net": "alex", "verbose": False}]  # once


def test_not_installed(monkeypatch, package, rng):
    monkeypatch.setitem(sys.modules, "lpips", None)
    assert not lpips_lib.available()
    image = rng.random((31, 31, 3))
    with pytest.raises(ImportError, match=r'(?s)LPIPS needs PyTorch.*"lcdnet-jax\[torch\]"'):
        lpips_lib.lpips(image, image)


def test_no_weights(monkeypatch, package, rng):
    def unreachable(**options):
        raise OSError("no route to host")

    monkeypatch.setattr(package.module, "LPIPS", unreachable)
    image = rng.random((31, 31, 3))
    with pytest.raises(OSError, match=r"weights of AlexNet, .*\(no route to host\); run it"):
        lpips_lib.lpips(image, image)


def test_bad_shapes(package, rng):
    image = rng.random((31, 35, 3))
    for a, b in ((image[:, :34], image), (image[:30], image[:30]), (image[..., :2],) * 2):
        with pytest.raises(ValueError, match=re.escape(f"got {a.shape} and {b.shape}; crop")):
            lpips_lib.lpips(a, b)
    assert not package.seen
