"""The package as others install and import it."""

import email
import importlib.metadata
import importlib.util
import json
import os
import pathlib
import re
import shutil
import statistics
import subprocess
import sys
import tarfile
import tomllib
import zipfile

import numpy as np
import pytest
from packaging.requirements import Requirement
from packaging.version import Version

import lcdnet_jax
from lcdnet_jax import image_io

ROOT = pathlib.Path(__file__).resolve().parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())


def run_python(code):
    """What a fresh interpreter prints, from JSON."""
    result = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, cwd=ROOT)
    return json.loads(result.stdout)


@pytest.mark.extended
def test_what_imports_bring():
    """Slow packages come with the parts that need them, TensorFlow with none."""
    seen = run_python(
        "import json, sys, lcdnet_jax\n"
        "def top(): return sorted({name.partition('.')[0] for name in sys.modules})\n"
        "bare = top()\n"
        "lcdnet_jax.training.train_and_evaluate, lcdnet_jax.Restorer, lcdnet_jax.evaluation\n"
        "print(json.dumps([bare, top()]))"
    )
    bare, used = map(set, seen)
    unwanted = {"tensorflow", "tensorflow_datasets", "torch", "matplotlib", "tensorboard"}
    assert not bare & (unwanted | {"clu"})
    assert not used & unwanted
    assert {"lcdnet_jax", "jax", "orbax"} <= used


@pytest.mark.extended
def test_evaluation_images_need_no_tensorflow(tmp_path):
    image_io.write(tmp_path / "a.png", np.zeros((4, 5, 3), np.uint8))
    shape, loaded = run_python(
        "import json, sys, input_pipeline\n"
        f"source = {{'source': 'folder', 'path': {str(tmp_path)!r}}}\n"
        "(example,) = input_pipeline.create_eval_dataset(source, 3)\n"
        "print(json.dumps([example['clean'].shape, 'tensorflow' in sys.modules]))"
    )
    assert shape == [4, 5, 3]
    assert not loaded


def test_import_takes_less_than_three_seconds():
    code = "import time; t = time.perf_counter(); import lcdnet_jax; print(time.perf_counter() - t)"
    assert statistics.median(run_python(code) for _ in range(3)) < 3


def test_public_names():
    for name in lcdnet_jax.__all__:
        assert getattr(lcdnet_jax, name) is not None
    assert dir(lcdnet_jax) == sorted(lcdnet_jax.__all__)
    assert lcdnet_jax.training.train_and_evaluate
    assert lcdnet_jax.Restorer.from_checkpoint
    with pytest.raises(AttributeError, match="'lcdnet_jax' has no attribute 'nets'"):
        _ = lcdnet_jax.nets


@pytest.fixture(scope="module")
def distributions(tmp_path_factory):
    """Paths of the source distribution and of the wheel made from it, built without a network."""
    try:
        enough = Version(importlib.metadata.version("setuptools")) >= Version("77")
    except importlib.metadata.PackageNotFoundError:
        enough = False
    if not enough:
        pytest.skip("building a wheel without a network needs setuptools >= 77")
    if importlib.util.find_spec("build") is None:
        pytest.skip("needs the package build")
    folder = tmp_path_factory.mktemp("distributions")
    source = folder / "source"  # a copy: what lies in build/ would get into the wheel
    source.mkdir()
    for entry in ROOT.iterdir():
        if entry.is_file() and entry.name != ".git":
            shutil.copy(entry, source)
        elif entry.is_dir() and next(entry.rglob("*.py"), None) and entry.name[0] != ".":
            shutil.copytree(entry, source / entry.name, ignore=shutil.ignore_patterns("artifacts"))
    command = ["build", "--no-isolation", "--outdir", folder, source]
    subprocess.run([sys.executable, "-m", *command], check=True, capture_output=True)
    (archive,), (built,) = folder.glob("*.tar.gz"), folder.glob("*.whl")
    return archive, built


@pytest.fixture(scope="module")
def wheel(distributions):
    return distributions[1]


@pytest.mark.extended
def test_source_distribution_builds_the_library_only(distributions):
    archive, _ = distributions
    with tarfile.open(archive) as file:
        names = [name.partition("/")[2] for name in file.getnames() if "/" in name]
    assert {name.partition("/")[0] for name in names} == {
        *("CHANGELOG.md", "CITATION.cff", "LICENSE", "MANIFEST.in", "PKG-INFO", "README.md"),
        *("lcdnet_jax", "lcdnet_jax.egg-info", "pyproject.toml", "setup.cfg", "setup.py"),
    }
    assert set(PROJECT["project"]["license-files"]) <= set(names)
    assert archive.stat().st_size < 4e6


