"""Visual Genome as layout-to-image papers use it: objects.json and its companions, with the filters of LostGAN.

Reference: `visual_genome:FOLDER?split=train`. The folder has image_data.json, objects.json and vg_splits.json;
object_alias.txt, relationships.json and relationship_alias.txt are used where they are there.

The classes are the names (after aliases) of at least `min_count` objects of training images, the most frequent first, equally
frequent ones by the alphabet; `Category.id` is the rank from 1, 0 being "__image__" in the papers, which is no class.
Whoever counts another release may get another order: to use someone's network, give its `vocabulary`.

An object takes the first of its names that is a class. Of an image that stays, the published loader takes the objects in
relationships, then others until one of `places` is left, which is for the image itself; where those in relationships leave
none, `places` of them. It draws which anew each time. Here the draw depends on the id of the image alone
(pipeline/core/seeding.py), so every reading gives the same objects, those in relationships first.
"""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from synthaug.pipeline.core.errors import DatasetError
from synthaug.pipeline.core.scene import Category, Dataset, ImageRef, Objects, Scene
from synthaug.pipeline.core.seeding import rng_for
from synthaug.pipeline.formats.json_files import check_limits
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
    Found,
    ObjectReader,
    Relation,
    read_relations,
)

_TRAIN = "train"  # the split vocabularies are counted in


@dataclass(frozen=True)
class Config:
    """Options of a Visual Genome reference; `path` is the folder. The numbers are those of the papers."""

    path: str
    split: str = _TRAIN  # of vg_splits.json; or all: every image, and vocabularies are counted in every image
    images: str = ""  # folder of VG_100K and VG_100K_2; by default `images` in path where that is there, else path
    vocabulary: str = ""  # JSON file of the class names, instead of counting them
    relationships: str = (
        ""  # required | ignored; by default required where relationships.json is there
    )
    min_side: int = 200  # of an image, pixels
    min_count: int = 2000  # objects of a class in training images
    min_size: float = 32.0  # of an object's width and height, pixels
    min_objects: int = 3  # per image
    max_objects: int = 30
    min_predicate: int = (
        500  # relationships of a predicate in training images; rarer ones are unusable
    )
    min_relationships: int = 1  # usable ones per image
    max_relationships: int = 30
    places: int = 30  # objects taken per image
    on_bad: str = "stop"  # or "skip": leave bad records out and count them
    max_pixels: int = 100_000_000  # per image

    def __post_init__(self) -> None:
        check_limits(self.on_bad, self.max_pixels)
        if self.relationships not in ("", "required", "ignored"):
            raise ValueError(f"relationships is '{self.relationships}'; use required or ignored")
        for name in (
            "min_side",
            "min_count",
            "min_size",
            "min_objects",
            "min_predicate",
            "min_relationships",
        ):
            if not getattr(self, name) >= 0:
                raise ValueError(f"{name} is {getattr(self, name)}; use 0 or more")
        for low, high in (
            ("min_objects", "max_objects"),
            ("min_relationships", "max_relationships"),
        ):
            if getattr(self, low) > getattr(self, high):
                raise ValueError(
                    f"{low}={getattr(self, low)} is over {high}={getattr(self, high)}; exchange them"
                )
        if self.places < 1:
            raise ValueError(f"places is {self.places}; use 1 or more")


@dataclass(frozen=True, slots=True)
class _Label:
    object_id: int
    category: int  # index
    box: Box
    clipped: bool


_Rows = list[tuple[Picture, list[_Label]]]


