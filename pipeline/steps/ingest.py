"""Read the user's data sets once and keep them as scene tables.

Every image and box is checked.
"""

from __future__ import annotations

import contextlib
from collections import Counter
from dataclasses import asdict, replace
from functools import partial

import numpy as np

from synthaug.pipeline.config.derive import Measured, derive, relative_sides, with_relations
from synthaug.pipeline.config.schema import Job, section_dict
from synthaug.pipeline.core.images import upright
from synthaug.pipeline.core.json_values import Json, Manifest
from synthaug.pipeline.core.readable import read_scene
from synthaug.pipeline.core.scene import Dataset, ImageRef, Objects, Scene
from synthaug.pipeline.core.skipped import Skipped, all_lines, short_lines
from synthaug.pipeline.core.storage import Folder
from synthaug.pipeline.execution.context import Context, add_counts, cut
from synthaug.pipeline.formats.parquet import read as parquet
from synthaug.pipeline.steps.contract import Published
from synthaug.pipeline.steps.inputs import check_size, check_split, open_inputs

NEEDS: tuple[str, ...] = ()
VERSION = 3
SKIPPED = "skipped.txt"  # each thing that was left out or mended, a line each
PUBLISHES: tuple[Published, ...] = (Published(SKIPPED),)
AS_ASKED = True
SHARD = 256  # scenes
TRUTH = "truth"  # folder inside the unlabelled table: labels that are not to be seen


def settings(job: Job) -> Json:
    """Return the data section and the content of the data sets."""
    inputs = open_inputs(job)
    fingerprints = {name: table.fingerprint() for name, table in inputs.splits.items()}
    content: Json = {"data": section_dict(job, "data"), "fingerprints": fingerprints}
    if not job.data.validation:
        content["seed"] = job.seed  # it decides which images are held out
    return content


class SplitReader:
    """Runs in a worker: reads, checks and writes one shard of a split."""

    def __init__(self, job: Job, split: str, uri: str) -> None:
        self._table = open_inputs(job).splits[split]
        self._hides_labels = split == "unlabelled"
        self._max_pixels = job.data.max_pixels
        self._skips_bad = job.data.on_bad == "skip"
        self._folder = Folder.at(uri)

    def __call__(self, name: str, scenes: range) -> Json:
        """Write the scenes at these indices as shard `name`; returns what was counted."""
        skipped = Skipped()
        objects: Counter[str] = Counter()
        rows = 0
        with contextlib.ExitStack() as files:
            writer = files.enter_context(self._shard(self._folder, name))
            if self._hides_labels:
                shard = self._shard(self._folder.sub(TRUTH), name)
                truth = files.enter_context(shard)
            for index in scenes:
                scene = self._checked(index, skipped)
                if scene is None:
                    continue
                classes = scene.objects.category.tolist()
                objects.update(self._table.categories[k].name for k in classes)
                if self._hides_labels:  # they must not leak into anything
                    truth.write([without_pixels(scene)])
                    scene = without_labels(scene)
                writer.write([scene])
                rows += 1
        counted = {"skipped": dict(skipped), "names": skipped.names}
        return {"rows": rows, "counts": dict(objects), **counted}

    def _shard(self, folder: Folder, name: str) -> parquet.ShardWriter:
        table = self._table
        file = f"{name}.parquet"
        return parquet.ShardWriter(
            folder, file, table.categories, has_relations=table.has_relations
        )

    def _checked(self, index: int, skipped: Skipped) -> Scene | None:
        """Return an upright scene with readable pixels; None for one to be skipped."""
        scene = read_scene(self._table, index, skipped, self._skips_bad)
        if scene is None:
            return None
        check_size(scene, self._max_pixels)
        scene, is_changed = upright(scene)
        if is_changed:
            skipped["image stored upright, as its boxes are"] += 1
        return scene


def without_pixels(scene: Scene) -> Scene:
    """Return a scene with its labels only."""
    reference = ImageRef(None, scene.image.path)
    return replace(scene, image=reference, panoptic=None)


def without_labels(scene: Scene) -> Scene:
    """Return a scene with its pixels only."""
    nothing = Objects.build([], np.zeros((0, 4)))
    return replace(scene, objects=nothing, panoptic=None, relations=())


def run(context: Context) -> Json:
    """Write the scene tables `labelled`, `validation` and `unlabelled`.

    The manifest counts them. Labels that unlabelled images may have go to `unlabelled/truth`, are
    counted as `truth`, and only tell how good pseudo-labels are.
    """
    inputs = open_inputs(context.job)
    splits: dict[str, Json] = {}
    lines: list[str] = []
    for split, table in inputs.splits.items():
        splits[split], skipped = _write_split(context, split, table)
        lines += [f"{split}: {line}" for line in all_lines(skipped)]
    text = "".join(f"{line}\n" for line in lines)
    context.folder.write_bytes(SKIPPED, text.encode("utf-8", "backslashreplace"))
    for split in ("labelled", "validation"):
        objects = sum(splits[split]["objects"].values())
        images = splits[split]["images"]
        check_split(context.job, split, inputs.splits[split], images, objects)
    labelled = context.folder.sub("labelled")
    measured = context.executor.call(measure, labelled.uri)
    relations: list[str] = []
    if inputs.splits["labelled"].has_relations:
        relations = context.executor.call(predicates, labelled.uri)
    classes = [{"id": c.id, "name": c.name, "isthing": c.isthing} for c in inputs.categories]
    return {
        "splits": splits,
        "classes": classes,
        "relations": relations,
        "measured": measured,
    }


def derived(job: Job, manifest: Manifest) -> tuple[Job, str]:
    """Return the job with what its images and objects decide, and a line on sizes."""
    job = with_relations(job, manifest.get("relations", ()))
    return derive(job, Measured.from_json(manifest["measured"]))


def predicates(uri: str) -> list[str]:
    """Return the names of the relations in a table, the most frequent first.

    Runs in a worker.
    """
    counts: Counter[str] = Counter()
    for scene in parquet.open_table(Folder.at(uri), pixels=False):
        counts.update(relation.predicate for relation in scene.relations)
    return sorted(counts, key=lambda name: (-counts[name], name))


def measure(uri: str) -> Json:
    """Measure the images and objects that settings of the detector derive from.

    Runs in a worker.
    """
    sizes = []
    objects: list[float] = []
    for scene in parquet.open_table(Folder.at(uri), pixels=False):
        sizes.append((scene.height, scene.width))
        objects += relative_sides(scene)
    return asdict(Measured.of(sizes, objects))


def _write_split(context: Context, split: str, table: Dataset) -> tuple[Json, Skipped]:
    """Write a split shard by shard.

    Returns its part of the manifest, and what was skipped.
    """
    folder = context.folder.sub(split)
    make = partial(SplitReader, context.job, split, folder.uri)
    shards = cut(len(table), SHARD)
    rows = context.shards(make, shards, folder, "images")
    images = sum(row["rows"] for row in rows)
    counts = add_counts(rows, "counts")
    skipped = Skipped(table.skipped)
    for row in rows:
        found = Skipped(row["skipped"])
        found.names = row["names"]
        skipped.take(found)
    objects = counts
    truth = {}
    if split == "unlabelled":
        objects = {}
        truth = counts
    context.tell(f"  {split}: {images} images, {sum(objects.values())} objects")
    for line in short_lines(skipped):
        context.tell(f"  {line}")
    part = {"images": images, "objects": objects, "truth": truth, "skipped": dict(skipped)}
    return part, skipped
