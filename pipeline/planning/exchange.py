"""Planning layouts for the long tail: pure functions of arrays.

Every planned layout copies a real one. Where a class is to be rarer than in the real layouts, each
of its objects is given up with a fixed probability; where a class is to be more frequent, an object
of it from another real layout takes the free slot, at its own position and size. So any target
histogram (`targets`) is met in expectation while positions, sizes and scene backgrounds stay those
of real images. `placement` says which layouts receive which class.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from synthaug.pipeline.core.arrays import Flags, Floats, Floats32
from synthaug.pipeline.core.boxes import Boxes, box_areas, intersection_areas
from synthaug.pipeline.planning.targets import Exchange

TRIES = 12  # boxes tried for an added object before the least crowded is taken
CROWDED = 0.3  # IoU with another thing above which a position counts as taken
MIN_LEFT = 0.5  # share of its area below which a jittered box may not be cut by the border


@dataclass(frozen=True)
class Layout:
    """One layout: categories [N], boxes [N, 4] xyxy in [0, 1]."""

    category: NDArray[np.int32]
    boxes: Boxes


def concatenate(layouts: Sequence[Layout]) -> Layout:
    """Return the objects of all layouts as one."""
    categories = [np.zeros(0, np.int32)]
    boxes = [np.zeros((0, 4), np.float32)]
    for layout in layouts:
        categories.append(layout.category)
        boxes.append(layout.boxes)
    return Layout(np.concatenate(categories), np.concatenate(boxes))


@dataclass(frozen=True)
class Pool:
    """All real boxes by class, to take additions from."""

    boxes: tuple[Floats32, ...]  # per class [n, 4] xyxy in [0, 1]

    @staticmethod
    def of(layouts: Sequence[Layout], num_classes: int) -> Pool:
        """Collect the boxes of each class."""
        objects = concatenate(layouts)
        of_classes = [objects.boxes[objects.category == c] for c in range(num_classes)]
        return Pool(tuple(of_classes))

    def counts(self) -> Floats:
        """Return the number of boxes per class [C]."""
        numbers = [len(boxes) for boxes in self.boxes]
        return np.array(numbers, np.float64)


@dataclass(frozen=True)
class Slots:
    """Objects that S layouts receive, in expectation.

    None may have more than `max_objects`.
    """

    receive: Floats  # [S] objects
    extra: float  # probability that a slot that was free in the real layout is filled
    short: float  # mean number of objects per layout for which there is no slot

    @staticmethod
    def of(counts: NDArray[np.int32], plan: Exchange, max_objects: int) -> Slots:
        """Count the slots of layouts with objects `counts` [S, C]."""
        left = np.maximum(max_objects - counts.sum(1), 0)
        free = left.astype(np.float64)  # [S]
        num_extra = plan.extra * len(counts)
        extra = 0.0
        if free.any():
            extra = min(1.0, num_extra / free.sum())
        receive = counts @ plan.give_up * plan.refill + free * extra
        without_slot = num_extra - extra * free.sum()
        short = without_slot / max(1, len(counts))
        return Slots(receive, extra, short)


@dataclass(frozen=True)
class ExchangedLayout:
    """A layout with objects exchanged, and the classes of those added and given up."""

    layout: Layout
    added: list[int]
    removed: list[int]


def draw_layout(
    source: Layout,
    pool: Pool,
    plan: Exchange,
    isthing: Flags,
    free: tuple[int, float],
    rng: np.random.Generator,
) -> ExchangedLayout:
    """Exchange objects of a layout.

    `plan.shares` has the shares of the classes in this layout; `free` says how many slots are free
    in it, and with which probability each is filled. Objects that stay come first, in their order.
    """
    points = rng.random(len(source.category))
    removed = points < plan.give_up[source.category]
    num_removed = int(removed.sum())
    refilled = rng.random(num_removed) < plan.refill
    num_added = int(refilled.sum()) + int(rng.binomial(*free))
    added: list[int] = []
    if num_added:
        shares = plan.shares
        added = rng.choice(len(shares), num_added, p=shares).tolist()
    category = source.category[~removed].tolist()
    boxes = list(source.boxes[~removed])
    for label in added:
        pairs = zip(boxes, category, strict=True)
        things = [box for box, c in pairs if isthing[c]]
        occupied = np.array(things, np.float32).reshape(-1, 4)
        boxes.append(_free_box(pool.boxes[label], occupied, rng))
        category.append(label)
    all_boxes = np.array(boxes, np.float32).reshape(-1, 4)
    layout = Layout(np.array(category, np.int32), all_boxes)
    return ExchangedLayout(layout, added, source.category[removed].tolist())


def _free_box(candidates: Floats32, occupied: Floats32, rng: np.random.Generator) -> Floats32:
    """Return a real box [4] of the class that covers little of others [N, 4].

    Those are the boxes that are there already.
    """
    best: Floats32 = candidates[0]
    least = np.inf
    for index in rng.integers(len(candidates), size=TRIES).tolist():
        covered = overlap(candidates[index], occupied)
        crowding = float(covered.max(initial=0.0))
        if crowding < least:
            best = candidates[index]
            least = crowding
        if crowding <= CROWDED:
            break
    return best


def overlap(box: Boxes, others: Floats32) -> Floats32:
    """Return the IoU of one xyxy box [4] with others [N, 4]: [N]."""
    intersection = intersection_areas(box, others)
    union = box_areas(box) + box_areas(others) - intersection
    ratio = intersection / np.maximum(union, 1e-12)
    iou: Floats32 = ratio.astype(np.float32)
    return iou


def vary(
    layout: Layout, isthing: Flags, jitter: float, flip: float, rng: np.random.Generator
) -> Layout:
    """Jitter the things' boxes and mirror the layout with a probability.

    Centre and size move by a normal share of the size.

    Boxes stay inside the image; stuff is mirrored but not jittered, because it borders on other
    stuff.
    """
    movable = isthing[layout.category][:, None]  # [N, 1]
    drawn = rng.normal(size=(len(layout.boxes), 4))
    noise = np.clip(drawn, -2, 2)
    boxes = _jittered(layout.boxes, noise * jitter * movable)
    if rng.random() < flip:
        boxes = mirror_boxes(boxes)
    return Layout(layout.category, boxes.astype(np.float32))


def _jittered(boxes: Boxes, moves: Floats) -> Floats:
    """Return moved and scaled boxes [N, 4].

    The centre moves by moves[:, :2] sizes, the size is scaled by exp(moves[:, 2:]).
    """
    size = boxes[:, 2:] - boxes[:, :2]
    center = (boxes[:, 2:] + boxes[:, :2]) / 2
    new_size = size * np.exp(moves[:, 2:])
    new_center = center + moves[:, :2] * size
    half = new_size / 2
    corners = np.concatenate([new_center - half, new_center + half], 1)
    moved = np.clip(corners, 0, 1)
    # a box that the border would cut to less than half is left where it was
    area = np.prod(size, axis=1)
    sides_left = moved[:, 2:] - moved[:, :2]
    new_area = np.prod(sides_left, axis=1)
    large_enough = new_area > MIN_LEFT * area
    return np.where(large_enough[:, None], moved, boxes)


def mirror_boxes(boxes: Floats) -> Floats:
    """Return xyxy boxes [N, 4] in [0, 1] as they lie in the mirrored image."""
    swapped = boxes[:, [2, 1, 0, 3]]
    mirrored: Floats = swapped * [-1, 1, -1, 1] + [1, 0, 1, 0]
    return mirrored
