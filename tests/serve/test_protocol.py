"""Connections that begin and do not go on."""

import contextlib
import socket
import threading
import time

import pytest

from tests.serve.running import form, png


def connect(server):
    return socket.create_connection((server.client.base_url.host, server.client.base_url.port))


def read_all(client):
    """What comes until the server closes the connection."""
    client.settimeout(20)
    content = b""
    with contextlib.suppress(ConnectionResetError):
        while data := client.recv(2**20):
            content += data
    return content


def test_headers_that_do_not_end(start):
    with start(stall_seconds=0.5) as server:
        request = f"GET /healthz HTTP/1.1\r\nHost: {server.client.base_url.host}\r\n"
        for sent in ("", "GET /heal", request):
            with connect(server) as client:
                client.sendall(sent.encode())
                begin = time.monotonic()
                assert read_all(client) == b""
                assert time.monotonic() - begin > 0.3
        with connect(server) as client:  # the second request of a connection
            client.sendall(f"{request}\r\n".encode())
            assert client.recv(2000).startswith(b"HTTP/1.1 200 OK")
            client.sendall(request.encode())
            assert b"HTTP" not in read_all(client)


@pytest.mark.extended
def test_a_restoration_may_take_longer(start, gate):
    """Only the client's side has a limit."""
    with start(stall_seconds=0.3) as server:
        threading.Timer(1.5, gate.open).start()
        assert server.client.post("/restore", files=form()).status_code == 200


@pytest.mark.extended
def test_a_client_that_does_not_read(start):
    with start(stall_seconds=0.5) as server:
        content = png(700, 1000)  # more than the buffers of the system take
        job = server.client.post("/jobs", files=form(content)).json()
        with connect(server) as client:
            client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            request = f"GET /jobs/{job['id']}/preview/before?size=4000 HTTP/1.1\r\n"
            for _ in range(20):
                client.sendall(f"{request}Host: {server.client.base_url.host}\r\n\r\n".encode())
            time.sleep(3)
            assert len(read_all(client)) < 20 * len(content)
        assert server.client.get("/healthz").status_code == 200
