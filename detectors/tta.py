"""Test-time augmentation: detections of mirrored and scaled images, merged.

Boxes and scores are fused as in weighted boxes fusion (Solovyev, Wang and Gabruseva 2021, section
3): a box is the mean of its members weighed by their scores, its score the sum of theirs over the
number of views, so that an object seen in one view alone counts less. Score-averaging suppression
would keep one member's box and lose the others' corners. Members are grouped in another way than
there: pairs of different views are joined best overlap first, and a group takes at most one
detection of a view. So neighbours that one view keeps apart are never merged, and the order of
views does not matter.

Legend: D detections of all views.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from synthaug.detectors.base import Detector, Prediction
from synthaug.detectors.boxes import Floats, Floats32, Image, Ints, mirror_boxes, pairwise_iou

MERGE_IOU = 0.55  # least overlap of two views of one object; the paper's value
_LEAST_WEIGHT = 1e-12  # of a score of 0, so that a group of such boxes still has a mean


class TestTimeAugmented:
    """A detector of several views of an image; it has `predict` only.

    `scales` are sizes besides the image's own, 1.0; with `flip` each is seen mirrored too.
    """

    def __init__(self, detector: Detector, flip: bool, scales: Sequence[float]) -> None:
        self._detector = detector
        self.num_classes = detector.num_classes
        others = {float(scale) for scale in scales} - {1.0}
        self._views: list[tuple[float, bool]] = []  # scale, mirrored
        for scale in (1.0, *sorted(others)):
            self._views.append((scale, False))
            if flip:
                self._views.append((scale, True))

    def __len__(self) -> int:
        return len(self._views)

    def predict(self, images: Sequence[Image], scale: float = 1.0) -> list[Prediction]:
        """Detect in images [H, W, 3]; with one view the detector's own answer, unchanged."""
        if len(self._views) == 1:
            return self._detector.predict(images, scale)
        turned = [image[:, ::-1] for image in images]
        mirrored_images = [np.ascontiguousarray(image) for image in turned]
        of_views: list[list[Prediction]] = []
        for view_scale, mirrored in self._views:
            if not mirrored:
                of_views.append(self._detector.predict(images, scale * view_scale))
                continue
            detections = self._detector.predict(mirrored_images, scale * view_scale)
            pairs = zip(detections, images, strict=True)
            of_views.append([mirror(one, image.shape[1]) for one, image in pairs])
        of_images = zip(*of_views, strict=True)
        return [merge(of_image) for of_image in of_images]


def mirror(prediction: Prediction, width: int) -> Prediction:
    """Return detections in an image of `width` pixels as they lie in its mirror image."""
    boxes = mirror_boxes(prediction.boxes, width)
    masks = prediction.masks
    if masks is not None:
        masks = np.ascontiguousarray(masks[:, :, ::-1])
    return Prediction(boxes, prediction.labels, prediction.scores, masks)


def merge(views: Sequence[Prediction], iou: float = MERGE_IOU) -> Prediction:
    """Fuse the detections of several views of one image, in its pixels; best first.

    Masks are fused like boxes: the mean of the soft masks [M, M], each stretched over its own box.
    """
    all_boxes = np.concatenate([view.boxes for view in views])
    all_scores = np.concatenate([view.scores for view in views])
    boxes = all_boxes.astype(np.float64)  # [D, 4]
    labels = np.concatenate([view.labels for view in views])
    scores = all_scores.astype(np.float64)
    counts = [len(view.labels) for view in views]
    view_index = np.repeat(np.arange(len(views)), counts)  # [D]
    masks = _join_masks(views)  # [D, M, M]

    groups = _group_by_class(boxes, labels, scores, view_index, iou)
    means = [scores[group].sum() / len(views) for group in groups]
    merged_scores = np.array(means)
    best_first = np.argsort(-merged_scores, kind="stable")
    merged_boxes = []
    merged_labels = []
    merged_masks = []
    for k in best_first:
        group = groups[k]
        weights = np.maximum(scores[group], _LEAST_WEIGHT)
        weights = weights / weights.sum()
        merged_boxes.append(weights @ boxes[group])
        merged_labels.append(labels[group[0]])
        if masks is not None:
            merged_masks.append(np.tensordot(weights, masks[group], 1))
    stacked_masks = None
    if masks is not None:
        size = masks.shape[1:]
        stacked_masks = np.array(merged_masks, np.float32).reshape(-1, *size)
    stacked_boxes = np.array(merged_boxes, np.float32).reshape(-1, 4)
    stacked_labels = np.array(merged_labels, np.int64)
    best_scores = merged_scores[best_first].astype(np.float32)
    return Prediction(stacked_boxes, stacked_labels, best_scores, stacked_masks)


def _join_masks(views: Sequence[Prediction]) -> Floats32 | None:
    """Return the masks [D, M, M] of all views, None unless every view has masks."""
    masks = [view.masks for view in views if view.masks is not None]
    if not masks or len(masks) < len(views):
        return None
    return np.concatenate(masks)


def _group_by_class(
    boxes: Floats,
    labels: Ints,
    scores: Floats,
    view_index: Ints,
    iou: float,
) -> list[Ints]:
    """Return the indices of the detections of each object, class by class."""
    # sorted by content alone: neither views nor the detections in them have an order of their own
    order = np.lexsort((*boxes.T, -scores))
    groups: list[Ints] = []
    for label in np.unique(labels):
        of_class = order[labels[order] == label]
        for members in _group(boxes[of_class], view_index[of_class], iou):
            groups.append(of_class[members])
    return groups


def _group(
    boxes: Floats,
    view_index: Ints,
    iou: float,
) -> list[list[int]]:
    """Return groups of boxes of one class that show the same object.

    All pairs of a group overlap by `iou` or more, and no two are of one view.
    """
    overlap = pairwise_iou(boxes)  # [D, D]
    other_view = view_index[:, None] != view_index
    first, second = np.nonzero(np.triu(overlap >= iou, 1) & other_view)
    group_of = [[k] for k in range(len(boxes))]  # [D]; the members of a group share one list
    best_first = np.argsort(-overlap[first, second], kind="stable")
    for pair in best_first:
        one = group_of[first[pair]]
        other = group_of[second[pair]]
        if one is other:
            continue
        views_of_one = set(view_index[one].tolist())
        views_of_other = set(view_index[other].tolist())
        if views_of_one & views_of_other:
            continue
        if overlap[np.ix_(one, other)].min() >= iou:
            one += other
            for member in other:
                group_of[member] = one
    return [group for k, group in enumerate(group_of) if group[0] == k]
