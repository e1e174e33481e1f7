"""COCO average precision of detections against the boxes of scenes, and what else is counted by matching boxes.

Legend: D predictions, G true boxes, C classes, T IoU thresholds (10 of COCO), P recall points (101).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

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
    """The true objects of one image and a detector's predictions; small arrays that travel between processes.

    `index` names the evaluated image or layout; several samples of one layout share it and differ in `sample`.
    """

    index: int
    height: int
    width: int
    boxes: NDArray[np.float32]  # [G, 4] xyxy, pixels of this image
    labels: NDArray[np.int64]  # [G] class index
    crowd: NDArray[np.bool_]  # [G] predictions on crowds count neither way
    pred_boxes: NDArray[np.float32]  # [D, 4] xyxy, pixels of this image
    pred_labels: NDArray[np.int64]  # [D] class index
    pred_scores: NDArray[np.float32]  # [D]
    sample: int = 0
    area: NDArray[np.float32] | None = (
        None  # [G] mask areas for APs/m/l, pixels; None: the boxes' areas
    )

    def __post_init__(self) -> None:
        num_gt, num_pred = len(self.labels), len(self.pred_labels)
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
    def of(index: int, scene: Scene, prediction: Prediction) -> DetectionRow:
        """Return the objects of a scene with the detector's prediction on its image."""
        objects = scene.objects
        return DetectionRow(
            index,
            scene.height,
            scene.width,
            boxes=objects.boxes,
            labels=objects.category.astype(np.int64),
            crowd=objects.iscrowd,
            pred_boxes=prediction.boxes,
            pred_labels=np.asarray(prediction.labels, np.int64),
            pred_scores=prediction.scores,
        )

    def arrays(self) -> dict[str, NDArray[Any]]:
        """Return the row as named arrays, to be stored; `index` and `sample` are not among them."""
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
    per_class: Mapping[
        int, Numbers
    ]  # class index -> KEYS, "gt" (boxes that are not crowds), "gt_images"
    num_images: int
    num_gt: int
    num_predictions: int

    def mean_over(self, classes: Iterable[int], key: str) -> float | None:
        """Return the mean of a per-class number over those of `classes` that have truth."""
        numbers = (self.per_class[c][key] for c in classes if c in self.per_class)
        found = [number for number in numbers if number is not None]
        return float(np.mean(found)) if found else None

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
        self.classes = sorted(set(range(len(self.categories)) if classes is None else classes))
        assert all(0 <= c < len(self.categories) for c in self.classes)
        self._counts = np.isin(np.arange(len(self.categories)), self.classes)
        self._rows: dict[tuple[int, int], DetectionRow] = {}

    def add(self, row: DetectionRow) -> None:
        """Take one image; what COCO would not look at is dropped here, so memory holds compact arrays only."""
        assert (row.index, row.sample) not in self._rows, (
            f"image {row.index} sample {row.sample} was added twice"
        )
        for labels in (row.labels, row.pred_labels):
            assert not len(labels) or 0 <= labels.min() <= labels.max() < len(self.categories)
        gt, best = self._counts[row.labels], self._best(row)
        area = _areas(row.boxes) if row.area is None else row.area
        truth: dict[str, Any] = {
            name: getattr(row, name)[gt] for name in ("boxes", "labels", "crowd")
        }
        found: dict[str, Any] = {
            n: getattr(row, n)[best] for n in ("pred_boxes", "pred_labels", "pred_scores")
        }
        self._rows[row.index, row.sample] = replace(row, area=area[gt], **truth, **found)

    def _best(self, row: DetectionRow) -> NDArray[np.int64]:
        """Class by class the best detections, at most MAX_DETECTIONS of each; of equal scores the first."""
        order = np.lexsort((-row.pred_scores, row.pred_labels))
        labels = row.pred_labels[order]
        rank = np.arange(len(order)) - np.searchsorted(labels, labels)
        kept: NDArray[np.int64] = order[(rank < MAX_DETECTIONS) & self._counts[labels]]
        return kept

    def _limit(self, _rows: Sequence[DetectionRow]) -> int:
        """Detections per image and class that count."""
        return MAX_DETECTIONS

    def rows(self) -> list[DetectionRow]:
        """Return the collected rows in their fixed order."""
        return [self._rows[key] for key in sorted(self._rows)]

    def result(self) -> DetectionResult:
        """Return COCO's twelve figures over all classes and of each: equal to pycocotools, through faster-coco-eval."""
        rows = self.rows()
        precision, recall = self._coco(rows)
        per_class: dict[int, Numbers] = {}
        boxes, images = (
            np.zeros(len(self.categories), np.int64),
            np.zeros(len(self.categories), np.int64),
        )
        for row in rows:
            np.add.at(boxes, row.labels[~row.crowd], 1)
            images[row.labels[~row.crowd]] += 1  # once per class, however often it is there
        for k, c in enumerate(self.classes):
            numbers = _reduce(precision[:, :, k : k + 1], recall[:, k : k + 1])
            per_class[c] = {**numbers, "gt": int(boxes[c]), "gt_images": int(images[c])}
        num_gt = sum(int((~row.crowd).sum()) for row in rows)
        num_found = sum(len(row.pred_labels) for row in rows)
        return DetectionResult(_reduce(precision, recall), per_class, len(rows), num_gt, num_found)

    def _coco(self, rows: list[DetectionRow]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Return precision [T, P, C, area] at `_limit` detections and recall [T, C, area, 3] at 1, 10 and `_limit` of them.

        -1 stands where there is no truth.
        """
        from faster_coco_eval import COCO, COCOeval_faster

        # An annotation with id 0 would silently never match.
        truth = [
            {"id": number, **record} for number, record in enumerate(_records(rows, _truth), 1)
        ]
        if not truth or not self.classes:
            return np.full((10, 101, len(self.classes), 4), -1.0), np.full(
                (10, len(self.classes), 4, 3), -1.0
            )
        sizes = [
            {"id": number, "height": row.height, "width": row.width}
            for number, row in enumerate(rows, 1)
        ]
        names = [{"id": c + 1, "name": self.categories[c].name} for c in self.classes]
        gt = COCO({"images": sizes, "annotations": truth, "categories": names})
        evaluation = COCOeval_faster(
            gt, gt.loadRes(_records(rows, _found)), "bbox", print_function=lambda *_: None
        )
        evaluation.params.maxDets = [1, 10, self._limit(rows)]
        evaluation.evaluate()
        evaluation.accumulate()
        shape = (10, 101, len(self.classes), 4, 3)
        precision = np.asarray(evaluation.eval["precision"], np.float64).reshape(shape)
        recall = np.asarray(evaluation.eval["recall"], np.float64).reshape(
            10, len(self.classes), 4, 3
        )
        return precision[..., 2], recall


def frequency_groups(train_counts: Sequence[int]) -> dict[str, list[int]]:
    """Split class indices by how many training instances each has, relative to the most frequent class.

    `head`: at least half of the largest count; `tail`: below one eighth of it; `middle`: between. `unseen` classes have
    no training instance: no detector can find them, so they are not averaged into the tail. Relative bounds, because
    LVIS's absolute ones call every class of a small set rare and none of a dense one.
    """
    groups: dict[str, list[int]] = {"head": [], "middle": [], "tail": [], "unseen": []}
    most = max(train_counts, default=0)
    for c, count in enumerate(train_counts):
        part = (
            "unseen"
            if count == 0
            else "head"
            if 2 * count >= most
            else "tail"
            if 8 * count < most
            else "middle"
        )
        groups[part].append(c)
    return groups


def lvis_groups(train_images: Sequence[int]) -> dict[str, list[int]]:
    """Split class indices as LVIS does, by training images with the class: rare 1-10, common 11-100, frequent above."""
    groups: dict[str, list[int]] = {"rare": [], "common": [], "frequent": [], "unseen": []}
    for c, count in enumerate(train_images):
        groups[
            "unseen"
            if count == 0
            else "rare"
            if count <= 10
            else "common"
            if count <= 100
            else "frequent"
        ].append(c)
    return groups


def match_row(
    row: DetectionRow, classes: Iterable[int], iou: float, floor: float = -np.inf
) -> NDArray[np.int8]:
    """Return per prediction [D] 1 = hit, 0 = false, -1 = does not count (on a crowd, or scored below `floor`)."""
    state: NDArray[np.int8] = match_at(row, classes, (iou,), floor)[0]
    return state


def match_at(
    row: DetectionRow, classes: Iterable[int], ious: Sequence[float], floor: float = -np.inf
) -> NDArray[np.int8]:
    """Return what `match_row` says at each of the IoU thresholds, [len(ious), D]; the overlaps are computed once."""
    state = np.full((len(ious), len(row.pred_labels)), -1, np.int8)
    for c in np.intersect1d(row.pred_labels, list(classes)):
        pred = np.flatnonzero((row.pred_labels == c) & (row.pred_scores >= floor))
        pred = pred[np.argsort(-row.pred_scores[pred], kind="stable")]
        gt = np.flatnonzero(row.labels == c)
        crowd = row.crowd[gt]
        overlap = overlaps(row.pred_boxes[pred], row.boxes[gt], crowd)
        for t, iou in enumerate(ious):
            state[t, pred] = _match(overlap, crowd, iou)
    return state


def _match(overlap: NDArray[np.float64], crowd: NDArray[np.bool_], iou: float) -> NDArray[np.int8]:
    """Match greedily as COCO does; overlap [D, G] best prediction first, returns [D] as `match_row`."""
    state = np.zeros(len(overlap), np.int8)
    free = ~crowd
    for d in np.flatnonzero((overlap >= iou).any(axis=1)):  # all others are false
        candidates = np.where(free, overlap[d], -1.0)
        if candidates.max() >= iou:
            free[len(free) - 1 - candidates[::-1].argmax()] = False  # of equals COCO takes the last
            state[d] = 1
        elif (overlap[d][crowd] >= iou).any():
            state[d] = -1
    return state


def overlaps(pred: NDArray[Any], gt: NDArray[Any], crowd: NDArray[np.bool_]) -> NDArray[np.float64]:
    """Return IoU [D, G]; on a crowd, the part of the prediction that lies inside it."""
    a, b = pred.astype(np.float64)[:, None], gt.astype(np.float64)[None]
    sides = np.minimum(a[..., 2:], b[..., 2:]) - np.maximum(a[..., :2], b[..., :2])  # [D, G, 2]
    inter = sides.clip(min=0).prod(axis=-1)
    union = _areas(a) + np.where(crowd, 0.0, _areas(b) - inter)
    return np.asarray(np.divide(inter, union, out=np.zeros_like(inter), where=inter > 0))


def _areas(boxes: NDArray[Any]) -> NDArray[Any]:
    sides = boxes[..., 2:] - boxes[..., :2]
    return np.asarray(sides[..., 0] * sides[..., 1])


def _reduce(precision: NDArray[np.float64], recall: NDArray[np.float64]) -> dict[str, float | None]:
    """Return KEYS from precision [T, P, C, area] and recall [T, C, area, limit]."""
    sizes, limits = range(1, 4), range(3)
    all_sizes = precision[..., 0]
    parts = [all_sizes, all_sizes[0], all_sizes[5], *(precision[..., size] for size in sizes)]
    parts += [
        *(recall[..., 0, limit] for limit in limits),
        *(recall[..., size, 2] for size in sizes),
    ]
    known = (part[part > -1] for part in parts)
    return {
        key: float(part.mean()) if part.size else None
        for key, part in zip(KEYS, known, strict=True)
    }


def _truth(row: DetectionRow) -> dict[str, list[Any]]:
    assert row.area is not None
    crowd, area = row.crowd.astype(int).tolist(), row.area.tolist()
    return {
        "bbox": _xywh(row.boxes),
        "category_id": (row.labels + 1).tolist(),
        "iscrowd": crowd,
        "area": area,
    }


def _found(row: DetectionRow) -> dict[str, list[Any]]:
    labels = (row.pred_labels + 1).tolist()
    return {"bbox": _xywh(row.pred_boxes), "category_id": labels, "score": row.pred_scores.tolist()}


def _records(
    rows: list[DetectionRow], columns: Callable[[DetectionRow], dict[str, list[Any]]]
) -> list[dict[str, Any]]:
    """Turn columns of rows into COCO annotations; images count from 1."""
    return [
        {"image_id": number, **dict(zip(table, values, strict=True))}
        for number, table in enumerate(map(columns, rows), 1)
        for values in zip(*table.values(), strict=True)
    ]


def _xywh(boxes: NDArray[np.float32]) -> list[list[float]]:
    wide = boxes.astype(np.float64)
    return list(np.concatenate([wide[:, :2], wide[:, 2:] - wide[:, :2]], axis=1).tolist())
