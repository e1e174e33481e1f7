"""Lines of a survey for a terminal: numbers, units, and what is left out of them."""

from __future__ import annotations

from typing import Any

import pytest

from synthaug.pipeline.survey.findings import ERROR, WARNING, Finding
from synthaug.pipeline.survey.text import finding_lines, set_lines

SPREAD = {"least": 1, "most": 9, "median": 2, "mean": 2.25, "p05": 4, "p95": 80}


def told(**changes: Any) -> dict[str, Any]:
    record = {
        "images": 12,
        "objects": 30,
        "bytes": 2_340_000,
        "sizes": [{"width": 640, "height": 480, "images": 12}],
        "files": {"JPEG RGB": 11, "PNG L": 1},
        "objects_per_image": SPREAD,
        "shorter_sides": SPREAD,
        "smallest": {"side": 4.0, "what": "object 3 of a.jpg"},
        "masks": 0,
        "crowds": 0,
        "classes": [{"name": "cat", "thing": True, "objects": 30, "images": 12}],
    }
    return record | changes


def rows(**changes: Any) -> dict[str, str]:
    """Return the lines of a set by their first word."""
    lines = list(set_lines(told(**changes), "in order"))[1:]
    return {line[2:13].strip(): line[14:] for line in lines}


@pytest.mark.parametrize(
    ("count", "expected"),
    [(999, "999 bytes"), (1000, "1 kB"), (2_340_000, "2.34 MB"), (5 * 10**13, "5e+04 GB")],
)
def test_bytes_have_a_unit_that_fits(count: int, expected: str) -> None:
    assert f"11 JPEG RGB, 1 PNG L; {expected}" == rows(bytes=count)["files"]


def test_of_many_sizes_the_rest_is_a_range() -> None:
    sizes = [{"width": 10 * k, "height": 100 - k, "images": 9 - k} for k in range(1, 6)]
    text = rows(sizes=sizes)["sizes"]
    assert text.startswith("10x99 (8), 20x98 (7), 30x97 (6), 2 others; ")
    assert text.endswith("from 10 to 50 wide, 95 to 99 high")


def test_masks_and_crowds_are_told_where_there_are_some() -> None:
    assert {"masks", "crowds"}.isdisjoint(rows())
    some = rows(masks=3, crowds=2)
    assert "3 of 30 objects have one" == some["masks"]
    assert "2 objects are ignore regions" == some["crowds"]
    assert "0 of 30 objects have one" == rows(crowds=2)["masks"], "a crowd needs one"


def test_sides_and_numbers_are_told_for_the_middle_and_the_ends() -> None:
    lines = rows()
    assert "1 to 9 objects, median 2, mean 2.2" == lines["per image"]
    assert "shorter side 4 to 80 pixels for nine in ten, median 2" == lines["object size"]
    assert "object 3 of a.jpg" == lines["smallest"]


def test_stuff_is_marked_and_forty_classes_are_all_shown() -> None:
    classes = []
    for k in range(40):
        classes.append({"name": f"c{k}", "thing": k > 0, "objects": 40 - k, "images": 1})
    lines = list(set_lines(told(classes=classes), "in order"))
    assert any(line.endswith("40          1  c0 (stuff)") for line in lines)
    assert not any("between these" in line for line in lines)
    more = [*classes, {"name": "c40", "thing": True, "objects": 1, "images": 1}]
    lines = list(set_lines(told(classes=more), "in order"))
    assert any("6 classes between these" in line for line in lines)


def test_levels_have_one_head_each_and_sets_are_named_where_there_are_several() -> None:
    found = [
        Finding(ERROR, 2, "bad boxes", "correct them", (), "coco:a.json"),
        Finding(ERROR, 1, "bad masks", "", (), "coco:b.json"),
        Finding(WARNING, 3, "equal pictures", "", (), ""),
    ]
    lines = list(finding_lines(found, several=True))
    assert 1 == sum("a run would stop" in line for line in lines)
    assert "         2  bad boxes (coco:a.json)" in lines
    assert "            correct them" in lines
    assert "         3  equal pictures" in lines, "it is between two sets"
    assert not any("coco" in line for line in finding_lines(found, several=False))


def test_names_that_do_not_fit_together_have_a_line_each() -> None:
    names = ("short", "a name of more than twenty-five letters")
    (finding,) = (Finding(WARNING, 2, "x", "", names),)
    lines = [line.strip() for line in finding_lines([finding], several=False)]
    assert ["- short", f"- {names[1]}"] == lines[-2:]
