"""The process of the server: socket, signals, folder of temporary files."""

import contextlib
import errno
import logging
import signal
import socket
import threading
from collections.abc import Callable, Generator
from types import FrameType

import uvicorn
from PIL import Image

from lcdnet_jax.messages import describe_system_error
from lcdnet_jax.serve.app import App
from lcdnet_jax.serve.catalog import Catalog
from lcdnet_jax.serve.folder import create_folder
from lcdnet_jax.serve.jobs import Jobs
from lcdnet_jax.serve.protocol import Protocol
from lcdnet_jax.serve.settings import ServeError, Settings

# More connections than these are answered with 503.
_MOST_CONNECTIONS = 256

# Time for responses that are under way when the server ends.
_SHUTDOWN_SECONDS = 3


class Server:
    """A server that listens from the start and answers while :meth:`run` runs.

    Args:
        settings: The settings.

    Attributes:
        url: Address of the page, without the token.

    Raises:
        ServeError: If the address cannot be used, as when the port is in use.
        CheckpointError, ConfigError, CardError, ValueError: If weights cannot be used.
    """

    def __init__(self, settings: Settings):
        self._settings = settings
        self._socket = _listen(settings)
        try:
            self._catalog = Catalog(settings.checkpoints)
        except BaseException:
            self._socket.close()
            raise
        host, port = self._socket.getsockname()[:2]
        shown = {"0.0.0.0": socket.gethostname(), "::": socket.gethostname()}.get(host, host)
        self.url = f"http://{f'[{shown}]' if ':' in shown else shown}:{port}/"
        self._jobs: Jobs | None = None
        self._uvicorn: _Uvicorn | None = None
        self._is_stopped = False

    def run(self) -> bool:
        """Answers requests until SIGINT or SIGTERM, or until :meth:`stop` is called.

        Temporary files are deleted at the end.

        Returns:
            Whether nothing is computed any more. If not, a thread of JAX still runs.
        """
        logging.getLogger("python_multipart").setLevel(logging.ERROR)  # it warns of wrong forms
        before, Image.MAX_IMAGE_PIXELS = Image.MAX_IMAGE_PIXELS, None  # ``max_megapixels`` counts
        # The folder is made last and deleted while signals still only end the server.
        with contextlib.ExitStack() as cleanup:
            cleanup.callback(setattr, Image, "MAX_IMAGE_PIXELS", before)
            cleanup.callback(self._socket.close)
            cleanup.enter_context(_handle_signals(self._handle_signal))
            folder = cleanup.enter_context(create_folder())
            jobs = Jobs(folder, self._catalog, self._settings)
            self._jobs, self._uvicorn = jobs, _Uvicorn(self._configure(jobs), jobs)
            if self._is_stopped:
                return True
            jobs.start()
            try:
                self._uvicorn.run(sockets=[self._socket])
            finally:
                jobs.close()
                has_ended = jobs.join(_SHUTDOWN_SECONDS)
            return has_ended

    def _configure(self, jobs: Jobs) -> uvicorn.Config:
        protocol = type(
            "TimedProtocol", (Protocol,), {"STALL_SECONDS": self._settings.stall_seconds}
        )
        return uvicorn.Config(
            App(jobs, self._catalog, self._settings).create(),
            http=protocol,
            ws="none",
            loop="asyncio",
            lifespan="off",
            log_config=None,
            log_level="error",
            access_log=False,
            server_header=False,
            limit_concurrency=_MOST_CONNECTIONS,
            timeout_graceful_shutdown=_SHUTDOWN_SECONDS,
        )

    def _handle_signal(self, number: int, frame: FrameType | None) -> None:
        self._is_stopped = True
        if self._uvicorn is not None:
            self._uvicorn.handle_exit(number, frame)

    def add_note(self, text: str) -> bool:
        """Adds a line to what the user should know about the image that is computed.

        Args:
            text: The line, as a warning.

        Returns:
            Whether an image is computed.
        """
        return self._jobs is not None and self._jobs.add_note(text)

    def stop(self) -> None:
        """Ends :meth:`run`, from another thread."""
        self._is_stopped = True
        if self._uvicorn is not None:
            self._uvicorn.stop()


class _Uvicorn(uvicorn.Server):
    """Ends quietly when it is told to.

    Args:
        config: The configuration.
        jobs: The jobs, which are canceled first: streams of events would not end otherwise.
    """

    def __init__(self, config: uvicorn.Config, jobs: Jobs):
        super().__init__(config)
        self._jobs = jobs

    def stop(self) -> None:
        self.should_exit = True
        self._jobs.close()

    @contextlib.contextmanager
    def capture_signals(self) -> Generator[None, None, None]:
        """Does nothing: ``Server.run`` handles signals, also while it cleans up."""
        yield

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """Ends the server; without waiting for responses if asked twice."""
        self.force_exit = self.should_exit
        self.should_exit = True
        # Not here: the lock of the jobs may be held by the code that the signal interrupts.
        threading.Thread(target=self._jobs.close, daemon=True).start()


@contextlib.contextmanager
def _handle_signals(
    handler: Callable[[int, FrameType | None], None],
) -> Generator[None, None, None]:
    """Sets the handler of SIGINT and SIGTERM; does nothing outside the main thread."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    numbers = (signal.SIGINT, signal.SIGTERM)
    before = {number: signal.signal(number, handler) for number in numbers}
    try:
        yield
    finally:
        for number, earlier in before.items():
            signal.signal(number, earlier)


def _listen(settings: Settings) -> socket.socket:
    """Opens the socket, so that errors and the port are known before anything else happens."""
    host, port = settings.host, settings.port
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
        family, _, _, _, address = found[0]
        opened = socket.create_server(address[:2], family=family, backlog=128)
    except (OSError, OverflowError, UnicodeError) as error:
        code = getattr(error, "errno", None)
        if isinstance(error, socket.gaierror | UnicodeError):
            raise ServeError(
                f"{host} is no address of this machine; leave --host off, or give one"
            ) from error
        if isinstance(error, OSError) and code is not None:
            raise ServeError(_describe_port_error(error, host, port)) from error
        raise ServeError(f"{host}:{port} cannot be used ({error}); give another --port") from error
    return opened


def _describe_port_error(error: OSError, host: str, port: int) -> str:
    if error.errno == errno.EADDRINUSE:
        return (
            f"port {port} of {host} is in use, perhaps by another lcdnet-jax serve; choose another "
            f"one, as --port {port + 1 if port < 65535 else 0}, or --port 0 for any free one"
        )
    if error.errno == errno.EADDRNOTAVAIL:
        return f"{host} is no address of this machine; leave --host off, or give one"
    if error.errno == errno.EACCES:
        return f"port {port} needs more rights; choose one above 1023, as --port 7860"
    return f"{host}:{port} cannot be used ({describe_system_error(error)}); give another --port"
