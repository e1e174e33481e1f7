"""Probabilities and thresholds against references.

A plain optimiser, brute force, and worlds with known answers.
"""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from synthaug.pipeline.detection import calibration
from synthaug.pipeline.detection.calibration import Calibration, Curve, Matches, Rule, Threshold
from synthaug.pipeline.scores.detection.evaluator import DetectionRow, match_row


def world(rng, images=60, per_image=20, curves=((1.5, 0.5), (0.7, -1.0)), missed=3):
    """Detections whose chance to be right is a known curve of their score.

    Each class has objects nobody finds.
    """
    count, classes = images * per_image, len(curves)
    label = rng.integers(classes, size=count)
    score = rng.beta(0.7, 0.9, count).clip(0.02, 0.98)
    slope, offset = np.array(curves).T[:, label]
    right = rng.random(count) < 1 / (1 + np.exp(-(slope * np.log(score / (1 - score)) + offset)))
    image = np.repeat(np.arange(images), per_image)
    truths = np.full((images, classes), missed)
    np.add.at(truths, (image[right], label[right]), 1)
    return Matches(image, label, score, right, truths)


def test_curves_of_many_detections_are_the_true_ones():
    learnt = calibration.fit(world(np.random.default_rng(0), images=2000))
    for curve, (slope, offset) in zip(learnt.classes, ((1.5, 0.5), (0.7, -1.0)), strict=True):
        assert curve.slope == pytest.approx(slope, abs=0.06)
        assert curve.offset == pytest.approx(offset, abs=0.06)


def test_fit_is_the_optimum_of_a_plain_grid():
    """Newton's answer is no worse than any point of a fine grid about it."""
    matches = world(np.random.default_rng(1), images=4)
    x = np.log(matches.score / (1 - matches.score))

    def loss(slope, offset):
        margin = slope * x + offset
        prior = calibration._PRIOR_ALL * ((slope - 1) ** 2 + offset**2) / 2
        return np.logaddexp(0, np.where(matches.right, -margin, margin)).sum() + prior

    pooled = calibration.fit(matches).pooled
    best = loss(pooled.slope, pooled.offset)
    steps = np.linspace(-0.3, 0.3, 25)
    assert all(
        best <= loss(pooled.slope + a, pooled.offset + b) + 1e-9 for a in steps for b in steps
    )


def test_classes_without_detections_have_the_common_curve():
    matches = world(np.random.default_rng(2))
    more = Matches(
        matches.image,
        matches.label,
        matches.score,
        matches.right,
        np.pad(matches.truths, ((0, 0), (0, 1))),
    )
    learnt = calibration.fit(more)
    assert learnt.pooled == learnt.classes[2]


def test_scores_that_mislead_never_make_a_falling_curve():
    score = np.linspace(0.05, 0.95, 200)
    matches = Matches(np.zeros(200, int), np.zeros(200, int), score, score < 0.5, np.array([[100]]))
    learnt = calibration.fit(matches)
    assert 0 < learnt.classes[0].slope < 0.1
    assert learnt.classes[0](score).mean() == pytest.approx(0.5, abs=0.02)


@given(st.floats(0.05, 5), st.floats(-5, 5), st.floats(0.01, 0.99))
def test_score_at_undoes_the_curve(slope, offset, score):
    curve = Curve(slope, offset)
    probability = float(curve(np.array([score]))[0])
    if 1e-5 < probability < 1 - 1e-5:
        assert curve.score_at(probability) == pytest.approx(score, abs=1e-6)


def test_no_detection_at_all_is_no_problem():
    none = np.zeros(0)
    matches = Matches(
        none.astype(int), none.astype(int), none, none.astype(bool), np.full((3, 2), 40)
    )
    learnt = calibration.fit(matches)
    assert Curve() == learnt.pooled
    for name in calibration.RULES:
        assert [Threshold(0.5, "fixed")] * 2 == calibration.choose(matches, learnt, Rule(name))
    held = calibration.cross_validate(matches, [Rule("f1")], 5, 0)
    assert [[0, 0, 120]] * 2 == held.counts["f1"].tolist()
    assert {"ece": None, "brier": None, "bins": []} == calibration.reliability(
        none, none.astype(bool)
    )


