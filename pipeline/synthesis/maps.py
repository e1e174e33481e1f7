"""Conditioning on panoptic maps: a class and an instance per pixel.

Objects are what their maps say.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, ClassVar, cast

from synthaug.pipeline.batches.draw import Draw
from synthaug.pipeline.batches.maps import View, map_batches, single_maps
from synthaug.pipeline.config.schema import Synthesize
from synthaug.pipeline.core.arrays import Floats
from synthaug.pipeline.core.datasets import Subset
from synthaug.pipeline.core.errors import DatasetError, JobError
from synthaug.pipeline.core.images import resize
from synthaug.pipeline.core.json_values import Json
from synthaug.pipeline.core.panoptic_maps import maps_of
from synthaug.pipeline.core.scene import Category, Dataset, Scene, class_counts
from synthaug.pipeline.core.storage import Folder
from synthaug.pipeline.planning.map_planner import Config as MapPlanConfig
from synthaug.pipeline.planning.map_planner import MapPlanner
from synthaug.pipeline.planning.planner import Planner
from synthaug.pipeline.synthesis.base import (
    Conditioning,
    Finished,
    Synthesizer,
    seeds_of,
    with_image,
)
from synthaug.pipeline.synthesis.pseudo_maps import can_compose, with_composed_maps

if TYPE_CHECKING:
    import torch
    from torch import nn

    from synthaug.generators.base import MapBatch, MapSampler, TrainingInput


class MapConditioning(Conditioning):
    """Scenes that have a panoptic map.

    Or pseudo-labels with masks to compose one from.
    """

    plans_maps: ClassVar[bool] = True

    def check(self) -> None:
        """Refuse the settings that no generator of maps has a use for."""
        super().check()
        job = self.job
        system = self.job.generator.system
        if job.plan.target == "deficit":
            raise JobError(
                f"plan.target: deficit is for generators driven by boxes, not for {system}; choose "
                "counts"
            )
        if job.plan.placement != "uniform":
            raise JobError(
                f"plan.placement: {job.plan.placement} is for generators driven by boxes; for "
                f"{system} choose uniform, things go where their surroundings fit"
            )
        learns_pseudo = job.data.unlabelled and job.generator.training.use_pseudo
        gives_masks = job.detector.config.masks
        if learns_pseudo and gives_masks and not job.generator.config.dont_care:
            raise JobError(
                "generator.dont_care: false leaves no channel for what masks of pseudo-labels "
                "leave open; set it to true, or generator.use_pseudo to false"
            )
        if job.synthesize.compiled:
            raise JobError(
                f"synthesize.compiled: generator.system {system} is not compiled; set it to false"
            )

    def check_data(self, labelled: Dataset) -> None:
        """Look for the first map."""
        if not any(scene.panoptic is not None for scene in labelled):
            raise self.nothing_selected()

    def select(self, table: Dataset) -> Subset:
        """Return the scenes with maps, and those whose maps are composed of pseudo-labels."""
        index = []
        for number, scene in enumerate(table):
            if scene.panoptic is not None or can_compose(scene):
                index.append(number)
        return Subset(with_composed_maps(table), index)

    def nothing_selected(self) -> DatasetError:
        """Name the data."""
        return DatasetError(
            "data.labelled: no image has a panoptic map, which generator.system "
            f"{self.job.generator.system} is driven by; name a data set with maps, such as "
            "coco_panoptic: or cityscapes:"
        )

    def batches(
        self, tables: Sequence[Dataset], draw: Draw, rank: int, world: int
    ) -> Callable[[int], TrainingInput]:
        """Return step -> real images with maps."""
        config = self.job.generator.config
        mode = "resize_and_crop" if config.crop else "fixed"
        flip = self.job.generator.training.flip
        view = View(config.size, mode)
        read = map_batches(tables, draw, view, flip, rank, world)
        num_classes = len(tables[0].categories)
        return lambda step: read(step).tensors(num_classes)

    def memory(self, table: Dataset) -> Iterator[MapBatch]:
        """Yield each labelled image with its map, at the generator's size."""
        size = self.job.generator.config.size
        for arrays in single_maps(table, size):
            yield arrays.tensors(len(table.categories))

    def planner(self, table: Dataset, weights: Floats | None = None) -> Planner:
        """Return the planner of maps; there are no weights to be given."""
        selected = self.select(table)
        if not len(selected):
            raise self.nothing_selected()
        labelled = class_counts(table, len(table.categories))
        return MapPlanner(selected, labelled, self._plan_config())

    def _plan_config(self) -> MapPlanConfig:
        """Return the options of a plan of maps."""
        job = self.job
        plan = self.job.plan
        size = None
        if job.synthesize.size == "generator":
            size = job.generator.config.size
        return MapPlanConfig(
            count=plan.count,
            target=plan.target,
            counts=tuple(sorted(plan.counts.items())),
            weakness=tuple(sorted(plan.weakness.items())),
            seed=job.seed,
            rearrange=plan.rearrange,
            flip=plan.flip,
            size=size,
            min_area=max(1, job.synthesize.min_mask_area),
            most=job.generator.training.max_objects,
            name=job.name,
            objects_per_class=plan.objects_per_class,
            generator=job.generator.system,
        )

    def plan_settings(self) -> Json:
        """Return, besides, the options of the planner that are not in the section plan."""
        maps = vars(self._plan_config())
        not_of_maps = ("objects_per_class", "generator")
        maps = {key: maps[key] for key in maps if key not in not_of_maps}
        return {**super().plan_settings(), "maps": maps}

    def synthesizer(
        self, network: nn.Module, device: torch.device | str, trained: Folder
    ) -> Synthesizer:
        """Return the synthesizer of the network's images."""
        sampler = self.system.sampler(network, self.sampler_options(device))
        return MapSynthesizer(cast("MapSampler", sampler), self.job.synthesize)


class MapSynthesizer:
    """Samples maps.

    Masks, boxes and maps are those that were planned, so no object is lost.
    """

    def __init__(self, sampler: MapSampler, options: Synthesize) -> None:
        self.sampler = sampler
        self._options = options

    def __call__(
        self, planned: Sequence[Scene], categories: Sequence[Category], checkpoint: str
    ) -> list[Finished]:
        """Return the planned scenes with the network's images."""
        from synthaug.generators.base import Maps

        sampler = self.sampler
        labels = []
        instances = []
        for scene in planned:
            maps = maps_of(scene, sampler.num_classes, sampler.size)
            labels.append(maps.labels)
            instances.append(maps.instances)
        conditions = Maps.collate(labels, instances, sampler.num_classes)
        images = sampler.sample(conditions, seeds_of(planned)).images
        finished = []
        for scene, image in zip(planned, images, strict=True):
            resized = resize(image, scene.size)
            scene = with_image(scene, resized, self._options.format, checkpoint)
            finished.append(Finished(scene, Counter()))
        return finished
