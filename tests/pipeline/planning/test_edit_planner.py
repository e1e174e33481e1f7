"""Planned edits are few per image, of classes that lack, at free places.

Each image has one use.
"""

from __future__ import annotations

from dataclasses import replace
from typing import cast

import numpy as np
import pytest

from synthaug.pipeline.core.boxes import absolute_boxes, mirror_boxes
from synthaug.pipeline.core.errors import JobError
from synthaug.pipeline.core.scene import IDS_PER_IMAGE, Category, Scene, class_counts
from synthaug.pipeline.planning.edit_planner import (
    CLEAR_OVERLAP,
    MAX_OVERLAP,
    NO_PLACE,
    USES,
    Config,
    EditPlanner,
    largest_overlap,
    targeted_edits,
    use_of,
)
from synthaug.pipeline.planning.exchange import Layout
from synthaug.pipeline.planning.planner import ADDED, REAL, Source, is_mirrored
from synthaug.pipeline.planning.surfaces import Surfaces

CLASSES = (
    Category(1, "red cell"),
    Category(2, "white cell"),
    Category(3, "platelet"),
    Category(4, "plasma", isthing=False),
)
SIZE = (60, 80)
SIDES = (0.15, 0.25, 0.05)  # of the classes


def sources_of(count: int, seed: int = 0) -> list[Source]:
    """Layouts of about seven red cells and a white one, in half of them a platelet."""
    rng = np.random.default_rng(seed)
    sources = []
    for number in range(count):
        labels = [0] * int(rng.integers(4, 11)) + [1] + [2] * int(rng.integers(0, 2))
        low = np.array([rng.random(2) * (1 - SIDES[label]) for label in labels])
        high = low + np.array([SIDES[label] for label in labels])[:, None]
        boxes = np.concatenate([np.concatenate([low, high], 1), [[0, 0, 1, 1]]])
        layout = Layout(np.array([*labels, 3], np.int32), boxes.astype(np.float32))
        sources.append(Source(f"smear-{number}", SIZE, layout))
    return sources


SOURCES = sources_of(40)
LAYOUTS = {source.image_id: source.layout for source in SOURCES}
PRESENT = np.bincount(np.concatenate([s.layout.category for s in SOURCES]), minlength=4)


def planner_of(config: Config, weights: np.ndarray | None = None) -> EditPlanner:
    return EditPlanner(SOURCES, CLASSES, PRESENT, config, weights)


def scenes_of(config: Config) -> list[Scene]:
    planner = planner_of(config)
    return [planner.scene(index) for index in range(planner.count)]


def layout_of(scene: Scene) -> Layout:
    assert scene.provenance is not None
    return LAYOUTS[scene.provenance.source_image]


def own_boxes(scene: Scene, flip: float) -> np.ndarray:
    """The boxes of the source as they lie in the planned image."""
    assert scene.provenance is not None
    boxes = absolute_boxes(layout_of(scene).boxes, scene.size)
    if is_mirrored(scene.provenance.seed, flip):
        boxes = mirror_boxes(boxes, scene.width)
    return boxes


def further(scene: Scene) -> Scene:
    """The scene with what is not in its source alone."""
    number = len(layout_of(scene).category)
    return scene.with_objects(scene.objects.select(np.arange(number, len(scene.objects))))


INSERT = Config(120, "sqrt")


def test_real_objects_stay_where_they_are() -> None:
    for scene in scenes_of(replace(INSERT, count=30, jitter=0.3)):
        number = len(layout_of(scene).category)
        objects = scene.objects
        assert objects.category[:number].tolist() == layout_of(scene).category.tolist()
        assert set(objects.source[:number]) == {REAL}
        assert set(objects.source[number:]) <= {ADDED}
        expected = own_boxes(scene, INSERT.flip)
        np.testing.assert_allclose(objects.boxes[:number], expected, atol=1e-3)


def test_each_image_gets_a_few_objects_and_at_least_one_of_a_class_that_lacks() -> None:
    rare, numbers = [], []
    for scene in scenes_of(INSERT):
        assert scene.provenance is not None
        new = further(scene).objects
        missing = scene.provenance.reason.count(NO_PLACE)
        numbers.append(len(new) + missing)
        rare.append(int((new.category > 0).sum()) + missing)
    assert set(numbers) == {1, 2, 3}
    assert min(rare) >= 1 and max(rare) <= 3


