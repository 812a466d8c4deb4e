"""Images that are received: names, limits of size and time, and wrong forms."""

import contextlib
import socket
import time

import pytest

from lcdnet_jax.serve.errors import RequestError
from lcdnet_jax.serve.uploads import clean_name
from tests.serve.running import form, png


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ("photo.jpg", "photo.jpg"),
        ("PHOTO.JPG", "PHOTO.JPG"),
        ("../../etc/passwd.png", "passwd.png"),
        ("C:\\Users\\me\\a b.tiff", "a b.tiff"),
        ("/dev/null/\n\x1b[31mred\u202e.png", "[31mred.png"),
        ("東京 é.heic", "東京 é.heic"),
        ("x" * 500 + ".png", "x" * 242 + ".png"),
        ("東" * 100 + ".png", "東" * 80 + ".png"),
        ("a %22b%22%0D%0A.png", 'a "b".png'),
        ("a.tar.png", "a.tar.png"),
    ],
)
def test_names(given, expected):
    assert clean_name(given) == expected


@pytest.mark.parametrize(
    "given", ["", "photo", "photo.gif", ".png", "a.png/..", "a.png/", "a.png\0x"]
)
def test_names_of_no_image(given):
    with pytest.raises(RequestError, match=r"has no suffix of a format.*\.jpg, ") as error:
        clean_name(given)
    assert error.value.status == 415


def test_wrong_forms(server):
    def post(**options):
        return server.client.post("/restore", **options)

    cases = [
        (post(content=b"abc"), 415, "the body is no form"),
        (post(json={"image": "x"}), 415, "the body is no form"),
        (post(data={"image": "x"}), 415, "the body is no form"),
        (post(files={"file": ("a.png", png())}), 400, "must have one field image"),
        (post(files=form(), data={"more": "x"}), 400, "must have one field image"),
        (post(files=[*form().items(), *form().items()]), 400, "must have one field image"),
        (post(files={"image": (None, "text")}), 400, "must have one field image"),
        (post(files=form(b"", "a.png")), 422, "a.png: the file is empty"),
        (post(files=form(b"hello", "a.png")), 422, "a.png: contains no PNG, JPEG"),
        (post(files=form(png(), "a.txt")), 415, "a.txt has no suffix"),
        (post(content=b"--b\r\n", headers={"Content-Type": "multipart/form-data"}), 400, "form"),
    ]
    for answer, status, text in cases:
        assert (answer.status_code, text in answer.json()["error"]) == (status, True), answer.text
        assert str(server.folder()) not in answer.text


@pytest.mark.extended
def test_too_many_pixels_and_bytes(start):
    with start(max_megapixels=0.0005) as server:
        answer = server.client.post("/jobs", files=form(png(20, 30)))
        assert answer.status_code == 413
        assert "photo.png: 30x20 are 0.0 megapixels" in answer.json()["error"]
        assert "--max-megapixels" in answer.json()["error"]
        large = bytes(2**26 + 10_000)
        for body in ({"files": form(large)}, {"content": iter([BEGIN, large]), "headers": HEADERS}):
            answer = server.client.post("/jobs", **body)
            assert answer.status_code == 413
            assert "larger than 67 MB" in answer.json()["error"]
        assert server.held() == 0
        assert server.count_files() == 0


HEADERS = {"Content-Type": "multipart/form-data; boundary=b"}
BEGIN = b'--b\r\nContent-Disposition: form-data; name="image"; filename="a.png"\r\n\r\n'


def start_of_request(server):
    lines = ["POST /restore HTTP/1.1", f"Host: {server.client.base_url.host}"]
    lines += ["Content-Length: 1000000", f"Content-Type: {HEADERS['Content-Type']}"]
    return "\r\n".join([*lines, "", ""]).encode() + BEGIN


def test_a_slow_client_is_sent_away_and_blocks_nobody(start):
    with start(stall_seconds=1.0) as server:
        host, port = server.client.base_url.host, server.client.base_url.port
        with socket.create_connection((host, port), timeout=20) as slow:
            slow.sendall(start_of_request(server))
            begin = time.monotonic()
            assert server.client.post("/restore", files=form()).status_code == 200
            assert b" 408 " in slow.recv(1000)
            assert time.monotonic() - begin < 15
        # One byte now and then is too slow, too.
        with socket.create_connection((host, port), timeout=20) as slow:
            slow.sendall(start_of_request(server))
            with contextlib.suppress(OSError):  # the server has closed the connection
                for _ in range(40):
                    time.sleep(0.1)
                    slow.sendall(b"x")
            assert b" 408 " in slow.recv(1000)
        assert server.held() == 0


def test_a_client_that_vanishes_leaves_nothing(server):
    before = server.held(), server.count_files()
    host, port = server.client.base_url.host, server.client.base_url.port
    for _ in range(5):
        with socket.create_connection((host, port), timeout=20) as client:
            client.sendall(start_of_request(server))
            client.sendall(bytes(50_000))
    end = time.monotonic() + 20
    while (server.held(), server.count_files()) != before:
        assert time.monotonic() < end
        time.sleep(0.05)
