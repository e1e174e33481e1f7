"""Synthesize the planned images on a pool of workers, shard by shard."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING

from synthaug.pipeline.config.schema import Job, section_dict
from synthaug.pipeline.core.errors import JobError
from synthaug.pipeline.core.json_values import Json, Manifest
from synthaug.pipeline.core.storage import Folder
from synthaug.pipeline.execution.context import Context, add_counts, cut
from synthaug.pipeline.execution.training import device
from synthaug.pipeline.formats.parquet import read as parquet
from synthaug.pipeline.steps.contract import Published
from synthaug.pipeline.steps.train_generator import WEIGHTS
from synthaug.pipeline.synthesis.base import Synthesizer
from synthaug.pipeline.synthesis.conditioning import conditioning_of

if TYPE_CHECKING:
    from torch import nn

NEEDS = ("plan", "train_generator")
VERSION = 12
PUBLISHES: tuple[Published, ...] = ()
AS_TRAINED = -2  # of synthesize.refine_stages


def settings(job: Job) -> Json:
    """Return the section synthesize.

    A change of its keys needs no other plan and no other training.
    """
    return {"synthesize": section_dict(job, "synthesize"), "shard": job.plan.shard}


def check(job: Job) -> None:
    """Raise JobError where a network cannot refine masks in so many stages."""
    stages = job.synthesize.refine_stages
    if stages == AS_TRAINED:
        return
    if job.generator.system != "lostgan":
        raise JobError(
            f"synthesize.refine_stages: generator.system {job.generator.system} refines no masks; "
            f"set it to {AS_TRAINED}"
        )
    try:
        replace(job.generator.config, refine_stages=stages)
    except ValueError as err:
        raise JobError(f"synthesize.{err}") from err


def metrics(manifest: Manifest) -> Json:
    """Return the number of images, of objects, and of objects that were lost."""
    keys = ("images", "objects", "dropped")
    return {"synthetic": {key: manifest[key] for key in keys}}


def load_generator(folder: Folder, job: Job) -> nn.Module:
    """Return the trained generator of a training's folder."""
    import torch

    from synthaug.generators import checkpoint

    torch.set_num_threads(job.synthesize.threads)
    changes: Json = {}
    if job.synthesize.refine_stages != AS_TRAINED:
        changes["refine_stages"] = job.synthesize.refine_stages
    with folder.local_copy(WEIGHTS) as path:
        _, network, _ = checkpoint.load(path, changes)
    return network


def load_synthesizer(folder: Folder, job: Job) -> Synthesizer:
    """Return the synthesizer with the trained generator.

    On the GPU where there is one.
    """
    network = load_generator(folder, job)
    return conditioning_of(job).synthesizer(network, device(), folder)


class ShardSynthesizer:
    """Reads a shard of the plan, synthesizes it in batches and writes it.

    Runs in a worker; batches have a fixed size.
    """

    def __init__(self, job: Job, plan: str, weights: str, checkpoint: str, out: str) -> None:
        self._batch = job.synthesize.batch
        self._synthesize = load_synthesizer(Folder.at(weights), job)
        self._plan = Folder.at(plan)
        self._out = Folder.at(out)
        self._checkpoint = checkpoint

    def __call__(self, name: str, indices: range) -> Json:
        """Write shard `name`; return its row of the manifest."""
        table = parquet.open_table(self._plan.sub(f"{name}.parquet"))
        counts: Counter[str] = Counter()
        dropped: Counter[str] = Counter()
        pixels: Counter[str] = Counter()
        with parquet.ShardWriter(self._out, f"{name}.parquet", table.categories) as writer:
            for start in range(0, len(table), self._batch):
                stop = min(start + self._batch, len(table))
                planned = [table[index] for index in range(start, stop)]
                for finished in self._synthesize(planned, table.categories, self._checkpoint):
                    writer.write([finished.scene])
                    dropped.update(finished.lost)
                    objects = finished.scene.objects
                    labels = objects.category.tolist()
                    areas = objects.area.tolist()
                    for label, area in zip(labels, areas, strict=True):
                        name_of_class = table.categories[label].name
                        counts[name_of_class] += 1
                        pixels[name_of_class] += int(area)
        return {
            "rows": len(indices),
            "counts": dict(counts),
            "dropped": dict(dropped),
            "pixels": dict(pixels),
        }


def run(context: Context) -> Json:
    """Write the synthetic scenes.

    The manifest counts objects made and dropped per class.
    """
    job = context.job
    plan = context.inputs["plan"]
    trained = context.inputs["train_generator"]
    make = partial(
        ShardSynthesizer,
        job,
        plan.folder.uri,
        trained.folder.uri,
        trained.manifest["sha256"],
        context.folder.uri,
    )
    items = cut(plan.manifest["images"], job.plan.shard)
    rows = context.shards(make, items, context.folder, "images", job.synthesize.workers, gpu=True)
    objects = add_counts(rows, "counts")
    dropped = add_counts(rows, "dropped")
    lost = ""
    if dropped:
        lost = f"; {sum(dropped.values())} objects without visible pixels dropped"
    images = plan.manifest["images"]
    context.tell(f"  {images} images with {sum(objects.values())} objects{lost}")
    return {
        "images": images,
        "objects": objects,
        "dropped": dropped,
        "pixels": add_counts(rows, "pixels"),
        "shards": {name: row["sha256"] for (name, _), row in zip(items, rows, strict=True)},
    }
