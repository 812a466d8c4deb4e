"""Local web page and HTTP API: restores photographs that a browser or an app sends.

``lcdnet-jax serve`` runs it. The extra ``serve`` installs what it needs. One thread computes, one
image after another; all other requests are answered meanwhile. ``openapi.py`` describes the
requests, and ``GET /openapi.json`` returns that description.

| file | holds |
|---|---|
| ``server.py``, ``folder.py`` | the process: socket, signals, folder of temporary files |
| ``protocol.py`` | time limits of connections |
| ``guard.py`` | who may ask: Host, Origin, token; headers of all responses |
| ``app.py`` | the requests |
| ``uploads.py`` | images that are received |
| ``jobs.py``, ``job.py`` | images that wait, are computed or kept; the thread that computes |
| ``catalog.py`` | weights, their restorers and their speed |
| ``previews.py`` | 8-bit sRGB pictures for the page |
| ``demo.py`` | the photograph of the demo |
| ``openapi.py`` | description of the requests |
| ``settings.py``, ``errors.py`` | settings, errors |
| ``static/`` | the page |
"""

from lcdnet_jax.serve.server import Server
from lcdnet_jax.serve.settings import ServeError, Settings

__all__ = ["ServeError", "Server", "Settings"]
