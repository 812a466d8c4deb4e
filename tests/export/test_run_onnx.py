"""The runner of ONNX files, which works copied alone."""

import json
import shutil
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image

from lcdnet_jax import Restorer, export, image_io
from tests.export.cases import image, tiny

pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")
import onnx

from lcdnet_jax.export import run_onnx

pytestmark = pytest.mark.usefixtures("quickly_compiled")


@pytest.fixture(scope="module")
def data():
    return export.export_onnx(*tiny("dncnn"))


@pytest.fixture
def model(data):
    return run_onnx.load(data)


def with_card(data, change):
    """The same file with another card; a field without a value is taken off."""
    model = onnx.load_from_string(data)
    card = json.loads(model.metadata_props[0].value) | change
    kept = {field: card[field] for field in card if change.get(field, "") != "none"}
    del model.metadata_props[:]
    onnx.helper.set_model_props(model, {"lcdnet_jax": json.dumps(kept)})
    return model.SerializeToString()


def photo(count=48):
    data = pytest.importorskip("skimage.data")
    return data.astronaut()[40 : 40 + count, 180 : 180 + 2 * count]


class TestPictures:
    @pytest.mark.parametrize("bits", [8, 16])
    @pytest.mark.parametrize("gray", [False, True])
    def test_files(self, bits, gray, tmp_path):
        """Are read as image_io reads them, and written so that it reads the same."""
        top = 2**bits - 1
        pixels = (photo() / 255 * top).astype(f"u{bits // 8}")
        pixels += np.arange(pixels.shape[1], dtype=pixels.dtype)[None, :, None] % 3
        pixels = pixels[..., :1] if gray else pixels
        path, other = tmp_path / "in.png", tmp_path / "out.png"
        image_io.write(path, pixels)
        read, depth = run_onnx.read_picture(path)
        assert depth == bits
        np.testing.assert_array_equal(np.rint(read * top), pixels)
        run_onnx.write_picture(other, read, bits)
        written = image_io.read(other)
        assert written.dtype == pixels.dtype
        np.testing.assert_array_equal(written.reshape(pixels.shape), pixels)
        assert sorted(p.name for p in tmp_path.iterdir()) == ["in.png", "out.png"]

    def test_others(self, tmp_path):
        path = tmp_path / "in.png"
        Image.fromarray(np.zeros((4, 4, 4), np.uint8)).save(path)
        with pytest.raises(run_onnx.ModelError, match=r"mode RGBA; .*or use lcdnet-jax restore"):
            run_onnx.read_picture(path)
        Image.fromarray(np.zeros((4, 4, 3), np.uint8)).save(path, transparency=(0, 0, 0))
        with pytest.raises(run_onnx.ModelError, match="mode RGB, with transparency"):
            run_onnx.read_picture(path)
        path.write_bytes(path.read_bytes()[:40])
        with pytest.raises(run_onnx.ModelError, match="cannot be read"):
            run_onnx.read_picture(path)
        with pytest.raises(run_onnx.ModelError, match=r"as PNG only, not as \.tif"):
            run_onnx.write_picture(tmp_path / "out.tif", np.zeros((2, 2, 3)), 16)
        assert [p.name for p in tmp_path.iterdir()] == ["in.png"]

    @pytest.mark.extended
    def test_alone(self, data, tmp_path):
        """In a process that can import neither this library nor JAX."""
        shutil.copy(run_onnx.__file__, tmp_path / "run.py")
        (tmp_path / "model.onnx").write_bytes(data)
        Image.fromarray(photo()).save(tmp_path / "in.png")
        code = (
            "import sys, runpy\n"
            "for name in ('lcdnet_jax', 'jax', 'onnx', 'skimage'): sys.modules[name] = None\n"
            "runpy.run_path('run.py', run_name='__main__')"
        )
        command = [sys.executable, "-W", "error", "-c", code, "model.onnx", "in.png", "out.png"]
        run = subprocess.run(
            command, cwd=tmp_path, env={"PATH": ""}, capture_output=True, text=True, timeout=240
        )
        assert (run.returncode, run.stderr) == (0, "")
        expected = Restorer(*tiny("dncnn"))(photo())
        written = image_io.read(tmp_path / "out.png")
        assert np.abs(written.astype(int) - expected).max() <= 1

    def test_main(self, data, tmp_path):
        paths = [str(tmp_path / name) for name in ("m.onnx", "in.png", "out.png")]
        (tmp_path / "m.onnx").write_bytes(data)
        Image.fromarray(photo()).save(paths[1])
        run_onnx.main(paths)
        with pytest.raises(SystemExit, match=r"^error: .*out\.png exists; choose another name"):
            run_onnx.main(paths)
        with pytest.raises(SystemExit, match=r"^error: .*cannot load this file"):
            run_onnx.main([paths[1], *paths[1:], "--force"])
        with pytest.raises(SystemExit, match=r"^error: .*No such file"):
            run_onnx.main([paths[0] + "x", *paths[1:], "--force"])

    @pytest.mark.parametrize(
        ("output", "message"),
        [
            ("out.pdf", r"out\.pdf: name the output \.png, "),
            ("none/out.png", r"none is not a folder; create it first"),
        ],
    )
    def test_outputs(self, tmp_path, output, message):
        """Before anything is read."""
        with pytest.raises(SystemExit, match=rf"^error: .*{message}"):
            run_onnx.main(["any", "in.png", str(tmp_path / output)])

    def test_packages(self, data, tmp_path, monkeypatch):
        """One line that says what to install, also where there is only this file."""
        (tmp_path / "m.onnx").write_bytes(data)
        Image.fromarray(photo()).save(tmp_path / "in.png")
        arguments = [str(tmp_path / name) for name in ("m.onnx", "in.png", "out.png")]
        monkeypatch.setitem(sys.modules, "onnxruntime", None)
        with pytest.raises(SystemExit, match=r"^error: .*pip install onnxruntime$"):
            run_onnx.main(arguments)
        with pytest.raises(ImportError, match="pip install onnxruntime"):
            run_onnx.load(data)


