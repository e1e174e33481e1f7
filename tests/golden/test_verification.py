"""Thresholds, verdicts, policies and judges on detections that are known."""

from __future__ import annotations

import functools
from dataclasses import asdict, replace

import numpy as np
import pytest

from synthaug.pipeline.config.schema import Verify
from synthaug.pipeline.scores.detection.evaluator import DetectionRow
from synthaug.pipeline.verification import prototypes
from synthaug.pipeline.verification.crops import labelled_crops
from synthaug.pipeline.verification.injected_errors import KINDS, inject
from synthaug.pipeline.verification.policy import apply_policy
from synthaug.pipeline.verification.tail_judges import choose, claimed_boxes
from synthaug.pipeline.verification.thresholds import (
    Requirements,
    fit,
    held_out_errors,
    least_areas,
    stack,
)
from synthaug.pipeline.verification.verdicts import Thresholds, on_synthetic, verdicts
from tests.golden.recorded import Row, digest, hold
from tests.imperfect_detector import TOY, TOY_THINGS, detect

IMAGES = 60
SHOWN = 12
NEEDED = Requirements(recall=0.9, min_recall=0.6, min_truths=12, precision=0.8)
POLICIES = {
    "usual": Verify(),
    "other": Verify(
        **{"missing": "ignore", "swapped": "drop", "misplaced": "keep", "duplicate": "drop"},
        **{"doubtful": "keep", "too_small": "ignore", "extra": "keep", "max_failed": 0.9},
    ),
}


def confused(index: int) -> DetectionRow:
    """Return a toy scene with detections, some of another class, some of nothing."""
    row = detect(index, misses=0.1, noise=0.09)
    rng = np.random.default_rng(index)
    labels = np.where(rng.random(len(row.pred_labels)) < 0.1, 2, row.pred_labels)
    low = rng.random((3, 2)) * 40
    more = np.concatenate([low, low + 8 + 10 * rng.random((3, 2))], 1).astype(np.float32)
    scores = rng.uniform(0.02, 0.95, 3).astype(np.float32)
    crowd = TOY_THINGS[row.labels] & (rng.random(len(row.labels)) < 0.05)
    return replace(
        row,
        crowd=crowd,
        pred_boxes=np.concatenate([row.pred_boxes, more]),
        pred_labels=np.concatenate([labels, rng.integers(0, 6, 3)]),
        pred_scores=np.concatenate([row.pred_scores, scores]),
    )


@functools.cache
def rows() -> tuple[DetectionRow, ...]:
    return tuple(confused(index) for index in range(IMAGES))


@functools.cache
def areas() -> np.ndarray:
    """Return the least areas of the classes of the toy."""
    found: dict[int, list[float]] = {}
    for row in rows():
        sides = row.boxes[:, 2:] - row.boxes[:, :2]
        shares = sides.prod(1) / (row.width * row.height)
        for label, share in zip(row.labels.tolist(), shares.tolist(), strict=True):
            found.setdefault(label, []).append(share)
    return least_areas(found, len(TOY_THINGS), 0.5)


@functools.cache
def thresholds() -> Thresholds:
    return stack(fit(rows(), TOY_THINGS, NEEDED), TOY_THINGS, areas())


def test_thresholds_are_what_they_were() -> None:
    fitted = fit(rows(), TOY_THINGS, NEEDED)
    named = {f"class {label}": own.to_json() for label, own in enumerate(fitted)}
    hold("verify_thresholds", {**named, **vars(thresholds())})


def test_verdicts_are_what_they_were() -> None:
    told: dict[str, Row] = {}
    for index in range(SHOWN):
        result = verdicts(rows()[index], thresholds())
        told[f"image {index}: verdicts"] = [str(name) for name in result.verdict]
        told[f"image {index}: scores"] = np.nan_to_num(result.score, nan=-1)
        told[f"image {index}: IoU"] = np.nan_to_num(result.iou, nan=-1)
        told[f"image {index}: regions"] = digest(result.region)
        told[f"image {index}: extra"] = result.extra
        sources = ["human" if k % 3 else "synthetic" for k in range(len(result.verdict))]
        own = on_synthetic(result, sources)
        told[f"image {index}: synthetic alone"] = [str(name) for name in own.verdict]
    hold("verify_verdicts", told)


