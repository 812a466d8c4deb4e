"""The command ``lcdnet-jax score``, which scores folders of restored images of any origin."""

import argparse
import heapq
import pathlib
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING

from lcdnet_jax.cli._console import Commands, add_command, print_line
from lcdnet_jax.messages import escape, format_count

if TYPE_CHECKING:  # the library is imported only when the command runs
    from lcdnet_jax.evaluation import ScoredImage
    from lcdnet_jax.evaluation.folders import Comparison
    from lcdnet_jax.typing import JsonObject

# Files that are listed of each problem, unless --debug is given.
_LISTED = 20


def add_parser(commands: Commands) -> None:
    """Adds the parser of the command ``score``.

    Args:
        commands: The subparsers of the program, as ``ArgumentParser.add_subparsers`` returns them.
    """
    parser = add_command(
        commands,
        "score",
        run,
        reads=("results", "truth"),
        writes=("output",),
        help="score folders of restored images, of any origin",
        description="Scores restored images against their ground truth under a named protocol, by "
        "the code of eval.py. Names of results may have one ending more than those of the ground "
        "truth (0001_restored.png and 0001.png), and ground truth may end in _gt, _clean, _target "
        "and the like. Missing, extra and unequal images are listed, and nothing is scored then. "
        "Prints a table, and writes results.json and results.csv (means), images.json and "
        "images.csv (each image), and panels of the worst and the best images.",
        epilog="""examples:
  lcdnet-jax score results/NAFNet GOPRO_Large --protocol gopro -o scores
  lcdnet-jax score results/A results/B test/target --protocol 8bit -o scores
  lcdnet-jax score results/Restormer Rain13K/test --protocol rain13k -o scores""",
    )
    parser.add_argument(
        "results",
        metavar="RESULTS",
        nargs="+",
        help="folders of restored images; each is a column of the panels and has its own rows",
    )
    parser.add_argument(
        "truth",
        metavar="GROUND_TRUTH",
        help="folder of the ground truth, also in the published layouts of GoPro, HIDE, RealBlur, "
        "DPDD and the validation blocks of SIDD",
    )
    parser.add_argument(
        "--protocol",
        metavar="NAME",
        required=True,
        help="how to score: gopro (also HIDE), rain, sidd, dpdd, realblur, 8bit, pairs and so on, "
        "or a data set; rain13k scores its five sets, which are folders in RESULTS and in "
        "GROUND_TRUTH, and averages them",
    )
    parser.add_argument(
        "-o", "--output", metavar="OUT", required=True, help="folder for the written files"
    )
    parser.add_argument(
        "--scale",
        metavar="N",
        type=int,
        default=1,
        help="factor of super-resolution, for the protocol sr",
    )
    parser.add_argument(
        "--border", metavar="N", type=int, default=0, help="cut N pixels off each side"
    )
    parser.add_argument(
        "--luma", action="store_true", help="score the Y channel (BT.601) of color images"
    )
    parser.add_argument(
        "--lpips",
        action="store_true",
        help='add LPIPS to the scores; it needs pip install "lcdnet-jax[torch]"',
    )
    parser.add_argument(
        "--niqe",
        action="store_true",
        help="add NIQE of the restored images, which needs no ground truth (lower is better); it "
        "needs pip install pyiqa",
    )
    parser.add_argument(
        "--any-depth",
        action="store_true",
        help="score images whose bit depth differs from that of their ground truth",
    )
    parser.add_argument(
        "--panels",
        metavar="N",
        type=int,
        default=2,
        help="number of panels of the worst and of the best images by PSNR (default: 2)",
    )
    parser.add_argument("--force", action="store_true", help="overwrite existing files")


