"""The generator's link as its gates see it: what fails with certainty makes it weak."""

from __future__ import annotations

from typing import Any

import pytest

from synthaug.pipeline.scores.objects.gates import TRIAL, gate_link


def scores(
    inside: float = 0.6,
    seam: float = 0.6,
    real: float = 0.51,
    fine: tuple[float, float, float] = (0.95, 0.9, 1.0),
    distance: float = 1.1,
    coverage: float = 0.9,
) -> dict[str, Any]:
    """Return scores whose areas have intervals of 0.02 on either side."""
    areas: dict[str, float] = {}
    for name, value in (("inside", inside), ("seam", seam)):
        areas |= {name: value, f"{name}_low": value - 0.02, f"{name}_high": value + 0.02}
    own = {"inside": real, "inside_high": real + 0.02, "seam": real, "seam_high": real + 0.02}
    keys = ("fine_power", "fine_power_low", "fine_power_high")
    return {
        "real_or_made": {"values": areas, "controls": {"real": own}},
        "spectrum": {"values": dict(zip(keys, fine, strict=True)), "controls": {}},
        "memorizing": {
            "values": {"distance": distance, "coverage": coverage},
            "controls": {"real": {"coverage": 0.95}},
        },
    }


def test_objects_that_pass_every_gate_leave_the_link_whole() -> None:
    link = gate_link(scores())
    assert link is not None
    assert (link.name, link.state, link.advice) == ("generator", "ok", "")
    assert "inside: 0.600 (real from real 0.510)" in link.figure


@pytest.mark.parametrize(
    ("changes", "number", "bar", "advice"),
    [
        ({"inside": 0.985}, "0.985 (real from real 0.510)", "at most 0.75", "generator.steps"),
        ({"seam": 0.9}, "seam: 0.900", "at most 0.65", "generator.resolutions"),
        ({"fine": (0.07, 0.06, 0.08)}, "fine detail 0.07", "0.85 to 1.15", "generator.steps"),
        ({"fine": (1.6, 1.4, 1.8)}, "fine detail 1.60", "0.85 to 1.15", "generator.steps"),
        ({"distance": 0.5}, "distance to training objects 0.50", "at least 0.80", "fewer steps"),
        ({"coverage": 0.41}, "coverage 0.41", "at least 0.66", "generator.steps"),
    ],
)
def test_a_gate_that_fails_is_told_with_its_number_its_bar_and_what_to_do(
    changes: dict[str, Any], number: str, bar: str, advice: str
) -> None:
    link = gate_link(scores(**changes))
    assert link is not None
    assert link.is_weak
    assert number in link.figure
    assert f"{bar} would pass" in link.figure
    assert advice in link.advice


def test_a_failing_gate_stops_nothing_and_leaves_the_last_word_to_the_trial() -> None:
    link = gate_link(scores(inside=0.99, seam=0.99, fine=(0.1, 0.1, 0.1)))
    assert link is not None
    assert not link.stops
    assert link.advice.endswith(TRIAL)
    assert link.advice.count("generator.steps") == 1, "advice is given once"


def test_what_few_objects_cannot_tell_does_not_fail() -> None:
    link = gate_link(scores(inside=0.76, fine=(0.7, 0.5, 1.0)))
    assert link is not None
    assert link.state == "ok"


def test_tables_whose_real_objects_differ_cannot_fail_the_classifier() -> None:
    link = gate_link(scores(inside=0.9, seam=0.9, real=0.9))
    assert link is not None
    assert link.state == "ok"


def test_without_scores_of_objects_there_is_no_link() -> None:
    assert gate_link({"dap": {"values": {}}}) is None
    nothing = {"values": {"inside": None, "inside_low": None}, "controls": {"real": {}}}
    assert gate_link({"real_or_made": nothing}) is None
