"""PyTorch files, written and read by a stand-in and, where it is installed, by PyTorch."""

import pathlib
import pickle
import sys
import types

import jax.numpy as jnp
import numpy as np
import pytest

from lcdnet_jax import convert
from lcdnet_jax import weights as weights_lib
from lcdnet_jax.weights.card import CardError
from tests.random_weights import SMALL, assert_same, drawn


class TestTorch:
    """With a stand-in that pickles arrays."""

    @pytest.fixture
    def torch(self, monkeypatch):
        class Tensor(np.ndarray):
            def detach(self):
                return self

            def is_floating_point(self):
                return self.dtype.kind == "f"

            def float(self):
                return self.astype(np.float32)

            def numpy(self):
                return np.asarray(self)

        def load(path, *, map_location, weights_only):
            stored = pickle.loads(pathlib.Path(path).read_bytes())
            return {name: array.view(Tensor) for name, array in stored.items()}

        module = types.ModuleType("torch")
        module.Tensor, module.load = Tensor, load
        module.from_numpy = lambda array: array
        module.save = lambda content, file: file.write(pickle.dumps(content))
        monkeypatch.setitem(sys.modules, "torch", module)

    def test_out_and_in(self, torch, weights, exported, tmp_path):
        path = tmp_path / "a.pth"
        assert weights_lib.save_torch(exported, path) == weights_lib.load_card(exported)
        stored = pickle.loads(path.read_bytes())
        assert_same(stored, convert.to_torch("dncnn", weights.variables, **SMALL))
        loaded = weights_lib.load(path, network="dncnn", network_kwargs=SMALL)
        assert_same(loaded.variables, weights.variables)
        with pytest.raises(
            ValueError, match=r"a.pth does not name the network .* lcdnet-jax convert NAME"
        ):
            weights_lib.load(path)
        with pytest.raises(CardError, match=r"a.pth has no card"):
            weights_lib.load_card(path)

    def test_output(self, torch, exported, tmp_path):
        path = tmp_path / "a.pth"
        path.write_text("old")
        with pytest.raises(ValueError, match=r"a.pth exists; choose another name"):
            weights_lib.save_torch(exported, path)
        with pytest.raises(ValueError, match=r"a.bin must end in .pth or .pt; rename it"):
            weights_lib.save_torch(exported, tmp_path / "a.bin")
        assert path.read_text() == "old"
        weights_lib.save_torch(exported, path, force=True)
        assert len(pickle.loads(path.read_bytes())) == 7

    def test_without(self, monkeypatch, exported, tmp_path):
        monkeypatch.setitem(sys.modules, "torch", None)  # makes the import fail
        with pytest.raises(ImportError, match=r"writing a .pth file needs PyTorch") as error:
            weights_lib.save_torch(exported, tmp_path / "a.pth")
        assert 'pip install "lcdnet-jax[torch]"' in str(error.value)
        assert not list(tmp_path.iterdir())


class TestRealTorch:
    @pytest.fixture(scope="class", autouse=True)
    @classmethod
    def torch(cls):
        return pytest.importorskip("torch")

    def test_out_and_in(self, torch, weights, exported, tmp_path):
        path = tmp_path / "a.pth"
        weights_lib.save_torch(exported, path)
        stored = torch.load(path, weights_only=True)
        expected = convert.to_torch("dncnn", weights.variables, **SMALL)
        assert_same({name: tensor.numpy() for name, tensor in stored.items()}, expected)
        loaded = weights_lib.load(path, network="dncnn", network_kwargs=SMALL)
        assert_same(loaded.variables, weights.variables)

    def test_torch_takes_it(self, torch, tmp_path):
        """Strictly, though num_batches_tracked is left out; and computes the same."""
        variables = drawn("dncnn", **SMALL)
        stats = variables["batch_stats"]["dncnn"]["bn_1"]
        stats["var"] = np.abs(stats["var"]) + 1
        made = weights_lib.create_weights("dncnn", variables, **SMALL)
        weights_lib.save_torch(made, tmp_path / "a.pth")
        nn = torch.nn
        layers = [nn.Conv2d(1, 4, 3, padding=1, bias=False), nn.ReLU(),
                  nn.Conv2d(4, 4, 3, padding=1, bias=False), nn.BatchNorm2d(4), nn.ReLU(),
                  nn.Conv2d(4, 1, 3, padding=1, bias=False)]  # fmt: skip
        model = nn.ModuleDict({"dncnn": nn.ModuleDict({"dncnn": nn.Sequential(*layers)})}).eval()
        model.load_state_dict(torch.load(tmp_path / "a.pth", weights_only=True), strict=True)
        x = np.random.default_rng(0).uniform(size=(1, 1, 9, 10)).astype(np.float32)
        with torch.no_grad():
            expected = x - model["dncnn"]["dncnn"](torch.from_numpy(x)).numpy()
        actual = made.module.apply(variables, jnp.asarray(x.transpose(0, 2, 3, 1)))
        np.testing.assert_allclose(actual[..., 0], expected[:, 0], rtol=1e-4, atol=1e-4)
