"""Jobs: the queue, canceling, limits of time and space, and messages."""

import socket
import threading
import time

import httpx
import pytest

from lcdnet_jax.serve import jobs, uploads
from tests.serve.running import add, finish, form, png


def wait_until(claim, seconds=20):
    end = time.monotonic() + seconds
    while not claim():
        assert time.monotonic() < end
        time.sleep(0.02)


def state(server, job):
    return server.client.get(f"/jobs/{job['id']}").json()["state"]


def test_a_full_queue(start, gate):
    with start(queue=2) as server:
        running = add(server)
        assert gate.reached.acquire(timeout=20)
        waiting = [add(server), add(server)]
        assert [job["queue_position"] for job in waiting] == [1, 2]
        for path in ("/jobs", "/restore"):
            answer = server.client.post(path, files=form())
            assert answer.status_code == 429
            assert int(answer.headers["retry-after"]) > 0
            assert "the queue is full (2 images)" in answer.json()["error"]
        assert server.client.get("/healthz").json()["queued"] == 2
        server.client.delete(f"/jobs/{waiting[0]['id']}")
        assert state(server, waiting[0]) == "canceled"
        last = add(server)
        gate.open()
        for job in (running, waiting[1], last):
            assert finish(server, job)["state"] == "done"


def test_canceling_between_windows(server, gate):
    job = add(server)
    assert gate.reached.acquire(timeout=20)
    held = server.held()
    server.client.delete(f"/jobs/{job['id']}")
    assert state(server, job) == "canceled"
    gate.open(1)  # the window ends, and the next one does not begin
    wait_until(lambda: server.held() < held)
    gate.windows = 0
    assert finish(server, add(server))["state"] == "done"
    assert server.client.get(f"/jobs/{job['id']}/result").status_code == 404


def test_restoring_ends_when_its_client_vanishes(server, gate):
    held = server.held()
    request = httpx.Request("POST", f"{server.url}restore", files=form())
    head = "".join(f"{name}: {value}\r\n" for name, value in request.headers.items())
    address = server.client.base_url.host, server.client.base_url.port
    with socket.create_connection(address) as client:
        client.sendall(f"POST /restore HTTP/1.1\r\n{head}\r\n".encode() + request.read())
        assert gate.reached.acquire(timeout=20)
        assert server.jobs._current.state == "restoring"
    wait_until(lambda: server.jobs._current.state == "canceled")
    gate.open(1)
    wait_until(lambda: server.held() == held)


def test_a_job_whose_client_vanishes_before_the_answer(server, monkeypatch):
    """Nobody knows its id, so nobody could cancel it."""
    held = server.held()
    request = httpx.Request("POST", f"{server.url}jobs", files=form())
    head = "".join(f"{name}: {value}\r\n" for name, value in request.headers.items())
    client = socket.create_connection((server.client.base_url.host, server.client.base_url.port))
    read, has_read = uploads._read_header, threading.Event()

    def read_slowly(*arguments):
        client.close()
        time.sleep(0.2)
        has_read.set()
        return read(*arguments)

    monkeypatch.setattr(uploads, "_read_header", read_slowly)
    client.sendall(f"POST /jobs HTTP/1.1\r\n{head}\r\n".encode() + request.read())
    assert has_read.wait(20)
    wait_until(lambda: server.held() == held)


@pytest.mark.extended
def test_jobs_that_nobody_asks_about(start, gate, monkeypatch):
    monkeypatch.setattr(jobs, "_SWEEP_SECONDS", 0.1)
    with start(unattended_seconds=3.0) as server:
        left, followed = add(server), add(server)
        while server.jobs._jobs[left["id"]].state != "canceled":
            time.sleep(0.1)
            assert state(server, followed) == "queued"
        answer = server.client.get(f"/jobs/{left['id']}").json()
        assert answer["state"] == "canceled"
        assert "nobody asked" in answer["error"]
        gate.open()
        assert finish(server, followed)["state"] == "done"


def test_results_are_kept_for_a_time(start, monkeypatch):
    monkeypatch.setattr(jobs, "_SWEEP_SECONDS", 0.1)
    with start(kept_seconds=0.5) as server:
        job = finish(server, add(server))
        wait_until(lambda: not list(server.folder().iterdir()))
        assert server.client.get(f"/jobs/{job['id']}").status_code == 404
        assert server.held() == 0


