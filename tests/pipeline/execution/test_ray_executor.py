"""Both executors keep one contract; Ray survives a killed worker and hands back our own errors."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import psutil
import pytest

from synthaug.pipeline.config.schema import Cluster
from synthaug.pipeline.core.errors import DatasetError, JobError
from synthaug.pipeline.execution import ray_executor as cluster
from synthaug.pipeline.execution.executor import Executor, SerialExecutor
from synthaug.pipeline.execution.ray_executor import RayExecutor, open_executor

pytestmark = pytest.mark.timeout(200)


@pytest.fixture(scope="module", params=["serial", "ray"])
def executor(request: pytest.FixtureRequest) -> Iterator[Executor]:
    opened = open_executor(Cluster(request.param, workers=2, memory_mb=100))
    yield opened
    opened.close()


def power(base: int, exponent: int) -> int:
    return int(base**exponent)


def add_ranks() -> float:
    import torch
    import torch.distributed as dist

    value = torch.tensor([float(dist.get_rank() + 1)])
    dist.all_reduce(value)
    return value.item()


def test_a_call_returns_and_ticks(executor: Executor) -> None:
    ticks: list[int] = []
    assert executor.call(power, 2, 5, tick=lambda: ticks.append(1)) == 32
    assert ticks


def test_a_call_whose_worker_is_killed_is_run_again(executor: Executor, tmp_path: Path) -> None:
    if isinstance(executor, SerialExecutor):
        pytest.skip("the serial executor has no workers to kill")

    def dies_once(folder: Path) -> str:
        flag = folder / "died"
        if not flag.exists():
            flag.touch()
            os.kill(os.getpid(), signal.SIGKILL)
        return "done"

    assert executor.call(dies_once, tmp_path) == "done"
    assert (tmp_path / "died").exists()


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


def test_pools_and_tasks_have_the_same_workers_as_new_and_a_group_has_their_cores(
    executor: Executor,
) -> None:
    if isinstance(executor, SerialExecutor):
        pytest.skip("the serial executor has no workers")

    def pid_and_threads() -> tuple[int, int]:
        import torch

        return os.getpid(), torch.get_num_threads()

    def make(threads: int) -> Callable[[int], tuple[int, int]]:
        import torch

        found = torch.get_num_threads()
        torch.set_num_threads(threads)
        return lambda _: (os.getpid(), found)

    first, second = (dict(executor.pool(partial(make, 3), range(40), 2)) for _ in range(2))
    assert set(first) & set(second), "each pool has workers of its own"
    assert len(set(first) | set(second)) == 2
    assert set(second.values()) == {1}, "a worker has the threads of the pool before"
    pid, num_threads = executor.call(pid_and_threads)
    assert pid in second, "a task has a worker of its own"
    assert num_threads == 1, "a task has the threads of the pool before"
    again = dict(executor.pool(partial(make, 1), range(40), 2))
    assert set(again) <= set(first) | set(second), "a task ended the other worker"
    assert executor.group(add_ranks, 2) == 3.0  # there are two cores: they must be free
    third = dict(executor.pool(partial(make, 1), range(40), 2))
    assert not set(third) & set(second)


def test_a_pool_that_failed_leaves_no_worker(executor: Executor) -> None:
    if isinstance(executor, SerialExecutor):
        pytest.skip("the serial executor has no workers")

    def make() -> Callable[[int], int]:
        def work(item: int) -> int:
            if item == 0:
                raise DatasetError("c.json: is broken; mend it")
            time.sleep(60)
            return item

        return work

    def ids() -> Callable[[int], int]:
        return lambda _: os.getpid()

    began = time.monotonic()
    with pytest.raises(DatasetError, match=r"c\.json: is broken"):
        list(executor.pool(make, range(2), 2))
    assert len(set(executor.pool(ids, range(40), 2))) <= 2
    assert time.monotonic() - began < 50, "the next pool waited for the item of the failed one"


def test_an_error_in_the_making_of_a_pools_work_is_the_users(executor: Executor) -> None:
    def make() -> Callable[[int], int]:
        raise DatasetError("d.json: is broken; mend it")

    with pytest.raises(DatasetError, match=r"d\.json: is broken"):
        list(executor.pool(make, range(2), 2))


def test_one_process_trains_alone() -> None:
    with pytest.raises(JobError, match="cannot train with 2 workers"):
        SerialExecutor().group(add_ranks, 2)


@pytest.mark.slow
def test_a_group_larger_than_the_cluster_is_made_smaller(
    executor: Executor, monkeypatch: pytest.MonkeyPatch
) -> None:
    if isinstance(executor, SerialExecutor):
        pytest.skip("the serial executor has no room to run out of")
    monkeypatch.setattr(cluster, "PLACE_SECONDS", 4.0)

    def world() -> int:
        import torch.distributed as dist

        return dist.get_world_size() if dist.is_initialized() else 1

    assert executor.group(world, 3) == 2
    assert executor.group(world, 3, fits=lambda size: size != 2) == 1


@pytest.mark.slow
def test_a_group_goes_on_smaller_where_the_place_of_the_dead_is_taken(
    executor: Executor, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Somebody else waits for a core, and gets that of the member that died."""
    if not isinstance(executor, RayExecutor):
        pytest.skip("the serial executor has no workers to kill")
    monkeypatch.setattr(cluster, "PLACE_SECONDS", 4.0)
    ray = executor._ray
    others: list[Any] = []

    class Other:
        def ready(self) -> bool:
            return True

    def tick() -> None:
        if not others:
            others.append(ray.remote(num_cpus=1)(Other).remote())

    def dies_once(folder: Path) -> int:
        import torch.distributed as dist

        if not dist.is_initialized():
            return 1
        if dist.get_rank() == 1:
            while not (folder / "other").exists():
                time.sleep(0.05)
            os.kill(os.getpid(), signal.SIGKILL)
        time.sleep(60)
        return dist.get_world_size()

    def take() -> None:
        tick()
        (tmp_path / "other").touch()

    try:
        assert executor.group(dies_once, 2, tmp_path, tick=take) == 1
        assert ray.get(others[0].ready.remote())
    finally:
        ray.kill(others[0])


def test_an_error_of_one_member_comes_back_though_the_other_waits(executor: Executor) -> None:
    if isinstance(executor, SerialExecutor):
        pytest.skip("the serial executor has no groups")

    def fail() -> None:
        import torch
        import torch.distributed as dist

        if dist.get_rank() == 1:
            raise DatasetError("b.json: is broken; mend it")
        dist.all_reduce(torch.zeros(1))

    with pytest.raises(DatasetError, match=r"b\.json: is broken"):
        executor.group(fail, 2)


def test_ray_listens_on_loopback_only(executor: Executor) -> None:
    if isinstance(executor, SerialExecutor):
        pytest.skip("the serial executor opens no port")
    executor.call(power, 1, 1)
    family = [psutil.Process(), *psutil.Process().children(recursive=True)]
    ports = [c for p in family for c in p.net_connections("inet") if c.status == psutil.CONN_LISTEN]
    assert ports, "Ray opened no port at all: this test looks in the wrong place"
    assert {c.laddr.ip for c in ports} <= {"127.0.0.1", "::1", "::ffff:127.0.0.1"}
