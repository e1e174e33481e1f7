"""Visual Genome as layout-to-image papers use it, with the filters of LostGAN.

Reference: `visual_genome:FOLDER?split=train`. The folder has image_data.json, objects.json and
vg_splits.json; object_alias.txt, relationships.json and relationship_alias.txt are used where they
are there.

The classes are the names (after aliases) of at least `min_count` objects of training images, the
most frequent first, equally frequent ones by the alphabet; `Category.id` is the rank from 1, 0
being "__image__" in the papers, which is no class. Whoever counts another release may get another
order: to use someone's network, give its `vocabulary`.

An object takes the first of its names that is a class. Of an image that stays, the published loader
takes the objects in relationships, then others until one of `places` is left, which is for the
image itself; where those in relationships leave none, `places` of them. It draws which anew each
time. Here the draw depends on the id of the image alone (pipeline/core/seeding.py), so every
reading gives the same objects, those in relationships first.
"""

from __future__ import annotations

import itertools
import json
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from synthaug.pipeline.core.errors import DatasetError
from synthaug.pipeline.core.json_values import Json
from synthaug.pipeline.core.scene import Category, ImageRef, Objects, Relation, Scene
from synthaug.pipeline.core.seeding import rng_for
from synthaug.pipeline.core.skipped import Skipped
from synthaug.pipeline.formats.checked import CheckedConfig, CheckedDataset
from synthaug.pipeline.formats.validation import Box, RecordError
from synthaug.pipeline.formats.visual_genome.files import (
    ALL,
    RELATIONS,
    SPLITS,
    Files,
    Picture,
    Vocabulary,
    locate,
    read_images,
    read_split,
    read_vocabulary,
)
from synthaug.pipeline.formats.visual_genome.records import (
    NamedObject,
    ObjectReader,
    read_relations,
)

_TRAIN = "train"  # the split vocabularies are counted in


@dataclass(frozen=True)
class Config(CheckedConfig):
    """Options of a reference; `path` is the folder. The numbers are the papers'."""

    # of vg_splits.json; or all: every image, and vocabularies are counted in every image
    split: str = _TRAIN
    # folder of VG_100K and VG_100K_2; by default `images` in path where that is there, else path
    images: str = ""
    vocabulary: str = ""  # JSON file of the class names, instead of counting them
    relationships: str = ""  # required | ignored; by default required where the file is there
    min_side: int = 200  # of an image, pixels
    min_count: int = 2000  # objects of a class in training images
    min_size: float = 32.0  # of an object's width and height, pixels
    min_objects: int = 3  # per image
    max_objects: int = 30
    min_predicate: int = 500  # relationships of a usable predicate in training images
    min_relationships: int = 1  # usable ones per image
    max_relationships: int = 30
    places: int = 30  # objects taken per image

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.relationships not in ("", "required", "ignored"):
            raise ValueError(f"relationships is '{self.relationships}'; use required or ignored")
        for name in ("min_side", "min_count", "min_size", "min_objects", "min_predicate"):
            _check_not_negative(name, getattr(self, name))
        _check_not_negative("min_relationships", self.min_relationships)
        for what in ("objects", "relationships"):
            low = getattr(self, f"min_{what}")
            high = getattr(self, f"max_{what}")
            if low > high:
                raise ValueError(f"min_{what}={low} is over max_{what}={high}; exchange them")
        if self.places < 1:
            raise ValueError(f"places is {self.places}; use 1 or more")

    def rules(self) -> str:
        """Return the options that decide which objects of which images are read."""
        elsewhere = ("path", "images", "vocabulary")
        shared = [field.name for field in fields(CheckedConfig)]
        names = [field.name for field in fields(self) if field.name not in (*elsewhere, *shared)]
        return " ".join(f"{name}={getattr(self, name)!r}" for name in names)


def _check_not_negative(name: str, value: float) -> None:
    if not value >= 0:
        raise ValueError(f"{name} is {value}; use 0 or more")


@dataclass(frozen=True, slots=True)
class Label:
    """An object of a class, inside its image."""

    object_id: int
    category: int  # index
    box: Box
    clipped: bool


Row = tuple[Picture, list[Label], list[Relation]]


