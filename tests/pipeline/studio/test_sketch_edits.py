"""Edits as JSON: each does what its name says, and nonsense is refused in one sentence."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from synthaug.pipeline.core.scene import Category
from synthaug.pipeline.formats.validation import RecordError
from synthaug.pipeline.studio.map_layers import ellipse
from synthaug.pipeline.studio.sketch import Sketch, of_objects, style_of
from synthaug.pipeline.studio.sketch_edits import KEYS, Rules, apply
from tests.studio_room import LAYOUT

CATEGORIES = (Category(1, "cow"), Category(2, "sky", isthing=False), Category(3, "car"))
MAP = replace(LAYOUT, kind="map", object_styles=False, interpolates=False)
PHOTO = replace(LAYOUT, kind="photo", image_style=False, erases=True)


def rules(abilities: Any = LAYOUT) -> Rules:
    return Rules(CATEGORIES, abilities, lambda _label, _seed: ellipse())


def sketch() -> Sketch:
    return of_objects((40, 60), [("sky", (0, 0, 60, 20)), ("cow", (10, 20, 30, 35))], seed=3)


def changed(edit: dict[str, Any], abilities: Any = LAYOUT) -> Sketch:
    return apply(sketch(), edit, rules(abilities))


def test_each_edit_does_what_its_name_says() -> None:
    box = [1, 2, 9, 9]
    assert (1, 2, 9, 9) == changed({"edit": "move", "object": 1, "box": box})[1].box
    assert "car" == changed({"edit": "relabel", "object": 1, "class": "car"})[1].label
    assert "car" == changed({"edit": "add", "class": "car", "box": box})[2].label
    assert [0] == [i.number for i in changed({"edit": "remove", "object": 1}).items]
    assert changed({"edit": "lock", "object": 1, "locked": True})[1].locked
    assert 0 == changed({"edit": "raise", "object": 0}).items[-1].number
    assert style_of(9) == changed({"edit": "restyle", "object": 1, "seed": 9})[1].style
    assert style_of(3) != changed({"edit": "restyle", "object": 1})[1].style
    assert style_of(9) == changed({"edit": "restyle_image", "seed": 9}).style
    assert style_of(9) == changed({"edit": "resample", "seed": 9})[0].style
    mixed = changed({"edit": "interpolate", "object": 1, "seed": 9, "t": 0.5})
    assert ((3, 0.5), (9, 0.5)) == mixed[1].style
    assert ((3, 0.5), (9, 0.5)) == changed({"edit": "interpolate", "seed": 9, "t": 0.5}).style


def test_a_brush_paints_stuff_things_and_objects() -> None:
    stroke = {"edit": "brush", "points": [[5, 5], [20, 5]], "radius": 2}
    assert changed({**stroke, "class": "sky"}, MAP).ground != sketch().ground
    assert 3 == len(changed({**stroke, "class": "car"}, MAP).items)
    grown = changed({**stroke, "object": 1}, MAP)
    assert grown[1].box[1] < 5
    assert changed({**stroke, "object": 1, "erase": True}, MAP)[1].box == sketch()[1].box


def test_an_object_added_to_a_map_has_a_shape() -> None:
    edit = {"edit": "add", "class": "cow", "box": [0, 0, 9, 9]}
    assert ellipse() == changed(edit, MAP).items[-1].shape
    assert changed(edit).items[-1].shape is None


@pytest.mark.parametrize(
    ("edit", "abilities", "words"),
    [
        ({"edit": "restyle", "object": 1}, MAP, "one style for the whole image"),
        ({"edit": "restyle_image"}, PHOTO, "no style of the image"),
        ({"edit": "interpolate", "seed": 1, "t": 0}, MAP, "no codes to mix"),
        ({"edit": "brush", "points": [[0, 0]], "radius": 1, "class": "cow"}, LAYOUT, "maps"),
        ({"edit": "add", "class": "sky", "box": [0, 0, 9, 9]}, PHOTO, "only things"),
    ],
)
def test_what_a_generator_cannot_is_said(edit: Any, abilities: Any, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        changed(edit, abilities)


@pytest.mark.parametrize(
    ("edit", "words"),
    [
        (None, "no JSON object"),
        ({}, "'edit' must be a text"),
        ({"edit": "explode"}, "edit 'explode' is none of"),
        ({"edit": "move", "object": 1}, "'box' is missing"),
        ({"edit": "move", "object": "1", "box": [0, 0, 9, 9]}, "must be the number"),
        ({"edit": "move", "object": 1, "box": [0, 0, 9]}, "must be a list"),
        ({"edit": "move", "object": 1, "box": [0, 0, 9, 9], "to": 1}, "unknown key 'to'"),
        ({"edit": "add", "class": "unicorn", "box": [0, 0, 9, 9]}, "no class 'unicorn'"),
        ({"edit": "restyle", "object": 1, "seed": -1}, "whole number from 0"),
        ({"edit": "resample", "seed": 2**32}, "whole number from 0"),
        ({"edit": "resample", "seed": True}, "whole number from 0"),
    ],
)
def test_nonsense_is_refused_in_one_sentence(edit: Any, words: str) -> None:
    with pytest.raises(RecordError) as caught:
        apply(sketch(), edit, rules())
    assert words in caught.value.detail


def test_strokes_that_are_none_are_refused() -> None:
    for points in ("abc", ["ab"], [["a", 1]]):
        with pytest.raises(RecordError):
            changed({"edit": "brush", "points": points, "radius": 1, "class": "cow"}, MAP)


def test_every_edit_is_known_by_the_page() -> None:
    from importlib.resources import files

    static = files("synthaug.pipeline.studio.server").joinpath("static")
    script = static.joinpath("studio.js").read_text()
    for name in KEYS:
        assert f'edit: "{name}"' in script, name
