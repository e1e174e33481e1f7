"""CVAT for images: each kind of shape by plain arithmetic, groups, subsets, what is counted."""

from __future__ import annotations

import io
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from synthaug.pipeline.core import masks
from synthaug.pipeline.core.errors import DatasetError
from synthaug.pipeline.core.skipped import Skipped
from synthaug.pipeline.formats.reference import open_dataset
from synthaug.pipeline.formats.shape_reader import UNLISTED

H, W = 30, 40
META = (
    "<version>1.1</version><meta><task><labels><label><name>cat</name></label>"
    "<label><name>dog</name></label><label><name>paw</name><parent>cat</parent></label>"
    "</labels></task></meta>"
)


def picture(orientation: int = 1) -> bytes:
    out = io.BytesIO()
    exif = Image.Exif()
    exif[0x0112] = orientation
    Image.new("RGB", (W, H)).save(out, "PNG", exif=exif)
    return out.getvalue()


def image(*shapes: str, name: str = "a.png", more: str = f'width="{W}" height="{H}"') -> str:
    return f'<image id="0" name="{name}" {more}>{"".join(shapes)}</image>'


def shape(kind: str, where: str, inner: str = "", label: str = "cat") -> str:
    return f'<{kind} label="{label}" source="manual" {where}>{inner}</{kind}>'


BOX = 'xtl="2" ytl="3" xbr="12.5" ybr="9" occluded="0"'


def opened(folder: Path, *children: str, option: str = "", meta: str = META) -> Any:
    folder.mkdir(exist_ok=True)
    with zipfile.ZipFile(folder / "task.zip", "w") as out:
        out.writestr("images/a.png", picture())
        out.writestr("annotations.xml", f"<annotations>{meta}{''.join(children)}</annotations>")
    return open_dataset(f"cvat:task.zip{option}", folder)


def test_each_kind_of_shape_covers_what_it_says(tmp_path: Path) -> None:
    table = opened(
        tmp_path,
        image(
            shape("box", BOX),
            shape("polygon", 'points="2.0,2.0;12.0,2.0;12.0,8.0;2.0,8.0"', label="dog"),
            shape("ellipse", 'cx="20" cy="15" rx="10" ry="5"'),
            shape("mask", 'rle="1, 2, 3" left="5" top="6" width="3" height="2"'),
        ),
    )
    found = table[0].objects
    assert found.boxes[[0, 1, 3]].tolist() == [[2, 3, 12.5, 9], [2, 2, 12, 8], [6, 6, 8, 7]]
    np.testing.assert_allclose(found.boxes[2], [10, 10, 30, 20], atol=1e-4)
    assert found.area.tolist()[:2] == [63, 60]
    assert abs(found.area[2] - np.pi * 50) < 5
    assert found.rle[3] is not None
    assert np.argwhere(masks.decode(found.rle[3], (H, W))).tolist() == [[6, 6], [6, 7]]
    assert [category.name for category in table.categories] == ["cat", "dog"]
    assert not table.skipped


def test_a_turned_box_turns_around_its_center(tmp_path: Path) -> None:
    where = 'xtl="10" ytl="10" xbr="30" ybr="16" rotation="90"'
    table = opened(tmp_path, image(shape("box", where)))
    np.testing.assert_allclose(table[0].objects.boxes[0], [17, 3, 23, 23], atol=1e-4)
    assert table.skipped == {"box drawn at an angle, taken as the upright box around it": 1}


