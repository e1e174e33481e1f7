"""Several data sets as one: classes united by name, objects with new ids.

Every image still knows where it came from.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import PurePosixPath

import numpy as np
from numpy.typing import NDArray

from synthaug.pipeline.core.arrays import Ints
from synthaug.pipeline.core.datasets import Concatenation, RelabeledCategories
from synthaug.pipeline.core.errors import DatasetError, suggest
from synthaug.pipeline.core.scene import Category, Dataset, Scene

_MAP_BITS = 24  # of an object id: as many as a panoptic map holds
_LAST = (1 << _MAP_BITS) - 1


@dataclass(frozen=True)
class UnifiedClasses:
    """The classes of several data sets, and where those of each set are."""

    categories: tuple[Category, ...]
    index: Mapping[str, NDArray[np.int32]]  # set -> [its classes] index in `categories`
    renumbered: Mapping[str, int]  # class name -> its new id, where its own was taken


def unify_classes(tables: Mapping[str, Dataset]) -> UnifiedClasses:
    """Unite the classes of named sets: one name is one class.

    Its id is that of the first set that has it. Raises DatasetError for two classes of one name in
    a set, for names that differ in case or spaces only, and for a name that is a thing in one set
    and stuff in another: which is meant cannot be guessed.
    """
    unified: dict[str, Category] = {}  # by name
    spelling: dict[str, str] = {}  # name without case and spaces -> name
    renumbered: dict[str, int] = {}
    for key, table in tables.items():
        _check_unique(key, table.categories)
        used_ids = {category.id for category in unified.values()}
        for category in table.categories:
            name = category.name
            plain_name = " ".join(name.split()).casefold()
            other_name = spelling.setdefault(plain_name, name)
            if other_name != name and name not in unified:
                raise DatasetError(
                    f"{key}: class {name!r} is spelt {other_name!r} elsewhere; "
                    "give both the same name, or other ones"
                )
            if name in unified:
                _check_same_kind(key, category, unified[name])
                continue
            new_id = category.id
            if new_id in used_ids:
                new_id = max(used_ids) + 1
                renumbered[name] = new_id
            used_ids.add(new_id)
            unified[name] = replace(category, id=new_id)
    position = {name: k for k, name in enumerate(unified)}
    index = {}
    for key, table in tables.items():
        index[key] = np.array([position[c.name] for c in table.categories], np.int32)
    return UnifiedClasses(tuple(unified.values()), index, renumbered)


def _check_unique(key: str, categories: tuple[Category, ...]) -> None:
    count = Counter(category.name for category in categories)
    for name, number in count.items():
        if number > 1:
            raise DatasetError(
                f"{key}: two classes are called {name!r}; classes are united by name, so rename one"
            )


def _check_same_kind(key: str, category: Category, other: Category) -> None:
    if category.isthing != other.isthing:
        raise DatasetError(
            f"{key}: class {category.name!r} is stuff here and a thing elsewhere, or the other way "
            "round; rename it"
        )


def with_classes(
    table: Dataset, wanted: tuple[Category, ...], told: str, other: str = "the real images"
) -> Dataset:
    """Return a table with the classes `wanted`, which it may have in another order.

    One name is one class, whatever its id; classes that the table lacks have no object there.
    Raises DatasetError, which begins with `told` and calls the set of the classes `other`, for a
    class that is not among them.
    """
    if table.categories == wanted:
        return table
    if not table.categories and not table.has_labels:
        return RelabeledCategories(table, wanted, ())
    places = {category.name: place for place, category in enumerate(wanted)}
    names = [category.name for category in table.categories]
    unknown = [name for name in names if name not in places]
    if unknown:
        raise DatasetError(
            f"{told} has the class '{unknown[0]}', which is not among those of {other}"
            f"{suggest(unknown[0], places)}; give both the same class names"
        )
    _check_unique(told, wanted)
    _check_unique(told, table.categories)
    for category in table.categories:
        _check_same_kind(told, category, wanted[places[category.name]])
    index = tuple(places[name] for name in names)
    return RelabeledCategories(table, wanted, index)


class MergedDataset(Concatenation):
    """Named data sets one after the other, with unified classes.

    Image ids become `<set>-<id>`; object ids number the images in the bits above those that a
    panoptic map holds.
    """

    def __init__(self, tables: Mapping[str, Dataset], classes: UnifiedClasses) -> None:
        assert all("-" not in key for key in tables), "then two ids could become one"
        super().__init__(list(tables.values()))
        self.categories = classes.categories
        self._keys = list(tables)
        self._classes = classes

    def __getitem__(self, index: int) -> Scene:
        number, scene = self.locate(index)
        key = self._keys[number]
        objects = scene.objects
        low_bits = np.arange(1, len(objects) + 1)
        if scene.panoptic is not None:  # the map knows its objects by these bits
            low_bits = _without_repeats(objects.id & _LAST)
        new_id = low_bits + ((index + 1) << _MAP_BITS)
        category = self._classes.index[key][objects.category]
        image = scene.image
        if image.file_name:
            image = replace(image, name=f"{key}-{PurePosixPath(image.file_name).name}")
        return replace(
            scene,
            image_id=f"{key}-{scene.image_id}",
            image=image,
            objects=replace(objects, id=new_id, category=category),
        )

    def fingerprint(self) -> str:
        """Return the digest of the sets, their names and the classes."""
        parts = []
        for key, table in zip(self._keys, self.tables, strict=True):
            parts.append(f"{key}={table.fingerprint()}")
        parts.append(repr(self.categories))
        return hashlib.sha256(" ".join(parts).encode("utf-8", "surrogatepass")).hexdigest()


def _without_repeats(low_bits: Ints) -> Ints:
    """Return ids of one image [N], repeated ones replaced by the highest free ones.

    A region that is in no map may end in an object's bits.
    """
    _, first = np.unique(low_bits, return_index=True)
    repeated = np.setdiff1d(np.arange(len(low_bits)), first)
    used = set(low_bits.tolist())
    candidate = _LAST
    unique = low_bits.copy()
    for position in repeated:
        while candidate in used:
            candidate -= 1
        unique[position] = candidate
        candidate -= 1
    return unique
