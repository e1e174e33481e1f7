"""How much of the bare generator's speed does the production step keep?

    python benchmarks/pipeline_overhead.py RUN [IMAGES] [--profile]

RUN is the output folder of a finished run of any system. In one process and one thread the whole
work of a production worker is done for the first IMAGES planned images, to their shard's sidecar
(read plan, synthesise, masks, encode, Parquet, digest), with a clock of processor time that runs
while the generator samples; prints images per processor second of the generator alone and of the
whole, and their ratio. `--profile` prints where the rest goes.
"""

from __future__ import annotations

import cProfile
import pstats
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from synthaug.pipeline.config.load import load_job
from synthaug.pipeline.execution.context import _ShardWorker
from synthaug.pipeline.formats.parquet import read as parquet
from synthaug.pipeline.steps.synthesize import ShardSynthesizer
from synthaug.pipeline.synthesis.edits import EditSynthesizer

TIMES = 3  # the work is done, after once to warm up


class Clock:
    """Processor seconds of some calls."""

    def __init__(self) -> None:
        self.seconds = 0.0

    def around(self, function: Callable[..., Any]) -> Callable[..., Any]:
        def timed(*args: Any, **named: Any) -> Any:
            began = time.process_time()
            result = function(*args, **named)
            self.seconds += time.process_time() - began
            return result

        return timed


def clock_generator(synthesizer: Any, clock: Clock) -> None:
    """Let the clock run while the generator of a synthesizer samples."""
    if isinstance(synthesizer, EditSynthesizer):
        synthesizer._paint = clock.around(synthesizer._paint)
        return
    sampler = synthesizer.sampler
    object.__setattr__(sampler, "sample", clock.around(sampler.sample))


def newest(run: Path, step: str) -> Path:
    """Return the finished folder of a step; the largest plan when there are several."""
    found = [path.parent for path in (run / "steps").glob(f"{step}-*/manifest.json")]
    return max(found, key=lambda path: (len(list(path.glob("*.parquet"))), path.stat().st_mtime))


def main() -> None:
    words = [word for word in sys.argv[1:] if word != "--profile"]
    run = Path(words[0])
    most = int(words[1]) if len(words) > 1 else 192
    job = load_job(run / "job.yaml")
    torch.set_num_threads(1)
    plan = newest(run, "plan")
    weights = newest(run, "train_generator")
    shards = sorted(plan.glob("*.parquet"))
    sizes = [len(parquet.open_table(shard)) for shard in shards]
    chosen = [(shard.stem, range(size)) for shard, size in zip(shards, sizes, strict=True)]
    chosen = chosen[: max(1, most // sizes[0])]
    count = sum(len(indices) for _, indices in chosen)
    clock = Clock()
    with tempfile.TemporaryDirectory() as out:
        producer = ShardSynthesizer(job, str(plan), str(weights), "0" * 64, out)
        clock_generator(producer._synthesize, clock)
        worker = _ShardWorker(lambda: producer, out)

        def whole() -> None:
            for shard in chosen:
                worker(shard)

        whole()
        overheads = []
        for _ in range(TIMES):
            clock.seconds = 0.0
            began = time.process_time()
            whole()
            seconds = time.process_time() - began
            overheads.append(seconds / clock.seconds - 1)
            print(
                f"generator {count / clock.seconds:.1f} images per processor second, production "
                f"{count / seconds:.1f}, overhead {100 * overheads[-1]:.1f} %, "
                f"{1000 * (seconds - clock.seconds) / count:.2f} ms per image",
                flush=True,
            )
        median = statistics.median(overheads)
        print(f"median overhead {100 * median:.1f} % over {count} images")
        if "--profile" in sys.argv:
            profile = cProfile.Profile(time.process_time)
            profile.runcall(whole)
            pstats.Stats(profile).sort_stats("tottime").print_stats(30)
            pstats.Stats(profile).sort_stats("cumulative").print_stats("synthaug|pipeline", 40)


if __name__ == "__main__":
    main()
