"""How many workers share a GPU follows from the memory that one of them took."""

from __future__ import annotations

import pytest

from synthaug.pipeline.execution.gpu_memory import (
    CONTEXT_BYTES,
    Memory,
    memory_of_this_process,
    workers_that_fit,
)

GB = 2**30


@pytest.mark.parametrize(
    ("peak", "available", "cores", "expected"),
    [
        (2 * GB, 24 * GB, 8, 4),  # seven fit, four are enough
        (8 * GB, 24 * GB, 8, 2),
        (12 * GB, 24 * GB, 8, 1),
        (40 * GB, 24 * GB, 8, 1),  # it ran, so one does
        (2 * GB, 24 * GB, 3, 3),  # each wants a core
        (2 * GB, 24 * GB, 0, 1),
        (0, 0, 8, 1),  # no GPU was used
    ],
)
def test_as_many_fit_as_memory_and_cores_allow(
    peak: int, available: int, cores: int, expected: int
) -> None:
    assert workers_that_fit(Memory(peak, available), cores) == expected


def test_the_parts_of_all_leave_a_fifth_of_the_memory_free() -> None:
    for peak in range(GB // 4, 24 * GB, GB // 4):
        number = workers_that_fit(Memory(peak, 24 * GB), 8)
        if number > 1:
            assert number * (peak + CONTEXT_BYTES) <= 0.8 * 24 * GB


def test_without_a_gpu_nothing_is_measured() -> None:
    import torch

    if torch.cuda.is_available():
        pytest.skip("there is a GPU here")
    assert memory_of_this_process() == Memory(0, 0)
