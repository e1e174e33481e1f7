"""The studio's page in Chromium, driven by Playwright: mouse, keys and touch on a real painter."""

from __future__ import annotations

import base64
import io
import json
import shutil
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

pytest.importorskip("starlette", reason="the extra `studio` is not installed")
pytest.importorskip("uvicorn", reason="the extra `studio` is not installed")
pytest.importorskip("playwright.sync_api", reason="Playwright is not installed")

from playwright.sync_api import sync_playwright

from synthaug.generators.base import SamplerOptions
from synthaug.generators.copy_paste import Config as PasteConfig
from synthaug.generators.fill.sampler import FillSampler
from synthaug.pipeline.core.storage import Folder
from synthaug.pipeline.studio.painters.base import Abilities
from synthaug.pipeline.studio.painters.photos import PhotoPainter
from synthaug.pipeline.studio.real_photos import Outlines
from synthaug.pipeline.studio.server.app import application
from synthaug.pipeline.studio.server.guard import Guard
from synthaug.pipeline.studio.server.serve import listen
from synthaug.pipeline.studio.session import Session, Workshop
from synthaug.pipeline.synthesis.edits import EditParts
from synthaug.pipeline.synthesis.object_bank import Bank
from tests.generators.fill.fill_windows import random_network
from tests.studio_room import HOSTILE, LAYOUT, FlatPainter, photos_of, session_in, toy_table

CHROMIUM = next((p for p in map(shutil.which, ("chromium", "chromium-browser")) if p), None)
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="Chromium is not installed")
FLAGS = [
    *("--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"),
    *("--disable-background-networking", "--disable-component-update", "--disable-sync"),
]
TOKEN = "the-token"
PATIENCE = 60_000  # ms


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with sync_playwright() as driver:
        opened = driver.chromium.launch(executable_path=CHROMIUM, args=FLAGS, headless=True)
        yield opened
        opened.close()


class Served:
    """A session that is served on a port of its own."""

    def __init__(self, session: Session) -> None:
        import uvicorn

        listening = listen(0)
        self.address = f"http://127.0.0.1:{listening.getsockname()[1]}"
        guard = Guard(TOKEN, listening.getsockname()[1])
        app = application(session, guard)
        config = uvicorn.Config(app, log_level="error", access_log=False)
        self._server = uvicorn.Server(config)
        self._thread = threading.Thread(
            target=self._server.run, kwargs={"sockets": [listening]}, daemon=True
        )
        self._thread.start()

    def stop(self) -> None:
        self._server.should_exit = True
        self._thread.join(10)


@pytest.fixture
def served(tmp_path: Path) -> Iterator[Any]:
    """Serve sessions until the test ends."""
    running: list[Served] = []

    def serve(session: Session) -> str:
        running.append(Served(session))
        return running[-1].address

    yield serve
    for one in running:
        one.stop()


def opened(browser: Any, address: str, **context: Any) -> Any:
    page = browser.new_context(**context).new_page()
    page.set_default_timeout(PATIENCE)
    page.faults = []
    page.on("pageerror", lambda error: page.faults.append(str(error)))
    page.on("console", lambda said: said.type == "error" and page.faults.append(said.text))
    page.on("dialog", lambda dialog: page.faults.append(dialog.message))
    page.goto(f"{address}/?token={TOKEN}")
    page.wait_for_selector("body[data-ready]")
    return page


def pixels(page: Any) -> Any:
    """Return the image that the page shows."""
    address = page.locator("#image").get_attribute("src")
    data = base64.b64decode(address.partition(",")[2])
    return np.asarray(Image.open(io.BytesIO(data))).astype(int)


def settle(page: Any, count: int) -> None:
    """Wait until the page has shown so many answers, and all that it asked for."""
    for _ in range(1200):
        if answers(page) >= count and not page.evaluate("document.body.dataset.changing"):
            return
        page.wait_for_timeout(50)
    raise AssertionError("the page does not answer")


def answers(page: Any) -> int:
    return int(page.evaluate("performance.getEntriesByName('answer').length"))


