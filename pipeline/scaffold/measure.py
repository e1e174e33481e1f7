"""What the splits of a job hold, as far as its settings depend on it."""

from __future__ import annotations

import tempfile
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import PurePath

import numpy as np

from synthaug.pipeline.config.derive import Measured, relative_sides
from synthaug.pipeline.core.boxes import Size
from synthaug.pipeline.core.images import Pixels, decode_with_file
from synthaug.pipeline.core.readable import read_scene
from synthaug.pipeline.core.scene import Category, Dataset, Scene
from synthaug.pipeline.core.skipped import Skipped
from synthaug.pipeline.core.storage import Folder
from synthaug.pipeline.leaks.hashing import Signature, signature
from synthaug.pipeline.leaks.pairs import Pair, find_pairs
from synthaug.pipeline.leaks.signatures import read_signatures, write_signatures
from synthaug.pipeline.survey.workers import look_at_all, num_workers

Progress = Callable[[int, int, str], None]
MOST_COMPARED = 5000  # images in all splits that are compared with each other


@dataclass(frozen=True, slots=True)
class Glance:
    """What is kept of one image."""

    size: Size  # (H, W)
    is_jpeg: bool
    has_map: bool
    classes: tuple[int, ...]  # [N] of each object that is no crowd
    sides: tuple[float, ...]  # [N] roots of areas over the image's shorter side
    longer_sides: tuple[float, ...]  # [N] of the boxes, pixels
    masks: int  # objects that have one
    image_id: str
    file: str
    signature: Signature | None


@dataclass
class SplitFacts:
    """What one split holds."""

    categories: tuple[Category, ...]
    skipped: Skipped  # by the reader, and images that cannot be read
    glances: list[Glance] = field(default_factory=list)
    objects: Counter[int] = field(default_factory=Counter)  # by class, without crowds
    images_of: Counter[int] = field(default_factory=Counter)  # images that show a class
    longer_sides: dict[int, list[float]] = field(default_factory=dict)  # of each class, pixels

    @property
    def num_images(self) -> int:
        """The number of images that can be read."""
        return len(self.glances)

    @property
    def num_objects(self) -> int:
        """The number of objects that are no crowds."""
        return self.objects.total()

    @property
    def things(self) -> list[int]:
        """The classes of things, by index."""
        return [at for at, category in enumerate(self.categories) if category.isthing]

    @property
    def most_objects(self) -> int:
        """The number of objects of the fullest image."""
        return max((len(glance.classes) for glance in self.glances), default=0)

    @property
    def has_maps(self) -> bool:
        """Whether images have panoptic maps."""
        return any(glance.has_map for glance in self.glances)

    @property
    def jpegs(self) -> float:
        """The share of the images that are JPEG files."""
        return float(np.mean([glance.is_jpeg for glance in self.glances] or [False]))

    @property
    def masks(self) -> float:
        """The share of the objects that have masks."""
        with_mask = sum(glance.masks for glance in self.glances)
        return with_mask / max(self.num_objects, 1)

    @property
    def median_size(self) -> Size:
        """The median height and width, pixels."""
        sizes = np.array([glance.size for glance in self.glances] or [(0, 0)])
        height, width = np.median(sizes, axis=0).round().astype(int).tolist()
        return height, width

    def told(self) -> str:
        """Return the numbers of images and objects in words."""
        images = "1 image" if self.num_images == 1 else f"{self.num_images} images"
        objects = "1 object" if self.num_objects == 1 else f"{self.num_objects} objects"
        return f"{images}, {objects}"

    def measured(self) -> Measured:
        """Return what settings of the detector derive from."""
        sizes = [glance.size for glance in self.glances]
        sides: list[float] = []
        for glance in self.glances:
            sides += glance.sides
        return Measured.of(sizes, sides)

    def add(self, glance: Glance) -> None:
        """Count one image."""
        self.glances.append(glance)
        self.objects.update(glance.classes)
        self.images_of.update(set(glance.classes))
        for category, side in zip(glance.classes, glance.longer_sides, strict=True):
            self.longer_sides.setdefault(category, []).append(side)


def look_at_splits(splits: Mapping[str, Dataset], progress: Progress) -> dict[str, SplitFacts]:
    """Decode every image of the splits once, on all cores, and return what they hold."""
    total = sum(len(table) for table in splits.values())
    look = glance_with_signature if total <= MOST_COMPARED else glance
    facts = {}
    done = 0
    for split, table in splits.items():
        own = SplitFacts(table.categories, Skipped(table.skipped))
        for glances, skipped in look_at_all(table, num_workers(len(table)), look):
            for one in glances:
                own.add(one)
            own.skipped.take(skipped)
            done += len(glances) + skipped.wrong.total()
            progress(done, total, "images looked at")
        facts[split] = own
    return facts


def glance(table: Dataset, index: int, skipped: Skipped) -> Glance | None:
    """Return what is kept of an image; None, counted, for one that cannot be read."""
    return _looked_at(table, index, skipped, with_signature=False)


def glance_with_signature(table: Dataset, index: int, skipped: Skipped) -> Glance | None:
    """Return the same with what tells copies of the image."""
    return _looked_at(table, index, skipped, with_signature=True)


def _looked_at(table: Dataset, index: int, skipped: Skipped, with_signature: bool) -> Glance | None:
    found: list[Glance] = []

    def look(scene: Scene) -> None:
        pixels, file = decode_with_file(scene)
        found.append(_glance(scene, pixels, file.format == "JPEG", with_signature))

    read_scene(table, index, skipped, otherwise=True, look=look)
    return found[0] if found else None


def _glance(scene: Scene, pixels: Pixels, is_jpeg: bool, with_signature: bool) -> Glance:
    objects = scene.objects.without_crowds()
    extents = objects.boxes[:, 2:] - objects.boxes[:, :2]
    return Glance(
        size=scene.size,
        is_jpeg=is_jpeg,
        has_map=scene.panoptic is not None,
        classes=tuple(objects.category.tolist()),
        sides=tuple(relative_sides(scene)),
        longer_sides=tuple(extents.max(axis=1).tolist()),
        masks=sum(rle is not None for rle in objects.rle),
        image_id=scene.image_id,
        file=PurePath(scene.image.path or "").name,
        signature=signature(pixels) if with_signature else None,
    )


def copies(facts: Mapping[str, SplitFacts]) -> list[Pair] | None:
    """Return pairs of images of two splits that show the same; None if not compared."""
    group = {split: number for number, split in enumerate(facts)}
    with tempfile.TemporaryDirectory() as place:
        folders: list[tuple[str, Folder]] = []
        for split, own in facts.items():
            rows = _signature_rows(own.glances)
            if rows is None:
                return None
            folder = Folder.at(place).sub(split)
            write_signatures(folder, "all", rows)
            folders.append((split, folder))
        return find_pairs(read_signatures(folders), group)


def _signature_rows(glances: Sequence[Glance]) -> list[tuple[str, str, Signature]] | None:
    rows = []
    for one in glances:
        if one.signature is None:
            return None
        rows.append((one.image_id, one.file, one.signature))
    return rows
