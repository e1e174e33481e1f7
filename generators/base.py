"""Conditions, samples and batches: the types that all generators share.

And what a sampler and a training are.

Legend: B images, O object slots per image, K label rows, H W pixels. Labels of layouts are
contiguous class indices + 1, because row 0 is the background and the padding, as in LostGAN. Boxes
are xyxy, normalised by the image size to [0, 1]. Maps have a class index per pixel, without a row
for the background: class k here is label k + 1 there.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, Protocol, Self, TypeVar, runtime_checkable

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

# lies outside the canvas, so a padded slot paints nothing; as in the published loader
PAD_BOX = (-0.6, -0.6, -0.1, -0.1)


@dataclass(frozen=True)
class Layouts:
    """A batch of layouts.

    `scores` is the confidence p_i of each object (LostGAN-V2 eq. 15), 1 for human labels.
    """

    labels: Tensor  # [B, O] int64, 0 = background or padding
    boxes: Tensor  # [B, O, 4] float32 xyxy in [0, 1]
    scores: Tensor  # [B, O] float32
    # [B, O, M, M] float32, 0 or 1: what each object fills of its box, for systems that are told of
    # it; NaN where it is not known
    masks: Tensor | None = None
    # [B, T, 3] int64: slot of the subject, relation, slot of the object; relation 0 is padding
    relations: Tensor | None = None

    def __post_init__(self) -> None:
        assert self.labels.ndim == 2
        assert self.boxes.shape == (*self.labels.shape, 4)
        assert self.scores.shape == self.labels.shape
        assert self.masks is None or self.masks.shape[:2] == self.labels.shape
        assert self.relations is None or len(self.relations) == len(self.labels)

    def __len__(self) -> int:
        return self.labels.shape[0]

    def to(self, device: torch.device | str) -> Layouts:
        """Return the same layouts on another device."""
        moved = [None if field is None else field.to(device) for field in self.fields()]
        return Layouts.of(moved)

    def fields(self) -> tuple[Tensor | None, ...]:
        """Return all tensors, in the order of the constructor."""
        return self.labels, self.boxes, self.scores, self.masks, self.relations

    @staticmethod
    def of(fields: Sequence[Tensor | None]) -> Layouts:
        """Return the layouts of what `fields` returns."""
        labels, boxes, scores, masks, relations = fields
        assert labels is not None
        assert boxes is not None
        assert scores is not None
        return Layouts(labels, boxes, scores, masks, relations)

    @staticmethod
    def collate(
        labels: Sequence[NDArray[np.int64]],
        boxes: Sequence[NDArray[np.float32]],
        scores: Sequence[NDArray[np.float32]],
        masks: Sequence[NDArray[np.float32]] | None = None,
        relations: Sequence[NDArray[np.int64]] | None = None,
    ) -> Layouts:
        """Pad the objects of images to the longest of the batch.

        Labels [n] (already + 1), boxes [n, 4], scores [n], masks [n, M, M] and relations [t, 3].
        """
        count = len(labels)
        slots = max(1, *(len(row) for row in labels))
        padded_labels = torch.zeros(count, slots, dtype=torch.int64)
        padded_boxes = torch.tensor(PAD_BOX).repeat(count, slots, 1)
        padded_scores = torch.zeros(count, slots)
        for i, (label, box, score) in enumerate(zip(labels, boxes, scores, strict=True)):
            n = len(label)
            own_labels = np.asarray(label, np.int64)
            own_boxes = np.asarray(box, np.float32).reshape(n, 4)
            own_scores = np.asarray(score, np.float32)
            padded_labels[i, :n] = torch.from_numpy(own_labels)
            padded_boxes[i, :n] = torch.from_numpy(own_boxes)
            padded_scores[i, :n] = torch.from_numpy(own_scores)
        padded_masks = None
        if masks is not None:
            padded_masks = torch.zeros(count, slots, *masks[0].shape[1:])
            for i, mask in enumerate(masks):
                padded_masks[i, : len(mask)] = torch.from_numpy(np.asarray(mask, np.float32))
        padded_relations = None
        if relations is not None:
            most = max(1, *(len(row) for row in relations))
            padded_relations = torch.zeros(count, most, 3, dtype=torch.int64)
            for i, rows in enumerate(relations):
                own = np.asarray(rows, np.int64).reshape(-1, 3)
                padded_relations[i, : len(own)] = torch.from_numpy(own)
        return Layouts(padded_labels, padded_boxes, padded_scores, padded_masks, padded_relations)


@dataclass(frozen=True)
class Maps:
    """A batch of panoptic maps: the class of every pixel, and the thing it belongs to."""

    labels: Tensor  # [B, H, W] int64 class indices 0 .. classes - 1; `classes` itself = don't care
    instances: Tensor  # [B, H, W] int64; only where two of them differ counts
    classes: int

    def __post_init__(self) -> None:
        assert self.labels.ndim == 3
        assert self.labels.shape == self.instances.shape
        assert self.labels.dtype == self.instances.dtype == torch.int64

    def __len__(self) -> int:
        return self.labels.shape[0]

    def to(self, device: torch.device | str) -> Maps:
        """Return the same maps on another device."""
        labels = self.labels.to(device)
        instances = self.instances.to(device)
        return Maps(labels, instances, self.classes)

    @staticmethod
    def collate(
        labels: Sequence[NDArray[np.int64]], instances: Sequence[NDArray[np.int64]], classes: int
    ) -> Maps:
        """Stack labels and instances [H, W] of images.

        ValueError names a label that is no class and not don't care.
        """
        label_maps = [np.asarray(row, np.int64) for row in labels]
        stacked_labels = torch.from_numpy(np.stack(label_maps))
        unknown = stacked_labels[(stacked_labels < 0) | (stacked_labels > classes)]
        if unknown.numel():
            raise ValueError(
                f"labels: {int(unknown[0])} is not a class index 0 to {classes - 1}, nor {classes} "
                "for don't care; map the labels of the data set to class indices first"
            )
        id_maps = [np.asarray(row, np.int64) for row in instances]
        stacked_ids = torch.from_numpy(np.stack(id_maps))
        return Maps(stacked_labels, stacked_ids, classes)


# position of an object in its photo -> its pixels [H, W]; None where no mask is known
MaskOf = Callable[[int], "NDArray[np.bool_] | None"]


@dataclass(frozen=True)
class Photo:
    """A real image and the objects in it."""

    image: NDArray[np.uint8]  # RGB [H, W, 3]
    categories: NDArray[np.int64]  # [N] class indices
    boxes: NDArray[np.float32]  # [N, 4] xyxy, pixels
    drawn_for: int = -1  # class for whose sake it is in a batch; -1 = for none
    mask_of: MaskOf | None = None  # None = no mask is known

    def __post_init__(self) -> None:
        assert self.image.ndim == 3 and self.image.dtype == np.uint8
        assert self.boxes.shape == (len(self.categories), 4)

    @property
    def size(self) -> tuple[int, int]:
        """The size (H, W) in pixels."""
        return self.image.shape[0], self.image.shape[1]


@dataclass(frozen=True)
class Example:
    """A real object that shows what is to be painted: the pixels of its box."""

    pixels: NDArray[np.uint8]  # RGB [h, w, 3]
    mask: NDArray[np.float32] | None  # [h, w] in [0, 1], where the object is; None = not known

    def __post_init__(self) -> None:
        assert self.pixels.ndim == 3 and self.pixels.dtype == np.uint8
        assert self.pixels.size > 0
        assert self.mask is None or self.mask.shape == self.pixels.shape[:2]


@runtime_checkable
class ToldOfExamples(Protocol):
    """The Config of a system of edits that may be shown real objects to paint after."""

    @property
    def examples(self) -> bool:
        """Whether it is."""
        ...


@dataclass(frozen=True)
class Painting:
    """One region of a photo to be painted."""

    category: int  # class of the object that the box is of
    box: NDArray[np.float32]  # [4] xyxy, pixels
    shows: Literal["object", "background", "seam"] = "object"  # seam: the edge of what is there
    replaces: int = -1  # object of the photo that is no longer there afterwards; -1 = none
    # [H, W] pixels of the object whose seam is painted, or that is replaced; None = its box
    mask: NDArray[np.bool_] | None = None
    example: Example | None = None  # of an object: a real one of the class

    def __post_init__(self) -> None:
        assert self.box.shape == (4,)


@dataclass(frozen=True)
class Edit:
    """A photo and the regions of it to be painted, in this order."""

    photo: Photo
    paintings: Sequence[Painting]  # M

    def seen_by(self, number: int, image: NDArray[np.uint8]) -> Photo:
        """Return the photo around painting `number`.

        `image`, without what it replaces, with objects painted before.
        """
        until_now = self.paintings[: number + 1]
        gone = [painting.replaces for painting in until_now]
        positions = np.arange(len(self.photo.categories))
        stays = ~np.isin(positions, gone)
        earlier = self.paintings[:number]
        before = [p for p in earlier if p.shows != "background"]
        painted = np.array([painting.category for painting in before], np.int64)
        painted_boxes = [painting.box for painting in before]
        boxes = np.array(painted_boxes, np.float32).reshape(-1, 4)
        return Photo(
            image,
            np.concatenate([self.photo.categories[stays], painted]),
            np.concatenate([self.photo.boxes[stays], boxes]),
        )


@dataclass(frozen=True)
class PhotoBatch:
    """Photos to learn from and, now and then, photos that tell how well it goes."""

    photos: Sequence[Photo]
    held_out: Sequence[Photo] = ()  # the same ones every time, never among `photos`

    def to(self, _device: torch.device | str) -> PhotoBatch:
        """Return the batch: a system that learns from photos moves what it cuts from them."""
        return self


@dataclass(frozen=True)
class Samples:
    """Images of a batch of conditions."""

    images: NDArray[np.uint8]  # [B, H, W, 3] RGB
    # of systems that infer them: soft mask of each object in [0, 1], float32 [B, O, H, W]; padded
    # slots are 0
    masks: NDArray[np.float32] | None = None
    # of systems that place the objects by themselves: float32 [B, O, 4] xyxy in [0, 1]
    boxes: NDArray[np.float32] | None = None


@dataclass(frozen=True)
class EditedPhoto:
    """A photo with what an edit asked for."""

    image: NDArray[np.uint8]  # RGB [H, W, 3]
    # [M, H, W] in [0, 1], of each painting: soft mask of an object, else the region that was
    # painted
    masks: NDArray[np.float32]


@dataclass(frozen=True)
class SamplerOptions:
    """Settings of a sampler; a system that has no use for one ignores it."""

    device: torch.device | str = "cpu"
    truncation: float = 2.0  # elements of latent codes beyond it are drawn again; 0 = none are
    precision: str = "float32"  # float32 | bfloat16 | auto: bfloat16 where the hardware has it
    compiled: bool = False  # by torch.compile
    classes: tuple[str, ...] = ()  # their names, for systems that are told them as words


AnyConditions_contra = TypeVar("AnyConditions_contra", contravariant=True)


class Sampler(Protocol[AnyConditions_contra]):
    """A generator ready to be sampled."""

    def sample(self, conditions: AnyConditions_contra, seeds: Sequence[int]) -> Samples:
        """Return one image per condition; it depends on its own condition and seed only."""
        ...


@runtime_checkable
class ToldOfMasks(Protocol):
    """The Config of a system for layouts that is told of true masks."""

    @property
    def learns_masks(self) -> int:
        """Side of the masks in their boxes; 0 = it is not told of them."""
        ...


@runtime_checkable
class ToldOfRelations(Protocol):
    """The Config of a system for layouts that may be told of named relations."""

    @property
    def relations(self) -> tuple[str, ...]:
        """Their names by their numbers in layouts, 0 being none of them.

        Empty = it is not told of any; RELATIONS_OF_DATA = of those that the labelled images have.
        """
        ...


RELATIONS_OF_DATA = ("data",)
IN_IMAGE = "__in_image__"  # the relation of every object to the whole image


class LayoutSampler(Sampler[Layouts], Protocol):
    """A sampler of images for layouts; its samples have masks."""

    @property
    def size(self) -> tuple[int, int]:
        """(H, W) of the images."""
        ...


class MapSampler(Sampler[Maps], Protocol):
    """A sampler of images for maps."""

    @property
    def size(self) -> tuple[int, int]:
        """(H, W) of the images, and of the maps it takes."""
        ...

    @property
    def num_classes(self) -> int:
        """Classes of the maps it takes."""
        ...


class EditSampler(Sampler[Sequence[Edit]], Protocol):
    """A sampler that paints into photos."""

    def edit(self, edits: Sequence[Edit], seeds: Sequence[int]) -> list[EditedPhoto]:
        """Return photos of any sizes with their regions painted.

        `sample` is for those of one size.
        """
        ...


@runtime_checkable
class Drafts(Protocol):
    """A sampler of photos that can also paint faster and more roughly."""

    def draft(self) -> EditSampler:
        """Return the sampler that does."""
        ...


@dataclass(frozen=True)
class TrainingBatch:
    """Real images with their layouts."""

    images: Tensor  # [B, 3, H, W] float32 in [-1, 1]
    layouts: Layouts

    def to(self, device: torch.device | str) -> TrainingBatch:
        """Return the same batch on another device."""
        images = self.images.to(device)
        layouts = self.layouts.to(device)
        return TrainingBatch(images, layouts)

    def num_objects(self) -> Tensor:
        """Return the number of objects of all images, int64 scalar."""
        return (self.layouts.labels > 0).sum()

    def parts(self, count: int) -> list[TrainingBatch]:
        """Cut into `count` batches of equally many images, in order.

        Padding and memory stay shared.

        Raises ValueError when the images cannot be cut so.
        """
        fields = self.layouts.fields()
        there = [field for field in fields if field is not None]
        batches = []
        for images, *pieces in _cut(count, self.images, *there):
            left = iter(pieces)
            of_part = [None if field is None else next(left) for field in fields]
            batches.append(TrainingBatch(images, Layouts.of(of_part)))
        return batches


@dataclass(frozen=True)
class MapBatch:
    """Real images with their maps."""

    images: Tensor  # [B, 3, H, W] float32 in [-1, 1]
    maps: Maps
    weights: Tensor | None = None  # [B, H, W] float32: confidence of each pixel's label; None = 1
    # [B] int64: number of each image among the labelled ones, then the pseudo-labelled ones, for
    # systems that remember images (Remembers)
    sources: Tensor | None = None

    def to(self, device: torch.device | str) -> MapBatch:
        """Return the same batch on another device."""
        weights = self.weights
        if weights is not None:
            weights = weights.to(device)
        images = self.images.to(device)
        maps = self.maps.to(device)
        return MapBatch(images, maps, weights, self.sources)

    def num_objects(self) -> Tensor:
        """Return the number of images, int64 scalar.

        Losses of maps have no term per object.
        """
        return self.maps.labels.new_tensor(len(self.maps))

    def parts(self, count: int) -> list[MapBatch]:
        """Cut into `count` batches of equally many images, in order.

        ValueError when they cannot be cut so.
        """
        fields = (self.images, self.maps.labels, self.maps.instances, self.weights, self.sources)
        there = [field for field in fields if field is not None]
        batches = []
        for pieces in _cut(count, *there):
            left = iter(pieces)
            of_part = [None if field is None else next(left) for field in fields]
            images, labels, instances, weights, sources = of_part
            assert images is not None
            assert labels is not None
            assert instances is not None
            maps = Maps(labels, instances, self.maps.classes)
            batches.append(MapBatch(images, maps, weights, sources))
        return batches


def _cut(count: int, *fields: Tensor) -> list[tuple[Tensor, ...]]:
    """Cut tensors that have a row per image into `count` parts of equally many."""
    size, rest = divmod(len(fields[0]), count)
    if rest or not size:
        raise ValueError(
            f"a batch of {len(fields[0])} images cannot be cut into {count} equal parts; choose a "
            "number that divides it"
        )
    pieces = [torch.split(field, size) for field in fields]
    return list(zip(*pieces, strict=True))


class TrainingInput(Protocol):
    """A batch of any system, as far as the pipeline must know it."""

    def to(self, device: torch.device | str) -> Self:
        """Return the same batch on another device."""
        ...


class Batch(TrainingInput, Protocol):
    """Real images with their conditions.

    As far as the adversarial training must know them.
    """

    @property
    def images(self) -> Tensor:
        """Real images [B, 3, H, W]."""
        ...

    def num_objects(self) -> Tensor:
        """Return the number of objects that means are taken over, int64 scalar."""
        ...

    def parts(self, count: int) -> Sequence[Self]:
        """Cut into `count` batches of equally many images.

        ValueError when the images cannot be cut so.
        """
        ...


AnyBatch = TypeVar("AnyBatch", bound=Batch)
AnyBatch_contra = TypeVar("AnyBatch_contra", bound=TrainingInput, contravariant=True)


class Training(Protocol[AnyBatch_contra]):
    """A system being trained.

    The caller owns the data, the loop, the checkpoints and the resume.

    Everything that changes from step to step is in `modules` and `optimizers`; all randomness
    derives from the seed and the step index, so a training restored from these at step k continues
    bit for bit.
    """

    @property
    def modules(self) -> Mapping[str, nn.Module]:
        """Networks, by name."""
        ...

    @property
    def optimizers(self) -> Mapping[str, torch.optim.Optimizer]:
        """Optimisers, by name."""
        ...

    def step(self, index: int, batch: AnyBatch_contra) -> Mapping[str, Tensor]:
        """Do optimiser step `index` (0-based) on a batch.

        Return named losses, detached scalars.

        In a process group (torch.distributed) the batch is this process's part, and all come out
        with the same weights.
        """
        ...

    def generator(self) -> nn.Module:
        """Return the network to sample from, as `build` returns it."""
        ...


@runtime_checkable
class Remembers(Protocol):
    """A training whose network keeps parts of the labelled images themselves."""

    def remember(self, batches: Iterable[MapBatch]) -> None:
        """Take in all labelled images, in order, before the first step.

        A training that goes on from a checkpoint is given the same ones again.
        """
        ...
