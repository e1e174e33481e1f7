"""Pictures of toy worlds: who owns a pixel, and what light, shadow and water do to it."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from synthaug.pipeline.formats.toy import paint as painting
from synthaug.pipeline.formats.toy.dataset import Config, ToyDataset
from synthaug.pipeline.formats.toy.paint import paint
from synthaug.pipeline.formats.toy.world import SKY, STUFF, THINGS, WATER, World


def toy() -> ToyDataset:
    return ToyDataset(Config())


def world_with(name: str) -> World:
    """The first world with such a thing, without any other."""
    dataset = toy()
    for index in range(400):
        world = dataset.world(index)
        for thing in world.things:
            if THINGS[thing.category] == name:
                return replace(world, things=(thing,))
    raise AssertionError(name)


def test_things_hide_things_but_leave_enough_to_see() -> None:
    """Painted alone, many a thing owns pixels that others take from it in the scene, but never most
    of them.
    """
    dataset, hidden = toy(), 0
    for index in range(20):
        world = dataset.world(index)
        _, owner = paint(world, 64)
        for k, thing in enumerate(world.things):
            _, alone = paint(replace(world, things=(thing,)), 64)
            seen, whole = np.sum(owner == len(STUFF) + k), np.sum(alone == len(STUFF))
            hidden += seen < 0.9 * whole
            assert seen > 0.3 * whole
    assert hidden >= 10


def test_an_owner_is_who_has_most_of_a_pixel_and_a_tie_goes_to_what_is_nearest() -> None:
    cells = np.array([[0, 0, 1, 5], [0, 1, 5, 1], [2, 2, 9, 9], [9, 9, 9, 9]], np.uint8)
    assert [[0, 5], [9, 9]] == painting._majority(cells, 2).tolist()


@pytest.mark.parametrize("name", ["car", "balloon"])
def test_a_thing_changes_its_own_pixels_and_its_shadow_alone(name: str) -> None:
    world = world_with(name)
    empty, _ = paint(replace(world, things=()), 64)
    image, owner = paint(world, 64)
    inside = owner == len(STUFF)
    change = np.abs(image.astype(int) - empty).max(2)
    assert (change[inside] > 0).mean() > 0.95
    near = np.zeros_like(inside)
    rows, columns = np.nonzero(inside)
    near[
        max(0, rows.min() - 12) : rows.max() + 13, max(0, columns.min() - 24) : columns.max() + 25
    ] = True
    assert (change[~near] == 0).all()
    darker = (image.astype(int) - empty).sum(2)[near & ~inside & (change > 2)]
    if name == "car":  # it stands on the ground, where its shadow falls
        assert len(darker) and np.mean(darker < 0) > 0.7


def test_a_boat_is_mirrored_in_water_only() -> None:
    world = world_with("boat")
    image, owner = paint(world, 128)
    empty, ground = paint(replace(world, things=()), 128)
    foot = int(world.things[0].foot[1] * 128)
    below = np.zeros_like(owner, bool)
    below[foot + 1 :] = True
    change = np.abs(image.astype(int) - empty).max(2) > 40
    changed = change & below & (owner != len(STUFF))
    assert changed.any()
    assert (ground[changed] == WATER).mean() > 0.9


def test_the_light_of_the_hour_is_seen_everywhere() -> None:
    world = world_with("tree")
    dim = replace(world, hour=replace(world.hour, light=(0.5, 0.5, 0.5)))
    day, owner = paint(world, 64)
    night, _ = paint(dim, 64)
    ground = owner != SKY
    assert day[ground].mean() > 1.3 * night[ground].mean()
    assert np.array_equal(day[:2], night[:2])  # the sky has colors of its own


def test_noise_has_mean_zero_and_deviation_one_and_follows_its_seed() -> None:
    tiles = [painting._noise_tile(np.random.default_rng(seed)) for seed in (0, 0, 1)]
    assert np.array_equal(tiles[0], tiles[1])
    assert not np.array_equal(tiles[0], tiles[2])
    assert abs(float(tiles[0].mean())) < 0.3
    assert 0.7 < float(tiles[0].std()) < 1.4
