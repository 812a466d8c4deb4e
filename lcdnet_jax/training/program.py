"""The compiled program. A call makes one or more steps, on batches from the host or device."""

import contextlib
import itertools
from collections.abc import Iterable, Iterator, Mapping
from typing import Protocol, TypedDict, runtime_checkable

import jax
import numpy as np
import optax
from jax import Array
from ml_collections import ConfigDict

from lcdnet_jax import config as config_lib
from lcdnet_jax import resident_images
from lcdnet_jax.evaluation.evaluator import Example
from lcdnet_jax.networks import RestorationNetwork
from lcdnet_jax.resident_images import ResidentImages
from lcdnet_jax.training.sharding import Partitioner, Program
from lcdnet_jax.training.state import TrainState
from lcdnet_jax.training.step import make_train_step
from lcdnet_jax.typing import Batch, Metrics, PyTree


@runtime_checkable
class HostData(Protocol):
    """Training data for ``config.data.where`` "host". Each batch is a pure function of its step."""

    def batches(
        self, start_step: int = 0, *, process_index: int = 0, process_count: int = 1
    ) -> Iterator[Mapping[str, np.ndarray]]:
        """Yields this host's slice of each batch from ``start_step`` on, without end.

        A batch holds "clean" ``[b, H, W, C]`` float32 in [0, 1], "mask" ``[b]`` and, unless the
        device degrades, "degraded". If the host masks frequencies before the device adds noise,
        "to_degrade" holds the masked images. With the target "masked" they are "clean" instead.

        An iterator that is :class:`Closeable` is closed after the last batch.
        """


@runtime_checkable
class DeviceData(Protocol):
    """Training data for ``config.data.where`` "device".

    Attributes:
        resident: Images as NumPy arrays, which are copied to every device.
    """

    resident: ResidentImages


class TrainingDatasets(TypedDict):
    """The data of a replay.

    Attributes:
        train: Training data, a :class:`DeviceData` with ``config.data.where`` "device".
    """

    train: HostData | DeviceData


class Datasets(TrainingDatasets):
    """The data of a run.

    Attributes:
        eval: Evaluation images, mappings with "name", "clean" and, for pairs, "degraded".
    """

    eval: Iterable[Example]


@runtime_checkable
class Describable(Protocol):
    """Data of a split that describes itself. Other data has no line in the log."""

    def describe(self) -> str:
        """Describes the data in one line."""


@runtime_checkable
class CountsReplacements(Protocol):
    """Training data that replaces damaged images. Other data has none to report.

    Attributes:
        replaced: Number of examples so far that replace one of a damaged image.
    """

    replaced: int


@runtime_checkable
class Closeable(Protocol):
    """An iterator that holds threads or files until it is closed, such as a generator."""

    def close(self) -> None:
        """Stops threads and closes files."""


def compile_program(
    module: RestorationNetwork,
    tx: optax.GradientTransformation,
    config: ConfigDict,
    partitioner: Partitioner,
    state: TrainState,
    *,
    stage: config_lib.Stage | None = None,
) -> Program:
    """Makes the program of ``config.steps_per_call`` steps.

    Its first call compiles it.

    Args:
        module: The network.
        tx: The optimizer.
        config: The experiment.
        partitioner: Placement on devices.
        state: The state or its shapes.
        stage: The stage of ``config.stages`` in which the steps are. None for the first.

    Returns:
        A function of a state and an input of :func:`open_inputs`, which returns a state and
        metrics. It donates the state, which must not be used afterwards. Metrics are scalars for
        one step, and arrays with one value per step for several.
    """
    stage = stage or config_lib.list_stages(config)[0]
    config = config_lib.with_stage(config, stage)
    on_device = config.data.where == "device"
    train_step = make_train_step(module, tx, config, axis_name=partitioner.axis_name)

    def step(state: TrainState, batch: Batch) -> tuple[TrainState, Metrics]:
        state, metrics = train_step(state.map_weights(partitioner.gather), batch)
        return partitioner.shard_state(state), metrics

    def step_on_resident(state: TrainState, images: ResidentImages) -> tuple[TrainState, Metrics]:
        return step(state, draw_batch(images, state.step, config, partitioner, stage=stage))

    def program(state: TrainState, inputs: PyTree) -> tuple[TrainState, Metrics]:
        if config.steps_per_call == 1:
            return step_on_resident(state, inputs) if on_device else step(state, inputs)
        if on_device:
            return jax.lax.scan(
                lambda state, _: step_on_resident(state, inputs),
                state,
                length=config.steps_per_call,
            )
        return jax.lax.scan(step, state, inputs)

    return partitioner.compile(program, state, shared=on_device)


def draw_batch(
    images: ResidentImages,
    step: Array,
    config: ConfigDict,
    partitioner: Partitioner,
    *,
    stage: config_lib.Stage,
) -> Batch:
    """Draws the batch of a step, or a device's part of it under ``pmap``, on the device."""
    axis_name, count = partitioner.axis_name, stage.batch_size
    # Examples are counted as if all steps before had the batch of this stage; this corrects it.
    first: Array | int = stage.first_example - stage.first_step * stage.batch_size
    if axis_name is not None:
        count //= partitioner.device_count
        first += jax.lax.axis_index(axis_name) * count
    batch = resident_images.draw(
        images,
        step,
        seed=config.seed,
        crop=stage.crop,
        augment=config.data.augment,
        batch_size=stage.batch_size,
        first=first,
        count=count,
    )
    return partitioner.shard_batch(batch)


@contextlib.contextmanager
def open_inputs(
    config: ConfigDict, partitioner: Partitioner, data: HostData | DeviceData, start_step: int
) -> Iterator[Iterator[PyTree]]:
    """Yields the program's inputs for the calls after ``start_step`` steps, on the devices.

    With ``config.data.where`` "device" every input is the same
    :class:`~lcdnet_jax.resident_images.ResidentImages`. Otherwise it holds
    the next ``config.steps_per_call`` batches.
    """
    if config.data.where == "device":
        assert isinstance(data, DeviceData)
        images = partitioner.replicate(data.resident)
        yield iter(lambda: images, None)
        return
    assert isinstance(data, HostData)
    batches = data.batches(
        start_step, process_index=jax.process_index(), process_count=jax.process_count()
    )
    try:
        calls = iter(lambda: list(itertools.islice(batches, config.steps_per_call)), [])
        yield map(partitioner.put_batches, calls)
    finally:
        if isinstance(batches, Closeable):
            batches.close()
