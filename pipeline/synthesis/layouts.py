"""Conditioning on layouts: a class and a box per object.

The network infers the masks.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, cast

from synthaug.pipeline.batches.draw import Draw
from synthaug.pipeline.batches.layouts import LayoutFilter, collate_layouts, layout_batches
from synthaug.pipeline.config.schema import Synthesize
from synthaug.pipeline.core.arrays import Bytes, Flags, Floats32
from synthaug.pipeline.core.boxes import Boxes, Size, absolute_boxes
from synthaug.pipeline.core.datasets import Mapped, Subset
from synthaug.pipeline.core.errors import DatasetError
from synthaug.pipeline.core.images import resize, resize_maps
from synthaug.pipeline.core.json_values import Json
from synthaug.pipeline.core.masks import encode_with_boxes
from synthaug.pipeline.core.scene import Category, Dataset, Objects, Scene
from synthaug.pipeline.core.storage import Folder
from synthaug.pipeline.synthesis.base import (
    Conditioning,
    Finished,
    Synthesizer,
    seeds_of,
    with_image,
)
from synthaug.pipeline.synthesis.masks_from_levels import resolve
from synthaug.pipeline.synthesis.real_images import bank_file

if TYPE_CHECKING:
    import torch
    from torch import nn

    from synthaug.generators.base import LayoutSampler, Samples, TrainingInput


class LayoutConditioning(Conditioning):
    """Scenes with as many objects, and as large ones, as the job asks for."""

    @property
    def layout_filter(self) -> LayoutFilter:
        """Return the job's filter of objects and images."""
        training = self.job.generator.training
        return LayoutFilter(training.min_area, training.min_objects, training.max_objects)

    @property
    def mask_side(self) -> int:
        """Return the side of true masks that the generator is told of; 0 = none."""
        from synthaug.generators.base import ToldOfMasks

        config = self.job.generator.config
        if isinstance(config, ToldOfMasks):
            return config.learns_masks
        return 0

    @property
    def relation_names(self) -> tuple[str, ...]:
        """Return the names of relations that the generator is told of; () = none."""
        from synthaug.generators.base import ToldOfRelations

        config = self.job.generator.config
        if isinstance(config, ToldOfRelations):
            return config.relations
        return ()

    def check_data(self, labelled: Dataset) -> None:
        """Look for the first scene that passes the filter, and for an object that is kept.

        And for relations, where the generator is to be told of them.
        """
        self._check_filter(labelled)
        self._check_areas(labelled)
        if self.relation_names and not labelled.has_relations:
            raise DatasetError(
                "generator.relations: data.labelled has no relations between objects; leave it "
                "empty for those that boxes tell"
            )

    def _check_filter(self, labelled: Dataset) -> None:
        layout_filter = self.layout_filter
        if any(layout_filter.accepts(scene) for scene in labelled):
            return
        numbers = [int(layout_filter.counts(scene).sum()) for scene in labelled]
        raise DatasetError(
            f"generator.min_objects/max_objects/min_area: images have {min(numbers)} to "
            f"{max(numbers)} objects of over {layout_filter.min_area:g} of their area, the filter "
            f"takes {layout_filter.min_objects} to {layout_filter.max_objects}: none passes, "
            "widen it"
        )

    def _check_areas(self, labelled: Dataset) -> None:
        """Raise DatasetError where every synthetic object would be dropped as too small."""
        least = self.job.synthesize.min_mask_area
        if self.job.synthesize.size != "source":
            return  # objects are as large as the generator paints them
        largest = 0.0
        for scene in labelled:
            boxes = self.layout_filter.select(scene).boxes
            areas = (boxes[:, 2:] - boxes[:, :2]).prod(1)
            largest = max(largest, float(areas.max(initial=0.0)))
            if largest >= least:
                return
        raise DatasetError(
            f"synthesize.min_mask_area: {least} pixels are more than any labelled object has "
            f"({largest:g} at most), so every synthetic one would be dropped; lower it, or enlarge "
            "the images"
        )

    def select(self, table: Dataset) -> Subset:
        """Return the scenes that pass the filter."""
        layout_filter = self.layout_filter
        accepted = [i for i, scene in enumerate(table) if layout_filter.accepts(scene)]
        return Subset(table, accepted)

    def nothing_selected(self) -> DatasetError:
        """Name the filter's keys."""
        return DatasetError(
            "generator.min_objects/max_objects/min_area: no image passes the filter; widen it"
        )

    def scored(self, table: Dataset) -> Dataset:
        """Return the selected scenes, in which objects that do not count are crowds.

        A detector finds them in the real image: there they are ignore regions.
        """
        selected = self.select(table)
        return Mapped(selected, self._with_others_as_crowds, str(self.layout_filter))

    def _with_others_as_crowds(self, scene: Scene) -> Scene:
        if scene.panoptic is not None:  # objects of a map are segments, whatever their size
            return scene
        others = ~self.layout_filter.counts(scene)
        return scene.with_objects(replace(scene.objects, iscrowd=others))

    def condition(self, scene: Scene) -> Scene:
        """Return a scene without its map and its crowds.

        The generator is told of boxes alone.
        """
        conditions = scene.objects.without_crowds()
        return replace(scene, panoptic=None, objects=conditions)

    def batches(
        self, tables: Sequence[Dataset], draw: Draw, rank: int, world: int
    ) -> Callable[[int], TrainingInput]:
        """Return step -> real images with layouts."""
        size = self.job.generator.config.size
        flip = self.job.generator.training.flip
        return layout_batches(
            tables,
            draw,
            size,
            self.layout_filter,
            flip,
            rank,
            world,
            self.mask_side,
            self.relation_names,
        )

    def files(self, tables: Sequence[str]) -> Json:
        """Return where the real images are.

        Objects may be laid into them (into_photos.py).
        """
        return bank_file(tables)

    def plan_settings(self) -> Json:
        """Return the filter: plans of layouts are the same for all systems."""
        return {"filter": vars(self.layout_filter)}

    def synthesizer(
        self, network: nn.Module, device: torch.device | str, trained: Folder
    ) -> Synthesizer:
        """Return the synthesizer of the network's images and masks."""
        sampler = self.system.sampler(network, self.sampler_options(device))
        layout_sampler = cast("LayoutSampler", sampler)
        return LayoutSynthesizer(
            layout_sampler, self.job.synthesize, self.mask_side, self.relation_names
        )


