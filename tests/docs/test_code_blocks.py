"""Commands and Python in the documentation fit the programs and the library."""

import ast
import importlib
import pathlib
import re
import shlex

import numpy as np
import pytest

from lcdnet_jax import image_io, networks
from lcdnet_jax.cli import convert, export, info, main, models, restore, score, serve
from lcdnet_jax.config import read_config
from tests.guards import records

ROOT = pathlib.Path(__file__).resolve().parents[2]
NAMES = ("README.md", "CONTRIBUTING.md", "benchmarks/README.md", "checkpoints/README.md")
PAGES = sorted([*(ROOT / name for name in NAMES), *(ROOT / "docs").rglob("*.md")])
HELP = records.read("api.json")["help of scripts"]

BLOCK = re.compile(r"^```(\w*)\n(.*?)^```", re.MULTILINE | re.DOTALL)
PROGRAM = re.compile(r"(?:^|[|&;] *|\$ |(?:srun|timeout) .*?|do )(lcdnet-jax|python) ")

# Pages whose Python runs here as it stands, in order. The rest needs weights or data.
EXECUTED = ("docs/get_started.md", "docs/architecture.md", "docs/explanations/degradations.md")


def blocks(language):
    return [
        pytest.param(text, id=f"{page.relative_to(ROOT)}-{number}")
        for page in PAGES
        for number, (name, text) in enumerate(BLOCK.findall(page.read_text(encoding="utf-8")))
        if name == language
    ]


def commands(program):
    """Arguments of the lines that start a program, with continued lines joined."""
    found = []
    for block in (case.values[0] for case in blocks("")):
        for line in re.sub(r"\\\n *", " ", block).splitlines():
            if (start := PROGRAM.search(line)) and line[start.start(1) :].startswith(program):
                words = shlex.split(line[start.start(1) + len(program) :], comments=True)
                found.append(words[: words.index(";")] if ";" in words else words)
    return [words for words in found if not {"...", "<", "|"} & set(words)]


def texts(found):
    return [pytest.param(words, id=" ".join(words)[:80]) for words in found]


def test_commands_are_found():
    assert len(commands("lcdnet-jax")) > 20
    assert len(commands("python train.py")) > 8
    assert len(commands("python eval.py")) > 8
    assert len(commands("python -m benchmarks.")) > 5


@pytest.mark.parametrize("words", texts(commands("lcdnet-jax")))
def test_commands_of_the_program(monkeypatch, words):
    ran = []
    for module in (convert, export, info, models, restore, score, serve):
        monkeypatch.setattr(module, "run", lambda arguments, *_: ran.append(arguments))
    monkeypatch.setattr(main, "check_paths", lambda *_, **__: None)
    main.main(words)
    assert ran


@pytest.mark.filterwarnings("ignore:the load_module")  # of ml_collections
@pytest.mark.parametrize("words", texts(commands("python train.py")))
def test_configurations_of_training(monkeypatch, words):
    monkeypatch.chdir(ROOT)
    assert_flags_exist("train.py", words)
    read_config([word for word in words if "$" not in word])


@pytest.mark.parametrize("words", texts(commands("python eval.py")))
def test_flags_of_evaluation(words):
    assert_flags_exist("eval.py", words)


def assert_flags_exist(script, words):
    for word in words:
        if word.startswith("--") and not word.startswith("--config."):
            name = word.lstrip("-").partition("=")[0]
            assert re.search(rf"--(\[no\])?{name}\b", HELP[script]), word


@pytest.mark.parametrize("words", texts(commands("python -m benchmarks.")))
def test_options_of_benchmarks(words):
    sources = [ROOT / f"benchmarks/{words[0]}.py", *(ROOT / "benchmarks").glob("_*.py")]
    text = "".join(path.read_text(encoding="utf-8") for path in sources)
    for word in words[1:]:
        if word.startswith("--") and not word.startswith("--config."):
            assert f'"{word.partition("=")[0]}"' in text, word


@pytest.mark.parametrize("text", blocks("python"))
def test_names_exist(text):
    """What is imported from this repository exists, and so do the attributes that are used."""
    tree, known = ast.parse(text), {}
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                if is_ours(alias.name):
                    module = importlib.import_module(alias.name)
                    known[alias.asname or alias.name] = module
        elif isinstance(node, ast.ImportFrom) and is_ours(node.module):
            for alias in node.names:
                module = importlib.import_module(node.module)
                known[alias.asname or alias.name] = (
                    getattr(module, alias.name)
                    if hasattr(module, alias.name)
                    else importlib.import_module(f"{node.module}.{alias.name}")
                )
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute) and (path := dotted(node)) and path[0] in known:
            value = known[path[0]]
            for name in path[1:]:
                assert hasattr(value, name), ".".join(path)
                value = getattr(value, name)


def is_ours(module):
    return module.partition(".")[0] in ("lcdnet_jax", "configs", "input_pipeline")


def dotted(node):
    """``a.b.c`` as names; None for anything else."""
    names = []
    while isinstance(node, ast.Attribute):
        names.append(node.attr)
        node = node.value
    return [node.id, *reversed(names)] if isinstance(node, ast.Name) else None


@pytest.mark.slow  # compiles networks at their full size
@pytest.mark.parametrize("page", EXECUTED)
def test_python_runs(tmp_path, monkeypatch, page):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(networks, "_REGISTRY", networks._REGISTRY.copy())  # a page registers one
    image = np.random.default_rng(0).integers(0, 256, (24, 32, 3), np.uint8)
    image_io.write("photo.jpg", image)
    names = {"__name__": page, "clean": np.full((1, 32, 40, 3), 0.5, np.float32)}
    for language, text in BLOCK.findall((ROOT / page).read_text(encoding="utf-8")):
        if language == "python":
            exec(compile(text, page, "exec"), names)
    if page == "docs/get_started.md":
        assert image_io.read("restored.png").shape == image.shape
