"""DAP, detection average precision on synthetic images (LostGAN-V2, section 3): can what was asked for be found?

A detector trained on real images looks at images synthesised from validation layouts; the layout's boxes are the truth.
The same detector on the real images of the same layouts is the ceiling; its synthetic predictions against the layouts
of other images are the floor: what a detector gets for knowing the data set without looking.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from synthaug.pipeline.core.scene import Category
from synthaug.pipeline.core.seeding import permuted, rng_for
from synthaug.pipeline.scores.base import Extractor, MetricInputs, missing_input
from synthaug.pipeline.scores.card import Metric, full_card, versions
from synthaug.pipeline.scores.detection.bootstrap import bootstrap_ap, interval
from synthaug.pipeline.scores.detection.detections import DetectionExtractor, detection_row
from synthaug.pipeline.scores.detection.evaluator import (
    KEYS,
    DetectionEvaluator,
    DetectionResult,
    DetectionRow,
    Numbers,
    frequency_groups,
)

FEW = 30  # true boxes of a class; with fewer its AP is chance
HEADLINE = ("AP", "AP50", "AP75", "AR100")
PARTS = ("head", "middle", "tail")  # of the classes, by their training instances
GROUPED = ("AP", "AP50")  # said of each part


@dataclass(frozen=True)
class Config:
    """How much is synthesised and measured for DAP."""

    samples_per_layout: int = 1  # images synthesised from each validation layout
    max_images: int = 0  # layouts evaluated, the first in table order; 0 = all
    resamples: int = (
        200  # bootstrap resamples for the 95 % intervals of AP, AP50 and AP75; 0 = none
    )
    seed: int = 0  # of the shuffled control and of the bootstrap

    def __post_init__(self) -> None:
        for name, least in (("samples_per_layout", 1), ("max_images", 0), ("resamples", 0)):
            if getattr(self, name) < least:
                raise ValueError(f"dap.{name} is {getattr(self, name)}; give {least} or more")
        if self.resamples == 1:
            raise ValueError("dap.resamples is 1; give 0 for no interval, or 100 and more")


def extractors(config: Config) -> tuple[Extractor, ...]:
    """The judge looks at the real and the synthetic images."""
    return (DetectionExtractor(samples=config.samples_per_layout, limit=config.max_images),)


def available(inputs: MetricInputs, config: Config) -> str | None:  # noqa: ARG001 - every score is asked with its settings
    """It needs a judge."""
    return missing_input(inputs, detector=True)


def score(inputs: MetricInputs, config: Config) -> Metric:
    """Return DAP of what the judge found."""
    (extractor,) = extractors(config)
    synthetic, real = (
        [
            detection_row(record, len(inputs.tables["real"]))
            for record in inputs.extracted(extractor, table)
        ]
        for table in ("synthetic", "real")
    )
    card = full_card(
        inputs,
        extractor,
        protocol="real-trained detector on images made from validation layouts; the layouts' boxes are the truth",
        headline_key="AP50",
        network="the judging detector",
        network_sha256=inputs.resources.detector_sha256,
        versions=versions("torch", "torchvision", "faster-coco-eval", "numpy"),
    )
    return measured(synthetic, real, inputs.categories, inputs.class_counts, card, config)


def measured(
    synthetic: Iterable[DetectionRow],
    real: Iterable[DetectionRow],
    categories: Sequence[Category],
    train_counts: Sequence[int],
    card: Mapping[str, Any],
    config: Config,
) -> Metric:
    """Return DAP: AP50 over the thing classes of the synthetic images, with COCO's other figures, groups and controls.

    Boxes and predictions of `synthetic` are pixels of the image the detector saw. `real` holds one row per real image
    of the same layouts (may be empty: then there is no ceiling). `train_counts[c]` is the number of real training
    instances of class c and decides the head / middle / tail groups. `card` is what only the caller knows (detector and
    generator sha256, file format, resize filter ...). Stuff classes are evaluated apart, never in the headline.
    """
    assert len(train_counts) == len(categories)
    rows, ceiling_rows = sorted(synthetic, key=_identity), sorted(real, key=_identity)
    things = [c for c, category in enumerate(categories) if category.isthing]
    groups = {
        part: [c for c in found if c in things]
        for part, found in frequency_groups(train_counts).items()
    }
    evaluator = evaluate(rows, categories, things)
    found = evaluator.result()
    controls = {"shuffled": evaluate(shuffled(rows, config.seed), categories, things).result()}
    controls["real"] = evaluate(ceiling_rows, categories, things).result()
    values = {**summary(found, groups), **_stuff(rows, categories, things)}
    per_class = {name: dict(numbers) for name, numbers in found.table(categories).items()}
    if config.resamples:
        draws = bootstrap_ap(
            evaluator.rows(), things, config.resamples, rng_for(config.seed, "dap", "bootstrap")
        )
        values |= _intervals(draws, found.values)
        for part in PARTS:
            of_part = {
                f"{key}_{part}": draws[key][:, [things.index(c) for c in groups[part]]]
                for key in GROUPED
            }
            values |= _intervals(of_part, values)
        for k, (name, numbers) in enumerate(
            found.table(categories).items()
        ):  # in the order of `things`
            per_class[name] |= _intervals(
                {key: drawn[:, [k]] for key, drawn in draws.items()}, numbers
            )
    for name, numbers in controls["real"].table(categories).items():
        per_class[name] |= {f"real_{key}": numbers[key] for key in HEADLINE}
    return Metric(
        name="dap",
        value=values["AP50"],
        values=values,
        per_class=per_class,
        card={**card, **_protocol(found, controls, config, categories, groups)},
        controls={
            name: summary(result, groups) for name, result in controls.items() if result.num_images
        },
    )


def evaluate(
    rows: Iterable[DetectionRow], categories: Sequence[Category], classes: Sequence[int]
) -> DetectionEvaluator:
    """Return an evaluator holding the rows, restricted to `classes`."""
    evaluator = DetectionEvaluator(categories, classes)
    for row in rows:
        evaluator.add(row)
    return evaluator


def shuffled(rows: Sequence[DetectionRow], seed: int) -> list[DetectionRow]:
    """Return the same predictions, each set against the layout of another image; empty with fewer than two layouts.

    The layouts stand in a fixed permutation and each is replaced by its successor, so every layout is used and none
    meets its own predictions. Predicted boxes are scaled to the other image's size: a difference in size alone must not
    make the floor look low.
    """
    layouts = {row.index: row for row in rows}
    if len(layouts) < 2:
        return []
    names = sorted(layouts)
    order = [names[permuted(place, len(names), seed)] for place in range(len(names))]
    successor = dict(zip(order, [*order[1:], order[0]], strict=True))
    return [_against(row, layouts[successor[row.index]]) for row in rows]


def summary(
    result: DetectionResult, groups: Mapping[str, Sequence[int]]
) -> dict[str, float | None]:
    """Return the headline numbers and, for every frequency group, its mean AP and AP50."""
    values = {key: result.values[key] for key in KEYS}
    for part in PARTS:
        values |= {f"{key}_{part}": result.mean_over(groups[part], key) for key in GROUPED}
    return values


def _intervals(
    draws: Mapping[str, NDArray[np.float64]], numbers: Numbers
) -> dict[str, float | None]:
    """Return `x_low` and `x_high` of every number x that was drawn, [R, C]."""
    ends = {key: interval(drawn, numbers[key]) for key, drawn in draws.items()}
    return {
        f"{key}_{side}": end
        for key, both in ends.items()
        for side, end in zip(("low", "high"), both, strict=True)
    }


def _identity(row: DetectionRow) -> tuple[int, int]:
    return row.index, row.sample


def _against(row: DetectionRow, other: DetectionRow) -> DetectionRow:
    scale = np.array(
        [other.width / row.width, other.height / row.height] * 2, np.float32
    )  # [4] for xyxy
    return replace(
        row,
        height=other.height,
        width=other.width,
        boxes=other.boxes,
        labels=other.labels,
        crowd=other.crowd,
        area=other.area,
        pred_boxes=row.pred_boxes * scale,
    )


def _stuff(
    rows: Sequence[DetectionRow], categories: Sequence[Category], things: Sequence[int]
) -> Numbers:
    """Return stuff numbers under names of their own; nothing for a set without stuff classes."""
    stuff = [c for c in range(len(categories)) if c not in things]
    if not stuff:
        return {}
    found = evaluate(rows, categories, stuff).result().values
    return {f"stuff_{key}": found[key] for key in ("AP", "AP50")}


def _warnings(found: DetectionResult, categories: Sequence[Category]) -> list[str]:
    few = [
        categories[c].name
        for c, numbers in found.per_class.items()
        if 0 < (numbers["gt"] or 0) < FEW
    ]
    return (
        [f"fewer than {FEW} objects of {', '.join(few)}: their AP is hardly known"] if few else []
    )


def _protocol(
    found: DetectionResult,
    controls: Mapping[str, DetectionResult],
    config: Config,
    categories: Sequence[Category],
    groups: Mapping[str, Sequence[int]],
) -> dict[str, Any]:
    return {
        "detAP": "AP; the panoptic paper's name for it where panoptic maps drive the generator",
        "headline": "AP50 (IoU 0.50, 101 recall points, at most 100 detections per class), mean over thing classes",
        "objects": found.num_gt,
        "predictions": found.num_predictions,
        "samples_per_layout": config.samples_per_layout,
        "ceiling": f"the same detector on {controls['real'].num_images} real images of these layouts",
        "floor": f"the synthetic predictions against the layouts of other images, seed {config.seed}",
        "groups": {part: [categories[c].name for c in classes] for part, classes in groups.items()},
        "groups_rule": "training instances: head at least 1/2 of the largest class's, tail below 1/8, unseen none",
        "warnings": _warnings(found, categories),
        "bootstrap": f"AP, AP50, AP75 and those of groups: {config.resamples} resamples of layouts, 1.96 standard deviations"
        if config.resamples
        else "none",
    }
