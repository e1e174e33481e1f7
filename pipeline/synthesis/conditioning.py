"""What drives a generator, behind one interface: layouts of boxes, panoptic maps, or real images to paste into.

A generator's module says which, by CONDITION and TWO_STAGE. The steps ask `guide_of(job)` and differ in nothing else.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
from numpy.typing import NDArray

from synthaug.pipeline.batches.draw import Draw
from synthaug.pipeline.batches.layouts import LayoutFilter, layout_batches
from synthaug.pipeline.batches.maps import View, map_batches
from synthaug.pipeline.config.schema import Job, Synthesize
from synthaug.pipeline.core.datasets import Subset
from synthaug.pipeline.core.errors import DatasetError, JobError
from synthaug.pipeline.core.images import encode, resize
from synthaug.pipeline.core.panoptic_maps import maps_of
from synthaug.pipeline.core.scene import Category, Dataset, ImageRef, Scene
from synthaug.pipeline.core.storage import Folder
from synthaug.pipeline.synthesis.copy_paste import PasteGuide
from synthaug.pipeline.synthesis.masks_from_levels import at_size, finish, resolve, synthesise
from synthaug.pipeline.synthesis.pseudo_maps import can_compose, maps_of_masks, with_composed_maps

if TYPE_CHECKING:
    from synthaug.generators import System
    from synthaug.generators.base import Batch, SamplerOptions

Made = tuple[Scene, Counter[str]]  # a synthetic scene, and the objects per class that it lost


class Guide(Protocol):
    """One way of driving a generator."""

    @property
    def keep(self) -> LayoutFilter:
        """Which objects of a scene count."""
        ...

    def check(self) -> None:
        """Raise JobError for settings that this way has no use for."""
        ...

    def check_data(self, labelled: Dataset) -> None:
        """Raise DatasetError when no labelled image can drive the generator, as far as that is quickly seen."""
        ...

    def accepted(self, table: Dataset) -> Subset:
        """Return the scenes a generator may learn from."""
        ...

    def none_left(self) -> DatasetError:
        """Return what to tell when `accepted` leaves nothing."""
        ...

    def batches(
        self, tables: Sequence[Dataset], draw: Draw, rank: int, world: int
    ) -> Callable[[int], Batch]:
        """Return step -> real images with what drives the generator."""
        ...

    def sampler(self, system: System, network: Any, device: Any, trained: Folder) -> Any:
        """Return a trained network, ready to be sampled; `trained` is the folder its training left."""
        ...

    def paint(self, generator: Any, scenes: Sequence[Scene]) -> list[NDArray[np.uint8]]:
        """Return an image [H, W, 3] of the size of each scene, with the seed of its provenance."""
        ...

    def produce(
        self, generator: Any, scenes: Sequence[Scene], categories: Sequence[Category], digest: str
    ) -> list[Made]:
        """Return the finished scenes of planned ones; `digest` is the checkpoint's."""
        ...


def guide_of(job: Job) -> Guide:
    """Return what drives the generator of a job."""
    from synthaug.generators import load_system

    system = load_system(job.generator.system)
    if system.TWO_STAGE:
        return PosthocGuide(job)
    return GUIDES[system.CONDITION](job)


