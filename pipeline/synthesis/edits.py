"""Conditioning on real images to be edited: a planned layout's own image, and the objects to be painted into it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, cast

import numpy as np
from numpy.typing import NDArray

from synthaug.generators.copy_paste import Frame
from synthaug.pipeline.batches.draw import Draw
from synthaug.pipeline.batches.photos import HeldOut, photo_batches
from synthaug.pipeline.batches.pixels import Pixels
from synthaug.pipeline.config.schema import Synthesize
from synthaug.pipeline.core.scene import PAIRED_SAMPLE, Category, Dataset, Objects, Scene
from synthaug.pipeline.core.seeding import rng_for
from synthaug.pipeline.core.storage import Folder
from synthaug.pipeline.planning.planner import is_mirrored
from synthaug.pipeline.synthesis.base import Finished, Synthesizer, seeds_of, with_image
from synthaug.pipeline.synthesis.masks_from_levels import resolve
from synthaug.pipeline.synthesis.pasting import (
    Added,
    Canvas,
    Labels,
    Picture,
    added_objects,
    emptiest_background,
    planned_ids,
    with_labels,
)
from synthaug.pipeline.synthesis.real_images import RealImageConditioning, real_images

if TYPE_CHECKING:
    import torch
    from torch import nn

    from synthaug.generators.base import Edit, EditedPhoto, EditSampler, PhotoBatch

MAX_OVERLAP = 0.3  # share of the smaller of two boxes: an object is not painted over another one
PLACES = 30  # tried for an object whose planned place is taken
MIN_VISIBLE = 0.1  # share of an object that must stay visible, or it loses its label


class EditConditioning(RealImageConditioning):
    """Photos with their objects, of which the system learns to paint further ones."""

    def batches(
        self, tables: Sequence[Dataset], draw: Draw, rank: int, world: int
    ) -> Callable[[int], PhotoBatch]:
        """Return step -> photos with their objects, some of them held out."""
        flip = self.job.generator.training.flip
        return photo_batches(tables, draw, HeldOut(), flip, rank, world)

    def synthesizer(
        self, network: nn.Module, device: torch.device | str, trained: Folder
    ) -> Synthesizer:
        """Return the synthesizer that paints into images of the table beside the checkpoint."""
        table, bare = real_images(trained)
        sampler = cast("EditSampler", self.system.sampler(network, self.sampler_options(device)))
        index_of = {scene.image_id: index for index, scene in enumerate(bare)}
        photos = Photos(Pixels([table]), index_of)
        return EditSynthesizer(photos, sampler, self.job.synthesize, self.job.plan.flip)


@dataclass(frozen=True)
class Photos:
    """The real images that are painted into."""

    pixels: Pixels
    index_of: dict[str, int]  # image_id -> index in the table


@dataclass(frozen=True)
class Request:
    """A canvas, the ids of its objects, and the objects to be painted."""

    canvas: Canvas
    ids: NDArray[np.int64]  # [N]
    new: Objects
    min_area: float


class EditSynthesizer:
    """Paints planned objects into real images; labels are what can be seen."""

    def __init__(
        self, photos: Photos, sampler: EditSampler, options: Synthesize, flip: float
    ) -> None:
        self._photos = photos
        self._sampler = sampler
        self._options = options
        self._flip = flip  # probability by which the plan mirrored backgrounds

    def __call__(
        self, planned: Sequence[Scene], categories: Sequence[Category], checkpoint: str
    ) -> list[Finished]:
        """Return the edited images with all objects, as far as they are visible."""
        requests = [self._request(scene) for scene in planned]
        edits = [_edit(request) for request in requests]
        edited = self._sampler.edit(edits, seeds_of(planned))
        finished = []
        for scene, request, photo in zip(planned, requests, edited, strict=True):
            picture = _labelled(request, photo, categories)
            objects = picture.objects
            if _is_layout_alone(scene):
                objects = objects.select(objects.id > 0)  # the background's were not asked for
            result = with_image(
                scene.with_objects(objects), picture.image, self._options.format, checkpoint
            )
            finished.append(Finished(result, picture.lost + _left_out(scene, request, categories)))
        return finished

    def _request(self, planned: Scene) -> Request:
        """Return the canvas of a planned scene and those of its objects that find a place there."""
        assert planned.provenance is not None
        seed = planned.provenance.seed
        if _is_layout_alone(planned):
            canvas = emptiest_background(self._photos.pixels, planned, seed)
            things = planned.objects.select(planned.objects.isthing & ~planned.objects.iscrowd)
            return Request(canvas, np.zeros(len(canvas.objects), np.int64), things, 0.0)
        index = self._photos.index_of[planned.provenance.source_image]
        scene, image = self._photos.pixels[index]
        mirror = is_mirrored(seed, self._flip)
        canvas = Canvas.of(scene, image, Frame.still(planned.size, mirror))
        # stuff takes no place: an object stands on grass and before the sky
        taken = canvas.objects.boxes[canvas.objects.isthing]
        new = placed(added_objects(planned), taken, planned.size, seed)
        return Request(canvas, planned_ids(canvas, planned), new, self._options.min_mask_area)


def _is_layout_alone(planned: Scene) -> bool:
    """Return whether a scene is a layout to be shown on any background, as scores ask for."""
    return planned.provenance is not None and planned.provenance.reason == PAIRED_SAMPLE


def placed(
    objects: Objects, taken: NDArray[np.float32], size: tuple[int, int], seed: int
) -> Objects:
    """Return the objects where they hardly cover others: as planned, else at a free place of the image.

    `taken` [N, 4] are the boxes that are there. Places are drawn from the seed; an object that finds none is left out.
    """
    height, width = size
    boxes, kept = objects.boxes.copy(), []
    for number in range(len(objects)):
        rng = rng_for(seed, "place", number)
        box = boxes[number]
        sides = np.minimum(box[2:] - box[:2], [width, height])
        for _ in range(PLACES):
            if largest_overlap(box, taken) <= MAX_OVERLAP:
                kept.append(number)
                boxes[number] = box
                taken = np.concatenate([taken, box[None]])
                break
            corner = rng.random(2) * (np.array([width, height]) - sides)
            box = np.concatenate([corner, corner + sides]).astype(np.float32)
    chosen = objects.select(kept)
    return Objects.build(
        chosen.category, boxes[kept], id=chosen.id, isthing=chosen.isthing, source=chosen.source
    )


def largest_overlap(box: NDArray[np.float32], others: NDArray[np.float32]) -> float:
    """Return the largest share of the smaller of two boxes that a box [4] and one of others [N, 4] have in common."""
    low = np.maximum(others[:, :2], box[:2])
    high = np.minimum(others[:, 2:], box[2:])
    common = (high - low).clip(0).prod(1)
    areas = (others[:, 2:] - others[:, :2]).prod(1)
    smaller = np.minimum(areas, (box[2:] - box[:2]).prod()).clip(1e-6)
    return float((common / smaller).max(initial=0.0))


def _edit(request: Request) -> Edit:
    from synthaug.generators.base import Edit, Photo

    objects = request.canvas.objects
    there = objects.select(objects.isthing & ~objects.iscrowd)
    photo = Photo(request.canvas.image, there.category.astype(np.int64), there.boxes)
    return Edit(photo, request.new.category.astype(np.int64), request.new.boxes)


def _labelled(request: Request, edited: EditedPhoto, categories: Sequence[Category]) -> Picture:
    """Return the edited photo with its labels: painted objects are in front of what was there."""
    new, canvas = request.new, request.canvas
    painted = resolve(edited.masks, new.boxes, new.isthing)
    hidden = painted.any(0)
    visible = np.concatenate([canvas.masks & ~hidden, painted])
    added = Added(painted.sum((1, 2)).astype(np.float64), np.ones(len(new), bool))
    ids = np.concatenate([request.ids, new.id])
    labels = Labels(ids, new.boxes, new.category.astype(np.int64), request.min_area)
    return with_labels(canvas, edited.image, visible, added, labels, MIN_VISIBLE, categories)


def _left_out(planned: Scene, request: Request, categories: Sequence[Category]) -> Counter[str]:
    """Count the planned objects per class that found no place."""
    if _is_layout_alone(planned):
        return Counter()
    asked = added_objects(planned)
    missing = ~np.isin(asked.id, request.new.id)
    return Counter(categories[c].name for c in asked.category[missing].tolist())
