"""Whether the detectors of a trial learned enough to be compared.

Arms that recognise next to nothing differ by chance. Half of the images is then as good as all of
them, and a difference of two seeds is noise, whatever the images are worth.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from synthaug.pipeline.trial.runs import GOAL_WORDS

LEAST = 0.05  # AP of real data alone, of the classes that decide


def real_value(found: Mapping[str, Any]) -> float | None:
    """Return the value that decides of real data alone, a mean over seeds.

    From the manifest of a trial; None where there is none.
    """
    for arm in found.get("arms", []):
        if arm["name"] != "real":
            continue
        if found["goal"] == GOAL_WORDS["rare"]:
            rare: float | None = arm["groups"]["rare"]
            return rare
        mean: float | None = arm["mean"]["AP"]
        return mean
    return None


def too_little(found: Mapping[str, Any]) -> str:
    """Return in one line that too little was learned; nothing where enough was."""
    value = real_value(found)
    if value is None or value >= LEAST:
        return ""
    return (
        f"real data alone reaches {100 * value:.1f} {found['goal']} points after "
        f"{found['budget']['steps']} steps, at least {100 * LEAST:.0f} are needed for a comparison"
    )
