"""Planning panoptic maps for the long tail.

Real maps with things taken out and things of other maps put in.

Every planned map copies a real one. Where a class is to be rarer, each of its things is given up
with a fixed probability and the nearest stuff closes the hole; where a class is to be more
frequent, a thing of it from another real map is put in with its own outline and height in the
image, moved sideways and perhaps mirrored, where its surroundings are most like those it came from.
Of two things the one whose foot is lower in the image is in front. The probabilities are those of
`targets.exchange`, so any target histogram is met in expectation as long as positions are found.
Things that stay may be rearranged: taken out, stuff completed behind them, and put in again in the
same way, elsewhere in their own map.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from synthaug.pipeline.core.arrays import Flags, Floats, Ints
from synthaug.pipeline.core.boxes import Size
from synthaug.pipeline.core.masks import panoptic_png
from synthaug.pipeline.core.panoptic_maps import objects_of, replace_ids, segments_of
from synthaug.pipeline.core.scene import (
    Dataset,
    ImageRef,
    Provenance,
    Scene,
    class_counts,
    thing_flags,
)
from synthaug.pipeline.core.seeding import permuted, rng_for, seed_for
from synthaug.pipeline.planning.map_canvas import Canvas, Cutout, Fit, RealMap, cutout, real_map
from synthaug.pipeline.planning.planner import NO_PLACE
from synthaug.pipeline.planning.targets import (
    exchange,
    images_needed,
    missing_objects,
    target_counts,
)

TRIES = 12  # things, or positions, tried for one addition; the best of all is taken
UNOCCLUDED = 0.99  # least share of a thing's ring with nothing in front for it to be moved
_CACHED_MAPS = 64


@dataclass(frozen=True)
class Config:
    """Options of a plan of maps."""

    count: int  # maps
    target: str = (
        "natural"  # natural | sqrt | balanced | counts | weak, as in targets.target_counts
    )
    counts: tuple[tuple[str, int], ...] = ()  # of target "counts": (class name, things)
    weakness: tuple[tuple[str, float], ...] = ()  # of target "weak": (class name, what it lacks)
    seed: int = 0
    # probability that a thing which nothing hides moves sideways, and is perhaps mirrored
    rearrange: float = 0.0
    flip: float = 0.5  # probability that a whole map is mirrored
    size: Size | None = None  # (H, W) of the planned maps; None = of the source
    min_area: int = 16  # pixels; smaller things are neither planned nor added
    most: int = 64  # things per map after which nothing is added
    name: str = "map"  # first part of every image_id
    objects_per_class: int = 200  # for the count of images that are needed
    generator: str = ""  # named in the provenance

    def __post_init__(self) -> None:
        if self.target not in ("natural", "sqrt", "balanced", "counts", "weak"):
            raise ValueError(
                f"target is '{self.target}'; use natural, sqrt, balanced, counts or weak"
            )
        if self.count < 1 or self.min_area < 1:
            raise ValueError(f"count={self.count}, min_area={self.min_area}; use 1 or more")
        for name, value in (("flip", self.flip), ("rearrange", self.rearrange)):
            if not 0 <= value <= 1:
                raise ValueError(f"{name} is {value}; use a probability, 0 to 1")


class MapPlanner:
    """Draws planned maps, each from (seed, index) alone.

    Holds where the things of a table are.

    Opening it reads every scene's objects once and no map.
    """

    def __init__(self, table: Dataset, labelled: Ints, config: Config) -> None:
        """Take a table with maps and the labelled objects [C].

        Pixels are not needed; objects of images without a map count too.

        JobError for a class of `counts` that the table has not.
        """
        self.config = config
        self.categories = table.categories
        self.count = config.count
        self.num_sources = len(table)
        self.limit = ""
        self.refused = 0  # their own surroundings decide
        self.short = 0  # things that find no place are known when they are planned
        self.weights: Floats | None = None
        self._table = table
        locations: list[list[tuple[int, int]]] = [[] for _ in table.categories]
        for number, scene in enumerate(table):
            for position in countable_things(scene, config):
                category = scene.objects.category[position]
                locations[category].append((number, position + 1))
        # per class [n, 2]: number of the scene, id of the thing in its real map
        self._locations = []
        for rows in locations:
            self._locations.append(np.array(rows, np.int64).reshape(-1, 2))

        per_table = config.count / max(1, len(table))
        numbers = [len(rows) for rows in locations]
        present = np.array(numbers, np.float64)  # [C] things
        things = present * per_table
        counts = dict(config.counts)
        weakness = dict(config.weakness)
        target = target_counts(things, self.categories, config.target, counts, weakness=weakness)
        self.exchange = exchange(things, target, config.count)
        isthing = thing_flags(self.categories)
        # stuff is copied as it is
        stuff = class_counts(table, len(self.categories)) * per_table
        self.natural: Floats = np.where(isthing, things, stuff)
        self.target: Floats = np.where(isthing, target, stuff)
        missing = missing_objects(labelled, isthing, config.objects_per_class)
        self.need = images_needed(missing, present, len(table))
        self._map = lru_cache(_CACHED_MAPS)(self._real_map)

    def _real_map(self, number: int) -> tuple[str, RealMap]:
        """Return the id and the map of a scene of the table."""
        scene = self._table[number]
        config = self.config
        num_classes = len(self.categories)
        real = real_map(scene, num_classes, config.size, config.min_area)
        return scene.image_id, real

    def scene(self, index: int) -> Scene:
        """Return planned scene `index`, without pixels.

        A panoptic map with ids 1 .. n, and its objects.
        """
        config = self.config
        epoch, position = divmod(index, len(self._table))
        shuffle = seed_for(config.seed, "map plan", epoch)
        number = permuted(position, len(self._table), shuffle)
        source, base = self._map(number)

        rng = rng_for(config.seed, "map", index)
        # [C + 1]; unlabelled pixels are never given up
        give_up = np.append(self.exchange.give_up, 0)
        points = rng.random(len(base.things))
        removed = base.things & (points < give_up[base.category])
        num_removed = int(removed.sum())
        refilled = rng.random(num_removed) < self.exchange.refill
        num_added = int(refilled.sum()) + int(rng.poisson(self.exchange.extra))

        canvas = Canvas(base, removed, len(self.categories))
        changes = [f"-{self.categories[c].name}" for c in base.category[removed]]
        moves_rng = rng_for(config.seed, "map moves", index)
        stays = base.things & ~removed
        canvas, moves = self._rearrange(canvas, base, stays, moves_rng)
        changes += moves
        added: list[int] = []
        if num_added:
            shares = self.exchange.shares
            added = rng.choice(len(shares), num_added, p=shares).tolist()
        for category in added:
            if canvas.num_things < config.most:
                changes.append(self._add(canvas, category, rng))

        ids = canvas.ids
        if rng.random() < config.flip:
            ids = ids[:, ::-1]
        summary = " ".join(changes) or "as in the source"
        reason = f"{config.target}: {summary}"
        image_seed = seed_for(config.seed, "image", index)
        provenance = Provenance(image_seed, config.generator, "", source, reason)
        return self._scene_of(ids, canvas, index, provenance)

    def _rearrange(
        self, canvas: Canvas, base: RealMap, things: Flags, rng: np.random.Generator
    ) -> tuple[Canvas, list[str]]:
        """Move some of the things [n + 1], those behind first; list the moves.

        Each goes to the best of some positions.
        """
        size = (canvas.ids.shape[0], canvas.ids.shape[1])
        points = rng.random(len(things))
        moving = things & (points < self.config.rearrange)
        chosen = np.flatnonzero(moving)
        order = np.argsort(base.foot[chosen], kind="stable")
        back_to_front = chosen[order]
        moves = []
        for thing in back_to_front.tolist():
            item = cutout(base, thing, size, len(self.categories))
            # a thing in front of it would leave its outline behind
            if item is None or item.unoccluded < UNOCCLUDED:
                continue
            mirrored = rng.random(TRIES) < 0.5
            shifts = rng.random(TRIES)
            free = canvas.without(thing)
            best: tuple[Fit, Cutout] | None = None
            positions = zip(mirrored.tolist(), shifts.tolist(), strict=True)
            for mirror, shift in positions:
                candidate = item.moved(mirror, shift, size[1])
                fit = free.try_place(candidate, self.config.min_area)
                if fit is not None and (best is None or fit.score > best[0].score):
                    best = (fit, candidate)
            if best is not None:
                fit, candidate = best
                category = int(base.category[thing])
                free.place(candidate, fit.visible, category)
                canvas = free
                moves.append(f"~{self.categories[category].name}")
        return canvas, moves

    def _add(self, canvas: Canvas, category: int, rng: np.random.Generator) -> str:
        """Put a thing of a class where it fits best among some tries.

        Describe the addition, or its failure.
        """
        name = self.categories[category].name
        best: tuple[Fit, Cutout, str] | None = None
        for fit, candidate, source in self._candidates(canvas, category, rng):
            if best is None or fit.score > best[0].score:
                best = (fit, candidate, source)
        if best is None:
            return f"({name}{NO_PLACE}"
        fit, candidate, source = best
        canvas.place(candidate, fit.visible, category)
        return f"+{name}@{source}"

    def _candidates(
        self, canvas: Canvas, category: int, rng: np.random.Generator
    ) -> Iterator[tuple[Fit, Cutout, str]]:
        """Draw real things of a class and yield those that fit.

        With the ids of their images.
        """
        H, W = canvas.ids.shape
        locations = self._locations[category]
        for row in rng.integers(len(locations), size=TRIES):
            number, thing = locations[row].tolist()
            mirror = rng.random() < 0.5
            shift = rng.random()
            source, real = self._map(number)
            item = cutout(real, thing, (H, W), len(self.categories))
            if item is None:
                continue
            candidate = item.moved(mirror, shift, W)
            fit = canvas.try_place(candidate, self.config.min_area)
            if fit is not None:
                yield fit, candidate, source

    def _scene_of(self, ids: Ints, canvas: Canvas, index: int, provenance: Provenance) -> Scene:
        """Return the scene of a composed map [H, W]; its objects get the ids 1 .. n."""
        visible = np.unique(ids[ids > 0])
        numbers = np.arange(1, len(visible) + 1)
        ids = replace_ids(ids, visible, numbers, 0)
        crowd = np.array(canvas.crowd)[visible]
        objects = objects_of(
            segments_of(ids),
            index,
            np.array(canvas.category)[visible],
            isthing=np.array(canvas.things)[visible] | crowd,
            iscrowd=crowd,
            source=("synthetic",) * len(visible),
        )
        image_id = f"{self.config.name}-{index:08d}"
        height, width = ids.shape
        png = ImageRef(panoptic_png(ids), f"{image_id}.png")
        return Scene(image_id, height, width, ImageRef(None, None), objects, png, provenance)


def countable_things(scene: Scene, config: Config) -> list[int]:
    """Return the positions of a scene's things that are large enough.

    At planning size.
    """
    objects = scene.objects
    scale = 1.0
    if config.size is not None:
        height, width = config.size
        scale = height * width / (scene.height * scene.width)
    countable = objects.isthing & ~objects.iscrowd & (objects.area * scale >= config.min_area)
    positions: list[int] = np.flatnonzero(countable).tolist()
    return positions
