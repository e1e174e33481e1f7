"""The two links of verification by their bounds, on manifests whose counts are known."""

from __future__ import annotations

from typing import Any

import pytest

from synthaug.pipeline.verification.links import (
    LEAST_GAIN,
    generator_link,
    rates,
    verification_link,
)
from synthaug.pipeline.verification.verdicts import EXTRA, FAILED, KEPT, MISPLACED, MISSING


def recognised(made: list[int], real: list[int], chance: list[int]) -> dict[str, Any]:
    return {"recognised": {"made": made, "real": real, "chance": chance}}


@pytest.mark.parametrize(
    ("made", "real", "chance", "state"),
    [
        ([26, 100], [90, 100], [0, 100], "weak"),  # above 22.5 %, but not with certainty
        ([300, 1000], [900, 1000], [0, 1000], "ok"),  # 27 % with certainty, above 22.5 %
        ([300, 1000], [900, 1000], [200, 1000], "weak"),  # above chance 10 % of 70 %
        ([500, 1000], [900, 1000], [200, 1000], "ok"),
        ([500, 1000], [100, 1000], [600, 1000], "weak"),  # less than by chance
        ([0, 0], [90, 100], [0, 0], "untested"),
        ([30, 100], [0, 0], [0, 0], "untested"),
    ],
)
def test_objects_are_recognised_above_chance_with_certainty(
    made: list[int], real: list[int], chance: list[int], state: str
) -> None:
    link = generator_link(recognised(made, real, chance))
    assert link.state == state
    assert link.stops is (state == "weak")


def errors(
    kept: int, failed: int, planted: int, accepted: int, extra: tuple[int, int] = (0, 0)
) -> dict[str, Any]:
    return {
        "true": {"car": {KEPT: kept, MISSING: failed}},
        "planted": {
            MISPLACED: {"planted": planted, "accepted": accepted},
            EXTRA: {"planted": extra[0], "accepted": extra[1]},
        },
    }


def manifest(found: dict[str, Any], judge: str = "detector") -> dict[str, Any]:
    counts: dict[str, dict[str, int]] = {key: {} for key in (KEPT, *FAILED, "not_judged")}
    counts[KEPT] = {"car": 3}
    return {**counts, "things": ["car"], "bars": {"car": {"judge": judge}}, "errors": found}


def test_rates_are_of_labels_and_not_of_things_without_one() -> None:
    """An object whose label was taken away is no label that could be accepted."""
    assert rates(errors(90, 10, 50, 5)) == pytest.approx((0.1, 0.1))
    assert rates(errors(90, 10, 50, 5, extra=(50, 50))) == pytest.approx((0.1, 0.1))
    assert rates(errors(0, 0, 0, 0)) == (None, None)


@pytest.mark.parametrize(
    ("found", "state"),
    [
        (errors(90, 10, 100, 30), "ok"),  # 0.6
        (errors(90, 10, 100, 39), "ok"),
        (errors(90, 10, 100, 41), "weak"),  # accepts too much
        (errors(60, 40, 100, 11), "weak"),  # rejects too much
        (errors(0, 0, 0, 0), "untested"),
    ],
)
def test_the_judge_tells_true_from_false_by_both_of_its_errors(
    found: dict[str, Any], state: str
) -> None:
    assert LEAST_GAIN == 0.5
    assert verification_link(manifest(found)).state == state


def test_without_a_judge_nothing_is_built_on_it() -> None:
    link = verification_link(manifest(errors(90, 10, 100, 30), judge=""))
    assert (link.state, link.stops) == ("weak", True)
