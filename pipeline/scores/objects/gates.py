"""Whether made objects pass the gates of a generator.

A gate compares them with real ones, each in a way that no detector has a part in: can a small
classifier tell them apart, have they the finest detail, were they copied, do they vary. One that
fails with certainty makes the generator a weak link. It stops nothing, since it is evidence and no
proof: whether a detector learns from the objects, a trial decides.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from synthaug.pipeline.core.links import Link
from synthaug.pipeline.scores.objects import memorizing, real_or_made, spectrum

LONGER = "train the generator longer (generator.steps)"
FINER = "paint closer to native scale (generator.resolutions)"
SHORTER = "train the generator for fewer steps (generator.steps) or on more images"
TRIAL = "a gate is no proof: the trial decides"


@dataclass(frozen=True)
class Gate:
    """A gate as it was measured."""

    figure: str  # the number, what real objects have, and the bar
    fails: bool
    advice: tuple[str, ...] = ()  # where it fails


def gate_link(scores: Mapping[str, Any]) -> Link | None:
    """Return the generator's link as the gates see it; None where none was measured."""
    gates = [*_told_apart(scores), *_detail(scores), *_copies(scores), *_variety(scores)]
    if not gates:
        return None
    name = "generator"
    failing = [gate for gate in gates if gate.fails]
    if not failing:
        return Link(name, "ok", "; ".join(gate.figure for gate in gates))
    advice: list[str] = []
    for gate in failing:
        advice += [text for text in gate.advice if text not in advice]
    figure = "; ".join(gate.figure for gate in failing)
    return Link(name, "weak", figure, ", ".join([*advice, TRIAL]))


def _told_apart(scores: Mapping[str, Any]) -> list[Gate]:
    """Return the gates of the classifier that tells made objects from real ones.

    Real objects of two tables may be told apart too; only what lies above both bar and that counts.
    """
    metric = scores.get("real_or_made")
    if metric is None:
        return []
    gates = []
    control = metric["controls"]["real"]
    for where, bar in real_or_made.BARS.items():
        value = metric["values"].get(where)
        low = metric["values"].get(f"{where}_low")
        if value is None or low is None:
            continue
        figure = f"a classifier tells made from real objects, {where}: {value:.3f}"
        own = control.get(where)
        if own is not None:
            figure = f"{figure} (real from real {own:.3f})"
        highest = max(bar, control.get(f"{where}_high") or 0.0)
        fails = low > highest
        if fails:
            figure = f"{figure}, at most {highest:.2f} would pass"
        gates.append(Gate(figure, fails, (LONGER, FINER)))
    return gates


def _detail(scores: Mapping[str, Any]) -> list[Gate]:
    """Return the gate of fine detail: too smooth and too noisy objects fail it."""
    metric = scores.get("spectrum")
    if metric is None:
        return []
    values = metric["values"]
    value, low, high = (values.get(f"fine_power{end}") for end in ("", "_low", "_high"))
    if value is None or low is None or high is None:
        return []
    least = 1 - spectrum.BAR
    most = 1 + spectrum.BAR
    figure = f"fine detail {value:.2f} of that of real objects"
    fails = high < least or low > most
    if fails:
        figure = f"{figure}, {least:.2f} to {most:.2f} would pass"
    return [Gate(figure, fails, (LONGER, FINER))]


def _copies(scores: Mapping[str, Any]) -> list[Gate]:
    """Return the gate of objects nearer to training objects than real ones are."""
    metric = scores.get("memorizing")
    value = metric["values"]["distance"] if metric else None
    if value is None:
        return []
    bar = memorizing.BARS["distance"]
    figure = f"distance to training objects {value:.2f} of that of real ones"
    if value >= bar:
        return [Gate(figure, False)]
    return [Gate(f"{figure}, at least {bar:.2f} would pass", True, (SHORTER,))]


def _variety(scores: Mapping[str, Any]) -> list[Gate]:
    """Return the gate of the share of real objects that made ones come near to."""
    metric = scores.get("memorizing")
    if metric is None:
        return []
    value = metric["values"]["coverage"]
    known = metric["controls"]["real"]["coverage"]
    if value is None or not known:
        return []
    least = memorizing.BARS["coverage"] * known
    figure = f"coverage {value:.2f} of real objects (training objects {known:.2f})"
    if value >= least:
        return [Gate(figure, False)]
    return [Gate(f"{figure}, at least {least:.2f} would pass", True, (LONGER,))]
