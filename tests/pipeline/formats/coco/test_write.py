"""COCO files, written.

Right for the tools people use, the same bytes each time, whole or not there.
"""

from __future__ import annotations

import contextlib
import io
import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from synthaug.pipeline.core import masks
from synthaug.pipeline.core.errors import DatasetError
from synthaug.pipeline.core.scene import Category, ImageRef, Objects, Provenance, Scene, SceneList
from synthaug.pipeline.core.storage import Folder
from synthaug.pipeline.formats.coco import read as coco
from synthaug.pipeline.formats.coco.write import annotation_record, box_mask
from synthaug.pipeline.formats.json_files import short_decimal
from tests.hard_scenes import png

CATEGORIES = (
    Category(3, "<script>alert(1)</script>", "bad"),
    Category(7, "🐮", "", isthing=False),
    Category(90, 'quote " and \\ and é', "twin"),
)


def made(count: int = 6, size: tuple[int, int] = (32, 48)) -> list[Scene]:
    """Synthetic scenes with two masked objects each, two empty ones among them."""
    rng = np.random.default_rng(5)
    rows = []
    for i in range(count):
        n = 0 if i % 3 == 2 else 2
        stack = np.zeros((n, *size), bool)
        for mask in stack:
            y, x = rng.integers(0, 20, 2)
            mask[y : y + rng.integers(4, 12), x : x + rng.integers(4, 20)] = True
        objects = Objects.build(
            rng.integers(0, 3, n),
            masks.tight_boxes(stack),
            id=np.arange(n) + 2 * i + 1,
            rle=masks.encode(stack),
            area=stack.sum((1, 2)),
            source=["synthetic"] * n,
            verdict=["kept"] * n,
        )
        origin = Provenance(i, "lostgan", "abc", f"real-{i}", "natural")
        rows.append(Scene(f"job-{i:08d}", *size, ImageRef(png(size, i)), objects, None, origin))
    return rows


@pytest.fixture
def written(tmp_path):
    """A folder with a COCO file of six synthetic scenes."""
    coco.write(SceneList(CATEGORIES, made()), Folder.at(tmp_path))
    return tmp_path


def test_the_bytes_are_the_same_each_time(written, tmp_path):
    coco.write(SceneList(CATEGORIES, made()), Folder.at(tmp_path / "again"))
    assert (written / "instances.json").read_bytes() == (
        tmp_path / "again" / "instances.json"
    ).read_bytes()
    assert [f"job-{i:08d}.png" for i in range(6)] == Folder.at(
        tmp_path / "again" / "images"
    ).names()


def test_ids_run_from_one_and_numbers_stay_short(tmp_path):
    box = np.array([[473.07, 0.1, 511.72, 20.3]], np.float32)
    scenes = [
        Scene(f"s{i}", 40, 512, ImageRef(png((40, 512))), Objects.build([0], box, id=[i + 7]))
        for i in range(2)
    ]
    coco.write(SceneList(CATEGORIES, scenes), Folder.at(tmp_path))
    document = json.loads((tmp_path / "instances.json").read_text())
    assert (
        [1, 2]
        == [a["id"] for a in document["annotations"]]
        == [i["id"] for i in document["images"]]
    )
    assert document["annotations"][0]["bbox"] == [473.07, 0.1, 38.65, 20.2]
    assert document["annotations"][0]["segmentation"] == []


def test_a_synthetic_box_is_that_of_its_mask(tmp_path):
    mask = np.zeros((1, 10, 12), bool)
    mask[0, 2:5, 3:9] = True
    objects = Objects.build([0], [[0, 0, 12, 10]], rle=masks.encode(mask), source=["synthetic"])
    coco.write(
        SceneList(CATEGORIES, [Scene("a", 10, 12, ImageRef(png((10, 12))), objects)]),
        Folder.at(tmp_path),
    )
    record = json.loads((tmp_path / "instances.json").read_text())["annotations"][0]
    assert (record["bbox"], record["area"], record["layout_bbox"]) == (
        [3, 2, 6, 3],
        18,
        [0, 0, 12, 10],
    )
    assert record["segmentation"]["size"] == [10, 12]


def test_a_box_that_a_detector_found_stays_beside_its_mask():
    mask = np.zeros((1, 10, 12), bool)
    mask[0, 2:5, 3:7] = True
    objects = Objects.build(
        [0], [[1, 2, 8, 6]], rle=masks.encode(mask), area=[12], source=["pseudo"]
    )
    assert record_of(objects)["bbox"] == [1, 2, 7, 4]


