"""Toy worlds: things stand where such things stand, and what is placed stays visible."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from synthaug.pipeline.formats.toy.draw import DRAWERS
from synthaug.pipeline.formats.toy.world import (
    GRASS,
    GRID,
    KINDS,
    SKY,
    STUFF,
    THINGS,
    World,
    fill,
    rasterize,
    sample_world,
)

SQUARE = np.array([(0.0, 0.0), (1.0, 0.0), (1.0, 1.0), (0.0, 1.0)])


def ground_of(world: World) -> np.ndarray:
    grid = np.zeros((GRID, GRID), np.uint8)
    for label, outline in world.regions:
        fill(grid, outline, label)
    return grid


@pytest.fixture(scope="module")
def worlds() -> list[World]:
    return [sample_world(("toy", 0, "train", index), 1, 7) for index in range(150)]


def test_a_world_follows_its_identity_alone() -> None:
    first, again = (sample_world(("toy", 5, "val", 3), 1, 7) for _ in range(2))
    other = sample_world(("toy", 5, "val", 4), 1, 7)
    assert (first.horizon, first.sun, len(first.things)) == (
        again.horizon,
        again.sun,
        len(again.things),
    )
    assert first.horizon != other.horizon


def test_things_stand_on_a_ground_of_their_kind(worlds: list[World]) -> None:
    for world in worlds:
        grid = ground_of(world)
        for thing in world.things:
            x, y = (int(GRID * value) for value in thing.foot)
            assert grid[y, min(x, GRID - 1)] in KINDS[THINGS[thing.category]].ground


def test_things_go_from_back_to_front_and_only_what_flies_is_behind_the_horizon(
    worlds: list[World],
) -> None:
    for world in worlds:
        depths = [thing.depth for thing in world.things]
        assert sorted(depths) == depths
        for thing in world.things:
            flies = KINDS[THINGS[thing.category]].ground == (SKY,)
            assert flies == (thing.depth < 0) == (thing.foot[1] < world.horizon)


def test_what_is_nearer_is_larger() -> None:
    worlds = [sample_world(("toy", 1, "train", index), 1, 7) for index in range(300)]
    trees = [t for world in worlds for t in world.things if THINGS[t.category] == "tree"]
    depth, height = np.array([(tree.depth, tree.height) for tree in trees]).T
    assert np.corrcoef(depth, height)[0, 1] > 0.8


def test_stuff_that_is_there_is_worth_a_label_and_all_of_it_occurs(worlds: list[World]) -> None:
    grids = [ground_of(world) for world in worlds]
    counts = np.stack([np.bincount(grid.ravel(), minlength=4) for grid in grids])  # [N, 4]
    assert (counts[:, [SKY, GRASS]] > 0).all()
    assert ((counts > 0).mean(0) > 0.2).all()
    assert set(KINDS) == set(THINGS) == set(DRAWERS) and len(STUFF) == 4


@settings(max_examples=40, deadline=None)
@given(st.integers(4, 60), st.floats(0.2, 0.8), st.floats(0.2, 0.8), st.sampled_from([-1, 1]))
def test_a_square_is_rasterized_where_its_corners_are(
    pixels: int, x: float, y: float, mirror: int
) -> None:
    """Within half a pixel at each border; the origin is the foot, y runs upwards."""
    scale = (0.1 * mirror, 0.2)
    patch, top, left = rasterize([(SQUARE, (9.0, 8.0, 7.0))], (x, y), scale, pixels)
    rows, columns = np.nonzero(patch[..., 3])
    low, high = sorted((x * pixels, (x + scale[0]) * pixels))
    assert abs(left + columns.min() - low) <= 1 and abs(left + columns.max() + 1 - high) <= 1.5
    assert abs(top + rows.min() - (y - 0.2) * pixels) <= 1
    assert abs(top + rows.max() + 1 - y * pixels) <= 1.5
    assert {(9, 8, 7, 255)} == {tuple(p) for p in patch[patch[..., 3] > 0].tolist()}


def test_a_polygon_in_fractions_is_filled_to_its_borders() -> None:
    canvas = np.zeros((8, 8), np.uint8)
    fill(canvas, SQUARE * 0.5 + (0.5, 0), 3)  # the upper right quarter
    expected = np.zeros((8, 8), np.uint8)
    expected[:4, 4:] = 3
    assert (canvas != expected).sum() <= 9  # a border pixel belongs to both sides
    assert 3 == canvas[1, 6] and 0 == canvas[6, 1]
