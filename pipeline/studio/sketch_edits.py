"""Edits of a sketch as the page sends them: JSON in, another sketch out.

RecordError says, in one sentence, what is wrong with an edit, ValueError why it cannot be made.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from synthaug.pipeline.core.json_values import Json
from synthaug.pipeline.core.scene import Category
from synthaug.pipeline.formats.validation import RecordError, is_int, need, number
from synthaug.pipeline.studio import map_layers
from synthaug.pipeline.studio.layout_files import box_of, mapping, only, text
from synthaug.pipeline.studio.map_layers import Stroke, stroke_of
from synthaug.pipeline.studio.painters.base import Abilities, labels_of
from synthaug.pipeline.studio.sketch import SEEDS, Shape, Sketch

KEYS = {  # keys of each edit; the last ones of some may be left out
    "move": ("object", "box"),
    "relabel": ("object", "class"),
    "add": ("class", "box"),
    "remove": ("object",),
    "lock": ("object", "locked"),
    "raise": ("object",),
    "restyle": ("object", "seed"),
    "restyle_image": ("seed",),
    "resample": ("seed",),
    "interpolate": ("object", "seed", "t"),
    "brush": ("points", "radius", "class", "object", "erase"),
}
MAY_LACK = {
    "restyle": ("seed",),
    "restyle_image": ("seed",),
    "interpolate": ("object",),
    "brush": ("class", "object", "erase"),
}


@dataclass(frozen=True)
class Rules:
    """What an edit may ask for: the classes there are, and what the generator can do."""

    categories: Sequence[Category]
    abilities: Abilities
    shape_for: Callable[[str, int], Shape]  # class and seed -> shape of a new object of a map


def apply(sketch: Sketch, value: Any, rules: Rules) -> Sketch:
    """Return the sketch after an edit."""
    record = mapping(value, "the edit")
    action = text(record, "edit", "the edit")
    if action not in KEYS:
        raise RecordError("bad value", f"edit '{action}' is none of {', '.join(KEYS)}")
    only(record, ("edit", *KEYS[action]), f"edit '{action}'")
    for key in KEYS[action]:
        if key not in MAY_LACK.get(action, ()):
            need(record, key)
    _check_able(action, rules.abilities)
    match action:
        case "move":
            return sketch.move(_object(record), box_of(record, action))
        case "relabel":
            return sketch.relabel(_object(record), _class(record, rules))
        case "add":
            return _add(sketch, record, rules)
        case "remove":
            return sketch.remove(_object(record))
        case "lock":
            return sketch.lock(_object(record), record["locked"] is True)
        case "raise":
            return sketch.raised(_object(record))
        case "restyle":
            return sketch.restyle(_object(record), _seed(record))
        case "restyle_image":
            return sketch.restyle_image(_seed(record))
        case "resample":
            return sketch.resample(_needed_seed(record))
        case "interpolate":
            numbered = _object(record) if "object" in record else None
            share = number(record["t"], "t")
            return sketch.interpolate(numbered, _needed_seed(record), share)
    return _brush(sketch, record, rules)


def _check_able(action: str, abilities: Abilities) -> None:
    """Raise ValueError for an edit that the generator has no use for."""
    if action == "restyle" and not abilities.object_styles:
        raise ValueError("this generator draws one style for the whole image; change that one")
    if action == "restyle_image" and not abilities.image_style:
        raise ValueError("this generator has no style of the image; change those of its objects")
    if action == "interpolate" and not abilities.interpolates:
        raise ValueError("this generator has no codes to mix; only LostGAN has")
    if action == "brush" and abilities.kind != "map":
        raise ValueError("the brush is for generators driven by maps")


def _add(sketch: Sketch, record: Json, rules: Rules) -> Sketch:
    label = _class(record, rules)
    shape = None
    if rules.abilities.kind != "layout" and not _is_thing(label, rules):
        raise ValueError(f"'{label}' is stuff; only things can be added here")
    if rules.abilities.kind == "map":
        shape = rules.shape_for(label, sketch.born)
    return sketch.add(label, box_of(record, "add"), shape)


def _brush(sketch: Sketch, record: Json, rules: Rules) -> Sketch:
    stroke = _stroke(record, sketch)
    if "object" in record:
        erases = record.get("erase") is True
        return map_layers.brush_object(sketch, _object(record), stroke, erases)
    label = _class(record, rules)
    if _is_thing(label, rules):
        return map_layers.brush_new(sketch, label, stroke)
    category = labels_of(rules.categories)[label]
    return map_layers.brush_stuff(sketch, category, stroke)


def _stroke(record: Json, sketch: Sketch) -> Stroke:
    listed = record["points"]
    if not isinstance(listed, list):
        raise RecordError("bad value", "points must be a list of [x, y]")
    points = []
    for point in listed:
        if not isinstance(point, list):
            raise RecordError("bad value", "points must be a list of [x, y]")
        points.append([number(value, "a point") for value in point])
    return stroke_of(points, number(record["radius"], "radius"), sketch.size)


def _is_thing(label: str, rules: Rules) -> bool:
    category = labels_of(rules.categories)[label]
    return rules.categories[category].isthing


def _class(record: Json, rules: Rules) -> str:
    label = text(record, "class", "the edit")
    if label not in labels_of(rules.categories):
        raise RecordError("unknown category", f"the data has no class '{label}'")
    return label


def _object(record: Json) -> int:
    value = record["object"]
    if not is_int(value):
        raise RecordError("bad value", "'object' must be the number of an object")
    return value


def _seed(record: Json) -> int | None:
    return _needed_seed(record) if "seed" in record else None


def _needed_seed(record: Json) -> int:
    seed = record["seed"]
    if not is_int(seed) or not 0 <= seed < SEEDS:
        raise RecordError("bad value", f"'seed' must be a whole number from 0 to {SEEDS - 1}")
    return seed
