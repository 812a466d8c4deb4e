"""Command that checks a data set as published, and prepares it for training as shards.

    python -m input_pipeline.prepare gopro /data/GOPRO_Large
    python -m input_pipeline.prepare gopro /data/GOPRO_Large /data/gopro-shards
    python -m input_pipeline.prepare dpdd /data/dd_dp_dataset_canon gs://BUCKET/dpdd-shards

The first command checks the folders and the header of every image, compares the number of pairs
with the published one, names all that is wrong, and says where the data set can be obtained. With
OUT one split is written as shards, from which training reads the same batches as from the files:

    --config.data.train.source=shards --config.data.train.path=OUT

SOURCE is a value of ``config.data.train.source``. OUT appears when it is complete. After an
interruption the same command starts again.
"""

import argparse
import contextlib
import pathlib
import re
import shlex
import signal
import sys
import time
from collections.abc import Iterator, Sequence
from types import FrameType
from typing import NoReturn

from input_pipeline.examples import Source
from input_pipeline.shards import INDEX, KIND
from input_pipeline.sources import open_source
from lcdnet_jax import atomic_io, storage
from lcdnet_jax.data_sets import DATA_SETS, SOURCES, DataSet
from lcdnet_jax.image_io import BucketError
from lcdnet_jax.messages import describe_system_error, escape, format_count, format_duration

TILE = 128

# Seconds between two lines of progress.
_SECONDS = 5.0


def check(
    row: DataSet, path: str, *, split: str = "train", feature: str = "image"
) -> tuple[dict[str, Source], list[str]]:
    """Reads the headers of a data set, and compares its numbers of images with the published ones.

    Args:
        row: The data set.
        path: Its folder, or its name for TFDS.
        split: The split, for a data set of which ``row`` lists none.
        feature: As ``config.data.train.feature``.

    Returns:
        The source of each split that can be opened, and all that is wrong.

    Raises:
        StorageError: A bucket cannot be used.
        BucketError: A bucket does not answer.
    """
    if row.is_folder and not storage.is_dir(storage.to_path(path).expanduser()):
        return {}, [f"{path} is no folder"]
    found: dict[str, Source] = {}
    problems: list[str] = []
    for name in [name for name in row.splits if name not in row.groups] or [split]:
        spec = {"source": row.name, "path": path, "split": name, "feature": feature}
        place = f"{name}: " if row.splits else ""
        try:
            source = open_source(spec, field="PATH")
        except BucketError:
            raise
        except ValueError as error:
            text = str(error).removeprefix("PATH.path: ").removeprefix("PATH: ")
            problems.append(f"{place}{text}")
            continue
        found[name] = source
        if source.published not in (None, len(source.examples)):
            problems.append(f"{place}{source.describe_count()}")
    return found, problems


def write(source: Source, out: str, *, name: str, split: str, tile: int, force: bool) -> str:
    """Writes shards of a source, and prints the progress.

    Args:
        source: The examples.
        out: A folder that does not exist, or is empty; a local path or the URL of a bucket.
        name: Name of the data set.
        split: Name of the split.
        tile: Side of a tile, pixels.
        force: Whether earlier shards are replaced.

    Returns:
        What was written, in words.

    Raises:
        ImageError: Images cannot be decoded. All of them are named.
        TargetError: ``out`` is not empty; with ``force``, if it is no earlier result.
        OSError: It cannot be written. Nothing that looks complete is left.
    """
    from input_pipeline.shard_writer import ShardWriter  # imports TensorFlow

    path = storage.to_path(out)
    force = _check_out(path, force=force)
    progress = _Progress(len(source.examples), "pair" if source.is_paired else "image")
    with atomic_io.replace_directory(path, KIND, force=force) as made:
        count = ShardWriter(source, tile=tile).write(
            made, name=name, split=split, report=progress.advance
        )
        described = f"{progress.describe()} in {format_count(count, 'shard')}"
        if storage.is_bucket(path):
            print(f"{described}; uploading to {path} ...", flush=True)
    return described


def _check_out(path: pathlib.Path, *, force: bool) -> bool:
    """Raises as ``write`` if OUT cannot be written; returns whether its content is replaced."""
    # What an interruption has left in a bucket is replaced. On a disk it lies beside OUT.
    force |= storage.is_bucket(path) and not storage.exists(path / INDEX)
    atomic_io.check_directory(path, KIND, force=force)
    return force


class _Progress:
    """Prints a line at the first example and then every few seconds."""

    def __init__(self, count: int, kind: str):
        self._count, self._kind = count, kind
        self._done, self._bytes = 0, 0
        self._start = time.perf_counter()
        self._next = 0.0

    def advance(self, size: int) -> None:
        self._done += 1
        self._bytes += size
        seconds = time.perf_counter() - self._start
        if seconds >= self._next and self._done < self._count:
            left = format_duration(seconds / self._done * (self._count - self._done))
            time_left = f", {left} left" if self._next else ""  # unknown after the first example
            print(f"{self._done} of {self.describe()}{time_left}", flush=True)
            self._next = seconds + _SECONDS

    def describe(self) -> str:
        return f"{format_count(self._count, self._kind)}, {self._bytes / 1e6:.1f} MB"


