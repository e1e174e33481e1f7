"""Data sets are recognized from what their files hold, in every format."""

from __future__ import annotations

import json
import zipfile
from pathlib import Path

import numpy as np
import pytest

from synthaug.pipeline.core.errors import DatasetError
from synthaug.pipeline.core.storage import Folder
from synthaug.pipeline.formats import FORMATS
from synthaug.pipeline.formats.recognize import (
    LABELLED,
    TEST,
    TRAIN,
    UNLABELLED,
    UNTOLD,
    VALIDATION,
    recognize,
    split_of,
)
from synthaug.pipeline.formats.reference import open_dataset
from synthaug.pipeline.formats.yolo.write import write_splits
from tests.pipeline.formats.samples import CAR, Thing, png_bytes, sample_table, write_sample

SAMPLE = sample_table([Thing((4, 4, 14, 14))], [Thing((2, 2, 12, 12)), Thing((20, 5, 38, 25), CAR)])
ON_DISK = sorted(FORMATS.keys() - {"toy", "images"})
TAKEN_FOR = {"coco_stuff_maps": "coco"}  # nothing but a reference tells that its maps belong to it
FILTERED = ("visual_genome",)  # the sample is read with other filters than the published ones


def document(*boxes: list[int], images: int = 1, **image: object) -> dict[str, object]:
    """Return a COCO document."""
    annotations = []
    for number, box in enumerate(boxes, start=1):
        annotations.append({"id": number, "image_id": 1, "category_id": 1, "bbox": box})
    listed = []
    for number in range(1, images + 1):
        listed.append(
            {"id": number, "file_name": f"{number}.png", "width": 40, "height": 30} | image
        )
    categories = [{"id": 1, "name": "cell"}]
    return {"images": listed, "annotations": annotations, "categories": categories}


def write(file: Path, content: object) -> Path:
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(json.dumps(content))
    return file


@pytest.mark.parametrize("name", ON_DISK)
def test_a_sample_of_each_format_is_recognized_and_read(name: str, tmp_path: Path) -> None:
    write_sample(name, SAMPLE, tmp_path / "set")
    found = recognize("set", tmp_path)
    assert [TAKEN_FOR.get(name, name)] == [one.format for one in found]
    assert found[0].has_labels
    if name not in FILTERED:
        table = open_dataset(found[0].reference, tmp_path)
        assert (2, 3) == (len(table), sum(len(scene.objects) for scene in table))


def test_a_folder_of_pictures_is_a_set_without_labels(tmp_path: Path) -> None:
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "a.png").write_bytes(png_bytes(np.zeros((8, 8, 3), np.uint8)))
    (found,) = recognize("photos", tmp_path)
    assert ("images:photos", False) == (found.reference, found.has_labels)


def test_pictures_of_inner_folders_are_those_of_labelled_sets_unless_they_say_so(
    tmp_path: Path,
) -> None:
    write_sample("coco", SAMPLE, tmp_path / "set")
    (tmp_path / "set" / "unlabeled").mkdir()
    (tmp_path / "set" / "unlabeled" / "a.png").write_bytes(png_bytes(np.zeros((8, 8, 3), np.uint8)))
    found = [one.reference for one in recognize("set", tmp_path)]
    assert ["coco:set/instances.json", "images:set/unlabeled"] == found


@pytest.mark.parametrize(
    ("name", "split", "rest"),
    [
        ("train", TRAIN, ""),
        ("instances_train2017", TRAIN, "instances"),
        ("train_unlabelled", UNLABELLED, ""),
        ("train-labeled", LABELLED, ""),
        ("panoptic_val", VALIDATION, "panoptic"),
        ("my test set", TEST, "my_set"),
        ("latest_valuation", UNTOLD, "latest_valuation"),  # words, not parts of words
    ],
)
def test_names_tell_splits_by_whole_words(name: str, split: str, rest: str) -> None:
    assert (split, rest) == split_of(name)


