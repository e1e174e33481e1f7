"""Segmentation scores: does a segmentation network see in the image the class map it was made from?

Mean IoU and pixel accuracy as in SPADE (Park et al. 2019, section 4) and the panoptic paper (section 4): a network trained on
real images segments the synthetic ones; the maps that were asked for are the truth. The same network on the real images of
those maps is the ceiling, its answers against the maps of other images the floor. The number depends on the network: only
with the papers' networks and resolution it compares with theirs, and the card names the network.

The metrics of Long et al., "Fully Convolutional Networks for Semantic Segmentation" (CVPR 2015), section 5. Pixels whose
true label is don't care count nowhere. A matrix is a sum over pixels, so images can come in any order and any parts.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from synthaug.pipeline.core.panoptic_maps import maps_of, resize_map
from synthaug.pipeline.core.storage import file_digest
from synthaug.pipeline.scores.base import (
    Arrays,
    AuxiliaryModel,
    ExtractFunction,
    Extractor,
    MetricInputs,
    TableImage,
    missing_input,
)
from synthaug.pipeline.scores.card import Metric, full_card, versions
from synthaug.pipeline.scores.pairing import derangement
from synthaug.pipeline.scores.segmentation.segmenter import (
    OWN,
    TORCHVISION,
    Own,
    Segment,
    from_file,
)

FEW = 100  # images with maps; with fewer the mean IoU of rare classes is chance


@dataclass(frozen=True)
class Config:
    """Which network segments, and how many images of each map it is shown."""

    network: str = (
        OWN  # own (trained on the labelled images) | a network of torchvision | torchscript
    )
    file: str = ""  # of that network: safetensors or a state dict; of torchscript: the program, which is run
    outputs: tuple[str, ...] = ()  # names of its outputs, in order; () = the classes of the data
    samples_per_layout: int = 1  # images synthesised from each validation map
    seed: int = 0  # of the shuffled control
    own: Own = field(default_factory=Own)

    def __post_init__(self) -> None:
        known = (OWN, *TORCHVISION, "torchscript")
        if self.network not in known:
            raise ValueError(f"network: '{self.network}' is not one of {', '.join(known)}")
        if (self.network == OWN) == bool(self.file):
            raise ValueError(
                f"file: '{self.file}' for network '{self.network}'; a file belongs to every network but own"
            )
        if self.samples_per_layout < 1:
            raise ValueError(f"samples_per_layout: {self.samples_per_layout} is less than 1")


@dataclass(frozen=True)
class SegmentationExtractor(Extractor):
    """Segments real and synthetic images, and counts pixels against their maps and against those of other images."""

    name: ClassVar[str] = "segmentation"
    config: Config = field(default_factory=Config)
    sha256: str = ""

    @property
    def auxiliary_models(self) -> tuple[AuxiliaryModel, ...]:
        """The own network is trained first."""
        return (self.config.own,) if self.config.network == OWN else ()

    def extract_function(self, inputs: MetricInputs) -> ExtractFunction:
        """Load the network; an observer of confusion matrices."""
        segment, classes = network(inputs, self.config), len(inputs.categories)
        real = inputs.tables["real"]
        others = derangement(len(real), self.config.seed)

        def extract(images: Sequence[TableImage]) -> list[Arrays]:
            records: list[Arrays] = []
            for image in images:
                truth = other = None
                if image.scene.panoptic is not None:
                    found = segment(image.pixels())
                    truth = confusion(maps_of(image.scene, classes).labels, found, classes)
                    place = image.layout if image.layout >= 0 else image.index % len(real)
                    stranger = real[int(others[place])]
                    if stranger.panoptic is not None and others[place] != place:
                        labels = maps_of(stranger, classes).labels
                        other = confusion(
                            resize_map(labels, (image.scene.height, image.scene.width)),
                            found,
                            classes,
                        )
                records.append({"own": _sparse(truth), "other": _sparse(other)})
            return records

        return extract


def _sparse(matrix: NDArray[np.int64] | None) -> NDArray[np.int64]:
    """Return what is in a matrix as [3, K]: rows, columns, counts."""
    if matrix is None:
        return np.zeros((3, 0), np.int64)
    rows, columns = np.nonzero(matrix)
    return np.stack([rows, columns, matrix[rows, columns]])


def network(inputs: MetricInputs, config: Config) -> Segment:
    """Return the network that segments, ready."""
    if config.network == OWN:
        return config.own.segment(inputs)
    return from_file(
        config.network,
        Path(config.file),
        config.outputs,
        inputs.categories,
        inputs.resources.device,
    )


def extractors(config: Config) -> tuple[Extractor, ...]:
    """Segmentation of real and synthetic images."""
    digest = file_digest(config.file)
    return (
        SegmentationExtractor(
            ("real", "synthetic"), config.samples_per_layout, config=config, sha256=digest
        ),
    )


def available(inputs: MetricInputs, config: Config) -> str | None:
    """It needs panoptic maps, in the labelled images too where the network is trained on them."""
    if config.file and not Path(config.file).is_file():
        return f"there is no file '{config.file}' (score.segmentation.file)"
    own = ("train",) if config.network == OWN else ()
    tables = (*own, "real", "synthetic")
    return missing_input(inputs, tables, maps=tables)


def score(inputs: MetricInputs, config: Config) -> Metric:
    """Return mean IoU and pixel accuracy, with ceiling and floor."""
    (extractor,) = extractors(config)
    classes = [category.name for category in inputs.categories]
    total = {
        key: np.zeros((len(classes), len(classes) + 1), np.int64)
        for key in ("synthetic", "real", "shuffled")
    }
    images = 0
    for table in ("real", "synthetic"):
        for record in inputs.extracted(extractor, table):
            images += table == "synthetic" and record.arrays["own"].size > 0
            for name, key in (("own", table), ("other", "shuffled")):
                if name == "own" or table == "synthetic":
                    rows, columns, counts = record.arrays[name]
                    total[key][rows, columns] += counts
    parts = {key: summary(matrix, classes) for key, matrix in total.items()}
    found, own = parts["synthetic"], config.network == OWN
    warnings = [
        f"{images} synthetic images with a map: fewer than {FEW}, rare classes decide the mean"
    ] * (images < FEW)
    card = full_card(
        inputs,
        extractor,
        protocol="a segmentation network trained on real images; the class maps the images were made from are the truth",
        headline_key="miou",
        selection=f"all images with a panoptic map ({images} synthetic ones)",
        resize=f"images to {config.own.side}x{config.own.side}, antialiased bilinear; answers back, nearest"
        if own
        else "none; logits to the image's size, bilinear",
        network=f"U-Net of width {config.own.width}, trained here on the labelled images"
        if own
        else config.network,
        network_sha256=f"none: trained here, {asdict(config.own)}"
        if own
        else file_digest(config.file),
        ceiling="the same network on the real images",
        floor=f"its answers on the synthetic images against the maps of other images, seed {config.seed}",
        classes="means over the classes that have true pixels",
        versions=versions("torch", "torchvision", "numpy"),
        warnings=warnings,
    )
    per_class = {
        name: {
            **found.per_class[name],
            **{f"real_{k}": v for k, v in parts["real"].per_class[name].items()},
        }
        for name in classes
    }
    controls = {key: dict(parts[key].values) for key in ("real", "shuffled")}
    return replace(
        found,
        name="segmentation",
        per_class=per_class,
        card={**found.card, **card},
        controls=controls,
    )


def confusion(
    truth: NDArray[np.integer[Any]], found: NDArray[np.integer[Any]], num_classes: int
) -> NDArray[np.int64]:
    """Return pixels [C, C + 1] by true class and found class of two label maps of one shape; matrices add up.

    Labels are 0 .. C - 1, anything else is don't care: left out where true, "no class" (the last column) where found.
    """
    assert truth.shape == found.shape
    known = (truth >= 0) & (truth < num_classes)
    rows = truth[known].astype(np.int64)
    columns = found[known].astype(np.int64)
    columns = np.where((columns >= 0) & (columns < num_classes), columns, num_classes)
    counts = np.bincount(
        rows * (num_classes + 1) + columns, minlength=num_classes * (num_classes + 1)
    )
    return counts.reshape(num_classes, num_classes + 1)


def ious(matrix: NDArray[np.int64]) -> NDArray[np.float64]:
    """Return the IoU of each class [C] of a confusion matrix [C, C + 1]; NaN for a class neither true nor found."""
    true, found, hit = matrix.sum(1), matrix[:, :-1].sum(0), np.diag(matrix)
    union = true + found - hit
    shares: NDArray[np.float64] = np.divide(
        hit, union, out=np.full(len(hit), np.nan), where=union > 0
    )
    return shares


def summary(
    matrix: NDArray[np.int64], classes: Sequence[str], card: Mapping[str, Any] | None = None
) -> Metric:
    """Return all scores of a confusion matrix [C, C + 1]; the headline is the mean IoU over the classes that occur.

    `miou` and `mean_accuracy` are means over classes with true pixels; a class that is only found wrongly lowers the IoU of
    the others and has none of its own in the mean. `miou_found` takes in such classes, as 0.
    """
    true, hit = matrix.sum(1), np.diag(matrix)
    iou = ious(matrix)
    accuracy = np.divide(hit, true, out=np.full(len(hit), np.nan), where=true > 0)
    total, seen = int(true.sum()), true > 0
    values = {
        "miou": float(iou[seen].mean()) if seen.any() else None,
        "miou_found": float(iou[~np.isnan(iou)].mean()) if total else None,
        "pixel_accuracy": float(hit.sum() / total) if total else None,
        "mean_accuracy": float(accuracy[seen].mean()) if seen.any() else None,
        "fw_iou": float((true[seen] * iou[seen]).sum() / total) if total else None,
    }
    per_class = {
        name: {"iou": float(iou[k]), "accuracy": float(accuracy[k]), "pixels": int(true[k])}
        for k, name in enumerate(classes)
    }
    about = {
        "pixels": total,
        "classes_seen": int(seen.sum()),
        "found_no_class": int(matrix[:, -1].sum()),
    }
    return Metric("miou", values["miou"], values, per_class, about | dict(card or {}))