def test_a_box_that_a_person_drew_stays_beside_the_mask():
    mask = np.zeros((1, 24, 40), bool)
    mask[0, 2:5, 3:9] = True
    objects = Objects.build(
        [0], [[0, 0, 12, 10]], rle=masks.encode(mask), area=[7], source=["human"]
    )
    record = record_of(objects)
    assert (record["bbox"], record["area"]) == ([0, 0, 12, 10], 7)


def test_an_exception_inside_leaves_no_json(tmp_path):
    scene = made(1)[0]
    with (
        pytest.raises(ZeroDivisionError),
        coco.CocoWriter(Folder.at(tmp_path), CATEGORIES) as writer,
    ):
        _add_and_fail(writer, scene)
    assert Folder.at(tmp_path).names() == []


def _add_and_fail(writer, scene):
    writer.add(scene, None)
    raise ZeroDivisionError


def test_leftovers_of_a_killed_writer_are_swept(tmp_path):
    (tmp_path / "images").mkdir()
    (tmp_path / "images" / "x.png.123.tmp").write_bytes(b"half")
    coco.write(SceneList(CATEGORIES, made(1)), Folder.at(tmp_path))
    assert Folder.at(tmp_path / "images").names() == ["job-00000000.png"]


def test_image_names_are_harmless_and_their_ending_true(tmp_path):
    jpeg = io.BytesIO()
    Image.new("RGB", (4, 4)).save(jpeg, "JPEG")
    scene = Scene("../../etc/<x>", 4, 4, ImageRef(None, None), Objects.build([], []))
    with coco.CocoWriter(Folder.at(tmp_path), CATEGORIES) as writer:
        writer.add(scene, jpeg.getvalue())
        with pytest.raises(DatasetError, match="has no image to write"):
            writer.add(scene)
        with pytest.raises(DatasetError, match="neither PNG nor JPEG"):
            writer.add(scene, b"text")
    assert {".jpg"} == {path.suffix for path in (tmp_path / "images").iterdir()}
    assert coco.read(coco.Config("instances.json"), tmp_path)[0].image_id == "../../etc/<x>"


def test_torchvision_reads_what_was_written(written):
    from torchvision.datasets import CocoDetection

    with contextlib.redirect_stdout(io.StringIO()):
        dataset = CocoDetection(str(written / "images"), str(written / "instances.json"))
    image, labels = dataset[4]
    assert (image.size, len(labels)) == ((48, 32), 2)
    assert len(dataset) == 6


@pytest.mark.parametrize("library", ["pycocotools", "faster_coco_eval"])
@pytest.mark.parametrize("kind", ["bbox", "segm"])
def test_a_perfect_detector_scores_one(written, library, kind):
    if library == "pycocotools":
        from pycocotools.coco import COCO
        from pycocotools.cocoeval import COCOeval as Evaluation
    else:
        from faster_coco_eval import COCO
        from faster_coco_eval import COCOeval_faster as Evaluation
    with contextlib.redirect_stdout(io.StringIO()):
        truth = COCO(str(written / "instances.json"))
        found = [
            {
                k: a[k]
                for k in ("image_id", "category_id", "bbox" if kind == "bbox" else "segmentation")
            }
            | {"score": 0.9}
            for a in truth.dataset["annotations"]
        ]
        evaluation = Evaluation(truth, truth.loadRes(found), kind)
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
    assert len(found) == 8
    assert pytest.approx(1.0) == evaluation.stats[0]


def record_of(objects: Objects, position: int = 0) -> dict:
    return annotation_record(
        Scene("a", 24, 40, ImageRef(), objects), position, (8, "x"), CATEGORIES
    )


def test_what_coco_has_no_place_for_is_left_out_where_it_is_the_usual():
    record = record_of(Objects.build([0], [[1, 2, 5, 7]], id=[8]))
    assert record == {
        "id": 8,
        "image_id": "x",
        "category_id": 3,
        "bbox": [1, 2, 4, 5],
        "area": 20,
        "segmentation": [],
        "iscrowd": 0,
        "layout_bbox": [1, 2, 4, 5],
        "score": 1,
        "source": "human",
    }