class VisualGenome(Dataset):
    """The images that passed the filters with the objects taken of each; boxes only, and every class is a thing."""

    def __init__(
        self, categories: tuple[Category, ...], rows: _Rows, digest: str, skipped: Counter[str]
    ) -> None:
        self.categories, self._rows, self._digest = categories, rows, digest
        labels = [label for _, of in rows for label in of]
        ids = [label.object_id for label in labels]
        if len(set(ids)) < len(ids) or not all(1 <= i < 1 << 63 for i in ids):
            ids = list(range(1, len(ids) + 1))
            skipped["renumbered ids"] += len(ids)
        numbers = iter(ids)
        self._ids = [[next(numbers) for _ in of] for _, of in rows]
        skipped["clipped to image"] += sum(label.clipped for label in labels)
        self.skipped = +skipped

    def __len__(self) -> int:
        return len(self._rows)

    def __getitem__(self, index: int) -> Scene:
        if not 0 <= index < len(self):
            raise IndexError(index)
        picture, labels = self._rows[index]
        categories, boxes = [label.category for label in labels], [label.box for label in labels]
        objects = Objects.build(categories, boxes, id=self._ids[index])
        return Scene(
            str(picture.image_id),
            picture.height,
            picture.width,
            ImageRef(None, str(picture.path)),
            objects,
        )

    def fingerprint(self) -> str:
        """Digest of the files' bytes, of the filters and of the name and size of every image file."""
        images = [(picture.name, picture.size) for picture, _ in self._rows]
        return hashlib.sha256(f"{self._digest} {json.dumps(images)}".encode()).hexdigest()


def read(config: Config, root: Path = Path()) -> VisualGenome:
    """Read the files, check their records and keep what the filters let through; DatasetError for a missing file."""
    folder, skipped = root / config.path, Counter[str]()
    if not folder.is_dir():
        raise DatasetError(
            f"{folder}: no such folder; give the one that holds objects.json and image_data.json"
        )
    files = Files(folder, config.on_bad, skipped)
    vocabulary = (
        read_vocabulary(root / config.vocabulary, files) if config.vocabulary else Vocabulary()
    )
    related = _needs_relations(config, files)
    images = read_images(files)
    counting = vocabulary.classes is None or (related and vocabulary.predicates is None)
    wanted, training = _split(config, files, images, counting)
    pictures = locate(files, wanted, _image_folder(config, root), config.max_pixels)

    reader = ObjectReader(files, images, pictures, training, config.min_size)
    reader.read()
    classes = vocabulary.classes or _frequent_names(reader.names, config, folder)
    labels = _classify(reader.found, {name: index for index, name in enumerate(classes.values())})
    skipped["object of no class"] += sum(
        len(reader.found.get(k, ())) - len(labels.get(k, ())) for k in pictures
    )
    relations: dict[int, list[Relation]] | None = None
    if related:
        ids = {key: {label.object_id for label in of} for key, of in labels.items()}
        relations = read_relations(files, images, ids, training)
        relations = _usable(relations, vocabulary.predicates, training, config.min_predicate)
    rows = _choose(pictures, labels, relations, config, skipped)
    rules = replace(config, path="", images="", vocabulary="", on_bad="stop", max_pixels=1)
    categories = tuple(Category(key, name) for key, name in classes.items())
    return VisualGenome(categories, rows, f"{' '.join(files.digests)} {rules}", skipped)


def _needs_relations(config: Config, files: Files) -> bool:
    if config.relationships == "required" and not files.has(RELATIONS):
        raise DatasetError(
            f"{files.folder / RELATIONS}: no such file; put it there, or give relationships=ignored"
        )
    return config.relationships != "ignored" and files.has(RELATIONS)


def _split(
    config: Config, files: Files, images: dict[int, dict[str, Any]], counting: bool
) -> tuple[list[dict[str, Any]], set[int]]:
    """Return the records of the large enough images of the split, and the ids of training images, if those are to count."""
    wanted = list(images) if config.split == ALL else read_split(files, config.split)
    training = (
        wanted if config.split in (_TRAIN, ALL) else read_split(files, _TRAIN) if counting else []
    )

    def known(key: Any) -> None:
        if key not in images:
            raise RecordError("unknown image", f"image {key} has no record in image_data.json")

    files.check(SPLITS, wanted, f"{config.split} image", known, "")
    wanted = [key for key in wanted if key in images]
    large = {
        key
        for key, image in images.items()
        if min(image["height"], image["width"]) >= config.min_side
    }
    files.skipped[f"image with a side under {config.min_side} px"] += sum(
        key not in large for key in wanted
    )
    return [images[key] for key in wanted if key in large], large.intersection(training)