def drag(page: Any, start: tuple[float, float], end: tuple[float, float]) -> None:
    """Drag with the mouse from a point of the image to another, both shares of its sides."""
    area = page.locator("#stage").bounding_box()

    def at(point: tuple[float, float]) -> tuple[float, float]:
        return area["x"] + point[0] * area["width"], area["y"] + point[1] * area["height"]

    before = answers(page)
    page.mouse.move(*at(start))
    page.mouse.down()
    page.mouse.move(*at(end), steps=4)
    page.mouse.up()
    settle(page, before + 1)


def box_of(page: Any, number: int) -> list[float]:
    """Return a box as the page shows it, shares of the image."""
    box = page.locator(f".box[data-number='{number}']").bounding_box()
    area = page.locator("#stage").bounding_box()
    x0 = (box["x"] - area["x"]) / area["width"]
    y0 = (box["y"] - area["y"]) / area["height"]
    return [x0, y0, x0 + box["width"] / area["width"], y0 + box["height"] / area["height"]]


def photo_session(folder: Path) -> Session:
    """Return a session of the in-filler, with a network that has learned nothing."""
    table = toy_table("train", 8)
    sampler = FillSampler(random_network(num_classes=len(table.categories)), SamplerOptions())
    bank = Bank.of(table, table, PasteConfig(blends=("none",)))
    photos = photos_of(table)
    parts = EditParts(sampler, bank, (bank,))
    return Session(
        Workshop(
            run="a run",
            system="fill",
            categories=table.categories,
            painter=PhotoPainter(parts, photos, table.categories),
            photos=photos,
            outlines=Outlines(table),
            folder=Folder.at(folder),
            seed=1,
            judge=None,
            no_judge="nothing judges here",
        )
    )


def test_a_dragged_box_changes_the_image_inside_and_hardly_outside(
    browser: Any, served: Any, tmp_path: Path
) -> None:
    page = opened(browser, served(photo_session(tmp_path)))
    before = pixels(page)
    page.locator("label:has([value=add])").click()
    drag(page, (0.1, 0.6), (0.3, 0.9))
    number = int(page.locator(".box.selected").get_attribute("data-number"))
    first = box_of(page, number)
    drag(page, (0.2, 0.75), (0.6, 0.55))
    after = pixels(page)
    x0, y0, x1, y1 = box_of(page, number)
    assert first[0] + 0.4 == pytest.approx(x0, abs=0.03)
    height, width = after.shape[:2]
    inside = np.zeros((height, width), bool)
    inside[round(y0 * height) : round(y1 * height), round(x0 * width) : round(x1 * width)] = True
    change = np.abs(after - before).mean(2)
    print(f"mean change inside {change[inside].mean():.1f}, outside {change[~inside].mean():.3f}")
    assert change[inside].mean() > 5
    assert change[~inside].mean() < 0.02 * change[inside].mean()

    # save, reload, same bytes
    shown = page.locator("#image").get_attribute("src")
    page.click("#save")
    page.fill("#name", "dragged")
    page.click("#save-now")
    page.wait_for_selector("#naming:not([open])", state="attached")
    page.click("#clear")
    settle(page, answers(page) + 1)
    assert (before == pixels(page)).all()
    page.click("#load")
    count = answers(page)
    page.locator("#saved button", has_text="dragged").click()
    settle(page, count + 1)
    assert shown == page.locator("#image").get_attribute("src")
    page.reload()
    page.wait_for_selector("body[data-ready]")
    assert shown == page.locator("#image").get_attribute("src")
    assert [] == page.faults


