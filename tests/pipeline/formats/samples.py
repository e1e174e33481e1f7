"""Small data sets in every format, for the contract tests.

A new format that is only read adds a function here.

A function has the name of its format, writes the scenes of a table into a folder and returns the
reference that reads them. A format with `write` needs none: its own `write` is used. What a format
cannot hold is said in HOLDS.
"""

from __future__ import annotations

import io
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from synthaug.pipeline.core import masks
from synthaug.pipeline.core import panoptic_maps as panoptic
from synthaug.pipeline.core.scene import ImageRef, Objects, Scene, SceneList
from synthaug.pipeline.core.storage import Folder
from synthaug.pipeline.formats import FORMATS, can_write, load_format
from synthaug.pipeline.formats.cityscapes import CATEGORIES as CITYSCAPES
from synthaug.pipeline.formats.cityscapes import LABELS
from synthaug.pipeline.formats.coco.stuff_names import NAMES

HEIGHT, WIDTH = 30, 40
PERSON, CAR = 0, 1  # index of the classes that samples show
# classes that Cityscapes has too
CATEGORIES = tuple(CITYSCAPES[[label.name for label in LABELS].index(n)] for n in ("person", "car"))


@dataclass(frozen=True)
class Holds:
    """What a format can hold of a scene; the default is everything, exactly."""

    path: str = "."  # of what `write` leaves, for the reference
    classes: bool = True  # those that no object has, too
    crowds: str = "yes"  # yes | last: they come after the other objects | no
    masks: str = "all"  # all | none | if every object has one
    records: bool = True  # ids, scores, sources, verdicts, provenance
    panoptic: bool = False  # a map per image is needed
    whole_pixels: bool = False  # boxes are rounded to pixels
    lossy_images: bool = False  # images become JPEG
    box_error: float = 0.0  # pixels


HOLDS = {
    "cityscapes": Holds(panoptic=True),
    "coco": Holds(path="instances.json"),
    "coco_panoptic": Holds(path="panoptic.json", panoptic=True),
    "label_studio": Holds(crowds="no"),
    "hf": Holds(box_error=1e-4),  # xywh in float32, off the grid of 1/64 pixel
    "lvis": Holds(path="lvis_train.json", crowds="last"),
    "parquet": Holds(box_error=1e-4),
    "visual_genome": Holds(crowds="no", masks="none"),
    "voc": Holds(masks="none", records=False, whole_pixels=True, lossy_images=True),
    "yolo": Holds(
        crowds="no", masks="if every object has one", records=False, box_error=1e-4
    ),  # decimals to 1e-10 of the image
}


def advice(name: str) -> str:
    """Return what to do where a format does not give back what was written."""
    return f"if '{name}' cannot hold that, say so in HOLDS of tests/pipeline/formats/samples.py"


def holds_of(name: str) -> Holds:
    """Return what a format can hold: everything, where HOLDS does not say otherwise."""
    return HOLDS.get(name, Holds())


@dataclass(frozen=True)
class Thing:
    """An object to be written, a full rectangle."""

    box: tuple[int, int, int, int]  # xyxy pixels
    category: int = PERSON
    iscrowd: bool = False


def sample_table(*pictures: Sequence[Thing]) -> SceneList:
    """Return a table of images "1", "2" ... with these objects, which must not overlap."""
    scenes = []
    for index, things in enumerate(pictures):
        ids = np.zeros((HEIGHT, WIDTH), np.int64)
        for segment, thing in enumerate(things, start=1):
            x1, y1, x2, y2 = thing.box
            ids[y1:y2, x1:x2] = segment
        objects = panoptic.objects_of(
            panoptic.segments_of(ids),
            index,
            [thing.category for thing in things],
            iscrowd=[thing.iscrowd for thing in things],
            isthing=[True for _ in things],
        )
        image = np.full((HEIGHT, WIDTH, 3), 40 * index, np.uint8)
        png = ImageRef(masks.panoptic_png(ids))
        name = str(index + 1)
        scenes.append(Scene(name, HEIGHT, WIDTH, ImageRef(png_bytes(image)), objects, png))
    return SceneList(CATEGORIES, scenes)


def png_bytes(pixels: np.ndarray) -> bytes:
    out = io.BytesIO()
    Image.fromarray(pixels).save(out, "PNG")
    return out.getvalue()


def write_sample(name: str, table: SceneList, folder: Path) -> str:
    """Write a table in a format and return its reference.

    A format that has no sample fails the test.
    """
    folder.mkdir(parents=True, exist_ok=True)
    own: Callable[[SceneList, Path], str] | None = globals().get(name)
    if own is not None:
        return own(table, folder)
    if can_write(name):
        vars(load_format(name))["write"](table, Folder.at(folder))
        return f"{name}:{holds_of(name).path}"
    pytest.fail(
        f"format '{name}' is not tested: give {FORMATS[name]} a `write`, or add a function "
        f"`{name}(table, folder)` to tests/pipeline/formats/samples.py that writes the scenes and "
        "returns their reference"
    )