@dataclass(frozen=True)
class BoxGuide:
    """Layouts: a class and a box per object; what an object covers is what the network makes of it."""

    job: Job

    @property
    def keep(self) -> LayoutFilter:
        """The objects and images that the job's generator sees."""
        plan = self.job.generator.training
        return LayoutFilter(plan.min_area, plan.min_objects, plan.max_objects)

    def check(self) -> None:
        """Every setting has a use."""

    def check_data(self, labelled: Dataset) -> None:
        """Every data set has boxes; whether they pass the filter is seen when they are read."""

    def accepted(self, table: Dataset) -> Subset:
        """Return the scenes that pass the filter."""
        return Subset(table, [i for i, scene in enumerate(table) if self.keep.accepts(scene)])

    def none_left(self) -> DatasetError:
        """Name the filter's keys."""
        return DatasetError(
            "generator.min_objects/max_objects/min_area: no image passes the filter; widen it"
        )

    def batches(
        self, tables: Sequence[Dataset], draw: Draw, rank: int, world: int
    ) -> Callable[[int], Batch]:
        """Return step -> images with layouts."""
        size = self.job.generator.config.size
        return layout_batches(
            tables, draw, size, self.keep, self.job.generator.training.flip, rank, world
        )

    def sampler(self, system: System, network: Any, device: Any, trained: Folder) -> Any:
        """Return the network's sampler with the job's options."""
        return system.sampler(network, sampler_options(self.job, device))

    def paint(self, generator: Any, scenes: Sequence[Scene]) -> list[NDArray[np.uint8]]:
        """Return an image per layout, which is what `keep` keeps of a scene."""
        chosen = [replace(s, objects=self.keep.select(s)) for s in scenes]
        made = synthesise(generator, chosen)
        return [
            at_size(made, place, 0, (scene.height, scene.width))[0]
            for place, scene in enumerate(scenes)
        ]

    def produce(
        self, generator: Any, scenes: Sequence[Scene], categories: Sequence[Category], digest: str
    ) -> list[Made]:
        """Return scenes whose masks and boxes are what the network painted."""
        how, made = self.job.synthesize, synthesise(generator, scenes)
        results = []
        for place, planned in enumerate(scenes):
            scene = planned if how.size == "source" else _rescaled(planned, generator.size)
            image, soft = at_size(made, place, len(scene.objects), (scene.height, scene.width))
            visible = resolve(soft, scene.objects.boxes, scene.objects.isthing)
            results.append(
                finish(scene, image, visible, categories, how.format, how.min_mask_area, digest)
            )
        return results


class PosthocGuide(BoxGuide):
    """Layouts, whose masks one generator infers and another paints (generators/posthoc.py)."""

    def check(self) -> None:
        """Look at what both checkpoints say of themselves."""
        from synthaug.generators import posthoc

        config = self.job.generator.config
        try:
            posthoc.read_headers(config)
        except ValueError as err:
            raise JobError(f"generator.{err}") from err

    def paint(self, generator: Any, scenes: Sequence[Scene]) -> list[NDArray[np.uint8]]:
        """Return an image per layout, which is what `keep` keeps of a scene."""
        chosen = [replace(s, objects=self.keep.select(s)) for s in scenes]
        return [image for image, _ in self._painted(generator, chosen)]

    def produce(
        self, generator: Any, scenes: Sequence[Scene], categories: Sequence[Category], digest: str
    ) -> list[Made]:
        """Return scenes whose masks and boxes are those that were inferred and painted."""
        how = self.job.synthesize
        planned = [s if how.size == "source" else _rescaled(s, generator.size) for s in scenes]
        return [
            finish(scene, image, visible, categories, how.format, how.min_mask_area, digest)
            for scene, (image, visible) in zip(
                planned, self._painted(generator, planned), strict=True
            )
        ]

    def _painted(
        self, generator: Any, scenes: Sequence[Scene]
    ) -> list[tuple[NDArray[np.uint8], NDArray[np.bool_]]]:
        """Return the image [H, W, 3] and the disjoint masks [N, H, W] of each scene, at its size."""
        from synthaug.generators.base import Maps

        made, classes = synthesise(generator.layouts, scenes), generator.maps.num_classes
        shown, maps = [], []
        for place, scene in enumerate(scenes):
            objects = scene.objects
            _, soft = at_size(made, place, len(objects), (scene.height, scene.width))
            visible = resolve(soft, objects.boxes, objects.isthing)
            visible &= (visible.sum((1, 2)) >= self.job.synthesize.min_mask_area)[
                :, None, None
            ]  # else it is dropped
            shown.append(visible)
            maps.append(
                maps_of_masks(visible, objects, classes, generator.size, generator.dont_care)
            )
        whole = Maps.collate([m.labels for m in maps], [m.instances for m in maps], classes)
        seeds = [s.provenance.seed if s.provenance else 0 for s in scenes]
        images = generator.maps.sample(whole, seeds).images
        return [
            (resize(image, (scene.height, scene.width)), visible)
            for image, scene, visible in zip(images, scenes, shown, strict=True)
        ]


def sampler_options(job: Job, device: Any) -> SamplerOptions:
    """Return the job's settings of a sampler."""
    from synthaug.generators.base import SamplerOptions

    how = job.synthesize
    return SamplerOptions(device, how.truncation, how.precision, how.compiled)


def _rescaled(scene: Scene, size: tuple[int, int]) -> Scene:
    """The planned scene at the generator's own size (H, W)."""
    height, width = size
    scale = np.array([width / scene.width, height / scene.height] * 2, np.float32)
    objects = replace(
        scene.objects, boxes=scene.objects.boxes * scale, layout_boxes=scene.objects.boxes * scale
    )
    return replace(scene, height=height, width=width, objects=objects)


