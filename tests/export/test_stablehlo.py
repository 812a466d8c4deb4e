"""Exported networks: every one of them, the runner on its own, SavedModel, and refusals."""

import functools
import io
import itertools
import json
import pathlib
import shutil
import subprocess
import sys
import zipfile

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image

from lcdnet_jax import export, networks, ops
from lcdnet_jax.atomic_io import TargetError
from lcdnet_jax.export import run_exported, stablehlo

pytest.importorskip("flatbuffers")

TINY = {
    "buifd": {"depth": 3, "features": 4},
    "dncnn": {"depth": 3, "features": 4},
    "ikc": {"features": 4, "blocks": 1, "code_length": 3, "kernel_size": 5, "iterations": 2},
    "kmsr": {"features": 4, "blocks": 1},
    "lcdnet": {"preset": "tiny", "channels": 1, "use_msfm": False, "scam_type": "none"},
    "memnet": {"features": 4, "blocks": 2, "units": 2},
    "n3net": {
        **{"width": 2, "features": 4, "depth": 2},
        **{"neighbours": 1, "patch": 4, "stride": 4, "window": 2},
    },
    "rcan": {"scale": 2, "groups": 1, "blocks": 1, "features": 16},
    "ridnet": {"features": 16, "blocks": 1},
    "rrdb": {"scale": 3, "blocks": 1, "features": 4, "growth": 2},
    "sadnet": {"width": 2, "offset_width": 2, "groups": 1, "use_context": False},
    "unet_n2n": {},
}
STRIDES = {"sadnet": 8, "unet_n2n": 32}
SLOW = ("lcdnet", "n3net", "unet_n2n", "memnet")  # to compile
FIXED = {"lcdnet": (16, 16), "n3net": (8, 12)}


pytestmark = pytest.mark.usefixtures("quickly_compiled")


class Doubling(networks.RestorationNetwork):
    """Twice the size by way of a quarter, so that sides have to be multiples of 4."""

    channels: int = 1
    scale: int = 2
    dtype: type = jnp.float32
    stride = 4

    @nn.compact
    def __call__(self, x):
        _, height, width, _ = x.shape
        y = nn.Conv(4, (4, 4), strides=4)(ops.pad_to_multiple(x, 4))
        return nn.ConvTranspose(1, (8, 8), strides=(8, 8))(y)[:, : 2 * height, : 2 * width]


class Spectrum(networks.RestorationNetwork):
    """A convolution of the spectrum, and depthwise one of the image, as LCDNet has them."""

    channels: int = 1
    dtype: type = jnp.float32

    @nn.compact
    def __call__(self, x):
        width = x.shape[2]
        y = ops.depthwise_conv2d(x, self.param("taps", nn.initializers.normal(), (3, 3, 1, 1)))
        return y + ops.irfft2(nn.Conv(2, (1, 1))(ops.rfft2(x)), width)


def drawn(module):
    """Variables as after some training: every number its own, so that none can be mixed up."""
    rng = np.random.default_rng(0)

    def draw(path, leaf):
        if path[-1].key == "kernel":
            values = rng.normal(0, (0.5 / np.prod(leaf.shape[:-1])) ** 0.5, leaf.shape)
        else:
            low, high = {"var": (0.5, 2), "scale": (0.5, 1.5)}.get(path[-1].key, (-0.3, 0.3))
            values = rng.uniform(low, high, leaf.shape)
        return jnp.asarray(values, jnp.float32)

    x = jnp.zeros((1, 16, 16, module.channels))
    return jax.tree_util.tree_map_with_path(draw, jax.eval_shape(module.init, jax.random.key(0), x))


@functools.cache
def tiny(name):
    module = networks.create(name, **TINY[name])
    return module, drawn(module)


def image(*shape):
    return np.random.default_rng(1).random(shape, np.float32)


def load(data, **options):
    return run_exported.load(io.BytesIO(data), **options)


@pytest.fixture(scope="module")
def dncnn():
    module, variables = tiny("dncnn")
    return module, variables, export.export_program(module, variables)


@pytest.fixture(scope="module")
def doubling():
    return Doubling(), drawn(Doubling())


