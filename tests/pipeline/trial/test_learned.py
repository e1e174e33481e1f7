"""Whether enough was learned is asked of real data alone, by the value that decides."""

from __future__ import annotations

from typing import Any

import pytest

from synthaug.pipeline.trial.learned import LEAST, real_value, too_little


def found(goal: str, ap: float, rare: float | None) -> dict[str, Any]:
    real = {"name": "real", "mean": {"AP": ap}, "groups": {"rare": rare}}
    other = {"name": "rfs", "mean": {"AP": 0.9}, "groups": {"rare": 0.9}}
    return {"arms": [other, real], "goal": goal, "budget": {"steps": 70}}


@pytest.mark.parametrize(
    ("goal", "ap", "rare", "value"),
    [("AP", 0.2, 0.01, 0.2), ("rare AP", 0.2, 0.01, 0.01), ("rare AP", 0.2, None, None)],
)
def test_the_value_that_decides_is_asked(
    goal: str, ap: float, rare: float | None, value: float | None
) -> None:
    assert real_value(found(goal, ap, rare)) == value


def test_a_trial_without_arms_has_no_value() -> None:
    assert real_value({"goal": "AP"}) is None
    assert too_little({"goal": "AP", "arms": []}) == ""


def test_too_little_is_told_with_what_was_reached_and_what_is_needed() -> None:
    assert too_little(found("AP", LEAST, 0.0)) == ""
    assert too_little(found("rare AP", 0.4, 0.034)) == (
        "real data alone reaches 3.4 rare AP points after 70 steps, at least 5 are needed for a "
        "comparison"
    )