class TestAgainstRestore:
    """At most 1 of 255 from what ``lcdnet-jax restore`` gives for a photograph."""

    @pytest.mark.parametrize("bits", [8, 16])
    @pytest.mark.parametrize("tile", [None, 160])
    def test_gray_network(self, model, bits, tile):
        """Colors one by one; the side of 80 is padded to 96, and 200 needs windows."""
        pixels = np.tile(photo(80), (1, 2, 1))[:, :200]
        pixels = pixels if bits == 8 else pixels.astype(np.uint16) * 257
        top = 2**bits - 1
        expected = Restorer(*tiny("dncnn"))(pixels)
        restored = model.restore(pixels / np.float32(top), tile=tile)
        written = np.rint(np.clip(restored, 0, 1) * top)
        assert np.abs(written - expected).max() <= top / 255

    @pytest.mark.extended
    def test_photo(self, tmp_path):
        """With pretrained weights, from file to file."""
        from lcdnet_jax import weights
        from lcdnet_jax.weights import pretrained

        loaded = weights.load(pretrained.find("sadnet-color-blind"))
        export.write_onnx(tmp_path / "m.onnx", loaded.module, loaded.variables)
        noise = np.random.default_rng(0).normal(0, 10, (300, 411, 3))
        pixels = np.rint(
            np.clip(pytest.importorskip("skimage.data").astronaut()[:300, :411] + noise, 0, 255)
        ).astype(np.uint8)
        Image.fromarray(pixels).save(tmp_path / "in.png")
        expected = Restorer.from_pretrained("sadnet-color-blind")(pixels).astype(int)
        assert np.abs(expected - pixels).mean() > 3
        for tile in ("768", "256"):
            arguments = [str(tmp_path / name) for name in ("m.onnx", "in.png", "out.png")]
            run_onnx.main([*arguments, "--tile", tile, "--force"])
            written = image_io.read(tmp_path / "out.png")
            assert np.abs(written - expected).max() <= 1

    @pytest.mark.extended
    def test_gray_picture(self):
        """By a network for color, as the mean of the colors."""
        model = run_onnx.load(export.export_onnx(*tiny("ridnet"), size=(32, 32)))
        pixels = photo(20)[..., :1]
        restored = model.restore(pixels / np.float32(255))
        expected = Restorer(*tiny("ridnet"), bucket=32)(pixels[:, :32])
        assert restored.shape == pixels.shape
        inside = np.rint(np.clip(restored, 0, 1) * 255)[:12, :12] - expected[:12, :12]
        assert np.abs(inside).max() <= 1


