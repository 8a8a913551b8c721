"""A headless Chromium, driven through its pipe: pages are opened, scripts run, files chosen, pictures taken."""

import base64
import itertools
import json
import os
import shutil
import subprocess
import time
from pathlib import Path
from typing import Any

import pytest

NAMES = (os.environ.get("TRIPTYCH_CHROMIUM", "chromium"), "chromium-browser", "chromium-headless-shell", "chrome")
OFF = ("quic", "background-networking", "component-update", "sync", "gpu")
SWITCHES = ("--headless", "--no-sandbox", "--no-first-run", *(f"--disable-{name}" for name in OFF))
CAMERA = ("--use-fake-device-for-media-stream", "--use-fake-ui-for-media-stream")
"""A camera that shows a pattern, and no question whether it may be used."""


def find_browser() -> str:
    """The path of a Chromium; the test is skipped where there is none."""
    found = next(filter(None, map(shutil.which, NAMES)), None)
    if found is None:
        pytest.skip("no Chromium found to open the page with")
    return found


class Browser:
    """One tab of a browser with an empty profile; a context manager, at whose end the browser ends."""

    def __init__(self, profile: Path, *, size: tuple[int, int] = (1280, 1000)) -> None:
        self.numbers = itertools.count(1)
        theirs_in, self.out = os.pipe()
        self.into, theirs_out = os.pipe()
        command = [find_browser(), *SWITCHES, *CAMERA, "--remote-debugging-pipe", f"--user-data-dir={profile}"]
        self.process = subprocess.Popen(
            # Chromium reads from descriptor 3 and writes to 4.
            ["bash", "-c", f'exec "$@" 3<&{theirs_in} 4>&{theirs_out}', "bash", *command, "about:blank"],
            pass_fds=(theirs_in, theirs_out),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        os.close(theirs_in)
        os.close(theirs_out)
        self.buffer = b""
        self.session = ""
        self.size = size

    def __enter__(self) -> "Browser":
        try:
            self._attach()
        except BaseException:
            self.__exit__()
            raise
        return self

    def _attach(self) -> None:
        target = self.send("Target.createTarget", url="about:blank")["targetId"]
        self.session = self.send("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        self.resize(*self.size)

    def __exit__(self, *error: object) -> None:
        self.process.kill()
        self.process.wait(timeout=20)
        os.close(self.out)
        os.close(self.into)

    def send(self, method: str, **parameters: Any) -> dict[str, Any]:
        """One command of the DevTools protocol and its result."""
        number = next(self.numbers)
        message: dict[str, Any] = {"id": number, "method": method, "params": parameters}
        if self.session:
            message["sessionId"] = self.session
        os.write(self.out, json.dumps(message).encode() + b"\0")
        while True:
            while b"\0" not in self.buffer:
                part = os.read(self.into, 1 << 20)
                assert part, "the browser ended"
                self.buffer += part
            line, _, self.buffer = self.buffer.partition(b"\0")
            answer = json.loads(line)
            if answer.get("id") == number:
                assert "error" not in answer, answer
                return answer["result"]

    def resize(self, width: int, height: int, *, phone: bool = False) -> None:
        self.send("Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=phone)

    def open(self, address: str) -> None:
        self.send("Page.navigate", url=address)
        self.wait("document.readyState === 'complete' && document.documentElement.dataset.ready === 'true'")

    def run(self, script: str) -> Any:
        """The value of a script, waited for."""
        done = self.send("Runtime.evaluate", expression=script, awaitPromise=True, returnByValue=True, userGesture=True)
        assert "exceptionDetails" not in done, done
        return done["result"].get("value")

    def wait(self, condition: str, seconds: float = 60) -> None:
        """Until a script's value is true."""
        end = time.monotonic() + seconds
        while not self.run(condition):
            assert time.monotonic() < end, f"{condition} did not become true"
            time.sleep(0.05)

    def choose_files(self, selector: str, *paths: Path) -> None:
        """What a person does in the dialog of a file input."""
        found = self.send("Runtime.evaluate", expression=f"document.querySelector({json.dumps(selector)})")
        node = found["result"]["objectId"]
        self.send("DOM.setFileInputFiles", files=[str(path) for path in paths], objectId=node)

    def screenshot(self, path: Path, *, whole: bool = False) -> None:
        picture = self.send("Page.captureScreenshot", captureBeyondViewport=whole)
        path.write_bytes(base64.b64decode(picture["data"]))
