"""Planned maps: valid, reproducible, nearer to the target.

Holes are closed by the nearest stuff.
"""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from synthaug.pipeline.core import masks
from synthaug.pipeline.core import panoptic_maps as panoptic
from synthaug.pipeline.core.errors import JobError
from synthaug.pipeline.core.scene import Category, ImageRef, Scene, SceneList, class_counts
from synthaug.pipeline.formats.toy import dataset as toy
from synthaug.pipeline.planning.map_planner import Config, MapPlanner

TOY = toy.ToyDataset(toy.Config("train", count=80, size=48))
STORED = SceneList(toy.CATEGORIES, [TOY[i] for i in range(80)])
CLASSES = (
    Category(1, "cat"),
    Category(2, "dog"),
    Category(3, "sky", isthing=False),
    Category(4, "sea", isthing=False),
)


def planner_of(config: Config, table: SceneList = STORED) -> MapPlanner:
    return MapPlanner(table, class_counts(table, len(table.categories)), config)


def histogram(scene: Scene, categories: tuple[Category, ...]) -> np.ndarray:
    """Things per class [C], crowds left out."""
    objects = scene.objects.select(scene.objects.isthing & ~scene.objects.iscrowd)
    return np.bincount(objects.category, minlength=len(categories))


def check(scene: Scene) -> None:
    """Ids are 1 .. n in map and objects alike; masks, boxes and areas are those of the map."""
    ids = panoptic.map_of(scene)
    n = len(scene.objects)
    assert list(range(1, n + 1)) == panoptic.segment_ids(scene.objects).tolist()
    assert set(range(1, n + 1)) == set(np.unique(ids).tolist()) - {0}
    stack = masks.decode_all(scene.objects, ids.shape)
    assert np.array_equal(stack.sum(0), ids > 0)
    assert all((ids[mask] == k).all() for k, mask in enumerate(stack, start=1))
    assert np.array_equal(masks.tight_boxes(stack), scene.objects.boxes)
    assert np.array_equal(stack.sum((1, 2)), scene.objects.area)


def test_copies_of_a_map_have_latents_of_their_own() -> None:
    planner = planner_of(Config(200, "natural", seed=4), SceneList(TOY.categories, [TOY[0]]))
    seeds = {planner.scene(index).provenance.seed for index in range(200)}  # type: ignore[union-attr]
    assert 200 == len(seeds)


@pytest.mark.parametrize("target", ["natural", "sqrt", "balanced"])
def test_plans_of_the_toy_are_valid_and_meet_the_target(target):
    planner = planner_of(Config(80, target, seed=4))
    found = np.zeros(len(toy.CATEGORIES))
    for index in range(80):
        scene = planner.scene(index)
        check(scene)
        assert (panoptic.map_of(scene) > 0).all()
        assert scene.provenance is not None and scene.provenance.source_image.startswith(
            "toy-train-"
        )
        assert scene.provenance.reason.startswith(f"{target}: ")
        found += histogram(scene, toy.CATEGORIES)
    things = np.array([c.isthing for c in toy.CATEGORIES])
    distance = np.abs(found - planner.target)[things].sum()
    if target == "natural":
        assert 0 == distance
    else:
        assert distance < 0.5 * np.abs(planner.natural - planner.target)[things].sum()


def class_map(scene: Scene) -> np.ndarray:
    """Return the class [H, W] of each pixel."""
    ids = panoptic.map_of(scene)
    found = np.full(ids.shape, -1)
    segments = panoptic.segment_ids(scene.objects).tolist()
    for segment, label in zip(segments, scene.objects.category.tolist(), strict=True):
        found[ids == segment] = label
    return found


@pytest.mark.parametrize("flip", [0.0, 1.0])
def test_a_map_is_mirrored_left_to_right(flip: float) -> None:
    planner = planner_of(Config(6, "natural", seed=4, flip=flip))
    sources = {scene.image_id: scene for scene in STORED.scenes}
    for index in range(6):
        scene = planner.scene(index)
        assert scene.provenance is not None
        source = class_map(sources[scene.provenance.source_image])
        assert np.array_equal(class_map(scene), source[:, ::-1] if flip else source)


def test_a_plan_depends_on_seed_and_index_alone():
    config = Config(80, "balanced", seed=1, size=(40, 64))
    first, second = planner_of(config), planner_of(config)
    forward = [first.scene(i) for i in range(8)]
    backward = [second.scene(i) for i in reversed(range(8))][::-1]
    assert [(s.panoptic, s.provenance) for s in forward] == [
        (s.panoptic, s.provenance) for s in backward
    ]
    assert {(40, 64)} == {(s.height, s.width) for s in forward}
    ids = np.concatenate([s.objects.id for s in forward])
    assert len(ids) == len(set(ids.tolist()))
    other = planner_of(Config(80, "balanced", seed=2, size=(40, 64)))
    assert [s.panoptic for s in forward] != [other.scene(i).panoptic for i in range(8)]


