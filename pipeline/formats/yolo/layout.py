"""Where the parts of a YOLO folder lie: data.yaml, images and label files."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

import yaml

from synthaug.pipeline.core.errors import DatasetError, one_line, suggest
from synthaug.pipeline.core.json_values import Json
from synthaug.pipeline.core.scene import Category
from synthaug.pipeline.core.skipped import Skipped
from synthaug.pipeline.formats.checked import numbered_categories
from synthaug.pipeline.formats.source_files import images_below, read_lines, read_text
from synthaug.pipeline.formats.validation import is_int, is_name, is_text
from synthaug.pipeline.formats.yolo.rows import TASKS, Columns
from synthaug.pipeline.formats.yolo.write import EXTRA, SPLITS

_YAML = ("data.yaml", "data.yml", "dataset.yaml", "dataset.yml")


@dataclass(frozen=True)
class Described:
    """What data.yaml, or what stands for it, says."""

    file: Path
    document: Json
    digest: str

    @property
    def home(self) -> Path:
        """The folder of the set."""
        return self.file.parent.resolve()

    @property
    def is_ours(self) -> bool:
        """Whether our own writer made it."""
        return isinstance(self.document.get(EXTRA), list)


def describe(path: Path) -> Described:
    """Load data.yaml, or what other tools write in its place."""
    if path.suffix in (".yaml", ".yml"):
        return _load(path)
    for name in _YAML:
        if (path / name).is_file():
            return _load(path / name)
    names = path / "classes.txt"
    if names.is_file():
        folder = "images"  # Label Studio
        if not (path / folder).is_dir():
            folder = "."  # labelImg: labels beside the images
        return _from_names(names, {"train": folder})
    names = path / "obj.names"  # Darknet, and CVAT's "YOLO 1.1"
    if names.is_file():
        lists = {"train": "train.txt", "val": "valid.txt", "test": "test.txt"}
        return _from_names(names, lists)
    others = sorted(file.name for file in path.glob("*.y*ml"))[:5]
    hint = f"; there is {', '.join(others)}: name the file itself" if others else ""
    return _load(path / _YAML[0], hint)


def _load(file: Path, hint: str = "") -> Described:
    if hint and not file.is_file():
        raise DatasetError(f"{file}: cannot be read (No such file or directory){hint}")
    text, digest = read_text(file)
    try:
        document = _UniqueKeys(text).get_single_data()
    except (yaml.YAMLError, ValueError, RecursionError) as err:
        raise DatasetError(f"{file}: not valid YAML ({one_line(err)}); correct the file") from err
    if not isinstance(document, dict):
        raise DatasetError(
            f"{file}: the top level must be keys with values (train, val, names); this is no "
            "data.yaml"
        )
    return Described(file, document, digest)


class _UniqueKeys(yaml.SafeLoader):
    """Refuses a key that stands twice in one mapping: YAML would take the last one."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        """Return a mapping."""
        seen: set[str] = set()
        for key, _ in node.value:
            if not isinstance(key, yaml.ScalarNode):
                continue
            if key.value in seen:
                raise yaml.YAMLError(f"the key {key.value[:100]!r} is there twice; keep one")
            seen.add(key.value)
        return super().construct_mapping(node, deep)


def _from_names(file: Path, splits: dict[str, str]) -> Described:
    _, digest = read_text(file)
    document: Json = {"names": read_lines(file), **splits}
    return Described(file, document, digest)


def columns_of(described: Described, task: str) -> Columns:
    """Return what the columns of lines are, by the option or by data.yaml."""
    document = described.document
    shape: Any = document.get("kpt_shape")
    if not task:
        told = document.get("task")
        task = told if told in TASKS else ""
    if not task and shape is not None:
        task = "pose"
    if task != "pose":
        return Columns(task)
    is_shape = isinstance(shape, list) and len(shape) == 2 and all(is_int(n) for n in shape)
    if not is_shape or not (shape[0] >= 1 and shape[1] in (2, 3)):
        raise DatasetError(
            f"{described.file}: kpt_shape must be [number of key points, 2 or 3], "
            f"not {_describe(shape)}; correct it"
        )
    return Columns(task, shape[0] * shape[1])


# --- classes ---


def categories_of(document: Json, file: Path) -> tuple[Category, ...]:
    """Return the classes of `names`, with ids from 1.

    Those of our own export get back the ids they had.
    """
    names = _class_names(document.get("names"), file)
    count = document.get("nc")
    if is_int(count) and count != len(names):
        raise DatasetError(
            f"{file}: nc is {count} and 'names' lists {len(names)} classes; correct one of them"
        )
    exported = _exported_classes(document.get(EXTRA))
    ids = {category.id for category in exported}
    if [category.name for category in exported] == names and len(ids) == len(exported):
        return tuple(exported)
    for name in names:
        if names.count(name) > 1:
            raise DatasetError(
                f"{file}: two classes are called {name!r}; rename one, or give both one number"
            )
    return numbered_categories(names)


def _class_names(value: Any, file: Path) -> list[str]:
    """Return the names in order: they are listed, or numbered from 0."""
    if value is None:
        raise DatasetError(
            f"{file}: 'names' is missing: it must list the classes in the order of their numbers; "
            "add it"
        )
    names = value
    if isinstance(value, dict):
        numbered = {}
        for key, name in value.items():
            number = key
            if _is_digits(key):
                number = int(key)
            numbered[number] = name
        if sorted(numbered, key=str) != sorted(range(len(value)), key=str):
            raise DatasetError(
                f"{file}: the numbers in 'names' must run from 0 to {len(value) - 1}; correct it"
            )
        names = [numbered[k] for k in range(len(value))]
    wrong = _first_wrong_name(names)
    if wrong is not None:
        raise DatasetError(
            f"{file}: 'names' must list the classes as texts, not {wrong}; correct it, "
            "and put names that are numbers or yes and no in quotes"
        )
    return list(names)


def _is_digits(key: Any) -> bool:
    return isinstance(key, str) and key.isascii() and key.isdigit() and len(key) < 10


def _first_wrong_name(names: Any) -> str | None:
    """Return what is wrong with the names, for a message; None when they are good."""
    if not isinstance(names, list) or not names:
        return _describe(names)
    for name in names:
        if not is_name(name):
            return _describe(name)
    return None


def _describe(value: Any) -> str:
    """Return a value for a message.

    A few lines of YAML can stand for a list that no memory holds as text.
    """
    if isinstance(value, (list, dict, set)):
        return type(value).__name__
    return repr(value)[:100]


def _exported_classes(records: Any) -> list[Category]:
    """Return the classes of our own writer in data.yaml; none when one is wrong."""
    if not isinstance(records, list):
        return []
    categories = []
    for record in records:
        if not isinstance(record, dict):
            return []
        key = record.get("id")
        name = record.get("name")
        parent = record.get("supercategory", "")
        if not is_int(key) or not is_text(name) or not is_text(parent):
            return []
        categories.append(Category(key, name, parent, record.get("isthing") is not False))
    return categories


# --- images and their labels ---


@dataclass(frozen=True)
class Listed:
    """Images of a split: those of one folder, or of one list."""

    root: Path  # resolved; names are relative to it
    label_root: Path  # a folder `images` is looked for below it
    names: list[str]
    strip: str  # what names begin with and image ids do not
    is_whole: bool  # every image of its folders is listed


def listed_images(
    described: Described, split: str, images: Path | None, follow: bool, skipped: Skipped
) -> Iterator[Listed]:
    """Yield the images of a split; `images` is the folder of an option."""
    home = described.home
    if images is not None:
        if not images.is_dir():
            raise DatasetError(f"{images}: no such folder; correct the option images=")
        folder = images.resolve()
        names = images_below(folder, folder, follow, skipped)
        yield Listed(folder, _label_root(folder, home), names, "", True)
        return
    entries = _entries(described, split)
    for name in entries:
        path = _named_path(described, name, follow)
        if path.suffix == ".txt" and path.is_file():
            names = [_listed_name(text, path.parent) for text in read_lines(path)]
            yield Listed(path.parent, home, names, "", False)
            continue
        below = "" if path == home else path.relative_to(home).as_posix() + "/"
        names = [below + inner for inner in images_below(path, home, follow, skipped)]
        strip = below
        if len(entries) > 1:  # cameras number their frames alike
            strip = ""
        yield Listed(home, home, names, strip, True)


def _label_root(folder: Path, home: Path) -> Path:
    """Return the folder below which `images` in a path means a folder of images."""
    if folder.is_relative_to(home):
        return home
    if folder.name == "images":
        return folder.parent
    if folder.parent.name == "images":
        return folder.parent.parent
    return folder


def _entries(described: Described, split: str) -> list[Any]:
    document = described.document
    entry = document.get(split)
    if not entry and split == "val":
        entry = document.get("validation")
    if not entry:
        others = [key for key in SPLITS if document.get(key)]
        raise DatasetError(
            f"{described.file}: names no images for split '{split}'{suggest(split, others)}"
        )
    return entry if isinstance(entry, list) else [entry]


def _listed_name(text: str, folder: Path) -> str:
    """Return a name in a list as it is below the folder of the list."""
    name = text
    if "\\" in name and not (folder / name).exists():
        name = name.replace("\\", "/")
    path = PurePosixPath(name)
    if path.is_absolute() and path.is_relative_to(folder):
        return path.relative_to(folder).as_posix()
    # older exports of CVAT have the folder of Darknet's program before every name
    inner = name.removeprefix("data/")
    if inner != name and not (folder / name).exists() and (folder / inner).exists():
        name = inner
    return str(PurePosixPath(name))


def _named_path(described: Described, name: Any, follow: bool) -> Path:
    """Return the folder or list that data.yaml names, which must lie beside it."""
    file = described.file
    home = described.home
    base = described.document.get("path") or ""
    if not isinstance(base, str) or not isinstance(name, str) or "\0" in base + name:
        wrong = base if isinstance(name, str) else name
        raise DatasetError(
            f"{file}: path and the splits must be names of folders, not {_describe(wrong)}"
        )
    linked = None
    # some exporters write ../train/images and mean train/images; Ultralytics reads it so where the
    # first is not there
    for text in _spellings(base, name):
        path = type(home)(os.path.normpath(home / text))  # also inside an archive
        if not path.exists():
            continue
        if path.is_relative_to(home):
            if follow or path.resolve().is_relative_to(home):
                return path
            linked = path
        elif path.resolve().is_relative_to(home):
            return path.resolve()
    if linked is not None:
        raise DatasetError(
            f"{file}: {name!r} is a link to {linked.resolve()}, out of the set; "
            "say links=follow to read it"
        )
    raise DatasetError(
        f"{file}: {name!r} is no folder beside it{_about(base)}; move the images there, "
        "or name them with images=FOLDER"
    )


def _spellings(base: str, name: str) -> list[str]:
    """Return what a name may mean, relative to the folder of data.yaml, best first."""
    slashes = name.replace("\\", "/")
    names = dict.fromkeys((name, name.removeprefix("../"), slashes, slashes.removeprefix("../")))
    bases = dict.fromkeys((base, ""))  # `path` often names a folder of somebody else's machine
    return [str(Path(first) / second) for first in bases for second in names]


def _about(base: str) -> str:
    return f" nor below its path {base!r}" if base else ""


def label_file(root: Path, name: str, label_root: Path) -> Path:
    """Return where the label file of an image is.

    It lies where the last folder `images` of the image's path in the set is called `labels`, beside
    the image where there is no such folder.
    """
    image = root / name
    parts = list(image.relative_to(label_root).parts)
    inner = parts[:-1]
    if "images" in inner:
        last = max(k for k, part in enumerate(inner) if part == "images")
        parts[last] = "labels"
    return label_root.joinpath(*parts).with_name(image.name.rsplit(".", 1)[0] + ".txt")
