"""Training curves of the report, and what is said of the weights that were chosen by them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from synthaug.pipeline.report.charts import line_chart

NOT_LOSSES = ("step", "steps", "steps_per_s")
MEASURED = ("AP50", "AP")  # what is shown of the evaluations during the detector's training
LOSS = "loss, mean per interval"

Log = Sequence[Mapping[str, Any]]


def charts(logs: Mapping[str, Log]) -> list[str]:
    """SVG of each training's losses, of the detector's AP on validation images and of the boxes a mean teacher is sure of.

    `logs` are the rows of "train_detector", "evaluation" (during it), "self_train" and "train_generator"; any may lack.
    """
    detector, measured, taught, generator = (
        logs.get(name, ())
        for name in ("train_detector", "evaluation", "self_train", "train_generator")
    )
    parts = (
        ("Detector", detector, _names(detector, ""), "", LOSS),
        (
            "Detector on validation images",
            measured,
            MEASURED if measured else (),
            "",
            "average precision",
        ),
        (
            "Mean teacher",
            taught,
            _names(taught, "total") + _names(taught, "unsupervised_"),
            "unsupervised_",
            LOSS,
        ),
        (
            "Pseudo-boxes of the mean teacher",
            taught,
            _names(taught, "pseudo_boxes"),
            "",
            "per unlabelled image",
        ),
        ("Discriminator", generator, _names(generator, "d_"), "d_", LOSS),
        ("Generator", generator, _names(generator, "g_"), "g_", LOSS),
    )
    return [
        _curves(title, log, names, prefix, y_label)
        for title, log, names, prefix, y_label in parts
        if names
    ]


def overlaid(logs: Mapping[str, Mapping[str, Log]]) -> list[str]:
    """SVG of every number that more than one run logged, or one alone: a line per run, by the run's short name."""
    parts = (
        ("train_detector", "total", "Detector", LOSS),
        ("evaluation", "AP50", "Detector on validation images", "average precision"),
        ("self_train", "total", "Mean teacher", LOSS),
        ("train_generator", "d_", "Discriminator", LOSS),
        ("train_generator", "g_", "Generator", LOSS),
    )
    drawn = []
    for step, prefix, title, y_label in parts:
        for name in dict.fromkeys(
            name for run in logs.values() for name in _names(run.get(step, ()), prefix)
        ):
            lines = {run: _points(told.get(step, ()), name) for run, told in logs.items()}
            shown = name.removeprefix(prefix) if prefix.endswith("_") else name
            drawn.append(line_chart(f"{title}: {shown}", lines, "optimiser steps", y_label))
    return drawn


def chosen(told: Mapping[str, Any]) -> str:
    """Say from its training's manifest which weights the detector has, where that was decided by measuring them."""
    if told.get("keep") != "best":
        return ""
    return (
        f"The detector is the one after step {told['measured']['step']}, the best of {told['evaluations']} by AP50 "
        "on the validation images: chosen on these images, so its score is a little too good."
    )


def _curves(title: str, log: Log, names: Sequence[str], prefix: str, y_label: str) -> str:
    """Draw named numbers of a log over its steps; `prefix` is left out of their names, and unknown numbers of the lines."""
    series = {n.removeprefix(prefix) or n: _points(log, n) for n in names}
    return line_chart(title, series, "optimiser steps", y_label)


def _points(log: Log, name: str) -> list[tuple[float, float]]:
    return [(row["step"], row[name]) for row in log if row.get(name) is not None]


def _names(log: Log, prefix: str) -> list[str]:
    return [
        name
        for name in (log[-1] if log else {})
        if name.startswith(prefix) and name not in NOT_LOSSES
    ]
