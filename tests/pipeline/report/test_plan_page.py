"""The page of a plan and its table for a terminal.

Short lines, safe names, and every number from the plan.
"""

from __future__ import annotations

import re

import numpy as np
import pytest

from synthaug.pipeline.core.scene import Category
from synthaug.pipeline.planning.exchange import Layout
from synthaug.pipeline.planning.layout_statistics import Statistics, deviation
from synthaug.pipeline.report.pictures import Picture
from synthaug.pipeline.report.plan_page import (
    WIDTH,
    ClassPlan,
    LayoutPair,
    PlanPage,
    class_rows,
    cut,
    lines,
    position_words,
    render,
    sentences,
)


def many(count: int) -> PlanPage:
    """A plan of classes with long, hostile names."""
    categories = [Category(i + 1, f"<script>{'x' * 40}{i}\n\x1b[2J") for i in range(count)]
    layouts = [
        Layout(
            np.array([i, (i + 1) % count], np.int32), np.array([[0, 0, 0.1, 0.1]] * 2, np.float32)
        )
        for i in range(count)
    ]
    real = Statistics.of(layouts, count)
    counts = {"natural": 1e7, "target": 2e7, "planned": 20_000_000, "labelled": 10_000_000}
    need = {"objects_per_class": 10**9, "objects": 10**9, "exchanged": 10**9, "natural": 10**9}
    manifest = {
        "images": 1,
        "sources": 2,
        "short": 5,
        "need": need,
        "classes": {c.name: counts for c in categories},
    }
    return PlanPage(
        "<b>",
        "balanced",
        "natural",
        manifest,
        class_rows(categories, real, manifest),
        deviation(real, real),
    )


def test_long_tables_are_folded_and_lines_stay_short_and_plain() -> None:
    table = lines(many(90))
    assert len(table) < 45
    assert any("66 more classes" in line for line in table)
    assert max(map(len, table)) <= WIDTH
    assert all(line.isprintable() for line in table)


def test_the_page_escapes_names() -> None:
    page = render(many(30)).decode()
    assert "<script" not in page
    assert "&lt;script&gt;" in page
    assert "<b>" not in page


def test_positions_in_words() -> None:
    grid = np.zeros((8, 8), np.int64)
    assert position_words(grid) == "–"
    grid[6:, :3] = 1
    assert position_words(grid) == "bottom left"
    assert position_words(np.ones((8, 8), np.int64)) == "anywhere"
    sky = Statistics.of([Layout(np.zeros(1, np.int32), np.array([[0, 0, 1, 0.4]], np.float32))], 1)
    assert position_words(sky.positions[0]) == "top"
    middle = np.zeros((8, 8), np.int64)
    middle[3:5, 3:5] = 1
    assert position_words(middle) == "centre"
    assert cut("abcdef", 4) == "abc…"


def test_a_plan_without_pictures_has_no_gallery() -> None:
    assert b"<figure>" not in render(many(2))


def test_the_page_does_not_say_that_pasting_gives_objects_up() -> None:
    need = {"objects_per_class": 1, "objects": 0}
    manifest = {"images": 5, "sources": 5, "need": need, "short": 0}
    zero = dict.fromkeys(
        ("pairs", "pairs_given_frequency", "objects_per_image", "sizes", "positions"), 0.0
    )
    row = ClassPlan("tree", True, 0, 9, 5, 9, 4, 9, 0, 0.1, "top", [], [])
    for adds_only, words in (
        (True, "all 9 objects stay, 5 of them above the target"),
        (False, "of 9 objects 5 are given up"),
    ):
        page = PlanPage("x", "sqrt", "uniform", {**manifest, "adds_only": adds_only}, [row], zero)
        assert words in sentences(page)[0]


def small(**manifest: object) -> PlanPage:
    """A plan of a rare thing, a frequent one and stuff, seen in three layouts."""
    categories = [Category(1, "kite"), Category(2, "car"), Category(3, "sky", isthing=False)]
    box = [[0, 0, 0.5, 0.5]]
    layouts = [
        Layout(np.array([0, 1], np.int32), np.array(box * 2, np.float32)),
        Layout(np.array([1, 1], np.int32), np.array(box * 2, np.float32)),
        Layout(np.array([2], np.int32), np.array(box, np.float32)),
    ]
    natural = Statistics.of(layouts, 3)
    classes = {
        "kite": {"labelled": 1, "natural": 4.0, "target": 9.0, "planned": 8},
        "car": {"labelled": 30, "natural": 9.0, "target": 5.4, "planned": 5},
        "sky": {"labelled": 7, "natural": 2.0, "target": 2.0, "planned": 2},
    }
    need = {"objects_per_class": 20, "objects": 19, "exchanged": 3, "natural": 40}
    content = {"images": 6, "sources": 3, "short": 0, "need": need, "classes": classes, **manifest}
    rows = class_rows(categories, natural, content)
    return PlanPage("job", "balanced", "natural", content, rows, deviation(natural, natural))


