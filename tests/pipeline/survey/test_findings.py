"""What is wrong with sets: the worst first, each with its count and its names."""

from __future__ import annotations

import io
from collections import Counter
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from synthaug.pipeline.core.scene import Category, ImageRef, Objects, Scene, SceneList
from synthaug.pipeline.core.skipped import Skipped
from synthaug.pipeline.survey.findings import ERROR, NOTE, WARNING, Finding, findings
from synthaug.pipeline.survey.record import record, state
from synthaug.pipeline.survey.tally import Tally, mean, quantile, tally
from synthaug.pipeline.survey.text import finding_lines, set_lines
from synthaug.pipeline.survey.twins import Twins, shared, twins

SIZE = (24, 40)
CATEGORIES = (Category(1, "cat"), Category(2, "dog"))


def scene(name: str, value: int, boxes: list[tuple[float, ...]] | None = None) -> Scene:
    """An image with a dot of its own, and cats."""
    pixels = np.zeros((*SIZE, 3), np.uint8)
    pixels[3, 3] = value
    out = io.BytesIO()
    Image.fromarray(pixels).save(out, "PNG")
    boxes = [(1, 1, 9, 9)] if boxes is None else boxes
    return Scene(name, *SIZE, ImageRef(out.getvalue()), Objects.build([0] * len(boxes), boxes))


def counted(
    *scenes: Scene, name: str = "toy:x", classes: tuple[Category, ...] = CATEGORIES
) -> Tally:
    return tally(name, SceneList(classes, list(scenes)), 1, lambda *_: None)


def found(*tallies: Tally) -> list[Finding]:
    return findings(tallies, [True] * len(tallies))


def told(found: list[Finding], text: str) -> Finding:
    chosen = [finding for finding in found if text in finding.what]
    assert len(chosen) == 1, [finding.what for finding in found]
    return chosen[0]


def test_equal_pictures_are_grouped_and_their_labels_compared() -> None:
    table = counted(
        scene("a", 1),
        scene("b", 2),
        scene("c", 1),
        scene("d", 2, [(1, 1, 9, 8)]),
        scene("e", 3),
    )
    assert [Twins((0, 2), True, True), Twins((1, 3), True, False)] == list(twins(table))
    same, differing = (told(found(table), text) for text in ("the same labels", "different"))
    assert ("a = c",) == same.names
    assert ("b = d",) == differing.names
    assert WARNING == same.level == differing.level


def test_pictures_of_two_sets_are_the_worst_warning() -> None:
    train = counted(scene("a", 1), scene("b", 2, [(1, 1, 2, 9)]), name="coco:train.json")
    val = counted(scene("x", 3), scene("y", 1), name="coco:val.json")
    assert [(0, 1)] == shared(train, val)
    worst = [f for f in found(train, val) if f.level == WARNING]
    assert "pictures in coco:train.json and in coco:val.json" == worst[0].what
    assert ("a = y",) == worst[0].names
    assert "objects with a side under 2 pixels" == worst[1].what


def test_classes_that_the_first_set_does_not_know_are_named() -> None:
    other = (Category(1, "Cat"), Category(2, "dog"))
    names = told(found(counted(scene("a", 1)), counted(scene("b", 2), classes=other)), "not know")
    assert ("Cat",) == names.names


def test_a_wrong_record_is_an_error_or_left_out_as_asked() -> None:
    table = counted(scene("a", 1))
    table.skipped.note("bad box", "t.json: annotation 3", wrong=True)
    (error,) = (f for f in findings([table], [True]) if f.what == "bad box")
    assert (ERROR, ("t.json: annotation 3",)) == (error.level, error.names)
    (left,) = (f for f in findings([table], [False]) if f.what == "bad box")
    assert WARNING == left.level
    assert ["error", "warning"] == [state(findings([table], [s])) for s in (True, False)]


