"""Bounds of a share from counts."""

from __future__ import annotations

import math

ONE_SIDED_95 = 1.645  # standard deviations


def wilson(part: int, total: int) -> tuple[float, float]:
    """Return the lower and the upper 95 % bound of a share (Wilson 1927).

    Without any case nothing is known: 0 and 1.
    """
    if not total:
        return 0.0, 1.0
    z2 = ONE_SIDED_95**2
    share = part / total
    middle = share + z2 / (2 * total)
    variance = share * (1 - share) / total
    reach = ONE_SIDED_95 * math.sqrt(variance + z2 / (4 * total**2))
    scale = 1 + z2 / total
    low = max(0.0, (middle - reach) / scale)
    high = min(1.0, (middle + reach) / scale)
    return low, high
