"""Time and memory of `synthaug validate` on made sets of several sizes.

    python benchmarks/validate.py FOLDER [--images 1000 10000 100000] [--side 64]

Prints a row per format, size and number of processes: seconds of the processors to open the set and
to look at it, the memory of the parent when the set is open and its peak, and the peak of one
worker (MB). The clock is told too; on a shared machine it says nothing.
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


def make(folder: Path, images: int, side: int) -> dict[str, str]:
    """Write a set of images of smooth noise as COCO and YOLO; returns the references."""
    home = folder / f"set-{images}-{side}"
    references = {"coco": f"coco:{home}/train.json?images={home}/images", "yolo": f"yolo:{home}"}
    if (home / "train.json").is_file():
        return references
    for name in ("images", "labels"):
        (home / name).mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(0)
    height = side * 3 // 4
    low = np.array([side // 2, height // 2])
    corners = (rng.random((images, OBJECTS, 2)) * low).astype(int)
    sizes = 4 + (rng.random((images, OBJECTS, 2)) * (low - 4)).astype(int)
    rows, labels = [], []
    for number in range(1, images + 1):
        coarse = rng.integers(0, 256, (height // 16, side // 16, 3), np.uint8)
        picture = cv2.resize(coarse, (side, height), interpolation=cv2.INTER_CUBIC)
        name = f"{number:06}.jpg"
        cv2.imwrite(str(home / "images" / name), picture)
        rows.append({"id": number, "file_name": name, "width": side, "height": height})
        lines = []
        boxes = np.concatenate([corners[number - 1], sizes[number - 1]], axis=1).tolist()
        for box in boxes:
            key = len(labels) + 1
            labels.append({"id": key, "image_id": number, "category_id": 1 + key % 20, "bbox": box})
            x, y, width, tall = box
            center = f"{(x + width / 2) / side:.6f} {(y + tall / 2) / height:.6f}"
            lines.append(f"{key % 20} {center} {width / side:.6f} {tall / height:.6f}\n")
        (home / "labels" / f"{number:06}.txt").write_text("".join(lines))
    names = [f"class {key}" for key in range(1, 21)]
    classes = [{"id": key, "name": name} for key, name in enumerate(names, start=1)]
    (home / "data.yaml").write_text(f"train: images\nnames: {json.dumps(names)}\n")
    document = {"images": rows, "annotations": labels, "categories": classes}
    (home / "train.json").write_text(json.dumps(document))
    return references


def peak() -> float:
    """Return the largest memory (MB) of this process; getrusage would count its parent's, too."""
    status = Path("/proc/self/status").read_text()
    line = next(line for line in status.splitlines() if line.startswith("VmHWM"))
    return int(line.split()[1]) / 1024


def peak_of_children() -> float:
    """Return the largest memory (MB) of an ended child."""
    return resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1024


def processor() -> float:
    """Return the seconds that processors spent on this process and its ended children."""
    own = resource.getrusage(resource.RUSAGE_SELF)
    children = resource.getrusage(resource.RUSAGE_CHILDREN)
    return own.ru_utime + own.ru_stime + children.ru_utime + children.ru_stime


def measure(reference: str, workers: int) -> None:
    """Survey one set in this process and print a row."""
    started = peak()
    began, before = time.monotonic(), processor()
    table = open_dataset(reference, Path(), "DATASET", {"on_bad": "skip"})
    opened, after = peak(), processor()
    counted = tally(reference, table, workers, lambda *_: None)
    record([counted], findings([counted], [True]))
    name = reference.split(":", 1)[0]
    print(
        f"| {name} | {counted.images} | {workers} | {time.monotonic() - began:.0f} "
        f"| {after - before:.1f} | {processor() - after:.1f} | {started:.0f} | {opened:.0f} "
        f"| {peak():.0f} | {peak_of_children():.0f} |",
        flush=True,
    )


def main() -> None:
    """Make the sets and measure each in a process of its own."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--images", type=int, nargs="*", default=[1000, 10_000, 100_000])
    parser.add_argument("--side", type=int, default=64)
    parser.add_argument("--formats", nargs="*", default=["coco", "yolo"])
    parser.add_argument("--workers", type=int, nargs="*", default=[1, 2])
    parser.add_argument("--measure", default="")
    options = parser.parse_args()
    if options.measure:
        measure(options.measure, options.workers[0])
        return
    print(
        "| format | images | processes | s | CPU s to open | CPU s to look | MB at the start ",
        end="",
    )
    print("| MB when open | MB at most | MB of a worker at most |")
    print("|---|---|---|---|---|---|---|---|---|---|", flush=True)
    for images in options.images:
        references = make(options.folder, images, options.side)
        for name in options.formats:
            for workers in options.workers:
                words = ["--measure", references[name], "--workers", str(workers)]
                command = [sys.executable, __file__, str(options.folder), *words]
                subprocess.run(command, check=True)


if __name__ == "__main__":
    main()