class TestModel:
    def test_windows_of_a_fixed_size(self):
        """Cover an image that is larger."""
        module, variables = tiny("dncnn")
        model = run_onnx.load(export.export_onnx(module, variables, size=(32, 24)))
        assert model.card["verified"][-1]["size"] == [16, 12]
        x = image(70, 60, 1)
        expected = np.asarray(module.apply(variables, x[None]))[0]
        np.testing.assert_allclose(model.restore(x), expected, rtol=0, atol=1e-4)
        with pytest.raises(run_onnx.ModelError, match=r"70x60 pixels is too large.*takes 32x24"):
            model(x[None])
        with pytest.raises(run_onnx.ModelError, match="takes 32x24 pixels; leave tile off"):
            model.restore(x, tile=48)

    def test_enlarging(self):
        module, variables = tiny("rcan")
        model = run_onnx.load(export.export_onnx(module, variables, size=(32, 32)))
        x = image(20, 30, module.channels)
        assert model.restore(x).shape == (40, 60, module.channels)

    def test_small_tiles(self, model):
        with pytest.raises(run_onnx.ModelError, match=r"tile of 64 pixels is too small.*least 256"):
            model.restore(image(300, 300, 1), tile=64)

    @pytest.mark.parametrize(
        ("images", "message"),
        [
            (np.zeros((8, 8), np.float32), r"expected \[N, H, W, 1\], got shape \(8, 8\)"),
            (np.zeros((1, 8, 8, 3), np.float32), r"got shape \(1, 8, 8, 3\)"),
            (np.zeros((0, 8, 8, 1), np.float32), r"got shape \(0, 8, 8, 1\)"),
            (np.zeros((1, 8, 8, 1), np.uint8), "expected floating point.*uint8; divide"),
            (np.full((1, 8, 8, 1), np.inf), "NaN or infinity"),
            (np.zeros((1, 1, 16_001, 1)), "1x16001 pixels is too large.*up to 16000 pixels"),
        ],
    )
    def test_bad_images(self, model, images, message):
        with pytest.raises(run_onnx.ModelError, match=message):
            model(images)

    @pytest.mark.parametrize("shape", [(1, 7), (7, 1), (1, 1)])
    def test_small_images(self, model, shape):
        module, variables = tiny("dncnn")
        x = image(1, *shape, 1)
        np.testing.assert_allclose(model(x), module.apply(variables, x), rtol=0, atol=1e-6)

    @pytest.mark.parametrize(
        ("change", "message"),
        [
            ({"format": "lcdnet_jax ONNX 9"}, "'lcdnet_jax ONNX 9', this is for 'lcdnet_jax ONNX"),
            ({"format": "none"}, "the card of the file is damaged .*format"),
            ({"stride": 0}, "numbers of pixels are not positive integers"),
            ({"scale": 1.5}, "numbers of pixels are not positive integers"),
            ({"channels": True}, "numbers of pixels are not positive integers"),
            ({"sizes": [[8, 8], [9, 9]]}, "the card of the file is damaged"),
            ({"sizes": 3}, "the card of the file is damaged"),
            ({"tile_overlap": -1}, "tile_overlap is not a number of pixels"),
            ({"padding": "zeros"}, "padding is neither 'reflect' nor 'constant'"),
            ({"global_means": 1}, "global_means is neither true nor false"),
        ],
        ids=str,
    )
    def test_bad_cards(self, data, change, message):
        with pytest.raises(run_onnx.ModelError, match=message):
            run_onnx.load(with_card(data, change))

    def test_bad_files(self, data):
        for damaged in (b"", b"text", data[: len(data) // 2]):
            with pytest.raises(run_onnx.ModelError, match=r"cannot load this file|no card of"):
                run_onnx.load(damaged)
        model = onnx.load_from_string(data)
        del model.metadata_props[:]
        with pytest.raises(run_onnx.ModelError, match="has no card of lcdnet_jax"):
            run_onnx.load(model.SerializeToString())
        with pytest.raises(
            run_onnx.ModelError, match="does not enlarge images by a factor of 2, as its card"
        ):
            run_onnx.load(with_card(data, {"scale": 2}))(image(1, 8, 8, 1))
