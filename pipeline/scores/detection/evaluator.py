"""COCO average precision of detections, and other counts by matching boxes.

The truth are the boxes of scenes.

Legend: D predictions, G true boxes, C classes, T IoU thresholds (10 of COCO), P recall points
(101).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Self

import numpy as np
from numpy.typing import NDArray

from synthaug.pipeline.core.arrays import Flags, Floats, Floats32, Ints
from synthaug.pipeline.core.boxes import Boxes
from synthaug.pipeline.core.json_values import Json
from synthaug.pipeline.core.scene import Category, Scene

if TYPE_CHECKING:
    from synthaug.detectors.base import Prediction

MAX_DETECTIONS = 100  # per image and class, as COCO counts
KEYS = (
    "AP",
    "AP50",
    "AP75",
    "APs",
    "APm",
    "APl",
    "AR1",
    "AR10",
    "AR100",
    "ARs",
    "ARm",
    "ARl",
)  # as COCO lists them
Numbers = Mapping[str, float | None]


@dataclass(frozen=True)
class DetectionRow:
    """The true objects of one image and a detector's predictions.

    Small arrays that travel between processes. `index` names the evaluated image or layout; several
    samples of one layout share it and differ in `sample`.
    """

    index: int
    height: int
    width: int
    boxes: Boxes  # [G, 4] xyxy, pixels of this image
    labels: Ints  # [G] class index
    crowd: Flags  # [G] predictions on crowds count neither way
    pred_boxes: Boxes  # [D, 4] xyxy, pixels of this image
    pred_labels: Ints  # [D] class index
    pred_scores: Floats32  # [D]
    sample: int = 0
    # [G] mask areas for APs/m/l, pixels; None: the boxes' areas
    area: Floats32 | None = None

    def __post_init__(self) -> None:
        num_gt = len(self.labels)
        num_pred = len(self.pred_labels)
        assert (self.boxes.shape, self.crowd.shape) == ((num_gt, 4), (num_gt,))
        assert (self.pred_boxes.shape, self.pred_scores.shape) == ((num_pred, 4), (num_pred,))
        assert self.area is None or self.area.shape == (num_gt,)
        # One NaN score makes pycocotools answer AP 1.0, so it must never reach an evaluator.
        assert bool(np.isfinite(self.pred_scores).all()), (
            f"image {self.index}: a score is not finite"
        )
        assert bool(np.isfinite(self.pred_boxes).all()), (
            f"image {self.index}: a predicted box is not finite"
        )

    @staticmethod
    def bare(index: int, scene: Scene) -> DetectionRow:
        """Return the objects of a scene without detections."""
        objects = scene.objects
        return DetectionRow(
            index,
            scene.height,
            scene.width,
            boxes=objects.boxes,
            labels=objects.category.astype(np.int64),
            crowd=objects.iscrowd,
            pred_boxes=np.zeros((0, 4), np.float32),
            pred_labels=np.zeros(0, np.int64),
            pred_scores=np.zeros(0, np.float32),
            area=objects.area,
        )

    @staticmethod
    def of(index: int, scene: Scene, prediction: Prediction) -> DetectionRow:
        """Return the objects of a scene with the detector's prediction on its image."""
        return replace(
            DetectionRow.bare(index, scene),
            pred_boxes=prediction.boxes,
            pred_labels=np.asarray(prediction.labels, np.int64),
            pred_scores=prediction.scores,
        )

    def with_predictions(self, keep: NDArray[Any]) -> DetectionRow:
        """Return the row with the predictions at a mask [D] or at indices, in that order."""
        return replace(
            self,
            pred_boxes=self.pred_boxes[keep],
            pred_labels=self.pred_labels[keep],
            pred_scores=self.pred_scores[keep],
        )

    def with_objects(self, keep: Flags) -> DetectionRow:
        """Return the row with the true objects at a mask [G]."""
        area = self.area
        if area is not None:
            area = area[keep]
        return replace(
            self,
            boxes=self.boxes[keep],
            labels=self.labels[keep],
            crowd=self.crowd[keep],
            area=area,
        )

    def arrays(self) -> dict[str, NDArray[Any]]:
        """Return the row as named arrays, to be stored.

        `index` and `sample` are not among them.
        """
        arrays: dict[str, NDArray[Any]] = {
            "size": np.array([self.height, self.width]),
            "boxes": self.boxes,
            "labels": self.labels,
            "crowd": self.crowd,
            "pred_boxes": self.pred_boxes,
            "pred_labels": self.pred_labels,
            "pred_scores": self.pred_scores,
        }
        if self.area is not None:
            arrays["area"] = self.area
        return arrays

    @staticmethod
    def from_arrays(
        index: int, arrays: Mapping[str, NDArray[Any]], sample: int = 0
    ) -> DetectionRow:
        """Return the row that `arrays` describes."""
        height, width = arrays["size"].tolist()
        return DetectionRow(
            index,
            height,
            width,
            boxes=arrays["boxes"],
            labels=arrays["labels"],
            crowd=arrays["crowd"],
            pred_boxes=arrays["pred_boxes"],
            pred_labels=arrays["pred_labels"],
            pred_scores=arrays["pred_scores"],
            sample=sample,
            area=arrays.get("area"),
        )


