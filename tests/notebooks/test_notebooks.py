"""Notebooks run headless on their tiny setting, and the two forms of each agree."""

import os
import pathlib
import re
import tomllib

import jax
import jax.numpy as jnp
import jupytext
import nbformat
import numpy as np
import pytest
from ml_collections import ConfigDict
from nbclient import NotebookClient

from configs import sr_small
from lcdnet_jax import config as config_lib
from lcdnet_jax import image_io, sfm
from lcdnet_jax.checkpoints import Checkpoints

FOLDER = pathlib.Path(__file__).resolve().parents[2] / "notebooks"
NAMES = sorted(path.stem for path in FOLDER.glob("*.py"))
assert NAMES


def cells(notebook):
    return [(cell.cell_type, cell.source) for cell in notebook.cells]


def outputs(notebook):
    """All that was printed or shown as text."""
    parts = []
    for cell in notebook.cells:
        for output in cell.get("outputs", []):
            data = output.get("data", {})
            parts.append(output.get("text", "") + data.get("text/markdown", ""))
    return "\n".join(parts)


def pictures(notebook):
    return sum(
        "image/png" in output.get("data", {})
        for cell in notebook.cells
        for output in cell.get("outputs", [])
    )


def executed(name, monkeypatch):
    """The notebook after a run in a kernel of its own."""
    # One device, and what the tests have compiled.
    flags = re.sub(r"--xla_force_host_platform_device_count=\d+", "", os.environ["XLA_FLAGS"])
    monkeypatch.setenv("XLA_FLAGS", f"{flags} --xla_backend_optimization_level=0")
    monkeypatch.setenv("JAX_COMPILATION_CACHE_DIR", os.environ["LCDNET_JAX_COMPILED"])
    monkeypatch.setenv("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0")
    notebook = jupytext.read(FOLDER / f"{name}.py")
    client = NotebookClient(notebook, resources={"metadata": {"path": str(FOLDER)}}, timeout=300)
    client.execute()
    return notebook


@pytest.mark.parametrize("name", NAMES)
def test_both_forms_agree_and_the_stored_one_was_run(name):
    stored = nbformat.read(FOLDER / f"{name}.ipynb", as_version=4)
    assert cells(stored) == cells(jupytext.read(FOLDER / f"{name}.py"))
    counts = [cell.execution_count for cell in stored.cells if cell.cell_type == "code"]
    assert counts == list(range(1, len(counts) + 1))  # run once, from top to bottom
    assert pictures(stored)
    assert not re.search(r"/(work|tmp|home|root|Users)/", str(stored))


@pytest.mark.parametrize("name", NAMES)
def test_badge_and_install(name):
    """Both lead to the repository of pyproject.toml."""
    project = tomllib.loads((FOLDER.parent / "pyproject.toml").read_text())["project"]
    repository = project["urls"]["Repository"]
    first, second = jupytext.read(FOLDER / f"{name}.py").cells[:2]
    colab = repository.replace("//github.com", "//colab.research.google.com/github")
    assert first.source.startswith("[![Open in Colab]")
    assert f"({colab}/blob/main/notebooks/{name}.ipynb)\n\n# " in first.source
    assert f'["git", "clone", "-q", "{repository}"]' in second.source
    assert 'if "google.colab" in sys.modules:' in second.source


@pytest.mark.slow  # to compile the networks, which other tests run
@pytest.mark.parametrize(
    ("name", "count", "printed"),
    [
        ("degradations", 3, r"equal: True"),
        ("lcdnet_features", 2, r"gates: 0\.\d\d of the encoder"),
        ("sadnet_sampling", 1, r"scale 8: \d+\.\d pixels"),
        ("your_photo", 2, r"after: \d\d\.\d\d dB"),
    ],
)
def test_a_look_at_weights_or_images(monkeypatch, name, count, printed):
    for variable in ("DEGRADATIONS_SIDE", "FEATURES_SIDE", "SAMPLING_SIDE", "PHOTO_SIDE"):
        monkeypatch.setenv(variable, "64")
    notebook = executed(name, monkeypatch)
    assert pictures(notebook) == count
    assert re.search(printed, outputs(notebook))


