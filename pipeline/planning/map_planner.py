"""Planning panoptic maps for the long tail: whole maps with things taken out and things of other maps put in.

Every planned map copies a real one. Where a class is to be rarer, each of its things is given up with a fixed probability
and the nearest stuff closes the hole; where a class is to be more frequent, a thing of it from another real map is put in
with its own outline and height in the image, moved sideways and perhaps mirrored, where what surrounds it is most like what
surrounded it. Of two things the one whose foot is lower in the image is in front. The probabilities are those of
`layouts.exchange`, so any target histogram is met in expectation as long as places are found. Things that stay may be
rearranged: taken out, stuff completed behind them, and put in again in the same way, elsewhere in their own map.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from synthaug.pipeline.core.boxes import Size
from synthaug.pipeline.core.masks import panoptic_png
from synthaug.pipeline.core.panoptic_maps import objects_of, replace_ids, segments_of
from synthaug.pipeline.core.scene import Category, Dataset, ImageRef, Objects, Provenance, Scene
from synthaug.pipeline.core.seeding import permuted, rng_for, seed_for
from synthaug.pipeline.planning.exchange import Exchange, exchange, target_counts
from synthaug.pipeline.planning.map_canvas import Canvas, Cutout, RealMap, cutout, real_map

TRIES = 12  # things tried for one addition; the best place of all is taken
_CACHED_MAPS = 64
WHOLE = 0.99  # share of a thing's surroundings in front of which nothing stands, from which on it may be moved
NO_PLACE = ": no place)"  # ends what a reason says of an addition that could not be made


@dataclass(frozen=True)
class Config:
    """What is planned."""

    count: int  # maps
    target: str = "natural"  # natural | sqrt | balanced | counts, as in layouts.target_counts
    counts: tuple[tuple[str, int], ...] = ()  # of target "counts": (class name, things)
    seed: int = 0
    rearrange: float = (
        0.0  # probability that a thing which nothing hides moves sideways, and is perhaps mirrored
    )
    flip: float = 0.5  # probability that a whole map is mirrored
    size: Size | None = None  # (H, W) of the planned maps; None = of the source
    min_area: int = 16  # pixels; smaller things are neither planned nor added
    most: int = 64  # things per map after which nothing is added
    name: str = "map"  # first part of every image_id

    def __post_init__(self) -> None:
        if self.target not in ("natural", "sqrt", "balanced", "counts"):
            raise ValueError(f"target is '{self.target}'; use natural, sqrt, balanced or counts")
        if self.count < 1 or self.min_area < 1:
            raise ValueError(f"count={self.count}, min_area={self.min_area}; use 1 or more")
        for name in ("flip", "rearrange"):
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f"{name} is {getattr(self, name)}; use a probability, 0 to 1")


class MapPlanner:
    """Holds where the things of a table are; draws planned scene `index` from (seed, index) alone.

    Opening it reads every scene's objects once and no map.
    """

    def __init__(self, table: Dataset, config: Config) -> None:
        """Take a table with maps, pixels are not needed; JobError for a class of `counts` that the table has not."""
        self.config, self.categories, self._table = config, table.categories, table
        places: list[list[tuple[int, int]]] = [
            [] for _ in table.categories
        ]  # (scene, id in its real map)
        for number in range(len(table)):
            scene = table[number]
            for category, position in _countable(scene, config):
                places[category].append((number, position + 1))
        self._places = [np.array(found, np.int64).reshape(-1, 2) for found in places]
        present = np.array([len(found) for found in places], np.float64)  # [C]
        self.natural = present * (config.count / max(1, len(table)))
        self.target = target_counts(
            self.natural, self.categories, config.target, dict(config.counts)
        )
        self.exchange: Exchange = exchange(self.natural, self.target, config.count)
        self._map = lru_cache(_CACHED_MAPS)(self._real_map)

    def _real_map(self, number: int) -> tuple[str, RealMap]:
        scene = self._table[number]
        return scene.image_id, real_map(
            scene, len(self.categories), self.config.size, self.config.min_area
        )

    def scene(self, index: int) -> Scene:
        """Return planned scene `index`: a panoptic map with ids 1 .. n and its objects, without pixels."""
        config, count = self.config, len(self._table)
        round_, place = divmod(index, count)
        name, base = self._map(permuted(place, count, seed_for(config.seed, "map plan", round_)))
        rng = rng_for(config.seed, "map", index)
        gone = base.things & (
            rng.random(len(base.things)) < np.append(self.exchange.give_up, 0)[base.category]
        )
        canvas = Canvas(base, gone, len(self.categories))
        added = int((rng.random(int(gone.sum())) < self.exchange.refill).sum()) + int(
            rng.poisson(self.exchange.extra)
        )
        changes = [f"-{self.categories[c].name}" for c in base.category[gone]]
        canvas, moved = self._rearranged(
            canvas, base, base.things & ~gone, rng_for(config.seed, "map moves", index)
        )
        changes += moved
        for category in (
            rng.choice(len(self.categories), added, p=self.exchange.wanted).tolist()
            if added
            else []
        ):
            if canvas.num_things < config.most:
                changes.append(self._add(canvas, category, rng))
        ids = canvas.ids[:, ::-1] if rng.random() < config.flip else canvas.ids
        reason = f"{config.target}: {' '.join(changes) or 'as in the source'}"
        made = Provenance(seed_for(config.seed, "image", index), "", "", name, reason)
        return self._finished(ids, canvas, index, made)

    def _rearranged(
        self, canvas: Canvas, base: RealMap, there: NDArray[np.bool_], rng: np.random.Generator
    ) -> tuple[Canvas, list[str]]:
        """Move some of the things `there` [n + 1], those behind first, each to the best of some places; say which."""
        size = (canvas.ids.shape[0], canvas.ids.shape[1])
        chosen = np.flatnonzero(there & (rng.random(len(there)) < self.config.rearrange))
        moved = []
        for thing in chosen[np.argsort(base.foot[chosen], kind="stable")].tolist():
            item = cutout(base, thing, size, len(self.categories))
            if (
                item is None or item.whole < WHOLE
            ):  # what hides a part of it would leave its outline behind
                continue
            free = canvas.without(thing)
            best: tuple[float, Cutout, NDArray[np.bool_]] | None = None
            for mirrored, shift in zip(
                rng.random(TRIES) < 0.5, rng.random(TRIES).tolist(), strict=True
            ):
                tried = item.moved(bool(mirrored), shift, size[1])
                found = free.try_place(tried, self.config.min_area)
                if found is not None and (best is None or found[0] > best[0]):
                    best = (found[0], tried, found[1])
            if best is not None:
                free.place(best[1], best[2], int(base.category[thing]))
                canvas = free
                moved.append(f"~{self.categories[base.category[thing]].name}")
        return canvas, moved

    def _add(self, canvas: Canvas, category: int, rng: np.random.Generator) -> str:
        """Put a thing of a class where it fits best among some tries; say which, or that no place was found."""
        H, W = canvas.ids.shape
        best: tuple[float, Cutout, NDArray[np.bool_], str] | None = None
        for row in rng.integers(len(self._places[category]), size=TRIES):
            number, thing = self._places[category][row].tolist()
            mirrored, shift = rng.random() < 0.5, rng.random()
            name, source = self._map(number)
            item = cutout(source, thing, (H, W), len(self.categories))
            if item is None:
                continue
            item = item.moved(mirrored, shift, W)
            found = canvas.try_place(item, self.config.min_area)
            if found is not None and (best is None or found[0] > best[0]):
                best = (found[0], item, found[1], name)
        if best is None:
            return f"({self.categories[category].name}{NO_PLACE}"
        canvas.place(best[1], best[2], category)
        return f"+{self.categories[category].name}@{best[3]}"

    def _finished(
        self, ids: NDArray[np.int64], canvas: Canvas, index: int, made: Provenance
    ) -> Scene:
        kept = np.unique(ids)
        kept = kept[kept > 0]
        ids = replace_ids(ids, kept, np.arange(1, len(kept) + 1), 0)
        things = np.array(canvas.things)[kept]
        objects: Objects = objects_of(
            segments_of(ids),
            index,
            np.array(canvas.category)[kept],
            isthing=things | np.array(canvas.crowd)[kept],
            iscrowd=np.array(canvas.crowd)[kept],
            source=("synthetic",) * len(kept),
        )
        name = f"{self.config.name}-{index:08d}"
        height, width = ids.shape
        png = ImageRef(panoptic_png(ids), f"{name}.png")
        return Scene(name, height, width, ImageRef(None, None), objects, png, made)


def _countable(scene: Scene, config: Config) -> list[tuple[int, int]]:
    """Return (category, position) of the things of a scene that are large enough at planning size."""
    objects = scene.objects
    scale = (
        1.0
        if config.size is None
        else config.size[0] * config.size[1] / (scene.height * scene.width)
    )
    keep = objects.isthing & ~objects.iscrowd & (objects.area * scale >= config.min_area)
    return [(int(objects.category[i]), int(i)) for i in np.flatnonzero(keep)]


def histogram(scene: Scene, categories: tuple[Category, ...]) -> NDArray[np.int64]:
    """Return the things per class [C] of a scene, crowds left out."""
    objects = scene.objects
    return np.bincount(
        objects.category[objects.isthing & ~objects.iscrowd], minlength=len(categories)
    )
