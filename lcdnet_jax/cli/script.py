"""What the scripts share: joining other hosts, the cache of compiled programs, how they end."""

import contextlib
import os
import pathlib
import sys
import traceback
from collections.abc import Iterator

import jax
from absl import flags

from lcdnet_jax import messages, multihost, peer_loss, training
from lcdnet_jax.checkpoints import CheckpointError
from lcdnet_jax.cli import _compilation
from lcdnet_jax.cli._compilation import set_network_options as set_network_options

flags.disclaim_key_flags()  # so that --help lists the flags among those of the script

_TRAINING_NEEDS_MEMORY = (
    "the devices' memory is too small; use a smaller config.batch_size (with config.accumulate it "
    "stays the same for the optimizer), config.data.crop, or more devices"
)


@contextlib.contextmanager
def end_in_one_line(
    *, out_of_memory: str = _TRAINING_NEEDS_MEMORY, interrupted: str = "interrupted"
) -> Iterator[None]:
    """Runs the body of a script. Errors that users can fix end it with one line.

    Exit codes are 1 after an error, 75 after the loss of another process, 130 after Ctrl-C and 143
    after SIGTERM.

    Args:
        out_of_memory: What happened and the fix, if the host or a device has no memory left. By
            default that of a training.
        interrupted: The line after Ctrl-C, unless a training has saved its state and says so.

    Yields:
        Nothing.

    Raises:
        SystemExit: After these errors and signals. Other errors are mistakes of this library and
            keep their traceback.
    """
    try:
        with _tell_other_processes(), _raise_system_exit(out_of_memory):
            yield
    except training.Preempted as preempted:
        print(preempted, flush=True)
        sys.exit(preempted.exit_code)
    except KeyboardInterrupt:
        print(interrupted, file=sys.stderr)
        sys.exit(130)


@contextlib.contextmanager
def _raise_system_exit(out_of_memory: str) -> Iterator[None]:
    """Converts errors that users can fix."""
    try:
        yield
    except OSError as error:
        raise SystemExit(
            f"error: {messages.escape(messages.describe_system_error(error))}"
        ) from error
    except (
        ValueError,
        ImportError,
        CheckpointError,
        multihost.DistributedError,
        training.NonFiniteLossError,
    ) as error:
        raise SystemExit(f"error: {messages.escape(str(error))}") from error
    except (MemoryError, jax.errors.JaxRuntimeError) as error:
        if not messages.is_out_of_memory(error):
            raise
        raise SystemExit(f"error: {out_of_memory}") from error


@contextlib.contextmanager
def _tell_other_processes() -> Iterator[None]:
    """Lets no other process of a run wait for one that has failed."""
    try:
        yield
    except (Exception, SystemExit) as error:
        peer_loss.wait_if_lost(error)
        if peer_loss.leave_after_error():
            raise
        if isinstance(error, SystemExit):
            print(error.code, file=sys.stderr)
        else:
            traceback.print_exc()
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(1)


def use_compilation_cache(*, choice: str = "user", workdir: pathlib.Path | None = None) -> None:
    """Keeps compiled programs for the next start, unless the user has turned that off.

    Args:
        choice: "user" for the user's folder for caches, "workdir" for ``compiled/`` in the working
            directory, or "off". The environment variable
            :data:`~lcdnet_jax.cli._compilation.VARIABLE` turns it off, too.
        workdir: The working directory, local or in a bucket.
    """
    if choice == "off" or not _compilation.is_allowed(os.environ):
        return
    _compilation.use_cache(workdir if choice == "workdir" else None)


class DistributedFlags:
    """Defines the flags of a script that runs on several hosts."""

    def __init__(self) -> None:
        self._mode = flags.DEFINE_enum(
            "distributed",
            "auto",
            ["auto", "on", "off"],
            "Whether to join the processes on other hosts. auto: if SLURM's srun, mpirun or GKE "
            "has started several. on: also if JAX finds a TPU pod or Kubernetes.",
        )
        self._coordinator = flags.DEFINE_string(
            "coordinator", None, "HOST:PORT of process 0, if no launcher provides it."
        )
        self._processes = flags.DEFINE_integer(
            "processes", None, "Number of processes, with --coordinator."
        )
        self._index = flags.DEFINE_integer(
            "process_index", None, "Number of this process, from 0, with --coordinator."
        )
        self._peer_timeout = flags.DEFINE_integer(
            "peer_timeout",
            60,
            "Seconds without signs of life after which another process of the run counts as lost. "
            "This one then ends with exit code 75.",
            lower_bound=5,
        )

    def join(self) -> bool:
        """Joins the other processes, if there are any, and prints which process this one is.

        Returns:
            Whether there are other processes.

        Raises:
            DistributedError: As :func:`lcdnet_jax.multihost.initialize`.
        """
        joined = multihost.initialize(
            mode=self._mode.value,
            coordinator=self._coordinator.value,
            processes=self._processes.value,
            index=self._index.value,
            peer_timeout=self._peer_timeout.value,
        )
        if joined:
            print(joined, flush=True)
        return joined is not None
