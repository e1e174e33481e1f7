"""The report in Chromium.

Filters, switches, viewer, keys, and names that try to be more than words.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest

from synthaug.pipeline.formats.toy import dataset as toy
from synthaug.pipeline.report import run_page as report_page
from synthaug.pipeline.report.tables import Run
from synthaug.pipeline.steps import report
from tests.browser import Browser, chromium, program
from tests.fake_run import fake_run

pytestmark = pytest.mark.skipif(program() is None, reason="Chromium is not installed")

HOSTILE = "</script><script>alert(1)</script>"
NAMES = [
    HOSTILE,
    "\"' onmouseover=alert(2) 🐄",
    "שלום \u202eevil\u202c",
    "x" * 300,
    "]]></svg><img src=x onerror=alert(3)>",
]


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Fifty synthetic images of classes with hostile names.

    Every third object is said to be missing.
    """
    root = tmp_path_factory.mktemp("<b>run & 'quotes'")
    categories = tuple(
        replace(c, name=NAMES[k] if k < len(NAMES) else c.name)
        for k, c in enumerate(toy.CATEGORIES)
    )
    context = fake_run(root, categories, ["report.samples=60"], labelled=12, images=60)
    job = replace(context.job, report=replace(context.job.report, title=HOSTILE))
    folders = {name: out.folder.uri for name, out in context.inputs.items()}
    spec = report.Spec(
        job, {name: dict(out.manifest) for name, out in context.inputs.items()}, folders, ""
    )
    told = Run(job, spec.manifests, report.read_logs(folders))
    pictures = report.pictures(spec, told)
    for image in pictures.gallery["images"]:
        things = [
            found
            for found in image["objects"]
            if found["kind"] == "thing" and image["kind"] == "synthetic"
        ]
        for k, found in enumerate(things):
            found |= {"verdict": "kept" if k % 3 else "missing", "score": 0.5}
    path = root / "report.html"
    path.write_bytes(report_page.render(told, pictures))
    return path


@pytest.fixture(scope="module")
def data(page: Path) -> dict[str, Any]:
    """What the gallery holds, read by Python."""
    found = re.search(r'id="gallery-data">(.*?)</script>', page.read_text("utf-8"))
    assert found is not None
    content: dict[str, Any] = json.loads(found[1])
    return content


@pytest.fixture(scope="module")
def tab() -> Iterator[Browser]:
    with chromium() as browser:
        browser.size(1280, 900)
        yield browser


def shown(tab: Browser) -> int:
    """How many images the gallery says it holds."""
    return int(tab.ask("document.getElementById('found').textContent").split()[0].replace(",", ""))


def fitting(data: dict[str, Any], kind: str = "", name: str = "", verdict: str = "") -> int:
    """The same, counted by Python."""
    return sum(
        (not kind or image["kind"] == kind)
        and any(
            (not name or data["classes"][found["c"]] == name)
            and (not verdict or found.get("verdict") == verdict)
            for found in image["objects"]
        )
        for image in data["images"]
    )


def test_hostile_names_are_words_and_nothing_is_loaded(tab: Browser, page: Path) -> None:
    tab.open(page)
    assert [] == tab.said()
    assert {page.absolute().as_uri()} == tab.loaded()
    assert 2 == tab.ask("document.scripts.length")
    assert 0 == tab.ask(
        "[...document.images].filter(i => !i.src.startsWith('data:image/webp')).length"
    )
    assert HOSTILE == tab.ask("document.querySelector('h1').textContent")
    options = tab.ask("[...document.querySelectorAll('#g-class option')].map(o => o.value)")
    assert set(NAMES) <= set(options)
    assert set(NAMES) <= set(
        tab.ask(
            "[...document.querySelectorAll('#classes tbody th')].map(e => e.firstChild.data.trim())"
        )
    )
    assert 0 == tab.ask(
        "[...document.querySelectorAll('*')].filter(e => [...e.attributes].some(a => "
        "a.name.startsWith('on'))).length"
    )


