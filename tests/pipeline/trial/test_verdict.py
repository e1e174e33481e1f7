"""The verdict of screening: what is above the stack, as good as it, or not above it."""

from __future__ import annotations

from typing import Any

import pytest

from synthaug.pipeline.trial.arms import STACK
from synthaug.pipeline.trial.paired_tests import paired_difference
from synthaug.pipeline.trial.verdict import beats_stack, verdict
from tests.trial_runs import whole_trial

GAINS = {"real": 0.0, "real_half": -0.1, "rfs": 0.0, STACK: 0.0, "synthetic": 0.1}


def found_with(gain: float) -> dict[str, Any]:
    """A trial whose recipe is `gain` AP above the stack, in every seed but for a hair."""
    found = whole_trial(GAINS, confirmed=False)
    difference = paired_difference([gain, gain + 1e-5, gain], [0.0, 0.0, 0.0])
    found["comparisons"]["synthetic"]["against_controls"][STACK] = difference.to_json()
    return found


@pytest.mark.parametrize(
    ("gain", "place"),
    [
        (-0.02, "is not above the stack"),
        (-0.0003, "is as good as the stack"),
        (0.0003, "is as good as the stack"),
    ],
)
def test_a_recipe_that_is_not_above_the_stack_is_told_as_what_it_is(
    gain: float, place: str
) -> None:
    found = found_with(gain)
    assert not beats_stack(found)
    told = verdict(found, stops=True, why_not="nothing was confirmed")
    assert told["word"] == "no gain"
    assert place in told["sentence"]
    assert "-0.0" not in told["sentence"]


def test_a_recipe_above_the_stack_is_judged_by_its_comparison() -> None:
    found = found_with(0.02)
    assert beats_stack(found)
    told = verdict(found, stops=True, why_not="nothing was confirmed")
    assert told["word"] == "suggests a gain"