@pytest.mark.slow  # to compile SADNet with and without its parts; training it is in other tests
def test_sadnet_ablation(tmp_path, monkeypatch):
    image = np.random.default_rng(0).integers(0, 256, (40, 48, 3), np.uint8)
    (tmp_path / "images").mkdir()
    image_io.write(tmp_path / "images" / "a.png", image)
    monkeypatch.setenv("ABLATION_BUDGET", "tiny")
    monkeypatch.setenv("ABLATION_TRAIN", str(tmp_path / "images"))
    monkeypatch.setenv("ABLATION_TEST", str(tmp_path / "images"))
    monkeypatch.setenv("ABLATION_RUNS", str(tmp_path / "runs"))
    notebook = executed("sadnet_ablation", monkeypatch)
    text = outputs(notebook)
    rows = re.findall(r"^\| (x?) \| (x?) \| (x?) \| \d+\.\d\d \|", text, re.MULTILINE)
    assert rows == [("", "", ""), ("x", "x", "x")]  # the tiny setting has the first and the last
    assert len(re.findall(r"^\| 1/[1248] \|", text, re.MULTILINE)) == 4
    assert pictures(notebook) == 2
    assert {path.name for path in (tmp_path / "runs").iterdir()} == {"none_0", "full_0"}


@pytest.mark.slow  # three short trainings; masking is trained with in other tests
def test_sfm_frequency(tmp_path, monkeypatch):
    monkeypatch.setenv("SFM_FREQUENCY_BUDGET", "tiny")
    monkeypatch.setenv("SFM_FREQUENCY_RUNS", str(tmp_path / "runs"))
    notebook = executed("sfm_frequency", monkeypatch)
    text = outputs(notebook)
    masks = re.findall(r"^\| `(\w+)` \| 0\.\d{3} \| 0\.\d{3} \| \d\.\d\d \|$", text, re.MULTILINE)
    assert masks == [mode for mode in sfm.MODES if mode != "central"]  # an alias of uniform
    scores = re.findall(r"^\| `(\w+)` \| (\d\d\.\d\d) \| [\d.]+ \| [\d.]+ \|$", text, re.MULTILINE)
    assert [arm for arm, _ in scores] == ["regular", "sfm", "released"]
    assert pictures(notebook) == 5
    for arm, _ in scores:
        stored = config_lib.load(tmp_path / "runs" / f"{arm}-0" / "config.json")
        assert (stored.sfm.rate, stored.sfm.unselected, stored.sfm.target) == {
            "regular": (0, "keep", "clean"),
            "sfm": (0.5, "keep", "clean"),
            "released": (0.5, "zero", "masked"),
        }[arm]


@pytest.mark.extended
def test_sfm_super_resolution(tmp_path, monkeypatch):
    images = np.random.default_rng(0).integers(0, 256, (2, 37, 44), np.uint8)
    (tmp_path / "images").mkdir()
    for i, image in enumerate(images):
        image_io.write(tmp_path / "images" / f"{i}.png", image)
    for i, arm in enumerate(("regular", "sfm")):
        config, workdir = sr_small.get_config(arm), tmp_path / "runs" / f"sr_{arm}_3"
        config.network.kwargs = ConfigDict({"scale": 2, "groups": 1, "blocks": 1, "features": 16})
        workdir.mkdir(parents=True)
        config_lib.save(config, workdir / "config.json")
        variables = jax.jit(config_lib.network(config).init)(
            jax.random.key(i), np.ones((1, 8, 8, 1))
        )
        writer = Checkpoints(workdir, keep=1)
        writer.save(config.steps, {**variables, "opt_state": {"mu": jnp.ones(1)}})
        writer.finish(config.steps)
        writer.close()
    monkeypatch.setenv("SFM_SR_BUDGET", "tiny")
    monkeypatch.setenv("SFM_SR_RUNS", str(tmp_path / "runs"))
    monkeypatch.setenv("SFM_SR_TEST", str(tmp_path / "images"))
    notebook = executed("sfm_super_resolution", monkeypatch)
    text = outputs(notebook)
    assert "Seeds 3; rcan with" in text
    assert "images, 2 images, seeds 3:" in text
    number = r"-?\d+\.\d\d"
    row = rf"^\| (\d\.\d)( \(training\))? \| {number} \| ({number}) \| ({number}) \| ([+-]{number})"
    rows = re.findall(row, text, re.MULTILINE)
    assert [row[:2] for row in rows] == [("0.6", ""), ("1.0", " (training)"), ("1.6", "")]
    for _, _, regular, masked, gain in rows:
        assert float(gain) == pytest.approx(float(masked) - float(regular), abs=0.011)
    shares = re.findall(r"^\| (0\.6|1\.6) \| (\w+)((?: \| \d+\.\d\d){4}) \|$", text, re.MULTILINE)
    assert [row[1] for row in shares] == 2 * ["blurred", "bicubic", "regular", "sfm"]
    blurred = [[float(share) for share in row[2].split(" | ")[1:]] for row in shares[::4]]
    assert np.all(np.diff(blurred) < 0)  # the higher the frequency, the less is left,
    assert np.all(np.diff(blurred, axis=0) < 0)  # and the wider the kernel
    assert pictures(notebook) == 2
