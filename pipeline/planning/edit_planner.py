"""Plans of edits of real images.

They say what is painted or pasted into an image, redrawn or taken out.

Every planned image is a real one with 1 to `most` edits, all of one use:

    insert   a new object is added, at place and size of a real one of its class
    ring     the same, but a real object is pasted and only its seam is painted
    redraw   an object that is there is painted anew, in its own box
    erase    an object that is there is painted over with background
    empty    a place without an object is painted with background: a control, since nothing is added

A planned scene has the objects of its source first, in their order, then the further ones. Edits
have the source ADDED; where background is to be painted the object is a crowd, so that nothing
counts it.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from synthaug.pipeline.core.arrays import Flags, Floats, Ints
from synthaug.pipeline.core.boxes import Boxes, absolute_boxes, box_areas, intersection_areas
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
from synthaug.pipeline.planning.exchange import Layout, Pool, vary
from synthaug.pipeline.planning.layout_statistics import object_counts
from synthaug.pipeline.planning.planner import (
    ADDED,
    NO_PLACE,
    REAL,
    PlanOptions,
    Source,
    is_mirrored,
)
from synthaug.pipeline.planning.surfaces import Surfaces
from synthaug.pipeline.planning.targets import (
    ALL,
    chosen_classes,
    images_needed,
    missing_objects,
    target_counts,
    weak_shares,
)

USES = ("insert", "ring", "redraw", "erase", "empty")
ADDING = ("insert", "ring")  # after which there are more objects than before
IN_PLACE = ("redraw", "erase")  # which change objects that are there
MAX_OVERLAP = 0.3  # share of the smaller of two boxes: an object is not painted over another one
CLEAR_OVERLAP = 0.1  # the same where background is painted: what else is there must stay
OWN_PLACES = 10  # places of real objects looked at, before they are moved sideways
PLACES = 40  # looked at in all
NOWHERE = 1e-40  # fit of a class to an image without a surface of its own; above 0, as fits need


@dataclass(frozen=True)
class Config(PlanOptions):
    """Options of a plan of edits; added boxes move."""

    name: str = "edit"
    most: int = 3  # edits per image
    natural_share: float = 0.5  # of an image's edits, rounded down, as the classes occur
    classes: tuple[str, ...] = (ALL,)  # of which objects are added (targets.chosen_classes)
    uses: Mapping[str, float] = field(default_factory=dict)  # use -> share; none = insert
    empties: float = 0.0  # places painted with background, per added object


def use_of(seed: int, uses: Mapping[str, float]) -> str:
    """Return the use of the planned image with this seed; plan and synthesis both ask."""
    names = [name for name in USES if uses.get(name, 0) > 0]
    if not names:
        return "insert"
    shares = np.array([uses[name] for name in names])
    rng = rng_for(seed, "use")
    drawn = rng.choice(len(names), p=shares / shares.sum())
    return names[int(drawn)]


def targeted_edits(most: int, natural_share: float) -> list[int]:
    """Return how many of 1, 2 ... `most` edits are for the target.

    The others are natural.
    """
    return [number - math.floor(number * natural_share) for number in range(1, most + 1)]


class EditPlanner:
    """Draws planned edits, each from (seed, index) alone; holds the real layouts."""

    def __init__(
        self,
        sources: Sequence[Source],
        categories: tuple[Category, ...],
        labelled: Ints,
        config: Config,
        weights: Floats | None = None,
        surfaces: Surfaces | None = None,
    ) -> None:
        """Take real layouts, the labelled objects [C], and an earlier planner's weights.

        `surfaces` are those of the images of the layouts, in their order; without them objects come
        to any place. JobError for a class of `counts` that cannot be planned, one of `classes` that
        is not there, or when no image is needed.
        """
        self.config = config
        self.surfaces = surfaces
        self.refused = 0
        self.sources = sources
        self.categories = categories
        self.num_sources = len(sources)
        layouts = [source.layout for source in sources]
        self.isthing = thing_flags(categories)
        self.pool = Pool.of(layouts, len(categories))
        present = self.pool.counts()  # [C]
        missing = missing_objects(labelled, self.isthing, config.objects_per_class)
        numbers = targeted_edits(config.most, config.natural_share)
        targeted = float(np.mean(numbers))
        need = images_needed(missing, present * self.isthing, len(layouts))
        if targeted:
            images = math.ceil(need.objects / targeted)
            need = replace(need, exchanged=images)
        self.need = need
        self.count = config.count or need.exchanged
        if not self.count:
            raise JobError(
                "plan.objects_per_class: no class that can be planned has fewer than "
                f"{config.objects_per_class} objects, so no image is needed; raise it or give "
                "plan.count"
            )
        self.natural: Floats = present * (self.count / max(1, len(layouts)))
        self.limit = (
            f"{self.count} images with at most {config.most} edits (plan.most_edits) hold no more"
        )

        chosen = chosen_classes(config.classes, labelled, categories, "generator.classes")
        possible = targeted * self.count * self._adding_share()
        if config.target == "weak":  # all edits for the target, in proportion to what classes lack
            lacks = weak_shares(categories, config.weakness)
            self._lacking = _normalize(lacks * (self.natural > 0) * chosen)
            self.target = self.natural + possible * self._lacking
        else:
            goal = target_counts(self.natural, categories, config.target, config.counts, missing)
            without_more = np.minimum(goal, self.natural)
            self.target = np.where(chosen, goal, without_more)
            missing_part = (self.target - self.natural).clip(0)
            self._lacking = _normalize(missing_part * self.isthing)
        change = (self.target - self.natural) * self.isthing
        self._above = _normalize((-change).clip(0))
        self._natural_shares = _normalize(present * chosen)
        wanted = float(change.clip(0).sum())
        # without a use that adds, places are those that objects of the target would have
        self._fraction = min(1.0, wanted / possible) if possible else 1.0
        self.short = round(max(0.0, wanted - possible))

        self._possible = np.ones((len(layouts), len(categories)), bool)  # [S, C]
        if surfaces is not None:
            self._possible = surfaces.possible()
        counts = object_counts(layouts, len(categories))  # [S, C]
        self._lifts = np.ones((len(categories), len(categories)))
        if config.placement == "natural":
            self._lifts = placement.lift(counts)
        self.weights: Floats | None = weights
        if weights is None:
            self.weights = self._fit(counts)

    def _adding_share(self) -> float:
        """Return the share of the images in which objects are added."""
        uses = self.config.uses
        total = sum(uses.values())
        if not total:
            return 1.0
        return sum(uses.get(name, 0) for name in ADDING) / total

    def _fit(self, counts: NDArray[np.int32]) -> Floats:
        """Find the weights [C] with which images, given `counts` [S, C], receive classes."""
        if not self._lacking.any():
            return self._lacking
        affinities = placement.affinity(counts, self._lifts)
        affinities = np.where(self._possible, affinities, NOWHERE)
        return placement.fit(affinities, np.ones(len(counts)), self._lacking)

    def scene(self, index: int) -> Scene:
        """Return planned image `index` without pixels, with its provenance."""
        config = self.config
        epoch, position = divmod(index, len(self.sources))
        shuffle = seed_for(config.seed, "plan", epoch)
        number = permuted(position, len(self.sources), shuffle)
        source = self.sources[number]
        rng = rng_for(config.seed, "layout", index)
        image_seed = seed_for(config.seed, "image", index)

        drawing = Drawing.of(source.layout, self.isthing, number)
        use = use_of(image_seed, config.uses)
        if use in IN_PLACE:
            words = self._change(drawing, use, rng)
        else:
            words = self._add(drawing, use, rng)
        boxes = np.array(drawing.boxes, np.float32).reshape(-1, 4)
        layout = Layout(np.array(drawing.category, np.int32), boxes)
        mirror = float(is_mirrored(image_seed, config.flip))
        shown = vary(layout, self.isthing, 0.0, mirror, rng)
        sources = []
        for edited in drawing.edited:
            if edited:
                sources.append(ADDED)
            else:
                sources.append(REAL)
        objects = Objects.build(
            shown.category,
            absolute_boxes(shown.boxes, source.size),
            id=ids_in_image(index, len(shown.category)),
            isthing=self.isthing[shown.category],
            iscrowd=drawing.background,
            source=sources,
        )
        changes = " ".join(words) or "as in the source"
        reason = f"{config.target}: {changes}"
        provenance = Provenance(image_seed, config.generator, "", source.image_id, reason)
        image_id = f"{config.name}-{index:08d}"
        return Scene(image_id, *source.size, ImageRef(None, None), objects, None, provenance)

    def _draw_numbers(self, rng: np.random.Generator) -> tuple[int, int]:
        """Draw how many edits of an image are for the target, and how many are natural."""
        config = self.config
        number = int(rng.integers(1, config.most + 1))
        targeted = number - math.floor(number * config.natural_share)
        return targeted, number - targeted

    def _add(self, drawing: Drawing, use: str, rng: np.random.Generator) -> list[str]:
        """Add objects, or places for background, to a drawing.

        Return what was done in words.
        """
        targeted, natural = self._draw_numbers(rng)
        labels: list[int] = []
        if self._lacking.any():
            targeted = int(rng.binomial(targeted, self._fraction))
            shares = self._possible_in(drawing, self._shares(drawing))
            labels += rng.choice(len(shares), targeted, p=shares).tolist()
        else:
            natural += targeted
        if self._natural_shares.any():
            shares = self._possible_in(drawing, self._natural_shares)
            labels += rng.choice(len(shares), natural, p=shares).tolist()

        words = [use] if use != "insert" else []
        added = []
        for label in labels:
            box = self._place(drawing, label, use == "empty", rng)
            name = self.categories[label].name
            if box is None:
                words.append(f"(+{name}{NO_PLACE}")
                continue
            drawing.append(label, box, background=use == "empty")
            added.append(label)
            if use != "empty":
                words.append(f"+{name}")
        if use in ADDING:
            for label in self._draw_empties(added, rng):
                box = self._place(drawing, label, True, rng)
                if box is not None:
                    drawing.append(label, box, background=True)
        return words

    def _draw_empties(self, added: Sequence[int], rng: np.random.Generator) -> list[int]:
        """Draw the classes whose sizes the places have that are painted with background."""
        if not added:
            return []
        expected = self.config.empties * len(added)
        number = math.floor(expected + rng.random())
        labels: list[int] = rng.choice(np.array(added), number).tolist()
        return labels

    def _shares(self, drawing: Drawing) -> Floats:
        """Return the share of each class [C] among the objects that an image receives."""
        assert self.weights is not None
        labels = np.array(drawing.category, np.int32)
        layout = Layout(labels, np.array(drawing.boxes))
        counts = object_counts([layout], len(self.categories))
        affinities = placement.affinity(counts, self._lifts)
        shares: Floats = placement.shares(affinities, self.weights)[0]
        return shares

    def _possible_in(self, drawing: Drawing, shares: Floats) -> Floats:
        """Return shares [C] of the classes that have a surface in the image alone.

        Where none has one, they stay: what finds no place is told.
        """
        possible = shares * self._possible[drawing.number]
        return _normalize(possible) if possible.any() else shares

    def _place(
        self, drawing: Drawing, label: int, clear: bool, rng: np.random.Generator
    ) -> Boxes | None:
        """Return a box [4] in [0, 1] for an object of a class, None where none was found.

        Place and size are those of a real one; where it is taken, the same height in the image and
        another column. From a surface that the class is never seen on it moves up or down.
        """
        limit = CLEAR_OVERLAP if clear else MAX_OVERLAP
        taken = drawing.taken()
        candidates = self.pool.boxes[label]
        for number in range(PLACES):
            real = candidates[rng.integers(len(candidates))]
            alone = Layout(np.array([label], np.int32), real[None])
            varied = vary(alone, self.isthing, self.config.jitter, 0.0, rng)
            box: Boxes = varied.boxes[0]
            if number >= OWN_PLACES:
                width = box[2] - box[0]
                left = np.float32(rng.random() * (1 - width))
                box = np.array([left, box[1], left + width, box[3]], np.float32)
            if self.surfaces is not None:
                standing = self.surfaces.nearest(drawing.number, label, box)
                if standing is None:
                    self.refused += 1
                    continue
                box = standing
            if largest_overlap(box, taken) <= limit:
                return box
        return None

    def _change(self, drawing: Drawing, use: str, rng: np.random.Generator) -> list[str]:
        """Mark objects of a drawing as redrawn or erased; return what was done in words."""
        clear = use == "erase"
        wanted = self._lacking
        most_overlap = MAX_OVERLAP
        if clear:
            wanted = self._above
            most_overlap = CLEAR_OVERLAP
        free = drawing.free(most_overlap)
        targeted, natural = self._draw_numbers(rng)
        words = [use]
        for number in range(targeted + natural):
            labels = np.array(drawing.category, np.int64)[free]
            weights = np.ones(len(free))
            if number < targeted and wanted.any():
                if wanted[labels].any():
                    # a class as often as it is wanted, whichever of its objects
                    weights = wanted[labels] / np.bincount(labels)[labels]
                elif number:
                    continue  # an image without a wanted class gets one natural edit
            if not len(free):
                break
            chosen = int(rng.choice(free, p=weights / weights.sum()))
            free = free[free != chosen]
            drawing.edited[chosen] = True
            drawing.background[chosen] = clear
            name = self.categories[drawing.category[chosen]].name
            if clear:
                name = f"-{name}"
            words.append(name)
        return words


@dataclass
class Drawing:
    """The objects of one planned image, while it is drawn; boxes are relative."""

    isthing: Flags  # [C]
    category: list[int]
    boxes: list[Boxes]  # [4] each, xyxy in [0, 1]
    edited: list[bool]
    background: list[bool]  # whether background is painted there
    number: int  # of the real layout

    @staticmethod
    def of(layout: Layout, isthing: Flags, number: int) -> Drawing:
        """Return a real layout without edits."""
        nothing = [False] * len(layout.category)
        return Drawing(
            isthing,
            layout.category.tolist(),
            list(layout.boxes),
            [*nothing],
            [*nothing],
            number,
        )

    def append(self, label: int, box: Boxes, background: bool) -> None:
        """Add an edit."""
        self.category.append(label)
        self.boxes.append(box)
        self.edited.append(True)
        self.background.append(background)

    def taken(self) -> Boxes:
        """Return the boxes [N, 4] of things and edits.

        Stuff takes no place, objects stand on it.
        """
        boxes = []
        for label, box in zip(self.category, self.boxes, strict=True):
            if self.isthing[label]:
                boxes.append(box)
        return np.array(boxes, np.float32).reshape(-1, 4)

    def free(self, limit: float) -> Ints:
        """Return the positions of things that share at most `limit` with any other."""
        taken = self.taken()
        labels = np.array(self.category, np.int64)
        things = np.flatnonzero(self.isthing[labels])
        kept = []
        for row, position in enumerate(things.tolist()):
            others = np.delete(taken, row, axis=0)
            if largest_overlap(self.boxes[position], others) <= limit:
                kept.append(position)
        return np.array(kept, np.int64)


def largest_overlap(box: Boxes, others: Boxes) -> float:
    """Return the largest overlap of a box [4] with one of others [N, 4].

    Overlap is the share of the smaller of two boxes that they have in common.
    """
    smaller = np.minimum(box_areas(others), box_areas(box))
    smaller = smaller.clip(1e-12)
    shares = intersection_areas(box, others) / smaller
    return float(shares.max(initial=0.0))


def _normalize(values: Floats) -> Floats:
    """Return values [C] as shares of their sum; all 0 where there is none."""
    total = values.sum()
    shares: Floats = values / total if total else values
    return shares
