"""How commands end, and where their lines go."""

import importlib
import os
import runpy
import shlex
import signal
import subprocess
import sys
import tempfile
import threading
import time
import tomllib

import pytest

import lcdnet_jax
from lcdnet_jax import checkpoints, export, networks, storage
from lcdnet_jax.checkpoints import CheckpointError
from lcdnet_jax.cli import _compilation, main, models
from lcdnet_jax.export import stablehlo
from lcdnet_jax.weights import pretrained, safetensors_file, torch_file
from tests.cli.commands import ROOT, error_of, run


class TestEnd:
    """However a command ends."""

    @pytest.fixture
    def models(self, monkeypatch):
        """Gives the command ``models`` another content."""
        return lambda action: monkeypatch.setattr(models, "run", lambda arguments: action())

    @pytest.mark.parametrize(
        ("error", "message"),
        [
            (KeyError("a"), "KeyError: 'a' (--debug shows where)"),
            (MemoryError(), "MemoryError (--debug shows where)"),
            (RecursionError("too\n deep"), "RecursionError: too deep (--debug shows where)"),
            (CheckpointError("lost\nFind it."), "lost Find it."),
            (OSError(28, "No space left"), "[Errno 28] No space left"),
            (
                PermissionError(13, "Permission denied", "clean/a.png"),
                "clean/a.png: Permission denied; check the permissions of the file and of its "
                "folders",
            ),
        ],
        ids=repr,
    )
    def test_errors(self, models, error, message):
        def fail():
            raise error

        models(fail)
        assert error_of("models") == message
        with pytest.raises(type(error)):
            run("models", "--debug")

    @pytest.mark.parametrize("name", ["train", "eval"])
    def test_scripts_of_the_repository(self, name):
        """A user of the wheel has them not, and learns where they are."""
        message = error_of(name, "--config", "configs/tiny.py")
        assert message.startswith(f"{name}.py is not part of the package; clone the repository")
        assert f"run python {name}.py there" in message

    def test_interrupt(self, models, capsys):
        models(lambda: os.kill(os.getpid(), signal.SIGINT))
        # As Python sets it, unless the shell that runs the tests in the background ignores it.
        before = signal.signal(signal.SIGINT, signal.default_int_handler)
        try:
            with pytest.raises(SystemExit) as end:
                run("models")
        finally:
            signal.signal(signal.SIGINT, before)
        assert end.value.code == 130
        assert capsys.readouterr() == ("", "interrupted\n")

    @pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
    def test_while_modules_are_imported(self, monkeypatch, number):
        """Nothing of Python runs any more."""
        said, before = [], signal.getsignal(number)

        def leave(status):
            said.append(status)
            raise SystemExit

        monkeypatch.setattr(os, "_exit", leave)
        monkeypatch.setattr(os, "write", lambda *arguments: said.append(arguments))
        monkeypatch.setattr(checkpoints, "silence_orbax", lambda: os.kill(os.getpid(), number))
        with pytest.raises(SystemExit):
            run("models")
        assert said == [(2, b"interrupted\n"), 128 + number]
        assert signal.getsignal(number) is before

    def test_termination(self, models, tmp_path):
        """What is cleaned up after errors is cleaned up then, too."""

        def write():
            with tempfile.TemporaryDirectory(dir=tmp_path):
                os.kill(os.getpid(), signal.SIGTERM)
                time.sleep(9)

        before = signal.getsignal(signal.SIGTERM)
        models(write)
        with pytest.raises(SystemExit) as end:
            run("models")
        assert end.value.code == 128 + 15
        assert not os.listdir(tmp_path)
        assert signal.getsignal(signal.SIGTERM) is before

    def test_in_another_thread(self, models):
        """Where signals cannot be handled."""
        ran = []
        models(lambda: ran.append(1))
        thread = threading.Thread(target=run, args=["models"])
        thread.start()
        thread.join()
        assert ran == [1]


class TestStandardOutput:
    """Of processes, since its loss shows at their end."""

    CODE = (
        "import sys, types\nfrom lcdnet_jax.cli import _console, main, models\n"
        "quick = types.SimpleNamespace(silence_orbax=lambda: None)\n"
        "sys.modules['lcdnet_jax.checkpoints'] = quick\n"
        "def run(arguments):\n"
        "    _console.print_line('a ü \\udcff'); _console.print_line('b')\n"
        "    print('done', file=sys.stderr)\n"
        "models.run = run; main.main(['models'])"
    )

    def start(self, *redirected, encoding="utf-8"):
        environment = {**os.environ, "PYTHONIOENCODING": encoding, "PYTHONPATH": str(ROOT)}
        command = shlex.join([sys.executable, "-c", self.CODE])
        ended = subprocess.run(
            ["bash", "-c", f"set -o pipefail; {command} {' '.join(redirected)}"],
            env=environment, capture_output=True, timeout=120, check=True,
        )  # fmt: skip
        return ended.stdout.decode(), ended.stderr.decode()

    def test_encoding(self):
        assert self.start(encoding="ascii") == ("a \\xfc \\udcff\nb\n", "done\n")

    @pytest.mark.parametrize(
        ("redirected", "note"),
        [
            ("| true", ""),
            (">&-", ""),
            ("> /dev/full", "cannot write to standard output: No space left on device\n"),
        ],
    )
    def test_lost(self, redirected, note):
        """A pipe that nobody reads, none at all, a full disk."""
        assert self.start(redirected) == ("", f"{note}done\n")


