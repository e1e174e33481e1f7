"""Whether a classifier tells made objects from real ones.

By what is in their box, and by the band around its edge.

A classifier as small as this one sees what a detector sees at once: wrong colors, smooth surfaces,
an edge along the box. It looks at as many made objects of a class as at real ones of validation
images, which no generator was trained on; half of the pairs in order, 0.5, says that it sees
nothing.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from synthaug.pipeline.scores.base import Extractor, MetricInputs
from synthaug.pipeline.scores.card import Metric, metric_of
from synthaug.pipeline.scores.features.published import check_at_least
from synthaug.pipeline.scores.objects.discrimination import Curve, features, told_apart
from synthaug.pipeline.scores.objects.edit_sheet import edit_sheet
from synthaug.pipeline.scores.objects.extractor import (
    ObjectExtractor,
    ObjectSet,
    few_objects,
    matched,
    object_set,
)

BARS = {"inside": 0.75, "seam": 0.65}  # above which the generator is to be mended first
PICTURE = "real_or_made.jpg"


@dataclass(frozen=True)
class Config:
    """Number of objects."""

    objects_per_class: int = 300  # of each table, at most
    pictures: int = 8  # edited images on the picture sheet

    def __post_init__(self) -> None:
        check_at_least(1, "real_or_made", self, "objects_per_class")
        check_at_least(0, "real_or_made", self, "pictures")


def extractors(_: Config) -> tuple[Extractor, ...]:
    """Return the extractor of objects."""
    return (ObjectExtractor(),)


def available(inputs: MetricInputs, _: Config) -> str | None:
    """Return None where all tables show enough objects."""
    return few_objects(inputs)


def score(inputs: MetricInputs, config: Config) -> Metric:
    """Return `inside` (the headline) and `seam`, each with its interval.

    Control `real`: training objects instead.
    """
    extractor = ObjectExtractor()
    most = config.objects_per_class
    real = object_set(inputs, extractor, "real", most)
    made = object_set(inputs, extractor, "synthetic", most)
    train = object_set(inputs, extractor, "train", most)
    values = areas(real, made)
    warnings = []
    for name, bar in BARS.items():
        value = values[name]
        if value is not None and value > bar:
            warnings.append(
                f"{name}: {value:.2f} is above {bar:.2f}: made objects are told by it; mend the "
                "generator first"
            )
    some_real, _ = matched(real, made)
    return metric_of(
        inputs,
        extractor,
        name="real_or_made",
        headline="inside",
        values=values,
        controls={"real": areas(real, train)},
        protocol="area under the ROC curve of a ridge logistic regression on colors, edges and "
        "spectrum of"
        f" {extractor.side} x {extractor.side} pixels, five folds by image; 0.5 = not told apart",
        selection=f"{len(some_real)} real and as many made objects, matched by class, at most "
        f"{most} of each",
        splits="interval of Hanley and McNeil (1982)",
        bars=BARS,
        pictures=config.pictures,
        warnings=warnings,
    )


def areas(real: ObjectSet, other: ObjectSet) -> dict[str, float | None]:
    """Return the areas by which other objects are told from real ones.

    The ends of their intervals are named too.
    """
    first, second = matched(real, other)
    groups = (first.image, second.image)
    inside = told_apart(features(first.inside), features(second.inside), groups)
    seam = told_apart(features(first.seam), features(second.seam), groups)
    return {**_named("inside", inside), **_named("seam", seam)}


def _named(name: str, curve: Curve | None) -> dict[str, float | None]:
    if curve is None:
        return dict.fromkeys((name, f"{name}_low", f"{name}_high"))
    return {name: curve.area, f"{name}_low": curve.low, f"{name}_high": curve.high}


def pictures(inputs: MetricInputs, metric: Mapping[str, Any]) -> dict[str, bytes]:
    """Return the sheet of edited images beside their real ones.

    Nothing where no real one is there.
    """
    most = int(metric["card"]["pictures"])
    sheet = edit_sheet(inputs.tables["synthetic"], inputs.tables["train"], most)
    return {PICTURE: sheet} if sheet is not None else {}
