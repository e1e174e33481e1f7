"""Which images make a batch: pure functions of seed and step with the frequencies they promise."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest

from synthaug.pipeline.batches.draw import Draw, draw_for
from synthaug.pipeline.batches.layouts import LayoutFilter
from synthaug.pipeline.core.scene import Category, ImageRef, Objects, Scene, SceneList

CATEGORIES = tuple(
    Category(k + 1, name) for k, name in enumerate(("common", "rare", "absent", "crowded"))
)


def table(*images: tuple[list[int], list[bool]], side: float = 50.0) -> SceneList:
    """Images of 100 x 100 pixels with square objects of these classes, crowds where it says so."""
    scenes = [
        Scene(
            f"{k}",
            100,
            100,
            ImageRef(),
            Objects.build(classes, [[0, 0, side, side]] * len(classes), iscrowd=crowd),
        )
        for k, (classes, crowd) in enumerate(images)
    ]
    return SceneList(CATEGORIES, scenes)


def shares(draw, steps=600):
    drawn = Counter(i for step in range(steps) for i in draw(step))
    return {image: number / sum(drawn.values()) for image, number in drawn.items()}


def test_each_class_comes_equally_often_and_each_of_its_images():
    """Nine images of a common class and one of a rare one, over two tables.

    The rare one is half of what is drawn.
    """
    first = table(*[([0], [False])] * 6, ([], []))
    second = table(*[([0, 0], [False, False])] * 3, ([1], [False]), ([3], [True]))
    found = shares(draw_for([first, second], 8, 3, "class_balanced", 0.01))
    assert set(found) == {0, 1, 2, 3, 4, 5, 7, 8, 9, 10}, (
        "an image without an object, or with a crowd alone, was drawn"
    )
    assert found[10] == pytest.approx(0.5, abs=0.03)
    assert [found[i] for i in (0, 5, 7, 9)] == pytest.approx([1 / 18] * 4, abs=0.015)


def test_it_depends_on_seed_and_step_alone():
    draws = [
        draw_for([table(*[([k % 2], [False]) for k in range(20)])], 8, s, "class_balanced", 0.01)
        for s in (1, 1, 2)
    ]
    assert [draws[0](step) for step in (5, 0, 9)] == [draws[1](step) for step in (5, 0, 9)]
    assert draws[0](5) != draws[2](5)
    assert draws[0](5) != draws[0](6)


def test_what_a_generator_does_not_see_is_not_present():
    """The only object of the rare class is too small for the layout filter."""
    scenes = SceneList(
        CATEGORIES, [*table(*[([0], [False])] * 4), *table(([0, 1], [False, False]), side=5.0)]
    )
    keep = LayoutFilter(min_area=0.02)
    assert 4 in shares(draw_for([scenes], 8, 0, "class_balanced", 0.01))
    assert 4 not in shares(draw_for([scenes], 8, 0, "class_balanced", 0.01, keep.select))


def test_images_without_any_object_are_drawn_all_the_same():
    found = shares(draw_for([table(([], []), ([], []))], 4, 0, "class_balanced", 0.01))
    assert found[0] == pytest.approx(0.5, abs=0.05)


def test_repeat_factor_leaves_common_classes_alone():
    scenes = table(*[([0], [False])] * 96, *[([1], [False])] * 4)
    found = shares(draw_for([scenes], 8, 0, "repeat_factor", 0.16), 2000)
    rare, common = (
        np.mean([found.get(i, 0.0) for i in part]) for part in (range(96, 100), range(96))
    )
    assert rare / common == pytest.approx(2.0, rel=0.1)


def test_every_image_comes_once_in_each_epoch_and_epochs_differ():
    draw = Draw(7, 3, seed=1)
    drawn = [index for step in range(14) for index in draw(step)]  # six epochs
    epochs = [drawn[start : start + 7] for start in range(0, 42, 7)]
    assert all(sorted(epoch) == list(range(7)) for epoch in epochs)
    assert len({tuple(epoch) for epoch in epochs}) > 1


def test_half_of_the_images_are_mirrored_or_none():
    draw = Draw(7, 8, seed=1)
    mirrored = np.stack([draw.mirrored(step, True) for step in range(200)])
    assert mirrored.mean() == pytest.approx(0.5, abs=0.05)
    assert not draw.mirrored(3, False).any()
    assert np.array_equal(mirrored[5], Draw(99, 8, seed=1).mirrored(5, True))


def test_an_image_of_weight_zero_never_comes():
    weights = np.array([1.0, 0.0, 3.0])
    found = shares(Draw(3, 8, 0, weights), 400)
    assert 1 not in found
    assert found[2] == pytest.approx(0.75, abs=0.03)
