"""Planted headroom, and planted lack of it, come out of simulated trials."""

from __future__ import annotations

import pytest

from synthaug.pipeline.trial.headroom import NONE, conclude_headroom, headroom_line
from tests.trial_runs import simulate

SEEDS = 4  # the usual ones of screening


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """The detectable difference is slow, and no part of a conclusion."""
    monkeypatch.setattr("synthaug.pipeline.trial.headroom.detectable_difference", lambda *_: 0.01)


def words(half: float, more: float | None = None, trials: int = 200) -> list[str]:
    """Simulate trials; the noise of one AP is 0.004 / sqrt(3) = 0.0023, of a difference 0.0033."""
    gains = {"real": 0.0, "real_half": half}
    if more is not None:
        gains["real_more"] = more
    found = []
    for start in range(trials):
        runs = simulate(gains, SEEDS, start=start + 1)
        found.append(conclude_headroom(runs, more is not None)["word"])
    return found


@pytest.mark.parametrize("more", [None, 0.0])
def test_planted_no_headroom_comes_out_in_95_of_100_trials(more: float | None) -> None:
    assert words(0.0, more).count(NONE) >= 190


@pytest.mark.parametrize("more", [None, 0.0])
def test_planted_headroom_is_not_called_none_in_95_of_100_trials(more: float | None) -> None:
    """Four times the standard deviation of a difference (0.013 AP).

    Half of the data costs 1.3 points.
    """
    assert words(-0.013, more).count("headroom") >= 190


def test_more_real_data_that_is_better_is_headroom_too() -> None:
    assert words(0.0, 0.015).count("headroom") >= 190


def test_a_loss_by_more_data_is_no_headroom() -> None:
    assert words(0.02, -0.05, 40).count(NONE) == 40
    assert words(0.02, None, 40).count(NONE) == 40


def test_both_sides_are_corrected_for_two_tests() -> None:
    runs = simulate({"real": 0.0, "real_half": -0.02, "real_more": 0.0}, SEEDS)
    found = conclude_headroom(runs, more=True)
    assert found["shown"] == ["real_half"]
    assert found["gains"]["real_half"]["mean"] == pytest.approx(0.02, abs=0.008)
    line = headroom_line(found, "AP")
    assert line.startswith("little headroom above these images: all labelled images against half")


def test_a_gain_that_rounds_to_nothing_is_no_headroom_however_sure() -> None:
    for half, word in ((-0.0008, NONE), (-0.0012, "headroom")):
        runs = simulate({"real": 0.0, "real_half": half}, SEEDS, noise=1e-6)
        assert conclude_headroom(runs, more=False)["word"] == word


def test_the_line_says_what_could_have_been_found() -> None:
    none = conclude_headroom(simulate({"real": 0.0, "real_half": 0.01}, SEEDS), more=False)
    line = headroom_line(none, "rare AP")
    assert line.startswith(
        "no headroom: no added data would show here: all labelled images against"
    )
    assert "rare AP. A difference of 1.0 points is found four times out of five" in line
    some = conclude_headroom(simulate({"real": 0.0, "real_half": -0.1}, SEEDS), more=False)
    assert headroom_line(some, "AP").startswith("headroom: all labelled images")
