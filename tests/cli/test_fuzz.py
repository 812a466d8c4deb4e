"""Damaged images, checkpoints and programs, and random command lines, for lcdnet-jax.

Each must end in a whole image of the right size or in a clean error, soon. ``LCDNET_JAX_FUZZ=500``
makes so many of each kind instead of a few; a failure names the seed of its case.
"""

import contextlib
import functools
import io
import json
import os
import pathlib
import random
import shutil
import signal
import struct
import sys
import warnings
import zipfile
import zlib

import jax.numpy as jnp
import numpy as np
import pytest
import tifffile
from flax import linen as nn
from ml_collections import ConfigDict
from PIL import Image, ImageOps

from configs import tiny
from lcdnet_jax import checkpoints, export, image_io, networks
from lcdnet_jax import config as config_lib
from lcdnet_jax import weights as weights_lib
from lcdnet_jax.cli import main as cli
from lcdnet_jax.export import run_exported
from lcdnet_jax.networks import registered

CASES = int(os.environ.get("LCDNET_JAX_FUZZ", "250"))
SECONDS = 30  # for one case


class TooSlow(BaseException):
    """Nobody on the way catches it."""


class Same(networks.RestorationNetwork):
    """Takes SADNet's place; gives back what it gets."""

    channels: int = 3
    dtype: str = "float32"

    @nn.compact
    def __call__(self, x, *, train=False, axis_name=None):
        return x + self.param("offset", nn.initializers.zeros, (1,))[0]


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    """A checkpoint, read and compiled once for each set of options."""
    folder = tmp_path_factory.mktemp("weights") / "same"
    with pytest.MonkeyPatch.context() as patch, registered("sadnet", Same):
        source = weights_lib.create_weights(
            "sadnet", {"params": {"offset": np.zeros(1, np.float32)}}
        )
        weights_lib.save_directory(source, folder)
        patch.setattr(weights_lib, "load", functools.lru_cache(weights_lib.load))
        yield folder


def noise(*shape, dtype=np.uint8):
    return np.random.default_rng(0).integers(0, np.iinfo(dtype).max + 1, shape).astype(dtype)


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    """Small files of all kinds, by name."""
    folder = tmp_path_factory.mktemp("corpus")
    exif = Image.Exif()
    exif[0x0112], exif[0x010F] = 6, "Maker"
    color = Image.fromarray(noise(13, 17, 3))
    large = color.resize((300, 200))  # several windows of 64 or 200 pixels
    for name, image, options in [
        ("large.png", large, {}),
        ("large.jpg", large, {}),
        ("color.png", color, {"exif": exif, "icc_profile": bytes(200)}),
        ("color.jpg", color, {"exif": exif, "icc_profile": bytes(200)}),
        ("progressive.jpg", color, {"progressive": True}),
        ("lossy.webp", color, {"exif": exif}),
        ("alpha.webp", Image.fromarray(noise(13, 17, 4)), {"lossless": True}),
        ("color.bmp", color, {}),
        ("color.tif", color, {"exif": exif}),
        ("lzw.tif", color, {"compression": "tiff_lzw"}),
        ("jpeg.tif", color, {"compression": "jpeg"}),
        ("gray.png", Image.fromarray(noise(13, 17)), {}),
        ("palette.png", color.quantize(16), {"transparency": bytes(range(16))}),
        ("palette.bmp", color.quantize(16), {}),
        ("bits.png", Image.fromarray(noise(13, 17) > 99), {}),
        ("bits.tif", Image.fromarray(noise(13, 17) > 99), {"compression": "group4"}),
        ("cmyk.jpg", color.convert("CMYK"), {}),
        ("float.tif", Image.fromarray(noise(13, 17).astype(np.float32)), {}),
    ]:
        image.save(folder / name, **options)
    for name, shape in (("gray16.png", (13, 17)), ("pair16.png", (13, 17, 2)),
                        ("deep.png", (13, 17, 3)), ("deep.tif", (13, 17, 4))):  # fmt: skip
        image_io.write(folder / name, noise(*shape, dtype=np.uint16))
    image_io.write(folder / "float3.tif", noise(13, 17, 3).astype(np.float32))
    tifffile.imwrite(folder / "tiles16.tif", noise(40, 33, 3, dtype=np.uint16), tile=(16, 16))
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir())}


