"""Time limits of connections, which uvicorn does not have.

A client that does not finish its headers, or does not read a response, would hold a connection for
ever. Bodies have limits of their own, see :mod:`lcdnet_jax.serve.uploads`.
"""

import asyncio

from uvicorn.protocols.http.h11_impl import H11Protocol


class Protocol(H11Protocol):
    """HTTP/1.1 with time limits."""

    STALL_SECONDS = 20.0

    _waits_for_headers: asyncio.TimerHandle | None = None
    _waits_for_reader: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Starts to wait for a request."""
        super().connection_made(transport)
        self._watch_headers()

    def data_received(self, data: bytes) -> None:
        """Waits for the rest of a request."""
        super().data_received(data)
        self._watch_headers()

    def connection_lost(self, exc: Exception | None) -> None:
        """Ends all waiting."""
        super().connection_lost(exc)
        for timer in (self._waits_for_headers, self._waits_for_reader):
            if timer is not None:
                timer.cancel()

    def pause_writing(self) -> None:
        """Starts to wait for a client that does not read."""
        super().pause_writing()
        self._waits_for_reader = self.loop.call_later(self.STALL_SECONDS, self.transport.abort)

    def resume_writing(self) -> None:
        """Ends waiting for the client."""
        super().resume_writing()
        if self._waits_for_reader is not None:
            self._waits_for_reader.cancel()

    def _watch_headers(self) -> None:
        """Closes the connection later unless a request is complete by then."""
        is_answering = self.cycle is not None and not self.cycle.response_complete
        if is_answering:
            if self._waits_for_headers is not None:
                self._waits_for_headers.cancel()
                self._waits_for_headers = None
        elif self._waits_for_headers is None:
            self._waits_for_headers = self.loop.call_later(self.STALL_SECONDS, self._give_up)

    def _give_up(self) -> None:
        if self.cycle is None or self.cycle.response_complete:
            self.transport.abort()