def rows(rng, images=40, num_classes=3):
    """Images with true boxes, detections near some and elsewhere, a crowd here and there."""
    made = []
    for index in range(images):
        count, extra = rng.integers(0, 7), rng.integers(0, 6)
        corner = rng.uniform(0, 80, (count, 2))
        boxes = np.concatenate([corner, corner + rng.uniform(8, 20, (count, 2))], axis=1).astype(
            np.float32
        )
        near = boxes + rng.normal(0, 2.5, boxes.shape).astype(np.float32)
        found = np.concatenate([near, near[:2] + 1, rng.permutation(near)[:1], boxes[:extra] + 30])
        labels = rng.integers(num_classes, size=count)
        seen = rng.integers(num_classes, size=len(found))
        seen[:count] = labels
        scores = rng.integers(1, 100, len(found)).astype(np.float32) / 100
        made.append(
            DetectionRow(
                index, 100, 100, boxes, labels, rng.random(count) < 0.1, found, seen, scores
            )
        )
    return made


@pytest.mark.parametrize("threshold", [0.0, 0.3, 0.77])
def test_matching_once_gives_the_counts_of_matching_at_each_threshold(threshold):
    made = rows(np.random.default_rng(3))
    counted = calibration.count(calibration.match(made, 3), [Threshold(threshold, "fixed")] * 3)
    expected = np.zeros((3, 3), int)  # [C, 3] hits, false alarms, misses
    for row in made:
        state = match_row(row, range(3), 0.5, threshold)
        for c in range(3):
            hits, false = (int(((state == s) & (row.pred_labels == c)).sum()) for s in (1, 0))
            truth = int(((row.labels == c) & ~row.crowd).sum())
            expected[c] += hits, false, truth - hits
    assert expected.tolist() == counted.tolist()


def test_f1_rule_finds_the_best_set_by_brute_force():
    """No number of kept detections has a higher expected F1 than those above the chosen score."""
    matches = world(np.random.default_rng(4))
    learnt = calibration.fit(matches)
    chosen = calibration.choose(matches, learnt, Rule("f1"))
    for label, threshold in enumerate(chosen):
        score = np.sort(matches.score[matches.label == label])[::-1]
        p, truths = learnt.classes[label](score), matches.truths.sum(0)[label]
        expected = [2 * p[:k].sum() / (k + truths) for k in range(1, len(p) + 1)]
        assert "class" == threshold.basis
        assert int(np.argmax(expected)) + 1 == int((score >= threshold.score).sum())


@pytest.mark.parametrize("wanted", [0.6, 0.75])
def test_precision_rule_keeps_its_word_on_other_images(wanted):
    """In the mean over ten worlds; one alone is off by what 300 images leave open."""
    found = []
    for seed in range(10):
        rng = np.random.default_rng(seed)
        seen, other = world(rng, images=300), world(rng, images=1000)
        thresholds = calibration.choose(
            seen, calibration.fit(seen), Rule("precision", precision=wanted)
        )
        found.append(
            [
                calibration.ratios(counted)["precision"]
                for counted in calibration.count(other, thresholds)
            ]
        )
        lower = calibration.choose(
            seen, calibration.fit(seen), Rule("precision", precision=wanted - 0.1)
        )
        assert all(one.at < other.at for one, other in zip(lower, thresholds, strict=True))
    assert all(wanted - 0.01 < mean < wanted + 0.03 for mean in np.mean(found, axis=0))


def test_a_precision_out_of_reach_keeps_nothing():
    matches = world(np.random.default_rng(6), curves=((0.5, -3.0),))
    thresholds = calibration.choose(
        matches, calibration.fit(matches), Rule("precision", precision=0.99)
    )
    assert [Threshold(None, "unreached")] == thresholds
    assert not calibration.apply(thresholds, matches.label, matches.score).any()


