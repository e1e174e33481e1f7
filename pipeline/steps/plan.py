"""Plan the synthetic set: which layouts, from which real images, with which seeds, and why."""

from __future__ import annotations

from collections import Counter
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline.context import Context, add_counts, cut
from pipeline.formats import parquet
from pipeline.layouts import Exchange, Layout, Pool, draw_layout, exchange, target_counts, vary
from pipeline.loading import accepted
from pipeline.sampling import permuted, rng_for, seed_for
from pipeline.scene import Category, ImageRef, Objects, Provenance, Scene
from pipeline.sections import Job, section_dict
from pipeline.steps.train_generator import layout_filter
from pipeline.storage import Folder

NEEDS = ("ingest",)
VERSION = 1
IDS_PER_IMAGE = 10_000


def settings(job: Job) -> dict[str, Any]:
    """The plan, and the filter layouts must pass."""
    keep = layout_filter(job)
    return {"seed": job.seed, "name": job.name, "plan": section_dict(job, "plan"), "filter": vars(keep)}


def check_counts(job: Job, categories: tuple[Category, ...]) -> None:
    """Raise JobError when the plan names a class the data has not; possible before any data is read."""
    ones = np.ones(len(categories))
    target_counts(ones, categories, job.plan.target, job.plan.counts)


class Planner:
    """Holds the real layouts; draws planned scene `index` from (job seed, index) alone."""

    def __init__(self, job: Job, labelled: str) -> None:
        table = parquet.read(parquet.Config(labelled), pixels=False)
        self.job, self.categories = job, table.categories
        keep = layout_filter(job)
        self.sources: list[tuple[str, tuple[int, int], Layout]] = []
        chosen = accepted(table, keep)
        for i in range(len(chosen)):
            scene = chosen[i]
            objects = keep.select(scene.objects, (scene.height, scene.width))
            scale = np.array([scene.width, scene.height, scene.width, scene.height], np.float32)
            layout = Layout(objects.category, objects.boxes / scale)
            self.sources.append((scene.image_id, (scene.height, scene.width), layout))
        layouts = [layout for _, _, layout in self.sources]
        self.pool = Pool.of(layouts, len(self.categories))
        self.isthing: NDArray[np.bool_] = np.array([c.isthing for c in self.categories], bool)
        plan = job.plan
        present = np.array([len(boxes) for boxes in self.pool.boxes], np.float64)  # [C]
        self.natural = present * (plan.count / max(1, len(layouts)))
        self.target = target_counts(self.natural, self.categories, plan.target, plan.counts)
        self.exchange: Exchange = exchange(self.natural, self.target, plan.count)

    def scene(self, index: int) -> Scene:
        """Return planned scene `index`: a layout without pixels, with its provenance."""
        seed, plan = self.job.seed, self.job.plan
        count = len(self.sources)
        round_, place = divmod(index, count)
        source, (height, width), layout = self.sources[permuted(place, count, seed_for(seed, "plan", round_))]
        rng = rng_for(seed, "layout", index)
        most = self.job.generator.training.max_objects
        drawn, added, gone = draw_layout(layout, self.pool, self.exchange, self.isthing, most, rng)
        final = vary(drawn, self.isthing, plan.jitter, plan.flip, rng)
        scale = np.array([width, height, width, height], np.float32)
        n = len(final.category)
        objects = Objects.build(
            final.category,
            final.boxes * scale,
            id=index * IDS_PER_IMAGE + 1 + np.arange(n),
            isthing=self.isthing[final.category],
            source=("synthetic",) * n,
        )
        made = Provenance(
            seed_for(seed, "image", index), self.job.generator.system, "", source, self._reason(added, gone)
        )
        name = f"{self.job.name}-{index:08d}"
        return Scene(name, height, width, ImageRef(None, None), objects, None, made)

    def _reason(self, added: list[int], gone: list[int]) -> str:
        changes = [f"+{self.categories[c].name}" for c in added] + [f"-{self.categories[c].name}" for c in gone]
        return (
            f"{self.job.plan.target}: {' '.join(changes)}" if changes else f"{self.job.plan.target}: as in the source"
        )


class _Writer:
    """Runs in a worker: plans one shard."""

    def __init__(self, job: Job, labelled: str, out: str) -> None:
        self._planner, self._out = Planner(job, labelled), Folder.at(out)

    def __call__(self, name: str, places: range) -> dict[str, Any]:
        categories = self._planner.categories
        counts: Counter[str] = Counter()
        with parquet.ShardWriter(self._out, f"{name}.parquet", categories) as writer:
            for index in places:
                scene = self._planner.scene(index)
                writer.write([scene])
                counts.update(categories[c].name for c in scene.objects.category.tolist())
        return {"rows": len(places), "counts": dict(counts)}


def run(context: Context) -> dict[str, Any]:
    """Write the plan as a scene table without pixels; the manifest compares natural, target and planned counts."""
    job = context.job
    labelled = context.inputs["ingest"].folder.sub("labelled").uri
    planner = Planner(job, labelled)  # in the driver first: a wrong class name is the user's error, not a worker's
    make = partial(_Writer, job, labelled, context.folder.uri)
    rows = context.shards(make, cut(job.plan.count, job.plan.shard), context.folder, "layouts")
    planned = add_counts(rows, "counts")
    classes = {
        c.name: {
            "natural": round(float(planner.natural[i]), 1),
            "target": round(float(planner.target[i]), 1),
            "planned": planned.get(c.name, 0),
            "isthing": c.isthing,
        }
        for i, c in enumerate(planner.categories)
    }
    context.tell(f"  {job.plan.count} layouts from {len(planner.sources)} real ones, target '{job.plan.target}'")
    return {"images": job.plan.count, "sources": len(planner.sources), "classes": classes}
