"""The requests of a running server."""

import io
import json
import time
import zipfile

import numpy as np
import pytest
from PIL import Image

from lcdnet_jax import __version__, image_io
from lcdnet_jax.weights import pretrained
from tests.image_io.exif_data import camera_exif
from tests.image_io.files import dng, photo, saved, tiff
from tests.serve.running import add, finish, follow, form, png


def jpeg_with_exif():
    return saved(photo(), "JPEG", quality=92, exif=camera_exif(orientation=6))


def png_with_alpha():
    return saved(np.dstack([photo(), np.full(photo().shape[:2], 90, np.uint8)]), "PNG")


class TestRestore:
    @pytest.mark.parametrize(
        ("make", "name", "result"),
        [
            (jpeg_with_exif, "photo.JPG", "photo.restored.JPG"),
            (lambda: tiff(photo(np.uint16), resolution=(300, 300)), "b.tiff", "b.restored.tiff"),
            (png_with_alpha, "with alpha.png", "with alpha.restored.png"),
        ],
    )
    def test_gives_the_file_that_the_command_writes(self, server, restored, make, name, result):
        content = make()
        answer = server.client.post("/restore", files=form(content, name))
        assert answer.status_code == 200, answer.text
        assert answer.content == restored(content, name)
        assert answer.content != content
        given = answer.headers["content-disposition"]
        assert f'filename="{result}"' in given or "with%20alpha.restored.png" in given

    def test_uses_weights_and_strength(self, server, restored):
        content = png()
        query = {"weights": "small", "strength": "0.25"}
        answer = server.client.post("/restore", files=form(content), params=query)
        assert answer.content == restored(content, "a.png", "--strength", "0.25")
        same = server.client.post("/restore", files=form(content), params={"strength": "0"})
        np.testing.assert_array_equal(
            np.asarray(Image.open(io.BytesIO(same.content))),
            np.asarray(Image.open(io.BytesIO(content))),
        )

    def test_raw_becomes_tiff(self, server, restored):
        answer = server.client.post("/restore", files=form(dng(), "a.dng"))
        assert answer.headers["content-disposition"] == 'attachment; filename="a.restored.tif"'
        assert answer.headers["content-type"] == "image/tiff"
        assert answer.content == restored(dng(), "a.dng")

    def test_forgets_the_result_at_once(self, server):
        before = server.held(), server.count_files()
        server.client.post("/restore", files=form())
        wait_until(lambda: (server.held(), server.count_files()) == before)

    def test_of_a_damaged_file(self, server):
        content = png()
        answer = server.client.post("/restore", files=form(content[:-200], "häßlich.png"))
        assert answer.status_code == 422
        assert "häßlich.png: the PNG" in answer.json()["error"]
        assert "damaged" in answer.json()["error"] or "cut short" in answer.json()["error"]
        assert "/" not in answer.json()["error"]


def wait_until(claim, seconds=20):
    end = time.monotonic() + seconds
    while not claim():
        assert time.monotonic() < end
        time.sleep(0.05)