class TestEveryNetwork:
    @pytest.mark.parametrize(
        "name",
        [
            pytest.param(name, marks=[pytest.mark.slow] if name in SLOW else [])
            for name in networks.available()
        ],
    )
    def test_values(self, name):
        module, variables = tiny(name)
        sizes = [FIXED[name]] if name in FIXED else None
        restore = load(export.export_program(module, variables, sizes=sizes))
        assert restore.card["network"] == type(module).__name__
        assert restore.card["stride"] == (None if sizes else STRIDES.get(name, 1))
        assert restore.card["platforms"] == ["cpu", "cuda", "tpu"]
        for kind in ("images", "size"):
            assert len({str(case[kind]) for case in restore.card["verified"]}) == 2
        # Shapes that have been compiled for verification.
        stride = restore.card["stride"] or 1
        side = max(16, stride)
        size = sizes[0] if sizes else (side + stride + stride // 2, side)
        x = image(2, *size, module.channels)
        expected = np.asarray(jax.jit(module.apply)(variables, x))[:1]
        assert np.ptp(expected) > 0.01
        np.testing.assert_allclose(
            restore(x[:1]), expected, rtol=0, atol=1e-5 * np.abs(expected).max()
        )

    def test_fourier_transforms(self):
        """Of a sharded batch in training, by custom_partitioning; here plain ones."""
        module = Spectrum()
        variables = drawn(module)
        x = image(2, 8, 12, 1)
        restore = load(export.export_program(module, variables, sizes=[(8, 12)]))
        expected = np.asarray(jax.jit(module.apply)(variables, x))
        np.testing.assert_allclose(restore(x), expected, rtol=0, atol=1e-5)
        with pytest.raises(export.ExportError, match="needs to know sizes"):
            export.export_program(module, variables)

    @pytest.mark.parametrize("name", FIXED)
    def test_some_need_sizes(self, name):
        with pytest.raises(
            export.ExportError, match=r"needs to know sizes.*sizes=\[\(256, 256\)\]"
        ):
            export.export_program(*tiny(name))

    def test_scale(self, doubling):
        module, variables = doubling
        restore = load(export.export_program(module, variables))
        assert (restore.card["stride"], restore.card["scale"]) == (4, 2)
        x = image(3, 7, 9, 1)
        np.testing.assert_allclose(
            restore(x), module.apply(variables, x), rtol=0, atol=1e-5, strict=True
        )

    def test_bfloat16(self):
        module = networks.create("dncnn", dtype=jnp.bfloat16, **TINY["dncnn"])
        restore = load(export.export_program(module, drawn(module)))
        assert restore.card["dtype"] == "bfloat16"
        assert restore(image(1, 8, 8, 1)).dtype == np.float32

    def test_content(self, dncnn):
        """The same every time and everywhere: nothing of the machine that exports."""
        module, variables, data = dncnn
        assert export.export_program(module, variables) == data
        assert b".py" not in data


class TestSizes:
    def test_smallest_that_fits(self, dncnn):
        module, variables, _ = dncnn
        sizes = [(32, 24), (8, 12), (8, 12)]
        restore = load(export.export_program(module, variables, sizes=sizes, platforms=["cpu"]))
        assert restore.card["sizes"] == [[32, 24], [8, 12]]
        assert [case["size"][0] for case in restore.card["verified"]] == [32, 32, 8, 8]
        for (height, width), (full_height, full_width) in (
            ((8, 12), (8, 12)),
            ((7, 5), (8, 12)),
            ((9, 5), (32, 24)),
        ):
            x = image(1, height, width, 1)
            margin = ((0, 0), (0, full_height - height), (0, full_width - width), (0, 0))
            expected = module.apply(variables, np.pad(x, margin, mode="reflect"))
            np.testing.assert_allclose(
                restore(x), expected[:, :height, :width], rtol=0, atol=1e-5, strict=True
            )
        with pytest.raises(run_exported.ProgramError, match=r"33x5 pixels.*takes 32x24 or 8x12"):
            restore(image(1, 33, 5, 1))

    @pytest.mark.parametrize("sizes", [[], (256, 256), [(8, 0)], [(8.0, 8)], [(8, 8, 1)]])
    def test_refused(self, dncnn, sizes):
        with pytest.raises(export.ExportError, match="sizes are pairs of height and width"):
            export.export_program(*dncnn[:2], sizes=sizes)

    @pytest.mark.parametrize("size", [(99_999, 99_999), (16_001, 1), (8000, 8000), (10**30, 8)])
    def test_too_large(self, dncnn, size):
        message = rf"{size[0]}x{size[1]} pixels are too many.*up to 16000 and 32 megapixels"
        with pytest.raises(export.ExportError, match=message):
            export.export_program(*dncnn[:2], sizes=[(8, 12), size])

    @pytest.mark.parametrize(
        ("error", "message"),
        [
            (MemoryError(), "two images of 8x12 pixels do not fit into memory"),
            (jax.errors.JaxRuntimeError("RESOURCE_EXHAUSTED: Out of memory"), "8x12 pixels do not"),
            (jax.errors.JaxRuntimeError("INTERNAL"), "INTERNAL"),
        ],
        ids=str,
    )
    def test_memory(self, dncnn, monkeypatch, error, message):
        def fail(self, images):
            raise error

        monkeypatch.setattr(run_exported.Program, "__call__", fail)
        with pytest.raises((export.ExportError, RuntimeError), match=message):
            export.export_program(*dncnn[:2], sizes=[(8, 12)])


class TestRefusals:
    """Each before anything is written."""

    def test_platforms(self, dncnn):
        with pytest.raises(export.ExportError, match="no platform 'gpu'; choose of cpu, cuda"):
            export.export_program(*dncnn[:2], platforms=("cpu", "gpu"))
        with pytest.raises(export.ExportError, match="no platform is given"):
            export.export_program(*dncnn[:2], platforms=())
        with pytest.raises(export.ExportError, match=r"for tpu cannot be verified.*add cpu"):
            export.export_program(*dncnn[:2], platforms=("tpu",))
        with pytest.raises(export.ExportError, match="of cpu, cuda, cpu is given twice"):
            export.export_program(*dncnn[:2], platforms=("cpu", "cuda", "cpu"))

    def test_weights(self, dncnn):
        module, variables, _ = dncnn
        broken = jax.tree.map(np.array, variables)
        broken["params"]["dncnn"]["conv_1"]["kernel"][0, 0, 0, 0] = np.nan
        with pytest.raises(export.ExportError, match=r"'conv_1'.*hold NaN or infinity"):
            export.export_program(module, broken)

    def test_flatbuffers(self, dncnn, monkeypatch):
        monkeypatch.setitem(sys.modules, "flatbuffers", None)
        with pytest.raises(ImportError, match=r"lcdnet-jax\[export\]"):
            export.export_program(*dncnn[:2])

    def test_other_values(self, dncnn, tmp_path):
        calls = itertools.count()

        class Drifting(networks.RestorationNetwork):
            channels: int = 1
            dtype: type = jnp.float32

            @nn.compact
            def __call__(self, x):
                return x * self.param("factor", nn.initializers.ones, ()) + 1e-3 * next(calls)

        path = tmp_path / "drifting.jaxprog"
        path.write_bytes(b"earlier")
        with pytest.raises(export.ExportError, match=r"Drifting gives other values.*0.00"):
            export.write(path, Drifting(), {"params": {"factor": jnp.ones(())}}, force=True)
        assert [p.name for p in tmp_path.iterdir()] == [path.name]
        assert path.read_bytes() == b"earlier"

    def test_paths(self, dncnn, tmp_path, monkeypatch):
        module, variables, data = dncnn
        path = tmp_path / "new" / "dncnn.jaxprog"
        card = export.write(path, module, variables, about={"step": 7})
        assert card == run_exported.load(path).card
        assert card["about"] == {"step": 7}
        with monkeypatch.context() as patch:
            patch.delattr(stablehlo, "export_program")  # each is found before the work begins
            with pytest.raises(TargetError, match="exists; choose another name, or --force"):
                export.write(path, module, variables)
            with pytest.raises(TargetError, match="is a directory; give a file"):
                export.write(path.parent, module, variables, force=True)
            with pytest.raises(OSError, match=r"cannot write .*Not a directory; choose a writable"):
                export.write(path / "below.jaxprog", module, variables)
        export.write(path, module, variables, force=True)
        assert path.read_bytes() == data
        assert [p.name for p in path.parent.iterdir()] == [path.name]

    def test_what_appears_meanwhile_stays(self, dncnn, tmp_path, monkeypatch):
        path = tmp_path / "dncnn.jaxprog"

        def slow(*arguments, **options):
            path.write_bytes(b"of somebody else")
            return dncnn[2]

        monkeypatch.setattr(stablehlo, "export_program", slow)
        with pytest.raises(TargetError, match=r"dncnn\.jaxprog exists"):
            export.write(path, *dncnn[:2])
        assert path.read_bytes() == b"of somebody else"
        assert [p.name for p in tmp_path.iterdir()] == [path.name]
        export.write(path, *dncnn[:2], force=True)
        assert path.read_bytes() == dncnn[2]


class TestRunner:
    def test_alone(self, dncnn, tmp_path):
        """In a process that can import neither this library nor Flax."""
        module, variables, data = dncnn
        shutil.copy(run_exported.__file__, tmp_path / "run.py")
        (tmp_path / "model.jaxprog").write_bytes(data)
        pixels = np.random.default_rng(2).integers(0, 256, (11, 14, 3), np.uint8)
        Image.fromarray(pixels).save(tmp_path / "in.png")
        code = (
            "import sys, runpy\n"
            "for name in ('lcdnet_jax', 'flax', 'tensorflow'): sys.modules[name] = None\n"
            "runpy.run_path('run.py', run_name='__main__')"
        )
        command = [sys.executable, "-W", "error", "-c", code, "model.jaxprog", "in.png", "out.png"]
        environment = {"JAX_PLATFORMS": "cpu", "PATH": ""}
        run = subprocess.run(
            command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=240
        )
        assert run.returncode == 0, run.stderr
        planes = pixels.transpose(2, 0, 1)[..., None] / np.float32(255)
        expected = np.asarray(module.apply(variables, planes))[..., 0].transpose(1, 2, 0)
        with Image.open(tmp_path / "out.png") as written:
            difference = np.asarray(written) - expected.clip(0, 1) * 255
        assert np.abs(difference).max() < 0.51

    def test_pictures(self, dncnn, tmp_path, capsys):
        model, source, target = (str(tmp_path / name) for name in ("m.jaxprog", "in.png", "o.png"))
        pathlib.Path(model).write_bytes(dncnn[2])
        Image.fromarray(np.zeros((8, 8), np.uint8)).save(source)
        run_exported.main([model, source, target])
        with Image.open(target) as written:
            assert (written.mode, written.size) == ("L", (8, 8))
        with pytest.raises(SystemExit, match=r"error: .*o\.png exists"):
            run_exported.main([model, source, target])
        Image.fromarray(np.zeros((8, 8), np.uint16)).save(source)
        with pytest.raises(SystemExit, match=r"error: .*mode I;16.*lcdnet-jax restore"):
            run_exported.main([model, source, target, "--force"])
        with pytest.raises(SystemExit, match="error: this is no exported network"):
            run_exported.main([source, source, target, "--force"])
        with pytest.raises(SystemExit, match=r"error: .*No such file"):
            run_exported.main([model + "x", source, target, "--force"])

    @pytest.mark.parametrize("shape", [(1, 7), (7, 1), (1, 1), (3, 5)], ids=str)
    @pytest.mark.parametrize("colours", [(), (3,)], ids=["grey", "colour"])
    @pytest.mark.parametrize("channels", [1, 3])
    def test_small_pictures(self, tmp_path, monkeypatch, shape, colours, channels):
        def inverting(images):
            assert images.shape[3] == channels
            return 1 - images

        inverting.card = {"channels": channels}
        monkeypatch.setattr(run_exported, "load", lambda path: inverting)
        pixels = np.random.default_rng(3).integers(0, 256, (*shape, *colours), np.uint8)
        source, target = tmp_path / "in.png", tmp_path / "out.png"
        Image.fromarray(pixels).save(source)
        run_exported.main(["any", str(source), str(target)])
        with Image.open(target) as written:
            np.testing.assert_array_equal(np.asarray(written), 255 - pixels, strict=True)

    def test_damaged_picture(self, dncnn, tmp_path):
        """Of which Pillow says, in the midst of it, that its syntax is wrong."""
        model, source = tmp_path / "m.jaxprog", tmp_path / "in.png"
        model.write_bytes(dncnn[2])
        Image.fromarray(np.random.default_rng(4).integers(0, 256, (300, 300), np.uint8)).save(
            source
        )
        first, second, *rest = source.read_bytes().split(b"IDAT", 2)
        source.write_bytes(b"".join([first, b"IDAT", second, b"ID\0T", *rest]))
        with pytest.raises(SystemExit, match=r"^error: .*in\.png cannot be read \(.*from a copy$"):
            run_exported.main([str(model), str(source), str(tmp_path / "out.png")])

    def test_other_failures(self, dncnn, tmp_path, monkeypatch):
        """In one line."""

        def fail(path):
            raise MemoryError("RESOURCE_EXHAUSTED:\n  out of memory")

        monkeypatch.setattr(run_exported, "load", fail)
        with pytest.raises(SystemExit, match=r"^error: RESOURCE_EXHAUSTED: out of memory$"):
            run_exported.main(["any", "in.png", str(tmp_path / "out.png")])

    @pytest.mark.parametrize(
        ("images", "message"),
        [
            (np.zeros((8, 8), np.float32), r"expected images \[N, H, W, 1\], got shape \(8, 8\)"),
            (np.zeros((1, 8, 8, 3), np.float32), r"got shape \(1, 8, 8, 3\)"),
            (np.zeros((0, 8, 8, 1), np.float32), r"got shape \(0, 8, 8, 1\)"),
            (np.zeros((1, 8, 8, 1), np.uint8), "expected floating point.*uint8; divide"),
            (np.full((1, 8, 8, 1), np.inf), "NaN or infinity"),
            (np.zeros((1, 1, 16_001, 1)), "1x16001 pixels is too large.*up to 16000 pixels"),
        ],
    )
    def test_bad_images(self, dncnn, images, message):
        with pytest.raises(run_exported.ProgramError, match=message):
            load(dncnn[2])(images)

    def test_one_pixel(self, dncnn):
        module, variables, data = dncnn
        x = image(1, 1, 1, 1)
        np.testing.assert_allclose(load(data)(x), module.apply(variables, x), rtol=0, atol=1e-6)

    def test_bad_files(self, dncnn):
        data = dncnn[2]
        for damaged in (b"", data[: len(data) // 2], data.replace(b'"channels"', b'"channel5"')):
            with pytest.raises(
                run_exported.ProgramError, match="no exported network, or a damaged"
            ):
                load(damaged)
        with pytest.raises(run_exported.ProgramError, match="does not enlarge 2 times, as its"):
            load(with_card(data, {"scale": 2}))(image(1, 8, 8, 1))
        for change, message in (
            ({"format": "lcdnet_jax program 9"}, "program 9.*of the version that wrote it"),
            ({"platforms": ["tpu"]}, "the program is for tpu, the device is cpu"),
            ({"programs": ["card.json"], "jax": "9.9"}, "cannot read this program.*JAX 9.9"),
        ):
            with pytest.raises(run_exported.ProgramError, match=message):
                load(with_card(data, change))

    @pytest.mark.parametrize("method", [8, 99])
    def test_damaged_headers(self, dncnn, method):
        """Which name another compression, a known one and an unknown one."""
        data = bytearray(dncnn[2])
        data[data.rindex(b"PK\x01\x02") + 10] = method
        with pytest.raises(run_exported.ProgramError, match=r"a damaged one \(.*from a copy"):
            load(bytes(data))

    @pytest.mark.parametrize(
        ("change", "message"),
        [
            ({"scale": None}, "its card has no scale"),
            ({"stride": None, "jax": None}, "its card has no stride, jax"),
            ({"stride": 0}, "are no numbers of pixels"),
            ({"scale": 1.5}, "are no numbers of pixels"),
            ({"channels": True}, "are no numbers of pixels"),
            ({"max_side": "9"}, "are no numbers of pixels"),
            ({"sizes": [[8, 0]]}, "are no numbers of pixels"),
            ({"sizes": 3}, "'int' object is not iterable"),
            ({"sizes": []}, "sizes and programs in its card do not fit together"),
            ({"sizes": [[8]]}, "sizes and programs in its card do not fit together"),
            ({"programs": []}, "sizes and programs in its card do not fit together"),
            ({"programs": ["none"]}, "There is no item named 'none'"),
            ({"programs": [3]}, "jax, platforms or programs in its card are no names"),
            ({"platforms": 3}, "must be an iterable"),
        ],
        ids=str,
    )
    def test_bad_cards(self, dncnn, change, message):
        with pytest.raises(run_exported.ProgramError, match=rf"a damaged one \(.*{message}"):
            load(with_card(dncnn[2], change))

    def test_flatbuffers(self, dncnn, monkeypatch):
        monkeypatch.setitem(sys.modules, "jax._src.export.serialization", None)
        with pytest.raises(ImportError, match="pip install flatbuffers"):
            load(dncnn[2])


def with_card(data, change):
    """The same file with another card; a field without a value is taken off."""
    stream = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(data)) as old, zipfile.ZipFile(stream, "w") as new:
        card = json.loads(old.read("card.json")) | change
        kept = {field: card[field] for field in card if change.get(field, "") is not None}
        new.writestr("card.json", json.dumps(kept))
        new.writestr("any.bin", old.read("any.bin"))
    return stream.getvalue()


@pytest.mark.slow
class TestSavedModel:
    def test_any_size(self, doubling, tmp_path):
        tf = pytest.importorskip("tensorflow")
        module, variables = doubling
        path = tmp_path / "model"
        card = export.write_saved_model(path, module, variables, about={"step": 7})
        assert card == json.loads((path / "card.json").read_text())
        assert card["about"] == {"step": 7}
        assert len(card["verified"]) == 2
        loaded = tf.saved_model.load(str(path))
        for shape in ((3, 7, 9, 1), (1, 12, 8, 1)):
            x = image(*shape)
            expected = module.apply(variables, x)
            np.testing.assert_allclose(loaded(x).numpy(), expected, rtol=0, atol=1e-5, strict=True)
        (served,) = loaded.signatures["serving_default"](images=tf.constant(x)).values()
        np.testing.assert_allclose(served.numpy(), expected, rtol=0, atol=1e-5)

        with pytest.raises(TargetError, match="is not empty; choose another directory, or --force"):
            export.write_saved_model(path, module, variables)
        (path / "mine").touch()
        with pytest.raises(TargetError, match=r"is no earlier export \(mine\), and --force repl"):
            export.write_saved_model(path, module, variables, force=True)
        (path / "mine").unlink()
        export.write_saved_model(path, module, variables, sizes=[(8, 12), (16, 16)], force=True)
        assert [p.name for p in tmp_path.iterdir()] == ["model"]
        loaded = tf.saved_model.load(str(path))
        assert set(loaded.signatures) == {"serving_default", "size_16x16"}
        x = image(2, 16, 16, 1)
        expected = module.apply(variables, x)
        np.testing.assert_allclose(loaded(x).numpy(), expected, rtol=0, atol=1e-5, strict=True)

    def test_refusals(self, doubling, tmp_path, monkeypatch):
        (tmp_path / "mine").write_text("something else")
        with pytest.raises(TargetError, match="is a file; give a directory"):
            export.write_saved_model(tmp_path / "mine", *doubling, force=True)
        with pytest.raises(TargetError, match=r"no earlier export \(mine\), and --force replaces"):
            export.write_saved_model(tmp_path, *doubling, force=True)
        with pytest.raises(export.ExportError, match="verified on the CPU; add cpu"):
            export.write_saved_model(tmp_path / "new", *doubling, platforms=("tpu",))
        monkeypatch.setitem(sys.modules, "tensorflow", None)
        with pytest.raises(ImportError, match=r"needs TensorFlow.*\n.*lcdnet-jax\[export\]"):
            export.write_saved_model(tmp_path / "new", *doubling)
        assert [p.name for p in tmp_path.iterdir()] == ["mine"]
