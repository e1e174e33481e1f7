"""Mass-produce the planned images on a pool of actors, shard by shard."""

from __future__ import annotations

from collections import Counter
from functools import partial
from typing import Any

from synthaug.pipeline.config.schema import Job, section_dict
from synthaug.pipeline.core.storage import Folder
from synthaug.pipeline.execution.context import Context, add_counts, cut
from synthaug.pipeline.execution.training import device
from synthaug.pipeline.formats.parquet import read as parquet
from synthaug.pipeline.steps.contract import Manifest, Published
from synthaug.pipeline.steps.train_generator import WEIGHTS
from synthaug.pipeline.synthesis.conditioning import guide_of

NEEDS = ("plan", "train_generator")
VERSION = 3
PUBLISHES: tuple[Published, ...] = ()


def settings(job: Job) -> dict[str, Any]:
    """The synthesize section; a change of its keys needs no other plan and no other training."""
    return {"synthesize": section_dict(job, "synthesize"), "shard": job.plan.shard}


def metrics(manifest: Manifest) -> dict[str, Any]:
    """Return the number of images, of objects, and of objects that were lost."""
    return {"synthetic": {key: manifest[key] for key in ("images", "objects", "dropped")}}


def load_generator(folder: Folder, job: Job) -> Any:
    """Return the trained generator, ready to produce, on the GPU where there is one."""
    import torch

    from synthaug.generators import checkpoint

    torch.set_num_threads(job.synthesize.threads)
    with folder.local_copy(WEIGHTS) as path:
        system, network, _ = checkpoint.load(path)
    return guide_of(job).sampler(system, network, device(), folder)


class Producer:
    """Runs in a worker: reads a shard of the plan, synthesises it in fixed batches and writes it."""

    def __init__(self, job: Job, plan: str, weights: str, digest: str, out: str) -> None:
        self._batch, self._guide = job.synthesize.batch, guide_of(job)
        self._generator = load_generator(Folder.at(weights), job)
        self._plan, self._out, self._digest = Folder.at(plan), Folder.at(out), digest

    def __call__(self, name: str, places: range) -> dict[str, Any]:
        """Make shard `name`; returns its row of the manifest."""
        table = parquet.read(parquet.Config(f"{self._plan.uri}/{name}.parquet"))
        counts: Counter[str] = Counter()
        dropped: Counter[str] = Counter()
        pixels: Counter[str] = Counter()
        with parquet.ShardWriter(self._out, f"{name}.parquet", table.categories) as writer:
            for start in range(0, len(table), self._batch):
                planned = [table[i] for i in range(start, min(start + self._batch, len(table)))]
                for scene, lost in self._guide.produce(
                    self._generator, planned, table.categories, self._digest
                ):
                    writer.write([scene])
                    dropped.update(lost)
                    names = [table.categories[c].name for c in scene.objects.category.tolist()]
                    counts.update(names)
                    for label, area in zip(names, scene.objects.area.tolist(), strict=True):
                        pixels[label] += int(area)
        return {
            "rows": len(places),
            "counts": dict(counts),
            "dropped": dict(dropped),
            "pixels": dict(pixels),
        }


def run(context: Context) -> dict[str, Any]:
    """Write the synthetic scenes; the manifest counts objects made and dropped per class."""
    job = context.job
    plan, trained = context.inputs["plan"], context.inputs["train_generator"]
    make = partial(
        Producer,
        job,
        plan.folder.uri,
        trained.folder.uri,
        trained.manifest["sha256"],
        context.folder.uri,
    )
    items = cut(plan.manifest["images"], job.plan.shard)
    rows = context.shards(make, items, context.folder, "images", job.synthesize.workers)
    made, dropped = add_counts(rows, "counts"), add_counts(rows, "dropped")
    lost = f"; {sum(dropped.values())} objects without visible pixels dropped" if dropped else ""
    context.tell(f"  {plan.manifest['images']} images with {sum(made.values())} objects{lost}")
    return {
        "images": plan.manifest["images"],
        "objects": made,
        "dropped": dropped,
        "pixels": add_counts(rows, "pixels"),
        "shards": {name: row["sha256"] for (name, _), row in zip(items, rows, strict=True)},
    }
