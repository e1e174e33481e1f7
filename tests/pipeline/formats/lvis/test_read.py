"""LVIS files: what the official form says and ours adds, both ways."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from synthaug.pipeline.core.errors import DatasetError
from synthaug.pipeline.formats.reference import open_dataset
from tests.hard_scenes import SIZE, png


@pytest.fixture
def official(tmp_path: Path) -> Path:
    """A file as LVIS publishes it: no file_name, no iscrowd."""
    (tmp_path / "coco" / "val2017").mkdir(parents=True)
    (tmp_path / "coco" / "val2017" / "000000000139.png").write_bytes(png(SIZE))
    image = {
        "id": 139,
        "width": 40,
        "height": 24,
        "neg_category_ids": [2],
        "not_exhaustive_category_ids": [],
    }
    document = {
        "info": {},
        "licenses": [],
        "images": [image | {"coco_url": "http://images.cocodataset.org/val2017/000000000139.png"}],
        "annotations": [
            {"id": 1, "image_id": 139, "category_id": 1, "bbox": [2, 3, 10, 5], "area": 50.0,
             "segmentation": [[2, 3, 12, 3, 12, 8, 2, 8]]}
        ],
        "categories": [{"id": 1, "name": "aerosol_can", "frequency": "c",
         "synset": "x", "synonyms": ["a"], "def": ""},
                       {"id": 2, "name": "air", "frequency": "r"}],
    }  # fmt: skip
    (tmp_path / "lvis.json").write_text(json.dumps(document))
    return tmp_path


def test_an_official_file_is_read_by_its_urls(official: Path) -> None:
    table = open_dataset("lvis:lvis.json?images=coco", official)
    assert table[0].objects.boxes.tolist() == [[2, 3, 12, 8]]
    assert str(table[0].image.path).endswith("val2017/000000000139.png")
    assert [c.name for c in table.categories] == ["aerosol_can", "air"]


@pytest.mark.parametrize(
    ("url", "told"),
    [("http://x/../../etc/passwd", "is not in"), ("../..", "absolute or leaves"), (5, "file_name")],
)
def test_a_bad_url_is_one_line(official: Path, url: Any, told: str) -> None:
    document = json.loads((official / "lvis.json").read_text())
    document["images"][0]["coco_url"] = url
    (official / "lvis.json").write_text(json.dumps(document))
    with pytest.raises(DatasetError, match=told) as caught:
        open_dataset("lvis:lvis.json?images=coco", official)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("key", ["images", "annotations", "categories"])
@pytest.mark.parametrize("value", [None, 3, [3], [{}], "x"])
def test_what_is_no_lvis_file_is_one_line(official: Path, key: str, value: Any) -> None:
    document = json.loads((official / "lvis.json").read_text())
    document[key] = value
    (official / "lvis.json").write_text(json.dumps(document))
    with pytest.raises(DatasetError) as caught:
        open_dataset("lvis:lvis.json?images=coco", official)
    assert "lvis.json" in str(caught.value)
