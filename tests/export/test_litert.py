"""LiteRT files."""

import json
import subprocess
import sys
import zipfile

import flax.linen as nn
import jax.numpy as jnp
import numpy as np
import pytest
import skimage.data

from lcdnet_jax import export, networks
from lcdnet_jax.atomic_io import TargetError
from lcdnet_jax.export import litert
from tests.export.cases import TINY, drawn, image, tiny

pytestmark = pytest.mark.usefixtures("quickly_compiled")

SIZE = (9, 14)
SLOW = ("ikc", "lcdnet", "nafnet", "restormer", "sadnet")  # to convert


class Wide(networks.RestorationNetwork):
    """Wide enough that the converter quantizes it: small weights stay float32."""

    channels: int = 3
    dtype: type = np.float32

    @nn.compact
    def __call__(self, x):
        y = nn.relu(nn.Conv(32, (3, 3))(x))
        return x + nn.Conv(self.channels, (3, 3))(nn.relu(nn.Conv(32, (3, 3))(y)))


class Means(networks.RestorationNetwork):
    """Scales an image by dense layers of its mean, with and without a bias."""

    channels: int = 3
    dtype: type = np.float32

    @nn.compact
    def __call__(self, x):
        mean = x.mean((1, 2), keepdims=True)
        return x * nn.Dense(3, use_bias=False)(nn.relu(nn.Dense(4)(mean)))


class Transform(networks.RestorationNetwork):
    """Needs complex numbers, and is not registered."""

    channels: int = 1
    dtype: type = np.float32

    @nn.compact
    def __call__(self, x):
        gain = self.param("gain", nn.initializers.ones, ())
        return gain * jnp.fft.ifft2(jnp.fft.fft2(x, axes=(1, 2)) ** 3, axes=(1, 2)).real


def load(path):
    from ai_edge_litert.interpreter import Interpreter

    run = Interpreter(str(path)).get_signature_runner()
    return lambda images: run(images=images)["restored"]


@pytest.fixture(scope="module")
def wide():
    return Wide(), drawn(Wide())


