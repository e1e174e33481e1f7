"""Durations grow with what is done; amounts fit the time that is given."""

from __future__ import annotations

from dataclasses import replace

import pytest

from synthaug.pipeline.scaffold.duration import Amounts, Sizes, fitted, seconds, window_pixels
from synthaug.pipeline.scaffold.rates import (
    DETECT,
    GENERATOR_LEARN,
    GENERATOR_PAINT,
    LEARN,
    Machine,
    this_machine,
)

SIZES = Sizes(
    backbone="lite0",
    detector_batch=8,
    detector_pixels=320 * 240,
    images_looked_at=100,
    system="fill",
    generator_batch=24,
    pixels=64 * 64,
    paintings=2,
    scored=300,
)
FULL = Amounts(detector_steps=700, verify_steps=350, generator_steps=1000, images=400)
LEAST = Amounts(detector_steps=140, verify_steps=70, generator_steps=200, images=60)
TWO = Machine(2, has_bfloat16=True)


def total(amounts: Amounts, machine: Machine = TWO) -> float:
    return sum(seconds(SIZES, amounts, machine).values())


def test_the_measured_machine_takes_what_was_measured() -> None:
    times = seconds(SIZES, FULL, TWO)
    assert pytest.approx(1000 * 24 / 30, rel=0.01) == times["generator"]  # 30 windows a second
    assert pytest.approx(400 * 2 / 4.8, rel=0.01) == times["painting"]  # 4.8 objects a second


def test_more_processors_take_less_and_no_bfloat16_takes_more() -> None:
    assert total(FULL, Machine(16, True)) < total(FULL) < total(FULL, Machine(2, False))


def test_amounts_fit_the_time() -> None:
    for share in (0.1, 0.5, 0.9):
        budget = total(LEAST) + share * (total(FULL) - total(LEAST))
        amounts = fitted(SIZES, FULL, LEAST, TWO, budget)
        assert total(amounts) <= budget < 1.05 * total(amounts)
        assert LEAST.images < amounts.images < FULL.images


def test_no_time_gives_the_least_and_much_time_no_more_than_all() -> None:
    assert LEAST == fitted(SIZES, FULL, LEAST, TWO, 1)
    assert FULL == fitted(SIZES, FULL, LEAST, TWO, 1e6)


def test_small_windows_take_as_long_as_the_smallest_measured() -> None:
    assert window_pixels([32]) == window_pixels([48]) < window_pixels([64]) == 4096
    assert 0 == window_pixels([])


def test_larger_images_take_longer() -> None:
    larger = replace(SIZES, detector_pixels=4 * SIZES.detector_pixels)
    assert seconds(larger, FULL, TWO)["detector"] == pytest.approx(
        4 * seconds(SIZES, FULL, TWO)["detector"]
    )


def test_every_rate_says_where_it_is_from() -> None:
    for rates in (LEARN, DETECT, GENERATOR_LEARN, GENERATOR_PAINT):
        for rate in rates.values():
            assert rate.bfloat16 >= rate.float32 > 0
            assert rate.source.startswith(("docs/", "2026-", "not measured: "))


def test_a_gpu_is_not_counted_as_measured() -> None:
    assert not Machine(16, True, "a card").is_measured
    assert "a card, 16 CPUs" == str(Machine(16, True, "a card"))
    here = this_machine()
    assert here.cpus >= 1
    assert here.is_measured != bool(here.gpu)
