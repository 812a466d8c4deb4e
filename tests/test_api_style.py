"""Style of the public Python interface, in the spirit of dm_pix's ``api_test``.

Every public function, class and method of the rooms below is read by ``inspect`` and ``ast``.
Nothing is called, so the test says nothing about what the functions compute.
"""

import ast
import dataclasses
import functools
import importlib
import inspect
import pkgutil
import re
import textwrap
from collections.abc import Iterator
from types import ModuleType
from typing import Any

import pytest

import lcdnet_jax

ROOMS = (
    "atomic_io",
    "checkpoints",
    "cli",
    "config",
    "convert",
    "data_sets",
    "degradations",
    "evaluation",
    "export",
    "file_names",
    "freed_memory",
    "image_io",
    "inference",
    "losses",
    "messages",
    "metrics",
    "multihost",
    "networks",
    "networks.costs",
    "ops",
    "peer_loss",
    "protocols",
    "resident_images",
    "serve",
    "sfm",
    "spectra",
    "storage",
    "strict_json",
    "training",
    "value_rules",
    "visualization",
    "weights",
)

# Parameters that are positional although they have a default.
CONTRACT = {
    "cli.main": {"argv"},  # programs take their arguments by position, by convention
    "inference.Restorer.from_pretrained": {"name"},  # the name is the point of it
    "ops.deform_conv2d": {"bias"},
    "protocols.Protocol.score": {"mask"},  # metrics.score_padded passes all arrays by position
}

SECTIONS = ("Args", "Returns", "Yields", "Raises", "Attributes", "Example")


@dataclasses.dataclass(frozen=True)
class Entry:
    """One public name: ``sfm.band_mask``, or ``ops.Thing.method``."""

    name: str
    value: Any
    is_method: bool = False

    @property
    def doc(self) -> str:
        return inspect.getdoc(self.value) or ""


def public_names(module: ModuleType) -> list[str]:
    """Names in ``__all__``, or else what the module defines without an underscore."""
    if hasattr(module, "__all__"):
        return list(module.__all__)
    return [
        name
        for name, value in vars(module).items()
        if not name.startswith("_") and getattr(value, "__module__", None) == module.__name__
    ]


def public_modules(room: str) -> list[ModuleType]:
    """The module of a room. For a package that exports no names, all of its public files."""
    module = importlib.import_module(f"lcdnet_jax.{room}")
    if public_names(module) or not hasattr(module, "__path__"):
        return [module]
    files = [file.name for file in pkgutil.iter_modules(module.__path__) if file.name[0] != "_"]
    return [found for file in files for found in public_modules(f"{room}.{file}")]


def entries(room: str) -> list[Entry]:
    """The public functions, classes and methods of a room."""
    found = []
    for module, name in ((m, name) for m in public_modules(room) for name in public_names(m)):
        value = getattr(module, name)
        if not callable(value) or not getattr(value, "__module__", "").startswith("lcdnet_jax"):
            continue
        found.append(Entry(f"{room}.{name}", value))
        if inspect.isclass(value):
            for method, function in vars(value).items():
                function = getattr(function, "__func__", function)
                if inspect.isfunction(function) and is_written(value, method, function):
                    found.append(Entry(f"{room}.{name}.{method}", function, is_method=True))
    return found


def is_written(owner: type, name: str, function: Any) -> bool:
    """Whether a method stands in the class body, and is not made by a decorator."""
    return (
        not name.startswith("_")
        and function.__module__ == owner.__module__
        and function.__qualname__ == f"{owner.__qualname__}.{name}"
        and f"def {name}(" in inspect.getsource(owner)
    )


def parameters(entry: Entry) -> list[inspect.Parameter]:
    """Parameters but ``self`` and ``cls``."""
    found = list(inspect.signature(entry.value).parameters.values())
    return [p for p in found if p.name not in ("self", "cls")]


@functools.cache
def tree(function: Any) -> ast.FunctionDef:
    """The definition of a function; that of the wrapped one where a decorator wraps it."""
    source = textwrap.dedent(inspect.getsource(inspect.unwrap(function)))
    return next(node for node in ast.walk(ast.parse(source)) if isinstance(node, ast.FunctionDef))


def own_nodes(function: Any) -> Iterator[ast.AST]:
    """Nodes of a function, without those of functions defined inside of it."""
    waiting: list[ast.AST] = list(tree(function).body)
    while waiting:
        node = waiting.pop()
        yield node
        if not isinstance(node, (ast.FunctionDef, ast.Lambda, ast.ClassDef)):
            waiting.extend(ast.iter_child_nodes(node))


def raised_types(function: Any) -> set[str]:
    """Names of the exceptions that a function's own ``raise`` statements let out."""
    caught = {
        node
        for handler in own_nodes(function)
        if isinstance(handler, ast.Try)
        for statement in handler.body
        for node in ast.walk(statement)
    }
    return {
        ast.unparse(node.exc.func if isinstance(node.exc, ast.Call) else node.exc).split(".")[-1]
        for node in own_nodes(function)
        if isinstance(node, ast.Raise) and node.exc is not None and node not in caught
    }