def test_what_is_unusual_travels_in_extra_fields():
    objects = Objects.build(
        [0, 1],
        [[1, 2, 5, 7]] * 2,
        id=[1, 1 << 40],
        isthing=[True, True],
        verdict=[None, "missing"],
        verdict_score=[np.nan, 0.1],
        verdict_iou=[np.nan, 0.85],
    )
    record = record_of(objects, 1)
    names = ("verdict", "verdict_score", "verdict_iou", "isthing", "object_id")
    assert {key: record[key] for key in names} == {
        "verdict": "missing",
        "verdict_score": 0.1,
        "verdict_iou": 0.85,
        "isthing": 1,
        "object_id": 1 << 40,
    }
    assert not {"verdict", "verdict_score", "verdict_iou"} & record_of(objects, 0).keys()


@pytest.mark.parametrize(
    ("source", "iou", "is_sure"),
    [
        ("human", np.nan, True),
        ("pseudo", np.nan, False),
        ("pseudo", 0.9, False),
        ("synthetic", np.nan, False),
        ("synthetic", 0.79, False),
        ("synthetic", 0.8, True),
    ],
)
def test_boxes_that_are_not_to_be_learned_are_marked(source, iou, is_sure):
    """A person's are, a made one's where the judge's box meets it in an IoU of 0.8 or more."""
    record = record_of(Objects.build([0], [[1, 2, 5, 7]], source=[source], verdict_iou=[iou]))
    assert record.get("box_loss", 1) == int(is_sure)


def test_a_crowd_of_which_only_the_box_is_known_has_the_mask_of_its_box():
    record = record_of(Objects.build([0], [[1.5, 2, 5, 7.25]], iscrowd=[True]))
    mask = masks.decode(record["segmentation"]["counts"], (24, 40))
    assert record["box_only"] == 1
    assert mask[2:8, 1:5].all()
    assert mask.sum() == 24


def test_a_box_mask_ends_at_the_border():
    mask = masks.decode(box_mask(np.array([-0.5, 0.2, 9.5, 30], np.float32), (6, 8)), (6, 8))
    assert mask.all()


EDGES = st.floats(0, 600, width=32)


@given(st.tuples(EDGES, EDGES, EDGES, EDGES))
def test_the_far_edge_is_found_again_from_x_and_width(values):
    x1, x2 = sorted(values[:2])
    y1, y2 = sorted(values[2:])
    box = np.array([[x1, y1, x2, y2]], np.float32)
    x, y, width, height = record_of(Objects.build([0], box))["layout_bbox"]
    assert np.array_equal(np.array([x, y, x + width, y + height], np.float32), box[0])


def test_the_shortest_decimal_is_written():
    assert short_decimal(np.float32(473.07)) == 473.07
    assert str(short_decimal(np.float32(1) / np.float32(3))) == "0.33333334"


def test_an_image_that_stays_where_it_is_keeps_its_id_and_name(tmp_path):
    scene = Scene("7", 24, 40, ImageRef(None, "/data/7.png"), Objects.build([0], [[0, 0, 4, 4]]))
    with coco.CocoWriter(Folder.at(tmp_path), CATEGORIES) as writer:
        writer.refer(scene, 7, "train/7.png")
    document = json.loads((tmp_path / "instances.json").read_text())
    assert document["images"] == [{"id": 7, "file_name": "train/7.png", "height": 24, "width": 40}]
    assert document["annotations"][0]["image_id"] == 7
    assert not list((tmp_path / "images").glob("*"))


def test_an_id_that_is_not_the_number_of_the_image_is_kept_beside_it(tmp_path):
    empty = Objects.build([], [])
    scenes = [Scene(name, 24, 40, ImageRef(png((24, 40))), empty) for name in ("1", "b")]
    coco.write(SceneList(CATEGORIES, scenes), Folder.at(tmp_path))
    images = json.loads((tmp_path / "instances.json").read_text())["images"]
    assert [image.get("scene_id") for image in images] == [None, "b"]


def test_two_names_that_some_disks_take_for_one_become_two(tmp_path):
    empty = Objects.build([], [])
    scenes = []
    for number, name in enumerate(("A.png", "a.jpg", "a.png")):
        image = ImageRef(png((24, 40), number), None, "", name)
        scenes.append(Scene(f"s{number}", 24, 40, image, empty))
    coco.write(SceneList(CATEGORIES, scenes), Folder.at(tmp_path))
    records = json.loads((tmp_path / "instances.json").read_text())["images"]
    stems = {record["file_name"].rsplit(".", 1)[0].casefold() for record in records}
    assert len(stems) == 3
    assert records[0]["file_name"] == "A.png"
