"""Planning layouts for the long tail: pure functions of arrays.

Every planned layout copies a real one. Where a class is to be rarer than in the real layouts, each of its objects is given
up with a fixed probability; where a class is to be more frequent, an object of it from another real layout takes the free
place, at its own position and size. So any target histogram is met in expectation while positions, sizes and scene
backgrounds stay those of real images. `placement` says which layouts receive which class.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from synthaug.pipeline.core.errors import JobError, suggest
from synthaug.pipeline.core.scene import Category

TRIES = 12  # places tried for an added object before the least crowded is taken
CROWDED = 0.3  # IoU with another thing above which a place counts as taken


@dataclass(frozen=True)
class Layout:
    """One layout: categories [N], boxes [N, 4] xyxy in [0, 1]."""

    category: NDArray[np.int32]
    boxes: NDArray[np.float32]


@dataclass(frozen=True)
class Exchange:
    """What turns the natural histogram into the target, per image."""

    give_up: NDArray[np.float64]  # [C] probability that an object of the class is given up
    refill: float  # probability that a given-up place is refilled
    extra: float  # mean number of further objects per image
    wanted: NDArray[np.float64]  # [C] share of each class among added objects, sums to 1 (or 0)


def target_counts(
    natural: NDArray[np.float64],
    categories: tuple[Category, ...],
    target: str,
    counts: Mapping[str, int],
) -> NDArray[np.float64]:
    """Objects wanted per class [C], given the natural expectation [C]; stuff always stays natural.

    `sqrt` and `balanced` keep the natural total of things and share it by the square root of the frequencies, or equally,
    among the things that occur.
    """
    wanted = natural.copy()
    movable = np.array([c.isthing for c in categories]) & (natural > 0)
    if target == "counts":
        names = {c.name: i for i, c in enumerate(categories)}
        for name, number in counts.items():
            if name not in names:
                raise JobError(
                    f"plan.counts.{name}: the data has no such class{suggest(name, names)}"
                )
            if number and not natural[names[name]]:
                raise JobError(
                    f"plan.counts.{name}: no real layout has this class, so none can be planned; set it to 0"
                )
            wanted[names[name]] = number
    elif target != "natural" and movable.any():
        share = np.sqrt(natural[movable]) if target == "sqrt" else np.ones(int(movable.sum()))
        wanted[movable] = natural[movable].sum() * share / share.sum()
    return wanted


def deficit_counts(
    natural: NDArray[np.float64], categories: tuple[Category, ...], missing: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Objects wanted per class [C] so that what is `missing` [C] of each thing is made; stuff stays natural.

    The natural number of things is kept: what is left of it after the missing ones is shared by the other things as they
    naturally occur. Where more is missing than that number, images become fuller; where no other class is left to fill
    them, the missing classes fill them.
    """
    wanted = natural.copy()
    movable = np.array([c.isthing for c in categories]) & (natural > 0)
    lacking = movable & (missing > 0)
    others = movable & ~lacking
    if not lacking.any():
        return wanted
    total, needed = natural[movable].sum(), missing[lacking].sum()
    wanted[lacking] = missing[lacking] * (1.0 if others.any() else max(1.0, total / needed))
    if others.any():
        wanted[others] *= max(0.0, total - needed) / natural[others].sum()
    return wanted


def exchange(natural: NDArray[np.float64], wanted: NDArray[np.float64], images: int) -> Exchange:
    """Return the per-object and per-image probabilities that lead from `natural` to `wanted` [C], over `images`."""
    surplus = np.maximum(natural - wanted, 0)
    deficit = np.maximum(wanted - natural, 0)
    free, needed = surplus.sum(), deficit.sum()
    give_up = np.divide(surplus, natural, out=np.zeros_like(surplus), where=natural > 0)
    return Exchange(
        give_up=give_up,
        refill=min(1.0, needed / free) if free else 0.0,
        extra=max(0.0, needed - free) / images,
        wanted=deficit / needed if needed else deficit,
    )


def additions(natural: NDArray[np.float64], wanted: NDArray[np.float64], images: int) -> Exchange:
    """Return what leads as near to `wanted` [C] as can be when nothing is given up: the deficits are added."""
    deficit = np.maximum(wanted - natural, 0)
    needed = deficit.sum()
    return Exchange(
        np.zeros_like(natural), 0.0, needed / images, deficit / needed if needed else deficit
    )


@dataclass(frozen=True)
class Need:
    """Images it takes until each thing class that has layouts has `objects_per_class` objects, labelled ones included."""

    objects: int  # that are missing
    exchanged: int  # images, when every thing in them is one that is missing, as many per image as is natural
    natural: int  # images, when layouts are copied as they are


def images_needed(missing: NDArray[np.float64], present: NDArray[np.float64], images: int) -> Need:
    """Count for missing objects [C], 0 where a class is not wanted, and objects `present` [C] in some real layouts."""
    some = (missing > 0) & (present > 0)
    if not some.any():
        return Need(0, 0, 0)
    total = missing[some].sum()
    natural = (missing[some] / present[some]).max() * images
    return Need(int(total), math.ceil(total * images / present.sum()), math.ceil(natural))