def test_the_oldest_results_make_room(start):
    content = png(100, 100)
    with start(kept_bytes=int(2.5 * len(content) * 2)) as server:
        made = [finish(server, add(server, content)) for _ in range(4)]
        found = [server.client.get(f"/jobs/{job['id']}").status_code for job in made]
        assert found[0] == 404
        assert found[-1] == 200
        assert server.held() <= 2.5 * len(content) * 2


def test_space_that_is_missing_for_now_or_for_ever(start, gate):
    content = png(100, 100)
    with start(kept_bytes=int(1.5 * len(content))) as server:
        running = add(server, content)
        assert gate.reached.acquire(timeout=20)
        for size, status, text in [
            (100, 429, "as many images as it may"),
            (300, 507, "needs more than 0.0 MB"),
        ]:
            answer = server.client.post("/jobs", files=form(png(size, size)))
            assert (answer.status_code, text in answer.json()["error"]) == (status, True)
        gate.open()
        assert finish(server, running)["state"] == "done"


def test_notes_about_the_image_that_is_computed(server, gate):
    wait_until(lambda: server.jobs._current is None)
    assert not server.jobs.add_note("nobody can read it")
    job = add(server)
    assert gate.reached.acquire(timeout=20)
    assert server.jobs.add_note("windows of 9x9 pixels do not fit into memory")
    gate.open()
    assert finish(server, job)["notes"] == ["windows of 9x9 pixels do not fit into memory"]


def test_the_oldest_jobs_are_forgotten(start, monkeypatch):
    monkeypatch.setattr(jobs, "_MOST_JOBS", 4)
    with start() as server:
        made = [finish(server, add(server)) for _ in range(6)]
        found = [server.client.get(f"/jobs/{job['id']}").status_code for job in made]
        assert found == [404, 404, 200, 200, 200, 200]


def test_messages_name_no_file_of_the_server(server):
    upload = server.jobs.create_upload()
    try:
        upload.set_name("my photo.PNG")
        target = upload.source.with_name(f"{upload.source.stem}.restored.png")
        text = f"{upload.source}: bad; cannot write {target}: in {upload.folder}"
        described = server.jobs.describe_error(upload, "my photo.restored.PNG", text)
        assert described == (
            "my photo.PNG: bad; cannot write my photo.restored.PNG: in the server's folder"
        )
    finally:
        server.jobs.discard(upload)


def test_only_the_suffix_of_a_name_is_used(server):
    upload = server.jobs.create_upload()
    upload.set_name("secret name.JPEG")
    assert "secret" not in str(upload.source)
    assert upload.source.suffix == ".jpeg"
    assert upload.folder.stat().st_mode & 0o777 == 0o700
    server.jobs.discard(upload)
    assert not upload.folder.exists()


@pytest.mark.extended
def test_jobs_of_eight_clients(server, restored):
    """50 mixed requests at once: each gets its own result, and nothing stays."""
    images = [png(20 + i, 30, seed=i) for i in range(8)]
    expected = [restored(image, "a.png") for image in images]
    threads_before, held, files = threading.active_count(), server.held(), server.count_files()
    wrong = []

    def ask(i):
        for number in range(i, 50, 8):
            if number % 3 == 0:
                answer = server.client.post("/restore", files=form(images[i], f"{number}.png"))
                if answer.content != expected[i]:
                    wrong.append((number, answer.status_code, answer.text[:200]))
            else:
                job = add(server, images[i], f"{number}.png")
                server.client.get(f"/jobs/{job['id']}/preview/before")
                finish(server, job)
                if server.client.get(f"/jobs/{job['id']}/result").content != expected[i]:
                    wrong.append(number)
                server.client.get(f"/jobs/{job['id']}/preview/after", params={"size": 10})
                server.client.get("/results.zip", params={"id": job["id"]})
                server.client.delete(f"/jobs/{job['id']}")

    threads = [threading.Thread(target=ask, args=(i,)) for i in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(120)
    assert not wrong
    wait_until(lambda: server.held() == held)
    wait_until(lambda: server.count_files() == files)
    wait_until(lambda: threading.active_count() <= threads_before + 40)  # anyio's pool