class TestFloat32:
    def test_file(self, doubling, tmp_path, capfd):
        """A network that enlarges, at a size that is no multiple of its stride."""
        module, variables = doubling
        path = tmp_path / "new" / "model.tflite"
        card = export.write_litert(path, module, variables, size=SIZE, about={"step": 7})
        printed = capfd.readouterr()
        assert printed.out == ""
        assert "TensorFlow" not in printed.err
        assert litert.read_card(path) == card
        assert card["about"] == {"step": 7}
        assert (card["sizes"], card["batch"], card["quantization"]) == ([[9, 14]], 1, None)
        (case,) = card["verified"]
        assert case["difference"] <= case["tolerance"] < 2e-4
        x = image(1, *SIZE, 1)
        expected = module.apply(variables, x)
        np.testing.assert_allclose(load(path)(x), expected, rtol=0, atol=1e-4, strict=True)
        with zipfile.ZipFile(path) as file:  # as `unzip -p model.tflite card.json`
            assert json.loads(file.read("card.json")) == card
        content = path.read_bytes()
        with pytest.raises(
            TargetError, match=r"model.tflite exists; choose another name, or --for"
        ):
            export.write_litert(path, module, variables, size=SIZE)
        export.write_litert(path, module, variables, size=SIZE, about={"step": 7}, force=True)
        assert path.read_bytes() == content  # the same network gives the same file

    @pytest.mark.extended
    @pytest.mark.parametrize(
        "name",
        [
            pytest.param(name, marks=[pytest.mark.slow] if name in SLOW else [])
            for name in sorted(set(TINY) - set(litert.UNSUPPORTED))
        ],
    )
    def test_networks(self, name, tmp_path):
        module, variables = tiny(name)
        path = tmp_path / "model.tflite"
        export.write_litert(path, module, variables, size=(33, 40))
        x = image(1, 33, 40, module.channels)
        expected = module.apply(variables, x)
        np.testing.assert_allclose(load(path)(x), expected, rtol=0, atol=1e-4, strict=True)

    def test_dense_layers_of_means(self, tmp_path):
        """The converter makes an invalid operation of them as they are."""
        module = Means()
        variables = drawn(module)
        export.write_litert(tmp_path / "m.tflite", module, variables, size=(8, 9))
        x = image(1, 8, 9, 3)
        np.testing.assert_allclose(
            load(tmp_path / "m.tflite")(x), module.apply(variables, x), rtol=0, atol=1e-5
        )

    @pytest.mark.extended
    @pytest.mark.slow
    def test_whole_lcdnet(self, tmp_path):
        """With Fourier transforms, MSFM and SCAM, in float32 and with 8-bit weights."""
        module = networks.create("lcdnet", preset="tiny")
        variables = drawn(module)
        card = export.write_litert(tmp_path / "m.tflite", module, variables, size=(40, 33))
        assert card["verified"][0]["difference"] < 1e-4
        path = tmp_path / "int8.tflite"
        card = export.write_litert(path, module, variables, size=(40, 33), quantize="int8")
        assert min(card["quantization"]["psnr"].values()) > 35

    @pytest.mark.extended
    def test_runs_without_jax(self, doubling, tmp_path):
        module, variables = doubling
        export.write_litert(tmp_path / "m.tflite", module, variables, size=SIZE)
        code = (
            "import sys, numpy\n"
            "for name in ('jax', 'tensorflow', 'lcdnet_jax'): sys.modules[name] = None\n"
            "from ai_edge_litert.interpreter import Interpreter\n"
            "run = Interpreter('m.tflite').get_signature_runner()\n"
            "print(run(images=numpy.zeros((1, 9, 14, 1), 'float32'))['restored'].shape)"
        )
        done = subprocess.run(
            [sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, timeout=120
        )
        assert done.stdout == "(1, 18, 28, 1)\n", done.stderr

    def test_wrong_results(self, doubling, tmp_path, monkeypatch):
        wrong = np.zeros((1, 18, 28, 1), np.float32)
        monkeypatch.setattr(litert, "_load", lambda packages, content: lambda x: wrong)
        monkeypatch.setattr(litert, "_convert", lambda packages, network, quantize: b"TFL3")
        with pytest.raises(
            export.ExportError, match=r"gives other values .* so nothing is written"
        ):
            export.write_litert(tmp_path / "m.tflite", *doubling, size=SIZE)
        assert list(tmp_path.iterdir()) == []


class TestInt8:
    @pytest.mark.extended
    def test_file(self, wide, tmp_path):
        module, variables = wide
        paths = [tmp_path / "float.tflite", tmp_path / "int8.tflite"]
        export.write_litert(paths[0], module, variables, size=(32, 48))
        card = export.write_litert(paths[1], module, variables, size=(32, 48), quantize="int8")
        assert paths[1].stat().st_size < 0.7 * paths[0].stat().st_size
        assert litert.read_card(paths[1]) == card
        assert card["quantization"]["type"] == "int8"
        scores = card["quantization"]["psnr"]
        assert set(scores) == {"astronaut", "coffee"}
        assert all(30 < psnr < 80 for psnr in scores.values())
        x = image(1, 32, 48, 3)
        exact, coarse = (load(path)(x) for path in paths)
        assert 1e-5 < np.abs(exact - coarse).max() < 0.1

    @pytest.mark.parametrize("channels", [1, 3, 6])
    @pytest.mark.parametrize("size", [(16, 20), (600, 700)])
    def test_photographs(self, size, channels):
        photos = litert._read_photos(size, channels)
        for photo in photos.values():
            assert photo.shape == (1, *size, channels)
            assert photo.dtype == np.float32
            assert 0 <= photo.min() < photo.max() <= 1
        if channels == 3:
            noise = photos["astronaut"][0, :16, :16] - skimage.data.astronaut()[:16, :16] / 255
            assert 0.08 < noise.std() < 0.11
        again = litert._read_photos(size, channels)
        np.testing.assert_array_equal(photos["coffee"], again["coffee"])

    @pytest.mark.parametrize("error", [0.1, np.nan])
    def test_coarse_results(self, doubling, tmp_path, monkeypatch, error):
        module, variables = doubling

        def restore(x):
            return np.asarray(module.apply(variables, x)) + np.float32(error)

        monkeypatch.setattr(litert, "_load", lambda packages, content: restore)
        monkeypatch.setattr(litert, "_convert", lambda packages, network, quantize: b"TFL3")
        with pytest.raises(
            export.ExportError, match=r"with int8 weights Doubling gives other results than in fl"
        ):
            export.write_litert(tmp_path / "m.tflite", *doubling, size=SIZE, quantize="int8")
        assert list(tmp_path.iterdir()) == []


class TestRefusals:
    """Each before anything is written."""

    @pytest.mark.parametrize("name", litert.UNSUPPORTED)
    def test_networks(self, name, tmp_path):
        with pytest.raises(
            export.ExportError, match=r"cannot be exported for LiteRT: it .*jaxprog"
        ):
            export.write_litert(tmp_path / "m.tflite", networks.create(name), {}, size=SIZE)
        assert list(tmp_path.iterdir()) == []

    @pytest.mark.extended
    @pytest.mark.parametrize("name", litert.UNSUPPORTED)
    def test_the_list_is_true(self, name, tmp_path, monkeypatch):
        """A newer converter may know them."""
        monkeypatch.setattr(litert, "UNSUPPORTED", {})
        with pytest.raises(export.ExportError, match="LiteRT, which lacks an operation of it"):
            export.write_litert(tmp_path / "m.tflite", *tiny(name), size=(16, 16))

    def test_network_of_others(self, tmp_path, capfd):
        module = Transform()
        message = r"Transform .* lacks an operation of it \("
        with pytest.raises(export.ExportError, match=message) as error:
            export.write_litert(tmp_path / "m.tflite", module, drawn(module), size=(8, 8))
        assert len(str(error.value)) < 500
        assert "error" not in capfd.readouterr().err
        assert list(tmp_path.iterdir()) == []

    def test_arguments(self, doubling, tmp_path):
        path = tmp_path / "m.tflite"
        with pytest.raises(export.ExportError, match="quantize must be int8, got 'int4'"):
            export.write_litert(path, *doubling, size=SIZE, quantize="int4")
        for size in ((0, 8), (8,), (99_999, 99_999)):
            with pytest.raises(export.ExportError, match=r"sizes are pairs|pixels are too many"):
                export.write_litert(path, *doubling, size=size)
        assert list(tmp_path.iterdir()) == []

    @pytest.mark.parametrize("package", ["tensorflow", "ai_edge_litert.interpreter"])
    def test_packages(self, doubling, tmp_path, monkeypatch, package):
        monkeypatch.setitem(sys.modules, package, None)
        with pytest.raises(ImportError, match=r"\n  pip install \"lcdnet-jax\[litert\]\"$"):
            export.write_litert(tmp_path / "m.tflite", *doubling, size=SIZE)


def test_other_files_have_no_card(tmp_path):
    path = tmp_path / "x.tflite"
    path.write_bytes(b"TFL3")
    with pytest.raises(export.ExportError, match="has no card of lcdnet_jax"):
        litert.read_card(path)


def test_every_network_was_tried():
    assert set(TINY) >= set(networks.available())
    assert set(litert.UNSUPPORTED) <= set(networks.available())
