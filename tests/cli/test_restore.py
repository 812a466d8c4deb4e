"""The command restore: its options, and the weights that it loads.

The network of these tests halves its images, so that every result is known.
"""

import json
import os
import shutil

import numpy as np
import pytest

from lcdnet_jax import Restorer, image_io, multihost
from lcdnet_jax import weights as weights_lib
from lcdnet_jax.cli import _compilation, main
from lcdnet_jax.inference import batch
from tests.cli.halving import Halving, halved, noise, put, same

pytestmark = pytest.mark.usefixtures("stand_in")


class TestOptions:
    def test_reach_the_restorer(self, place, run, monkeypatch, checkpoint):
        made = []

        def record(module, variables, **options):
            made.append(options)
            return Restorer(module, variables)

        monkeypatch.setattr(batch, "Restorer", record)
        put(place / "a.png")
        run("a.png", "-o", "b.png", "--tile=256", "--overlap=32", "--ensemble", "--local-pool=48",
            "--dtype=bfloat16", "--device=cpu", "--strength=0.25", "--tile-batch=3")  # fmt: skip
        options = {"tile": 256, "overlap": 32, "tile_batch": 3, "ensemble": True, "strength": 0.25,
                   "local_pool": 48,
                   "dtype": "bfloat16", "device": "cpu"}  # fmt: skip
        assert made == [options]

    def test_strength(self, place, run):
        image = noise((20, 30, 4), np.uint16)
        put(place / "a.png", image)
        for strength, exact in ((0, image), (0.5, image * 0.75), (1, image * 0.5)):
            run("a.png", "-o", "b.png", "--force", f"--strength={strength}")
            result = image_io.read(place / "b.png")
            np.testing.assert_allclose(result[..., :3], exact[..., :3], rtol=0, atol=1)
            np.testing.assert_array_equal(result[..., 3], image[..., 3])

    def test_tiles_give_the_same(self, place, run):
        image = noise((200, 150, 3))
        put(place / "a.png", image)
        run("a.png", "-o", "b.png", "--tile=96", "--overlap=16")
        same(place / "b.png", halved(image))

    @pytest.mark.parametrize(
        ("arguments", "message"),
        [
            (["--tile=abc"], "argument --tile: invalid int value: 'abc'"),
            (["--tile=31", "--overlap=0"], "--tile must be an integer of at least 32, got 31"),
            (["--tile=-64"], "--tile must be an integer of at least 32, got -64"),
            (
                ["--tile=100", "--overlap=64"],
                "--tile 100 is too small for --overlap 64 on both sides",
            ),
            (["--overlap=-1"], "--overlap must be an integer of at least 0, got -1"),
            (["--strength=1.5"], "--strength must be a number from 0 to 1, got 1.5"),
            (["--strength=nan"], "--strength must be a number from 0 to 1, got nan"),
            (["--strength=half"], "argument --strength: invalid float value: 'half'"),
            (["--local-pool=8"], "Halving has no --local-pool; leave it out, as the network"),
            (["--dtype=float16"], "argument --dtype: invalid choice: 'float16'"),
            (["--device=quantum"], "no device 'quantum'; use one of cpu:0, "),
            (["--device=cpu:-1"], "no device 'cpu:-1'; use one of cpu:0, "),
            (
                ["--tile-batch=0"],
                "argument --tile-batch: must be an integer of at least 1, got '0'",
            ),
            (["--local-pool=-8"], "argument --local-pool: must be an integer of at least 1, got"),
            (["--shard=2/2"], "argument --shard: must be I/N with I from 0 to N - 1, such as 0/4"),
            (["--shard=1"], "argument --shard: must be I/N"),
            (["--shard=-1/2"], "argument --shard: must be I/N"),
            (["--shard=0/2", "--distributed=on"], "--shard is for processes that are started"),
            (["--processes=2"], "a run on several hosts needs --coordinator, --processes and --pr"),
            (["--distributed=maybe"], "argument --distributed: invalid choice: 'maybe'"),
            (["--quality=0"], "argument --quality: must be a number from 1 to 100, got '0'"),
            (["--quality=101"], "argument --quality: must be a number from 1 to 100, got '101'"),
            (["--quality=ten"], "argument --quality: must be a number from 1 to 100, got 'ten'"),
            (["--ensemle"], "unrecognized arguments: --ensemle (lcdnet-jax restore --help "),
        ],
        ids=str,
    )
    def test_of_wrong_values(self, place, error_of, arguments, message):
        put(place / "a.png")
        found = error_of("a.png", "-o", "b.png", *arguments)
        assert found.startswith(message)
        assert "\n" not in found
        assert os.listdir(place) == ["a.png"]