def test_what_a_reader_only_counts_is_a_note_and_what_it_names_a_warning() -> None:
    table = counted(scene("a", 1))
    table.skipped["object under 2 % of the image"] += 3
    table.skipped.note("label file without an image", "x.txt")
    table.skipped.note("clipped to image", "annotation 1")
    assert NOTE == told(found(table), "under 2 %").level
    assert WARNING == told(found(table), "without an image").level
    assert NOTE == told(found(table), "clipped").level, "by rounding"


@pytest.mark.parametrize(("empty", "level"), [(1, NOTE), (2, WARNING)])
def test_many_images_without_an_object_may_lack_their_labels(empty: int, level: str) -> None:
    scenes = [scene(str(k), k + 1, [] if k < empty else None) for k in range(10)]
    finding = told(found(counted(*scenes)), "images without an object")
    assert (level, empty) == (finding.level, finding.count)
    assert "0" == finding.names[0]


def test_unlabelled_images_lack_nothing() -> None:
    table = SceneList(CATEGORIES, [scene("a", 1, [])])
    table.has_labels = False
    assert [] == findings([tally("images:x", table, 1, lambda *_: None)], [True])


def test_names_that_differ_in_case_are_told() -> None:
    classes = (Category(1, "cat"), Category(2, "Cat "))
    finding = told(found(counted(scene("a", 1), classes=classes)), "case or spaces")
    assert ("cat = Cat ",) == finding.names


def test_where_counted_values_lie() -> None:
    counts = Counter({0: 5, 2: 4, 100: 1})
    assert [0, 0, 2, 100] == [quantile(counts, share) for share in (0.05, 0.5, 0.9, 0.95)]
    assert mean(counts) == pytest.approx(10.8)


def test_the_first_line_says_what_is_there_and_the_record_holds_it() -> None:
    table = counted(scene("a", 1, [(1, 1, 9, 9), (2, 3, 30, 8)]), scene("b", 2))
    (own,) = record([table], [])["sets"]
    first, *lines = set_lines(own, "in order")
    assert "2 images, 3 objects, 2 classes: in order" == first
    assert any(line.endswith("  3          2  cat") for line in lines)
    assert not any("dog" in line for line in lines), "a class without objects is a finding"
    assert {"p05": 5, "median": 8, "p95": 8, "least": 5, "most": 8} == {
        key: value for key, value in own["shorter_sides"].items() if key != "mean"
    }
    assert [{"width": 40, "height": 24, "images": 2}] == own["sizes"]


def test_of_many_classes_the_ends_are_shown() -> None:
    classes = tuple(Category(k, f"class {k}") for k in range(1, 61))
    scenes = []
    for k in range(60):
        one = scene(str(k), k + 1)
        scenes.append(one.with_objects(replace(one.objects, category=np.array([k], np.int32))))
    (own,) = record([counted(*scenes, classes=classes)], [])["sets"]
    lines = list(set_lines(own, "in order"))
    assert any("25 classes between these" in line for line in lines)
    assert 35 == sum(" class " in line for line in lines if "between" not in line)


def test_names_are_shown_by_line_or_together_when_short() -> None:
    long = Finding(
        WARNING, 5, "x", "do y", tuple(f"a name that takes a whole line {k}" for k in range(5))
    )
    short = Finding(NOTE, 14, "z", "", tuple(f"class {k}" for k in range(14)))
    lines = list(finding_lines([long, short], several=False))
    assert 3 == sum("a name that" in line for line in lines)
    assert "            - and 2 more (all: --json FILE)" in lines
    assert "            - " + ", ".join(f"class {k}" for k in range(12)) in lines
    assert lines.index("warnings, the most harmful first:") < lines.index("notes:")


def test_a_set_without_a_word_of_its_reader_has_no_finding() -> None:
    boxes: list[tuple[float, ...]] = [(k, 1, k + 5, 9) for k in range(10)]
    table = counted(scene("a", 1, boxes), classes=CATEGORIES[:1])
    assert Skipped() == table.skipped
    assert [] == found(table)
