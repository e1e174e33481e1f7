"""Planning: targets are met in expectation, boxes stay real and inside."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from synthaug.pipeline.core.scene import Category
from synthaug.pipeline.planning import placement
from synthaug.pipeline.planning.exchange import (
    Layout,
    Pool,
    Slots,
    draw_layout,
    overlap,
    vary,
)
from synthaug.pipeline.planning.layout_statistics import Statistics, deviation, object_counts
from synthaug.pipeline.planning.targets import Exchange, exchange, target_counts

CLASSES = (
    Category(1, "tree"),
    Category(2, "car"),
    Category(3, "bus"),
    Category(4, "sky", isthing=False),
)
THINGS = np.array([c.isthing for c in CLASSES])


def long_tail(count: int) -> list[Layout]:
    """Layouts with about 3 trees, 1 car, 0.05 buses and one sky each."""
    rng = np.random.default_rng(0)
    layouts = []
    for _ in range(count):
        labels = (
            [0] * int(rng.integers(1, 6))
            + [1] * int(rng.integers(0, 3))
            + [2] * int(rng.random() < 0.05)
            + [3]
        )
        low = rng.random((len(labels), 2)) * 0.8
        boxes = np.concatenate([low, low + 0.1], 1).astype(np.float32)
        layouts.append(Layout(np.array(labels, np.int32), boxes))
    return layouts


@pytest.mark.parametrize(
    ("target", "counts"),
    [
        ("natural", {}),
        ("sqrt", {}),
        ("balanced", {}),
        ("counts", {"bus": 900, "tree": 100}),
        ("counts", {"bus": 9000}),
    ],
)
def test_drawn_layouts_meet_the_target(target: str, counts: dict[str, int]) -> None:
    layouts, images = long_tail(400), 3000
    pool = Pool.of(layouts, 4)
    natural = np.array([len(b) for b in pool.boxes], float) * images / len(layouts)
    wanted = target_counts(natural, CLASSES, target, counts)
    plan = exchange(natural, wanted, images)
    slots = Slots.of(object_counts(layouts, 4), plan, 100)
    assert slots.short == 0
    found = np.zeros(4)
    for i in range(images):
        rng = np.random.default_rng([1, i])
        source = layouts[i % len(layouts)]
        free = (100 - len(source.category), slots.extra)
        layout = draw_layout(source, pool, plan, THINGS, free, rng).layout
        found += np.bincount(layout.category, minlength=4)
    np.testing.assert_allclose(found, wanted, rtol=0.08, atol=30)


def test_layouts_never_get_fuller_than_allowed_and_what_has_no_place_is_counted() -> None:
    layouts, most = long_tail(50), 6
    layouts = [layout for layout in layouts if len(layout.category) <= most]
    counts = object_counts(layouts, 4)
    plan = exchange(
        counts.sum(0).astype(float), counts.sum(0) + np.array([0.0, 1000, 0, 0]), len(layouts)
    )
    slots = Slots.of(counts, plan, most)
    room = most - counts.sum(1)
    np.testing.assert_allclose(slots.receive, room)
    np.testing.assert_allclose(slots.short * len(layouts), 1000 - room.sum())
    for i, (layout, free) in enumerate(zip(layouts, room.tolist(), strict=True)):
        pool, rng = Pool.of(layouts, 4), np.random.default_rng(i)
        drawn = draw_layout(layout, pool, plan, THINGS, (free, slots.extra), rng)
        assert most == len(drawn.layout.category)


def two_worlds(count: int, seed: int) -> list[Layout]:
    """Half of the images have class 0 and, seldom, class 1.

    The others class 2 and, seldom, class 3.
    """
    rng = np.random.default_rng(seed)
    layouts = []
    for _ in range(count):
        world = 2 * int(rng.random() < 0.5)
        labels = [world] * int(rng.integers(2, 6)) + [world + 1] * int(rng.random() < 0.1)
        low = rng.random((len(labels), 2)).astype(np.float32) * 0.9
        layouts.append(Layout(np.array(labels, np.int32), np.concatenate([low, low + 0.1], 1)))
    return layouts


def test_natural_placement_keeps_companions_together() -> None:
    """Where classes do have companions, additions follow them.

    Measured on other images than the lifts come from.
    """
    layouts, unseen = two_worlds(600, 0), Statistics.of(two_worlds(600, 1), 4)
    things = tuple(Category(i + 1, str(i)) for i in range(4))
    pool, counts = Pool.of(layouts, 4), object_counts(layouts, 4)
    natural = counts.sum(0).astype(float)
    plan = exchange(natural, target_counts(natural, things, "sqrt", {}), len(layouts))
    slots, found = Slots.of(counts, plan, 100), {}
    for name, lifts in (("natural", placement.lift(counts)), ("uniform", np.ones((4, 4)))):
        kernel = placement.affinity(counts, lifts)
        shares = placement.shares(kernel, placement.fit(kernel, slots.receive, plan.shares))
        drawn = [
            draw_layout(
                layout,
                pool,
                replace(plan, shares=row),
                np.ones(4, bool),
                (0, 0.0),
                np.random.default_rng(i),
            ).layout
            for i, (layout, row) in enumerate(zip(layouts, shares, strict=True))
        ]
        found[name] = deviation(unseen, Statistics.of(drawn, 4))["pairs_given_frequency"]
    assert found["natural"] < 0.5 * found["uniform"], found


def test_added_objects_are_real_boxes_of_their_class() -> None:
    layouts = long_tail(100)
    pool = Pool.of(layouts, 4)
    plan = exchange(np.array([300.0, 100, 5, 100]), np.array([100.0, 100, 205, 100]), 100)
    seen = 0
    for i, layout in enumerate(layouts):
        drawn = draw_layout(layout, pool, plan, THINGS, (20, 0.05), np.random.default_rng(i))
        objects = drawn.layout
        assert len(objects.category) == len(layout.category) - len(drawn.removed) + len(drawn.added)
        for box, label in zip(objects.boxes, objects.category, strict=True):
            assert (pool.boxes[label] == box).all(1).any()
        seen += len(drawn.added)
    assert seen > 50


boxes = st.lists(
    st.tuples(st.floats(0, 0.9), st.floats(0, 0.9), st.floats(0.02, 1), st.floats(0.02, 1)),
    min_size=0,
    max_size=6,
)


@given(boxes, st.floats(0, 1), st.floats(0, 1), st.integers(0, 2**32))
def test_varied_boxes_stay_inside_and_keep_an_extent(
    raw: list[tuple[float, float, float, float]], jitter: float, flip: float, seed: int
) -> None:
    box = np.array(
        [(x, y, min(1, x + w), min(1, y + h)) for x, y, w, h in raw], np.float32
    ).reshape(-1, 4)
    layout = Layout(np.array([i % 4 for i in range(len(box))], np.int32), box)
    out = vary(layout, THINGS, jitter, flip, np.random.default_rng(seed)).boxes
    assert out.shape == box.shape
    assert (out >= -1e-6).all()
    assert (out <= 1 + 1e-6).all()
    size = out[:, 2:] - out[:, :2]
    assert (size > 0).all()
    assert (size.prod(1) >= 0.49 * (box[:, 2:] - box[:, :2]).prod(1)).all()


def test_stuff_keeps_its_place_when_things_move() -> None:
    layout = long_tail(1)[0]
    is_thing = THINGS[layout.category]
    varied = vary(layout, THINGS, 0.3, 0.0, np.random.default_rng(0)).boxes
    np.testing.assert_allclose(varied[~is_thing], layout.boxes[~is_thing], atol=1e-6)
    assert np.abs(varied[is_thing] - layout.boxes[is_thing]).max() > 0.01


def test_an_added_object_takes_the_least_crowded_of_the_boxes_that_are_tried() -> None:
    """All places of its class are taken, half of them wholly."""
    taken = np.array([[0.1, 0.1, 0.3, 0.3]], np.float32)
    full, partly = taken[0], np.array([0.15, 0.1, 0.35, 0.3], np.float32)
    source = Layout(np.array([0], np.int32), taken)
    boxes = [np.zeros((0, 4), np.float32)] * 4
    boxes[1] = np.stack([full, partly] * 5)
    plan = exchange(np.array([1.0, 0, 0, 0]), np.array([1.0, 1, 0, 0]), 1)
    for seed in range(5):
        rng = np.random.default_rng(seed)
        drawn = draw_layout(source, Pool(tuple(boxes)), plan, THINGS, (1, 1.0), rng)
        np.testing.assert_array_equal(drawn.layout.boxes[1], partly)


def test_mirroring_twice_is_the_identity_without_jitter() -> None:
    layout = long_tail(1)[0]
    once = vary(layout, THINGS, 0, 1.0, np.random.default_rng(0))
    twice = vary(once, THINGS, 0, 1.0, np.random.default_rng(0))
    np.testing.assert_allclose(twice.boxes, layout.boxes, atol=1e-6)
    assert not np.allclose(once.boxes, layout.boxes)


def test_overlap_of_known_boxes() -> None:
    box = np.array([0, 0, 2, 2], np.float32)
    others = np.array([[0, 0, 2, 2], [1, 0, 3, 2], [5, 5, 6, 6]], np.float32)
    np.testing.assert_allclose(overlap(box, others), [1, 1 / 3, 0], rtol=1e-6)


def test_a_layout_receives_what_it_gives_up_and_is_refilled_with() -> None:
    """Four and one trees, each given up by a half and replaced by a quarter of the time."""
    plan = Exchange(np.array([0.5, 0.0]), 0.25, 1.0, np.array([0.0, 1.0]))
    slots = Slots.of(np.array([[4, 2], [1, 0]], np.int32), plan, 8)
    assert slots.extra == pytest.approx(2 / 9)  # two and seven slots are free, for one object each
    assert slots.receive.tolist() == pytest.approx([0.5 + 4 / 9, 0.125 + 14 / 9])


def test_boxes_move_by_shares_of_their_size() -> None:
    """Clipped at two deviations, so a box of 0.05 moves by less than a hundredth."""
    boxes = np.full((400, 4), 0.5, np.float32)
    boxes[:, 2] += 0.05
    boxes[:, 3] += 0.2
    layout = Layout(np.zeros(400, np.int32), boxes)
    out = vary(layout, THINGS, 0.1, 0.0, np.random.default_rng(0)).boxes
    moved = (out[:, :2] + out[:, 2:] - boxes[:, :2] - boxes[:, 2:]) / 2
    shares = moved / [0.05, 0.2]
    assert np.abs(shares).max() <= 0.2 + 1e-5
    assert shares.std(0) == pytest.approx([0.1, 0.1], rel=0.2)
