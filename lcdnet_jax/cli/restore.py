"""The command ``lcdnet-jax restore``, which restores image files."""

from __future__ import annotations

import argparse
import collections
import contextlib
import math
import os
import pathlib
import sys
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, NoReturn

from lcdnet_jax.cli import _compilation
from lcdnet_jax.cli._console import Commands, add_command, print_line
from lcdnet_jax.cli._progress import ProgressBar
from lcdnet_jax.messages import escape, escape_line, format_count

if TYPE_CHECKING:  # the library is imported only when the command runs
    from lcdnet_jax import Restorer
    from lcdnet_jax.inference.batch import Result
    from lcdnet_jax.inference.plan import Job


def add_parser(commands: Commands) -> None:
    """Adds the parser of the command ``restore``.

    Args:
        commands: The subparsers of the program, as ``ArgumentParser.add_subparsers`` returns them.
    """
    parser = add_command(
        commands,
        "restore",
        run,
        reads=("inputs", "reference"),
        weights=("checkpoint",),
        writes=("output",),
        help="restore image files",
        description="Restores image files of any size. Results keep format, bit depth, channels, "
        "alpha and metadata. HEIC holds 10 bits of 16, and a line names what is left out. A gray "
        "picture stays gray, also if its file stores color. Rotated images are stored upright. Raw "
        "files of cameras become TIFF with 16 bits. Existing files are overwritten only with "
        "--force, and a file is written whole or not at all. A file that cannot be restored does "
        "not stop the others; the exit status is then 1.",
        epilog="""examples:
  lcdnet-jax restore photo.jpg                      (writes photo.restored.jpg)
  lcdnet-jax restore photo.jpg -o restored.jpg --strength 0.7
  lcdnet-jax restore holiday/ 'more/*.png' -o restored/
  find . -name '*.tiff' | lcdnet-jax restore - -o restored/
  lcdnet-jax restore holiday/ -o restored/ --skip-existing
  lcdnet-jax restore huge.tif -o out.tif --tile 512
  lcdnet-jax restore scan.png -o clean.png --checkpoint sadnet-color-blind
  lcdnet-jax restore noisy/ -o restored/ --checkpoint quickstart --reference clean/
  lcdnet-jax restore holiday/ -o restored/ --shard 0/2     (on a second host: --shard 1/2)""",
    )
    parser.add_argument(
        "inputs",
        metavar="IN",
        nargs="+",
        help="files, folders (all images in them and in their subfolders, except hidden ones), "
        "patterns such as 'a/**/*.png', or - to read paths from standard input, one per line",
    )
    parser.add_argument(
        "-o",
        "--output",
        metavar="OUT",
        help="folder for the results, which keep their names, and their subfolders in a folder IN; "
        "files that match a pattern lie directly in OUT; or, for one image, a file name, whose "
        "suffix selects the format; default for one file: photo.restored.jpg beside photo.jpg, if "
        "no file has that name",
    )
    parser.add_argument(
        "--checkpoint",
        metavar="CHECKPOINT",
        help="trained network: a working directory of train.py, the output of convert or export, "
        "the name of pretrained weights ('lcdnet-jax models --pretrained' lists them), or "
        "hf://ORG/NAME[@REVISION] on the Hugging Face hub; default: sadnet-photo",
    )
    parser.add_argument(
        "--strength",
        metavar="S",
        type=float,
        default=1.0,
        help="how much of the change is used: 0 gives the pixels of the input, 1 the result of the "
        "network, 0.5 the mean of both (default: 1; not for networks that enlarge)",
    )
    parser.add_argument(
        "--tile",
        metavar="N",
        type=int,
        help="restore in tiles of N x N pixels, preferably a multiple of 32; default: whole "
        "images, and windows that fit the image for large ones",
    )
    parser.add_argument(
        "--overlap",
        metavar="N",
        type=int,
        help="pixels discarded at inner tile edges (default: 64; LCDNet: 32; SADNet: 85, "
        "sadnet-photo 184; U-Net: 96)",
    )
    parser.add_argument(
        "--tile-batch",
        metavar="N",
        type=_parse_count,
        help="tiles, or images of equal padded size, that each device computes at once (default: "
        "1 on a CPU, elsewhere as many as have a megapixel together, up to 16)",
    )
    parser.add_argument(
        "--ensemble",
        action="store_true",
        help="self-ensemble: average over the eight orientations of the image; slightly better, "
        "eight times slower",
    )
    parser.add_argument(
        "--local-pool",
        metavar="N",
        type=_parse_count,
        help="LCDNet, NAFNet: average over windows of N pixels, best 1.5 times the crops of "
        "training, instead of over the whole image",
    )
    parser.add_argument("--dtype", choices=("float32", "bfloat16"), help="compute type")
    parser.add_argument(
        "--device",
        metavar="NAME",
        help='the only device that computes, such as "cpu" or "gpu:1"; default: all of this host',
    )
    parser.add_argument(
        "--reference",
        metavar="PATH",
        help="ground truth: an image, or a folder with one of the same name for each input; "
        "reports PSNR and SSIM of each written file, read back (RGB or gray in [0, 1], all pixels)",
    )
    parser.add_argument(
        "--force", action="store_true", help="overwrite existing files, even the inputs"
    )
    parser.add_argument(
        "--skip-existing",
        action="store_true",
        help="leave out images whose results exist, to continue an earlier run",
    )
    parser.add_argument(
        "--quality",
        metavar="N",
        type=_parse_quality,
        default=95,
        help="quality of JPEG, AVIF and HEIC files, 1 to 100 (default: 95)",
    )
    parser.add_argument(
        "--shard",
        metavar="I/N",
        type=_parse_shard,
        help="restore only share I of N, I from 0 to N - 1: image I of the sorted list and every "
        "N-th after it; for N processes that are started independently",
    )
    parser.add_argument(
        "--distributed",
        choices=("auto", "on", "off"),
        default="auto",
        help="join the processes on other hosts as train.py does, and restore one share in each; "
        "auto: if SLURM's srun, mpirun or GKE has started several (default: auto)",
    )
    parser.add_argument(
        "--coordinator", metavar="HOST:PORT", help="of process 0, if no launcher provides it"
    )
    parser.add_argument(
        "--processes", metavar="N", type=int, help="number of processes, with --coordinator"
    )
    parser.add_argument(
        "--process-index",
        "--process_index",  # as for train.py
        metavar="I",
        type=int,
        help="number of this process, from 0, with --coordinator",
    )


