"""Profiler traces: which steps, and what ends a run."""

import jax
import pytest

from lcdnet_jax.config import ConfigError
from lcdnet_jax.training import profile
from lcdnet_jax.training.profile import Profile, parse_range


def warnings_of(caplog):
    return [record.getMessage() for record in caplog.records if record.levelname == "WARNING"]


class TestProfile:
    @pytest.fixture
    def calls(self, monkeypatch):
        calls = []
        monkeypatch.setattr(jax.profiler, "start_trace", lambda path: calls.append("start"))
        monkeypatch.setattr(jax.profiler, "stop_trace", lambda: calls.append("stop"))
        return calls

    def test_range(self):
        assert parse_range(None) is None
        assert parse_range("11:15") == (11, 15)
        assert parse_range("3:3") == (3, 3)
        for text in ("", "3", "4:3", "0:3", "-1:3", "3:", "a:b", "1:2:3", "3:4 "):
            with pytest.raises(ConfigError, match=f"--profile={text} is not a range of steps; use"):
                parse_range(text)

    @pytest.mark.parametrize(
        ("steps", "expected"),
        [
            ((2, 4), ["1", "start", "2", "3", "4", "stop", "5", "6"]),
            ((1, 1), ["start", "1", "stop", "2", "3", "4", "5", "6"]),
            ((5, 99), ["1", "2", "3", "4", "start", "5", "6", "stop"]),
            (None, ["1", "2", "3", "4", "5", "6"]),
        ],
        ids=str,
    )
    def test_starts_before_the_first_and_ends_after_the_last(
        self, tmp_path, calls, steps, expected
    ):
        trace = Profile(tmp_path, steps)
        for step in range(1, 7):
            trace.start_before(step, step)
            calls.append(str(step))
            if trace.ends_after(step):
                trace.end()
        trace.end()
        assert calls == expected

    def test_failing_to_write_ends_nothing(self, tmp_path, calls, monkeypatch, caplog):
        def stop():
            raise jax.errors.JaxRuntimeError("FAILED_PRECONDITION: no space")

        monkeypatch.setattr(profile.jax.profiler, "stop_trace", stop)
        trace = Profile(tmp_path, (1, 1))
        trace.start_before(1, 1)
        trace.end()
        trace.end()
        (warning,) = warnings_of(caplog)
        assert f"no profiler trace, as {tmp_path} cannot be written: FAILED_PREC" in warning
