import hashlib
import os
import socket

import pytest

from lcdnet_jax import strict_json
from lcdnet_jax.strict_json import JSONError


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ('{"a": [1, -2.5, true, null]}', {"a": [1, -2.5, True, None]}),
        ('"\\ud83d\\ude00\\u0000"', "😀\0"),
        (b'"\xc3\xa9"', "é"),
        ('"caf\\udce9"', "caf\udce9"),  # a name in Latin-1, as os.listdir gives it
        (f"[{2**63 - 1}, {-(2**63)}]", [2**63 - 1, -(2**63)]),
        ("[" * 64 + "]" * 64, None),
    ],
)  # fmt: skip
def test_parse(text, value):
    parsed = strict_json.parse(text)
    if value is not None:
        assert parsed == value


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (b"", "Expecting value: line 1 column 1"),
        (b"\xff\xfe{}", "can't decode byte 0xff"),
        ("[NaN]", "it holds NaN"),
        ("-Infinity", "it holds -Infinity"),
        ("[1e999]", "beyond the range of floats"),
        (str(2**63), r"integer 9223372036854775808\.\.\. does not fit into 64 bits"),
        ("-" + "9" * 10_000_000, "does not fit into 64 bits"),
        ('{"a": 1, "b": 2, "a": 3}', "the name 'a' occurs twice"),
        ('{"\\u001b[2J": 1, "\\u001b[2J": 3}', r"the name '\\x1b\[2J' occurs twice"),
        ('["\\ud800"]', "half of a surrogate pair"),
        ('{"\\udfff": 1}', "half of a surrogate pair"),
        ("[" * 66 + "]" * 66, "nested more than 64 levels"),
        ("[" * 200_000, "nested more than 64 levels"),
        ('{"a":' * 100_000 + "1" + "}" * 100_000, "nested more than 64 levels"),
        (" " * (strict_json.MAX_BYTES + 1), "larger than 16 MiB"),
    ],
    ids=range(15),
)
def test_refused(text, message):
    with pytest.raises(JSONError, match=message) as error:
        strict_json.parse(text)
    assert type(error.value) is JSONError
    assert "\n" not in str(error.value)


def test_read(tmp_path):
    (tmp_path / "a.json").write_text('{"a": 1}')
    assert strict_json.read(tmp_path / "a.json") == {"a": 1}
    with pytest.raises(FileNotFoundError):
        strict_json.read(tmp_path / "none.json")
    with pytest.raises(IsADirectoryError):
        strict_json.read(tmp_path)


def test_files_without_an_end(tmp_path):
    os.mkfifo(tmp_path / "pipe")  # has no writer
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(tmp_path / "socket"))
        for path in (tmp_path / "pipe", tmp_path / "socket", "/dev/zero"):
            with pytest.raises(JSONError, match="it is not a regular file"):
                strict_json.read(path)
    with open(tmp_path / "sparse.json", "wb") as file:
        file.truncate(2**40)
    with pytest.raises(JSONError, match="larger than 16 MiB"):
        strict_json.read(tmp_path / "sparse.json")


def test_compute_sha256():
    digest = hashlib.sha256(b'{"a": [1, "\\u00e9"], "b": null}').hexdigest()
    assert strict_json.compute_sha256({"b": None, "a": [1, "é"]}) == digest
