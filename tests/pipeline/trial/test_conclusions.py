"""Conclusions on simulated trials are the truths they were simulated with."""

from __future__ import annotations

import copy
import math

import numpy as np
import pytest

from synthaug.pipeline.config.schema import Trial
from synthaug.pipeline.trial.conclusions import class_difference, confirm, group_lines, screen
from synthaug.pipeline.trial.paired_tests import holm_adjusted, paired_difference
from synthaug.pipeline.trial.runs import TrialClasses, class_values, values_of
from tests.trial_runs import CLASSES, arms_of, concluded, simulate


def test_simulated_runs_give_the_conclusions_they_were_made_with() -> None:
    trial = concluded({"real": 0.0, "rfs": 0.0, "synthetic": 0.06, "placebo": -0.05})
    assert trial["comparisons"]["synthetic"]["word"] == "suggests a gain"
    assert trial["comparisons"]["placebo"]["word"] == "suggests a loss"
    assert trial["says"][0].startswith("5 seeds per arm: a true difference of")
    assert 0.001 < trial["detectable"] < 0.02
    synthetic = trial["comparisons"]["synthetic"]
    assert synthetic["frequent_not_worse"] is True
    emu, cat = (synthetic["classes"][name] for name in ("<b>emu</b>", "cat"))
    assert emu["p_holm"] < 0.01 < cat["p_holm"] and emu["p_holm"] >= emu["p"]
    assert trial["groups"] == {"frequent": ["cat"], "common": ["dog"], "rare": ["<b>emu</b>"]}
    assert math.isclose(synthetic["groups"]["rare"]["mean"], 0.12, abs_tol=0.015)


