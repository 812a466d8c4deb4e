"""The scripts as a user starts them, in this process: only the interpreter's start is left out."""

import contextlib
import csv
import json
import logging
import math
import pathlib
import runpy
import shutil
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from absl import app, flags
from absl import logging as absl_logging
from flax import linen as nn

from lcdnet_jax import image_io, networks, training, visualization
from lcdnet_jax.config import checks
from lcdnet_jax.evaluation import Evaluator
from lcdnet_jax.inference import restorer as restorer_lib
from lcdnet_jax.metrics import lpips
from lcdnet_jax.weights import interchange, pretrained
from tests.registered import registered

pytest.importorskip("tensorflow")
# ml_collections loads config files in an old way.
pytestmark = pytest.mark.filterwarnings("ignore:the load_module:DeprecationWarning")

ROOT = pathlib.Path(__file__).resolve().parents[1]
TINY = str(ROOT / "configs" / "tiny.py")


class StandIn(networks.RestorationNetwork):
    """Takes SADNet's place and arguments, and compiles in no time."""

    channels: int = 3
    width: int = 2
    offset_width: int = 2
    groups: int = 1
    dtype: jnp.dtype = jnp.float32

    @nn.compact
    def __call__(self, x, *, train=False, axis_name=None):
        y = nn.relu(nn.Conv(self.width, (3, 3), dtype=self.dtype)(x.astype(self.dtype)))
        return x + nn.Conv(self.channels, (3, 3), dtype=self.dtype)(y).astype(x.dtype)


@pytest.fixture(scope="module", autouse=True)
def stand_in():
    with registered("sadnet", StandIn):
        yield


app.define_help_flags()  # what absl does once, it need not do inside the following


@contextlib.contextmanager
def clean_globals():
    """absl's flags, its logging and sys.argv belong to the process: gives them back."""
    known, handlers, argv = set(flags.FLAGS), logging.root.handlers[:], sys.argv
    level = absl_logging.get_verbosity()
    try:
        yield
    finally:
        for name in set(flags.FLAGS) - known:
            delattr(flags.FLAGS, name)
        flags.FLAGS.unparse_flags()
        absl_logging.set_verbosity(level)
        logging.root.handlers[:], sys.argv = handlers, argv


def run(script, *arguments):
    """``python script arguments``; returns what the process would exit with."""
    with clean_globals():
        sys.argv = [script, *map(str, arguments)]
        try:
            runpy.run_path(str(ROOT / script), run_name="__main__")
        except SystemExit as end:
            return end.code


def error_of(script, *arguments):
    """The message of a command that must fail: printed alone, without a traceback, status 1."""
    code = run(script, *arguments)
    assert isinstance(code, str), code  # sys.exit(text) prints it and exits with 1
    assert code.startswith("error: ")
    return code.removeprefix("error: ")


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """Folders of small blocky images: train/, kodim/ and pairs/."""
    folder, rng = tmp_path_factory.mktemp("data"), np.random.default_rng(0)

    def write(path, shape):
        path.parent.mkdir(parents=True, exist_ok=True)
        coarse = rng.integers(0, 256, (*shape, 3), np.uint8)
        image_io.write(path, coarse.repeat(4, axis=0).repeat(4, axis=1))

    for i in range(3):
        write(folder / "train" / f"t{i}.png", (5 + i, 6))
        write(folder / "kodim" / f"k{i}.png", (5, 6 + i))
    for part in ("input", "target"):
        for i in range(2):
            write(folder / "pairs" / part / f"p{i}.png", (6, 5))
    return folder


def images_of(data):
    return ("--config.data.train.source=folder", f"--config.data.train.path={data / 'train'}",
            "--config.data.eval.source=folder", f"--config.data.eval.path={data / 'kodim'}"
            )  # fmt: skip


def train(workdir, data, *arguments):
    return ("train.py", "--config", TINY, "--workdir", workdir, *images_of(data), *arguments)


@pytest.fixture(scope="module")
def workdir(tmp_path_factory, data):
    """A finished run of train.py."""
    workdir = tmp_path_factory.mktemp("run") / "new" / "folder"
    assert run(*train(workdir, data)) is None
    return workdir


