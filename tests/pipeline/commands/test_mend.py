"""What mending changes in scenes of any format, and what it leaves alone."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from synthaug.pipeline.commands.mend import CHANGES, FILE, MAP, mend
from synthaug.pipeline.core import masks
from synthaug.pipeline.core.errors import DatasetError, JobError
from synthaug.pipeline.core.scene import Category, ImageRef, Objects, Scene, SceneList
from synthaug.pipeline.formats.source_files import is_ours
from synthaug.pipeline.formats.validation import CUT
from synthaug.pipeline.survey.tally import Tally, tally

SIZE = (24, 32)
CATEGORIES = (Category(4, "cat"), Category(9, "dog"))


def picture(seed: int, kind: str = "PNG") -> bytes:
    noise = np.random.default_rng(seed).integers(0, 256, (*SIZE, 3), np.uint8)
    out = io.BytesIO()
    Image.fromarray(noise).save(out, kind)
    return out.getvalue()


def scene(name: str, seed: int, objects: Objects, path: str | None = None, **more: Any) -> Scene:
    data = picture(seed, "JPEG" if path and path.lower().endswith(".jpg") else "PNG")
    return Scene(name, *SIZE, ImageRef(data, path), objects, **more)


def one(*box: float) -> Objects:
    return Objects.build([0], [box or (2, 2, 20, 20)])


def surveyed(*scenes: Scene) -> Tally:
    return tally("toy:x", SceneList(CATEGORIES, list(scenes)), 1, lambda *_: None)


def mended(folder: Path, *scenes: Scene) -> tuple[dict[str, Any], list[str], str]:
    """Return the written JSON, the changes and what was said."""
    said = "\n".join(mend(surveyed(*scenes), folder / "out", lambda *_: None))
    document = json.loads((folder / "out" / FILE).read_text())
    return document, (folder / "out" / CHANGES).read_text().splitlines(), said


def test_ids_of_images_stay_as_they_were(tmp_path: Path) -> None:
    names = ["17", "017", "cam/3", "-2", "１"]
    document, changes, said = mended(
        tmp_path, *(scene(name, k, one()) for k, name in enumerate(names))
    )
    assert [17, "017", "cam/3", "-2", "１"] == [image["id"] for image in document["images"]]
    assert [] == changes
    assert "nothing had to be changed" in said
    assert is_ours(tmp_path / "out")
    assert [4, 9] == [category["id"] for category in document["categories"]]


def test_files_whose_names_differ_in_capitals_only_stay_apart(tmp_path: Path) -> None:
    paths = ["a/x.jpg", "b/X.jpg", "c/x.JPG"]
    document, _, _ = mended(
        tmp_path, *(scene(str(k), k, one(), path=path) for k, path in enumerate(paths))
    )
    names = [Path(image["file_name"]).name for image in document["images"]]
    assert ["x.jpg", "2_X.jpg", "3_x.JPG"] == names
    assert 3 == len(list((tmp_path / "out" / "images").iterdir()))


def test_objects_of_one_place_stay_where_class_or_mask_differ(tmp_path: Path) -> None:
    box = (2.0, 2.0, 20.0, 20.0)
    half = np.zeros((1, *SIZE), bool)
    half[0, 2:10, 2:20] = True
    (counts,) = masks.encode(half)
    objects = Objects.build([0, 1, 0, 0], [box] * 4, rle=[None, None, counts, None])
    document, changes, _ = mended(tmp_path, scene("a", 0, objects))
    assert [4, 9, 4] == [row["category_id"] for row in document["annotations"]]
    (line,) = changes
    assert "object 4 of a" in line


def test_crowds_are_never_needless(tmp_path: Path) -> None:
    box = (2.0, 2.0, 20.0, 20.0)
    crowds = Objects.build([0, 0, 0], [box, box, (5, 5, 5.5, 9)], iscrowd=[True] * 3)
    document, changes, _ = mended(tmp_path, scene("a", 0, crowds))
    assert (3, []) == (len(document["annotations"]), changes)


def test_an_object_of_a_pixel_stays_and_one_under_it_goes(tmp_path: Path) -> None:
    objects = Objects.build([0, 0], [(2, 2, 3, 20), (5, 2, 5.9, 20)])
    document, changes, _ = mended(tmp_path, scene("a", 0, objects))
    assert [[2, 2, 1, 18]] == [row["bbox"] for row in document["annotations"]]
    assert "side under a pixel" in changes[0]


def test_a_map_is_left_out_and_counted(tmp_path: Path) -> None:
    mapped = scene("a", 0, one(), panoptic=ImageRef(picture(1)))
    _, _, said = mended(tmp_path, mapped)
    assert f"1  {MAP}" in said


def test_what_is_not_kept_stands_among_the_changes(tmp_path: Path) -> None:
    counted = surveyed(scene("a", 0, one()))
    counted.skipped.unread["'license' of images"] = 3
    list(mend(counted, tmp_path / "out", lambda *_: None))
    changes = (tmp_path / "out" / CHANGES).read_text()
    assert "not kept: 3 times 'license' of images\n" == changes


def test_equal_pictures_with_other_labels_both_stay(tmp_path: Path) -> None:
    document, changes, _ = mended(
        tmp_path, scene("a", 0, one()), scene("b", 0, one(3, 3, 9, 9)), scene("c", 1, one())
    )
    assert ["a", "b", "c"] == [image["id"] for image in document["images"]]
    assert [] == changes


@pytest.mark.parametrize(
    ("cut", "objects", "stops"), [(4, 8, False), (5, 50, False), (5, 49, True)]
)
def test_a_whole_set_of_boxes_that_reach_out_is_not_cut(
    tmp_path: Path, cut: int, objects: int, stops: bool
) -> None:
    """Five or more, and over a tenth of all: that is no mistake of single ones."""
    own = surveyed(scene("a", 0, one()))
    own.skipped[CUT] = cut
    own.objects[0] = objects
    if not stops:
        list(mend(own, tmp_path / "out", lambda *_: None))
        return
    with pytest.raises(DatasetError, match=f"toy:x: {cut} of {objects} boxes reach out"):
        list(mend(own, tmp_path / "out", lambda *_: None))
    assert [] == list(tmp_path.iterdir())


def test_a_folder_that_cannot_be_made_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(JobError, match=r"^--fix: cannot write .*; name another folder$"):
        list(mend(surveyed(scene("a", 0, one())), tmp_path / "file" / "out", lambda *_: None))


def test_progress_counts_every_image_once(tmp_path: Path) -> None:
    seen: list[tuple[int, int, str]] = []
    own = surveyed(scene("a", 0, one()), scene("b", 0, one()))
    list(mend(own, tmp_path / "out", lambda *told: seen.append(told)))
    assert [(1, 2, "images written"), (2, 2, "images written")] == seen
