"""Writes the tables of scores in README.md and docs/ from the files in docs/results/data/.

    python docs/results_tables.py

A page has a table between ``<!-- results: NAME -->`` and ``<!-- end of results -->``; NAME is a key
of ``TABLES``. ``docs/results/data/WEIGHTS/SET.json`` is a results.json of eval.py, unchanged.
``published.json`` has scores of papers. Other tables are outputs of notebooks. A test fails if a
page is out of date.
"""

import functools
import json
import pathlib
import re
import textwrap
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from lcdnet_jax import messages

ROOT = pathlib.Path(__file__).resolve().parents[1]
DATA = ROOT / "docs/results/data"
NOTEBOOKS = ROOT / "notebooks"
BEGIN, END = "<!-- results: ", "<!-- end of results -->"
BLOCK = re.compile(rf"{BEGIN}(.+?) -->\n.*?{END}", re.DOTALL)
KEY = ("dataset", "sigma", "protocol", "mode")
NUMBER = int | float | None
RUN = dict.fromkeys(("command", "date", "processor", "lcdnet_jax", "jax"), str)
FIELDS = {"dataset": str, "sigma": NUMBER, "protocol": str, "mode": str, "n": int, **RUN}
FIELDS |= dict.fromkeys(("psnr", "ssim", "input_psnr"), NUMBER)
PUBLISHED = {"dataset": str, "sigma": NUMBER, "source": str}
LEVELS = (15, 25, 30, 50, 70)  # of noise
WITHOUT_COMMANDS = ("readme", "overview")  # parts of other tables

Row = Mapping[str, Any]


class ResultsError(ValueError):
    """A file or a page is not as the tables need it; the message says why."""


class Scores:
    """The rows of all files.

    Args:
        folder: Such as ``docs/results/data``.

    Attributes:
        used: The rows that were found so far.
        sources: The sources of the published scores that were found so far.

    Raises:
        ResultsError: If a file has other content.
    """

    def __init__(self, folder: pathlib.Path):
        self._folder = folder
        self.used: list[Row] = []
        self.sources: dict[str, None] = {}
        self._rows: dict[tuple[Any, ...], Row] = {}
        for path in sorted(folder.glob("*/*.json")):
            for row in _read(path, FIELDS, "run eval.py again"):
                key = (path.parent.name, *(row[name] for name in KEY))
                if key in self._rows:
                    raise ResultsError(f"{path}: another file has {key}, too; delete one of them")
                self._rows[key] = row
        published = _read(folder / "published.json", PUBLISHED, "correct it")
        self._published = {(row["dataset"], row["sigma"]): row for row in published}

    def find(self, weights: str, dataset: str, protocol: str, sigma: float | None = None) -> Row:
        """The row of a score of whole images.

        Args:
            weights: Name of the folder.
            dataset: As in the row.
            protocol: As in the row.
            sigma: As in the row.

        Returns:
            The row.

        Raises:
            ResultsError: If there is none.
        """
        key = weights, dataset, sigma, protocol, "full"
        if key not in self._rows:
            raise ResultsError(
                f"no file in {self._folder / weights} has the data set {dataset}, protocol "
                f"{protocol}, sigma {sigma}, mode full; score them by eval.py, and store its "
                "results.json there"
            )
        self.used.append(self._rows[key])
        return self._rows[key]

    def published(self, dataset: str, sigma: float, methods: Iterable[str]) -> list[str]:
        """The published PSNR of some methods as text, empty where there is none."""
        row = self._published.get((dataset, sigma), {})
        if row:
            self.sources[row["source"]] = None
        return [_number(row[name]) if name in row else "" for name in methods]


def _read(path: pathlib.Path, fields: Mapping[str, Any], advice: str) -> list[Row]:
    try:
        rows = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ResultsError(f"cannot read {path}: {error}") from None
    if not isinstance(rows, list):
        raise ResultsError(f"{path}: holds {messages.shorten(rows)}, not a list of rows; {advice}")
    for row in rows:
        if not isinstance(row, dict):
            raise ResultsError(f"{path}: a row is {messages.shorten(row)}, not an object; {advice}")
        missing = [name for name in fields if name not in row]
        if missing:
            raise ResultsError(f"{path}: a row has no {', '.join(missing)}; {advice}")
        wrong = [
            f"{name} {row[name]!r}" for name in fields if not isinstance(row[name], fields[name])
        ]
        if wrong:
            raise ResultsError(f"{path}: a row has {', '.join(wrong)}, of another type; {advice}")
    return rows


