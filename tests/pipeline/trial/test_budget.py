"""The budget of a trial ends where twice the steps bring real data next to nothing."""

from __future__ import annotations

import pytest

from synthaug.pipeline.config.schema import DetectorJob, Trial
from synthaug.pipeline.trial.budget import Budget, budget_line, find_budget, first_steps


def search(values: dict[int, float], doublings: int = 3) -> Budget:
    asked = []

    def measure(steps: int) -> float:
        asked.append(steps)
        return values[steps]

    budget = find_budget(measure, 100, 0.01, doublings)
    assert asked == [steps for steps, _ in budget.curve], "each length is trained once"
    return budget


def test_the_steps_before_a_doubling_that_brings_less_than_a_point() -> None:
    budget = search({100: 0.30, 200: 0.40, 400: 0.409, 800: 0.5})
    assert (budget.steps, budget.found) == (200, "plateau")
    assert budget.curve == ((100, 0.30), (200, 0.40), (400, 0.409))


def test_a_loss_is_a_plateau_too() -> None:
    assert search({100: 0.30, 200: 0.28}).steps == 100


def test_nothing_learnt_yet_is_no_plateau() -> None:
    budget = search({100: 0.001, 200: 0.002, 400: 0.3, 800: 0.301})
    assert (budget.steps, budget.found) == (400, "plateau")


def test_the_search_ends_at_its_limit_and_says_so() -> None:
    budget = search({100: 0.1, 200: 0.2, 400: 0.3, 800: 0.4})
    assert (budget.steps, budget.found) == (800, "limit")
    line = budget_line(budget.to_json())
    assert line.startswith("800 steps per arm, where trial.doublings ended the search")
    assert "+10.0 points" in line


def test_a_line_tells_how_the_steps_were_found() -> None:
    assert budget_line(Budget(300).to_json()) == "300 steps per arm, as the job says"
    line = budget_line(search({100: 0.30, 200: 0.304}).to_json())
    assert line.startswith("100 steps per arm: twice as many bring +0.4 points of AP")


@pytest.mark.parametrize(("start", "steps"), [(0, 150), (40, 40)])
def test_the_first_steps_are_a_quarter_of_the_detector_s_or_the_job_s(
    start: int, steps: int
) -> None:
    assert first_steps(Trial(start_steps=start), DetectorJob(steps=600)) == steps
    assert first_steps(Trial(), DetectorJob(steps=1)) == 1
