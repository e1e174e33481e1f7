"""Targets.

Totals are kept, stuff stays, the exchange leads from the natural histogram to the target.
"""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from synthaug.pipeline.core.errors import JobError
from synthaug.pipeline.core.scene import Category
from synthaug.pipeline.planning.targets import (
    chosen_classes,
    deficit_counts,
    exchange,
    images_needed,
    measured_weakness,
    missing_objects,
    target_counts,
    weak_shares,
)

CLASSES = (
    Category(1, "tree"),
    Category(2, "car"),
    Category(3, "bus"),
    Category(4, "sky", isthing=False),
)
THINGS = np.array([c.isthing for c in CLASSES])


def test_balanced_keeps_the_total_and_leaves_stuff_alone() -> None:
    natural = np.array([300.0, 60.0, 6.0, 50.0])
    wanted = target_counts(natural, CLASSES, "balanced", {})
    np.testing.assert_allclose(wanted, [122, 122, 122, 50])


def test_a_class_that_never_occurs_is_not_planned() -> None:
    natural = np.array([300.0, 60.0, 0.0, 50.0])
    assert target_counts(natural, CLASSES, "balanced", {})[2] == 0
    with pytest.raises(JobError, match=r"plan.counts.bus: no real layout has this class"):
        target_counts(natural, CLASSES, "counts", {"bus": 5})


def test_a_mistyped_class_is_named() -> None:
    with pytest.raises(
        JobError, match=r"plan.counts.buss: the data has no such class; did you mean 'bus'\?"
    ):
        target_counts(np.ones(4), CLASSES, "counts", {"buss": 5})


def test_what_is_missing_is_made_and_the_rest_stays_as_it_occurs() -> None:
    natural = np.array([300.0, 60.0, 0.0, 50.0])
    wanted = deficit_counts(natural, CLASSES, np.array([0.0, 140.0, 90.0, 30.0]))
    np.testing.assert_allclose(
        wanted, [220, 140, 0, 50]
    )  # 360 things as before; no layout has a bus; stuff stays
    fuller = deficit_counts(natural, CLASSES, np.array([0.0, 500.0, 0.0, 0.0]))
    np.testing.assert_allclose(fuller, [0, 500, 0, 50])
    alone = deficit_counts(natural, CLASSES, np.array([30.0, 30.0, 0.0, 0.0]))
    np.testing.assert_allclose(alone, [180, 180, 0, 50])
    np.testing.assert_array_equal(deficit_counts(natural, CLASSES, np.zeros(4)), natural)


def test_square_roots_lie_between_natural_and_balanced() -> None:
    natural = np.array([400.0, 100.0, 0.0, 50.0])
    np.testing.assert_allclose(
        target_counts(natural, CLASSES, "sqrt", {}), [500 * 2 / 3, 500 / 3, 0, 50]
    )


@pytest.mark.parametrize("target", ["natural", "sqrt", "balanced", "counts"])
def test_without_things_nothing_can_be_planned_and_stuff_stays(target: str) -> None:
    natural = np.array([0.0, 0.0, 0.0, 7.0])
    np.testing.assert_array_equal(target_counts(natural, CLASSES, target, {"bus": 0}), natural)


histograms = st.lists(st.floats(0, 1000), min_size=3, max_size=3)


@given(histograms, histograms, st.integers(1, 500))
def test_the_exchange_leads_to_the_target_in_expectation(
    before: list[float], after: list[float], images: int
) -> None:
    natural = np.array(before)
    target = np.where(natural > 0, after, 0.0)
    plan = exchange(natural, target, images)
    assert (plan.give_up >= 0).all() and (plan.give_up <= 1).all()
    removed = natural * plan.give_up
    num_added = removed.sum() * plan.refill + plan.extra * images
    np.testing.assert_allclose(
        natural - removed + num_added * plan.shares, target, rtol=1e-6, atol=1e-6
    )


def test_only_things_are_missing() -> None:
    labelled = np.array([3, 12, 0, 1])
    assert [7, 0, 10, 0] == missing_objects(labelled, THINGS, 10).tolist()


def test_images_needed_of_known_numbers() -> None:
    # 2 things per image; the third class has no layout
    need = images_needed(np.array([0.0, 30, 50]), np.array([100.0, 10, 0]), 55)
    assert (30, 15, 165) == (need.objects, need.exchanged, need.natural)
    several = images_needed(np.array([30.0, 30, 0]), np.array([100.0, 10, 5]), 55)
    assert several.natural == 165, "the class that takes the most images decides"
    nothing = images_needed(np.zeros(3), np.array([100.0, 10, 0]), 55)
    assert (0, 0, 0) == (nothing.objects, nothing.exchanged, nothing.natural)


