"""Weights that are installed with the library: names, checksums, cards, and that they restore."""

import hashlib
import itertools
import json
import pathlib
import re
import shutil
import subprocess
import sys

import jax
import numpy as np
import pytest
import skimage.data

from configs import sadnet_photo
from lcdnet_jax import Restorer, convert, degradations, image_io, metrics, networks
from lcdnet_jax import weights as weights_lib
from lcdnet_jax.cli import main as cli
from lcdnet_jax.weights import pretrained

FOLDER = pathlib.Path(pretrained.__file__).parent

# What is asked of the shipped weights on a crop of a photograph: noise and the gain in dB, all of
# the gains different. About 0.7 dB less than they reached when they were shipped.
GAUSSIAN = {
    "sadnet-color-blind": (
        *((5.0, "8bit", 3.6), (25.0, "float", 11.0), (25.0, "8bit", 9.8)),
        *((50.0, "float", 13.9), (50.0, "8bit", 11.2)),
    ),
    "sadnet-gray-blind": (
        *((5.0, "8bit", 3.8), (25.0, "float", 10.0), (25.0, "8bit", 9.5)),
        *((50.0, "float", 12.5), (50.0, "8bit", 11.3)),
    ),
}
# The recipe's camera with all steps, and the default one: noise straight from demosaicing.
CAMERA = (
    *(("recipe", 5e-3, 2.2), ("recipe", 2e-2, 3.0)),
    *(("default", 5e-3, 2.2), ("default", 2e-2, 3.8)),
)
# The same for files that are not installed, of what each was trained on.
OUTSIDE = FOLDER.parents[2] / "checkpoints"
GAINS = {
    "lcdnet-rain": 8.0,
    "lcdnet-motion": 0.5,
    "dncnn-gray": 9.0,
    "dncnn-gray-sfm": 9.0,
    "sadnet-photo-polyu": 0.5,
}
# PSNR of what they make of the clean photograph.
CLEAN = {"sadnet-color-blind": 41.9, "sadnet-gray-blind": 47.9, "sadnet-photo": 40.4}


@pytest.fixture
def shipped(tmp_path, monkeypatch):
    """A folder with one small network, in the place of those that are shipped."""
    name, kwargs = "dncnn", {"channels": 1, "depth": 3, "features": 4}
    image = np.zeros((1, 8, 8, 1), np.float32)
    variables = networks.create(name, **kwargs).init(jax.random.key(0), image)
    weights = weights_lib.create_weights(name, variables, **kwargs)
    folder = tmp_path / "pretrained"
    folder.mkdir()
    file = folder / "dncnn-tiny.safetensors"
    weights_lib.save_safetensors(weights, file, license="CC0", notes="Does nothing.")
    digest = hashlib.sha256(file.read_bytes()).hexdigest()
    (folder / "SHA256SUMS").write_text(f"{digest}  {file.name}\n")
    monkeypatch.setattr(pretrained, "_FOLDER", folder)
    monkeypatch.setattr(pretrained, "DEFAULT", "dncnn-tiny")
    monkeypatch.setattr(pretrained, "PURPOSES", {"dncnn-tiny": "nothing"})
    return file


class TestFolder:
    def test_names_and_path(self, shipped):
        assert pretrained.names() == ("dncnn-tiny",)
        assert pretrained.path("dncnn-tiny") == shipped

    @pytest.mark.parametrize(
        "name", ["dncnn-tiny2", "dncnn-tiny/", "Dncnn-Tiny", "weights/dncnn-tiny.safetensors"]
    )
    def test_wrong_name_lists_those_there_are(self, shipped, name):
        for use in (Restorer.from_pretrained, pretrained.find):
            with pytest.raises(pretrained.PretrainedError, match=r"there are dncnn-tiny; did you"):
                use(name)
        with pytest.raises(pretrained.PretrainedError, match=r"'x'; there are dncnn-tiny$"):
            Restorer.from_pretrained("x")

    @pytest.mark.parametrize("place", [0, 100, -1])
    def test_damage(self, shipped, place):
        content = bytearray(shipped.read_bytes())
        content[place] ^= 1
        shipped.write_bytes(content)
        with pytest.raises(
            pretrained.PretrainedError, match=r"not the file that was shipped .*inst"
        ):
            Restorer.from_pretrained("dncnn-tiny")

    @pytest.mark.parametrize("file", ["dncnn-tiny.safetensors", "SHA256SUMS"])
    def test_missing_file(self, shipped, file):
        shipped.with_name(file).unlink()
        with pytest.raises(pretrained.PretrainedError, match=r"\(No such file.*install lcdnet-jax"):
            pretrained.path("dncnn-tiny")

    def test_sums_of_binary_files(self, shipped):
        sums = shipped.with_name("SHA256SUMS")
        sums.write_text(sums.read_text().replace("  ", " *"))
        assert pretrained.path("dncnn-tiny") == shipped

    def test_names_come_before_folders(self, shipped, tmp_path, monkeypatch):
        monkeypatch.chdir(tmp_path)
        pathlib.Path("dncnn-tiny").mkdir()
        assert pretrained.find("dncnn-tiny") == shipped
        assert pretrained.find("./dncnn-tiny") == pathlib.Path("dncnn-tiny")
        with pytest.raises(
            pretrained.PretrainedError, match=r"^runs/x does not exist; give a work"
        ):
            pretrained.find("runs/x")


