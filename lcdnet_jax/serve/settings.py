"""Settings of a server."""

import dataclasses
import ipaddress

# Bytes of a file for each pixel (16 bits, four channels), and beyond that for metadata.
_BYTES_PER_PIXEL = 8
_SLACK = 2**26


class ServeError(ValueError):
    """The server cannot start. The message names the cause and the fix."""


@dataclasses.dataclass(frozen=True)
class Settings:
    """Settings of a server.

    Attributes:
        host: Address to listen at.
        port: Port, from 0 to 65535. 0 means any free one.
        token: Text that every request must have, or None. Addresses that other machines reach
            need one.
        checkpoints: Weights besides the pretrained ones, as paths. The first is the default.
        max_megapixels: Largest image, in millions of pixels.
        queue: Most images that wait while one is computed, at least 1.
        kept_seconds: How long results are kept.
        unattended_seconds: How long a job waits or is computed though nobody asks about it.
        stall_seconds: How long a client may neither send nor read. An upload has to be as fast as
            a kilobyte per second after that time.
        kept_bytes: Most bytes of all uploads, previews and results together. Half of the free disk
            space if that is less.
        warm_up: Whether pretrained default weights are compiled for the demo before anybody asks.
    """

    host: str = "127.0.0.1"
    port: int = 7860
    token: str | None = None
    checkpoints: tuple[str, ...] = ()
    max_megapixels: float = 100.0
    queue: int = 16
    kept_seconds: float = 3600.0
    unattended_seconds: float = 300.0
    stall_seconds: float = 20.0
    kept_bytes: int = 2**33
    warm_up: bool = True

    def __post_init__(self) -> None:
        if self.token == "":
            raise ServeError("the token is empty, as an unset variable is; give a long random text")
        if self.token is not None and not (self.token.isascii() and self.token.isprintable()):
            raise ServeError("the token has characters that headers of HTTP cannot hold; use ASCII")
        if self.token is None and not is_loopback(self.host):
            raise ServeError(
                f"{self.host} is not 127.0.0.1, ::1 or localhost, so other machines may reach it, "
                "and a token is needed: --token TEXT, with a long random text; or leave --host off"
            )

    @property
    def body_bytes(self) -> int:
        """Most bytes of the body of a request."""
        return round(self.max_megapixels * 1e6) * _BYTES_PER_PIXEL + _SLACK


def is_loopback(host: str) -> bool:
    """Tells whether only this machine reaches an address.

    Args:
        host: A name or an IP address, without port and brackets.

    Returns:
        True for "localhost", 127.0.0.0/8 and ::1.
    """
    if host.lower() == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
