"""Views of tables: the right scenes, changed as they should be, under fingerprints of their own."""

from __future__ import annotations

import hashlib
from collections import Counter
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from synthaug.pipeline.core.datasets import (
    Concatenation,
    Mapped,
    RelabeledCategories,
    ShuffledLabels,
    Subset,
    View,
    random_part,
)
from synthaug.pipeline.core.scene import Category, Dataset, ImageRef, Objects, Scene, SceneList
from synthaug.pipeline.core.seeding import seed_for

CATEGORIES = (Category(1, "cat"), Category(2, "dog"), Category(3, "cow"))


def table(count: int, skipped: int = 0) -> SceneList:
    """Scene k is 10 + k high and 20 + k wide, with one object of class k mod 3 over all of it."""
    scenes = []
    for k in range(count):
        objects = Objects.build([k % 3], [[0, 0, 20 + k, 10 + k]], id=[k + 1])
        scenes.append(Scene(str(k), 10 + k, 20 + k, ImageRef(path=f"{k}.png"), objects))
    return SceneList(CATEGORIES, scenes, Counter({"broken": skipped}))


def ids(scenes: Dataset) -> list[str]:
    return [scene.image_id for scene in scenes]


def test_a_view_is_its_table_but_for_the_rule_in_its_fingerprint() -> None:
    whole = table(3, skipped=2)
    view = View(whole)
    assert (whole.categories, whole.skipped, 3) == (view.categories, view.skipped, len(view))
    assert whole.fingerprint() == view.fingerprint()
    assert f"{whole.fingerprint()}:every second" == View(whole, "every second").fingerprint()


def test_a_subset_keeps_the_order_of_its_index() -> None:
    whole = table(5)
    assert ["4", "0", "4"] == ids(Subset(whole, [4, 0, 4]))
    assert [] == ids(Subset(whole, []))
    assert f"{whole.fingerprint()}:{seed_for(4, 0)}" == Subset(whole, [4, 0]).fingerprint()
    assert Subset(whole, [4, 0]).fingerprint() != Subset(whole, [0, 4]).fingerprint()


@settings(deadline=None)
@given(st.integers(1, 60), st.integers(1, 7))
def test_parts_are_disjoint_of_equal_size_and_cover_the_set(count: int, parts: int) -> None:
    whole = table(count)
    found = [ids(random_part(whole, number, parts)) for number in range(1, parts + 1)]
    assert sorted(ids(whole)) == sorted(name for part in found for name in part)
    sizes = [len(part) for part in found]
    assert max(sizes) - min(sizes) <= 1


def test_a_part_is_no_simple_prefix_and_has_a_name_of_its_own() -> None:
    whole = table(100)
    half = random_part(whole, 1, 2)
    assert ids(half) != [str(i) for i in range(50)]
    assert f"{whole.fingerprint()}:1/2" == half.fingerprint()


def test_a_function_is_applied_to_the_scene_that_is_asked_for() -> None:
    whole = table(3)
    renamed = Mapped(whole, lambda scene: replace(scene, image_id=f"new-{scene.image_id}"), "new")
    assert ["new-0", "new-1", "new-2"] == ids(renamed)
    assert f"{whole.fingerprint()}:new" == renamed.fingerprint()


def test_relabeled_objects_keep_the_names_of_their_classes() -> None:
    whole = table(3)
    other_order = (CATEGORIES[2], CATEGORIES[0], CATEGORIES[1])
    relabeled = RelabeledCategories(whole, other_order, (1, 2, 0))
    for scene, other in zip(whole, relabeled, strict=True):
        names = [CATEGORIES[c].name for c in scene.objects.category]
        assert names == [other_order[c].name for c in other.objects.category]
        assert np.int32 == other.objects.category.dtype
    assert f"{whole.fingerprint()}:(1, 2, 0)" == relabeled.fingerprint()


@settings(deadline=None)
@given(st.integers(2, 20), st.integers(0, 5))
def test_shuffled_labels_are_all_there_none_at_its_own_image_and_scaled_to_fit(
    count: int, seed: int
) -> None:
    whole = table(count)
    shuffled = ShuffledLabels(whole, seed)
    assert [scene.image for scene in whole] == [scene.image for scene in shuffled]
    givers = [int(scene.objects.id[0]) - 1 for scene in shuffled]
    assert list(range(count)) == sorted(givers)
    assert all(giver != place for place, giver in enumerate(givers))
    for scene in shuffled:  # an object over all of its own image is one over all of this one
        expected = [[0, 0, scene.width, scene.height]]
        np.testing.assert_allclose(scene.objects.boxes, expected, rtol=1e-6)


def test_shuffled_labels_follow_the_seed_and_a_single_image_keeps_its_own() -> None:
    whole = table(10)
    first, again, other = (ShuffledLabels(whole, seed) for seed in (1, 1, 2))
    givers = [[scene.objects.id[0] for scene in view] for view in (first, again, other)]
    assert givers[0] == givers[1] != givers[2]
    assert f"{whole.fingerprint()}:permuted:1" == first.fingerprint()
    assert [1] == ShuffledLabels(table(1), 0)[0].objects.id.tolist()


def test_joined_sets_keep_order_and_their_ids_do_not_collide() -> None:
    both = Concatenation([table(2, skipped=1), table(0), table(3, skipped=4)])
    assert ["1:0", "1:1", "3:0", "3:1", "3:2"] == ids(both)
    assert Counter({"broken": 5}) == both.skipped
    for index in (-1, 5):
        with pytest.raises(IndexError):
            both[index]


def test_the_fingerprint_of_joined_sets_follows_their_order() -> None:
    one, two = table(2), table(3)
    text = f"{one.fingerprint()} {two.fingerprint()}"
    expected = hashlib.sha256(text.encode()).hexdigest()
    assert expected == Concatenation([one, two]).fingerprint()
    assert expected != Concatenation([two, one]).fingerprint()
