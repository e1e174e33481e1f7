"""Regions to ignore, crowds among them: neither objects to learn nor background."""

from __future__ import annotations

import torch
from torch import Tensor
from torchvision.models.detection.rpn import RegionProposalNetwork

INSIDE = 0.5  # least share of a box in a region for the box to count as inside


class IgnoringProposals(RegionProposalNetwork):  # type: ignore[misc]
    """Torchvision's proposals; anchors in regions to ignore are no background."""

    def assign_targets_to_anchors(
        self,
        anchors: list[Tensor],
        targets: list[dict[str, Tensor]],
    ) -> tuple[list[Tensor], list[Tensor]]:
        """Return per image the labels of anchors and the true boxes they belong to.

        Labels are 1 for an object, 0 for background, -1 for neither.
        """
        all_labels, matched = super().assign_targets_to_anchors(anchors, targets)
        masked = []
        for boxes, labels, target in zip(anchors, all_labels, targets, strict=True):
            masked.append(ignore_background(boxes, labels, target.get("ignore")))
        return masked, matched


def ignore_background(boxes: Tensor, labels: Tensor, regions: Tensor | None) -> Tensor:
    """Return labels [A] of boxes [A, 4], -1 for background in a region [K, 4].

    Where nothing to learn would be left of the image, all labels stay: losses are means, and a mean
    of nothing is no number.
    """
    if regions is None:
        return labels
    low = torch.maximum(boxes[:, None, :2], regions[None, :, :2])
    high = torch.minimum(boxes[:, None, 2:], regions[None, :, 2:])
    intersections = (high - low).clamp(min=0).prod(-1)  # [A, K]
    areas = (boxes[:, 2:] - boxes[:, :2]).prod(-1).clamp(min=1e-6)
    shares = intersections / areas[:, None]
    inside = (shares >= INSIDE).any(1)
    masked = torch.where((labels == 0) & inside, -1, labels)
    if (masked >= 0).any():
        return masked
    return labels
