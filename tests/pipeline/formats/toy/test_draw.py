"""Things of the toy world: their sizes, their light, and how they vary."""

from __future__ import annotations

import numpy as np
import pytest

from synthaug.pipeline.formats.toy.draw import DRAWERS, STYLE, bar, box, disc, hsv, shade

RNG = np.random.default_rng(0)


@pytest.mark.parametrize("name", list(DRAWERS))
def test_a_thing_stands_on_the_ground_and_is_about_one_high(name: str) -> None:
    for lit in (-1, 1):
        parts = DRAWERS[name](RNG.random(STYLE), lit)
        corners = np.concatenate([polygon for polygon, _ in parts])
        assert abs(corners[:, 1].min()) <= 0.12
        assert 0.7 <= corners[:, 1].max() <= 1.15
        colors = np.array([color for _, color in parts])
        assert (colors >= 0).all() and (colors <= 255).all()


@pytest.mark.parametrize("name", list(DRAWERS))
def test_style_alone_decides_and_another_style_shows(name: str) -> None:
    style = RNG.random(STYLE)
    first, again = (DRAWERS[name](style, 1) for _ in range(2))
    other = DRAWERS[name](RNG.random(STYLE), 1)
    assert all(np.array_equal(a, b) and c == d for (a, c), (b, d) in zip(first, again, strict=True))
    assert [color for _, color in first] != [color for _, color in other]


def test_the_sunny_side_of_a_house_is_the_brighter_one() -> None:
    style = RNG.random(STYLE)
    for lit in (-1, 1):
        parts = DRAWERS["house"](style, lit)
        side, front = parts[1], parts[2]
        brighter = side if sum(side[1]) > sum(front[1]) else front
        middle = np.mean(brighter[0][:, 0])
        other = front if brighter is side else side
        assert np.sign(middle - np.mean(other[0][:, 0])) == lit


def test_shapes_are_where_their_numbers_say() -> None:
    assert [[1, 2], [3, 2], [3, 4], [1, 4]] == box(1, 2, 3, 4).tolist()
    ellipse = disc(1, 2, 3, 4)
    np.testing.assert_allclose([ellipse.min(0), ellipse.max(0)], [[-2, -2], [4, 6]])
    limb = bar(0, 0, 0, 2, 0.4, 0.2)  # upwards: 0.4 wide at its foot, 0.2 at its tip
    np.testing.assert_allclose(np.ptp(limb[:2, 0]), 0.4)
    np.testing.assert_allclose(np.ptp(limb[2:, 0]), 0.2)


def test_shades_stay_colors() -> None:
    assert (255.0, 0.0, 0.0) == hsv(1.0, 1.0, 1.0) == hsv(0.0, 1.0, 1.0)
    assert (255.0, 100.0, 0.0) == shade((200.0, 50.0, 0.0), 2.0)
