"""Synthetic twins: images painted from the layouts of validation images, to be compared with them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np

from synthaug.pipeline.batches.layouts import LayoutFilter
from synthaug.pipeline.config.schema import Job
from synthaug.pipeline.core import masks
from synthaug.pipeline.core.datasets import Mapped
from synthaug.pipeline.core.scene import TWIN, Dataset, Objects, Provenance, Scene
from synthaug.pipeline.core.seeding import seed_for
from synthaug.pipeline.core.storage import Folder
from synthaug.pipeline.formats.parquet import read as parquet
from synthaug.pipeline.synthesis.conditioning import BoxGuide, Guide, guide_of


def shown(job: Job, table: Dataset) -> Dataset:
    """Return the scenes of a table that the job's generator can be shown, as it sees them: a map is shown whole."""
    guide = guide_of(job)
    accepted = guide.accepted(table)
    if not isinstance(guide, BoxGuide):
        return accepted
    keep = guide.keep
    return Mapped(accepted, partial(_seen_by_generator, keep), str(keep))


def _seen_by_generator(keep: LayoutFilter, scene: Scene) -> Scene:
    """Return the scene with those objects alone that the generator sees; with a map, it sees all."""
    if scene.panoptic is not None:
        return scene
    return scene.with_objects(keep.select(scene))


class Painter:
    """Runs in a worker: paints `samples` images of each layout of a range; image `layout * samples + sample` of all."""

    def __init__(
        self,
        job: Job,
        load: Callable[[], Any],
        table: Callable[[], Dataset],
        samples: int,
        out: str,
    ) -> None:
        # all objects stay, however little of them is seen: what was asked for is what is looked for
        how = replace(job.synthesize, size="source", format="png", min_mask_area=1)
        self._job = replace(job, synthesize=how)
        self._guide, self._generator = guide_of(self._job), load()
        self._table, self._samples, self._out = table(), samples, Folder.at(out)

    def __call__(self, name: str, places: range) -> dict[str, Any]:
        """Paint shard `name`."""
        planned = [self._planned(i, sample) for i in places for sample in range(self._samples)]
        batch = self._job.synthesize.batch
        with parquet.ShardWriter(self._out, f"{name}.parquet", self._table.categories) as writer:
            for start in range(0, len(planned), batch):
                writer.write(
                    _painted(
                        self._guide, self._generator, planned[start : start + batch], self._table
                    )
                )
        return {"rows": len(places), "images": len(planned)}

    def _planned(self, index: int, sample: int) -> Scene:
        scene = self._table[index]
        seed = seed_for(self._job.seed, "score", index, sample)
        system = self._job.generator.system
        origin = Provenance(seed, system, "", scene.image_id, TWIN)
        if isinstance(self._guide, BoxGuide):  # which was told of boxes alone
            scene = replace(scene, panoptic=None)
        return replace(scene, image_id=f"{scene.image_id}~{sample}", provenance=origin)


def _painted(guide: Guide, generator: Any, planned: Sequence[Scene], table: Dataset) -> list[Scene]:
    made = guide.produce(generator, planned, table.categories, "")
    return [_complete(before, after) for before, (after, _) in zip(planned, made, strict=True)]


def _complete(planned: Scene, made: Scene) -> Scene:
    """Put back the objects that nothing was seen of, with an empty mask and the box that was asked for."""
    if len(made.objects) == len(planned.objects):
        return made
    there = {int(number): place for place, number in enumerate(made.objects.id)}
    wanted = planned.objects
    (empty,) = masks.encode(np.zeros((1, planned.height, planned.width), bool))
    rows = [there.get(int(number), -1) for number in wanted.id]

    def pick(name: str, default: Any) -> Any:
        values = getattr(made.objects, name)
        return [values[row] if row >= 0 else default(place) for place, row in enumerate(rows)]

    objects = Objects.build(
        wanted.category,
        np.array(pick("boxes", lambda place: wanted.boxes[place]), np.float32).reshape(-1, 4),
        id=wanted.id,
        rle=pick("rle", lambda _: empty),
        area=pick("area", lambda _: 0.0),
        isthing=wanted.isthing,
        iscrowd=wanted.iscrowd,
        source=("synthetic",) * len(wanted),
        layout_boxes=wanted.boxes,
    )
    return made.with_objects(objects)
