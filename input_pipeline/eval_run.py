"""Evaluation of a checkpoint on data sets: what ``eval.py`` runs."""

import functools
import pathlib
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import jax
from ml_collections import ConfigDict

from input_pipeline.eval_images import open_for_network, parse_sources, split_groups
from input_pipeline.layouts import dnd
from lcdnet_jax import atomic_io, evaluation, multihost, protocols, storage
from lcdnet_jax import weights as weights_lib
from lcdnet_jax.degradations import Step
from lcdnet_jax.evaluation import checkpoint as checkpoint_lib
from lcdnet_jax.evaluation import results, settings
from lcdnet_jax.inference import Restorer
from lcdnet_jax.messages import SlowWorkReporter


@dataclass(frozen=True, kw_only=True)
class Job:
    """The flags of ``eval.py`` about the checkpoint, the data sets and the results.

    Attributes:
        workdir: Working directory of train.py, or None.
        checkpoint: See :func:`lcdnet_jax.evaluation.checkpoint.find_checkpoint`, or None.
        step: Step to load; "best" or None for the newest, see :func:`lcdnet_jax.weights.load`.
        raw: Whether parameters are used without averaging.
        data: Data sets as for :func:`~input_pipeline.eval_images.parse_sources`. Empty: those of
            the configuration.
        split: Split of the data sets that have splits; None for that of the configuration.
        output: Folder of the results; None for ``eval/`` in the checkpoint directory.
        save_images: Whether restored images are written.
        command: The command of this run, for the results.
    """

    workdir: str | None = None
    checkpoint: str | None = None
    step: int | Literal["best"] | None = None
    raw: bool = False
    data: Sequence[str] = ()
    split: str | None = None
    output: str | None = None
    save_images: bool = False
    command: str = ""


def evaluate(
    job: Job,
    request: settings.Request,
    *,
    config: ConfigDict | None,
    defaults: ConfigDict,
    on_network: Callable[[str], None] | None = None,
) -> None:
    """Scores a checkpoint on data sets, prints a table and writes the results.

    The processes of a run on several hosts share the images. Each writes the restored images that
    it has, and process 0 everything else.

    Args:
        job: Checkpoint, data sets and results.
        request: Protocols, noise levels, degradations and modes.
        config: Configuration with the data sets and noise levels; None for that of the training.
        defaults: Configuration with all fields, for those that the checkpoint does not store.
        on_network: See :func:`lcdnet_jax.weights.load`.

    Raises:
        ValueError: If arguments do not fit each other, the checkpoint or the data sets.
        CheckpointError: If the checkpoint cannot be loaded.
        OSError: If results cannot be written.
        DistributedError: If another process cannot begin.
    """
    failure: Exception | None = None
    try:
        opened = _open(job, request, config=config, defaults=defaults, on_network=on_network)
    except multihost.DeviceError:
        raise  # no other process waits: several have checked their devices before
    except Exception as error:
        if jax.process_count() == 1:
            raise
        failure = error  # the other processes must not wait
    if not multihost.all_succeeded(failure is None):
        raise failure or multihost.DistributedError("another process ends, see its output")

    def on_image(case: evaluation.Case, number: int, image: evaluation.ScoredImage) -> None:
        slow_work.end()
        if job.save_images:
            results.save_image(opened.folder, case, number, image)

    slow_work = SlowWorkReporter(_print)
    restorers = {
        mode: restorer.with_progress(
            None,
            on_compile=lambda height, width: slow_work.begin(
                "compiling", f"the network for {width}x{height} pixels"
            ),
        )
        for mode, restorer in opened.restorers.items()
    }
    table = results.Results(
        opened.folder, opened.datasets, weights=opened.weights, command=job.command
    )
    rows = evaluation.sweep(
        opened.datasets,
        restorers,
        degradations=opened.degradations,
        bucket=opened.bucket,
        on_image=on_image,
        distributed=jax.process_count() > 1,
    )
    for row in evaluation.add_means(rows, opened.groups):
        multihost.run_on_first_process(functools.partial(table.add, row), OSError)
    if jax.process_count() > 1:
        multihost.leave()  # none waits for a submission of process 0
    if jax.process_index() != 0:
        return
    table.close()
    for name, benchmark in opened.submissions.items():
        (restorer,) = opened.restorers.values()
        dnd.submit(restorer, benchmark, opened.folder / name)


def _print(line: str) -> None:
    """Prints a line beside the table, on process 0."""
    if jax.process_index() == 0:
        print(line, file=sys.stderr, flush=True)


