"""The process of the server: its socket, its files, and what hostile clients leave behind."""

import contextlib
import json
import pathlib
import socket
import struct
import threading
import time
import zlib

import httpx
import pytest
from PIL import Image

from lcdnet_jax.serve import ServeError, Server, Settings
from tests.image_io.files import photo, saved
from tests.serve.running import add, finish, form, png


class TestAddress:
    def test_in_use(self, server):
        port = server.client.base_url.port
        with pytest.raises(ServeError) as error:
            Server(Settings(port=port))
        assert str(error.value) == (
            f"port {port} of 127.0.0.1 is in use, perhaps by another lcdnet-jax serve; choose "
            f"another one, as --port {port + 1}, or --port 0 for any free one"
        )

    @pytest.mark.parametrize("host", ["192.0.2.1", "no.such.host.invalid"])
    def test_of_another_machine(self, host):
        with pytest.raises(ServeError, match=f"{host} is no address of this machine"):
            Server(Settings(host=host, port=0, token="x"))

    def test_of_ipv6(self, start):
        if not socket.has_ipv6:
            pytest.skip("this machine has no IPv6")
        try:
            socket.create_server(("::1", 0), family=socket.AF_INET6).close()
        except OSError:
            pytest.skip("this machine has no IPv6")
        with start(host="::1") as server:
            assert server.url.startswith("http://[::1]:")
            assert server.client.get("/healthz").status_code == 200

    def test_of_all_of_this_machine(self, start):
        with start(host="0.0.0.0", token="secret") as server:
            port = server.client.base_url.port
            local = f"http://127.0.0.1:{port}/healthz"
            bearer = {"Authorization": "Bearer secret"}
            assert httpx.get(local, trust_env=False).status_code == 401
            assert httpx.get(local, headers=bearer, trust_env=False).status_code == 200


def test_wrong_weights_free_the_port(tmp_path):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    for _ in range(2):
        with pytest.raises(ValueError, match="does not exist"):
            Server(Settings(port=port, checkpoints=(str(tmp_path / "none"),)))


def test_files_are_deleted_at_the_end(start, gate):
    before = Image.MAX_IMAGE_PIXELS
    with start() as server:
        folder = server.folder()
        assert folder.stat().st_mode & 0o777 == 0o700
        add(server)
        assert gate.reached.acquire(timeout=20)
        address = f"{server.url}jobs/{add(server)['id']}/events"
        has_begun = threading.Event()
        lines = []
        events = threading.Thread(target=follow_to_the_end, args=(address, has_begun, lines))
        events.start()
        assert has_begun.wait(20)
        assert server.count_files() > 0
        gate.open()
    events.join(20)
    assert not events.is_alive()
    assert '"state": "canceled"' in lines[-1]
    assert not folder.exists()
    assert before == Image.MAX_IMAGE_PIXELS


def follow_to_the_end(address, has_begun, lines):
    with httpx.stream("GET", address, timeout=60, trust_env=False) as answer:
        for line in filter(None, answer.iter_lines()):
            lines.append(line)
            has_begun.set()


def bomb(width, height):
    """A PNG of few bytes and many pixels."""

    def chunk(kind, data):
        return (
            struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        )

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    rows = zlib.compress(bytes(10_000))
    return (
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", rows) + chunk(b"IEND", b"")
    )


def profile_bomb():
    """A PNG whose color profile grows to 50 megabytes."""
    content = saved(photo(), "PNG")
    data = b"x\0\0" + zlib.compress(bytes(50_000_000), 9)
    chunk = struct.pack(">I", len(data)) + b"iCCP" + data
    return content[:33] + chunk + struct.pack(">I", zlib.crc32(chunk[4:])) + content[33:]