def test_what_helps_hurts_or_does_neither_is_told_so_in_95_of_100_trials(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(
        "synthaug.pipeline.trial.conclusions.detectable_difference", lambda *_: 0.01
    )  # slow, and no part of a conclusion
    gains = {"real": 0.0, "rfs": 0.0, "synthetic": 0.03, "verified": 0.0, "placebo": -0.03}
    words: dict[str, list[str]] = {"synthetic": [], "verified": [], "placebo": []}
    for start in range(100):
        trial = concluded(gains, start=start + 1)
        for name, own in words.items():
            own.append(trial["comparisons"][name]["word"])
    assert words["synthetic"].count("suggests a gain") >= 95
    assert words["verified"].count("cannot tell") >= 95
    assert words["placebo"].count("suggests a loss") >= 95


def test_arms_with_other_seeds_than_real_are_not_compared() -> None:
    runs = simulate({"real": 0.0, "synthetic": 0.06})
    arms = arms_of(["real", "synthetic"])
    with pytest.raises(AssertionError, match="arm synthetic was trained with seeds"):
        screen(runs[:-1], arms, Trial(seeds=5), CLASSES, 10)
    runs[-1]["seed"] = 9
    with pytest.raises(AssertionError, match="arm synthetic was trained with seeds"):
        screen(runs, arms, Trial(seeds=5), CLASSES, 10)


def test_runs_may_come_in_any_order() -> None:
    runs = simulate({"real": 0.0, "rfs": 0.01, "synthetic": 0.06})
    arms = arms_of(["real", "rfs", "synthetic"])
    straight = screen(runs, arms, Trial(seeds=5), CLASSES, 10)
    assert screen(runs[::-1], arms, Trial(seeds=5), CLASSES, 10) == straight
    assert values_of(runs[::-1], "real") == values_of(runs, "real")


def test_a_trial_of_real_data_alone_concludes_nothing() -> None:
    trial = concluded({"real": 0.0})
    assert trial["comparisons"] == trial["controls"] == {}
    assert trial["detectable"] == 0
    assert len(trial["says"]) == 1


def test_numbers_of_arms_are_those_of_their_runs() -> None:
    gains = {"real": 0.0, "synthetic": 0.06}
    runs = simulate(gains)
    (_, arm) = concluded(gains)["arms"]
    own = [run for run in runs if run["arm"] == "synthetic"]
    ap = np.array([run["values"]["AP"] for run in own], np.float64)
    assert arm["runs"]["AP"] == ap.tolist()
    assert arm["mean"]["AP"] == pytest.approx(ap.sum() / 5, rel=1e-12)
    assert arm["sd"]["AP"] == pytest.approx(math.sqrt(((ap - ap.mean()) ** 2).sum() / 4), rel=1e-9)
    rare = np.mean([run["per_class"]["2"]["AP"] for run in own])
    rare_fixed = np.mean([run["per_class"]["2"]["AP_fixed"] for run in own])
    assert arm["groups"]["rare"] == pytest.approx(rare)
    assert arm["groups_fixed"]["rare"] == pytest.approx(rare_fixed)
    assert arm["seconds"] == 12.0


# ---- classes and groups ----


def test_p_values_of_classes_are_corrected_over_all_classes() -> None:
    gains = {"real": 0.0, "synthetic": 0.01}
    runs = simulate(gains)
    classes = concluded(gains)["comparisons"]["synthetic"]["classes"]
    p = {}
    for index, name in enumerate(CLASSES.names):
        own, real = (class_values(runs, arm, [index]) for arm in ("synthetic", "real"))
        p[name] = paired_difference(own, real).p
    assert {name: d["p"] for name, d in classes.items()} == p
    assert {name: d["p_holm"] for name, d in classes.items()} == holm_adjusted(p)


def test_classes_without_a_true_object_are_left_out_of_means_and_comparisons() -> None:
    gains = {"real": 0.0, "synthetic": 0.06}
    runs = copy.deepcopy(simulate(gains))
    for run in runs:
        run["per_class"]["0"] = dict.fromkeys(run["per_class"]["0"])
    both, dog = (class_values(runs, "synthetic", index) for index in ([0, 1], [1]))
    assert both == dog
    assert all(math.isnan(value) for value in class_values(runs, "real", [0]))
    assert class_difference(runs, "synthetic", [0]) is None
    trial = screen(runs, arms_of(gains), Trial(seeds=5), CLASSES, 1000)
    synthetic = trial["comparisons"]["synthetic"]
    assert list(synthetic["classes"]) == ["dog", "<b>emu</b>"]
    assert "frequent" not in synthetic["groups"]
    assert synthetic["frequent_not_worse"] is None
    assert trial["arms"][0]["groups"]["frequent"] is None
    assert not any("frequent classes:" in line for line in trial["says"])


def test_without_any_true_object_the_value_is_zero_and_nothing_is_told_apart() -> None:
    gains = {"real": 0.0, "synthetic": 0.06}
    runs = copy.deepcopy(simulate(gains))
    for run in runs:
        run["values"] = dict.fromkeys(run["values"])
        for index in run["per_class"]:
            run["per_class"][index] = dict.fromkeys(run["per_class"][index])
    trial = screen(runs, arms_of(gains), Trial(seeds=5), CLASSES, 1000)
    assert trial["comparisons"]["synthetic"]["word"] == "cannot tell"
    assert trial["comparisons"]["synthetic"]["classes"] == {}
    assert trial["arms"][0]["mean"]["AP"] == 0


def test_groups_follow_lvis_where_the_job_or_the_data_says_so() -> None:
    names, objects, images = ["a", "b", "c", "d"], [500, 500, 500, 0], [101, 100, 10, 0]
    lvis = TrialClasses(names, [0, 2, 5, 6], objects, images, "lvis")
    assert lvis.groups() == {"frequent": [0], "common": [2], "rare": [5]}
    assert lvis.group_names() == {"frequent": ["a"], "common": ["b"], "rare": ["c"]}
    relative = TrialClasses(names, [0, 2, 5, 6], objects, images)
    assert relative.groups()["frequent"] == [0, 2, 5]
    assert relative.group_names()["frequent"] == ["a", "b", "c"]


def test_a_line_tells_that_lvis_counts_otherwise() -> None:
    gains = {"real": 0.0, "synthetic": 0.06}
    lvis = TrialClasses(CLASSES.names, CLASSES.index, CLASSES.objects, CLASSES.images, "lvis")
    trial = screen(simulate(gains), arms_of(gains), Trial(seeds=5), lvis, 10)
    assert trial["says"][-1].startswith("AP here takes every class as looked for in every image")


# ---- lines ----


def test_a_line_tells_whether_frequent_classes_lose() -> None:
    trial = concluded({"real": 0.0, "synthetic": 0.06}, margin=0.01)
    assert "frequent classes: synthetic is shown not to lose 1 points of AP" in trial["says"]
    trial = concluded({"real": 0.0, "synthetic": 0.06}, margin=0.0)
    assert "frequent classes: synthetic is not shown not to lose 0 points of AP" in trial["says"]
    trial = concluded({"real": 0.0, "synthetic": 0.06, "verified": 0.06}, margin=0.05)
    line = "frequent classes: synthetic, verified are shown not to lose 5 points of AP"
    assert line in trial["says"]


def test_a_line_tells_which_classes_gain_and_which_lose() -> None:
    """Also where nothing is shown over all classes.

    Never on differences that seeds alone would make.
    """

    def lines(rare: float, frequent: float) -> list[str]:
        differences = {
            "frequent": paired_difference([frequent + e for e in (0.0, 0.01, -0.01)], [0.0] * 3),
            "rare": paired_difference([rare + e for e in (0.01, 0.0, -0.01)], [0.0] * 3),
        }
        groups = {group: difference.to_json() for group, difference in differences.items()}
        return group_lines({"synthetic": {"groups": groups}}, ["synthetic"])

    (line,) = lines(0.1, -0.2)
    assert line.startswith(
        "synthetic against real data alone: frequent classes lose 20.0 points [-22.5, -17.5], rare"
    )
    assert "rare classes gain 10.0 points [+7.5, +12.5]" in line
    assert lines(0.0, 0.005) == []


def test_no_line_tells_of_classes_that_gain_less_than_can_be_printed() -> None:
    gains = paired_difference([0.3004, 0.3504, 0.4004], [0.3, 0.35, 0.4])
    assert gains.p < 0.001
    comparison = {"groups": {"rare": gains.to_json()}}
    assert group_lines({"synthetic": comparison}, ["synthetic"]) == []


def test_a_group_gains_only_after_the_correction_for_all_groups() -> None:
    """Three groups at p = 0.03 are 0.09 after Holm; of p = 0.01 it is 0.03."""
    unsure = {"mean": 0.1, "low": 0.01, "high": 0.19, "p": 0.03}
    groups = {"frequent": unsure, "common": unsure, "rare": unsure}
    assert group_lines({"synthetic": {"groups": groups}}, ["synthetic"]) == []
    groups = {**groups, "rare": {**unsure, "p": 0.01}}
    (line,) = group_lines({"synthetic": {"groups": groups}}, ["synthetic"])
    assert "rare classes gain" in line and "common" not in line


def test_a_placebo_that_hurts_is_no_line_about_classes() -> None:
    trial = concluded({"real": 0.0, "placebo": -0.1})
    assert not any(line.startswith("placebo against") for line in trial["says"])


def test_the_budget_curve_is_over_parts_of_the_synthetic_images_alone() -> None:
    gains = {"real": 0.0, "rfs": 0.0, "synthetic_0.25": 0.03, "synthetic_0.5": 0.06}
    gains |= {"synthetic": 0.06, "synthetic_best": 0.2}
    trial = concluded(gains, curve=(0.25, 0.5), worthwhile=0.02)
    assert [step["images"] for step in trial["curve"]] == [250, 500, 1000]
    assert trial["curve"][0]["increment"] is None
    assert trial["curve"][1]["increment"]["mean"] == pytest.approx(0.03, abs=0.01)
    line = "budget curve: 500 images are enough; more are shown to bring less than 0.02 AP"
    assert line in trial["says"]
    trial = concluded({**gains, "synthetic": 0.2}, curve=(0.25, 0.5))
    assert "budget curve: no amount up to 1000 images is shown to be enough" in trial["says"]


def test_all_that_decides_rests_on_the_goal_whatever_ap_over_all_classes_is() -> None:
    gains = {"real": 0.0, "rfs": 0.01, "synthetic_0.5": 0.03, "synthetic": 0.05}
    runs = simulate(gains, goal="rare")
    settings = Trial(seeds=5, confirm_seeds=5, goal="rare", curve=(0.5,))
    arms = arms_of(gains)
    others = copy.deepcopy(runs)
    for number, run in enumerate(others):
        run["values"]["AP"] = 0.1 * (number % 7)
    found = []
    for measured in (runs, others):
        whole = screen(measured, arms, settings, CLASSES, 1000)
        confirmed = confirm(measured, arms, arms[-1], arms[1], settings, CLASSES)
        decides = ("word", "sentence", "best_control", "against_real", "against_controls")
        comparison = whole["comparisons"]["synthetic"]
        told = [{key: part[key] for key in decides} for part in (comparison, confirmed)]
        found.append([*told, *(whole[key] for key in ("curve", "controls", "detectable"))])
    assert found[0] == found[1]


def test_groups_and_classes_are_compared_with_each_arm_of_a_confirmation() -> None:
    gains = {"real": 0.0, "rfs": 0.05, "synthetic": 0.06}
    runs = simulate(gains)
    arms = arms_of(gains)
    found = confirm(runs, arms, arms[-1], arms[1], Trial(seeds=5, confirm_seeds=5), CLASSES)
    for other in ("real", "rfs"):
        own, theirs = (class_values(runs, arm, [2]) for arm in ("synthetic", other))
        mean = float(np.mean(own) - np.mean(theirs))
        against = found["against"][other]
        for key, name in (("AP", "AP"), ("fixed", "AP_fixed")):
            means = [np.mean(values_of(runs, arm, name)) for arm in ("synthetic", other)]
            assert against[key]["mean"] == pytest.approx(float(means[0] - means[1]))
        assert against["groups"]["rare"]["mean"] == pytest.approx(mean)
        assert against["classes"]["<b>emu</b>"]["mean"] == pytest.approx(mean)
