"""Plan the synthetic set.

Which layouts, from which real images, with which seeds, and why.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np

from synthaug.pipeline.config.schema import EDIT_KEYS, Job, section_dict
from synthaug.pipeline.core.arrays import Floats
from synthaug.pipeline.core.json_values import Json, Manifest
from synthaug.pipeline.core.scene import Dataset, Scene, class_counts
from synthaug.pipeline.core.storage import Folder, file_digest
from synthaug.pipeline.execution.context import Context, add_counts, cut
from synthaug.pipeline.formats.parquet import read as parquet
from synthaug.pipeline.planning.drawn import WithDrawn
from synthaug.pipeline.planning.planner import NO_PLACE, Planner
from synthaug.pipeline.planning.surfaces import surface_lines
from synthaug.pipeline.planning.targets import measured_weakness, target_counts, weak_shares
from synthaug.pipeline.steps.contract import Published
from synthaug.pipeline.steps.inputs import Inputs, check_file
from synthaug.pipeline.studio.drawn_plan import read_drawn
from synthaug.pipeline.synthesis.conditioning import conditioning_of

NEEDS = ("ingest",)
VERSION = 6
PUBLISHES: tuple[Published, ...] = ()


def settings(job: Job) -> Json:
    """Return the section plan, and what the conditioning adds.

    The filter of layouts, the size of maps, edits.
    """
    plan = section_dict(job, "plan")
    for key in ("rearrange", *EDIT_KEYS):  # which only plans of maps, or of edits, depend on
        del plan[key]
    if job.plan.target != "weak":
        del plan["weakness"]
    del plan["drawn"]
    if job.plan.drawn:
        plan["drawn"] = file_digest(job.plan.drawn)
    added = conditioning_of(job).plan_settings()
    return {"seed": job.seed, "name": job.name, "plan": plan, **added}


def further_needs(job: Job) -> tuple[str, ...]:
    """Return the step whose detector says which classes are weak, where that is asked."""
    return ("train_detector",) if job.plan.asks_the_detector else ()


def check(job: Job) -> None:
    """Raise JobError for settings that the generator's conditioning has no use for."""
    conditioning_of(job).check()
    check_file("plan.drawn", job.plan.drawn)


def check_data(job: Job, inputs: Inputs) -> None:
    """Raise JobError for an unknown class, DatasetError for images of no use.

    Of no use to the generator.
    """
    conditioning_of(job).check_data(inputs.splits["labelled"])
    categories = inputs.categories
    if job.plan.target == "counts":
        target_counts(np.ones(len(categories)), categories, job.plan.target, job.plan.counts)
    weak_shares(categories, job.plan.weakness)
    drawn_scenes(job, inputs.splits["labelled"])


def explain(job: Job, inputs: Inputs) -> list[str]:
    """Return lines on what is planned: images, their classes and places."""
    plan = job.plan
    number = f"{plan.count} images" if plan.count else "as many images as are needed"
    lines = [f"plan: {number}, target '{plan.target}'"]
    if plan.asks_the_detector:
        lines.append("  classes lack what their AP on validation is short of 1 (train_detector)")
    elif plan.target == "weak":
        words = [f"{name} {lacks:g}" for name, lacks in plan.weakness.items()]
        lines.append(f"  classes lack, as plan.weakness says: {', '.join(words)}")
    if not conditioning_of(job).plans_edits:
        return lines
    natural = f"{100 * plan.natural_share:.0f} %"
    lines.append(
        f"  1 to {plan.most_edits} edits of a real image (plan.most_edits), {natural} of them, "
        "rounded down, as classes occur (plan.natural_share)"
    )
    if plan.surface == "any":
        lines.append("  objects come to any place (plan.surface: any)")
    else:
        lines += [f"  {line}" for line in surface_lines(inputs.splits["labelled"])]
    return lines


def metrics(manifest: Manifest) -> Json:
    """Return the natural, wanted and planned number of objects of each class."""
    return {"plan": manifest["classes"]}


def open_planner(job: Job, labelled: str, weights: Floats | None = None) -> Planner:
    """Open the planner of a job on its labelled images, a table's URI.

    `weights` are those of an earlier planner.
    """
    conditioning = conditioning_of(job)
    table = parquet.open_table(labelled, pixels=False, maps=conditioning.plans_maps)
    planner = conditioning.planner(table, weights)
    drawn = drawn_scenes(job, table)
    if not drawn:
        return planner
    # photos are mirrored when they are edited, by their seeds
    flip = job.plan.flip if conditioning.plans_edits else 0.0
    return WithDrawn(planner, drawn, job.seed, job.name, flip)


