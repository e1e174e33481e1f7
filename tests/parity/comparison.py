"""Rows of a parity report: one per recorded array, with the largest error and what was allowed."""

from __future__ import annotations

import math
import zipfile
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]


class BrokenFileError(ValueError):
    """A file that cannot be read ends the whole report."""


@dataclass(frozen=True)
class Row:
    """One line of the report; without an error nothing was compared, and `detail` says why."""

    fixture: str
    array: str
    error: float | None = None
    allowed: float = 0.0
    detail: str = ""
    # something is wrong that is no number: a missing file, a network that cannot be built
    fault: bool = False

    @property
    def failed(self) -> bool:
        """Whether the whole report fails by this row."""
        return self.fault or (self.error is not None and not self.error <= self.allowed)

    def __str__(self) -> str:
        """Return the line as it is printed."""
        if self.error is None:
            return (
                f"{self.fixture:<20} {self.array:<32} {'FAIL' if self.fault else '--'}: "
                f"{self.detail}"
            )
        verdict = "FAIL" if self.failed else "OK"
        detail = f"  ({self.detail})" if self.detail else ""
        return (
            f"{self.fixture:<20} {self.array:<32} {self.error:.2e} of {self.allowed:.0e}  "
            f"{verdict}{detail}"
        )


def compare(
    fixture: str, array: str, expected: Array, actual: Any, allowed: float, detail: str = ""
) -> Row:
    """Largest absolute error; divided by the largest recorded magnitude where that exceeds 1."""
    return compare_each(
        fixture, array, [("", np.asarray(expected), np.asarray(actual))], allowed, detail
    )


def compare_each(
    fixture: str,
    array: str,
    parts: Sequence[tuple[str, Array, Array]],
    allowed: float,
    detail: str = "",
) -> Row:
    """The same for (name, expected, actual) parts with a magnitude each.

    The row is the worst part's.
    """
    worst, said, name = -1.0, "", ""
    for part, expected, actual in parts:
        error, how = difference(expected, actual)
        if error > worst:
            worst, said, name = error, how, part
    many = f"{len(parts)} parts, worst {name}" if len(parts) > 1 else name
    return Row(
        fixture, array, worst, allowed, ", ".join(text for text in (detail, many, said) if text)
    )


def difference(expected: Array, actual: Array) -> tuple[float, str]:
    """(error, how it was taken); infinite for other shapes, and where only one side is a number."""
    if expected.shape != actual.shape:
        return math.inf, f"shape {list(actual.shape)}, recorded {list(expected.shape)}"
    wanted, given = expected.astype(np.float64), actual.astype(np.float64)
    unlike = np.isfinite(wanted) != np.isfinite(given)
    with np.errstate(invalid="ignore"):
        distance = np.where(wanted == given, 0.0, np.abs(wanted - given))
    if unlike.any() or not np.isfinite(wanted).all():
        return math.inf, "values that are no numbers"
    largest = float(np.abs(wanted).max(initial=0.0))
    error = float(distance.max(initial=0.0))
    return (error / largest, f"relative to {largest:.3g}") if largest > 1 else (error, "absolute")


def read_arrays(path: Path) -> dict[str, Array]:
    """Every array of an .npz file; BrokenFileError, one line, when it is broken."""
    try:
        with np.load(path, allow_pickle=False) as file:
            return {name: file[name] for name in file.files}
    except (
        OSError,
        ValueError,
        EOFError,
        KeyError,
        AttributeError,
        zipfile.BadZipFile,
        zlib.error,
    ) as err:
        raise BrokenFileError(
            f"{path}: no readable fixture ({' '.join(str(err).split())[:120]})"
        ) from err