class TestCheckpoint:
    @pytest.fixture
    def copy(self, checkpoint, place):
        put(place / "a.png")
        return shutil.copytree(checkpoint, place / "copy")

    def error(self, directory):
        for command in (["restore", "a.png", "-o", "b.png", "--checkpoint"], ["info"]):
            with pytest.raises(SystemExit) as end:
                main.main([*command, str(directory)])
            assert isinstance(end.value.code, str)
            assert "\n" not in end.value.code
            yield end.value.code

    def test_missing(self, place):
        put(place / "a.png")
        assert all("none" in text and "does not exist" in text for text in self.error("none"))

    def test_without_configuration(self, copy):
        (copy / "config.json").unlink()
        assert all("config.json" in text for text in self.error(copy))

    def test_in_one_file(self, checkpoint, place):
        put(place / "a.png")
        weights_lib.save_safetensors(checkpoint, place / "w.safetensors")
        main.main(["restore", "a.png", "-o", "b.png", "--checkpoint", "w.safetensors"])
        same(place / "b.png", halved(noise()))

    def test_damaged(self, copy):
        for path in (copy / "checkpoints" / "0").rglob("*"):
            if path.is_file() and path.parent.name != "0":
                path.write_bytes(b"")
        assert "damaged" in next(self.error(copy))

    def test_of_another_network(self, copy):
        config = json.loads((copy / "config.json").read_text())
        config["network"]["name"] = "resnet"
        del config["sha256"]  # as the error of a changed file advises
        (copy / "config.json").write_text(json.dumps(config))
        assert all("'resnet'" in text for text in self.error(copy))

    @pytest.mark.parametrize("change", ["missing", "newer", "older", "text"])
    def test_card(self, copy, change):
        card = json.loads((copy / "card.json").read_text())
        if change == "missing":
            (copy / "card.json").unlink()
        elif change == "newer":
            (copy / "card.json").write_text(json.dumps({**card, "format": 99}))
        elif change == "older":
            (copy / "card.json").write_text(json.dumps({**card, "format": 0}))
        else:
            (copy / "card.json").write_text("{")
        assert all("card.json" in text for text in self.error(copy))

    def test_of_two_views(self, place, error_of, monkeypatch):
        class TwoViews(Halving):
            two_views = True

        put(place / "a.png")
        weights = weights_lib.Weights(TwoViews(6), {}, {})
        monkeypatch.setattr(weights_lib, "load", lambda path, on_network: weights)
        assert "takes two views of a dual-pixel camera at once" in error_of("a.png", "-o", "b.png")


def test_options_of_the_network(place, run, monkeypatch):
    """They are set before JAX starts its devices, because XLA reads them then."""
    flags = []
    monkeypatch.setattr(multihost, "check_devices", lambda: flags.append(os.environ["XLA_FLAGS"]))
    monkeypatch.setenv("XLA_FLAGS", _compilation._NO_UNROLLING)
    monkeypatch.setattr(Halving, "xla_cpu_options", ("mine",))
    run(put(place / "a.png"), "-o", "b.png")
    assert flags[0] == f"{_compilation._NO_UNROLLING},mine"
