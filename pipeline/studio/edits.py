"""Edits of a layout (LostGAN-V2, Fig. 9).

Read from JSON, applied to scenes, and the usual ones.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from synthaug.pipeline.core.boxes import Size
from synthaug.pipeline.core.json_values import Json
from synthaug.pipeline.formats.validation import RecordError, is_int
from synthaug.pipeline.planning.exchange import overlap
from synthaug.pipeline.studio.layout_files import Box, GivenLayout, box_of, mapping, only, text

if TYPE_CHECKING:
    from synthaug.generators.lostgan.control import Controlled

SMALL = 0.25  # share of the image below which an object is one to move about
REACH = 0.35  # share of the image a box is moved by, where there is room
SIDEWAYS = 0.1  # share of the width that must be free for a box to be moved sideways
SAME_SIZE = 0.01  # change of a side, share of the image, below which a move is no resize

ACTIONS = {  # keys that each edit needs
    "move": ("object", "box"),
    "relabel": ("object", "class"),
    "add": ("class", "box"),
    "remove": ("object",),
    "restyle": ("object", "seed"),
    "restyle_image": ("seed",),
}


@dataclass(frozen=True)
class Edit:
    """One change of a layout; the box is in the layout's units."""

    action: str  # one of ACTIONS
    number: int = -1
    name: str = ""
    box: Box = (0, 0, 0, 0)
    seed: int = -1

    def apply(self, scene: Controlled, size: Size) -> Controlled:
        """Return the changed scene; boxes are divided by the size (H, W).

        ValueError for what cannot be.
        """
        height, width = size
        x0, y0, x1, y1 = self.box
        low = (x0 / width, y0 / height)
        high = (x1 / width, y1 / height)
        box = (*low, *high)
        match self.action:
            case "move":
                return scene.move(self.number, box)
            case "relabel":
                return scene.relabel(self.number, self.name)
            case "add":
                return scene.add(self.name, box)
            case "remove":
                return scene.remove(self.number)
            case "restyle":
                return scene.restyle(self.number, self.seed)
            case "restyle_image":
                return scene.restyle_image(self.seed)
        raise AssertionError(self.action)

    def describe(self, before: Controlled, after: Controlled) -> str:
        """Describe the change in words."""
        thing = ""
        if self.number >= 0:
            thing = f"{self.number} {before[self.number].label}"
        match self.action:
            case "move":
                verb = _verb_of_move(before[self.number].box, after[self.number].box)
                return f"{verb} {thing}"
            case "relabel":
                return f"{thing} becomes {self.name}"
            case "add":
                return f"add {before.born} {self.name}"
            case "remove":
                return f"remove {thing}"
            case "restyle":
                return f"new z_obj for {thing} (seed {self.seed})"
            case "restyle_image":
                return f"new z_img (seed {self.seed})"
        raise AssertionError(self.action)

    def record(self) -> Json:
        """Return the edit as it is written in a file of edits."""
        values = {
            "object": self.number,
            "class": self.name,
            "box": list(self.box),
            "seed": self.seed,
        }
        record: Json = {"edit": self.action}
        for key in ACTIONS[self.action]:
            record[key] = values[key]
        return record


def _verb_of_move(old: Box, new: Box) -> str:
    """Return "resize" where a side of the box changes, else "move"."""
    new_width = new[2] - new[0]
    old_width = old[2] - old[0]
    new_height = new[3] - new[1]
    old_height = old[3] - old[1]
    width = new_width - old_width
    height = new_height - old_height
    if abs(width) < SAME_SIZE and abs(height) < SAME_SIZE:
        return "move"
    return "resize"


def read_edits(records: Any) -> tuple[Edit, ...]:
    """Read edits from JSON, a list of {"edit": "move", "object": 0, "box": [...]}.

    RecordError says what is wrong.
    """
    if not isinstance(records, list) or not records:
        raise RecordError("bad value", "edits must be a list of at least one edit")
    return tuple(_edit(record, f"edit {number}") for number, record in enumerate(records))


def _edit(value: Any, where: str) -> Edit:
    record = mapping(value, where)
    action = text(record, "edit", where)
    if action not in ACTIONS:
        raise RecordError("bad value", f"{where}: '{action}' is none of {', '.join(ACTIONS)}")
    keys = ACTIONS[action]
    only(record, ("edit", *keys), where)
    name = Edit.name
    box = Edit.box
    number = Edit.number
    seed = Edit.seed
    if "class" in keys:
        name = text(record, "class", where)
    if "box" in keys:
        box = box_of(record, where)
    if "object" in keys:
        number = _whole_number(record, "object", where)
    if "seed" in keys:
        seed = _whole_number(record, "seed", where)
    return Edit(action, number, name, box, seed)


