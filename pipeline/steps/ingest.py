"""Read the user's data sets once, check every image and box, and keep them as scene tables."""

from __future__ import annotations

import contextlib
from collections import Counter
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from synthaug.pipeline.config.schema import Job, section_dict
from synthaug.pipeline.core.datasets import Subset
from synthaug.pipeline.core.errors import DatasetError, JobError
from synthaug.pipeline.core.images import decode
from synthaug.pipeline.core.scene import Category, Dataset, ImageRef, Objects, Scene
from synthaug.pipeline.core.seeding import permuted, seed_for
from synthaug.pipeline.core.storage import Folder
from synthaug.pipeline.execution.context import Context, add_counts, cut
from synthaug.pipeline.formats.parquet import read as parquet
from synthaug.pipeline.formats.reference import open_dataset
from synthaug.pipeline.synthesis.conditioning import guide_of

NEEDS: tuple[str, ...] = ()
VERSION = 1
SHARD = 256  # scenes
TRUTH = "truth"  # folder inside the unlabelled table: labels that are not to be seen


@dataclass(frozen=True)
class Inputs:
    """The data sets of a job, opened."""

    splits: dict[str, Dataset]  # "labelled", "validation" and, where given, "unlabelled"

    @property
    def categories(self) -> tuple[Category, ...]:
        """The classes all splits share."""
        return self.splits["labelled"].categories


def open_inputs(job: Job) -> Inputs:
    """Open every data set the job names, and check that they agree on the classes."""
    data, root = job.data, Path(job.data.root)
    options = {"on_bad": data.on_bad, "max_pixels": str(data.max_pixels)}

    def opened(key: str) -> Dataset:
        return open_dataset(getattr(data, key), root, key=f"data.{key}", defaults=options)

    labelled = opened("labelled")
    if len(labelled) == 0:
        raise DatasetError("data.labelled: the data set has no image; name one that has")
    splits: dict[str, Dataset] = {"labelled": labelled}
    if data.validation:
        splits["validation"] = opened("validation")
    else:
        splits["labelled"], splits["validation"] = _hold_out(
            labelled, data.validation_fraction, job.seed
        )
    if data.unlabelled:
        splits["unlabelled"] = opened("unlabelled")
    _check_agreement(splits)
    for key, path in (("score.judge", job.score.judge), ("verify.judge", job.verify.judge)):
        _check_judge(key, path, len(labelled.categories))
    guide_of(job).check_data(splits["labelled"])
    return Inputs(splits)


def _check_judge(key: str, path: str, classes: int) -> None:
    """Refuse a judging detector of other classes before hours are spent on what it is to judge."""
    if not path:
        return
    from synthaug.detectors.weights import read_header

    try:
        known = read_header(Path(path))["num_classes"]
    except ValueError as err:
        raise JobError(f"{key}: {err}") from err
    if known != classes:
        raise JobError(
            f"{key}: {path} knows {known} classes, the data set has {classes}; name a detector of the same classes"
        )


def _hold_out(table: Dataset, fraction: float, seed: int) -> tuple[Subset, Subset]:
    """Split by a fixed pseudo-random permutation: (rest, held out)."""
    held = max(1, round(fraction * len(table)))
    if held >= len(table):
        raise JobError(
            f"data.validation_fraction: {fraction} leaves no image to train on; name a data.validation set"
        )
    key = seed_for(seed, "validation")
    places = [permuted(i, len(table), key) for i in range(len(table))]
    return Subset(table, sorted(places[held:])), Subset(table, sorted(places[:held]))


def _check_agreement(splits: dict[str, Dataset]) -> None:
    names = {c.id: c.name for c in splits["labelled"].categories}
    for key, table in splits.items():
        other = {c.id: c.name for c in table.categories}
        if other != names:
            odd = sorted(set(names.items()) ^ set(other.items()))[0]
            raise DatasetError(
                f"data.{key}: its classes differ from data.labelled's (class {odd[0]} '{odd[1]}' is not in both); "
                "use the same categories in every file"
            )


def check_scene(scene: Scene, max_pixels: int) -> None:
    """Raise DatasetError when the pixels of a scene are missing, broken, too many or of another size."""
    if scene.height * scene.width > max_pixels:
        raise DatasetError(
            f"{scene.image.path or scene.image_id}: {scene.width}x{scene.height} is over data.max_pixels={max_pixels}; "
            "raise it or shrink the image"
        )
    decode(scene)


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
