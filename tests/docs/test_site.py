"""The documentation builds without a warning, and every public name is in it."""

import importlib
import inspect
import pathlib
import re
import subprocess
import sys
import types

import pytest

import lcdnet_jax

ROOT = pathlib.Path(__file__).resolve().parents[2]
DOCS = ROOT / "docs"
MODULES = [
    f"lcdnet_jax.{name}"
    for name in lcdnet_jax.__all__
    if isinstance(getattr(lcdnet_jax, name), types.ModuleType)
]


@pytest.fixture
def references(monkeypatch):
    monkeypatch.syspath_prepend(DOCS)
    return importlib.import_module("references")


def build(source, target):
    pytest.importorskip("sphinx", reason="needs the extra docs")
    options = ["-q", "--fail-on-warning", "--keep-going", "-c", DOCS]
    command = ["-m", "sphinx", *options, source, target]
    run = subprocess.run(
        [sys.executable, *map(str, command)], capture_output=True, text=True, timeout=600
    )
    return run.returncode, run.stdout + run.stderr


def public_names(module):
    """As autodoc finds them: ``__all__``, or what the module defines."""
    if hasattr(module, "__all__"):
        return module.__all__
    return [
        name
        for name, value in vars(module).items()
        if name[0] != "_" and getattr(value, "__module__", None) == module.__name__
    ]


def public_constants():
    """Of ``__all__``, or what a module without it assigns. Sphinx warns of others in docstrings."""
    for name in MODULES:
        module = importlib.import_module(name)
        assigned = re.findall(r"^([A-Z][A-Z_]+)\b[^=\n]* = ", inspect.getsource(module), re.M)
        for short in getattr(module, "__all__", assigned):
            if short.isupper() and not isinstance(getattr(module, short), type):
                yield f"{name}.{short}"


@pytest.mark.extended
def test_site(tmp_path):
    status, text = build(DOCS, tmp_path / "html")
    assert status == 0, text
    from sphinx.util.inventory import InventoryFile

    inventory = InventoryFile.loads((tmp_path / "html/objects.inv").read_bytes(), uri="")
    found = {name for kind in inventory.data.values() for name in kind}
    missing = [
        f"{name}.{member}"
        for name in MODULES
        for module in [importlib.import_module(name)]
        for member in public_names(module)
        if isinstance(getattr(module, member), (type, types.FunctionType))
        and f"{name}.{member}" not in found
    ]
    assert not missing
    assert not [name for name in public_constants() if name not in found]
    assert not [p for p in DOCS.rglob("*.md") if not (tmp_path / "html" / page(p)).exists()]
    assert (tmp_path / "html/searchindex.js").stat().st_size > 10_000


def page(path):
    name = path.relative_to(DOCS).with_suffix(".html")
    return "index.html" if path.name == "_cards.md" else name  # included in another page


MISTAKES = {
    "[a](other.md)": "other.md",
    "[a](how_to/serve.md#nothing)": "nothing",
    "[a](../lcdnet_jax/gone.py)": "gone.py",
    "[a](#absent)": "absent",
    "![a](images/missing.png)": "missing.png",
    "```{eval-rst}\n.. autofunction:: lcdnet_jax.sfm.unknown\n```": "unknown",
    "```{eval-rst}\n:func:`lcdnet_jax.sfm.unwritten`\n```": "unwritten",
    "```{eval-rst}\n:data:`lcdnet_jax.inference.tiling.TILE`\n```": "TILE",  # no entry
}


@pytest.mark.extended
def test_mistakes_fail_the_build(tmp_path):
    (tmp_path / "docs/how_to").mkdir(parents=True)
    (tmp_path / "docs/how_to/serve.md").write_text("# B\n")
    lines = ["# A", *MISTAKES, "```{toctree}\nhow_to/serve\n```\n"]
    (tmp_path / "docs/index.md").write_text("\n\n".join(lines))
    status, text = build(tmp_path / "docs", tmp_path / "html")
    assert status != 0
    warnings = [line for line in text.splitlines() if "WARNING" in line]
    for mistake, word in MISTAKES.items():
        assert any(word in line for line in warnings), (mistake, text)


def test_every_module_has_a_page():
    text = (DOCS / "reference/api/index.md").read_text(encoding="utf-8")
    for name in MODULES:
        short = name.removeprefix("lcdnet_jax.")
        assert f"\n{short}\n" in text, short
        described = (DOCS / f"reference/api/{short}.md").read_text(encoding="utf-8")
        assert f".. automodule:: {name}\n   :members:" in described, short


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("lcdnet_jax.sfm.band_mask", True),
        ("collections.abc.Mapping", True),
        ("MAX_SIDE", True),  # of lcdnet_jax.export
        ("Restorer.mode", True),
        ("lcdnet_jax.sfm.nothing", False),
        ("lcdnet_jax.nothing", False),
        ("nothing", False),
    ],
)
def test_references_name_what_exists(references, name, expected):
    for module in ("export", "inference"):
        importlib.import_module(f"lcdnet_jax.{module}")
    assert references.exists(name) is expected
