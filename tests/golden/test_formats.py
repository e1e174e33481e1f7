"""What is written in every format, what is read from every format, and what the toy shows."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import numpy as np
import pytest

from synthaug.pipeline.core.images import decode
from synthaug.pipeline.core.masks import decode_all
from synthaug.pipeline.core.scene import Dataset, SceneList
from synthaug.pipeline.core.storage import Folder
from synthaug.pipeline.formats import FORMATS, can_write, load_format
from synthaug.pipeline.formats.reference import open_dataset
from synthaug.pipeline.formats.toy import dataset as toy
from synthaug.pipeline.leaks.hashing import signature
from synthaug.pipeline.leaks.pairs import find_pairs
from synthaug.pipeline.leaks.signatures import read_signatures, write_signatures
from tests.golden.recorded import Row, digest, hold
from tests.golden.scenes import described, mixed, painted
from tests.hard_scenes import boxed, masked
from tests.pipeline.formats.samples import CAR, Thing, holds_of, sample_table, write_sample

WRITTEN = [name for name in sorted(FORMATS) if can_write(name)]
TEXTS = (".json", ".txt", ".xml", ".yaml", ".csv", ".jsonl")
PICTURES = (
    (Thing((2, 3, 12, 20)), Thing((20, 5, 34, 15), CAR), Thing((2, 22, 9, 28), CAR, True)),
    (Thing((0, 0, 40, 30), CAR),),
    (Thing((5, 5, 17, 11)), Thing((20, 12, 39, 29)), Thing((30, 1, 38, 9), CAR)),
)


def rows_of(table: Dataset) -> dict[str, Row]:
    """Return the classes and all scenes of a table."""
    rows: dict[str, Row] = {}
    rows["classes"] = [[c.id, c.name, c.supercategory, c.isthing] for c in table.categories]
    for number, scene in enumerate(table):
        row = described(scene, table)
        stack = decode_all(scene.objects, scene.size) if None not in scene.objects.rle else []
        assert isinstance(row, dict)
        row["mask pixels"] = [digest(mask) for mask in stack]
        row["verdicts"] = [str(verdict) for verdict in scene.objects.verdict]
        row["relations"] = [str(relation) for relation in scene.relations]
        rows[f"scene {number}"] = row
    return rows


@pytest.mark.parametrize("name", sorted(set(FORMATS) - {"toy", "images"}))
def test_what_is_read_is_what_it_was(name: str, tmp_path: Path) -> None:
    pictures = PICTURES
    if holds_of(name).crowds == "no":
        pictures = tuple(tuple(t for t in row if not t.iscrowd) for row in PICTURES)
    reference = write_sample(name, sample_table(*pictures), tmp_path)
    hold(f"format_read_{name}", rows_of(open_dataset(reference, tmp_path)), rel=2e-2)


@pytest.mark.parametrize("name", WRITTEN)
def test_what_is_written_is_what_it_was(name: str, tmp_path: Path) -> None:
    """Texts by their digest without what a machine decides; JSON also by its first records."""
    table: Dataset = masked()
    if holds_of(name).panoptic:
        source = tmp_path / "source"
        source.mkdir()
        table = open_dataset(write_sample(name, sample_table(*PICTURES), source), source)
    out = tmp_path / "out"
    vars(load_format(name))["write"](SceneList(table.categories, list(table)), Folder.at(out))
    rows: dict[str, Row] = {}
    for path in sorted(out.rglob("*")):
        if not path.is_file():
            continue
        key = path.relative_to(out).as_posix()
        rows[key] = "a file"
        if path.suffix in TEXTS:
            text = path.read_text()
            rows[key] = hashlib.sha256(text.encode()).hexdigest()[:12]
            if path.suffix == ".json":
                rows[f"{key}: content"] = beginnings(json.loads(text))
            elif len(text) < 400:
                rows[f"{key}: content"] = text
    hold(f"format_written_{name}", rows)


def beginnings(content: object, most: int = 3) -> Row:
    """Return JSON with the first entries of its lists."""
    if isinstance(content, dict):
        return {key: beginnings(value) for key, value in content.items()}
    if isinstance(content, list):
        return [beginnings(value) for value in content[: most + 1]]
    return content


def test_boxes_off_the_grid_are_written_and_read_as_they_were(tmp_path: Path) -> None:
    rows: dict[str, Row] = {}
    for name in ("coco", "voc", "yolo", "parquet", "lvis"):
        out = tmp_path / name
        vars(load_format(name))["write"](boxed(), Folder.at(out))
        table = open_dataset(f"{name}:{holds_of(name).path}", out)
        rows[name] = [scene.objects.boxes.round(4).tolist() for scene in table]
    hold("format_boxes", rows)


# ---- the toy ----


def test_toy_scenes_are_what_they_were() -> None:
    """Each thing by its class, place and mean color."""
    rows: dict[str, Row] = {}
    for split, count in (("train", 24), ("val", 8)):
        table = toy.ToyDataset(toy.Config(split, count))
        for number in range(count):
            scene = table[number]
            pixels = decode(scene)
            things = []
            masks = decode_all(scene.objects, scene.size)
            for label, mask in zip(scene.objects.category.tolist(), masks, strict=True):
                mean = pixels[mask].mean(0).round(1).tolist()
                things.append([table.categories[label].name, int(mask.sum()), *mean])
            rows[f"{split} {number}"] = things
    hold("toy_scenes", rows, rel=5e-3, least=0.5)


# ---- leaks ----


def test_signatures_and_pairs_are_what_they_were(tmp_path: Path) -> None:
    """Copies, mirrored, cut, darkened and noisy ones of images of a split, and other images."""
    images = [decode(scene) for scene in painted()]
    rng = np.random.default_rng(3)
    changed = [
        *(images[0], images[1][:, ::-1], images[2][4:44, 4:44], images[3] // 2 + 20),
        np.clip(images[4] + rng.integers(-9, 10, images[4].shape), 0, 255).astype(np.uint8),
        *(decode(scene) for scene in painted("val", 6)),
    ]
    rows: dict[str, Row] = {}
    signed = []
    for split, own in (("a", images), ("b", [np.ascontiguousarray(one) for one in changed])):
        made = [(f"{split}{k}", "", signature(image)) for k, image in enumerate(own)]
        write_signatures(Folder.at(tmp_path / split), "part-00000", made)
        rows[f"{split}: thumbnails"] = [digest(one.thumbnail / 255) for _, _, one in made[:6]]
        signed.append((split, Folder.at(tmp_path / split)))
        ones = [[int(h).bit_count() for h in one.hashes] for _, _, one in made[:6]]
        rows[f"{split}: bits"] = ones
    table = read_signatures(signed)
    rows["shards"] = [[shard.name, shard.rows.start, shard.rows.stop] for shard in table.shards]
    found = find_pairs(table, {"a": 0, "b": 1})
    pairs = [[p.first[1], p.second[1], p.same_pixels, round(p.distance, 4)] for p in found]
    rows["pairs"] = sorted(pairs)
    hold("leaks", rows, rel=2e-2, least=2e-3)


def test_scenes_for_recorded_numbers_are_what_they_were() -> None:
    """What the other files stand on."""
    hold("scenes", rows_of(mixed()))
