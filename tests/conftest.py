"""Strict settings for every test, set before JAX starts."""

import os

# Several fake devices on one CPU: anything that only works on one device fails here.
os.environ["XLA_FLAGS"] = (
    os.environ.get("XLA_FLAGS", "") + " --xla_force_host_platform_device_count=8"
).strip()
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import pathlib
import shutil
import tempfile

import jax
import numpy as np
import pytest

jax.config.update("jax_platforms", "cpu")
jax.config.update("jax_numpy_dtype_promotion", "strict")
jax.config.update("jax_numpy_rank_promotion", "raise")

# Many tests compile the same small programs, which takes most of their time. What one process has
# compiled serves all of this session; its workers inherit the variable.
_FIRST = "LCDNET_JAX_COMPILED" not in os.environ
if _FIRST:
    os.environ["LCDNET_JAX_COMPILED"] = tempfile.mkdtemp(prefix="lcdnet_jax-tests-")
_COMPILED = os.environ["LCDNET_JAX_COMPILED"]
jax.config.update("jax_compilation_cache_dir", _COMPILED)
jax.config.update("jax_persistent_cache_min_compile_time_secs", 0)
jax.config.update("jax_persistent_cache_min_entry_size_bytes", -1)

ROOT = pathlib.Path(__file__).resolve().parent.parent
SHARED = ROOT.parent / "shared"


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    if "LCDNET_JAX_SLOW_TESTS" not in os.environ:
        skip = pytest.mark.skip(reason="slow; set LCDNET_JAX_SLOW_TESTS=1 to run it")
        for item in items:
            if "slow" in item.keywords:
                item.add_marker(skip)


def pytest_unconfigure() -> None:
    if _FIRST:
        shutil.rmtree(_COMPILED, ignore_errors=True)


@pytest.fixture(scope="module")
def quickly_compiled():
    """For modules whose many programs run once or twice: compiled without LLVM's optimisation."""
    jax.config.update("jax_disable_most_optimizations", True)
    yield
    jax.config.update("jax_disable_most_optimizations", False)


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(0)


@pytest.fixture(scope="session")
def golden():
    """Loader of the official modules' own numbers; skips visibly where they are absent."""

    def load(name: str) -> dict[str, np.ndarray]:
        path = SHARED / "golden" / f"{name}.npz"
        if not path.exists():
            pytest.skip(f"golden file {path.name} is not beside this checkout")
        with np.load(path) as file:
            return dict(file)

    return load


@pytest.fixture(scope="session")
def shared_data():
    """Path of a folder of real images; skips visibly where it is absent."""

    def find(relative: str) -> pathlib.Path:
        path = SHARED / "data" / relative
        if not path.exists():
            pytest.skip(f"test images {relative} are not beside this checkout")
        return path

    return find