def _parse_quality(text: str) -> int:
    if not text.isdecimal() or not 1 <= int(text) <= 100:
        raise argparse.ArgumentTypeError(f"must be a number from 1 to 100, got {text!r}")
    return int(text)


def _parse_count(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"must be an integer of at least 1, got {text!r}")
    return int(text)


def _parse_shard(text: str) -> tuple[int, int]:
    index, slash, count = text.partition("/")
    if not (slash and index.isdecimal() and count.isdecimal() and int(index) < int(count)):
        raise argparse.ArgumentTypeError(
            f"must be I/N with I from 0 to N - 1, such as 0/4 for the first of four, got {text!r}"
        )
    return int(index), int(count)


def run(arguments: argparse.Namespace) -> None:
    """Runs the command ``restore``.

    Args:
        arguments: The values that the parser of :func:`add_parser` returned.

    Raises:
        ValueError: If the inputs, outputs or options do not fit, or the network takes two views.
        DistributedError: If the processes of several hosts cannot find each other.
        CheckpointError: If a checkpoint is damaged or missing.
        SystemExit: If an image cannot be restored.
    """
    from lcdnet_jax import multihost
    from lcdnet_jax.inference import MemoryWarning, PixelRangeWarning, batch, limits

    is_joined = _join_processes(arguments)
    others: list[pathlib.Path] = []
    try:
        jobs = _plan_jobs(arguments, others, is_joined)
        # It may communicate, so that a process without jobs takes part.
        restorer = _create_restorer(arguments) if jobs or is_joined else None
    finally:
        if is_joined:  # also after an error: the others wait for this process
            multihost.leave()
    if not jobs or restorer is None:
        _print_others(others)
        return
    progress = ProgressBar(len(jobs))
    if message := limits.describe_disk(jobs, restorer.module.scale):
        progress.print_warning(message)
    results: list[Result] = []
    failures: list[str] = []
    left_out: dict[str, list[pathlib.Path]] = collections.defaultdict(list)  # images by what
    outcomes = batch.restore(
        restorer,
        jobs,
        force=arguments.force,
        quality=arguments.quality,
        progress=progress.advance,
        on_compile=progress.show_compilation,
    )

    def report(job: Job, outcome: Result | Exception) -> None:
        if isinstance(outcome, Exception):
            if arguments.debug:
                raise outcome
            failures.append(escape(" ".join(str(outcome).split())))
            if len(jobs) > 1:
                progress.print_line(f"failed {escape_line(str(job.source))}")
        else:
            results.append(outcome)
            size = f"{outcome.width}x{outcome.height}"
            for name in outcome.left_out:
                left_out[name].append(job.source)
            name = escape_line(str(job.target))
            progress.print_line(f"{name}  {size}{_format_scores([outcome])}")

    try:
        with (
            progress,
            contextlib.closing(outcomes),
            warnings.catch_warnings(),
            _lift_pixel_limit(),
        ):
            # Warnings about metadata and large images.
            warnings.filterwarnings("ignore", module=r"PIL\.")
            # The results have it, with the name of the file.
            warnings.filterwarnings("ignore", category=PixelRangeWarning)
            warnings.filterwarnings("always", category=MemoryWarning)
            warnings.showwarning = lambda message, *_, **__: progress.print_warning(
                _compilation.describe_warning(str(message))
            )
            try:
                for job, outcome in outcomes:
                    report(job, outcome)
            except (KeyboardInterrupt, SystemExit) as interruption:
                # Gives what is finished by then, and raises the interruption again.
                report(*outcomes.throw(interruption))
                for job, outcome in outcomes:
                    report(job, outcome)
    finally:
        if len(jobs) > 1 or progress.is_shown:
            print_line(
                f"{len(results)} of {format_count(len(jobs), 'image')} restored in "
                f"{progress.summarize()}"
            )
        _print_left_out(left_out, len(results))
        if len(results) > 1 and arguments.reference:
            print_line(f"mean{_format_scores(results)}")
        _print_others(others)
        for result in results:
            if result.warning:
                progress.print_warning(result.warning)
    if failures:
        _fail(failures, len(jobs), len(jobs) - len(results) - len(failures))


