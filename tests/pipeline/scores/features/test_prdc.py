"""Precision, recall, density and coverage against their definitions, point by point."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from synthaug.pipeline.scores.features import prdc as module
from synthaug.pipeline.scores.features import streams as features
from synthaug.pipeline.scores.features.extractors import Vgg16Extractor
from synthaug.pipeline.scores.features.prdc import prdc, radii


def rows(count: int, seed: int, spread: float = 1.0) -> NDArray[np.float32]:
    return np.random.default_rng(seed).normal(0, spread, (count, 3)).astype(np.float32)


def direct(
    real: NDArray[np.float32], fake: NDArray[np.float32], k: int
) -> tuple[float, float, float, float]:
    """Naeem et al. 2020, eqs. 1 to 4, with loops."""

    def distance(a: NDArray[np.float32], b: NDArray[np.float32]) -> float:
        return float(np.linalg.norm(a.astype(np.float64) - b.astype(np.float64)))

    def reach(points: NDArray[np.float32]) -> list[float]:
        return [
            sorted(distance(p, q) for j, q in enumerate(points) if j != i)[k - 1]
            for i, p in enumerate(points)
        ]

    of_real, of_fake = reach(real), reach(fake)
    inside = np.array(
        [[distance(r, f) <= radius for f in fake] for r, radius in zip(real, of_real, strict=True)]
    )
    other = np.array(
        [[distance(r, f) <= radius for f, radius in zip(fake, of_fake, strict=True)] for r in real]
    )
    density = inside.sum() / (k * len(fake))
    return inside.any(0).mean(), other.any(1).mean(), density, inside.any(1).mean()


@pytest.mark.parametrize("k", [1, 3])
def test_the_definitions(k: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Equal counts, so equal numbers; also in blocks."""
    real, fake = rows(23, 0), rows(17, 1, 0.7)
    found = prdc(real, fake, k)
    assert found
    assert (found.precision, found.recall, found.density, found.coverage) == pytest.approx(
        direct(real, fake, k)
    )
    monkeypatch.setattr(features.spans, "__defaults__", (5,))
    assert prdc(real, fake, k) == found


def test_quality_and_variety_apart() -> None:
    """A generator that makes one good image has precision and no recall.

    One that makes noise has neither.
    """
    real = rows(200, 0)
    narrow = prdc(real, rows(200, 1, 0.05), 5)
    far = prdc(real, rows(200, 2) + np.float32(100), 5)
    alike = prdc(real, rows(200, 3), 5)
    assert narrow and far and alike
    assert narrow.precision > 0.9 > 0.1 > narrow.recall
    assert (far.precision, far.recall, far.density, far.coverage) == (0, 0, 0, 0)
    assert alike.precision > 0.7
    assert alike.recall > 0.7
    assert alike.density == pytest.approx(1, abs=0.25)
    assert alike.coverage > 0.8


def test_an_equal_image_twice_is_its_own_nearest_neighbour() -> None:
    """The row itself is left out by its place, not by its distance."""
    twice = np.repeat(rows(4, 0), 2, axis=0)
    assert radii(twice, 1) == pytest.approx(np.zeros(8), abs=1e-12)
    assert (radii(twice, 2) > 0.01).all()


def test_too_few_for_a_neighbourhood() -> None:
    assert prdc(rows(5, 0), rows(9, 1), 5) is None


def test_training_images_are_as_many_as_synthetic_ones(monkeypatch: pytest.MonkeyPatch) -> None:
    tables = {"real": rows(30, 0), "synthetic": rows(10, 1), "train": rows(40, 2)}
    monkeypatch.setattr(module, "rows", lambda _inputs, _extractor, table: iter([tables[table]]))
    inputs: Any = None
    found = module.compare(inputs, Vgg16Extractor(), 3)
    assert (found.num_real, found.num_synthetic) == (30, 10)
    assert found.synthetic == prdc(tables["real"], tables["synthetic"], 3)
    assert found.train == prdc(tables["real"], tables["train"][::4], 3)
