"""Data sets of the hub: the forms of their columns, what boxes are, what is wrong."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from synthaug.pipeline.core import images
from synthaug.pipeline.core.errors import DatasetError
from synthaug.pipeline.core.skipped import Skipped
from synthaug.pipeline.formats.reference import open_dataset

H, W = 30, 40


def picture(value: int = 0) -> bytes:
    out = io.BytesIO()
    Image.new("RGB", (W, H), (value, 0, 0)).save(out, "PNG")
    return out.getvalue()


def row(box: Any = (10, 10, 25, 15), category: Any = 0, key: int = 0, **more: Any) -> Any:
    found = {"bbox": [list(box)], "category": [category]}
    image = {"bytes": picture(key), "path": "a.png"}
    return {"image_id": key, "image": image, "objects": found} | more


def put(
    folder: Path, *rows: Any, name: str = "data/train-00000-of-00001.parquet", features: Any = None
) -> None:
    out = folder / name
    out.parent.mkdir(parents=True, exist_ok=True)
    table = pa.Table.from_pylist(list(rows))
    if features is None:
        label = {"names": ["cat", "dog"], "_type": "ClassLabel"}
        features = {"objects": {"category": {"feature": label, "_type": "Sequence"}}}
    meta = {"huggingface": json.dumps({"info": {"features": features}})}
    pq.write_table(table.replace_schema_metadata(meta), out)


def opened(folder: Path, *rows: Any, option: str = "", features: Any = None) -> Any:
    put(folder, *rows, features=features)
    return open_dataset(f"hub:.{option}", folder)


def first_box(table: Any) -> list[float]:
    box: list[float] = table[0].objects.boxes[0].tolist()
    return box


def test_boxes_are_what_fits_the_images(tmp_path: Path) -> None:
    corners = row((20, 10, 39, 29))  # 20 + 39 is more than 40 pixels
    assert first_box(opened(tmp_path, corners)) == [20, 10, 39, 29]
    sides = row((20, 10, 15, 9))  # as corners it ends before it begins
    assert first_box(opened(tmp_path, sides)) == [20, 10, 35, 19]
    either = row((2, 3, 12, 10))
    with pytest.raises(DatasetError, match=r"\(0 and 0 of 1 do not fit\); say boxes=xywh or"):
        opened(tmp_path, either)
    assert first_box(opened(tmp_path, either, option="?boxes=xyxy")) == [2, 3, 12, 10]
    assert first_box(opened(tmp_path, either, option="?boxes=xywh")) == [2, 3, 14, 13]


@pytest.mark.parametrize(("area", "far"), [(120, [14, 13]), (70, [12, 10])])
def test_an_area_tells_what_boxes_are(area: float, far: list[float], tmp_path: Path) -> None:
    told = row((2, 3, 12, 10))
    told["objects"]["area"] = [area]
    assert first_box(opened(tmp_path, told))[2:] == far


def test_one_bad_box_does_not_decide(tmp_path: Path) -> None:
    rows = [row((20, 10, 15, 9), key=key) for key in range(30)]
    rows.append(row((20, 10, 90, 9), key=30))
    with pytest.raises(DatasetError, match="row 30: object 1: bbox lies 70 pixels outside"):
        opened(tmp_path, *rows)
    table = opened(tmp_path, *rows, option="?on_bad=skip")
    assert len(table) == 31
    assert len(table[30].objects) == 0
    assert table.skipped == {"box outside the image": 1}


def _structs(value: Any) -> Any:
    found = value["objects"]
    names = list(found)
    value["objects"] = [{n: found[n][k] for n in names} for k in range(len(found["bbox"]))]
    return value


@pytest.mark.parametrize("form", ["struct of lists", "list of structs", "columns"])
def test_each_form_of_objects_is_read(form: str, tmp_path: Path) -> None:
    value = row((20, 10, 15, 9), 1)
    label: Any = {"names": ["cat", "dog"], "_type": "ClassLabel"}
    features: Any = {"objects": {"feature": {"category": label}, "_type": "Sequence"}}
    if form == "list of structs":
        value = _structs(value)
        features = {"objects": [{"category": label}]}
    if form == "columns":
        value |= value.pop("objects")
        features = {"category": {"feature": label, "_type": "List"}}
    table = opened(tmp_path, value, features=features)
    assert first_box(table) == [20, 10, 35, 19]
    assert table.categories[table[0].objects.category[0]].name == "dog"
    assert [category.id for category in table.categories] == [1, 2]


def test_images_sizes_crowds_and_masks_are_taken(tmp_path: Path) -> None:
    value = row((20, 10, 15, 9), key=50, width=W, height=H)
    value["objects"] |= {
        "iscrowd": [True],
        "segmentation": [[[20.0, 10.0, 24.0, 10.0, 24.0, 13.0, 20.0, 13.0]]],
    }
    table = opened(tmp_path, value)
    assert table[0].image_id == "50"
    assert images.decode(table[0])[0, 0].tolist() == [50, 0, 0]
    assert table[0].objects.iscrowd.tolist() == [True]
    assert table[0].objects.area.tolist() == [12]
    value["width"] = W + 1
    with pytest.raises(DatasetError, match="its annotation says 41x30"):
        images.decode(opened(tmp_path, value)[0])


def test_names_may_stand_in_the_rows_or_in_a_file(tmp_path: Path) -> None:
    table = opened(tmp_path, row((20, 10, 15, 9), "zebra"), features={})
    assert [category.name for category in table.categories] == ["zebra"]
    with pytest.raises(DatasetError, match="the schema has no names; give them with classes=FILE"):
        opened(tmp_path, row((20, 10, 15, 9), 1), features={})
    (tmp_path / "names.txt").write_text("a\nb\n")
    table = opened(tmp_path, row((20, 10, 15, 9), 1), features={}, option="?classes=names.txt")
    assert table.categories[table[0].objects.category[0]].name == "b"


def test_a_split_is_told_by_file_or_folder(tmp_path: Path) -> None:
    put(tmp_path, row((20, 10, 15, 9), key=1))
    put(tmp_path, row((20, 10, 15, 9), key=2), name="data/validation-00000-of-00001.parquet")
    put(tmp_path, row((20, 10, 15, 9), key=3), name="default/test/0000.parquet")
    for split, key in (("train", "1"), ("val", "2"), ("test", "3")):
        table = open_dataset(f"hub:.?split={split}", tmp_path)
        assert [scene.image_id for scene in table] == [key]
    with pytest.raises(DatasetError, match=r"no file of the split 'extra' \(there are train, "):
        open_dataset("hub:.?split=extra", tmp_path)
    assert len(open_dataset("hub:default/test/0000.parquet", tmp_path)) == 1


def test_what_is_not_read_is_counted_by_name(tmp_path: Path) -> None:
    value = row((20, 10, 15, 9), license="CC0")
    value["objects"]["occluded"] = [1]
    table = opened(tmp_path, value)
    assert isinstance(table.skipped, Skipped)
    assert table.skipped.unread == {"'license' of images": 1, "'occluded' of objects": 1}


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"image_id": 1}, "another row has the same image_id"),
        ({"image": {"bytes": b"no image", "path": ""}}, "the image cannot be decoded"),
        ({"image": {"bytes": None, "path": "x/a.png"}}, r"is not in the table \(path 'x/a.png'\)"),
        ({"objects": {"bbox": [[1, 1, 2, 2], [1, 1, 2, 2]], "category": [0]}}, "differ in length"),
        ({"objects": {"bbox": [[20, 9, 9, 9]], "category": [7]}}, "category 7 is not among the 2"),
        ({"objects": {"bbox": [[20, 9, 9, 0]], "category": [0]}}, "has no extent"),
        ({"objects": {"bbox": [[20, 9, 9]], "category": [0]}}, "has no four numbers"),
    ],
)
def test_a_wrong_row_or_object_is_named_or_left_out(
    wrong: Any, message: str, tmp_path: Path
) -> None:
    good = row((20, 10, 15, 9), key=1)
    bad = row((20, 10, 15, 9), key=2) | wrong
    with pytest.raises(DatasetError, match=message):
        opened(tmp_path, good, bad, option="?boxes=xywh")
    table = opened(tmp_path, good, bad, option="?boxes=xywh&on_bad=skip")
    assert sum(len(scene.objects) for scene in table) == 1
    assert table.skipped.total() >= 1


def test_other_tables_are_one_line(tmp_path: Path) -> None:
    pq.write_table(pa.table({"text": ["a"]}), tmp_path / "x.parquet")
    with pytest.raises(DatasetError, match=r"it needs a column 'image'.*there are text"):
        open_dataset("hub:x.parquet", tmp_path)
    with pytest.raises(DatasetError, match="a column of objects is read as hub:FOLDER"):
        open_dataset("parquet:x.parquet", tmp_path)
    (tmp_path / "y.parquet").write_bytes(b"PAR1 no")
    with pytest.raises(DatasetError, match="not a Parquet file, or cut short"):
        open_dataset("hub:y.parquet", tmp_path)
    with pytest.raises(DatasetError, match="no Parquet file there"):
        open_dataset("hub:nothing", tmp_path)


def test_many_rows_are_read_in_order(tmp_path: Path) -> None:
    rows = [row((20, 10, 15, 9), key=key) for key in range(130)]
    table = opened(tmp_path, *rows)
    found = [int(images.decode(table[k])[0, 0, 0]) for k in (129, 0, 64)]
    assert found == [129, 0, 64]
    assert np.unique([scene.objects.id[0] for scene in table]).size == 130


def test_each_image_is_that_of_its_own_row_group_and_file(tmp_path: Path) -> None:
    rows = [row((20, 10, 15, 9), key=key) for key in range(7)]
    names = [f"data/train-0000{number}-of-00002.parquet" for number in range(2)]
    for name, part in zip(names, (rows[:5], rows[5:]), strict=True):
        put(tmp_path, *part, name=name)
        whole = pq.read_table(tmp_path / name)
        pq.write_table(whole, tmp_path / name, row_group_size=2)
    table = open_dataset("hub:.", tmp_path)
    found = [int(images.decode(scene)[0, 0, 0]) for scene in table]
    assert found == list(range(7))


def test_other_images_under_the_same_labels_are_another_data_set(tmp_path: Path) -> None:
    """What a run has stored for one of them is not taken for the other."""
    digests = set()
    for count in (1, 2):
        one = row((20, 10, 15, 9), width=W, height=H)
        one["image"]["bytes"] = picture(7) + bytes(count)  # the footer says where images end
        digests.add(opened(tmp_path, one).fingerprint())
    assert len(digests) == 2


@pytest.mark.parametrize("error", [IndexError("out"), UnicodeDecodeError("utf-8", b"x", 0, 1, "y")])
def test_whatever_pyarrow_raises_names_the_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    put(tmp_path, row())

    def broken(*_: Any) -> Any:
        raise error

    monkeypatch.setattr(pq, "ParquetFile", broken)
    with pytest.raises(DatasetError, match="train-00000-of-00001"):
        open_dataset("hub:.", tmp_path)


def test_a_group_with_fewer_rows_than_promised_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    table = opened(tmp_path, row(), row(key=1), option="?boxes=xywh")
    monkeypatch.setattr("synthaug.pipeline.formats.hub.read.images_of", lambda *_: [])
    with pytest.raises(DatasetError, match="fewer rows than its footer says"):
        table[1]


def test_null_boxes_are_named_as_such(tmp_path: Path) -> None:
    objects = {"bbox": [[10, 10, 35, 15], None], "category": [0, 0]}
    rows = [row(box=(10, 10, 35, 25)), row(key=1, objects=objects)]
    with pytest.raises(DatasetError, match="row 1: object 2: its box is null; correct it, or"):
        opened(tmp_path, *rows)
    table = opened(tmp_path, *rows, option="?on_bad=skip")
    assert [1, 1] == [len(scene.objects) for scene in table]
    (named,) = table.skipped.names["bad box"]
    assert named.endswith(": row 1: object 2: its box is null")


def test_boxes_that_are_parts_of_the_image_are_named_whatever_the_option(tmp_path: Path) -> None:
    rows = [row(box=(0.1, 0.2, 0.5, 0.6), key=key) for key in range(3)]
    for option in ("", "?boxes=xyxy", "?boxes=xywh&on_bad=skip"):
        with pytest.raises(DatasetError, match=r"3 of 3 bboxes lie within the first pixel.*0 to 1"):
            opened(tmp_path, *rows, option=option)


@pytest.mark.parametrize(
    ("polygon", "reason"),
    [
        ([0, 0, 4, 0, 4, 4, 0, 4], "mask elsewhere than its box"),
        ([10, 10, 30, 10, 30, 24] * 2, "empty mask, the object keeps its box"),
        ([10, 10, 30, 10], "bad mask"),
    ],
)
def test_a_mask_that_cannot_be_goes_and_its_box_stays(
    polygon: list[float], reason: str, tmp_path: Path
) -> None:
    wrong = row()
    wrong["objects"]["segmentation"] = [[polygon]]
    table = opened(tmp_path, wrong, option="?boxes=xywh&on_bad=skip")
    assert [10, 10, 35, 25] == first_box(table)
    assert (None,) == tuple(table[0].objects.rle)
    (name,) = table.skipped.names[reason]
    assert "row 0: object 1" in name


def test_a_split_of_which_a_file_is_missing_is_refused(tmp_path: Path) -> None:
    put(tmp_path, row(), name="data/train-00001-of-00002.parquet")
    put(tmp_path, row(), name="data/test-00000-of-00001.parquet")
    (tmp_path / "data" / "._train-00000-of-00002.parquet").write_bytes(b"\0\5\x16\7")
    with pytest.raises(DatasetError, match="data/train-00000-of-00002 among them; download them"):
        open_dataset("hub:.?boxes=xywh", tmp_path)
    assert 1 == len(open_dataset("hub:.?boxes=xywh&split=test", tmp_path))
    put(tmp_path, row(key=1), name="data/train-00000-of-00002.parquet")
    assert 2 == len(open_dataset("hub:.?boxes=xywh", tmp_path))