class TestJobs:
    def test_from_upload_to_result(self, server, restored):
        content = jpeg_with_exif()
        job = add(server, content, "photo.jpg")
        assert (job["width"], job["height"], job["name"]) == (61, 67, "photo.jpg")
        assert job["megapixels"] == pytest.approx(61 * 67 / 1e6)
        states = follow(server, job)
        end = states[-1]
        assert end["state"] == "done"
        assert end["windows_done"] == end["windows"] == 1
        assert end["left_out"] == ["subject area", "thumbnail"]
        assert end["error"] is None
        assert end["seconds"] > 0
        answer = server.client.get(f"/jobs/{job['id']}/result")
        assert answer.content == restored(content, "photo.jpg")
        assert end["result"] == {
            "name": "photo.restored.jpg",
            "bytes": len(answer.content),
            "media_type": "image/jpeg",
            "width": 61,
            "height": 67,
        }
        assert server.client.get(f"/jobs/{job['id']}").json()["state"] == "done"

    def test_progress_by_windows(self, server, gate):
        job = add(server)
        assert gate.reached.acquire(timeout=20)
        gate.open(2)
        for _ in range(2):
            assert gate.reached.acquire(timeout=20)
        state = server.client.get(f"/jobs/{job['id']}").json()
        assert (state["state"], state["windows_done"], state["windows"]) == ("restoring", 2, 4)
        assert state["megapixels_per_second"] > 0
        assert state["eta_seconds"] is not None
        assert state["result"] is None
        assert server.client.get(f"/jobs/{job['id']}/result").status_code == 404
        gate.open()
        assert finish(server, job)["state"] == "done"

    def test_failure(self, server):
        content = saved(photo(), "PNG")
        broken = content[:-600] + bytes(100) + content[-500:]  # the header is fine
        end = finish(server, add(server, broken, "broken.png"))
        assert end["state"] == "failed"
        assert end["error"].startswith("broken.png: ")
        assert server.client.get(f"/jobs/{end['id']}/result").status_code == 404

    def test_deleting_forgets(self, server):
        job = finish(server, add(server))
        assert server.client.delete(f"/jobs/{job['id']}").status_code == 200
        for path in ("", "/result", "/events", "/preview/before"):
            answer = server.client.get(f"/jobs/{job['id']}{path}")
            assert answer.status_code == 404
            assert "no such job" in answer.json()["error"]

    def test_are_not_listed_and_have_unguessable_names(self, server):
        names = {add(server)["id"] for _ in range(3)}
        assert len(names) == 3
        assert all(len(name) >= 32 for name in names)
        assert server.client.get("/jobs").status_code == 405


class TestPreviews:
    def load(self, server, job, side, **query):
        answer = server.client.get(f"/jobs/{job['id']}/preview/{side}", params=query)
        assert answer.status_code == 200, answer.text
        assert answer.headers["content-type"] == "image/png"
        return np.asarray(Image.open(io.BytesIO(answer.content)))

    def test_of_16_bits(self, server):
        pixels = photo(np.uint16)
        job = finish(server, add(server, tiff(pixels), "a.tif"))
        before = self.load(server, job, "before")
        np.testing.assert_array_equal(before, image_io.to_uint8(pixels))
        result = server.client.get(f"/jobs/{job['id']}/result").content
        after = self.load(server, job, "after")
        np.testing.assert_array_equal(
            after, image_io.to_uint8(image_io.decode(result, name="a.tif"))
        )
        part = self.load(server, job, "after", x=10, y=20, w=30, h=5)
        np.testing.assert_array_equal(part, after[20:25, 10:40])
        small = self.load(server, job, "before", size=20)
        assert small.shape == (18, 20, 3)

    def test_without_a_job(self, server):
        pixels = photo(np.uint16)
        before = server.held(), server.count_files(), len(server.jobs._jobs)
        answer = server.client.post("/preview?size=20", files=form(tiff(pixels), "a.tif"))
        assert answer.status_code == 200
        assert (answer.headers["x-image-width"], answer.headers["x-image-height"]) == ("67", "61")
        assert np.asarray(Image.open(io.BytesIO(answer.content))).shape == (18, 20, 3)
        broken = saved(photo(), "PNG")[:-300]
        answer = server.client.post("/preview", files=form(broken, "häßlich.png"))
        assert answer.status_code == 422
        assert answer.json()["error"].startswith("häßlich.png: ")
        assert server.client.post("/preview?x=1", files=form()).status_code == 400
        assert (server.held(), server.count_files(), len(server.jobs._jobs)) == before

    @pytest.mark.parametrize(
        ("query", "text"),
        [
            ({"x": 1}, "needs all of x, y, w and h"),
            ({"x": -1, "y": 0, "w": 1, "h": 1}, "x must be an integer"),
            ({"x": 999, "y": 0, "w": 1, "h": 1}, "has 30x20 pixels"),
            ({"size": 0}, "size must be an integer of at least 1"),
            ({"size": "1e3"}, "size must be"),
            ({"path": "x"}, "the parameters are"),
        ],
    )
    def test_of_wrong_parts(self, server, query, text):
        job = add(server)
        answer = server.client.get(f"/jobs/{job['id']}/preview/before", params=query)
        assert answer.status_code == 400
        assert text in answer.json()["error"]

    def test_before_the_result(self, server, gate):
        job = add(server)
        assert self.load(server, job, "before").shape == (20, 30, 3)
        assert server.client.get(f"/jobs/{job['id']}/preview/after").status_code == 404
        assert server.client.get(f"/jobs/{job['id']}/preview/other").status_code == 404
        gate.open()
        finish(server, job)

    def test_of_a_damaged_file_hold_no_space(self, server):
        content = saved(photo(), "PNG")
        job = add(server, content[:-600] + bytes(100) + content[-500:])
        held = [server.held()]
        for _ in range(2):
            answer = server.client.get(f"/jobs/{job['id']}/preview/before")
            assert answer.status_code in (404, 422)  # failed meanwhile, or damaged
        held.append(server.held())
        assert held[1] <= held[0]


