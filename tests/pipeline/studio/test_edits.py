"""Edits.

Read and recorded without change, boxes in the layout's units, the usual ones go where there is
room.
"""

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


def layout_of(*boxes: tuple[float, float, float, float], **settings: Any) -> GivenLayout:
    names = ("cow", "tree", "car")[: len(boxes)]
    return GivenLayout("here", names, boxes, **settings)


class Asked:
    """Stands for a scene: remembers the boxes it was asked for."""

    def __init__(self) -> None:
        self.boxes: list[Any] = []

    def move(self, _number: int, box: Any) -> None:
        self.boxes.append(box)

    def add(self, _name: str, box: Any) -> None:
        self.boxes.append(box)


def test_boxes_are_divided_by_width_along_x_and_by_height_along_y() -> None:
    scene = Asked()
    Edit("move", 3, box=(60, 40, 80, 60)).apply(scene, (50, 100))  # type: ignore[arg-type]
    Edit("add", name="car", box=(10, 5, 20, 25)).apply(scene, (50, 100))  # type: ignore[arg-type]
    assert scene.boxes == [(0.6, 0.8, 0.8, 1.2), (0.1, 0.1, 0.2, 0.5)]


def test_the_largest_of_the_small_ones_is_moved_halfway_then_all_the_way() -> None:
    layout = layout_of((0.1, 0.1, 0.2, 0.2), (0.1, 0.4, 0.4, 0.8), (0, 0, 1, 1))
    halfway, moved, added, *_ = usual_edits(layout, CLASSES)
    assert (halfway.number, moved.number) == (1, 1)
    assert halfway.box == (0.275, 0.4, 0.575, 0.8)
    assert moved.box == (0.45, 0.4, 0.75, 0.8)
    assert added.box == (0.1, 0.4, 0.4, 0.8)


def test_an_object_is_shrunk_where_it_was_moved_and_stands_on_the_same_ground() -> None:
    layout = layout_of((0.1, 0.4, 0.4, 0.8))
    _, moved, _, shrunk, *_ = usual_edits(layout, CLASSES)
    assert moved.box == (0.45, 0.4, 0.75, 0.8)
    assert shrunk.box == pytest.approx((0.51, 0.56, 0.69, 0.8))


def test_of_two_free_sides_the_one_without_other_objects_is_taken() -> None:
    left_taken = layout_of((0.4, 0.4, 0.6, 0.6), (0.05, 0.45, 0.15, 0.55))
    assert usual_edits(left_taken, CLASSES)[1].box == pytest.approx((0.75, 0.4, 0.95, 0.6))
    right_taken = layout_of((0.4, 0.4, 0.6, 0.6), (0.85, 0.45, 0.95, 0.55))
    assert usual_edits(right_taken, CLASSES)[1].box == pytest.approx((0.05, 0.4, 0.25, 0.6))


def test_where_there_is_no_room_at_the_sides_an_object_goes_up_or_down() -> None:
    layout = layout_of((0.05, 0.7, 0.95, 0.9))
    assert usual_edits(layout, CLASSES)[1].box == pytest.approx((0.05, 0.35, 0.95, 0.55))


def test_the_last_of_the_other_small_things_is_removed() -> None:
    layout = layout_of((0.1, 0.1, 0.4, 0.4), (0.6, 0.6, 0.7, 0.7), (0.8, 0.8, 0.9, 0.9))
    assert usual_edits(layout, CLASSES)[-1] == Edit("remove", 2)


def test_the_class_after_the_last_is_the_first_and_stuff_is_passed_over() -> None:
    layout = GivenLayout("here", ("car",), ((0.1, 0.1, 0.3, 0.3),))
    (relabel,) = [edit for edit in usual_edits(layout, ["tree", "car"]) if edit.action == "relabel"]
    assert relabel.name == "tree"
    things = frozenset({"car", "cow"})
    layout = GivenLayout("here", ("car",), ((0.1, 0.1, 0.3, 0.3),), None, things)
    classes = ["car", "sky", "cow"]
    (relabel,) = [edit for edit in usual_edits(layout, classes) if edit.action == "relabel"]
    assert relabel.name == "cow"


def test_sides_of_a_box_are_compared_before_a_move_is_called_a_resize() -> None:
    shifted = Scene({0: Thing("cow", (0.1, 0.2, 0.5, 0.6))})
    same_size = Scene({0: Thing("cow", (0.3, 0.3, 0.7, 0.7))})
    taller = Scene({0: Thing("cow", (0.1, 0.2, 0.5, 0.62))})
    wider = Scene({0: Thing("cow", (0.1, 0.2, 0.52, 0.6))})
    edit = Edit("move", 0)
    verbs = []
    for after in (same_size, taller, wider):
        verbs.append(edit.describe(shifted, after).split()[0])  # type: ignore[arg-type]
    assert verbs == ["move", "resize", "resize"]
