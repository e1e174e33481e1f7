"""Every pair of a format that is read and one that is written: what is read is read back, or told.

Random scenes stand in a set of the first format, are read, written in the second and read again.
What differs then is what HOLDS says of the second, and the writer counts it by name.
"""

from __future__ import annotations

import os
from collections import Counter
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from synthaug.pipeline.core.errors import DatasetError
from synthaug.pipeline.core.scene import Scene, SceneList
from synthaug.pipeline.core.storage import Folder
from synthaug.pipeline.formats import FORMATS, can_write, load_format
from synthaug.pipeline.formats.merge import with_classes
from synthaug.pipeline.formats.reference import open_dataset
from tests.pipeline.formats.samples import (
    HEIGHT,
    WIDTH,
    Thing,
    holds_of,
    sample_table,
    write_sample,
)
from tests.pipeline.formats.test_format_contract import compare

WRITTEN = [name for name in sorted(FORMATS) if can_write(name)]
WITHOUT_FILES = ("images", "toy")  # no labels; drawn
READ = [name for name in sorted(FORMATS) if name not in WITHOUT_FILES]
WITH_MAPS = ("cityscapes", "coco_panoptic", "coco_stuff_maps")
NAMES = ("a 1", "übung", "left/0001", "right/0001", "CON", "x" * 120, "0001", "0001.b", "-v", "A 1")


def needs_map(name: str) -> bool:
    return holds_of(name).panoptic


# HYPOTHESIS_PROFILE=search draws new scenes, as it does for all property tests
SEARCHES = not settings.default.derandomize
DRAW = [int.from_bytes(os.urandom(4), "big")] if SEARCHES else []
PAIRS = [(a, b) for a in READ for b in WRITTEN if a in WITH_MAPS or not needs_map(b)]


def random_things(rng: np.random.Generator) -> list[Thing]:
    """Things in some cells of a grid that share borders with their neighbours and the image."""
    xs = [0, *sorted(rng.choice(np.arange(4, WIDTH - 4), 2, replace=False).tolist()), WIDTH]
    ys = [0, *sorted(rng.choice(np.arange(4, HEIGHT - 4), 2, replace=False).tolist()), HEIGHT]
    things = []
    for x1, x2 in pairwise(xs):
        for y1, y2 in pairwise(ys):
            kind = int(rng.integers(0, 4))
            if kind and x2 - x1 > 3 and y2 - y1 > 3:
                things.append(Thing((x1, y1, x2, y2), kind % 2, kind == 3))
    return things


def count_losses(table: SceneList, name: str) -> Counter[str]:
    """Count what a format cannot hold, apart from its writer."""
    holds = holds_of(name)
    lost: Counter[str] = Counter()
    objects = [scene.objects for scene in table]
    learnt = [one.select(~one.iscrowd) for one in objects]
    if holds.crowds == "no":
        lost["crowds"] = sum(int(one.iscrowd.sum()) for one in objects)
    masks = sum(rle is not None for one in objects for rle in one.rle)
    learnt_masks = sum(rle is not None for one in learnt for rle in one.rle)
    if holds.masks == "none":
        lost["masks"] = masks
    if holds.masks == "if every object has one" and any(None in one.rle for one in learnt):
        lost["masks"] = learnt_masks
    if holds.whole_pixels:
        lost["boxes"] = sum(int((b.boxes != np.round(b.boxes)).any(1).sum()) for b in objects)
    return +lost


REFUSED = [("coco_stuff_maps", "cityscapes")]  # whose classes have other ids
WORDS = {"crowds": "ignore regions, left out", "masks": "masks", "boxes": "boxes rounded"}


def told(lost: Counter[str], word: str) -> int:
    return sum(count for reason, count in lost.items() if reason.startswith(word))