@dataclass(frozen=True)
class _Opened:
    """What an evaluation needs.

    Attributes:
        folder: Folder of the results.
        weights: Name of the weights in results.
        restorers: Restorers by the name of their mode.
        datasets: Data sets to score, and their settings.
        groups: Names of the data sets of each group, by its name.
        submissions: Copies of DND by the name of their folder.
        degradations: Functions that degrade clean images, by ``Protocol.degradation``.
        bucket: See :class:`Restorer`.
    """

    folder: pathlib.Path
    weights: str
    restorers: Mapping[str, Restorer]
    datasets: Sequence[evaluation.DataSet]
    groups: Mapping[str, Sequence[str]]
    submissions: Mapping[str, dnd.DND]
    degradations: Mapping[str, Step]
    bucket: int


def _open(
    job: Job,
    request: settings.Request,
    *,
    config: ConfigDict | None,
    defaults: ConfigDict,
    on_network: Callable[[str], None] | None,
) -> _Opened:
    """Loads the checkpoint and opens all data sets, before anything is computed."""
    path = checkpoint_lib.find_checkpoint(job.workdir, job.checkpoint)
    folder = _find_folder(path, job.output)
    weights = weights_lib.load(path, ema=not job.raw, step=job.step, on_network=on_network)
    if job.raw and weights.card["averaged"]:
        raise ValueError(f"{path} holds averaged parameters only; leave --raw off")
    training_config = checkpoint_lib.training_config(
        path, weights, defaults, needs_eval_data=not job.data and config is None
    )
    config = training_config if config is None else config
    degradations = settings.choose_degradations(request, training_config)
    restorers = settings.create_restorers(
        request,
        weights.module,
        weights.variables,
        crop=training_config.data.crop,
        bucket=config.eval.bucket,
    )
    storage.make_folder(folder)
    for name in request.protocols:
        protocols.get(name)  # also where only DND is asked for

    # All data sets are opened first: a mistake in the last must not cost the scores of the others.
    sources, groups = split_groups(parse_sources(job.data, config.data.eval, split=job.split))
    benchmarks = {name: source for name, source in sources.items() if source["source"] == "dnd"}
    if benchmarks and len(restorers) > 1:
        raise ValueError("a submission to DND is of one mode; give one as --modes")
    submissions = {name: dnd.DND(source["path"]) for name, source in benchmarks.items()}
    datasets = [
        _open_data_set(
            name,
            source,
            request,
            training_config,
            config,
            degradations,
            field="--data" if job.data else "config.data.eval",
        )
        for name, source in sources.items()
        if name not in benchmarks
    ]

    return _Opened(
        folder,
        weights_lib.format_identity(weights.card),
        restorers,
        datasets,
        groups,
        submissions,
        {one.kind: one.step for one in degradations},
        config.eval.bucket,
    )


def _open_data_set(
    name: str,
    source: ConfigDict,
    request: settings.Request,
    training_config: ConfigDict,
    config: ConfigDict,
    degradations: Sequence[settings.Degradation],
    *,
    field: str,
) -> evaluation.DataSet:
    """Opens a data set, which ``field`` names in messages, and chooses how it is scored."""
    examples = open_for_network(source, training_config, field=field)
    if examples.shows_gray_as_color and jax.process_index() == 0:
        print(f"{name}: gray images; the network is for color, and scores are of 3 channels")
    chosen = settings.choose_settings(
        request,
        source["source"],
        is_paired=examples.source.is_paired,
        training_config=training_config,
        sigmas=config.eval.sigmas,
        degradations=degradations,
    )
    return evaluation.DataSet(name, examples, chosen)


def _find_folder(checkpoint: pathlib.Path, output: str | None) -> pathlib.Path:
    """The folder of the results. Raises ValueError or OSError if they cannot be written there."""
    if not storage.is_dir(checkpoint) and not output:
        raise ValueError("--checkpoint is a file; give --output, a folder for the results")
    folder = storage.to_path(output) if output else checkpoint / "eval"
    _check_folder(folder)
    return folder


def _check_folder(folder: pathlib.Path) -> None:
    """Raises OSError if the results cannot be written, before anything is computed."""
    try:
        atomic_io.check_folder(folder / "results.json")
    except OSError as error:
        cause = error.__cause__
        reason = cause.strerror if isinstance(cause, OSError) and cause.strerror else error
        raise OSError(
            f"cannot write results to {folder}: {reason}; give another folder as --output"
        ) from error