def test_what_was_exchanged_is_recorded():
    """The things of a plan are those of its source, less the given up and more the added ones, with
    their sources.
    """
    planner = planner_of(Config(80, "balanced", seed=4))
    names = [c.name for c in toy.CATEGORIES]
    by_id = {s.image_id: s for s in STORED.scenes}
    donors = 0
    for index in range(40):
        scene = planner.scene(index)
        expected = histogram(by_id[scene.provenance.source_image], toy.CATEGORIES).astype(int)
        for word in scene.provenance.reason.removeprefix("balanced: ").split():
            if word[0] == "-":
                expected[names.index(word[1:])] -= 1
            elif word[0] == "+":
                name, donor = word[1:].split("@")
                expected[names.index(name)] += 1
                assert histogram(by_id[donor], toy.CATEGORIES)[names.index(name)] > 0
                donors += 1
        assert expected.tolist() == histogram(scene, toy.CATEGORIES).tolist()
    assert donors > 20


@st.composite
def tables(draw):
    """Some small random maps of two things, two kinds of stuff, a crowd and unlabelled pixels."""
    rows = []
    for number in range(draw(st.integers(1, 3))):
        shape = st.tuples(st.integers(1, 9), st.integers(1, 9))
        ids = draw(
            hnp.arrays(np.int64, shape, elements=st.sampled_from([0, 11, 12, 13, 14, 15, 16]))
        )
        found = panoptic.segments_of(ids)
        category = [(0, 0, 1, 2, 3, 1)[i - 11] for i in found.ids]
        things = [k < 2 for k in category]
        objects = panoptic.objects_of(
            found, number, category, isthing=things, iscrowd=found.ids == 16
        )
        rows.append(
            Scene(str(number), *ids.shape, ImageRef(), objects, ImageRef(masks.panoptic_png(ids)))
        )
    return SceneList(CLASSES, rows)


@settings(max_examples=80, deadline=None)
@given(
    tables(),
    st.sampled_from(["natural", "balanced"]),
    st.sampled_from([None, (1, 1), (7, 5)]),
    st.integers(1, 4),
    st.sampled_from([0.0, 0.5, 1.0]),
)
def test_any_table_gives_valid_maps(table, target, size, min_area, rearrange):
    config = Config(6, target, size=size, min_area=min_area, rearrange=rearrange)
    planner = planner_of(config, table)
    for index in range(6):
        scene = planner.scene(index)
        check(scene)
        alone = scene.objects.isthing & ~scene.objects.iscrowd
        assert (scene.objects.area[alone] >= min_area).all()


def test_rearranged_maps_have_the_same_things_elsewhere():
    """Of a natural plan.

    Counts and sizes of the things stay, most move sideways at their own height, stuff closes up.
    """
    still = planner_of(Config(80, "natural", seed=4, flip=0.0))
    moving = planner_of(Config(80, "natural", seed=4, flip=0.0, rearrange=1.0))
    moved = mirrored = covered = 0
    for index in range(40):
        before, after = still.scene(index), moving.scene(index)
        check(after)
        assert (panoptic.map_of(after) > 0).all()
        assert np.array_equal(histogram(before, toy.CATEGORIES), histogram(after, toy.CATEGORIES))
        assert before.provenance.source_image == after.provenance.source_image
        told = after.provenance.reason.split().count
        names = [toy.CATEGORIES[c].name for c in before.objects.category]
        for name in set(names):
            assert told(f"~{name}") <= names.count(name)
        moved += after.provenance.reason.count("~")
        for k in np.flatnonzero(after.objects.isthing):
            box, mask = (
                after.objects.boxes[k],
                masks.decode_all(after.objects.select([k]), (48, 48))[0],
            )
            same = np.flatnonzero(
                (before.objects.category == after.objects.category[k]) & before.objects.isthing
            )
            stood = before.objects.boxes[same]
            covered += (
                not (stood[:, [1, 3]] == box[[1, 3]]).all(1).any()
            )  # something came before it, or went
            for other in masks.decode_all(before.objects.select(same), (48, 48)):
                shape, was = (
                    mask[np.ix_(mask.any(1), mask.any(0))],
                    other[np.ix_(other.any(1), other.any(0))],
                )
                mirrored += np.array_equal(shape, was[:, ::-1]) and not np.array_equal(shape, was)
    things = sum(int(still.scene(i).objects.isthing.sum()) for i in range(40))
    assert moved > 0.3 * things and mirrored > 5
    assert covered < 0.5 * moved
    again = planner_of(Config(80, "natural", seed=4, flip=0.0, rearrange=1.0)).scene(7)
    assert again.panoptic == moving.scene(7).panoptic


def test_targets_by_count_and_mistakes():
    planner = planner_of(Config(40, "counts", (("windmill", 30), ("tree", 0)), seed=2))
    found = sum(histogram(planner.scene(i), toy.CATEGORIES) for i in range(40))
    names = [c.name for c in toy.CATEGORIES]
    assert 0 == found[names.index("tree")] and 20 < found[names.index("windmill")] < 40
    with pytest.raises(JobError, match="no such class"):
        planner_of(Config(4, "counts", (("windmil", 3),)))
    for wrong in ({"target": "more"}, {"flip": 2.0}, {"rearrange": -1.0}, {"min_area": 0}):
        with pytest.raises(ValueError, match=next(iter(wrong))):
            Config(**{"count": 3} | wrong)