def drawn_scenes(job: Job, labelled: Dataset) -> list[Scene]:
    """Return the planned scenes of `plan.drawn`, without seeds; [] without a file."""
    if not job.plan.drawn:
        return []
    conditioning = conditioning_of(job)
    kind = "layout"
    if conditioning.plans_maps:
        kind = "map"
    elif conditioning.plans_edits:
        kind = "photo"
    path = Path(job.plan.drawn)
    return read_drawn(path, kind, labelled.categories, labelled, job.generator.system)


class PlanWriter:
    """Runs in a worker: plans a shard of scenes and writes it."""

    def __init__(self, job: Job, labelled: str, weights: Floats | None, out: str) -> None:
        self._planner = open_planner(job, labelled, weights)
        self._out = Folder.at(out)

    def __call__(self, name: str, indices: range) -> Json:
        """Write shard `name`; return its row of the manifest."""
        categories = self._planner.categories
        counts: Counter[str] = Counter()
        num_without_place = 0
        refused_before = self._planner.refused
        with parquet.ShardWriter(self._out, f"{name}.parquet", categories) as writer:
            for index in indices:
                scene = self._planner.scene(index)
                writer.write([scene])
                objects = scene.objects.without_crowds()
                counts.update(categories[c].name for c in objects.category.tolist())
                assert scene.provenance is not None
                num_without_place += scene.provenance.reason.count(NO_PLACE)
        return {
            "rows": len(indices),
            "counts": dict(counts),
            "no_place": num_without_place,
            "refused": self._planner.refused - refused_before,
        }


def run(context: Context) -> Json:
    """Write the plan as a table without pixels.

    The manifest compares natural, target and planned counts.
    """
    job = _with_weakness(context)
    labelled = context.inputs["ingest"].folder.sub("labelled").uri
    # in the driver first: a wrong class name is the user's error, not a worker's
    planner = open_planner(job, labelled)
    make = partial(PlanWriter, job, labelled, planner.weights, context.folder.uri)
    shards = cut(planner.count, job.plan.shard)
    rows = context.shards(make, shards, context.folder, "layouts")

    only_adds = conditioning_of(job).only_adds
    num_without_place = sum(row["no_place"] for row in rows)
    num_refused = sum(row["refused"] for row in rows)
    surplus = np.maximum(planner.natural - planner.target, 0).sum()
    if only_adds and surplus >= 1:
        context.tell(
            f"  {job.generator.system} takes nothing away: {surplus:,.0f} objects stay above the "
            "target"
        )
    if num_refused:
        context.tell(
            f"  {num_refused:,} places refused: objects come to stuff that their class is seen on "
            "(plan.surface)"
        )
    if num_without_place:
        context.tell(f"  {num_without_place} things found no place")
    context.tell(
        f"  {planner.count} layouts from {planner.num_sources} real ones, target "
        f"'{job.plan.target}'"
    )
    if planner.short:
        context.tell(
            f"  {planner.short} objects of the target have no place: {planner.limit}; raise "
            "plan.count"
        )
    return {
        "images": planner.count,
        "sources": planner.num_sources,
        "classes": _classes(planner, labelled, add_counts(rows, "counts")),
        "short": planner.short,
        "need": {"objects_per_class": job.plan.objects_per_class, **vars(planner.need)},
        "adds_only": only_adds,
        "no_place": num_without_place,
        "refused": num_refused,
    }


def _with_weakness(context: Context) -> Job:
    """Return the job with what validation AP says that classes lack, where it asks."""
    job = context.job
    if not job.plan.asks_the_detector:
        return job
    floor = context.inputs["train_detector"].manifest["floor"]
    weakness = measured_weakness(floor["classes"])
    weakest_first = sorted(weakness, key=lambda name: -weakness[name])
    words = [f"{name} {weakness[name]:.2f}" for name in weakest_first]
    context.tell(f"  what validation AP says is missing: {', '.join(words)}")
    return replace(job, plan=replace(job.plan, weakness=weakness))


def _classes(planner: Planner, labelled: str, planned: dict[str, int]) -> Json:
    """Return the objects by class name: natural, target, planned and labelled."""
    table = parquet.open_table(labelled, pixels=False)
    num_labelled = class_counts(table, len(planner.categories))
    classes = {}
    for index, category in enumerate(planner.categories):
        classes[category.name] = {
            "natural": round(float(planner.natural[index]), 1),
            "target": round(float(planner.target[index]), 1),
            "planned": planned.get(category.name, 0),
            "labelled": int(num_labelled[index]),
            "isthing": category.isthing,
        }
    return classes
