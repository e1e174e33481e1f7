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
    middles = (objects.boxes[:, :2] + objects.boxes[:, 2:]) / 2
    radii = (objects.boxes[:, 2:] - objects.boxes[:, :2]) / 2
    for number, mask in enumerate(drawn):
        middle = np.rint(middles[number]).astype(int).tolist()
        axes = np.rint(radii[number]).astype(int).tolist()
        cv2.ellipse(mask, middle, axes, angle=0, startAngle=0, endAngle=360, color=1, thickness=-1)
    return tuple(masks.encode(drawn.astype(bool)))


def scenes(photos: Dataset, count: int, classes: int, made: str) -> Iterator[Scene]:
    """Photographs again and again.

    `made` of synthetic ones names their job, else they are real ones.
    """
    for k in range(count):
        scene = photos[k % len(photos)]
        objects = replace(
            scene.objects,
            id=np.arange(len(scene.objects)) + 1 + 1000 * k,
            category=(scene.objects.category + k) % classes,
            isthing=np.ones(len(scene.objects), bool),
            rle=elliptic(scene.objects, (scene.height, scene.width)),
        )
        data = Path(str(scene.image.path)).read_bytes()
        name, origin = f"photo-{k:08d}", None
        if made:
            name, origin = (
                f"{made}-{k:08d}",
                Provenance(k, "g", "", f"photo-{k % REAL:08d}", "natural: as in the source"),
            )
        yield Scene(name, scene.height, scene.width, ImageRef(data, name), objects, None, origin)


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
        folder = Path(found.folders[step])
        write(
            folder / split if split else folder,
            categories,
            scenes(table, IMAGES if made else REAL, 9, made),
        )
        told = json.loads((folder / MANIFEST).read_text())
        (folder / MANIFEST).write_text(json.dumps({**told, "images": IMAGES if made else REAL}))
    return out


def found_categories(found: reporting.Found) -> list[Category]:
    """The run's classes, all of them things."""
    return [Category(c["id"], c["name"]) for c in found.manifests["ingest"]["classes"]]


def measure(run: Path, samples: int, page: Path, tab: Browser) -> str:
    """Make the page and draw it; one row of the table."""
    (run / "job.yaml").write_text(
        load_job(run / "job.yaml", [f"report.samples={samples}"]).to_yaml()
    )
    began = time.process_time()
    reporting.report([run], page)
    made = time.process_time() - began
    paints, loads, filters = [], [], []
    for _ in range(3):
        began = time.monotonic()
        tab.open(page)
        loads.append(time.monotonic() - began)
        paints.append(tab.ask(PAINT) / 1000)
        filters.append(tab.ask(FILTER) / 1000)
    data = json.loads(tab.ask("document.getElementById('gallery-data').textContent"))
    shown, side = " + ".join(str(n) for n in data["shown"].values()), data["side"]
    times = " | ".join(f"{sorted(found)[1]:.2f}" for found in (paints, loads, filters))
    return f"{shown} | {side} | {page.stat().st_size / 1e6:.1f} | {made:.0f} | {times}"


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
                print(
                    f"| {name} | {samples} | "
                    f"{measure(case, samples, folder / f'{case.name}-{samples}.html', tab)} |",
                    flush=True,
                )


if __name__ == "__main__":
    main(*sys.argv[1:])
