"""Scores: one module each, from measured images to named numbers with a card.

A score does no more than that. A score module has

    Config                                   frozen dataclass: every setting, with defaults and
                                             checks
    extractors(config)                       the per-image measurements (`base.Extractor`)
    available(inputs, config)                None, or in one line why this score cannot be had;
    cheap, no pixel is decoded
    score(inputs, config) -> Metric          from `inputs.extracted(extractor, table)`, in flat
    memory: number, controls, card

and, where it needs them,

    unsupported(weights, config)             None, or why this machine cannot have it, whatever the
    data
    check(config, categories)                raises ValueError, which begins with a key, for files
                                             that do not fit; builds the networks that it trains, on
                                             the device that is torch's default
    auxiliary_models(inputs, config)         networks (`base.AuxiliaryModel`) trained on records,
    before `score`
    pictures(inputs, metric)                 files to look at, name -> bytes, drawn when the metric
    is there

`card.full_card` makes a complete card. The pipeline generates the synthetic images, runs the
extractors on the pool of workers, trains the auxiliary models, and calls `score`; `synthaug score`
does the same with any two data sets. Equal extractors run once, so scores that read the same
features share them.

A new score is a new file and a line in SCORES; tests/pipeline/scores/test_score_contract.py then
tests it. USUAL are those that a job measures, where they can be had, when it does not name any.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from synthaug.pipeline.core.errors import JobError

if TYPE_CHECKING:
    from synthaug.pipeline.core.scene import Category
    from synthaug.pipeline.scores.base import AuxiliaryModel, Extractor, MetricInputs
    from synthaug.pipeline.scores.card import Metric

SCORES = {
    "dap": "synthaug.pipeline.scores.detection.dap",
    "cas": "synthaug.pipeline.scores.classification.cas",
    "mask_iou": "synthaug.pipeline.scores.segmentation.mask_iou",
    "segmentation": "synthaug.pipeline.scores.segmentation.segmentation",
    "detector_features": "synthaug.pipeline.scores.features.detector_features",
    "nearest": "synthaug.pipeline.scores.features.nearest",
    "fid": "synthaug.pipeline.scores.features.fid",
    "kid": "synthaug.pipeline.scores.features.kid",
    "inception_score": "synthaug.pipeline.scores.features.inception_score",
    "prdc": "synthaug.pipeline.scores.features.prdc",
    "diversity": "synthaug.pipeline.scores.features.diversity",
    "real_or_made": "synthaug.pipeline.scores.objects.real_or_made",
    "spectrum": "synthaug.pipeline.scores.objects.spectrum",
    "memorizing": "synthaug.pipeline.scores.objects.memorizing",
}
USUAL = (
    "dap",
    "cas",
    "mask_iou",
    "detector_features",
    "nearest",
    "real_or_made",
    "spectrum",
    "memorizing",
)

OBLIGATORY = ("Config", "extractors", "available", "score")


def _supported(_weights: Path | None, _config: Any) -> str | None:
    return None


def _nothing_to_check(_config: Any, _categories: Sequence[Category]) -> None:
    """Accept all settings: no network is trained and no file read."""


def _no_models(_inputs: MetricInputs, _config: Any) -> tuple[AuxiliaryModel, ...]:
    return ()


def _no_pictures(_inputs: MetricInputs, _metric: Mapping[str, Any]) -> dict[str, bytes]:
    return {}


@dataclass(frozen=True)
class ScoreModule:
    """The functions of a score module, as described above."""

    Config: type[Any]
    extractors: Callable[[Any], tuple[Extractor, ...]]
    available: Callable[[MetricInputs, Any], str | None]
    score: Callable[[MetricInputs, Any], Metric]
    unsupported: Callable[[Path | None, Any], str | None]
    check: Callable[[Any, Sequence[Category]], None]
    auxiliary_models: Callable[[MetricInputs, Any], tuple[AuxiliaryModel, ...]]
    pictures: Callable[[MetricInputs, Mapping[str, Any]], dict[str, bytes]]


def load_score(name: str) -> ScoreModule:
    """Import a score; JobError names the parts its module lacks."""
    path = SCORES[name]
    parts = vars(importlib.import_module(path))
    missing = [part for part in OBLIGATORY if part not in parts]
    if missing:
        raise JobError(
            f"score.names: {path} lacks {', '.join(missing)}; "
            "pipeline/scores/__init__.py says what a score's module has"
        )
    return ScoreModule(
        parts["Config"],
        parts["extractors"],
        parts["available"],
        parts["score"],
        parts.get("unsupported", _supported),
        parts.get("check", _nothing_to_check),
        parts.get("auxiliary_models", _no_models),
        parts.get("pictures", _no_pictures),
    )
