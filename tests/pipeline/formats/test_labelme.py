"""labelme: each kind of shape by plain arithmetic, images inside the JSON, stale names."""

from __future__ import annotations

import base64
import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from synthaug.pipeline.core import images, masks
from synthaug.pipeline.core.errors import DatasetError
from synthaug.pipeline.core.skipped import Skipped
from synthaug.pipeline.formats.reference import open_dataset

H, W = 30, 40


def picture(value: int = 0, orientation: int = 1) -> bytes:
    out = io.BytesIO()
    exif = Image.Exif()
    exif[0x0112] = orientation
    Image.new("RGB", (W, H), (value, 0, 0)).save(out, "PNG", exif=exif)
    return out.getvalue()


def text(data: bytes) -> str:
    return base64.b64encode(data).decode()


def shape(kind: str, points: list[list[float]], label: str = "cat", **more: Any) -> dict[str, Any]:
    return {"label": label, "shape_type": kind, "points": points, "flags": {}} | more


def put(folder: Path, *shapes: dict[str, Any], name: str = "a", **more: Any) -> None:
    folder.mkdir(exist_ok=True, parents=True)
    document = {
        "shapes": list(shapes),
        "imagePath": f"{name}.png",
        "imageData": None,
        "imageHeight": H,
        "imageWidth": W,
    }
    (folder / f"{name}.json").write_text(json.dumps(document | more))


def opened(folder: Path, *shapes: dict[str, Any], option: str = "", **more: Any) -> Any:
    put(folder, *shapes, **more)
    (folder / "a.png").write_bytes(picture())
    return open_dataset(f"labelme:{folder}{option}", folder)


def test_each_kind_of_shape_covers_what_it_says(tmp_path: Path) -> None:
    patch = np.zeros((4, 6), np.uint8)
    patch[1:3, 2:5] = 255
    png = io.BytesIO()
    Image.fromarray(patch).save(png, "PNG")
    table = opened(
        tmp_path,
        shape("rectangle", [[30, 20], [10.5, 4]]),
        shape("polygon", [[2, 2], [12, 2], [12, 8], [2, 8]]),
        shape("circle", [[20, 15], [23, 19]]),
        shape("mask", [[8, 10], [13, 13]], mask=text(png.getvalue())),
        shape("rotation", [[20, 10], [30, 15], [25, 25], [15, 20]]),
    )
    found = table[0].objects
    assert found.boxes[[0, 1, 3, 4]].tolist() == [
        [10.5, 4, 30, 20],
        [2, 2, 12, 8],
        [10, 11, 13, 13],
        [15, 10, 30, 25],
    ]
    np.testing.assert_allclose(found.boxes[2], [15, 10, 25, 20], atol=1e-4)
    assert found.rle[0] is None
    assert found.area[1] == 60
    assert found.area[3] == 6
    assert abs(found.area[2] - np.pi * 25) < 4
    assert abs(found.area[4] - 125) < 8
    assert found.rle[3] is not None
    assert masks.decode(found.rle[3], (H, W))[11:13, 10:13].all()


def test_shapes_of_one_class_and_group_are_one_object(tmp_path: Path) -> None:
    left, right = [[0, 0], [4, 0], [4, 4], [0, 4]], [[10, 0], [14, 0], [14, 4], [10, 4]]
    table = opened(
        tmp_path,
        shape("polygon", left, group_id=1),
        shape("polygon", right, group_id=1),
        shape("polygon", right, "dog", group_id=1),
        shape("rectangle", [[0, 0], [9, 9]], group_id=1),
    )
    found = table[0].objects
    names = [table.categories[k].name for k in found.category]
    rows = sorted(zip(names, found.boxes.tolist(), found.area.tolist(), strict=True))
    assert rows == [
        ("cat", [0, 0, 9, 9], 81),
        ("cat", [0, 0, 14, 4], 32),
        ("dog", [10, 0, 14, 4], 16),
    ]
    assert table.skipped["shapes of one group and class, taken as one object"] == 1


def test_what_has_no_place_is_counted_by_name(tmp_path: Path) -> None:
    box = [[1, 1], [9, 9]]
    table = opened(
        tmp_path,
        shape("rectangle", box, flags={"occluded": True, "blurred": False}, description="by me"),
        shape("rectangle", box, flags={"iscrowd": True}),
        shape("rectangle", box, difficult=True, attributes={"color": "red"}),
        shape("point", [[3, 3]]),
        shape("linestrip", [[3, 3], [4, 4]]),
        flags={"night": True},
    )
    assert table[0].objects.iscrowd.tolist() == [False, True, True]
    assert isinstance(table.skipped, Skipped)
    assert table.skipped.unread == {
        "'occluded' of objects": 1,
        "'description' of objects": 1,
        "'color' of objects": 1,
        "'night' of objects": 1,
        "shapes of the kind 'point'": 1,
        "shapes of the kind 'linestrip'": 1,
    }


