"""Errors of requests, as JSON."""

from collections.abc import Mapping

from starlette.responses import JSONResponse


class RequestError(Exception):
    """A request that cannot be answered.

    Args:
        status: Status of HTTP.
        message: The cause and the fix, one line.
        headers: Further headers of the response.
    """

    def __init__(self, status: int, message: str, headers: Mapping[str, str] | None = None):
        super().__init__(message)
        self.status = status
        self.headers = dict(headers or {})

    def respond(self) -> JSONResponse:
        """Makes the response.

        Returns:
            JSON with the message as "error".
        """
        return JSONResponse({"error": str(self)}, self.status, self.headers)