# Mutations: each takes random.Random and bytes, and gives bytes.


def flip(rng, data):
    data = bytearray(data)
    for _ in range(rng.choice((1, 1, 2, 8, 40))):
        data[rng.randrange(len(data))] ^= 1 << rng.randrange(8)
    return bytes(data)


def flip_in_header(rng, data):
    head = min(len(data), rng.choice((24, 60, 200)))
    return flip(rng, data[:head]) + data[head:]


def number_in_header(rng, data):
    """A number of 2 or 4 bytes, such as a size, an offset or a count, becomes another."""
    data = bytearray(data)
    value = rng.choice(
        (0, 1, 2, 3, 7, 13, 16, 18, 255, 256, 300, 2**15, 2**16 - 1, 2**31, 2**32 - 1)
    )
    form = rng.choice("<>") + rng.choice("HI")
    limit = 2 ** (8 * struct.calcsize(form))
    place = rng.randrange(min(len(data) - 4, 120))
    struct.pack_into(form, data, place, value % limit)
    return bytes(data)


def number_at_the_end(rng, data):
    """As TIFF's directory, where it lies behind the pixels."""
    cut = max(0, len(data) - 250)
    return data[:cut] + number_in_header(rng, data[cut:])


def cut(rng, data):
    return data[: rng.randrange(len(data))]


def extend(rng, data):
    return data + rng.randbytes(rng.choice((1, 10, 1000)))


def remove(rng, data):
    start = rng.randrange(len(data))
    return data[:start] + data[start + rng.choice((1, 2, 4, 20)) :]


def insert(rng, data):
    start = rng.randrange(len(data))
    return data[:start] + rng.randbytes(rng.choice((1, 2, 4, 20))) + data[start:]


def swap(rng, data):
    a, b, c = sorted(rng.randrange(len(data)) for _ in range(3))
    return data[:a] + data[b:c] + data[a:b] + data[c:]


def chunks(rng, data):
    """Of a PNG: chunks lost, twice, in another order or with another content, checksums right."""
    if not data.startswith(b"\x89PNG"):
        return swap(rng, data)
    found, place = [], 8
    while place + 12 <= len(data):
        length = struct.unpack(">I", data[place : place + 4])[0]
        found.append((data[place + 4 : place + 8], data[place + 8 : place + 8 + length]))
        place += 12 + length
    number = rng.randrange(len(found))
    kind, content = found[number]
    match rng.randrange(5):
        case 0:
            del found[number]
        case 1:
            found.insert(rng.randrange(len(found)), found[number])
        case 2:
            rng.shuffle(found)
        case 3:
            found[number] = (rng.choice((b"tRNS", b"PLTE", b"eXIf", b"iCCP", b"acTL")), content)
        case _:
            found[number] = (kind, flip(rng, content) if content else b"\0")
    return data[:8] + b"".join(
        struct.pack(">I", len(c)) + k + c + struct.pack(">I", zlib.crc32(k + c)) for k, c in found
    )


def of_json(rng, data):
    """One entry of a JSON object lost, renamed or changed, at any depth."""
    root = json.loads(data)
    place = root
    while inside := [v for v in (place.values() if isinstance(place, dict) else place)
                     if v and isinstance(v, (dict, list))]:  # fmt: skip
        if rng.random() < 0.4:
            break
        place = rng.choice(inside)
    key = rng.choice(sorted(place)) if isinstance(place, dict) else rng.randrange(len(place))
    match rng.randrange(4):
        case 0:
            del place[key]
        case 1 if isinstance(place, dict):
            place[rng.choice(("", "x", "name", "steps", "training"))] = place.pop(key)
        case _:
            place[key] = rng.choice(
                (None, True, -1, 0, 7, 1.5, 2**70, 1e308, float("nan"), float("inf"), "", "x", "\0",
                 "sadnet", "float16", [], {}, [[]], {"a": 1}, "y" * 300)
            )  # fmt: skip
    return json.dumps(root).encode()