def noise(
    scores: Scores,
    weights: str,
    sets: Iterable[tuple[str, str, Sequence[int]]],
    methods: Sequence[str],
) -> list[list[str]]:
    """Gaussian noise under two protocols, and published scores.

    Args:
        scores: All rows.
        weights: Name of the weights.
        sets: Data sets, how the table and ``published.json`` (in lower case) name them, and their
            levels.
        methods: Columns of published scores.

    Returns:
        The header and the rows.
    """
    columns = ["data set", "sigma", "noisy", "`float`", "SSIM", "`8bit`", "SSIM"]
    table = [[*columns, *(f"published: {name}" for name in methods)]]
    for dataset, name, sigmas in sets:
        for sigma in sigmas:
            rows = [scores.find(weights, dataset, one, sigma) for one in ("float", "8bit")]
            table.append([name, str(sigma), _number(rows[0]["input_psnr"])])
            for row in rows:
                table[-1] += [f"**{_number(row['psnr'])}**", _number(row["ssim"], 4)]
            table[-1] += scores.published(name.lower(), sigma, methods)
    return table


def overview(scores: Scores) -> list[list[str]]:
    """All weights: what for, and one score of each."""
    table = [["weights", "for", "scored on", "input, PSNR", "restored, PSNR"]]
    for weights, purpose, dataset, name, protocol, sigma in (
        (
            "sadnet-photo",
            "photographs from cameras: sensor noise, demosaiced, JPEG",
            "cc",
            "CC, 5 pairs",
            "pairs",
            None,
        ),
        (
            "sadnet-color-blind",
            "Gaussian noise of any level from 0 to 55 (8-bit units), unclipped or in 8-bit files",
            "kodak24",
            "Kodak24, sigma 50, `float`",
            "float",
            50,
        ),
        (
            "sadnet-gray-blind",
            "the same in gray images",
            "cbsd68",
            "BSD68, sigma 50, `float`",
            "float",
            50,
        ),
        (
            "sadnet-photo-polyu",
            "photographs, fine-tuned on real pairs; for non-commercial use only",
            "cc",
            "CC, 5 pairs",
            "pairs",
            None,
        ),
        (
            "lcdnet-rain",
            "streaks of rain",
            "rain100l",
            "Rain100L, 10 images, synthetic rain",
            "rain",
            None,
        ),
        (
            "lcdnet-motion",
            "blur of 4 to 12 pixels, the same all over the image; longer blur gets worse",
            "cbsd68",
            "CBSD68, synthetic blur",
            "motion-8bit",
            None,
        ),
        (
            "dncnn-gray",
            "comparison: trained without frequency masking",
            "cbsd68",
            "BSD68, sigma 50, `float`",
            "float",
            50,
        ),
        (
            "dncnn-gray-sfm",
            "comparison: the same with frequency masking",
            "cbsd68",
            "BSD68, sigma 50, `float`",
            "float",
            50,
        ),
    ):
        row = scores.find(weights, dataset, protocol, sigma)
        table.append([f"`{weights}`", purpose, name, _number(row["input_psnr"])])
        table[-1].append(_number(row["psnr"]))
    return table


def readme(scores: Scores) -> list[list[str]]:
    """A part of the two tables of Gaussian noise."""
    ours = "ours, [protocol](docs/explanations/protocols.md) `float`"
    published = ["published: SADNet, protocol not stated", "published: (C)BM3D"]
    table = [["test set, sigma", "noisy, `float`", ours, "ours, protocol `8bit`", *published]]
    for weights, dataset, name, reference in (
        ("sadnet-color-blind", "kodak24", "Kodak24", "CBM3D"),
        ("sadnet-color-blind", "cbsd68", "CBSD68", "CBM3D"),
        ("sadnet-gray-blind", "cbsd68", "BSD68, gray", "BM3D"),
    ):
        for sigma in (30, 50):
            rows = [scores.find(weights, dataset, one, sigma) for one in ("float", "8bit")]
            numbers = [rows[0]["input_psnr"], *(row["psnr"] for row in rows)]
            known = scores.published(name.lower().split(",")[0], sigma, ("SADNet", reference))
            table.append([f"{name}, {sigma}", *map(_number, numbers), *known])
    return table