def test_groups_flags_and_what_has_no_place(tmp_path: Path) -> None:
    def square(x: int, group: int) -> str:
        points = f"{x},0;{x + 4},0;{x + 4},4;{x},4"
        return shape("polygon", f'points="{points}" group_id="{group}"')

    crowd = '<attribute name="is_crowd">true</attribute>'
    color = '<attribute name="color">red</attribute><attribute name="parked">false</attribute>'
    table = opened(
        tmp_path,
        image(
            square(0, 1),
            square(10, 1),
            square(20, 0),
            square(30, 0),
            shape("box", BOX.replace('occluded="0"', 'occluded="1"'), crowd),
            shape("box", BOX, color),
            shape("polyline", 'points="1,1;2,2"'),
            '<tag label="cat"></tag>',
        ),
    )
    found = table[0].objects
    assert sorted(zip(found.boxes.tolist(), found.area.tolist(), strict=True)) == [
        ([0, 0, 14, 4], 32),
        ([2, 3, 12.5, 9], 63),
        ([2, 3, 12.5, 9], 63),
        ([20, 0, 24, 4], 16),
        ([30, 0, 34, 4], 16),
    ]
    assert found.iscrowd.sum() == 1
    assert isinstance(table.skipped, Skipped)
    assert table.skipped == {"shapes of one group and class, taken as one object": 1}
    assert table.skipped.unread == {
        "'occluded' of objects": 1,
        "'color' of objects": 1,
        "shapes of the kind 'polyline'": 1,
        "shapes of the kind 'tag'": 1,
    }


def test_a_group_with_an_ignored_part_is_ignored(tmp_path: Path) -> None:
    crowd = '<attribute name="is_crowd">true</attribute>'
    parts = []
    for x, inner in ((0, ""), (10, crowd)):
        points = f"{x},0;{x + 4},0;{x + 4},4;{x},4"
        parts.append(shape("polygon", f'points="{points}" group_id="1"', inner))
    table = opened(tmp_path, image(*parts))
    assert table[0].objects.iscrowd.tolist() == [True]
    assert table[0].objects.area.tolist() == [32]


def test_a_project_has_folders_by_subset(tmp_path: Path) -> None:
    for subset in ("train", "val"):
        (tmp_path / "images" / subset).mkdir(parents=True)
        (tmp_path / "images" / subset / "a.png").write_bytes(picture())
    (tmp_path / "images" / "b.png").write_bytes(picture())
    rows = [image(shape("box", BOX), name="b.png")]  # of no subset
    for subset in ("train", "val"):
        rows.append(image(shape("box", BOX), more=f'subset="{subset}" width="{W}" height="{H}"'))
    text = f"<annotations>{META}{''.join(rows)}</annotations>"
    (tmp_path / "annotations.xml").write_text(text)
    both = open_dataset("cvat:annotations.xml", tmp_path)
    assert [scene.image_id for scene in both] == ["b", "train/a", "val/a"]
    one = open_dataset("cvat:.?subset=val", tmp_path)
    assert [scene.image_id for scene in one] == ["val/a"]
    assert one.skipped == {"image of another subset": 2}


def test_a_turned_image_counts_as_it_is_seen(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(picture(3))
    text = f"<annotations>{META}{image(shape('box', BOX))}</annotations>"
    (tmp_path / "annotations.xml").write_text(text)
    assert open_dataset("cvat:annotations.xml", tmp_path)[0].image.turned == "as_shown"
    stored = open_dataset("cvat:annotations.xml?turned=as_stored", tmp_path)
    assert stored[0].image.turned == "as_stored"


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (shape("box", 'xtl="2" ytl="3" xbr="2" ybr="9"'), "its box has no extent"),
        (shape("box", 'xtl="2" ytl="3" xbr="70" ybr="9"'), "bbox lies 30 pixels outside"),
        (shape("box", 'xtl="2" ytl="3" xbr="9"'), "a box has no ybr"),
        (shape("box", BOX.replace("12.5", "nan")), "xbr is 'nan', not a number"),
        (shape("box", BOX, label="cow"), "its label 'cow' is not among the labels"),
        (shape("polygon", 'points="1,1;2"'), "its points are '2', not x,y;x,y"),
        (shape("polygon", 'points="1,1;2,2"'), "three points or more"),
        (
            shape("mask", 'rle="1,2" left="5" top="6" width="3" height="2"'),
            "its rle does not fill 3x2",
        ),
        (
            shape("mask", 'rle="6" left="39" top="6" width="3" height="2"'),
            "3x2 at 39 6 lies outside",
        ),
        (
            shape("mask", 'rle="6" left="5" top="6" width="3" height="2"'),
            "its mask covers no pixel",
        ),
    ],
)
def test_a_wrong_shape_is_named_or_left_out_alone(wrong: str, message: str, tmp_path: Path) -> None:
    rows = image(shape("box", BOX), wrong)
    with pytest.raises(DatasetError, match=f"image 'a.png': .* at position 2: .*{message}"):
        opened(tmp_path, rows)
    table = opened(tmp_path, rows, option="?on_bad=skip")
    assert len(table[0].objects) == 1
    assert table.skipped.total() == 1