@pytest.mark.parametrize("kind", KINDS)
def test_injected_errors_and_their_verdicts_are_what_they_were(kind: str) -> None:
    told: dict[str, Row] = {}
    for index in range(SHOWN):
        rng = np.random.default_rng(index)
        error = inject(rows()[index], rows()[index + 1], kind, thresholds(), rng)
        if error is None:
            told[f"image {index}"] = "nowhere"
            continue
        false = replace(rows()[index], boxes=error.boxes, labels=error.labels, crowd=error.crowd)
        names = verdicts(false, thresholds()).verdict
        told[f"image {index}"] = [digest(error.boxes), *(str(name) for name in names)]
    hold(f"verify_injected_{kind.replace(' ', '_')}", told)


def test_error_rates_are_what_they_were() -> None:
    hold("verify_held_out", held_out_errors(rows(), TOY_THINGS, areas(), NEEDED, seed=5))


@pytest.mark.parametrize("name", POLICIES)
def test_what_becomes_of_scenes_is_what_it_was(name: str) -> None:
    told: dict[str, Row] = {}
    for index in range(SHOWN):
        row = rows()[index]
        result = verdicts(row, thresholds())
        scene = replace(TOY[index], panoptic=None)
        done = apply_policy(scene, row, result, POLICIES[name], index)
        told[f"image {index}: dropped"] = done.dropped
        rejected = done.rejected
        told[f"image {index}: rejected"] = [str(verdict) for verdict in rejected.verdict]
        if done.scene is None:
            continue
        objects = done.scene.objects
        told[f"image {index}: ids"] = objects.id
        told[f"image {index}: crowds"] = np.flatnonzero(objects.iscrowd)
        told[f"image {index}: boxes"] = digest(objects.boxes)
        told[f"image {index}: areas"] = digest(objects.area)
        told[f"image {index}: verdicts"] = [str(verdict) for verdict in objects.verdict]
        told[f"image {index}: scores"] = np.nan_to_num(objects.verdict_score, nan=-1)
    hold(f"verify_policy_{name}", told)


# ---- rare classes ----


def test_claimed_boxes_and_judges_are_what_they_were() -> None:
    told: dict[str, Row] = {}
    for label in (0, 3, 5):
        only = replace(thresholds(), judged=np.arange(len(TOY_THINGS)) == label)
        claims = claimed_boxes(rows(), label, only, seed=2)
        told[f"class {label}: claims"] = len(claims)
        told[f"class {label}: boxes"] = digest([claim.box for claim in claims])
        told[f"class {label}: rows"] = [claim.row for claim in claims]
        told[f"class {label}: true"] = sum(claim.is_true for claim in claims)
        rng = np.random.default_rng(label)
        true = np.array([claim.is_true for claim in claims])
        margins = true + rng.normal(0, 0.4, len(claims))
        for name, given in (("margins", margins), ("no margins", None)):
            judge = choose(rows(), claims, given, label, 0.9, 0.6, seed=3)
            told[f"class {label}: judge with {name}"] = judge.to_json()
    hold("verify_tail_judges", told)


def test_crops_and_prototypes_are_what_they_were() -> None:
    crops = labelled_crops(TOY, [3, 5], TOY_THINGS, seed=4)
    told: dict[str, Row] = {}
    vectors = []
    kinds = []
    for index in sorted(crops)[:10]:
        own = crops[index]
        told[f"image {index}: kinds"] = [crop.kind for crop in own]
        told[f"image {index}: boxes"] = digest([crop.box for crop in own])
    rng = np.random.default_rng(6)
    for own in crops.values():
        for crop in own:
            centre = np.cos(np.arange(8) * (abs(crop.kind) + 1))
            vectors.append((centre + rng.normal(0, 0.3, 8)).astype(np.float32))
            kinds.append(crop.kind)
    learnt = prototypes.fit(vectors, kinds)
    for name, value in asdict(learnt).items():
        told[f"prototypes: {name}"] = digest(value) if np.size(value) > 12 else value
    hold("verify_prototypes", told)