def test_half_of_the_edits_rounded_down_are_natural() -> None:
    assert [1, 1, 2] == targeted_edits(3, 0.5)
    assert [1, 2, 3] == targeted_edits(3, 0.0)
    assert [0, 0, 0] == targeted_edits(3, 1.0)
    without = scenes_of(replace(INSERT, natural_share=0.0))
    counts = class_counts([further(scene) for scene in without], 4)
    assert 0 == counts[0] and counts[1] > 50 and counts[2] > 50
    with_half = class_counts([further(scene) for scene in scenes_of(INSERT)], 4)
    natural = with_half[0] / with_half.sum()
    assert 0.15 < natural < 0.4


def test_added_objects_have_sizes_of_real_ones_and_cover_little() -> None:
    for scene in scenes_of(replace(INSERT, flip=0.0)):
        number = len(layout_of(scene).category)
        things = scene.objects.select(scene.objects.isthing)
        new = further(scene).objects
        sides = (new.boxes[:, 2:] - new.boxes[:, :2]) / [SIZE[1], SIZE[0]]
        expected = np.array(SIDES)[new.category]
        np.testing.assert_allclose(sides, np.stack([expected] * 2, 1), atol=1e-3)
        first = number - 1  # without plasma
        for position in range(first, len(things)):
            before = things.boxes[:position]
            assert largest_overlap(things.boxes[position], before) <= MAX_OVERLAP + 1e-4
    assert not (new.category == 3).any()


def test_heights_in_the_image_are_those_of_real_objects() -> None:
    """Objects move sideways to find a place: a car stays on its street."""
    tops = np.concatenate([s.layout.boxes[s.layout.category == 1, 1] for s in SOURCES]) * SIZE[0]
    for scene in scenes_of(INSERT):
        new = further(scene).objects
        for top in new.boxes[new.category == 1, 1].tolist():
            assert np.abs(tops - top).min() < 1e-3


def test_an_object_without_a_place_is_told_and_left_out() -> None:
    crowded = Layout(np.array([1], np.int32), np.array([[0, 0, 1, 1]], np.float32))
    planner = EditPlanner([Source("full", SIZE, crowded)], CLASSES, np.array([0, 1, 0, 0]), INSERT)
    scene = planner.scene(0)
    assert scene.provenance is not None
    assert 1 == len(scene.objects)
    assert f"(+white cell{NO_PLACE}" in scene.provenance.reason


def test_redrawn_objects_keep_class_and_box_and_are_marked() -> None:
    config = replace(INSERT, uses={"redraw": 1}, natural_share=0.0)
    redrawn = []
    for scene in scenes_of(config):
        objects = scene.objects
        assert len(objects) == len(layout_of(scene).category)
        np.testing.assert_allclose(objects.boxes, own_boxes(scene, config.flip), atol=1e-3)
        chosen = [source == ADDED for source in objects.source]
        assert sum(chosen) <= 3 and not objects.iscrowd.any()
        redrawn += objects.category[chosen].tolist()
        assert scene.provenance is not None and "redraw" in scene.provenance.reason
    counts = np.bincount(redrawn, minlength=4)
    assert counts[1] + counts[2] > counts[0] and counts[3] == 0


def test_erased_objects_are_of_classes_above_the_target_and_count_no_more() -> None:
    config = replace(INSERT, uses={"erase": 1}, natural_share=0.0)
    erased = np.zeros(4, int)
    for scene in scenes_of(config):
        objects = scene.objects
        gone = objects.select(objects.iscrowd)
        assert set(gone.source) <= {ADDED}
        before = np.bincount(layout_of(scene).category, minlength=4)
        assert (before - class_counts([scene], 4)).sum() == len(gone)
        others = objects.select(objects.isthing & ~objects.iscrowd)
        for box in gone.boxes:
            assert largest_overlap(box, others.boxes) <= CLEAR_OVERLAP + 1e-4
        erased += np.bincount(gone.category, minlength=4)
    assert erased[0] > 60 and erased[1:].sum() < 0.2 * erased[0] and erased[3] == 0