@dataclass(frozen=True)
class MapGuide:
    """Panoptic maps: a class and an instance per pixel; what an object covers is what its map says."""

    job: Job

    @property
    def keep(self) -> LayoutFilter:
        """All that are no crowd: a map shows its image whole."""
        return LayoutFilter(0.0, 0, 2**31)

    def check(self) -> None:
        """Refuse what no map-driven generator does."""
        system, job = self.job.generator.system, self.job
        if job.plan.target == "deficit":
            raise JobError(
                f"plan.target: deficit is for generators driven by boxes, not for {system}; choose counts"
            )
        if job.plan.placement != "uniform":
            raise JobError(
                f"plan.placement: {job.plan.placement} is for generators driven by boxes; for {system} choose uniform, "
                "things go where their surroundings fit"
            )
        masked = (
            job.data.unlabelled
            and job.generator.training.use_pseudo
            and getattr(job.detector.config, "masks", False)
        )
        if masked and not job.generator.config.dont_care:
            raise JobError(
                "generator.dont_care: false leaves no channel for what masks of pseudo-labels leave open; set it to true, or "
                "generator.use_pseudo to false"
            )
        if job.synthesize.compiled:
            raise JobError(
                f"synthesize.compiled: generator.system {system} is not compiled; set it to false"
            )

    def check_data(self, labelled: Dataset) -> None:
        """Look for the first map."""
        if not any(labelled[i].panoptic is not None for i in range(len(labelled))):
            raise self.none_left()

    def accepted(self, table: Dataset) -> Subset:
        """Return the scenes that have a panoptic map, or pseudo-labels with masks to compose one from."""
        index = []
        for i, scene in enumerate(table):
            if scene.panoptic is not None or can_compose(scene):
                index.append(i)
        return Subset(with_composed_maps(table), index)

    def none_left(self) -> DatasetError:
        """Name the data."""
        return DatasetError(
            f"data.labelled: no image has a panoptic map, which generator.system {self.job.generator.system} is driven by; "
            "name a data set with maps, such as coco_panoptic: or cityscapes:"
        )

    def batches(
        self, tables: Sequence[Dataset], draw: Draw, rank: int, world: int
    ) -> Callable[[int], Batch]:
        """Return step -> images with maps."""
        config = self.job.generator.config
        view = View(config.size, "resize_and_crop" if config.crop else "fixed")
        read = map_batches(tables, draw, view, self.job.generator.training.flip, rank, world)
        num_classes = len(tables[0].categories)
        return lambda step: read(step).tensors(num_classes)

    def sampler(self, system: System, network: Any, device: Any, trained: Folder) -> Any:
        """Return the network's sampler with the job's options."""
        return system.sampler(network, sampler_options(self.job, device))

    def paint(self, generator: Any, scenes: Sequence[Scene]) -> list[NDArray[np.uint8]]:
        """Return an image per map."""
        from synthaug.generators.base import Maps

        found = [maps_of(scene, generator.num_classes, generator.size) for scene in scenes]
        maps = Maps.collate(
            [m.labels for m in found], [m.instances for m in found], generator.num_classes
        )
        seeds = [scene.provenance.seed if scene.provenance else 0 for scene in scenes]
        images = generator.sample(maps, seeds).images
        return [
            resize(image, (scene.height, scene.width))
            for image, scene in zip(images, scenes, strict=True)
        ]

    def produce(
        self, generator: Any, scenes: Sequence[Scene], categories: Sequence[Category], digest: str
    ) -> list[Made]:
        """Return the planned scenes with pixels: their masks, boxes and maps are those that were asked for."""
        return [
            (painted(scene, image, self.job.synthesize, digest), Counter())
            for scene, image in zip(scenes, self.paint(generator, scenes), strict=True)
        ]


def painted(planned: Scene, image: NDArray[np.uint8], how: Synthesize, digest: str) -> Scene:
    """Return a planned scene with its image [H, W, 3]."""
    assert planned.provenance is not None
    data = ImageRef(
        encode(image, how.format), f"{planned.image_id}.{'jpg' if how.format == 'jpeg' else 'png'}"
    )
    return replace(planned, image=data, provenance=replace(planned.provenance, checkpoint=digest))


GUIDES: dict[str, Callable[[Job], Guide]] = {
    "layout": BoxGuide,
    "map": MapGuide,
    "edit": PasteGuide,
}
