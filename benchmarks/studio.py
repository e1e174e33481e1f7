"""How fast the studio answers, and where a dragged box changes the image, seen from the browser.

    python benchmarks/studio.py RUN...

Opens each run as `synthaug studio` does, drags a box of a thing in Chromium by Playwright, step by
step, and takes the time from the moment the page hears of a move until the new image is decoded.
Then the change of the image inside the box and outside it, mean absolute difference of grey values
of the last picture against the one before the drag, both inside the old box and inside the new.
"""

from __future__ import annotations

import base64
import io
import shutil
import sys
import threading
from pathlib import Path
from typing import Any

import numpy as np
import uvicorn
from PIL import Image
from playwright.sync_api import Page, sync_playwright

from synthaug.pipeline.commands.report import look
from synthaug.pipeline.commands.studio import session_of
from synthaug.pipeline.studio.server.app import application
from synthaug.pipeline.studio.server.guard import Guard
from synthaug.pipeline.studio.server.serve import listen

FLAGS = "--no-sandbox --disable-gpu --disable-quic --no-first-run --disable-sync"
MOVES = 24  # of a drag; each is answered before the next is made
TOKEN = "measured"


def serve(run: Path) -> tuple[str, uvicorn.Server]:
    listening = listen(0)
    port = listening.getsockname()[1]
    app = application(session_of(look(run)), Guard(TOKEN, port))
    server = uvicorn.Server(uvicorn.Config(app, log_level="error", access_log=False))
    threading.Thread(target=lambda: server.run(sockets=[listening]), daemon=True).start()
    return f"http://127.0.0.1:{port}/?token={TOKEN}", server


def shown(page: Page) -> Any:
    address = page.locator("#image").get_attribute("src") or ""
    data = base64.b64decode(address.partition(",")[2])
    return np.asarray(Image.open(io.BytesIO(data))).astype(float)


def times(page: Page) -> list[float]:
    found: list[float] = page.evaluate(
        "performance.getEntriesByName('answer').map(e => e.duration)"
    )
    return found


def wait_for(page: Page, count: int) -> None:
    while len(times(page)) < count:
        page.wait_for_timeout(20)


def area_of(page: Page, number: str, size: tuple[int, int]) -> Any:
    """Return which pixels [H, W] a box covers."""
    box = page.locator(f".box[data-number='{number}']").bounding_box()
    stage = page.locator("#stage").bounding_box()
    assert box and stage
    scale = size[1] / stage["width"]
    x0, y0 = (box["x"] - stage["x"]) * scale, (box["y"] - stage["y"]) * scale
    x1, y1 = x0 + box["width"] * scale, y0 + box["height"] * scale
    covered = np.zeros(size, bool)
    covered[max(0, round(y0)) : round(y1), max(0, round(x0)) : round(x1)] = True
    return covered


def measure(page: Page, address: str) -> str:
    page.goto(address)
    page.wait_for_selector("body[data-ready]", timeout=120_000)
    stage = page.locator("#stage").bounding_box()
    assert stage
    page.locator("label:has([value=add])").click()
    count = len(times(page))

    def at(x: float, y: float) -> tuple[float, float]:
        return stage["x"] + x * stage["width"], stage["y"] + y * stage["height"]

    page.mouse.move(*at(0.05, 0.55))
    page.mouse.down()
    page.mouse.move(*at(0.3, 0.9))
    page.mouse.up()
    wait_for(page, count + 1)
    page.wait_for_selector(".box.selected")
    number = page.locator(".box.selected").get_attribute("data-number") or ""
    page.wait_for_timeout(500)
    before = shown(page)
    size = before.shape[:2]
    old = area_of(page, number, size)

    page.mouse.move(*at(0.17, 0.72))
    page.mouse.down()
    first = len(times(page))
    for step in range(1, MOVES + 1):
        page.mouse.move(*at(0.17 + 0.5 * step / MOVES, 0.72))
        wait_for(page, first + step)
    drafts = times(page)[first:]
    page.mouse.up()
    wait_for(page, first + MOVES + 1)
    page.wait_for_timeout(300)
    final = times(page)[-1]
    change = np.abs(shown(page) - before).mean(2)
    new = area_of(page, number, size)
    inside = old | new
    low, middle, high = np.percentile(drafts, [10, 50, 90])
    return (
        f"{size[1]} x {size[0]}: while dragging {middle:.0f} ms in the median "
        f"({low:.0f} to {high:.0f}), at its end {final:.0f} ms; mean change "
        f"{change[new].mean():.1f} in the new box, {change[old].mean():.1f} in the old one, "
        f"{change[~inside].mean():.2f} elsewhere"
    )


def main(runs: list[str]) -> None:
    with sync_playwright() as driver:
        browser = driver.chromium.launch(
            executable_path=shutil.which("chromium"), args=FLAGS.split(), headless=True
        )
        for run in runs:
            address, server = serve(Path(run))
            page = browser.new_page(viewport={"width": 1280, "height": 900})
            page.set_default_timeout(120_000)
            print(f"{run}: {measure(page, address)}", flush=True)
            page.close()
            server.should_exit = True
        browser.close()


if __name__ == "__main__":
    main(sys.argv[1:])
