"""A data set reference is read as written, and its mistakes are named."""

from __future__ import annotations

from pathlib import Path

import pytest

from synthaug.pipeline.core.errors import DatasetError, JobError
from synthaug.pipeline.formats.reference import open_dataset, parse, split
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
    assert ("parquet", {"path": "s3://b/x"}) == parse("parquet:s3://b/x")
    mixed = parse("parquet:s3://b/x?part=1/2&region=eu&on_bad=skip")
    expected = {"path": "s3://b/x?region=eu", "part": "1/2", "on_bad": "skip"}
    assert ("parquet", expected) == mixed


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
        ("toy:train?part=3", "option part is '3'; use k/n with k from 1 to n, such as 1/2"),
        ("toy:train?part=0/2", "option part is '0/2'"),
        ("toy:train?part=3/2", "option part is '3/2'"),
        ("toy:train?part=-1/2", "option part is '-1/2'"),
        ("toy:train?part=a/b", "option part is 'a/b'"),
    ],
)
def test_mistakes_name_the_key_and_the_way_out(reference, message, tmp_path):
    with pytest.raises(JobError) as caught:
        open_dataset(reference, tmp_path, key="data.labelled")
    text = str(caught.value)
    assert text.startswith("data.labelled: ")
    assert message in text
    assert "\n" not in text


def test_what_is_wrong_with_the_data_is_told_with_the_key_of_a_job(tmp_path):
    with pytest.raises(DatasetError) as caught:
        open_dataset("coco:.", tmp_path, key="data.labelled")
    assert str(caught.value).startswith(f"data.labelled: {tmp_path}: name one of its JSON files")
    with pytest.raises(DatasetError) as caught:
        open_dataset("coco:.", tmp_path, key="DATASET")
    assert str(caught.value).startswith(f"{tmp_path}: name one of its JSON files")


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


def test_parts_of_one_set_and_other_sets_may_be_joined(tmp_path):
    whole = open_dataset("toy:train?count=10", tmp_path)
    halves = "toy:train?count=10&part=1/2 + toy:train?count=10&part=2/2"
    joined = open_dataset(halves, tmp_path)
    assert {scene.image_id for scene in whole} == {s.image_id[2:] for s in joined}
    assert ["1:", "2:"] == [joined[4].image_id[:2], joined[5].image_id[:2]]


def test_sets_of_other_classes_are_not_joined(tmp_path):
    (tmp_path / "one.json").write_text(
        '{"images": [], "annotations": [], "categories": [{"id": 1, "name": "dog"}]}'
    )
    with pytest.raises(DatasetError, match=r"^data\.labelled: data set 2 has the class 'dog'"):
        open_dataset("toy:train?count=1 + coco:one.json", tmp_path, key="data.labelled")


@pytest.mark.parametrize(
    ("text", "expected"), [("true", True), ("YES", True), ("1", True), ("No", False), ("0", False)]
)
def test_truth_can_be_written_in_several_ways(text, expected, tmp_path):
    table = open_dataset(f"toy:train?count=1&labels={text}", tmp_path)
    assert expected == (len(table[0].objects) > 0)


def test_an_option_of_a_reference_is_no_other_option_s_value(tmp_path):
    table = open_dataset("toy:val?size=48&count=7&seed=3", tmp_path)
    assert (7, (48, 48)) == (len(table), table[0].size)
    again = open_dataset("toy:val?seed=3&count=7&size=48", tmp_path)
    assert table.fingerprint() == again.fingerprint()


def test_a_path_is_known_by_the_files_that_exist(tmp_path):
    for folder in ("cats + dogs", "why?", "a&b=c", "q?part=1"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "t.json").write_text("{}")
    (tmp_path / "train?v2.json").write_text("{}")
    expected = {
        "coco:why?/t.json?images=a&b=c&on_bad=skip": {
            "path": "why?/t.json",
            "images": "a&b=c",
            "on_bad": "skip",
        },
        "coco:train?v2.json": {"path": "train?v2.json"},
        "coco:train?v2.json?images=why?": {"path": "train?v2.json", "images": "why?"},
        "coco:q?part=1/t.json": {"path": "q?part=1/t.json"},
        "coco:gone?images=x": {"path": "gone", "images": "x"},
    }
    for reference, options in expected.items():
        assert parse(reference, "data", tmp_path) == ("coco", options)


def test_only_another_reference_is_joined():
    assert split("coco:cats + dogs/t.json") == ["coco:cats + dogs/t.json"]
    assert split("coco:a + b.json + toy:train") == ["coco:a + b.json", "toy:train"]


def test_a_name_that_no_file_can_have_is_one_line(tmp_path: Path) -> None:
    for folder in ("Annotations", "JPEGImages", "ImageSets/Main"):
        (tmp_path / folder).mkdir(parents=True)
    (tmp_path / "ImageSets/Main/train.txt").write_text("a" * 300)
    with pytest.raises(DatasetError) as caught:
        open_dataset("voc:.", tmp_path)
    assert "File name too long" in str(caught.value)
    assert "voc:." in str(caught.value)


@pytest.mark.parametrize("name", ["/x/gone.csv", None])
def test_a_file_that_a_reader_cannot_open_is_named_where_it_is_known(
    name: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    def read(*_: object) -> None:
        raise OSError(2, "No such file or directory", name)

    monkeypatch.setattr("synthaug.pipeline.formats.cvat.read", read)
    with pytest.raises(DatasetError) as caught:
        open_dataset("cvat:a.xml", Path("/x"), "data.labelled")
    told = f"data.labelled: cvat:a.xml: {name or 'a file of it'} cannot be read (No such file"
    assert str(caught.value).startswith(told)
