"""Annotations of COCO files: boxes, masks against pycocotools, our extra fields and ids."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pycocotools import mask as pycocotools

from synthaug.pipeline.core import masks
from synthaug.pipeline.core.scene import Category
from synthaug.pipeline.formats.checked import Checker
from synthaug.pipeline.formats.coco.labels import (
    Label,
    LabelReader,
    columns,
    corners,
    encode_segmentation,
    read_layout_box,
    read_optional,
    read_segmentation,
    read_source_and_verdict,
)
from synthaug.pipeline.formats.coco.records import ImageReader
from synthaug.pipeline.formats.validation import RecordError

SIZE = (10, 20)
CATEGORIES = (Category(2, "a"), Category(9, "b", isthing=False))


@pytest.fixture
def reader(tmp_path: Path) -> LabelReader:
    (tmp_path / "a.png").write_bytes(b"")
    images = ImageReader(tmp_path, 1000)
    images.add({"id": 1, "file_name": "a.png", "height": 10, "width": 20})
    return LabelReader(images, CATEGORIES, Checker(tmp_path / "c.json", "stop"), is_ours=True)


def record(**change: Any) -> dict[str, Any]:
    return {"id": 5, "image_id": 1, "category_id": 9, "bbox": [1, 2, 3, 4]} | change


def label(reader: LabelReader, **change: Any) -> Label:
    target = reader.target(record(**change))
    assert target is not None
    return reader.read(record(**change), target)


def test_what_is_not_said_is_the_usual(reader: LabelReader) -> None:
    read = label(reader)
    assert (read.category, read.box, read.layout_box) == (1, (1, 2, 4, 6), (1, 2, 4, 6))
    assert (read.area, read.iscrowd, read.isthing) == (12, False, False)  # as its category
    assert (read.score, read.source, read.verdict) == (1.0, "human", None)
    assert math.isnan(read.verdict_score)
    assert (read.id, read.object_id, read.segmentation) == (5, 5, None)


def test_what_is_said_goes_before_it(reader: LabelReader) -> None:
    read = label(
        reader,
        object_id=77,
        area=3,
        iscrowd=1,
        isthing=1,
        score=0.5,
        source="pseudo",
        verdict="kept",
        verdict_score=0.25,
        layout_bbox=[0, 0, 20, 10],
    )
    assert (read.object_id, read.area, read.iscrowd, read.isthing) == (77, 3.0, True, True)
    assert (read.score, read.source, read.verdict, read.verdict_score) == (
        0.5,
        "pseudo",
        "kept",
        0.25,
    )
    assert read.layout_box == (0, 0, 20, 10)


def test_a_mask_that_stands_for_a_box_is_none(reader: LabelReader) -> None:
    counts = masks.encode(np.ones((1, *SIZE), bool))[0]
    mask = {"size": [10, 20], "counts": counts}
    assert label(reader, segmentation=mask).segmentation == counts
    assert label(reader, segmentation=mask, box_only=1).segmentation is None


def test_corners_are_rounded_as_boxes_are_kept() -> None:
    assert corners({"bbox": [0.1, 0, 319.9, 5]}, "bbox")[2] == 320.0


@pytest.mark.parametrize(
    ("box", "reason", "detail"),
    [
        ([1, 2, 3], "bad box", "b [1, 2, 3] must be a list [x, y, width, height]"),
        ("1234", "bad box", "b '1234' must be a list [x, y, width, height]"),
        ([1, 2, 0, 4], "empty box", "b [1, 2, 0, 4] has no extent"),
        ([1, 2, 3, -1], "empty box", "b [1, 2, 3, -1] has no extent"),
        ([1, 2, None, 4], "bad value", "b is None, not a finite number"),
    ],
)
def test_a_bad_box_is_refused(box: Any, reason: str, detail: str) -> None:
    with pytest.raises(RecordError) as caught:
        corners({"b": box}, "b")
    assert (caught.value.reason, caught.value.detail) == (reason, detail)


@given(st.lists(st.integers(0, 1), min_size=200, max_size=200))
def test_uncompressed_counts_are_those_of_pycocotools(pixels: list[int]) -> None:
    mask = np.array(pixels, np.uint8).reshape(SIZE)
    flat = mask.ravel(order="F")
    changes = np.flatnonzero(np.diff(flat, prepend=0))
    counts = np.diff(changes, prepend=0, append=len(flat)).tolist()
    expected = pycocotools.encode(np.asfortranarray(mask))["counts"].decode()
    assert read_segmentation({"size": list(SIZE), "counts": counts}, SIZE) == expected
    assert read_segmentation({"size": list(SIZE), "counts": expected}, SIZE) == expected


def test_polygons_are_filled_as_pycocotools_fills_them() -> None:
    polygons = [[1.5, 1, 12, 2, 6, 9], [14, 3, 19.5, 3, 19, 8.5, 14, 8]]
    segmentation = read_segmentation(polygons, SIZE)
    merged = pycocotools.merge(pycocotools.frPyObjects(polygons, *SIZE))
    assert encode_segmentation(segmentation, SIZE) == merged["counts"].decode()


def test_no_mask_is_none() -> None:
    assert read_segmentation(None, SIZE) is None
    assert read_segmentation([], SIZE) is None
    assert encode_segmentation(None, SIZE) is None


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ({"size": [20, 10], "counts": "0"}, "its size [20, 10] is not that of the image, [10, 20]"),
        ({"size": [10, 20]}, "its counts are neither a list nor a text"),
        ({"size": [10, 20], "counts": [5]}, "the counts cover 5 pixels"),
    ],
)
def test_a_bad_mask_is_refused(value: Any, message: str) -> None:
    with pytest.raises(RecordError) as caught:
        read_segmentation(value, SIZE)
    assert caught.value.reason == "bad mask"
    assert caught.value.detail.startswith(f"segmentation: {message}")


def test_an_annotation_out_by_rounding_is_clipped_and_counted(tmp_path: Path) -> None:
    check = Checker(tmp_path / "c.json", "stop")
    (tmp_path / "a.png").write_bytes(b"")
    images = ImageReader(tmp_path, 1000)
    images.add({"id": 1, "file_name": "a.png", "height": 10, "width": 20})
    reader = LabelReader(images, CATEGORIES, check, is_ours=True)
    assert label(reader, bbox=[15, 2, 5.5, 4]).box == (15, 2, 20, 6)
    with pytest.raises(RecordError):
        label(reader, bbox=[15, 2, 5.5, 4], score=-1)  # refused: then nothing is counted
    assert check.skipped == {"clipped to image": 1}
    assert check.skipped.names == {
        "clipped to image": ["c.json: annotation 5: bbox [15, 2, 5.5, 4]"]
    }


def test_extra_fields_are_checked() -> None:
    assert read_source_and_verdict({"source": "synthetic", "verdict": "x"}) == ("synthetic", "x")
    for bad in ({"source": "martian"}, {"verdict": 5}):
        with pytest.raises(
            RecordError, match="must be one of human, pseudo, synthetic, verdict a text"
        ):
            read_source_and_verdict(bad)
    assert read_layout_box({}) is None
    with pytest.raises(RecordError, match="layout_bbox"):
        read_layout_box({"layout_bbox": [1]})
    with pytest.raises(RecordError, match="verdict_score is 'high'"):
        read_optional({"verdict_score": "high"}, "verdict_score")


def test_columns_are_in_the_order_of_the_records(reader: LabelReader) -> None:
    labels = [label(reader, score=0.5), label(reader, source="pseudo")]
    assert columns(labels, ("score", "source")) == {
        "score": [0.5, 1.0],
        "source": ["human", "pseudo"],
    }
    assert columns([], ("score",)) == {"score": []}


def foreign(folder: Path, on_bad: str = "stop") -> tuple[LabelReader, Checker]:
    """A reader of somebody else's file, of an image of 20 x 10."""
    (folder / "a.png").write_bytes(b"")
    images = ImageReader(folder, 1000)
    images.add({"id": 1, "file_name": "a.png", "height": 10, "width": 20})
    check = Checker(folder / "c.json", on_bad)
    return LabelReader(images, CATEGORIES, check), check