def results(folder):
    rows = json.loads((folder / "results.json").read_text())
    with (folder / "results.csv").open(newline="") as file:
        table = list(csv.DictReader(file))
    assert list(table[0])[:7] == list(rows[0])[:7]
    for row, texts in zip(rows, table, strict=True):
        missing = dict.fromkeys(texts, "")  # not all protocols have all scores
        assert missing | {k: "" if v is None else str(v) for k, v in row.items()} == texts
    return rows


@pytest.fixture
def quick_compiler():
    """Halves the time to compile; numbers change in the last digits only."""
    jax.config.update("jax_disable_most_optimizations", True)
    yield
    jax.config.update("jax_disable_most_optimizations", False)
    jax.clear_caches()  # which do not tell such programs from the usual ones


@pytest.fixture
def sadnet_itself(stand_in):
    with registered("sadnet", networks.SADNet):
        yield


def test_sadnet_itself(data, tmp_path, sadnet_itself, quick_compiler, capsys):
    """The one test without the stand-in; evaluation agrees with the last one of the training."""
    changes = ("--config.steps=1", "--config.ema_decay=0", "--config.eval.max_images=0")
    assert run(*train(tmp_path, data, *changes)) is None
    assert "Total: 17,899 " in capsys.readouterr().out
    assert run("eval.py", "--workdir", tmp_path) is None
    lines = (tmp_path / "metrics.jsonl").read_text().splitlines()
    trained = next(row for row in map(json.loads, lines) if "eval/sigma50/psnr" in row)
    (row,) = results(tmp_path / "eval")
    for score in ("psnr", "ssim"):
        np.testing.assert_allclose(row[score], trained[f"eval/sigma50/{score}"], rtol=1e-4)


