"""Hugging Face folders.

Splits come back as they were, and `datasets` finds its files by their names.
"""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest

from synthaug.pipeline.core.errors import DatasetError
from synthaug.pipeline.core.scene import SceneList
from synthaug.pipeline.core.storage import Folder
from synthaug.pipeline.formats import hf
from tests.hard_scenes import boxed, masked


def test_each_split_comes_back_under_either_name(tmp_path: Path) -> None:
    train, val = masked(), boxed()
    lost = hf.write_splits({"train": train, "val": val}, Folder.at(tmp_path))
    assert Counter() == lost
    assert "train-00000-of-00001.parquet" in Folder.at(tmp_path / "data").names()
    for split, expected in {"train": train, "val": val, "validation": val}.items():
        read = hf.read(hf.Config(".", split), tmp_path)
        assert [s.image_id for s in expected] == [s.image_id for s in read]
        assert expected.categories == read.categories


def test_shards_are_numbered_and_counted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hf, "ROWS", 2)
    table = SceneList(boxed().categories, boxed().scenes[:3])
    hf.write(table, Folder.at(tmp_path))
    names = ["train-00000-of-00002.parquet", "train-00001-of-00002.parquet"]
    assert names == Folder.at(tmp_path / "data").names()
    assert 3 == len(hf.read(hf.Config(str(tmp_path))))


def test_a_split_that_is_not_there_is_named(tmp_path: Path) -> None:
    hf.write(boxed(), Folder.at(tmp_path))
    with pytest.raises(DatasetError, match=r"no test-\*\.parquet file there"):
        hf.read(hf.Config(".", "test"), tmp_path)
    with pytest.raises(ValueError, match="split is 'dev'; use train, validation or test"):
        hf.Config(".", "dev")