def run(arguments: argparse.Namespace) -> None:
    """Runs the command ``score``.

    Args:
        arguments: The values that the parser of :func:`add_parser` returned.

    Raises:
        ValueError: If arguments do not fit, or an image cannot be decoded or scored.
        ImportError: If LPIPS or NIQE is asked for and not installed.
        SystemExit: If results and ground truth do not fit together.
    """
    import dataclasses

    from lcdnet_jax import atomic_io, storage
    from lcdnet_jax.evaluation import folders, ground_truth, results
    from lcdnet_jax.metrics import lpips, niqe

    for name in ("scale", "border", "panels"):
        if (value := getattr(arguments, name)) < (least := int(name == "scale")):
            raise ValueError(f"--{name} must be at least {least}, got {value}")
    protocol, data_set = folders.choose_protocol(arguments.protocol, scale=arguments.scale)
    protocol = protocol.with_cut(border=arguments.border, luma=arguments.luma)
    if arguments.lpips:
        protocol = dataclasses.replace(protocol, lpips=True)
        if not lpips.available():
            raise ImportError(
                'LPIPS needs PyTorch and the package lpips: pip install "lcdnet-jax[torch]"'
            )
    if arguments.niqe and not niqe.available():
        raise ImportError("NIQE needs PyTorch and the package pyiqa: pip install pyiqa")
    output = storage.to_path(arguments.output)
    scored = [storage.to_path(folder) for folder in (*arguments.results, arguments.truth)]
    if data_set is not None:  # beside its sets, nothing counts as an image
        scored = [
            folder / part / name
            for folder in scored
            for part in (".", "test")
            for name in data_set.groups["test"]
        ]
    _check_output(output, scored)
    for name in ("results.json", "results.csv", "images.json", "images.csv"):
        atomic_io.check_file(output / name, force=arguments.force)
    try:
        comparison = folders.compare_folders(
            arguments.results,
            arguments.truth,
            data_set=data_set,
            scale=arguments.scale,
            any_depth=arguments.any_depth,
        )
    except ground_truth.FolderError as error:
        sys.exit(f"error: {escape(error.describe(None if arguments.debug else _LISTED))}")
    for line in (*comparison.truth, *comparison.notes):
        print_line(line)

    images: list[JsonObject] = []

    def keep(name: str, folder: str, image: "ScoredImage") -> None:
        scores = {"psnr": image.psnr, "ssim": image.ssim, **image.extra}
        images.append({"dataset": name, "results": folder, "image": image.name, **scores})

    rows = []
    width = max(len("results"), *(len(one) for by in comparison.pairs.values() for one in by))
    names = [*comparison.pairs, *(f"{group}_mean" for group in comparison.groups)]
    first = max(len("data set"), *map(len, names))
    print_line(f"{'data set':<{first}} {'results':<{width}}   PSNR    SSIM images")
    for row in comparison.score(protocol, with_niqe=arguments.niqe, on_image=keep):
        summary = row.summary
        further = "".join(f"  {name.upper()} {x:.4f}" for name, x in summary.extra.items())
        print_line(
            f"{row.dataset:<{first}} {row.mode:<{width}} {summary.psnr:6.2f} {summary.ssim:7.4f} "
            f"{summary.n:6d}{further}"
        )
        rows.append(
            {
                "dataset": row.dataset,
                "results": row.mode,
                "protocol": protocol.name,
                "psnr": summary.psnr,
                "ssim": summary.ssim,
                **summary.extra,
                "n": summary.n,
            }
        )
    print_line(protocol.describe())
    if protocol.lpips and not lpips.available():
        print_line('for LPIPS: pip install "lcdnet-jax[torch]"')
    atomic_io.make_folder(output / "results.json")
    results.write(rows, output)
    results.write(images, output, "images")
    count = _write_panels(comparison, images, output / "panels", arguments.panels)
    print_line(f"written: {output}/ results.json, results.csv, images.json, images.csv")
    if count:
        print_line(f"written: {output}/panels, {format_count(count, 'panel')}")


def _check_output(output: pathlib.Path, folders: Sequence[pathlib.Path]) -> None:
    """Raises ValueError if panels would lie among the images that are scored."""
    from lcdnet_jax import storage

    place = storage.resolve(output)
    for folder in folders:
        scored = storage.resolve(folder)
        if scored == place or scored in place.parents:
            raise ValueError(
                f"OUT ({output}) is in {folder}, where its panels would count as images; choose "
                "another folder"
            )


def _write_panels(
    comparison: "Comparison", images: "Sequence[JsonObject]", folder: pathlib.Path, number: int
) -> int:
    """Writes panels of the images with the lowest and the highest PSNR over all result folders."""
    import numpy as np

    from lcdnet_jax import atomic_io, file_names, image_io, storage, visualization

    psnr: dict[tuple[str, str], dict[str, float]] = {}
    for row in images:
        psnr.setdefault((row["dataset"], row["image"]), {})[row["results"]] = row["psnr"]

    def mean(key: tuple[str, str]) -> float:
        return float(np.mean([*psnr[key].values()]))

    number = min(number, (len(psnr) + 1) // 2)
    ranked = {
        "worst": heapq.nsmallest(number, psnr, key=mean),
        "best": heapq.nlargest(min(number, len(psnr) - number), psnr, key=mean),
    }
    before = storage.list_once(folder)
    for kind in ranked:  # of an earlier run
        for path in before.glob(f"{kind}_*.png"):
            storage.remove_file(path)
    count = 0
    for kind, keys in ranked.items():
        for rank, (dataset, name) in enumerate(keys, 1):
            pairs = {
                results: next(one for one in every if one.name == name)
                for results, every in comparison.pairs[dataset].items()
            }
            pictures = [
                (f"{results}  {psnr[dataset, name][results]:.2f} dB", pair.restored.decode())
                for results, pair in pairs.items()
            ]
            clean = next(iter(pairs.values())).clean.decode()
            panel = visualization.draw_panel([*pictures, ("ground truth", clean)], clean=clean)
            stem = f"{kind}_{rank}_{dataset}_{name.replace('/', '_')}"
            path = folder / file_names.shorten_name(stem, ".png")
            atomic_io.make_folder(path)
            image_io.write(path, panel)
            count += 1
    return count