@pytest.mark.extended
def test_what_a_package_index_shows(wheel):
    """Links of README.md work there: each is absolute and of a file that exists."""
    with zipfile.ZipFile(wheel) as file:
        (name,) = (name for name in file.namelist() if name.endswith(".dist-info/METADATA"))
        metadata = email.message_from_bytes(file.read(name))
    assert metadata["License-Expression"] == "Apache-2.0 AND CC-BY-4.0 AND MIT"
    assert metadata["Description-Content-Type"] == "text/markdown"
    repository = PROJECT["project"]["urls"]["Repository"]
    assert f"Repository, {repository}" in metadata.get_all("Project-URL")
    links = re.findall(r"\]\(([^)]+)\)", metadata.get_payload())
    assert len(links) > 10
    assert [link for link in links if not link.startswith("https://")] == []
    ours = [link for link in links if link.startswith(f"{repository}/")]
    for link in ours:
        kind, version, path = link.removeprefix(f"{repository}/").split("/", 2)
        assert kind == ("raw" if path.endswith((".jpg", ".png")) else "blob")
        assert version == f"v{lcdnet_jax.__version__}"
        assert (ROOT / path.partition("#")[0]).exists(), link
    assert len(ours) > 10


@pytest.mark.extended
def test_wheel_holds_the_library_only(wheel):
    with zipfile.ZipFile(wheel) as file:
        names = file.namelist()
    version = lcdnet_jax.__version__
    folders = {name.partition("/")[0] for name in names}
    assert folders == {"lcdnet_jax", f"lcdnet_jax-{version}.dist-info"}
    assert "lcdnet_jax/py.typed" in names
    shipped = {p.name for p in (ROOT / "lcdnet_jax/weights/pretrained").iterdir() if p.is_file()}
    assert len(shipped) >= 5  # __init__.py, LICENSE, SHA256SUMS, and weights
    assert {f"lcdnet_jax/weights/pretrained/{name}" for name in shipped} <= set(names)
    page = [p for p in (ROOT / "lcdnet_jax/serve").rglob("*") if p.is_file()]
    page = [p for p in page if p.suffix not in (".py", ".pyc")]
    assert "demo.jpg" in {p.name for p in page}
    assert {p.relative_to(ROOT).as_posix() for p in page} <= set(names)
    vendored = ROOT / "lcdnet_jax/serve/static/vendor"
    for path in vendored.iterdir():
        assert path.relative_to(ROOT).as_posix() in names
    assert wheel.stat().st_size < 4e6
    licenses = PROJECT["project"]["license-files"]
    assert len(licenses) == 3
    for entry in (*(f"licenses/{path}" for path in licenses), "entry_points.txt"):
        assert f"lcdnet_jax-{version}.dist-info/{entry}" in names
    library = {p.relative_to(ROOT).as_posix() for p in (ROOT / "lcdnet_jax").rglob("*.py")}
    assert {name for name in names if name.endswith(".py")} == library


@pytest.fixture(scope="module")
def run_installed(wheel, tmp_path_factory):
    """Runs a file of the installed wheel in an empty folder that cannot import the repository."""
    installed = tmp_path_factory.mktemp("installed")
    pip = ["pip", "install", "--quiet", "--no-deps", "--no-index", "--target", installed, wheel]
    subprocess.run([sys.executable, "-m", *pip], check=True, capture_output=True)
    # -S: an editable install of the repository is not followed. Other packages come by their path.
    packages = [path for path in sys.path if path.endswith(("site-packages", "dist-packages"))]

    def run(*arguments, cwd, paths=(installed, *packages)):
        environment = {
            "PATH": os.environ["PATH"],
            "PYTHONPATH": os.pathsep.join(map(str, paths)),
            "JAX_PLATFORMS": "cpu",
            "JAX_COMPILATION_CACHE_DIR": os.environ["LCDNET_JAX_COMPILED"],
        }
        command = [sys.executable, "-S", *map(str, arguments)]
        result = subprocess.run(
            command, cwd=cwd, env=environment, capture_output=True, text=True, timeout=300
        )
        assert result.returncode == 0, result.stderr
        return result.stdout

    run.installed, run.packages = installed, packages
    return run


