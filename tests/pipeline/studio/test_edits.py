"""Edits: read and recorded without change, boxes in the layout's units, the usual ones go where there is room."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import pytest

from synthaug.pipeline.formats.validation import RecordError
from synthaug.pipeline.studio.edits import ACTIONS, Edit, read_edits, usual_edits
from synthaug.pipeline.studio.layout_files import GivenLayout

CLASSES = ["tree", "car", "cow", "sky"]
RECORDS = [
    {"edit": "move", "object": 3, "box": [60, 40, 80, 60]},
    {"edit": "relabel", "object": 1, "class": "car"},
    {"edit": "add", "class": "car", "box": [40, 40, 60, 60]},
    {"edit": "remove", "object": 0},
    {"edit": "restyle", "object": 3, "seed": 9},
    {"edit": "restyle_image", "seed": 9},
]


@dataclass
class Thing:
    label: str
    box: tuple[float, float, float, float]


@dataclass
class Scene:
    """Stands for a scene: remembers what it was asked."""

    things: dict[int, Thing] = field(default_factory=dict)
    born: int = 5
    calls: list[tuple[Any, ...]] = field(default_factory=list)

    def __getitem__(self, number: int) -> Thing:
        return self.things[number]

    def __getattr__(self, name: str) -> Any:
        def call(*values: Any) -> Scene:
            return Scene(self.things, self.born, [*self.calls, (name, *values)])

        return call


def test_every_edit_is_recorded_as_it_was_read() -> None:
    edits = read_edits(RECORDS)
    assert RECORDS == [edit.record() for edit in edits]
    assert set(ACTIONS) == {edit.action for edit in edits}


def test_boxes_are_divided_by_width_and_height() -> None:
    scene: Any = Scene()
    for edit in read_edits(RECORDS):
        scene = edit.apply(scene, (100, 200))
    assert [
        ("move", 3, (0.3, 0.4, 0.4, 0.6)),
        ("relabel", 1, "car"),
        ("add", "car", (0.2, 0.4, 0.3, 0.6)),
        ("remove", 0),
        ("restyle", 3, 9),
        ("restyle_image", 9),
    ] == scene.calls


def test_edits_are_described_by_number_and_class() -> None:
    before = Scene({1: Thing("cow", (0, 0, 0.2, 0.2)), 3: Thing("tree", (0, 0, 0.2, 0.2))})
    shifted = Scene({3: Thing("tree", (0.5, 0.5, 0.7, 0.7))})
    resized = Scene({3: Thing("tree", (0.5, 0.5, 0.7, 0.8))})
    move, relabel, add, *_ = read_edits(RECORDS)
    assert "move 3 tree" == move.describe(before, shifted)  # type: ignore[arg-type]
    assert "resize 3 tree" == move.describe(before, resized)  # type: ignore[arg-type]
    assert "1 cow becomes car" == relabel.describe(before, before)  # type: ignore[arg-type]
    assert "add 5 car" == add.describe(before, before)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("record", "message"),
    [
        ({"edit": "moev", "object": 1}, "'moev' is none of move, relabel"),
        ({"edit": "move", "object": 1}, "key 'box' is missing"),
        ({"edit": "remove", "object": -1}, "must be a whole number from 0"),
        ({"edit": "remove", "object": True}, "must be a whole number from 0"),
        ({"edit": "restyle", "object": 1}, "'seed' must be a whole number from 0, not None"),
        ({"edit": "remove", "object": 1, "seed": 1}, "unknown key 'seed'"),
        (7, "edit 0 is no JSON object"),
    ],
)
def test_a_wrong_edit_is_named(record: Any, message: str) -> None:
    with pytest.raises(RecordError) as error:
        read_edits([record])
    assert message in error.value.detail


def test_no_edits_at_all_are_a_mistake() -> None:
    for wrong in ([], {}, None):
        with pytest.raises(RecordError, match="at least one edit"):
            read_edits(wrong)


def test_the_usual_edits_move_a_small_thing_into_free_room() -> None:
    boxes = ((0.0, 0.0, 100.0, 50.0), (60.0, 40.0, 90.0, 80.0), (5.0, 40.0, 20.0, 80.0))
    things = frozenset({"cow", "tree", "car"})
    layout = GivenLayout("here", ("sky", "cow", "tree"), boxes, (100, 100), things)
    edits = usual_edits(layout, CLASSES)
    assert ["move", "move", "add", "move", "relabel", "remove"] == [edit.action for edit in edits]
    assert (25.0, 40.0, 55.0, 80.0) == edits[1].box
    assert ((60.0, 40.0, 90.0, 80.0), "cow") == (edits[2].box, edits[2].name)
    assert (2, "tree") == (edits[-1].number, edits[-2].name)


def test_where_nothing_can_be_moved_the_rest_is_done() -> None:
    full = GivenLayout("here", ("sky",), ((0.0, 0.0, 1.0, 1.0),))
    edits = usual_edits(full, ["sky"])
    assert ["move", "relabel", "remove"] == [edit.action for edit in edits]
    assert Edit("relabel", 0, name="sky") == edits[1]
