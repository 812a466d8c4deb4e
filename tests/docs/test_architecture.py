"""The picture of the rooms is true: imports go down, every file has a room."""

import ast
import fnmatch
import importlib.util
import pathlib
import re

import pytest

from configs import default
from lcdnet_jax.config import FIELDS

ROOT = pathlib.Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def architecture():
    spec = importlib.util.spec_from_file_location("architecture", ROOT / "docs/architecture.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_imports_go_down(architecture):
    floors = architecture.rooms()
    upward = [
        f"{room} imports {target}"
        for room, targets in architecture.imports().items()
        for target in sorted(targets)
        if floors[target] <= floors[room]
    ]
    assert not upward


def test_rooms_exist(architecture):
    assert [room for room in architecture.rooms() if not (ROOT / room).exists()] == []


def test_an_upward_import_is_found(architecture, monkeypatch):
    read = pathlib.Path.read_text

    def with_import(path, **options):
        text = read(path, **options)
        added = path == ROOT / "lcdnet_jax/losses.py"
        return text + "\nfrom lcdnet_jax.training import loop\n" * added

    monkeypatch.setattr(pathlib.Path, "read_text", with_import)
    assert "lcdnet_jax/training" in architecture.imports()["lcdnet_jax/losses.py"]


def test_a_file_without_a_room(architecture, monkeypatch):
    monkeypatch.setattr(architecture, "FLOORS", architecture.FLOORS[:-1])
    with pytest.raises(ValueError, match=r"\.py is in no room; add its room to FLOORS"):
        list(architecture.files())


def test_picture_is_current(architecture):
    stored = architecture.PICTURE.read_text(encoding="utf-8")
    assert stored == architecture.draw(), "run python docs/architecture.py"


def test_every_room_of_the_picture_is_in_the_table(architecture):
    text = (ROOT / "docs/architecture.md").read_text(encoding="utf-8")
    for room in architecture.rooms():
        name = room.removeprefix("lcdnet_jax/")
        assert f"`{name}" in text, name


def test_fields_that_may_change_in_a_run():
    text = (ROOT / "docs/architecture.md").read_text(encoding="utf-8")
    (listed,) = re.findall(r"change no step already made: (.*?)\.\n\n", text, re.DOTALL)
    patterns = re.findall("`([^`]+)`", listed)
    config = default.get_config()
    assert config.optimizer.schedule != "cosine"
    changing = {name for name, field in FIELDS.items() if field.may_change(config)}
    found = {pattern: fnmatch.filter(FIELDS, pattern) for pattern in patterns}
    assert all(found.values())
    assert {name for names in found.values() for name in names} == changing


@pytest.mark.parametrize(
    ("heading", "folder"), [("## Training", "training"), ("## Training", "training/objectives")]
)
def test_every_file_of_training_is_in_the_table(heading, folder):
    text = (ROOT / "docs/architecture.md").read_text(encoding="utf-8")
    section = text.partition(heading)[2].partition("\n## ")[0]
    for path in (ROOT / "lcdnet_jax" / folder).glob("*.py"):
        assert path.name == "__init__.py" or path.name in section, path.name


def test_only_the_input_pipeline_imports_tensorflow_when_imported():
    for path in (ROOT / "lcdnet_jax").rglob("*.py"):
        for node in ast.parse(path.read_text(encoding="utf-8")).body:
            names = [alias.name for alias in getattr(node, "names", ())]
            names.append(getattr(node, "module", None) or "")
            heavy = ("tensorflow", "tensorflow_datasets", "torch", "matplotlib")
            assert not {name.partition(".")[0] for name in names} & set(heavy), path