@pytest.mark.extended
def test_installed_wheel_works_from_an_empty_folder(run_installed, tmp_path):
    installed, packages = run_installed.installed, run_installed.packages
    (folder := tmp_path / "empty").mkdir()
    place = run_installed("-c", "import lcdnet_jax; print(lcdnet_jax.__file__)", cwd=folder)
    assert pathlib.Path(place.strip()) == installed / "lcdnet_jax" / "__init__.py"

    program = installed / "bin" / "lcdnet-jax"
    models = run_installed(program, "models", "--pretrained", cwd=folder)
    weights = [p.stem for p in (installed / "lcdnet_jax").rglob("*.safetensors")]
    assert len(weights) >= 3
    assert all(name in models for name in weights)
    assert "restormer" in run_installed(program, "models", cwd=folder)
    assert "sadnet" in run_installed(program, "info", "sadnet-gray-blind", cwd=folder)

    # Neither pads an image of this size.
    noisy = np.random.default_rng(0).integers(0, 256, (64, 64), np.uint8)
    image_io.write(folder / "noisy.png", noisy)
    named = ("--checkpoint", "sadnet-gray-blind")
    run_installed(program, "restore", "noisy.png", *named, "-o", "restored.png", cwd=folder)
    restored = image_io.read(folder / "restored.png")
    assert (restored.shape, restored.dtype) == (noisy.shape, noisy.dtype)
    assert restored.std() < noisy.std() / 2

    if importlib.util.find_spec("flatbuffers") is None:
        return
    run_installed(program, "export", "sadnet-gray-blind", "-o", "model.jaxprog", cwd=folder)
    shutil.copy(installed / "lcdnet_jax" / "export" / "run_exported.py", folder / "alone.py")
    run_installed(
        *("alone.py", "model.jaxprog", "noisy.png", "exported.png"), cwd=folder, paths=packages
    )
    exported = image_io.read(folder / "exported.png")
    assert np.abs(exported.astype(int) - restored).max() <= 1


def requirements():
    extras = PROJECT["project"]["optional-dependencies"]
    for where, lines in {"dependencies": PROJECT["project"]["dependencies"], **extras}.items():
        for line in lines:
            yield where, Requirement(line)


def test_bad_jax_releases_are_excluded_wherever_jax_is_named():
    """0.10.2 and 0.11.0 compute wrong numbers; 0.10.1 and later good ones stay allowed."""
    named = [(where, r) for where, r in requirements() if r.name in ("jax", "jaxlib")]
    assert {where for where, _ in named} >= {"dependencies", "cuda", "tpu"}
    assert {r.name for where, r in named if where == "dependencies"} == {"jax", "jaxlib"}
    for where, requirement in named:
        for bad in ("0.10.0", "0.10.2", "0.11.0"):
            assert bad not in requirement.specifier, (where, bad)
        for good in ("0.10.1", "0.11.1"):
            assert good in requirement.specifier, (where, good)


def test_extras_and_floors():
    extras = PROJECT["project"]["optional-dependencies"]
    assert set(extras) == {
        *("train", "test", "notebooks", "docs", "export", "onnx", "benchmarks", "gcs"),
        *("hub", "litert", "photo", "serve", "torch", "wandb", "cuda", "tpu"),
    }
    assert [where for where, r in requirements() if r.name == "torch"] == ["torch"]
    assert PROJECT["project"]["requires-python"] == ">=3.11"
    for where, requirement in requirements():
        if requirement.name != "lcdnet-jax":
            floors = [s for s in requirement.specifier if s.operator == ">="]
            assert len(floors) == 1, (where, str(requirement))


@pytest.mark.parametrize(
    ("platform", "machine", "expected"),
    [
        ("linux", "x86_64", "tensorflow-cpu"),
        ("win32", "AMD64", "tensorflow-cpu"),
        ("linux", "aarch64", "tensorflow"),
        ("darwin", "arm64", "tensorflow"),
        ("darwin", "x86_64", "tensorflow"),
    ],
)
def test_one_tensorflow_for_each_machine(platform, machine, expected):
    environment = {"sys_platform": platform, "platform_machine": machine}
    chosen = [
        r.name
        for where, r in requirements()
        if where == "train" and (r.marker is None or r.marker.evaluate(environment))
    ]
    assert [name for name in chosen if name in ("tensorflow", "tensorflow-cpu")] == [expected]
