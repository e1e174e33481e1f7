"""Categories and images of COCO files.

Kept under their ids, and where the images are looked for.
"""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from synthaug.pipeline.core.errors import DatasetError
from synthaug.pipeline.core.scene import Category, Provenance
from synthaug.pipeline.core.skipped import Skipped
from synthaug.pipeline.formats.checked import Checker
from synthaug.pipeline.formats.coco.records import (
    Config,
    ImageReader,
    read_categories,
    read_images,
    read_provenance,
)
from synthaug.pipeline.formats.validation import RecordError

ORIGIN = {"seed": 5, "generator": "g", "checkpoint": "c", "source_image": "s", "reason": "r"}


def record(key: Any = 1, **change: Any) -> dict[str, Any]:
    return {"id": key, "file_name": "a.png", "height": 10, "width": 20} | change


@pytest.fixture
def reader(tmp_path: Path) -> ImageReader:
    (tmp_path / "a.png").write_bytes(b"123")
    return ImageReader(tmp_path, max_pixels=200, is_ours=True)


def refusal(reader: ImageReader, bad: Any) -> tuple[str, str]:
    with pytest.raises(RecordError) as caught:
        reader.add(bad)
    return caught.value.reason, caught.value.detail


def categories(*records: Any, on_bad: str = "stop") -> tuple[tuple[Category, ...], Counter[str]]:
    check = Checker(Path("c.json"), on_bad)
    return read_categories({"categories": list(records)}, check), check.skipped


def test_categories_are_sorted_by_id() -> None:
    found, _ = categories(
        {"id": 9, "name": "b", "supercategory": "x", "isthing": 0},
        {"id": 2, "name": "a", "supercategory": None},
    )
    assert found == (Category(2, "a"), Category(9, "b", "x", isthing=False))


@pytest.mark.parametrize(
    ("bad", "message"),
    [
        (
            {"id": "2", "name": "b"},
            "category '2': its id '2' must be a whole number and its name 'b' a Unicode text",
        ),
        (
            {"id": 2, "name": None},
            "category 2: its id 2 must be a whole number and its name None a Unicode text",
        ),
        (
            {"id": 2, "name": "half \ud800"},
            "category 2: its id 2 must be a whole number and its name 'half \\ud800' a Unicode "
            "text",
        ),
        ({"id": 2, "name": ""}, "category 2: its name is empty"),
        (
            {"id": 2, "name": "b", "supercategory": 5},
            "category 2: its supercategory must be a text",
        ),
        ({"id": 2, "name": "b", "isthing": "no"}, "category 2: isthing is 'no', not 0 or 1"),
        ({"name": "b"}, "category at position 1: key 'id' is missing"),
    ],
)
def test_a_bad_category_is_named(bad: dict[str, Any], message: str) -> None:
    good = {"id": 1, "name": "a"}
    with pytest.raises(DatasetError) as caught:
        categories(good, bad)
    assert str(caught.value) == f"c.json: {message}; correct it"
    with pytest.raises(DatasetError, match="; correct it"):  # its objects would be lost
        categories(good, bad, on_bad="skip")


def used(document: dict[str, Any], on_bad: str = "stop") -> tuple[list[int], Counter[str]]:
    check = Checker(Path("c.json"), on_bad)
    return [category.id for category in read_categories(document, check)], check.skipped


def test_of_categories_of_one_name_those_without_objects_are_left_out_and_named() -> None:
    """Roboflow writes a root class, which may be called like a class."""
    twins = [{"id": 0, "name": "cod"}, {"id": 1, "name": "cod"}, {"id": 2, "name": "ray"}]
    ids, skipped = used({"categories": twins, "annotations": [{"category_id": 1}]})
    assert ids == [1, 2]
    (named,) = skipped.names.values()
    assert named == ["c.json: category 0: 'cod'"]
    segments = [{"segments_info": [{"category_id": 1}]}]
    assert used({"categories": twins, "annotations": segments})[0] == [1, 2]
    assert used({"categories": twins, "annotations": []})[0] == [0, 2]


