"""Signals: what the handler prints and restores."""

import io
import os
import signal
import sys
import types

from lcdnet_jax.training import preemption


def test_a_signal_in_the_middle_of_a_print(monkeypatch):
    """Where print would raise, and where a handler was set by C; and output that is not a file."""
    reads, writes = os.pipe()

    def reentrant(text):
        raise RuntimeError("reentrant call inside <_io.BufferedWriter name='<stdout>'>")

    busy = types.SimpleNamespace(fileno=lambda: writes, write=reentrant, flush=lambda: None)
    gone = types.SimpleNamespace(write=reentrant, flush=lambda: None)
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        for stdout in (busy, gone, io.StringIO(), None):
            with monkeypatch.context() as patch:
                patch.setattr(sys, "stdout", stdout)
                patch.setattr(signal, "getsignal", lambda number: None)
                with preemption.handle_preemption(None) as handler:
                    signal.raise_signal(signal.SIGTERM)
            assert handler.received == signal.SIGTERM
            assert signal.getsignal(signal.SIGTERM) == signal.SIG_DFL
            if isinstance(stdout, io.StringIO):
                assert stdout.getvalue().startswith("stopping after this step, then saving;")
        assert os.read(reads, 999).startswith(b"stopping after this step, then saving; once more")
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
        os.close(reads)
        os.close(writes)
