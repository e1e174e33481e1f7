"""Checks of the numbers of a Config, the same in all rooms.

Each raises ValueError for the first key, of those named, whose value is out of range; the message
begins with the key and says what to give. A value that is not finite is never in range.
"""

from __future__ import annotations

import math
from typing import Any


def at_least(low: float, config: Any, *names: str) -> None:
    """Raise ValueError for a number below `low`."""
    for name in names:
        value = getattr(config, name)
        if not low <= value < math.inf:
            raise ValueError(f"{name}: {value} is out of range; give {low} or more")


MOST_IMAGES = 1 << 16  # of a batch: more are a slip of the keys, and no memory holds them


def of_a_batch(config: Any, *names: str) -> None:
    """Raise ValueError for a number of images that is not from 1 to MOST_IMAGES."""
    for name in names:
        value = getattr(config, name)
        if not 1 <= value <= MOST_IMAGES:
            raise ValueError(f"{name}: {value} is out of range; give 1 to {MOST_IMAGES}")


def above(low: float, config: Any, *names: str) -> None:
    """Raise ValueError for a number that is not above `low`."""
    for name in names:
        value = getattr(config, name)
        if not low < value < math.inf:
            raise ValueError(f"{name}: {value} is out of range; give more than {low}")


def from_0_to_1(config: Any, *names: str) -> None:
    """Raise ValueError for a number that is not from 0 to 1."""
    for name in names:
        value = getattr(config, name)
        if not 0 <= value <= 1:
            raise ValueError(f"{name}: {value} is not between 0 and 1")


def from_0_to_below_1(config: Any, *names: str) -> None:
    """Raise ValueError for a number that is not from 0 to below 1."""
    for name in names:
        value = getattr(config, name)
        if not 0 <= value < 1:
            raise ValueError(f"{name}: {value} is out of range; give 0 or more and less than 1")
