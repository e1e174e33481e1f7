"""What cannot be read stops every path, or is left out and named where the set says so."""

from __future__ import annotations

import numpy as np
import pytest

from synthaug.pipeline.core.errors import DatasetError
from synthaug.pipeline.core.images import encode
from synthaug.pipeline.core.readable import check_content, readable, skips_any
from synthaug.pipeline.core.scene import Category, ImageRef, Objects, Scene, SceneList


class Lenient(SceneList):
    """A table whose bad images are to be left out."""

    def skips_bad(self, index: int) -> bool | None:
        return True


def scene(name: str, data: bytes) -> Scene:
    return Scene(name, 4, 6, ImageRef(data), Objects.build([0, 0], [[0, 0, 2, 2], [1, 1, 3, 3]]))


PICTURE = encode(np.zeros((4, 6, 3), np.uint8), "png")
SCENES = [scene("a", PICTURE), scene("b", b"<html>"), scene("c", PICTURE)]
CLASSES = (Category(1, "cow"),)


def test_all_that_can_be_read_is_the_table_itself() -> None:
    table = SceneList(CLASSES, [SCENES[0], SCENES[2]])
    assert readable(table) is table
    assert not skips_any(table)


def test_what_cannot_be_read_stops_or_is_left_out_with_its_objects_counted() -> None:
    with pytest.raises(DatasetError, match=r"^b: the image cannot be decoded"):
        readable(SceneList(CLASSES, SCENES))
    table = Lenient(CLASSES, SCENES)
    assert skips_any(table)
    kept = readable(table)
    assert [one.image_id for one in kept] == ["a", "c"]
    assert kept.skipped == {"unreadable image or map": 1, "object of an unreadable image": 2}
    assert "it is a web page" in kept.skipped.names["unreadable image or map"][0]
    assert table.skipped == {}


def test_a_table_of_which_nothing_is_left_is_an_error() -> None:
    with pytest.raises(DatasetError, match=r"b: .*; not one of 1 images can be read"):
        readable(Lenient(CLASSES, [SCENES[1]]))


def test_nothing_is_an_error_where_something_must_be() -> None:
    table = SceneList(CLASSES, [])
    with pytest.raises(DatasetError, match="x: not one image is in the data set"):
        check_content("x", table, 0, 0)
    with pytest.raises(
        DatasetError, match="x: 3 images, and their annotations hold not one object"
    ):
        check_content("x", table, 3, 0)
    table.has_labels = False
    check_content("x", table, 3, 0)
