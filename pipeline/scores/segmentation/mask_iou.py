"""Mask IoU with the nearest true masks: do a generator's masks look true?

LostGAN-V2, section 3.1.4, Table 4. Each synthetic object's mask is cropped to its tight box and
brought to 32 x 32; so is every true mask. The number is the IoU with the most similar true mask of
the same class, averaged over the objects of a class, then over the classes. Real masks of
validation images in place of the synthetic ones are the ceiling, whole boxes the floor. A high
number says that a mask has a shape that occurs, not that it fits its image.

The paper asks about the training layouts: `score.layouts: labelled` in a job. Its Fig. 8 is the
picture, `mask_iou.png`: the mask of median IoU of some classes, and the ten true masks most like
it.

Legend: N masks of an image, Q masks asked about, G true masks of a class.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, ClassVar

import numpy as np

from synthaug.pipeline.core import masks
from synthaug.pipeline.core.arrays import Bytes, Flags, Floats
from synthaug.pipeline.core.json_values import Json
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
from synthaug.pipeline.scores.card import (
    Metric,
    comparability,
    deviations,
    full_card,
    versions,
)
from synthaug.pipeline.scores.segmentation.mask_sheet import MaskRow, mask_sheet
from synthaug.ranges import at_least

PAPER_SIDE = 32  # pixels
CHUNK = 1024  # masks compared at once
FEW = 30  # masks of a class; with fewer its number is chance
COMPARED = 8  # pairs, to tell whether the masks are the layouts' own
EXAMPLES = 8  # classes in the picture, those with most synthetic masks
NEAREST = 10  # true masks beside each
PICTURE = "mask_iou.png"


@dataclass(frozen=True)
class Config:
    """Size and number of the masks that are compared."""

    side: int = PAPER_SIDE  # masks are compared at side x side
    true_masks_max: int = 10_000  # per class, a fixed random draw; 0 = all, as in the paper
    samples_per_layout: int = 1  # synthetic images per validation layout
    classes: str = "things"  # things | all
    seed: int = 0  # of the draw

    def __post_init__(self) -> None:
        at_least(4, self, "side")
        at_least(0, self, "true_masks_max")
        at_least(1, self, "samples_per_layout")
        if self.classes not in ("things", "all"):
            raise ValueError(f"classes: '{self.classes}' is not one of things, all")


# LostGAN-V2, section 3.1.4 and Table 4: one image of each training layout
PUBLISHED = Config(true_masks_max=0)
UNSTATED = ("classes", "seed")


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
    shapes = []
    labels = []
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


def shape(mask: Flags, side: int) -> Flags | None:
    """Return a mask [H, W] cropped to its tight box, flat [side * side].

    None for an empty one. A pixel of the result is inside where at least half of what it covers is
    (area averaging; bilinear where it enlarges).
    """
    import cv2

    if not mask.any():
        return None
    rows = np.flatnonzero(mask.any(1))
    columns = np.flatnonzero(mask.any(0))
    top = rows[0]
    bottom = rows[-1] + 1
    left = columns[0]
    right = columns[-1] + 1
    tight = mask[top:bottom, left:right].astype(np.float32)
    interpolation = cv2.INTER_LINEAR
    if min(tight.shape) >= side:
        interpolation = cv2.INTER_AREA
    resized = cv2.resize(tight, (side, side), interpolation=interpolation)
    return np.asarray(resized >= 0.5).reshape(-1)


def nearest_iou(queries: Flags, true: Flags) -> Floats:
    """Return for masks [Q, P] the IoU [Q] with the most similar true mask.

    True masks are [G, P], G at least 1.
    """
    best = np.zeros(len(queries))
    for start in range(0, len(true), CHUNK):
        best = np.maximum(best, mask_ious(queries, true[start : start + CHUNK]).max(1))
    return best


def mask_ious(queries: Flags, true: Flags) -> Floats:
    """Return the IoU [Q, G] of masks [Q, P] with true ones [G, P]."""
    wide = queries.astype(np.float32)
    true_wide = true.astype(np.float32)
    inter = wide @ true_wide.T  # [Q, G], exact: integers below 2^24
    union = wide.sum(1)[:, None] + true_wide.sum(1)[None] - inter
    iou = np.zeros(inter.shape)
    np.divide(inter.astype(np.float64), union, out=iou, where=union > 0)
    return iou


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
    real = inputs.tables["real"]
    synthetic = inputs.tables["synthetic"]
    layout = inputs.pairing.layout
    paired = np.flatnonzero(layout >= 0)[:COMPARED]
    equal = []
    for index in paired.tolist():
        own = synthetic[index].objects
        asked_for = real[int(layout[index])].objects
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
    classes = _classes(inputs, config)
    source = _source(inputs)
    true = true_masks(inputs, extractor, source, config, classes)
    found = _nearest(inputs, extractor, "synthetic", true, config.side)
    synthetic = found.ious
    means = {"synthetic": _class_means(synthetic)}
    own_layouts = _asks_about_training_layouts(inputs)
    ceiling = "none: no labelled images beside the real ones"
    if own_layouts:
        ceiling = "none: the real masks are the true ones themselves"
    elif source == "train":
        means["real"] = _class_means(_nearest(inputs, extractor, "real", true, config.side).ious)
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
        "empty": found.num_empty,
    }
    differences = deviations("mask_iou", config, PUBLISHED, UNSTATED)
    if not own_layouts:
        differences.append("layouts of validation images instead of training ones")
    differences.append("masks are the visible parts of objects")
    most = "all"
    if config.true_masks_max:
        most = f"at most {config.true_masks_max} per class, drawn with seed {config.seed}"
    card = full_card(
        inputs,
        extractor,
        protocol="IoU of each synthetic mask with its nearest true mask of the same class; mean "
        "over objects, then classes",
        headline_key="miou",
        resize=f"tight box of the mask to {config.side}x{config.side}: area average (enlarging: "
        "bilinear), from 1/2 inside",
        masks=num_masks,
        true_masks=f"of the {source} images, {most}",
        comparability=comparability(differences, "LostGAN-V2's Table 4"),
        ceiling=ceiling,
        floor="the whole box as mask, for the same objects",
        versions=versions("opencv-python-headless", "pycocotools", "numpy"),
        settings=asdict(config),
        examples=_examples(found),
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


def _classes(inputs: MetricInputs, config: Config) -> list[int]:
    """Return the classes whose masks are asked about."""
    classes = list(range(len(inputs.categories)))
    if config.classes == "things":
        return [c for c in classes if inputs.categories[c].isthing]
    return classes


def _asks_about_training_layouts(inputs: MetricInputs) -> bool:
    """Return whether the layouts are those of the images with the true masks."""
    tables = inputs.tables
    return "train" in tables and tables["train"].fingerprint() == tables["real"].fingerprint()


def pictures(inputs: MetricInputs, metric: Mapping[str, Any]) -> dict[str, bytes]:
    """Return the sheet of examples of a metric (Fig. 8), which is given as JSON."""
    examples = metric["card"]["examples"]
    config = Config(**metric["card"]["settings"])
    (extractor,) = extractors(config)
    asked = {(example["image"], example["mask"]): example for example in examples}
    of_class = {c: category.name for c, category in enumerate(inputs.categories)}
    classes = sorted({example["label"] for example in examples})
    true = true_masks(inputs, extractor, _source(inputs), config, classes)
    rows = []
    for record in inputs.extracted(extractor, "synthetic"):
        for number, (bits, label) in enumerate(_masks(record)):
            if (record.index, number) in asked:
                mask = _unpack([bits], config.side)
                ious = mask_ious(mask, true[label])[0]
                order = np.argsort(-ious, kind="stable")
                nearest = order[:NEAREST]
                name = of_class[label]
                row = MaskRow(name, mask[0], true[label][nearest], ious[nearest])
                rows.append(row)
    if not rows:
        return {}
    return {PICTURE: mask_sheet(rows, config.side)}


def true_masks(
    inputs: MetricInputs, extractor: Extractor, table: str, config: Config, classes: Sequence[int]
) -> dict[int, Flags]:
    """Return the true masks [G, P] of each class.

    Of more than the cap a draw by identity, not by order.
    """
    ranked: dict[int, list[tuple[int, Bytes]]] = {c: [] for c in classes}
    for record in inputs.extracted(extractor, table):
        for number, (bits, label) in enumerate(_masks(record)):
            if label in ranked:
                rank = seed_for(config.seed, "mask_iou", record.index, number)
                ranked[label].append((rank, bits.copy()))
    true = {}
    for c, entries in ranked.items():
        entries.sort(key=lambda entry: entry[0])
        drawn = [bits for _, bits in entries[: config.true_masks_max or None]]
        true[c] = _unpack(drawn, config.side)
    return true


def _masks(record: Record) -> Iterator[tuple[Bytes, int]]:
    """Yield the packed bits and the label of each mask of an image."""
    yield from zip(record.arrays["bits"], record.arrays["labels"].tolist(), strict=True)


def _unpack(packed: Sequence[Bytes], side: int) -> Flags:
    """Return packed masks as [N, side * side]."""
    rows = np.zeros((0, (side**2 + 7) // 8), np.uint8)
    if packed:
        rows = np.stack(packed)
    return np.unpackbits(rows, axis=1, count=side**2).astype(bool)


@dataclass(frozen=True)
class NearestMasks:
    """The IoUs of a table's masks with their nearest true ones, by class."""

    ious: dict[int, Floats]  # [N]
    places: dict[int, list[tuple[int, int]]]  # [N] index of the image, number of the mask in it
    num_empty: int  # masks without a pixel