@pytest.mark.parametrize(("source", "target"), PAIRS)
def test_what_is_read_is_read_back_or_told(source: str, target: str, tmp_path: Path) -> None:
    rng = np.random.default_rng([READ.index(source), WRITTEN.index(target), *DRAW])
    pictures = [[Thing((1, 2, 9, 7))], random_things(rng), random_things(rng)]
    reference = write_sample(source, sample_table(*pictures), tmp_path / "read")
    read = open_dataset(reference, tmp_path / "read")
    table = SceneList(read.categories, list(read))
    out = tmp_path / f"written{DRAW}"  # a failure tells what was drawn
    if (source, target) in REFUSED:
        with pytest.raises(DatasetError, match="write it as coco_panoptic"):
            written(target, table, out)
        return
    lost = written(target, table, out)
    back = open_dataset(f"{target}:{holds_of(target).path}", out)
    aligned = list(with_classes(table, back.categories, source))
    if renamed := told(lost, "image ids that became"):
        stems = [Path(scene.image.file_name).stem for scene in aligned]
        aligned = [replace(s, image_id=stem) for s, stem in zip(aligned, stems, strict=True)]
        assert renamed == len(aligned)
    if target == "cityscapes" and source != target:  # crowds of a class are one, ids are new
        assert [areas(scene) for scene in aligned] == [areas(scene) for scene in back]
        missing = sum(len(scene.objects) for scene in aligned)
        missing -= sum(len(scene.objects) for scene in back)
        assert told(lost, "regions of a class") == missing
        return
    compare(target, SceneList(back.categories, aligned), back)
    expected = count_losses(table, target)
    for kind, word in WORDS.items():
        assert told(lost, word) == expected[kind]


def areas(scene: Scene) -> dict[tuple[int, bool], float]:
    """Return the pixels of each class, of objects and of crowds."""
    found: dict[tuple[int, bool], float] = {}
    objects = scene.objects
    for k in range(len(objects)):
        key = int(objects.category[k]), bool(objects.iscrowd[k])
        found[key] = found.get(key, 0) + float(objects.area[k])
    return found


def written(name: str, table: SceneList, out: Path) -> Counter[str]:
    """Write a table and return what the writer says is lost."""
    module = vars(load_format(name))
    if "write_splits" in module:
        lost: Counter[str] = module["write_splits"]({"train": table}, Folder.at(out))
        return lost
    module["write"](table, Folder.at(out))
    return Counter()


@pytest.mark.parametrize("name", [name for name in WRITTEN if not needs_map(name)])
@settings(
    max_examples=4,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture],
)
@given(
    ids=st.lists(st.sampled_from(NAMES), min_size=2, max_size=5, unique=True),
    named=st.booleans(),
)
def test_odd_names_are_kept_or_told(
    name: str, ids: list[str], named: bool, tmp_path_factory: Any
) -> None:
    out: Path = tmp_path_factory.mktemp("names")
    plain = sample_table(*[[Thing((0, 0, 9, 9))] for _ in ids])
    scenes: list[Scene] = []
    for scene, image_id in zip(plain, ids, strict=True):
        image = scene.image
        if named:
            image = replace(image, name=f"{image_id}.png")
        scenes.append(replace(scene, image_id=image_id, image=image))
    table = SceneList(plain.categories, scenes)
    lost = written(name, table, out)
    path = holds_of(name).path
    back = open_dataset(f"{name}:{path}", out)
    changed = sum(scene.image_id not in ids for scene in back)
    assert len(back) == len(ids)
    assert told(lost, "image ids that became") == changed
    kept = back
    if name in ("yolo", "voc"):
        folder = {"yolo": "images/train", "voc": "JPEGImages"}[name]
        kept = open_dataset(f"coco:coco/train.json?images={folder}", out)
    assert sorted(scene.image_id for scene in kept) == sorted(ids)
    if named and name in ("coco", "lvis", "yolo", "voc"):
        stems = [scene.image.file_name.rsplit(".", 1)[0] for scene in kept]
        assert sorted(stems) == sorted(ids)
