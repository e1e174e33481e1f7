"""Plan the synthetic set: which layouts, from which real images, with which seeds, and why."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from synthaug.pipeline.config.schema import Job, section_dict
from synthaug.pipeline.core.errors import JobError
from synthaug.pipeline.core.scene import Category, ImageRef, Objects, Provenance, Scene
from synthaug.pipeline.core.seeding import permuted, rng_for, seed_for
from synthaug.pipeline.core.storage import Folder
from synthaug.pipeline.execution.context import Context, add_counts, cut
from synthaug.pipeline.formats.parquet import read as parquet
from synthaug.pipeline.planning import placement
from synthaug.pipeline.planning.exchange import Layout, Pool, Slots, draw_layout, vary
from synthaug.pipeline.planning.layout_statistics import object_counts
from synthaug.pipeline.planning.map_planner import NO_PLACE
from synthaug.pipeline.planning.targets import (
    Exchange,
    additions,
    deficit_counts,
    exchange,
    images_needed,
    target_counts,
)
from synthaug.pipeline.steps.contract import Manifest, Published
from synthaug.pipeline.steps.inputs import Inputs
from synthaug.pipeline.steps.map_plan import MapPlans, map_config
from synthaug.pipeline.synthesis.conditioning import BoxGuide, MapGuide, PosthocGuide, guide_of
from synthaug.pipeline.synthesis.copy_paste import PasteGuide
from synthaug.pipeline.synthesis.pasting import BACKGROUND, PASTED, mirrored

NEEDS = ("ingest",)
VERSION = 2
PUBLISHES: tuple[Published, ...] = ()
IDS_PER_IMAGE = 10_000


def settings(job: Job) -> dict[str, Any]:
    """The plan, and the filter layouts must pass; of maps their size."""
    guide = guide_of(job)
    plan = {
        key: value for key, value in section_dict(job, "plan").items() if key != "rearrange"
    }  # it is in `maps`
    told = {"seed": job.seed, "name": job.name, "plan": plan, "filter": vars(guide.keep)}
    if isinstance(guide, MapGuide):
        told["maps"] = vars(map_config(job))
    return told if isinstance(guide, BoxGuide) else told | {"system": job.generator.system}


def check(job: Job) -> None:
    """Raise JobError for settings that the generator's conditioning has no use for."""
    guide = guide_of(job)
    guide.check()
    if job.plan.rearrange and not isinstance(guide, MapGuide):
        raise JobError(
            f"plan.rearrange: {job.plan.rearrange:g} is for generators driven by maps, not for {job.generator.system}; set "
            "it to 0; plan.jitter moves boxes"
        )


def check_data(job: Job, inputs: Inputs) -> None:
    """Raise JobError for a class that is not there, DatasetError for images of no use to the generator."""
    guide_of(job).check_data(inputs.splits["labelled"])
    categories = inputs.categories
    if job.plan.target == "counts":
        target_counts(np.ones(len(categories)), categories, job.plan.target, job.plan.counts)


def metrics(manifest: Manifest) -> dict[str, Any]:
    """Return the natural, wanted and planned number of objects of each class."""
    return {"plan": manifest["classes"]}


@dataclass(frozen=True)
class Real:
    """What a plan is made from."""

    categories: tuple[Category, ...]
    labelled: NDArray[np.int64]  # [C] objects, those of images without a layout included
    sources: list[tuple[str, tuple[int, int], Layout]]  # (image_id, (H, W), layout)


def real_layouts(job: Job, labelled: str) -> Real:
    """Read the layouts of the labelled images that pass the generator's filter."""
    table, guide = parquet.read(parquet.Config(labelled), pixels=False), guide_of(job)
    keep, accepted = guide.keep, set(guide.accepted(table).index)
    found = np.zeros(len(table.categories), np.int64)
    sources: list[tuple[str, tuple[int, int], Layout]] = []
    for i in range(len(table)):
        scene = table[i]
        size = (scene.height, scene.width)
        found += np.bincount(scene.objects.category[~scene.objects.iscrowd], minlength=len(found))
        if i in accepted:
            objects = keep.select(scene)
            scale = np.array([scene.width, scene.height, scene.width, scene.height], np.float32)
            sources.append((scene.image_id, size, Layout(objects.category, objects.boxes / scale)))
    if not sources:
        raise guide.none_left()
    return Real(table.categories, found, sources)