def main(arguments: Sequence[str] | None = None) -> None:
    """Checks one data set, and writes shards of it if OUT is given."""
    parser = argparse.ArgumentParser(
        prog="python -m input_pipeline.prepare",
        description="Checks a data set as published, and writes it as shards for training.",
    )
    sources = [name for name in SOURCES if name not in ("shards", "photos")]
    parser.add_argument("source", choices=sources, metavar="SOURCE", help=", ".join(sources))
    parser.add_argument("path", metavar="PATH", help="its folder; for tfds its name")
    parser.add_argument("out", metavar="OUT", nargs="?", help="new folder; without it, only check")
    parser.add_argument("--split", help="the split to write; by default train")
    parser.add_argument("--feature", default="image", help="as config.data.train.feature")
    parser.add_argument(
        "--tile", type=int, default=TILE, help="side of a tile; default %(default)s"
    )
    parser.add_argument(
        "--incomplete", action="store_true", help="write what is there, although images are missing"
    )
    parser.add_argument("--force", action="store_true", help="replace earlier shards in OUT")
    options = parser.parse_args(arguments)
    for name in ("path", "out", "split"):
        if getattr(options, name) == "":
            parser.error(f"{name.upper()} is empty")
    if options.tile < 16:
        parser.error(f"--tile is {options.tile}; use at least 16")
    with _exit_by_exception():
        try:
            _run(options)
        except KeyboardInterrupt:
            print("interrupted; OUT was not written", file=sys.stderr)
            sys.exit(128 + signal.SIGINT)
        except (ValueError, OSError) as error:
            text = describe_system_error(error) if isinstance(error, OSError) else str(error)
            sys.exit(f"error: {escape(text)}")


def _run(options: argparse.Namespace) -> None:
    row = DATA_SETS[options.source]
    split = options.split or "train"
    if row.splits and split not in row.splits:
        raise ValueError(f"--split is {split}; {row.name} has the splits {', '.join(row.splits)}")
    if options.split and not row.splits and row.name != "tfds":
        raise ValueError(f"--split is {split}, but {row.name} has no splits; leave it out")
    if options.out is not None:  # in the first second
        out = storage.to_path(options.out)
        storage.check_bucket(out, write=True)
        _check_out(out, force=options.force)
        parts = (storage.resolve(storage.to_path(text)) for text in (options.out, options.path))
        if row.is_folder and _is_inside(*parts):
            raise ValueError(
                f"{options.out} lies in {options.path}, where the next check would take the shards "
                f"for a part of {row.name}; choose a folder outside"
            )
    found, problems = check(row, options.path, split=split, feature=options.feature)
    for source in found.values():
        print(escape(source.describe()))
    for problem in problems:
        print(f"wrong: {escape(problem)}")
    if problems and not (options.incomplete and options.out):
        text = f"{options.path} cannot be used as it is (see above)"
        if row.obtain:
            text = f"{row.name} is not as published; it can be obtained from {row.obtain}"
        further = "; --incomplete writes what is there" if options.out and found else ""
        raise ValueError(f"{text}{further}")
    if options.out is None:
        return
    if split in row.groups and set(row.groups[split]) <= set(found):
        spec = {"source": row.name, "path": options.path, "split": split}
        found[split] = open_source(spec, field="PATH")
    if split not in found:
        raise ValueError(
            f"the split {split} cannot be written; repair or remove what is named above"
            + (f", or obtain {row.name} from {row.obtain}" if row.obtain else "")
        )
    source = found[split]
    # TFDS knows a file by its name, in which a split such as "train[:10%]" would not be found.
    name_of_split = re.sub(r"\W+", "_", split)
    described = write(
        source,
        options.out,
        name=row.name,
        split=name_of_split,
        tile=options.tile,
        force=options.force,
    )
    pairs = " --config.degradation.kind=none" if source.is_paired else ""
    given = shlex.quote(f"--config.data.train.path={options.out}")
    print(escape(f"{described} in {options.out}. To train on them:"))
    print(escape(f"  --config.data.train.source=shards {given}{pairs}"))


def _is_inside(path: pathlib.Path, folder: pathlib.Path) -> bool:
    return f"{path}/".startswith(f"{folder}/")


@contextlib.contextmanager
def _exit_by_exception() -> Iterator[None]:
    """Ends the process by an exception after SIGTERM, so that partial files are removed."""

    def leave(number: int, frame: FrameType | None) -> NoReturn:
        sys.exit(128 + number)

    before = signal.signal(signal.SIGTERM, leave)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, signal.SIG_DFL if before is None else before)


if __name__ == "__main__":
    main()