def camera(scores: Scores) -> list[list[str]]:
    """Pairs with camera noise, and photographs with a synthetic one."""
    photo, others = "sadnet-photo", ("sadnet-photo-polyu", "sadnet-color-blind")
    table = [["data set", "images", "noisy"]]
    for weights in (photo, *others):
        table[0] += [f"`{weights}`", "SSIM"]
    for dataset, name, protocol in (
        ("cc", "CC", "pairs"),
        ("polyu", "PolyU", "pairs"),
        ("sidd", "SIDD", "pairs"),
        ("kodak24", "Kodak24, synthetic", "camera-8bit"),
        ("cbsd68", "CBSD68, synthetic", "camera-8bit"),
    ):
        row = scores.find(photo, dataset, protocol)
        table.append([name, str(row["n"]), _number(row["input_psnr"])])
        table[-1] += [f"**{_number(row['psnr'])}**", _number(row["ssim"], 4)]
        for weights in others:
            other = scores.find(weights, dataset, protocol) if protocol == "pairs" else None
            table[-1] += [_number(other["psnr"]), _number(other["ssim"], 4)] if other else ["", ""]
    return table


def rain_and_motion(scores: Scores) -> list[list[str]]:
    """The weights of LCDNet outside of the package."""
    table = [["file", "data", "images", "input", "restored", "SSIM", "protocol"]]
    for weights, dataset, name, protocol in (
        ("lcdnet-rain", "cbsd68", "CBSD68, synthetic rain as in the training", "rain-8bit"),
        ("lcdnet-rain", "rain100l", "Rain100L", "rain"),
        ("lcdnet-rain", "rain100h", "Rain100H", "rain"),
        (
            "lcdnet-motion",
            "cbsd68",
            "CBSD68, synthetic blur of 4 to 12 pixels as in the training",
            "motion-8bit",
        ),
        ("lcdnet-motion", "gopro_crops", "GoPro", "gopro"),
        ("lcdnet-motion", "reds_small", "REDS", "gopro"),
    ):
        row = scores.find(weights, dataset, protocol)
        numbers = [str(row["n"]), _number(row["input_psnr"]), _number(row["psnr"])]
        table.append([f"`{weights}`", name, *numbers, _number(row["ssim"], 4), f"`{protocol}`"])
    return table


def _number(value: float | None, digits: int = 2) -> str:
    return "-" if value is None else f"{value:.{digits}f}"  # JSON has no infinity


def notebook(
    scores: Scores, name: str, column: str, folder: pathlib.Path = NOTEBOOKS
) -> list[list[str]]:
    """The first table with a first column of some name that a notebook wrote.

    Args:
        scores: Not used.
        name: Name of the notebook.
        column: First column of the table.
        folder: Folder of the notebook.

    Returns:
        The header and the rows.

    Raises:
        ResultsError: If the notebook or the table is missing.
    """
    path = folder / f"{name}.ipynb"
    try:
        cells = json.loads(path.read_text(encoding="utf-8"))["cells"]
        outputs = [output for cell in cells for output in cell.get("outputs", ())]
        texts = ["".join(one.get("data", {}).get("text/markdown", ())) for one in outputs]
    except (OSError, ValueError, TypeError, LookupError, AttributeError) as error:
        raise ResultsError(f"cannot read {path}: {error!r}") from None
    found = [text for text in texts if text.startswith(f"| {column} |")]
    if not found:
        raise ResultsError(f"{path} has no table with the column {column}; run it again")
    header, _, *rows = (
        [cell.strip() for cell in line.strip().strip("|").split("|")]
        for line in found[0].strip().splitlines()
    )
    return [header, *rows]


