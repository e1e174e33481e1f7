"""Run a job on three Ray nodes of this machine, of which one is killed hard in each of some steps.

    python -m tests.three_nodes OUTPUT STEP,STEP,... [KEY=VALUE ...]

The driver is on the head, which does no work; two nodes have a core each, so that a group of two
is one across nodes. A node is killed while a worker on it is at work in the step (in a training:
after its first checkpoint), with all its processes, and another one joins. Prints what the run
said, and last a line of JSON: the seconds of the run, and for each step when its node was killed.
"""

from __future__ import annotations

import json
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import psutil

JOB = Path(__file__).parents[1] / "jobs" / "smoke.yaml"
TRAININGS = ("train_detector", "train_generator")
AT_WORK = ("ray::_Worker.run", "ray::_Worker.call", "ray::_Process.run")
MOST_SECONDS = 900.0  # to wait for a step


def workers_of(node: Any) -> list[psutil.Process]:
    """Return the processes that a node's raylet has started."""
    (raylet,) = node.all_processes["raylet"]
    try:
        return psutil.Process(raylet.process.pid).children(recursive=True)
    except psutil.NoSuchProcess:
        return []


def is_at_work(node: Any) -> bool:
    """Return whether a worker of ours does something on a node now."""
    for process in workers_of(node):
        try:
            title = " ".join(process.cmdline())
        except psutil.Error:
            continue
        if title.startswith(AT_WORK):
            return True
    return False


def has_begun(output: Path, step: str) -> bool:
    """Return whether a step is under way and, if it trains, has saved its state."""
    for folder in (output / "steps").glob(f"{step}-*"):
        assert not (folder / "manifest.json").exists(), f"{step} was over before a node was killed"
        if step not in TRAININGS or (folder / "state.safetensors").exists():
            return True
    return False


def node_at_work(run: subprocess.Popen[str], nodes: list[Any], output: Path, step: str) -> Any:
    """Wait until a node works at a step, and return it."""
    until = time.monotonic() + MOST_SECONDS
    while time.monotonic() < until:
        assert run.poll() is None, f"the run ended before {step}"
        if has_begun(output, step):
            for node in nodes:
                if is_at_work(node):
                    return node
        time.sleep(0.01)
    raise AssertionError(f"no node worked at {step}")


def kill(cluster: Any, node: Any) -> None:
    """End a node as a machine that loses its power."""
    workers = workers_of(node)
    cluster.remove_node(node, allow_graceful=False)
    for worker in workers:
        if worker.is_running():
            worker.kill()


def main() -> None:
    """Start the nodes and the run, and kill."""
    from ray.cluster_utils import Cluster

    output, steps, *overrides = sys.argv[1:]
    head = {"num_cpus": 0, "include_dashboard": False}
    cluster = Cluster(initialize_head=True, head_node_args=head)
    nodes = [cluster.add_node(num_cpus=1) for _ in range(2)]
    address = f"cluster.address={cluster.address}"
    command = [sys.executable, "-m", "synthaug.pipeline.cli", "run", str(JOB), "--output", output]
    began = time.monotonic()
    said = Path(f"{output}.said")
    killed = {}
    with said.open("w") as out:
        run = subprocess.Popen(
            [*command, *overrides, address], stdout=out, stderr=subprocess.STDOUT, text=True
        )
        try:
            for step in filter(None, steps.split(",")):
                node = node_at_work(run, nodes, Path(output), step)
                kill(cluster, node)
                killed[step] = round(time.monotonic() - began, 1)
                nodes.remove(node)
                nodes.append(cluster.add_node(num_cpus=1))
            run.wait(MOST_SECONDS)
        finally:
            run.kill()
            cluster.shutdown()
            sys.stdout.write(said.read_text())
    assert run.returncode == 0
    print(json.dumps({"seconds": round(time.monotonic() - began, 1), "killed": killed}))


if __name__ == "__main__":
    main()