def test_images_come_by_their_names_whatever_the_order_on_the_disk(tmp_path: Path) -> None:
    names = [f"{number * 7 % 31:02}" for number in range(31)]
    for name in names:
        put(tmp_path, shape("rectangle", [[1, 1], [9, 9]]), name=name)
        (tmp_path / f"{name}.png").write_bytes(picture())
    table = open_dataset(f"labelme:{tmp_path}", tmp_path)
    assert [scene.image_id for scene in table] == sorted(names)


def test_another_mask_in_the_same_box_is_another_data_set(tmp_path: Path) -> None:
    digests = set()
    for corner in (0, 255):
        patch = np.full((4, 6), 255, np.uint8)
        patch[1, 1] = corner
        png = io.BytesIO()
        Image.fromarray(patch).save(png, "PNG")
        one = shape("mask", [[8, 10], [13, 13]], mask=text(png.getvalue()))
        digests.add(opened(tmp_path, one).fingerprint())
    assert len(digests) == 2


def test_an_image_inside_the_json_is_read(tmp_path: Path) -> None:
    box = shape("rectangle", [[1, 1], [9, 9]])
    put(tmp_path, box, imageData=text(picture(77)), imagePath="..\\elsewhere\\gone.png")
    table = open_dataset(f"labelme:{tmp_path}", tmp_path)
    assert images.decode(table[0])[0, 0].tolist() == [77, 0, 0]
    put(tmp_path, box, imageData=text(b"no picture"))
    with pytest.raises(DatasetError, match="image 'a': the image cannot be decoded"):
        open_dataset(f"labelme:{tmp_path}", tmp_path)
    put(tmp_path, box, imageData="%%%")
    with pytest.raises(DatasetError, match="its imageData is no base64"):
        open_dataset(f"labelme:{tmp_path}", tmp_path)


def test_the_json_of_its_own_name_decides_over_a_stale_image_path(tmp_path: Path) -> None:
    put(tmp_path, shape("rectangle", [[1, 1], [9, 9]]), imagePath="b.png")
    (tmp_path / "a.png").write_bytes(picture(1))
    (tmp_path / "b.png").write_bytes(picture(2))
    table = open_dataset(f"labelme:{tmp_path}", tmp_path)
    assert images.decode(table[0])[0, 0, 0] == 1
    assert table.skipped == {
        "imagePath of another image, passed over for the JSON file's own name": 1,
        "image without a JSON file, left out": 1,
    }


def test_annotations_in_a_folder_of_their_own_find_their_images(tmp_path: Path) -> None:
    put(tmp_path / "ann", shape("rectangle", [[1, 1], [9, 9]]), imagePath="../img/x.png")
    (tmp_path / "img").mkdir()
    (tmp_path / "img" / "x.png").write_bytes(picture())
    assert [scene.image_id for scene in open_dataset(f"labelme:{tmp_path}", tmp_path)] == ["ann/a"]
    (tmp_path / "img" / "x.png").rename(tmp_path / "img" / "a.png")
    named = f"labelme:{tmp_path}/ann?images=img"
    assert len(open_dataset(named, tmp_path)) == 1
    with pytest.raises(DatasetError, match=r"imagePath '../img/x.png'\) is not in .*images=FOLDER"):
        open_dataset(f"labelme:{tmp_path}/ann", tmp_path)