def test_a_root_class_without_objects_is_left_out() -> None:
    root = {"id": 0, "name": "fishes", "supercategory": "none"}
    below = [{"id": k, "name": n, "supercategory": "fishes"} for k, n in ((1, "cod"), (2, "ray"))]
    annotations = [{"category_id": 1}]
    ids, skipped = used({"categories": [root, *below], "annotations": annotations})
    assert ids == [1, 2]
    assert skipped == {"category without objects above all others": 1}
    own = [*annotations, {"category_id": 0}]
    assert used({"categories": [root, *below], "annotations": own})[0] == [0, 1, 2]
    apart = [root, below[0], below[1] | {"supercategory": "birds"}]
    assert used({"categories": apart, "annotations": annotations})[0] == [0, 1, 2]


@pytest.mark.parametrize("on_bad", ["stop", "skip"])
def test_two_categories_of_one_name_that_both_have_objects_are_refused(on_bad: str) -> None:
    twins = [{"id": 1, "name": "RBC"}, {"id": 2, "name": "RBC"}]
    annotations = [{"category_id": 1}, {"category_id": 2}]
    with pytest.raises(DatasetError, match="categories 1 and 2 are both called 'RBC'"):
        used({"categories": twins, "annotations": annotations}, on_bad)


@pytest.mark.parametrize("on_bad", ["stop", "skip"])
def test_two_categories_of_one_id_are_refused_in_any_case(on_bad: str) -> None:
    with pytest.raises(
        DatasetError, match=r"category 1: another category has the same id; correct"
    ):
        categories({"id": 1, "name": "a"}, {"id": 1, "name": "b"}, on_bad=on_bad)


def test_an_image_is_kept_by_its_id_as_text(reader: ImageReader) -> None:
    reader.add(record(7, provenance=ORIGIN))
    image = reader.images["7"]
    assert (image.image_id, image.size, image.num_bytes) == ("7", (10, 20), 3)
    assert image.provenance == Provenance(5, "g", "c", "s", "r")