def _whole_number(record: Json, key: str, where: str) -> int:
    value = record.get(key)
    if not is_int(value) or value is None or value < 0:
        raise RecordError(
            "bad value", f"{where}: '{key}' must be a whole number from 0, not {value!r}"
        )
    return int(value)


def usual_edits(layout: GivenLayout, classes: Sequence[str]) -> tuple[Edit, ...]:
    """Return the usual edits (Fig. 9).

    Move an object in two steps, put one like it in its old place, shrink it, change its class,
    remove another.

    The object is the largest of the small ones. The same layout always gives the same edits.
    """
    focus = _focus(layout)
    name = layout.names[focus]
    old = layout.boxes[focus]
    dx, dy = _free_direction(layout, focus)
    halfway = _rounded(_shifted(old, dx / 2, dy / 2), layout)
    x0, y0, x1, y1 = moved = _rounded(_shifted(old, dx, dy), layout)
    width = x1 - x0
    height = y1 - y0
    left = x0 + 0.2 * width
    right = x1 - 0.2 * width
    shrunk = _rounded((left, y0 + 0.4 * height, right, y1), layout)
    edits = []
    if dx or dy:
        edits.append(Edit("move", focus, box=halfway))
        edits.append(Edit("move", focus, box=moved))
        edits.append(Edit("add", name=name, box=old))
    edits.append(Edit("move", focus, box=shrunk))
    other = _next_class(layout, name, classes)
    edits.append(Edit("relabel", focus, name=other))
    others = [number for number in _small(layout) if number != focus]
    last = others[-1] if others else focus
    edits.append(Edit("remove", last))
    return tuple(edits)


def _shifted(box: Box, dx: float, dy: float) -> Box:
    x0, y0, x1, y1 = box
    return x0 + dx, y0 + dy, x1 + dx, y1 + dy


def _share(layout: GivenLayout, number: int) -> float:
    """Return the share of the image that an object's box covers."""
    height, width = layout.size or (1, 1)
    x0, y0, x1, y1 = layout.boxes[number]
    return (x1 - x0) * (y1 - y0) / (width * height)


def _small(layout: GivenLayout) -> list[int]:
    """Return the numbers of the small things.

    Where nobody says what is a thing, of all small objects.
    """
    things = [number for number, name in enumerate(layout.names) if layout.is_thing(name)]
    return [number for number in things if _share(layout, number) < SMALL]


def _focus(layout: GivenLayout) -> int:
    """Return the largest small thing, else the smallest object."""
    small = _small(layout)
    if small:
        return max(small, key=lambda number: _share(layout, number))
    numbers = range(len(layout.names))
    return min(numbers, key=lambda number: _share(layout, number))


def _next_class(layout: GivenLayout, name: str, classes: Sequence[str]) -> str:
    """Return the class after `name` among the generator's things.

    Itself where there is no other.
    """
    known = [other for other in classes if layout.is_thing(other) or other == name]
    following = known.index(name) + 1
    return known[following % len(known)]


def _free_direction(layout: GivenLayout, focus: int) -> tuple[float, float]:
    """Return how far to move a box.

    Sideways if there is room, where it covers least of the other small things.
    """
    height, width = layout.size or (1, 1)
    x0, y0, x1, y1 = box = layout.boxes[focus]
    right = min(width - x1, REACH * width)
    left = -min(x0, REACH * width)
    down = min(height - y1, REACH * height)
    up = -min(y0, REACH * height)
    least = SIDEWAYS * width
    sideways = [(dx, 0.0) for dx in (right, left) if abs(dx) >= least]
    others = [layout.boxes[number] for number in _small(layout) if number != focus]
    other_boxes = np.array(others, np.float32).reshape(-1, 4)

    def crowding(direction: tuple[float, float]) -> tuple[float, float]:
        moved = np.array(_shifted(box, *direction), np.float32)
        covered = float(overlap(moved, other_boxes).sum())
        distance = abs(direction[0]) + abs(direction[1])
        return round(covered, 3), -distance

    return min(sideways or [(0.0, down), (0.0, up)], key=crowding)


def _rounded(box: Box, layout: GivenLayout) -> Box:
    """Round coordinates so that they are written and read without change.

    In the layout's units.
    """
    digits = 6 if layout.size is None else 3
    x0, y0, x1, y1 = (round(value, digits) for value in box)
    return x0, y0, x1, y1