@pytest.mark.parametrize(
    ("children", "message"),
    [
        (['<track id="0" label="cat"></track>'], "tracks of a video; export it as"),
        (["<image"], "not well-formed XML"),
        ([image(more='width="0" height="3"')], "height|width is '0', no whole number from 1 on"),
        ([image(more='width="41" height="30"')], "annotation says 41x30"),
        ([image(name="../a.png")], "leaves"),
        ([image(name="gone.png")], "its image file 'gone.png' is not in"),
        ([image(), image()], "another image has the same name"),
    ],
)
def test_a_wrong_file_is_one_line(children: list[str], message: str, tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match=message) as caught:
        opened(tmp_path, *children)
    assert "\n" not in str(caught.value)


def test_a_document_type_is_refused_and_a_missing_file_named(tmp_path: Path) -> None:
    (tmp_path / "annotations.xml").write_text('<!DOCTYPE a [<!ENTITY b "c">]><annotations/>')
    with pytest.raises(DatasetError, match="declares a document type"):
        open_dataset("cvat:annotations.xml", tmp_path)
    with pytest.raises(DatasetError, match=r"none.xml: cannot be read \(No such file"):
        open_dataset("cvat:none.xml", tmp_path)


def test_labels_may_be_missing_and_two_of_one_name_are_refused(tmp_path: Path) -> None:
    table = opened(tmp_path, image(shape("box", BOX, label="zebra")), meta="")
    assert [category.name for category in table.categories] == ["zebra"]
    twice = META.replace("dog", "cat")
    with pytest.raises(DatasetError, match="two of its labels have one name"):
        opened(tmp_path, meta=twice)


def test_a_label_that_only_an_earlier_meta_knows_is_refused(tmp_path: Path) -> None:
    later = META.replace("dog", "cow")
    with pytest.raises(DatasetError, match="label 'dog' is not in its last 'meta'"):
        opened(tmp_path, image(shape("box", BOX, label="dog")), later)


def test_images_that_the_xml_does_not_list_are_named(tmp_path: Path) -> None:
    for name in ("a.png", "in/b.png", "more/c.png", "left.png", "other set/d.png"):
        file = tmp_path / "images" / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(picture())
    listed = [
        image(shape("box", BOX)),
        image(name="in\\b.png"),
        image(name="c.png", more=f'subset="more" width="{W}" height="{H}"'),
    ]
    text = f"<annotations>{META}{''.join(listed)}</annotations>"
    (tmp_path / "annotations.xml").write_text(text)
    for option, count in (("", 3), ("?subset=more", 1)):
        table = open_dataset(f"cvat:annotations.xml{option}", tmp_path)
        assert count == len(table)
        assert ["left.png"] == table.skipped.names[UNLISTED]


@pytest.mark.parametrize("option", ["", "?outside=clip"])
def test_a_mask_that_reaches_out_is_refused_or_cut(tmp_path: Path, option: str) -> None:
    reaching = shape("mask", f'rle="0, 24" left="{W - 4}" top="{H - 2}" width="6" height="4"')
    if not option:
        with pytest.raises(DatasetError, match="its mask of 6x4 at 36 28 lies outside the image"):
            opened(tmp_path, image(reaching))
        return
    found = opened(tmp_path, image(reaching), option=option)[0].objects
    assert [[W - 4, H - 2, W, H]] == found.boxes.tolist()
    assert [8] == found.area.tolist()


def test_names_may_count_from_above_the_folder_of_images(tmp_path: Path) -> None:
    table = opened(tmp_path, image(shape("box", BOX), name="images/a.png"))
    assert ["a"] == [scene.image_id for scene in table]
    assert not table.skipped
