"""How many workers can one driver keep busy?

    python benchmarks/sleeping_workers.py [WORKERS ...]

Simulated workers (64, 256 and 1,000) that sleep instead of painting, on a real local Ray: threads
of a few actors, so that each call goes over Ray's network as that to a worker does. Each does four
shards; what the driver takes for the last three is measured, Ray's own threads in it included.
Prints shards per second, processor milliseconds of the driver per shard, and from them how long a
shard must take that the driver stays under 5 % of a core.
"""

from __future__ import annotations

import itertools
import sys
import time
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

from synthaug.pipeline.config.schema import Cluster
from synthaug.pipeline.execution.ray_executor import RayExecutor
from synthaug.pipeline.execution.ray_workers import Crew, Door

THREADS = 256  # of an actor
ROUNDS = 4
RATE = 40.0  # shards per second in all
SHARE = 0.05  # of a core that the driver may take


class Sleeper:
    """Stands for many workers, each of them a call at a time."""

    def home(self) -> tuple[str, str]:
        """Return a name and an address of a machine."""
        return "node", "127.0.0.1"

    def run(self, _: list[Any], item: tuple[int, float]) -> tuple[int, dict[str, int]]:
        """Sleep as long as an item says; returns what a shard does."""
        number, seconds = item
        time.sleep(seconds)
        return number, {"rows": 500}


def nothing() -> Callable[[Any], Any]:
    """Stand for the making of a worker's work."""
    return id


def measure(ray: Any, workers: int) -> None:
    """Print the figures of one number of workers."""
    actor = ray.remote(num_cpus=0, max_concurrency=THREADS)(Sleeper)
    actors = [actor.remote() for _ in range(-(-workers // THREADS))]
    ray.get([one.home.remote() for one in actors])
    in_turn = itertools.cycle(actors)
    start = SimpleNamespace(remote=lambda: next(in_turn))
    crew = Crew(Door(ray, lambda: workers, start, print), [])
    seconds = workers / RATE
    items = ((number, seconds) for number in range(ROUNDS * workers))
    began, cpu = 0.0, 0.0
    for done, _ in enumerate(crew.run(nothing, items, workers), start=1):
        if done == workers:
            began, cpu = time.monotonic(), time.process_time()
    shards = (ROUNDS - 1) * workers
    rate = shards / (time.monotonic() - began)
    per_shard = (time.process_time() - cpu) / shards
    least = workers * per_shard / SHARE
    print(
        f"{workers} workers: {rate:.1f} shards per second, {1000 * per_shard:.2f} ms of the driver "
        f"per shard; under {100 * SHARE:.0f} % of a core with shards of {least:.1f} s or more",
        flush=True,
    )
    for one in actors:
        ray.kill(one)


def main() -> None:
    """Measure one number of workers after the other."""
    executor = RayExecutor(Cluster(workers=1, memory_mb=100, niceness=0))
    for workers in [int(word) for word in sys.argv[1:]] or [64, 256, 1000]:
        measure(executor._ray, workers)
    executor.close()


if __name__ == "__main__":
    main()
