"""The one data model: a Scene is an image with its annotation.

Conventions of the whole house, stated once: boxes are xyxy float32 pixels; sizes are (H, W); images
are uint8 RGB [H, W, 3] at the seams; categories are contiguous indices into the table's `Category`
tuple, original ids come back at export; a scene with provenance is synthetic.
"""

from __future__ import annotations

import hashlib
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, fields, replace
from pathlib import PurePosixPath
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from synthaug.pipeline.core.arrays import Flags, Floats32, Ints
from synthaug.pipeline.core.boxes import Boxes, Size, box_areas, scale_boxes
from synthaug.pipeline.core.json_values import Json

SOURCES = ("human", "pseudo", "synthetic")
IDS_PER_IMAGE = 10_000  # that ids of objects leave room for
PAIRED_SAMPLE = (
    "score"  # reason of a synthetic scene that no plan holds: a layout as it is, for the scores
)


@dataclass(frozen=True)
class Category:
    """One class, with its id in the user's files.

    Inside the house, its index in the table's tuple is its id.
    """

    id: int
    name: str
    supercategory: str = ""
    isthing: bool = True


def thing_flags(categories: Iterable[Category]) -> Flags:
    """Return whether each class [C] is a thing."""
    return np.array([category.isthing for category in categories], bool)


def ids_in_image(index: int, count: int) -> Ints:
    """Return ids [N] of the objects of an image that no other image of the table has."""
    first = index * IDS_PER_IMAGE + 1
    return first + np.arange(count)


@dataclass(frozen=True)
class ImageRef:
    """An encoded image: its bytes, or a path to them.

    The path is absolute or relative to the working folder. `turned` says how the labels of an
    image count its pixels that an EXIF tag asks viewers to turn: as_stored, as_shown, or "" where
    only the size can tell. `name` is what its set calls the file, where that is not its path.
    """

    data: bytes | None = None
    path: str | None = None
    turned: str = ""
    name: str = ""

    @property
    def file_name(self) -> str:
        """The name of the file in its set, folders included; "" where there is none."""
        return self.name or PurePosixPath(self.path or "").name


@dataclass(frozen=True)
class Provenance:
    """The origin of a synthetic scene: enough to make it again."""

    seed: int
    generator: str
    checkpoint: str  # sha256 of the generator's checkpoint file, "" in a plan
    source_image: str  # image_id of the real scene whose layout was used
    reason: str  # why it was planned, e.g. "natural" or "balanced: +kite -house"


@dataclass(frozen=True)
class Objects:
    """N annotated objects as arrays of one length, like the Parquet column."""

    id: Ints  # [N] >= 1, unique in the table
    category: NDArray[np.int32]  # [N] index into the categories
    boxes: Boxes  # [N, 4] xyxy pixels
    rle: tuple[str | None, ...]  # COCO compressed counts, size = image size
    area: Floats32  # [N] pixels, of the mask where there is one
    iscrowd: Flags  # [N]
    isthing: Flags  # [N]
    score: Floats32  # [N] 1.0 for human labels
    source: tuple[str, ...]  # one of SOURCES
    layout_boxes: Boxes  # [N, 4] xyxy pixels, as planned; `boxes` in real scenes
    verdict: tuple[str | None, ...]  # set by verification, else None
    verdict_score: Floats32  # [N], NaN without verdict
    # [N] IoU with the detection that the verdict rests on, 0 without one, NaN without verdict
    verdict_iou: Floats32

    def __post_init__(self) -> None:
        n = len(self.id)
        for column in fields(self):
            length = len(getattr(self, column.name))
            assert length == n, f"objects.{column.name} has {length} entries, not {n}"
        assert self.boxes.shape == (n, 4)
        assert self.layout_boxes.shape == (n, 4)

    def __len__(self) -> int:
        return len(self.id)

    def select(self, keep: NDArray[Any] | Sequence[int]) -> Objects:
        """Return the objects at a boolean mask [N] or at positions, in that order."""
        index = np.asarray(keep)
        if index.dtype == bool:
            index = np.flatnonzero(index)
        index = index.astype(np.int64)
        columns: Json = {}
        for column in fields(self):
            values = getattr(self, column.name)
            if isinstance(values, np.ndarray):
                columns[column.name] = values[index]
            else:
                columns[column.name] = tuple(values[i] for i in index)
        return Objects(**columns)

    def without_crowds(self) -> Objects:
        """Return the objects that are no crowds."""
        return self.select(~self.iscrowd)

    def scaled(self, old: Size, new: Size) -> Objects:
        """Return the objects of an image of size `old` as they lie in one of `new`.

        Masks belong to one size of image and are dropped.
        """
        old_area = old[0] * old[1]
        ratio = (new[0] * new[1]) / old_area
        return replace(
            self,
            boxes=scale_boxes(self.boxes, old, new),
            layout_boxes=scale_boxes(self.layout_boxes, old, new),
            area=self.area * np.float32(ratio),
            rle=(None,) * len(self),
        )

    @staticmethod
    def build(
        category: Sequence[int] | NDArray[Any],
        boxes: Sequence[Sequence[float]] | NDArray[Any],
        **columns: Any,
    ) -> Objects:
        """Make objects from categories [N] and xyxy boxes [N, 4].

        Columns that are not given take the value of a human box label.
        """
        n = len(category)
        box = np.asarray(boxes, np.float32).reshape(n, 4)

        def array(name: str, dtype: type[np.generic], default: Any) -> NDArray[Any]:
            return np.asarray(columns.pop(name, default), dtype)

        def texts(name: str, default: str | None) -> tuple[Any, ...]:
            return tuple(columns.pop(name, (default,) * n))

        objects = Objects(
            category=np.asarray(category, np.int32),
            boxes=box,
            id=array("id", np.int64, np.arange(1, n + 1)),
            rle=texts("rle", None),
            area=array("area", np.float32, box_areas(box)),
            iscrowd=array("iscrowd", np.bool_, np.zeros(n)),
            isthing=array("isthing", np.bool_, np.ones(n)),
            score=array("score", np.float32, np.ones(n)),
            source=texts("source", "human"),
            layout_boxes=array("layout_boxes", np.float32, box).reshape(n, 4),
            verdict=texts("verdict", None),
            verdict_score=array("verdict_score", np.float32, np.full(n, np.nan)),
            verdict_iou=array("verdict_iou", np.float32, np.full(n, np.nan)),
        )
        assert not columns, f"unknown columns {sorted(columns)}"
        return objects


