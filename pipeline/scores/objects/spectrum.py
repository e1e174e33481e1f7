"""The finest detail of made objects against that of real ones.

Power above half the Nyquist frequency, at their own scale.

What a generator paints too smoothly has less of it than real objects of its class, what it paints
with noise more.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from synthaug.pipeline.core.arrays import Floats
from synthaug.pipeline.scores.base import Extractor, MetricInputs
from synthaug.pipeline.scores.card import Metric, full_card
from synthaug.pipeline.scores.features.published import check_at_least
from synthaug.pipeline.scores.objects.discrimination import INTERVAL
from synthaug.pipeline.scores.objects.extractor import (
    ObjectExtractor,
    ObjectSet,
    few_objects,
    object_set,
)

BAR = 0.15  # deviation from 1 above which the generator is to be mended first


@dataclass(frozen=True)
class Config:
    """Number of objects."""

    objects_per_class: int = 300  # of each table, at most

    def __post_init__(self) -> None:
        check_at_least(1, "spectrum", self, "objects_per_class")


def extractors(_: Config) -> tuple[Extractor, ...]:
    """Return the extractor of objects."""
    return (ObjectExtractor(),)


def available(inputs: MetricInputs, _: Config) -> str | None:
    """Return None where all tables show enough objects."""
    return few_objects(inputs)


def score(inputs: MetricInputs, config: Config) -> Metric:
    """Return `fine_power`: made over real, a geometric mean, with its interval.

    1 = as fine as real ones. Control `real`: training objects.
    """
    extractor = ObjectExtractor()
    most = config.objects_per_class
    real = object_set(inputs, extractor, "real", most)
    made = object_set(inputs, extractor, "synthetic", most)
    train = object_set(inputs, extractor, "train", most)
    by_class = class_ratios(real, made)
    value, low, high = interval(real, made)
    names = [category.name for category in inputs.categories]
    warnings = []
    if value is not None and abs(value - 1) > BAR:
        warnings.append(
            f"fine detail is {value:.2f} of that of real objects, more than {BAR:.0%} off: mend "
            "the generator first"
        )
    card = full_card(
        inputs,
        extractor,
        headline_key="fine_power",
        protocol="mean power of gray values above half the Nyquist frequency in boxes under a Hann "
        "window, geometric mean "
        "over objects of a class, made over real; classes weigh as they were made",
        selection=f"{len(made)} made, {len(real)} real objects, at most {most} of a class",
        bars={"fine_power": BAR},
        warnings=warnings,
    )
    return Metric(
        name="spectrum",
        value=value,
        values={"fine_power": value, "fine_power_low": low, "fine_power_high": high},
        per_class={names[label]: {"fine_power": one} for label, one in by_class.items()},
        card=card,
        controls={"real": {"fine_power": ratio(real, train)}},
    )


def class_ratios(real: ObjectSet, other: ObjectSet) -> dict[int, float]:
    """Return the ratio of powers by class, for classes that both show."""
    ratios = {}
    for label in np.intersect1d(real.labels, other.labels).tolist():
        of_other = _logs(other, label)
        of_real = _logs(real, label)
        if len(of_other) and len(of_real):
            difference = of_other.mean() - of_real.mean()
            ratios[label] = float(np.exp(difference))
    return ratios


def ratio(real: ObjectSet, other: ObjectSet) -> float | None:
    """Return the geometric mean of the classes' ratios; None where there is none.

    Classes weigh as much as they have other objects.
    """
    ratios = class_ratios(real, other)
    if not ratios:
        return None
    weights = [len(_logs(other, label)) for label in ratios]
    logs = np.log(list(ratios.values()))
    mean = np.average(logs, weights=weights)
    return float(np.exp(mean))


def interval(real: ObjectSet, other: ObjectSet) -> tuple[float, float, float] | tuple[None, ...]:
    """Return the ratio with its 95 % interval; three times None where there is none.

    Objects are drawn, classes are not. A single object of a class has no spread: it takes that of
    all.
    """
    value = ratio(real, other)
    if value is None:
        return None, None, None
    classes = list(class_ratios(real, other))
    counts = np.array([len(_logs(other, label)) for label in classes])
    variances = np.zeros(len(classes))
    for one in (real, other):
        pooled = np.var(one.power[np.isfinite(one.power)])
        for row, label in enumerate(classes):
            logs = _logs(one, label)
            spread = np.var(logs, ddof=1) if len(logs) > 1 else pooled
            variances[row] += spread / len(logs)
    shares = counts / counts.sum()
    error = float(np.sqrt((shares**2 * variances).sum()))
    reach = np.array([-INTERVAL, INTERVAL]) * error
    low, high = np.exp(np.log(value) + reach)
    return value, float(low), float(high)


def _logs(objects: ObjectSet, label: int) -> Floats:
    """Return the logarithms of the powers of a class's objects that have a spectrum."""
    powers = objects.power[objects.labels == label]
    measured: Floats = powers[np.isfinite(powers)]
    return measured