TABLES: dict[str, Callable[[Scores], list[list[str]]]] = {
    "readme": readme,
    "overview": overview,
    "color noise": functools.partial(
        noise,
        weights="sadnet-color-blind",
        sets=[("kodak24", "Kodak24", LEVELS), ("cbsd68", "CBSD68", LEVELS)],
        methods=("CBM3D", "DnCNN", "SADNet"),
    ),
    "gray noise": functools.partial(
        noise,
        weights="sadnet-gray-blind",
        sets=[("set12", "Set12", LEVELS), ("cbsd68", "BSD68", LEVELS)],
        methods=("BM3D", "DnCNN", "SADNet"),
    ),
    "camera noise": camera,
    "rain and motion": rain_and_motion,
    "kernels": functools.partial(notebook, name="sfm_super_resolution", column="width"),  # CBSD68
}


def update(text: str, folder: pathlib.Path = DATA) -> str:
    """Writes the tables of a page.

    Args:
        text: The page.
        folder: The files.

    Returns:
        The page with all tables as the files have them.

    Raises:
        ResultsError: If a file or row is missing, or a table is not known or has no end.
    """
    if text.count(BEGIN) != len(BLOCK.findall(text)) or text.count(BEGIN) != text.count(END):
        raise ResultsError(f"each '{BEGIN}NAME -->' needs a line '{END}' below its table")
    return BLOCK.sub(lambda match: f"{BEGIN}{match[1]} -->\n{_block(match[1], folder)}{END}", text)


def _block(name: str, folder: pathlib.Path) -> str:
    if name not in TABLES:
        raise ResultsError(f"there is no table {name!r}; known are {', '.join(TABLES)}")
    scores = Scores(folder)
    header, *rows = TABLES[name](scores)
    lines = ["".join(f" {cell} |" if cell else " |" for cell in line) for line in (header, *rows)]
    lines.insert(1, "---|" * len(header))
    text = "".join(f"|{line}\n" for line in lines)
    if name in WITHOUT_COMMANDS:
        runs = {f"{row['date']} on an {row['processor']}" for row in scores.used}
        return f"{text}\nScores by `eval.py`, {', '.join(sorted(runs))}.\n"
    if not scores.used:  # of a notebook
        return text
    if scores.sources:
        text += f"\nPublished: {', '.join(scores.sources)}.\n"
    return text + f"\n```\n{_commands(scores.used)}```\n"


def _commands(rows: Iterable[Row]) -> str:
    """The commands of rows, below the date, the processor and the versions."""
    groups: dict[str, dict[str, None]] = {}
    for row in rows:
        run = (
            f"# {row['date']}, {row['processor']}, lcdnet_jax {row['lcdnet_jax']}, jax {row['jax']}"
        )
        groups.setdefault(run, {})[row["command"]] = None
    return "".join(f"{run}\n{_loops(commands)}" for run, commands in groups.items())


def _loops(commands: Iterable[str]) -> str:
    """Commands, those that differ in nothing but the data set as one loop of the shell."""
    alike: dict[str, list[str]] = {}
    for command in commands:
        match = re.search(r" --data (\w+)", command)
        name = match[1] if match else ""
        general = re.sub(rf"\b{name}\b", "$set", command) if match else command
        alike.setdefault(general, []).append(name)
    text = ""
    for general, names in alike.items():
        if len(names) == 1:
            text += _wrap(general.replace("$set", names[0])) + "\n"
        else:
            body = textwrap.indent(_wrap(general), "    ")
            text += f"for set in {' '.join(names)}; do\n{body}\ndone\n"
    return text


def _wrap(command: str) -> str:
    """Breaks a long command before options, into lines of about 90 characters."""
    program, *options = re.split(r" (?=--)", command)
    lines = [program]
    for option in options:
        if len(lines[-1]) + len(option) < 90:
            lines[-1] += f" {option}"
        else:
            lines.append(f"    {option}")
    return " \\\n".join(lines)


def pages() -> list[pathlib.Path]:
    """The pages with tables."""
    found = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
    return [page for page in found if BEGIN in page.read_text(encoding="utf-8")]


if __name__ == "__main__":
    for page in pages():
        page.write_text(update(page.read_text(encoding="utf-8")), encoding="utf-8")
        print(f"written: {page.relative_to(ROOT)}")
