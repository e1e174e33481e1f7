"""The shared part of readers: good shapes stay, bad ones are named or stop the reading."""

from __future__ import annotations

from pathlib import Path

import pytest

from synthaug.pipeline.formats.checked import Checker
from synthaug.pipeline.formats.drawn import Canvas, Drawn, DrawnImage
from synthaug.pipeline.formats.shape_reader import ShapeReader
from synthaug.pipeline.formats.validation import RecordError

BOX = (0.0, 0.0, 5.0, 5.0)
SIZE = (30, 40)  # H, W


def reader(on_bad: str = "skip") -> ShapeReader:
    return ShapeReader(Checker(Path("/x/export.json"), on_bad))


def draw(shape: str, canvas: Canvas) -> Drawn | None:
    """Read "bad" as a bad shape, "point" as none, "edge" as one that is cut."""
    if shape == "bad":
        raise RecordError("bad shape", "it is bad")
    if shape == "edge":
        canvas.note("clipped")
    return None if shape == "point" else Drawn(shape, BOX)


def shapes(*kinds: str) -> list[tuple[str, str]]:
    return [(f"shape {number}", kind) for number, kind in enumerate(kinds, start=1)]


def image(name: str) -> DrawnImage:
    return DrawnImage(name, Path("/x") / name, 9, (5, 5), "", ())


def test_each_object_comes_with_its_shape() -> None:
    found = reader().drawn("image 'a'", SIZE, shapes("cat", "point", "dog"), draw)
    assert [("cat", "cat"), ("dog", "dog")] == [(drawn.name, shape) for drawn, shape in found]


def test_a_bad_shape_is_named_with_its_image_and_left_out_alone() -> None:
    own = reader()
    assert 2 == len(own.drawn("image 'a'", SIZE, shapes("cat", "bad", "dog"), draw))
    assert ["export.json: image 'a': shape 2: it is bad"] == own.skipped.names["bad shape"]
    assert 1 == own.skipped.wrong["bad shape"]


def test_a_bad_shape_stops_where_nothing_is_to_be_left_out() -> None:
    with pytest.raises(RecordError) as caught:
        reader("stop").drawn("image 'a'", SIZE, shapes("cat", "bad"), draw)
    assert "shape 2: it is bad" == caught.value.detail


def test_what_is_done_to_a_shape_is_counted_under_its_own_name() -> None:
    own = reader()
    own.drawn("image 'a'", SIZE, shapes("edge", "cat", "edge"), draw)
    own.note("clipped", "image 'b'")
    assert [
        "export.json: image 'a': shape 1",
        "export.json: image 'a': shape 3",
        "export.json: image 'b'",
    ] == own.skipped.names["clipped"]
    assert not own.skipped.wrong["clipped"]


def test_ids_are_those_of_images_that_were_kept() -> None:
    own = reader()
    own.check_id("a", "twice")
    own.check_id("a", "twice")
    own.keep(image("a"), [Drawn("cat", BOX)])
    with pytest.raises(RecordError, match="twice") as caught:
        own.check_id("a", "twice")
    assert "duplicate image id" == caught.value.reason
    own.check_id("b", "twice")
    (kept,) = own.images
    assert ("a", ["cat"]) == (kept.image_id, [drawn.name for drawn in kept.objects])
