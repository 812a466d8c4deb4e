"""The table of file formats has the versions of the code."""

import pathlib
import re
import tomllib

import pytest

from lcdnet_jax.export import run_exported, run_onnx
from lcdnet_jax.weights import card

ROOT = pathlib.Path(__file__).resolve().parents[2]
PAGE = (ROOT / "docs/reference/compatibility.md").read_text(encoding="utf-8")
ROWS = [line.split(" | ") for line in PAGE.splitlines() if line.startswith("| ") and " | " in line]


def version_of(file):
    """The last cell of the row of a file."""
    (row,) = (row for row in ROWS if file in row[0])
    return row[-1].removesuffix(" |")


def test_cards():
    assert version_of("`card.json`") == f"card {card.FORMAT}"
    assert version_of("`.safetensors`").startswith(f"card {card.FORMAT},")


def test_programs():
    assert version_of("`.jaxprog`") == f"`{run_exported.FORMAT}`"


def test_onnx():
    graph = pytest.importorskip("lcdnet_jax.export._onnx_graph")
    versions = f"opset {graph.OPSET}, IR version {graph.IR_VERSION}"
    assert version_of("`.onnx`") == f"`{run_onnx.FORMAT}`; {versions}"


def test_builders():
    source = (ROOT / "input_pipeline/builders.py").read_text(encoding="utf-8")
    (version,) = set(re.findall(r'VERSION = tfds.core.Version\("(.+?)"\)', source))
    assert version_of("TFDS") == f"builders {version}"


def test_every_format_has_a_row():
    """A constant that versions a file belongs into the table."""
    found = {
        path.relative_to(ROOT).as_posix()
        for folder in ("lcdnet_jax", "input_pipeline")
        for path in (ROOT / folder).rglob("*.py")
        if re.search(r"^_?(FORMAT|VERSION|\w+_(FORMAT|VERSION)) = ", path.read_text(), re.MULTILINE)
    }
    assert found == {
        "input_pipeline/shards.py",
        "lcdnet_jax/export/_onnx_graph.py",  # IR_VERSION
        "lcdnet_jax/export/run_exported.py",
        "lcdnet_jax/export/run_onnx.py",
        "lcdnet_jax/weights/card.py",
    }


def test_every_extra_has_a_row():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    table, _, _ = PAGE.partition("| extra | for | MB |")[2].partition("\n\n")
    names = [line.split("|")[1] for line in table.strip().splitlines()[1:]]
    assert set(re.findall(r"`(\w+)`", " ".join(names))) == set(project["optional-dependencies"])
