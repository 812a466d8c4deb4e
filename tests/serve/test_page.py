"""The page in a real browser (Debian's packages chromium and chromium-driver)."""

import contextlib
import io
import os
import re
import subprocess
import sys
import time
import zipfile

import jax
import numpy as np
import pytest
import tifffile
from PIL import Image, ImageCms

from lcdnet_jax import image_io, networks
from lcdnet_jax import weights as weights_lib
from lcdnet_jax.serve.app import App
from tests.cli.commands import ROOT
from tests.image_io import files
from tests.serve import browsing, running

pytest.importorskip("selenium", reason="Selenium is not installed")
pytestmark = [
    pytest.mark.extended,
    pytest.mark.skipif(
        browsing.CHROMIUM is None or browsing.DRIVER is None,
        reason="not installed: apt-get install chromium chromium-driver",
    ),
]

KEYS = {"tab": "\ue004", "enter": "\ue007", "left": "\ue012", "right": "\ue014", "end": "\ue010"}
KEYS |= {"home": "\ue011", "down": "\ue015", "page up": "\ue00e", "space": " "}


@pytest.fixture(scope="module")
def browser(tmp_path_factory):
    page = browsing.start(tmp_path_factory.mktemp("browser"))
    yield page
    page.driver.quit()


@pytest.fixture
def page(browser, server):
    """The page of a server, without errors in the end."""
    yield browser.open(server.url)
    browser.check_logs()
    browser.driver.get("about:blank")


def random_weights(folder, name, seed, **kwargs):
    module = networks.create(name, **kwargs)
    shape = (1, 8, 8, kwargs.get("channels", 3))
    variables = module.init(jax.random.key(seed), np.zeros(shape, np.float32))
    weights = weights_lib.create_weights(name, variables, **kwargs)
    weights_lib.save_directory(weights, folder, license="CC0")
    return str(folder)


def jpeg(orientation=6):
    """A photograph with EXIF, a thumbnail and a color profile."""
    exif = Image.Exif()
    exif[0x010F], exif[0x0112] = "Camera maker", orientation
    buffer = io.BytesIO()
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    Image.fromarray(files.photo(height=120, width=200)).save(
        buffer, "JPEG", exif=exif, icc_profile=profile, quality=95
    )
    return buffer.getvalue()


