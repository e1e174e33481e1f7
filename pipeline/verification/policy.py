"""The policy on verdicts.

Objects of a synthetic scene are kept, dropped or turned into ignore regions.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, fields, replace

import numpy as np

from synthaug.pipeline.config.schema import Verify
from synthaug.pipeline.core import masks
from synthaug.pipeline.core import panoptic_maps as panoptic
from synthaug.pipeline.core.arrays import Ints
from synthaug.pipeline.core.boxes import Boxes
from synthaug.pipeline.core.json_values import Json
from synthaug.pipeline.core.scene import Category, ImageRef, Objects, Scene
from synthaug.pipeline.scores.detection.evaluator import DetectionRow
from synthaug.pipeline.verification.verdicts import (
    DOUBTFUL,
    DUPLICATE,
    EXTRA,
    KEPT,
    MISPLACED,
    MISSING,
    SWAPPED,
    TOO_SMALL,
    Verdicts,
)

# Ids of regions around extra things count from here: above all others, and exact as JSON numbers.
EXTRA_IDS = 1 << 52
EXTRA_PER_IMAGE = 10_000
NOT_JUDGED = "not_judged"
REAL = "real"  # objects of a real image that was added to, which a person labelled

Size = tuple[int, int]  # (H, W)


@dataclass(frozen=True)
class VerifiedScene:
    """A scene after verification, and the objects that were taken out of it."""

    scene: Scene | None  # None: the whole image is dropped
    rejected: Objects  # with their verdicts
    dropped: str = (
        ""  # why the image is: "failed" (too many objects did), "empty" (no label is left)
    )


def apply_policy(
    scene: Scene, row: DetectionRow, result: Verdicts, verify: Verify, index: int
) -> VerifiedScene:
    """Apply the policy of each verdict to the scene at an index of its table.

    An ignore region is a crowd whose mask is a box around the object and the detection its verdict
    rests on; in a scene with a panoptic map it keeps the segment's own mask.
    """
    objects = replace(
        scene.objects, verdict=result.verdict, verdict_score=result.score, verdict_iou=result.iou
    )
    names = result.verdict
    actions = np.array([_action(verify, name) for name in names], "<U6")
    judged = np.array([name is not None for name in names], bool)
    failed = np.array([name not in (None, KEPT) for name in names], bool)
    if judged.any():
        if failed.sum() > verify.max_failed * judged.sum():
            return VerifiedScene(None, objects, "failed")
        if not (actions[judged] == "keep").any():
            return VerifiedScene(None, objects, "empty")

    ignored = actions == "ignore"
    labels = replace(objects, iscrowd=objects.iscrowd | ignored)
    if scene.panoptic is None:
        chosen = np.flatnonzero(ignored)
        labels = _cover(labels, chosen, result.region, scene.size)
    remains = actions != "drop"
    labels = labels.select(remains)
    rejected = objects.select(~remains)
    if verify.extra == "ignore" and len(result.extra):
        labels = _concatenate(labels, _extra_regions(scene, row, result, index))
    verified = _erase(scene, rejected).with_objects(labels)
    return VerifiedScene(verified, rejected)


def _action(verify: Verify, verdict: str | None) -> str:
    """Return the job's action for an object of a verdict: keep, drop or ignore."""
    actions = {
        None: "keep",
        KEPT: "keep",
        MISSING: verify.missing,
        SWAPPED: verify.swapped,
        MISPLACED: verify.misplaced,
        DUPLICATE: verify.duplicate,
        DOUBTFUL: verify.doubtful,
        TOO_SMALL: verify.too_small,
    }
    return actions[verdict]


def _cover(objects: Objects, chosen: Ints, region: Boxes, size: Size) -> Objects:
    """Return the objects with some masks replaced by boxes `region` [N, 4].

    Those of the chosen ones.
    """
    if not len(chosen):
        return objects
    codes, tight, areas = masks.fill_boxes(region[chosen], size)
    boxes = objects.boxes.copy()
    area = objects.area.copy()
    rle = list(objects.rle)
    boxes[chosen] = tight
    area[chosen] = areas
    for index, code in zip(chosen.tolist(), codes, strict=True):
        rle[index] = code
    return replace(objects, rle=tuple(rle), boxes=boxes, area=area)


def _extra_regions(scene: Scene, row: DetectionRow, result: Verdicts, index: int) -> Objects:
    """Return ignore regions around the detections that no object explains."""
    unlabelled = row.pred_boxes[result.extra]
    codes, boxes, areas = masks.fill_boxes(unlabelled, scene.size)
    count = len(codes)
    first_id = EXTRA_IDS + index * EXTRA_PER_IMAGE
    scores = row.pred_scores[result.extra]
    return Objects.build(
        row.pred_labels[result.extra],
        boxes,
        id=first_id + np.arange(count),
        rle=tuple(codes),
        area=areas,
        iscrowd=np.ones(count),
        score=scores,
        source=("synthetic",) * count,
        verdict=(EXTRA,) * count,
        verdict_score=scores,
    )


def _concatenate(first: Objects, second: Objects) -> Objects:
    """Return the objects of both."""
    columns: Json = {}
    for field in fields(Objects):
        a = getattr(first, field.name)
        b = getattr(second, field.name)
        is_array = isinstance(a, np.ndarray)
        columns[field.name] = np.concatenate([a, b]) if is_array else (*a, *b)
    return Objects(**columns)


def _erase(scene: Scene, rejected: Objects) -> Scene:
    """Erase dropped objects from the scene's panoptic map, where it has one.

    Their pixels are unlabelled then.
    """
    if scene.panoptic is None or not len(rejected):
        return scene
    ids = panoptic.map_of(scene)
    gone = np.isin(ids, panoptic.segment_ids(rejected))
    data = masks.panoptic_png(np.where(gone, 0, ids))
    return replace(scene, panoptic=ImageRef(data, scene.panoptic.path))


def segments_only(scene: Scene) -> Scene:
    """Return the scene without regions that are no segments of its panoptic map."""
    is_segment = [verdict != EXTRA for verdict in scene.objects.verdict]
    return scene.with_objects(scene.objects.select(is_segment))


def count_objects(
    verified: VerifiedScene,
    result: Verdicts,
    row: DetectionRow,
    categories: tuple[Category, ...],
    sources: Sequence[str],
) -> dict[str, Counter[str]]:
    """Count objects per class name under each verdict.

    Also `not_judged`, `real`, `extra`, and `objects` (the labels left).
    """
    names = [category.name for category in categories]
    counts: dict[str, Counter[str]] = {"objects": Counter(), EXTRA: Counter()}
    for label in row.pred_labels[result.extra].tolist():
        counts[EXTRA][names[label]] += 1
    judged = zip(row.labels.tolist(), result.verdict, sources, strict=True)
    for label, verdict, source in judged:
        key = NOT_JUDGED
        if verdict:
            key = verdict
        elif source == "human":
            key = REAL
        counts.setdefault(key, Counter())[names[label]] += 1
    if verified.scene is not None:
        objects = verified.scene.objects
        for label in objects.category[~objects.iscrowd].tolist():
            counts["objects"][names[label]] += 1
    return counts