class TestCommandLine:
    def test_restore_without_a_checkpoint(self, shipped, tmp_path):
        noisy = np.random.default_rng(0).integers(0, 256, (20, 30), np.uint8)
        image_io.write(tmp_path / "noisy.png", noisy)
        choices = ((), ("--checkpoint", "dncnn-tiny"), ("--checkpoint", str(shipped)))
        for i, choice in enumerate(choices):
            output = str(tmp_path / f"{i}.png")
            cli.main(["restore", str(tmp_path / "noisy.png"), "-o", output, *choice])
        written = [image_io.read(tmp_path / f"{i}.png") for i in range(3)]
        expected = Restorer.from_pretrained("dncnn-tiny")(noisy)
        for image in written:
            np.testing.assert_array_equal(image, expected)
        assert (expected != noisy).any()

    def test_models_and_info(self, shipped, capsys):
        cli.main(["models", "--pretrained"])
        assert capsys.readouterr().out == "dncnn-tiny  nothing (0.0 MB, the default of restore)\n"
        cli.main(["info", "dncnn-tiny"])
        assert "license      CC0\n" in capsys.readouterr().out
        shipped.write_bytes(shipped.read_bytes()[:-1])
        with pytest.raises(SystemExit, match=r"error: .* is not the file that was shipped"):
            cli.main(["models", "--pretrained"])

    def test_help_names_the_default(self, capsys):
        with pytest.raises(SystemExit):
            cli.main(["restore", "--help"])
        assert pretrained.DEFAULT in " ".join(capsys.readouterr().out.split())

    def test_unknown_checkpoint(self, shipped, tmp_path):
        for command in (["restore", "x.png", "-o", str(tmp_path)], ["info"], ["export", "-o", "x"]):
            name = ["--checkpoint", "no"] if command[0] == "restore" else ["no"]
            with pytest.raises(SystemExit, match=r"error: no does not exist; give"):
                cli.main([*command, *name])


def card(name):
    return weights_lib.load_card(FOLDER / f"{name}.safetensors")


@pytest.fixture(params=pretrained.names())
def name(request):
    return request.param


class TestShipped:
    def test_every_file_is_listed(self):
        assert pretrained.names() == ("sadnet-color-blind", "sadnet-gray-blind", "sadnet-photo")
        assert {p.stem for p in FOLDER.glob("*.safetensors")} == set(pretrained.names())
        assert pretrained.DEFAULT == "sadnet-photo"

    def test_arrays_are_those_of_the_network(self, name):
        """Loading takes that for granted, because tracing takes half a second."""
        file = pretrained.path(name)
        _, variables, loaded = weights_lib.load(file)
        kwargs = {**loaded["kwargs"], "channels": loaded["channels"]}
        convert.check_variables(loaded["network"], variables, kwargs)
        assert pretrained.is_installed(file)
        assert not pretrained.is_installed(pathlib.Path(file.name))

    def test_cards_say_what_users_ask(self, name):
        described = card(name)
        assert len(described["notes"]) > 100
        assert described["licence"].startswith("CC BY 4.0")
        # The last step, or the best by held-out photographs.
        assert 0 < described["step"] <= described["training"]["steps"]
        assert not re.search(r"/(work|home|root|tmp|mnt)/|\.\./|~", json.dumps(described))
        scored = {(row["data"], row["protocol"], row["sigma"]) for row in described["metrics"]}
        if name != "sadnet-gray-blind":
            assert scored >= {(data, "pairs", None) for data in ("cc", "polyu", "sidd")}
        if name != "sadnet-photo":
            data = "set12" if name == "sadnet-gray-blind" else "kodak24"
            sigmas = (15.0, 25.0, 30.0, 50.0, 70.0)
            assert scored >= set(itertools.product((data, "cbsd68"), ("float", "8bit"), sigmas))
        assert weights_lib.training_config(described, name).seed == described["training"]["seed"]

    @pytest.mark.extended
    def test_restores_photographs(self, name):
        """By at least so many decibels, of a photograph that was not trained on."""
        restorer = Restorer.from_pretrained(name)
        clean = image_io.convert_channels(
            skimage.data.coffee()[100:292, 200:392], restorer.module.channels
        )
        keys, batch = jax.random.split(jax.random.key(0), 1), image_io.to_float(clean)[None]
        if name == "sadnet-photo":
            recipe = sadnet_photo.get_config().degradation.options.camera.to_dict()
            cameras = {"recipe": recipe | {"processed": 1.0}, "default": {}}
            degraded = [
                (gain, degradations.camera_noise(keys, batch, **cameras[kind] | {"shot": (s, s)}))
                for kind, s, gain in CAMERA
            ]
        else:
            degraded = [
                (gain, degradations.awgn(keys, batch, sigma=sigma, protocol=protocol))
                for sigma, protocol, gain in GAUSSIAN[name]
            ]
        for gain, images in degraded:
            restored = restorer(np.asarray(images))
            before, after = (metrics.psnr(x, batch)[0] for x in (images, restored))
            assert after > before + gain, (gain, before, after)
        unharmed = metrics.psnr(restorer(batch), batch)[0]
        assert unharmed > CLEAN[name], unharmed

    @pytest.mark.extended
    def test_need_neither_the_repository_nor_tensorflow(self, tmp_path):
        shutil.copytree(FOLDER.parents[1], tmp_path / "lcdnet_jax")
        code = f"""if True:
            import sys, numpy, lcdnet_jax
            for name in {pretrained.names()}:
                restorer = lcdnet_jax.Restorer.from_pretrained(name)
                assert restorer(numpy.zeros((32, 32), "uint8")).shape == (32, 32)
            assert "tensorflow" not in sys.modules
            print(lcdnet_jax.__file__)
        """
        done = subprocess.run(
            [sys.executable, "-c", code], check=True, cwd=tmp_path, capture_output=True, text=True
        )
        assert pathlib.Path(done.stdout.strip()).is_relative_to(tmp_path)