class TestTrain:
    def test_leaves_a_run(self, workdir):
        assert json.loads((workdir / "config.json").read_text())["steps"] == 8
        assert (workdir / "checkpoints" / "8").is_dir()
        rows = [json.loads(line) for line in (workdir / "metrics.jsonl").read_text().splitlines()]
        assert math.isfinite(rows[-1]["eval/sigma50/psnr"])
        assert list((workdir / "panels").glob("0000008_k0_sigma50.png"))

    def test_continues(self, workdir, data, tmp_path, capsys):
        copy = shutil.copytree(workdir, tmp_path / "copy")
        assert run(*train(copy, data, "--config.steps=9")) is None
        assert "continuing after step 8" in capsys.readouterr().out
        assert (copy / "checkpoints" / "9").is_dir()

    def test_validates_once(self, data, tmp_path, monkeypatch):
        """Not again in each library function that the script calls."""
        checked = []
        problems = checks.problems
        monkeypatch.setattr(
            checks, "problems", lambda config: checked.append(config) or problems(config)
        )
        assert run(*train(tmp_path, data, "--config.steps=1")) is None
        assert len(checked) == 1

    def test_a_network_as_its_stored_fields(self, workdir, data, tmp_path):
        stored = json.loads((workdir / "config.json").read_text())["network"]["kwargs"]
        assert stored == {"width": 2, "offset_width": 2, "groups": 1}
        copy = shutil.copytree(workdir, tmp_path / "copy")
        width = "--config.network.kwargs.width=4"
        message = error_of(*train(copy, data, "--config.steps=9", width))
        assert "config.network.kwargs.width: 2 there, 4 given" in message

    def test_replays_a_step(self, workdir, data, capsys):
        before = (workdir / "metrics.jsonl").read_text()
        assert run(*train(workdir, data, "--replay=6")) is None
        out = capsys.readouterr().out
        assert "after step 4 of " in out
        assert "step 6: loss 0." in out
        with np.load(workdir / "replay" / "6" / "batch.npz") as batch:
            assert batch["restored"].shape == batch["degraded"].shape == (8, 16, 16, 3)
        assert (workdir / "replay" / "6" / "batch.png").is_file()
        assert (workdir / "metrics.jsonl").read_text() == before
        message = error_of(*train(workdir, data, "--replay=9"))
        assert message.startswith("the run has no step 9: config.steps is 8")

    @pytest.mark.parametrize(
        ("argument", "message"),
        [
            ("--config.stepz=9", "unknown field config.stepz; did you mean steps?"),
            ("--config.data.train.colour=1", "unknown field config.data.train.colour; "),
            ("--config.optimizer.lr=9", "did you mean optimizer.learning_rate?"),
            ("--config.network.kwargs.depth=1", "config.network.kwargs.depth; 'sadnet' has the fi"),
            ("--config.degradation.options.rain.angle=1", "'rain' has the fields kind"),
            ("--config.steps=many", "flag --config.steps=many: invalid literal"),
            (
                "--config.loss=huber",
                "config.loss must be one of 'l1', 'l2', 'charbonnier', 'sse', 'l1_fft', got",
            ),
            ("--config.data.train.path=nowhere", "config.data.train.path: nowhere: does not exist"),
            ("--config.data.train.path=", "config.data.train.path is ''; config.data.train.source"),
            ("--config.batch_size=12", "config.batch_size / config.accumulate (12 / 1) is not"),
            ("--config.init_from=nowhere", "nowhere/checkpoints does not exist"),
            ("--stpes=9", "Unknown command line flag 'stpes'. Did you mean"),
            ("--config=nowhere.py", "nowhere.py does not exist; configs holds default.py, "),
            ("--profile=bad", "--profile=bad is no range of steps; use START:STOP with 1 <= START"),
        ],
    )
    def test_mistakes(self, data, tmp_path, argument, message):
        assert message in error_of(*train(tmp_path / "run", data, argument)).replace(
            f"{pathlib.Path.cwd()}/", ""
        )
        assert not list(tmp_path.glob("run/checkpoints/*"))

    def test_missing_arguments(self, tmp_path):
        assert "--config must have a value" in error_of("train.py", "--workdir", tmp_path)
        assert "--workdir must have a value" in error_of("train.py", "--config", TINY)

    @pytest.mark.parametrize("damage", ["text", "half", "empty"])
    def test_damaged_images_are_named(self, data, tmp_path, damage):
        folder = shutil.copytree(data, tmp_path / "data")
        victim = folder / "train" / "t1.png"
        content = victim.read_bytes()
        victim.write_bytes(
            {"text": b"not an image", "half": content[: len(content) // 2], "empty": b""}[damage]
        )
        assert str(victim) in error_of(*train(tmp_path / "run", folder))

    def test_folder_without_images(self, data, tmp_path):
        (tmp_path / "train").mkdir()
        shutil.copytree(data / "kodim", tmp_path / "kodim")
        assert f"{tmp_path}/train: holds no image" in error_of(*train(tmp_path / "run", tmp_path))

    def test_other_configuration_in_the_workdir(self, workdir, data):
        message = error_of(*train(workdir, data, "--config.batch_size=16"))
        assert "holds a run with another configuration" in message
        assert "config.batch_size: 8 there, 16 given" in message

    def test_checkpoint_of_another_network(self, workdir, data, tmp_path):
        message = error_of(
            *train(tmp_path, data, f"--config.init_from={workdir}",
                   "--config.network.kwargs.width=3")
        )  # fmt: skip
        assert "belongs to another network" in message
        assert "/Conv_0/bias: shape (2,) there, (3,) needed" in message


class TestEval:
    def test_writes_and_prints_a_table(self, workdir, data, tmp_path, capsys):
        command = ("eval.py", "--workdir", workdir, "--data", f"{data / 'kodim'},{data / 'pairs'}",
                   "--sigmas", "25,50", "--protocols", "float,8bit")  # fmt: skip
        assert run(*command, "--output", tmp_path / "first") is None
        out = capsys.readouterr().out
        rows = results(tmp_path / "first")
        keys = [
            "dataset",
            "sigma",
            "protocol",
            "mode",
            "psnr",
            "ssim",
            "input_psnr",
            "n",
            "weights",
        ]
        assert [list(row) for row in rows] == [keys] * 5
        assert [(r["dataset"], r["sigma"], r["protocol"], r["n"]) for r in rows] == [
            ("kodim", 25.0, "float", 3),
            ("kodim", 50.0, "float", 3),
            ("kodim", 25.0, "8bit", 3),
            ("kodim", 50.0, "8bit", 3),
            ("pairs", None, "pairs", 2),
        ]
        for row in rows:
            assert 0 < row["psnr"] < 60
            assert -1 <= row["ssim"] <= 1
            assert f"{row['psnr']:6.2f} {row['ssim']:7.4f}" in out
        assert 19 < rows[0]["input_psnr"] < 23  # 20.2 dB and a little by the clip
        for name in ("float", "8bit", "pairs"):
            assert f"\n{name}: " in out  # what the protocols mean

        assert run(*command, "--output", tmp_path / "second") is None
        for name in ("results.json", "results.csv"):
            assert (tmp_path / "first" / name).read_bytes() == (
                tmp_path / "second" / name
            ).read_bytes()

    def test_the_evaluation_of_the_paper(self, workdir, data, tmp_path, capsys):
        assert run("eval.py", "--workdir", workdir, "--data", f"{data / 'kodim'},{data / 'pairs'}",
                   "--protocols", "sadnet,8bit", "--save_images", "--output", tmp_path
                   ) is None  # fmt: skip
        rows = {(row["dataset"], row["protocol"]): row for row in results(tmp_path)}
        assert list(rows) == [
            ("kodim", "sadnet"), ("kodim", "8bit"), ("pairs", "sadnet-pairs"), ("pairs", "pairs")
        ]  # fmt: skip
        assert rows["kodim", "sadnet"]["ssim"] != rows["kodim", "8bit"]["ssim"]
        assert image_io.read(tmp_path / "kodim_sadnet_sigma50" / "k2.png").shape == (16, 32, 3)
        assert image_io.read(tmp_path / "pairs_sadnet-pairs" / "p0.png").shape == (24, 16, 3)
        assert "sides cut to multiples of 8" in capsys.readouterr().out

    def test_the_evaluation_of_the_paper_pads_nothing(self, workdir, tmp_path, monkeypatch):
        real, shapes = restorer_lib.pad_to_bucket, set()

        def spy(batch, *limits):
            padded = real(batch, *limits)
            shapes.add((batch.shape[1:3], padded.shape[1:3]))
            return padded

        monkeypatch.setattr(restorer_lib, "pad_to_bucket", spy)
        command = ("eval.py", "--workdir", workdir, "--output", tmp_path, "--protocols")
        run(*command, "8bit")
        assert {padded for _, padded in shapes} == {(64, 64)}
        shapes.clear()
        run(*command, "sadnet")
        assert shapes == {((16, width), (16, width)) for width in (24, 32)}

    def test_defaults_come_from_the_run(self, workdir, capsys):
        assert run("eval.py", "--checkpoint", workdir, "--save_images") is None
        (row,) = results(workdir / "eval")
        assert (row["dataset"], row["sigma"], row["protocol"]) == ("kodim", 50.0, "float")
        images = sorted((workdir / "eval").rglob("*.png"))
        assert [p.name for p in images] == ["k0.png", "k1.png", "k2.png"]
        assert image_io.read(images[2]).shape == (20, 32, 3)
        assert f"{row['psnr']:6.2f} {row['ssim']:7.4f}      3\n" in capsys.readouterr().out

    def test_exported_weights(self, workdir, data, tmp_path, monkeypatch):
        run("eval.py", "--workdir", workdir, "--output", tmp_path / "run")
        file, folder = tmp_path / "exported.safetensors", tmp_path / "exported"
        interchange.save_safetensors(workdir, file)
        interchange.export_params(workdir, folder)
        for i, checkpoint in enumerate((file, folder)):
            command = ("eval.py", "--checkpoint", checkpoint, "--output", tmp_path / str(i))
            assert "on a folder that its card only names (kodim); give --data" in error_of(*command)
            assert "holds averaged parameters only" in error_of(*command, "--raw")
            assert run(*command, "--data", data / "kodim") is None
            assert results(tmp_path / str(i)) == results(tmp_path / "run")
        message = error_of("eval.py", "--checkpoint", file, "--data", data / "kodim")
        assert "exported.safetensors is a file; give --output" in message
        monkeypatch.setattr(pretrained, "find", {"shipped": file}.__getitem__)
        command = ("eval.py", "--checkpoint", "shipped", "--data", data / "kodim")
        assert run(*command, "--output", tmp_path / "shipped") is None

    def test_border_and_luma_are_part_of_the_protocol(self, workdir, tmp_path, capsys):
        assert run("eval.py", "--workdir", workdir, "--border=3", "--luma", "--save_images",
                   "--output", tmp_path) is None  # fmt: skip
        (row,) = results(tmp_path)
        assert row["protocol"] == "float-y-border3"
        assert "border 3; Y of BT.601" in capsys.readouterr().out
        run("eval.py", "--workdir", workdir, "--output", tmp_path / "plain")
        assert results(tmp_path / "plain")[0]["psnr"] != row["psnr"]

    def test_other_noise(self, workdir, data, tmp_path, capsys):
        command = ("eval.py", "--workdir", workdir, "--spectrum=low", "--spread=10")
        assert run(*command, "--output", tmp_path) is None
        (row,) = results(tmp_path)
        assert row["protocol"] == "float-low-varying10"
        assert row["input_psnr"] > 17  # white noise: 14
        assert "level from -10 to +10 over the columns" in capsys.readouterr().out
        pairs = ("--data", data / "pairs", "--output", tmp_path)
        assert "but --data has pairs" in error_of(*command, *pairs)
        message = "--sigmas must be at least --spread (10), got 5"
        assert message in error_of(*command, "--sigmas=5", "--output", tmp_path)

    def test_protocols_of_pairs(self, workdir, data, tmp_path, capsys, monkeypatch):
        monkeypatch.setattr(lpips, "available", lambda: False)  # these are too small for it
        command = ("eval.py", "--workdir", workdir, "--data", f"{data / 'pairs'},{data / 'kodim'}")
        assert run(*command, "--protocols=gopro,rain,dpdd,8bit", "--output", tmp_path) is None
        rows = {(row["dataset"], row["protocol"]): row for row in results(tmp_path)}
        assert list(rows) == [
            ("pairs", "gopro"), ("pairs", "rain"), ("pairs", "dpdd"), ("kodim", "8bit")
        ]  # fmt: skip
        assert 0 < rows["pairs", "dpdd"]["mae"] < 1
        assert "mae" not in rows["pairs", "rain"]
        assert f"  MAE {rows['pairs', 'dpdd']['mae']:.4f}" in capsys.readouterr().out
        assert rows["pairs", "gopro"]["psnr"] != rows["pairs", "rain"]["psnr"]

    def test_the_protocol_of_a_benchmark_is_its_own(self, workdir, data, tmp_path):
        for part, half in (("blur", "input"), ("sharp", "target")):
            shutil.copytree(data / "pairs" / half, tmp_path / "GoPro" / "test" / "GOPR0" / part)
        command = ("eval.py", "--workdir", workdir, "--data", f"gopro:{tmp_path / 'GoPro'}")
        config = ("--config", TINY, "--config.data.eval.split=test")
        assert run(*command, *config, "--output", tmp_path / "out") is None
        (row,) = results(tmp_path / "out")
        assert (row["dataset"], row["protocol"], row["n"]) == ("gopro_GoPro", "gopro", 2)

    def test_modes(self, workdir, rng, tmp_path, capsys):
        (tmp_path / "wide").mkdir()
        image_io.write(tmp_path / "wide/k0.png", rng.integers(0, 256, (20, 48, 3), np.uint8))
        command = ("eval.py", "--workdir", workdir, "--save_images", "--output", tmp_path)
        command += ("--data", tmp_path / "wide")
        assert run(*command, "--modes=full,tiled", "--tile=32", "--overlap=1") is None
        full, tiled = results(tmp_path)
        assert (full["mode"], tiled["mode"]) == ("full", "tiled 32/1")
        np.testing.assert_allclose(full["psnr"], tiled["psnr"], atol=0.1)
        assert f"tiled 32/1     {tiled['input_psnr']:6.2f}" in capsys.readouterr().out
        assert (tmp_path / "wide_float_sigma50_tiled" / "k0.png").is_file()
        assert " has no local_pool; leave it None" in error_of(*command, "--modes=local")

    def test_other_degradations_than_noise(self, data, tmp_path, capsys):
        kind = ("--config.degradation.kind=jpeg", "--config.degradation.protocol=8bit")
        assert run(*train(tmp_path / "run", data, *kind, "--config.steps=1")) is None
        command = ("eval.py", "--workdir", tmp_path / "run", "--data")
        sets = f"{data / 'kodim'},{data / 'pairs'}"
        assert run(*command, sets, "--output", tmp_path / "out") is None
        assert [(r["dataset"], r["sigma"], r["protocol"]) for r in results(tmp_path / "out")] == [
            ("kodim", None, "jpeg-8bit"),
            ("pairs", None, "pairs"),
        ]
        assert "jpeg-8bit: synthetic jpeg, rounded to 8 bits" in capsys.readouterr().out
        message = error_of(*command, sets, "--spectrum=low")
        assert "are of noise, but clean images are degraded by jpeg" in message
        assert run(*command, sets, "--sigmas=25", "--output", tmp_path / "noise") is None
        row = results(tmp_path / "noise")[0]
        assert (row["sigma"], row["protocol"]) == (25.0, "8bit")

    def test_a_damaged_image_does_not_cost_the_scores_before_it(self, workdir, data, tmp_path):
        damaged = tmp_path / "damaged"
        damaged.mkdir()
        image_io.write(damaged / "a.jpg", np.full((40, 40, 3), 99, np.uint8))
        whole = (damaged / "a.jpg").read_bytes()
        (damaged / "a.jpg").write_bytes(whole[: len(whole) - 40])
        code = run("eval.py", "--workdir", workdir, "--data", f"{data / 'kodim'},{damaged}",
                   "--output", tmp_path / "out")  # fmt: skip
        assert "cut short" in code
        assert [row["dataset"] for row in results(tmp_path / "out")] == ["kodim"]

    def test_another_config_chooses_the_data(self, workdir, data, tmp_path):
        assert run("eval.py", "--workdir", workdir, "--config", TINY,
                   "--config.data.eval.source=folder",
                   f"--config.data.eval.path={data / 'train'}", "--config.eval.sigmas=10,20",
                   "--output", tmp_path) is None  # fmt: skip
        assert [(r["dataset"], r["sigma"]) for r in results(tmp_path)] == [
            ("train", 10.0),
            ("train", 20.0),
        ]

    def test_too_little_memory(self, workdir, data, monkeypatch):
        def fail(*args, **kwargs):
            raise jax.errors.JaxRuntimeError("RESOURCE_EXHAUSTED: Out of memory allocating")

        monkeypatch.setattr(Evaluator, "score_images", fail)
        assert "use --modes tiled" in error_of("eval.py", "--workdir", workdir)
        monkeypatch.setattr(training, "train_and_evaluate", fail)
        assert "use a smaller config.batch_size" in error_of(*train(workdir, data))

    def test_a_directory_called_as_pretrained_weights(self, workdir, tmp_path, monkeypatch):
        name = pretrained.DEFAULT
        shutil.copytree(workdir, tmp_path / name)
        monkeypatch.chdir(tmp_path)
        for i, given in enumerate((name, workdir)):
            assert run("eval.py", "--workdir", given, "--output", tmp_path / str(i)) is None
        assert results(tmp_path / "0") == results(tmp_path / "1")

    def test_raw_parameters_and_steps(self, workdir, tmp_path):
        scores = set()
        for i, choice in enumerate([(), ("--raw",), ("--step", "4"), ("--step", "4", "--raw")]):
            output = tmp_path / str(i)
            assert run("eval.py", "--workdir", workdir, "--output", output, *choice) is None
            scores.add(results(output)[0]["psnr"])
        assert len(scores) == 4

    @pytest.mark.parametrize(
        ("arguments", "message"),
        [
            (
                ["--workdir", "nowhere"],
                "nowhere does not exist; give a working directory of train.py",
            ),
            ([], "give one directory, as --workdir or as --checkpoint"),
            (["--workdir", "{run}", "--checkpoint", "x"], "give one directory"),
            (["--workdir", "{run}", "--data", "nowhere"], "nowhere: does not exist"),
            (["--workdir", "{run}", "--sigmas", "5,x"], "--sigmas must be numbers, got ['5', 'x']"),
            (["--workdir", "{run}", "--protocols", "4bit"], "no protocol '4bit'; known protocols"),
            (["--workdir", "{run}", "--protocols", "pairs"], "wants degraded images from disk"),
            (
                ["--workdir", "{run}", "--data", "{data}/pairs", "--protocols", "4bit"],
                "no protocol '4bit'; known protocols",
            ),
            (["--workdir", "{run}", "--modes", "whole"], "no mode 'whole'; --modes are full"),
            (["--workdir", "{run}", "--modes=tiled", "--tile=64"], "tile 64 is used up"),
            (["--workdir", "{run}", "--tile=96"], "--tile and --overlap are of --modes tiled"),
            (["--workdir", "{run}", "--overlap=0"], "--tile and --overlap are of --modes tiled"),
            (["--workdir", "{run}", "--local_pool=9"], "--local_pool is of --modes local; add it"),
            (["--workdir", "{run}", "--step", "5"], "has no step 5; there are: "),
            (["--workdir", "{run}", "--output", "{run}/config.json"], "File exists"),
            (["--workdir", "{run}", "--config", TINY, "--config.eval.bucket=0"], "eval.bucket"),
        ],
        ids=str,
    )
    def test_mistakes(self, workdir, data, arguments, message):
        places = {"run": workdir, "data": data}
        arguments = [a.format(**places) if isinstance(a, str) else a for a in arguments]
        assert message in error_of("eval.py", *arguments)

    def test_text_file_named_png(self, workdir, tmp_path):
        (tmp_path / "fake.png").write_text("not an image")
        message = error_of("eval.py", "--workdir", workdir, "--data", tmp_path)
        assert f"{tmp_path}/fake.png: holds no PNG" in message

    def test_checkpoint_that_does_not_fit_its_config(self, workdir, tmp_path):
        copy = shutil.copytree(workdir, tmp_path / "copy")
        text = (copy / "config.json").read_text()
        (copy / "config.json").write_text(text.replace('"width": 2', '"width": 4'))
        assert "belongs to another network" in error_of("eval.py", "--workdir", copy)


@pytest.fixture(scope="module")
def output(tmp_path_factory, data):
    """What quickstart.py leaves after two steps."""
    output = tmp_path_factory.mktemp("quickstart")
    assert run("quickstart.py", "--config", TINY, "--output", output, *images_of(data),
               "--config.steps=2", "--config.degradation.sigma_min=40",
               "--config.degradation.sigma_max=40",
               ) is None  # fmt: skip
    return output


class TestQuickstart:
    def test_result(self, output):
        result = json.loads((output / "result.json").read_text())
        assert set(result) == {"images", "mean", "train_seconds"}
        scores = {"noisy_psnr", "classical_psnr", "restored_psnr"}
        assert [image["name"] for image in result["images"]] == ["k0", "k1", "k2"]
        for image in result["images"]:
            assert set(image) == scores | {"name"}
        assert set(result["mean"]) == scores
        for key in scores:
            mean = np.mean([image[key] for image in result["images"]])
            np.testing.assert_allclose(result["mean"][key], mean)
        assert result["train_seconds"] > 0

    def test_leaves_files_to_restore(self, output):
        for version in ("noisy", "clean"):
            files = sorted((output / version).iterdir())
            assert [file.name for file in files] == ["k0.png", "k1.png", "k2.png"]
            stored = np.load(output / f"k1_{version}.npy").clip(0, 1)
            np.testing.assert_allclose(image_io.read(files[1]) / 255, stored, atol=0.51 / 255)

    def test_other_degradations_than_noise_are_refused(self, tmp_path):
        message = error_of("quickstart.py", "--config", TINY, "--output", tmp_path,
                           "--config.degradation.kind=rain")  # fmt: skip
        assert "non-local means removes noise" in message

    def test_arrays_are_what_was_scored(self, output, data):
        result = json.loads((output / "result.json").read_text())
        for row in result["images"]:
            versions = {
                version: np.load(output / f"{row['name']}_{version}.npy")
                for version in ("clean", "noisy", "classical", "restored")
            }
            image = image_io.to_float(image_io.read(data / "kodim" / f"{row['name']}.png"))
            np.testing.assert_array_equal(versions["clean"], image)
            for version, array in versions.items():
                assert array.dtype == np.float32
                assert array.shape == image.shape
                if version != "clean":
                    error = np.mean((array.clip(0, 1).astype(float) - image) ** 2)
                    psnr = -10 * np.log10(error)
                    np.testing.assert_allclose(row[f"{version}_psnr"], psnr, rtol=1e-5)
            noise = versions["noisy"] - image
            assert abs(noise.std() - 40 / 255) < 4 * 40 / 255 / np.sqrt(2 * noise.size)
        assert versions["noisy"].min() < 0  # the protocol "float"

    def test_panel_and_checkpoint(self, output):
        blank = visualization.draw_panel(
            [("", np.zeros((20, 24, 3)))] * 4, clean=np.zeros((20, 24, 3))
        )
        panel = image_io.read(output / "panel.png")
        assert panel.dtype == np.uint8
        assert panel.shape[1:] == blank.shape[1:]
        assert panel.shape[0] > 2 * blank.shape[0]  # three images
        assert (output / "checkpoints" / "2").is_dir()