def test_is_installed_as_a_program():
    script = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["scripts"]
    module, _, function = script["lcdnet-jax"].partition(":")
    assert getattr(importlib.import_module(module), function) is main.main


def test_runs_as_a_module(monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["lcdnet_jax", "--version"])
    with pytest.raises(SystemExit) as end:
        runpy.run_module("lcdnet_jax", run_name="__main__")
    assert end.value.code == 0
    assert capsys.readouterr().out == f"lcdnet-jax {lcdnet_jax.__version__}\n"


def help_of(command, capsys):
    with pytest.raises(SystemExit) as end:
        main.main([command, "--help"])
    assert end.value.code == 0
    return " ".join(capsys.readouterr().out.split())


def test_without_a_command(capsys):
    """The help, and the status of a wrong command."""
    with pytest.raises(SystemExit) as end:
        main.main([])
    assert end.value.code == 1
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("usage: lcdnet-jax [-h] [--version] COMMAND ...")
    assert "restore image files" in err


def test_version(capsys):
    with pytest.raises(SystemExit) as end:
        main.main(["--version"])
    assert end.value.code == 0
    assert capsys.readouterr().out == f"lcdnet-jax {lcdnet_jax.__version__}\n"


def test_help_names_the_defaults_of_the_library(capsys):
    """As text, because help does not wait for the import of the library."""
    shown = help_of("export", capsys)
    assert f"list of {', '.join(export.PLATFORMS)} " in shown
    assert f"(default: {','.join(export.DEFAULT_PLATFORMS)})" in shown
    for suffix in (*safetensors_file.SUFFIXES, *torch_file.SUFFIXES, stablehlo.SUFFIX):
        assert f"{suffix} " in shown or f"{suffix}," in shown
    shown = help_of("restore", capsys)
    assert f"default: {pretrained.DEFAULT} --strength" in shown
    overlaps = {name: networks.create(name).tile_overlap for name in networks.available()}
    usual = networks.RestorationNetwork.tile_overlap
    other = {name: overlap for name, overlap in overlaps.items() if overlap != usual}
    of_default = networks.create("sadnet", preset="fast").tile_overlap
    shown_overlaps = [
        f"LCDNet: {other.pop('lcdnet')}",
        f"SADNet: {other.pop('sadnet')}, {pretrained.DEFAULT} {of_default}",
        f"U-Net: {other.pop('unet_n2n')}",
    ]
    assert not other
    shown_others = "; ".join(shown_overlaps)
    assert f"(default: {usual}; {shown_others})" in shown


def test_help_has_examples(capsys):
    for command, example in (
        ("restore", "restore - -o restored/\n"),
        ("models", "lcdnet-jax models"),
        ("info", "lcdnet-jax info sadnet-photo"),
    ):
        with pytest.raises(SystemExit) as end:
            main.main([command, "--help"])
        assert end.value.code == 0
        assert example in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["restore", "gs://b/x", "-o", "y"], "gs://b/x: Google Cloud Storage needs the package"),
        (["restore", "x.png", "-o", "gs://b/y"], 'pip install "lcdnet-jax[gcs]"'),
        (["restore", "x.png", "--checkpoint", "gs://b/w"], 'pip install "lcdnet-jax[gcs]"'),
        (["restore", "x", "-o", "y", "--reference", "az://b/t"], 'pip install "adlfs"'),
        (["restore", "http://b/x", "-o", "y"], "http:// is not supported; use a local path, gs://"),
        (["score", "a", "gs://b/t", "--protocol", "8bit", "-o", "y"], "needs the package gcsfs"),
        (["export", "quickstart", "-o", "s4://b/y"], "s4:// is not supported"),
        (["export", "quickstart", "-o", "y", "--scores", "gs://b/s"], "needs the package gcsfs"),
        (["convert", "dncnn", "gs://b/w.pth", "-o", "y"], "needs the package gcsfs"),
        (["serve", "--checkpoint", "gs://b/w"], "needs the package gcsfs"),
        (["info", "gs://b/w"], "needs the package gcsfs"),
        (["info", "gs:/b/w"], "names no bucket; write gs://BUCKET/PATH"),
    ],
)
def test_urls_are_checked_before_anything_is_imported(monkeypatch, arguments, message):
    monkeypatch.setattr(storage.paths.importlib.util, "find_spec", lambda name: None)
    monkeypatch.setattr(_compilation, "set_environment", None)  # is called next
    assert message in error_of(*arguments)


def test_buckets_are_checked_before_anything_is_imported(bucket, monkeypatch):
    monkeypatch.setattr(_compilation, "set_environment", None)
    missing = "the bucket gs://no-such does not exist; check its name, or create it first"
    for arguments in (
        ["restore", "gs://no-such/x", "-o", "y"],
        ["restore", f"{bucket}/x", "-o", "gs://no-such/y"],
        ["export", "quickstart", "-o", "gs://no-such/y"],
    ):
        assert missing in error_of(*arguments)
    storage.buckets.get_filesystem(storage.to_path(bucket))

    def refuse(*arguments, **options):
        raise OSError("Forbidden: http://...\nno permission storage.objects.create")

    monkeypatch.setattr(storage.questions, "_writable", set())
    monkeypatch.setattr(
        storage.buckets.get_filesystem(storage.to_path(bucket)), "pipe_file", refuse
    )
    message = error_of("restore", f"{bucket}/x", "-o", f"{bucket}/y")
    assert "access is denied (no permission storage.objects.create); ask for access" in message
