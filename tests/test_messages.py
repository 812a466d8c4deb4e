import ast
import errno
import itertools
import os
import pathlib
import platform
import re
import threading

import jax
import pytest

from lcdnet_jax import messages

ROOT = pathlib.Path(__file__).resolve().parents[1]


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0, "0:00"),
        (0.2, "0:01"),
        (59.5, "1:00"),
        (61, "1:01"),
        (3600, "1:00:00"),
        (3723, "1:02:03"),
    ],
)
def test_format_duration(seconds, text):
    assert messages.format_duration(seconds) == text


class TestDescribeProcessor:
    def test_linux(self, monkeypatch):
        lines = "processor\t: 0\nmodel name\t: Fast CPU @ 2 GHz\nmodel name\t: another\n"
        monkeypatch.setattr(pathlib.Path, "read_text", lambda path: lines)
        assert messages.describe_processor() == "Fast CPU @ 2 GHz"

    def test_other_systems(self, monkeypatch):
        def read_text(path):
            raise FileNotFoundError(path)

        monkeypatch.setattr(pathlib.Path, "read_text", read_text)
        monkeypatch.setattr(platform, "processor", lambda: "")
        monkeypatch.setattr(platform, "machine", lambda: "arm64")
        assert messages.describe_processor() == "arm64"


def test_format_count():
    counts = [messages.format_count(count, "damaged image") for count in (0, 1, 2000)]
    assert counts == ["0 damaged images", "1 damaged image", "2,000 damaged images"]


def list_syntax():
    """The nodes of the syntax trees of all files."""
    folders = ("lcdnet_jax", "input_pipeline", "benchmarks", "configs")
    files = [*ROOT.glob("*.py"), *(p for name in folders for p in (ROOT / name).rglob("*.py"))]
    assert len(files) > 200
    return (node for path in files for node in ast.walk(ast.parse(path.read_text("utf-8"))))


class TestPlurals:
    """Texts say "1 image" or "2 images", never "2 image(s)" or "1 images"."""

    def test_no_optional_plural(self):
        texts = [node.value for node in list_syntax() if isinstance(node, ast.Constant)]
        texts = [text for text in texts if isinstance(text, str)]
        assert [text for text in texts if re.search(r"[a-z]\(e?s\)", text)] == []

    def test_counts_are_formatted(self):
        """No f-string has a plural after a number that may be 1; format_count writes both.

        This finds numbers that are a ``len()`` or called a count, and nouns that go with fields.
        """
        found = []
        for node in list_syntax():
            values = node.values if isinstance(node, ast.JoinedStr) else []
            for value, after in itertools.pairwise(values):
                if isinstance(value, ast.FormattedValue) and isinstance(after, ast.Constant):
                    source = ast.unparse(value.value)
                    is_count = re.fullmatch(r"len\([^()]*\)|(.*_)?count", source)
                    nouns = r"[a-z]+s" if is_count else "(steps|channels|crops|parameters)"
                    is_list = source.isupper() or "join(" in source
                    if not is_list and re.match(rf" ([a-z]+ )?{nouns}\b(?! of other)", after.value):
                        found.append((source, after.value))
        assert found == []


def test_is_out_of_memory():
    assert messages.is_out_of_memory(MemoryError())
    assert messages.is_out_of_memory(
        jax.errors.JaxRuntimeError("RESOURCE_EXHAUSTED: Out of memory")
    )
    assert not messages.is_out_of_memory(jax.errors.JaxRuntimeError("INTERNAL"))
    assert not messages.is_device_out_of_memory(MemoryError("RESOURCE_EXHAUSTED"))
    assert messages.is_device_out_of_memory(jax.errors.JaxRuntimeError("RESOURCE_EXHAUSTED: x"))


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("café 北京 😀\nline", "café 北京 😀\nline"),
        ("\x1b[2J\x07\r\t", "\\x1b[2J\\x07\\r\\t"),
        ("\x9b31m\x7f", "\\x9b31m\\x7f"),  # control characters of one byte
        ("gnp.\u202eabc\u2028", "gnp.\\u202eabc\\u2028"),  # right to left; a line separator
        ("caf\udce9.png", "caf\\udce9.png"),  # a byte of Latin-1 in a name
        ("\U000e0041", "\\U000e0041"),
    ],
)
def test_escape(text, shown):
    assert messages.escape(text) == shown


def test_shorten():
    assert messages.shorten("a" * 58) == f"'{'a' * 58}'"
    assert messages.shorten("a" * 59) == f"'{'a' * 56}..."
    assert messages.shorten(10**5000) == "a huge integer"


def test_join_some():
    assert messages.join_some([], 2) == ""
    assert messages.join_some(["a", "b"], 2) == "a, b"
    assert messages.join_some(["a", "b", "c", "d"], 2) == "a, b and 2 more"
    assert messages.join_some(["a", "b", "c"], 2, separator="\n  ") == "a\n  b\n  and 1 more"


class TestSystemErrors:
    @pytest.mark.parametrize("number", [errno.EACCES, errno.ENOENT, errno.EROFS, errno.ENOSPC])
    @pytest.mark.parametrize("name", ["a b.png", b"a b.png"])
    def test_file_cause_and_fix(self, number, name):
        text = messages.describe_system_error(OSError(number, os.strerror(number), name))
        file, cause, fix = text.replace("; ", ": ").split(": ")
        assert (file, cause) == ("a b.png", os.strerror(number))
        assert fix.startswith(("check ", "use ", "free "))

    def test_others_keep_their_message(self):
        class OurError(OSError):
            pass

        for error in (
            OSError(errno.EACCES, "no file"),
            OSError("text"),
            OSError(errno.ENOTTY, "rare", "a"),
            OurError(errno.EACCES, "ours", "a"),
        ):
            assert messages.describe_system_error(error) == str(error)


def test_escape_line():
    assert messages.escape_line("a\nb\x1b\udce9") == "a\\nb\\x1b\\udce9"


class TestSlowWork:
    def test_is_reported_before_and_after(self):
        lines, reported = [], threading.Event()

        def report(line):
            lines.append(line)
            reported.set()

        with messages.SlowWorkReporter(report, after=0).watch("compiling", "the step"):
            assert reported.wait(10)
            assert lines == ["compiling the step ..."]
        assert re.fullmatch(r"the step: ready after \d+\.\d s", lines[1])

    def test_quick_work_is_not(self):
        lines = []
        reporter = messages.SlowWorkReporter(lines.append, after=60)
        with reporter.watch("compiling", "the step"):
            pass
        reporter.begin("compiling", "another")
        reporter.end()
        reporter.end()
        assert lines == []

    def test_that_fails_is_not_ready(self):
        lines, reported = [], threading.Event()
        reporter = messages.SlowWorkReporter(
            lambda line: (lines.append(line), reported.set()), after=0
        )

        def fail():
            with reporter.watch("compiling", "the step"):
                assert reported.wait(10)
                _ = 1 / 0

        with pytest.raises(ZeroDivisionError):
            fail()
        assert lines == ["compiling the step ..."]
