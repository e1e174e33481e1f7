"""Time and memory of `synthaug validate` on made sets of two sizes.

    python benchmarks/validate.py FOLDER [--images 2000 5000] [--side 640]

Prints a row per size and number of processes: seconds, images per second, the memory of the parent
when the set is open and its peak, and the peak of one worker (MB).
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import time
from pathlib import Path

import cv2
import numpy as np

from synthaug.pipeline.formats.reference import open_dataset
from synthaug.pipeline.survey.findings import findings
from synthaug.pipeline.survey.record import record
from synthaug.pipeline.survey.tally import tally

OBJECTS = 7  # per image, as in COCO


def make(folder: Path, images: int, side: int) -> str:
    """Write a COCO set of images of smooth noise, and return its reference."""
    home = folder / f"set-{images}-{side}"
    file = home / "t.json"
    if file.is_file():
        return f"coco:{file}"
    (home / "images").mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(0)
    height = side * 3 // 4
    rows, labels = [], []
    for number in range(1, images + 1):
        coarse = rng.integers(0, 256, (height // 16, side // 16, 3), np.uint8)
        picture = cv2.resize(coarse, (side, height), interpolation=cv2.INTER_CUBIC)
        name = f"{number:06}.jpg"
        cv2.imwrite(str(home / "images" / name), picture)
        rows.append({"id": number, "file_name": name, "width": side, "height": height})
        for _ in range(OBJECTS):
            x, y = (int(value) for value in rng.integers(0, [side // 2, height // 2]))
            width, tall = (int(value) for value in rng.integers(4, [side // 2, height // 2]))
            key = len(labels) + 1
            box = [x, y, width, tall]
            labels.append({"id": key, "image_id": number, "category_id": 1 + key % 20, "bbox": box})
    classes = [{"id": key, "name": f"class {key}"} for key in range(1, 21)]
    file.write_text(json.dumps({"images": rows, "annotations": labels, "categories": classes}))
    return f"coco:{file}"


def peak(who: int) -> float:
    """Return the largest memory (MB) of a process, or of one of its children."""
    return resource.getrusage(who).ru_maxrss / 1024


def measure(reference: str, workers: int) -> None:
    """Survey one set in this process and print a row."""
    table = open_dataset(reference, Path(), "DATASET", {"on_bad": "skip"})
    opened = peak(resource.RUSAGE_SELF)
    began = time.monotonic()
    counted = tally(reference, table, workers, lambda *_: None)
    record([counted], findings([counted], [True]))
    seconds = time.monotonic() - began
    used = resource.getrusage(resource.RUSAGE_SELF).ru_utime
    used += resource.getrusage(resource.RUSAGE_CHILDREN).ru_utime
    print(
        f"| {counted.images} | {workers} | {seconds:.1f} | {used:.1f} | {opened:.0f} "
        f"| {peak(resource.RUSAGE_SELF):.0f} | {peak(resource.RUSAGE_CHILDREN):.0f} |"
    )


def main() -> None:
    """Make the sets and measure each in a process of its own."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--images", type=int, nargs="*", default=[2000, 5000])
    parser.add_argument("--side", type=int, default=640)
    parser.add_argument("--workers", type=int, nargs="*", default=[1, 2])
    parser.add_argument("--measure", default="")
    options = parser.parse_args()
    if options.measure:
        measure(options.measure, options.workers[0])
        return
    print("| images | processes | s | CPU s | MB when open | MB at most | MB of a worker at most |")
    print("|---|---|---|---|---|---|---|", flush=True)
    for images in options.images:
        reference = make(options.folder, images, options.side)
        for workers in options.workers:
            words = [str(options.folder), "--measure", reference, "--workers", str(workers)]
            subprocess.run([sys.executable, __file__, *words], check=True)


if __name__ == "__main__":
    main()