def png(height=400, width=600, seed=0):
    """Blocks of random colors: no two neighbors look the same."""
    blocks = np.random.default_rng(seed).integers(0, 256, (height // 4, width // 4, 3), np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(blocks.repeat(4, 0).repeat(4, 1)).save(buffer, "PNG")
    return buffer.getvalue()


def deep_tiff():
    buffer = io.BytesIO()
    tifffile.imwrite(buffer, files.photo(np.uint16, 100, 150), photometric="rgb")
    return buffer.getvalue()


@pytest.fixture
def put(tmp_path):
    def put(name, content):
        path = tmp_path / name
        path.write_bytes(content)
        return path

    return put


def decoded(content):
    return np.asarray(Image.open(io.BytesIO(content)).convert("RGB")).astype(int)


class TestRestoring:
    @pytest.mark.parametrize(
        ("name", "content"),
        [("photo.jpg", jpeg()), ("deep.tif", deep_tiff())],
        ids=["jpeg", "tiff"],
    )
    def test_gives_the_file_of_the_command_restore(self, page, put, restored, name, content):
        page.add(put(name, content))
        page.wait(lambda: page.value("document.querySelector('#single-pane img')?.naturalWidth"))
        page.restore()
        expected = restored(content, name)
        stem, suffix = name.split(".")
        assert page.download("#download") == (f"{stem}.restored.{suffix}", expected)
        assert page.download(".run a[href*=result]")[1] == expected
        if suffix == "jpg":
            image = Image.open(io.BytesIO(expected))
            assert image.getexif()[0x010F] == "Camera maker"
            assert image.info["icc_profile"]
        else:
            assert image_io.decode(expected, name=name).dtype == np.uint16

    def test_shows_size_and_estimate(self, page, put):
        page.add(put("photo.jpg", jpeg()))
        page.restore()
        assert re.search("120 . 200", page.rows()[0].text)  # upright
        page.wait(lambda: re.search(r"small\s+about \d+\.\d s", page.text("#weights")))

    def test_of_a_file_by_drop_and_by_paste(self, page):
        page.drop("dropped.png", png())
        page.paste("pasted.png", png(seed=1))
        page.wait(lambda: len(page.rows()) == 2)
        assert "dropped.png" in page.rows()[0].text
        page.restore(results=2)

    def test_uses_the_strength(self, page, put, restored):
        content = png()
        page.add(put("a.png", content))
        page.value("document.querySelector('#strength').focus()")
        page.press(*[KEYS["left"]] * 10)
        assert page.text("#strength-value") == "50 %"
        page.restore()
        assert page.download("#download")[1] == restored(content, "a.png", "--strength", "0.5")
        assert "strength 50 %" in page.text("#right-side")

    def test_says_what_is_not_kept(self, page, put):
        content = jpeg()
        segment = b"\xff\xe3\x00\x0cMeta" + bytes(6)
        page.add(put("a.jpg", content[:2] + segment + content[2:]))
        page.restore()
        assert "Not kept: APP3 Meta." in page.rows()[0].text

    def test_again_with_other_settings_keeps_both_results(self, page, put):
        page.add(put("a.png", png()))
        page.restore()
        assert page.text("#restore") == "Restored with these settings"
        assert not page.find("#restore")[0].is_enabled()
        page.value("document.querySelector('#strength').focus()")
        page.press(KEYS["left"])
        assert page.text("#restore") == "Restore"
        page.restore(results=2)

    def test_of_several_images_gives_one_zip(self, page, put, restored):
        contents = {"a.png": png(), "b.jpg": jpeg()}
        page.add(*(put(name, content) for name, content in contents.items()))
        assert not page.shown("#zip")
        assert page.text("#restore") == "Restore 2 images"
        page.restore(results=2)
        name, content = page.download("#zip")
        assert name == "restored.zip"
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            found = {name: archive.read(name) for name in archive.namelist()}
        assert found == {
            "a.restored.png": restored(contents["a.png"], "a.png"),
            "b.restored.jpg": restored(contents["b.jpg"], "b.jpg"),
        }

    def test_shows_windows_and_can_be_canceled(self, browser, start, put, gate):
        with start() as server:
            page = browser.open(server.url)
            page.add(put("a.png", png()), put("b.png", png(seed=1)))
            page.click("#restore")
            gate.reached.acquire()
            gate.open(2)
            page.wait(lambda: page.states()[0].startswith("2 of 4 windows"))
            assert page.value("document.querySelector('.run progress').value") == 0.5
            assert page.text("#stage-note") == "Restoring: 50 %"
            assert page.states()[1] == "Waits for the images before it."
            page.check_accessibility()
            page.click(".row:nth-child(1) .run button")
            page.wait(lambda: page.states()[0] == "Canceled.")
            page.click(".row:nth-child(2) .run button")  # it waits, or has just been sent
            page.wait(lambda: page.states() == ["Canceled."] * 2)
            gate.open()
            page.wait(lambda: server.count_files() == 0)
            assert page.text("#restore") == "Restore 2 images"
            page.restore(results=2)
            page.check_logs()

    def test_waits_while_the_server_is_busy(self, browser, start, put, gate):
        with start(queue=1) as server:
            running.add(server)
            gate.reached.acquire()  # it is computed
            running.add(server)  # it fills the queue
            page = browser.open(server.url)
            page.add(put("a.png", png()))
            page.click("#restore")
            page.wait(lambda: page.states() == ["The server is busy. Trying again …"])
            gate.open()
            page.wait(lambda: page.states()[0].startswith("Done"))


class TestErrors:
    def test_stand_beside_their_image(self, page, put, restored):
        good = png()
        page.add(put("broken.jpg", jpeg()[:100]), put("note.txt", b"no image"), put("a.png", good))
        page.wait(lambda: len(page.shown(".row .error")) == 2)
        broken, note, fine = (row.text for row in page.rows())
        assert "broken.jpg" in broken.split("\n", 2)[2]
        assert "note.txt has no suffix of a format" in note
        page.restore()
        assert page.find(".row:nth-child(3) a[href*=result]")
        assert "error" not in fine
        assert page.text("#page-error") == ""

    def test_of_a_torn_file_that_the_browser_can_show(self, page, put):
        content = jpeg()
        torn = content[: len(content) * 2 // 3]
        page.add(put("torn.jpg", torn))
        page.click("#restore")
        page.wait(lambda: page.find(".run-state.error"))
        assert "torn.jpg" in page.states()[0]
        assert page.text("#status").startswith("torn.jpg")  # for screen readers
        assert page.text("#restore") == "Restore"  # may be tried again

    def test_a_result_that_the_server_has_deleted(self, page, put, server):
        page.add(put("a.png", png()), put("b.png", png(seed=1)))
        page.restore(results=2)
        page.click(".row:nth-child(2) .row-select")
        link = page.find(".row:nth-child(1) a[href*=result]")[0].get_attribute("href")
        assert server.client.delete(link.removesuffix("/result")).status_code == 200
        page.click(".row:nth-child(1) .row-select")
        page.wait(lambda: "no such job" in page.rows()[0].text)
        page.restore(results=2)

    def test_a_server_that_has_ended(self, browser, start, put):
        with start() as server:
            page = browser.open(server.url)
        page.add(put("a.png", png()))
        page.click("#restore")
        page.wait(lambda: "The server does not answer" in page.rows()[0].text)
        browser.driver.get_log("browser")  # the refused connections

    def test_progress_that_breaks_off(self, browser, start, put, gate, monkeypatch):
        """As if a proxy cut the stream, or the server was killed and says no last word."""
        monkeypatch.setattr(App, "_follow", follow_nothing)
        with start() as server:
            page = browser.open(server.url)
            page.add(*(put(f"{seed}.png", png(seed=seed)) for seed in range(3)))
            page.click("#restore")
            gate.open(4)
            page.wait(lambda: page.states()[0].startswith("Done"))
            page.wait(lambda: "of 4 windows" in page.states()[1])
            page.check_logs()
        page.wait(lambda: all("does not answer" in state for state in page.states()[1:]))
        browser.driver.get_log("browser")  # the refused connections

    def test_a_folder(self, page):
        script = """
        const transfer = {types: ["Files"], files: [new File([], "holiday")],
            items: [{webkitGetAsEntry: () => ({isDirectory: true, name: "holiday"})}]};
        const event = new Event("drop", {bubbles: true, cancelable: true});
        Object.defineProperty(event, "dataTransfer", {value: transfer});
        document.body.dispatchEvent(event)"""
        page.driver.execute_script(script)
        assert page.text("#page-error") == "holiday: a folder. Drop the images that are in it."
        assert page.rows() == []


class TestViewer:
    def test_divider_uncovers_the_result(self, page, put):
        page.add(put("a.png", png()))
        page.restore()
        before = page.picture("#slider")
        left, top, width, height = page.box("#slider")
        page.drag((round(left + width / 2), round(top + height / 2)), round(width / 3), 0)
        assert 80 < float(page.value("document.querySelector('#slider').value")) < 87
        after = page.picture("#slider")
        # The middle of the right half has changed; the left half has not, apart from the line.
        assert np.abs(before - after)[:, round(width * 0.6) : round(width * 0.75)].max() > 3
        assert np.abs(before - after)[:, : round(width * 0.4)].max() == 0
        assert "% Original" in page.find("#slider")[0].get_attribute("aria-valuetext")

    @pytest.mark.parametrize(("height", "width"), [(400, 600), (600, 2200)], ids=["small", "large"])
    def test_shows_true_pixels(self, page, put, restored, height, width):
        content = png(height, width)
        page.add(put("a.png", content))
        page.restore()
        page.click("[data-zoom='1']")
        before, after = decoded(content), decoded(restored(content, "a.png"))
        page.value("document.querySelector('#slider').focus()")
        for key, expected in (("home", after), ("end", before)):
            page.press(KEYS[key])
            shown = page.picture("#slider")
            rows, columns = shown.shape[:2]
            top, left = (height - rows) // 2, (width - columns) // 2
            # The line of the divider is at the edge.
            part = expected[top : top + rows, left : left + columns][:, 40:-40]
            assert np.abs(shown[:, 40:-40] - part).max() == 0
        page.click("[data-zoom='2']")
        shown = page.picture("#slider")[:, 40:-40]
        pairs = shown[:, : shown.shape[1] // 2 * 2]
        steps = np.abs(np.diff(pairs, axis=1)).max((0, 2)) > 0
        assert not (steps[1:] & steps[:-1]).any()  # each pixel twice

    def test_moves_the_picture(self, page, put):
        page.add(put("a.png", png(600, 2200)))
        page.restore()
        page.click("[data-zoom='1']")
        page.value("document.querySelector('#slider').focus()")
        page.press(KEYS["home"])
        before = page.picture("#slider")
        left, top, width, height = page.box("#slider")
        page.drag((round(left + width * 0.7), round(top + height / 2)), -64, -32)
        dragged = page.picture("#slider")
        assert np.array_equal(dragged[:-32, 40:-104], before[32:, 104:-40])
        page.press(KEYS["left"], shift=True)
        by_key = page.picture("#slider")
        assert np.array_equal(by_key[:, 100:-40], dragged[:, 40:-100])
        page.press("0")
        assert page.find("[data-zoom='fit']")[0].get_attribute("aria-pressed") == "true"

    def test_zooms_around_the_pointer(self, page, put):
        page.add(put("a.png", png(600, 2200)))
        page.restore()
        left, top, width, height = page.box("#slider")
        x, y = left + width * 0.75, top + height * 0.5
        page.double_click("#slider", x, y)
        assert page.text("#zoom-value") == "100 %"
        world = page.box("#right-pane .world")
        assert (x - world[0]) / world[2] == pytest.approx(0.75, abs=0.002)
        assert (y - world[1]) / world[3] == pytest.approx(0.5, abs=0.002)

    def test_compares_two_weights(self, browser, start, checkpoint, put, tmp_path):
        other = random_weights(tmp_path / "other", "dncnn", 1, depth=3, features=4, channels=3)
        with start(checkpoints=(str(checkpoint), other)) as server:
            page = browser.open(server.url)
            page.add(put("a.png", png()))
            page.choose("#second-weights", "other")
            page.restore(results=2)
            page.wait(lambda: page.text("#left-label") == "small")
            assert page.text("#right-label") == "other"
            page.value("document.querySelector('#slider').focus()")
            shown = {}
            for key in ("home", "end"):
                page.press(KEYS[key])
                shown[key] = page.picture("#slider")
            assert np.abs(shown["home"] - shown["end"])[:, 40:-40].max() > 3
            page.check_accessibility()
            page.check_logs()

    def test_of_an_enlarged_result(self, browser, start, put, tmp_path):
        kwargs = {"scale": 2, "groups": 1, "blocks": 1, "features": 16, "channels": 3}
        twice = random_weights(tmp_path / "twice", "rcan", 0, **kwargs)
        with start(checkpoints=(twice,)) as server:
            page = browser.open(server.url)
            page.add(put("a.png", png(80, 120)))
            assert not page.find("#strength")[0].is_enabled()
            assert "always 100 %" in page.text("#strength-note")
            page.restore()
            page.click("[data-zoom='1']")
            assert page.box("#slider")[2:] == (240, 160)
            page.check_logs()


class TestEverybody:
    def test_can_use_the_keyboard_alone(self, page, restored):
        def tab_to(selector):
            for _ in range(40):
                page.press(KEYS["tab"])
                if page.value(f"document.activeElement.matches({selector!r})"):
                    style = page.value(
                        "(({outlineStyle, outlineWidth}) => [outlineStyle, outlineWidth])"
                        "(getComputedStyle(document.activeElement.closest('.card')"
                        " ?? document.activeElement))"
                    )
                    assert style == ["solid", "3px"], selector
                    return
            pytest.fail(f"the focus does not reach {selector}")

        tab_to("#choose-first")
        tab_to("#demo")
        page.press(KEYS["enter"])
        page.wait(lambda: page.find(".run a[href*=result]"))
        page.value("document.activeElement.blur()")
        tab_to("#slider")
        start = float(page.value("document.activeElement.value"))
        page.press(KEYS["right"], KEYS["page up"])
        assert float(page.value("document.activeElement.value")) == start + 12
        page.press("1")
        assert page.text("#zoom-value") == "100 %"
        tab_to("#left-side")
        tab_to("[data-zoom='2']")
        page.press(KEYS["space"])
        assert page.text("#zoom-value") == "200 %"
        tab_to("#download")
        page.press(KEYS["enter"])
        assert page.downloaded()[0] == "demo.restored.jpg"
        tab_to("#weights input")
        page.press(KEYS["down"])
        tab_to("#second-weights")
        tab_to("#strength")
        tab_to("#choose")
        tab_to(".row-select")
        tab_to(".icon-button")
        page.press(KEYS["enter"])
        assert page.rows() == []
        assert page.value("document.activeElement.id") == "choose-first"

    @pytest.mark.parametrize(
        ("size", "dark"),
        [(browsing.WIDE, False), (browsing.WIDE, True), (browsing.NARROW, False)],
        ids=["light", "dark", "narrow"],
    )
    def test_can_read_the_page(self, page, server, put, size, dark):
        def check():
            page.check_accessibility()
            assert page.value("document.documentElement.scrollWidth <= innerWidth")

        page.open(server.url, size=size, dark=dark)
        background = page.value("getComputedStyle(document.body).backgroundColor")
        assert (int(re.findall(r"\d+", background)[0]) < 100) == dark
        check()
        name = "a-photograph-with-a-name-that-is-quite-long-and-has-no-spaces.png"
        page.add(put(name, png()), put("broken.jpg", jpeg()[:100]))
        page.wait(lambda: page.shown(".row .error"))
        check()
        page.restore()
        check()
        page.click("[data-zoom='2']")
        check()

    def test_can_ask_for_less_motion(self, page, server, put):
        page.open(server.url, reduced_motion=True)
        page.add(put("a.png", png()))
        moving = (
            "[...document.querySelectorAll('*')].filter((e) => {const s = getComputedStyle(e);"
            "return s.animationName !== 'none' || parseFloat(s.transitionDuration) > 0}).length"
        )
        assert page.value(moving) == 0


def test_a_token_in_the_address_opens_the_page(browser, start, put):
    with start(token="a-long-secret") as server:
        page = browser.open(server.url, query="?token=a-long-secret")
        assert "token" not in page.driver.current_url
        page.add(put("deep.tif", deep_tiff()))
        page.restore()
        page.download("#download")
        page.check_logs()


def test_files_are_deleted_when_the_page_is_closed(browser, start, put):
    with start() as server:
        page = browser.open(server.url)
        page.add(put("a.png", png()))
        page.restore()
        assert server.count_files() > 0
        old = page.driver.current_window_handle
        page.driver.switch_to.new_window("tab")
        new = page.driver.current_window_handle
        page.driver.switch_to.window(old)
        page.driver.close()
        page.driver.switch_to.window(new)
        page.wait(lambda: server.count_files() == 0)


def test_demo_takes_less_than_ten_seconds(browser, tmp_path):
    """With the pretrained weights, once they are compiled, as in every start but the first."""
    with serving(tmp_path) as url:
        page = browser.open(url)
        page.wait(lambda: "per megapixel" in page.text("#weights") or page.driver.refresh(), 300)
        start = time.monotonic()
        page.click("#demo")
        page.wait(lambda: page.find(".run a[href*=result]"))
        assert time.monotonic() - start < 10
        page.check_logs()
        page.driver.get("about:blank")


async def follow_nothing(self, job):
    return
    yield


@contextlib.contextmanager
def serving(folder):
    """The command serve as a process, without the tests' own settings of XLA."""
    environment = {name: value for name, value in os.environ.items() if name != "XLA_FLAGS"}
    environment["PYTHONPATH"] = str(ROOT)
    environment["JAX_COMPILATION_CACHE_DIR"] = os.environ["LCDNET_JAX_COMPILED"]
    command = [sys.executable, "-c", "from lcdnet_jax.cli.main import main; main()", "serve"]
    with subprocess.Popen(
        [*command, "--port", "0"], cwd=folder, env=environment, stdout=subprocess.PIPE, text=True
    ) as process:
        try:
            yield process.stdout.readline().split()[0]
        finally:
            process.terminate()