def _image_folder(config: Config, root: Path) -> Path:
    if config.images:
        if not (root / config.images).is_dir():
            raise DatasetError(
                f"{root / config.images}: no such folder; correct the option images="
            )
        return root / config.images
    within = root / config.path / "images"
    return within if within.is_dir() else root / config.path


def _frequent_names(counts: Counter[str], config: Config, folder: Path) -> dict[int, str]:
    """Return the classes by rank."""
    ordered = sorted(counts.items(), key=lambda item: (-item[1], item[0]))
    names = [name for name, count in ordered if count >= config.min_count]
    if not names:
        most = f"'{ordered[0][0]}' with {ordered[0][1]}" if ordered else "none at all"
        raise DatasetError(
            f"{folder}: no name has min_count={config.min_count} objects in training images (the most has {most}); lower it"
        )
    return dict(enumerate(names, 1))


def _classify(
    found: Mapping[int, list[Found]], index: Mapping[str, int]
) -> dict[int, list[_Label]]:
    """Give every object the first of its names that is a class; leave out those that have none."""
    labels: dict[int, list[_Label]] = {}
    for key, objects in found.items():
        named = (
            (item, next((name for name in item.names if name in index), None)) for item in objects
        )
        labels[key] = [
            _Label(item.object_id, index[name], item.box, item.clipped)
            for item, name in named
            if name is not None
        ]
    return labels


def _usable(
    relations: dict[int, list[Relation]],
    predicates: frozenset[str] | None,
    training: set[int],
    least: int,
) -> dict[int, list[Relation]]:
    """Leave out relationships of other predicates than the given ones, or than those frequent in training images."""
    if predicates is None:
        counts = Counter(
            predicate for key in training for _, predicate, _ in relations.get(key, ())
        )
        predicates = frozenset(name for name, count in counts.items() if count >= least)
    return {
        key: [relation for relation in of if relation[1] in predicates]
        for key, of in relations.items()
    }


def _choose(
    pictures: Mapping[int, Picture],
    labels: Mapping[int, list[_Label]],
    relations: Mapping[int, list[Relation]] | None,
    config: Config,
    skipped: Counter[str],
) -> _Rows:
    """Apply the filters of images, count what they leave out, and take the objects of the others."""
    rows: _Rows = []
    for key, picture in pictures.items():
        here = labels.get(key, [])
        related = relations.get(key, []) if relations is not None else []
        reason = _unfit(len(here), None if relations is None else len(related), config)
        if reason:
            skipped[reason] += 1
            skipped["object of an image left out"] += len(here)
            continue
        ends = {end for subject, _, other in related for end in (subject, other)}
        taken = _take(here, ends, config.places, key)
        skipped[f"object beyond the {config.places} places"] += len(here) - len(taken)
        rows.append((picture, taken))
    return rows


def _unfit(num_objects: int, num_relations: int | None, config: Config) -> str:
    """Say why an image is left out; nothing when it stays."""
    if num_objects < config.min_objects:
        return f"image with fewer than {config.min_objects} objects"
    if num_objects > config.max_objects:
        return f"image with more than {config.max_objects} objects"
    if num_relations is not None and num_relations < config.min_relationships:
        return f"image with fewer than {config.min_relationships} usable relationships"
    if num_relations is not None and num_relations > config.max_relationships:
        return f"image with more than {config.max_relationships} usable relationships"
    return ""


def _take(labels: list[_Label], ends: set[int], places: int, image_id: int) -> list[_Label]:
    """Take objects as the published loader does, those whose id is in `ends` first; file order within both kinds."""
    related = [label for label in labels if label.object_id in ends]
    others = [label for label in labels if label.object_id not in ends]
    rng = rng_for("visual_genome", image_id)

    def draw(group: list[_Label], number: int) -> list[_Label]:
        return [group[i] for i in sorted(rng.permutation(len(group))[:number].tolist())]

    if len(related) >= places:
        return draw(related, places)
    return related + draw(others, places - 1 - len(related))
