"""The COCO export: with image files, or without them where the job says so; the records are the same."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from synthaug.pipeline.core.storage import Folder
from synthaug.pipeline.formats.parquet import read as parquet
from synthaug.pipeline.formats.reference import open_dataset
from synthaug.pipeline.steps import export


@pytest.mark.parametrize("images", [True, False])
def test_image_files_are_written_when_asked_for_and_only_then(tmp_path: Path, images: bool) -> None:
    parquet.write(open_dataset("toy:train?count=3", Path()), Folder.at(tmp_path / "table"))
    told = export.write(export.Spec(str(tmp_path / "table"), str(tmp_path / "coco"), images))
    record = json.loads((tmp_path / "coco" / "instances.json").read_text())
    assert told["images"] == len(record["images"]) == 3
    found = {path.name for path in (tmp_path / "coco" / "images").glob("*")}
    assert found == ({image["file_name"] for image in record["images"]} if images else set())
