"""The runner of program files, which works copied alone."""

import copy
import io
import json
import pathlib
import shutil
import subprocess
import sys
import warnings
import zipfile

import numpy as np
import pytest
from PIL import Image

from lcdnet_jax.export import run_exported
from tests.export.cases import image, load

pytest.importorskip("flatbuffers")

pytestmark = pytest.mark.usefixtures("quickly_compiled")


class TestRunner:
    @pytest.mark.extended
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
        run_exported.main([model, source, str(tmp_path / "o.jpg")])
        with Image.open(tmp_path / "o.jpg") as written:
            assert max(written.quantization[0]) <= 12  # quality 95
        with pytest.raises(SystemExit, match=r"error: .*o\.png exists"):
            run_exported.main([model, source, target])
        Image.fromarray(np.zeros((8, 8), np.uint16)).save(source)
        with pytest.raises(SystemExit, match=r"error: .*mode I;16.*lcdnet-jax restore"):
            run_exported.main([model, source, target, "--force"])
        with pytest.raises(SystemExit, match="error: this is not an exported network"):
            run_exported.main([source, source, target, "--force"])
        with pytest.raises(SystemExit, match=r"error: .*No such file"):
            run_exported.main([model + "x", source, target, "--force"])

    @pytest.mark.parametrize("shape", [(1, 7), (7, 1), (1, 1), (3, 5)], ids=str)
    @pytest.mark.parametrize("colors", [(), (3,)], ids=["gray", "color"])
    @pytest.mark.parametrize("channels", [1, 3])
    def test_small_pictures(self, tmp_path, monkeypatch, shape, colors, channels):
        def inverting(images):
            assert images.shape[3] == channels
            return 1 - images

        inverting.card = {"channels": channels}
        monkeypatch.setattr(run_exported, "load", lambda path: inverting)
        pixels = np.random.default_rng(3).integers(0, 256, (*shape, *colors), np.uint8)
        source, target = tmp_path / "in.png", tmp_path / "out.png"
        Image.fromarray(pixels).save(source)
        run_exported.main(["any", str(source), str(target)])
        with Image.open(target) as written:
            np.testing.assert_array_equal(np.asarray(written), 255 - pixels, strict=True)

    @pytest.mark.parametrize(
        ("output", "message"),
        [
            ("out.gif", r"out\.gif: name the output \.png, "),
            ("out", r"out: name the output \.png, "),
            ("none/out.png", r"none is not a folder; create it first"),
        ],
    )
    def test_outputs(self, tmp_path, output, message):
        """Before anything is read."""
        with pytest.raises(SystemExit, match=rf"^error: .*{message}"):
            run_exported.main(["any", "in.png", str(tmp_path / output)])

    def test_damaged_picture(self, dncnn, tmp_path):
        """Of which Pillow says, in the midst of it, that its syntax is wrong."""
        model, source = tmp_path / "m.jaxprog", tmp_path / "in.png"
        model.write_bytes(dncnn[2])
        Image.fromarray(np.random.default_rng(4).integers(0, 256, (300, 300), np.uint8)).save(
            source
        )
        first, second, *rest = source.read_bytes().split(b"IDAT", 2)
        source.write_bytes(b"".join([first, b"IDAT", second, b"ID\0T", *rest]))
        with pytest.raises(
            SystemExit, match=r"^error: .*in\.png cannot be read \(.*from a backup$"
        ):
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
                run_exported.ProgramError, match="not an exported network, or a damaged"
            ):
                load(damaged)
        with pytest.raises(
            run_exported.ProgramError, match="does not enlarge images by a factor of 2, as its"
        ):
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
        with pytest.raises(run_exported.ProgramError, match=r"a damaged one \(.*from a backup"):
            load(bytes(data))

    @pytest.mark.parametrize(
        ("change", "message"),
        [
            ({"scale": None}, "its card has no scale"),
            ({"stride": None, "jax": None}, "its card has no stride, jax"),
            ({"stride": 0}, "are not numbers of pixels"),
            ({"padding": "zeros"}, "padding in its card is neither 'reflect' nor 'constant'"),
            ({"scale": 1.5}, "are not numbers of pixels"),
            ({"channels": True}, "are not numbers of pixels"),
            ({"max_side": "9"}, "are not numbers of pixels"),
            ({"stride": 2**30, "max_side": 2**31}, "are not numbers of pixels"),
            ({"sizes": [[8, 8], [9, 9]], "programs": ["any.bin", "any.bin"]}, "names a program tw"),
            ({"sizes": [[8, 0]]}, "are not numbers of pixels"),
            ({"sizes": 3}, "'int' object is not iterable"),
            ({"sizes": []}, "sizes and programs in its card do not fit together"),
            ({"sizes": [[8]]}, "sizes and programs in its card do not fit together"),
            ({"programs": []}, "sizes and programs in its card do not fit together"),
            ({"programs": ["none"]}, "There is no item named 'none'"),
            ({"programs": [3]}, "jax, platforms or programs in its card are not names"),
            ({"platforms": 3}, "must be an iterable"),
        ],
        ids=str,
    )
    def test_bad_cards(self, dncnn, change, message):
        with pytest.raises(run_exported.ProgramError, match=rf"a damaged one \(.*{message}"):
            load(with_card(dncnn[2], change))

    @pytest.mark.parametrize("kind", ["compressed", "repeated", "overlapping"])
    def test_archives_that_grow(self, dncnn, kind):
        """A small file that would unpack to gigabytes is not unpacked."""
        stream = io.BytesIO()
        with warnings.catch_warnings(), zipfile.ZipFile(stream, "w") as file:
            warnings.simplefilter("ignore")  # about the name twice
            file.writestr("card.json", zipfile.ZipFile(io.BytesIO(dncnn[2])).read("card.json"))
            if kind == "compressed":
                file.writestr("any.bin", bytes(2**22), zipfile.ZIP_DEFLATED)
            else:
                file.writestr("any.bin", bytes(2**12))
            if kind == "repeated":
                file.writestr("any.bin", bytes(2**12))
            if kind == "overlapping":  # many names of the same bytes
                for number in range(9):
                    other = copy.copy(file.infolist()[-1])
                    other.filename = f"{number}.bin"
                    file.filelist.append(other)
        with pytest.raises(run_exported.ProgramError, match="members are repeated or compressed"):
            load(stream.getvalue())

    def test_errors_are_safe_to_print(self, dncnn, tmp_path):
        model = tmp_path / "m.jaxprog"
        model.write_bytes(with_card(dncnn[2], {"platforms": ["\x1b[2J"]}))
        Image.fromarray(np.zeros((8, 8), np.uint8)).save(tmp_path / "in.png")
        with pytest.raises(SystemExit, match=r"the program is for \\x1b\[2J, the device is cpu"):
            run_exported.main([str(model), str(tmp_path / "in.png"), str(tmp_path / "out.png")])

    @pytest.mark.parametrize("card", [b"[" * 200_000, b"9" * 10_000_000, b"[]", b'{"format": NaN}'])
    def test_hostile_cards(self, card):
        stream = io.BytesIO()
        with zipfile.ZipFile(stream, "w") as file:
            file.writestr("card.json", card)
        with pytest.raises(run_exported.ProgramError) as error:
            load(stream.getvalue())
        assert len(str(error.value)) < 1000

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