def test_what_others_call_like_our_fields_is_passed_over_and_counted(tmp_path: Path) -> None:
    reader, check = foreign(tmp_path)
    read = label(
        reader,
        source="manual",
        score=None,
        verdict=3,
        isthing="yes",
        object_id="track 7",
        layout_bbox=None,
        keypoints=[1, 2, 2],
        attributes={"occluded": False, "rotation": 0.0},
    )
    assert (read.source, read.score, read.verdict, read.isthing) == ("human", 1.0, None, False)
    assert (read.object_id, read.layout_box) == (5, (1, 2, 4, 6))
    assert check.skipped == {}
    names = ("source", "verdict", "isthing", "object_id", "keypoints")
    assert check.skipped.unread == {f"'{name}' of objects": 1 for name in names}


SQUARE = [1, 2, 4, 2, 4, 6, 1, 6]


@pytest.mark.parametrize(
    "mask",
    [[[]], {}, [[1, 2, 3, 4]], [[1, 2]], SQUARE, [SQUARE[:7]], "all", [[[1, 2], [4, 2], [4, 6]]]],
)
def test_a_bad_mask_goes_and_its_box_stays(tmp_path: Path, mask: Any) -> None:
    with pytest.raises(RecordError, match="segmentation"):
        label(foreign(tmp_path)[0], segmentation=mask)
    reader, check = foreign(tmp_path, "skip")
    read = label(reader, segmentation=mask)
    assert (read.segmentation, read.box) == (None, (1, 2, 4, 6))
    assert list(check.skipped.names) == ["bad mask"]
    assert check.skipped.names["bad mask"][0].startswith("c.json: annotation 5: ")