def test_classes_with_few_objects_take_the_common_threshold():
    matches = world(np.random.default_rng(7))
    rare = np.flatnonzero(matches.right & (matches.label == 1))[:3]
    truths = np.stack(
        [matches.truths[:, 0], np.bincount(matches.image[rare], minlength=len(matches.truths))],
        axis=1,
    )
    matches = Matches(matches.image, matches.label, matches.score, matches.right, truths)
    for name in ("precision", "f1"):
        frequent, common = calibration.choose(
            matches, calibration.fit(matches), Rule(name, precision=0.6, min_truths=4)
        )
        own = calibration.choose(
            matches, calibration.fit(matches), Rule(name, precision=0.6, min_truths=3)
        )[1]
        assert ("class", "pooled", "class") == (frequent.basis, common.basis, own.basis)
        assert common.score != own.score


def test_held_out_counts_use_every_image_once_and_none_of_its_own():
    """Each image is judged by what was learnt without it.

    Labels drawn by a coin cannot be learnt.
    """
    matches = world(np.random.default_rng(8), images=30)
    rules = [Rule("fixed", threshold=0.3), Rule("f1")]
    held = calibration.cross_validate(matches, rules, 5, seed=9)
    total = matches.truths.sum(0)
    for counts in held.counts.values():
        assert total.tolist() == (counts[:, 0] + counts[:, 2]).tolist()
    whole = calibration.count(matches, [Threshold(0.3, "fixed")] * 2)
    assert whole.tolist() == held.counts["fixed"].tolist()
    again = calibration.cross_validate(matches, rules, 5, seed=9)
    assert held.counts["f1"].tolist() == again.counts["f1"].tolist()
    image0 = matches.image == 0
    changed = Matches(
        matches.image, matches.label, matches.score, matches.right ^ image0, matches.truths
    )
    other = calibration.cross_validate(changed, rules, 5, seed=9)
    np.testing.assert_array_equal(held.probability[image0], other.probability[image0])
    assert not np.array_equal(held.probability, other.probability)


def test_calibration_mends_scores_that_are_too_high():
    rng = np.random.default_rng(10)
    matches = world(rng, images=200, curves=((0.6, -1.5), (0.6, -1.5)))
    held = calibration.cross_validate(matches, [Rule("f1")], 5, seed=0)
    raw, mended = (
        calibration.reliability(p, matches.right) for p in (matches.score, held.probability)
    )
    assert raw["ece"] > 0.2
    assert mended["ece"] < 0.03
    assert mended["brier"] < raw["brier"]


def test_a_single_image_holds_nothing_out():
    assert (
        calibration.cross_validate(world(np.random.default_rng(11), images=1), [Rule("f1")], 5, 0)
        is None
    )


def test_reliability_by_hand():
    told = calibration.reliability(
        np.array([0.1, 0.12, 0.9, 1.0]), np.array([False, True, True, True])
    )
    assert [[0.11, 0.5, 2], [0.95, 1.0, 2]] == told["bins"]
    assert told["ece"] == pytest.approx((0.39 + 0.05) / 2)


@given(st.lists(st.tuples(st.integers(0, 2), st.floats(0, 1)), max_size=20))
def test_probability_is_each_classes_curve(pairs):
    curves = (Curve(1, 0), Curve(0.5, -1), Curve(2, 1))
    labels, scores = (
        np.array([p[k] for p in pairs], kind) for k, kind in ((0, np.int64), (1, np.float32))
    )
    together = Calibration(Curve(), curves).probability(labels, scores)
    expected = [float(curves[c](np.array([np.float32(s)]))[0]) for c, s in pairs]
    np.testing.assert_allclose(expected, together, rtol=1e-12)


def test_thresholds_are_chosen_without_the_images_they_are_counted_on(monkeypatch):
    matches = world(np.random.default_rng(12), images=20)
    chosen_on, counted_on = [], []
    own_choose, own_count = calibration.choose, calibration.count

    def choose(rest, *arguments):
        chosen_on.append(set(rest.image.tolist()))
        return own_choose(rest, *arguments)

    def count(held_out, thresholds):
        counted_on.append(set(held_out.image.tolist()))
        return own_count(held_out, thresholds)

    monkeypatch.setattr(calibration, "choose", choose)
    monkeypatch.setattr(calibration, "count", count)
    calibration.cross_validate(matches, [Rule("f1")], 5, seed=3)
    for learnt, judged in zip(chosen_on, counted_on, strict=True):
        assert learnt | judged == set(range(20))
        assert not learnt & judged
