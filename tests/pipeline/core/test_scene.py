"""Scenes, their objects and tables of them."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from synthaug.pipeline.core.scene import (
    Category,
    ImageRef,
    Objects,
    Scene,
    SceneList,
    class_counts,
    ids_in_image,
    thing_flags,
)

CATEGORIES = (Category(7, "cat"), Category(9, "dog"))


def scene(number: int, category: list[int], crowd: list[bool] | None = None) -> Scene:
    boxes = [[k, 2 * k, k + 10, 2 * k + 20] for k in range(len(category))]
    iscrowd = crowd or [False] * len(category)
    objects = Objects.build(category, boxes, iscrowd=iscrowd)
    return Scene(f"image-{number}", 60, 80, ImageRef(), objects)


def test_columns_not_given_take_the_value_of_a_human_label() -> None:
    objects = Objects.build([1, 0], [[0, 0, 4, 5], [1, 1, 3, 2]], id=[8, 9])
    assert [8, 9] == objects.id.tolist()
    assert [20.0, 2.0] == objects.area.tolist()
    assert [1.0, 1.0] == objects.score.tolist()
    assert ("human", "human") == objects.source
    assert np.array_equal(objects.boxes, objects.layout_boxes)
    assert np.isnan(objects.verdict_score).all()


def test_an_unknown_column_and_a_column_of_another_length_are_our_own_faults() -> None:
    with pytest.raises(AssertionError, match="unknown columns"):
        Objects.build([0], [[0, 0, 1, 1]], colour=["red"])
    with pytest.raises(AssertionError, match=r"objects\.score has 2 entries, not 1"):
        Objects.build([0], [[0, 0, 1, 1]], score=[1.0, 1.0])


def test_no_objects_have_boxes_of_shape_zero_by_four() -> None:
    none = Objects.build([], [])
    assert (0, 4) == none.boxes.shape == none.layout_boxes.shape
    assert 0 == len(none.select([])) == len(none.scaled((4, 6), (8, 6)))


@settings(deadline=None)
@given(st.lists(st.integers(0, 5), max_size=8))
def test_select_keeps_the_order_that_is_asked_for(positions: list[int]) -> None:
    objects = Objects.build([0] * 6, np.zeros((6, 4)), id=range(10, 16), rle=list("abcdef"))
    chosen = objects.select(positions)
    assert [10 + k for k in positions] == chosen.id.tolist()
    assert tuple("abcdef"[k] for k in positions) == chosen.rle


def test_select_takes_a_mask_where_a_list_of_its_values_would_be_positions() -> None:
    objects = Objects.build([0, 1, 0], np.zeros((3, 4)))
    assert [1, 3] == objects.select(np.array([True, False, True])).id.tolist()
    assert [2, 1, 2] == objects.select([1, 0, 1]).id.tolist()


def test_scaled_objects_follow_height_and_width_each_by_its_own_ratio() -> None:
    objects = Objects.build([0], [[10, 20, 30, 60]], layout_boxes=[[0, 0, 40, 80]], rle=["x"])
    scaled = objects.scaled((100, 200), (300, 100))  # three times as high, half as wide
    assert [[5, 60, 15, 180]] == scaled.boxes.tolist()
    assert [[0, 0, 20, 240]] == scaled.layout_boxes.tolist()
    assert [20 * 40 * 1.5] == scaled.area.tolist()
    assert (None,) == scaled.rle


def test_the_size_of_a_scene_is_height_then_width() -> None:
    assert (60, 80) == scene(0, []).size


def test_a_table_is_read_in_its_order() -> None:
    table = SceneList(CATEGORIES, [scene(k, [0]) for k in range(3)])
    assert ["image-0", "image-1", "image-2"] == [one.image_id for one in table]
    assert [] == list(SceneList(CATEGORIES, []))


def test_crowds_are_left_out_and_the_others_keep_their_order() -> None:
    objects = scene(0, [1, 0, 1], crowd=[False, True, False]).objects
    alone = objects.without_crowds()
    assert [1, 3] == alone.id.tolist()
    assert not alone.iscrowd.any()


def test_things_are_told_from_stuff_class_by_class() -> None:
    categories = (*CATEGORIES, Category(10, "sky", isthing=False))
    assert [True, True, False] == thing_flags(categories).tolist()
    assert np.bool_ == thing_flags(()).dtype


def test_ids_of_two_images_never_meet() -> None:
    first = ids_in_image(0, 3)
    assert [1, 2, 3] == first.tolist()
    assert [70_001, 70_002] == ids_in_image(7, 2).tolist()
    assert 0 == len(ids_in_image(4, 0))


def test_objects_are_counted_per_class_without_crowds() -> None:
    table = SceneList(
        CATEGORIES, [scene(0, [1, 1, 0], [False, True, False]), scene(1, []), scene(2, [1])]
    )
    assert [1, 2, 0] == class_counts(table, 3).tolist()
    assert [0, 1, 0] == class_counts([table[2]], 3).tolist()
    assert [0, 0] == class_counts([], 2).tolist()