def test_the_policy_refuses_any_other_script(tab: Browser, page: Path) -> None:
    tab.open(page)
    tab.ask(
        "(() => { const s = document.createElement('script'); s.textContent = 'window.hit = 1'; "
        "document.body.append(s); })()"
    )
    tab.ask(
        "(() => { const i = new Image(); i.src = 'file:///etc/hostname'; document.body.append(i); "
        "})()"
    )
    assert tab.ask("window.hit === undefined")
    assert any("Content Security Policy" in line for line in tab.said())


def test_filters_find_what_python_finds(tab: Browser, page: Path, data: dict[str, Any]) -> None:
    tab.open(page)
    assert len(data["images"]) == shown(tab)
    assert 48 == tab.ask("document.querySelectorAll('#grid li').length")
    choose = (
        "(() => {{ const s = document.getElementById('g-{}'); s.value = {}; s.dispatchEvent(new "
        "Event('input')); }})()"
    )
    for key, value in (("source", "synthetic"), ("class", HOSTILE), ("verdict", "missing")):
        tab.ask(choose.format(key, json.dumps(value)))
    assert fitting(data, "synthetic", HOSTILE, "missing") == shown(tab) > 0
    assert tab.ask("document.querySelectorAll('#grid g.off').length > 0")
    fragment = tab.ask("location.hash")
    tab.click("#controls button[type=reset]")
    assert len(data["images"]) == shown(tab)
    tab.open(page, fragment.removeprefix("#"))
    assert fitting(data, "synthetic", HOSTILE, "missing") == shown(tab)


def test_links_lead_to_a_view_and_nonsense_in_them_is_ignored(
    tab: Browser, page: Path, data: dict[str, Any]
) -> None:
    tab.open(page, f"class={quote(HOSTILE)}&masks=0&page=99")
    assert fitting(data, name=HOSTILE) == shown(tab)
    assert not tab.ask("document.getElementById('show-masks').checked")
    tab.open(page, "class=nobody&verdict=%3Cb%3E&source=7&page=x&image=none&boxes=")
    assert len(data["images"]) == shown(tab)
    assert [] == tab.said()


def test_switches_show_and_hide_what_is_drawn(tab: Browser, page: Path) -> None:
    tab.open(page, "source=synthetic")
    style = "getComputedStyle(document.querySelector('#grid {}')).display"
    for name, selector in (
        ("masks", ".thing path"),
        ("boxes", ".thing rect"),
        ("names", "text.thing"),
    ):
        assert "none" != tab.ask(style.format(selector))
        tab.click(f"#show-{name}")
        assert "none" == tab.ask(style.format(selector))
    for name, selector in (("layout", ".asked rect"), ("stuff", ".stuff path")):
        before = tab.ask(
            f"document.querySelector('#grid {selector}').getBoundingClientRect().width"
        )
        tab.click(f"#show-{name}")
        assert (
            before
            == 0
            < tab.ask(f"document.querySelector('#grid {selector}').getBoundingClientRect().width")
        )
    tab.press("m")
    assert "none" != tab.ask(style.format(".thing path"))
    assert "boxes=0" in tab.ask("location.hash")


def test_the_viewer_opens_goes_on_zooms_and_closes(
    tab: Browser, page: Path, data: dict[str, Any]
) -> None:
    tab.open(page, "source=synthetic")
    tab.click("#grid li:nth-child(3) button")
    assert tab.ask("document.getElementById('viewer').open")
    assert "3 of 60" == tab.ask("document.getElementById('v-where').textContent")
    images = [image for image in data["images"] if image["kind"] == "synthetic"]
    titles = tab.ask(
        "[...document.querySelectorAll('#v-panes figcaption')].map(c => c.textContent)"
    )
    assert images[2]["id"] in titles[0]
    assert "real" in titles[1]
    assert images[2]["from"] in titles[1]
    tab.press("ArrowRight")
    assert images[3]["id"] == tab.ask("document.getElementById('v-title').textContent")
    width = "document.querySelector('.stage .pic').getBoundingClientRect().width"
    small = tab.ask(width)
    tab.press("+")
    assert 1.4 * small < tab.ask(width)
    tab.click(".stage .pic")
    assert 1.9 * small < tab.ask(width)
    tab.press("0")
    assert small == tab.ask(width)
    listed = tab.ask(
        "[...document.querySelectorAll('#v-objects td:nth-child(2)')].map(c => c.textContent)"
    )
    assert {"kept", "missing"} <= set(listed)
    tab.press("Escape")
    assert not tab.ask("document.getElementById('viewer').open")
    assert images[3]["id"] == tab.ask("document.activeElement.dataset.id")


