"""Objects per class that a plan aims at, and the exchange that leads there.

Pure functions of arrays [C].
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from synthaug.pipeline.core.arrays import Flags, Floats, Ints
from synthaug.pipeline.core.errors import JobError, suggest
from synthaug.pipeline.core.scene import Category, thing_flags

PRIOR_OBJECTS = 10  # validation objects at which a class's own AP counts as much as the mean of all


@dataclass(frozen=True)
class Exchange:
    """Probabilities that turn the natural histogram into the target.

    Per object and per image.
    """

    give_up: Floats  # [C] probability that an object of the class is given up
    refill: float  # probability that a given-up object is replaced by another
    extra: float  # mean number of further objects per image
    shares: Floats  # [C] share of each class among added objects, sums to 1 (or 0)


@dataclass(frozen=True)
class Need:
    """Images it takes until each thing class has `objects_per_class` objects.

    Labelled ones included; classes without layouts are left out.
    """

    objects: int  # that are missing
    # images, when every thing in them is one that is missing, as many per image as is natural
    exchanged: int
    natural: int  # images, when layouts are copied as they are


def target_counts(
    natural: Floats,
    categories: tuple[Category, ...],
    target: str,
    counts: Mapping[str, int],
    missing: Ints | None = None,
    weakness: Mapping[str, float] | None = None,
) -> Floats:
    """Return the objects per class [C] of a target, given the natural expectation [C].

    Stuff always stays natural.

    `sqrt` and `balanced` keep the natural total of things and share it by the square root of the
    frequencies, or equally, among the things that occur. `counts` says numbers by class name;
    JobError for a class that cannot be planned. `deficit` adds the objects `missing` [C]. `weak`
    shares the natural total of things by `weakness`, of a class name.
    """
    if target == "deficit":
        assert missing is not None
        return deficit_counts(natural, categories, missing)
    if target == "natural":
        return natural.copy()
    if target == "counts":
        return _counts_by_name(natural, categories, counts)
    movable = _things_that_occur(natural, categories)
    if not movable.any():
        return natural.copy()
    share = movable.astype(np.float64)  # balanced
    if target == "sqrt":
        share = np.sqrt(natural) * movable
    if target == "weak":
        share = weak_shares(categories, weakness or {}) * movable
    if not share.any():
        return natural.copy()
    goal = natural * ~movable
    goal += natural[movable].sum() * share / share.sum()
    return goal


def weak_shares(categories: tuple[Category, ...], weakness: Mapping[str, float]) -> Floats:
    """Return what each class [C] lacks, by class name; 0 where it is not named.

    JobError for a name that no class has.
    """
    lacks = np.zeros(len(categories))
    index_of = {category.name: index for index, category in enumerate(categories)}
    for name, number in weakness.items():
        if name not in index_of:
            hint = suggest(name, index_of)
            raise JobError(f"plan.weakness.{name}: the data has no such class{hint}")
        lacks[index_of[name]] = number
    return lacks


def measured_weakness(measured: Mapping[str, Mapping[str, float | None]]) -> dict[str, float]:
    """Return what each class lacks, 1 - AP.

    It is given its AP and its validation objects ("gt"). AP of few objects is mostly chance, so
    that of a class is drawn towards the mean of all, as if PRIOR_OBJECTS further objects had that.
    A class without objects has the mean.
    """
    known = [row["AP"] for row in measured.values() if row["AP"] is not None]
    mean = float(np.mean(known)) if known else 0.0
    lacks = {}
    for name, row in measured.items():
        ap = row["AP"]
        objects = row["gt"] or 0
        if ap is None:
            ap = mean
            objects = 0
        drawn = (objects * ap + PRIOR_OBJECTS * mean) / (objects + PRIOR_OBJECTS)
        lacks[name] = round(1 - drawn, 4)
    return lacks


def _counts_by_name(
    natural: Floats, categories: tuple[Category, ...], counts: Mapping[str, int]
) -> Floats:
    """Return the natural counts [C] with those of the named classes replaced."""
    goal = natural.copy()
    index_of = {category.name: index for index, category in enumerate(categories)}
    for name, number in counts.items():
        if name not in index_of:
            hint = suggest(name, index_of)
            raise JobError(f"plan.counts.{name}: the data has no such class{hint}")
        index = index_of[name]
        if number and not natural[index]:
            raise JobError(
                f"plan.counts.{name}: no real layout has this class, so none can be planned; set "
                "it to 0"
            )
        goal[index] = number
    return goal


def _things_that_occur(natural: Floats, categories: tuple[Category, ...]) -> Flags:
    """Return the classes [C] whose counts a target may change."""
    return thing_flags(categories) & (natural > 0)


def deficit_counts(
    natural: Floats, categories: tuple[Category, ...], missing: Ints | Floats
) -> Floats:
    """Return the objects per class [C] that make up what is `missing` [C].

    Of things; stuff stays natural.

    The natural number of things is kept: what is left of it after the missing ones is shared by the
    other things as they naturally occur. Where more is missing than that number, images become
    fuller; where no other class is left to fill them, the missing classes fill them.
    """
    movable = _things_that_occur(natural, categories)
    lacking = movable & (missing > 0)
    others = movable & ~lacking
    goal = natural.copy()
    if not lacking.any():
        return goal
    total = natural[movable].sum()
    needed = missing[lacking].sum()
    if others.any():
        goal[lacking] = missing[lacking]
        goal[others] *= max(0.0, total - needed) / natural[others].sum()
    else:
        goal[lacking] = missing[lacking] * max(1.0, total / needed)
    return goal


RARE, ALL = "rare", "all"  # instead of names of classes


def chosen_classes(
    names: Sequence[str],
    labelled: Ints,
    categories: Sequence[Category],
    key: str,
) -> Flags:
    """Return which classes [C] are named, given the labelled objects [C].

    Things that occur, by name, or all, or the rare.

    Rare is a class with at most as many objects as the median of the classes that occur: of three
    classes the two rarer ones, of equal ones all. JobError, which names the key, for a name that no
    thing has.
    """
    occurs = thing_flags(categories) & (labelled > 0)
    if not occurs.any() or ALL in names:
        return occurs
    chosen = np.zeros(len(categories), bool)
    index_of = {category.name: n for n, category in enumerate(categories) if category.isthing}
    for name in names:
        if name in index_of:
            chosen[index_of[name]] = True
        elif name == RARE:
            chosen |= labelled <= np.median(labelled[occurs])
        else:
            hint = suggest(name, [RARE, ALL, *index_of])
            raise JobError(f"{key}: the data has no thing '{name}'{hint}")
    return chosen & occurs


def exchange(natural: Floats, target: Floats, images: int) -> Exchange:
    """Return the probabilities that lead from `natural` to `target` [C].

    Over some images.
    """
    surplus = np.maximum(natural - target, 0)
    deficit = np.maximum(target - natural, 0)
    num_free = surplus.sum()
    num_needed = deficit.sum()
    give_up = np.divide(surplus, natural, out=np.zeros_like(surplus), where=natural > 0)
    refill = 0.0
    if num_free:
        refill = min(1.0, num_needed / num_free)
    extra = max(0.0, num_needed - num_free) / images
    return Exchange(give_up, refill, extra, _normalize(deficit))


def _normalize(deficit: Floats) -> Floats:
    """Return the share [C] of each class; all 0 where nothing is missing."""
    total = deficit.sum()
    if not total:
        return deficit
    shares: Floats = deficit / total
    return shares


def missing_objects(labelled: Ints, isthing: Flags, objects_per_class: int) -> Ints:
    """Return how many objects each thing class [C] lacks to have `objects_per_class`.

    Stuff lacks none.
    """
    lacking = np.maximum(objects_per_class - labelled, 0)
    return np.where(isthing, lacking, 0)


def images_needed(missing: Ints | Floats, present: Floats, images: int) -> Need:
    """Count images for missing objects [C].

    0 where a class is not asked for; `present` [C] are the objects in real layouts.
    """
    possible = (missing > 0) & (present > 0)
    if not possible.any():
        return Need(0, 0, 0)
    total = missing[possible].sum()
    exchanged = math.ceil(total * images / present.sum())
    natural = (missing[possible] / present[possible]).max() * images
    return Need(int(total), exchanged, math.ceil(natural))
