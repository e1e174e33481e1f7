"""Mask IoU with the nearest true masks (LostGAN-V2, section 3.1.4, Table 4): do a generator's masks look like true ones?

Each synthetic object's mask is cropped to its tight box and brought to 32 x 32; so is every true mask. The number is the IoU
with the most similar true mask of the same class, averaged over the objects of a class, then over the classes. Real masks of
validation images in place of the synthetic ones are the ceiling, whole boxes the floor. A high number says that a mask has a
shape that occurs, not that it fits its image.

Legend: N masks of an image, Q masks asked about, G true masks of a class.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from synthaug.pipeline.core import masks
from synthaug.pipeline.core.seeding import seed_for
from synthaug.pipeline.scores.base import (
    Arrays,
    ExtractFunction,
    Extractor,
    MetricInputs,
    TableImage,
    missing_input,
)
from synthaug.pipeline.scores.card import Metric, full_card, versions

PAPER_SIDE = 32  # pixels
CHUNK = 1024  # masks compared at once
FEW = 30  # masks of a class; with fewer its number is chance
LOOKED_AT = 8  # pairs, to see whether the masks are the layouts' own


@dataclass(frozen=True)
class Config:
    """How masks are compared, and with how many."""

    side: int = PAPER_SIDE  # masks are compared at side x side
    true_masks_max: int = 10_000  # per class, a fixed random draw
    samples_per_layout: int = 1  # synthetic images per validation layout
    classes: str = "things"  # things | all
    seed: int = 0  # of the draw

    def __post_init__(self) -> None:
        for name, least in (("side", 4), ("true_masks_max", 1), ("samples_per_layout", 1)):
            if getattr(self, name) < least:
                raise ValueError(f"{name}: {getattr(self, name)} is less than {least}")
        if self.classes not in ("things", "all"):
            raise ValueError(f"classes: '{self.classes}' is not one of things, all")


@dataclass(frozen=True)
class MaskShapeExtractor(Extractor):
    """Crops every object's mask to its tight box and brings it to one size; no pixel is decoded."""

    name: ClassVar[str] = "mask_shapes"
    side: int = PAPER_SIDE

    def extract_function(self, inputs: MetricInputs) -> ExtractFunction:
        """An observer of masks as bits."""

        def extract(images: Sequence[TableImage]) -> list[Arrays]:
            records: list[Arrays] = []
            for image in images:
                objects = image.scene.objects
                chosen = [
                    i
                    for i in range(len(objects))
                    if objects.rle[i] is not None and not objects.iscrowd[i]
                ]
                found = [
                    shape(
                        masks.decode(str(objects.rle[i]), (image.scene.height, image.scene.width)),
                        self.side,
                    )
                    for i in chosen
                ]
                kept = [
                    (i, mask) for i, mask in zip(chosen, found, strict=True) if mask is not None
                ]
                bits = (
                    np.stack([mask for _, mask in kept])
                    if kept
                    else np.zeros((0, self.side**2), bool)
                )
                labels = objects.category[[i for i, _ in kept]].astype(np.int64)
                records.append(
                    {
                        "bits": np.packbits(bits, axis=1),
                        "labels": labels,
                        "empty": np.array(len(chosen) - len(kept)),
                    }
                )
            return records

        return extract


def shape(mask: NDArray[np.bool_], side: int) -> NDArray[np.bool_] | None:
    """Return a mask [H, W] cropped to its tight box at side x side, flat [side * side]; None for an empty one.

    A pixel of the result is inside where at least half of what it covers is (area averaging; bilinear where it enlarges).
    """
    import cv2

    if not mask.any():
        return None
    rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
    tight = mask[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1].astype(np.float32)
    shrinks = tight.shape[0] >= side and tight.shape[1] >= side
    sized = cv2.resize(
        tight, (side, side), interpolation=cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR
    )
    return np.asarray(sized >= 0.5).reshape(-1)


def nearest_iou(asked: NDArray[np.bool_], true: NDArray[np.bool_]) -> NDArray[np.float64]:
    """Return for masks [Q, P] the IoU [Q] with the most similar of true masks [G, P], G at least 1."""
    best = np.zeros(len(asked))
    mine = asked.sum(1).astype(np.float32)
    wide = asked.astype(np.float32)
    for start in range(0, len(true), CHUNK):
        part = true[start : start + CHUNK].astype(np.float32)
        inter = wide @ part.T  # [Q, chunk], exact: whole numbers below 2^24
        union = mine[:, None] + part.sum(1)[None] - inter
        share = np.divide(
            inter.astype(np.float64), union, out=np.zeros(inter.shape), where=union > 0
        )
        best = np.maximum(best, share.max(1))
    return best


def extractors(config: Config) -> tuple[Extractor, ...]:
    """Masks of all three tables."""
    return (
        MaskShapeExtractor(
            ("train", "real", "synthetic"), config.samples_per_layout, side=config.side
        ),
    )


def available(inputs: MetricInputs, config: Config) -> str | None:  # noqa: ARG001 - every score is asked with its settings
    """It needs masks that the generator made, and true ones."""
    missing = missing_input(inputs) or missing_input(inputs, masks=("synthetic", _source(inputs)))
    if missing:
        return missing
    real, synthetic = inputs.tables["real"], inputs.tables["synthetic"]
    pairs = [i for i in range(len(synthetic)) if inputs.pairing.layout[i] >= 0][:LOOKED_AT]
    if pairs and all(
        synthetic[i].objects.rle == real[int(inputs.pairing.layout[i])].objects.rle for i in pairs
    ):
        return "the synthetic masks are those of the layouts themselves, so the generator has learnt none"
    return None


