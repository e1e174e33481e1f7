"""The headroom of a trial: whether more data can show anything here.

It is seen on real images, before anything is judged. Where half of the labelled images is as good
as all of them, another image, however good, will not show either. Where the truth of more images is
known, real data with them is the other side: what perfect labels would bring.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from synthaug.pipeline.core.json_values import Json
from synthaug.pipeline.trial.paired_tests import (
    LEAST,
    LEVEL,
    Difference,
    detectable_difference,
    holm_adjusted,
    paired_difference,
    points,
)
from synthaug.pipeline.trial.runs import GOAL, Runs, values_of

HALF, MORE = "real_half", "real_more"
NONE = "no headroom"


def conclude_headroom(runs: Runs, more: bool) -> Json:
    """Return, as plain data, whether more real data is shown to be better.

    `more` says whether `real_more` was trained. Of equal arms at most 5 in 100 trials show a gain:
    two tests have Holm's correction.
    """
    real = values_of(runs, "real", GOAL)
    gains = {HALF: paired_difference(real, values_of(runs, HALF, GOAL))}
    if more:
        gains[MORE] = paired_difference(values_of(runs, MORE, GOAL), real)
    adjusted = holm_adjusted({name: gain.p for name, gain in gains.items()})
    shown = []
    for name, gain in gains.items():
        if gain.mean >= LEAST and adjusted[name] < 1 - LEVEL:
            shown.append(name)
    word = NONE
    if shown:
        word = "headroom"
    half = gains[HALF]
    return {
        "word": word,
        "shown": shown,
        "gains": {name: gain.to_json() for name, gain in gains.items()},
        "detectable": detectable_difference(half.sd, half.seeds),
    }


def headroom_line(headroom: Mapping[str, Any], key: str) -> str:
    """Return the line on headroom; `key` names the value that decides (AP)."""
    gains = {name: Difference(**gain) for name, gain in headroom["gains"].items()}
    parts = [f"all labelled images against half of them {points(gains[HALF])} {key}"]
    if MORE in gains:
        parts.append(f"more real images with true labels against these {points(gains[MORE])}")
    numbers = "; ".join(parts)
    if headroom["word"] == NONE:
        least = 100 * headroom["detectable"]
        return (
            f"no headroom: no added data would show here: {numbers}. A difference of {least:.1f} "
            "points is found four times out of five: take fewer labelled images, more steps, "
            "images that are harder, or more seeds"
        )
    if MORE in gains and MORE not in headroom["shown"]:
        return f"little headroom above these images: {numbers}"
    return f"headroom: {numbers}"
