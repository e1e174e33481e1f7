"""How much of the bare generator's speed does the production step keep?

    python benchmarks/pipeline_overhead.py RUN [IMAGES]

RUN is the output folder of a finished run. Alternates, in one process and one thread, the bare
generator loop and the whole work of a production worker (read plan, synthesise, masks, encode,
Parquet) over the same planned images in the same batches; prints images per CPU second of both and
their ratio.
"""

from __future__ import annotations

import cProfile
import pstats
import statistics
import sys
import tempfile
import time
from pathlib import Path

import torch

from synthaug.pipeline.config.load import load_job
from synthaug.pipeline.formats.parquet import read as parquet
from synthaug.pipeline.steps.synthesize import ShardSynthesizer
from synthaug.pipeline.synthesis.layouts import sample_layouts


def main() -> None:
    run, images = Path(sys.argv[1]), int(sys.argv[2]) if len(sys.argv) > 2 else 192
    job = load_job(run / "job.yaml")
    torch.set_num_threads(1)

    def newest(step: str) -> Path:
        """The finished folder of a step; the largest plan when there are several."""
        found = [p.parent for p in (run / "steps").glob(f"{step}-*/manifest.json")]
        return max(found, key=lambda p: (len(list(p.glob("*.parquet"))), p.stat().st_mtime))

    plan = newest("plan")
    weights = max(
        (p.parent for p in (run / "steps").glob("train_generator-*/manifest.json")),
        key=lambda p: p.stat().st_mtime,
    )
    shards = sorted(plan.glob("*.parquet"))
    with tempfile.TemporaryDirectory() as out:
        producer = ShardSynthesizer(job, str(plan), str(weights), "0" * 64, out)
        tables = [parquet.open_table(shard) for shard in shards]
        tables = tables[: max(1, images // len(tables[0]))]
        scenes = [[table[i] for i in range(len(table))] for table in tables]
        batch = job.synthesize.batch

        def bare() -> None:
            for shard in scenes:
                for start in range(0, len(shard), batch):
                    sample_layouts(producer._synthesize.sampler, shard[start : start + batch])

        def whole() -> None:
            for path, shard in zip(shards, scenes, strict=False):
                producer(path.stem, range(len(shard)))

        bare()
        ratios = []
        count = sum(len(shard) for shard in scenes)
        for _ in range(5):
            began = time.process_time()
            bare()
            middle = time.process_time()
            whole()
            end = time.process_time()
            ratios.append((middle - began) / (end - middle))
            speeds = (
                f"bare {count / (middle - began):.1f} images/s, production "
                f"{count / (end - middle):.1f}"
            )
            print(f"{speeds}, ratio {ratios[-1]:.3f}")
        print(f"median ratio {statistics.median(ratios):.3f} over {count} images")
        if "--profile" in sys.argv:
            profile = cProfile.Profile()
            profile.runcall(whole)
            pstats.Stats(profile).sort_stats("tottime").print_stats(18)


if __name__ == "__main__":
    main()