def test_empty_places_count_nothing_and_cover_nothing() -> None:
    """The same places and sizes as of insertions, and no label more than before."""
    places = 0
    for scene in scenes_of(replace(INSERT, uses={"empty": 1})):
        before = np.bincount(layout_of(scene).category, minlength=4)
        assert class_counts([scene], 4).tolist() == before.tolist()
        new = further(scene).objects
        real = layout_of(scene)
        assert new.iscrowd.all()
        things = own_boxes(scene, INSERT.flip)[real.category != 3]
        for box in new.boxes:
            assert largest_overlap(box, things) <= CLEAR_OVERLAP + 1e-4
        places += len(new)
    assert places > 50


def test_every_insertion_may_bring_an_empty_place() -> None:
    new = [further(scene).objects for scene in scenes_of(replace(INSERT, empties=1.0))]
    added = sum(int((~objects.iscrowd).sum()) for objects in new)
    empty = sum(int(objects.iscrowd.sum()) for objects in new)
    assert 0.5 * added < empty <= added


def test_uses_come_by_their_shares_and_from_the_seed_alone() -> None:
    uses = {"insert": 3.0, "ring": 1.0}
    drawn = [use_of(seed, uses) for seed in range(400)]
    assert set(drawn) == {"insert", "ring"}
    assert 60 < drawn.count("ring") < 140
    assert drawn == [use_of(seed, dict(reversed(uses.items()))) for seed in range(400)]
    assert "insert" == use_of(3, {})
    assert all(use == use_of(9, {use: 1}) for use in USES)


def test_a_scene_depends_on_seed_and_index_alone() -> None:
    config = replace(INSERT, placement="natural", jitter=0.1, uses={"insert": 1, "redraw": 1})
    one = planner_of(config)
    other = planner_of(config, np.array(one.weights))  # as a worker is given them
    for index in (59, 0, 7):
        first, second = one.scene(index), other.scene(index)
        assert first.provenance == second.provenance
        np.testing.assert_array_equal(first.objects.boxes, second.objects.boxes)
        assert first.objects.id[0] == index * IDS_PER_IMAGE + 1
    reseeded = planner_of(replace(config, seed=4)).scene(7)
    assert reseeded.provenance != one.scene(7).provenance


def test_exact_counts_are_added_where_they_fit_and_the_rest_is_told() -> None:
    counts = {"platelet": 150, "white cell": 120, "red cell": 100}
    config = Config(120, "counts", counts=counts, natural_share=0.0)
    planner = planner_of(config)
    assert 0 == planner.short
    added = class_counts([further(planner.scene(index)) for index in range(120)], 4)
    wanted = 150 - PRESENT[2] * 3
    assert abs(added[2] - wanted) < 3 * np.sqrt(wanted) and added[0] == added[1] == 0
    too_many = planner_of(replace(config, counts={"platelet": 5000}))
    assert too_many.short == 5000 - PRESENT[2] * 3 - 240
    assert "plan.most_edits" in too_many.limit


def test_a_natural_plan_adds_classes_as_they_occur() -> None:
    added = class_counts([further(scene) for scene in scenes_of(Config(120))], 4)
    assert added[0] > 4 * added[1] > 0


def test_a_deficit_takes_as_many_images_as_its_edits_fill() -> None:
    config = Config(0, "deficit", objects_per_class=100, natural_share=0.0)
    planner = planner_of(config)
    missing = np.maximum(100 - PRESENT, 0)[:3].sum()
    assert planner.count == planner.need.exchanged == int(np.ceil(missing / 2))
    with pytest.raises(JobError, match=r"plan\.objects_per_class: .* fewer than 1 objects"):
        planner_of(replace(config, objects_per_class=1))


def test_an_image_without_objects_can_be_added_to_and_nothing_redrawn_in_it() -> None:
    empty = Layout(np.zeros(0, np.int32), np.zeros((0, 4), np.float32))
    sources = [Source("empty", SIZE, empty), SOURCES[0]]
    for use, expected in (("insert", True), ("redraw", False)):
        config = Config(2, "sqrt", uses={use: 1})
        planner = EditPlanner(sources, CLASSES, PRESENT, config)
        scenes = [planner.scene(index) for index in range(2)]
        (bare,) = [s for s in scenes if s.provenance and s.provenance.source_image == "empty"]
        assert bool(len(bare.objects)) == expected


