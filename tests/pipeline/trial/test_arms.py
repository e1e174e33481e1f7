"""The arms of a trial differ in what they add and in nothing else."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from synthaug.detectors.rcnn_config import Config as RcnnConfig
from synthaug.generators.copy_paste import Config
from synthaug.pipeline.batches.draw import repeat_factors
from synthaug.pipeline.core.datasets import Subset
from synthaug.pipeline.core.images import decode
from synthaug.pipeline.core.scene import Dataset, SceneList, class_counts
from synthaug.pipeline.formats.reference import open_dataset
from synthaug.pipeline.synthesis.copy_paste_table import CopyPasteTable
from synthaug.pipeline.trial.arms import (
    ARMS,
    arm_batches,
    arm_named,
    first_part,
    fixed_part,
    instance_aware_factors,
    on_top_of,
    real_draw,
    stacked,
)


def toy_table(count: int, split: str = "train") -> Dataset:
    return open_dataset(f"toy:{split}?count={count}", Path())


def pixels_of(table: Dataset) -> set[bytes]:
    return {decode(scene).tobytes() for scene in table}


def test_every_arm_has_its_own_name_and_adds_tables_that_the_trial_opens() -> None:
    tables = {"copy_paste", "pseudo", "placebo", "synthetic", "verified"}
    tables |= {"soft", "nothing", "empties"}
    for name, arm in ARMS.items():
        assert arm.name == name
        assert set(arm.real) <= {"real", "more"}
        assert set(arm.added) <= tables
    baseline = [name for name, arm in ARMS.items() if arm.role == "baseline"]
    assert baseline == ["real"]


def test_an_external_data_set_is_a_candidate_that_adds_itself() -> None:
    arm = arm_named("external:bought")
    assert arm.role == "candidate"
    assert arm.added == ("external:bought",)
    with pytest.raises(KeyError):
        arm_named("bought")


def test_what_is_put_on_top_of_a_control_keeps_its_sampling_and_its_steps() -> None:
    for name in ("irfs", "real_2x", "copy_paste"):
        control = ARMS[name]
        best = on_top_of(control, ARMS["verified"])
        assert (best.sampling, best.steps) == (control.sampling, control.steps)
        assert best.added == (*control.added, "verified")
        assert best.role == "candidate"
        assert best.name == "synthetic_best"


def test_a_stack_does_what_each_of_its_parts_does() -> None:
    parts = [ARMS[name] for name in ("copy_paste", "irfs", "lsj", "real_2x", "pseudo")]
    stack = stacked(parts, "stack", "control")
    assert stack.added == ("copy_paste", "pseudo")
    assert stack.sampling == "instance_aware"
    assert dict(stack.detector) == {"scale_jitter": 1.0}
    assert stack.steps == 2.0
    assert (stack.name, stack.role) == ("stack", "control")
    assert stack.description == "copy_paste + irfs + lsj + real_2x + pseudo"
    again = stacked([stack, ARMS["pseudo"]], "again", "control")
    assert again.added == stack.added


def test_the_first_part_has_its_way_where_two_differ() -> None:
    gentle = replace(ARMS["lsj"], detector=(("scale_jitter", 0.2), ("flip", False)))
    rfs = replace(ARMS["rfs"], threshold=0.3)
    irfs = replace(ARMS["irfs"], threshold=0.7)
    stack = stacked([rfs, gentle, irfs, ARMS["lsj"]], "stack", "control")
    assert (stack.sampling, stack.threshold) == ("repeat_factor", 0.3)
    assert dict(stack.detector) == {"scale_jitter": 0.2, "flip": False}
    assert stacked([irfs, rfs], "stack", "control").threshold == 0.7


def test_what_an_arm_changes_of_the_detector_are_keys_of_its_config() -> None:
    for arm in ARMS.values():
        changed = replace(RcnnConfig(), **dict(arm.detector))
        assert (changed == RcnnConfig()) == (not arm.detector)


def test_a_fixed_part_depends_on_the_ids_and_not_on_the_order() -> None:
    table = toy_table(11)
    order = np.random.default_rng(0).permutation(11).tolist()
    half = fixed_part(table, 0.5, 3)
    other = fixed_part(Subset(table, order), 0.5, 3)
    ids = {half[i].image_id for i in range(len(half))}
    assert ids == {other[i].image_id for i in range(len(other))}
    assert len(ids) == 6
    assert fixed_part(table, 1.0, 3) is table
    assert ids != {s.image_id for s in fixed_part(table, 0.5, 4)}


def test_a_part_is_one_image_at_least_and_the_whole_table_is_the_table() -> None:
    table = toy_table(8)
    assert len(first_part(table, 0.01, 5)) == 1
    assert first_part(table, 1.0, 5) is table


def test_repeat_factors_are_those_of_the_images_and_crowds_do_not_count() -> None:
    table = toy_table(12)
    scenes = [
        scene.with_objects(replace(scene.objects, iscrowd=scene.objects.category == 0))
        for scene in table
    ]
    crowded = SceneList(table.categories, scenes)
    counts = np.stack([class_counts([scene], len(table.categories)) for scene in crowded])
    assert not counts[:, 0].any()
    draw = real_draw(crowded, 4, 7, "repeat_factor", 0.5)
    np.testing.assert_array_equal(draw.weights, repeat_factors(counts > 0, 0.5))
    aware = real_draw(crowded, 4, 7, "instance_aware", 0.5)
    np.testing.assert_array_equal(aware.weights, instance_aware_factors(counts, 0.5))
    assert real_draw(crowded, 4, 7, "uniform", 0.5).weights is None


def test_images_without_objects_are_drawn_once() -> None:
    assert instance_aware_factors(np.zeros((3, 2), np.int64), 0.5).tolist() == [1, 1, 1]


def test_arms_of_one_seed_see_the_same_real_images_whatever_they_add() -> None:
    """Else a difference of two runs with one seed would not be a paired one."""
    real, some, others = toy_table(10), toy_table(6, "val"), toy_table(4, "test")
    known = pixels_of(real)
    draw = real_draw(real, 4, 7, "uniform", 0.1)
    seen = []
    for added in ([some], [others], [some, others]):
        batches = arm_batches(real, draw, added, 2, 7)
        images = [[s.image.tobytes() for s in batches(step)] for step in range(5)]
        seen.append([sorted(image for image in batch if image in known) for batch in images])
    assert seen[0] == seen[1] == seen[2]
    assert all(len(batch) == 4 for batch in seen[0])


@pytest.mark.parametrize(("added", "count"), [(0, 2), (6, 0)])
def test_without_added_images_a_batch_holds_the_real_ones(added: int, count: int) -> None:
    real = toy_table(5)
    tables: list[Dataset] = [SceneList(real.categories, []) if not added else toy_table(added)]
    batches = arm_batches(real, real_draw(real, 3, 7, "uniform", 0.1), tables, count, 7)
    known = pixels_of(real)
    for step in range(3):
        images = [sample.image.tobytes() for sample in batches(step)]
        assert len(images) == 3
        assert set(images) <= known


def test_crowds_are_regions_to_ignore_and_no_objects() -> None:
    (scene,) = toy_table(1)
    crowd = np.arange(len(scene.objects)) == 0
    table = SceneList(
        toy_table(1).categories,
        [scene.with_objects(replace(scene.objects, iscrowd=crowd))],
    )
    batches = arm_batches(table, real_draw(table, 1, 7, "uniform", 0.1), [], 0, 7)
    (sample,) = batches(0)
    np.testing.assert_array_equal(sample.boxes, scene.objects.boxes[1:])
    np.testing.assert_array_equal(sample.labels, scene.objects.category[1:])
    assert sample.ignore is not None and len(sample.ignore) == 1


def test_a_smaller_part_is_contained_in_a_larger_one() -> None:
    table = toy_table(20)
    small, large = (
        {s.image_id for s in map(first_part(table, f, 5).__getitem__, range(n))}
        for f, n in ((0.2, 4), (0.6, 12))
    )
    assert small < large and len(first_part(table, 1.0, 5)) == 20


def test_a_part_is_drawn_from_the_whole_table_and_not_its_beginning() -> None:
    """Tables are often sorted: by scene, by class, by day."""
    table = toy_table(40)
    places = {scene.image_id: place for place, scene in enumerate(table)}
    drawn = []
    for seed in range(6):
        part = first_part(table, 0.25, seed)
        drawn.append(frozenset(places[part[k].image_id] for k in range(len(part))))
    assert len(set(drawn)) > 1
    assert all(len(own) == 10 and max(own) >= 20 for own in drawn)


def test_instance_aware_factors_repeat_what_is_rare_in_images_or_in_instances() -> None:
    present = np.array(
        [[9, 1, 0]] * 9 + [[9, 0, 1]]
    )  # class 1 is in nearly all images, but a tenth of the instances
    factors = instance_aware_factors(present, 0.5)
    rare_class = math.sqrt(0.5 / math.sqrt(0.9 * 9 / 100))
    rarest = math.sqrt(0.5 / math.sqrt(0.1 * 1 / 100))
    np.testing.assert_allclose(factors, [rare_class] * 9 + [rarest])


def test_tables_that_an_arm_adds_share_its_part_equally() -> None:
    """However many images each has; pictures of the pasted one are drawn when they are needed."""
    real, few, many = (
        toy_table(10),
        toy_table(3, "val"),
        CopyPasteTable(toy_table(10), Config(), 1, 500),
    )
    batches = arm_batches(real, real_draw(real, 4, 7, "uniform", 0.1), [few, many], 3, 7)
    pixels = {decode(few[i]).tobytes() for i in range(3)}
    shown = [sample.image.tobytes() in pixels for step in range(6) for sample in batches(step)]
    # 24 places of real images, and half of the 18 added ones
    assert (42, 9) == (len(shown), sum(shown))


def test_every_image_of_an_added_table_comes_once_in_its_turn() -> None:
    """Two tables of six images: twelve places, all images of both."""
    real, tables = toy_table(4), [toy_table(6, "val"), toy_table(6, "test")]
    known = {decode(scene).tobytes() for table in tables for scene in table}
    batches = arm_batches(real, real_draw(real, 1, 7, "uniform", 0.1), tables, 3, 7)
    shown = [sample.image.tobytes() for step in range(4) for sample in batches(step)]
    assert sorted(known) == sorted(image for image in shown if image in known)


def test_batches_hold_the_share_of_added_images_and_are_a_function_of_the_step() -> None:
    real, added = toy_table(10), toy_table(6, "val")
    draw = real_draw(real, 6, 7, "uniform", 0.1)
    batches = arm_batches(real, draw, [added], 2, 7)
    one, again = batches(3), arm_batches(real, draw, [added], 2, 7)(3)
    assert len(one) == 8
    for a, b in zip(one, again, strict=True):
        np.testing.assert_array_equal(a.image, b.image)
    pixels = {decode(added[i]).tobytes() for i in range(6)}
    for step in range(5):
        assert sum(sample.image.tobytes() in pixels for sample in batches(step)) == 2