def test_each_class_has_its_own_numbers_things_before_stuff_and_the_frequent_first() -> None:
    car, kite, sky = small().rows
    assert (car.name, kite.name, sky.name) == ("car", "kite", "sky")
    assert (kite.labelled, kite.images, kite.natural, kite.target, kite.planned) == (1, 1, 4, 9, 8)
    assert (kite.missing, car.missing, sky.missing) == (19, 0, 0), "stuff is never missing"
    assert (kite.change, car.change, sky.change) == ("+5", "-4", "=")
    assert (kite.color, car.color) == (0, 1), "by the order of the classes, not of the table"
    assert car.size == pytest.approx(0.25)


def test_a_class_is_accompanied_by_those_it_is_seen_with_more_than_by_chance() -> None:
    car, kite, sky = small().rows
    assert [(name, images) for name, _, images in kite.companions] == [("car", 1)]
    assert [name for name, *_ in car.companions] == ["kite"]
    assert sky.companions == []


def test_a_class_without_a_layout_has_no_size_and_is_said_to_be_unplannable() -> None:
    categories = [Category(1, "kite"), Category(2, "car")]
    natural = Statistics.of([Layout(np.array([1], np.int32), np.ones((1, 4), np.float32))], 2)
    counts = {"labelled": 0, "natural": 0.0, "target": 0.0, "planned": 0}
    manifest = {**small().manifest, "classes": {"kite": counts, "car": counts}}
    rows = class_rows(categories, natural, manifest)
    page = PlanPage("job", "sqrt", "uniform", manifest, rows, deviation(natural, natural))
    kite = next(row for row in rows if row.name == "kite")
    assert (kite.size, kite.where) == (None, "–")
    line = "1 thing classes are in no layout and cannot be planned: kite"
    assert line in sentences(page)
    assert "n/a" in "\n".join(lines(page))


def test_sentences_tell_what_is_missing_and_what_has_no_place() -> None:
    texts = sentences(small(short=3))
    assert texts[0] == (
        "6 images from 3 real layouts, target 'balanced': of 15 objects 4 are given up, 5 are added"
    )
    assert texts[1].startswith("to 20 objects in every thing class 19 are missing: 3 images with")
    assert "3 objects of the target have no place; raise plan.count" in texts
    assert texts[-1].startswith("distance to natural layouts in bits (0 to 1), placement 'natural'")
    enough = {"objects_per_class": 1, "objects": 0}
    texts = sentences(small(need=enough))
    assert texts[1] == "every thing class that can be planned has 1 objects or more"


def test_columns_of_the_terminal_stand_below_their_heads() -> None:
    table = lines(small())
    head = table[0]
    assert head.startswith("class")
    row = next(line for line in table if line.startswith("kite"))
    for name, value in (("labelled", "1"), ("target", "9"), ("planned", "8"), ("missing", "19")):
        end = head.index(name) + len(name)
        assert row[:end].endswith(value), name


def test_a_pair_shows_the_layout_beside_its_image() -> None:
    real = Picture("data:image/webp;base64,AA", 8, 8, (), "Real image a")
    layout = Picture("", 8, 8, (), "Layout <b>")
    page = small()
    pair = LayoutPair(layout, real, "<i>", "a", "natural: as in the source")
    html = render(PlanPage(**{**page.__dict__, "pairs": (pair,)})).decode()
    (figure,) = re.findall(r"<figure>.*?</figure>", html, re.S)
    assert figure.count("<img") == 1
    assert "&lt;i&gt; from a" in figure
    assert "natural: as in the source" in figure


def test_a_plan_without_classes_is_a_page_too() -> None:
    page = PlanPage("job", "sqrt", "uniform", small().manifest, [], small().deviation)
    assert b"<tbody>" in render(page)
    assert lines(page)[0].startswith("class")
