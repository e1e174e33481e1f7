"""DAP, detection average precision: can the objects asked for be detected?

LostGAN-V2, section 3. A detector trained on real images detects in images synthesised from
validation layouts; the layout's boxes are the truth. The same detector on the real images of the
same layouts is the ceiling; its synthetic predictions against the layouts of other images are the
floor: the AP of a detector that knows the data set and does not look.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np

from synthaug.pipeline.core.arrays import Floats
from synthaug.pipeline.core.json_values import Json
from synthaug.pipeline.core.scene import Category
from synthaug.pipeline.core.seeding import permuted, rng_for
from synthaug.pipeline.scores.base import Extractor, MetricInputs, check_names, missing_input
from synthaug.pipeline.scores.card import (
    Metric,
    comparability,
    deviations,
    full_card,
    versions,
)
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
GROUPED = ("AP", "AP50")  # reported of each part

Groups = Mapping[str, Sequence[int]]  # part -> classes


@dataclass(frozen=True)
class Config:
    """Number of images and of bootstrap resamples."""

    samples_per_layout: int = 1  # images synthesised from each validation layout
    max_images: int = 0  # layouts evaluated, the first in table order; 0 = all
    # bootstrap resamples for the 95 % intervals of AP, AP50 and AP75; 0 = none
    resamples: int = 200
    seed: int = 0  # of the shuffled control and of the bootstrap
    # the number that stands for the score: AP50 | AP (the papers' first column)
    headline: Literal["AP50", "AP"] = "AP50"
    classes: tuple[str, ...] = ()  # names of the thing classes that count; [] = all things

    def __post_init__(self) -> None:
        for name, least in (("samples_per_layout", 1), ("max_images", 0), ("resamples", 0)):
            value = getattr(self, name)
            if value < least:
                raise ValueError(f"dap.{name} is {value}; give {least} or more")
        if self.resamples == 1:
            raise ValueError("dap.resamples is 1; give 0 for no interval, or 100 and more")

    def things(self, categories: Sequence[Category]) -> list[int]:
        """Return the indices of the thing classes that count."""
        things = []
        for c, category in enumerate(categories):
            if category.isthing and (not self.classes or category.name in self.classes):
                things.append(c)
        return things


# LostGAN-V2, section 3.1.2 and Table 3, which counts all things
PUBLISHED = Config(headline="AP")
UNSTATED = ("samples_per_layout", "resamples", "seed")


def extractors(config: Config) -> tuple[Extractor, ...]:
    """Return the extractor of the reference detector's detections."""
    return (DetectionExtractor(samples=config.samples_per_layout, limit=config.max_images),)


def available(inputs: MetricInputs, _: Config) -> str | None:
    """Return None where there are both sets and a reference detector."""
    return missing_input(inputs, detector=True)


def check(config: Config, categories: Sequence[Category]) -> None:
    """Raise ValueError for a class that is no thing of the data."""
    things = [category.name for category in categories if category.isthing]
    check_names("classes", config.classes, things)


def score(inputs: MetricInputs, config: Config) -> Metric:
    """Return DAP of the stored detections."""
    (extractor,) = extractors(config)
    num_real = len(inputs.tables["real"])
    rows: dict[str, list[DetectionRow]] = {"synthetic": [], "real": []}
    for table, of_table in rows.items():
        for record in inputs.extracted(extractor, table):
            of_table.append(detection_row(record, num_real))
    card = full_card(
        inputs,
        extractor,
        protocol="real-trained detector on images made from validation layouts; the layouts' boxes "
        "are the truth",
        headline_key=config.headline,
        network="the judging detector",
        network_sha256=inputs.resources.detector_sha256,
        versions=versions("torch", "torchvision", "faster-coco-eval", "numpy"),
    )
    return dap(
        rows["synthetic"], rows["real"], inputs.categories, inputs.class_counts, card, config
    )


def dap(
    synthetic: Iterable[DetectionRow],
    real: Iterable[DetectionRow],
    categories: Sequence[Category],
    train_counts: Sequence[int],
    card: Mapping[str, Any],
    config: Config,
) -> Metric:
    """Return DAP: the headline over the thing classes that count.

    With COCO's other figures, groups and controls. Boxes and predictions of `synthetic` are pixels
    of the image the detector saw. `real` holds one row per real image of the same layouts (may be
    empty: then there is no ceiling). `train_counts[c]` is the number of real training instances of
    class c and decides the head / middle / tail groups. `card` has what only the caller knows
    (detector and generator sha256, file format, resize filter ...). Stuff classes are evaluated
    apart, never in the headline.
    """
    assert len(train_counts) == len(categories)
    rows = sorted(synthetic, key=_identity)
    real_rows = sorted(real, key=_identity)
    things = config.things(categories)
    groups = _thing_groups(train_counts, things)

    evaluator = DetectionEvaluator.of(rows, categories, things)
    result = evaluator.result()
    ceiling = DetectionEvaluator.of(real_rows, categories, things).result()
    permuted_rows = shuffled(rows, config.seed)
    floor = DetectionEvaluator.of(permuted_rows, categories, things).result()

    values = summary(result, groups)
    values |= _stuff(rows, categories)
    per_class = {}
    for name, numbers in result.table(categories).items():
        per_class[name] = dict(numbers)
    if config.resamples:
        rng = rng_for(config.seed, "dap", "bootstrap")
        draws = bootstrap_ap(evaluator.rows(), things, config.resamples, rng)
        values |= _intervals(draws, result.values)
        values |= _group_intervals(draws, values, groups, things)
        # the classes of a table stand in the order of `things`, as those of the draws
        classes = enumerate(result.table(categories).items())
        for k, (name, numbers) in classes:
            draws_of_class = {key: drawn[:, [k]] for key, drawn in draws.items()}
            per_class[name] |= _intervals(draws_of_class, numbers)
    for name, numbers in ceiling.table(categories).items():
        for key in HEADLINE:
            per_class[name][f"real_{key}"] = numbers[key]

    controls = {}
    for name, control in (("shuffled", floor), ("real", ceiling)):
        if control.num_images:
            controls[name] = summary(control, groups)
    protocol = _protocol(result, ceiling, config, categories, groups)
    return Metric(
        name="dap",
        value=values[config.headline],
        values=values,
        per_class=per_class,
        card={**card, **protocol},
        controls=controls,
    )


