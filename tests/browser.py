"""Chromium without a window, driven over a pair of pipes.

What tests of pages need, and the pictures of them in docs/.

The DevTools protocol (https://chromedevtools.github.io/devtools-protocol/) over
`--remote-debugging-pipe`: Chromium reads commands from file descriptor 3 and writes answers and
events to 4, each a JSON text that ends with a zero byte. Nothing listens anywhere, and nothing is
needed beyond Chromium itself.
"""

from __future__ import annotations

import base64
import contextlib
import json
import os
import select
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

NAMES = ("chromium", "chromium-browser", "google-chrome")
FLAGS = [
    "--headless=new",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--disable-dev-shm-usage",
    "--hide-scrollbars",
    "--remote-debugging-pipe",
]
PATIENCE = 60  # seconds


def program() -> str | None:
    """Where Chromium is, if it is anywhere."""
    return next((path for path in map(shutil.which, NAMES) if path), None)


class Browser:
    """One tab."""

    def __init__(self, pipes: tuple[int, int]) -> None:
        self._to, self._from = pipes
        self._rest, self._number, self._session = b"", 0, ""
        self.events: list[dict[str, Any]] = []
        target = self.call("Target.createTarget", url="about:blank")["targetId"]
        self._session = self.call("Target.attachToTarget", targetId=target, flatten=True)[
            "sessionId"
        ]
        for domain in ("Page", "Runtime", "Log", "Network"):
            self.call(f"{domain}.enable")

    def call(self, method: str, **parameters: Any) -> Any:
        """Send a command and wait for its answer; events that come meanwhile are kept."""
        self._number += 1
        command = {"id": self._number, "method": method, "params": parameters}
        if self._session:
            command["sessionId"] = self._session
        os.write(self._to, json.dumps(command).encode() + b"\0")
        while True:
            message = self._read()
            if message.get("id") == self._number:
                assert "error" not in message, f"{method}: {message['error']}"
                return message["result"]
            self._keep(message)

    def wait(self, method: str) -> dict[str, Any]:
        """Wait for an event that has not come before the last `open`."""
        while True:
            for event in self.events:
                if event["method"] == method:
                    return event
            self._keep(self._read())

    def _keep(self, message: dict[str, Any]) -> None:
        self.events.append(message)
        if (
            message.get("method") == "Page.javascriptDialogOpening"
        ):  # an alert would block every later command
            self._number += 1
            answer = {
                "id": self._number,
                "method": "Page.handleJavaScriptDialog",
                "params": {"accept": True},
            }
            os.write(self._to, json.dumps({**answer, "sessionId": self._session}).encode() + b"\0")

    def _read(self) -> dict[str, Any]:
        until = time.monotonic() + PATIENCE
        pieces = [self._rest]
        while b"\0" not in pieces[-1]:
            ready, _, _ = select.select([self._from], [], [], max(0.0, until - time.monotonic()))
            assert ready, f"Chromium said nothing for {PATIENCE} s"
            piece = os.read(self._from, 1 << 20)
            assert piece, "Chromium ended"
            pieces.append(piece)
        text, _, self._rest = b"".join(pieces).partition(b"\0")
        message: dict[str, Any] = json.loads(text)
        return message

    def open(self, page: Path, fragment: str = "", script: bool = True) -> None:
        """Load a page anew and wait until it is complete."""
        self.call("Emulation.setScriptExecutionDisabled", value=not script)
        self.events.clear()
        self.call("Page.navigate", url="about:blank")
        self.wait("Page.loadEventFired")
        self.events.clear()
        self.call(
            "Page.navigate", url=page.absolute().as_uri() + (f"#{fragment}" if fragment else "")
        )
        self.wait("Page.loadEventFired")

    def ask(self, expression: str) -> Any:
        """Evaluate JavaScript in the page (also in one with a content security policy) and return
        its JSON value.
        """
        result = self.call(
            "Runtime.evaluate", expression=expression, returnByValue=True, awaitPromise=True
        )
        assert "exceptionDetails" not in result, result["exceptionDetails"]
        return result["result"].get("value")

    def press(self, key: str) -> None:
        """Press and release a key, as a person does."""
        text = key if len(key) == 1 else "\r" if key == "Enter" else ""
        code = {"Escape": 27, "Enter": 13}.get(
            key, 0
        )  # what closes a dialog looks at the code alone
        self.call(
            "Input.dispatchKeyEvent", type="keyDown", key=key, text=text, windowsVirtualKeyCode=code
        )
        self.call("Input.dispatchKeyEvent", type="keyUp", key=key, windowsVirtualKeyCode=code)

    def click(self, selector: str) -> None:
        """Click, with the mouse, the middle of the first element that matches."""
        place = self.ask(
            f"(() => {{ const e = document.querySelector({json.dumps(selector)}); "
            "e.scrollIntoView({block: 'center'}); const b = e.getBoundingClientRect(); "
            "return [b.x + b.width / 2, b.y + b.height / 2]; })()"
        )
        for kind in ("mousePressed", "mouseReleased"):
            self.call(
                "Input.dispatchMouseEvent",
                type=kind,
                x=place[0],
                y=place[1],
                button="left",
                clickCount=1,
            )

    def size(self, width: int, height: int, scale: float = 1.0) -> None:
        """Make the tab as large as a screen of so many pixels."""
        self.call(
            "Emulation.setDeviceMetricsOverride",
            width=width,
            height=height,
            deviceScaleFactor=scale,
            mobile=False,
        )

    def media(self, scheme: str = "light", medium: str = "") -> None:
        """Set what the system prefers (`light` | `dark`) and the medium (`screen` | `print`)."""
        preferred = [{"name": "prefers-color-scheme", "value": scheme}]
        self.call("Emulation.setEmulatedMedia", media=medium, features=preferred)

    def picture(self, path: Path, whole: bool = False) -> None:
        """Save what is seen, or the whole page, as PNG."""
        shot = self.call("Page.captureScreenshot", format="png", captureBeyondViewport=whole)
        path.write_bytes(base64.b64decode(shot["data"]))

    def said(self) -> list[str]:
        """Errors, refusals and alerts since the page was opened."""
        told = []
        for event in self.events:
            content = event.get("params", {})
            if event.get("method") == "Log.entryAdded" and content["entry"]["level"] in (
                "error",
                "warning",
            ):
                told.append(content["entry"]["text"])
            if event.get("method") in ("Runtime.exceptionThrown", "Page.javascriptDialogOpening"):
                told.append(json.dumps(content))
        return told

    def loaded(self) -> set[str]:
        """Addresses, without data URIs, that the page asked for."""
        sent = [
            e["params"]["request"]["url"]
            for e in self.events
            if e.get("method") == "Network.requestWillBeSent"
        ]
        return {url for url in sent if not url.startswith("data:")}


@contextlib.contextmanager
def chromium() -> Iterator[Browser]:
    """Start Chromium with a profile of its own, and end it."""
    path = program()
    assert path is not None
    commands, to = os.pipe()
    answers, out = os.pipe()
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as profile:
        swap = (
            f"import os, sys; os.dup2({commands}, 3); os.dup2({out}, 4); os.execv(sys.argv[1], "
            "sys.argv[1:])"
        )
        process = subprocess.Popen(  # as 3 and 4 Chromium expects the pipes
            [sys.executable, "-S", "-c", swap, path, *FLAGS, f"--user-data-dir={profile}"],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            pass_fds=(commands, out),
        )
        os.close(commands)
        os.close(out)
        try:
            yield Browser((to, answers))
        finally:
            with contextlib.suppress(OSError):
                os.write(to, json.dumps({"id": 0, "method": "Browser.close"}).encode() + b"\0")
            try:
                process.wait(10)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
            os.close(to)
            os.close(answers)
