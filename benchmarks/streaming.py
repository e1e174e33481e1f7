"""Does memory stay flat when ten times as many images stream through plan, synthesize, Parquet and
COCO?

    python benchmarks/streaming.py OUT [SMALL LARGE]

Runs jobs/smoke.yaml with the generator that learns nothing, with SMALL (10,000) and LARGE (100,000)
planned images, and prints the peak memory of all processes together (proportional set size, MB) and
the time of each step.
"""

from __future__ import annotations

import json
import subprocess
import sys
import threading
import time
from pathlib import Path

import psutil

KEYS = [
    "generator.system=boxes",
    "generator.resolution=64",
    "plan.shard=500",
    "plan.target=balanced",
    "score.names=[]",
]


def peak_memory(
    process: subprocess.Popen[bytes], done: threading.Event, found: list[float]
) -> None:
    """Sample the PSS of the process and all its children twice a second."""
    while not done.is_set():
        total = 0
        try:
            family = [
                psutil.Process(process.pid),
                *psutil.Process(process.pid).children(recursive=True),
            ]
        except psutil.NoSuchProcess:
            return
        for member in family:
            try:
                total += member.memory_full_info().pss
            except (psutil.NoSuchProcess, psutil.AccessDenied):
                continue
        found.append(total / 2**20)
        time.sleep(0.5)


def measure(out: Path, count: int) -> float:
    folder = out / str(count)
    command = [
        sys.executable,
        "-m",
        "synthaug.pipeline.cli",
        "run",
        "jobs/smoke.yaml",
        *KEYS,
        f"plan.count={count}",
    ]
    began = time.time()
    process = subprocess.Popen([*command, "--output", str(folder)], stdout=subprocess.DEVNULL)
    done, found = threading.Event(), [0.0]
    watcher = threading.Thread(target=peak_memory, args=(process, done, found))
    watcher.start()
    assert process.wait() == 0
    done.set()
    watcher.join()
    seconds = json.loads((folder / "metrics.json").read_text())["seconds"]
    images = len(json.loads((folder / "coco" / "instances.json").read_bytes())["images"])
    assert images == count
    steps = ", ".join(f"{name} {seconds[name]:.0f} s" for name in ("plan", "synthesize", "export"))
    print(
        f"{count} images: peak {max(found):.0f} MB, {time.time() - began:.0f} s ({steps})",
        flush=True,
    )
    return max(found)


if __name__ == "__main__":
    small, large = (int(n) for n in sys.argv[2:4]) if len(sys.argv) > 3 else (10_000, 100_000)
    first, second = (measure(Path(sys.argv[1]), count) for count in (small, large))
    print(f"difference: {second - first:+.0f} MB")
