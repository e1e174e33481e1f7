"""The metric card: a number never travels without how it was made."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Any

import numpy as np


@dataclass(frozen=True)
class Metric:
    """One score: the headline, every other number, and the protocol that gave them.

    Numbers that do not exist (a class without truth, a mean over nothing) are None, never NaN: whatever is not finite
    becomes None, and numpy values become plain Python ones, when the metric is made.
    """

    name: str
    value: float | None  # the headline
    values: Mapping[str, float | None] = field(
        default_factory=dict
    )  # all named numbers, the headline among them
    per_class: Mapping[str, Mapping[str, float | None]] = field(
        default_factory=dict
    )  # class name -> named numbers
    card: Mapping[str, Any] = field(
        default_factory=dict
    )  # what was measured on what; counts, files, sha256, seeds
    controls: Mapping[str, Mapping[str, float | None]] = field(
        default_factory=dict
    )  # the same numbers, elsewhere

    def __post_init__(self) -> None:
        for f in fields(self):
            object.__setattr__(self, f.name, _plain(getattr(self, f.name)))

    def to_json(self) -> dict[str, Any]:
        """Return a dict of JSON values only; `json.dumps(..., allow_nan=False)` accepts it."""
        return {f.name: _plain(getattr(self, f.name)) for f in fields(self)}


def _plain(value: Any) -> Any:
    """Return `value` as JSON knows it: no numpy, no tuples, no numbers that are not finite."""
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, np.ndarray):
        return _plain(value.tolist())
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    if isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, float) and not math.isfinite(value):
        return None
    assert value is None or isinstance(value, (str, int, float)), (
        f"a card holds no {type(value).__name__}"
    )
    return value