def shuffled(rows: Sequence[DetectionRow], seed: int) -> list[DetectionRow]:
    """Return each image's predictions against the layout of another image.

    Empty with fewer than two layouts. The layouts stand in a fixed permutation and each is replaced
    by its successor, so every layout is used and none meets its own predictions. Predicted boxes
    are scaled to the other image's size: a difference in size alone must not make the floor look
    low.
    """
    layouts = {row.index: row for row in rows}
    if len(layouts) < 2:
        return []
    indices = sorted(layouts)
    count = len(indices)
    order = [indices[permuted(i, count, seed)] for i in range(count)]
    successors = [*order[1:], order[0]]
    following = dict(zip(order, successors, strict=True))
    return [_against(row, layouts[following[row.index]]) for row in rows]


def summary(result: DetectionResult, groups: Groups) -> dict[str, float | None]:
    """Return the headline numbers, and AP and AP50 of every frequency group."""
    values = {key: result.values[key] for key in KEYS}
    for part in PARTS:
        for key in GROUPED:
            values[f"{key}_{part}"] = result.mean_over(groups[part], key)
    return values


def _thing_groups(train_counts: Sequence[int], things: Sequence[int]) -> Groups:
    """Return the thing classes of each frequency group."""
    groups = {}
    for part, classes in frequency_groups(train_counts).items():
        groups[part] = [c for c in classes if c in things]
    return groups


def _group_intervals(
    draws: Mapping[str, Floats],
    values: Numbers,
    groups: Groups,
    things: Sequence[int],
) -> dict[str, float | None]:
    """Return the intervals of the frequency groups.

    The draws [R, C] have a column per class of `things`.
    """
    intervals = {}
    for part in PARTS:
        columns = [things.index(c) for c in groups[part]]
        draws_of_part = {f"{key}_{part}": draws[key][:, columns] for key in GROUPED}
        intervals.update(_intervals(draws_of_part, values))
    return intervals


def _intervals(draws: Mapping[str, Floats], numbers: Numbers) -> dict[str, float | None]:
    """Return `x_low` and `x_high` of every number x that was drawn, [R, C]."""
    ends = {}
    for key, drawn in draws.items():
        ends[f"{key}_low"], ends[f"{key}_high"] = interval(drawn, numbers[key])
    return ends


def _identity(row: DetectionRow) -> tuple[int, int]:
    return row.index, row.sample


def _against(row: DetectionRow, other: DetectionRow) -> DetectionRow:
    """Return a row's predictions with the layout of another row."""
    scale_x = other.width / row.width
    scale_y = other.height / row.height
    scale = np.array([scale_x, scale_y, scale_x, scale_y], np.float32)
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


def _stuff(rows: Sequence[DetectionRow], categories: Sequence[Category]) -> dict[str, float | None]:
    """Return stuff numbers under names of their own.

    Nothing for a set without stuff classes.
    """
    stuff = [c for c, category in enumerate(categories) if not category.isthing]
    if not stuff:
        return {}
    values = DetectionEvaluator.of(rows, categories, stuff).result().values
    return {"stuff_AP": values["AP"], "stuff_AP50": values["AP50"]}


def _warnings(result: DetectionResult, categories: Sequence[Category]) -> list[str]:
    few = []
    for c, numbers in result.per_class.items():
        if 0 < (numbers["gt"] or 0) < FEW:
            few.append(categories[c].name)
    if not few:
        return []
    return [f"fewer than {FEW} objects of {', '.join(few)}: their AP is hardly known"]


def _protocol(
    result: DetectionResult,
    ceiling: DetectionResult,
    config: Config,
    categories: Sequence[Category],
    groups: Groups,
) -> Json:
    """Return the entries of the card that come from the numbers."""
    group_names = {}
    for part, classes in groups.items():
        group_names[part] = [categories[c].name for c in classes]
    scope = "thing classes"
    if config.classes:
        scope = f"the classes {', '.join(config.classes)}"
    differences = deviations("dap", config, PUBLISHED, UNSTATED)
    bootstrap = "none"
    if config.resamples:
        bootstrap = (
            f"AP, AP50, AP75 and those of groups: {config.resamples} resamples of layouts,"
            " 1.96 standard deviations"
        )
    return {
        "detAP": "AP; the panoptic paper's name for it where panoptic maps drive the generator",
        "headline": f"{config.headline} (101 recall points, at most 100 detections per class), "
        f"mean over {scope}",
        "comparability": comparability(differences, "LostGAN-V2's Table 3"),
        "objects": result.num_gt,
        "predictions": result.num_predictions,
        "samples_per_layout": config.samples_per_layout,
        "ceiling": f"the same detector on {ceiling.num_images} real images of these layouts",
        "floor": "the synthetic predictions against the layouts of other images, seed "
        f"{config.seed}",
        "groups": group_names,
        "groups_rule": "training instances: head at least 1/2 of the largest class's, tail below "
        "1/8, unseen none",
        "warnings": _warnings(result, categories),
        "bootstrap": bootstrap,
    }