def _images(table: SceneList, folder: Path) -> list[dict[str, Any]]:
    """Write the images and return their COCO records."""
    folder.mkdir()
    records = []
    for scene in table:
        assert scene.image.data is not None
        (folder / f"{scene.image_id}.png").write_bytes(scene.image.data)
        records.append(
            {
                "id": int(scene.image_id),
                "file_name": f"{scene.image_id}.png",
                "height": scene.height,
                "width": scene.width,
            }
        )
    return records


def _annotations(table: SceneList, category_ids: Sequence[int]) -> list[dict[str, Any]]:
    """Return the objects of a table as COCO records, their classes under these ids."""
    records: list[dict[str, Any]] = []
    for scene in table:
        objects = scene.objects
        for k in range(len(objects)):
            x1, y1, x2, y2 = objects.boxes[k].tolist()
            records.append(
                {
                    "id": len(records) + 1,
                    "image_id": int(scene.image_id),
                    "category_id": category_ids[objects.category[k]],
                    "bbox": [x1, y1, x2 - x1, y2 - y1],
                    "iscrowd": int(objects.iscrowd[k]),
                    "segmentation": {"size": [scene.height, scene.width], "counts": objects.rle[k]},
                }
            )
    return records


def coco_stuff(table: SceneList, folder: Path) -> str:
    """Things only.

    An image has stuff of the class "other", because one without stuff is left out.
    """
    images = _images(table, folder / "images")
    things = [{"id": 1, "name": "person"}, {"id": 3, "name": "car"}]
    stuff = []
    for image in images:
        box = [0, 0, WIDTH, HEIGHT]
        stuff.append(
            {"id": 1000 + image["id"], "image_id": image["id"], "category_id": 183, "bbox": box}
        )
    documents = {
        "instances_x.json": (things, _annotations(table, [1, 3])),
        "stuff_x.json": ([{"id": 183, "name": "other"}], stuff),
    }
    for name, (categories, records) in documents.items():
        document = {"images": images, "categories": categories, "annotations": records}
        (folder / name).write_text(json.dumps(document))
    return "coco_stuff:instances_x.json?min_area=0&min_objects=0&max_objects=99"


def coco_stuff_maps(table: SceneList, folder: Path) -> str:
    """Crowds are pixels of a thing's class that belong to no instance."""
    images = _images(table, folder / "images")
    category_ids = [NAMES.index("person") + 1, NAMES.index("car") + 1]
    (folder / "maps").mkdir()
    for scene in table:
        labels = np.full((HEIGHT, WIDTH), 255, np.uint8)
        for category, rle in zip(scene.objects.category, scene.objects.rle, strict=True):
            assert rle is not None
            labels[masks.decode(rle, (HEIGHT, WIDTH))] = category_ids[category] - 1
        (folder / "maps" / f"{scene.image_id}.png").write_bytes(png_bytes(labels))
    document = {
        "images": images,
        "categories": [{"id": 1, "name": "person"}, {"id": 3, "name": "car"}],
        "annotations": _annotations(table, category_ids),
    }
    (folder / "instances.json").write_text(json.dumps(document))
    return "coco_stuff_maps:instances.json?maps=maps"


def _corners(objects: Objects, k: int) -> list[list[float]]:
    """Return the corners of a box as a polygon of x, y."""
    x1, y1, x2, y2 = objects.boxes[k].tolist()
    return [[x1, y1], [x2, y1], [x2, y2], [x1, y2]]


def _class_list(folder: Path) -> None:
    (folder / "names.txt").write_text("".join(f"{c.name}\n" for c in CATEGORIES))


def labelme(table: SceneList, folder: Path) -> str:
    """Rectangles, and a polygon for each second object; crowds have a flag."""
    _images(table, folder / "set")
    for scene in table:
        shapes: list[dict[str, Any]] = []
        for k in range(len(scene.objects)):
            points = _corners(scene.objects, k)
            shape: dict[str, Any] = {"label": CATEGORIES[scene.objects.category[k]].name}
            if k % 2:
                shape |= {"shape_type": "polygon", "points": points}
            else:
                shape |= {"shape_type": "rectangle", "points": [points[2], points[0]]}
            shape["flags"] = {"crowd": bool(scene.objects.iscrowd[k])}
            shapes.append(shape)
        document = {
            "shapes": shapes,
            "imagePath": f"{scene.image_id}.png",
            "imageData": None,
            "imageHeight": scene.height,
            "imageWidth": scene.width,
        }
        (folder / "set" / f"{scene.image_id}.json").write_text(json.dumps(document))
    _class_list(folder)
    return "labelme:set?classes=names.txt"


