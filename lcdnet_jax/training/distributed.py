"""Joining the processes of a run on several hosts, from flags or from the environment."""

import os
from collections.abc import Mapping

import jax


class DistributedError(RuntimeError):
    """The processes of a run could not find each other; the message names the fix."""


def initialize(
    *,
    mode: str = "auto",
    coordinator: str | None = None,
    processes: int | None = None,
    index: int | None = None,
    timeout: int = 300,
) -> str | None:
    """Makes this process one of a run, before anything else of JAX is used.

    Args:
        mode: "auto" joins where the arguments below are given or the environment shows a launcher
            of several processes (see :func:`launcher`); "on" always joins, leaving to JAX to find
            out about TPU pods and others; "off" never.
        coordinator: ``host:port`` of process 0, where no launcher says it.
        processes: Number of processes.
        index: Number of this process, from 0.
        timeout: Seconds to wait for the others.

    Returns:
        What was joined, in words, or None for a run of one process.

    Raises:
        DistributedError: If the arguments are incomplete, no launcher is found with mode "on", or
            the others do not come.
    """
    given = {"--coordinator": coordinator, "--processes": processes, "--process_index": index}
    missing = [name for name, value in given.items() if value is None]
    if 0 < len(missing) < len(given):
        raise DistributedError(
            "a run on several hosts needs --coordinator, --processes and --process_index "
            f"together; missing: {', '.join(missing)}"
        )
    found = "flags" if not missing else launcher(os.environ)
    if mode == "off" or (mode == "auto" and found is None):
        return None
    # JAX's own way of noticing SIGTERM, which would swallow those before the first step.
    jax.config.update("jax_enable_preemption_service", False)
    try:
        jax.distributed.initialize(coordinator, processes, index, initialization_timeout=timeout)
    except Exception as error:  # of several kinds, by cause
        raise DistributedError(
            f"cannot join the other processes ({found or 'no launcher found'}): {error}\nCheck "
            "that all of them were started, with the same coordinator address and a port that is "
            "free there and reachable from all hosts. --coordinator, --processes and "
            "--process_index need no launcher; --distributed=off trains on this host alone"
        ) from error
    return (
        f"process {jax.process_index()} of {jax.process_count()} (found by {found or 'JAX'}), "
        f"{jax.local_device_count()} of {jax.device_count()} devices here"
    )


def launcher(environment: Mapping[str, str]) -> str | None:
    """What has started several processes of this program, as the environment shows it.

    Tasks of SLURM's ``srun`` and of Open MPI's ``mpirun``, and TPU workers under GKE. A TPU pod
    slice elsewhere, and GPUs under Kubernetes, leave no trace in the environment that would be
    sure; there ``mode`` must be "on".
    """
    if _number(environment, "SLURM_STEP_NUM_TASKS") > 1:
        return "SLURM"
    if _number(environment, "OMPI_COMM_WORLD_SIZE") > 1:
        return "Open MPI"
    if "," in environment.get("TPU_WORKER_HOSTNAMES", ""):
        return "GKE"
    return None


def _number(environment: Mapping[str, str], name: str) -> int:
    value = environment.get(name, "")
    return int(value) if value.isdigit() else 0