class LayoutSynthesizer:
    """Samples layouts; masks and boxes of the objects are those the network infers.

    Or those of the scenes, where the network is told of masks of a side. Relations are those of
    the scenes, by their names.
    """

    def __init__(
        self,
        sampler: LayoutSampler,
        options: Synthesize,
        mask_side: int = 0,
        names: Sequence[str] = (),
    ) -> None:
        self.sampler = sampler
        self._options = options
        self._mask_side = mask_side
        self._names = names  # of relations

    def __call__(
        self, planned: Sequence[Scene], categories: Sequence[Category], checkpoint: str
    ) -> list[Finished]:
        """Return the scenes with the network's images, masks and boxes."""
        samples = sample_layouts(self.sampler, planned, self._mask_side, self._names)
        finished = []
        for number, scene in enumerate(planned):
            scene = at_output_size(scene, self._options, self.sampler.size)
            objects = scene.objects
            image, soft = resized_sample(samples, number, len(objects), scene.size)
            boxes = painted_boxes(samples, number, objects.boxes, scene.size)
            visible = resolve(soft, boxes, objects.isthing)
            finished.append(finish(scene, image, visible, categories, self._options, checkpoint))
        return finished


def sample_layouts(
    sampler: LayoutSampler,
    planned: Sequence[Scene],
    mask_side: int = 0,
    names: Sequence[str] = (),
) -> Samples:
    """Sample planned scenes, each with its own seed."""
    return sampler.sample(collate_layouts(planned, mask_side, names), seeds_of(planned))


def painted_boxes(samples: Samples, number: int, planned: Boxes, size: Size) -> Boxes:
    """Return the boxes [N, 4] of a sample's objects in pixels of (H, W).

    The planned ones, unless the network places the objects by itself.
    """
    if samples.boxes is None:
        return planned
    return absolute_boxes(samples.boxes[number, : len(planned)], size)


def resized_sample(
    samples: Samples, number: int, num_objects: int, size: Size
) -> tuple[Bytes, Floats32]:
    """Return the image of a sample and the soft masks of its objects, at (H, W).

    Of the first `num_objects`.
    """
    assert samples.masks is not None
    image = resize(samples.images[number], size)
    return image, resize_maps(samples.masks[number, :num_objects], size)


def at_output_size(planned: Scene, options: Synthesize, size: Size) -> Scene:
    """Return a planned scene at the size it is written in.

    Its own, or the generator's (H, W).
    """
    if options.size == "source":
        return planned
    objects = planned.objects.scaled(planned.size, size)
    height, width = size
    return replace(planned, height=height, width=width, objects=objects)


def finish(
    planned: Scene,
    image: Bytes,
    visible: Flags,
    categories: Sequence[Category],
    options: Synthesize,
    checkpoint: str,
) -> Finished:
    """Return a scene with pixels, tight boxes and masks.

    Objects with too few visible pixels are dropped and counted. image [H, W, 3], visible [N, H, W]
    in the order of the planned objects.
    """
    area = visible.sum((1, 2))
    keep = area >= max(1, options.min_mask_area)
    lost_classes = planned.objects.category[~keep].tolist()
    lost = Counter(categories[c].name for c in lost_classes)
    kept = planned.objects.select(keep)
    rles, boxes = encode_with_boxes(visible[keep])
    objects = Objects.build(
        kept.category,
        boxes,
        id=kept.id,
        rle=tuple(rles),
        area=area[keep],
        isthing=kept.isthing,
        source=("synthetic",) * len(kept),
        layout_boxes=kept.boxes,
    )
    finished = planned.with_objects(objects)
    scene = with_image(finished, image, options.format, checkpoint)
    return Finished(scene, lost)
