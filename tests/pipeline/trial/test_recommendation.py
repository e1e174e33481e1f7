"""The advice of a trial: only what was confirmed is recommended."""

from __future__ import annotations

from typing import Any

import pytest

from synthaug.pipeline.trial.recommendation import UNKNOWN, UNLEARNED, recommendation
from tests.trial_runs import whole_trial

GAINS = {"real": 0.0, "real_half": -0.2, "rfs": 0.05, "stack": 0.05}


def found(stage: str, word: str, **keys: Any) -> dict[str, Any]:
    verdict = {"stage": stage, "word": word, "sentence": ""}
    recipe = {"share": 0.4, "added_boxes": "none", "added_background": "ignore"}
    usual = {"seeds": 4, "recipe": "verified", "recipe_keys": recipe, "stack": "irfs + pseudo"}
    return {**usual, "verdict": verdict, **keys}


@pytest.mark.parametrize(
    ("stage", "word", "start"),
    [
        ("headroom", "no headroom", "do not add them: more data would not show"),
        ("confirmation", "hurts", "do not add them: they make"),
        ("confirmation", "cannot tell", "do not add them: no gain"),
        ("screening", "no gain", "do not add them: no gain"),
        ("screening", "suggests a gain", "do not rely on them yet"),
        ("screening", "suggests a loss", "do not add them: they make"),
        ("screening", "nothing judged", UNKNOWN),
    ],
)
def test_what_was_not_confirmed_is_not_recommended(stage: str, word: str, start: str) -> None:
    assert recommendation(found(stage, word)).startswith(start)


@pytest.mark.parametrize("word", ["no headroom", "no gain", "cannot tell", "suggests a gain"])
def test_where_nothing_was_learned_nothing_is_known(word: str) -> None:
    arm = {"name": "real", "mean": {"AP": 0.13}, "groups": {"rare": 0.025}}
    learned = {"arms": [arm], "budget": {"steps": 120}}
    assert recommendation(found("screening", word, goal="rare AP", **learned)) == UNLEARNED
    assert recommendation(found("screening", word, goal="AP", **learned)) != UNLEARNED
    assert recommendation(found("confirmation", "helps", goal="rare AP", **learned)) != UNLEARNED


def test_a_run_without_a_trial_says_that_nothing_is_known() -> None:
    assert UNKNOWN == recommendation({"seeds": 0}) == recommendation({})


def test_a_confirmed_recipe_is_told_with_its_keys() -> None:
    line = recommendation(found("confirmation", "helps"))
    assert line.startswith("add them as verified did, which was confirmed: 40 % of each batch, ")
    for part in ("without a box loss", "their background ignored", "beside irfs + pseudo"):
        assert part in line
    alone = recommendation(found("confirmation", "helps", stack="real"))
    assert "beside" not in alone


def test_a_planted_gain_is_recommended_and_a_planted_loss_is_not() -> None:
    gain = whole_trial({**GAINS, "synthetic": 0.2})
    loss = whole_trial({**GAINS, "synthetic": -0.2}, confirmed=False)
    assert gain["advice"].startswith("add them as synthetic did")
    assert "none in the last 30 % of the steps" in gain["advice"]
    assert loss["advice"].startswith("do not add them")
