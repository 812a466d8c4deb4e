"""Hostile JSON in every file of weights: a result or an error of this library, soon.

``LCDNET_JAX_FUZZ=500`` makes so many cases of each kind; a failure names the seed of its case.
"""

import functools
import io
import json
import os
import pathlib
import random
import re
import shutil
import time
import zipfile

import pytest
import safetensors
import safetensors.numpy

from lcdnet_jax import weights as weights_lib
from lcdnet_jax.export import run_exported

# From threads of Orbax after a failed read; programs silence it, see checkpoints.silence_orbax.
pytestmark = pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")

CASES = int(os.environ.get("LCDNET_JAX_FUZZ", "150"))
SECONDS = 20  # for one case

RAW = (
    *("NaN", "-Infinity", "1e999", "-0", "9" * 5000, f"{2**63}", f"{-(2**63)}", "1" + "0" * 400),
    *('"\\ud800"', '"\\u0000"', '"\\u001b[2J"', '"' + "y" * 10_000 + '"', "[" * 70 + "]" * 70),
    *("[" * 100_000, '{"a":' * 100_000, "null", "true", "[]", "{}", '""', "[[]]", "-1", "1.5", "7"),
    *('{"__class__": 1}', '{"a.b": 1, "update": 2, "": 3}', "10000000", "60000", "65536", "4096"),
    *('"../../etc/passwd"', '"sadnet"', '"lcdnet"', '"bfloat16"', '"object"', '{"a": 1, "a": 2}'),
)


def mutate(rng, text):
    """Replaces values, names or bytes of JSON."""
    values = list(re.finditer(r'(?<=: )("[^"]*"|[-\d.]+|true|false|null|\[\]|\{\})', text))
    names = list(re.finditer(r'"[^"]*"(?=: )', text))
    match rng.randrange(8):
        case 0:
            return text[: rng.randrange(len(text))]
        case 1:
            return rng.choice(RAW)
        case 2 if names:
            found = rng.choice(names)
            name = rng.choice(('"x"', '"format"', '"kwargs"', '"\\ud800"', '"lock"', '"depth"'))
            return text[: found.start()] + name + text[found.end() :]
        case _ if values:
            found = rng.choice(values)
            return text[: found.start()] + rng.choice(RAW) + text[found.end() :]
    return text + rng.choice(RAW)


def is_ours(error):
    return type(error) in (ValueError, OSError) or type(error).__module__.startswith("lcdnet_jax.")


def check(actions, case):
    begin = time.monotonic()
    for action in actions:
        try:
            action()
        except Exception as error:
            if not is_ours(error) or len(str(error)) > 100_000:
                pytest.fail(f"{case}: {error!r}")
    assert time.monotonic() - begin < SECONDS, case


def load_file(path):
    return [lambda: weights_lib.load(path), lambda: weights_lib.load_card(path)]


CHANGED = {
    "config.json": "run",
    "scores.jsonl": "run",
    "checkpoints/8/manifest.json": "run",
    "checkpoints/8/_CHECKPOINT_METADATA": "run",
    "checkpoints/8/params/_METADATA": "run",
    "card.json": "exported",
    "exported/config.json": "exported",
}


def check_directories(run, exported, tmp_path, cases):
    sources = {"run": run[0], "exported": exported}
    for seed in range(cases):
        rng = random.Random(seed)
        name = sorted(CHANGED)[seed % len(CHANGED)]
        folder = tmp_path / f"{seed}"
        shutil.copytree(sources[CHANGED[name]], folder)
        file = folder / name.removeprefix("exported/")
        file.write_text(mutate(rng, file.read_text()), errors="surrogatepass")
        check(load_file(folder), f"seed {seed}, {name}")
        shutil.rmtree(folder)


def check_files(weights, tmp_path, cases):
    whole = tmp_path / "whole.safetensors"
    weights_lib.save_safetensors(weights, whole)
    tensors = safetensors.numpy.load_file(whole)
    with safetensors.safe_open(whole, framework="numpy") as file:
        text = file.metadata()["lcdnet_jax"]
    path = tmp_path / "changed.safetensors"
    for seed in range(cases):
        changed = mutate(random.Random(seed), text)
        path.write_bytes(safetensors.numpy.save(tensors, metadata={"lcdnet_jax": changed}))
        check(load_file(path), f"seed {seed}")


def check_results(tmp_path, cases):
    row = {"dataset": "a", "sigma": 25.0, "protocol": "float", "mode": "full", "psnr": 1.0, "n": 3}
    path = tmp_path / "results.json"
    for seed in range(cases):
        path.write_text(mutate(random.Random(seed), json.dumps([row] * 2)), errors="surrogatepass")
        check([lambda: weights_lib.read_results(path)], f"seed {seed}")


def check_programs(cases):
    card = {"format": run_exported.FORMAT, "channels": 1, "scale": 1, "sizes": None, "stride": 1}
    card |= {"max_side": 9, "platforms": ["cpu"], "programs": ["any.bin"], "jax": "0"}
    for seed in range(cases):
        stream = io.BytesIO()
        with zipfile.ZipFile(stream, "w") as file:
            changed = mutate(random.Random(seed), json.dumps(card))
            file.writestr("card.json", changed.encode(errors="surrogatepass"))
            file.writestr("any.bin", b"no program")
        check([functools.partial(run_exported.load, stream)], f"seed {seed}")


def test_a_few(run, exported, weights, tmp_path):
    pytest.importorskip("flatbuffers")
    check_directories(run, exported, tmp_path, 2 * len(CHANGED))
    check_files(weights, tmp_path, 20)
    check_results(tmp_path, 30)
    check_programs(30)


@pytest.mark.extended
@pytest.mark.slow
def test_directories(run, exported, tmp_path):
    check_directories(run, exported, tmp_path, CASES)


@pytest.mark.extended
def test_files(weights, tmp_path):
    check_files(weights, tmp_path, CASES)


@pytest.mark.extended
def test_results_and_programs(tmp_path):
    pytest.importorskip("flatbuffers")
    check_results(tmp_path, CASES)
    check_programs(CASES)


def test_a_pipe_in_place_of_a_file(exported, tmp_path):
    """Opening it would wait for a writer."""
    for name in ("card.json", "config.json"):
        folder = pathlib.Path(shutil.copytree(exported, tmp_path / name))
        (folder / name).unlink()
        os.mkfifo(folder / name)
        with pytest.raises(
            ValueError, match=rf"{name} is not valid JSON \(it is not a regular file"
        ):
            weights_lib.load(folder)