def label_studio(table: SceneList, folder: Path) -> str:
    """Rectangles, and a polygon for each second object, in percent; there are no crowds."""
    _images(table, folder / "images")
    tasks = []
    for scene in table:
        kept = scene.objects.select(~scene.objects.iscrowd)
        results = []
        for k in range(len(kept)):
            percent = np.array(_corners(kept, k)) / (scene.width, scene.height) * 100
            (x1, y1), (x2, y2) = percent[0].tolist(), percent[2].tolist()
            kind, value = "polygonlabels", {"points": percent.tolist()}
            if k % 2 == 0:
                kind, value = "rectanglelabels", {"x": x1, "y": y1, "width": x2 - x1}
                value["height"] = y2 - y1
            value[kind] = [CATEGORIES[kept.category[k]].name]
            size = {"original_width": scene.width, "original_height": scene.height}
            results.append({"id": str(k), "type": kind, "value": value} | size)
        address = f"/data/upload/1/{scene.image_id}.png"
        annotation = {"id": 1, "result": results}
        task = {"id": int(scene.image_id), "data": {"image": address}}
        tasks.append(task | {"annotations": [annotation]})
    (folder / "export.json").write_text(json.dumps(tasks))
    _class_list(folder)
    return "label_studio:export.json?classes=names.txt"


def cvat(table: SceneList, folder: Path) -> str:
    """Boxes, and a polygon for each second object; crowds have an attribute."""
    _images(table, folder / "images")
    labels = "".join(f"<label><name>{c.name}</name></label>" for c in CATEGORIES)
    rows = [f"<annotations><meta><task><labels>{labels}</labels></task></meta>"]
    for number, scene in enumerate(table):
        size = f'width="{scene.width}" height="{scene.height}"'
        rows.append(f'<image id="{number}" name="{scene.image_id}.png" {size}>')
        for k in range(len(scene.objects)):
            name = CATEGORIES[scene.objects.category[k]].name
            points = _corners(scene.objects, k)
            (x1, y1), (x2, y2) = points[0], points[2]
            kind, where = "box", f'xtl="{x1}" ytl="{y1}" xbr="{x2}" ybr="{y2}"'
            if k % 2:
                kind = "polygon"
                where = f'points="{";".join(f"{x},{y}" for x, y in points)}"'
            crowd = str(bool(scene.objects.iscrowd[k])).lower()
            flag = f'<attribute name="is_crowd">{crowd}</attribute>'
            rows.append(f'<{kind} label="{name}" {where}>{flag}</{kind}>')
        rows.append("</image>")
    (folder / "annotations.xml").write_text("".join(rows) + "</annotations>")
    return "cvat:annotations.xml"


def hub(table: SceneList, folder: Path) -> str:
    """Images of 40x30 in two row groups, boxes as x, y, width, height."""
    rows = []
    for scene in table:
        objects = scene.objects
        sides = objects.boxes[:, 2:] - objects.boxes[:, :2]
        found = {
            "bbox": np.concatenate([objects.boxes[:, :2], sides], axis=1).tolist(),
            "category": objects.category.tolist(),
            "iscrowd": objects.iscrowd.tolist(),
        }
        image = {"bytes": scene.image.data, "path": f"{scene.image_id}.png"}
        rows.append({"image_id": int(scene.image_id), "image": image, "objects": found})
    names = {"names": [c.name for c in CATEGORIES], "_type": "ClassLabel"}
    features = {"objects": {"category": {"feature": names, "_type": "Sequence"}}}
    meta = {"huggingface": json.dumps({"info": {"features": features}})}
    lists = [("bbox", pa.list_(pa.list_(pa.float32()))), ("category", pa.list_(pa.int64()))]
    kind = pa.struct([*lists, ("iscrowd", pa.list_(pa.bool_()))])
    columns = [("image_id", pa.int64()), ("objects", kind)]
    image_kind = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
    schema = pa.schema([*columns, ("image", image_kind)]).with_metadata(meta)
    (folder / "data").mkdir()
    out = folder / "data" / "train-00000-of-00001.parquet"
    pq.write_table(pa.Table.from_pylist(rows, schema), out, row_group_size=2)
    return "hub:.?boxes=xywh"


def visual_genome(table: SceneList, folder: Path) -> str:
    """The published filters are opened as wide as they go; there are no crowds."""
    _images(table, folder / "VG_100K")
    images, objects = [], []
    for scene in table:
        key = int(scene.image_id)
        url = f"https://example.invalid/VG_100K/{key}.png"
        images.append({"image_id": key, "height": HEIGHT, "width": WIDTH, "url": url})
        records = []
        kept = scene.objects.select(~scene.objects.iscrowd)
        for number, category, box in zip(kept.id, kept.category, kept.boxes, strict=True):
            x1, y1, x2, y2 = box.tolist()
            names = [CATEGORIES[category].name]
            where = {"x": x1, "y": y1, "w": x2 - x1, "h": y2 - y1}
            records.append({"object_id": int(number), "names": names} | where)
        objects.append({"image_id": key, "objects": records})
    (folder / "image_data.json").write_text(json.dumps(images))
    (folder / "objects.json").write_text(json.dumps(objects))
    (folder / "names.json").write_text(json.dumps([c.name for c in CATEGORIES]))
    filters = "min_side=0&min_size=0&min_objects=0&relationships=ignored"
    return f"visual_genome:.?split=all&vocabulary=names.json&{filters}"


def toy(table: SceneList, folder: Path) -> str:
    """As many scenes; what they show is drawn, not read."""
    return f"toy:val?count={len(table)}"
