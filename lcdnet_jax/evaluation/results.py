"""Rows of a sweep as files and as a table: what ``eval.py`` writes and prints."""

import csv
import datetime
import io
import itertools
import json
import math
import pathlib
from collections.abc import Iterable

import jax

from lcdnet_jax import atomic_io, file_names, image_io, storage, strict_json
from lcdnet_jax._version import __version__
from lcdnet_jax.evaluation.evaluator import ScoredImage
from lcdnet_jax.evaluation.sweep import Case, DataSet, Row
from lcdnet_jax.messages import describe_processor, escape
from lcdnet_jax.typing import Json, JsonObject


class Results:
    """Collects rows in ``results.json`` and ``results.csv``, and prints them as a table.

    Rows of the same weights that are already in the folder stay, unless a new row has their data
    set, noise level, protocol and mode. Rows of other weights are moved to ``results-1.json`` and
    so on.

    Args:
        folder: Existing folder for the files.
        datasets: The data sets of the sweep. Their names and those of their protocols set the
            width of columns.
        weights: Name of the weights in the files, see :func:`lcdnet_jax.weights.format_identity`.
        command: The command that computes the rows. The files also have the date (of UTC, at the
            start), the processor or accelerator, and the versions of this library and of JAX.
    """

    def __init__(
        self, folder: pathlib.Path, datasets: Iterable[DataSet], *, weights: str, command: str
    ):
        self._folder = folder
        self._run = {
            "weights": weights,
            "command": command,
            "date": datetime.datetime.now(datetime.UTC).date().isoformat(),
            "processor": _describe_device(),
            "lcdnet_jax": __version__,
            "jax": jax.__version__,
        }
        datasets = list(datasets)
        names = [setting.protocol.name for one in datasets for setting in one.settings]
        self._width = max([12, *map(len, names)])
        self._name_width = max([20, *(len(one.name) for one in datasets)])
        self._earlier: list[JsonObject] | None = None  # read with the first row
        self._rows: list[JsonObject] = []
        self._descriptions: dict[str, None] = {}

    def add(self, row: Row) -> None:
        """Adds a row to the files and prints it.

        Both files are rewritten each time, so that a damaged image later does not lose this row.
        """
        self._rows.append(
            {
                "dataset": row.dataset,
                "sigma": row.sigma,
                "protocol": row.protocol.name,
                "mode": row.restorer_mode,
                "psnr": row.summary.psnr,
                "ssim": row.summary.ssim,
                "input_psnr": row.summary.input_psnr,
                **row.summary.extra,
                "n": row.summary.n,
                **self._run,
            }
        )
        self._descriptions[row.protocol.describe()] = None
        if len(self._rows) == 1:
            self._print_header()
        self._print(self._rows[-1])
        if self._earlier is None:
            self._earlier = self._read_earlier()
        new = {_identify(one) for one in self._rows}
        kept = [one for one in self._earlier if _identify(one) not in new]
        write(kept + self._rows, self._folder)

    def close(self) -> None:
        """Prints descriptions of the protocols and the paths of the files, if there are rows."""
        if self._rows:
            print("\n".join(self._descriptions), flush=True)
            print(escape(f"written: {self._folder}/results.json and results.csv"), flush=True)

    def _read_earlier(self) -> list[JsonObject]:
        """Rows of the same weights in the folder. A file with other content is kept as a copy."""
        try:
            data = strict_json.read_bytes(self._folder / "results.json")
        except FileNotFoundError:
            return []
        try:
            rows = [dict(row) for row in strict_json.parse(data)]
        except (ValueError, TypeError):
            rows = [{}]
        if all(row.get("weights") == self._run["weights"] for row in rows):
            return rows
        names = (f"results-{number}.json" for number in itertools.count(1))
        name = next(one for one in names if not storage.exists(self._folder / one))
        atomic_io.write(self._folder / name, data, force=False)
        print(f"results of other weights are kept in {name}", flush=True)
        return []

    def _print_header(self) -> None:
        print(
            f"{'data set':<{self._name_width}} {'sigma':>5}  "
            f"{'protocol':<{self._width}} {'mode':<14} "
            f"{'input':>6} {'PSNR':>6} {'SSIM':>7} {'images':>6}"
        )

    def _print(self, row: JsonObject) -> None:
        sigma = "-" if row["sigma"] is None else f"{row['sigma']:g}"
        further = "".join(
            f"  {name.upper()} {row[name]:.4f}" for name in ("mae", "lpips") if name in row
        )
        name = escape(row["dataset"])
        print(
            f"{name:<{self._name_width}} {sigma:>5}  "
            f"{row['protocol']:<{self._width}} {row['mode']:<14} "
            f"{row['input_psnr']:6.2f} {row['psnr']:6.2f} {row['ssim']:7.4f} {row['n']:6d}"
            f"{further}",
            flush=True,
        )


def _identify(row: JsonObject) -> tuple[Json, ...]:
    return tuple(row.get(name) for name in ("dataset", "sigma", "protocol", "mode"))


def _describe_device() -> str:
    device = jax.devices()[0]
    return describe_processor() if device.platform == "cpu" else device.device_kind


def write(rows: list[JsonObject], folder: pathlib.Path, name: str = "results") -> None:
    """Writes ``NAME.json`` and ``NAME.csv``, each all or nothing."""
    # JSON has no NaN (SSIM of a tiny image) and no infinity (PSNR of a perfect one).
    finite = [
        {k: None if isinstance(v, float) and not math.isfinite(v) else v for k, v in row.items()}
        for row in rows
    ]
    table = io.StringIO(newline="")
    columns = dict.fromkeys(key for row in rows for key in row)  # not all protocols have MAE
    writer = csv.DictWriter(table, fieldnames=[*columns])
    writer.writeheader()
    writer.writerows(rows)
    texts = {"json": json.dumps(finite, indent=2) + "\n", "csv": table.getvalue()}
    for suffix, text in texts.items():
        data = text.encode(errors="surrogateescape")  # names of data sets may hold any bytes
        atomic_io.write(folder / f"{name}.{suffix}", data, force=True)


def save_image(output: pathlib.Path, case: Case, number: int, image: ScoredImage) -> None:
    """Writes a restored image as PNG into the folder of its case in ``output``.

    With a fixed ``output`` it serves as ``on_image`` of :func:`lcdnet_jax.evaluation.sweep`.
    """
    level = "" if case.sigma is None else f"_sigma{case.sigma:g}"
    mode = "" if case.mode == "full" else f"_{case.mode}"
    name = file_names.shorten_name(case.dataset, f"_{case.protocol.name}{level}{mode}")
    folder = output / name
    storage.make_folder(folder)
    file = folder / file_names.shorten_name(image.name, ".png")
    image_io.write(file, image_io.to_uint8(image.restored))
