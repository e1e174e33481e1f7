"""The contract of the scores.

Extractors measure each image, records keep what they measured, a metric reduces records. Three
tables have names: `real` (validation images), `synthetic` (images to be scored), `train` (labelled
images). An extractor turns each image of some tables into one record of arrays. Records are written
to Parquet shards on the pool of workers and come back one by one, in the order of the table: memory
is flat, and neither the number of workers nor the cut into shards can change a number. An auxiliary
model is a network that is trained for a score, before extraction (on images) or after it (on
records).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Protocol

import numpy as np
from numpy.typing import NDArray

from synthaug.pipeline.core.arrays import Bytes
from synthaug.pipeline.core.boxes import box_areas
from synthaug.pipeline.core.errors import suggest
from synthaug.pipeline.core.images import decode
from synthaug.pipeline.core.json_values import Json, json_digest
from synthaug.pipeline.core.record_files import read_records, write_records
from synthaug.pipeline.core.scene import Category, Dataset, Objects, Scene, class_counts
from synthaug.pipeline.core.storage import Folder
from synthaug.pipeline.scores.pairing import Pairing

if TYPE_CHECKING:
    from torch import nn

TABLES = ("train", "real", "synthetic")
# images that are extracted together; the batches start at multiples of it, whatever the shards
BATCH = 16

Arrays = Mapping[str, NDArray[Any]]


@dataclass(frozen=True)
class TableImage:
    """One image of one table. Its pixels are decoded by `pixels()`."""

    table: str  # of TABLES
    index: int  # in the table
    layout: int  # index in `real` of the image whose layout it shows; its own for `real`; -1 = none
    sample: int  # number among the images of that layout, from 0
    scene: Scene

    def pixels(self) -> Bytes:
        """Return the image, uint8 RGB [H, W, 3]; decoded once for all extractors."""
        return self._pixels

    @cached_property
    def _pixels(self) -> Bytes:
        return decode(self.scene)


@dataclass(frozen=True)
class Record:
    """The arrays that an extractor measured of one image.

    The other fields are as in TableImage.
    """

    table: str
    index: int
    layout: int
    sample: int
    arrays: Arrays


# at most BATCH images of one table -> the arrays of each
ExtractFunction = Callable[[Sequence[TableImage]], list[Arrays]]


@dataclass(frozen=True)
class Extractor:
    """Base of the extractors: a per-image measurement as plain data.

    Equal extractors run once and are shared by the scores. A subclass is a frozen dataclass of JSON
    values with a `name` of its own and `extract_function`. Name and values say which columns of the
    records are its own.
    """

    name: ClassVar[str] = ""
    tables: tuple[str, ...] = ("real", "synthetic")
    # images per layout that a generator is asked for; images that are there already are all used
    samples: int = 1
    limit: int = 0  # layouts, the first in table order; 0 = all

    def extract_function(self, inputs: MetricInputs) -> ExtractFunction:
        """Return the function that measures images; called once per worker."""
        raise NotImplementedError

    @property
    def auxiliary_models(self) -> tuple[AuxiliaryModel, ...]:
        """The networks that must be trained before extraction."""
        return ()

    @property
    def key(self) -> str:
        """The name of its columns in the records."""
        assert self.name, f"{type(self).__qualname__} has no name"
        digest = json_digest([self.name, asdict(self)])
        return f"{self.name}-{digest[:10]}"


@dataclass(frozen=True)
class TrainingSpec:
    """The training of an auxiliary model.

    The loop of `pipeline/execution/training.py` drives it.
    """

    training: Any  # execution.training.Training
    batches: Callable[[int], Any]  # step -> batch, a pure function of the step
    steps: int
    threads: int = 1  # of torch


class AuxiliaryModel(Protocol):
    """A network to be trained, as plain data (a frozen dataclass)."""

    @property
    def name(self) -> str:
        """The name of its folder, different for different content."""
        ...

    def training_spec(self, inputs: MetricInputs) -> TrainingSpec:
        """Return the training; the same every time."""
        ...


class TrainedNetworks(Protocol):
    """The auxiliary models that were trained."""

    def load(self, model: AuxiliaryModel, inputs: MetricInputs) -> Mapping[str, nn.Module]:
        """Return the networks of a trained model."""
        ...


@dataclass(frozen=True)
class RecordStore:
    """The records of all extractors, in Parquet.

    A row per image, a column per array of each extractor. An extractor is read by its own columns
    alone, so a score pays only for what it asks for.
    """

    folder: Folder

    def write(
        self,
        name: str,
        images: Sequence[TableImage],
        arrays: Mapping[str, Sequence[Arrays | None]],
    ) -> None:
        """Write a shard: by an extractor's key the arrays of each image.

        None where it does not use the image.
        """
        records: list[Json] = []
        for image in images:
            position = {"index": image.index, "layout": image.layout, "sample": image.sample}
            records.append(dict(position))
        for key, arrays_of_images in arrays.items():
            for record, named in zip(records, arrays_of_images, strict=True):
                for array, value in (named or {}).items():
                    record[f"{key}/{array}"] = value
        write_records(self.folder, name, records)

    def read(self, extractor: Extractor, table: str) -> Iterator[Record]:
        """Yield the records of an extractor on one table, in the order of the table."""
        prefix = f"{extractor.key}/"

        def wanted(column: str) -> bool:
            return column in _POSITION or column.startswith(prefix)

        for record in read_records(self.folder, f"{table}-", wanted):
            index, layout, sample = (record.pop(name) for name in _POSITION)
            arrays = {column.removeprefix(prefix): value for column, value in record.items()}
            if arrays:
                yield Record(table, index, layout, sample, arrays)


_POSITION = ("index", "layout", "sample")


@dataclass(frozen=True)
class Resources:
    """Networks that are at hand whatever the data, and the device they run on."""

    detector: Path | None = None  # checkpoint of the reference detector
    detector_sha256: str = ""
    weights: Path | None = None  # folder of published networks
    device: str = "cpu"


@dataclass(frozen=True)
class MetricInputs:
    """The inputs of a score; opened anew in each process."""

    # of TABLES, those there are; what a generator of layouts is not told of is a crowd in them
    tables: Mapping[str, Dataset]
    pairing: Pairing
    records: RecordStore
    networks: TrainedNetworks
    resources: Resources = field(default_factory=Resources)
    # whether `synthetic` was generated for the scores, `Extractor.samples` images of each layout
    generated: bool = False
    seed: int = 0
    # labelled objects per class, all of them; () = as `train` has, or `real`
    train_counts: tuple[int, ...] = ()
    card_entries: Mapping[str, Any] = field(
        default_factory=dict
    )  # of every card, known to the caller alone

    @property
    def categories(self) -> tuple[Category, ...]:
        """The classes, which all tables share."""
        return next(iter(self.tables.values())).categories

    @property
    def class_counts(self) -> list[int]:
        """Training objects per class, which decide what is head and what is tail."""
        if self.train_counts:
            return list(self.train_counts)
        table = self.tables.get("train") or self.tables["real"]
        return [int(count) for count in class_counts(table, len(self.categories))]

    def extracted(self, extractor: Extractor, table: str) -> Iterator[Record]:
        """Return the records of an extractor on one table, in the order of the table."""
        return self.records.read(extractor, table)

    def trained(self, model: AuxiliaryModel) -> Mapping[str, nn.Module]:
        """Return the networks of a trained auxiliary model."""
        return self.networks.load(model, self)

    def image(self, table: str, index: int) -> TableImage:
        """Return one image of a table."""
        layout = -1
        sample = 0
        if table == "real":
            layout = index
        elif table == "synthetic":
            layout = int(self.pairing.layout[index])
            sample = int(self.pairing.sample[index])
        return TableImage(table, index, layout, sample, self.tables[table][index])

    def uses(self, extractor: Extractor, table: str, index: int) -> bool:
        """Return whether an extractor measures this image."""
        layout = index
        if table == "synthetic":
            if self.generated and self.pairing.sample[index] >= extractor.samples:
                return False
            if self.pairing.layout[index] >= 0:
                layout = int(self.pairing.layout[index])
        if table == "train" or not extractor.limit:
            return True
        return layout < extractor.limit


def missing_input(
    inputs: MetricInputs,
    tables: Sequence[str] = ("real", "synthetic"),
    detector: bool = False,
    masks: Sequence[str] = (),
    maps: Sequence[str] = (),
) -> str | None:
    """Return in one line what a score needs and does not have, else None.

    The usual body of `available`. `masks` and `maps` name tables in which at least one image must
    have object masks, or a panoptic map.
    """
    for name in tables:
        if name not in inputs.tables or not len(inputs.tables[name]):
            return f"there are no {_TABLE_NAMES[name]}"
    if detector and inputs.resources.detector is None:
        return "there is no reference detector (score.detector, or --detector CHECKPOINT)"
    for name in masks:
        if not any(any(scene.objects.rle) for scene in inputs.tables[name]):
            return f"no object of the {_TABLE_NAMES[name]} has a mask"
    for name in maps:
        if not any(scene.panoptic is not None for scene in inputs.tables[name]):
            return f"none of the {_TABLE_NAMES[name]} has a panoptic map"
    return None


_TABLE_NAMES = {
    "train": "labelled images to train on",
    "real": "real images",
    "synthetic": "synthetic images",
}


def check_names(key: str, names: Sequence[str], known: Sequence[str]) -> None:
    """Raise ValueError, which begins with the key, for an unknown class name."""
    for name in names:
        if name not in known:
            raise ValueError(f"{key}: there is no class '{name}'{suggest(name, known)}")


def layout_objects(scene: Scene) -> Objects:
    """Return the objects that an image was to show.

    Without crowds, their boxes as asked for.
    """
    objects = scene.objects.without_crowds()
    return replace(objects, boxes=objects.layout_boxes)


def detection_truth(scene: Scene) -> Objects:
    """Return the objects that detections are measured by.

    Boxes as asked for, and crowds where they are. A crowd is an ignore region: detections of its
    class inside it count neither way (COCO). The area of an object is its annotation's; where the
    box that was asked for is not the object's own, it is that box's.
    """
    objects = scene.objects
    boxes = np.where(objects.iscrowd[:, None], objects.boxes, objects.layout_boxes)
    is_other_box = (boxes != objects.boxes).any(axis=1)
    area = np.where(is_other_box, box_areas(boxes), objects.area)
    return replace(objects, boxes=boxes, area=area)
