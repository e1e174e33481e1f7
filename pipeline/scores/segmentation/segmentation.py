"""Segmentation scores: does a network see the class map that an image shows?

A segmentation network, and the map that the image was made from. Mean IoU and pixel accuracy as in
SPADE (Park et al. 2019, section 4) and the panoptic paper (section 4): a network trained on real
images segments the synthetic ones; the maps that were asked for are the truth. The same network on
the real images of those maps is the ceiling, its answers against the maps of other images the
floor. The number depends on the network: only with the papers' networks and resolution it compares
with theirs, and the card names the network.

The metrics of Long et al., "Fully Convolutional Networks for Semantic Segmentation" (CVPR 2015),
section 5. Pixels whose true label is don't care count nowhere. A matrix is a sum over pixels, so
images can come in any order and any parts.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from synthaug.pipeline.core.arrays import Floats, Ints
from synthaug.pipeline.core.json_values import Json
from synthaug.pipeline.core.panoptic_maps import maps_of, resize_map
from synthaug.pipeline.core.scene import Category
from synthaug.pipeline.core.storage import file_digest
from synthaug.pipeline.scores.base import (
    Arrays,
    AuxiliaryModel,
    ExtractFunction,
    Extractor,
    MetricInputs,
    TableImage,
    check_names,
    missing_input,
)
from synthaug.pipeline.scores.card import Metric, comparability, full_card, versions
from synthaug.pipeline.scores.pairing import derangement
from synthaug.pipeline.scores.segmentation.segmenter import (
    OWN,
    TORCHVISION,
    Convention,
    Own,
    Segment,
    check_file,
    from_file,
    unet,
)
from synthaug.ranges import at_least

# The papers' networks are files of their makers: DeepLab-V2 (COCO-Stuff) and DRN-D-105
# (Cityscapes).
PUBLISHED_NETWORK = "torchscript"
FEW = 100  # images with maps; with fewer the mean IoU of rare classes is chance


@dataclass(frozen=True)
class Config:
    """The network that segments, and the number of images of each map."""

    network: str = (
        OWN  # own (trained on the labelled images) | a network of torchvision | torchscript
    )
    file: str = ""  # its weights (safetensors, state dict) or the TorchScript program; "" for own
    # class names of its outputs in order; [] = the classes of the data
    outputs: tuple[str, ...] = ()
    # names of the classes that are evaluated; true pixels of others count nowhere; [] = all
    classes: tuple[str, ...] = ()
    # of a network from a file: imagenet (RGB, mean and deviation) | caffe (BGR, mean; DeepLab-V2)
    input: Convention = "imagenet"
    samples_per_layout: int = 1  # images synthesised from each validation map
    seed: int = 0  # of the shuffled control
    own: Own = field(default_factory=Own)  # a U-Net on images of side x side pixels

    def __post_init__(self) -> None:
        known = (OWN, *TORCHVISION, "torchscript")
        if self.network not in known:
            raise ValueError(f"network: '{self.network}' is not one of {', '.join(known)}")
        if (self.network == OWN) == bool(self.file):
            raise ValueError(
                f"file: '{self.file}' for network '{self.network}'; a file belongs to every "
                "network but own"
            )
        at_least(1, self, "samples_per_layout")

    def evaluated(self, categories: Sequence[Category]) -> list[int]:
        """Return the indices of the classes that are evaluated."""
        every = range(len(categories))
        return [c for c in every if not self.classes or categories[c].name in self.classes]


@dataclass(frozen=True)
class SegmentationExtractor(Extractor):
    """Confusion matrices of a segmentation network with two maps.

    Each image's own map and that of another image.
    """

    name: ClassVar[str] = "segmentation"
    config: Config = field(default_factory=Config)
    sha256: str = ""

    @property
    def auxiliary_models(self) -> tuple[AuxiliaryModel, ...]:
        """The own network, which is trained first."""
        if self.config.network == OWN:
            return (self.config.own,)
        return ()

    def extract_function(self, inputs: MetricInputs) -> ExtractFunction:
        """Load the network; see the base class."""
        segment = network(inputs, self.config)
        num_classes = len(inputs.categories)
        real = inputs.tables["real"]
        other_of = derangement(len(real), self.config.seed)

        def matrices(image: TableImage) -> Arrays:
            """Return the two matrices of an image, both empty without a map."""
            scene = image.scene
            own = other = np.zeros((3, 0), np.int64)
            if scene.panoptic is None:
                return {"own": own, "other": other}
            answer = segment(image.pixels())
            labels = maps_of(scene, num_classes).labels
            own = _sparse(confusion(labels, answer, num_classes))
            index = image.layout
            if index < 0:
                index = image.index % len(real)
            stranger = real[int(other_of[index])]
            if stranger.panoptic is not None and other_of[index] != index:
                labels = resize_map(maps_of(stranger, num_classes).labels, scene.size)
                other = _sparse(confusion(labels, answer, num_classes))
            return {"own": own, "other": other}

        def extract(images: Sequence[TableImage]) -> list[Arrays]:
            return [matrices(image) for image in images]

        return extract


def _comparability(config: Config) -> str:
    """Return the entry of the card on published numbers.

    They are those of DeepLab-V2 and DRN-D-105.
    """
    published = "SPADE's and the panoptic paper's mIoU"
    if config.network != PUBLISHED_NETWORK:
        network = f"segmentation.network {config.network} instead of DeepLab-V2 or DRN-D-105"
        return comparability([network], published)
    return f"with {published} where the file is DeepLab-V2 (COCO-Stuff) or DRN-D-105 (Cityscapes)"


def _classes_told(config: Config) -> str:
    """Return the entry of the card on the classes of the means."""
    if not config.classes:
        return "means over the classes that have true pixels"
    names = ", ".join(config.classes)
    return (
        f"means over those of these classes that have true pixels: {names}; pixels of others count "
        "nowhere"
    )


def _sparse(matrix: Ints) -> Ints:
    """Return the entries of a matrix that are not 0 as [3, K]: rows, columns, counts."""
    rows, columns = np.nonzero(matrix)
    return np.stack([rows, columns, matrix[rows, columns]])


def network(inputs: MetricInputs, config: Config) -> Segment:
    """Return the network that segments, ready."""
    if config.network == OWN:
        return config.own.segment(inputs)
    device = inputs.resources.device
    return from_file(
        config.network,
        Path(config.file),
        config.outputs,
        inputs.categories,
        device,
        config.input,
    )


def extractors(config: Config) -> tuple[Extractor, ...]:
    """Return the extractor of confusion matrices on real and synthetic images."""
    digest = file_digest(config.file)
    tables = ("real", "synthetic")
    extractor = SegmentationExtractor(
        tables, config.samples_per_layout, config=config, sha256=digest
    )
    return (extractor,)


def available(inputs: MetricInputs, config: Config) -> str | None:
    """Return None where there are panoptic maps.

    In the labelled images too where the network is trained on them.
    """
    if config.file and not Path(config.file).is_file():
        return f"there is no file '{config.file}' (score.segmentation.file)"
    tables = ["real", "synthetic"]
    if config.network == OWN:
        tables.insert(0, "train")
    return missing_input(inputs, tables, maps=tables)


def check(config: Config, categories: Sequence[Category]) -> None:
    """Build the own network, or open the file of another one.

    Raises ValueError, which begins with `file: `.
    """
    check_names("classes", config.classes, [category.name for category in categories])
    if config.network == OWN:
        unet(config.own.width, len(categories), config.own.seed)
        return
    if not Path(config.file).is_file():
        raise ValueError(f"file: there is no file '{config.file}'; correct the path")
    try:
        check_file(config.network, Path(config.file), config.outputs, categories)
    except ValueError as err:
        raise ValueError(f"file: {err}") from err


def score(inputs: MetricInputs, config: Config) -> Metric:
    """Return mean IoU and pixel accuracy, with ceiling and floor."""
    (extractor,) = extractors(config)
    classes = [category.name for category in inputs.categories]
    evaluated = config.evaluated(inputs.categories)
    shape = (len(classes), len(classes) + 1)
    real = np.zeros(shape, np.int64)
    for record in inputs.extracted(extractor, "real"):
        _add(real, record.arrays["own"])
    synthetic = np.zeros(shape, np.int64)
    shuffled = np.zeros(shape, np.int64)
    num_images = 0
    for record in inputs.extracted(extractor, "synthetic"):
        _add(synthetic, record.arrays["own"])
        _add(shuffled, record.arrays["other"])
        num_images += record.arrays["own"].size > 0

    names = [classes[c] for c in evaluated]
    result = summary(restricted(synthetic, evaluated), names)
    ceiling = summary(restricted(real, evaluated), names)
    floor = summary(restricted(shuffled, evaluated), names)
    warnings = []
    if num_images < FEW:
        warnings.append(
            f"{num_images} synthetic images with a map: fewer than {FEW}, rare classes decide the "
            "mean"
        )
    card = full_card(
        inputs,
        extractor,
        **_network_entries(config),
        protocol="a segmentation network trained on real images; the class maps the images were "
        "made from are the truth",
        headline_key="miou",
        comparability=_comparability(config),
        selection=f"all images with a panoptic map ({num_images} synthetic ones)",
        ceiling="the same network on the real images",
        floor="its answers on the synthetic images against the maps of other images, seed "
        f"{config.seed}",
        classes=_classes_told(config),
        versions=versions("torch", "torchvision", "numpy"),
        warnings=warnings,
    )
    per_class = {}
    for name in names:
        numbers = dict(result.per_class[name])
        for key, value in ceiling.per_class[name].items():
            numbers[f"real_{key}"] = value
        per_class[name] = numbers
    return replace(
        result,
        name="segmentation",
        per_class=per_class,
        card={**result.card, **card},
        controls={"real": dict(ceiling.values), "shuffled": dict(floor.values)},
    )


def _add(matrix: Ints, entries: Ints) -> None:
    """Add the entries [3, K] of a sparse matrix to a dense one, in place."""
    rows, columns, counts = entries
    matrix[rows, columns] += counts


def _network_entries(config: Config) -> Json:
    """Return the entries of the card on the network and the size of its images."""
    if config.network == OWN:
        side = config.own.side
        return {
            "resize": f"images to {side}x{side}, antialiased bilinear; answers back, nearest",
            "network": f"U-Net of width {config.own.width}, trained here on the labelled images",
            "network_sha256": f"none: trained here, {asdict(config.own)}",
        }
    return {
        "resize": "none; logits to the image's size, bilinear",
        "network": f"{config.network}, input as for {config.input}",
        "network_sha256": file_digest(config.file),
    }


def confusion(
    truth: NDArray[np.integer[Any]], answer: NDArray[np.integer[Any]], num_classes: int
) -> Ints:
    """Return pixels [C, C + 1] by true and predicted class of two label maps.

    Of one shape; matrices add up. Labels are 0 .. C - 1, anything else is don't care: left out
    where true, "no class" (the last column) where predicted.
    """
    assert truth.shape == answer.shape
    known = (truth >= 0) & (truth < num_classes)
    rows = truth[known].astype(np.int64)
    columns = answer[known].astype(np.int64)
    columns = np.where((columns >= 0) & (columns < num_classes), columns, num_classes)
    width = num_classes + 1
    counts = np.bincount(rows * width + columns, minlength=num_classes * width)
    return counts.reshape(num_classes, width)


def ious(matrix: Ints) -> Floats:
    """Return the IoU of each class [C] of a confusion matrix [C, C + 1].

    NaN for a class neither true nor predicted.
    """
    hits = np.diag(matrix)
    union = matrix.sum(1) + matrix[:, :-1].sum(0) - hits
    shares: Floats = np.full(len(hits), np.nan)
    np.divide(hits, union, out=shares, where=union > 0)
    return shares


def restricted(matrix: Ints, classes: Sequence[int]) -> Ints:
    """Return the matrix [K, K + 1] of K evaluated classes.

    An answer of another class is an answer of none.
    """
    rows = matrix[np.asarray(classes, np.int64)]
    own = rows[:, np.asarray(classes, np.int64)]
    other = rows.sum(axis=1) - own.sum(axis=1)
    return np.concatenate([own, other[:, None]], axis=1)


def summary(matrix: Ints, classes: Sequence[str], card: Mapping[str, Any] | None = None) -> Metric:
    """Return all scores of a confusion matrix [C, C + 1].

    The headline is the mean IoU over the classes that occur. `miou` and `mean_accuracy` are means
    over classes with true pixels; a class that is only predicted wrongly lowers the IoU of the
    others and has none of its own in the mean. `miou_found` takes in such classes, as 0.
    """
    true = matrix.sum(1)
    hits = np.diag(matrix)
    iou = ious(matrix)
    accuracy = np.full(len(hits), np.nan)
    np.divide(hits, true, out=accuracy, where=true > 0)
    total = int(true.sum())
    occurs = true > 0
    keys = ("miou", "miou_found", "pixel_accuracy", "mean_accuracy", "fw_iou")
    values: dict[str, float | None] = dict.fromkeys(keys)
    if total:
        values = {
            "miou": float(iou[occurs].mean()),
            "miou_found": float(iou[~np.isnan(iou)].mean()),
            "pixel_accuracy": float(hits.sum() / total),
            "mean_accuracy": float(accuracy[occurs].mean()),
            "fw_iou": float((true[occurs] * iou[occurs]).sum() / total),
        }
    per_class = {}
    for k, name in enumerate(classes):
        per_class[name] = {
            "iou": float(iou[k]),
            "accuracy": float(accuracy[k]),
            "pixels": int(true[k]),
        }
    counts = {
        "pixels": total,
        "classes_seen": int(occurs.sum()),
        "found_no_class": int(matrix[:, -1].sum()),
    }
    return Metric("miou", values["miou"], values, per_class, {**counts, **(card or {})})
