"""What any reference may ask for besides its format's options: a part of a data set, or several data sets as one."""

from __future__ import annotations

import bisect
import hashlib
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from itertools import accumulate

from synthaug.pipeline.core.errors import DatasetError
from synthaug.pipeline.core.scene import Dataset, Scene
from synthaug.pipeline.core.seeding import permuted


class Part(Dataset):
    """Part k of n of a data set: disjoint parts of equal size (but for one image), drawn by a fixed permutation."""

    def __init__(self, table: Dataset, text: str) -> None:
        """`text` is "k/n", k from 1; ValueError when it is not."""
        first, slash, last = text.partition("/")
        if not (slash and first.isdecimal() and last.isdecimal() and 1 <= int(first) <= int(last)):
            raise ValueError(f"option part is '{text}'; use k/n with k from 1 to n, such as 1/2")
        k, n = int(first), int(last)
        self.categories, self.skipped = table.categories, table.skipped
        self._table, self._name = table, f"{k}/{n}"
        self._index = sorted(permuted(i, len(table), n) for i in range(k - 1, len(table), n))

    def __len__(self) -> int:
        return len(self._index)

    def __getitem__(self, i: int) -> Scene:
        return self._table[self._index[i]]

    def fingerprint(self) -> str:
        """Digest of the whole set and the part."""
        return f"{self._table.fingerprint()}:{self._name}"


class Joined(Dataset):
    """Several data sets one after the other; image ids begin with the number of their set, because sets may share ids."""

    def __init__(self, tables: Sequence[Dataset], key: str) -> None:
        """DatasetError, naming `key`, when the sets do not have the same classes in the same order."""
        for number, table in enumerate(tables[1:], start=2):
            if table.categories != tables[0].categories:
                raise DatasetError(
                    f"{key}: data set {number} has other classes than the first; use the same categories in each"
                )
        self.categories = tables[0].categories
        self.skipped: Counter[str] = sum((table.skipped for table in tables), Counter())
        self._tables = tables
        self._ends = list(accumulate(len(table) for table in tables))

    def __len__(self) -> int:
        return self._ends[-1]

    def __getitem__(self, i: int) -> Scene:
        if not 0 <= i < len(self):
            raise IndexError(i)
        number = bisect.bisect_right(self._ends, i)
        scene = self._tables[number][i - (self._ends[number - 1] if number else 0)]
        return replace(scene, image_id=f"{number + 1}:{scene.image_id}")

    def fingerprint(self) -> str:
        """Digest of the digests."""
        return hashlib.sha256(
            " ".join(table.fingerprint() for table in self._tables).encode()
        ).hexdigest()
