"""References in docstrings to names that have no page."""

import importlib
import sys
from typing import Any


def resolve(app: Any, environment: Any, node: Any, shown: Any) -> Any:
    """Shows a name that exists as text. For others Sphinx warns.

    Args:
        app: Sphinx.
        environment: Sphinx's.
        node: The reference.
        shown: The text of the reference.

    Returns:
        The text, or None for a name that does not exist.
    """
    return shown if node.get("refdomain") == "py" and exists(node["reftarget"]) else None


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
