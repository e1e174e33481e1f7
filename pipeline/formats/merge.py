"""Several data sets as one: classes united by name, new ids, and every image still knows where it came from."""

from __future__ import annotations

import bisect
import hashlib
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import accumulate

import numpy as np
from numpy.typing import NDArray

from synthaug.pipeline.core.errors import DatasetError
from synthaug.pipeline.core.scene import Category, Dataset, Scene

_MAP_BITS = 24  # of an object id: what a panoptic map holds
_LAST = (1 << _MAP_BITS) - 1


@dataclass(frozen=True)
class United:
    """The classes of several sets together, and what each set's class indices become."""

    categories: tuple[Category, ...]
    index: Mapping[str, NDArray[np.int32]]  # set -> [its classes] index in `categories`
    renumbered: Mapping[str, int]  # class name -> its new id, where its own was taken


def unite(tables: Mapping[str, Dataset]) -> United:
    """Unite the classes of named sets: the same name is the same class, with the id it has in the first set that has it.

    Raises DatasetError for two classes of one name in a set, for names that differ in case or spaces only, and for a name
    that is a thing in one set and stuff in another: which is meant cannot be guessed.
    """
    found: dict[str, Category] = {}
    owner: dict[str, str] = {}  # plain spelling -> "name" of set
    renumbered: dict[str, int] = {}
    for key, table in tables.items():
        names = [category.name for category in table.categories]
        twice = [name for name, count in Counter(names).items() if count > 1]
        if twice:
            raise DatasetError(
                f"{key}: two classes are called {twice[0]!r}; classes are united by name, so rename one"
            )
        taken = {category.id for category in found.values()}
        for category in table.categories:
            known = found.get(category.name)
            _check_spelling(key, category.name, owner, known is not None)
            if known is None:
                fresh = category.id if category.id not in taken else max(taken) + 1
                renumbered |= {category.name: fresh} if fresh != category.id else {}
                taken.add(fresh)
                found[category.name] = replace(category, id=fresh)
            elif known.isthing != category.isthing:
                raise DatasetError(f"{key}: class {category.name!r} is stuff here and a thing elsewhere, or the other way "
                                   "round; rename it")  # fmt: skip
    categories = tuple(found.values())
    place = {category.name: k for k, category in enumerate(categories)}
    index = {
        key: np.array([place[c.name] for c in table.categories], np.int32)
        for key, table in tables.items()
    }
    return United(categories, index, renumbered)


def _check_spelling(key: str, name: str, owner: dict[str, str], known: bool) -> None:
    plain = " ".join(name.split()).casefold()
    other = owner.setdefault(plain, name)
    if not known and other != name:
        raise DatasetError(
            f"{key}: class {name!r} is spelt {other!r} elsewhere; give both the same name, or other ones"
        )


class Merged(Dataset):
    """Named data sets one after the other, with the classes of `united`.

    Image ids become `<set>-<id>`; object ids number the images in the bits above those that a panoptic map holds.
    """

    def __init__(self, tables: Mapping[str, Dataset], united: United) -> None:
        assert all("-" not in key for key in tables), "then two ids could become one"
        self.categories = united.categories
        self.skipped: Counter[str] = sum((table.skipped for table in tables.values()), Counter())
        self._tables: Sequence[tuple[str, Dataset]] = tuple(tables.items())
        self._united = united
        self._ends = list(accumulate(len(table) for table in tables.values()))

    def __len__(self) -> int:
        return self._ends[-1] if self._ends else 0

    def __getitem__(self, index: int) -> Scene:
        if not 0 <= index < len(self):
            raise IndexError(index)
        number = bisect.bisect_right(self._ends, index)
        key, table = self._tables[number]
        scene = table[index - (self._ends[number - 1] if number else 0)]
        objects = scene.objects
        low = (
            np.arange(1, len(objects) + 1) if scene.panoptic is None else _apart(objects.id & _LAST)
        )
        category = self._united.index[key][objects.category]
        fresh = replace(objects, id=low + (index + 1 << _MAP_BITS), category=category)
        return replace(scene, image_id=f"{key}-{scene.image_id}", objects=fresh)

    def fingerprint(self) -> str:
        """Digest of the sets, their names and the classes."""
        parts = [f"{key}={table.fingerprint()}" for key, table in self._tables]
        return hashlib.sha256(
            " ".join([*parts, repr(self.categories)]).encode("utf-8", "surrogatepass")
        ).hexdigest()


def _apart(low: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return ids of one image [N] with repeated ones replaced: a region that is in no map may end in an object's bits."""
    _, first = np.unique(low, return_index=True)
    again = np.setdiff1d(np.arange(len(low)), first)
    free = (k for k in range(_LAST, 0, -1) if k not in set(low.tolist()))
    fresh = low.copy()
    fresh[again] = [next(free) for _ in again]
    return fresh
