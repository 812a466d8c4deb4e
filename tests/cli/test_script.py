"""How scripts end."""

import signal

import jax
import pytest

from lcdnet_jax.checkpoints import CheckpointError
from lcdnet_jax.cli.script import end_in_one_line
from lcdnet_jax.image_io import ImageError
from lcdnet_jax.multihost import DistributedError
from lcdnet_jax.training import NonFiniteLossError, Preempted


def end_of(error, **options):
    with pytest.raises(SystemExit) as end, end_in_one_line(**options):
        raise error
    return end.value.code


@pytest.mark.parametrize(
    "kind",
    [
        ValueError,
        ImageError,
        OSError,
        FileNotFoundError,
        ImportError,
        CheckpointError,
        DistributedError,
        NonFiniteLossError,
    ],
)
def test_errors_that_users_can_fix(kind, capsys):
    assert end_of(kind("no \x1b[2J")) == "error: no \\x1b[2J"
    assert capsys.readouterr() == ("", "")


def test_errors_of_the_system_name_the_fix():
    error = PermissionError(13, "Permission denied", "runs/a")
    assert end_of(error).startswith("error: runs/a: Permission denied; check the permissions")


@pytest.mark.parametrize(
    "error", [MemoryError(), jax.errors.JaxRuntimeError("RESOURCE_EXHAUSTED: Out of memory")]
)
def test_memory(error):
    assert end_of(error, out_of_memory="buy more") == "error: buy more"
    assert "use a smaller config.batch_size" in end_of(error)


@pytest.mark.parametrize("error", [KeyError("a"), jax.errors.JaxRuntimeError("INTERNAL: a")])
def test_mistakes_of_the_library_keep_their_traceback(error):
    with pytest.raises(type(error)), end_in_one_line():
        raise error


def test_signals(capsys):
    assert end_of(KeyboardInterrupt(), interrupted="not saved") == 130
    assert capsys.readouterr() == ("", "not saved\n")
    assert end_of(Preempted("saved", signal.SIGTERM), interrupted="not saved") == 143
    assert capsys.readouterr() == ("saved\n", "")


def test_success():
    with end_in_one_line():
        pass
