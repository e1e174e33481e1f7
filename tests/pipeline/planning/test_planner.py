"""Planned layouts: targets met in expectation, a pure function of the index."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from synthaug.pipeline.core.errors import JobError
from synthaug.pipeline.core.scene import IDS_PER_IMAGE, Category
from synthaug.pipeline.planning.exchange import Layout
from synthaug.pipeline.planning.planner import (
    Config,
    LayoutPlanner,
    Source,
)

CLASSES = (
    Category(1, "tree"),
    Category(2, "car"),
    Category(3, "bus"),
    Category(4, "sky", isthing=False),
)
THINGS = np.array([True, True, True, False])


def sources_of(count: int, seed: int = 0) -> list[Source]:
    """Layouts of about three trees, one car, a tenth of a bus and one sky, on images of 40 x 80."""
    rng = np.random.default_rng(seed)
    sources = []
    for number in range(count):
        labels = [0] * int(rng.integers(1, 6)) + [1] * int(rng.integers(0, 3)) + [3]
        labels += [2] * int(rng.random() < 0.1)
        low = rng.random((len(labels), 2)) * 0.8
        boxes = np.concatenate([low, low + 0.1], 1).astype(np.float32)
        layout = Layout(np.array(labels, np.int32), boxes)
        sources.append(Source(f"real-{number}", (40, 80), layout))
    return sources


SOURCES = sources_of(120)


def labelled_of(sources: list[Source]) -> np.ndarray:
    category = np.concatenate([source.layout.category for source in sources])
    return np.bincount(category, minlength=4)


def planner_of(config: Config, weights: np.ndarray | None = None) -> LayoutPlanner:
    return LayoutPlanner(SOURCES, CLASSES, labelled_of(SOURCES), config, weights)


def counts_of(planner: LayoutPlanner) -> np.ndarray:
    """Objects per planned image and class [count, C]."""
    scenes = (planner.scene(index) for index in range(planner.count))
    return np.stack([np.bincount(scene.objects.category, minlength=4) for scene in scenes])


@pytest.mark.parametrize("target", ["natural", "sqrt", "balanced"])
@pytest.mark.parametrize("placement", ["natural", "uniform"])
def test_targets_are_met_within_three_sigma(target: str, placement: str) -> None:
    planner = planner_of(Config(480, target, placement=placement, max_objects=40))
    counts = counts_of(planner)
    sigma = counts.std(0) * np.sqrt(len(counts))
    assert 0 == planner.short
    assert (np.abs(counts.sum(0) - planner.target) <= 3 * sigma + 1e-6).all()
    assert planner.target[3] == planner.natural[3], "stuff stays"


def test_a_scene_depends_on_seed_and_index_alone() -> None:
    config = Config(60, "balanced", placement="natural", jitter=0.1, seed=3)
    one = planner_of(config)
    other = planner_of(config, np.array(one.weights))  # as a worker is given them
    for index in (59, 0, 7):
        first, second = one.scene(index), other.scene(index)
        assert first.provenance == second.provenance
        np.testing.assert_array_equal(first.objects.boxes, second.objects.boxes)
    reseeded = planner_of(replace(config, seed=4)).scene(7)
    assert reseeded.provenance != one.scene(7).provenance


def test_copies_of_a_source_and_images_of_another_seed_have_latents_of_their_own() -> None:
    planner = planner_of(Config(240, flip=0.0))
    seeds = [planner.scene(index).provenance.seed for index in range(240)]  # type: ignore[union-attr]
    assert 240 == len(set(seeds))
    other = planner_of(Config(240, flip=0.0, seed=1)).scene(5).provenance
    assert other is not None and other.seed not in seeds


def test_every_source_is_copied_equally_often() -> None:
    planner = planner_of(Config(240, flip=0.0))
    names = [planner.scene(index).provenance for index in range(240)]
    copies = [name.source_image for name in names if name is not None]
    assert sorted(copies[:120]) == sorted(copies[120:]) == sorted(s.image_id for s in SOURCES)
    assert copies[:120] != copies[120:]


def test_a_natural_plan_copies_layouts_as_they_are_or_mirrored() -> None:
    planner = planner_of(Config(120, flip=0.5))
    layouts = {source.image_id: source.layout for source in SOURCES}
    mirrored = 0
    for index in range(120):
        scene = planner.scene(index)
        assert scene.provenance is not None
        assert "natural: as in the source" == scene.provenance.reason
        layout = layouts[scene.provenance.source_image]
        np.testing.assert_array_equal(scene.objects.category, layout.category)
        x = scene.objects.boxes[:, [0, 2]] / 80
        flipped = 1 - layout.boxes[:, [2, 0]]
        if not np.allclose(x, layout.boxes[:, [0, 2]], atol=1e-6):
            np.testing.assert_allclose(x, flipped, atol=1e-6)
            mirrored += 1
        y = scene.objects.boxes[:, [1, 3]] / 40
        np.testing.assert_allclose(y, layout.boxes[:, [1, 3]], atol=1e-6)
    assert 40 < mirrored < 80


def test_ids_are_unique_and_planned_objects_synthetic() -> None:
    planner = planner_of(Config(12, "balanced", name="job", generator="lostgan"))
    scenes = [planner.scene(index) for index in range(12)]
    ids = np.concatenate([scene.objects.id for scene in scenes])
    assert len(ids) == len(set(ids.tolist())) and ids.min() == 1
    assert scenes[3].objects.id[0] == 3 * IDS_PER_IMAGE + 1
    assert ("job-00000003", (40, 80)) == (scenes[3].image_id, scenes[3].size)
    assert scenes[3].provenance is not None and "lostgan" == scenes[3].provenance.generator
    assert {"synthetic"} == {source for scene in scenes for source in scene.objects.source}


def test_the_reason_tells_every_change() -> None:
    planner = planner_of(Config(60, "balanced"))
    layouts = {source.image_id: source.layout for source in SOURCES}
    index_of = {category.name: index for index, category in enumerate(CLASSES)}
    changes = 0
    for index in range(60):
        scene = planner.scene(index)
        assert scene.provenance is not None
        layout = layouts[scene.provenance.source_image]
        expected = np.bincount(layout.category, minlength=4)
        for word in scene.provenance.reason.removeprefix("balanced: ").split():
            if word[0] in "+-":
                expected[index_of[word[1:]]] += 1 if word[0] == "+" else -1
                changes += 1
        assert expected.tolist() == np.bincount(scene.objects.category, minlength=4).tolist()
    assert changes > 60


def test_no_image_is_fuller_than_allowed_and_the_rest_is_told() -> None:
    most = max(len(source.layout.category) for source in SOURCES)
    counts = (("bus", 5000),)
    planner = planner_of(Config(120, "counts", counts=dict(counts), max_objects=most))
    planned = counts_of(planner)
    assert planned.sum(1).max() <= most
    assert planner.short == pytest.approx(5000 - planned[:, 2].sum(), abs=1)


def test_a_deficit_needs_as_many_images_as_its_things_fill() -> None:
    planner = planner_of(Config(0, "deficit", objects_per_class=300, max_objects=40))
    labelled = labelled_of(SOURCES)
    missing = np.maximum(300 - labelled, 0)[THINGS].sum()
    things = labelled[THINGS].sum() / len(SOURCES)
    assert int(np.ceil(missing / things)) == planner.count == planner.need.exchanged
    total = labelled + counts_of(planner).sum(0)
    assert (total[THINGS] > 240).all()


def test_a_plan_without_need_is_one_line() -> None:
    with pytest.raises(
        JobError, match=r"plan\.objects_per_class: .* fewer than 1 objects"
    ) as error:
        planner_of(Config(0, "deficit", objects_per_class=1))
    assert "\n" not in str(error.value)
    assert 9 == planner_of(Config(9, "deficit", objects_per_class=1)).count


def test_an_empty_layout_is_a_source_like_any_other() -> None:
    empty = Layout(np.zeros(0, np.int32), np.zeros((0, 4), np.float32))
    sources = [Source("empty", (8, 8), empty), SOURCES[0]]
    planner = LayoutPlanner(sources, CLASSES, labelled_of(SOURCES[:1]), Config(4, max_objects=9))
    assert 0 in [len(planner.scene(index).objects) for index in range(2)]
