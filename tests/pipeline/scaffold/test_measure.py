"""What splits hold is counted as ingest counts it, and copies are found across them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from synthaug.pipeline.core.scene import Dataset, ImageRef, Objects, Scene, SceneList
from synthaug.pipeline.core.storage import Folder
from synthaug.pipeline.formats.parquet.write import write
from synthaug.pipeline.scaffold import measure
from synthaug.pipeline.scaffold.measure import SplitFacts, copies, look_at_splits
from synthaug.pipeline.steps import ingest
from tests.pipeline.formats.samples import CAR, CATEGORIES, Thing, png_bytes, sample_table

TABLE = sample_table(
    [Thing((4, 4, 14, 14))],
    [Thing((2, 2, 12, 12)), Thing((20, 5, 38, 25), CAR)],
    [],
    [Thing((1, 1, 30, 20), iscrowd=True)],
)


def silent(done: int, total: int, unit: str) -> None:
    """Take progress."""


def look(**splits: Dataset) -> dict[str, SplitFacts]:
    return look_at_splits(splits, silent)


def noise(seed: int) -> Scene:
    """Return a scene of noise with one object."""
    coarse = np.random.default_rng(seed).integers(0, 256, (6, 8, 3), np.uint8)
    pixels = np.kron(coarse, np.ones((8, 8, 1), np.uint8))
    return Scene(
        f"image{seed}", 48, 64, ImageRef(png_bytes(pixels)), Objects.build([0], [[2, 2, 9, 9]])
    )


def test_crowds_do_not_count_and_the_longer_side_is_kept() -> None:
    facts = look(labelled=TABLE)["labelled"]
    assert (4, 3, 2) == (facts.num_images, facts.num_objects, facts.most_objects)
    assert {0: 2, 1: 1} == dict(facts.objects)
    assert {0: [10.0, 10.0], 1: [20.0]} == facts.longer_sides
    assert facts.has_maps
    assert 1.0 == facts.masks
    assert 0.0 == facts.jpegs
    assert (30, 40) == facts.median_size


def test_it_measures_what_ingest_measures(tmp_path: Path) -> None:
    write(TABLE, Folder.at(tmp_path))
    by_ingest = ingest.measure(str(tmp_path))
    own = look(labelled=TABLE)["labelled"].measured()
    assert by_ingest["images"] == own.images
    assert by_ingest["objects"] == own.objects
    assert (by_ingest["shorter"], by_ingest["longer"]) == (own.shorter, own.longer)


def test_an_image_in_two_splits_is_found() -> None:
    labelled = SceneList(CATEGORIES, [noise(0), noise(1)])
    validation = SceneList(CATEGORIES, [noise(2), noise(1)])
    pairs = copies(look(labelled=labelled, validation=validation))
    assert pairs is not None
    assert [("leak", "image1", "image1")] == [(p.kind, p.first[1], p.second[1]) for p in pairs]


def test_many_images_are_not_compared(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(measure, "MOST_COMPARED", 3)
    assert copies(look(labelled=TABLE)) is None


def test_an_image_that_cannot_be_read_is_counted() -> None:
    broken = Scene("broken", 48, 64, ImageRef(b"none"), Objects.build([0], [[2, 2, 9, 9]]))
    facts = look(labelled=SceneList(CATEGORIES, [noise(0), broken]))["labelled"]
    assert 1 == facts.num_images
    assert 1 == facts.skipped.wrong.total()
