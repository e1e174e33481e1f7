"""Images that are not labelled in full.

Regions to ignore, objects without a box loss, background that teaches nothing. Targets are
torchvision's, with `ignore` [K, 4] (regions, crowds among them, that are neither objects nor
background), `box_loss` [N] (False: class and objectness of the object are learned, its box and its
mask are not) and `ignore_background` (where it is there, background is learned near objects only).
All are optional.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional as F
from torchvision.models.detection.rpn import RegionProposalNetwork
from torchvision.ops import box_iou

from synthaug.detectors.base import Tensors

INSIDE = 0.5  # least share of a box in a region for the box to count as inside
# least IoU of background with an object that it is near to (Girshick 2015, section 2.3: hard
# examples)
NEAR = 0.1
OBJECT, OBJECT_WITHOUT_BOX = 1.0, 2.0  # labels of anchors; 0 is background, -1 neither
BETA = 1 / 9  # where the smooth L1 losses of both stages turn linear, as torchvision's


class PartialProposals(RegionProposalNetwork):  # type: ignore[misc]
    """Torchvision's proposals for images that are not labelled in full."""

    def assign_targets_to_anchors(
        self,
        anchors: list[Tensor],
        targets: list[dict[str, Tensor]],
    ) -> tuple[list[Tensor], list[Tensor]]:
        """Return per image the labels of anchors and the true boxes they belong to.

        Labels are 1 for an object, 2 for one without a box loss, 0 for background, -1 for neither.
        """
        all_labels, all_matched = [], []
        for boxes, target in zip(anchors, targets, strict=True):
            labels, matched = self._assign(boxes, target)
            all_labels.append(without_ignored(boxes, labels, target))
            all_matched.append(matched)
        return all_labels, all_matched

    def _assign(self, anchors: Tensor, target: Tensors) -> tuple[Tensor, Tensor]:
        """Return the labels [A] of an image's anchors [A, 4] and their true boxes [A, 4]."""
        truth = target["boxes"]
        if not len(truth):
            return torch.zeros_like(anchors[:, 0]), torch.zeros_like(anchors)
        index = self.proposal_matcher(box_iou(truth, anchors))  # [A]
        matched = index.clamp(min=0)
        labels = torch.full_like(anchors[:, 0], OBJECT)
        labels[~box_losses(target)[matched]] = OBJECT_WITHOUT_BOX
        labels[index == self.proposal_matcher.BELOW_LOW_THRESHOLD] = 0
        labels[index == self.proposal_matcher.BETWEEN_THRESHOLDS] = -1
        return labels, truth[matched]

    def compute_loss(
        self,
        objectness: Tensor,
        pred_bbox_deltas: Tensor,
        labels: list[Tensor],
        regression_targets: list[Tensor],
    ) -> tuple[Tensor, Tensor]:
        """Return the losses of sampled anchors.

        Is there an object (a mean), and where is it (a share of that mean).
        """
        objects, background = self.fg_bg_sampler(labels)
        drawn = [torch.cat(objects), torch.cat(background)]
        indices = torch.cat([mask.nonzero()[:, 0] for mask in drawn])
        all_labels = torch.cat(labels)
        with_box = drawn[0] & (all_labels == OBJECT)
        box_loss = smooth_l1(pred_bbox_deltas[with_box], torch.cat(regression_targets)[with_box])
        logits = objectness.flatten()[indices]
        truth = all_labels[indices].clamp(max=OBJECT)
        objectness_loss = mean_loss(F.binary_cross_entropy_with_logits, logits, truth)
        return objectness_loss, box_loss / max(1, len(indices))


def box_losses(target: Tensors) -> Tensor:
    """Return the objects [N] of a target whose boxes are learned."""
    flags = target.get("box_loss")
    if flags is None:
        return torch.ones_like(target["labels"], dtype=torch.bool)
    return flags


def smooth_l1(predicted: Tensor, truth: Tensor) -> Tensor:
    """Return the sum of the smooth L1 losses of box offsets [R, 4].

    Girshick 2015, eq. 3.
    """
    return F.smooth_l1_loss(predicted, truth, beta=BETA, reduction="sum")


def mean_loss(loss: Callable[[Tensor, Tensor], Tensor], logits: Tensor, truth: Tensor) -> Tensor:
    """Return a mean loss of boxes; 0 without any, where a mean is no number."""
    if not len(logits):
        return logits.sum()
    return loss(logits, truth)


def without_ignored(boxes: Tensor, labels: Tensor, target: Tensors) -> Tensor:
    """Return labels [A] of boxes [A, 4], -1 for background that teaches nothing."""
    labels = ignore_background(boxes, labels, target.get("ignore"))
    if "ignore_background" not in target:
        return labels
    near = torch.zeros_like(labels, dtype=torch.bool)
    if len(target["boxes"]):
        overlap = box_iou(boxes, target["boxes"])
        near = (overlap >= NEAR).any(1)
    is_far_background = (labels == 0) & ~near
    return torch.where(is_far_background, -1, labels)


def ignore_background(boxes: Tensor, labels: Tensor, regions: Tensor | None) -> Tensor:
    """Return labels [A] of boxes [A, 4], -1 for background in a region [K, 4].

    Where nothing to learn would be left of the image, all labels stay.
    """
    if regions is None:
        return labels
    low = torch.maximum(boxes[:, None, :2], regions[None, :, :2])
    high = torch.minimum(boxes[:, None, 2:], regions[None, :, 2:])
    meeting = (high - low).clamp(min=0)
    intersections = meeting.prod(-1)  # [A, K]
    sides = boxes[:, 2:] - boxes[:, :2]
    areas = sides.prod(-1).clamp(min=1e-6)
    shares = intersections / areas[:, None]
    inside = (shares >= INSIDE).any(1)
    ignored = (labels == 0) & inside
    masked = torch.where(ignored, -1, labels)
    if (masked >= 0).any():
        return masked
    return labels
