"""Scene graphs: objects of several images as rows, and the relations between them.

Legend: B images, O object slots, K = O + 1 slots with the whole image's, n rows, T triples, M side
of a mask.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from synthaug.generators.base import Layouts
from synthaug.generators.sg2im.config import GEOMETRIC

Corners = Sequence[float]  # xyxy
Point = tuple[float, float]
Points = Callable[[int, int], Tensor]  # image and count -> numbers [count, 2] in [0, 1)


@dataclass(frozen=True)
class SceneGraphs:
    """Objects of B images as rows; an image's last is the whole image (label 0)."""

    labels: Tensor  # [n] int64
    boxes: Tensor  # [n, 4] xyxy in [0, 1]
    masks: Tensor | None  # [n, M, M] shapes of the objects in their boxes, where they are known
    scores: Tensor  # [n]; 1 of the whole image
    triples: Tensor  # [T, 3] int64: row of the subject, relation, row of the object
    is_row: Tensor  # [B, K] bool: the slots that the rows are, in order

    @property
    def image_of(self) -> Tensor:
        """Image of each row [n]."""
        return self.is_row.nonzero()[:, 0]

    def to(self, device: torch.device | str) -> SceneGraphs:
        """Return the same graphs on another device."""
        masks = self.masks
        if masks is not None:
            masks = masks.to(device)
        labels = self.labels.to(device)
        boxes = self.boxes.to(device)
        scores = self.scores.to(device)
        triples = self.triples.to(device)
        return SceneGraphs(labels, boxes, masks, scores, triples, self.is_row.to(device))


def scene_graphs(layouts: Layouts, points: Points | None = None) -> SceneGraphs:
    """Return the objects of layouts with the whole images, and relations between them.

    Those that the layouts bring, else geometric ones. `points(image, count)` returns numbers
    [count, 2] in [0, 1) that choose which: see `geometric_triples`. With neither objects are only
    related to their image.
    """
    labels, boxes, scores, masks = _with_images(layouts)
    is_row = labels > 0
    is_row[:, -1] = True
    row_masks = None
    if masks is not None:
        row_masks = masks[is_row]
    row_boxes = boxes[is_row]
    triples: list[list[int]] = []
    first = 0
    for image, count in enumerate(is_row.sum(1).tolist()):
        whole = first + count - 1
        own_boxes = row_boxes[first:whole]
        own_masks = None
        if row_masks is not None:
            own_masks = row_masks[first:whole]
        found = _relations_of(layouts, image, own_boxes, own_masks, points)
        triples += [[first + s, relation, first + o] for s, relation, o in found]
        triples += [[row, 0, whole] for row in range(first, whole)]
        first = whole + 1
    return SceneGraphs(
        labels[is_row],
        row_boxes,
        row_masks,
        scores[is_row],
        torch.tensor(triples, dtype=torch.int64, device=labels.device).view(-1, 3),
        is_row,
    )


def _with_images(layouts: Layouts) -> tuple[Tensor, Tensor, Tensor, Tensor | None]:
    """Return labels, boxes, scores and masks with a slot for the whole image."""
    batch = len(layouts)
    labels = torch.cat([layouts.labels, layouts.labels.new_zeros(batch, 1)], 1)
    whole = layouts.boxes.new_tensor([0, 0, 1, 1]).expand(batch, 1, 4)
    boxes = torch.cat([layouts.boxes, whole], 1)
    scores = torch.cat([layouts.scores, layouts.scores.new_ones(batch, 1)], 1)
    masks = layouts.masks
    if masks is not None:
        filled = masks.new_ones(batch, 1, *masks.shape[2:])
        masks = torch.cat([masks, filled], 1)
    return labels, boxes, scores, masks


def _relations_of(
    layouts: Layouts,
    image: int,
    boxes: Tensor,
    masks: Tensor | None,
    points: Points | None,
) -> list[list[int]]:
    """Return the triples of an image, by the positions of its objects."""
    if layouts.relations is not None:
        rows = layouts.relations[image]
        return [row for row in rows.tolist() if row[1] > 0]  # 0 pads
    if points is None or len(boxes) < 2:
        return []
    corners = boxes.tolist()
    return geometric_triples(corners, centers(boxes, masks), points(image, len(boxes)).tolist())


def centers(boxes: Tensor, masks: Tensor | None) -> list[Point]:
    """Return the middle of each box [n, 4], or of what a mask [n, M, M] fills of it."""
    middle = (boxes[:, :2] + boxes[:, 2:]) / 2
    if masks is not None:
        steps = torch.linspace(0, 1, masks.shape[-1], device=boxes.device)
        filled = (masks > 0.5).to(boxes.dtype)
        area = filled.sum((1, 2))
        counts = area.clamp_min(1)
        across = (filled.sum(1) * steps).sum(1) / counts
        down = (filled.sum(2) * steps).sum(1) / counts
        share = torch.stack([across, down], 1)
        corner = boxes[:, :2]
        sides = boxes[:, 2:] - corner
        of_mask = corner + share * sides
        middle = torch.where(area[:, None] > 0, of_mask, middle)
    return [(x, y) for x, y in middle.tolist()]


def geometric_triples(
    boxes: Sequence[Corners], middles: Sequence[Point], points: Sequence[Sequence[float]]
) -> list[list[int]]:
    """Return a triple per object of an image: with one other object, in one direction.

    Which other and which direction is drawn: the two numbers in [0, 1) of each object.
    """
    triples = []
    for number, (which, direction) in enumerate(points):
        other = int(which * (len(boxes) - 1))
        if other >= number:
            other += 1
        subject = number
        target = other
        if direction > 0.5:
            subject = other
            target = number
        relation = relation_between(
            boxes[subject], boxes[target], middles[subject], middles[target]
        )
        triples.append([subject, GEOMETRIC.index(relation), target])
    return triples


def relation_between(subject: Corners, target: Corners, here: Point, there: Point) -> str:
    """Name the relation of a subject to another object, by boxes and middles."""
    if _inside(target, subject):
        return "surrounding"
    if _inside(subject, target):
        return "inside"
    angle = math.atan2(here[1] - there[1], here[0] - there[0])
    if abs(angle) >= 3 * math.pi / 4:
        return "left of"
    if angle < -math.pi / 4:
        return "above"
    if angle < math.pi / 4:
        return "right of"
    return "below"


def _inside(inner: Corners, outer: Corners) -> bool:
    begins = outer[0] < inner[0] and outer[1] < inner[1]
    return begins and outer[2] > inner[2] and outer[3] > inner[3]