class Relation(NamedTuple):
    """A named relation between two objects of an image, such as a man on a horse."""

    subject: int  # id of the object
    predicate: str
    object: int  # id of the other object


@dataclass(frozen=True)
class Scene:
    """One image with its objects.

    `panoptic` is a COCO panoptic PNG, its ids are the low 24 bits of `objects.id`. Relations may
    name objects that are no longer there.
    """

    image_id: str
    height: int
    width: int
    image: ImageRef
    objects: Objects
    panoptic: ImageRef | None = None
    provenance: Provenance | None = None
    relations: tuple[Relation, ...] = ()

    @property
    def size(self) -> Size:
        """The size (H, W) in pixels."""
        return self.height, self.width

    def with_objects(self, objects: Objects) -> Scene:
        """Return the same image with other objects."""
        return replace(self, objects=objects)


class Dataset(ABC):
    """A map-style table of scenes: what every format reads and every step consumes.

    `skipped` counts, by reason, what was left out when the set was opened (nothing is lost without
    being counted). `has_labels` is False for images that nobody labelled, `has_relations` True for
    scene graphs.
    """

    categories: tuple[Category, ...]
    skipped: Counter[str]
    has_labels: bool = True
    has_relations: bool = False

    @abstractmethod
    def __len__(self) -> int: ...

    @abstractmethod
    def __getitem__(self, index: int) -> Scene: ...

    @abstractmethod
    def fingerprint(self) -> str:
        """Return a hex digest that changes with the content; cheap, no pixels are decoded."""

    def skips_bad(self, index: int) -> bool | None:
        """Whether scene `index` is to be left out, and counted, when it cannot be read.

        None where nobody said so of this set.
        """
        return None

    def __iter__(self) -> Iterator[Scene]:
        """Yield the scenes in order, one at a time."""
        for index in range(len(self)):
            yield self[index]


@dataclass
class SceneList(Dataset):
    """A Dataset held in memory, for tests and small tables."""

    categories: tuple[Category, ...]
    scenes: list[Scene]
    skipped: Counter[str] = field(default_factory=Counter)

    def __len__(self) -> int:
        return len(self.scenes)

    def __getitem__(self, index: int) -> Scene:
        return self.scenes[index]

    def fingerprint(self) -> str:
        """Return the digest of ids and boxes."""
        digest = hashlib.sha256()
        for scene in self.scenes:
            digest.update(scene.image_id.encode())
            digest.update(scene.objects.boxes.tobytes())
        return digest.hexdigest()


def class_counts(scenes: Iterable[Scene], num_classes: int) -> Ints:
    """Count the objects of each class [C] of a table or of scenes, without crowds."""
    counts = np.zeros(num_classes, np.int64)
    for scene in scenes:
        objects = scene.objects
        counted = objects.category[~objects.iscrowd]
        counts += np.bincount(counted, minlength=num_classes)
    return counts