class TestOutsideTheWheel:
    """Those of checkpoints/, of which a clone has all and an installed library none."""

    def test_checksums_and_table(self):
        sums = dict(
            line.split()[::-1] for line in (OUTSIDE / "SHA256SUMS").read_text().splitlines()
        )
        assert set(sums) == {path.name for path in OUTSIDE.glob("*.safetensors")}
        assert set(sums) == {f"{name}.safetensors" for name in GAINS}
        table = (OUTSIDE / "README.md").read_text()
        for name, digest in sums.items():
            content = (OUTSIDE / name).read_bytes()
            assert hashlib.sha256(content).hexdigest() == digest
            assert f"| `{name}` |" in table

    def test_their_names_lead_to_the_folder(self):
        assert set(pretrained.IN_A_CLONE) == set(GAINS)
        for name in pretrained.IN_A_CLONE:
            with pytest.raises(pretrained.PretrainedError, match=rf"checkpoints/{name}\.safetens"):
                pretrained.find(name)

    @pytest.mark.parametrize("name", GAINS)
    def test_cards_say_what_users_ask(self, name):
        path = OUTSIDE / f"{name}.safetensors"
        described = weights_lib.load_card(path)
        assert len(described["notes"]) > 100
        assert described["licence"].startswith("CC BY-NC 4.0" if "polyu" in name else "CC BY 4.0")
        assert 0 < described["step"] <= described["training"]["steps"]
        assert described["metrics"]
        assert not re.search(r"/(work|home|root|tmp|mnt)/|\.\./|~", json.dumps(described))

    @pytest.mark.extended
    @pytest.mark.parametrize(
        "name", [pytest.param(n, marks=[pytest.mark.slow] if "lcdnet" in n else []) for n in GAINS]
    )
    def test_restores_what_it_was_trained_on(self, name, quickly_compiled):
        path = OUTSIDE / f"{name}.safetensors"
        restorer = Restorer.from_checkpoint(path)
        trained = weights_lib.training_config(weights_lib.load_card(path), name).degradation
        clean = image_io.convert_channels(
            skimage.data.coffee()[100:196, 200:296], restorer.module.channels
        )
        keys, batch = jax.random.split(jax.random.key(0), 1), image_io.to_float(clean)[None]
        if trained.kind == "none":  # pairs
            trained = sadnet_photo.get_config().degradation
            trained.options.camera.shot = (5e-3, 5e-3)
        if trained.kind == "awgn":
            degraded = degradations.awgn(keys, batch, sigma=25.0, protocol="8bit")
        else:
            options = trained.options.to_dict()
            degraded = degradations.from_kind(trained.kind, options)(keys, batch)
        before, after = (
            metrics.psnr(x, batch)[0] for x in (degraded, restorer(np.asarray(degraded)))
        )
        assert after > before + GAINS[name], (before, after)