def empty(rng, data):
    return b""


def other(rng, data):
    return rng.choice((b"GIF89a", b"\x89PNG\r\n\x1a\n", b"BM", b"II*\0", b"<html>")) + data[8:]


MUTATIONS = (
    *(flip, flip, flip_in_header, flip_in_header, number_in_header, number_in_header),
    *(number_at_the_end, cut, extend, remove, insert, swap, chunks, chunks, empty, other),
)


WINDOWS = ("--tile=64", "--overlap=8")


def size_of(path):
    """(width, height) as displayed, by other readers; None where they refuse the file."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            with Image.open(path) as image:
                return ImageOps.exif_transpose(image).size
        except Exception:
            with contextlib.suppress(Exception):
                height, width = tifffile.imread(path).shape[:2]
                return width, height
    return None


def start(arguments, main=cli.main, longest=1000):
    """Runs a program; returns its exit status or message, after checks of that alone."""

    def too_slow(signal, frame):
        raise TooSlow

    before = signal.signal(signal.SIGALRM, too_slow)
    signal.setitimer(signal.ITIMER_REAL, SECONDS)
    try:
        main(arguments)
        code = None
    except SystemExit as end:
        code = end.code
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
    if code is not None:
        assert isinstance(code, str), code
        assert code.startswith("error: "), code
        assert "Traceback" not in code
        assert "(--debug shows where)" not in code, code  # an error that nobody expected
        lines = code.splitlines()
        assert len(lines) == 1 or lines[0].endswith(" failed:"), code
        assert all(len(line) < longest for line in lines), code
    return code


def snapshot(folder):
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.mark.extended
@pytest.mark.filterwarnings("ignore::UserWarning")  # Pillow's
def test_damaged_images(checkpoint, corpus, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    restored = 0
    for seed in range(CASES):
        rng = random.Random(seed)
        name = rng.choice(sorted(corpus))
        data = corpus[name]
        for _ in range(rng.choice((1, 1, 1, 2, 3))):
            data = rng.choice(MUTATIONS)(rng, data) if data else data
        case = f"seed {seed}, {name}"
        source, target = pathlib.Path(f"in-{name}"), pathlib.Path("out") / f"in-{name}"
        source.write_bytes(data)
        target.parent.mkdir(exist_ok=True)
        target.write_bytes(b"earlier")
        try:
            code = start(["restore", source.name, "-o", "out/", "--force", "--checkpoint",
                          str(checkpoint), *rng.choice(((), WINDOWS))])  # fmt: skip
        except BaseException as error:
            pytest.fail(f"{case}: {error!r}")
        capsys.readouterr()
        if code is None:
            restored += 1
            size = size_of(source)
            # Readers differ in what they take from damaged EXIF data, such as the orientation.
            assert size is None or {*size} == {*size_of(target)}, f"{case}: {size}"
            result, _ = image_io.read_with_metadata(target)
            before, _ = image_io.read_with_metadata(source)
            assert (result.shape, result.dtype) == (before.shape, before.dtype), case
            if target.suffix != ".jpg":
                np.testing.assert_allclose(result, before, rtol=1e-6, atol=1e-37, err_msg=case)
        else:
            assert target.read_bytes() == b"earlier", f"{case}: {code}"
            assert name in code, f"{case}: {code}"
        assert sorted(os.listdir("out")) == [target.name], case
        assert source.read_bytes() == data, case
        source.unlink()
        target.unlink()
    assert 0.1 * CASES < restored < 0.9 * CASES  # else the mutations are too harsh, or too mild


GOOD = (
    "large.png",
    "color.png",
    "color.jpg",
    "deep.tif",
    "float3.tif",
    "alpha.webp",
    "palette.bmp",
)
INPUTS = (
    *(*GOOD, *GOOD, "folder", "folder/", "*.png", "*.jp*g", "**/*", "none.png", "-", "", "."),
    *("empty", "text.png", "./color.png", "folder/../color.png", "na me.png", "ünï.png"),
    *("[a].png", "-dash.png", "new\nline.png", "x" * 300 + ".png", "folder.png", "loop"),
)
OUTPUTS = (
    *("out", "out/", "out", "out/", "new/deep/", "a.png", "a.jpg", "a.tif", "a.gif", "text.png"),
    *("folder.png", "folder", ".", "", "text.png/x", "out/a.webp", "color.png", "ü/", "loop/"),
    "y" * 300,
)
OPTIONS = (
    ("--tile", ("64", "200", "33", "0", "-5", "x", "1e3", "99999999999999999999")),
    ("--overlap", ("0", "8", "64", "-1", "", "999")),
    ("--strength", ("0", "0.5", "1", "-1", "1.01", "nan", "")),
    ("--local-pool", ("16", "0")),
    ("--dtype", ("float32", "bfloat16", "float64")),
    ("--device", ("cpu", "cpu:1", "cpu:99", "tpu", "?")),
    ("--quality", ("1", "100", "0", "1000", "²")),
    ("--reference", ("color.png", "folder", "none", ".", "text.png", "")),
    ("--checkpoint", ("none", "text.png", "folder", "")),
    ("--ensemble", ()),
    ("--force", ()),
    ("--frce", ()),
    ("--forc", ()),
)


def listed():
    return io.TextIOWrapper(io.BytesIO(b"folder/inner/deep.tif\n\nnone\0.png\n\xff.png\n"))


@pytest.mark.extended
@pytest.mark.filterwarnings("ignore::UserWarning")
def test_random_command_lines(checkpoint, corpus, tmp_path, capsys, monkeypatch):
    good = tmp_path / "good"
    for name in GOOD:
        (good / "folder" / "inner").mkdir(parents=True, exist_ok=True)
        (good / name).write_bytes(corpus[name])
        (good / "folder" / "inner" / name).write_bytes(corpus[name])
    for name in ("na me.png", "ünï.png", "[a].png", "-dash.png", "new\nline.png"):
        (good / name).write_bytes(corpus["color.png"])
    (good / "text.png").write_text("text")
    (good / "empty").mkdir()
    (good / "folder.png").mkdir()
    (good / "loop").symlink_to("loop")
    restored = 0
    for seed in range(CASES):
        rng = random.Random(seed)
        arguments = ["restore"]
        arguments += [rng.choice(INPUTS) for _ in range(rng.choice((1, 1, 1, 2, 3)))]
        arguments += ["-o", rng.choice(OUTPUTS), "--checkpoint", str(checkpoint)]
        for _ in range(rng.choice((0, 0, 1, 1, 2, 4))):
            option, values = rng.choice(OPTIONS)
            arguments += [f"{option}={rng.choice(values)}"] if values else [option]
        if rng.random() < 0.05:
            rng.shuffle(arguments)
        place = tmp_path / "place"
        shutil.copytree(good, place, symlinks=True)
        monkeypatch.chdir(place)
        before = snapshot(place)
        monkeypatch.setattr(sys, "stdin", listed())
        case = f"seed {seed}: {arguments}"
        try:
            start(arguments)
        except BaseException as error:
            pytest.fail(f"{case}: {error!r}")
        capsys.readouterr()
        after = snapshot(place)
        assert not set(before) - set(after), case
        for path in after:
            assert not path.name.startswith("."), case
            if after[path] != before.get(path):
                restored += 1
                forced = {"--force", "--forc"} & set(arguments)
                assert path not in before or forced, f"{case}: {path}"
                assert size_of(path) in ((13, 17), (17, 13), (300, 200)), f"{case}: {path}"
        monkeypatch.chdir(tmp_path)
        shutil.rmtree(place)
    assert restored > 0.1 * CASES


def changed(rng, data):
    """JSON, most of it still JSON."""
    return rng.choice((of_json, of_json, of_json, flip, cut, empty))(rng, data)


@pytest.mark.extended
@pytest.mark.filterwarnings("ignore::UserWarning")
def test_damaged_checkpoints(checkpoint, corpus, tmp_path, capsys, monkeypatch):
    """Of directories the card or the configuration, of safetensors files anything."""
    monkeypatch.chdir(tmp_path)
    trained = tmp_path / "trained"
    trained.mkdir()
    config = tiny.get_config()
    config.network.kwargs = ConfigDict()
    config_lib.save(config, trained / "config.json")
    writer = checkpoints.Checkpoints(trained, keep=1)
    writer.save(5, {"params": {"offset": jnp.zeros(1)}})
    writer.finish(5)
    writer.close()
    pathlib.Path("a.png").write_bytes(corpus["color.png"])
    weights_lib.save_safetensors(checkpoint, "whole.safetensors")
    used = refused = 0
    for seed in range(CASES // 5):
        rng = random.Random(seed)
        name = rng.choice(("card.json", "config.json", "trained", "safetensors"))
        if name == "safetensors":
            damaged = pathlib.Path(f"w{seed}.safetensors")
            data = pathlib.Path("whole.safetensors").read_bytes()
            damaged.write_bytes(rng.choice(MUTATIONS)(rng, data))
        else:
            damaged = pathlib.Path(f"w{seed}")
            shutil.copytree(trained if name == "trained" else checkpoint, damaged)
            file = damaged / ("config.json" if name == "trained" else name)
            file.write_bytes(changed(rng, file.read_bytes()))
        for command in (["info", damaged],
                        ["restore", "a.png", "-o", "b.png", "--checkpoint", damaged],
                        ["export", damaged, "-o", "out.safetensors"]):  # fmt: skip
            case = f"seed {seed}, {name}: {command}"
            try:
                code = start([str(word) for word in command])
            except BaseException as error:
                pytest.fail(f"{case}: {error!r}")
            capsys.readouterr()
            if command[0] != "info":
                output = pathlib.Path(command[command.index("-o") + 1])
                assert output.exists() == (code is None), f"{case}: {code}"
                output.unlink(missing_ok=True)
                used += code is None
                refused += code is not None
        left = {"a.png", "trained", "whole.safetensors", damaged.name}
        assert set(os.listdir()) == left, case
        shutil.rmtree(damaged) if damaged.is_dir() else damaged.unlink()
    assert used
    assert refused


@pytest.mark.extended
@pytest.mark.filterwarnings("ignore::UserWarning")
def test_damaged_programs(corpus, tmp_path, capsys, monkeypatch):
    pytest.importorskip("flatbuffers")
    monkeypatch.chdir(tmp_path)
    pathlib.Path("a.bmp").write_bytes(corpus["color.bmp"])
    parameters = {"params": {"offset": np.zeros(1, np.float32)}}
    whole = export.export_program(Same(), parameters, platforms=("cpu",))
    with zipfile.ZipFile(io.BytesIO(whole)) as file:
        members = {name: file.read(name) for name in file.namelist()}
    used = refused = 0
    for seed in range(CASES // 2):
        rng = random.Random(seed)
        if rng.random() < 0.5:
            data = rng.choice(MUTATIONS)(rng, whole)
        else:
            stream = io.BytesIO()
            with zipfile.ZipFile(stream, "w") as file:
                for name, content in members.items():
                    content = changed(rng, content) if name == "card.json" else content
                    file.writestr(name, content)
            data = stream.getvalue()
        pathlib.Path("w.jaxprog").write_bytes(data)
        try:
            # zipfile quotes names, which may have become as long as the file.
            code = start(["w.jaxprog", "a.bmp", "b.bmp"], run_exported.main, longest=99_999)
        except BaseException as error:
            pytest.fail(f"seed {seed}: {error!r}")
        capsys.readouterr()
        if code is None:
            used += 1
            assert size_of("b.bmp") == (17, 13), f"seed {seed}"
            os.remove("b.bmp")
        else:
            refused += 1
        assert sorted(os.listdir()) == ["a.bmp", "w.jaxprog"], f"seed {seed}: {code}"
    assert used
    assert refused
