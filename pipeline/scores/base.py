"""What every score is made of: tables of images, looks at them that leave records, networks trained for it, a Metric.

Three tables have names: `real` (validation images), `synthetic` (images to be judged), `train` (labelled images). A *look*
turns each image of some tables into one record of plain arrays; records are written to Parquet shards on the pool and come
back one by one, in the order of the table, so memory is flat and neither the number of workers nor the cut into shards can
change a number. A *pupil* is a network that is trained for a score, before a look (on images) or after it (on records).
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from functools import cached_property
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
from numpy.typing import NDArray

from synthaug.pipeline.core.images import decode
from synthaug.pipeline.core.scene import Category, Dataset, Objects, Scene
from synthaug.pipeline.core.seeding import permuted

if TYPE_CHECKING:
    from torch import nn

TABLES = ("train", "real", "synthetic")
BATCH = 16  # images an observer sees at a time; the batches start at multiples of it, whatever the shards

Arrays = Mapping[str, NDArray[Any]]


@dataclass(frozen=True)
class View:
    """One image of one table, as an observer gets it. Its pixels are decoded by `pixels()`."""

    table: str  # of TABLES
    index: int  # place in the table
    layout: int  # place in `real` of the image whose layout it shows; its own for `real`; -1 = none
    sample: int  # which of the images of that layout, from 0
    scene: Scene

    def pixels(self) -> NDArray[np.uint8]:
        """Return the image, uint8 RGB [H, W, 3]; decoded once for all looks."""
        return self._pixels

    @cached_property
    def _pixels(self) -> NDArray[np.uint8]:
        return decode(self.scene)


@dataclass(frozen=True)
class Record:
    """What a look left of one image."""

    table: str
    index: int
    layout: int
    sample: int
    arrays: Arrays


Observer = Callable[
    [Sequence[View]], list[Arrays]
]  # at most BATCH views of one table -> one record each


@dataclass(frozen=True)
class Look:
    """Base of the looks: what is observed, as plain data. Looks that are equal are done once and shared by the scores.

    A subclass is a frozen dataclass of JSON values (they name its columns in the records) with `observer`. `samples` is how
    many images of each layout the score asks a generator to paint; images that are there already are all looked at.
    """

    tables: tuple[str, ...] = ("real", "synthetic")
    samples: int = 1  # images per layout; the others of `synthetic` are not shown
    limit: int = 0  # layouts looked at, the first in table order; 0 = all

    def observer(self, material: Material) -> Observer:
        """Return what does the looking; made once per worker, and told nothing of the others."""
        raise NotImplementedError

    @property
    def needs(self) -> tuple[Pupil, ...]:
        """The networks that must be trained before looking."""
        return ()

    @property
    def key(self) -> str:
        """The name of the look's columns in the records."""
        content = json.dumps(
            [type(self).__module__, type(self).__qualname__, asdict(self)], sort_keys=True
        )
        return f"{type(self).__name__.lower()}-{hashlib.sha256(content.encode()).hexdigest()[:10]}"


@dataclass(frozen=True)
class Lesson:
    """A network in training: what the loop of `pipeline/execution/training.py` drives, for how long."""

    training: Any  # pipeline.training.Training
    batches: Callable[[int], Any]  # step -> batch, a pure function of the step
    steps: int
    threads: int = 1  # of torch


class Pupil(Protocol):
    """A network to be trained, as plain data (a frozen dataclass)."""

    @property
    def name(self) -> str:
        """The name of its folder, different for different content."""
        ...

    def lesson(self, material: Material) -> Lesson:
        """Return the training; the same every time."""
        ...