def test_zip(server):
    jobs = [finish(server, add(server, png(seed=i), name)) for i, name in enumerate("aAb")
            for name in (f"{name}.png",)]  # fmt: skip
    ids = [job["id"] for job in jobs]
    answer = server.client.get("/results.zip", params={"id": ids})
    assert answer.headers["content-type"] == "application/zip"
    with zipfile.ZipFile(io.BytesIO(answer.content)) as archive:
        assert archive.testzip() is None
        assert archive.namelist() == ["a.restored.png", "A.restored-2.png", "b.restored.png"]
        assert {entry.compress_type for entry in archive.infolist()} == {zipfile.ZIP_STORED}
        for name, job in zip(archive.namelist(), jobs, strict=True):
            result = server.client.get(f"/jobs/{job['id']}/result").content
            assert archive.read(name) == result
    assert server.client.get("/results.zip").status_code == 400
    assert server.client.get("/results.zip", params={"id": [*ids, "x"]}).status_code == 404


class TestAbout:
    def test_weights(self, server):
        answer = server.client.get("/weights").json()
        entries = {entry["name"]: entry for entry in answer["weights"]}
        assert set(entries) == {*pretrained.names(), "small"}
        assert answer["default"] == "small"
        assert answer["limits"]["megapixels"] == 100
        small = entries["small"]
        assert (small["network"], small["channels"], small["scale"]) == ("dncnn", 3, 1)
        assert small["license"] == "CC0"
        assert small["blind"] is None
        photo = entries["sadnet-photo"]
        assert photo["purpose"] == pretrained.PURPOSES["sadnet-photo"]
        assert (photo["blind"], photo["strength"]) == (True, True)

    def test_health(self, server):
        expected = {"status": "ok", "version": __version__, "queued": 0}
        assert server.client.get("/healthz").json() == expected

    def test_demo_is_restored(self, server):
        answer = server.client.get("/demo")
        assert len(answer.content) < 150_000
        job = add(server, answer.content, "demo.jpg")
        assert finish(server, job)["state"] == "done"

    def test_static_files(self, server, tmp_path, monkeypatch):
        from lcdnet_jax.serve import app

        (tmp_path / "vendor").mkdir()
        (tmp_path / "vendor" / "a.js").write_text("1")
        (tmp_path / ".hidden").write_text("2")
        monkeypatch.setattr(app, "_STATIC", tmp_path)
        made = app.App(server.jobs, None, None)
        assert set(made._static) == {"vendor/a.js"}

    def test_errors_are_json(self, server):
        for method, path, status in (
            ("GET", "/nothing", 404),
            ("GET", "/static/../app.py", 404),
            ("GET", "/static/%2e%2e/app.py", 404),
            ("POST", "/healthz", 405),
            ("GET", "/restore", 405),
        ):
            answer = server.client.request(method, path)
            assert answer.status_code == status
            assert list(json.loads(answer.content)) == ["error"]

    def test_errors_of_paths_and_methods_name_the_fix(self, server):
        assert "GET /openapi.json" in server.client.get("/nothing").json()["error"]
        assert "use POST here" in server.client.get("/restore").json()["error"]

    @pytest.mark.parametrize(
        ("query", "text"),
        [
            ({"weights": "../../etc"}, "no such weights; there are"),
            ({"strength": "2"}, "strength must be a number from 0 to 1, got 2.0"),
            ({"strength": "nan"}, "strength must be"),
            ({"strength": "much"}, "strength must be"),
            ({"strenght": "1"}, "the parameters are weights and strength"),
        ],
    )
    def test_wrong_options(self, server, query, text):
        for path in ("/restore", "/jobs"):
            answer = server.client.post(path, files=form(), params=query)
            assert answer.status_code == 400
            assert text in answer.json()["error"]
