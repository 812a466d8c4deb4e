"""Description of the HTTP API, in the format of OpenAPI 3.1."""

from typing import Any

from lcdnet_jax._version import __version__


def describe() -> dict[str, Any]:
    """Describes the requests.

    Returns:
        The document of ``GET /openapi.json``.
    """
    return {
        "openapi": "3.1.0",
        "info": {"title": "lcdnet-jax", "version": __version__},
        "paths": {},
    }