@dataclass(frozen=True)
class Material:
    """What a score may use; opened anew in each process."""

    tables: Mapping[
        str, Dataset
    ]  # of TABLES, those there are; crowds and what a generator never sees are left out
    layout: NDArray[
        np.int64
    ]  # [synthetic] place in `real` of the image whose layout it shows; -1 = none
    sample: NDArray[np.int64]  # [synthetic] which of the images of that layout
    painted: bool = False  # whether `synthetic` was painted for the scores, so that `Look.samples` decides how many
    judge: Path | None = None  # a detector's checkpoint
    judge_sha256: str = ""
    weights: Path | None = None  # folder of published networks
    device: str = "cpu"
    seed: int = 0
    train_counts: tuple[
        int, ...
    ] = ()  # labelled objects per class, all of them; () = as `train` has, or `real`
    about: Mapping[str, Any] = field(
        default_factory=dict
    )  # what only the caller knows; goes into every card
    records: Callable[[Look, str], Iterator[Record]] | None = (
        None  # of a look that was done, in the table's order
    )
    state: Callable[[Pupil, Lesson], None] | None = (
        None  # puts a trained pupil's weights into its training
    )

    @property
    def categories(self) -> tuple[Category, ...]:
        """The classes, which all tables share."""
        return next(iter(self.tables.values())).categories

    @property
    def counts(self) -> list[int]:
        """Training objects per class, which decide what is head and what is tail."""
        if self.train_counts:
            return list(self.train_counts)
        table = self.tables.get("train") or self.tables["real"]
        found = np.zeros(len(self.categories), np.int64)
        for i in range(len(table)):
            objects = table[i].objects
            found += np.bincount(objects.category[~objects.iscrowd], minlength=len(found))
        return [int(n) for n in found]

    def seen(self, look: Look, table: str) -> Iterator[Record]:
        """Return the records of a finished look at one table, in the order of the table."""
        assert self.records is not None
        return self.records(look, table)

    def trained(self, pupil: Pupil) -> Mapping[str, nn.Module]:
        """Return the networks of a finished pupil."""
        assert self.state is not None
        lesson = pupil.lesson(self)
        self.state(pupil, lesson)
        modules: Mapping[str, nn.Module] = lesson.training.modules
        return modules

    def view(self, table: str, index: int) -> View:
        """Return one image of a table."""
        layout, sample = index if table == "real" else -1, 0
        if table == "synthetic":
            layout, sample = int(self.layout[index]), int(self.sample[index])
        return View(table, index, layout, sample, self.tables[table][index])

    def shows(self, look: Look, table: str, index: int) -> bool:
        """Whether a look sees this image."""
        layout = (
            int(self.layout[index]) if table == "synthetic" and self.layout[index] >= 0 else index
        )
        if self.painted and table == "synthetic" and self.sample[index] >= look.samples:
            return False
        return not (look.limit and table != "train" and layout >= look.limit)