def test_keys_move_resize_lock_remove_and_undo(browser: Any, served: Any, tmp_path: Path) -> None:
    session = session_in(tmp_path)
    page = opened(browser, served(session))
    item = session.state()["items"][0]
    number = item["number"]
    x0, y0, x1, y1 = item["box"]
    page.locator(f".box[data-number='{number}']").focus()

    def now() -> Any:
        return {entry["number"]: entry for entry in session.state()["items"]}

    def press(key: str) -> None:
        count = answers(page)
        page.keyboard.press(key)
        settle(page, count + 1)

    press("ArrowLeft")
    assert [x0 - 1, y0, x1 - 1, y1] == now()[number]["box"]
    press("Shift+ArrowDown")
    assert [x0 - 1, y0 + 8, x1 - 1, y1 + 8] == now()[number]["box"]
    press("Alt+ArrowLeft")
    assert [x0 - 1, y0 + 8, x1 - 2, y1 + 8] == now()[number]["box"]
    press("l")
    assert now()[number]["locked"]
    page.keyboard.press("ArrowRight")
    page.wait_for_timeout(150)
    assert [x0 - 1, y0 + 8, x1 - 2, y1 + 8] == now()[number]["box"]
    press("l")
    press("Delete")
    assert number not in now()
    press("Control+z")
    assert number in now()
    press("Control+Shift+Z")
    assert number not in now()
    for _ in range(6):
        press("Control+z")
    assert [x0, y0, x1, y1] == now()[number]["box"]
    page.locator(".box").first.focus()
    page.keyboard.press("Tab")
    second = page.evaluate("document.activeElement.dataset.number")
    assert session.state()["items"][1]["number"] == int(second)
    assert [] == page.faults


def test_names_full_of_markup_are_words(browser: Any, served: Any, tmp_path: Path) -> None:
    session = session_in(tmp_path)
    page = opened(browser, served(session))
    page.locator("label:has([value=add])").click()
    page.select_option("#class", HOSTILE)
    drag(page, (0.4, 0.4), (0.6, 0.6))
    assert HOSTILE in page.locator(".box.selected .tag").text_content()
    assert HOSTILE in page.locator("#class option").all_text_contents()
    assert 0 == page.locator("img[src=x]").count()
    assert 0 == page.evaluate(
        "[...document.querySelectorAll('*')].filter(e => [...e.attributes].some(a => "
        "a.name.startsWith('on'))).length"
    )
    assert [] == page.faults


def test_the_page_loads_nothing_from_elsewhere(browser: Any, served: Any, tmp_path: Path) -> None:
    address = served(session_in(tmp_path))
    page = browser.new_context().new_page()
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    page.goto(f"{address}/?token={TOKEN}")
    page.wait_for_selector("body[data-ready]")
    elsewhere = [url for url in asked if not url.startswith((address, "data:"))]
    assert [] == elsewhere
    assert f"{address}/" == page.url  # the token is not left in the address


def test_other_pages_and_other_names_are_refused(browser: Any, served: Any, tmp_path: Path) -> None:
    address = served(session_in(tmp_path))
    page = browser.new_context().new_page()
    answer = page.goto(address)
    assert 401 == answer.status
    assert "token" in answer.json()["error"]
    rebound = address.replace("127.0.0.1", "evil.localhost")  # which Chromium takes for loopback
    assert 403 == page.goto(f"{rebound}/?token={TOKEN}").status
    held = opened(browser, address)
    foreign = held.context.new_page()
    foreign.goto("data:text/html,<p>another site</p>")
    told = foreign.evaluate(
        "async address => { try { await fetch(address, {method: 'POST', mode: 'cors', "
        "credentials: 'include', headers: {'content-type': 'application/json'}, body: '{}'}); "
        "return 'read' } catch { return 'refused' } }",
        f"{address}/api/state",
    )
    assert "refused" == told


