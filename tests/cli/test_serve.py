"""The command ``lcdnet-jax serve``, in a process of its own."""

import os
import pathlib
import signal
import subprocess
import sys
import time

import httpx
import pytest

from tests.cli.commands import ROOT, error_of, run
from tests.serve.running import form


@pytest.fixture
def launch(tmp_path):
    """Starts the command and waits for its address."""
    started = []

    def launch(*arguments):
        environment = {
            **os.environ,
            "TMPDIR": str(tmp_path),
            "PYTHONPATH": str(ROOT),
            "JAX_PLATFORMS": "cpu",
            "JAX_COMPILATION_CACHE_DIR": os.environ["LCDNET_JAX_COMPILED"],
        }
        code = "from lcdnet_jax.cli.main import main; main()"
        command = [sys.executable, "-c", code, "serve", "--port", "0", *arguments]
        process = subprocess.Popen(
            command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )
        started.append(process)
        line = process.stdout.readline()
        assert line.startswith("http://127.0.0.1:"), (line, process.stderr.read())
        return process, line.split()[0]

    yield launch
    for process in started:
        process.kill()
        process.communicate()


@pytest.mark.extended
@pytest.mark.parametrize("signals", [[signal.SIGINT], [signal.SIGTERM], [signal.SIGINT] * 3])
def test_ends_cleanly_while_it_computes(launch, tmp_path, signals):
    process, url = launch()
    demo = httpx.get(f"{url}demo", trust_env=False).content
    for _ in range(3):
        httpx.post(f"{url}jobs", files=form(demo, "demo.jpg"), trust_env=False)
    (folder,) = tmp_path.glob("lcdnet-jax-serve-*")
    assert list(folder.iterdir())
    begin = time.monotonic()
    for number in signals:
        process.send_signal(number)
        time.sleep(0.2)
    output, errors = process.communicate(timeout=60)
    assert time.monotonic() - begin < 20
    assert (process.returncode, output) == (0, "")
    assert not [line for line in errors.splitlines() if "cpu_aot_loader" not in line]
    assert not folder.exists()


class TestErrors:
    def test_port(self):
        import socket

        with socket.create_server(("127.0.0.1", 0)) as taken:
            port = taken.getsockname()[1]
            message = error_of("serve", "--port", port)
        assert f"port {port} of 127.0.0.1 is in use" in message
        assert f"--port {port + 1}" in message

    def test_other_machines_without_a_token(self):
        assert "a token is needed: --token TEXT" in error_of("serve", "--host", "0.0.0.0")
        assert "the token is empty" in error_of("serve", "--token", "")

    @pytest.mark.parametrize(
        ("arguments", "text"),
        [
            (("--port", "70000"), "must be a number from 0 to 65535"),
            (("--port", "x"), "must be a number from 0 to 65535"),
            (("--max-megapixels", "0"), "must be a number up to 10000"),
            (("--max-megapixels", "nan"), "must be a number up to 10000"),
            (("--queue", "0"), "must be an integer of at least 1"),
            (("--checkpoint", "none"), "none does not exist; give a working directory"),
        ],
    )
    def test_options(self, arguments, text):
        assert text in error_of("serve", "--port", "0", *arguments)

    @pytest.mark.parametrize("package", ["starlette", "uvicorn", "python_multipart"])
    def test_missing_extra(self, monkeypatch, package):
        for name in list(sys.modules):
            if name.startswith(("lcdnet_jax.serve", f"{package}.")) or name == package:
                monkeypatch.delitem(sys.modules, name)
        monkeypatch.setitem(sys.modules, package, None)
        message = error_of("serve", "--port", "0")
        assert message == (
            f"lcdnet-jax serve needs extra packages ({package} is not installed): pip install "
            "'lcdnet-jax[serve]'"
        )


def test_help(capsys):
    with pytest.raises(SystemExit) as end:
        run("serve", "--help")
    assert end.value.code == 0
    text = capsys.readouterr().out
    for option in ("--host", "--port", "--checkpoint", "--token", "--open", "--max-megapixels"):
        assert option in text
    assert "curl -F image=@photo.jpg" in text


def test_opens_the_page(monkeypatch, capsys):
    import webbrowser

    from lcdnet_jax.serve import Server

    opened = []
    monkeypatch.setattr(webbrowser, "open", lambda url: opened.append(url) or False)
    monkeypatch.setattr(Server, "run", lambda self: self._socket.close() or True)
    run("serve", "--port", "0", "--open", "--token", "a b")
    (url,) = opened
    assert url.startswith("http://127.0.0.1:")
    assert url.endswith("/?token=a+b")
    output = capsys.readouterr().out
    assert "a b" not in output
    assert "no browser was found; open the address yourself" in output


def test_warnings_about_the_image_that_is_computed_are_notes(monkeypatch, capsys):
    import warnings

    from lcdnet_jax.inference import MemoryWarning
    from lcdnet_jax.serve import Server

    def serve(self):
        self._socket.close()
        warnings.warn("windows do not fit", MemoryWarning, stacklevel=1)
        warnings.warn("something else", UserWarning, stacklevel=1)
        return True

    notes = []
    monkeypatch.setattr(Server, "run", serve)
    with warnings.catch_warnings():
        warnings.simplefilter("always", UserWarning)
        run("serve", "--port", "0")  # no image is computed
        errors = capsys.readouterr().err
        assert errors == "warning: windows do not fit\nwarning: something else\n"
        monkeypatch.setattr(Server, "add_note", lambda self, text: notes.append(text) or True)
        run("serve", "--port", "0")
    assert notes == ["windows do not fit"]
    assert capsys.readouterr().err == "warning: something else\n"


def test_modules_of_the_page_are_not_imported_by_others():
    """The extra is needed by this command only."""
    used = {
        path.relative_to(ROOT).as_posix()
        for path in (ROOT / "lcdnet_jax").rglob("*.py")
        if any(
            line.lstrip().startswith(("import starlette", "from starlette", "import uvicorn"))
            for line in pathlib.Path(path).read_text().splitlines()
        )
    }
    assert used
    assert all(path.startswith("lcdnet_jax/serve/") for path in used)