@pytest.mark.parametrize(
    ("box", "expected"),
    [
        ((0, 0, 10, 10), 1.0),  # a small box inside a large one is wholly covered
        ((20, 0, 30, 10), 0.0),
        ((15, 0, 25, 10), 0.5),
        ((0, 0, 40, 40), 1.0),
    ],
)
def test_overlap_is_a_share_of_the_smaller_box(
    box: tuple[float, float, float, float], expected: float
) -> None:
    others = np.array([[0, 0, 20, 20]], np.float32)
    assert largest_overlap(np.array(box, np.float32), others) == pytest.approx(expected)
    assert largest_overlap(np.array(box, np.float32), others[:0]) == 0.0


def test_only_chosen_classes_are_added() -> None:
    """Of the natural edits too.

    The rare ones are those labelled at most as often as the median class.
    """
    for classes, allowed in ((("platelet",), {2}), (("rare",), {1, 2}), (("all",), {0, 1, 2})):
        config = replace(INSERT, target="balanced", classes=classes, natural_share=0.7)
        added: set[int] = set()
        for scene in scenes_of(config):
            added |= set(further(scene).objects.category.tolist())
        assert allowed == added
    planner = planner_of(replace(INSERT, target="balanced", classes=("platelet",)))
    assert planner.target[1] <= planner.natural[1]


def test_a_class_to_add_that_is_not_there_is_told() -> None:
    with pytest.raises(JobError, match=r"^generator\.classes: .*'platelets'.*'platelet'"):
        planner_of(replace(INSERT, classes=("platelets",)))


# ---- Budgets by what is weak ----


def test_edits_are_shared_by_what_classes_lack() -> None:
    """Not by how rare they are: the most frequent class may be the weakest."""
    lacks = {"red cell": 0.6, "white cell": 0.3, "platelet": 0.1}
    config = Config(400, "weak", weakness=lacks, natural_share=0.0)
    counts = class_counts([further(scene) for scene in scenes_of(config)], 4)
    # platelets are small and always find a place, so the shares are compared with what was asked
    asked = planner_of(config)
    wanted = (asked.target - asked.natural)[:3]
    np.testing.assert_allclose(wanted / wanted.sum(), [0.6, 0.3, 0.1])
    assert wanted.sum() == pytest.approx(400 * 2)
    assert asked.short == 0
    assert counts[0] > 1.5 * counts[1] > 1.5 * 1.5 * counts[2] > 0


def test_the_natural_part_of_the_edits_stays_natural() -> None:
    lacks = {"platelet": 1.0}
    config = Config(300, "weak", weakness=lacks)
    counts = class_counts([further(scene) for scene in scenes_of(config)], 4)
    assert counts[2] > counts[0] > counts[1] > 0
    alone = replace(config, natural_share=0.0)
    counts = class_counts([further(scene) for scene in scenes_of(alone)], 4)
    assert counts[0] == counts[1] == 0 < counts[2]


def test_weak_classes_are_redrawn_more_often() -> None:
    redraw = Config(
        200, "weak", weakness={"platelet": 1.0}, natural_share=0.0, uses={"redraw": 1.0}
    )
    with_platelet = redrawn = 0
    for scene in scenes_of(redraw):
        own = layout_of(scene).category
        edited = np.array([source == ADDED for source in scene.objects.source])
        if (own == 2).any() and edited.any():
            with_platelet += 1
            redrawn += int((scene.objects.category[edited] == 2).any())
    assert redrawn > 0.6 * with_platelet > 20


def test_empty_places_alone_are_those_of_the_classes_that_lack() -> None:
    config = replace(INSERT, uses={"empty": 1.0}, natural_share=0.0)
    labels = [further(scene).objects.category.tolist() for scene in scenes_of(config)]
    assert all(set(own) <= {1, 2} for own in labels)
    assert sum(map(len, labels)) > INSERT.count


# ---- Surfaces ----