def test_a_turned_image_counts_as_it_is_seen(tmp_path: Path) -> None:
    """labelme turns an image by its tag before anything is drawn."""
    put(tmp_path, shape("rectangle", [[0, 0], [9, 9]]), imageHeight=W, imageWidth=H)
    (tmp_path / "a.png").write_bytes(picture(0, 6))
    assert images.decode(open_dataset(f"labelme:{tmp_path}", tmp_path)[0]).shape == (W, H, 3)
    put(tmp_path, shape("rectangle", [[0, 0], [9, 9]]))
    (tmp_path / "a.png").write_bytes(picture(0, 3))
    assert open_dataset(f"labelme:{tmp_path}", tmp_path)[0].image.turned == "as_shown"


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (shape("rectangle", [[1, 1], [1, 9]]), "shape 2: its box has no extent"),
        (shape("rectangle", [[1, 1], [90, 9]]), "shape 2: bbox lies 50 pixels outside"),
        (shape("polygon", [[1, 1], [2, 2]]), "a polygon needs three points or more"),
        (shape("polygon", [[1, 1], [1, 1], [1, 1]]), "its polygon covers no pixel"),
        (shape("star", [[1, 1], [2, 2]]), "a 'star' of 2 points is not known"),
        (shape("polygon", [[1, "x"]]), "a point is 'x', not a finite number"),
        (shape("mask", [[1, 1], [9, 9]], mask="no"), "its mask is no PNG in base64"),
        ({"points": [[1, 1]]}, "key 'label' is missing"),
        (7, "is no JSON object"),
    ],
)
def test_a_wrong_shape_is_named_or_left_out_alone(wrong: Any, message: str, tmp_path: Path) -> None:
    good = shape("rectangle", [[1, 1], [9, 9]])
    put(tmp_path, good, name="b")
    (tmp_path / "b.png").write_bytes(picture())
    with pytest.raises(DatasetError, match=message) as caught:
        opened(tmp_path, good, wrong)
    assert "image 'a'" in str(caught.value)
    table = opened(tmp_path, good, wrong, option="?on_bad=skip")
    assert [len(scene.objects) for scene in table] == [1, 1]
    assert table.skipped.total() == 1


def test_other_json_and_unlisted_classes_are_named(tmp_path: Path) -> None:
    (tmp_path / "classes.txt").write_text("__ignore__\n_background_\ndog\n")
    with pytest.raises(DatasetError, match="image 'a' shows 'cat', which is not among the classes"):
        opened(tmp_path, shape("polygon", [[1, 1], [9, 1], [9, 9]]), option="?classes=classes.txt")
    (tmp_path / "b.json").write_text('{"images": []}')
    with pytest.raises(DatasetError, match="image 'b': key 'shapes' is missing"):
        open_dataset(f"labelme:{tmp_path}", tmp_path)
    (tmp_path / "b.json").write_text("{")
    with pytest.raises(DatasetError, match="image 'b': not valid JSON"):
        open_dataset(f"labelme:{tmp_path}", tmp_path)


def test_boxes_that_are_parts_of_the_image_are_told(tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match="1 of 1 bboxes lie within the first pixel"):
        opened(tmp_path, shape("rectangle", [[0.1, 0.2], [0.5, 0.75]]))


def test_a_rectangle_of_four_turned_corners_is_told(tmp_path: Path) -> None:
    corners: list[list[float]] = [[20, 2], [30, 12], [20, 22], [10, 12]]
    table = opened(tmp_path, shape("rectangle", corners))
    assert [10, 2, 30, 22] == table[0].objects.boxes[0].tolist()
    assert 1 == table.skipped["box drawn at an angle, taken as the upright box around it"]
    upright: list[list[float]] = [[10, 2], [30, 2], [30, 22], [10, 22]]
    assert not opened(tmp_path, shape("rectangle", upright)).skipped


def test_a_mended_copy_and_files_of_other_systems_are_no_part_of_the_folder(
    tmp_path: Path,
) -> None:
    (tmp_path / "fixed" / "images").mkdir(parents=True)
    for name in ("instances.json", "changes.txt", "images/a.png"):
        (tmp_path / "fixed" / name).write_text("{}")
    (tmp_path / "._a.json").write_bytes(b"\0\5\x16\7")
    (tmp_path / "._a.png").write_bytes(b"\0\5\x16\7")
    table = opened(tmp_path, shape("rectangle", [[3, 4], [9, 9]]))
    assert ["a"] == [scene.image_id for scene in table]
    assert {"folder that synthaug wrote, no part of the set": 1} == table.skipped


def test_json_of_something_else_is_told_as_such(tmp_path: Path) -> None:
    (tmp_path / "report.json").write_text("{}")
    with pytest.raises(DatasetError, match="'shapes' is missing: it is no file of labelme"):
        opened(tmp_path, shape("rectangle", [[3, 4], [9, 9]]))


@pytest.mark.parametrize("option", ["", "?outside=clip"])
def test_a_mask_that_reaches_out_is_refused_or_cut(tmp_path: Path, option: str) -> None:
    png = io.BytesIO()
    Image.new("L", (6, 4), 255).save(png, "PNG")
    reaching = shape("mask", [[W - 4, -2], [W + 1, 1]], mask=text(png.getvalue()))
    if not option:
        with pytest.raises(DatasetError, match="its mask of 6x4 at 36 -2 lies outside the image"):
            opened(tmp_path, reaching)
        return
    found = opened(tmp_path, reaching, option=option)[0].objects
    assert [[W - 4, 0, W, 2]] == found.boxes.tolist()
    assert [8] == found.area.tolist()
