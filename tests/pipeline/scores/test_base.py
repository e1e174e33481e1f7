"""The contract's parts.

Images of tables, records in a store, what an extractor uses, what a score lacks.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import ClassVar

import numpy as np
import pytest

from synthaug.pipeline.core.images import encode
from synthaug.pipeline.core.scene import Category, ImageRef, Objects, Provenance, Scene, SceneList
from synthaug.pipeline.core.storage import Folder
from synthaug.pipeline.scores import base
from synthaug.pipeline.scores.base import (
    Arrays,
    ExtractFunction,
    Extractor,
    MetricInputs,
    RecordStore,
    TableImage,
    detection_truth,
    layout_objects,
    missing_input,
)
from tests.score_inputs import score_inputs

CATEGORIES = (Category(1, "cat"), Category(2, "dog"))


@dataclass(frozen=True)
class Indices(Extractor):
    """Measures the index of an image."""

    name: ClassVar[str] = "indices"

    def extract_function(self, _inputs: MetricInputs) -> ExtractFunction:
        def extract(images: Sequence[TableImage]) -> list[Arrays]:
            return [{"index": np.array(image.index)} for image in images]

        return extract


def scene(name: str, labels: Sequence[int] = (0,), source: str = "") -> Scene:
    pixels = np.zeros((8, 8, 3), np.uint8)
    boxes = [[0, 0, 4, 4]] * len(labels)
    origin = Provenance(0, "g", "", source, "score") if source else None
    objects = Objects.build(list(labels), boxes)
    return Scene(name, 8, 8, ImageRef(encode(pixels, "png")), objects, None, origin)


def table(*scenes: Scene) -> SceneList:
    return SceneList(CATEGORIES, list(scenes))


@pytest.fixture
def inputs() -> MetricInputs:
    """Three layouts; of the second two samples, of the third one, and one image of no layout."""
    real = table(*(scene(f"r{i}", [0, 1]) for i in range(3)))
    sources = {"a": "r1", "b": "r2", "c": "r1", "d": "r9"}
    synthetic = table(*(scene(name, [1], source) for name, source in sources.items()))
    train = table(*(scene(f"t{i}", [1, 1]) for i in range(5)))
    return score_inputs({"train": train, "real": real, "synthetic": synthetic}, generated=True)


def test_an_image_knows_its_layout_and_its_number_there(inputs: MetricInputs) -> None:
    positions = {}
    for name, one in inputs.tables.items():
        images = [inputs.image(name, index) for index in range(len(one))]
        positions[name] = [(image.layout, image.sample) for image in images]
    assert positions["synthetic"] == [(1, 0), (2, 0), (1, 1), (-1, 0)]
    assert positions["real"] == [(0, 0), (1, 0), (2, 0)]
    assert positions["train"] == [(-1, 0)] * 5


def test_generated_samples_beyond_those_asked_for_are_not_used(inputs: MetricInputs) -> None:
    def used(given: MetricInputs, extractor: Extractor) -> list[int]:
        return [i for i in range(4) if given.uses(extractor, "synthetic", i)]

    assert used(inputs, Indices()) == [0, 1, 3]
    assert used(inputs, Indices(samples=2)) == [0, 1, 2, 3]
    assert used(replace(inputs, generated=False), Indices()) == [0, 1, 2, 3]


def test_a_limit_counts_layouts_and_leaves_training_images_alone(inputs: MetricInputs) -> None:
    limited = Indices(samples=2, limit=2)
    used = {
        name: [i for i in range(len(one)) if inputs.uses(limited, name, i)]
        for name, one in inputs.tables.items()
    }
    assert used == {"train": [0, 1, 2, 3, 4], "real": [0, 1], "synthetic": [0, 2]}


def test_pixels_are_decoded_once(inputs: MetricInputs, monkeypatch: pytest.MonkeyPatch) -> None:
    decoded: list[str] = []

    def counted(one: Scene) -> np.ndarray:
        decoded.append(one.image_id)
        return np.zeros((8, 8, 3), np.uint8)

    monkeypatch.setattr(base, "decode", counted)
    image = inputs.image("real", 1)
    image.pixels()
    image.pixels()
    assert decoded == ["r1"]


def test_class_counts_are_of_the_training_images_or_as_given(inputs: MetricInputs) -> None:
    assert inputs.class_counts == [0, 10]
    assert replace(inputs, train_counts=(7, 8)).class_counts == [7, 8]
    without = {name: one for name, one in inputs.tables.items() if name != "train"}
    assert replace(inputs, tables=without).class_counts == [3, 3]


def test_records_come_back_by_extractor_and_table_in_the_tables_order(
    inputs: MetricInputs, tmp_path: Path
) -> None:
    """Two extractors share the files; one of them does not use every image."""
    store = RecordStore(Folder.at(tmp_path))
    first, second = Indices(), Indices(samples=2)
    images = [inputs.image("synthetic", index) for index in range(4)]

    def arrays(factor: int, left_out: int) -> list[Arrays | None]:
        measured: list[Arrays | None] = [{"x": np.array([factor * i])} for i in range(4)]
        measured[left_out] = None
        return measured

    store.write(
        "synthetic-00001",
        images[2:],
        {first.key: arrays(1, 2)[2:], second.key: arrays(10, 0)[2:]},
    )
    store.write(
        "synthetic-00000", images[:2], {first.key: arrays(1, 2)[:2], second.key: [None, None]}
    )
    store.write("real-00000", [inputs.image("real", 0)], {first.key: [{"x": np.array([99])}]})
    found = list(store.read(first, "synthetic"))
    assert [(r.index, r.layout, r.sample) for r in found] == [(0, 1, 0), (1, 2, 0), (3, -1, 0)]
    assert [r.arrays["x"].tolist() for r in found] == [[0], [1], [3]]
    assert [r.arrays["x"].tolist() for r in store.read(second, "synthetic")] == [[20], [30]]
    assert [r.arrays["x"].tolist() for r in store.read(first, "real")] == [[99]]
    assert not list(store.read(first, "train"))


def test_the_key_of_an_extractor_follows_every_setting() -> None:
    keys = {
        extractor.key
        for extractor in (Indices(), Indices(samples=2), Indices(limit=1), Indices(("real",)))
    }
    assert len(keys) == 4
    assert Indices().key == Indices().key
    assert all(key.startswith("indices-") for key in keys)


def test_an_extractor_without_a_name_is_a_fault_of_ours() -> None:
    with pytest.raises(AssertionError, match="Extractor has no name"):
        _ = Extractor().key


def test_what_is_missing_is_said_in_the_order_it_is_asked_for(inputs: MetricInputs) -> None:
    assert missing_input(inputs) is None
    assert "no reference detector" in str(missing_input(inputs, detector=True))
    assert missing_input(inputs, masks=("real",)) == "no object of the real images has a mask"
    maps = missing_input(inputs, maps=("synthetic",))
    assert maps == "none of the synthetic images has a panoptic map"
    empty = replace(inputs, tables={**inputs.tables, "train": table()})
    assert missing_input(empty, ("train",), detector=True) == (
        "there are no labelled images to train on"
    )


def test_layout_objects_are_without_crowds_and_where_they_were_asked_for() -> None:
    objects = Objects.build(
        [0, 1, 1],
        [[0, 0, 2, 2]] * 3,
        layout_boxes=[[0, 0, 4, 4], [1, 1, 5, 5], [2, 2, 6, 6]],
        iscrowd=[False, True, False],
    )
    found = layout_objects(scene("a").with_objects(objects))
    assert found.boxes.tolist() == [[0, 0, 4, 4], [2, 2, 6, 6]]
    assert found.category.tolist() == [0, 1]


def test_an_object_has_its_own_area_unless_another_box_was_asked_for() -> None:
    """A crowd is where it is; 9 of the 16 pixels of each box are in the mask."""
    box, other = [0, 0, 4, 4], [1, 1, 3, 6]
    objects = Objects.build(
        [0, 1, 1],
        [box] * 3,
        area=[9, 9, 9],
        layout_boxes=[box, other, other],
        iscrowd=[False, False, True],
    )
    truth = detection_truth(scene("a").with_objects(objects))
    assert truth.boxes.tolist() == [box, other, box]
    assert truth.area.tolist() == [9, 10, 9]
