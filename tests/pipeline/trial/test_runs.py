"""Values of runs: by arm and seed, over classes, and the goal that decides."""

from __future__ import annotations

import math
from typing import Any

import pytest

from synthaug.pipeline.core.errors import JobError
from synthaug.pipeline.trial.runs import (
    GOAL,
    TrialClasses,
    class_mean,
    class_values,
    runs_of,
    values_of,
    with_goal,
)

# class indices are those of the data set: here 2, 5 and 7
CLASSES = TrialClasses(["cat", "dog", "emu"], [2, 5, 7], [800, 300, 50], [500, 60, 5])


def run(
    arm: str, seed: int, aps: dict[int, float | None], **values: float | None
) -> dict[str, Any]:
    per_class = {str(index): {"AP": ap, "AP50": ap} for index, ap in aps.items()}
    return {"arm": arm, "seed": seed, "values": values, "per_class": per_class}


RUNS = [
    run("real", 10, {2: 0.5, 5: 0.3, 7: None}, AP=0.4, AP50=0.7),
    run("more", 9, {2: 0.6, 5: 0.4, 7: 0.2}, AP=0.4, AP50=None),
    run("real", 9, {2: 0.4, 5: 0.2, 7: 0.0}, AP=0.2, AP50=0.6),
]


def test_runs_of_an_arm_come_by_seed() -> None:
    assert [9, 10] == [own["seed"] for own in runs_of(RUNS, "real")]
    assert [0.2, 0.4] == values_of(RUNS, "real")
    assert [0.6, 0.7] == values_of(RUNS, "real", "AP50")
    assert [] == values_of(RUNS, "none")


def test_a_value_that_is_not_known_is_zero() -> None:
    assert [0.0] == values_of(RUNS, "more", "AP50")


def test_means_are_over_the_classes_that_have_a_true_object() -> None:
    assert class_mean(RUNS[0], [2, 5, 7]) == pytest.approx(0.4)
    assert class_mean(RUNS[2], [5, 7]) == pytest.approx(0.1)
    assert class_mean(RUNS[0], [7]) is None
    assert class_mean(RUNS[0], []) is None


def test_a_seed_without_a_value_stays_a_place_of_its_own() -> None:
    """So that pairs of two arms stay pairs."""
    first, second = class_values(RUNS, "real", [7])
    assert 0 == first
    assert math.isnan(second)


def test_groups_hold_class_indices_and_names() -> None:
    assert {"frequent": [2], "common": [5], "rare": [7]} == CLASSES.groups()
    assert {"frequent": ["cat"], "common": ["dog"], "rare": ["emu"]} == CLASSES.group_names()


@pytest.mark.parametrize(
    ("images", "expected"),
    [([10, 11, 100], "rcc"), ([101, 1, 0], "fr-"), ([0, 0, 0], "---")],
)
def test_by_the_rule_of_lvis_images_count(images: list[int], expected: str) -> None:
    classes = TrialClasses(CLASSES.names, CLASSES.index, CLASSES.objects, images, "lvis")
    letters = {"r": ["rare"], "c": ["common"], "f": ["frequent"], "-": []}
    groups = classes.groups()
    for index, letter in zip(CLASSES.index, expected, strict=True):
        own = [name for name, members in groups.items() if index in members]
        assert own == letters[letter]


def test_relative_groups_do_not_depend_on_the_size_of_the_set() -> None:
    larger = TrialClasses(
        CLASSES.names, CLASSES.index, [10 * n for n in CLASSES.objects], CLASSES.images
    )
    assert larger.groups() == CLASSES.groups()


def test_the_goal_is_ap_over_all_classes_or_over_the_rare_ones() -> None:
    assert [0.4, 0.4, 0.2] == [own["values"][GOAL] for own in with_goal(RUNS, "all", CLASSES)]
    rare = with_goal(RUNS, "rare", CLASSES)
    assert [None, 0.2, 0.0] == [own["values"][GOAL] for own in rare]
    assert [0.0, 0.0] == values_of(rare, "real", GOAL)
    assert GOAL not in RUNS[0]["values"], "the runs are not changed"


def test_a_rare_goal_without_a_rare_class_names_the_key() -> None:
    even = TrialClasses(CLASSES.names, CLASSES.index, [9, 9, 9], CLASSES.images)
    with pytest.raises(JobError, match=r"^trial\.goal: no class is rare here"):
        with_goal(RUNS, "rare", even)
