"""The command export."""

import dataclasses

import numpy as np
import pytest

from lcdnet_jax import networks, ops
from lcdnet_jax import weights as weights_lib
from lcdnet_jax.cli import main
from lcdnet_jax.export import litert, run_exported
from tests.cli.halving import contents

pytestmark = pytest.mark.usefixtures("stand_in")


class Spectral(networks.RestorationNetwork):
    """Needs to know sizes."""

    channels: int = 1
    dtype: type = np.float32

    def __call__(self, x):
        return ops.irfft2(ops.rfft2(x), x.shape[2])


class TestExport:
    @pytest.fixture
    def export(self, checkpoint, place, capsys):
        def export(*arguments):
            main.main(["export", str(checkpoint), *arguments])
            return capsys.readouterr().out

        return export

    def test_weights(self, export, place):
        out = export("-o", "w.safetensors", "--license", "CC0", "--dtype", "bfloat16")
        assert out == "written      w.safetensors\n"
        assert export("-o", "new/w", "--notes", "n") == "written      new/w\n"
        for path, notes in (("w.safetensors", ""), ("new/w", "n")):
            weights = weights_lib.load(place / path)
            assert weights.variables["params"]["gain"] == np.float32(0.5)
            assert (weights.card["licence"], weights.card["notes"]) == ("CC0", notes)

    def test_program(self, export, place):
        out = export("-o", "w.jaxprog", "--platforms", "cpu")
        assert "images       of any size, any number of them\nplatforms    cpu\nverified" in out
        restore = run_exported.load(place / "w.jaxprog")
        image = np.random.default_rng(0).random((1, 9, 11, 3), np.float32)
        np.testing.assert_allclose(restore(image), image / 2)
        assert restore.card["about"]["kwargs"] == {"width": 3}
        assert "images       9x11, any" in export(
            "-o", "w.jaxprog", "--size", "9x11", "--platforms=cpu", "--force"
        )

    @pytest.mark.extended
    def test_litert(self, export, place):
        out = export("-o", "w.tflite", "--size", "9x11")
        assert out.startswith("images       9x11, one at a time\nverified     1 case, largest diff")
        card = litert.read_card(place / "w.tflite")
        assert card["about"]["kwargs"] == {"width": 3}
        out = export("-o", "w.tflite", "--size", "9x11", "--quantize", "int8", "--force")
        assert "\nquantized    int8; results against float32: 100.0 dB on astronaut, " in out
        assert "verified" not in out

    @pytest.mark.extended
    def test_saved_model_of_a_fixed_batch(self, export, place):
        out = export(
            "-o", "w", "--saved-model", "--batch", "2", "--size", "9x11", "--platforms=cpu"
        )
        assert out.startswith("images       9x11, 2 of them\n")

    def test_a_network_that_litert_lacks(self, export, checkpoint, monkeypatch):
        weights = weights_lib.load(checkpoint)
        weights = dataclasses.replace(weights, module=networks.create("n3net"), variables={})
        monkeypatch.setattr(weights_lib, "load", lambda path, step: weights)
        with pytest.raises(SystemExit, match=r"N3Net cannot be exported for LiteRT: it adds up"):
            export("-o", "w.tflite", "--size", "16x16")

    def test_onnx(self, export, place):
        run_onnx = pytest.importorskip("lcdnet_jax.export.run_onnx")
        out = export("-o", "w.onnx", "--dtype", "float16")
        assert out.startswith(
            "images       of any size, any number of them\n"
            "operators    ONNX opset 19, float16\n"
            "verified     2 cases"
        )
        restore = run_onnx.load(place / "w.onnx")
        image = np.random.default_rng(0).random((1, 9, 11, 3), np.float32)
        np.testing.assert_allclose(restore(image), image / 2, atol=1e-3)
        assert restore.card["about"]["kwargs"] == {"width": 3}
        assert "images       9x11, any" in export("-o", "w.onnx", "--size", "9x11", "--force")

    def test_a_network_that_needs_sizes(self, export, checkpoint, monkeypatch):
        """Is told in words of the command line."""
        weights = weights_lib.load(checkpoint)
        weights = dataclasses.replace(weights, module=Spectral(), variables={"params": {}})
        monkeypatch.setattr(weights_lib, "load", lambda path, step: weights)
        with pytest.raises(SystemExit, match=r"give those you need, as in --size 256x256$"):
            export("-o", "w.jaxprog")

    @pytest.mark.parametrize(
        ("arguments", "message"),
        [
            (["-o", "w.zip"], "the suffix '.zip' of w.zip is not a kind of export; use .safe"),
            (["-o", "w", "--size", "9x9"], "--size is for a program, which w is not; leave it off"),
            (["-o", "w.jaxprog", "--dtype", "bfloat16"], "--dtype is for weights, which w.jaxprog"),
            (["-o", "w.onnx", "--notes", "n"], "--notes is for weights, which w.onnx is not"),
            (["-o", "w.onnx", "--platforms", "cpu"], "--platforms is for a .jaxprog or SavedModel"),
            (["-o", "w.onnx", "--dtype", "bfloat16"], "dtype must be float32 or float16, got 'bf"),
            (["-o", "w.onnx", "--size", "9x9", "--size", "8x8"], "w.onnx takes one size of images"),
            (["-o", "w.pth", "--notes", "n"], "--notes is for a directory or .safetensors, which"),
            (["-o", "w", "--dtype", "int8"], "dtype must be one of float32, bfloat16, float16"),
            *(
                (
                    ["-o", "w.jaxprog", "--size", size],
                    f"argument --size: must be height and width as in 512x768, got '{size}'",
                )
                for size in ("9", "9x", "0x9", "9x-9", "9x9x9", 30 * "9" + "x9")
            ),
            ([], "nothing would be written; give -o OUT, --push-to-hub ORG/NAME, or both"),
            (["-o", "w.tflite"], "w.tflite needs one size of images; give one, as in --size 256"),
            (["-o", "w.tflite", "--size=8x8", "--size=9x9"], "w.tflite needs one size of images"),
            (["-o", "w.tflite", "--platforms", "cpu"], "--platforms is for a .jaxprog or SavedMo"),
            (["-o", "w.tflite", "--saved-model"], "--saved-model writes a directory; leave off"),
            (["-o", "w", "--quantize", "int8"], "--quantize is for a .tflite, which w is not; l"),
            (["-o", "w.tflite", "--quantize", "int4"], "argument --quantize: invalid choice"),
            (["-o", "w.jaxprog", "--batch", "1"], "--batch is for a SavedModel, which w.jaxprog"),
            (["-o", "w", "--saved-model", "--batch", "0"], "argument --batch: must be a number of"),
            (["-o", "w", "--private"], "--private is for --push-to-hub; leave it off"),
            (["-o", "w.jaxprog", "--push-to-hub", "a/b"], "--push-to-hub is for weights, which w."),
            (["-o", "w.pth", "--push-to-hub", "a/b"], "--push-to-hub is for a directory or .safe"),
            (
                ["--push-to-hub", "a/b", "--size", "8x8"],
                "--size is for a program, which the upload",
            ),
            (["--push-to-hub", "ab"], "ab is no name of the hub; write hf://ORG/NAME"),
            (["-o", "there.tflite", "--size", "8x8"], "there.tflite exists; choose another name"),
            (["-o", "w.jaxprog", "--size", "99999x99999"], "99999x99999 pixels are too many"),
            (["-o", "w.jaxprog", "--platforms", "abacus"], "no platform 'abacus'; choose from cpu"),
            (["-o", "w", "--step", "7"], "{checkpoint}/checkpoints has no step 7; there are: 0"),
            (["-o", "there"], "{place}/there is not empty; choose another directory, or --force"),
            (["-o", "there.jaxprog"], "there.jaxprog exists; choose another name, or --force"),
            (["-o", "there.safetensors"], "{place}/there.safetensors exists; choose another name"),
        ],
        ids=str,
    )
    def test_mistakes(self, export, checkpoint, place, arguments, message):
        message = message.format(checkpoint=checkpoint, place=place)
        for name in ("there/file", "there.jaxprog", "there.safetensors", "there.tflite"):
            (place / name).parent.mkdir(exist_ok=True)
            (place / name).write_text("")
        before = contents(place)
        with pytest.raises(SystemExit) as end:
            export(*arguments)
        assert isinstance(end.value.code, str)
        assert end.value.code.startswith(f"error: {message}")
        assert "\n" not in end.value.code
        assert contents(place) == before
