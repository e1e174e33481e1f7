"""Signatures come back from disk as they were written, in the order of splits, shards and rows."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from synthaug.pipeline.core.images import decode
from synthaug.pipeline.core.storage import Folder
from synthaug.pipeline.formats.toy import dataset as toy
from synthaug.pipeline.leaks.hashing import NUM_HASHES, signature
from synthaug.pipeline.leaks.signatures import read_signatures, write_signatures

TOY = toy.read(toy.Config("train", 5), Path())
ROWS = [(f"image {i}", f"{i}.png", signature(decode(scene))) for i, scene in enumerate(TOY)]


def test_signatures_come_back_as_they_were_written(tmp_path):
    for split, part in (("a", ROWS[:3]), ("b", ROWS[3:])):
        write_signatures(Folder.at(tmp_path / split), "part-00000", part)
    table = read_signatures([(split, Folder.at(tmp_path / split)) for split in ("a", "b")])
    assert len(table) == 5
    assert table.split == ("a", "a", "a", "b", "b")
    assert list(table.image_id) == [name for name, _, _ in ROWS]
    assert list(table.file) == [file for _, file, _ in ROWS]
    assert list(table.pixels) == [own.pixels for _, _, own in ROWS]
    assert (table.hashes == np.stack([own.hashes for _, _, own in ROWS])).all()


def test_thumbnails_are_those_of_their_rows_in_any_shard(tmp_path):
    folder = Folder.at(tmp_path / "a")
    for number, part in enumerate((ROWS[:2], ROWS[2:4], ROWS[4:])):
        write_signatures(folder, f"part-{number:05d}", part)
    table = read_signatures([("a", folder)])
    thumbnails = table.thumbnails({1, 2, 4})
    assert set(thumbnails) == {1, 2, 4}
    for row, thumbnail in thumbnails.items():
        np.testing.assert_array_equal(thumbnail, ROWS[row][2].thumbnail)
    assert table.thumbnails(set()) == {}


def test_a_split_without_images_has_no_signatures(tmp_path):
    write_signatures(Folder.at(tmp_path / "a"), "part-00000", [])
    table = read_signatures([("a", Folder.at(tmp_path / "a"))])
    assert len(table) == 0
    assert table.hashes.shape == (0, NUM_HASHES)
    assert len(read_signatures([])) == 0
