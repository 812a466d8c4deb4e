"""A server that runs in a thread, and its client."""

import contextlib
import io
import os
import threading
import time

import httpx
import numpy as np
from PIL import Image

from lcdnet_jax.serve import Server, Settings


class Running:
    """A running server.

    Attributes:
        client: Sends requests to it.
        url: Its address.
    """

    def __init__(self, server, client):
        self._server, self.client, self.url = server, client, server.url

    @property
    def jobs(self):
        while self._server._jobs is None:  # the thread has just started
            time.sleep(0.01)
        return self._server._jobs

    def held(self):
        """Bytes that uploads, previews and results have reserved."""
        return self.jobs._held

    def folder(self):
        """The folder of its temporary files."""
        return self.jobs._root

    def count_files(self):
        """Number of temporary files and folders."""
        tree = os.walk(self.folder())  # unlike rglob, for folders that are being deleted
        return sum(len(folders) + len(files) for _, folders, files in tree)


@contextlib.contextmanager
def running(checkpoint, **settings):
    """Runs a server."""
    options = {"port": 0, "warm_up": False, "checkpoints": (str(checkpoint),), **settings}
    server = Server(Settings(**options))
    thread = threading.Thread(target=server.run, name="server")
    thread.start()
    try:
        token = options.get("token")
        headers = {} if token is None else {"Authorization": f"Bearer {token}"}
        # No proxy of the environment, no reading of ~/.netrc.
        with httpx.Client(
            base_url=server.url, headers=headers, timeout=60, trust_env=False
        ) as client:
            yield Running(server, client)
    finally:
        server.stop()
        thread.join(30)
        assert not thread.is_alive()


def png(height=20, width=30, seed=0):
    pixels = np.random.default_rng(seed).integers(0, 256, (height, width, 3), np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG")
    return buffer.getvalue()


def form(content=None, name="photo.png"):
    """The field of an image, for httpx."""
    return {"image": (name, png() if content is None else content)}


def add(server, content=None, name="photo.png", **query):
    """Adds a job and returns what the server says about it."""
    answer = server.client.post("/jobs", files=form(content, name), params=query)
    assert answer.status_code == 202, answer.text
    return answer.json()


def follow(server, job):
    """All states of a job until it ends, from its events."""
    with server.client.stream("GET", f"/jobs/{job['id']}/events") as answer:
        assert answer.headers["content-type"].startswith("text/event-stream")
        lines = [line for line in answer.iter_lines() if line.startswith("data: ")]
    return [httpx.Response(200, text=line.removeprefix("data: ")).json() for line in lines]


def finish(server, job):
    """The final state of a job."""
    return follow(server, job)[-1]