@dataclass(frozen=True)
class DetectionResult:
    """COCO numbers in [0, 1]; None where there is no truth to compare with."""

    values: Numbers  # KEYS over all evaluated classes
    # class index -> KEYS, "gt" (boxes that are not crowds), "gt_images"
    per_class: Mapping[int, Numbers]
    num_images: int
    num_gt: int
    num_predictions: int

    def mean_over(self, classes: Iterable[int], key: str) -> float | None:
        """Return the mean of a per-class number over those of `classes` that have truth."""
        numbers = []
        for c in classes:
            number = self.per_class.get(c, {}).get(key)
            if number is not None:
                numbers.append(number)
        if not numbers:
            return None
        return float(np.mean(numbers))

    def table(self, categories: Sequence[Category]) -> dict[str, Numbers]:
        """Return the per-class numbers by class name."""
        return {categories[c].name: numbers for c, numbers in self.per_class.items()}


class DetectionEvaluator:
    """Collects rows in any order, then measures them in the order of (index, sample).

    Only `classes` (indices; default all) count, in the truth and in the predictions.
    """

    def __init__(
        self, categories: Sequence[Category], classes: Iterable[int] | None = None
    ) -> None:
        self.categories = tuple(categories)
        if classes is None:
            classes = range(len(self.categories))
        self.classes = sorted(set(classes))
        assert all(0 <= c < len(self.categories) for c in self.classes)
        self._is_evaluated = np.isin(np.arange(len(self.categories)), self.classes)  # [C]
        self._rows: dict[tuple[int, int], DetectionRow] = {}

    @classmethod
    def of(
        cls, rows: Iterable[DetectionRow], categories: Sequence[Category], classes: Iterable[int]
    ) -> Self:
        """Return an evaluator that holds the rows, for some classes."""
        evaluator = cls(categories, classes)
        for row in rows:
            evaluator.add(row)
        return evaluator

    def add(self, row: DetectionRow) -> None:
        """Take one image.

        What COCO would not count is dropped here, so memory holds compact arrays only.
        """
        assert (row.index, row.sample) not in self._rows, (
            f"image {row.index} sample {row.sample} was added twice"
        )
        for labels in (row.labels, row.pred_labels):
            assert not len(labels) or 0 <= labels.min() <= labels.max() < len(self.categories)
        if row.area is None:
            row = replace(row, area=_areas(row.boxes))
        evaluated = row.with_objects(self._is_evaluated[row.labels])
        self._rows[row.index, row.sample] = evaluated.with_predictions(self._best(row))

    def _best(self, row: DetectionRow) -> Ints:
        """Return the indices of the best detections, at most MAX_DETECTIONS of a class.

        Class by class. Of equal scores the first counts as better.
        """
        order = np.lexsort((-row.pred_scores, row.pred_labels))
        labels = row.pred_labels[order]
        rank = np.arange(len(order)) - np.searchsorted(labels, labels)
        best: Ints = order[(rank < MAX_DETECTIONS) & self._is_evaluated[labels]]
        return best

    def _limit(self, _rows: Sequence[DetectionRow]) -> int:
        """Detections per image and class that count."""
        return MAX_DETECTIONS

    def rows(self) -> list[DetectionRow]:
        """Return the collected rows in their fixed order."""
        return [self._rows[key] for key in sorted(self._rows)]

    def result(self) -> DetectionResult:
        """Return COCO's twelve figures over all classes and of each.

        Equal to pycocotools, through faster-coco-eval.
        """
        rows = self.rows()
        precision, recall = self._coco(rows)
        num_boxes = np.zeros(len(self.categories), np.int64)
        num_images = np.zeros(len(self.categories), np.int64)
        num_gt = 0
        num_predictions = 0
        for row in rows:
            labels = row.labels[~row.crowd]
            np.add.at(num_boxes, labels, 1)
            num_images[labels] += 1  # once per class, however often it is there
            num_gt += len(labels)
            num_predictions += len(row.pred_labels)
        per_class: dict[int, Numbers] = {}
        for k, c in enumerate(self.classes):
            numbers = _reduce(precision[:, :, k : k + 1], recall[:, k : k + 1])
            numbers["gt"] = int(num_boxes[c])
            numbers["gt_images"] = int(num_images[c])
            per_class[c] = numbers
        values = _reduce(precision, recall)
        return DetectionResult(values, per_class, len(rows), num_gt, num_predictions)

    def _coco(self, rows: list[DetectionRow]) -> tuple[Floats, Floats]:
        """Return precision [T, P, C, area] and recall [T, C, area, 3].

        Precision at `_limit` detections, recall at 1, 10 and `_limit` of them.
        -1 stands where there is no truth.
        """
        from faster_coco_eval import COCO, COCOeval_faster

        num_classes = len(self.classes)
        annotations = _annotations(rows, _true_columns)
        if not annotations or not self.classes:
            no_precision = np.full((10, 101, num_classes, 4), -1.0)
            return no_precision, np.full((10, num_classes, 4, 3), -1.0)
        for number, annotation in enumerate(annotations, 1):
            annotation["id"] = number  # one with id 0 would silently never match
        images = []
        for number, row in enumerate(rows, 1):
            images.append({"id": number, "height": row.height, "width": row.width})
        names = [{"id": c + 1, "name": self.categories[c].name} for c in self.classes]
        gt = COCO({"images": images, "annotations": annotations, "categories": names})
        predictions = gt.loadRes(_annotations(rows, _predicted_columns))
        evaluation = COCOeval_faster(gt, predictions, "bbox", print_function=lambda *_: None)
        evaluation.params.maxDets = [1, 10, self._limit(rows)]
        evaluation.evaluate()
        evaluation.accumulate()
        precision = np.asarray(evaluation.eval["precision"], np.float64)
        recall = np.asarray(evaluation.eval["recall"], np.float64)
        precision = precision.reshape(10, 101, num_classes, 4, 3)
        return precision[..., 2], recall.reshape(10, num_classes, 4, 3)


