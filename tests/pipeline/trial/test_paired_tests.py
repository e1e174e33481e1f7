"""The statistics of a trial, tested against libraries and on simulated truths."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from synthaug.pipeline.trial.paired_tests import (
    budget_curve,
    compare_arms,
    detectable_difference,
    holm_adjusted,
    in_points,
    is_not_worse,
    paired_difference,
    screening_sentence,
    sentence,
)

SEEDS = 5
NOISE = 0.01  # of one training: 1 AP point


def arms(rng: np.random.Generator, *gains: float, seeds: int = SEEDS) -> list[list[float]]:
    """One arm per gain, all with the same noise of the evaluation and their own of the training."""
    shared = rng.normal(0.5, 0.02, seeds)
    return [list(shared + gain + rng.normal(0, NOISE, seeds)) for gain in gains]


def test_paired_is_the_library_s_paired_t_test() -> None:
    rng = np.random.default_rng(0)
    a, b = arms(rng, 0.02, 0.0)
    found, expected = paired_difference(a, b), stats.ttest_rel(a, b)
    assert found.p == pytest.approx(expected.pvalue, rel=1e-12)
    low, high = expected.confidence_interval(0.95)
    assert (found.low, found.high) == pytest.approx((low, high), rel=1e-12)


def test_equal_values_are_no_difference_and_constant_gains_are_certain() -> None:
    assert paired_difference([0.5, 0.6], [0.5, 0.6]).p == 1.0
    # binary fractions, so that the differences are equal to the last bit
    constant = paired_difference([0.5, 0.75], [0.25, 0.5])
    assert constant.p == 0.0 and constant.low == constant.high == 0.25


@given(st.dictionaries(st.text(min_size=1, max_size=3), st.floats(0, 1), min_size=1, max_size=12))
def test_holm_is_monotone_and_between_the_raw_values_and_bonferroni(p: dict[str, float]) -> None:
    adjusted = holm_adjusted(p)
    assert adjusted.keys() == p.keys()
    for name, value in p.items():
        assert value <= adjusted[name] <= min(1.0, len(p) * value) + 1e-12
    order = sorted(p, key=lambda name: p[name])
    assert [adjusted[n] for n in order] == sorted(adjusted.values())


def test_holm_on_a_worked_example() -> None:
    assert holm_adjusted({"a": 0.01, "b": 0.04, "c": 0.03}) == pytest.approx(
        {"a": 0.03, "b": 0.06, "c": 0.06}
    )


def test_the_detectable_effect_is_found_as_often_as_it_promises() -> None:
    effect = detectable_difference(NOISE, SEEDS)
    rng = np.random.default_rng(1)
    gains = rng.normal(effect, NOISE, (4000, SEEDS))
    found = np.mean([paired_difference(row, [0.0] * SEEDS).p < 0.05 for row in gains])
    assert found == pytest.approx(0.8, abs=0.02)
    assert detectable_difference(NOISE, 10) < effect < detectable_difference(2 * NOISE, SEEDS)
    assert detectable_difference(0.0, SEEDS) == 0.0
    assert (
        math.isfinite(detectable_difference(NOISE, 2))
        and detectable_difference(NOISE, 2) > 3 * effect
    )


def test_two_identical_arms_cannot_be_told_apart() -> None:
    """At the 5 % level at most 5 in 100 trials may say anything.

    With several controls even fewer say `helps`.
    """
    rng = np.random.default_rng(2)
    words = [compare_arms(a, b, {}).word for a, b in (arms(rng, 0.0, 0.0) for _ in range(4000))]
    assert words.count("cannot tell") / 4000 == pytest.approx(0.95, abs=0.01)
    words = [
        compare_arms(a, b, {"rfs": c}).word
        for a, b, c in (arms(rng, 0.0, 0.0, 0.0) for _ in range(2000))
    ]
    assert words.count("helps") / 2000 < 0.015


def test_simulated_truths_come_out() -> None:
    """Perfect extra data helps, shuffled labels hurt, a placebo does not help.

    In nearly every simulated trial.
    """
    rng = np.random.default_rng(3)
    trials = [
        arms(rng, 0.0, 0.0, 0.06, 0.0, -0.06) for _ in range(300)
    ]  # real, rfs, perfect, placebo, shuffled
    perfect = [compare_arms(good, real, {"rfs": rfs}).word for real, rfs, good, _, _ in trials]
    placebo = [compare_arms(none, real, {"rfs": rfs}).word for real, rfs, _, none, _ in trials]
    shuffled = [compare_arms(bad, real, {"rfs": rfs}).word for real, rfs, _, _, bad in trials]
    assert perfect.count("helps") >= 285 and "hurts" not in perfect
    assert placebo.count("helps") <= 9
    assert shuffled.count("hurts") >= 285 and "helps" not in shuffled


def test_an_arm_must_beat_every_control_not_only_real_data() -> None:
    rng = np.random.default_rng(4)
    real, pasted, synthetic = arms(rng, 0.0, 0.06, 0.06)
    conclusion = compare_arms(synthetic, real, {"copy_paste": pasted})
    assert conclusion.word == "cannot tell" and conclusion.best_control == "copy_paste"
    assert conclusion.against_real.low > 0
    text = sentence("synthetic", conclusion)
    assert text.startswith("cannot tell whether synthetic helps beyond cheap controls")
    assert "does beat real data alone" in text and "copy_paste" in text


def test_sentences_name_number_and_interval() -> None:
    real, good = [0.5, 0.51, 0.5], [0.55, 0.562, 0.551]
    text = sentence("synthetic", compare_arms(good, real, {}))
    assert (
        text.startswith("synthetic helps: +5.1 points [+") and "AP against real data alone" in text
    )
    assert sentence("placebo", compare_arms(real, good, {})).startswith(
        "placebo hurts: -5.1 points"
    )


def test_not_worse_needs_the_whole_interval_above_the_margin() -> None:
    a, b = [0.50, 0.51, 0.52, 0.50], [0.505, 0.512, 0.518, 0.503]
    difference = paired_difference(a, b)
    assert is_not_worse(difference, 0.02) and not is_not_worse(difference, -difference.low / 2)


def test_a_budget_curve_stops_only_when_more_is_shown_not_to_be_worth_it() -> None:
    real = [0.50, 0.501, 0.499, 0.5, 0.5]
    first = [0.53, 0.532, 0.529, 0.53, 0.531]
    flat = [0.5301, 0.5319, 0.5292, 0.5299, 0.5311]
    wild = [0.50, 0.57, 0.51, 0.56, 0.53]
    steps, stop = budget_curve(real, {100: first, 200: flat}, worthwhile=0.005)
    assert stop == 100 and [s.images for s in steps] == [100, 200]
    assert steps[0].increment is None and math.isclose(steps[0].gain.mean, 0.0304)
    assert budget_curve(real, {100: first, 200: wild}, worthwhile=0.005)[1] is None


def test_an_interval_is_student_s_t_around_the_mean_difference() -> None:
    """Against the formula, in float64, at another level."""
    rng = np.random.default_rng(6)
    a, b = arms(rng, 0.02, 0.0, seeds=4)
    gains = np.array(a, np.float64) - np.array(b, np.float64)
    mean = gains.sum() / 4
    sd = math.sqrt(((gains - mean) ** 2).sum() / 3)
    half_width = 2.3533634348018264 * sd / 2  # t(3) at 0.95
    found = paired_difference(a, b, level=0.9)
    assert found.mean == pytest.approx(mean, rel=1e-12)
    assert found.sd == pytest.approx(sd, rel=1e-12)
    assert (found.low, found.high) == pytest.approx((mean - half_width, mean + half_width))
    assert found.seeds == 4


def test_arms_of_different_seeds_are_no_pairs() -> None:
    with pytest.raises(AssertionError, match="the same seeds in both arms"):
        paired_difference([0.5, 0.6, 0.7], [0.5, 0.6])
    with pytest.raises(AssertionError, match="the same seeds in both arms"):
        paired_difference([0.5, 0.6, 0.7], [0.5])
    with pytest.raises(AssertionError, match="two seeds or more"):
        paired_difference([0.5], [0.5])


def test_pairing_removes_what_both_arms_share() -> None:
    """The same values in another order of the seeds are far less certain."""
    a, b = [0.41, 0.51, 0.61, 0.71], [0.40, 0.50, 0.60, 0.70]
    paired, shuffled = paired_difference(a, b), paired_difference(a, b[::-1])
    assert paired.p < 1e-6 < 0.5 < shuffled.p
    assert paired.mean == pytest.approx(shuffled.mean)


def test_nothing_is_adjusted_where_nothing_was_tested() -> None:
    assert holm_adjusted({}) == {}


@pytest.mark.parametrize("gain", [0.0002, -0.0002, 0.00099, -0.00099])
def test_what_rounds_to_nothing_is_no_gain_and_no_loss_however_sure(gain: float) -> None:
    """Seeds may agree to the last digit; the interval then excludes 0."""
    real = [0.5, 0.52, 0.51]
    arm = [value + gain for value in real]
    conclusion = compare_arms(arm, real, {})
    assert conclusion.against_real.low * conclusion.against_real.high > 0
    assert conclusion.word == "cannot tell"
    for text in (sentence("a", conclusion), screening_sentence("a", conclusion)):
        assert "no difference" in text
        assert not any(word in text for word in ("helps", "hurts", " gain ", " loss "))


@pytest.mark.parametrize("seeds", [2, 4])
@pytest.mark.parametrize("sign", [1, -1])
def test_a_tenth_of_a_point_is_told_where_it_is_sure(seeds: int, sign: int) -> None:
    real = [0.5] * seeds
    conclusion = compare_arms([0.5 + sign * 0.0011] * seeds, real, {})
    assert conclusion.word == ("helps" if sign > 0 else "hurts")


def test_a_small_difference_with_a_wide_interval_cannot_be_told() -> None:
    """That is not the same as no difference: a large one may be hidden."""
    conclusion = compare_arms([0.52, 0.48, 0.5001], [0.5, 0.5, 0.5], {})
    text = screening_sentence("a", conclusion)
    assert text.startswith(
        "screening cannot tell whether a gains anything: 0.0 points [-5.0, +5.0]"
    )


@given(st.floats(-1, 1))
def test_points_have_a_sign_unless_they_round_to_nothing(value: float) -> None:
    text = in_points(value)
    assert (text == "0.0") is (abs(float(text)) == 0)
    assert text[0] in "+-" or text == "0.0"
    assert float(text) == pytest.approx(100 * value, abs=0.0501)


@pytest.mark.parametrize(
    ("arm", "controls", "text"),
    [
        (
            0.56,
            {},
            "a helps: +6.0 points [+6.0, +6.0] AP against real data alone, which no control beats.",
        ),
        (
            0.56,
            {"rfs": 0.53},
            "a helps: +3.0 points [+3.0, +3.0] AP against the best control, rfs; "
            "+6.0 points [+6.0, +6.0] against real data alone.",
        ),
        (0.44, {"rfs": 0.53}, "a hurts: -6.0 points [-6.0, -6.0] against real data alone."),
        (
            0.50,
            {},
            "a makes no difference: 0.0 points [0.0, 0.0] AP against real data alone, "
            "which no control beats.",
        ),
        (
            0.53,
            {"rfs": 0.53},
            "cannot tell whether a helps beyond cheap controls: 0.0 points [0.0, 0.0] AP "
            "against the best control, rfs; +3.0 points [+3.0, +3.0] against real data alone; it "
            "does beat real data alone.",
        ),
    ],
)
def test_each_conclusion_has_its_sentence(
    arm: float, controls: dict[str, float], text: str
) -> None:
    others = {name: [value] * 3 for name, value in controls.items()}
    assert sentence("a", compare_arms([arm] * 3, [0.5] * 3, others)) == text