def returns_value(function: Any) -> bool:
    return any(
        isinstance(node, ast.Return)
        and node.value is not None
        and not (isinstance(node.value, ast.Constant) and node.value.value is None)
        for node in own_nodes(function)
    )


def sections(doc: str) -> dict[str, list[str]]:
    """Lines of each Google section of a cleaned docstring, by its title."""
    found: dict[str, list[str]] = {}
    lines: list[str] | None = None
    for line in doc.splitlines():
        if match := re.fullmatch(rf"({'|'.join(SECTIONS)}):", line):
            lines = found.setdefault(match[1], [])
        elif line and not line.startswith(" "):
            lines = None
        elif lines is not None:
            lines.append(line)
    return found


def named_arguments(lines: list[str]) -> set[str]:
    """Names that an ``Args:`` section explains."""
    starts = (re.match(r" {4}(\S[^:]*):", line) for line in lines)
    return {name.strip(" *`") for match in starts if match for name in match[1].split(",")}


def style_faults(entry: Entry) -> Iterator[str]:
    """What is wrong with one public name; nothing for a good one."""
    doc, found = entry.doc, sections(entry.doc)
    if not doc:
        yield "has no docstring"
        return
    if not doc.split("\n\n")[0].rstrip().endswith((".", "::")):
        yield "has a summary that does not end with a period"
    for title, lines in found.items():
        indents = [len(line) - len(line.lstrip()) for line in lines if line.strip()]
        if not indents or indents[0] != 4 or min(indents) != 4:
            yield f"indents {title} by other than 4 spaces"
    if inspect.isclass(entry.value):
        return
    expected = parameters(entry)
    names = [p.name for p in expected]
    for key in {"key", "keys"} & set(names):
        if names[0] != key:
            yield f"takes the random {key} after {names[0]}"
    allowed = CONTRACT.get(entry.name, set())
    for p in expected:
        has_default = p.default is not p.empty
        if has_default and p.kind is p.POSITIONAL_OR_KEYWORD and p.name not in allowed:
            yield f"takes the option {p.name} by position; put * before it"
    if expected and "Args" not in found:
        yield "has no Args section"
    for name in set(names) - named_arguments(found.get("Args", [])):
        if "Args" in found:
            yield f"does not explain {name} in Args"
    if returns_value(entry.value) and not {"Returns", "Yields"} & set(found):
        yield "has no Returns section"
    raises = raised_types(entry.value)
    if raises and "Raises" not in found:
        yield "has no Raises section"
    for error in raises:
        # A name in lower case is a helper that makes the exception.
        made = error.lstrip("_")[0].islower()
        if "Raises" in found and not made and error not in " ".join(found["Raises"]):
            yield f"does not explain {error} in Raises"


def module_faults(room: str) -> Iterator[str]:
    """What is wrong with the docstring of a room's own module and of the files in it."""
    module = importlib.import_module(f"lcdnet_jax.{room}")
    files = {module.__name__: inspect.getdoc(module) or ""}
    for entry in entries(room):
        owner = importlib.import_module(inspect.unwrap(entry.value).__module__)
        files[owner.__name__] = inspect.getdoc(owner) or ""
    for name, doc in files.items():
        first = doc.splitlines()[0] if doc else ""
        if not first.endswith("."):
            yield f"{name}: the first line of the module docstring does not end with a period"


def room_faults(room: str) -> list[str]:
    found = [f"{entry.name} {fault}" for entry in entries(room) for fault in style_faults(entry)]
    return [*module_faults(room), *found]


@pytest.mark.parametrize("room", ROOMS)
def test_room_follows_the_style(room):
    assert entries(room) or room == "networks.costs"
    assert not room_faults(room), "\n" + "\n".join(room_faults(room))


def test_every_room_is_listed():
    listed = {room.split(".")[0] for room in ROOMS}
    rooms = {file.name for file in pkgutil.iter_modules(lcdnet_jax.__path__)}
    assert {room for room in rooms if room[0] != "_"} == listed | {"typing"}  # only type names


def bad_key(images, key, low=0):
    """Does something

    Args:
      images: ``[N, H, W, C]``.
    """
    if low:
        raise ValueError("no")
    return images, key


def good_key(key, images, *, low=0):
    """Does something.

    Args:
        key: A random key.
        images: ``[N, H, W, C]``.
        low: At least 0.

    Returns:
        The images.

    Raises:
        ValueError: For a ``low`` below 0.
    """
    if low < 0:
        raise ValueError("no")
    return key, images


def test_checker_finds_faults():
    faults = " | ".join(style_faults(Entry("bad", bad_key)))
    for text in ("after images", "by position", "Returns", "Raises", "low", "4 spaces"):
        assert text in faults
    assert not list(style_faults(Entry("good", good_key)))
