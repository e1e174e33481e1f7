"""Scene tables.

What is written is read, byte for byte the same each time, and broken files are named.
"""

from __future__ import annotations

import json
import pickle
from dataclasses import fields, replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from synthaug.pipeline.core import masks
from synthaug.pipeline.core.errors import DatasetError
from synthaug.pipeline.core.scene import (
    Category,
    ImageRef,
    Objects,
    Provenance,
    Relation,
    Scene,
    SceneList,
)
from synthaug.pipeline.core.storage import Folder
from synthaug.pipeline.formats.parquet import read as parquet

CATEGORIES = (
    Category(3, "<script>alert(1)</script>", "bad"),
    Category(7, "🐮", "", isthing=False),
    Category(90, "🐮", "twin"),
)
TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=8)
REFS = st.builds(ImageRef, st.none() | st.binary(max_size=20), st.none() | TEXT)


@st.composite
def object_tables(draw, size):
    """0 to 4 objects on a grid of 1/64 pixel, some with masks, some touching the border."""
    H, W = size
    n = draw(st.integers(0, 4))
    corners = st.tuples(st.integers(0, W * 64 - 1), st.integers(0, H * 64 - 1))

    def box():
        x, y = draw(corners)
        return (
            x / 64,
            y / 64,
            draw(st.integers(x + 1, W * 64)) / 64,
            draw(st.integers(y + 1, H * 64)) / 64,
        )

    def column(values):
        return draw(st.lists(values, min_size=n, max_size=n))

    whole = masks.encode(np.ones((1, H, W), bool))[0]
    return Objects.build(
        column(st.integers(0, len(CATEGORIES) - 1)),
        [box() for _ in range(n)],
        id=column(st.integers(1, 2**62)),
        rle=column(st.sampled_from([None, whole])),
        area=column(st.floats(0, 1e6, width=32)),
        iscrowd=column(st.booleans()),
        isthing=column(st.booleans()),
        score=column(st.floats(0, 1, width=32)),
        source=column(st.sampled_from(["human", "pseudo", "synthetic"])),
        layout_boxes=[box() for _ in range(n)],
        verdict=column(st.sampled_from([None, "kept", "missing"])),
        verdict_score=column(st.just(float("nan")) | st.floats(0, 1, width=32)),
        verdict_iou=column(st.just(float("nan")) | st.floats(0, 1, width=32)),
    )


@st.composite
def scenes(draw):
    size = draw(st.integers(1, 40)), draw(st.integers(1, 40))
    origin = st.builds(Provenance, st.integers(0, 2**63 - 1), TEXT, TEXT, TEXT, TEXT)
    return Scene(
        draw(TEXT),
        *size,
        draw(REFS),
        draw(object_tables(size)),
        draw(st.none() | REFS),
        draw(st.none() | origin),
    )


def differences(a: Scene, b: Scene) -> list[str]:
    """Names of the fields in which two scenes differ; NaN equals NaN.

    What is read back says that its labels count pixels as they are stored.
    """
    a = replace(a, image=replace(a.image, turned="as_stored"))
    if a.panoptic is not None:
        a = replace(a, panoptic=replace(a.panoptic, turned="as_stored"))
    names = ["image_id", "height", "width", "image", "panoptic", "provenance"]
    found = [name for name in names if getattr(a, name) != getattr(b, name)]
    for field in fields(Objects):
        x, y = getattr(a.objects, field.name), getattr(b.objects, field.name)
        if isinstance(x, np.ndarray):
            same = (
                x.dtype == y.dtype
                and x.shape == y.shape
                and np.array_equal(x, y, equal_nan=x.dtype.kind == "f")
            )
        else:
            same = x == y
        found += [] if same else [field.name]
    return found


def table(count: int, pixels: int = 50) -> list[Scene]:
    rng = np.random.default_rng(0)
    return [
        Scene(
            f"s-{i:08d}",
            8,
            8,
            ImageRef(rng.bytes(pixels)),
            Objects.build([i % 3], [[0, 0, 4, 4 + i % 4]], id=[i + 1]),
        )
        for i in range(count)
    ]


def shard(
    folder: Folder, rows: list[Scene], chunks: list[int], name: str = "part-0.parquet"
) -> bytes:
    with parquet.ShardWriter(folder, name, CATEGORIES, "job") as writer:
        for start, end in zip([0, *chunks], [*chunks, len(rows)], strict=True):
            writer.write(rows[start:end])
    return folder.read_bytes(name)


