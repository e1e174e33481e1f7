"""Layout files of the studio: written and read they are the same, and what is wrong is named."""

from __future__ import annotations

import copy
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from synthaug.pipeline.core.masks import panoptic_png
from synthaug.pipeline.formats.validation import RecordError
from synthaug.pipeline.studio.layout_files import STUDIO, read_layout
from synthaug.pipeline.studio.map_layers import ellipse
from synthaug.pipeline.studio.sketch import Item, Sketch, of_objects, style_of
from synthaug.pipeline.studio.sketch_files import record_of, sketch_of


def whole() -> Sketch:
    """A sketch that has everything a sketch can have."""
    made = of_objects((40, 60), [("sky", (0, 0, 60, 20)), ("cow", (10, 20, 30.5, 35))], seed=3)
    made = made.restyle(1, 12).interpolate(1, 99, 0.25).lock(0, True).remove(1)
    of_photo = Item(5, "cow", (1, 2, 3.25, 4.5), style_of(4), origin=2, real=True)
    shaped = Item(6, "car", (5, 5, 20, 20), ((1, 0.3), (2, 0.7)), shape=ellipse())
    ground = panoptic_png(np.arange(40 * 60).reshape(40, 60) % 7)
    return replace(
        made,
        items=(*made.items, of_photo, shaped),
        born=9,
        photo="validation/a/b",
        ground=ground,
        style=((3, 0.5), (4, 0.5)),
    )


def written(sketch: Sketch) -> Any:
    return json.loads(json.dumps(record_of(sketch)))


def test_what_is_written_is_read_again() -> None:
    assert whole() == sketch_of(written(whole()), (8, 8), 0)


def test_generate_reads_the_same_file(tmp_path: Path) -> None:
    file = tmp_path / "layout.json"
    file.write_text(json.dumps(record_of(whole())))
    layout = read_layout(str(file), None)
    assert ("sky", "cow", "car") == layout.names
    assert (40, 60) == layout.size


def test_a_plain_layout_file_is_read_with_one_seed() -> None:
    document = {"objects": [{"class": "cow", "box": [0.25, 0.5, 0.75, 1]}]}
    made = sketch_of(document, (40, 60), 11)
    assert [(15, 20, 45, 40)] == [item.box for item in made.items]
    assert style_of(11) == made.style == made.items[0].style


BROKEN: list[tuple[list[Any], Any, str]] = [
    ([STUDIO, "version"], 2, "version is 2"),
    ([STUDIO, "objects"], [], "an entry for each object"),
    ([STUDIO, "objects", 0, "number"], -1, "'number' must be a whole number"),
    ([STUDIO, "objects", 0, "number"], 5, "must differ"),
    ([STUDIO, "objects", 0, "style"], [], "a list of"),
    ([STUDIO, "objects", 0, "style"], [[1]], "a list of"),
    ([STUDIO, "objects", 0, "style"], [[2**40, 1]], "seed 1099511627776"),
    ([STUDIO, "objects", 0, "style"], [[1, "x"]], "not a finite number"),
    ([STUDIO, "objects", 0, "colour"], 1, "unknown key 'colour'"),
    ([STUDIO, "objects", 2, "shape", "rle"], "?!", "objects 2"),
    ([STUDIO, "objects", 2, "shape", "size"], [1], "size must be"),
    ([STUDIO, "objects", 2, "shape", "size"], [10**6, 10**6], "1000000 x 1000000"),
    ([STUDIO, "objects", 0, "style"], [[1, 0.01]] * 65, "a list of"),
    (["size"], [10**6, 10**6], "1000000 x 1000000"),
    ([STUDIO, "born"], 0, "must differ"),
    ([STUDIO, "seed"], True, "seed True"),
    ([STUDIO, "ground"], "%%%", "no base64"),
    ([STUDIO, "ground"], "AAAA", "ground"),
    ([STUDIO, "photo"], 3, "'photo' must be a text"),
    (["objects", 0, "box"], [0, 0, 0, 0], "too small"),
    (["size"], [0, 1], "size"),
    (["objects"], "none", "must be a list"),
]


@pytest.mark.parametrize(("keys", "value", "words"), BROKEN)
def test_a_broken_file_is_refused_in_one_sentence(keys: list[Any], value: Any, words: str) -> None:
    document = copy.deepcopy(written(whole()))
    place = document
    for key in keys[:-1]:
        place = place[key]
    place[keys[-1]] = value
    with pytest.raises(RecordError) as caught:
        sketch_of(document, (8, 8), 0)
    assert words in caught.value.detail
    assert "\n" not in caught.value.detail


def test_what_is_no_object_is_refused() -> None:
    with pytest.raises(RecordError, match="no JSON object"):
        sketch_of([1], (8, 8), 0)
