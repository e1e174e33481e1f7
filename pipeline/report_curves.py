"""Training curves of the report, and what is said of the weights that were chosen by them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from pipeline.charts import line_chart

NOT_LOSSES = ("step", "steps", "steps_per_s")
MEASURED = ("AP50", "AP")  # what is shown of the evaluations during the detector's training

BOXES = "Boxes the teacher was sure of, per unlabelled image"

Log = Sequence[Mapping[str, Any]]


def charts(logs: Mapping[str, Log]) -> list[str]:
    """SVG of the detector's losses and its AP on validation images, and of the losses of mean teacher, D and G.

    `logs` are the rows of "train_detector", "evaluation" (during the detector's training), "self_train" and
    "train_generator".
    """
    names = ("train_detector", "self_train", "train_generator")
    detector, taught, generator = (logs.get(name, ()) for name in names)
    parts = (
        ("Detector", "", detector, _names(detector, "")),
        ("Detector on validation images", "", logs.get("evaluation", ()), MEASURED if logs.get("evaluation") else ()),
        ("Mean teacher", "", taught, [*_names(taught, "total"), *_names(taught, "unsupervised_")]),
        (BOXES, "", taught, _names(taught, "pseudo_boxes")),
        ("Discriminator", "d_", generator, _names(generator, "d_")),
        ("Generator", "g_", generator, _names(generator, "g_")),
    )
    return [_curves(title, log, names, prefix) for title, prefix, log, names in parts if names]


def chosen(told: Mapping[str, Any]) -> str:
    """Say from its training's manifest which weights the detector has, where that was decided by measuring them."""
    if told.get("keep") != "best":
        return ""
    return (
        f"The detector is the one after step {told['measured']['step']}, the best of {told['evaluations']} by AP50 "
        "on the validation images: chosen on these images, so its score is a little too good."
    )


def _curves(title: str, log: Log, names: Sequence[str], prefix: str) -> str:
    """Draw named numbers of a log over its steps; `prefix` is left out of their names, and unknown numbers of the lines."""
    series = {n.removeprefix(prefix) or n: [(r["step"], r[n]) for r in log if r.get(n) is not None] for n in names}
    y_label = {BOXES: "boxes"}.get(title, "average precision" if names is MEASURED else "loss, mean per interval")
    return line_chart(title, series, "optimiser steps", y_label)


def _names(log: Log, prefix: str) -> list[str]:
    return [name for name in (log[-1] if log else {}) if name.startswith(prefix) and name not in NOT_LOSSES]