def test_of_several_polygons_only_the_bad_ones_go(tmp_path: Path) -> None:
    reader, check = foreign(tmp_path, "skip")
    read = label(reader, segmentation=[SQUARE, [2, 2], [3, 3, 4]])
    assert isinstance(read.segmentation, list)
    assert [polygon.tolist() for polygon in read.segmentation] == [SQUARE]
    assert check.skipped == {"bad mask": 2}
    assert "polygon 2 of its segmentation" in check.skipped.names["bad mask"][0]


@pytest.mark.parametrize(
    "mask",
    [
        [[1, 2, 1, 2, 1, 2]],
        [[1, 2, 4, 2, 1, 2]],
        {"size": [10, 20], "counts": [200]},
        [[-9, -9, -5, -9, -5, -5]],
        [[1, 2, 4, 2, 4, 6, 1, 6, 1, 2, 4, 2, 4, 6, 1, 6]],  # gone around twice, not filled
    ],
)
def test_a_mask_without_a_pixel_is_none_and_told(tmp_path: Path, mask: Any) -> None:
    reader, check = foreign(tmp_path)
    read = label(reader, segmentation=mask)
    assert (read.segmentation, read.box, read.area) == (None, (1, 2, 4, 6), 12)
    assert check.skipped.names == {
        "empty mask, the object keeps its box": [
            "c.json: annotation 5: its segmentation covers no pixel"
        ]
    }


def test_a_mask_of_another_place_is_refused_or_goes(tmp_path: Path) -> None:
    far = [[15, 2, 19, 2, 19, 9, 15, 9]]
    with pytest.raises(RecordError, match=r"it lies at 15 2 19 9 .* its bbox at 1 2 4 6"):
        label(foreign(tmp_path)[0], segmentation=far)
    reader, check = foreign(tmp_path, "skip")
    assert label(reader, segmentation=far).segmentation is None
    assert check.skipped == {"mask elsewhere than its box": 1}
    visible = [[1, 2, 2, 2, 2, 3, 1, 3]]  # the visible corner of a larger object
    assert label(foreign(tmp_path)[0], segmentation=visible).segmentation is not None


def test_a_box_drawn_at_an_angle_becomes_the_upright_box_around_it(tmp_path: Path) -> None:
    """A square of side 4 about (10, 5), turned by 45 degrees: corners 2 * sqrt(2) from it."""
    reader, check = foreign(tmp_path)
    read = label(reader, bbox=[8, 3, 4, 4], attributes={"rotation": 45})
    reach = 2 * math.sqrt(2)
    np.testing.assert_allclose(read.box, (10 - reach, 5 - reach, 10 + reach, 5 + reach), atol=1e-6)
    (named,) = check.skipped.names.values()
    assert named == ["c.json: annotation 5: attributes.rotation is 45"]


def test_a_box_that_reads_as_corners_gets_a_hint(tmp_path: Path) -> None:
    with pytest.raises(RecordError, match="if it is x1 y1 x2 y2"):
        label(foreign(tmp_path)[0], bbox=[12, 5, 19, 9])