def _source(inputs: MetricInputs) -> str:
    """The table of true masks: the labelled images where they are there."""
    return "train" if "train" in inputs.tables and len(inputs.tables["train"]) else "real"


def score(inputs: MetricInputs, config: Config) -> Metric:
    """Return the mean IoU with the nearest true mask, per class and over the classes."""
    (extractor,) = extractors(config)
    classes = [
        c
        for c, category in enumerate(inputs.categories)
        if config.classes == "all" or category.isthing
    ]
    source = _source(inputs)
    true = gallery(inputs, extractor, source, config, classes)
    found, empty = _against(inputs, extractor, "synthetic", true, classes, config.side)
    parts = {"synthetic": found}
    if source == "train":
        parts["real"], _ = _against(inputs, extractor, "real", true, classes, config.side)
    box = np.ones((1, config.side**2), bool)
    floor = {
        c: np.full(len(found[c]), nearest_iou(box, true[c])[0]) if len(true[c]) else found[c]
        for c in classes
    }
    means = {name: _means(part) for name, part in {**parts, "box": floor}.items()}
    total = {name: _over(list(part.values())) for name, part in means.items()}
    few = [inputs.categories[c].name for c in classes if 0 < len(found[c]) < FEW]
    card = full_card(
        inputs,
        extractor,
        protocol="IoU of each synthetic mask with its nearest true mask of the same class; mean over objects, then classes",
        headline_key="miou",
        resize=f"tight box of the mask to {config.side}x{config.side}: area average (enlarging: bilinear), from 1/2 inside",
        masks={
            "synthetic": sum(map(len, found.values())),
            "true": sum(map(len, true.values())),
            "empty": empty,
        },
        true_masks=f"of the {source} images, at most {config.true_masks_max} per class, drawn with seed {config.seed}",
        comparability="LostGAN-V2's Table 4 asks about training layouts, whose own true masks are among the candidates; "
        "here the layouts are those of validation images, and the masks the visible parts of objects",
        ceiling="masks of the real validation images"
        if source == "train"
        else "none: no labelled images beside the real ones",
        floor="the whole box as mask, for the same objects",
        versions=versions("opencv-python-headless", "pycocotools", "numpy"),
        warnings=[f"fewer than {FEW} synthetic masks of {', '.join(few)}"] if few else [],
    )
    per_class = {
        inputs.categories[c].name: {
            "iou": means["synthetic"][c],
            "masks": len(found[c]),
            "true_masks": len(true[c]),
            "box_iou": means["box"][c],
            **({"real_iou": means["real"][c]} if "real" in means else {}),
        }
        for c in classes
    }
    controls = {name: {"miou": value} for name, value in total.items() if name != "synthetic"}
    return Metric(
        "mask_iou", total["synthetic"], {"miou": total["synthetic"]}, per_class, card, controls
    )


def gallery(
    inputs: MetricInputs, extractor: Extractor, table: str, config: Config, classes: Sequence[int]
) -> dict[int, NDArray[np.bool_]]:
    """Return the true masks [G, P] of each class; of more than the cap a draw by what they are, not by their order."""
    kept: dict[int, list[tuple[int, NDArray[np.uint8]]]] = {c: [] for c in classes}
    for record in inputs.extracted(extractor, table):
        for number, (bits, label) in enumerate(
            zip(record.arrays["bits"], record.arrays["labels"].tolist(), strict=True)
        ):
            if label in kept:
                kept[label].append(
                    (seed_for(config.seed, "mask_iou", record.index, number), bits.copy())
                )
    found = {}
    for c, entries in kept.items():
        chosen = [
            bits for _, bits in sorted(entries, key=lambda entry: entry[0])[: config.true_masks_max]
        ]
        found[c] = _bits(
            np.stack(chosen) if chosen else np.zeros((0, (config.side**2 + 7) // 8), np.uint8),
            config.side,
        )
    return found


def _bits(packed: NDArray[np.uint8], side: int) -> NDArray[np.bool_]:
    return np.unpackbits(packed, axis=1, count=side**2).astype(bool)


def _against(
    inputs: MetricInputs,
    extractor: Extractor,
    table: str,
    true: dict[int, NDArray[np.bool_]],
    classes: Sequence[int],
    side: int,
) -> tuple[dict[int, NDArray[np.float64]], int]:
    """Return the IoUs of a table's masks with their nearest true ones, by class, and how many masks were empty."""
    parts: dict[int, list[NDArray[np.float64]]] = {c: [np.zeros(0)] for c in classes}
    waiting: dict[int, list[NDArray[np.uint8]]] = {c: [] for c in classes}
    empty = 0

    def compare(c: int) -> None:
        if waiting[c] and len(true[c]):
            parts[c].append(nearest_iou(_bits(np.stack(waiting[c]), side), true[c]))
        waiting[c] = []

    for record in inputs.extracted(extractor, table):
        empty += int(record.arrays["empty"])
        for bits, label in zip(
            record.arrays["bits"], record.arrays["labels"].tolist(), strict=True
        ):
            if label in waiting:
                waiting[label].append(bits)
                if len(waiting[label]) == CHUNK:
                    compare(label)
    for c in classes:
        compare(c)
    return {c: np.concatenate(found) for c, found in parts.items()}, empty


def _means(found: dict[int, NDArray[np.float64]]) -> dict[int, float | None]:
    return {c: float(np.mean(shares)) if len(shares) else None for c, shares in found.items()}


def _over(numbers: Sequence[float | None]) -> float | None:
    known = [number for number in numbers if number is not None]
    return float(np.mean(known)) if known else None
