"""What a process does about errors that may come from the loss of another one."""

import subprocess
import sys

import jax
import pytest

from lcdnet_jax import peer_loss


@pytest.fixture
def waits(monkeypatch):
    monkeypatch.setattr(peer_loss, "_timeout", 7.0)
    waits = []
    monkeypatch.setattr(peer_loss.time, "sleep", waits.append)
    return waits


def chain(error, cause):
    error.__cause__ = cause
    return error


@pytest.mark.parametrize(
    ("error", "waited"),
    [
        (ValueError("UNKNOWN: Gloo AllGather failed: Connection closed by peer"), True),
        (chain(SystemExit("error"), ValueError("INTERNAL: NCCL")), True),
        (jax.errors.JaxRuntimeError("RESOURCE_EXHAUSTED: out of memory"), False),
        (ValueError("config.seed must be an integer"), False),
    ],
)
def test_errors_of_connections_wait_for_the_verdict(waits, error, waited):
    peer_loss.wait_if_lost(error)
    assert waits == [12.0] * waited


def test_a_process_alone_waits_for_nobody(monkeypatch):
    monkeypatch.setattr(peer_loss.time, "sleep", lambda seconds: pytest.fail("it waits"))
    peer_loss.wait_if_lost(ValueError("INTERNAL: a bug"))
    assert peer_loss.leave_after_error()


def test_who_fails_alone_leaves_at_once(waits, monkeypatch):
    monkeypatch.setattr(peer_loss, "_GRACE", 0.01)
    leave = peer_loss.threading.Event()
    monkeypatch.setattr(jax.distributed, "shutdown", leave.wait)
    assert not peer_loss.leave_after_error()
    leave.set()
    assert peer_loss.leave_after_error()


def test_the_line_and_the_code():
    code = "from lcdnet_jax import peer_loss; print('before'); peer_loss._end()"
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert ended.returncode == 75
    assert ended.stdout == "before\n"
    assert ended.stderr.startswith("error: another process of this run has ended, or has sent no ")
    assert ended.stderr.count("\n") == 1