def frequency_groups(train_counts: Sequence[int]) -> dict[str, list[int]]:
    """Split class indices by their training instances, relative to the largest class.

    `head`: at least half of the largest count; `tail`: below one eighth of it; `middle`: between.
    `unseen` classes have no training instance: no detector can find them, so they are not averaged
    into the tail. Relative bounds, because LVIS's absolute ones call every class of a small set
    rare and none of a dense one.
    """
    groups: dict[str, list[int]] = {"head": [], "middle": [], "tail": [], "unseen": []}
    most = max(train_counts, default=0)
    for c, count in enumerate(train_counts):
        if count == 0:
            groups["unseen"].append(c)
        elif 2 * count >= most:
            groups["head"].append(c)
        elif 8 * count < most:
            groups["tail"].append(c)
        else:
            groups["middle"].append(c)
    return groups


def lvis_groups(train_images: Sequence[int]) -> dict[str, list[int]]:
    """Split class indices as LVIS does, by training images with the class.

    Rare 1-10, common 11-100, frequent above.
    """
    groups: dict[str, list[int]] = {"rare": [], "common": [], "frequent": [], "unseen": []}
    for c, count in enumerate(train_images):
        if count == 0:
            groups["unseen"].append(c)
        elif count <= 10:
            groups["rare"].append(c)
        elif count <= 100:
            groups["common"].append(c)
        else:
            groups["frequent"].append(c)
    return groups


def match_row(
    row: DetectionRow, classes: Iterable[int], iou: float, floor: float = -np.inf
) -> NDArray[np.int8]:
    """Return per prediction [D] 1 = hit, 0 = false, -1 = does not count.

    It does not count on a crowd, or scored below `floor`.
    """
    state: NDArray[np.int8] = match_at(row, classes, (iou,), floor)[0]
    return state


