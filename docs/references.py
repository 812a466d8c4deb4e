"""References in docstrings to names that have no page, and the comments of constants."""

import importlib
import sys
from typing import Any

from sphinx.pycode import ModuleAnalyzer


def resolve(app: Any, environment: Any, node: Any, shown: Any) -> Any:
    """Shows a name that exists as text. For others, and for constants, Sphinx warns.

    Args:
        app: Sphinx.
        environment: Sphinx's.
        node: The reference.
        shown: The text of the reference.

    Returns:
        The text, or None for a name that does not exist, or for a constant, which needs an entry.
    """
    if node.get("refdomain") != "py" or node["reftype"] == "data":
        return None
    return shown if exists(node["reftarget"]) else None


def describe_constant(app: Any, what: str, name: str, value: Any, _: Any, lines: list[str]) -> None:
    """Gives a constant the comment ``#:`` of the module of its package that defines it.

    Args:
        app: Sphinx.
        what: The kind of the entry, "data" for constants.
        name: Such as ``lcdnet_jax.export.MAX_SIDE``.
        value: Its value.
        lines: The text of the entry, which is replaced.

    Raises:
        ValueError: If there is no comment.
    """
    if what != "data":
        return
    package, _, short = name.rpartition(".")
    for module in [module for module in sys.modules if f"{module}.".startswith(f"{package}.")]:
        comments = ModuleAnalyzer.for_module(module).find_attr_docs()
        if ("", short) in comments and getattr(sys.modules[module], short) is value:
            lines[:] = comments["", short]
            return
    raise ValueError(f"{name} has no comment that begins with #:")


def exists(name: str) -> bool:
    """Whether a name can be imported, as it is or from a module of the library.

    Args:
        name: Such as ``lcdnet_jax.sfm.band_mask``, ``collections.abc.Mapping`` or ``MAX_SIDE``.

    Returns:
        Whether it exists.
    """
    modules = [m for n, m in sys.modules.items() if n.split(".")[0] == "lcdnet_jax" and m]
    return _importable(name.split(".")) or any(_has(module, name.split(".")) for module in modules)


def _importable(parts: list[str]) -> bool:
    for length in range(len(parts), 0, -1):
        try:
            module = importlib.import_module(".".join(parts[:length]))
        except ImportError:
            continue
        return _has(module, parts[length:])
    return False


def _has(value: Any, parts: list[str]) -> bool:
    for part in parts:
        if part in getattr(value, "__annotations__", ()):  # a field without a default
            return True
        try:
            value = getattr(value, part)
        except AttributeError:
            return False
    return True