def test_coco_files_are_told_by_their_content_and_splits_by_their_names(tmp_path: Path) -> None:
    folder = tmp_path / "annotations"
    write(folder / "train.json", document([1, 1, 9, 9]))
    write(folder / "extra_unlabelled.json", document())
    write(folder / "captions_val.json", document() | {"annotations": [{"caption": "a cat"}]})
    write(folder / "results.json", [{"image_id": 1, "category_id": 1, "score": 0.5}])
    write(folder / "notes.json", {"made": "today"})
    found = {one.reference: (one.split, one.has_labels) for one in recognize(".", tmp_path)}
    expected = {
        "coco:annotations/train.json": (TRAIN, True),
        "coco:annotations/extra_unlabelled.json": (UNLABELLED, False),
    }
    assert expected == found


def test_a_split_may_be_the_name_of_a_folder(tmp_path: Path) -> None:
    for split in ("train", "valid"):
        write(tmp_path / split / "_annotations.coco.json", document([1, 1, 9, 9]))
    train, valid = recognize(".", tmp_path)
    assert (TRAIN, VALIDATION) == (train.split, valid.split)
    assert train.family == valid.family
    assert "coco:valid/_annotations.coco.json" == valid.reference


def test_lvis_is_told_from_coco(tmp_path: Path) -> None:
    write(tmp_path / "x.json", document([1, 1, 9, 9], neg_category_ids=[]))
    assert ["lvis"] == [one.format for one in recognize("x.json", tmp_path)]


def test_a_yolo_split_that_is_not_there_is_none(tmp_path: Path) -> None:
    write_splits({"train": SAMPLE, "val": SAMPLE}, Folder.at(tmp_path))
    with (tmp_path / "data.yaml").open("a") as file:
        file.write("\ntest: ../test/images\n")
    assert [TRAIN, VALIDATION] == [one.split for one in recognize(".", tmp_path)]


def test_an_archive_is_as_its_folder(tmp_path: Path) -> None:
    write_sample("coco", SAMPLE, tmp_path / "set")
    with zipfile.ZipFile(tmp_path / "set.zip", "w") as archive:
        for file in sorted((tmp_path / "set").rglob("*")):
            archive.write(file, file.relative_to(tmp_path / "set"))
    (found,) = recognize("set.zip", tmp_path)
    assert "coco:set.zip/instances.json" == found.reference
    assert 2 == len(open_dataset(found.reference, tmp_path))


def test_what_is_no_data_set_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match=r"nowhere: no such file or folder; name"):
        recognize("nowhere", tmp_path)
    (tmp_path / "empty").mkdir()
    with pytest.raises(DatasetError, match=r"empty: no data set is recognized there; name it with"):
        recognize("empty", tmp_path)
    (tmp_path / "notes.txt").write_text("hello")
    with pytest.raises(DatasetError, match=r"notes\.txt: no data set is recognized"):
        recognize("notes.txt", tmp_path)
    (tmp_path / "broken.json").write_text('{"images": [')
    with pytest.raises(DatasetError, match=r"broken\.json: "):
        recognize("broken.json", tmp_path)


def test_sets_that_a_run_made_are_not_those_of_the_folder_around_it(tmp_path: Path) -> None:
    write_sample("coco", SAMPLE, tmp_path / "photos")
    run = tmp_path / "photos" / "runs" / "photos"
    write_sample("coco", SAMPLE, run / "pseudo")
    (run / "steps").mkdir()
    assert 2 == len(recognize("photos", tmp_path))
    (run / "job.yaml").write_text("")
    assert ["coco:photos/instances.json"] == [
        one.reference for one in recognize("photos", tmp_path)
    ]


def test_a_flat_folder_of_labelimg_is_yolo(tmp_path: Path) -> None:
    folder = tmp_path / "photos"
    folder.mkdir()
    (folder / "classes.txt").write_text("cat\n")
    (folder / "a.png").write_bytes(png_bytes(np.zeros((20, 40, 3), np.uint8)))
    assert ["images"] == [one.format for one in recognize("photos", tmp_path)]
    (folder / "a.txt").write_text("0 0.5 0.5 0.25 0.5\n")
    (found,) = recognize("photos", tmp_path)
    table = open_dataset(found.reference, tmp_path)
    assert [[15, 5, 25, 15]] == table[0].objects.boxes.tolist()
    assert not table.skipped
