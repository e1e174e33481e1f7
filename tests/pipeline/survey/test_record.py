"""The record of a survey is plain data that says what was counted."""

from __future__ import annotations

import json

import numpy as np
import pytest

from synthaug.pipeline.core.scene import Category, ImageRef, Objects, Scene, SceneList
from synthaug.pipeline.core.skipped import Skipped
from synthaug.pipeline.survey.findings import ERROR, NOTE, WARNING, Finding
from synthaug.pipeline.survey.look import ImageFacts
from synthaug.pipeline.survey.record import record, state
from synthaug.pipeline.survey.tally import Tally
from synthaug.pipeline.survey.text import set_lines

CATEGORIES = (Category(7, "cat"), Category(3, "sky", isthing=False), Category(9, "dog"))


def facts(
    index: int, classes: dict[int, int], sides: tuple[int, ...], **more: object
) -> ImageFacts:
    """Return the facts of an image of 40 x 30 pixels."""
    given: dict[str, object] = {
        "size": (30, 40),
        "kind": "JPEG RGB",
        "num_bytes": 1000,
        "file_mark": index,
        "pixel_mark": index,
        "label_mark": index,
        "crowds": 0,
        "masks": 0,
        "smallest": (float(min(sides, default=np.inf)), f"object of {index}" if sides else ""),
        "oddities": (),
    }
    return ImageFacts(index=index, classes=classes, sides=sides, **{**given, **more})  # type: ignore[arg-type]


def tally_of(*images: ImageFacts) -> Tally:
    scenes = [Scene(str(k), 30, 40, ImageRef(None, None), Objects.build([], [])) for k in range(9)]
    own = Tally("coco:x.json", SceneList(CATEGORIES, scenes), Skipped())
    for image in images:
        own.add(image)
    return own


def test_classes_come_by_number_with_the_ids_of_the_file() -> None:
    own = tally_of(facts(0, {0: 1, 1: 1}, (5, 30)), facts(1, {1: 1, 0: 1}, (8, 30)))
    own.add(facts(2, {0: 4}, (6, 6, 6, 6)))
    (told,) = record([own], [])["sets"]
    assert [
        {"id": 7, "name": "cat", "thing": True, "objects": 6, "images": 3},
        {"id": 3, "name": "sky", "thing": False, "objects": 2, "images": 2},
        {"id": 9, "name": "dog", "thing": True, "objects": 0, "images": 0},
    ] == told["classes"]


def test_sums_and_distributions_are_those_of_the_images() -> None:
    own = tally_of(
        facts(0, {0: 2}, (5, 9), crowds=1, masks=2, num_bytes=10),
        facts(1, {}, (), kind="PNG L", size=(50, 40)),
        facts(2, {0: 1}, (3,), masks=1),
    )
    (told,) = record([own], [])["sets"]
    assert (3, 3, 1, 3, 2010) == tuple(
        told[key] for key in ("images", "objects", "crowds", "masks", "bytes")
    )
    assert {"least": 0, "most": 2, "median": 1, "mean": 1.0} == {
        key: told["objects_per_image"][key] for key in ("least", "most", "median", "mean")
    }
    assert (3, 9, 5) == tuple(told["shorter_sides"][key] for key in ("least", "most", "median"))
    assert {"side": 3.0, "what": "object of 2"} == told["smallest"]
    assert {"JPEG RGB": 2, "PNG L": 1} == told["files"]
    assert [(40, 30, 2), (40, 50, 1)] == [
        (row["width"], row["height"], row["images"]) for row in told["sizes"]
    ]


def test_a_set_without_objects_says_so_without_numbers() -> None:
    (told,) = record([tally_of(facts(0, {}, ()))], [])["sets"]
    assert None is told["smallest"]
    assert None is told["shorter_sides"]
    assert json.loads(json.dumps(told)) == told
    lines = list(set_lines(told, "in order"))
    assert "1 images, 0 objects, 3 classes: in order" == lines[0]
    assert ["sizes", "files"] == [line.split()[0] for line in lines[1:]]


def test_an_empty_set_is_one_line() -> None:
    (told,) = record([tally_of()], [])["sets"]
    assert ["0 images, 0 objects, 3 classes: error"] == list(set_lines(told, "error"))


def test_names_of_files_cannot_move_the_cursor() -> None:
    """A name may hold any character; what is printed may not."""
    finding = Finding(NOTE, 1, "odd \x1b[2J", "", ("a\nb\x1b]0;x\x07",), "coco:\x1b.json")
    (told,) = record([], [finding])["findings"]
    text = told["what"] + told["data"] + "".join(told["names"])
    assert text.isprintable()
    assert told["level"] == NOTE


@pytest.mark.parametrize(
    ("levels", "expected"),
    [
        ([], "in order"),
        ([NOTE], "in order"),
        ([NOTE, WARNING], "warning"),
        ([WARNING, ERROR], "error"),
    ],
)
def test_the_state_is_the_worst_level_that_asks_for_something(
    levels: list[str], expected: str
) -> None:
    assert expected == state([Finding(level, 1, "x", "") for level in levels])
