"""The advice that a trial ends with: add the images, by which recipe, or do not."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from synthaug.pipeline.trial.headroom import NONE
from synthaug.pipeline.trial.learned import too_little
from synthaug.pipeline.trial.paired_tests import SCREENED
from synthaug.pipeline.trial.recipe import Recipe

UNLEARNED = (
    "whether these images help your detector is not known: the trial's detectors learned too "
    "little; train them longer (trial.steps: plateau finds how long)"
)
UNKNOWN = "whether these images help your detector is not known: try with `synthaug trial` first"
BOXES = {
    "all": "with their boxes",
    "agreed": "with a box loss only where the judge agrees with the box",
    "none": "without a box loss for them",
}


def recommendation(trial: Mapping[str, Any]) -> str:
    """Return one line of advice from the manifest of a trial.

    Only what was confirmed is recommended.
    """
    if not trial.get("seeds") or "verdict" not in trial:
        return UNKNOWN
    verdict = trial["verdict"]
    word = verdict["word"]
    if word != "helps" and too_little(trial):
        return UNLEARNED
    if word == NONE:
        return (
            "do not add them: more data would not show a gain here; train longer, or give the "
            "detector a harder or larger set to be measured on"
        )
    if word == "nothing judged":
        return UNKNOWN
    if word == "helps":
        return f"add them as {trial['recipe']} did, which was confirmed: {recipe_line(trial)}"
    if word == SCREENED["helps"]:
        return (
            "do not rely on them yet: screening shows a gain that nothing confirmed; name images "
            "that nothing else has seen in trial.evaluation"
        )
    if word in ("hurts", SCREENED["hurts"]):
        return "do not add them: they make the detector worse"
    return "do not add them: no gain over the stack of controls was shown"


def recipe_line(trial: Mapping[str, Any]) -> str:
    """Return the keys of the recommended recipe in words."""
    recipe = Recipe(**trial.get("recipe_keys", {}))
    parts = [f"{100 * recipe.share:.0f} % of each batch", BOXES[recipe.added_boxes]]
    if recipe.real_last:
        parts.append(f"none in the last {100 * recipe.real_last:.0f} % of the steps")
    if recipe.added_background == "ignore":
        parts.append("their background ignored")
    stack = trial["stack"].partition(":")[0]
    if stack != "real":
        parts.append(f"beside {stack}")
    return ", ".join(parts)
