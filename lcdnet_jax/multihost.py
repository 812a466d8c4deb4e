"""Runs with several processes: how the processes find each other and how they agree.

With one process, nothing is communicated. Processes that take different decisions wait for each
other forever. Therefore process 0 takes every decision that depends on a disk, and all processes
must call the functions below in the same order.
"""

import json
import os
from collections.abc import Callable, Mapping
from typing import Protocol, TypeVar, runtime_checkable

import jax
import numpy as np

from lcdnet_jax import peer_loss
from lcdnet_jax.typing import Json, JsonObject

T = TypeVar("T")


class DistributedError(RuntimeError):
    """The processes of a run could not find each other; the message names the fix."""


def initialize(
    *,
    mode: str = "auto",
    coordinator: str | None = None,
    processes: int | None = None,
    index: int | None = None,
    timeout: int = 300,
    peer_timeout: int = 60,
) -> str | None:
    """Joins this process to a run. Must be called before anything else of JAX is used.

    Args:
        mode: "auto" joins if the arguments below are given, or if the environment shows a launcher
            of several processes (see :func:`find_launcher`). "on" always joins; JAX itself then
            detects TPU pods and other launchers. "off" never joins.
        coordinator: ``host:port`` of process 0, if no launcher sets it.
        processes: Number of processes, at least 1, if no launcher sets it.
        index: Index of this process, from 0 to ``processes - 1``, if no launcher sets it.
        timeout: Seconds to wait for the other processes.
        peer_timeout: Seconds without signs of life after which another process counts as lost. This
            one then ends, see :mod:`lcdnet_jax.peer_loss`.

    Returns:
        A description of this process and its devices, or None for a run of one process.

    Raises:
        DistributedError: If the arguments are incomplete, if no launcher is found with mode "on",
            or if the other processes do not join in time.
    """
    given = {"--coordinator": coordinator, "--processes": processes, "--process_index": index}
    missing = [name for name, value in given.items() if value is None]
    if 0 < len(missing) < len(given):
        raise DistributedError(
            "a run on several hosts needs --coordinator, --processes and --process_index "
            f"together; missing: {', '.join(missing)}"
        )
    found = "flags" if not missing else find_launcher(os.environ)
    if mode == "off" or (mode == "auto" and found is None):
        return None
    # JAX's own handler of SIGTERM would ignore a signal that arrives before the first step.
    jax.config.update("jax_enable_preemption_service", False)
    try:
        with peer_loss.watch(peer_timeout):
            jax.distributed.initialize(
                coordinator,
                processes,
                index,
                initialization_timeout=timeout,
                heartbeat_timeout_seconds=peer_timeout,
            )
    except Exception as error:  # its type depends on the cause
        raise DistributedError(
            f"cannot join the other processes ({found or 'no launcher found'}): {error}\nCheck "
            "that all of them were started, with the same coordinator address and a port that is "
            "free there and reachable from all hosts. --coordinator, --processes and "
            "--process_index need no launcher; --distributed=off uses this host alone"
        ) from error
    return (
        f"process {jax.process_index()} of {jax.process_count()} (found by {found or 'JAX'}), "
        f"{jax.local_device_count()} of {jax.device_count()} devices here"
    )


def leave() -> None:
    """Ends the contact between the processes, which then run independently.

    None waits for another any longer, or fails with it. All processes must call this function, and
    none of the functions below after it. :func:`jax.process_index` stays.
    """
    jax.local_devices()  # their start needs the contact
    jax.distributed.shutdown()


def find_launcher(environment: Mapping[str, str]) -> str | None:
    """Finds the launcher that started several processes of this program.

    The environment shows tasks of SLURM's ``srun`` and Open MPI's ``mpirun``, and TPU workers
    under GKE. It does not reliably show other TPU pod slices, or GPUs under Kubernetes. For those,
    ``mode`` must be "on".

    Args:
        environment: The environment variables, such as ``os.environ``.

    Returns:
        The name of the launcher, or None if there is none.
    """
    if _read_count(environment, "SLURM_STEP_NUM_TASKS") > 1:
        return "SLURM"
    if _read_count(environment, "OMPI_COMM_WORLD_SIZE") > 1:
        return "Open MPI"
    if "," in environment.get("TPU_WORKER_HOSTNAMES", ""):
        return "GKE"
    return None


