"""eval.py as a user starts it."""

import errno
import json
import os
import shlex
import shutil
import tempfile

import jax
import numpy as np
import pytest

from lcdnet_jax import image_io, multihost, networks, training
from lcdnet_jax import weights as weights_lib
from lcdnet_jax.cli import _compilation
from lcdnet_jax.evaluation import Evaluator
from lcdnet_jax.inference import predictor
from lcdnet_jax.metrics import lpips
from lcdnet_jax.networks import registered
from lcdnet_jax.weights import pretrained
from tests.scripts import TINY, StandIn, error_of, results, results_of_any_command, run, train

pytest.importorskip("tensorflow")
pytestmark = [
    pytest.mark.usefixtures("sadnet_stand_in"),
    # ml_collections loads config files in an old way.
    pytest.mark.filterwarnings("ignore:the load_module:DeprecationWarning"),
]


@pytest.fixture
def quick_compiler():
    """Halves the time to compile; numbers change in the last digits only."""
    jax.config.update("jax_disable_most_optimizations", True)
    yield
    jax.config.update("jax_disable_most_optimizations", False)
    jax.clear_caches()  # which do not tell such programs from the usual ones


@pytest.fixture
def sadnet_itself(sadnet_stand_in):
    with registered("sadnet", networks.SADNet):
        yield


@pytest.mark.extended
@pytest.mark.slow
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


def test_buckets_that_cannot_be_used(bucket):
    message = error_of("eval.py", "--workdir", f"{bucket}/none")
    assert f"{bucket}/none does not exist; give a working directory" in message
    message = error_of("eval.py", "--checkpoint", "sadnet-photo", "--output", "gs://no-such/out")
    assert "cannot write results to gs://no-such/out: " in message
    assert "the bucket gs://no-such does not exist" in message