@dataclass(frozen=True)
class Pool:
    """All real objects by class, to take additions from."""

    boxes: tuple[NDArray[np.float32], ...]  # per class [n, 4] xyxy in [0, 1]

    @staticmethod
    def of(layouts: list[Layout], num_classes: int) -> Pool:
        """Collect the boxes of each class."""
        category = np.concatenate(
            [layout.category for layout in layouts] or [np.zeros(0, np.int32)]
        )
        boxes = np.concatenate(
            [layout.boxes for layout in layouts] or [np.zeros((0, 4), np.float32)]
        )
        return Pool(tuple(boxes[category == c] for c in range(num_classes)))


@dataclass(frozen=True)
class Places:
    """How many objects S layouts receive, in expectation, when none may have more than `most`."""

    receive: NDArray[np.float64]  # [S] objects
    extra: float  # probability that a place that was free in the real layout is filled
    short: float  # mean number of objects per layout for which there is no place

    @staticmethod
    def of(counts: NDArray[np.int32], plan: Exchange, most: int) -> Places:
        """Count the places of layouts with objects `counts` [S, C]."""
        room = np.maximum(most - counts.sum(1), 0).astype(np.float64)  # [S]
        asked = plan.extra * len(counts)
        extra = min(1.0, asked / room.sum()) if room.any() else 0.0
        receive = counts @ plan.give_up * plan.refill + room * extra
        return Places(receive, extra, (asked - extra * room.sum()) / max(1, len(counts)))


def draw_layout(
    source: Layout,
    pool: Pool,
    plan: Exchange,
    isthing: NDArray[np.bool_],
    free: tuple[int, float],
    rng: np.random.Generator,
) -> tuple[Layout, list[int], list[int]]:
    """Return the layout with objects exchanged, and the classes added and given up.

    `plan.wanted` has the shares of the classes in this layout; `free` says how many places are free in it, and with which
    probability each is filled.
    """
    gone = rng.random(len(source.category)) < plan.give_up[source.category]
    added = int((rng.random(int(gone.sum())) < plan.refill).sum()) + int(rng.binomial(*free))
    category, boxes = source.category[~gone].tolist(), list(source.boxes[~gone])
    new: list[int] = rng.choice(len(plan.wanted), added, p=plan.wanted).tolist() if added else []
    for label in new:
        taken = np.array(
            [b for b, c in zip(boxes, category, strict=True) if isthing[c]], np.float32
        ).reshape(-1, 4)
        boxes.append(_free_place(pool.boxes[label], taken, rng))
        category.append(label)
    layout = Layout(np.array(category, np.int32), np.array(boxes, np.float32).reshape(-1, 4))
    return layout, new, source.category[gone].tolist()


def _free_place(
    candidates: NDArray[np.float32], taken: NDArray[np.float32], rng: np.random.Generator
) -> NDArray[np.float32]:
    """Return a real box [4] of the class that covers little of what is there already."""
    best: NDArray[np.float32] = candidates[0]
    least = np.inf
    for i in rng.integers(len(candidates), size=TRIES).tolist():
        crowding = float(overlap(candidates[i], taken).max(initial=0.0))
        if crowding < least:
            best, least = candidates[i], crowding
        if crowding <= CROWDED:
            break
    return best


def overlap(box: NDArray[np.float32], others: NDArray[np.float32]) -> NDArray[np.float32]:
    """IoU of one xyxy box [4] with others [N, 4] -> [N]."""
    low = np.maximum(box[:2], others[:, :2])
    high = np.minimum(box[2:], others[:, 2:])
    shared = np.prod(np.clip(high - low, 0, None), axis=1)
    area = np.prod(box[2:] - box[:2]) + np.prod(others[:, 2:] - others[:, :2], axis=1) - shared
    result: NDArray[np.float32] = (shared / np.maximum(area, 1e-12)).astype(np.float32)
    return result


def vary(
    layout: Layout, isthing: NDArray[np.bool_], jitter: float, flip: float, rng: np.random.Generator
) -> Layout:
    """Jitter the things' boxes (centre and size, normal, share of the size) and mirror the layout with a probability.

    Boxes stay inside the image; stuff is mirrored but not jittered, because it borders on other stuff.
    """
    boxes = layout.boxes.copy()
    size = boxes[:, 2:] - boxes[:, :2]
    centre = (boxes[:, 2:] + boxes[:, :2]) / 2
    moves = (
        np.clip(rng.normal(size=(len(boxes), 4)), -2, 2)
        * jitter
        * isthing[layout.category][:, None]
    )
    new_size = size * np.exp(moves[:, 2:])
    new_centre = centre + moves[:, :2] * size
    moved = np.clip(np.concatenate([new_centre - new_size / 2, new_centre + new_size / 2], 1), 0, 1)
    # a box that the border would cut to less than half is left where it was
    ok = np.prod(moved[:, 2:] - moved[:, :2], axis=1) > 0.5 * np.prod(size, axis=1)
    boxes = np.where(ok[:, None], moved, boxes)
    if rng.random() < flip:
        boxes = boxes[:, [2, 1, 0, 3]] * np.array([-1, 1, -1, 1]) + np.array([1, 0, 1, 0])
    return Layout(layout.category, boxes.astype(np.float32))