class Planner:
    """Holds the real layouts; draws planned scene `index` from (job seed, index) alone.

    `weights` [C] of `placement.fit`, which needs S x C numbers, are found here or given by one who found them.
    """

    def __init__(self, job: Job, labelled: str, weights: NDArray[np.float64] | None = None) -> None:
        self.job, plan = job, job.plan
        found = real_layouts(job, labelled)
        self.categories, self.labelled, self.sources = (
            found.categories,
            found.labelled,
            found.sources,
        )
        layouts = [layout for _, _, layout in self.sources]
        self.pool = Pool.of(layouts, len(self.categories))
        self.isthing: NDArray[np.bool_] = np.array([c.isthing for c in self.categories], bool)
        present = np.array([len(boxes) for boxes in self.pool.boxes], np.float64)  # [C]
        missing = np.where(self.isthing, np.maximum(plan.objects_per_class - self.labelled, 0), 0)
        self.need = images_needed(missing, present * self.isthing, len(layouts))
        self.count = plan.count or self.need.exchanged
        if not self.count:
            raise JobError(
                f"plan.objects_per_class: no class that can be planned has fewer than {plan.objects_per_class} objects, "
                "so no image is needed; raise it or give plan.count"
            )
        self.natural = present * (self.count / max(1, len(layouts)))
        if plan.target == "deficit":
            self.target = deficit_counts(self.natural, self.categories, missing)
        else:
            self.target = target_counts(self.natural, self.categories, plan.target, plan.counts)
        self.pasting = isinstance(guide_of(job), PasteGuide)
        self.exchange: Exchange = (additions if self.pasting else exchange)(
            self.natural, self.target, self.count
        )
        counts = object_counts(layouts, len(self.categories))  # [S, C]
        self.most = job.generator.training.max_objects
        self.slots = Slots.of(counts, self.exchange, self.most)
        self._lifts = (
            placement.lift(counts)
            if plan.placement == "natural"
            else np.ones([len(self.categories)] * 2)
        )
        self.weights = self._weights(counts) if weights is None else weights
        self.again = partial(Planner, job, labelled, self.weights)
        self.short = round(self.slots.short * self.count)

    def _weights(self, counts: NDArray[np.int32]) -> NDArray[np.float64]:
        wanted = self.exchange.shares
        if not wanted.any():
            return wanted
        return placement.fit(placement.affinity(counts, self._lifts), self.slots.receive, wanted)

    def _wanted(self, layout: Layout) -> NDArray[np.float64]:
        """Return the share of each class [C] among what this layout receives."""
        if not self.weights.any():
            return self.weights
        counts = object_counts([layout], len(self.categories))
        share: NDArray[np.float64] = placement.shares(
            placement.affinity(counts, self._lifts), self.weights
        )[0]
        return share

    def scene(self, index: int) -> Scene:
        """Return planned scene `index`: a layout without pixels, with its provenance."""
        seed = self.job.seed
        count = len(self.sources)
        round_, place = divmod(index, count)
        source, (height, width), layout = self.sources[
            permuted(place, count, seed_for(seed, "plan", round_))
        ]
        rng = rng_for(seed, "layout", index)
        here = replace(self.exchange, shares=self._wanted(layout))
        free = (max(0, self.most - len(layout.category)), self.slots.extra)
        drawn = draw_layout(layout, self.pool, here, self.isthing, free, rng)
        made_with = seed_for(seed, "image", index)
        kept = (
            len(layout.category) if self.pasting else 0
        )  # real objects, which stay where they are
        final = self._varied(drawn.layout, kept, made_with, rng)
        scale = np.array([width, height, width, height], np.float32)
        n = len(final.category)
        objects = Objects.build(
            final.category,
            final.boxes * scale,
            id=index * IDS_PER_IMAGE + 1 + np.arange(n),
            isthing=self.isthing[final.category],
            source=(*(BACKGROUND,) * kept, *(PASTED,) * (n - kept)),
        )
        made = Provenance(
            made_with,
            self.job.generator.system,
            "",
            source,
            self._reason(drawn.added, drawn.removed),
        )
        name = f"{self.job.name}-{index:08d}"
        return Scene(name, height, width, ImageRef(None, None), objects, None, made)

    def _varied(self, layout: Layout, kept: int, seed: int, rng: np.random.Generator) -> Layout:
        """Jitter and mirror a layout; where its first `kept` objects are pixels of a real image, only as that can be."""
        plan = self.job.plan
        if not self.pasting:
            return vary(layout, self.isthing, plan.jitter, plan.flip, rng)
        moved = vary(
            Layout(layout.category[kept:], layout.boxes[kept:]), self.isthing, plan.jitter, 0.0, rng
        ).boxes
        whole = Layout(layout.category, np.concatenate([layout.boxes[:kept], moved]))
        return vary(whole, self.isthing, 0.0, float(mirrored(seed, plan.flip)), rng)

    def _reason(self, added: list[int], gone: list[int]) -> str:
        changes = [f"+{self.categories[c].name}" for c in added] + [
            f"-{self.categories[c].name}" for c in gone
        ]
        return (
            f"{self.job.plan.target}: {' '.join(changes)}"
            if changes
            else f"{self.job.plan.target}: as in the source"
        )