class LeftHalf:
    """Surfaces of which white cells come to the left half of every image only."""

    def possible(self) -> np.ndarray:
        return np.ones((len(SOURCES), len(CLASSES)), bool)

    def nearest(self, index: int, label: int, box: np.ndarray) -> np.ndarray | None:
        assert 0 <= index < len(SOURCES)
        return box if label != 1 or box[2] <= 0.5 else None


@pytest.mark.parametrize("use", ["insert", "empty"])
def test_objects_and_empty_places_keep_to_their_surfaces(use: str) -> None:
    config = replace(INSERT, flip=0.0, uses={use: 1.0}, natural_share=0.0)
    planner = EditPlanner(SOURCES, CLASSES, PRESENT, config, surfaces=cast("Surfaces", LeftHalf()))
    right = {1: 0, 2: 0}
    for index in range(planner.count):
        new = further(planner.scene(index)).objects
        for label, box in zip(new.category.tolist(), new.boxes, strict=True):
            right[label] += box[2] > SIZE[1] / 2 + 1e-3
    assert right[1] == 0 < right[2]
    assert planner.refused > 20
    assert planner_of(config).refused == 0


def test_the_surface_of_a_place_is_asked_of_the_image_that_is_edited() -> None:
    class Asked(LeftHalf):
        images: list[str]

        def nearest(self, index: int, label: int, box: np.ndarray) -> np.ndarray | None:
            self.images.append(SOURCES[index].image_id)
            return box

    surfaces = Asked()
    config = replace(INSERT, natural_share=0.0)
    planner = EditPlanner(SOURCES, CLASSES, PRESENT, config, surfaces=cast("Surfaces", surfaces))
    for index in range(20):
        surfaces.images = []
        origin = planner.scene(index).provenance
        assert origin is not None
        assert {origin.source_image} == set(surfaces.images)


def test_a_scene_is_the_same_however_many_were_planned_before() -> None:
    surfaces = cast("Surfaces", LeftHalf())
    one, other = (EditPlanner(SOURCES, CLASSES, PRESENT, INSERT, surfaces=surfaces) for _ in "12")
    one.scene(3)
    np.testing.assert_array_equal(one.scene(9).objects.boxes, other.scene(9).objects.boxes)


class HereAndThere(LeftHalf):
    """Surfaces of white cells in every fourth image only, and there anywhere."""

    def possible(self) -> np.ndarray:
        possible = super().possible()
        possible[:, 1] = np.arange(len(SOURCES)) % 4 == 0
        return possible

    def nearest(self, index: int, label: int, box: np.ndarray) -> np.ndarray | None:
        return box if self.possible()[index, label] else None


def test_a_class_is_planned_for_the_images_that_have_a_surface_of_its_own() -> None:
    """Asked of all images alike, three quarters of them would find no place."""
    config = replace(INSERT, flip=0.0)
    planner = EditPlanner(
        SOURCES, CLASSES, PRESENT, config, surfaces=cast("Surfaces", HereAndThere())
    )
    numbers = {source.image_id: number for number, source in enumerate(SOURCES)}
    added = 0
    for index in range(planner.count):
        scene = planner.scene(index)
        assert scene.provenance is not None
        white = int((further(scene).objects.category == 1).sum())
        assert not white or numbers[scene.provenance.source_image] % 4 == 0
        added += white
    everywhere = sum(
        int((further(scene).objects.category == 1).sum()) for scene in scenes_of(config)
    )
    assert planner.refused == 0
    assert added > 1.5 * everywhere / 4, "those images get more of them"


def test_classes_are_redrawn_as_they_lack_however_many_objects_an_image_has() -> None:
    """Of seven red cells and a white one, which are wanted alike, one is not 7 times the other.

    Half of the white ones overlap too much to be redrawn.
    """
    lacks = {"red cell": 0.5, "white cell": 0.5}
    config = Config(200, "weak", weakness=lacks, uses={"redraw": 1}, natural_share=0.0, most=1)
    redrawn = np.zeros(4, int)
    for scene in scenes_of(config):
        chosen = [source == ADDED for source in scene.objects.source]
        redrawn += np.bincount(scene.objects.category[chosen], minlength=4)
    assert redrawn[2] == redrawn[3] == 0
    assert 0.2 < redrawn[1] / redrawn[0] < 1
