"""How large is a report of 2,000 synthetic images, how long does it take to make, and to draw?

    PYTHONPATH=. python benchmarks/report_size.py RUN PHOTOS OUT

RUN is any finished run. Its report is made with `report.samples` of 200 and 2,000 as it is, and
again after its images were replaced by the photographs of the BCCD data set in PHOTOS (320x240),
repeated, with an ellipse as the mask of every box. Needs Chromium (tests/browser.py).
"""

from __future__ import annotations

import json
import shutil
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np

from synthaug.pipeline.commands import report as reporting
from synthaug.pipeline.config.load import load_job
from synthaug.pipeline.core import masks
from synthaug.pipeline.core.scene import Category, Dataset, ImageRef, Objects, Provenance, Scene
from synthaug.pipeline.core.storage import Folder
from synthaug.pipeline.execution.context import MANIFEST
from synthaug.pipeline.formats.coco import read as coco
from synthaug.pipeline.formats.parquet import read as parquet
from tests.browser import Browser, chromium

IMAGES = 2000
REAL = 1000
PAINT = """new Promise(done => requestAnimationFrame(() => setTimeout(() => done(
  performance.getEntriesByType('paint')
    .find(e => e.name === 'first-contentful-paint').startTime))))"""
FILTER = """new Promise(done => {
  const s = document.getElementById('g-class'), t = performance.now();
  s.value = s.options[1].value; s.dispatchEvent(new Event('input'));
  requestAnimationFrame(() => setTimeout(() => done(performance.now() - t))); })"""


def elliptic(objects: Objects, size: tuple[int, int]) -> tuple[str, ...]:
    """Return the counts of an ellipse in every box."""
    drawn = np.zeros((len(objects), *size), np.uint8)
    low = objects.boxes[:, :2]
    high = objects.boxes[:, 2:]
    middles = np.rint((low + high) / 2).astype(int)
    radii = np.rint((high - low) / 2).astype(int)
    for number, mask in enumerate(drawn):
        middle = middles[number].tolist()
        axes = radii[number].tolist()
        cv2.ellipse(mask, middle, axes, angle=0, startAngle=0, endAngle=360, color=1, thickness=-1)
    counts = masks.encode(drawn.astype(bool))
    return tuple(counts)


def scenes(photos: Dataset, count: int, classes: int, made: str) -> Iterator[Scene]:
    """Photographs again and again.

    `made` of synthetic ones names their job, else they are real ones.
    """
    for k in range(count):
        scene = photos[k % len(photos)]
        count_of = len(scene.objects)
        first_id = 1 + 1000 * k
        objects = replace(
            scene.objects,
            id=first_id + np.arange(count_of),
            category=(scene.objects.category + k) % classes,
            isthing=np.ones(count_of, bool),
            rle=elliptic(scene.objects, scene.size),
        )
        data = Path(str(scene.image.path)).read_bytes()
        name = f"photo-{k:08d}"
        origin = None
        if made:
            name = f"{made}-{k:08d}"
            source = f"photo-{k % REAL:08d}"
            origin = Provenance(k, "g", "", source, "natural: as in the source")
        image = ImageRef(data, name)
        yield Scene(name, scene.height, scene.width, image, objects, None, origin)


def write(folder: Path, categories: Sequence[Category], rows: Iterator[Scene]) -> None:
    """Replace a folder's table."""
    for path in folder.glob("*.parquet"):
        path.unlink()
    with parquet.ShardWriter(Folder.at(folder), "part-00000.parquet", categories) as writer:
        for scene in rows:
            writer.write([scene])


def with_photos(run: Path, photos: Path, out: Path) -> Path:
    """A copy of the run with photographs in place of its images."""
    shutil.copytree(run, out, ignore=shutil.ignore_patterns("coco", "data"))
    table = coco.read(coco.Config("annotations/train_labelled.json", images="images"), photos)
    found = reporting.look(out)
    categories = found_categories(found)
    tables = {
        "synthesize": ("fake", ""),
        "plan": ("fake", ""),
        "ingest": ("", "labelled"),
        "pseudo_label": ("", ""),
    }
    for step, (made, split) in tables.items():
        count = REAL
        if made:
            count = IMAGES
        folder = Path(found.folders[step])
        rows = scenes(table, count, 9, made)
        write(folder / split, categories, rows)
        manifest = json.loads((folder / MANIFEST).read_text())
        manifest["images"] = count
        (folder / MANIFEST).write_text(json.dumps(manifest))
    return out


def found_categories(found: reporting.Found) -> list[Category]:
    """The run's classes, all of them things."""
    return [Category(c["id"], c["name"]) for c in found.manifests["ingest"]["classes"]]


def measure(run: Path, samples: int, page: Path, tab: Browser) -> str:
    """Make the page and draw it; one row of the table."""
    file = run / "job.yaml"
    job = load_job(file, [f"report.samples={samples}"])
    file.write_text(job.to_yaml())
    began = time.process_time()
    reporting.report([run], page)
    made = time.process_time() - began
    paints = []
    loads = []
    filters = []
    for _ in range(3):
        began = time.monotonic()
        tab.open(page)
        loads.append(time.monotonic() - began)
        paints.append(tab.ask(PAINT) / 1000)
        filters.append(tab.ask(FILTER) / 1000)
    data = json.loads(tab.ask("document.getElementById('gallery-data').textContent"))
    shown = " + ".join(str(number) for number in data["shown"].values())
    megabytes = page.stat().st_size / 1e6
    columns = [shown, str(data["side"]), f"{megabytes:.1f}", f"{made:.0f}"]
    for seconds in (paints, loads, filters):
        median = sorted(seconds)[1]
        columns.append(f"{median:.2f}")
    return " | ".join(columns)


def main(run: str, photos: str, out: str) -> None:
    """Print the table."""
    folder = Path(out)
    folder.mkdir(parents=True)
    shutil.copytree(run, folder / "toy", ignore=shutil.ignore_patterns("coco", "data"))
    cases = {
        "toy, 64x64": folder / "toy",
        "photographs, 320x240": with_photos(Path(run), Path(photos), folder / "photos"),
    }
    print(
        "| images | asked for | synthetic + real + pseudo | side | MB | CPU, s | first paint, s | "
        "loaded, s | filter, s |"
    )
    print("|---|---|---|---|---|---|---|---|---|")
    with chromium() as tab:
        tab.size(1280, 900)
        for name, case in cases.items():
            for samples in (200, IMAGES):
                page = folder / f"{case.name}-{samples}.html"
                row = measure(case, samples, page, tab)
                print(f"| {name} | {samples} | {row} |", flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
