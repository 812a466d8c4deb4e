"""Fixtures of commands. PyTorch is not needed: a stand-in reads what these tests write."""

import pathlib
import pickle
import sys
import types

import numpy as np
import pytest

from lcdnet_jax import convert
from lcdnet_jax import weights as weights_lib
from lcdnet_jax.cli import main
from lcdnet_jax.networks import registered
from tests.cli.commands import saved, small_state
from tests.cli.halving import Halving


class Tensor:
    """As much of PyTorch's as reading takes."""

    def __init__(self, array):
        self.array = np.asarray(array)
        self.nbytes = self.array.nbytes

    def detach(self):
        return Tensor(self.array)

    def is_floating_point(self):
        return self.array.dtype.kind == "f"

    def float(self):
        return Tensor(self.array.astype(np.float32))

    def numpy(self):
        return self.array


def with_tensors(value):
    if isinstance(value, dict):
        return {k: with_tensors(v) for k, v in value.items()}
    return Tensor(value) if isinstance(value, np.ndarray | np.generic) else value


@pytest.fixture
def torch(monkeypatch):
    """A stand-in for PyTorch; its ``read`` says what a file holds, as NumPy arrays."""

    def load(path, *, map_location, weights_only):
        assert map_location == "cpu"
        assert weights_only is True
        return with_tensors(module.read(path))

    module = types.ModuleType("torch")
    module.Tensor, module.load = Tensor, load
    module.read = lambda path: pickle.loads(pathlib.Path(path).read_bytes())
    monkeypatch.setitem(sys.modules, "torch", module)
    return module


@pytest.fixture
def pth(tmp_path, torch):
    return saved(tmp_path / "small.pth", small_state())


@pytest.fixture(scope="module")
def converted(tmp_path_factory):
    """A checkpoint of one channel, only to be read, and the state dict it comes from."""
    folder = tmp_path_factory.mktemp("converted")
    with pytest.MonkeyPatch.context() as patch:
        state = small_state()
        patch.setattr(convert, "read_state_dict", lambda path: state)
        kwargs = {"depth": 3, "features": 4}
        source = saved(folder / "small.pth", state)
        weights_lib.save_directory(source, folder / "out", network="dncnn", network_kwargs=kwargs)
    return folder / "out", state


@pytest.fixture(scope="module")
def stand_in():
    with registered("sadnet", Halving):
        yield


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory, stand_in):
    """A checkpoint to be read only."""
    folder = tmp_path_factory.mktemp("weights") / "halving"
    variables = {"params": {"gain": np.float32([0.5])}}
    source = weights_lib.create_weights("sadnet", variables, width=3)
    weights_lib.save_directory(source, folder, license="CC0")
    return folder


@pytest.fixture
def place(tmp_path, monkeypatch):
    """An empty working directory, so that names in messages are short."""
    (tmp_path / "work").mkdir()
    monkeypatch.chdir(tmp_path / "work")
    return tmp_path / "work"


@pytest.fixture
def run(checkpoint, capsys):
    """Restores and returns what was printed."""

    def run(*arguments):
        main.main(["restore", *map(str, arguments), "--checkpoint", str(checkpoint)])
        return capsys.readouterr().out

    return run


@pytest.fixture
def error_of(run):
    """The message of a command that must fail, with status 1 and without a traceback."""

    def error_of(*arguments):
        with pytest.raises(SystemExit) as end:
            run(*arguments)
        assert isinstance(end.value.code, str)  # sys.exit(text) prints it and exits with 1
        assert end.value.code.startswith("error: ")
        return end.value.code.removeprefix("error: ")

    return error_of
