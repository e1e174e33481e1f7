"""How much of the bare detector's speed does pseudo-labelling keep, and does a worker's memory stay
flat?

    python benchmarks/detector_pool.py RUN [IMAGES] [MEMORY_IMAGES]

RUN is the output folder of a run with unlabelled images and a trained detector. Alternates, in one
process and one thread, the bare loop (the same images, decoded before, in the same batches) and the
whole work of a pseudo-labelling worker (read, decode in the background, detect, keep all
detections, Parquet; without known truth to compare with); prints images per CPU second of both and
their ratio (bar: 0.85). With MEMORY_IMAGES it then labels that many toy images, shard after shard,
and prints the memory of the process (unique set size, MB) after every tenth of them (bar: flat).
"""

from __future__ import annotations

import gc
import statistics
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path

import psutil
import torch

from synthaug.pipeline.config.load import load_job
from synthaug.pipeline.core.images import decode
from synthaug.pipeline.core.storage import Folder
from synthaug.pipeline.execution.context import cut
from synthaug.pipeline.formats.toy import dataset as toy
from synthaug.pipeline.steps.pseudo_label import SHARD, Spec, _Labeller


def newest(run: Path, step: str) -> Path:
    found = [p.parent for p in (run / "steps").glob(f"{step}-*/manifest.json")]
    return max(found, key=lambda p: (p / "manifest.json").stat().st_mtime)


def speed(worker: _Labeller, images: int) -> None:
    table, batch, detector = worker._table, worker._how.batch, worker._detector
    count = min(images, len(table))
    pixels = [decode(table[i]) for i in range(count)]
    ratios = []
    for attempt in range(6):
        began = time.process_time()
        for start in range(0, count, batch):
            detector.predict(pixels[start : start + batch])
        bare = time.process_time() - began
        began = time.process_time()
        for name, places in cut(count, SHARD):
            worker(name, places)
        whole = time.process_time() - began
        if attempt:  # the first one warms up
            ratios.append(bare / whole)
            print(
                f"bare {count / bare:.1f} images/s, worker {count / whole:.1f}, ratio "
                f"{bare / whole:.3f}",
                flush=True,
            )
    print(f"median ratio {statistics.median(ratios):.3f}")


def memory(worker: _Labeller, images: int) -> None:
    worker._table, worker._truth = toy.read(toy.Config("unlabelled", images), Path()), None
    tenth = max(1, images // SHARD // 10)
    for number, (name, places) in enumerate(cut(images, SHARD)):
        worker(name, places)
        if number % tenth == 0:
            gc.collect()
            used = psutil.Process().memory_full_info().uss / 2**20
            print(f"after {places.stop} images: {used:.0f} MB", flush=True)


def main() -> None:
    run, images = Path(sys.argv[1]), int(sys.argv[2]) if len(sys.argv) > 2 else 256
    torch.set_num_threads(1)
    job = load_job(run / "job.yaml")
    ingest, weights = newest(run, "ingest"), newest(run, "self_train")
    learnt = Folder.at(newest(run, "calibrate")).read_json("manifest.json")
    with tempfile.TemporaryDirectory() as out:
        speed(_Labeller(Spec(job, str(ingest), str(weights), out, learnt, False)), images)
        if len(sys.argv) > 3:
            names = [c["name"] for c in Folder.at(ingest).read_json("manifest.json")["classes"]]
            assert names == [c.name for c in toy.CATEGORIES], (
                "memory is measured with a detector of the toy's classes"
            )
            job = replace(job, pseudo_label=replace(job.pseudo_label, flip=False))
            memory(
                _Labeller(Spec(job, str(ingest), str(weights), out, learnt, False)),
                int(sys.argv[3]),
            )


if __name__ == "__main__":
    main()
