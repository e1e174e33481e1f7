"""Which GPU each worker would use, on nodes that declare GPUs which are not there."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from typing import Any

import pytest

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]

# in a process of its own: Ray reads its settings once in a process's life
SCRIPT = """
import json, sys, time
from pathlib import Path
from ray.cluster_utils import Cluster

node = {"num_cpus": 9, "num_gpus": 4, "include_dashboard": False}
cluster = Cluster(initialize_head=True, head_node_args=node)
cluster.add_node(num_cpus=9, num_gpus=4)

from synthaug.pipeline.config import schema
from synthaug.pipeline.execution.gpu_memory import Memory
from synthaug.pipeline.execution.ray_executor import RayExecutor

def place():
    import os, ray
    context = ray.get_runtime_context()
    return [context.get_node_id(), context.get_accelerator_ids()["GPU"], os.getpid()]

def maker(name, count):
    # work that waits until so many workers have begun
    started = Path(sys.argv[1]) / name
    started.mkdir()
    def make():
        def work(item):
            found = place()
            (started / str(found[2])).touch()
            until = time.monotonic() + 60
            while len(list(started.iterdir())) < count and time.monotonic() < until:
                time.sleep(0.1)
            return found
        return work
    return make

def slow():
    def work(item):
        time.sleep(0.3)
        return place()
    return work

def member():
    import torch.distributed as dist
    places = [None] * dist.get_world_size()
    dist.all_gather_object(places, place())
    return places

found = {}
executor = RayExecutor(schema.Cluster(address=cluster.address, workers_per_gpu=1))
from synthaug.pipeline.core.storage import Folder
from synthaug.pipeline.execution import machines
from synthaug.pipeline.core.errors import JobError
folder = Folder.at(sys.argv[1])
executor.check_machines(folder, "job.yaml")
own = machines.versions()
machines.versions = lambda: own | {"torch": "0.1"}  # of this process alone
try:
    executor.check_machines(folder, "job.yaml")
except JobError as told:
    found["told"] = str(told)
machines.versions = lambda: own
found["cores"] = [executor.room(), executor.room(1.0)]
found["each"] = list(executor.pool(maker("each", 8), range(16), gpu=True))
found["call"] = executor.call(place, gpu=True)
found["without"] = list(executor.pool(maker("without", 2), range(4), 4))
found["group"] = executor.group(member, 5)
found["alone"] = executor.group(place, 1)
executor.close()
executor = RayExecutor(schema.Cluster(address=cluster.address, workers=10))
gb = 2**30
executor._memory = lambda: Memory(6 * gb, 24 * gb)  # so that two fit
found["shared"] = list(executor.pool(slow, range(60), 60, gpu=True))
found["few"] = list(executor.pool(slow, range(8), 8, gpu=True))
executor.close()
cluster.shutdown()
print(json.dumps(found))
"""


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """Places of work on two nodes of nine cores and four GPUs: node, GPUs, process."""
    folder = tmp_path_factory.mktemp("run")
    (folder / "job.yaml").write_text("seed: 1")
    environment = dict(os.environ)
    environment.pop("RAY_AUTH_MODE", None)
    environment.pop("RAY_AUTH_TOKEN_PATH", None)
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT, str(folder)],
        env=environment,
        capture_output=True,
        text=True,
        timeout=280,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    places: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return places


def processes_by_gpu(places: list[Any]) -> dict[tuple[str, str], set[int]]:
    """Return the processes that used each GPU; every one has exactly one."""
    users: dict[tuple[str, str], set[int]] = {}
    for node, gpus, process in places:
        (gpu,) = gpus
        users.setdefault((node, gpu), set()).add(process)
    return users


def test_a_machine_with_another_version_is_told_before_any_work(found: dict[str, Any]) -> None:
    assert found["told"].startswith("cluster.address: machine ")
    assert found["told"].endswith(", this one 0.1; install the same on all machines")


def test_each_worker_of_networks_has_a_gpu_of_its_own(found: dict[str, Any]) -> None:
    assert found["cores"] == [18, 8]
    users = processes_by_gpu(found["each"])
    assert len(users) == 8
    assert all(len(processes) == 1 for processes in users.values())


def test_a_single_task_and_a_training_of_one_have_one_too(found: dict[str, Any]) -> None:
    for name in ("call", "alone"):
        assert len(found[name][1]) == 1, name


def test_work_without_networks_takes_none(found: dict[str, Any]) -> None:
    assert [gpus for _node, gpus, _process in found["without"]] == [[]] * 4


def test_members_of_a_group_have_each_their_own_across_nodes(found: dict[str, Any]) -> None:
    users = processes_by_gpu(found["group"])
    assert sorted(len(processes) for processes in users.values()) == [1] * 5
    assert len({node for node, _ in users}) == 2


def test_a_gpu_is_shared_by_as_many_as_the_memory_of_the_first_says(
    found: dict[str, Any],
) -> None:
    """At first each has one alone; then two share one, up to the most that the job allows."""
    measured, others = found["shared"][:8], found["shared"][8:]
    assert {len(processes) for processes in processes_by_gpu(measured).values()} == {1}
    users = processes_by_gpu(others)
    # how many come while there is work depends on the machine
    assert max(len(processes) for processes in users.values()) == 2


def test_for_a_few_items_no_gpu_is_shared(found: dict[str, Any]) -> None:
    users = processes_by_gpu(found["few"])
    assert {len(processes) for processes in users.values()} == {1}
