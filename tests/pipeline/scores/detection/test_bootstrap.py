"""Bootstrap of AP.

A resample is the evaluation of the images it repeats, an interval as wide as new images would vary.
"""

import numpy as np
import pytest

from synthaug.pipeline.scores.detection import bootstrap
from synthaug.pipeline.scores.detection.bootstrap import KEYS, bootstrap_ap, interval
from tests.pipeline.scores.detection.test_evaluator import evaluate, random_rows, row


class Counts:
    """Stands for a generator: every resample takes each image so many times."""

    def __init__(self, counts):
        self.counts = np.asarray(counts)

    def multinomial(self, n, share, size):
        assert n == len(self.counts) == len(share)
        return np.tile(self.counts, (size, 1))


def drawn(evaluator, resamples, rng):
    return bootstrap_ap(evaluator.rows(), evaluator.classes, resamples, rng)


def of_classes(rows, key):
    """COCO's figure of each class, through faster-coco-eval."""
    return [
        np.nan if n[key] is None else n[key] for n in evaluate(rows).result().per_class.values()
    ]


@pytest.mark.parametrize("key", KEYS)
def test_without_resampling_it_is_cocos_figure(key):
    rows = random_rows(40, np.random.default_rng(2))
    draws = drawn(evaluate(rows), 1, Counts(np.ones(40, int)))[key]
    np.testing.assert_allclose(draws[0], of_classes(rows, key), rtol=0, atol=1e-12)
    assert np.isnan(draws[0, 3])  # has no truth


@pytest.mark.parametrize(
    "counts", [[2, 0, 1, 3, 0, 0, 1, 1], [0, 0, 0, 0, 8, 0, 0, 0], [0, 3, 0, 0, 1, 2, 2, 0]]
)
def test_a_resample_equals_evaluating_the_images_it_repeats(counts):
    rows = random_rows(8, np.random.default_rng(3))
    repeated = [r for r, n in zip(rows, counts, strict=True) for _ in range(n)]
    copies = [
        row(i, r.boxes, r.labels, r.pred_boxes, r.pred_labels, r.pred_scores, r.crowd)
        for i, r in enumerate(repeated)
    ]
    draws = drawn(evaluate(rows), 1, Counts(counts))
    for key in KEYS:
        np.testing.assert_allclose(draws[key][0], of_classes(copies, key), rtol=0, atol=1e-12)


def test_small_blocks_of_resamples_are_one_large_one(monkeypatch):
    evaluator = evaluate(random_rows(20, np.random.default_rng(1)))
    whole = drawn(evaluator, 7, np.random.default_rng(5))
    monkeypatch.setattr(bootstrap, "BLOCK", 100)
    for key, draws in drawn(evaluator, 7, np.random.default_rng(5)).items():
        np.testing.assert_array_equal(draws, whole[key])
    assert len(np.unique(whole["AP"][:, 0])) == 7


def test_samples_of_one_layout_are_drawn_together():
    one, other = random_rows(2, np.random.default_rng(8))
    twice = [
        one,
        row(0, one.boxes, one.labels, one.boxes, one.labels, np.ones(len(one.labels)), sample=1),
        other,
    ]
    draws = drawn(evaluate(twice), 1, Counts([1, 0]))
    np.testing.assert_allclose(draws["AP"][0], of_classes(twice[:2], "AP"), rtol=0, atol=1e-12)


def test_the_interval_is_as_wide_as_new_images_would_vary():
    """The bootstrap's standard deviation from one set is that of the figure over many sets of the
    same kind.
    """
    rng = np.random.default_rng(4)
    evaluators = [evaluate(random_rows(40, rng)) for _ in range(25)]
    results = [evaluator.result().values for evaluator in evaluators]
    draws = [drawn(evaluator, 60, np.random.default_rng(0)) for evaluator in evaluators]
    for key in KEYS:
        values = [result[key] for result in results]
        bounds = [interval(one[key], value) for one, value in zip(draws, values, strict=True)]
        expected = np.std(values, ddof=1)
        actual = np.mean([(high - low) / (2 * 1.96) for low, high in bounds])
        assert expected / 1.6 < actual < expected * 1.6
        assert all(low < value < high for (low, high), value in zip(bounds, values, strict=True))


def test_nothing_to_draw_has_no_interval():
    draws = drawn(evaluate([]), 5, np.random.default_rng(0))
    assert {interval(found, None) for found in draws.values()} == {(None, None)}
    assert interval(np.full((5, 2), np.nan), 0.5) == (None, None)