def pair(real: Dataset, synthetic: Dataset) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return for each synthetic image (layout, sample): the place of the real one whose layout it shows, and its turn.

    They belong together by `provenance.source_image`, else by equal `image_id`; -1 where there is no partner.
    """
    places = {real[i].image_id: i for i in range(len(real))}
    layout = np.full(len(synthetic), -1, np.int64)
    sample, turns = np.zeros(len(synthetic), np.int64), np.zeros(len(real), np.int64)
    for i in range(len(synthetic)):
        scene = synthetic[i]
        source = scene.provenance.source_image if scene.provenance else scene.image_id
        place = places.get(source, -1)
        layout[i] = place
        if place >= 0:
            sample[i] = turns[place]
            turns[place] += 1
    return layout, sample


def lacking(
    material: Material,
    tables: Sequence[str] = ("real", "synthetic"),
    pairs: bool = False,
    judge: bool = False,
    masks: Sequence[str] = (),
    maps: Sequence[str] = (),
    files: Sequence[str] = (),
) -> str | None:
    """Return in one line what a score needs and does not have, else None; the usual body of `available`.

    `masks` and `maps` name tables in which at least one image must have object masks, or a panoptic map; `files` are names
    looked for in the folder of weights.
    """
    for name in tables:
        if name not in material.tables or not len(material.tables[name]):
            return f"there are no {_TOLD[name]}"
    if judge and material.judge is None:
        return "there is no detector to judge with (score.judge, or --judge CHECKPOINT)"
    if pairs and not (material.layout >= 0).any():
        return "no synthetic image names the real one whose layout it shows (provenance.source_image, or equal image_id)"
    for name in masks:
        if not _some(material.tables[name], lambda scene: any(scene.objects.rle)):
            return f"no object of the {_TOLD[name]} has a mask"
    for name in maps:
        if not _some(material.tables[name], lambda scene: scene.panoptic is not None):
            return f"none of the {_TOLD[name]} has a panoptic map"
    for name in files:
        if material.weights is None:
            return f"it needs the network {name}, and no folder of weights is named (score.weights, or --weights FOLDER)"
        if not (material.weights / name).is_file():
            return f"it needs the network {name}, which is not in {material.weights}"
    return None


_TOLD = {
    "train": "labelled images to train on",
    "real": "real images",
    "synthetic": "synthetic images",
}


def _some(table: Dataset, test: Callable[[Scene], bool]) -> bool:
    return any(test(table[i]) for i in range(len(table)))


def strangers(count: int, seed: int) -> NDArray[np.int64]:
    """Return for each of `count` images another one [count], each used once: the successor in a fixed permutation."""
    order = np.array([permuted(place, count, seed) for place in range(count)], np.int64)
    following = np.empty(count, np.int64)
    following[order] = np.roll(order, -1)
    return following


def truth(scene: Scene) -> tuple[Objects, NDArray[np.float32], NDArray[np.int64]]:
    """Return what an image was to show: its objects without crowds, their boxes as asked for [N, 4], labels [N]."""
    objects = scene.objects.select(~scene.objects.iscrowd)
    return objects, objects.layout_boxes, objects.category.astype(np.int64)


def versions(*packages: str) -> dict[str, str]:
    """Return the versions of the libraries that decide a number, for its card."""
    found = {}
    for name in packages:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found


CARD = (  # keys that the card of every score has
    "protocol",
    "headline_key",  # of values and of the controls: the number that stands for the score
    "images",  # how many of each table
    "selection",  # which images, by what rule
    "resize",  # filter, or "none"
    "file_format",  # of the images that were read
    "splits",  # of the statistic over parts of the sample, or "none"
    "seed",
    "network",  # what it is, or "none"
    "network_sha256",  # or "none"; of networks trained here: what they were trained from and for how long
    "versions",
    "warnings",  # sentences: where the sample is too small for the score
)


def full_card(material: Material, look: Look | None, **entries: Any) -> dict[str, Any]:
    """Return a card with every key of CARD, what the caller of the score knows among them.

    `entries` add to what is the same for all scores, or replace it.
    """
    counts = {
        name: sum(material.shows(look, name, i) for i in range(len(table))) if look else len(table)
        for name, table in material.tables.items()
        if look is None or name in look.tables
    }
    whole = "all images of each table, in its order"
    limit = (
        f"the first {look.limit} layouts and their synthetic images"
        if look and look.limit
        else whole
    )
    fixed = {
        "images": counts,
        "selection": limit,
        "resize": "none",
        "file_format": formats(material),
        "splits": "none",
        "seed": material.seed,
        "network": "none",
        "network_sha256": "none",
        "versions": versions("numpy"),
        "warnings": [],
    }
    result = {**fixed, **entries, **material.about}
    missing = [key for key in CARD if key not in result]
    assert not missing, f"the card has no {missing}"
    return result


def formats(material: Material) -> dict[str, str]:
    """Return by table how the images are stored, told by the name of the first one."""
    found = {}
    for name, table in material.tables.items():
        path = Path((table[0].image.path or "") if len(table) else "")
        found[name] = path.suffix.lstrip(".").lower() or "unknown"
    return found
