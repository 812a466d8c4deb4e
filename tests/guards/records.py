"""Reads, writes and compares the recorded files."""

import hashlib
import json
import os
import pathlib
import platform
import re
import sys

import jax
import jaxlib
import numpy as np
from flax.traverse_util import flatten_dict

HERE = pathlib.Path(__file__).resolve().parent
ROOT = HERE.parent.parent
RECORD = "LCDNET_JAX_RECORD_GUARDS" in os.environ  # set by record.py


def _processor():
    """Model, instruction sets and number of cores: what rounding can depend on."""
    try:
        text = pathlib.Path("/proc/cpuinfo").read_text()
    except OSError:
        text = ""
    fields = [re.search(rf"^{name}\s*: (.*)$", text, re.MULTILINE) for name in ("model name",
              "flags", "Features")]  # fmt: skip
    found = [field[1] if field else "" for field in fields]
    flags = hashlib.sha256(" ".join(sorted(" ".join(found[1:]).split())).encode()).hexdigest()
    return f"{platform.machine()}, {found[0]}, flags {flags[:16]}, {os.cpu_count()} cores"


def environment():
    """Where SHA-256 of computed numbers must agree."""
    return {
        "processor": _processor(),
        "jax": jax.__version__,
        "jaxlib": jaxlib.__version__,
        "numpy": np.__version__,
        "xla_flags": os.environ.get("XLA_FLAGS", ""),
    }


def python_minor():
    return "{}.{}".format(*sys.version_info)


def read(name):
    path = HERE / name
    return json.loads(path.read_text()) if path.exists() else {}


def write(name, content):
    text = json.dumps(content, indent=1, sort_keys=True, ensure_ascii=False)
    # Lists of scalars on one line.
    text = re.sub(r"\[\n[^\[\]{}]*?\n *\]", lambda m: re.sub(r"\n *", " ", m[0]), text)
    text = text.replace("[ ", "[").replace(" ]", "]")
    (HERE / name).write_text(text + "\n")
    assert json.loads(text) == json.loads(json.dumps(content))


def summary(tree):
    """SHA-256 of all leaves, and of each leaf its type, shape and three numbers.

    The numbers are the sum, the sum of squares, and the sum weighted by cosines of the position,
    which notices values that are exchanged.
    """
    leaves, digest = {}, hashlib.sha256()
    for path, leaf in sorted(flatten_dict(tree, sep="/").items()):
        array = np.ascontiguousarray(leaf)
        digest.update(f"{path} {array.dtype} {array.shape} ".encode() + array.tobytes())
        values = array.astype(np.float64).ravel()
        numbers = values.sum(), (values**2).sum(), values @ np.cos(np.arange(values.size))
        shape = "x".join(map(str, array.shape))
        leaves[path] = [str(array.dtype), shape, *(float(f"{number:.9g}") for number in numbers)]
    return {"sha256": digest.hexdigest(), "leaves": leaves}


def assert_same(found, recorded, *, tolerance, recorded_environment=None):
    """Compares two summaries.

    Args:
        found: Of now.
        recorded: Of before.
        tolerance: Of the numbers, as a share of the largest that they can be for this leaf's norm.
        recorded_environment: SHA-256 are compared where this is the environment of now.
    """
    assert sorted(found["leaves"]) == sorted(recorded["leaves"]), "the names of the leaves"
    wrong = []
    for path, (dtype, shape, *numbers) in recorded["leaves"].items():
        now_dtype, now_shape, *now = found["leaves"][path]
        if (now_dtype, now_shape) != (dtype, shape):
            wrong.append(f"{path}: {now_dtype} {now_shape}, was {dtype} {shape}")
            continue
        size = np.prod([int(side) for side in shape.split("x") if side])
        norm = np.sqrt(numbers[1])
        scales = np.array([np.sqrt(size) * norm, 2 * norm**2, np.sqrt(size) * norm])
        bounds = tolerance * scales + 1e-12
        if not (np.abs(np.subtract(now, numbers)) <= bounds).all():
            wrong.append(f"{path}: {now}, was {numbers}")
    assert not wrong, "other numbers:\n" + "\n".join(wrong)
    if recorded_environment == environment():
        assert found["sha256"] == recorded["sha256"], "the numbers agree, but not to the last bit"
