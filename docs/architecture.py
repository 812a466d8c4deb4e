"""Diagram of the rooms and their imports: ``python docs/architecture.py`` writes architecture.svg.

``FLOORS`` is the rule of the house: a room may import rooms on floors below its own. The test
tests/docs/test_architecture.py compares the rule with the imports, and the picture with both.
"""

import ast
import html
import pathlib
from collections.abc import Iterator, Mapping

ROOT = pathlib.Path(__file__).resolve().parent.parent
PICTURE = ROOT / "docs" / "architecture.svg"

# From the top down: what the floor is for, and its rooms. A room is a folder or a file.
FLOORS: tuple[tuple[str, tuple[str, ...]], ...] = (
    ("scripts", ("train.py", "eval.py", "quickstart.py", "notebooks", "benchmarks")),
    ("front ends", ("input_pipeline", "lcdnet_jax/cli")),
    ("web page", ("lcdnet_jax/serve",)),
    ("training", ("lcdnet_jax/training", "configs")),
    ("evaluation, export", ("lcdnet_jax/evaluation", "lcdnet_jax/export")),
    ("inference", ("lcdnet_jax/inference",)),
    ("weights", ("lcdnet_jax/weights",)),
    ("checkpoints", ("lcdnet_jax/checkpoints",)),
    ("configuration", ("lcdnet_jax/config",)),
    (
        "tools",
        (
            "lcdnet_jax/protocols.py",
            "lcdnet_jax/convert",
            "lcdnet_jax/visualization.py",
            "lcdnet_jax/spectra.py",
            "lcdnet_jax/resident_images.py",
        ),
    ),
    (
        "networks",
        ("lcdnet_jax/networks", "lcdnet_jax/losses.py", "lcdnet_jax/degradations"),
    ),
    (
        "images",
        ("lcdnet_jax/metrics", "lcdnet_jax/image_io", "lcdnet_jax/sfm.py"),
    ),
    (
        "foundation",
        (
            "lcdnet_jax/ops",
            "lcdnet_jax/data_sets.py",
            "lcdnet_jax/atomic_io.py",
            "lcdnet_jax/file_names.py",
            "lcdnet_jax/freed_memory.py",
            "lcdnet_jax/multihost.py",
            "lcdnet_jax/messages.py",
            "lcdnet_jax/strict_json.py",
            "lcdnet_jax/value_rules.py",
        ),
    ),
    (
        "paths, peers, types",
        ("lcdnet_jax/storage", "lcdnet_jax/peer_loss.py", "lcdnet_jax/typing.py"),
    ),
)
# Importing these says nothing about the order: the package itself, and its version.
# __main__.py only starts lcdnet_jax/cli. setup.py imports nothing of the library, because it runs
# before the library is installed.
_IGNORED = (
    "lcdnet_jax/__init__.py",
    "lcdnet_jax/__main__.py",
    "lcdnet_jax/_version.py",
    "setup.py",
)


def rooms() -> dict[str, int]:
    """The floor of every room, 0 at the top."""
    return {room: floor for floor, (_, names) in enumerate(FLOORS) for room in names}


def files() -> Iterator[tuple[pathlib.Path, str]]:
    """Source files and the room that each belongs to.

    Raises:
        ValueError: For a file in no room.
    """
    known = rooms()
    folders = ("lcdnet_jax", "input_pipeline", "configs", "benchmarks", "notebooks")
    found = [*ROOT.glob("*.py"), *(p for folder in folders for p in (ROOT / folder).rglob("*.py"))]
    for path in sorted(found):
        name = path.relative_to(ROOT).as_posix()
        if name in _IGNORED:
            continue
        room = _room(name, known)
        if room is None:
            raise ValueError(
                f"{name} is in no room; add its room to FLOORS in docs/architecture.py"
            )
        yield path, room


def imports() -> dict[str, set[str]]:
    """The rooms that each room imports, wherever in its files the import stands."""
    known = rooms()
    found: dict[str, set[str]] = {room: set() for room in known}
    for path, room in files():
        for module in _imported_modules(path):
            target = _room_of_module(module, known)
            if target is not None and target != room:
                found[room].add(target)
    return found