def match_at(
    row: DetectionRow, classes: Iterable[int], ious: Sequence[float], floor: float = -np.inf
) -> NDArray[np.int8]:
    """Return the states of `match_row` at each IoU threshold, [len(ious), D].

    The overlaps are computed once.
    """
    state = np.full((len(ious), len(row.pred_labels)), -1, np.int8)
    for c in np.intersect1d(row.pred_labels, list(classes)):
        pred = np.flatnonzero((row.pred_labels == c) & (row.pred_scores >= floor))
        order = np.argsort(-row.pred_scores[pred], kind="stable")
        pred = pred[order]
        gt = np.flatnonzero(row.labels == c)
        crowd = row.crowd[gt]
        overlap = overlaps(row.pred_boxes[pred], row.boxes[gt], crowd)
        for t, iou in enumerate(ious):
            state[t, pred] = _match(overlap, crowd, iou)
    return state


def _match(overlap: Floats, crowd: Flags, iou: float) -> NDArray[np.int8]:
    """Match greedily as COCO does, and return [D] as `match_row` does.

    overlap is [D, G], best prediction first.
    """
    state = np.zeros(len(overlap), np.int8)
    free = ~crowd
    candidates = np.flatnonzero((overlap >= iou).any(axis=1))  # all others are false
    for d in candidates:
        of_free = np.where(free, overlap[d], -1.0)
        if of_free.max() >= iou:
            last = len(free) - 1 - of_free[::-1].argmax()  # of equals COCO takes the last
            free[last] = False
            state[d] = 1
        elif (overlap[d][crowd] >= iou).any():
            state[d] = -1
    return state


def overlaps(pred: NDArray[Any], gt: NDArray[Any], crowd: Flags) -> Floats:
    """Return IoU [D, G]; on a crowd, the part of the prediction that lies inside it."""
    a = pred.astype(np.float64)[:, None]  # [D, 1, 4]
    b = gt.astype(np.float64)[None]  # [1, G, 4]
    low = np.maximum(a[..., :2], b[..., :2])
    high = np.minimum(a[..., 2:], b[..., 2:])
    inter = (high - low).clip(min=0).prod(axis=-1)  # [D, G]
    rest = np.where(crowd, 0.0, _areas(b) - inter)  # of the true box
    union = _areas(a) + rest
    return np.asarray(np.divide(inter, union, out=np.zeros_like(inter), where=inter > 0))


def _areas(boxes: NDArray[Any]) -> NDArray[Any]:
    sides = boxes[..., 2:] - boxes[..., :2]
    return np.asarray(sides[..., 0] * sides[..., 1])


def _reduce(precision: Floats, recall: Floats) -> dict[str, float | None]:
    """Return KEYS from precision [T, P, C, area] and recall [T, C, area, limit]."""
    all_sizes = precision[..., 0]
    parts = [
        all_sizes,
        all_sizes[0],  # IoU 0.50
        all_sizes[5],  # IoU 0.75
        precision[..., 1],
        precision[..., 2],
        precision[..., 3],
        recall[..., 0, 0],
        recall[..., 0, 1],
        recall[..., 0, 2],
        recall[..., 1, 2],
        recall[..., 2, 2],
        recall[..., 3, 2],
    ]
    numbers: dict[str, float | None] = {}
    for key, part in zip(KEYS, parts, strict=True):
        known = part[part > -1]
        numbers[key] = float(known.mean()) if known.size else None
    return numbers


def _true_columns(row: DetectionRow) -> dict[str, list[Any]]:
    assert row.area is not None
    return {
        "bbox": _xywh(row.boxes),
        "category_id": (row.labels + 1).tolist(),
        "iscrowd": row.crowd.astype(int).tolist(),
        "area": row.area.tolist(),
    }


def _predicted_columns(row: DetectionRow) -> dict[str, list[Any]]:
    return {
        "bbox": _xywh(row.pred_boxes),
        "category_id": (row.pred_labels + 1).tolist(),
        "score": row.pred_scores.tolist(),
    }


def _annotations(
    rows: list[DetectionRow], columns_of: Callable[[DetectionRow], dict[str, list[Any]]]
) -> list[Json]:
    """Return columns of rows as COCO annotations; images count from 1."""
    annotations = []
    for number, row in enumerate(rows, 1):
        columns = columns_of(row)
        for values in zip(*columns.values(), strict=True):
            annotation = dict(zip(columns, values, strict=True))
            annotation["image_id"] = number
            annotations.append(annotation)
    return annotations


def _xywh(boxes: Boxes) -> list[list[float]]:
    wide = boxes.astype(np.float64)
    sides = wide[:, 2:] - wide[:, :2]
    return list(np.concatenate([wide[:, :2], sides], axis=1).tolist())
