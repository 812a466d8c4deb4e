"""Stages of progressive training: the crop and the batch by step (``config.stages``)."""

from typing import NamedTuple

from ml_collections import ConfigDict


class Stage(NamedTuple):
    """One stage of a training run.

    Attributes:
        first_step: Number of steps before the stage.
        first_example: Number of images before the stage.
        crop: ``data.crop`` in the stage.
        batch_size: ``batch_size`` in the stage.
    """

    first_step: int
    first_example: int
    crop: int
    batch_size: int


def list_stages(config: ConfigDict) -> tuple[Stage, ...]:
    """Lists the stages of a run.

    Args:
        config: The experiment.

    Returns:
        The stages in order, at least one. Without ``config.stages`` there is one, with
        ``config.data.crop`` and ``config.batch_size``.
    """
    stages = config.stages
    if not stages.steps:
        return (Stage(0, 0, config.data.crop, config.batch_size),)
    found, step, example = [], 0, 0
    for steps, crop, batch_size in zip(stages.steps, stages.crops, stages.batch_sizes, strict=True):
        found.append(Stage(step, example, crop, batch_size))
        step, example = step + steps, example + steps * batch_size
    return tuple(found)


def stage_at(config: ConfigDict, step: int) -> Stage:
    """Finds the stage of a step.

    Args:
        config: The experiment.
        step: Number of steps that were made before, at least 0.

    Returns:
        The stage. The last one has no end.
    """
    return [stage for stage in list_stages(config) if stage.first_step <= step][-1]


def count_images(config: ConfigDict, steps: int) -> int:
    """Counts the images of the first steps of a run, over all devices and hosts.

    Args:
        config: The experiment.
        steps: Number of steps.

    Returns:
        The number of images.
    """
    stage = stage_at(config, steps)
    return stage.first_example + (steps - stage.first_step) * stage.batch_size


def with_stage(config: ConfigDict, stage: Stage) -> ConfigDict:
    """Copies a configuration with the crop and the batch of a stage.

    Args:
        config: The experiment.
        stage: One of its stages.

    Returns:
        A copy with this stage alone.
    """
    copied = config.copy_and_resolve_references()
    copied.data.crop, copied.batch_size = stage.crop, stage.batch_size
    copied.stages = ConfigDict({"steps": (), "crops": (), "batch_sizes": ()})
    return copied