def _imported_modules(path: pathlib.Path) -> Iterator[str]:
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def _room_of_module(module: str, known: Mapping[str, int]) -> str | None:
    """The room of ``package.module.name``; None for other packages and the package itself."""
    parts = module.split(".")
    if module == "lcdnet_jax.Restorer":  # loaded on first use, from here
        return "lcdnet_jax/inference"
    for length in range(len(parts), 0, -1):
        path = "/".join(parts[:length])
        for name in (path, f"{path}.py"):
            if (room := _room(name, known)) is not None:
                return room
    return None


def _room(name: str, known: Mapping[str, int]) -> str | None:
    parts = name.split("/")
    prefixes = ("/".join(parts[:length]) for length in range(len(parts), 0, -1))
    return next((prefix for prefix in prefixes if prefix in known), None)


def draw() -> str:
    """The picture as SVG text. Arrows are those of :func:`_needed`."""
    arrows = imports()
    width, floor_height, box_height = 1180, 84, 34
    boxes: dict[str, tuple[float, float, float]] = {}  # left, top, width
    for floor, (_, names) in enumerate(FLOORS):
        widths = [_box_width(name) for name in names]
        gap = (width - 170 - sum(widths)) / (len(names) + 1)
        left = 170 + gap
        for name, box in zip(names, widths, strict=True):
            boxes[name] = (left, 24 + floor * floor_height, box)
            left += box + gap
    lines = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" '
        f'height="{len(FLOORS) * floor_height + 16}" font-family="sans-serif" font-size="13">',
        '<defs><marker id="head" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="7" '
        'markerHeight="7" orient="auto"><path d="M0 0 8 4 0 8z" fill="#7a8794"/></marker></defs>',
        '<rect width="100%" height="100%" fill="#ffffff"/>',
    ]
    for floor, (purpose, _) in enumerate(FLOORS):
        top = 10 + floor * floor_height
        shade = "#f4f6f8" if floor % 2 == 0 else "#ffffff"
        lines.append(
            f'<rect y="{top}" width="{width}" height="{floor_height}" fill="{shade}"/>'
            f'<text x="16" y="{top + 39}" fill="#5a6672">{html.escape(purpose)}</text>'
        )
    for room, targets in _needed(arrows).items():
        left, top, box = boxes[room]
        for target in sorted(targets):
            to_left, to_top, to_box = boxes[target]
            x, y = left + box / 2, top + box_height
            to_x, to_y = to_left + to_box / 2, to_top - 2
            bend = (to_y - y) / 2
            lines.append(
                f'<path d="M{x:.0f} {y:.0f} C{x:.0f} {y + bend:.0f} {to_x:.0f} {to_y - bend:.0f} '
                f'{to_x:.0f} {to_y:.0f}" fill="none" stroke="#7a8794" marker-end="url(#head)"/>'
            )
    for room, (left, top, box) in boxes.items():
        middle = left + box / 2
        lines.append(
            f'<rect x="{left:.0f}" y="{top}" width="{box:.0f}" height="{box_height}" rx="6" '
            f'fill="#dcebf7" stroke="#38648c"/>'
            f'<text x="{middle:.0f}" y="{top + 22}" text-anchor="middle" fill="#12324d">'
            f"{html.escape(_label(room))}</text>"
        )
    return "\n".join([*lines, "</svg>\n"])


def _needed(arrows: Mapping[str, set[str]]) -> dict[str, set[str]]:
    """The arrows from which all others follow.

    Those of the scripts, which import everything, and those to the bottom floor, which everything
    imports, are left out.
    """
    bottom = set(FLOORS[-1][1])
    reachable: dict[str, set[str]] = {}
    for room in sorted(arrows, key=lambda name: -rooms()[name]):
        reachable[room] = set(arrows[room]).union(*(reachable[t] for t in arrows[room]))
    return {
        room: {
            t for t in targets - bottom if not any(t in reachable[other] for other in targets - {t})
        }
        for room, targets in arrows.items()
        if rooms()[room] > 0
    }


def _label(room: str) -> str:
    return room.removeprefix("lcdnet_jax/") + ("" if room.endswith(".py") else "/")


def _box_width(room: str) -> float:
    return 8.0 * len(_label(room)) + 24


if __name__ == "__main__":
    PICTURE.write_text(draw(), encoding="utf-8")
    print(f"written: {PICTURE.relative_to(ROOT)}")
