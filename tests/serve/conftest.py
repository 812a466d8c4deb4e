"""Weights of a small network, and servers that run in a thread."""

import jax
import numpy as np
import pytest

from lcdnet_jax import networks
from lcdnet_jax import weights as weights_lib
from lcdnet_jax.cli import main
from lcdnet_jax.inference import batch
from tests.serve import running


@pytest.fixture(scope="session")
def checkpoint(tmp_path_factory):
    """Weights that compile in a second, to be read only."""
    folder = tmp_path_factory.mktemp("weights") / "small"
    kwargs = {"depth": 3, "features": 4, "channels": 3}
    module = networks.create("dncnn", **kwargs)
    variables = module.init(jax.random.key(0), np.zeros((1, 8, 8, 3), np.float32))
    weights = weights_lib.create_weights("dncnn", variables, **kwargs)
    weights_lib.save_directory(weights, folder, license="CC0")
    return folder


@pytest.fixture(scope="module")
def server(checkpoint):
    """A server that all tests of a module share."""
    with running.running(checkpoint) as server:
        yield server


@pytest.fixture
def start(checkpoint):
    """Starts a server with other settings."""
    return lambda **settings: running.running(checkpoint, **settings)


@pytest.fixture
def restored(checkpoint, tmp_path):
    """The file that ``lcdnet-jax restore`` writes for a file of this content and name."""

    def restore(content, name, *options):
        folder = tmp_path / "restore"
        folder.mkdir(exist_ok=True)
        (folder / name).write_bytes(content)
        arguments = [str(folder / name), "-o", str(folder / "out/"), "--force", *options]
        main.main(["restore", *arguments, "--checkpoint", str(checkpoint)])
        (result,) = (folder / "out").iterdir()
        content = result.read_bytes()
        result.unlink()
        return content

    return restore


class Gate:
    """Lets a restoration go on window by window."""

    def __init__(self, monkeypatch):
        import threading

        self._steps = threading.Semaphore(0)
        self.reached = threading.Semaphore(0)
        self.windows = 4
        real = batch.restore

        def restore(restorer, jobs, *, on_compile, on_windows):
            try:
                for done in range(self.windows):
                    on_windows(done, self.windows)
                    self.reached.release()
                    assert self._steps.acquire(timeout=60)
            except Exception as error:
                yield jobs[0], error
                return
            yield from real(restorer, jobs, on_compile=on_compile, on_windows=on_windows)

        monkeypatch.setattr(batch, "restore", restore)

    def open(self, windows=1000):
        self._steps.release(windows)


@pytest.fixture
def gate(monkeypatch):
    """Holds the computation before each of four windows."""
    gate = Gate(monkeypatch)
    yield gate
    gate.open()