class _Writer:
    """Runs in a worker: plans one shard."""

    def __init__(self, planner: Callable[[], Planner | MapPlans], out: str) -> None:
        self._planner, self._out = planner(), Folder.at(out)

    def __call__(self, name: str, places: range) -> dict[str, Any]:
        categories = self._planner.categories
        counts: Counter[str] = Counter()
        no_place = 0
        with parquet.ShardWriter(self._out, f"{name}.parquet", categories) as writer:
            for index in places:
                scene = self._planner.scene(index)
                writer.write([scene])
                counts.update(
                    categories[c].name
                    for c in scene.objects.category[~scene.objects.iscrowd].tolist()
                )
                no_place += scene.provenance.reason.count(NO_PLACE) if scene.provenance else 0
        return {"rows": len(places), "counts": dict(counts), "no_place": no_place}


def run(context: Context) -> dict[str, Any]:
    """Write the plan as a scene table without pixels; the manifest compares natural, target and planned counts."""
    job = context.job
    labelled = context.inputs["ingest"].folder.sub("labelled").uri
    planners: dict[type, Callable[[Job, str], Planner | MapPlans]] = {
        BoxGuide: Planner,
        MapGuide: MapPlans,
        PasteGuide: Planner,
        PosthocGuide: Planner,
    }
    # in the driver first: a wrong class name is the user's error, not a worker's
    planner = planners[type(guide_of(job))](job, labelled)
    make = partial(_Writer, planner.again, context.folder.uri)
    rows = context.shards(make, cut(planner.count, job.plan.shard), context.folder, "layouts")
    planned = add_counts(rows, "counts")
    classes = {
        c.name: {
            "natural": round(float(planner.natural[i]), 1),
            "target": round(float(planner.target[i]), 1),
            "planned": planned.get(c.name, 0),
            "labelled": int(planner.labelled[i]),
            "isthing": c.isthing,
        }
        for i, c in enumerate(planner.categories)
    }
    short = planner.short
    over = np.maximum(planner.natural - planner.target, 0).sum()
    pasting = isinstance(guide_of(job), PasteGuide)
    if pasting and over >= 1:
        context.tell(
            f"  {job.generator.system} takes nothing away: {over:,.0f} objects stay above the target"
        )
    if missed := sum(row.get("no_place", 0) for row in rows):
        context.tell(f"  {missed} things found no place in their maps")
    context.tell(
        f"  {planner.count} layouts from {len(planner.sources)} real ones, target '{job.plan.target}'"
    )
    if short:
        context.tell(
            f"  {short} objects of the target have no place: {planner.count} images of at most {planner.most} objects "
            "(generator.max_objects) are full; raise plan.count"
        )
    need = {"objects_per_class": job.plan.objects_per_class, **vars(planner.need)}
    sources = len(planner.sources)
    return {
        "images": planner.count,
        "sources": sources,
        "classes": classes,
        "short": short,
        "need": need,
        "adds_only": pasting,
        "no_place": missed,
    }