def _read_count(environment: Mapping[str, str], name: str) -> int:
    value = environment.get(name, "")
    return int(value) if value.isdigit() else 0


def wait_for_all() -> None:
    """Waits until all processes are here.

    On CPUs the first exchange of arrays between a group of devices fails if a process comes to it
    more than 30 seconds after another. What takes them unequal times, such as reading images or
    compiling, must therefore end here, before that exchange. The first call of this function is
    such an exchange itself; later ones wait as long as it takes.
    """
    all_succeeded(True)


@runtime_checkable
class HasProblem(Protocol):
    """An exception that adds to the text from which it is built.

    Attributes:
        problem: That text.
    """

    problem: str


def _get_text(error: Exception) -> str:
    return error.problem if isinstance(error, HasProblem) else str(error)


def run_on_first_process(action: Callable[[], T], *errors: type[Exception]) -> T:
    """Calls an action in process 0. Every process returns its result or raises its exception.

    Args:
        action: A function without arguments. Its result must be JSON.
        *errors: Exception types that are raised with their own type. Each is built from one text:
            the attribute ``problem`` of a :class:`HasProblem`, or else its message.

    Returns:
        The result of the action in process 0.

    Raises:
        RuntimeError: For exceptions of other types, if there are several processes. One process
            raises them unchanged.
    """
    if jax.process_count() == 1:
        return action()
    from jax.experimental import multihost_utils

    outcome: JsonObject = {}
    if jax.process_index() == 0:
        try:
            outcome = {"result": action()}
        except Exception as error:  # of any type: the other processes must not wait
            known = type(error) in errors
            text = _get_text(error) if known else repr(error)
            outcome = {"error": type(error).__name__, "text": text}
    encoded = np.frombuffer(json.dumps(outcome).encode(), np.uint8)
    size = int(multihost_utils.broadcast_one_to_all(np.int32(encoded.size)))
    received = multihost_utils.broadcast_one_to_all(np.resize(encoded, size))
    outcome = json.loads(received.tobytes())
    if "error" in outcome:
        kinds = {kind.__name__: kind for kind in errors}
        raise kinds.get(outcome["error"], RuntimeError)(outcome["text"])
    return outcome["result"]


def gather(value: Json) -> list[Json]:
    """Collects a value from each process. Each process waits here for all others.

    Args:
        value: The value of this process, which must be JSON. It may hold NaN and infinity.

    Returns:
        The values in the order of the processes, in every process.
    """
    if jax.process_count() == 1:
        return [value]
    from jax.experimental import multihost_utils

    encoded = np.frombuffer(json.dumps(value).encode(), np.uint8)
    sizes = multihost_utils.process_allgather(np.int32(encoded.size))
    rows = multihost_utils.process_allgather(np.resize(encoded, sizes.max()))
    return [json.loads(row[:size].tobytes()) for row, size in zip(rows, sizes, strict=True)]


def all_succeeded(here: bool) -> bool:
    """Tells whether all processes succeeded. Each process waits here for all others.

    Args:
        here: Whether this process succeeded.

    Returns:
        True if all processes passed True.
    """
    if jax.process_count() == 1:
        return here
    from jax.experimental import multihost_utils

    return bool(multihost_utils.process_allgather(np.asarray(here)).all())


class DeviceError(ValueError):
    """JAX finds no device; the message names the cause and the fix."""


def check_devices() -> None:
    """Starts JAX's devices, if that has not happened yet.

    Raises:
        DeviceError: If JAX cannot use the platforms that ``JAX_PLATFORMS`` names, or none.
    """
    try:
        jax.local_devices()
    except (AssertionError, RuntimeError) as error:  # JAX asserts where a plugin is missing
        asked = os.environ.get("JAX_PLATFORMS", "")
        reason = " ".join(str(error).split()) or "it finds no such device"
        raise DeviceError(
            f"JAX cannot compute with JAX_PLATFORMS={asked!r} ({reason}); unset JAX_PLATFORMS to "
            "use the devices of this machine, or install their driver and JAX's plugin, such as "
            "lcdnet-jax[cuda]"
        ) from error