def raw_requests(host):
    """Requests that no library would send, and whether the server must answer them."""
    head = f"Host: {host}\r\nContent-Type: multipart/form-data; boundary=b\r\n"
    part = '--b\r\nContent-Disposition: form-data; name="image"; filename="a.png"\r\n'
    bodies = [
        "",
        "--b--\r\n",
        part,
        f"{part}\r\nabc",
        f"{part}\r\nabc\r\n--b",
        part.replace("--b", "--c") + "\r\nabc\r\n--c--\r\n",
        f"{part}{'X: ' + 'y' * 5000}\r\n\r\nabc\r\n--b--\r\n",
        f"{part}" + "".join(f"X-{i}: y\r\n" for i in range(2000)) + "\r\nabc\r\n--b--\r\n",
        part.replace('name="image"; ', "") + "\r\nabc\r\n--b--\r\n",
        part.replace("a.png", "a" * 9000 + ".png") + "\r\nabc\r\n--b--\r\n",
        "--b\r\n" * 3000,
        "\r\n" * 3000 + part,
        "\0" * 3000,
    ]
    for body in bodies:
        for path in ("/restore", "/jobs"):
            length = f"Content-Length: {len(body)}\r\n"
            yield f"POST {path} HTTP/1.1\r\n{head}{length}\r\n{body}"
    yield f"GET / HTTP/1.1\r\nHost: {host}\r\nX: {'y' * 100_000}\r\n\r\n"
    yield f"GET /{'a' * 100_000} HTTP/1.1\r\nHost: {host}\r\n\r\n"
    yield "GET / HTTP/1.1\r\n\r\n"
    yield f"GET / HTTP/1.1\r\nHost: {host}\r\nHost: evil.example\r\n\r\n"
    yield "GET http://evil.example/ HTTP/1.1\r\nHost: evil.example\r\n\r\n"
    yield f"POST /jobs HTTP/1.1\r\n{head}Content-Length: -5\r\n\r\n"
    yield f"POST /jobs HTTP/1.1\r\n{head}Content-Length: 5\r\nContent-Length: 6\r\n\r\nabcdef"
    yield f"POST /jobs HTTP/1.1\r\n{head}Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n"
    yield f"POST /jobs HTTP/1.1\r\n{head}Transfer-Encoding: chunked\r\n\r\nzz\r\n"
    yield f"BREW /jobs HTTP/1.1\r\nHost: {host}\r\n\r\n"
    yield "\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03"
    upgrade = "Upgrade: websocket\r\nConnection: Upgrade\r\n"
    yield f"GET /weights HTTP/1.1\r\nHost: {host}\r\n{upgrade}\r\n"


def resident_bytes():
    for line in pathlib.Path("/proc/self/status").read_text().splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1]) * 1024
    raise AssertionError


@pytest.mark.extended
def test_hostile_clients(start):
    """All are refused, and leave neither files, jobs nor memory behind."""
    with start(stall_seconds=0.5, max_megapixels=5.0) as server:
        client, host = server.client, server.client.base_url.host
        expected = finish(server, add(server))
        client.delete(f"/jobs/{expected['id']}")
        count = 0

        def refused(answer, *statuses):
            nonlocal count
            count += 1
            assert answer.status_code in statuses, (answer.status_code, answer.text[:300])
            assert list(json.loads(answer.content)) == ["error"]
            for secret in (str(server.folder()), "Traceback", "site-packages"):
                assert secret not in answer.text

        files, memory, threads = server.count_files(), resident_bytes(), threading.active_count()
        for name in ("evil.example", "127.0.0.1.evil.example", "", "localhost@evil.example"):
            for method, path in (("GET", "/weights"), ("POST", "/jobs"), ("GET", "/demo")):
                refused(client.request(method, path, headers={"Host": name}), 400, 403)
        for origin in ("http://evil.example", "null", "https://127.0.0.1", "http://localhost:1"):
            for path in ("/jobs", "/restore"):
                refused(client.post(path, files=form(), headers={"Origin": origin}), 403)
        for name in ("../../../etc/cron.d/x.png", "..\\..\\x.png", "/etc/passwd.png", "\0.png"):
            content = png()[:-30]
            refused(client.post("/restore", files=form(content, name)), 415, 422)
        for bad in ("x", "../jobs", "..%2f..%2fetc%2fpasswd", "%00", "a" * 5000, "' OR 1=1"):
            for path in ("", "/result", "/preview/before", "/events"):
                refused(client.get(f"/jobs/{bad}{path}"), 404, 405)
            refused(client.get("/results.zip", params={"id": bad}), 404)
        for path in ("/static/../jobs.py", "/static/..%2fjobs.py", "/static//etc/passwd", "/.git"):
            refused(client.get(path), 404)
        for content in (
            bomb(30_000, 30_000),
            bomb(2**31 - 1, 2**31 - 1),
            bomb(3000, 1000),
            b"II*\0",
        ):
            for name in ("a.png", "a.tif", "a.dng"):
                refused(client.post("/restore", files=form(content, name)), 413, 422)
        answer = client.post("/restore", files=form(profile_bomb()))
        assert answer.status_code in (200, 422)
        for request in raw_requests(host):
            count += 1
            with socket.create_connection((host, client.base_url.port), timeout=20) as connection:
                connection.sendall(request.encode("latin-1"))
                answered = b""
                with contextlib.suppress(ConnectionResetError):
                    answered = connection.recv(2000)
            assert answered[:13] in (b"", *(f"HTTP/1.1 {s} ".encode() for s in ALLOWED)), answered
        assert count >= 100
        assert finish(server, add(server))["state"] == "done"  # it works as before
        end = time.monotonic() + 20
        while server.count_files() > files + 2 and time.monotonic() < end:
            time.sleep(0.1)
        assert len(server.jobs._jobs) == 1
        assert server.count_files() == files + 3  # of the last job: a folder, an image, a result
        assert resident_bytes() - memory < 150e6
        assert threading.active_count() <= threads + 40


ALLOWED = (400, 401, 403, 404, 405, 408, 413, 415, 422, 200)
