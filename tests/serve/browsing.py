"""The page in Chromium: what a user does and sees."""

import base64
import io
import json
import pathlib
import shutil
import subprocess
import time

import numpy as np
import pytest
from PIL import Image

CHROMIUM = shutil.which("chromium") or shutil.which("google-chrome")
DRIVER = shutil.which("chromedriver")
AXE = pathlib.Path(__file__).parent / "vendor" / "axe.min.js"
WIDE, NARROW = (1360, 860), (390, 844)

_FLAGS = (
    *("--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--disable-quic"),
    *("--disable-background-networking", "--disable-component-update", "--disable-sync"),
    *("--no-first-run", "--force-color-profile=srgb", "--proxy-server=direct://"),
)

# What Chromium itself logs for answers that are no success. The page shows their messages.
_EXPECTED_LOG = "Failed to load resource: the server responded with a status of"

# Puts a file into a DataTransfer, as a drop or a paste does.
_TRANSFER = """
const [name, content] = arguments;
const bytes = Uint8Array.from(atob(content), (char) => char.charCodeAt(0));
const transfer = new DataTransfer();
transfer.items.add(new File([bytes], name));
"""


class Page:
    """The page in a browser window.

    Attributes:
        driver: Selenium's driver.
        downloads: Folder into which the browser downloads.
    """

    def __init__(self, driver, downloads):
        self.driver, self.downloads = driver, downloads
        self._url = None

    def open(self, url, *, query="", size=WIDE, dark=False, reduced_motion=False):
        width, height = size
        self.driver.execute_cdp_cmd(
            "Emulation.setDeviceMetricsOverride",
            {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": size == NARROW},
        )
        features = {
            "prefers-color-scheme": "dark" if dark else "light",
            "prefers-reduced-motion": "reduce" if reduced_motion else "no-preference",
        }
        self.driver.execute_cdp_cmd(
            "Emulation.setEmulatedMedia",
            {"features": [{"name": name, "value": value} for name, value in features.items()]},
        )
        for kind in ("browser", "performance"):
            self.driver.get_log(kind)  # of what was before
        for old in self.downloads.iterdir():
            old.unlink()
        self._url = url
        self.driver.get(url + query)
        self.wait(lambda: self.find("#weights input"))
        return self

    # What the user does

    def add(self, *paths):
        self.find("#files")[0].send_keys("\n".join(map(str, paths)))
        self.wait(lambda: len(self.rows()) >= len(paths))

    def click(self, selector):
        (element,) = self.find(selector)
        self.driver.execute_script("arguments[0].scrollIntoView({block: 'center'})", element)
        element.click()

    def press(self, *keys, shift=False):
        """Presses keys, wherever the focus is."""
        from selenium.webdriver.common.action_chains import ActionChains
        from selenium.webdriver.common.keys import Keys

        chain = ActionChains(self.driver, duration=0)
        if shift:
            chain.key_down(Keys.SHIFT)
        for key in keys:
            chain.send_keys(key)
        if shift:
            chain.key_up(Keys.SHIFT)
        chain.perform()

    def drag(self, start, x, y):
        """Drags from a point of the window by some pixels."""
        from selenium.webdriver.common.action_chains import ActionBuilder

        actions = ActionBuilder(self.driver, duration=0)
        pointer = actions.pointer_action
        pointer.move_to_location(*start).pointer_down()
        pointer.move_to_location(start[0] + x, start[1] + y).pointer_up()
        actions.perform()

    def choose(self, selector, value):
        from selenium.webdriver.support.ui import Select

        (element,) = self.find(selector)
        Select(element).select_by_value(value)

    def restore(self, results=1):
        self.click("#restore")
        self.wait(lambda: len(self.find(".run a[href*=result]")) >= results)

    def drop(self, name, content):
        self._transfer("drop", name, content)

    def paste(self, name, content):
        self._transfer("paste", name, content)

    def double_click(self, selector, x, y):
        script = "arguments[0].dispatchEvent(new MouseEvent('dblclick', arguments[1]))"
        point = {"clientX": x, "clientY": y, "bubbles": True}
        self.driver.execute_script(script, self.find(selector)[0], point)

    def _transfer(self, kind, name, content):
        make = {
            "drop": "DragEvent('drop', {dataTransfer: transfer, ",
            "paste": "ClipboardEvent('paste', {clipboardData: transfer, ",
        }
        event = f"new {make[kind]} bubbles: true, cancelable: true}})"
        script = f"{_TRANSFER} document.body.dispatchEvent({event})"
        self.driver.execute_script(script, name, base64.b64encode(content).decode())

    def download(self, selector):
        """Clicks a link and returns name and bytes of the file."""
        for old in self.downloads.iterdir():
            old.unlink()
        self.click(selector)
        return self.downloaded()

    def downloaded(self):
        def finished():
            files = list(self.downloads.iterdir())
            return len(files) == 1 and files[0].suffix not in (".crdownload", ".tmp") and files[0]

        path = self.wait(finished)
        return path.name, path.read_bytes()

    # What the user sees

    def find(self, selector):
        return self.driver.find_elements("css selector", selector)

    def text(self, selector):
        (element,) = self.find(selector)
        return element.text

    def shown(self, selector):
        return [element for element in self.find(selector) if element.is_displayed()]

    def rows(self):
        return self.find("#images > li")

    def states(self):
        return [element.text for element in self.find(".run-state")]

    def value(self, script):
        return self.driver.execute_script(f"return {script}")

    def box(self, selector):
        """Left, top, width and height in the window."""
        script = f"document.querySelector({selector!r}).getBoundingClientRect().toJSON()"
        found = self.value(script)
        return found["x"], found["y"], found["width"], found["height"]

    def picture(self, selector):
        """The pixels of an element without what lies above it, once all images are loaded."""
        self.driver.execute_script("document.querySelector('#stage').scrollIntoView()")
        loaded = "[...document.images].every((image) => image.complete && image.naturalWidth)"
        for _ in range(3):  # crops are asked for when the whole picture is there
            self.wait(lambda: self.value(loaded))
            time.sleep(0.2)  # the divider glides
        left, top, width, height = self.box(selector)
        labels = "document.querySelectorAll('.stage-label')"
        self.driver.execute_script(f"{labels}.forEach((label) => label.hidden = true)")
        image = Image.open(io.BytesIO(self.driver.get_screenshot_as_png())).convert("RGB")
        box = (round(left), round(top), round(left + width), round(top + height))
        return np.asarray(image.crop(box)).astype(int)

    def wait(self, condition, seconds=60):
        end = time.monotonic() + seconds
        while not (found := condition()):
            if time.monotonic() > end:
                pytest.fail(f"the page shows after {seconds} s: {self.text('body')}")
            time.sleep(0.05)
        return found

    # What the user does not see

    def check_accessibility(self):
        """Lets axe-core look for faults of any severity."""
        self.driver.execute_script(AXE.read_text("utf-8"))
        found = self.driver.execute_async_script("axe.run(document).then(arguments[0])")
        assert len(found["passes"]) > 20
        faults = [
            (fault["id"], fault["impact"], [node["html"] for node in fault["nodes"]])
            for fault in found["violations"]
        ]
        assert faults == []

    def check_logs(self):
        """Errors of scripts, violations of the security policy, and requests to others."""
        messages = [entry["message"] for entry in self.driver.get_log("browser")]
        faults = [text for text in messages if _EXPECTED_LOG not in text]
        assert faults == [], "\n".join(faults)
        for entry in self.driver.get_log("performance"):
            message = json.loads(entry["message"])["message"]
            if message["method"] == "Network.requestWillBeSent":
                url = message["params"]["request"]["url"]
                assert url.startswith((self._url, "blob:" + self._url, "about:", "data:")), url


def start(folder):
    """Starts a browser with a profile of its own in a folder."""
    from selenium import webdriver

    options = webdriver.ChromeOptions()
    options.binary_location = CHROMIUM
    for flag in (*_FLAGS, f"--user-data-dir={folder / 'profile'}"):
        options.add_argument(flag)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    service = webdriver.ChromeService(DRIVER, log_output=subprocess.DEVNULL)
    driver = webdriver.Chrome(options, service)
    driver.set_script_timeout(60)
    downloads = folder / "downloads"
    downloads.mkdir()
    driver.execute_cdp_cmd(
        "Browser.setDownloadBehavior", {"behavior": "allow", "downloadPath": str(downloads)}
    )
    return Page(driver, downloads)
