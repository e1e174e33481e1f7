"""Regions to ignore: crowds and whatever else nobody could label, neither objects to learn nor background."""

from __future__ import annotations

import torch
from torch import Tensor
from torchvision.models.detection.rpn import RegionProposalNetwork

INSIDE = 0.5  # share of a box from which on it is in a region


class Proposals(RegionProposalNetwork):  # type: ignore[misc]
    """Torchvision's proposals; anchors in regions to ignore are no background."""

    def assign_targets_to_anchors(
        self, anchors: list[Tensor], targets: list[dict[str, Tensor]]
    ) -> tuple[list[Tensor], list[Tensor]]:
        """Per image, labels of anchors (1 object, 0 background, -1 neither) and the true boxes they belong to."""
        labels, matched = super().assign_targets_to_anchors(anchors, targets)
        return [
            spared(a, c, t.get("ignore")) for a, c, t in zip(anchors, labels, targets, strict=True)
        ], matched


def spared(boxes: Tensor, labels: Tensor, ignore: Tensor | None) -> Tensor:
    """Labels [A] of boxes [A, 4], with -1 (neither) for what would be background but lies in a region [K, 4] to ignore.

    Where nothing to learn would be left of the image, all stays: losses are means, and a mean of nothing is no number.
    """
    if ignore is None:
        return labels
    low = torch.maximum(boxes[:, None, :2], ignore[None, :, :2])
    high = torch.minimum(boxes[:, None, 2:], ignore[None, :, 2:])
    areas = (boxes[:, 2:] - boxes[:, :2]).prod(-1).clamp(min=1e-6)
    inside = (high - low).clamp(min=0).prod(-1) / areas[:, None]  # [A, K]
    left = torch.where((labels == 0) & (inside >= INSIDE).any(1), -1, labels)
    return left if (left >= 0).any() else labels
