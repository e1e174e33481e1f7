"""The page of a survey: findings by level, pictures of each set, every text escaped."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from synthaug.pipeline.core.scene import SceneList
from synthaug.pipeline.formats.toy import dataset as toy
from synthaug.pipeline.report.survey_page import NAMES, NUM_PICTURES, pictures, render
from synthaug.pipeline.survey.findings import ERROR, NOTE, WARNING, Finding
from synthaug.pipeline.survey.record import record
from synthaug.pipeline.survey.tally import tally

TOY = toy.read(toy.Config("val", 12), Path())


def page(*found: Finding, table: SceneList | None = None) -> str:
    whole: Any = TOY if table is None else table
    own = tally("coco:<b>.json", whole, 1, lambda *_: None)
    return render(record([own], found), [pictures(whole, own.index)]).decode()


def test_pictures_are_evenly_spaced_among_the_readable_ones() -> None:
    shown = pictures(TOY, range(1, 12))
    assert NUM_PICTURES == len(shown)
    ids = [TOY[1 + k * 11 // NUM_PICTURES].image_id for k in range(NUM_PICTURES)]
    assert ids == [picture.alt.split(":")[0].split()[-1] for picture in shown]
    assert 3 == len(pictures(TOY, [0, 5, 7]))
    assert [] == pictures(TOY, [])


def test_levels_stand_in_their_order_and_only_where_something_is() -> None:
    html = page(Finding(NOTE, 1, "a note", ""), Finding(ERROR, 2, "an error", "mend it"))
    assert html.index("<h3>Wrong</h3>") < html.index("an error") < html.index("<h3>Notes</h3>")
    assert "Warnings</h3>" not in html
    assert "a run would stop at it" in html
    assert "mend it" in html
    assert "there are warnings" in page(Finding(WARNING, 1, "x", ""))


def test_a_set_in_order_says_so() -> None:
    html = page()
    assert '<p class="lead">In order.' in html
    assert "Nothing is wrong." in html
    assert NUM_PICTURES == html.count("<img ")
    assert f"<td>{sum(len(scene.objects) for scene in TOY)}</td>" in html


def test_of_many_names_some_are_shown_and_the_others_counted() -> None:
    names = tuple(f"<i>name {k}" for k in range(NAMES + 3))
    html = page(Finding(WARNING, len(names), "x", "", names))
    assert NAMES == html.count("&lt;i&gt;name")
    assert "and 3 more (all of them: --json FILE)" in html
    assert "<i>name" not in html


def test_the_title_names_the_sets_escaped() -> None:
    html = page()
    assert "<title>coco:&lt;b&gt;.json" in html
    assert "coco:<b>" not in html


def test_a_set_without_images_has_a_page() -> None:
    html = page(table=SceneList(toy.CATEGORIES, []))
    assert "<img " not in html
    assert "objects per image" not in html
