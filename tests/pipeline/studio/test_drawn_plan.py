"""Sketches as planned scenes, and the file in which they wait for a job."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from synthaug.generators.copy_paste import Frame
from synthaug.pipeline.core.errors import DatasetError
from synthaug.pipeline.core.images import decode
from synthaug.pipeline.core.panoptic_maps import maps_of
from synthaug.pipeline.core.scene import Scene
from synthaug.pipeline.planning.planner import ADDED
from synthaug.pipeline.studio.drawn_plan import planned_scene, read_drawn
from synthaug.pipeline.studio.map_layers import of_map
from synthaug.pipeline.studio.painters.photos import canvas_of, first_items
from synthaug.pipeline.studio.sketch import Sketch, of_objects
from synthaug.pipeline.studio.sketch_files import record_of
from synthaug.pipeline.synthesis.edits import Changes
from synthaug.pipeline.synthesis.pasting import Canvas
from tests.studio_room import HOSTILE, photos_of, toy_table

TABLE = toy_table()
CATEGORIES = TABLE.categories
PHOTO = TABLE[0]
THING = next(category.name for category in CATEGORIES[1:] if category.isthing)


def photo_of(image_id: str) -> Scene | None:
    return PHOTO if image_id == PHOTO.image_id else None


def edited(split: str = "labelled") -> Sketch:
    """Return the sketch of a photo as it is."""
    empty = Sketch(PHOTO.size, (), 3, ((3, 1.0),), 0, photo=f"validation/{PHOTO.image_id}")
    items = first_items(canvas_of(photos_of(TABLE), empty), CATEGORIES, 3)
    name = f"{split}/{PHOTO.image_id}"
    return replace(empty, items=tuple(items), born=len(items), photo=name)


def layout() -> Sketch:
    return of_objects((40, 60), [(THING, (1, 2, 20, 30)), (HOSTILE, (5, 5, 9, 9))], seed=3)


def planned(sketch: Sketch, kind: str) -> Scene:
    return planned_scene(sketch, kind, CATEGORIES, photo_of)


def test_a_layout_is_planned_as_it_was_drawn() -> None:
    scene = planned(layout(), "layout")
    assert (40, 60) == scene.size
    assert [[1, 2, 20, 30], [5, 5, 9, 9]] == scene.objects.boxes.tolist()
    assert [THING, HOSTILE] == [CATEGORIES[c].name for c in scene.objects.category.tolist()]
    assert scene.provenance and "drawn by hand" == scene.provenance.reason


def test_a_map_is_planned_as_it_was_drawn() -> None:
    scene = planned(of_map(PHOTO, CATEGORIES, 3), "map")
    num = len(CATEGORIES)
    assert (maps_of(scene, num).labels == maps_of(PHOTO, num).labels).all()


def test_a_photo_is_planned_as_production_reads_it() -> None:
    sketch = edited().add(THING, (2, 40, 20, 60)).restyle(1, 9)
    scene = planned(sketch, "photo")
    canvas = Canvas.of(PHOTO, decode(PHOTO), Frame.still(PHOTO.size))
    changes = Changes.of(canvas, scene)
    assert [[2, 40, 20, 60]] == changes.new.boxes.tolist()
    redrawn = np.flatnonzero(changes.redrawn).tolist()
    assert [sketch[1].origin] == redrawn
    assert not changes.erased.any()
    assert 0 == len(changes.empty)
    assert scene.provenance and PHOTO.image_id == scene.provenance.source_image
    assert ADDED == scene.objects.source[-1]


@pytest.mark.parametrize(
    ("sketch", "words"),
    [
        (edited("validation"), "labelled images only"),
        (replace(edited(), photo="labelled/none"), "no labelled image has the id 'none'"),
        (edited().remove(0), "moved or removed"),
        (edited().move(0, (0, 0, 9, 9)), "moved or removed"),
        (edited().relabel(0, HOSTILE), "as what they are"),
        (edited().add("unicorn", (0, 0, 9, 9)), "no class 'unicorn'"),
    ],
)
def test_what_a_plan_cannot_hold_is_said(sketch: Sketch, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        planned(sketch, "photo")


def read(path: Path, content: Any, kind: str = "layout") -> list[Scene]:
    file = path / "plan.json"
    file.write_text(json.dumps(content))
    return read_drawn(file, kind, CATEGORIES, TABLE, "lostgan")


def test_each_layout_is_planned_as_often_as_the_file_says(tmp_path: Path) -> None:
    entries = [
        {"copies": 2, "layout": record_of(layout())},
        {"copies": 1, "layout": {"objects": [{"class": THING, "box": [0, 0, 1, 0.5]}]}},
    ]
    scenes = read(tmp_path, {"layouts": entries})
    assert [2, 2, 1] == [len(scene.objects) for scene in scenes]
    assert {"lostgan"} == {scene.provenance.generator for scene in scenes if scene.provenance}
    assert [] == read(tmp_path, {"layouts": []})


def test_photos_are_found_among_the_labelled_images(tmp_path: Path) -> None:
    entry = {"copies": 3, "layout": record_of(edited().add(THING, (2, 40, 20, 60)))}
    scenes = read(tmp_path, {"layouts": [entry]}, "photo")
    assert 3 == len(scenes)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ({}, "'layouts' is missing"),
        ({"layouts": {}}, "must be a list"),
        ({"layouts": [1]}, "layout 0 is no JSON object"),
        ({"layouts": [{"copies": 0, "layout": {}}]}, "layout 0: copies 0 is not from 1"),
        ({"layouts": [{"copies": 1}]}, "'layout' is missing"),
        ({"layouts": [{"copies": 1, "layout": {}}]}, "layout 0: key 'objects' is missing"),
        (
            {
                "layouts": [
                    {"copies": 1, "layout": {"objects": [{"class": "x", "box": [0, 0, 1, 1]}]}}
                ]
            },
            "layout 0: the data has no class 'x'",
        ),
    ],
)
def test_a_broken_file_is_one_line(tmp_path: Path, content: Any, words: str) -> None:
    with pytest.raises(DatasetError) as caught:
        read(tmp_path, content)
    line = str(caught.value)
    assert "plan.drawn: " in line and "plan.json" in line and words in line
    assert "\n" not in line
