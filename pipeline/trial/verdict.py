"""The verdict of a trial and its lines, from the plain data of its parts."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from synthaug.pipeline.trial.arms import STACK
from synthaug.pipeline.trial.budget import budget_line
from synthaug.pipeline.trial.confirmation import ledger_lines
from synthaug.pipeline.trial.headroom import NONE, headroom_line
from synthaug.pipeline.trial.learned import too_little
from synthaug.pipeline.trial.paired_tests import LEAST, Difference, in_points, points

Found = Mapping[str, Any]  # the manifest of the step, or what is there of it


def verdict(found: Found, stops: bool, why_not: str) -> dict[str, str]:
    """Return the stage that decided, its word and its sentence.

    `stops` says whether a trial without headroom ends there, `why_not` why nothing is confirmed.
    """
    headroom = found["headroom"]
    if stops and headroom and headroom["word"] == NONE:
        return _verdict("headroom", NONE, f"{headroom_line(headroom, found['goal'])}.")
    confirmation = found["confirmation"]
    if confirmation:
        return _verdict("confirmation", confirmation["word"], confirmation["sentence"])
    recipe = found["recipe"]
    if recipe is None:
        text = "nothing was judged: no arm of the trial adds images that a generator made."
        return _verdict("screening", "nothing judged", text)
    comparison = found["comparisons"][recipe]
    if not beats_stack(found):
        difference = Difference(**comparison["against_controls"][STACK])
        place = "is not above" if difference.mean <= -LEAST else "is as good as"
        text = (
            f"screening suggests no gain: {recipe}, the best recipe, {place} the stack of "
            f"controls ({found['stack']}) on the validation images: {points(difference)} "
            f"{found['goal']}; nothing was confirmed."
        )
        return _verdict("screening", "no gain", text)
    return _verdict("screening", comparison["word"], f"{comparison['sentence'][:-1]}; {why_not}.")


def _verdict(stage: str, word: str, text: str) -> dict[str, str]:
    return {"stage": stage, "word": word, "sentence": text}


def beats_stack(found: Found) -> bool:
    """Return whether the recipe beats the stack on validation by LEAST or more.

    Only then is it worth confirming.
    """
    comparison = found["comparisons"][found["recipe"]]
    return bool(comparison["against_controls"][STACK]["mean"] >= LEAST)


def lines(found: Found) -> list[str]:
    """Return all lines of a trial, the verdict first."""
    said = [found["verdict"]["sentence"]]
    unlearned = too_little(found)
    if unlearned:
        said.append(unlearned)
    confirmation = found["confirmation"]
    if confirmation:
        said += confirmation["says"][1:]
        said += ledger_lines(confirmation["before"])
    said.append(budget_line(found["budget"]))
    if found["headroom"] and found["verdict"]["stage"] != "headroom":
        said.append(headroom_line(found["headroom"], found["goal"]))
    if found["ingredients"]:
        said.append(stack_line(found))
    said += [line for line in found["says"] if line[:-1] not in said[0]]
    return said


def stack_line(found: Found) -> str:
    """Return the line on the stack: which controls gained, and which did not."""
    gained: list[str] = []
    others: list[str] = []
    for row in found["ingredients"]:
        text = f"{row['name']} {in_points(row['difference']['mean'])}"
        if row["gained"]:
            gained.append(text)
        else:
            others.append(text)
    parts = [f"the stack to beat is {found['stack']}"]
    if gained:
        parts.append(f"gained on validation, {found['goal']} points: {', '.join(gained)}")
    if others:
        parts.append(f"did not gain: {', '.join(others)}")
    return "; ".join(parts)
