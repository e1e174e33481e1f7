"""Conditioning on real images to be edited.

A planned layout's own image, and what becomes of places in it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, ClassVar, cast

import numpy as np

from synthaug.generators.copy_paste import Config as PasteConfig
from synthaug.generators.copy_paste import Cutout, Frame, compose, piece
from synthaug.pipeline.batches.draw import Draw
from synthaug.pipeline.batches.photos import HeldOut, photo_batches
from synthaug.pipeline.config.schema import Synthesize
from synthaug.pipeline.core.arrays import Bytes, Flags, Floats32, Ints
from synthaug.pipeline.core.boxes import Boxes, box_areas
from synthaug.pipeline.core.images import decode
from synthaug.pipeline.core.masks import tight_boxes
from synthaug.pipeline.core.scene import PAIRED_SAMPLE, Category, Dataset, Objects, Scene
from synthaug.pipeline.core.seeding import rng_for
from synthaug.pipeline.core.storage import Folder
from synthaug.pipeline.planning.edit_planner import USES, use_of
from synthaug.pipeline.planning.planner import ADDED, is_mirrored
from synthaug.pipeline.synthesis.base import (
    Finished,
    Synthesizer,
    seeds_of,
    shows_examples,
    with_image,
)
from synthaug.pipeline.synthesis.masks_from_levels import resolve
from synthaug.pipeline.synthesis.object_bank import Bank, lender_of, surest
from synthaug.pipeline.synthesis.pasting import (
    Added,
    Canvas,
    Labels,
    Picture,
    emptiest_background,
    planned_ids,
    with_labels,
)
from synthaug.pipeline.synthesis.real_images import (
    RealImageConditioning,
    pseudo_labelled_images,
    real_images,
)

if TYPE_CHECKING:
    import torch
    from torch import nn

    from synthaug.generators.base import (
        Edit,
        EditedPhoto,
        EditSampler,
        Example,
        Painting,
        PhotoBatch,
    )

MIN_VISIBLE = 0.1  # share of an object that must stay visible, or it loses its label
PAINTED = 0.5  # share of a pixel from which on it is painted over


class EditConditioning(RealImageConditioning):
    """Photos with their objects, of which the system learns to paint further ones."""

    uses: ClassVar[tuple[str, ...]] = USES

    def drawn_for(self, scene: Scene) -> Objects:
        """Return the things: no image is drawn for the sake of its stuff."""
        counted = super().drawn_for(scene)
        return counted.select(counted.isthing)

    def batches(
        self, tables: Sequence[Dataset], draw: Draw, rank: int, world: int
    ) -> Callable[[int], PhotoBatch]:
        """Return step -> photos with their objects, some of them held out."""
        flip = self.job.generator.training.flip
        return photo_batches(tables, draw, HeldOut(), flip, rank, world)

    def parts(self, network: nn.Module, device: torch.device | str, trained: Folder) -> EditParts:
        """Return what paints, with the images beside the checkpoint."""
        table, bare = real_images(trained)
        names = tuple(category.name for category in table.categories)
        options = replace(self.sampler_options(device), classes=names)
        sampler = cast("EditSampler", self.system.sampler(network, options))
        # images without an up, of which the system learned turned windows
        settings = vars(self.job.train_generator)
        turns = bool(settings.get("turns", False))
        config = PasteConfig(blends=("none",), turns=turns)
        bank = Bank.of(table, bare, config)
        examples: list[Bank] = []
        by_outline = replace(config, cut="auto")
        if shows_examples(self.job):
            examples.append(replace(bank, config=by_outline))
        if self.job.synthesize.examples == "all":
            further, further_bare = pseudo_labelled_images(trained)
            examples.append(Bank.of(further, further_bare, by_outline, surest(further_bare)))
        return EditParts(sampler, bank, tuple(examples))

    def synthesizer(
        self, network: nn.Module, device: torch.device | str, trained: Folder
    ) -> Synthesizer:
        """Return the synthesizer that paints into the images beside the checkpoint."""
        parts = self.parts(network, device, trained)
        plan = self.job.plan
        paint = partial(paint_with, parts.sampler)
        repaints = "redraw" in self.uses
        return EditSynthesizer(
            parts.bank, paint, self.job.synthesize, plan.flip, plan.uses, repaints, parts.examples
        )


@dataclass(frozen=True)
class EditParts:
    """What paints into photos, and the real objects and photos it is given."""

    sampler: EditSampler
    bank: Bank
    examples: tuple[Bank, ...]  # of real objects to paint after; () = it is shown none


@dataclass(frozen=True)
class Request:
    """A photo and what is asked of it."""

    canvas: Canvas  # without the objects that are erased
    ids: Ints  # [N] of the objects of the canvas
    redrawn: list[int]  # positions of those that are painted anew
    new: Objects  # P, to be added
    pieces: Flags | None  # [P, H, W] pixels of pasted ones; None = they are painted
    by_box: Flags  # [P] whether labels of pasted ones are boxes
    edit: Edit  # paintings of the redrawn, then of the new, then of background
    lost: Counter[str]  # planned objects per class that no real object could be pasted for
    min_area: float


# planned scenes and what is asked of their photos -> the photos with what was painted in them
Paint = Callable[[Sequence[Scene], Sequence[Request]], "list[EditedPhoto]"]


def paint_with(
    sampler: EditSampler, planned: Sequence[Scene], requests: Sequence[Request]
) -> list[EditedPhoto]:
    """Return photos painted by a system of edits."""
    edits = [request.edit for request in requests]
    return sampler.edit(edits, seeds_of(planned))


class EditSynthesizer:
    """Paints into real images what was planned; labels are what can be seen."""

    def __init__(
        self,
        bank: Bank,
        paint: Paint,
        options: Synthesize,
        flip: float,
        uses: Mapping[str, float],
        repaints: bool,
        examples: Sequence[Bank] = (),
    ) -> None:
        """Take what paints.

        `repaints` says whether it paints objects anew in their own photo, too: that is what scores
        ask of it. Else they ask for their layout on a background that shows little besides.
        `examples` hold the real objects that it is shown, one of its class for each one it paints;
        () = it is shown none.
        """
        self._examples = examples
        self._repaints = repaints
        self._bank = bank
        self._paint = paint
        self._options = options
        self._flip = flip  # probability by which the plan mirrored photos
        self._uses = uses  # use of an edit -> share of the images

    def __call__(
        self, planned: Sequence[Scene], categories: Sequence[Category], checkpoint: str
    ) -> list[Finished]:
        """Return the edited images with all objects, as far as they are visible."""
        requests = [self._request(scene, categories) for scene in planned]
        if self._examples:
            pairs = zip(requests, planned, strict=True)
            requests = [self._with_examples(request, scene) for request, scene in pairs]
        edited = self._paint(planned, requests)
        finished = []
        results = zip(planned, requests, edited, strict=True)
        for scene, request, photo in results:
            picture = labelled(request, photo, categories)
            objects = picture.objects
            if _is_paired_sample(scene):
                # what else the photo shows was not asked for, or not painted
                objects = objects.select((objects.id > 0) & objects.isthing & ~objects.iscrowd)
            result = with_image(
                scene.with_objects(objects), picture.image, self._options.format, checkpoint
            )
            finished.append(Finished(result, picture.lost + request.lost))
        return finished

    def _request(self, planned: Scene, categories: Sequence[Category]) -> Request:
        """Return the photo of a planned scene and what is to be painted in it."""
        assert planned.provenance is not None
        seed = planned.provenance.seed
        if _is_paired_sample(planned):
            if self._repaints:
                return repainting(planned, decode(planned))
            canvas = emptiest_background(self._bank.pixels, planned, seed)
            is_instance = planned.objects.isthing & ~planned.objects.iscrowd
            things = planned.objects.select(is_instance)
            no_ids = np.zeros(len(canvas.objects), np.int64)
            return insertion(canvas, no_ids, things)
        scene, image = self._bank.scene(planned.provenance.source_image)
        mirror = is_mirrored(seed, self._flip)
        frame = Frame.still(planned.size, mirror)
        canvas = Canvas.of(scene, image, frame)
        plan = Changes.of(canvas, planned)
        if use_of(seed, self._uses) == "ring":
            return self._pasted(canvas, plan, seed, categories)
        return request_for(canvas, plan, self._options.min_mask_area)

    def _with_examples(self, request: Request, planned: Scene) -> Request:
        """Show a real object of another image for each object to be painted."""
        assert planned.provenance is not None
        seed, own_image = planned.provenance.seed, planned.provenance.source_image
        paintings = []
        for number, painting in enumerate(request.edit.paintings):
            cutout = None
            if painting.shows == "object":
                rng = rng_for(seed, "example", number)
                cutout = draw_example(self._examples, painting, rng, own_image)
            if cutout is not None:
                painting = replace(painting, example=example_of(cutout))
            paintings.append(painting)
        return replace(request, edit=replace(request.edit, paintings=paintings))

    def _pasted(
        self, canvas: Canvas, plan: Changes, seed: int, categories: Sequence[Category]
    ) -> Request:
        """Paste a real object for each new one.

        What is left to paint is the seam around it.
        """
        pieces, found = [], []
        for number, (category, box) in enumerate(_pairs(plan.new)):
            rng = rng_for(seed, "piece", number)
            cutout = self._bank.draw(category, rng, like=box)
            if cutout is not None:
                place = centered(cutout, box, canvas.image.shape[:2])
                pieces.append(piece(cutout, place.tolist()))
                found.append(number)
        new = plan.new.select(found)
        nothing = canvas.masks[:0]
        image, visible = compose(canvas.image, nothing, pieces)
        by_box = np.array([pasted.by_box for pasted in pieces], bool)
        missing = np.delete(plan.new.category, found).tolist()
        lost = Counter(categories[c].name for c in missing)
        request = request_for(
            replace(canvas, image=image),
            replace(plan, new=new),
            self._options.min_mask_area,
            (visible, by_box),
        )
        return replace(request, lost=lost)


def draw_example(
    banks: Sequence[Bank], painting: Painting, rng: np.random.Generator, own_image: str
) -> Cutout | None:
    """Draw a real object of another image for one to be painted; None without."""
    bank = lender_of(banks, painting.category, rng)
    return bank.draw(
        painting.category,
        rng,
        like=painting.box,
        elsewhere=own_image,
        outline=painting.mask,
        outlined=True,
    )


def example_of(cutout: Cutout) -> Example:
    """Return a cutout without what is around its box.

    With its outline, where that is known.
    """
    from synthaug.generators.base import Example

    x0, y0, x1, y1 = cutout.box
    pixels = np.rint(cutout.pixels[y0:y1, x0:x1]).clip(0, 255)
    mask = cutout.core[y0:y1, x0:x1] if cutout.outlined else None
    return Example(pixels.astype(np.uint8), mask)


def centered(cutout: Cutout, box: Boxes, size: tuple[int, ...]) -> Floats32:
    """Return the box [4] of a cutout at its own size, centered on another one.

    It lies inside an image (H, W).
    """
    x0, y0, x1, y1 = cutout.box
    sides = np.array([x1 - x0, y1 - y0], np.float32)
    image_sides = np.array([size[1], size[0]], np.float32)
    last_corner = (image_sides - sides).clip(0)
    edges = box[:2] + box[2:]
    wanted = (edges - sides) / 2
    corner = np.rint(wanted.clip(0, last_corner))
    return np.concatenate([corner, corner + sides]).astype(np.float32)


def _is_paired_sample(planned: Scene) -> bool:
    """Return whether a scene is a validation image of which scores ask for a sample."""
    return planned.provenance is not None and planned.provenance.reason == PAIRED_SAMPLE


@dataclass(frozen=True)
class Changes:
    """What a plan changes in a photo with N objects, crowds included."""

    ids: Ints  # [N]
    redrawn: Flags  # [N]
    erased: Flags  # [N]
    new: Objects  # to be added
    empty: Objects  # places to be painted with background

    @staticmethod
    def of(canvas: Canvas, planned: Scene) -> Changes:
        """Read a plan, which begins with the photo's objects, in order, without crowds."""
        objects = planned.objects
        counted = ~canvas.objects.iscrowd  # [N]
        num_own = int(counted.sum())
        is_added = [source == ADDED for source in objects.source]
        edited = np.array(is_added, bool)
        redrawn, erased = np.zeros_like(counted), np.zeros_like(counted)
        own = objects.iscrowd[:num_own]
        redrawn[counted] = edited[:num_own] & ~own
        erased[counted] = edited[:num_own] & own
        is_further = np.arange(len(objects)) >= num_own
        new = objects.select(is_further & ~objects.iscrowd)
        empty = objects.select(is_further & objects.iscrowd)
        return Changes(planned_ids(canvas, planned), redrawn, erased, new, empty)


