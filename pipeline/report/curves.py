"""Training curves of the report, and the weights that were chosen by them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from synthaug.pipeline.report.charts import line_chart

NOT_LOSSES = ("step", "steps", "steps_per_s")
EVALUATED = ("AP50", "AP")  # of the evaluations during the detector's training
LOSS = "loss, mean per interval"
AP = "average precision"
STEPS = "optimiser steps"

Log = Sequence[Mapping[str, Any]]


def charts(logs: Mapping[str, Log]) -> list[str]:
    """Draw each training's losses, the detector's AP and a teacher's pseudo-boxes.

    As SVG; the number of a mean teacher's pseudo-boxes is drawn where there is one, and what a
    detector that learnt along with the generator lost and labelled. `logs` are the rows of
    "train_detector", "evaluation" (during it), "self_train" and "train_generator"; any may lack.
    """
    detector = logs.get("train_detector", ())
    evaluations = logs.get("evaluation", ())
    teacher = logs.get("self_train", ())
    generator = logs.get("train_generator", ())
    evaluated = EVALUATED if evaluations else ()
    losses = [*_names(teacher, "total"), *_names(teacher, "unsupervised_")]
    pseudo_boxes = _names(teacher, "pseudo_boxes")
    along = _names(generator, "detector_")
    pseudo_labels = _names(generator, "pseudo_")
    drawn = [
        _chart("Detector", detector, _names(detector, ""), LOSS),
        _chart("Detector on validation images", evaluations, evaluated, AP),
        _chart("Mean teacher", teacher, losses, LOSS, "unsupervised_"),
        _chart("Pseudo-boxes of the mean teacher", teacher, pseudo_boxes, "per unlabelled image"),
        _chart("Discriminator", generator, _names(generator, "d_"), LOSS, "d_"),
        _chart("Generator", generator, _names(generator, "g_"), LOSS, "g_"),
        _chart("Detector that learnt along", generator, along, LOSS, "detector_"),
        _chart("Its labels", generator, pseudo_labels, "per unlabelled image", "pseudo_"),
    ]
    return [svg for svg in drawn if svg]


def overlaid(logs: Mapping[str, Mapping[str, Log]]) -> list[str]:
    """Return SVG of every logged number with a line per run, by the run's short name."""
    parts = (
        ("train_detector", "total", "Detector", LOSS),
        ("evaluation", "AP50", "Detector on validation images", AP),
        ("self_train", "total", "Mean teacher", LOSS),
        ("train_generator", "d_", "Discriminator", LOSS),
        ("train_generator", "g_", "Generator", LOSS),
    )
    drawn = []
    for step, prefix, title, y_label in parts:
        names: dict[str, None] = {}
        for run in logs.values():
            names.update(dict.fromkeys(_names(run.get(step, ()), prefix)))
        for name in names:
            series = {}
            for letter, run in logs.items():
                series[letter] = _points(run.get(step, ()), name)
            short = name.removeprefix(prefix) if prefix.endswith("_") else name
            drawn.append(line_chart(f"{title}: {short}", series, STEPS, y_label))
    return drawn


def chosen(manifest: Mapping[str, Any]) -> str:
    """Say which weights the detector has, where evaluations decided that.

    From its training's manifest.
    """
    if manifest.get("keep") != "best":
        return ""
    return (
        f"The detector is the one after step {manifest['measured']['step']}, the best of "
        f"{manifest['evaluations']} by AP50 on the validation images: chosen on these images, so "
        "its score is a little too good."
    )


def learnt_along(manifest: Mapping[str, Any]) -> str:
    """Say how good a detector is that learnt along with the generator, "" without one.

    From their training's manifest.
    """
    measured = manifest.get("joint")
    if not measured:
        return ""
    numbers = []
    for key in EVALUATED:
        for when in ("before", "after"):
            value = measured[when][key]
            told = "unknown" if value is None else f"{value:.3f}"
            numbers.append(f"{key} {told} {when}")
    return (
        f"The detector that learnt along with the generator has on the validation images "
        f"{', '.join(numbers)}."
    )


def _chart(title: str, log: Log, names: Sequence[str], y_label: str, prefix: str = "") -> str:
    """Draw named numbers of a log over its steps, "" without any.

    `prefix` is left out of their names.
    """
    if not names:
        return ""
    series = {}
    for name in names:
        short = name.removeprefix(prefix) or name
        series[short] = _points(log, name)
    return line_chart(title, series, STEPS, y_label)


def _points(log: Log, name: str) -> list[tuple[float, float]]:
    """Return (step, value) where the value is known."""
    return [(row["step"], row[name]) for row in log if row.get(name) is not None]


def _names(log: Log, prefix: str) -> list[str]:
    """Return the names of the losses in a log that begin with a prefix."""
    if not log:
        return []
    names = [name for name in log[-1] if name.startswith(prefix)]
    return [name for name in names if name not in NOT_LOSSES]
