"""Planners: planned scene `index` from (seed, index) alone.

This one plans layouts, `map_planner` panoptic maps.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from synthaug.pipeline.core.arrays import Floats, Ints
from synthaug.pipeline.core.boxes import Size, absolute_boxes
from synthaug.pipeline.core.errors import JobError
from synthaug.pipeline.core.scene import (
    Category,
    ImageRef,
    Objects,
    Provenance,
    Scene,
    ids_in_image,
    thing_flags,
)
from synthaug.pipeline.core.seeding import permuted, rng_for, seed_for
from synthaug.pipeline.planning import placement
from synthaug.pipeline.planning.exchange import (
    ExchangedLayout,
    Layout,
    Pool,
    Slots,
    draw_layout,
    vary,
)
from synthaug.pipeline.planning.layout_statistics import object_counts
from synthaug.pipeline.planning.targets import (
    Need,
    exchange,
    images_needed,
    missing_objects,
    target_counts,
)

REAL, ADDED = "human", "synthetic"  # `source` of objects that are pixels of the real image, and not
NO_PLACE = ": no place)"  # ends the part of a reason that tells of an object without a place


class Planner(Protocol):
    """Draws planned scenes, each from (seed, index) alone."""

    categories: tuple[Category, ...]
    count: int  # scenes
    num_sources: int  # real scenes that plans are made from
    limit: str  # why objects are short, in words
    natural: Floats  # [C] objects if real scenes were copied as they are
    target: Floats  # [C] objects aimed at
    need: Need
    short: int  # objects of the target for which there is no slot
    weights: Floats | None  # [C] found when the planner was opened; may be given to the next one

    @property
    def refused(self) -> int:
        """Places refused so far, since an object's class is never seen on their surface."""
        ...

    def scene(self, index: int) -> Scene:
        """Return planned scene `index`, without pixels, with its provenance."""
        ...


@dataclass(frozen=True)
class Source:
    """A real layout and the image it is of."""

    image_id: str
    size: Size  # (H, W)
    layout: Layout


@dataclass(frozen=True)
class PlanOptions:
    """Options of every plan of objects."""

    count: int  # images; 0 = as many as it takes for `objects_per_class`
    target: str = "natural"  # natural | sqrt | balanced | counts | deficit | weak
    counts: Mapping[str, int] = field(default_factory=dict)  # of target "counts": objects by class
    weakness: Mapping[str, float] = field(default_factory=dict)  # of target "weak": by class
    objects_per_class: int = 200  # labelled and synthetic ones together, for target "deficit"
    placement: str = "uniform"  # uniform | natural: where added objects go
    jitter: float = 0.0  # how far boxes move, share of their size
    flip: float = 0.5  # probability that an image is mirrored
    seed: int = 0
    name: str = "plan"  # first part of every image_id
    generator: str = ""  # named in the provenance


@dataclass(frozen=True)
class Config(PlanOptions):
    """Options of a plan of layouts; all boxes move."""

    name: str = "layout"
    max_objects: int = 64  # per image, after which nothing is added


class LayoutPlanner:
    """Draws planned layouts; holds the real ones.

    `weights` [C] of `placement.fit`, which needs S x C numbers, are found here or given by one who
    found them.
    """

    def __init__(
        self,
        sources: Sequence[Source],
        categories: tuple[Category, ...],
        labelled: Ints,
        config: Config,
        weights: Floats | None = None,
    ) -> None:
        """Take real layouts and the labelled objects per class [C].

        The counts include images without a layout. JobError for a class of `counts` that cannot be
        planned, or when no image is needed.
        """
        self.config = config
        self.sources = sources
        self.categories = categories
        self.num_sources = len(sources)
        layouts = [source.layout for source in sources]
        self.isthing = thing_flags(categories)
        self.pool = Pool.of(layouts, len(categories))
        present = self.pool.counts()  # [C]
        missing = missing_objects(labelled, self.isthing, config.objects_per_class)
        self.need = images_needed(missing, present * self.isthing, len(layouts))
        self.count = config.count or self.need.exchanged
        if not self.count:
            raise JobError(
                "plan.objects_per_class: no class that can be planned has fewer than "
                f"{config.objects_per_class} objects, so no image is needed; raise it or give "
                "plan.count"
            )
        self.limit = (
            f"{self.count} images of at most {config.max_objects} objects (generator.max_objects) "
            "are full"
        )
        self.natural: Floats = present * (self.count / max(1, len(layouts)))
        self.target = target_counts(
            self.natural, categories, config.target, config.counts, missing, config.weakness
        )
        self.exchange = exchange(self.natural, self.target, self.count)
        counts = object_counts(layouts, len(categories))  # [S, C]
        self.slots = Slots.of(counts, self.exchange, config.max_objects)
        self.short = round(self.slots.short * self.count)
        self.refused = 0
        self._lifts = np.ones((len(categories), len(categories)))
        if config.placement == "natural":
            self._lifts = placement.lift(counts)
        self.weights: Floats | None = weights
        if weights is None:
            self.weights = self._fit(counts)

    def _fit(self, counts: NDArray[np.int32]) -> Floats:
        """Fit the weights [C] by which layouts with objects [S, C] receive additions."""
        shares = self.exchange.shares
        if not shares.any():
            return shares
        affinities = placement.affinity(counts, self._lifts)
        return placement.fit(affinities, self.slots.receive, shares)

    def _shares(self, layout: Layout) -> Floats:
        """Return the share of each class [C] among the objects this layout receives."""
        assert self.weights is not None
        if not self.weights.any():
            return self.weights
        counts = object_counts([layout], len(self.categories))
        affinities = placement.affinity(counts, self._lifts)
        shares: Floats = placement.shares(affinities, self.weights)[0]
        return shares

    def scene(self, index: int) -> Scene:
        """Return planned scene `index`: a layout without pixels, with its provenance."""
        config = self.config
        epoch, position = divmod(index, len(self.sources))
        shuffle = seed_for(config.seed, "plan", epoch)
        number = permuted(position, len(self.sources), shuffle)
        source = self.sources[number]
        layout = source.layout

        rng = rng_for(config.seed, "layout", index)
        num_free = max(0, config.max_objects - len(layout.category))
        plan = replace(self.exchange, shares=self._shares(layout))
        exchanged = draw_layout(
            layout, self.pool, plan, self.isthing, (num_free, self.slots.extra), rng
        )
        image_seed = seed_for(config.seed, "image", index)
        varied = vary(exchanged.layout, self.isthing, config.jitter, config.flip, rng)

        num_objects = len(varied.category)
        objects = Objects.build(
            varied.category,
            absolute_boxes(varied.boxes, source.size),
            id=ids_in_image(index, num_objects),
            isthing=self.isthing[varied.category],
            source=(ADDED,) * num_objects,
        )
        reason = self._reason(exchanged)
        provenance = Provenance(image_seed, config.generator, "", source.image_id, reason)
        image_id = f"{config.name}-{index:08d}"
        return Scene(image_id, *source.size, ImageRef(None, None), objects, None, provenance)

    def _reason(self, exchanged: ExchangedLayout) -> str:
        """Describe the exchange: `balanced: +kite -house`."""
        changes = [f"+{self.categories[c].name}" for c in exchanged.added]
        changes += [f"-{self.categories[c].name}" for c in exchanged.removed]
        summary = " ".join(changes) or "as in the source"
        return f"{self.config.target}: {summary}"


def is_mirrored(seed: int, probability: float) -> bool:
    """Return whether the real image of the planned scene of a seed is mirrored.

    Plan and synthesis both ask.
    """
    return bool(rng_for(seed, "mirror").random() < probability)