class VisualGenome(CheckedDataset[Row]):
    """The images that passed the filters, with boxes; every class is a thing."""

    def __init__(
        self,
        categories: tuple[Category, ...],
        rows: list[Row],
        digest: str,
        skipped: Skipped,
        has_relations: bool,
    ) -> None:
        """`digest` is that of the files and of the filters."""
        self._digest = digest
        self.has_relations = has_relations
        self._ids = _unique_ids(rows, skipped)
        for _, labels, _ in rows:
            skipped["clipped to image"] += sum(label.clipped for label in labels)
        super().__init__(categories, rows, skipped)

    def scene(self, index: int, row: Row) -> Scene:
        """Return a scene."""
        picture, labels, related = row
        ids = self._ids[index]
        objects = Objects.build(
            [label.category for label in labels],
            [label.box for label in labels],
            id=ids,
        )
        id_of = {label.object_id: own for label, own in zip(labels, ids, strict=True)}
        relations = []
        for subject, predicate, other in related:
            relations.append(Relation(id_of[subject], predicate, id_of[other]))
        return Scene(
            str(picture.image_id),
            picture.height,
            picture.width,
            ImageRef(None, str(picture.path)),
            objects,
            relations=tuple(relations),
        )

    def content(self) -> str:
        """Return the digest of files and filters, and the name and size of every image."""
        images = [(picture.name, picture.num_bytes) for picture, _, _ in self.rows]
        kind = "scene graphs" if self.has_relations else "objects"
        return f"{self._digest} {kind} {json.dumps(images)}"


def _unique_ids(rows: list[Row], skipped: Skipped) -> list[list[int]]:
    """Return the ids of every image's objects: the file's if unique, or 1, 2, 3 ..."""
    ids = []
    for _, labels, _ in rows:
        ids.append([label.object_id for label in labels])
    every = list(itertools.chain.from_iterable(ids))
    if len(set(every)) == len(every) and all(1 <= i < 1 << 63 for i in every):
        return ids
    skipped["renumbered ids"] += len(every)
    for object_id, times in Counter(every).items():
        if times > 1:
            names = skipped.names.setdefault("renumbered ids", [])
            names.append(f"object {object_id} is there {times} times")
    numbered = []
    free = 1
    for _, labels, _ in rows:
        numbered.append(list(range(free, free + len(labels))))
        free += len(labels)
    return numbered


def read(config: Config, root: Path = Path()) -> VisualGenome:
    """Read the files and apply the filters; DatasetError for a missing file."""
    folder = root / config.path
    skipped = Skipped()
    if not folder.is_dir():
        raise DatasetError(
            f"{folder}: no such folder; give the one that holds objects.json and image_data.json"
        )
    files = Files(folder, config.on_bad, skipped, follow=config.follows_links)
    vocabulary = Vocabulary()
    if config.vocabulary:
        vocabulary = read_vocabulary(root / config.vocabulary, files)

    related = _needs_relations(config, files)
    images = read_images(files)
    counting = vocabulary.classes is None or (related and vocabulary.predicates is None)
    records, training = _split(config, files, images, counting)
    pictures = locate(files, records, _image_folder(config, root), config.max_pixels)

    reader = ObjectReader(files, images, pictures, training, config.min_size)
    reader.read()
    classes = vocabulary.classes or _frequent_names(reader.names, config, folder)
    labels = _classify(reader.objects, list(classes.values()))
    for key in pictures:
        num_objects = len(reader.objects.get(key, ()))
        skipped["object of no class"] += num_objects - len(labels.get(key, ()))

    relations: dict[int, list[Relation]] | None = None
    if related:
        every = read_relations(files, images, _object_ids(labels), training)
        predicates = vocabulary.predicates
        if predicates is None:
            predicates = _frequent_predicates(every, training, config.min_predicate)
        relations = _with_predicates(every, predicates)

    rows = _choose(pictures, labels, relations, config, skipped)
    categories = tuple(Category(key, name) for key, name in classes.items())
    digest = f"{' '.join(files.digests)} {config.rules()}"
    return VisualGenome(categories, rows, digest, skipped, related)


def _object_ids(labels: Mapping[int, list[Label]]) -> dict[int, set[int]]:
    """Return the ids of the objects of each image."""
    ids = {}
    for key, listed in labels.items():
        ids[key] = {label.object_id for label in listed}
    return ids


def _needs_relations(config: Config, files: Files) -> bool:
    if config.relationships == "ignored":
        return False
    if config.relationships == "required" and not files.has(RELATIONS):
        raise DatasetError(
            f"{files.folder / RELATIONS}: no such file; put it there, or give relationships=ignored"
        )
    return files.has(RELATIONS)


def _split(
    config: Config, files: Files, images: dict[int, Json], counting: bool
) -> tuple[list[Json], set[int]]:
    """Return the records of the split's large images, and the ids of training images.

    The latter are none where nothing is counted in them.
    """
    ids = list(images)
    if config.split != ALL:
        ids = read_split(files, config.split)
    training: list[int] = []
    if config.split in (_TRAIN, ALL):
        training = ids
    elif counting:
        training = read_split(files, _TRAIN)

    def check_known(key: Any) -> None:
        if key not in images:
            raise RecordError("unknown image", f"image {key} has no record in image_data.json")

    files.check(SPLITS, ids, f"{config.split} image", check_known, "")
    large = set()
    for key, image in images.items():
        if min(image["height"], image["width"]) >= config.min_side:
            large.add(key)
    known = [key for key in ids if key in images]
    records = [images[key] for key in known if key in large]
    reason = f"image with a side under {config.min_side} px"
    files.skipped[reason] += len(known) - len(records)
    return records, large.intersection(training)