class TestEval:
    @pytest.mark.extended
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
            "command",
            "date",
            "processor",
            "lcdnet_jax",
            "jax",
        ]
        assert [list(row) for row in rows] == [keys] * 5
        assert shlex.split(rows[0]["command"]) == ["python", *map(str, command), "--output",
                                                   str(tmp_path / "first")]  # fmt: skip
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
        first, second = (results_of_any_command(tmp_path / x) for x in ("first", "second"))
        assert first == second

    def test_the_sets_of_rain13k_and_their_mean(self, workdir, tmp_path, rng, capsys):
        counts = {"Test100": 1, "Rain100H": 2, "Rain100L": 1, "Test2800": 1, "Test1200": 1}
        for name, count in counts.items():
            for half in ("input", "target"):
                folder = tmp_path / "R" / "test" / name / half
                folder.mkdir(parents=True)
                for i in range(count):
                    image = rng.integers(0, 256, (16, 24), np.uint8)
                    image_io.write(folder / f"{i}.png", image)
        assert run("eval.py", "--workdir", workdir, "--data", f"rain13k:{tmp_path / 'R'}",
                   "--split", "test", "--output", tmp_path / "out") is None  # fmt: skip
        *sets, average = results(tmp_path / "out")
        assert [row["dataset"] for row in sets] == [f"rain13k_R_{name}" for name in counts]
        assert [row["n"] for row in sets] == list(counts.values())
        assert (average["dataset"], average["protocol"], average["n"]) == (
            "rain13k_R_mean",
            "rain",
            6,
        )
        for score in ("psnr", "ssim", "input_psnr"):
            expected = np.mean([row[score] for row in sets])
            np.testing.assert_allclose(average[score], expected, rtol=1e-12)
        out = capsys.readouterr().out
        assert "\nrain13k_R_mean " in out
        gray = (
            "rain13k_R_Test100: gray images; the network is for color, and scores are of 3 channels"
        )
        assert gray in out

    @pytest.mark.extended
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

    @pytest.mark.extended
    def test_the_evaluation_of_the_paper_pads_nothing(self, workdir, tmp_path, monkeypatch):
        real, shapes = predictor.pad_to_bucket, set()

        def spy(batch, *limits, **tiles):
            padded = real(batch, *limits, **tiles)
            shapes.add((batch.shape[1:3], padded.shape[1:3]))
            return padded

        monkeypatch.setattr(predictor, "pad_to_bucket", spy)
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

    def test_options_of_the_network(self, workdir, monkeypatch):
        """They are set before JAX starts its devices, because XLA reads them then."""

        def check():
            raise multihost.DeviceError(os.environ["XLA_FLAGS"])

        monkeypatch.setattr(multihost, "check_devices", check)
        monkeypatch.setattr(StandIn, "xla_cpu_options", ("mine",))
        monkeypatch.setenv("XLA_FLAGS", _compilation._NO_UNROLLING)
        assert f"{_compilation._NO_UNROLLING},mine" in error_of("eval.py", "--workdir", workdir)

    def test_a_directory_that_is_read_only(self, workdir, monkeypatch, tmp_path):
        """Found before the weights are loaded."""

        def refuse(**options):
            raise OSError(errno.EROFS, os.strerror(errno.EROFS))

        monkeypatch.setattr(tempfile, "TemporaryFile", refuse)
        monkeypatch.setattr(weights_lib, "load", None)
        assert error_of("eval.py", "--workdir", workdir) == (
            f"cannot write results to {workdir}/eval: Read-only file system; give another "
            "folder as --output"
        )

    def test_data_with_commas_and_brackets(self, workdir, data, tmp_path):
        for name in ("my, data", "a [v2]"):
            shutil.copytree(data / "kodim", tmp_path / name)
        both = f"{tmp_path / 'my, data'},{tmp_path / 'a [v2]'}"
        run("eval.py", "--workdir", workdir, "--data", both, "--output", tmp_path / "out [1]")
        assert [row["dataset"] for row in results(tmp_path / "out [1]")] == ["my, data", "a [v2]"]

    @pytest.mark.extended
    def test_exported_weights(self, workdir, data, tmp_path, monkeypatch):
        run("eval.py", "--workdir", workdir, "--output", tmp_path / "run")
        file, folder = tmp_path / "exported.safetensors", tmp_path / "exported"
        weights_lib.save_safetensors(workdir, file)
        weights_lib.save_directory(workdir, folder)
        for i, checkpoint in enumerate((file, folder)):
            command = ("eval.py", "--checkpoint", checkpoint, "--output", tmp_path / str(i))
            assert "on a folder that its card only names (kodim); give --data" in error_of(*command)
            assert "holds averaged parameters only" in error_of(*command, "--raw")
            assert run(*command, "--data", data / "kodim") is None
            rows = results_of_any_command(tmp_path / str(i))
            assert rows == results_of_any_command(tmp_path / "run")
        message = error_of("eval.py", "--checkpoint", file, "--data", data / "kodim")
        assert "--checkpoint is a file; give --output" in message
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

    @pytest.mark.extended
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

    @pytest.mark.extended
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
        found = error_of(*command, "--modes=local")
        assert "--modes local is for networks with means over windows, which " in found
        found = error_of(*command, "--modes=tiled", "--tile=50", "--overlap=20")
        assert "--tile 50 is too small for --overlap 20 on both sides" in found

    @pytest.mark.extended
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
        assert "are for noise, but clean images are degraded by jpeg" in message
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

        monkeypatch.setattr(Evaluator, "score_each", fail)
        assert "use --modes tiled" in error_of("eval.py", "--workdir", workdir)
        monkeypatch.setattr(training, "train_and_evaluate", fail)
        assert "use a smaller config.batch_size" in error_of(*train(workdir, data))

    def test_a_directory_called_as_pretrained_weights(self, workdir, tmp_path, monkeypatch):
        name = pretrained.DEFAULT
        shutil.copytree(workdir, tmp_path / name)
        monkeypatch.chdir(tmp_path)
        for i, given in enumerate((name, workdir)):
            assert run("eval.py", "--workdir", given, "--output", tmp_path / str(i)) is None
        first, second = (results_of_any_command(tmp_path / x) for x in "01")
        assert first == second

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
            (["--workdir", "{run}", "--protocols", "pairs"], "needs degraded images from disk"),
            (
                ["--workdir", "{run}", "--data", "{data}/pairs", "--protocols", "4bit"],
                "no protocol '4bit'; known protocols",
            ),
            (["--workdir", "{run}", "--modes", "whole"], "no mode 'whole'; --modes are full"),
            (["--workdir", "{run}", "--modes=tiled", "--tile=64"], "tile 64 is too small"),
            (["--workdir", "{run}", "--tile=96"], "--tile and --overlap are for --modes tiled"),
            (["--workdir", "{run}", "--overlap=0"], "--tile and --overlap are for --modes tiled"),
            (["--workdir", "{run}", "--local_pool=9"], "--local_pool is for --modes local; add it"),
            (["--workdir", "{run}", "--step", "5"], "has no step 5; there are: "),
            (
                ["--workdir", "{run}", "--output", "{run}/config.json"],
                "Not a directory; give anoth",
            ),
            (["--workdir", "{run}", "--config", TINY, "--config.eval.bucket=0"], "eval.bucket"),
            (
                ["--workdir", "{run}", "--split", "test"],
                "--split is for data sets that have splits",
            ),
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
        assert f"{tmp_path}/fake.png: contains no PNG" in message

    def test_checkpoint_that_does_not_fit_its_config(self, workdir, tmp_path):
        copy = shutil.copytree(workdir, tmp_path / "copy")
        config = json.loads((copy / "config.json").read_text())
        config["network"]["kwargs"]["width"] = 4
        del config["sha256"]  # as the error of a changed file advises
        (copy / "config.json").write_text(json.dumps(config))
        assert "belongs to another network" in error_of("eval.py", "--workdir", copy)
