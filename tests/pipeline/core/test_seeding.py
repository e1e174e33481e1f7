"""Randomness by identity."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from synthaug.pipeline.core.seeding import permuted, rng_for, seed_for


def test_seeds_depend_on_every_part_and_on_its_type() -> None:
    seeds = {
        seed_for(1, "a", 2),
        seed_for(1, "a", 3),
        seed_for(2, "a", 2),
        seed_for(1, "b", 2),
        seed_for("1", "a", 2),
    }
    assert len(seeds) == 5
    assert seed_for(12, 3) != seed_for(1, 23)


def test_seeds_are_the_same_in_every_process() -> None:
    assert seed_for(0, "layout", 7) == 1272664734026272374
    assert rng_for(0, "x").integers(10**9) == rng_for(0, "x").integers(10**9)


@settings(deadline=None)
@given(st.integers(1, 500), st.integers(0, 2**40))
def test_a_permutation_visits_every_place_once(size: int, seed: int) -> None:
    assert sorted(permuted(i, size, seed) for i in range(size)) == list(range(size))


def test_permutations_of_other_seeds_begin_and_go_on_elsewhere() -> None:
    """The first image of every epoch would be the same one, else."""
    starts = {permuted(0, 50, seed) for seed in range(40)}
    strides = {(permuted(1, 50, seed) - permuted(0, 50, seed)) % 50 for seed in range(40)}
    assert len(starts) > 15 and len(strides) > 8
