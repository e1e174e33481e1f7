"""Rows of a data set held as bytes.

A third of what they take as Python objects, or less.
"""

from __future__ import annotations

import pickle
from array import array
from collections.abc import Iterable, Iterator
from typing import Generic, TypeVar

Row = TypeVar("Row")


class Packed(Generic[Row]):
    """A list that can only grow; each row is made anew when it is asked for."""

    def __init__(self, rows: Iterable[Row] = ()) -> None:
        self._bytes = bytearray()
        self._ends = array("Q", [0])
        for row in rows:
            self.append(row)

    def append(self, row: Row) -> None:
        """Add a row."""
        self._bytes += pickle.dumps(row, pickle.HIGHEST_PROTOCOL)
        self._ends.append(len(self._bytes))

    def __len__(self) -> int:
        return len(self._ends) - 1

    def __getitem__(self, index: int) -> Row:
        if not 0 <= index < len(self):
            raise IndexError(index)
        data = self._bytes[self._ends[index] : self._ends[index + 1]]
        row: Row = pickle.loads(data)  # noqa: S301 # packed above, in this process
        return row

    def __iter__(self) -> Iterator[Row]:
        for index in range(len(self)):
            yield self[index]