def repainting(scene: Scene, image: Bytes) -> Request:
    """Return the request to paint all things of a photo anew, each in its own box."""
    canvas = Canvas.of(scene, image, Frame.still(scene.size))
    things = scene.objects.isthing & ~scene.objects.iscrowd
    nothing = np.zeros_like(things)
    none = scene.objects.select([])
    return request_for(canvas, Changes(scene.objects.id, things, nothing, none, none), 0.0)


def insertion(canvas: Canvas, ids: Ints, new: Objects) -> Request:
    """Return the request to add objects to a canvas."""
    nothing = np.zeros(len(ids), bool)
    changes = Changes(ids, nothing, nothing, new, new.select([]))
    return request_for(canvas, changes, 0.0)


def request_for(
    canvas: Canvas, plan: Changes, min_area: float, pasted: tuple[Flags, Flags] | None = None
) -> Request:
    """Return the request for a plan.

    `pasted` has the masks [P, H, W] of new objects, and whether they are boxes.
    """
    from synthaug.generators.base import Edit, Painting, Photo

    objects = canvas.objects
    # stuff is no neighbour: an object stands on grass and before the sky
    told = np.flatnonzero(objects.isthing & ~objects.iscrowd)
    positions = told.tolist()
    place_of = {position: row for row, position in enumerate(positions)}
    categories, boxes = objects.category[told], objects.boxes[told]
    paintings: list[Painting] = []
    redrawn = _large_first(objects.boxes, plan.redrawn)
    for position in redrawn:
        label = int(objects.category[position])
        box = objects.boxes[position]
        mask = canvas.masks[position] if objects.rle[position] is not None else None
        paintings.append(Painting(label, box, replaces=place_of[position], mask=mask))
    masks, by_box = pasted or (None, np.zeros(len(plan.new), bool))
    if masks is None:
        paintings += [Painting(int(c), box) for c, box in _pairs(plan.new)]
    else:
        first = len(told)  # pasted objects are in the photo already
        categories = np.concatenate([categories, plan.new.category])
        boxes = np.concatenate([boxes, _tight(masks, plan.new)])
        for number, label in enumerate(plan.new.category.tolist()):
            mask = None if by_box[number] else masks[number]
            place = first + number
            seam = Painting(label, boxes[place], "seam", place, mask)
            paintings.append(seam)
    for position in np.flatnonzero(plan.erased).tolist():
        label = int(objects.category[position])
        box = objects.boxes[position]
        paintings.append(Painting(label, box, "background", place_of[position]))
    paintings += [Painting(int(c), box, "background") for c, box in _pairs(plan.empty)]

    labels = categories.astype(np.int64)
    photo = Photo(canvas.image, labels, boxes.astype(np.float32))
    stays = ~plan.erased
    kept = replace(
        canvas,
        objects=objects.select(stays),
        masks=canvas.masks[stays],
        area=canvas.area[stays],
    )
    place_among_kept = np.cumsum(stays) - 1
    edit = Edit(photo, paintings)
    return Request(
        kept,
        plan.ids[stays],
        place_among_kept[redrawn].tolist(),
        plan.new,
        masks,
        by_box,
        edit,
        Counter(),
        min_area,
    )