def test_a_finger_drags_a_box(browser: Any, served: Any, tmp_path: Path) -> None:
    session = session_in(tmp_path)
    page = opened(browser, served(session), has_touch=True, viewport={"width": 390, "height": 800})
    assert 390 >= page.evaluate("document.documentElement.scrollWidth")
    item = session.state()["items"][0]
    box = page.locator(f".box[data-number='{item['number']}']").bounding_box()
    middle = box["x"] + box["width"] / 2, box["y"] + box["height"] / 2
    touch = page.context.new_cdp_session(page)

    def send(kind: str, *points: tuple[float, float]) -> None:
        listed = [{"x": x, "y": y} for x, y in points]
        touch.send("Input.dispatchTouchEvent", {"type": kind, "touchPoints": listed})

    count = answers(page)
    send("touchStart", middle)
    send("touchMove", (middle[0] - 20, middle[1] + 10))
    send("touchMove", (middle[0] - 40, middle[1] + 20))
    send("touchEnd")
    settle(page, count + 1)
    moved = session.state()["items"][0]["box"]
    assert moved[0] < item["box"][0] and moved[1] > item["box"][1]
    assert moved[2] - moved[0] == pytest.approx(item["box"][2] - item["box"][0], abs=0.2)


def test_samples_interpolation_and_the_judge(browser: Any, served: Any, tmp_path: Path) -> None:
    def judge(scene: Any) -> list[tuple[int, str | None, float]]:
        return [(int(identity), "swapped", 0.5) for identity in scene.objects.id]

    session = session_in(tmp_path, judge=judge)
    page = opened(browser, served(session), color_scheme="dark")
    page.click("#judge")
    page.wait_for_selector(".verdict.failed")
    assert "swapped (score 0.50)" in page.locator(".verdict.failed").first.text_content()
    for name in ("#samples", "#interpolate"):
        page.click(name)
        page.wait_for_selector("#pictures li:nth-child(8)")
        count = answers(page)
        chosen = page.locator("#pictures img").nth(5).get_attribute("src")
        page.locator("#pictures button").nth(5).click()
        settle(page, count + 1)
        assert chosen == page.locator("#image").get_attribute("src")
        page.click("#strip-close")
    assert 0 == page.locator(".verdict").count()  # they were of another image
    assert [] == page.faults


def test_the_brush_paints_a_map(browser: Any, served: Any, tmp_path: Path) -> None:
    by_maps = Abilities(
        "map", object_styles=False, image_style=True, interpolates=False, erases=False
    )
    session = session_in(tmp_path, FlatPainter(toy_table().categories, by_maps))
    page = opened(browser, served(session))
    things = len(session.state()["items"])
    page.locator("label:has([value=brush])").click()
    page.select_option("#class", HOSTILE)
    drag(page, (0.1, 0.1), (0.5, 0.15))
    assert things + 1 == len(session.state()["items"])
    x0, _, x1, _ = session.state()["items"][-1]["box"]
    _, width = session.state()["size"]
    assert x0 < 0.12 * width and 0.5 * width < x1 < 0.65 * width  # the brush reaches 5 pixels
    document = session.document()
    assert "ground" in json.dumps(document)
    page.locator("label:has([value=select])").click()
    assert page.locator("#sheet").is_hidden()
    assert [] == page.faults


def test_a_layout_file_is_loaded_from_the_disk(browser: Any, served: Any, tmp_path: Path) -> None:
    session = session_in(tmp_path)
    page = opened(browser, served(session))
    file = tmp_path / "mine.json"
    file.write_text(json.dumps({"objects": [{"class": HOSTILE, "box": [0.1, 0.1, 0.5, 0.5]}]}))
    page.click("#load")
    count = answers(page)
    page.set_input_files("#file", str(file))
    settle(page, count + 1)
    assert [HOSTILE] == [item["class"] for item in session.state()["items"]]
    assert "mine.json" in page.locator("#status").text_content()
    file.write_text("{")
    page.click("#load")
    page.set_input_files("#file", str(file))
    page.wait_for_selector("#error:not([hidden])")
    assert "mine.json is no JSON file" in page.locator("#error").text_content()


def test_the_page_needs_no_abilities_that_a_generator_lacks(
    browser: Any, served: Any, tmp_path: Path
) -> None:
    assert LAYOUT.interpolates
    page = opened(browser, served(photo_session(tmp_path)))
    for name in ("#interpolate", "#restyle-image", "#brush-tool"):
        assert page.locator(name).is_hidden()
    assert page.locator("#judge").is_disabled()
