"""The executor that runs everything in this process."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest

from synthaug.pipeline.core.errors import JobError
from synthaug.pipeline.execution.executor import SerialExecutor


def test_one_worker_takes_all_items_in_order() -> None:
    made: list[int] = []

    def make() -> Callable[[int], int]:
        made.append(1)
        return lambda item: item * 10

    assert list(SerialExecutor().pool(make, [3, 1, 2], 5)) == [30, 10, 20]
    assert made == [1]


def test_items_are_drawn_as_results_are_wanted() -> None:
    drawn: list[int] = []

    def items() -> Iterator[int]:
        for item in range(100):
            drawn.append(item)
            yield item

    results = SerialExecutor().pool(lambda: str, items(), 1)
    assert next(results) == "0"
    assert drawn == [0]


def test_a_task_is_followed_by_a_tick() -> None:
    events: list[str] = []
    result = SerialExecutor().call(lambda: events.append("task"), tick=lambda: events.append("t"))
    assert result is None
    assert events == ["task", "t"]


def test_a_group_of_one_is_a_task_and_a_larger_one_needs_ray() -> None:
    executor = SerialExecutor()
    assert executor.group(max, 1, 3, 8) == 8
    with pytest.raises(JobError, match=r"^cluster\.executor: 'serial' cannot train with 2 workers"):
        executor.group(max, 2, 3, 8)