@contextlib.contextmanager
def _lift_pixel_limit() -> Iterator[None]:
    """Lifts Pillow's limit of pixels: phones take photos beyond it. ``limits`` checks memory."""
    from PIL import Image

    before, Image.MAX_IMAGE_PIXELS = Image.MAX_IMAGE_PIXELS, None
    try:
        yield
    finally:
        Image.MAX_IMAGE_PIXELS = before


def _print_others(others: Sequence[pathlib.Path]) -> None:
    """Tells which files of the inputs were skipped."""
    from lcdnet_jax.inference import plan

    if others:
        count = format_count(len(others), "file")
        print_line(f"{count} of other kinds skipped: {plan.describe_kinds(others)}")
    if missing := plan.describe_missing_package(others):
        print_line(f"to read {missing}")


def _plan_jobs(
    arguments: argparse.Namespace, others: list[pathlib.Path], is_joined: bool
) -> list[Job]:
    """The images to restore, without those that an earlier run has restored."""
    from lcdnet_jax import image_io
    from lcdnet_jax.inference import plan

    if arguments.output is None and arguments.force:
        raise ValueError(
            "--force replaces files, and without -o no file is replaced; name the result with -o"
        )

    def plan_all() -> list[Job]:
        return plan.plan_jobs(
            arguments.inputs,
            arguments.output,
            stdin_paths=_read_paths(),
            reference=arguments.reference,
            others=others,
        )

    index, count = arguments.shard or (0, 1)
    if is_joined:
        import jax

        index, count = jax.process_index(), jax.process_count()
        jobs = _agree_on_jobs(plan_all)
    else:
        jobs = plan_all()
    if count > 1:
        share = plan.select_share(jobs, index, count)
        print_line(f"share {index} of {count}: {len(share)} of {format_count(len(jobs), 'image')}")
        jobs = share
    if developed := [job for job in jobs if job.source.suffix.lower() in image_io.RAW_SUFFIXES]:
        names = f"{developed[0].source.name} -> {developed[0].target.name}"
        print_line(f"raw files are developed and written in another format: {names}")
    if renamed := [job for job in developed if job.target.stem == job.source.name]:
        names = f"{renamed[0].source.name} -> {renamed[0].target.name}"
        print_line(f"raw files beside an image of the same name keep their suffix: {names}")
    if arguments.skip_existing:
        if arguments.force:
            raise ValueError("--force replaces what --skip-existing keeps; give one of them")
        left = plan.skip_existing(jobs)
        if len(left) < len(jobs):
            print_line(
                f"{len(jobs) - len(left)} of {format_count(len(jobs), 'image')} skipped: their "
                "results exist"
            )
        jobs = left
    if arguments.output is None:
        _check_results_are_new(jobs)
    return jobs