def _image_folder(config: Config, root: Path) -> Path:
    if config.images:
        if not (root / config.images).is_dir():
            raise DatasetError(
                f"{root / config.images}: no such folder; correct the option images="
            )
        return root / config.images
    inner = root / config.path / "images"
    if inner.is_dir():
        return inner
    return root / config.path


# --- classes and predicates ---


def _frequent_names(counts: Counter[str], config: Config, folder: Path) -> dict[int, str]:
    """Return the classes by rank."""
    ordered = sorted(counts.items(), key=lambda item: (-item[1], item[0]))
    names = [name for name, count in ordered if count >= config.min_count]
    if not names:
        most = "none at all"
        if ordered:
            most = f"'{ordered[0][0]}' with {ordered[0][1]}"
        raise DatasetError(
            f"{folder}: no name has min_count={config.min_count} objects in training images (the "
            f"most has {most}); lower it"
        )
    return dict(enumerate(names, 1))


def _classify(
    objects: Mapping[int, list[NamedObject]], classes: list[str]
) -> dict[int, list[Label]]:
    """Give every object the first of its names that is a class; leave out others."""
    index = {name: k for k, name in enumerate(classes)}
    labels: dict[int, list[Label]] = {}
    for key, listed in objects.items():
        labels[key] = []
        for item in listed:
            known = [index[name] for name in item.names if name in index]
            if known:
                labels[key].append(Label(item.object_id, known[0], item.box, item.clipped))
    return labels


def _frequent_predicates(
    relations: Mapping[int, list[Relation]], training: set[int], min_count: int
) -> frozenset[str]:
    """Return the predicates of at least `min_count` relationships in training images."""
    counts: Counter[str] = Counter()
    for key in training:
        counts.update(predicate for _, predicate, _ in relations.get(key, ()))
    return frozenset(name for name, count in counts.items() if count >= min_count)


def _with_predicates(
    relations: Mapping[int, list[Relation]], predicates: frozenset[str]
) -> dict[int, list[Relation]]:
    """Leave out relationships of other predicates."""
    kept = {}
    for key, listed in relations.items():
        kept[key] = [relation for relation in listed if relation.predicate in predicates]
    return kept


# --- the filters of images ---


def _choose(
    pictures: Mapping[int, Picture],
    labels: Mapping[int, list[Label]],
    relations: Mapping[int, list[Relation]] | None,
    config: Config,
    skipped: Counter[str],
) -> list[Row]:
    """Apply the filters of images, count losses, and take objects of the others."""
    rows: list[Row] = []
    for key, picture in pictures.items():
        in_image = labels.get(key, [])
        usable: list[Relation] = []
        reason = _refuse_objects(len(in_image), config)
        if relations is not None:
            usable = relations.get(key, [])
            reason = reason or _refuse_relationships(len(usable), config)
        if reason:
            skipped[reason] += 1
            skipped["object of an image left out"] += len(in_image)
            continue
        related_ids: set[int] = set()
        for subject, _, other in usable:
            related_ids |= {subject, other}
        taken = _take(in_image, related_ids, config.places, key)
        skipped[f"object beyond the {config.places} places"] += len(in_image) - len(taken)
        taken_ids = {label.object_id for label in taken}
        between = [one for one in usable if {one.subject, one.object} <= taken_ids]
        rows.append((picture, taken, between))
    return rows


def _refuse_objects(count: int, config: Config) -> str:
    """Return why an image with so many objects is left out; "" when it stays."""
    if count < config.min_objects:
        return f"image with fewer than {config.min_objects} objects"
    if count > config.max_objects:
        return f"image with more than {config.max_objects} objects"
    return ""


def _refuse_relationships(count: int, config: Config) -> str:
    """Return why an image with so many relationships is left out; "" when it stays."""
    if count < config.min_relationships:
        return f"image with fewer than {config.min_relationships} usable relationships"
    if count > config.max_relationships:
        return f"image with more than {config.max_relationships} usable relationships"
    return ""


def _take(labels: list[Label], related_ids: set[int], places: int, image_id: int) -> list[Label]:
    """Take objects as the published loader does, those in relationships first.

    File order within both kinds.
    """
    related = [label for label in labels if label.object_id in related_ids]
    others = [label for label in labels if label.object_id not in related_ids]
    rng = rng_for("visual_genome", image_id)

    def draw(group: list[Label], number: int) -> list[Label]:
        chosen = rng.permutation(len(group))[:number].tolist()
        return [group[i] for i in sorted(chosen)]

    if len(related) >= places:
        return draw(related, places)
    return related + draw(others, places - 1 - len(related))
