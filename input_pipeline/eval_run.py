"""Evaluation of a checkpoint on data sets: what ``eval.py`` runs."""

import functools
import pathlib
from collections.abc import Sequence

from ml_collections import ConfigDict

from input_pipeline.eval_images import open_for_network, parse_sources, split_groups
from input_pipeline.layouts import dnd
from lcdnet_jax import atomic_io, evaluation, protocols
from lcdnet_jax import weights as weights_lib
from lcdnet_jax.evaluation import checkpoint as checkpoint_lib
from lcdnet_jax.evaluation import results, settings


def evaluate(
    request: settings.Request,
    *,
    workdir: str | None,
    checkpoint: str | None,
    config: ConfigDict | None,
    defaults: ConfigDict,
    data: Sequence[str],
    output: str | None,
    split: str | None = None,
    step: int | None = None,
    raw: bool = False,
    save_images: bool = False,
) -> None:
    """Scores a checkpoint on data sets, prints a table and writes the results.

    Args:
        request: Protocols, noise levels, degradations and modes.
        workdir: Working directory of train.py, or None.
        checkpoint: See :func:`lcdnet_jax.evaluation.checkpoint.find_checkpoint`, or None.
        config: Configuration with the data sets and noise levels; None for that of the training.
        defaults: Configuration with all fields, for those that the checkpoint does not store.
        data: Data sets as for :func:`~input_pipeline.eval_images.parse_sources`.
        output: Folder of the results; None for ``eval/`` in the checkpoint directory.
        split: Split of the data sets that have splits; None for that of ``config``.
        step: Step to load; None for the newest.
        raw: Whether parameters are used without averaging.
        save_images: Whether restored images are written.

    Raises:
        ValueError: If arguments do not fit each other, the checkpoint or the data sets.
        CheckpointError: If the checkpoint cannot be loaded.
        OSError: If results cannot be written.
    """
    path = checkpoint_lib.find_checkpoint(workdir, checkpoint)
    if not path.is_dir() and not output:
        raise ValueError(f"{path} is a file; give --output, a folder for the results")
    folder = pathlib.Path(output) if output else path / "eval"
    _check_folder(folder)
    weights = weights_lib.load(path, ema=not raw, step=step)
    if raw and weights.card["averaged"]:
        raise ValueError(f"{path} holds averaged parameters only; leave --raw off")
    trained = checkpoint_lib.training_config(
        path, weights, defaults, needs_eval_data=not data and config is None
    )
    config = trained if config is None else config
    degradations = settings.choose_degradations(request, trained)
    restorers = settings.create_restorers(
        request,
        weights.module,
        weights.variables,
        crop=trained.data.crop,
        bucket=config.eval.bucket,
    )
    folder.mkdir(parents=True, exist_ok=True)
    for name in request.protocols:
        protocols.get(name)  # also where only DND is asked for

    # All data sets are opened first: a mistake in the last must not cost the scores of the others.
    datasets, submissions = [], {}
    sources, groups = split_groups(parse_sources(data, config.data.eval, split=split))
    for name, source in sources.items():
        if source["source"] == "dnd":
            if len(restorers) > 1:
                raise ValueError("a submission to DND is of one mode; give one as --modes")
            submissions[name] = dnd.DND(source["path"])
            continue
        examples = open_for_network(source, trained, field="--data")
        if examples.shows_gray_as_color:
            print(f"{name}: gray images; the network is for color, and scores are of 3 channels")
        chosen = settings.choose_settings(
            request,
            source["source"],
            is_paired=examples.source.is_paired,
            trained=trained,
            sigmas=config.eval.sigmas,
            degradations=degradations,
        )
        datasets.append(evaluation.DataSet(name, examples, chosen))

    table = results.Results(folder, datasets, weights=weights_lib.identify(weights.card))
    rows = evaluation.sweep(
        datasets,
        restorers,
        degradations={one.kind: one.step for one in degradations},
        bucket=config.eval.bucket,
        on_image=functools.partial(results.save_image, folder) if save_images else None,
    )
    for row in evaluation.add_means(rows, groups):
        table.add(row)
    table.close()
    for name, benchmark in submissions.items():
        (restorer,) = restorers.values()
        dnd.submit(restorer, benchmark, folder / name)


def _check_folder(folder: pathlib.Path) -> None:
    """Raises OSError if the results cannot be written, before anything is computed."""
    try:
        atomic_io.check_folder(folder / "results.json")
    except OSError as error:
        cause = error.__cause__
        reason = cause.strerror if isinstance(cause, OSError) else error
        raise OSError(
            f"cannot write results to {folder}: {reason}; give another folder as --output"
        ) from error
