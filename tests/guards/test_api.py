"""Public names, signatures, configurations and help texts are those that api.json records."""

import dataclasses
import importlib
import inspect
import os
import pathlib
import subprocess
import sys

import pytest
from ml_collections import ConfigDict

import lcdnet_jax
from tests.guards import guarded, records

FILE = "api.json"
RECORDED = records.read(FILE)
SCRIPTS = ("train.py", "eval.py", "quickstart.py")
COMMANDS = ("", "restore", "serve", "score", "models", "info", "convert", "export")

# Of section 5 of the design: what others call, below lcdnet_jax.
NAMES = (
    "Restorer", "Restorer.__call__", "Restorer.from_checkpoint", "Restorer.from_pretrained",
    "convert.from_torch", "convert.to_torch",
    "image_io.ImageError", "image_io.decode", "image_io.read", "image_io.read_with_metadata",
    "image_io.write",
    "metrics.psnr", "metrics.ssim",
    "networks.available", "networks.create", "networks.register",
    "ops.deform_conv2d",
    "sfm.apply_mask", "sfm.band_mask", "sfm.stochastic_frequency_mask",
    "training.train_and_evaluate",
)  # fmt: skip

# What a network declares besides its fields.
CONTRACT = (
    "scale", "stride", "input_range", "tile_overlap", "window_pixels", "two_views", "global_means",
    "has_scales",
)  # fmt: skip


@pytest.fixture(scope="module", autouse=True)
def recording():
    yield
    if records.RECORD:
        records.write(FILE, {**RECORDED, "python": records.python_minor()})


def check(part, found):
    if records.RECORD:
        RECORDED[part] = found
    else:
        assert found == RECORDED[part]


def signature(called):
    """Without annotations, whose text differs between versions of Python and JAX."""
    empty = inspect.Parameter.empty
    described = inspect.signature(called)
    parameters = [p.replace(annotation=empty) for p in described.parameters.values()]
    return str(described.replace(parameters=parameters, return_annotation=empty))


def named(path):
    value = lcdnet_jax
    for part in path.split("."):
        value = getattr(value, part, None)
    return value


def test_all():
    check("all", sorted(lcdnet_jax.__all__))


def test_signatures():
    """A name that does not exist is recorded as such."""
    check("signatures", {
        name: signature(value) if (value := named(name)) and not isinstance(value, type)
        else (f"class{signature(value.__init__)}" if name == "Restorer" else "class")
        if value else "does not exist"
        for name in NAMES
    })  # fmt: skip


def test_networks():
    """Fields with their defaults, presets, and what callers read of the contract."""
    found = {}
    for name in guarded.networks.available():
        module = guarded.networks.create(name)
        fields = {
            field.name: getattr(field.default, "__name__", repr(field.default))
            for field in dataclasses.fields(module)
            if field.name not in ("parent", "name")
        }
        presets = getattr(type(module), "PRESETS", {})
        found[name] = {
            "fields": fields,
            "presets": {k: repr(v) for k, v in presets.items()},
            "call": signature(type(module).__call__),
            "contract": {attribute: repr(getattr(module, attribute)) for attribute in CONTRACT},
        }
    check("networks", found)


def flat(config, prefix=""):
    """Fields by their whole names, values as Python writes them."""
    fields = {}
    for name, value in config.items():
        if isinstance(value, ConfigDict) and len(value):
            fields |= flat(value, f"{prefix}{name}.")
        else:
            fields[prefix + name] = repr(value.to_dict() if hasattr(value, "to_dict") else value)
    return fields


def test_configurations():
    """All fields of the default, and what each experiment changes. Variants: the first one."""
    default = flat(guarded.default_config.get_config())
    found = {"default": default}
    for path in sorted((records.ROOT / "configs").glob("*.py")):
        if path.stem in ("__init__", "default"):
            continue
        fields = flat(importlib.import_module(f"configs.{path.stem}").get_config())
        changed = {k: v for k, v in fields.items() if default.get(k) != v}
        found[path.stem] = changed | dict.fromkeys(default.keys() - fields.keys(), "missing")
    check("configurations", found)


def normalized(text):
    return " ".join(text.replace(str(records.ROOT), "ROOT").split())


def for_this_python():
    """Argparse and absl write options in other ways in other versions of Python."""
    if not records.RECORD and RECORDED["python"] != records.python_minor():
        pytest.skip(f"recorded with Python {RECORDED['python']}")


def test_help_of_commands(monkeypatch, capsys):
    for_this_python()
    monkeypatch.setenv("COLUMNS", "100")
    found = {}
    for command in COMMANDS:
        with pytest.raises(SystemExit):
            guarded.cli.main([*command.split(), "--help"])
        found[f"lcdnet-jax {command}".strip()] = normalized(capsys.readouterr().out)
    check("help of commands", found)


@pytest.mark.extended
def test_help_of_scripts():
    for_this_python()
    pytest.importorskip("tensorflow")
    environment = os.environ | {"COLUMNS": "100", "PYTHONPATH": str(records.ROOT)}
    running = {
        script: subprocess.Popen(
            [sys.executable, script, "--help"],
            cwd=pathlib.Path(records.ROOT), env=environment, text=True,
            stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
        )
        for script in SCRIPTS
    }  # fmt: skip
    check("help of scripts", {s: normalized(p.communicate()[0]) for s, p in running.items()})
