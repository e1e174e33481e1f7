"""Mask IoU with the nearest true masks: do a generator's masks look true?

LostGAN-V2, section 3.1.4, Table 4. Each synthetic object's mask is cropped to its tight box and
brought to 32 x 32; so is every true mask. The number is the IoU with the most similar true mask of
the same class, averaged over the objects of a class, then over the classes. Real masks of
validation images in place of the synthetic ones are the ceiling, whole boxes the floor. A high
number says that a mask has a shape that occurs, not that it fits its image.

Legend: N masks of an image, Q masks asked about, G true masks of a class.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from synthaug.pipeline.core import masks
from synthaug.pipeline.core.scene import Scene
from synthaug.pipeline.core.seeding import seed_for
from synthaug.pipeline.scores.base import (
    Arrays,
    ExtractFunction,
    Extractor,
    MetricInputs,
    Record,
    TableImage,
    missing_input,
)
from synthaug.pipeline.scores.card import Metric, full_card, versions

PAPER_SIDE = 32  # pixels
CHUNK = 1024  # masks compared at once
FEW = 30  # masks of a class; with fewer its number is chance
COMPARED = 8  # pairs, to tell whether the masks are the layouts' own


@dataclass(frozen=True)
class Config:
    """Size and number of the masks that are compared."""

    side: int = PAPER_SIDE  # masks are compared at side x side
    true_masks_max: int = 10_000  # per class, a fixed random draw
    samples_per_layout: int = 1  # synthetic images per validation layout
    classes: str = "things"  # things | all
    seed: int = 0  # of the draw

    def __post_init__(self) -> None:
        for name, least in (("side", 4), ("true_masks_max", 1), ("samples_per_layout", 1)):
            value = getattr(self, name)
            if value < least:
                raise ValueError(f"{name}: {value} is less than {least}")
        if self.classes not in ("things", "all"):
            raise ValueError(f"classes: '{self.classes}' is not one of things, all")


@dataclass(frozen=True)
class MaskShapeExtractor(Extractor):
    """The shape of every object's mask, cropped to its tight box, at one size.

    No pixel is decoded.
    """

    name: ClassVar[str] = "mask_shapes"
    side: int = PAPER_SIDE

    def extract_function(self, inputs: MetricInputs) -> ExtractFunction:
        """See the base class."""

        def extract(images: Sequence[TableImage]) -> list[Arrays]:
            return [shapes_of(image.scene, self.side) for image in images]

        return extract


def shapes_of(scene: Scene, side: int) -> Arrays:
    """Return the shapes of a scene's masks as bits, with labels; and empty ones.

    The latter are counted; crowds are left out.
    """
    objects = scene.objects
    shapes, labels = [], []
    num_empty = 0
    for i, rle in enumerate(objects.rle):
        if rle is None or objects.iscrowd[i]:
            continue
        flat = shape(masks.decode(rle, scene.size), side)
        if flat is None:
            num_empty += 1
            continue
        shapes.append(flat)
        labels.append(int(objects.category[i]))
    bits = np.array(shapes, bool).reshape(len(shapes), side**2)
    return {
        "bits": np.packbits(bits, axis=1),
        "labels": np.array(labels, np.int64),
        "empty": np.array(num_empty),
    }


def shape(mask: NDArray[np.bool_], side: int) -> NDArray[np.bool_] | None:
    """Return a mask [H, W] cropped to its tight box, flat [side * side].

    None for an empty one. A pixel of the result is inside where at least half of what it covers is
    (area averaging; bilinear where it enlarges).
    """
    import cv2

    if not mask.any():
        return None
    rows = np.flatnonzero(mask.any(1))
    columns = np.flatnonzero(mask.any(0))
    tight = mask[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1].astype(np.float32)
    interpolation = cv2.INTER_LINEAR
    if min(tight.shape) >= side:
        interpolation = cv2.INTER_AREA
    resized = cv2.resize(tight, (side, side), interpolation=interpolation)
    return np.asarray(resized >= 0.5).reshape(-1)


def nearest_iou(queries: NDArray[np.bool_], true: NDArray[np.bool_]) -> NDArray[np.float64]:
    """Return for masks [Q, P] the IoU [Q] with the most similar true mask.

    True masks are [G, P], G at least 1.
    """
    best = np.zeros(len(queries))
    query_areas = queries.sum(1).astype(np.float32)[:, None]  # [Q, 1]
    wide = queries.astype(np.float32)
    for start in range(0, len(true), CHUNK):
        part = true[start : start + CHUNK].astype(np.float32)
        inter = wide @ part.T  # [Q, chunk], exact: integers below 2^24
        union = query_areas + part.sum(1)[None] - inter
        iou = np.zeros(inter.shape)
        np.divide(inter.astype(np.float64), union, out=iou, where=union > 0)
        best = np.maximum(best, iou.max(1))
    return best


def extractors(config: Config) -> tuple[Extractor, ...]:
    """Return the extractor of mask shapes from all three tables."""
    tables = ("train", "real", "synthetic")
    return (MaskShapeExtractor(tables, config.samples_per_layout, side=config.side),)


def available(inputs: MetricInputs, _: Config) -> str | None:
    """Return None where there are masks that the generator made, and true ones."""
    missing = missing_input(inputs)
    if missing:
        return missing
    missing = missing_input(inputs, masks=("synthetic", _source(inputs)))
    if missing:
        return missing
    if _masks_are_the_layouts(inputs):
        return (
            "the synthetic masks are those of the layouts themselves, so the generator has learnt "
            "none"
        )
    return None


def _masks_are_the_layouts(inputs: MetricInputs) -> bool:
    """Return whether the masks are those of the layouts.

    The first synthetic images all have the masks of the real images whose layouts they show.
    """
    real, synthetic = inputs.tables["real"], inputs.tables["synthetic"]
    layout = inputs.pairing.layout
    paired = np.flatnonzero(layout >= 0)[:COMPARED]
    equal = []
    for index in paired.tolist():
        own, asked_for = synthetic[index].objects, real[int(layout[index])].objects
        equal.append(own.rle == asked_for.rle)
    return bool(equal) and all(equal)


def _source(inputs: MetricInputs) -> str:
    """Return the table of true masks: the labelled images where they are there."""
    if "train" in inputs.tables and len(inputs.tables["train"]):
        return "train"
    return "real"


def score(inputs: MetricInputs, config: Config) -> Metric:
    """Return the mean IoU with the nearest true mask, per class and over the classes."""
    (extractor,) = extractors(config)
    categories = inputs.categories
    classes = list(range(len(categories)))
    if config.classes == "things":
        classes = [c for c in classes if categories[c].isthing]
    source = _source(inputs)
    true = true_masks(inputs, extractor, source, config, classes)
    synthetic, num_empty = _ious(inputs, extractor, "synthetic", true, config.side)
    means = {"synthetic": _class_means(synthetic)}
    ceiling = "none: no labelled images beside the real ones"
    if source == "train":
        real, _ = _ious(inputs, extractor, "real", true, config.side)
        means["real"] = _class_means(real)
        ceiling = "masks of the real validation images"
    means["box"] = _class_means(_box_ious(synthetic, true, config.side))
    total = {name: _known_mean(list(of_class.values())) for name, of_class in means.items()}

    warnings = []
    few = [categories[c].name for c in classes if 0 < len(synthetic[c]) < FEW]
    if few:
        warnings.append(f"fewer than {FEW} synthetic masks of {', '.join(few)}")
    num_masks = {
        "synthetic": sum(len(ious) for ious in synthetic.values()),
        "true": sum(len(bits) for bits in true.values()),
        "empty": num_empty,
    }
    card = full_card(
        inputs,
        extractor,
        protocol="IoU of each synthetic mask with its nearest true mask of the same class; mean "
        "over objects, then classes",
        headline_key="miou",
        resize=f"tight box of the mask to {config.side}x{config.side}: area average (enlarging: "
        "bilinear), from 1/2 inside",
        masks=num_masks,
        true_masks=f"of the {source} images, at most {config.true_masks_max} per class, drawn with "
        f"seed {config.seed}",
        comparability="LostGAN-V2's Table 4 asks about training layouts, whose own true masks are "
        "among the candidates; "
        "here the layouts are those of validation images, and the masks the visible parts of "
        "objects",
        ceiling=ceiling,
        floor="the whole box as mask, for the same objects",
        versions=versions("opencv-python-headless", "pycocotools", "numpy"),
        warnings=warnings,
    )
    per_class: dict[str, dict[str, float | None]] = {}
    for c in classes:
        numbers: dict[str, float | None] = {
            "iou": means["synthetic"][c],
            "masks": len(synthetic[c]),
            "true_masks": len(true[c]),
            "box_iou": means["box"][c],
        }
        if "real" in means:
            numbers["real_iou"] = means["real"][c]
        per_class[categories[c].name] = numbers
    value = total.pop("synthetic")
    controls = {name: {"miou": mean} for name, mean in total.items()}
    return Metric("mask_iou", value, {"miou": value}, per_class, card, controls)


def true_masks(
    inputs: MetricInputs, extractor: Extractor, table: str, config: Config, classes: Sequence[int]
) -> dict[int, NDArray[np.bool_]]:
    """Return the true masks [G, P] of each class.

    Of more than the cap a draw by identity, not by order.
    """
    ranked: dict[int, list[tuple[int, NDArray[np.uint8]]]] = {c: [] for c in classes}
    for record in inputs.extracted(extractor, table):
        for number, (bits, label) in enumerate(_masks(record)):
            if label in ranked:
                rank = seed_for(config.seed, "mask_iou", record.index, number)
                ranked[label].append((rank, bits.copy()))
    true = {}
    for c, entries in ranked.items():
        entries.sort(key=lambda entry: entry[0])
        drawn = [bits for _, bits in entries[: config.true_masks_max]]
        true[c] = _unpack(drawn, config.side)
    return true


def _masks(record: Record) -> Iterator[tuple[NDArray[np.uint8], int]]:
    """Yield the packed bits and the label of each mask of an image."""
    yield from zip(record.arrays["bits"], record.arrays["labels"].tolist(), strict=True)


def _unpack(packed: Sequence[NDArray[np.uint8]], side: int) -> NDArray[np.bool_]:
    """Return packed masks as [N, side * side]."""
    rows = np.zeros((0, (side**2 + 7) // 8), np.uint8)
    if packed:
        rows = np.stack(packed)
    return np.unpackbits(rows, axis=1, count=side**2).astype(bool)


def _ious(
    inputs: MetricInputs,
    extractor: Extractor,
    table: str,
    true: dict[int, NDArray[np.bool_]],
    side: int,
) -> tuple[dict[int, NDArray[np.float64]], int]:
    """Return the IoUs of a table's masks, by class, and the number of empty masks.

    With their nearest true masks.
    """
    parts: dict[int, list[NDArray[np.float64]]] = {c: [np.zeros(0)] for c in true}
    pending: dict[int, list[NDArray[np.uint8]]] = {c: [] for c in true}

    def compare(c: int) -> None:
        if pending[c] and len(true[c]):
            parts[c].append(nearest_iou(_unpack(pending[c], side), true[c]))
        pending[c] = []

    num_empty = 0
    for record in inputs.extracted(extractor, table):
        num_empty += int(record.arrays["empty"])
        for bits, label in _masks(record):
            if label not in pending:
                continue
            pending[label].append(bits)
            if len(pending[label]) == CHUNK:
                compare(label)
    for c in true:
        compare(c)
    return {c: np.concatenate(ious) for c, ious in parts.items()}, num_empty


def _box_ious(
    synthetic: dict[int, NDArray[np.float64]], true: dict[int, NDArray[np.bool_]], side: int
) -> dict[int, NDArray[np.float64]]:
    """Return the IoU of the whole box with its nearest true mask.

    Once for each synthetic mask of a class.
    """
    box = np.ones((1, side**2), bool)
    ious = {}
    for c, of_masks in synthetic.items():
        ious[c] = of_masks
        if len(true[c]):
            ious[c] = np.full(len(of_masks), nearest_iou(box, true[c])[0])
    return ious


def _class_means(ious: dict[int, NDArray[np.float64]]) -> dict[int, float | None]:
    means: dict[int, float | None] = {}
    for c, of_class in ious.items():
        means[c] = float(np.mean(of_class)) if len(of_class) else None
    return means


def _known_mean(numbers: Sequence[float | None]) -> float | None:
    known = [number for number in numbers if number is not None]
    if not known:
        return None
    return float(np.mean(known))
