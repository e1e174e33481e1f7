"""Both executors keep one contract; Ray survives a killed worker and hands back our own errors."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import psutil
import pytest

from pipeline.cluster import Executor, SerialExecutor, open_executor
from pipeline.errors import DatasetError, JobError

pytestmark = pytest.mark.timeout(200)


@pytest.fixture(scope="module", params=["serial", "ray"])
def executor(request: pytest.FixtureRequest) -> Iterator[Executor]:
    opened = open_executor(request.param, 2, "", 100)
    yield opened
    opened.close()


def power(base: int, exponent: int) -> int:
    return int(base**exponent)


def test_a_call_returns_and_ticks(executor: Executor) -> None:
    ticks: list[int] = []
    assert executor.call(power, 2, 5, tick=lambda: ticks.append(1)) == 32
    assert ticks


def test_errors_come_back_as_they_were_raised(executor: Executor) -> None:
    def fail() -> None:
        raise DatasetError("a.json: is broken; mend it")

    with pytest.raises(DatasetError, match=r"a\.json: is broken; mend it"):
        executor.call(fail)


def test_a_pool_does_every_item_once(executor: Executor) -> None:
    def make(offset: int) -> Callable[[int], int]:
        return lambda item: item * item + offset

    found = sorted(executor.pool(partial(make, 1), range(20), 2))
    assert found == [i * i + 1 for i in range(20)]


def test_a_pool_of_nothing_yields_nothing(executor: Executor) -> None:
    def make() -> Callable[[Any], Any]:
        return lambda item: item

    assert list(executor.pool(make, [], 1)) == []


def test_a_killed_pool_worker_is_replaced(executor: Executor, tmp_path: Path) -> None:
    if isinstance(executor, SerialExecutor):
        pytest.skip("the serial executor has no workers to kill")

    def make(folder: Path) -> Callable[[int], int]:
        def work(item: int) -> int:
            flag = folder / "died"
            if item == 3 and not flag.exists():
                flag.touch()
                os.kill(os.getpid(), signal.SIGKILL)
            return item

        return work

    assert sorted(executor.pool(partial(make, tmp_path), range(6), 2)) == list(range(6))
    assert (tmp_path / "died").exists()


def test_a_group_meets_and_adds_up(executor: Executor) -> None:
    def add() -> float:
        import torch
        import torch.distributed as dist

        value = torch.tensor([float(dist.get_rank() + 1)])
        dist.all_reduce(value)
        return value.item()

    if isinstance(executor, SerialExecutor):
        with pytest.raises(JobError, match="cannot train with 2 workers"):
            executor.group(add, 2)
    else:
        assert executor.group(add, 2) == 3.0


def test_ray_listens_on_loopback_only(executor: Executor) -> None:
    if isinstance(executor, SerialExecutor):
        pytest.skip("the serial executor opens no port")
    executor.call(power, 1, 1)
    family = [psutil.Process(), *psutil.Process().children(recursive=True)]
    ports = [c for p in family for c in p.net_connections("inet") if c.status == psutil.CONN_LISTEN]
    assert ports, "Ray opened no port at all: this test looks in the wrong place"
    assert {c.laddr.ip for c in ports} <= {"127.0.0.1", "::1", "::ffff:127.0.0.1"}