@pytest.mark.parametrize(
    ("names", "labelled", "chosen"),
    [
        (("rare",), [300, 60, 6, 50], [False, True, True]),
        (("rare",), [300, 300, 300, 1], [True, True, True]),
        (("rare",), [300, 60, 0, 50], [False, True, False]),
        (("all",), [300, 60, 0, 50], [True, True, False]),
        (("tree",), [300, 60, 6, 50], [True, False, False]),
        (("tree", "rare"), [300, 60, 6, 50], [True, True, True]),
        (("rare",), [0, 0, 0, 50], [False, False, False]),
    ],
)
def test_classes_are_chosen_by_name_or_as_rare_or_all(
    names: tuple[str, ...], labelled: list[int], chosen: list[bool]
) -> None:
    """Rare are those at or below the median of the things that occur; stuff never is chosen."""
    found = chosen_classes(names, np.array(labelled), CLASSES, "some.key")
    assert [*chosen, False] == found.tolist()


def test_a_class_to_choose_that_is_no_thing_is_told() -> None:
    for name in ("sky", "buss"):
        with pytest.raises(JobError, match=rf"^some\.key: the data has no thing '{name}'"):
            chosen_classes((name,), np.ones(4, np.int64), CLASSES, "some.key")


# ---- What validation says is weak ----


def test_weak_classes_get_the_natural_total_in_proportion_to_what_they_lack() -> None:
    natural = np.array([300.0, 60.0, 6.0, 50.0])
    lacks = {"tree": 0.1, "car": 0.3, "bus": 0.6}
    wanted = target_counts(natural, CLASSES, "weak", {}, weakness=lacks)
    np.testing.assert_allclose(wanted, [36.6, 109.8, 219.6, 50])


def test_a_weak_class_that_never_occurs_is_not_planned() -> None:
    natural = np.array([300.0, 60.0, 0.0, 50.0])
    wanted = target_counts(natural, CLASSES, "weak", {}, weakness={"tree": 0.2, "bus": 0.9})
    np.testing.assert_allclose(wanted, [360, 0, 0, 50])
    alone = target_counts(natural, CLASSES, "weak", {}, weakness={"bus": 0.9})
    np.testing.assert_array_equal(alone, natural)


def test_a_mistyped_weak_class_is_named() -> None:
    with pytest.raises(JobError, match=r"plan.weakness.buss: .* did you mean 'bus'\?"):
        weak_shares(CLASSES, {"buss": 0.5})


def test_ap_of_few_objects_is_drawn_towards_the_mean() -> None:
    measured = {
        "tree": {"AP": 0.9, "gt": 990},
        "car": {"AP": 0.6, "gt": 10},
        "bus": {"AP": 0.0, "gt": 0},
        "boat": {"AP": None, "gt": 0},
    }
    lacks = measured_weakness(measured)
    mean = 0.5
    assert lacks["tree"] == pytest.approx(1 - (990 * 0.9 + 10 * mean) / 1000, abs=1e-4)
    assert lacks["car"] == pytest.approx(1 - (0.6 + mean) / 2, abs=1e-4)
    assert lacks["bus"] == lacks["boat"] == pytest.approx(1 - mean)


def test_without_any_validation_object_all_classes_lack_the_same() -> None:
    assert {"a": 1.0, "b": 1.0} == measured_weakness(
        {"a": {"AP": None, "gt": 0}, "b": {"AP": None, "gt": 0}}
    )


@given(
    st.lists(st.tuples(st.floats(0, 1), st.integers(0, 500)), min_size=2, max_size=6),
)
def test_of_two_classes_with_as_many_objects_the_one_with_less_ap_lacks_more(
    rows: list[tuple[float, int]],
) -> None:
    objects = rows[0][1]
    measured = {}
    for number, (ap, _) in enumerate(rows):
        measured[str(number)] = {"AP": ap, "gt": objects}
    lacks = measured_weakness(measured)
    assert all(0 <= value <= 1 for value in lacks.values())
    by_ap = sorted(lacks, key=lambda name: -measured[name]["AP"])
    values = [lacks[name] for name in by_ap]
    assert values == sorted(values)
