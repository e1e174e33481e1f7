"""A folder of pictures is a set of unlabelled images, every one of them and upright."""

from __future__ import annotations

import pickle
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from synthaug.pipeline.core import images
from synthaug.pipeline.core.errors import DatasetError
from synthaug.pipeline.formats.merge import with_classes
from synthaug.pipeline.formats.reference import open_dataset
from synthaug.pipeline.formats.toy.dataset import CATEGORIES

PIXELS = np.random.default_rng(3).integers(0, 255, (6, 9, 3), np.uint8)


def save(file: Path, orientation: int = 1) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    tags = Image.Exif()
    tags[0x0112] = orientation
    Image.fromarray(PIXELS).save(file, exif=tags)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name in ("b.png", "cam1/frame.PNG", "cam2/frame.png", "a.png", "a.tif"):
        save(tmp_path / name)
    save(tmp_path / "turned.png", 6)
    (tmp_path / "._a.png").write_bytes(b"of another system")
    (tmp_path / "notes.txt").write_text("no picture")
    (tmp_path / "phone.heic").write_bytes(b"a kind that is not read")
    return tmp_path


def test_every_picture_is_a_scene_without_labels(folder: Path) -> None:
    table = open_dataset("images:.", folder)
    ids = ["a.png", "a.tif", "b", "cam1/frame", "cam2/frame", "turned"]
    assert [scene.image_id for scene in table] == ids
    assert not table.has_labels
    assert table.categories == ()
    for scene in table:
        assert len(scene.objects) == 0
    assert np.array_equal(images.decode(table[0]), PIXELS)
    assert table[5].size == (9, 6)
    assert np.array_equal(images.decode(table[5]), np.rot90(PIXELS, -1))
    assert table.skipped == {"image file of a kind that is not read": 1}
    assert table.skipped.names["image file of a kind that is not read"][0].endswith("phone.heic")
    assert pickle.loads(pickle.dumps(table)).fingerprint() == table.fingerprint()


def test_it_takes_the_classes_of_the_labelled_images(folder: Path) -> None:
    table = with_classes(open_dataset("images:.", folder), CATEGORIES, "data.unlabelled")
    assert table.categories == CATEGORIES
    assert len(table[3].objects) == 0


def test_a_broken_picture_is_named_or_left_out(folder: Path) -> None:
    (folder / "b.png").write_bytes(b"<html>")
    with pytest.raises(
        DatasetError, match=r"image 'b\.png': the image cannot be decoded \(it is a"
    ):
        open_dataset("images:.", folder)
    table = open_dataset("images:.?on_bad=skip", folder)
    assert len(table) == 5
    assert table.skipped["bad image"] == 1


def test_a_folder_of_a_linked_disk_is_passed_by_or_followed(folder: Path) -> None:
    inner = folder / "inner"
    save(inner / "x.png")
    save(folder / "elsewhere" / "y.png")
    (inner / "link").symlink_to(folder / "elsewhere")
    (inner / "loop").symlink_to(inner)
    table = open_dataset("images:inner", folder)
    assert [scene.image_id for scene in table] == ["x"]
    assert table.skipped.total() == 1
    followed = open_dataset("images:inner?links=follow", folder)
    assert [scene.image_id for scene in followed] == ["link/y", "x"]


def test_no_folder_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match="none: no such folder; name one that holds pictures"):
        open_dataset("images:none", tmp_path)