@settings(
    max_examples=40,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture],
)
@given(st.lists(scenes(), max_size=5))
def test_reading_gives_back_what_was_written(tmp_path, rows):
    folder = Folder.at(tmp_path / "t")
    with parquet.ShardWriter(folder, "a.parquet", CATEGORIES, rows_per_group=2) as writer:
        writer.write(rows)
    dataset = parquet.read(parquet.Config("t"), tmp_path)
    assert len(rows) == len(dataset)
    assert dataset.categories == CATEGORIES
    assert [[]] * len(rows) == [differences(a, b) for a, b in zip(rows, dataset, strict=True)]


def test_a_table_that_was_written_without_the_ious_of_verdicts_is_read(tmp_path):
    """Older tables lack the column; it is empty then."""
    folder = Folder.at(tmp_path)
    shard(folder, table(3), [])
    whole = pq.read_table(tmp_path / "part-0.parquet")
    objects = whole.column("objects").combine_chunks()
    names = [field.name for field in objects.type if field.name != "verdict_iou"]
    lists = pa.StructArray.from_arrays([objects.field(name) for name in names], names=names)
    at = whole.schema.get_field_index("objects")
    metadata = whole.schema.metadata
    older = whole.set_column(at, "objects", lists).replace_schema_metadata(metadata)
    pq.write_table(older, tmp_path / "part-0.parquet")
    for pixels in (True, False):
        (_, scene, _) = parquet.open_table(tmp_path, pixels=pixels)
        assert np.isnan(scene.objects.verdict_iou).all() and len(scene.objects) == 1


