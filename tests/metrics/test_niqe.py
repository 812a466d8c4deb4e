"""The adapter of the package pyiqa."""

import contextlib
import importlib.machinery
import sys
import types

import numpy as np
import pytest

from lcdnet_jax.metrics import niqe as niqe_lib


@pytest.fixture
def package(monkeypatch):
    """Stand-ins for pyiqa and torch; calls are recorded, the score is the mean."""
    torch, pyiqa = types.ModuleType("torch"), types.ModuleType("pyiqa")
    torch.from_numpy, torch.no_grad = np.asarray, contextlib.nullcontext
    made, seen = [], []

    def metric(planes):
        seen.append(planes)
        return planes.mean(keepdims=True)

    def make(name, **options):
        made.append((name, options))
        return metric

    pyiqa.create_metric = make
    pyiqa.__spec__ = importlib.machinery.ModuleSpec("pyiqa", None)
    monkeypatch.setitem(sys.modules, "torch", torch)
    monkeypatch.setitem(sys.modules, "pyiqa", pyiqa)
    niqe_lib._load_metric.cache_clear()
    yield types.SimpleNamespace(module=pyiqa, made=made, seen=seen)
    niqe_lib._load_metric.cache_clear()


def test_what_the_metric_sees(package, rng):
    image = rng.random((96, 99, 3))
    assert niqe_lib.available()
    np.testing.assert_allclose(niqe_lib.niqe(image), image.mean(), rtol=1e-5)
    (seen,) = package.seen
    assert (seen.dtype, seen.flags.c_contiguous) == (np.float32, True)
    np.testing.assert_array_equal(seen, image.transpose(2, 0, 1)[None].astype(np.float32))
    niqe_lib.niqe(image[..., :1])
    np.testing.assert_array_equal(package.seen[1][0, 2], image[..., 0].astype(np.float32))
    assert package.made == [("niqe", {"device": "cpu"})]  # once


def test_not_installed(monkeypatch, package, rng):
    monkeypatch.setitem(sys.modules, "pyiqa", None)
    assert not niqe_lib.available()
    with pytest.raises(ImportError, match=r"(?s)NIQE needs PyTorch.*pip install pyiqa"):
        niqe_lib.niqe(rng.random((96, 96, 3)))


def test_no_parameters(monkeypatch, package, rng):
    def unreachable(name, **options):
        raise OSError("no network")

    monkeypatch.setattr(package.module, "create_metric", unreachable)
    with pytest.raises(OSError, match=r"parameters that pyiqa downloads.*no network"):
        niqe_lib.niqe(rng.random((96, 96, 3)))


@pytest.mark.parametrize("shape", [(95, 96, 3), (96, 96), (96, 96, 2)])
def test_other_shapes(package, shape):
    with pytest.raises(ValueError, match=r"H and W at least 96, got \["):
        niqe_lib.niqe(np.zeros(shape))