def _large_first(boxes: Boxes, chosen: Flags) -> list[int]:
    """Return the positions of the chosen of boxes [N, 4], the larger ones first.

    What is painted later is in front, and generators are told that smaller objects are.
    """
    positions = np.flatnonzero(chosen)
    areas = box_areas(boxes[positions])
    order = np.argsort(-areas, kind="stable")
    in_order: list[int] = positions[order].tolist()
    return in_order


def _pairs(objects: Objects) -> list[tuple[int, Floats32]]:
    """Return class and box of each object."""
    categories = objects.category.tolist()
    return list(zip(categories, objects.boxes, strict=True))


def _tight(masks: Flags, objects: Objects) -> Floats32:
    """Return the boxes [P, 4] of masks [P, H, W]; of an empty one that of its object."""
    some: Flags = np.asarray(masks.any((1, 2)))
    tight = tight_boxes(masks)
    boxes: Boxes = np.where(some[:, None], tight, objects.boxes)
    return boxes


def labelled(request: Request, edited: EditedPhoto, categories: Sequence[Category]) -> Picture:
    """Return the edited photo with its labels.

    Painted objects are in front of what was there.
    """
    new, redrawn = request.new, request.redrawn
    num_redrawn, num_new = len(redrawn), len(new)
    end = num_redrawn + num_new
    canvas, own_masks = _with_redrawn(request, edited.masks[:num_redrawn])
    if request.pieces is None:
        soft = edited.masks[num_redrawn:end]
        added = resolve(soft, new.boxes, new.isthing)
    else:
        added = request.pieces
    # where background was painted no thing is seen; the stuff there is that background
    background = (edited.masks[end:] >= PAINTED).any(0)
    covered = background & canvas.objects.isthing[:, None, None]
    hidden = covered | added.any(0)
    visible = np.concatenate([own_masks & ~hidden, added])
    pixels = added.sum((1, 2))
    area = pixels.astype(np.float64)
    labels = Labels(
        np.concatenate([request.ids, new.id]),
        new.boxes,
        new.category.astype(np.int64),
        request.min_area,
    )
    return with_labels(
        canvas,
        edited.image,
        visible,
        Added(area, ~request.by_box),
        labels,
        MIN_VISIBLE,
        categories,
    )


def _with_redrawn(request: Request, soft: Floats32) -> tuple[Canvas, Flags]:
    """Return the canvas with its redrawn objects, and all its masks [N, H, W].

    A redrawn object without a mask keeps its box, one with a mask gets that of what was painted.
    Both are synthetic then.
    """
    canvas, redrawn = request.canvas, request.redrawn
    if not redrawn:
        return canvas, canvas.masks
    objects = canvas.objects
    old = objects.select(redrawn)
    painted = resolve(soft, old.boxes, old.isthing)
    masks = canvas.masks.copy()
    area = canvas.area.copy()
    sources = list(objects.source)
    for position, mask in zip(redrawn, painted, strict=True):
        sources[position] = ADDED
        if objects.rle[position] is not None:
            masks &= ~mask
            masks[position] = mask
            area[position] = mask.sum()
    changed = replace(objects, source=tuple(sources))
    return replace(canvas, objects=changed, area=area), masks
