"""What becomes of a synthetic scene after the verdicts: objects kept, dropped or turned into ignore regions."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from synthaug.pipeline.config.schema import Verify
from synthaug.pipeline.core import masks
from synthaug.pipeline.core import panoptic_maps as panoptic
from synthaug.pipeline.core.scene import Category, ImageRef, Objects, Scene
from synthaug.pipeline.scores.detection.evaluator import DetectionRow
from synthaug.pipeline.verification.verdicts import EXTRA, KEPT, Judged

EXTRA_IDS = (
    1 << 52
)  # ids of regions around extra things count from here: above all others, and exact as JSON numbers
EXTRA_PER_IMAGE = 10_000
NOT_JUDGED = "not_judged"


@dataclass(frozen=True)
class Settled:
    """A scene after verification; what was taken out of it is not lost."""

    scene: Scene | None  # None: the whole image is dropped
    rejected: Objects  # with their verdicts
    dropped: str = (
        ""  # why the image is: "failed" (too many objects did) | "empty" (no judged object is left)
    )


def settle(scene: Scene, row: DetectionRow, judged: Judged, how: Verify, place: int) -> Settled:
    """Apply the policy of each verdict to scene number `place` of its table.

    An ignore region is a crowd whose mask is a box around the object and the detection its verdict rests on; in a scene with
    a panoptic map it keeps the segment's own mask.
    """
    objects = replace(scene.objects, verdict=judged.verdict, verdict_score=judged.score)
    policy = np.array([_policy(how, verdict) for verdict in judged.verdict], "<U6")
    known = np.array([verdict is not None for verdict in judged.verdict], bool)
    failed = known & np.array([verdict != KEPT for verdict in judged.verdict], bool)
    if known.any():
        if failed.sum() > how.max_failed * known.sum():
            return Settled(None, objects, "failed")
        if not (policy[known] == "keep").any():
            return Settled(None, objects, "empty")
    kept = objects
    if (ignored := policy == "ignore").any():
        kept = _ignored(
            kept, ignored, None if scene.panoptic else judged.region, (scene.height, scene.width)
        )
    remains = policy != "drop"
    rejected, kept = objects.select(~remains), kept.select(remains)
    if how.extra == "ignore" and len(judged.extra):
        kept = _joined(kept, _regions(scene, row, judged, place))
    return Settled(_without(scene, rejected).with_objects(kept), rejected)


def _policy(how: Verify, verdict: str | None) -> str:
    return "keep" if verdict in (None, KEPT) else str(getattr(how, verdict or ""))


def _ignored(
    objects: Objects,
    chosen: NDArray[np.bool_],
    region: NDArray[np.float32] | None,
    size: tuple[int, int],
) -> Objects:
    """Turn the objects at a mask [N] into ignore regions: boxes `region` [N, 4], or None for the masks they have."""
    objects = replace(objects, iscrowd=objects.iscrowd | chosen)
    if region is None:
        return objects
    places = np.flatnonzero(chosen)
    codes, boxes, areas = _filled(region[places], size)
    rle, box, area = list(objects.rle), objects.boxes.copy(), objects.area.copy()
    box[places], area[places] = boxes, areas
    for position, code in zip(places.tolist(), codes, strict=True):
        rle[position] = code
    return replace(objects, rle=tuple(rle), boxes=box, area=area)


def _filled(
    boxes: NDArray[np.float32], size: tuple[int, int]
) -> tuple[list[str], NDArray[np.float32], NDArray[np.float32]]:
    """Boxes [N, 4] grown to whole pixels, as masks: their counts, boxes and areas."""
    height, width = size
    whole = np.concatenate([np.floor(boxes[:, :2]), np.ceil(boxes[:, 2:])], axis=1)
    whole = np.clip(whole, 0, [width, height, width, height]).astype(int)
    shown = np.zeros((len(boxes), height, width), bool)
    for mask, (x1, y1, x2, y2) in zip(shown, whole.tolist(), strict=True):
        mask[y1 : max(y2, y1 + 1), x1 : max(x2, x1 + 1)] = True
    codes, tight = masks.encode_with_boxes(shown)
    return codes, tight, shown.sum((1, 2)).astype(np.float32)


def _regions(scene: Scene, row: DetectionRow, judged: Judged, place: int) -> Objects:
    """Ignore regions where the judge found things that no object explains."""
    codes, boxes, areas = _filled(row.pred_boxes[judged.extra], (scene.height, scene.width))
    count = len(codes)
    return Objects.build(
        row.pred_labels[judged.extra],
        boxes,
        id=EXTRA_IDS + place * EXTRA_PER_IMAGE + np.arange(count),
        rle=tuple(codes),
        area=areas,
        iscrowd=np.ones(count),
        score=row.pred_scores[judged.extra],
        source=("synthetic",) * count,
        verdict=(EXTRA,) * count,
        verdict_score=row.pred_scores[judged.extra],
    )


def _joined(first: Objects, second: Objects) -> Objects:
    def both(name: str) -> object:
        a, b = getattr(first, name), getattr(second, name)
        return np.concatenate([a, b]) if isinstance(a, np.ndarray) else (*a, *b)

    return replace(first, **{name: both(name) for name in first.__dataclass_fields__})  # type: ignore[arg-type]


def _without(scene: Scene, rejected: Objects) -> Scene:
    """Take dropped objects out of the scene's panoptic map, where it has one: their pixels are unlabelled then."""
    if scene.panoptic is None or not len(rejected):
        return scene
    ids = panoptic.map_of(scene)
    ids = np.where(np.isin(ids, panoptic.segment_ids(rejected)), 0, ids)
    return replace(scene, panoptic=ImageRef(masks.panoptic_png(ids), scene.panoptic.path))


def segments_only(scene: Scene) -> Scene:
    """Return the scene without regions that are no segments of its panoptic map."""
    return scene.with_objects(scene.objects.select([v != EXTRA for v in scene.objects.verdict]))


def tally(
    settled: Settled, judged: Judged, row: DetectionRow, categories: tuple[Category, ...]
) -> dict[str, Counter[str]]:
    """Objects per class: one count per verdict (`not_judged` without), extra finds, and `objects`, what is left as labels."""
    found = row.pred_labels[judged.extra].tolist()
    told: dict[str, Counter[str]] = {
        "objects": Counter(),
        EXTRA: Counter(categories[label].name for label in found),
    }
    for label, verdict in zip(row.labels.tolist(), judged.verdict, strict=True):
        told.setdefault(verdict or NOT_JUDGED, Counter())[categories[label].name] += 1
    if settled.scene is not None:
        objects = settled.scene.objects
        told["objects"].update(
            categories[label].name for label in objects.category[~objects.iscrowd].tolist()
        )
    return told
