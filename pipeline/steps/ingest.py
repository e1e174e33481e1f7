"""Read the user's data sets once, check every image and box, and keep them as scene tables."""

from __future__ import annotations

import contextlib
from collections import Counter
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np

from synthaug.pipeline.config.schema import Job, section_dict
from synthaug.pipeline.core.errors import DatasetError
from synthaug.pipeline.core.scene import Dataset, ImageRef, Objects, Scene
from synthaug.pipeline.core.storage import Folder
from synthaug.pipeline.execution.context import Context, add_counts, cut
from synthaug.pipeline.formats.parquet import read as parquet
from synthaug.pipeline.steps.contract import Published
from synthaug.pipeline.steps.inputs import check_scene, open_inputs

NEEDS: tuple[str, ...] = ()
VERSION = 1
PUBLISHES: tuple[Published, ...] = ()
SHARD = 256  # scenes
TRUTH = "truth"  # folder inside the unlabelled table: labels that are not to be seen


def settings(job: Job) -> dict[str, Any]:
    """The data section and the content of the data sets."""
    inputs = open_inputs(job)
    marks = {name: table.fingerprint() for name, table in inputs.splits.items()}
    held_out = {} if job.data.validation else {"seed": job.seed}
    return {"data": section_dict(job, "data"), "fingerprints": marks, **held_out}


class _Reader:
    """Runs in a worker: reads, checks and writes one shard of one split."""

    def __init__(self, job: Job, uri: str) -> None:
        self._job, self._inputs, self._folder = job, open_inputs(job), Folder.at(uri)

    def __call__(self, name: str, item: tuple[str, range]) -> dict[str, Any]:
        split, places = item
        table = self._inputs.splits[split]
        skipped: Counter[str] = Counter()
        counts: Counter[str] = Counter()
        rows = 0
        with contextlib.ExitStack() as files:
            writer = files.enter_context(
                parquet.ShardWriter(self._folder, f"{name}.parquet", table.categories)
            )
            if split == "unlabelled":
                truth = self._folder.sub(TRUTH)
                aside = files.enter_context(
                    parquet.ShardWriter(truth, f"{name}.parquet", table.categories)
                )
            for i in places:
                scene = self._checked(table, i, skipped)
                if scene is None:
                    continue
                counts.update(table.categories[c].name for c in scene.objects.category.tolist())
                if (
                    split == "unlabelled"
                ):  # labels it may have must not leak into anything: they are put aside
                    aside.write(
                        [replace(scene, image=ImageRef(None, scene.image.path), panoptic=None)]
                    )
                    scene = replace(
                        scene.with_objects(Objects.build([], np.zeros((0, 4)))), panoptic=None
                    )
                writer.write([scene])
                rows += 1
        return {"rows": rows, "counts": dict(counts), "skipped": dict(skipped)}

    def _checked(self, table: Dataset, index: int, skipped: Counter[str]) -> Scene | None:
        try:
            scene = table[index]  # a panoptic map is decoded and checked here
            check_scene(scene, self._job.data.max_pixels)
        except DatasetError:
            if self._job.data.on_bad == "stop":
                raise
            skipped["unreadable image or map"] += 1
            return None
        return scene


def run(context: Context) -> dict[str, Any]:
    """Write the scene tables `labelled`, `validation`, `unlabelled`; the manifest counts what each holds.

    Labels the unlabelled images may have go to `unlabelled/truth`, counted as `truth`, and only judge pseudo-labels.
    """
    inputs = open_inputs(context.job)
    report: dict[str, Any] = {}
    for split, table in inputs.splits.items():
        folder = context.folder.sub(split)
        items = [(name, (split, places)) for name, places in cut(len(table), SHARD)]
        rows = context.shards(partial(_Reader, context.job, folder.uri), items, folder, "images")
        skipped = Counter(table.skipped) + Counter(add_counts(rows, "skipped"))
        report[split] = {
            "images": sum(row["rows"] for row in rows),
            "objects": {} if split == "unlabelled" else add_counts(rows, "counts"),
            "truth": add_counts(rows, "counts") if split == "unlabelled" else {},
            "skipped": dict(skipped),
        }
        told = f", {sum(skipped.values())} records skipped or mended" if skipped else ""
        context.tell(
            f"  {split}: {report[split]['images']} images, {sum(report[split]['objects'].values())} objects{told}"
        )
    if not report["validation"]["images"]:
        raise DatasetError(
            "data.validation: no readable image is left to measure on; name another set"
        )
    classes = [{"id": c.id, "name": c.name, "isthing": c.isthing} for c in inputs.categories]
    return {"splits": report, "classes": classes}
