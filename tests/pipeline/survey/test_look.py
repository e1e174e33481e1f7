"""One image looked at: the facts of its file and its objects, and what is odd."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from synthaug.pipeline.core import masks
from synthaug.pipeline.core.scene import Category, ImageRef, Objects, Scene, SceneList
from synthaug.pipeline.core.skipped import Skipped
from synthaug.pipeline.survey import look
from synthaug.pipeline.survey.look import ImageFacts, examine, image_name

HEIGHT, WIDTH = 20, 30
CATEGORIES = (Category(1, "cat"), Category(2, "dog"))


def encoded(kind: str = "PNG", mode: str = "RGB", **options: Any) -> bytes:
    noise = np.random.default_rng(0).integers(0, 256, (HEIGHT, WIDTH, 3), np.uint8)
    out = io.BytesIO()
    Image.fromarray(noise).convert(mode).save(out, kind, **options)
    return out.getvalue()


def scene(data: bytes, boxes: Any = (), classes: Any = (), **columns: Any) -> Scene:
    objects = Objects.build(list(classes), list(boxes), **columns)
    return Scene("a", HEIGHT, WIDTH, ImageRef(data), objects)


def facts(one: Scene) -> ImageFacts:
    found = examine(SceneList(CATEGORIES, [one]), 0, Skipped())
    assert found is not None
    return found


def kinds(one: Scene) -> list[str]:
    return [kind for kind, _ in facts(one).oddities]


def test_counts_sides_and_the_smallest_object_are_told() -> None:
    boxes = [(0, 0, 10, 12), (1, 2, 9.5, 5.5), (0, 0, 20, 20)]
    told = facts(scene(encoded(), boxes, [0, 1, 0], iscrowd=[False, False, True]))
    assert {0: 2, 1: 1} == told.classes
    assert (10, 3, 20) == told.sides
    assert 1 == told.crowds
    assert (3.5, "object 2 of a: 8.5x3.5 at 1,2") == told.smallest
    assert "PNG RGB" == told.kind
    assert () == told.oddities


def test_an_image_without_objects_has_no_smallest() -> None:
    told = facts(scene(encoded()))
    assert (float("inf"), "") == told.smallest
    assert {} == told.classes


@pytest.mark.parametrize(
    ("kind", "mode", "expected"),
    [("JPEG", "L", "JPEG L"), ("JPEG", "CMYK", "JPEG CMYK"), ("PNG", "P", "PNG P")],
)
def test_the_kind_of_a_file_is_that_of_its_pixels(kind: str, mode: str, expected: str) -> None:
    assert expected == facts(scene(encoded(kind, mode))).kind


def test_marks_tell_equal_pixels_from_equal_files() -> None:
    png = facts(scene(encoded("PNG")))
    packed = facts(scene(encoded("PNG", compress_level=0)))
    assert png.file_mark != packed.file_mark
    assert png.pixel_mark == packed.pixel_mark
    assert png.pixel_mark != facts(scene(encoded("PNG", "L"))).pixel_mark


def test_labels_are_equal_in_any_order() -> None:
    boxes = [(0, 0, 10, 12), (1, 2, 9, 5)]
    one = facts(scene(encoded(), boxes, [0, 1])).label_mark
    assert one == facts(scene(encoded(), boxes[::-1], [1, 0])).label_mark
    assert one != facts(scene(encoded(), boxes, [1, 0])).label_mark


def test_a_turned_image_is_told_as_its_labels_count_it() -> None:
    tag = Image.Exif()
    tag[0x0112] = 6
    data = encoded("JPEG", exif=tag)
    told = facts(Scene("a", WIDTH, HEIGHT, ImageRef(data), Objects.build([0], [(0, 0, 5, 25)])))
    assert ((look.TURNED, "a"),) == told.oddities
    assert (WIDTH, HEIGHT) == told.size


def test_deep_pixels_and_a_single_color_are_told() -> None:
    out = io.BytesIO()
    Image.fromarray(np.full((HEIGHT, WIDTH), 5000, np.uint16)).save(out, "PNG")
    assert [look.DEEP, look.ONE_COLOR] == kinds(scene(out.getvalue()))


def test_one_other_pixel_is_enough_for_two_colors() -> None:
    pixels = np.zeros((HEIGHT, WIDTH, 3), np.uint8)
    pixels[7, 9] = 1
    out = io.BytesIO()
    Image.fromarray(pixels).save(out, "PNG")
    assert [] == kinds(scene(out.getvalue()))


def test_objects_in_one_place_are_told_apart_by_class() -> None:
    box = (1, 1, 9, 9)
    assert [look.TWICE] == kinds(scene(encoded(), [box, box], [0, 0]))
    assert [look.TWO_CLASSES] == kinds(scene(encoded(), [box, box], [0, 1]))
    both = scene(encoded(), [box, box], [0, 0], iscrowd=[False, True])
    assert [] == kinds(both), "a crowd lies over objects by its nature"


def test_thin_and_full_objects_are_told() -> None:
    assert [look.THIN] == kinds(scene(encoded(), [(1, 1, 2.9, 9)], [0]))
    assert [] == kinds(scene(encoded(), [(1, 1, 3, 9)], [0]))
    assert [look.WHOLE] == kinds(scene(encoded(), [(0, 0, 30, 19.9)], [0]))
    sky = scene(encoded(), [(0, 0, 30, 20)], [0], isthing=[False])
    assert [] == kinds(sky), "stuff may fill an image"


@pytest.mark.parametrize(("right", "is_odd"), [(10, False), (21, False), (22, True)])
def test_a_mask_is_odd_where_its_box_hardly_meets_the_objects(right: int, is_odd: bool) -> None:
    """A mask 10 wide in a box that is wider: IoU 10 / (right - 1)."""
    mask = np.zeros((1, HEIGHT, WIDTH), bool)
    mask[0, 2:12, 1:11] = True
    one = scene(encoded(), [(1, 2, right, 12)], [0], rle=masks.encode(mask))
    assert is_odd == (look.MASK_ELSEWHERE in kinds(one))
    assert 1 == facts(one).masks


def test_an_unreadable_image_is_counted_as_wrong(tmp_path: Path) -> None:
    skipped = Skipped()
    table = SceneList(CATEGORIES, [scene(b"no image")])
    assert examine(table, 0, skipped) is None
    assert {"unreadable image or map": 1} == dict(skipped.wrong)


@pytest.mark.parametrize(
    ("image_id", "path", "expected"),
    [
        ("17", "/x/dog.jpg", "dog.jpg (id 17)"),
        ("dog", "/x/dog.jpg", "dog"),
        ("cam1/dog", "/x/cam1/dog.jpg", "cam1/dog"),
        ("town_1", "/x/town_1_leftImg8bit.png", "town_1_leftImg8bit.png"),
        ("17", None, "17"),
    ],
)
def test_an_image_is_called_by_its_file(image_id: str, path: str | None, expected: str) -> None:
    one = Scene(image_id, HEIGHT, WIDTH, ImageRef(None, path), Objects.build([], []))
    assert expected == image_name(one)
