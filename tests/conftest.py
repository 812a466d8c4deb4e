"""Strict settings for every test, and quick ones."""

import os

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import gc
import importlib.util
import pathlib
import shutil
import tempfile

import jax
import jaxlib
import numpy as np
import pytest

from lcdnet_jax import image_io, ops
from lcdnet_jax.networks import _lcdnet_blocks

SLOW_TESTS = "LCDNET_JAX_SLOW_TESTS" in os.environ

# XLA reads these when the first device is asked for.
# Several fake devices on one CPU: anything that only works on one device fails here.
_FLAGS = ["--xla_force_host_platform_device_count=8"]
# Nearly all programs run once or twice: LLVM need not optimize them, and XLA may emit fusions in
# its older, quicker way. This halves the time of the tests. The slow ones run with users' settings.
if not SLOW_TESTS:
    _FLAGS += ["--xla_backend_optimization_level=0", "--xla_llvm_disable_expensive_passes=true"]
    if jaxlib.version.__version_info__ < (0, 11):  # later versions do not know the flag, and stop
        _FLAGS += ["--xla_cpu_use_fusion_emitters=false"]
os.environ["XLA_FLAGS"] = " ".join([os.environ.get("XLA_FLAGS", ""), *_FLAGS]).strip()

jax.config.update("jax_platforms", "cpu")
jax.config.update("jax_numpy_dtype_promotion", "strict")
jax.config.update("jax_numpy_rank_promotion", "raise")

gc.set_threshold(50_000, 20, 20)  # tracing makes many objects that stay

# Many tests compile the same small programs, which takes most of their time. What one process has
# compiled serves this whole run of pytest; its workers inherit the variable.
# Scripts and commands that tests start leave the user's folder of compiled programs alone.
os.environ["LCDNET_JAX_NO_COMPILATION_CACHE"] = "1"
_FIRST = "LCDNET_JAX_COMPILED" not in os.environ
if _FIRST:
    os.environ["LCDNET_JAX_COMPILED"] = tempfile.mkdtemp(prefix="lcdnet_jax-tests-")
_COMPILED = os.environ["LCDNET_JAX_COMPILED"]
jax.config.update("jax_compilation_cache_dir", _COMPILED)
jax.config.update("jax_persistent_cache_min_compile_time_secs", 0)
jax.config.update("jax_persistent_cache_min_entry_size_bytes", -1)

ROOT = pathlib.Path(__file__).resolve().parents[1]
SHARED = ROOT.parent / "shared"


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    if not SLOW_TESTS:
        skip = pytest.mark.skip(reason="slow; set LCDNET_JAX_SLOW_TESTS=1 to run it")
        for item in items:
            if "slow" in item.keywords:
                item.add_marker(skip)


def pytest_unconfigure() -> None:
    if _FIRST:
        shutil.rmtree(_COMPILED, ignore_errors=True)


@pytest.fixture(scope="module")
def quickly_compiled():
    """For modules whose many programs run once or twice: compiled without LLVM's optimization."""
    jax.config.update("jax_disable_most_optimizations", True)
    yield
    jax.config.update("jax_disable_most_optimizations", False)


@pytest.fixture
def traced_once(monkeypatch):
    """LCDNet's depthwise convolutions, which are long sums, traced once for all blocks."""
    monkeypatch.setattr(ops, "depthwise_conv2d", jax.jit(ops.depthwise_conv2d))
    shifted_products = jax.jit(_lcdnet_blocks.shifted_products)
    monkeypatch.setattr(_lcdnet_blocks, "shifted_products", shifted_products)


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


@pytest.fixture(scope="session")
def gcs(tmp_path_factory):
    """A server of buckets on this machine; skips visibly where its program is absent."""
    from tests import _gcs

    if importlib.util.find_spec("gcsfs") is None:  # it reads the environment when it is imported
        pytest.skip("gcsfs is not installed")
    try:
        with _gcs.serve(tmp_path_factory.mktemp("gcs")) as server:
            yield server
    except _gcs.Missing as error:
        pytest.skip(str(error))


@pytest.fixture
def bucket(gcs, request):
    """The URL of an empty bucket. No test may make a local folder of that name."""
    yield gcs.make_bucket(f"bucket-{len(list(gcs.folder.iterdir()))}")
    assert not list(pathlib.Path().glob("gs:*"))


@pytest.fixture(scope="session")
def noise_photos(tmp_path_factory):
    """Maker of a folder of 8-bit images of noise with the given shapes."""

    def make(*shapes: tuple[int, ...]) -> pathlib.Path:
        folder, rng = tmp_path_factory.mktemp("photos"), np.random.default_rng(0)
        for i, shape in enumerate(shapes):
            image_io.write(folder / f"{i}.png", rng.integers(0, 256, shape, np.uint8))
        return folder

    return make


# --- For test_train.py, test_eval.py and test_quickstart.py: scripts as a user starts them --------


@pytest.fixture(scope="module")
def sadnet_stand_in():
    """Makes "sadnet" the name of a network that compiles in no time."""
    from tests import scripts  # defines flags of absl

    with scripts.stand_in():
        yield


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """Folders of small blocky images: train/, kodim/ and pairs/."""
    from tests import scripts

    return scripts.write_images(tmp_path_factory.mktemp("data"))


@pytest.fixture(scope="module")
def workdir(tmp_path_factory, data, sadnet_stand_in):
    """A finished run of train.py."""
    from tests import scripts

    workdir = tmp_path_factory.mktemp("run") / "new" / "folder"
    assert scripts.run(*scripts.train(workdir, data)) is None
    return workdir
