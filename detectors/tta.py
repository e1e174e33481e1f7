"""Test-time augmentation: an image seen mirrored and at several sizes, and what was found in all views merged.

Boxes and scores are fused as in weighted boxes fusion (Solovyev, Wang and Gabruseva 2021, section 3): a box is the mean of
its members weighed by their scores, its score the sum of theirs over the number of views, so that what one view alone saw
counts less. Score-averaging suppression would keep one member's box and lose the others' corners. What belongs together is
found in another way than there: pairs of different views are joined best overlap first, and a group takes at most one
detection of a view. So neighbours that one view keeps apart are never merged, and the order of views does not matter.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from synthaug.detectors.base import Detector, Prediction

IOU = 0.55  # from which on two views see the same object; the paper's value
_LEAST_WEIGHT = 1e-12  # of a score of 0, so that a group of such boxes still has a mean


class TestTimeAugmented:
    """A detector that looks several times; `predict` is all of the contract it offers."""

    def __init__(self, detector: Detector, flip: bool, scales: Sequence[float]) -> None:
        """`scales` are sizes besides the image's own, 1.0; with `flip` each is seen mirrored too."""
        self._detector = detector
        self.num_classes = detector.num_classes
        sizes = (1.0, *sorted({float(scale) for scale in scales} - {1.0}))
        self._views = [
            (scale, mirrored)
            for scale in sizes
            for mirrored in ((False, True) if flip else (False,))
        ]

    def __len__(self) -> int:
        return len(self._views)

    def predict(self, images: Sequence[NDArray[np.uint8]], scale: float = 1.0) -> list[Prediction]:
        """Detect in a batch of images [H, W, 3]; one view is the detector's own answer, unchanged."""
        if len(self._views) == 1:
            return self._detector.predict(images, scale)
        mirrored = [np.ascontiguousarray(image[:, ::-1]) for image in images]
        seen = []
        for zoom, flipped in self._views:
            found = self._detector.predict(mirrored if flipped else images, scale * zoom)
            if flipped:
                found = [
                    mirror(one, image.shape[1]) for one, image in zip(found, images, strict=True)
                ]
            seen.append(found)
        return [merge(of_image) for of_image in zip(*seen, strict=True)]


def mirror(prediction: Prediction, width: int) -> Prediction:
    """Return what was found in an image of `width` pixels as it lies in its mirror image."""
    x1, y1, x2, y2 = prediction.boxes.T
    boxes = np.stack([width - x2, y1, width - x1, y2], axis=1).astype(
        np.float32
    )  # [N, 4] xyxy, pixels
    masks = None if prediction.masks is None else np.ascontiguousarray(prediction.masks[:, :, ::-1])
    return Prediction(boxes, prediction.labels, prediction.scores, masks)


def merge(views: Sequence[Prediction], iou: float = IOU) -> Prediction:
    """Fuse what several views of one image found, all in the pixels of that image; best first.

    Masks are fused like boxes: the mean of the soft masks [M, M], each stretched over its own box.
    """
    boxes = np.concatenate([view.boxes for view in views]).astype(np.float64)  # [D, 4] xyxy, pixels
    labels = np.concatenate([view.labels for view in views])
    scores = np.concatenate([view.scores for view in views]).astype(np.float64)
    origin = np.repeat(
        np.arange(len(views)), [len(view.labels) for view in views]
    )  # [D] which view saw it
    order = np.lexsort(
        (*boxes.T, -scores)
    )  # by content alone: neither views nor detections have a first
    groups: list[NDArray[np.int64]] = []
    for label in np.unique(labels):
        of_class = order[labels[order] == label]
        groups += [of_class[members] for members in _groups(boxes[of_class], origin[of_class], iou)]
    soft = [view.masks for view in views if view.masks is not None]
    masks = np.concatenate(soft) if soft and len(soft) == len(views) else None
    fused = [_fuse(boxes[g], scores[g], None if masks is None else masks[g]) for g in groups]
    total = np.array([scores[g].sum() / len(views) for g in groups])
    best = np.argsort(-total, kind="stable")
    return Prediction(
        np.array([fused[k][0] for k in best], np.float32).reshape(-1, 4),
        np.array([labels[groups[k][0]] for k in best], np.int64),
        total[best].astype(np.float32),
        None
        if masks is None
        else np.array([fused[k][1] for k in best], np.float32).reshape(-1, *masks.shape[1:]),
    )


def _groups(boxes: NDArray[np.float64], origin: NDArray[np.int64], iou: float) -> list[list[int]]:
    """Which of D boxes of one class show the same object: all pairs of a group overlap, and no two are of one view."""
    overlap = _overlaps(boxes)  # [D, D]
    first, second = np.nonzero(np.triu(overlap >= iou, 1) & (origin[:, None] != origin))
    group_of = [[k] for k in range(len(boxes))]  # [D] the group each is in; members share one list
    for pair in np.argsort(-overlap[first, second], kind="stable"):
        one, other = group_of[first[pair]], group_of[second[pair]]
        together = one is not other and not set(origin[one].tolist()) & set(origin[other].tolist())
        if together and overlap[np.ix_(one, other)].min() >= iou:
            one += other
            for member in other:
                group_of[member] = one
    return [group for k, group in enumerate(group_of) if group[0] == k]


def _overlaps(boxes: NDArray[np.float64]) -> NDArray[np.float64]:
    """IoU of each pair of boxes [D, D]; 0 where both are empty."""
    near = np.maximum(boxes[:, None, :2], boxes[None, :, :2])
    far = np.minimum(boxes[:, None, 2:], boxes[None, :, 2:])
    inter = (far - near).clip(min=0).prod(axis=2)  # [D, D]
    area = (boxes[:, 2:] - boxes[:, :2]).prod(axis=1)
    union = area[:, None] + area[None] - inter
    return np.asarray(np.divide(inter, union, out=np.zeros_like(inter), where=union > 0))


def _fuse(
    boxes: NDArray[np.float64], scores: NDArray[np.float64], masks: NDArray[np.float32] | None
) -> tuple[NDArray[np.float64], NDArray[np.float64] | None]:
    """The mean box [4] and soft mask [M, M] of one group, weighed by score."""
    weights = np.maximum(scores, _LEAST_WEIGHT)
    weights = weights / weights.sum()
    return weights @ boxes, None if masks is None else np.tensordot(weights, masks, 1)
