"""A data set reference is read as written, and its mistakes are named."""

from __future__ import annotations

import pytest

from synthaug.pipeline.core.errors import DatasetError, JobError
from synthaug.pipeline.formats.reference import open_dataset, parse
from synthaug.pipeline.formats.toy.dataset import CATEGORIES


def test_parse():
    assert parse("coco:a/b c.json?images=x+y%20&on_bad=skip") == (
        "coco",
        {"path": "a/b c.json", "images": "x+y%20", "on_bad": "skip"},
    )
    assert parse("toy:train") == ("toy", {"path": "train"})
    assert parse("coco:C:/x?images=a=b") == ("coco", {"path": "C:/x", "images": "a=b"})


def test_s3_connection_options_stay_with_the_address():
    expected = {"path": "s3://b/x?endpoint_override=h:1&scheme=http"}
    assert ("parquet", expected) == parse("parquet:s3://b/x?endpoint_override=h:1&scheme=http")


@pytest.mark.parametrize(
    ("reference", "message"),
    [
        ("train.json", "names no format"),
        ("", "names no format"),
        ("cooc:train.json", "unknown format 'cooc'; did you mean 'coco'?"),
        ("coco:a?image=b", "format 'coco' has no option 'image'; did you mean 'images'?"),
        ("coco:a?images", "'images' in 'coco:a?images' is no option"),
        ("coco:a?images=b&images=c", "option 'images' is given twice"),
        ("coco:a?max_pixels=many", "option max_pixels is 'many'; use a whole number"),
        ("coco:a?on_bad=explode", "on_bad is 'explode'"),
        ("toy:train?labels=perhaps", "option labels is 'perhaps'; use true or false"),
        ("toy:nowhere", "toy split 'nowhere'"),
    ],
)
def test_mistakes_name_the_key_and_the_way_out(reference, message, tmp_path):
    with pytest.raises(JobError) as caught:
        open_dataset(reference, tmp_path, key="data.labelled")
    text = str(caught.value)
    assert text.startswith("data.labelled: ")
    assert message in text
    assert "\n" not in text


def test_options_and_defaults_reach_the_format(tmp_path):
    dataset = open_dataset(
        "toy:val?count=3", tmp_path, defaults={"labels": "no", "count": "9", "unheard_of": "1"}
    )
    assert len(dataset) == 3
    assert len(dataset[0].objects) == 0
    assert dataset.categories == CATEGORIES


@pytest.mark.parametrize("reference", ["coco:none.json", "parquet:none"])
def test_paths_start_at_the_root_unless_absolute(reference, tmp_path):
    with pytest.raises(DatasetError, match=str(tmp_path / "none")):
        open_dataset(reference, tmp_path)
    name, path = reference.split(":")
    with pytest.raises(DatasetError, match=r"^/elsewhere/none"):
        open_dataset(f"{name}:/elsewhere/{path}", tmp_path)
