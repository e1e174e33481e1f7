"""Does memory stay flat when ten times as many images are scored by their features?

    python benchmarks/feature_scores.py [SMALL LARGE]

Two measurements, each in a process of its own with SMALL (5,000) and with LARGE (50,000) synthetic
images: the whole way of `detector_features` and `nearest` (images of 32 pixels, a tiny detector,
records in Parquet, one worker), and the statistics of FID, KID and PRDC alone on features of
Inception's width. Prints peak memory (MB) and time.
"""

from __future__ import annotations

import resource
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import numpy as np

from synthaug.pipeline.core.images import encode
from synthaug.pipeline.core.scene import Category, Dataset, ImageRef, Objects, Provenance, Scene

SIDE, REAL, WIDTH = 32, 2000, 2048


@dataclass
class Drawn(Dataset):
    """A table of small noisy pictures, drawn when they are read."""

    name: str
    count: int
    source: str = ""
    categories: tuple[Category, ...] = (Category(1, "thing"),)
    skipped: Counter[str] = field(default_factory=Counter)

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, index: int) -> Scene:
        rng = np.random.default_rng([len(self.name), index])
        pixels = np.clip(rng.normal(120, 50, (SIDE, SIDE, 3)), 0, 255).astype(np.uint8)
        origin = (
            Provenance(index, "drawn", "", f"{self.source}{index % REAL}", "score")
            if self.source
            else None
        )
        image = ImageRef(encode(pixels, "png"))
        return Scene(
            f"{self.name}{index}",
            SIDE,
            SIDE,
            image,
            Objects.build([0], [[4, 4, 20, 24]]),
            None,
            origin,
        )

    def fingerprint(self) -> str:
        return f"{self.name}{self.count}"


def tables(count: int, _pixels: bool = True) -> Mapping[str, Dataset]:
    return {
        "train": Drawn("train", REAL),
        "real": Drawn("real", REAL),
        "synthetic": Drawn("synthetic", count, "real"),
    }


def whole(count: int) -> None:
    """Look at all images and compute both scores."""
    from synthaug import detectors
    from synthaug.pipeline.core.storage import Folder
    from synthaug.pipeline.execution.context import Context
    from synthaug.pipeline.execution.executor import SerialExecutor
    from synthaug.pipeline.scores.features import detector_features, nearest
    from synthaug.pipeline.scoring import engine

    with tempfile.TemporaryDirectory() as scratch:
        small = {
            "width": 4,
            "fpn_channels": 16,
            "image_size": 32,
            "anchor_sizes": (8, 16),
            "box_head": 8,
        }
        detectors.build("torchvision", small, 1).save(Path(scratch) / "detector.safetensors", {})
        settings = {
            "detector_features": detector_features.Config(subsets=20),
            "nearest": nearest.Config(),
        }
        plan = engine.ScoringJob(
            settings,
            partial(tables, count),
            f"{scratch}/scores",
            detector=(scratch, "detector.safetensors"),
            detector_sha256="-",
        )
        assert not engine.prepare(plan)
        folder = Folder.at(plan.folder)
        context = Context(None, folder, {}, SerialExecutor(), lambda _: None, lambda *_: None)  # type: ignore[arg-type]
        engine.measure(context, plan)


def statistics(count: int) -> None:
    """Stream features of Inception's width through the three statistics."""
    from synthaug.pipeline.scores.features.fid import frechet, moments
    from synthaug.pipeline.scores.features.kid import kernel_distance
    from synthaug.pipeline.scores.features.prdc import prdc
    from synthaug.pipeline.scores.features.streams import on_disk, thinned

    def rows(size: int, seed: int):  # type: ignore[no-untyped-def]
        for i in range(size):
            yield np.random.default_rng([seed, i]).normal(size=(1, WIDTH)).astype(np.float32)

    a, b = moments(rows(REAL, 0)), moments(rows(count, 1))
    assert a and b
    frechet(a, b)
    with on_disk(rows(REAL, 0)) as real, on_disk(rows(count, 1)) as synthetic:
        kernel_distance(synthetic, real, subsets=20)
        with on_disk(thinned(rows(count, 1), count, 10_000)) as some:
            prdc(real, some, 3)


def main() -> None:
    if sys.argv[1:2] in (["whole"], ["statistics"]):
        {"whole": whole, "statistics": statistics}[sys.argv[1]](int(sys.argv[2]))
        print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)
        return
    small, large = (int(word) for word in sys.argv[1:3]) if len(sys.argv) > 2 else (5000, 50_000)
    for part in ("whole", "statistics"):
        peaks = []
        for count in (small, large):
            began = time.monotonic()
            done = subprocess.run(
                [sys.executable, __file__, part, str(count)], check=True, stdout=subprocess.PIPE
            )
            peaks.append(float(done.stdout.split()[-1]))
            print(
                f"{part}: {count} images: peak {peaks[-1]:.0f} MB, {time.monotonic() - began:.0f} "
                "s",
                flush=True,
            )
        print(f"{part}: difference: {peaks[1] - peaks[0]:+.0f} MB", flush=True)


if __name__ == "__main__":
    main()