def _nearest(
    inputs: MetricInputs,
    extractor: Extractor,
    table: str,
    true: dict[int, Flags],
    side: int,
) -> NearestMasks:
    """Compare each mask of a table with the true ones of its class; in flat memory."""
    parts: dict[int, list[Floats]] = {c: [np.zeros(0)] for c in true}
    places: dict[int, list[tuple[int, int]]] = {c: [] for c in true}
    pending: dict[int, list[Bytes]] = {c: [] for c in true}

    def compare(c: int) -> None:
        if pending[c]:
            parts[c].append(nearest_iou(_unpack(pending[c], side), true[c]))
        pending[c] = []

    num_empty = 0
    for record in inputs.extracted(extractor, table):
        num_empty += int(record.arrays["empty"])
        for number, (bits, label) in enumerate(_masks(record)):
            if label not in pending or not len(true[label]):
                continue
            pending[label].append(bits)
            places[label].append((record.index, number))
            if len(pending[label]) == CHUNK:
                compare(label)
    for c in true:
        compare(c)
    ious = {c: np.concatenate(of_class) for c, of_class in parts.items()}
    return NearestMasks(ious, places, num_empty)


def _examples(found: NearestMasks) -> list[Json]:
    """Return, of the classes with most masks, where the mask of median IoU is."""
    order = sorted(found.ious, key=lambda c: (-len(found.ious[c]), c))
    examples = []
    for c in order[:EXAMPLES]:
        ious = found.ious[c]
        if len(ious):
            middle = int(np.argsort(ious, kind="stable")[len(ious) // 2])
            image, mask = found.places[c][middle]
            examples.append({"label": c, "image": image, "mask": mask, "iou": float(ious[middle])})
    return examples


def _box_ious(synthetic: dict[int, Floats], true: dict[int, Flags], side: int) -> dict[int, Floats]:
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


def _class_means(ious: dict[int, Floats]) -> dict[int, float | None]:
    means: dict[int, float | None] = {}
    for c, of_class in ious.items():
        means[c] = float(np.mean(of_class)) if len(of_class) else None
    return means


def _known_mean(numbers: Sequence[float | None]) -> float | None:
    known = [number for number in numbers if number is not None]
    if not known:
        return None
    return float(np.mean(known))