def test_keys_move_through_the_pictures_and_the_pages(tab: Browser, page: Path) -> None:
    tab.open(page)
    tab.press("/")
    assert "g-q" == tab.ask("document.activeElement.id")
    for letter in "tree":
        tab.press(letter)
    assert 0 < shown(tab) < 100
    tab.ask("document.activeElement.blur()")
    tab.click("#controls button[type=reset]")
    tab.ask("document.querySelector('#grid button').focus()")
    for key in ("ArrowRight", "ArrowDown", "End", "ArrowRight"):
        tab.press(key)
    assert "page 2" in tab.ask("document.querySelector('.pager .where').textContent")
    assert tab.ask("document.activeElement === document.querySelector('#grid button')")
    tab.press("ArrowLeft")
    assert "page 1" in tab.ask("document.querySelector('.pager .where').textContent")
    tab.press("Enter")
    assert tab.ask("document.getElementById('viewer').open")


def test_tables_are_sorted_by_a_click(tab: Browser, page: Path) -> None:
    tab.open(page)
    cells = (
        "[...document.querySelectorAll('#classes table')[0].tBodies[0].rows].map(r => "
        "Number(r.cells[6].textContent))"
    )
    head = "#classes thead th:nth-child(7)"
    tab.click(f"{head} button")
    falling = tab.ask(cells)
    assert sorted(falling, reverse=True) == falling
    assert "descending" == tab.ask(f"document.querySelector('{head}').ariaSort")
    tab.click(f"{head} button")
    assert falling[::-1] == sorted(falling) == tab.ask(cells)


def test_without_script_the_page_is_a_document(tab: Browser, page: Path) -> None:
    tab.open(page, script=False)
    assert "needs JavaScript" in tab.ask("document.querySelector('noscript').textContent")
    assert 0 == tab.ask("document.querySelector('#controls').getBoundingClientRect().height")
    assert 24 <= tab.ask(
        "[...document.querySelectorAll('#pairs img')].filter(i => i.getBoundingClientRect().width "
        "> 50).length"
    )
    assert 8 < tab.ask("document.querySelectorAll('#classes tbody tr').length")
    path = "getComputedStyle(document.querySelector('#pairs .thing path')).display"
    assert "none" != tab.ask(path)
    tab.click("#show-masks")  # style sheet alone
    assert "none" == tab.ask(path)


def test_dark_light_narrow_and_paper(tab: Browser, page: Path) -> None:
    colour = "getComputedStyle(document.body).backgroundColor"
    tab.media("dark")
    tab.open(page)
    dark = tab.ask(colour)
    tab.ask("document.getElementById('theme').value = 'light'")
    light = tab.ask(colour)
    assert dark != light
    tab.media("light")
    tab.open(page)
    assert light == tab.ask(colour)
    tab.media("dark", "print")
    assert light == tab.ask(colour)
    assert "none" == tab.ask("getComputedStyle(document.querySelector('.nav')).display")
    tab.media("light")
    tab.size(390, 800)
    tab.open(page)
    wide = (
        "[...document.querySelectorAll('main *, header *, nav *')].filter(e => "
        "e.getBoundingClientRect().right > 391"
    )
    assert [] == tab.ask(
        f"{wide} && !e.closest('.scroll, svg')).map(e => e.outerHTML.slice(0, 90))"
    )
    assert 390 >= tab.ask("document.documentElement.scrollWidth")
    tab.size(1280, 900)
