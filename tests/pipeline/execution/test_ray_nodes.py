"""A pool on a Ray of several nodes goes on when one of them is killed hard."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]

# in a process of its own: Ray reads its settings once in a process's life
SCRIPT = """
import os, sys, time
from pathlib import Path
from ray.cluster_utils import Cluster

cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 1, "include_dashboard": False})
node = cluster.add_node(num_cpus=2)

from synthaug.pipeline.config import schema
from synthaug.pipeline.execution.ray_executor import RayExecutor

lines = []
executor = RayExecutor(schema.Cluster(address=cluster.address), lines.append)
assert executor.room() == 3, executor.room()
folder = Path(sys.argv[1])

def make():
    def work(item):
        import ray
        (folder / f"{item}-{ray.get_runtime_context().get_node_id()}").touch()
        time.sleep(0.5)
        return item
    return work

results, lost = [], False
for result in executor.pool(make, range(24)):
    results.append(result)
    used = {path.name.split("-")[1] for path in folder.iterdir()}
    if not lost and node.node_id in used:
        cluster.remove_node(node, allow_graceful=False)
        lost = True
assert lost, "the second node was never used"
assert sorted(results) == list(range(24)), results
assert any("was lost" in line for line in lines), lines
until = time.monotonic() + 60  # Ray learns of a dead node by its silence
while executor.room() != 1:
    assert time.monotonic() < until, executor.room()
    time.sleep(0.5)
assert executor.call(pow, 2, 5) == 32
executor.close()
cluster.shutdown()
print("\\n".join(lines))
"""


def test_a_pool_goes_on_without_a_node_that_was_killed(tmp_path: Path) -> None:
    folder = tmp_path / "seen"
    folder.mkdir()
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
    assert "was lost; " in done.stdout
