"""Which data sets lie in a folder or file, told from what the files hold.

Files are told by their keys, columns and elements, not by their names; names tell the splits.
Nothing is decoded or checked here: that is what the readers do.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from synthaug.pipeline.core.errors import DatasetError, one_line
from synthaug.pipeline.core.skipped import Skipped
from synthaug.pipeline.formats.archive import located
from synthaug.pipeline.formats.json_files import is_list, load_json, open_object
from synthaug.pipeline.formats.json_stream import Text
from synthaug.pipeline.formats.source_files import images_below, is_run

if TYPE_CHECKING:
    from synthaug.pipeline.formats.yolo.layout import Described

LABELLED, TRAIN, UNLABELLED = "labelled", "train", "unlabelled"
VALIDATION, TEST, UNTOLD = "validation", "test", ""
SPLIT_WORDS = {  # in names of files and folders -> the split they mean
    "labelled": LABELLED,
    "labeled": LABELLED,
    "unlabelled": UNLABELLED,
    "unlabeled": UNLABELLED,
    "val": VALIDATION,
    "valid": VALIDATION,
    "validation": VALIDATION,
    "dev": VALIDATION,
    "test": TEST,
    "testing": TEST,
    "train": TRAIN,
    "training": TRAIN,
    "trainval": TRAIN,
    "default": TRAIN,
}
_FIRST = (UNLABELLED, LABELLED, VALIDATION, TEST, TRAIN)  # of several words in one name: counts
_DEEPEST = 3  # folders below the one that is named
_MOST_FILES = 50  # of annotations in one folder; more are files of one image each
_YOLO = ("data.yaml", "data.yml", "dataset.yaml", "dataset.yml", "obj.names")


@dataclass(frozen=True)
class FoundSet:
    """A data set that was recognized, and what its name says of it."""

    reference: str  # format:path?option=value, the path from the root
    place: str  # the path alone
    split: str  # LABELLED | TRAIN | UNLABELLED | VALIDATION | TEST | UNTOLD
    family: str  # what splits of one set share: format, folder and the rest of the name
    has_labels: bool = True

    @property
    def format(self) -> str:
        """The name of its format."""
        return self.reference.partition(":")[0]


def recognize(name: str, root: Path = Path()) -> list[FoundSet]:
    """Return the data sets in a folder, file or archive, in the order of their names.

    `name` is the path from the root. Raises DatasetError where there is none.
    """
    path = located(root, name)
    if not path.exists():
        raise DatasetError(f"{path}: no such file or folder; name the one of a data set")
    finder = _Finder(root)
    try:
        found = finder.in_file(path) if path.is_file() else finder.in_folder(path, _DEEPEST)
    except OSError as err:
        raise DatasetError(
            f"{err.filename or path}: cannot be read ({one_line(err)}); allow it, or name the sets"
        ) from err
    if not found:
        raise DatasetError(
            f"{path}: no data set is recognized there; name it with its format, such as "
            "coco:train.json (synthaug list names the formats)"
        )
    return found


def split_of(name: str) -> tuple[str, str]:
    """Return the split that a name tells, and the name without the words that tell it."""
    words = re.split(r"[^A-Za-z0-9]+", name)
    splits = set()
    rest = []
    for word in words:
        bare = word.lower().rstrip("0123456789")
        if bare in SPLIT_WORDS:
            splits.add(SPLIT_WORDS[bare])
        elif word:
            rest.append(word)
    told = next((split for split in _FIRST if split in splits), UNTOLD)
    return told, "_".join(rest)


class _Finder:
    """Looks into folders and files, and names what it finds from the root."""

    def __init__(self, root: Path) -> None:
        self._root = root

    def in_folder(self, folder: Path, depth: int, wants_pictures: bool = True) -> list[FoundSet]:
        """Return the sets of a folder: of the first kind there is, else those below."""
        kinds: tuple[Callable[[Path], list[FoundSet]], ...] = (
            self._yolo,
            self._visual_genome,
            self._cityscapes,
            self._voc,
            self._parquet,
        )
        for kind in kinds:
            found = kind(folder)
            if found:
                return found
        found = self._annotated(folder, depth)
        if found or not wants_pictures:
            return found
        if not images_below(folder, folder.resolve(), False, Skipped()):
            return []
        return [self._of_file("images", folder, labels=False)]

    def in_file(self, file: Path) -> list[FoundSet]:
        """Return the set of a file; none for one of another kind."""
        suffix = file.suffix.lower()
        if suffix == ".json":
            found = self._json(file)
            return [] if found is None else [found]
        if suffix == ".xml":
            return self._xml(file)
        if suffix == ".parquet":
            return self._table(file)
        if suffix in (".yaml", ".yml", ".names"):
            return self._yolo_splits(file.parent if suffix == ".names" else file)
        return []

    def _of_file(self, kind: str, file: Path, labels: bool = True) -> FoundSet:
        """Return a set that has one file or folder for each split."""
        told, rest = split_of(file.stem)
        home = file.parent
        if told == UNTOLD:  # train/_annotations.coco.json
            told, _ = split_of(home.name)
            if told != UNTOLD:
                home = home.parent
        place = self._place(file)
        family = f"{kind}:{self._place(home)}/{rest}"
        return FoundSet(f"{kind}:{place}", place, told, family, labels)

    def _of_split(self, kind: str, path: Path, split: str = "") -> FoundSet:
        """Return a split of a set whose reference has an option for it; "" = all of it."""
        told, _ = split_of(split)
        place = self._place(path)
        whole = f"{kind}:{place}"
        reference = f"{whole}?split={split}" if split else whole
        return FoundSet(reference, place, told, whole)

    def _place(self, path: Path) -> str:
        """Return a path as a reference names it: from the root where it lies there."""
        for root in (self._root, self._root.resolve()):
            if path.is_relative_to(root):
                return path.relative_to(root).as_posix()
        return path.as_posix()

    # --- folders of one set ---

    def _yolo(self, folder: Path) -> list[FoundSet]:
        is_described = any((folder / name).is_file() for name in _YOLO)
        if is_described or ((folder / "classes.txt").is_file() and _has_labels(folder)):
            return self._yolo_splits(folder)
        return []

    def _yolo_splits(self, path: Path) -> list[FoundSet]:
        from synthaug.pipeline.formats.yolo.layout import describe

        described = describe(path)
        if "names" not in described.document:
            return []
        names = {"train": "train", "val": "val", "validation": "val", "test": "test"}
        named = [names[key] for key in names if described.document.get(key)]
        there = [split for split in dict.fromkeys(named) if _has_images(described, split)]
        # where none is there the reader says so of the first one
        return [self._of_split("yolo", path, split) for split in there or named[:1]]

    def _visual_genome(self, folder: Path) -> list[FoundSet]:
        from synthaug.pipeline.formats.visual_genome.files import ALL, IMAGES, OBJECTS, SPLITS

        if not (folder / OBJECTS).is_file() or not (folder / IMAGES).is_file():
            return []
        if not (folder / SPLITS).is_file():
            return [self._of_split("visual_genome", folder, ALL)]
        splits, _ = load_json(folder / SPLITS)
        found = []
        for split in splits if isinstance(splits, dict) else ():
            found.append(self._of_split("visual_genome", folder, split))
        return found

    def _cityscapes(self, folder: Path) -> list[FoundSet]:
        if not (folder / "leftImg8bit").is_dir() or not (folder / "gtFine").is_dir():
            return []
        found = []
        for split in sorted((folder / "gtFine").iterdir()):
            if split.is_dir() and (folder / "leftImg8bit" / split.name).is_dir():
                found.append(self._of_split("cityscapes", folder, split.name))
        return found

    def _voc(self, folder: Path) -> list[FoundSet]:
        if not (folder / "Annotations").is_dir():
            return []
        lists = []
        for file in sorted((folder / "ImageSets" / "Main").glob("*.txt")):
            is_of_one_class = "_" in file.stem
            if not is_of_one_class:
                lists.append(file.stem)
        if "train" in lists and "trainval" in lists:
            lists.remove("trainval")  # train and val again
        if not lists or lists == ["default"]:
            return [self._of_split("voc", folder)]
        return [self._of_split("voc", folder, name) for name in lists]

    def _parquet(self, folder: Path) -> list[FoundSet]:
        files = sorted(folder.glob("*.parquet"))
        if files:
            return self._tables(folder, files)
        files = sorted((folder / "data").glob("*.parquet")) if (folder / "data").is_dir() else []
        return self._tables(folder, files) if files else []

    def _tables(self, folder: Path, files: list[Path]) -> list[FoundSet]:
        """Return the splits of a folder of Parquet files, ours or those of the hub."""
        is_ours = self._is_ours(files[0])
        splits = list(dict.fromkeys(file.stem.partition("-")[0] for file in files))
        told = [name for name in splits if split_of(name)[0] != UNTOLD]
        if is_ours and not told:
            return [self._of_file("parquet", files[0].parent)]
        kind = "hf" if is_ours else "hub"
        if not told:
            return [self._of_split(kind, folder)]
        return [self._of_split(kind, folder, name) for name in told]

    def _table(self, file: Path) -> list[FoundSet]:
        kind = "parquet" if self._is_ours(file) else "hub"
        return [self._of_file(kind, file)]

    def _is_ours(self, file: Path) -> bool:
        from synthaug.pipeline.formats.hub.tables import opened

        schema, _ = opened(file)
        return b"synthaug" in (schema.metadata or {})

    # --- files of annotations ---

    def _annotated(self, folder: Path, depth: int) -> list[FoundSet]:
        """Return the sets of the annotation files in a folder and in those below it."""
        entries = sorted(folder.iterdir())
        visible = [entry for entry in entries if not entry.name.startswith(".")]
        files = [entry for entry in visible if entry.is_file()]
        jsons = [file for file in files if file.suffix.lower() == ".json"]
        if jsons and self._is_labelme(jsons[0]):
            return [self._of_file("labelme", folder)]
        found = []
        for file in jsons[:_MOST_FILES]:
            sets = self._json(file)
            if sets is not None:
                found.append(sets)
        found += self._xml_folder(folder, files)
        for entry in visible if depth else ():
            if entry.is_dir() and not is_run(entry):
                found += self._below(entry, depth - 1)
        return _with_stuff(found)

    def _below(self, folder: Path, depth: int) -> list[FoundSet]:
        """Return the sets of an inner folder; its pictures are those of some file.

        But where its name says that they have no labels.
        """
        told, _ = split_of(folder.name)
        return self.in_folder(folder, depth, wants_pictures=told == UNLABELLED)

    def _is_labelme(self, file: Path) -> bool:
        try:
            document, _ = load_json(file) if file.stat().st_size < 1 << 24 else (None, "")
        except DatasetError:
            return False
        return isinstance(document, dict) and isinstance(document.get("shapes"), list)

    def _json(self, file: Path) -> FoundSet | None:
        """Return the set of a JSON file; None for one that holds something else."""
        with Text(file) as text:
            if text.next_sign() != "[":
                return self._json_object(file)
            first = next(text.elements(), None)
        return self._of_file("label_studio", file) if _is_task(first) else None

    def _json_object(self, file: Path) -> FoundSet | None:
        document, _ = open_object(file)
        images = document.get("images")
        if isinstance(document.get("shapes"), list):
            return self._of_file("labelme", file.parent)
        if not is_list(images) or next(iter(images), None) is None:
            return None
        annotations = document.get("annotations")
        if annotations is None or not is_list(annotations) or not len(annotations):
            return self._of_file("coco", file, labels=False)
        first = next(iter(annotations))
        if not isinstance(first, dict):
            return None
        if "segments_info" in first:
            return self._of_file("coco_panoptic", file)
        if "bbox" not in first and "segmentation" not in first:
            return None  # captions, scores
        image = next(iter(images))
        is_lvis = isinstance(image, dict) and "neg_category_ids" in image
        return self._of_file("lvis" if is_lvis else "coco", file)

    def _xml(self, file: Path) -> list[FoundSet]:
        root = self._root_tag(file)
        if root == "annotations":
            return [self._of_file("cvat", file)]
        if root == "annotation":
            return [self._of_file("voc", file.parent)]
        return []

    def _xml_folder(self, folder: Path, files: list[Path]) -> list[FoundSet]:
        xmls = [file for file in files if file.suffix.lower() == ".xml"]
        if not xmls:
            return []
        if self._root_tag(xmls[0]) == "annotation":
            return [self._of_file("voc", folder)]
        return list(itertools.chain.from_iterable(self._xml(file) for file in xmls[:_MOST_FILES]))

    def _root_tag(self, file: Path) -> str:
        """Return the name of the root element of an XML file, as far as its head shows it."""
        with file.open("rb") as stream:
            head: bytes = stream.read(4096)
        found = re.search(rb"<([A-Za-z][\w.-]*)", head)
        return found[1].decode("ascii") if found else ""


def _has_labels(folder: Path) -> bool:
    """Whether label files lie in labels/ (Label Studio) or beside images (labelImg)."""
    if (folder / "labels").is_dir():
        return True
    pictures = images_below(folder, folder.resolve(), False, Skipped())
    return any((folder / name).with_suffix(".txt").is_file() for name in pictures)


def _has_images(described: Described, split: str) -> bool:
    """Whether the folder or list is there that data.yaml names for a split."""
    from synthaug.pipeline.formats.yolo.layout import listed_images

    try:
        return any(
            listed.names for listed in listed_images(described, split, None, True, Skipped())
        )
    except DatasetError:
        return False


def _is_task(record: Any) -> bool:
    """Whether a record of a list is a task of Label Studio, in its long or short form."""
    if not isinstance(record, dict):
        return False
    is_long = "data" in record and ("annotations" in record or "completions" in record)
    return is_long or "annotator" in record or "annotation_id" in record


def _with_stuff(found: list[FoundSet]) -> list[FoundSet]:
    """Return the sets with things and stuff of one split as one, COCO-Stuff's.

    `instances_X.json` and `stuff_X.json` are two halves of its labels.
    """
    places = {one.place: one for one in found if one.format == "coco"}
    joined = []
    halves = set()
    for place, one in places.items():
        folder, slash, name = place.rpartition("/")
        stuff = f"{folder}{slash}{name.replace('instances_', 'stuff_')}"
        if name.startswith("instances_") and stuff in places:
            halves |= {place, stuff}
            options = "min_area=0&min_objects=0&max_objects=10000"
            reference = f"coco_stuff:{place}?{options}"
            joined.append(replace(one, reference=reference, family=f"coco_stuff:{folder}"))
    return [one for one in found if one.place not in halves] + joined
