"""Views: tables whose scenes are those of others, chosen, changed or joined."""

from __future__ import annotations

import bisect
import hashlib
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import replace
from itertools import accumulate

import numpy as np

from synthaug.pipeline.core.scene import Category, Dataset, Scene
from synthaug.pipeline.core.seeding import permuted, seed_for
from synthaug.pipeline.core.skipped import Skipped


class View(Dataset):
    """A table that shows another one, scene for scene.

    `rule` stands in the fingerprint: it tells this view of the table from any other one.
    """

    def __init__(self, table: Dataset, rule: str = "") -> None:
        self.table = table
        self.rule = rule
        self.categories = table.categories
        self.skipped = table.skipped
        self.has_labels = table.has_labels
        self.has_relations = table.has_relations

    def __len__(self) -> int:
        return len(self.table)

    def __getitem__(self, index: int) -> Scene:
        return self.table[index]

    def skips_bad(self, index: int) -> bool | None:
        """Return what the table says of the scene."""
        return self.table.skips_bad(index)

    def fingerprint(self) -> str:
        """Return the digest of the table with the rule."""
        digest = self.table.fingerprint()
        return f"{digest}:{self.rule}" if self.rule else digest


class Subset(View):
    """Some scenes of a table, in the order of `index`."""

    def __init__(self, table: Dataset, index: Sequence[int], rule: str | None = None) -> None:
        if rule is None:
            rule = str(seed_for(*index))
        super().__init__(table, rule)
        self.index = index

    def __len__(self) -> int:
        return len(self.index)

    def __getitem__(self, index: int) -> Scene:
        return self.table[self.index[index]]

    def skips_bad(self, index: int) -> bool | None:
        """Return what the table says of the scene."""
        return self.table.skips_bad(self.index[index])


def random_part(table: Dataset, number: int, parts: int) -> Subset:
    """Return part `number` (from 1) of disjoint random parts of about equal size.

    The same every time: the permutation depends on the number of images and of parts alone.
    """
    assert 1 <= number <= parts
    places = range(number - 1, len(table), parts)
    size = len(table)
    index = [permuted(place, size, parts) for place in places]
    return Subset(table, sorted(index), f"{number}/{parts}")


class Mapped(View):
    """A table with each scene as a function of it.

    `rule` names the function where it has settings.
    """

    def __init__(self, table: Dataset, function: Callable[[Scene], Scene], rule: str = "") -> None:
        super().__init__(table, rule)
        self._function = function

    def __getitem__(self, index: int) -> Scene:
        return self._function(self.table[index])


class RelabeledCategories(View):
    """A table with the classes of another one.

    `index[c]` is what its class c is among them.
    """

    def __init__(
        self, table: Dataset, categories: tuple[Category, ...], index: tuple[int, ...]
    ) -> None:
        super().__init__(table, str(index))
        self.categories = categories
        self.index = index

    def __getitem__(self, index: int) -> Scene:
        scene = self.table[index]
        new_class = np.array(self.index, np.int32)
        category = new_class[scene.objects.category]
        return scene.with_objects(replace(scene.objects, category=category))


class ShuffledLabels(View):
    """The images of a table, each with the labels of another, scaled to fit.

    The placebo of a trial: pixels are added, what they are said to show is not there.
    """

    def __init__(self, table: Dataset, seed: int) -> None:
        super().__init__(table, f"permuted:{seed}")
        self.skipped = Counter()
        size = len(table)
        key = seed_for(seed, "giver")
        order = [permuted(place, size, key) for place in range(size)]
        # each image gives to the one before it in the order, so that none keeps its own labels
        successors = [*order[1:], *order[:1]]
        self._source = dict(zip(order, successors, strict=True))

    def __getitem__(self, index: int) -> Scene:
        scene = self.table[index]
        source = self.table[self._source[index]]
        objects = source.objects.scaled(source.size, scene.size)
        return scene.with_objects(objects)


class Concatenation(Dataset):
    """Tables of the same classes one after the other.

    Image ids begin with the number of their table, because tables may share ids.
    """

    def __init__(self, tables: Sequence[Dataset]) -> None:
        self.tables = tables
        self.categories = tables[0].categories if tables else ()
        skipped = Skipped()
        for table in tables:
            skipped.take(table.skipped)
        self.skipped = skipped
        self.has_labels = any(table.has_labels for table in tables)
        self.has_relations = any(table.has_relations for table in tables)
        self._ends = list(accumulate(len(table) for table in tables))

    def __len__(self) -> int:
        return self._ends[-1] if self._ends else 0

    def __getitem__(self, index: int) -> Scene:
        number, scene = self.locate(index)
        return replace(scene, image_id=f"{number + 1}:{scene.image_id}")

    def skips_bad(self, index: int) -> bool | None:
        """Return what the table of the scene says of it."""
        number, place = self._place(index)
        return self.tables[number].skips_bad(place)

    def locate(self, index: int) -> tuple[int, Scene]:
        """Return the number of the table (from 0) that scene `index` is in, and the scene."""
        number, place = self._place(index)
        return number, self.tables[number][place]

    def _place(self, index: int) -> tuple[int, int]:
        """Return the number of a scene's table and its index there."""
        if not 0 <= index < len(self):
            raise IndexError(index)
        number = bisect.bisect_right(self._ends, index)
        start = self._ends[number] - len(self.tables[number])
        return number, index - start

    def fingerprint(self) -> str:
        """Return the digest of the tables' digests."""
        parts = [table.fingerprint() for table in self.tables]
        text = " ".join(parts)
        return hashlib.sha256(text.encode()).hexdigest()
