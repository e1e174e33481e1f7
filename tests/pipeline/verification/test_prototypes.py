"""Prototypes of crops.

The nearest wins, features that vary by themselves count little, and nothing is lost on the way.
"""

from __future__ import annotations

import json

import numpy as np
import pytest

from synthaug.pipeline.verification.prototypes import (
    BACKGROUND,
    PART,
    SHRINKAGE,
    Prototypes,
    fit,
)

CAR, BUS = 0, 1


def crops(kinds, seed=0, noise=0.1):
    """Return a crop per kind: feature 0 tells the kind, feature 1 is loud noise."""
    rng = np.random.default_rng(seed)
    place = {CAR: 1.0, BUS: -1.0, BACKGROUND: 0.0, PART - CAR: 0.4}
    vectors = []
    for kind in kinds:
        vectors.append(
            np.array([place[kind] + rng.normal(0, noise), rng.normal(0, 30)], np.float32)
        )
    return vectors


@pytest.fixture(scope="module")
def learnt():
    kinds = [CAR, BUS, BACKGROUND, PART - CAR] * 40
    return fit(crops(kinds), kinds)


def test_a_class_has_a_margin_over_all_others_where_it_is_nearest(learnt):
    kinds = [CAR] * 50 + [BUS] * 50 + [BACKGROUND] * 50 + [PART - CAR] * 50
    margins = learnt.margins(np.stack(crops(kinds, seed=1)), CAR)
    assert (margins[:50] > 0).mean() > 0.95
    assert (margins[50:] < 0).mean() > 0.95


def test_the_margin_of_a_class_is_least_over_its_nearest_rival(learnt):
    """The part of a car is nearer to a car than background is, and a bus is furthest."""
    part, background, bus = (
        learnt.margins(np.array([[x, 0]], np.float32), CAR)[0] for x in (0.4, 0.0, -1.0)
    )
    assert 0 > part > background > bus


def test_a_margin_is_half_the_difference_of_squared_mahalanobis_distances():
    """Against the definition: one covariance within kinds, shrunk towards its diagonal."""
    rng = np.random.default_rng(4)
    kinds = [CAR, CAR, CAR, BUS, BUS, BACKGROUND, BACKGROUND, PART - CAR, PART - CAR] * 5
    mixed = rng.normal(0, 1, (3, 3))
    vectors = [(rng.normal(kind, 1, 3) @ mixed).astype(np.float32) for kind in kinds]
    table = np.stack(vectors).astype(np.float64)
    kind_of = np.array(kinds)
    means = {kind: table[kind_of == kind].mean(0) for kind in set(kinds)}
    residuals = np.stack([row - means[kind] for row, kind in zip(table, kinds, strict=True)])
    within = residuals.T @ residuals / len(residuals)
    shrunk = (1 - SHRINKAGE) * within + SHRINKAGE * np.diag(np.diag(within))
    inverse = np.linalg.inv(shrunk)

    def distance(row, kind):
        return (row - means[kind]) @ inverse @ (row - means[kind])

    expected = []
    for row in table:
        nearest = min(distance(row, kind) for kind in means if kind != CAR)
        expected.append((nearest - distance(row, CAR)) / 2)
    np.testing.assert_allclose(fit(vectors, kinds).margins(np.stack(vectors), CAR), expected)


def test_features_that_vary_within_a_kind_count_little(learnt):
    usual, loud = learnt.margins(np.array([[1, 0], [1, 40]], np.float32), CAR)
    other = learnt.margins(np.array([[0.4, 0]], np.float32), CAR)[0]
    assert abs(usual - loud) < 0.2 * abs(usual - other)


def test_fewer_crops_than_features_are_enough():
    rng = np.random.default_rng(0)
    vectors = [rng.normal(0, 1, 50).astype(np.float32) + 5 * (k % 2) for k in range(8)]
    learnt = fit(vectors, [CAR, BUS] * 4)
    margins = learnt.margins(np.stack(vectors), CAR)
    assert (margins[::2] > 0).all()
    assert (margins[1::2] < 0).all()


def test_a_class_without_crops_or_rivals_is_not_known():
    assert not fit([], []).knows(CAR)
    assert not fit(crops([CAR]), [CAR]).knows(CAR)
    assert not fit(crops([CAR, BUS]), [CAR, BUS]).knows(2)
    assert fit(crops([CAR, BUS]), [CAR, BUS]).knows(CAR)


def test_each_class_has_a_margin_of_its_own_from_which_on_it_is_confirmed(learnt):
    features = np.stack(crops([CAR, BUS, BUS, CAR], seed=3))
    labels = np.array([CAR, BUS, CAR, CAR])
    margins = [float(learnt.margins(features[k][None], labels[k])[0]) for k in range(4)]
    least = np.array([min(margins[0], margins[3]), margins[1] + 1e-6])
    assert learnt.confirm(features, labels, least).tolist() == [True, False, False, True]
    least = np.array([max(margins) + 1, margins[1]])
    assert learnt.confirm(features, labels, least).tolist() == [False, True, False, False]


def test_they_come_back_from_their_file(learnt):
    again = Prototypes.from_json(json.loads(json.dumps(learnt.to_json())))
    features = np.stack(crops([CAR, BUS], seed=3))
    assert (again.margins(features, BUS) == learnt.margins(features, BUS)).all()
