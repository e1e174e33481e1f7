"""Ranges of the numbers of a Config: their ends, what is no number, and what is said."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest

from synthaug.ranges import above, at_least, from_0_to_1, from_0_to_below_1, of_a_batch


@dataclass(frozen=True)
class Config:
    """Two numbers."""

    width: float = 5
    height: float = 5


def at_least_2(config: Config, *names: str) -> None:
    at_least(2, config, *names)


def above_2(config: Config, *names: str) -> None:
    above(2, config, *names)


@pytest.mark.parametrize(
    ("check", "inside", "outside"),
    [
        (at_least_2, (2, 2.5, 10**9), (1, 1.999, -3)),
        (above_2, (2.001, 10**9), (2, 1, -3)),
        (of_a_batch, (1, 65536), (0, -3, 65537, 10**9)),
        (from_0_to_1, (0, 0.5, 1), (-0.001, 1.001, -3)),
        (from_0_to_below_1, (0, 0.999), (1, -0.001, 7)),
    ],
)
def test_a_range_has_its_ends_and_no_more(
    check: Callable[..., Any], inside: tuple[float, ...], outside: tuple[float, ...]
) -> None:
    for value in inside:
        check(Config(width=value), "width")
    for value in (*outside, math.nan, math.inf, -math.inf):
        with pytest.raises(ValueError, match=rf"^width: {value} is "):
            check(Config(width=value), "width")


def test_the_first_key_out_of_range_is_told_with_what_to_give() -> None:
    with pytest.raises(ValueError, match=r"^height: 1 is out of range; give 2 or more$"):
        at_least(2, Config(height=1), "width", "height")
    with pytest.raises(ValueError, match=r"^width: 0 is out of range; give more than 0$"):
        above(0, Config(width=0, height=0), "width", "height")


def test_keys_that_are_not_named_are_not_checked() -> None:
    at_least(2, Config(width=2, height=-1), "width")
