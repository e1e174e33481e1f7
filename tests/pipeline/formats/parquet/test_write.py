"""Shards are the same bytes for the same scenes, hold the layout that is promised, and appear whole
or not at all.
"""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from synthaug.pipeline.core.errors import DatasetError
from synthaug.pipeline.core.scene import Category, ImageRef, Objects, Scene, SceneList
from synthaug.pipeline.core.storage import Folder
from synthaug.pipeline.formats.parquet import read as parquet
from synthaug.pipeline.formats.parquet import write as parquet_write

CATEGORIES = (Category(3, "cow"), Category(7, "cat"), Category(90, "cow"))


def table(count: int, pixels: int = 50) -> list[Scene]:
    rng = np.random.default_rng(0)
    scenes = []
    for i in range(count):
        objects = Objects.build([i % 3], [[0, 0, 4, 4 + i % 4]], id=[i + 1])
        scenes.append(Scene(f"s-{i:08d}", 8, 8, ImageRef(rng.bytes(pixels)), objects))
    return scenes


def shard(folder: Folder, rows: list[Scene], chunks: list[int]) -> bytes:
    with parquet.ShardWriter(folder, "part-0.parquet", CATEGORIES, "job") as writer:
        for start, end in zip([0, *chunks], [*chunks, len(rows)], strict=True):
            writer.write(rows[start:end])
    return folder.read_bytes("part-0.parquet")


def test_bytes_depend_on_the_scenes_alone(tmp_path):
    rows = table(450)
    first = shard(Folder.at(tmp_path / "a"), rows, [])
    assert first == shard(Folder.at(tmp_path / "b"), rows, [1, 2, 199, 201, 400])
    assert [
        pq.read_metadata(tmp_path / "a/part-0.parquet").row_group(i).num_rows for i in range(3)
    ] == [200, 200, 50]
    assert first != shard(Folder.at(tmp_path / "c"), rows[::-1], [])


def test_a_row_group_closes_early_rather_than_grow(tmp_path, monkeypatch):
    monkeypatch.setattr(parquet_write, "_GROUP_BYTES", 1000)
    shard(Folder.at(tmp_path), table(30, pixels=100), [7])
    assert pq.read_metadata(tmp_path / "part-0.parquet").num_row_groups == 3


def test_an_exception_inside_leaves_nothing(tmp_path):
    with (
        pytest.raises(ZeroDivisionError),
        parquet.ShardWriter(
            Folder.at(tmp_path), "x.parquet", CATEGORIES, rows_per_group=2
        ) as writer,
    ):
        _fail_after(writer, table(5))
    assert list(tmp_path.iterdir()) == []


def _fail_after(writer, rows):
    writer.write(rows)
    raise ZeroDivisionError


def test_a_scene_that_cannot_be_written_leaves_nothing(tmp_path):
    broken = replace(table(1)[0], image_id="\ud800")
    writer = parquet.ShardWriter(Folder.at(tmp_path), "x.parquet", CATEGORIES)
    with pytest.raises(UnicodeEncodeError), writer:
        writer.write([broken])
    assert list(tmp_path.iterdir()) == []


def test_write_cuts_shards_embeds_files_and_replaces(tmp_path):
    (tmp_path / "x.png").write_bytes(b"pixels")
    rows = [replace(scene, image=ImageRef(None, str(tmp_path / "x.png"))) for scene in table(7)]
    out = Folder.at(tmp_path / "out")
    parquet.write(SceneList(CATEGORIES, table(20)), out, rows_per_shard=3)
    parquet.write(SceneList(CATEGORIES, rows), out, rows_per_shard=3)
    assert [f"part-0000{i}.parquet" for i in range(3)] == out.names()
    dataset = parquet.read(parquet.Config(out.uri))
    assert [ImageRef(b"pixels", "x.png", "as_stored")] * 7 == [scene.image for scene in dataset]
    gone = replace(rows[0], image_id="q", image=ImageRef(None, str(tmp_path / "gone.png")))
    with pytest.raises(DatasetError, match=r"gone\.png: the image of 'q' cannot be read"):
        parquet.write(SceneList(CATEGORIES, [gone]), Folder.at(tmp_path / "new"))


def test_the_layout_is_the_one_promised(tmp_path):
    shard(Folder.at(tmp_path), table(3), [])
    metadata = pq.read_metadata(tmp_path / "part-0.parquet")
    columns = {
        metadata.row_group(0).column(i).path_in_schema: metadata.row_group(0).column(i)
        for i in range(23)
    }
    assert columns["image.bytes"].compression == "UNCOMPRESSED"
    assert {"ZSTD"} == {c.compression for name, c in columns.items() if name != "image.bytes"}
    assert (columns["image.bytes"].has_dictionary_page, columns["image.bytes"].statistics) == (
        False,
        None,
    )
    footer = json.loads(metadata.metadata[b"synthaug"])
    assert (footer["schema_version"], footer["job"], footer["categories"][2]["id"]) == (
        1,
        "job",
        90,
    )
    features = json.loads(metadata.metadata[b"huggingface"])["info"]["features"]
    assert features["image"] == {"_type": "Image"}
    assert (
        features["objects"]["_type"],
        features["objects"]["feature"]["category"]["_type"],
    ) == ("Sequence", "ClassLabel")
    assert len(set(features["objects"]["feature"]["category"]["names"])) == 3
    objects = pq.read_schema(tmp_path / "part-0.parquet").field("objects").type
    assert "list<element: int64>" == str(
        objects.field("category").type
    )  # Hugging Face class labels need int64
    row = pq.read_table(tmp_path).to_pylist()[1]
    assert (row["objects"]["bbox"][0], row["objects"]["verdict_score"][0]) == ([0, 0, 4, 5], None)


def test_the_footer_tells_scenes_apart_by_everything_they_hold(tmp_path):
    scene = table(1)[0]
    objects = scene.objects
    others = [
        replace(scene, image=ImageRef(b"")),
        replace(scene, panoptic=ImageRef(b"map")),
        scene.with_objects(replace(objects, verdict=("kept",))),
        scene.with_objects(replace(objects, layout_boxes=objects.boxes + 1)),
        replace(scene, image_id="other"),
    ]
    digests = set()
    for number, one in enumerate([scene, *others]):
        shard(Folder.at(tmp_path / str(number)), [one], [])
        metadata = pq.read_metadata(tmp_path / str(number) / "part-0.parquet").metadata
        digests.add(metadata[b"synthaug_content"])
    assert 6 == len(digests)


@settings(deadline=None)
@given(st.integers(0, 50), st.integers(1, 9))
def test_shards_cover_the_rows_in_order_and_an_empty_table_has_one(count: int, most: int) -> None:
    shards = parquet_write.shard_rows(count, most)
    assert list(range(count)) == [row for rows in shards for row in rows]
    assert 1 <= len(shards) == max(1, -(-count // most))
    assert max(map(len, shards)) <= most


def test_bytes_in_memory_lose_their_folder_and_no_image_stays_as_it_is() -> None:
    scene = replace(
        table(1)[0], image=ImageRef(b"data", "/an/archive.zip/name.png"), panoptic=ImageRef()
    )
    kept = replace(scene, image=ImageRef(b"data", "name.png"))
    assert kept == parquet_write.embed_files(scene)


def test_panoptic_maps_are_embedded_too(tmp_path: Path) -> None:
    (tmp_path / "map.png").write_bytes(b"map")
    scene = replace(table(1)[0], panoptic=ImageRef(None, str(tmp_path / "map.png")))
    assert ImageRef(b"map", "map.png") == parquet_write.embed_files(scene).panoptic
