"""The part of the step plan that draws panoptic maps."""

from __future__ import annotations

from dataclasses import replace
from functools import partial

import numpy as np

from synthaug.pipeline.config.schema import Job
from synthaug.pipeline.core.scene import Scene, class_counts
from synthaug.pipeline.formats.parquet import read as parquet
from synthaug.pipeline.planning.map_planner import Config as MapConfig
from synthaug.pipeline.planning.map_planner import MapPlanner
from synthaug.pipeline.planning.targets import images_needed
from synthaug.pipeline.synthesis.conditioning import guide_of


def map_config(job: Job) -> MapConfig:
    """What the plan's keys mean for maps."""
    plan, how = job.plan, job.synthesize
    return MapConfig(
        count=plan.count,
        target=plan.target,
        counts=tuple(sorted(plan.counts.items())),
        seed=job.seed,
        rearrange=plan.rearrange,
        flip=plan.flip,
        size=None if how.size == "source" else job.generator.config.size,
        min_area=max(1, how.min_mask_area),
        most=job.generator.training.max_objects,
        name=job.name,
    )


class MapPlans:
    """Planner's counterpart for generators that are driven by maps."""

    def __init__(self, job: Job, labelled: str) -> None:
        whole = parquet.read(parquet.Config(labelled), pixels=False, maps=True)
        guide = guide_of(job)
        self.sources = guide.accepted(whole)
        if not len(self.sources):
            raise guide.none_left()
        self._planner = MapPlanner(self.sources, map_config(job))
        self._system = job.generator.system
        self.categories, self.count, self.most = (
            whole.categories,
            job.plan.count,
            job.generator.training.max_objects,
        )
        self.labelled = class_counts(whole, len(whole.categories))
        things = np.array([c.isthing for c in self.categories], bool)
        stuff = class_counts(self.sources, len(things)) * (
            self.count / len(self.sources)
        )  # it is copied as it is
        self.natural = np.where(things, self._planner.natural, stuff)
        self.target = np.where(things, self._planner.target, stuff)
        self.again = partial(MapPlans, job, labelled)
        missing = np.where(things, np.maximum(job.plan.objects_per_class - self.labelled, 0), 0)
        present = self._planner.natural * (len(self.sources) / self.count)  # [C]
        self.need = images_needed(missing, present, len(self.sources))
        self.short = 0  # things that find no place are known when they are planned

    def scene(self, index: int) -> Scene:
        """Return planned scene `index`: a map without pixels, with its provenance."""
        scene = self._planner.scene(index)
        assert scene.provenance is not None
        return replace(scene, provenance=replace(scene.provenance, generator=self._system))