def _check_results_are_new(jobs: Sequence[Job]) -> None:
    """Raises ValueError if a file exists that only --force with -o would replace."""
    for job in jobs:
        if os.path.lexists(job.target):
            raise ValueError(
                f"{job.target} exists; name another result with -o, or keep it with "
                "--skip-existing, or replace it with -o and --force"
            )


def _join_processes(arguments: argparse.Namespace) -> bool:
    """Joins the processes on other hosts; returns False for a process alone."""
    from lcdnet_jax import multihost

    if arguments.shard is not None:
        options = (arguments.coordinator, arguments.processes, arguments.process_index)
        if arguments.distributed == "on" or options != (None, None, None):
            raise ValueError(
                "--shard is for processes that are started independently; leave it out, or the "
                "options that join processes"
            )
        return False
    joined = multihost.initialize(
        mode=arguments.distributed,
        coordinator=arguments.coordinator,
        processes=arguments.processes,
        index=arguments.process_index,
    )
    if joined:
        print_line(joined)
    return joined is not None


def _agree_on_jobs(plan_all: Callable[[], list[Job]]) -> list[Job]:
    """The jobs of process 0, so that each is in one share whatever the other processes see."""
    from lcdnet_jax import image_io, multihost, storage
    from lcdnet_jax.inference.plan import Job

    def list_paths() -> list[list[str]]:
        jobs = [(job.source, job.target, job.reference) for job in plan_all()]
        return [[str(path) for path in paths if path is not None] for paths in jobs]

    errors = (ValueError, image_io.ImageError, storage.StorageError, storage.UnreachableError)
    found = multihost.run_on_first_process(list_paths, *errors)
    return [Job(*map(storage.to_path, paths)) for paths in found]


def _create_restorer(arguments: argparse.Namespace) -> Restorer:
    """Loads the network of --checkpoint."""
    from lcdnet_jax.inference import batch
    from lcdnet_jax.inference.options import OptionError

    options = ("tile", "overlap", "tile_batch", "ensemble", "strength", "local_pool", "dtype")
    try:
        return batch.create_restorer(
            arguments.checkpoint,
            on_network=_compilation.set_network_options,
            **{option: getattr(arguments, option) for option in (*options, "device")},
        )
    except OptionError as error:
        raise error.with_flags("-") from error


def _read_paths() -> Iterator[str]:
    for line in sys.stdin.buffer if sys.stdin else ():
        yield os.fsdecode(line)


def _format_scores(results: Sequence[Result]) -> str:
    """Formats the means of the scores of results; empty without scores."""
    psnr = [result.psnr for result in results if result.psnr is not None]
    if not psnr:
        return ""
    from lcdnet_jax.evaluation import mean

    ssim = mean(result.ssim for result in results if result.ssim is not None)
    shown = "" if math.isnan(ssim) else f"  SSIM {ssim:.4f}"
    return f"  PSNR {mean(psnr):.2f} dB{shown}"


def _print_left_out(left_out: Mapping[str, Sequence[pathlib.Path]], count: int) -> None:
    """Says which metadata and bits of the images the results lack, and of which images."""

    def describe(name: str, images: Sequence[pathlib.Path]) -> str:
        if count == 1:
            return name
        share = escape_line(str(images[0])) if len(images) == 1 else f"{len(images)} of {count}"
        return f"{name} ({share})"

    if left_out:
        listed = ", ".join(describe(name, images) for name, images in sorted(left_out.items()))
        print_line(f"left out: {listed}")


def _fail(failures: Sequence[str], count: int, left: int) -> NoReturn:
    if count == 1:
        sys.exit(f"error: {failures[0]}")
    rest = f", {left} not tried" if left else ""
    lines = [f"error: {len(failures)} of {format_count(count, 'image')} failed{rest}:", *failures]
    sys.exit("\n  ".join(lines))