def test_fields_of_our_names_are_passed_over_in_files_of_others(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(b"123")
    reader = ImageReader(tmp_path, max_pixels=200)
    reader.add(record(7, scene_id="kitchen", provenance="camera 3"))
    reader.add(record(8, scene_id="kitchen"))
    assert [image.image_id for image in reader.images.values()] == ["7", "8"]
    assert reader.images["7"].provenance is None


@pytest.mark.parametrize("on_bad", ["stop", "skip"])
def test_images_of_one_id_and_other_files_are_refused_in_any_case(
    tmp_path: Path, on_bad: str
) -> None:
    (tmp_path / "a.png").write_bytes(b"")
    (tmp_path / "b.png").write_bytes(b"")
    document = {"images": [record(), record(file_name="b.png")]}
    with pytest.raises(DatasetError, match=r"image 1 \('b.png'\): another image has the same id"):
        read_images(document, Config("c.json"), tmp_path, Checker(tmp_path / "c.json", on_bad))


def test_where_no_image_is_there_the_places_are_named_and_no_useless_advice(tmp_path: Path) -> None:
    document = {"images": [record(), record(2, file_name="b.png")]}
    (tmp_path / "annotations").mkdir()
    for on_bad in ("stop", "skip"):
        check = Checker(tmp_path / "annotations" / "c.json", on_bad)
        with pytest.raises(DatasetError) as caught:
            read_images(document, Config("annotations/c.json"), tmp_path, check)
        text = str(caught.value)
        for place in ("annotations", "annotations/images", "images"):
            assert str(tmp_path / place) in text
        assert "name the folder with images=FOLDER" in text
        assert "on_bad" not in text


def test_an_id_of_our_own_goes_before_the_files(reader: ImageReader) -> None:
    reader.add(record(7, scene_id="job-1"))
    assert reader.images["7"].image_id == "job-1"
    assert refusal(reader, record(8, scene_id="job-1")) == (
        "duplicate image id",
        "its scene_id 'job-1' is no text or not unique",
    )


@pytest.mark.parametrize(
    ("change", "reason", "detail"),
    [
        ({"height": 0}, "bad image size", "width 20 and height 0 must be whole numbers above 0"),
        ({"width": 2.0}, "bad image size", "width 2.0 and height 10 must be whole numbers above 0"),
        ({"width": 21}, "image too large", "21x10 is over max_pixels=200"),
        ({"file_name": 5}, "missing image file", "its file_name 5 is no text"),
        ({"id": "\ud800"}, "bad value", "its id '\\ud800' is not Unicode text"),
    ],
)
def test_a_bad_image_is_refused(
    reader: ImageReader, change: dict[str, Any], reason: str, detail: str
) -> None:
    assert refusal(reader, record(**change)) == (reason, detail)
    assert not reader.images


def test_annotations_of_refused_images_are_counted_and_of_others_refused(
    reader: ImageReader,
) -> None:
    reader.add(record(1))
    refusal(reader, record(2, file_name="gone.png"))
    skipped = Skipped()
    assert reader.key_of_image({"image_id": 1}, skipped) == "1"
    assert reader.key_of_image({"image_id": 2}, skipped) is None
    assert skipped == {"annotation of a skipped image": 1}
    with pytest.raises(RecordError, match="image_id 3 is not among the images"):
        reader.key_of_image({"image_id": 3}, skipped)


def test_a_second_image_of_an_id_does_not_replace_the_first(reader: ImageReader) -> None:
    reader.add(record(1))
    assert refusal(reader, record(1, file_name="gone.png"))[0] == "duplicate image id"
    assert reader.key_of_image({"image_id": 1}, Skipped()) == "1"


@pytest.mark.parametrize(
    "value",
    [[], {"seed": 1.5}, {"seed": 1 << 63}, {**ORIGIN, "seed": True}, {**ORIGIN, "reason": 1}],
)
def test_a_provenance_that_is_none_is_refused(value: Any) -> None:
    with pytest.raises(RecordError, match="provenance"):
        read_provenance({"provenance": value})


@pytest.mark.parametrize("place", ["annotations", "annotations/images", "images"])
def test_images_are_looked_for_in_three_places(tmp_path: Path, place: str) -> None:
    for folder in ("annotations/images", "images"):
        (tmp_path / folder).mkdir(parents=True)
    (tmp_path / place / "a.png").write_bytes(b"")
    check = Checker(tmp_path / "annotations" / "c.json", "stop")
    document = {"images": [record()]}
    images = read_images(document, Config("annotations/c.json"), tmp_path, check).images
    assert images["1"].path == tmp_path / place / "a.png"


@pytest.mark.parametrize("place", ["images/train", "train", "annotations/data"])
def test_images_may_lie_in_a_folder_called_like_the_split(tmp_path: Path, place: str) -> None:
    (tmp_path / "annotations").mkdir()
    (tmp_path / place).mkdir(parents=True)
    (tmp_path / place / "a.png").write_bytes(b"")
    check = Checker(tmp_path / "annotations" / "instances_train.json", "stop")
    config = Config("annotations/instances_train.json")
    images = read_images({"images": [record()]}, config, tmp_path, check).images
    assert images["1"].path == tmp_path / place / "a.png"


def test_the_option_names_the_folder_alone(tmp_path: Path) -> None:
    (tmp_path / "photos").mkdir()
    (tmp_path / "a.png").write_bytes(b"")  # beside the file, where it is not to be looked for
    (tmp_path / "photos" / "b.png").write_bytes(b"")
    check = Checker(tmp_path / "c.json", "skip")
    document = {"images": [record(), record(2, file_name="b.png")]}
    images = read_images(document, Config("c.json", "photos"), tmp_path, check).images
    assert list(images) == ["2"]
    assert check.skipped == {"missing image file": 1}
    with pytest.raises(DatasetError) as caught:
        read_images(document, Config("c.json", "gone"), tmp_path, check)
    assert str(caught.value) == f"{tmp_path}/gone: no such folder; correct the option images="
