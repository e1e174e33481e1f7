"""Pairs of synthetic and real images."""

from __future__ import annotations

import numpy as np
import pytest

from synthaug.pipeline.core.scene import Category, ImageRef, Objects, Provenance, Scene, SceneList
from synthaug.pipeline.scores.pairing import derangement, pair


def scene(name: str, source: str | None = None) -> Scene:
    origin = Provenance(0, "g", "", source, "score") if source is not None else None
    return Scene(name, 8, 8, ImageRef(), Objects.build([], []), None, origin)


def table(*scenes: Scene) -> SceneList:
    return SceneList((Category(1, "cat"),), list(scenes))


def test_a_named_source_counts_before_an_equal_name() -> None:
    real = table(scene("a"), scene("b"))
    pairing = pair(real, table(scene("a", "b"), scene("b"), scene("x", "b"), scene("y", "")))
    assert pairing.layout.tolist() == [1, 1, 1, -1]
    assert pairing.sample.tolist() == [0, 1, 2, 0]


def test_empty_tables_have_no_pairs() -> None:
    assert pair(table(), table(scene("a"))).layout.tolist() == [-1]
    assert pair(table(scene("a")), table()).layout.tolist() == []


@pytest.mark.parametrize("count", [2, 3, 50])
def test_a_derangement_is_one_cycle_through_all_images(count: int) -> None:
    following = derangement(count, seed=5)
    index, visited = 0, []
    for _ in range(count):
        index = int(following[index])
        visited.append(index)
    assert sorted(visited) == list(range(count))
    assert index == 0


def test_a_derangement_follows_its_seed() -> None:
    assert not np.array_equal(derangement(20, 0), derangement(20, 1))
    np.testing.assert_array_equal(derangement(20, 0), derangement(20, 0))
