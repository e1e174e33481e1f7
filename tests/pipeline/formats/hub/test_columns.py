"""Columns of the hub by their usual names, and class names at any depth of the schema."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from synthaug.pipeline.core.errors import DatasetError
from synthaug.pipeline.core.scene import Category
from synthaug.pipeline.formats.hub.columns import Columns

FILE = Path("/x/train.parquet")
LABEL = {"names": ["cat", "dog"], "_type": "ClassLabel"}


def schema(fields: dict[str, Any], features: Any = None) -> pa.Schema:
    metadata = None
    if features is not None:
        metadata = {"huggingface": json.dumps({"info": {"features": features}})}
    return pa.schema(list(fields.items()), metadata=metadata)


def objects(**fields: Any) -> pa.DataType:
    return pa.struct(list(fields.items()))


INTS, BOXES = pa.list_(pa.int64()), pa.list_(pa.list_(pa.float32()))
USUAL = {"image": pa.binary(), "objects": objects(bbox=BOXES, category=INTS)}


def columns(fields: dict[str, Any], features: Any = None, listed: Any = ()) -> Columns:
    return Columns.of(FILE, schema(fields, features), listed)


def test_usual_names_are_found_in_structs_of_lists_and_lists_of_structs() -> None:
    one = objects(boxes=pa.list_(pa.float32()), label=pa.int64(), iscrowd=pa.bool_())
    for kind in (pa.list_(one), pa.large_list(one), one):
        found = columns({"img": pa.binary(), "annotations": kind, "image_id": pa.int64()})
        assert ("img", "annotations") == (found.image, found.objects)
        assert ("boxes", "label", "iscrowd") == (found.box, found.category, found.crowd)
        assert found.image_id
        assert not found.has_size


def test_boxes_may_be_columns_themselves() -> None:
    found = columns({"image": pa.binary(), "bboxes": BOXES, "labels": INTS, "width": pa.int64()})
    assert ("", "bboxes", "labels") == (found.objects, found.box, found.category)
    assert ["bboxes", "labels", "image"] == found.to_read(with_images=True)
    assert not found.has_size, "a width alone is no size"


def test_columns_without_a_place_are_named() -> None:
    more = {"camera": pa.string(), "objects": objects(bbox=BOXES, category=INTS, area=INTS, x=INTS)}
    found = columns({**USUAL, **more})
    assert (("camera",), ("x",)) == (found.others, found.other_fields)


def test_only_what_is_needed_is_read() -> None:
    sizes = {"width": pa.int64(), "height": pa.int64()}
    assert ["objects", "width", "height"] == columns({**USUAL, **sizes}).to_read(False)
    assert ["objects", "image"] == columns(USUAL).to_read(True)


@pytest.mark.parametrize(
    "feature",
    [
        {"category": [LABEL]},
        {"feature": {"category": LABEL}},
        [{"category": LABEL}],
        {"category": {"feature": {"feature": LABEL}}},
    ],
)
def test_class_names_are_found_through_lists(feature: Any) -> None:
    found = columns(USUAL, {"objects": feature})
    assert [(1, "cat"), (2, "dog")] == [(c.id, c.name) for c in found.categories]


@pytest.mark.parametrize(
    "feature",
    [
        {"category": {"names": ["cat"], "_type": "Value"}},
        {"category": {"names": ["cat", "cat"], "_type": "ClassLabel"}},
        {"category": {"names": ["cat", 3], "_type": "ClassLabel"}},
        {"other": LABEL},
        [LABEL, LABEL],
    ],
)
def test_names_that_are_no_classes_are_none(feature: Any) -> None:
    assert () == columns(USUAL, {"objects": feature}).categories
    listed = (Category(1, "emu"),)
    assert listed == columns(USUAL, {"objects": feature}, listed).categories


def test_a_table_without_objects_is_told_with_its_columns() -> None:
    with pytest.raises(DatasetError, match=r"train\.parquet: no data set of objects: .*image, x$"):
        columns({"image": pa.binary(), "x": pa.int64()})
    ours = pa.schema(list(USUAL.items()), metadata={"synthaug": "1"})
    with pytest.raises(DatasetError, match="read it as hf: or parquet:"):
        Columns.of(FILE, ours, ())