@settings(
    max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(st.lists(st.floats(0, 4096, width=32), min_size=4, max_size=4))
def test_any_box_comes_back_within_one_step_of_float32(tmp_path, values):
    box = np.array([[*np.sort(values[:2]), *np.sort(values[2:])]], np.float32)[:, [0, 2, 1, 3]]
    scene = Scene("a", 4096, 4096, ImageRef(b""), Objects.build([0], box))
    shard(Folder.at(tmp_path), [scene], [])
    back = parquet.read(parquet.Config(str(tmp_path)))[0].objects.boxes
    assert np.array_equal(box[:, :2], back[:, :2])
    assert (np.abs(back - box) <= np.spacing(box)).all()


def test_an_empty_table_keeps_its_categories(tmp_path):
    parquet.write(SceneList(CATEGORIES, []), Folder.at(tmp_path))
    dataset = parquet.read(parquet.Config("."), tmp_path)
    assert (len(dataset), dataset.categories) == (0, CATEGORIES)
    with pytest.raises(IndexError):
        dataset[0]


def test_without_pixels_everything_else_is_there(tmp_path):
    rows = [
        replace(scene, panoptic=ImageRef(b"p", "pan.png"), image=ImageRef(b"i", "i.png"))
        for scene in table(3)
    ]
    shard(Folder.at(tmp_path), rows, [])
    scene = parquet.read(parquet.Config("part-0.parquet"), tmp_path, pixels=False)[2]
    assert (ImageRef(None, "i.png", "as_stored"), ImageRef(None, "pan.png", "as_stored")) == (
        scene.image,
        scene.panoptic,
    )
    assert differences(rows[2], scene) == ["image", "panoptic"]
    scene = parquet.read(parquet.Config("part-0.parquet"), tmp_path, pixels=False, maps=True)[2]
    assert differences(rows[2], scene) == ["image"]


def test_a_dataset_travels_to_a_worker(tmp_path):
    shard(Folder.at(tmp_path), table(3), [])
    dataset = parquet.read(parquet.Config(str(tmp_path)))
    dataset[0]
    other = pickle.loads(pickle.dumps(dataset))
    assert (dataset.fingerprint(), []) == (other.fingerprint(), differences(dataset[1], other[1]))


def test_the_fingerprint_sees_pixels_and_not_the_place(tmp_path):
    rows = table(3)
    shard(Folder.at(tmp_path / "a"), rows, [])
    shard(Folder.at(tmp_path / "b"), rows, [])
    image = ImageRef(bytes(reversed(rows[0].image.data or b"")))
    shard(Folder.at(tmp_path / "c"), [replace(rows[0], image=image), *rows[1:]], [])
    a, b, c = (parquet.read(parquet.Config(name), tmp_path).fingerprint() for name in "abc")
    assert a == b
    assert a != c


def test_rows_are_found_in_any_order_across_shards_and_row_groups(tmp_path):
    rows = table(11)
    parquet.write(SceneList(CATEGORIES, rows), Folder.at(tmp_path), rows_per_shard=5)
    dataset = parquet.read(parquet.Config("."), tmp_path)
    for index in (10, 0, 5, 4, 9):
        assert rows[index].image_id == dataset[index].image_id
        assert rows[index].objects.id.tolist() == dataset[index].objects.id.tolist()
    for index in (-1, 11):
        with pytest.raises(IndexError):
            dataset[index]


def test_a_table_is_opened_by_its_folder_or_by_the_address_of_one_file(tmp_path):
    folder = Folder.at(tmp_path)
    shard(folder, table(3), [])
    expected = parquet.read(parquet.Config("."), tmp_path).fingerprint()
    assert expected == parquet.open_table(folder).fingerprint()
    assert expected == parquet.open_table(tmp_path).fingerprint()
    one_file = parquet.open_table(f"{tmp_path}/part-0.parquet", pixels=False)
    assert expected == one_file.fingerprint()
    assert one_file[0].image.data is None
    with pytest.raises(DatasetError, match=f"^{tmp_path}/none: no \\*.parquet file there"):
        parquet.open_table(folder.sub("none"))


def test_only_shards_of_a_prefix_are_read(tmp_path):
    shard(Folder.at(tmp_path), table(3), [], "train-0.parquet")
    shard(Folder.at(tmp_path), table(2), [], "val-0.parquet")
    assert 3 == len(parquet.read(parquet.Config("."), tmp_path, prefix="train-"))
    assert 5 == len(parquet.read(parquet.Config("."), tmp_path))


def test_what_a_scene_holds_can_be_changed_without_changing_the_table(tmp_path):
    shard(Folder.at(tmp_path), table(2), [])
    dataset = parquet.read(parquet.Config("."), tmp_path)
    dataset[1].objects.boxes[:] = 7
    dataset[1].objects.id[:] = 7
    assert [[0, 0, 4, 5]] == dataset[1].objects.boxes.tolist()
    assert [2] == dataset[1].objects.id.tolist()


def test_integers_that_another_tool_widened_or_narrowed_are_read(tmp_path):
    rows = table(3)
    shard(Folder.at(tmp_path), rows, [])
    path = tmp_path / "part-0.parquet"
    old = pq.read_table(path)
    height = pa.array([8] * 3, pa.int64())
    width = pa.array([8] * 3, pa.uint8())
    new = old.set_column(2, "height", height).set_column(3, "width", width)
    pq.write_table(new.replace_schema_metadata(old.schema.metadata), path)
    dataset = parquet.read(parquet.Config("."), tmp_path)
    assert [[]] * 3 == [differences(a, b) for a, b in zip(rows, dataset, strict=True)]


def broken_files():
    def rewritten(change):
        def write(path):
            old = pq.read_table(path)
            pq.write_table(change(old), path)

        return write

    def metadata(version):
        return {"synthaug": json.dumps({"schema_version": version, "categories": []})}

    def wrong_page(path):
        data = bytearray(path.read_bytes())
        data[60] ^= 255
        path.write_bytes(data)

    return {
        "not a Parquet file, or cut short": lambda path: path.write_bytes(b"hello, I am text" * 10),
        "or cut short": lambda path: path.write_bytes(path.read_bytes()[:-100]),
        "cut short": lambda path: path.write_bytes(b""),
        "no scene table": rewritten(lambda t: t.replace_schema_metadata({})),
        "'synthaug' key of its footer is damaged; write": rewritten(
            lambda t: t.replace_schema_metadata({"synthaug": "{"})
        ),
        "the 'synthaug' key of its footer is damaged": rewritten(
            lambda t: t.replace_schema_metadata({"synthaug": '{"schema_version": 1}'})
        ),
        "schema_version 99 is unknown": rewritten(
            lambda t: t.replace_schema_metadata(metadata(99))
        ),
        "column 'objects' is missing": rewritten(lambda t: t.drop_columns(["objects"])),
        "column 'image.path' is missing": rewritten(
            lambda t: t.set_column(
                1, "image", pa.array([{"bytes": b""}] * 3)
            ).replace_schema_metadata(t.schema.metadata)
        ),
        "column 'height' has type": rewritten(
            lambda t: t.set_column(2, "height", pa.array(["8"] * 3)).replace_schema_metadata(
                t.schema.metadata
            )
        ),
        "column 'image_id' has empty rows": rewritten(
            lambda t: t.set_column(
                0, "image_id", pa.array([None] * 3, pa.string())
            ).replace_schema_metadata(t.schema.metadata)
        ),
        "a category that the footer does not list": rewritten(
            lambda t: t.replace_schema_metadata(metadata(1))
        ),
        "row group 0 cannot be read": wrong_page,
    }


@pytest.mark.parametrize("message", list(broken_files()))
def test_broken_files_are_named_in_one_line(tmp_path, message):
    shard(Folder.at(tmp_path), table(3), [])
    broken_files()[message](tmp_path / "part-0.parquet")
    with pytest.raises(DatasetError) as caught:
        parquet.read(parquet.Config("."), tmp_path)[0]
    text = str(caught.value)
    assert message in text
    assert "part-0.parquet: " in text
    assert "\n" not in text


def test_integers_of_another_width_are_read(tmp_path):
    rows = table(3)
    shard(Folder.at(tmp_path), rows, [])
    old = pq.read_table(tmp_path / "part-0.parquet")
    kinds = [
        f.with_type(pa.list_(pa.int32())) if f.name == "category" else f
        for f in old.schema.field("objects").type
    ]
    narrow = old.schema.set(4, pa.field("objects", pa.struct(kinds))).set(
        2, pa.field("height", pa.int64())
    )
    pq.write_table(old.cast(narrow), tmp_path / "part-0.parquet")
    dataset = parquet.read(parquet.Config("."), tmp_path)
    assert [[]] * 3 == [differences(a, b) for a, b in zip(rows, dataset, strict=True)]


def test_a_folder_without_shards_and_two_tables_in_one_folder(tmp_path):
    with pytest.raises(DatasetError, match=r"none: no \*\.parquet file there"):
        parquet.read(parquet.Config("none"), tmp_path)
    shard(Folder.at(tmp_path), table(1), [])
    with parquet.ShardWriter(Folder.at(tmp_path), "z.parquet", CATEGORIES[:1]):
        pass
    with pytest.raises(DatasetError, match=r"z\.parquet: its categories differ"):
        parquet.read(parquet.Config("."), tmp_path)


def test_memory_stays_flat_over_many_row_groups(tmp_path, monkeypatch):
    assert parquet.KEPT_BYTES < 100_000_000
    monkeypatch.setattr(parquet, "KEPT_BYTES", 10_000_000)
    with parquet.ShardWriter(
        Folder.at(tmp_path), "a.parquet", CATEGORIES, rows_per_group=10
    ) as writer:
        for scene in table(300, pixels=200_000):
            writer.write([scene])
    dataset = parquet.read(parquet.Config("."), tmp_path)
    before = pa.total_allocated_bytes()
    peak = 0
    for scene in dataset:
        peak = max(peak, pa.total_allocated_bytes() - before)
        assert len(scene.image.data) == 200_000
    assert peak < 20_000_000  # of 60 MB


@pytest.mark.parametrize(
    "box",
    [
        (-1, 0, 5, 5),
        (0, 0, 41, 5),
        (0, 0, 5, 31),
        (np.nan, 0, 5, 5),
        (0, 0, np.inf, 5),
        (9, 2, 4, 7),
        (4, 7, 9, 2),
    ],
)
def test_a_box_that_does_not_lie_in_its_image_is_refused(tmp_path, box):
    scene = Scene("a", 30, 40, ImageRef(b"x"), Objects.build([0], [box]))
    parquet.write(SceneList(CATEGORIES, [scene]), Folder.at(tmp_path))
    with pytest.raises(DatasetError, match="a box does not lie in its image"):
        parquet.open_table(tmp_path)[0]


def test_a_footer_nested_without_end_is_refused(tmp_path):
    scene = Scene("a", 30, 40, ImageRef(b"x"), Objects.build([], []))
    parquet.write(SceneList(CATEGORIES, [scene]), Folder.at(tmp_path))
    (file,) = tmp_path.glob("*.parquet")
    deep = pq.read_table(file).replace_schema_metadata({"synthaug": "[" * 100_000})
    pq.write_table(deep, file)
    with pytest.raises(DatasetError, match="its footer is damaged"):
        parquet.open_table(tmp_path)


def test_a_missing_box_is_refused(tmp_path):
    scene = Scene("a", 30, 40, ImageRef(b"x"), Objects.build([0, 1], [(0, 0, 5, 5)] * 2))
    parquet.write(SceneList(CATEGORIES, [scene]), Folder.at(tmp_path))
    (file,) = tmp_path.glob("*.parquet")
    table = pq.read_table(file)
    (row,) = table.to_pylist()
    row["objects"]["bbox"][0] = None
    pq.write_table(pa.Table.from_pylist([row], table.schema), file)
    with pytest.raises(DatasetError, match="bbox has empty entries"):
        parquet.open_table(tmp_path)[0]


def test_the_mask_of_an_object_that_is_painted_over_has_no_pixel_and_is_kept(tmp_path):
    (empty,) = masks.encode(np.zeros((1, 30, 40), bool))
    objects = Objects.build([0], [(0, 0, 5, 5)], rle=[empty])
    scene = Scene("a", 30, 40, ImageRef(b"x"), objects)
    parquet.write(SceneList(CATEGORIES, [scene]), Folder.at(tmp_path))
    assert parquet.open_table(tmp_path)[0].objects.rle == (empty,)


@pytest.mark.parametrize(
    ("counts", "message"),
    [
        ("\ufffd", "counts are not COCO compressed run lengths"),
        ("", "empty counts"),
        ("11", "the counts cover 2 pixels, not 30x40"),
    ],
)
def test_counts_that_are_no_mask_are_refused(tmp_path, counts, message):
    objects = Objects.build([0], [(0, 0, 5, 5)], rle=[counts])
    scene = Scene("a", 30, 40, ImageRef(b"x"), objects)
    parquet.write(SceneList(CATEGORIES, [scene]), Folder.at(tmp_path))
    with pytest.raises(DatasetError, match=rf"image 'a': an object's rle is no mask.*{message}"):
        parquet.open_table(tmp_path)[0]


class _Reader:
    """Hands out stand-ins of row groups and remembers which were read."""

    def __init__(self, num_bytes: int) -> None:
        self.read: list[int] = []
        self._num_bytes = num_bytes

    def __call__(self, number: int) -> SimpleNamespace:
        self.read.append(number)
        return SimpleNamespace(number=number, num_bytes=self._num_bytes)


def test_row_groups_are_read_once_as_long_as_they_fit():
    reader = _Reader(10)
    kept = parquet.RecentGroups(reader, 40)
    for number in (0, 1, 2, 3, 2, 1, 0):
        assert kept[number].number == number
    assert reader.read == [0, 1, 2, 3]
    kept[4]  # 3 was used longest ago
    kept[0], kept[1], kept[2], kept[4]
    assert reader.read == [0, 1, 2, 3, 4]
    kept[3]
    assert reader.read == [0, 1, 2, 3, 4, 3]


def test_three_row_groups_are_kept_however_large_they_are():
    reader = _Reader(1000)
    kept = parquet.RecentGroups(reader, 40)
    for number in (0, 1, 2, 0, 1, 2):
        kept[number]
    assert reader.read == [0, 1, 2]
    kept[3]
    kept[2]
    kept[0]
    assert reader.read == [0, 1, 2, 3, 0]


def test_relations_are_a_column_of_tables_that_have_them(tmp_path: Path) -> None:
    objects = Objects.build([0, 0], [[0, 0, 4, 4], [1, 1, 5, 5]], id=[7, 9])
    related = Scene("a", 8, 8, ImageRef(b"x"), objects, relations=(Relation(7, "on", 9),))
    alone = Scene("b", 8, 8, ImageRef(b"x"), objects)
    for name, has_relations in (("plain", False), ("graphs", True)):
        folder = Folder.at(tmp_path / name)
        with parquet.ShardWriter(
            folder, "part-0.parquet", (Category(1, "cow"),), has_relations=has_relations
        ) as writer:
            writer.write([related, alone])
    graphs = parquet.open_table(tmp_path / "graphs")
    assert graphs.has_relations
    assert [scene.relations for scene in graphs] == [related.relations, ()]
    assert parquet.open_table(tmp_path / "graphs", pixels=False)[0].relations == related.relations
    plain = parquet.open_table(tmp_path / "plain")
    assert not plain.has_relations
    assert plain[0].relations == ()
    columns = pq.read_schema(tmp_path / "plain" / "part-0.parquet").names
    assert columns == parquet.SCHEMA.names
    copied = Folder.at(tmp_path / "copied")
    parquet.write(graphs, copied)
    assert parquet.open_table(copied)[0].relations == related.relations


def test_a_relation_with_a_part_missing_is_refused(tmp_path: Path) -> None:
    objects = Objects.build([0], [[0, 0, 4, 4]])
    nothing: Any = None
    broken = Relation(1, nothing, 1)
    scene = Scene("a", 8, 8, ImageRef(b"x"), objects, relations=(broken,))
    with parquet.ShardWriter(
        Folder.at(tmp_path), "part-0.parquet", (Category(1, "cow"),), has_relations=True
    ) as writer:
        writer.write([scene])
    with pytest.raises(DatasetError, match="relations has empty entries"):
        parquet.open_table(tmp_path)[0]
