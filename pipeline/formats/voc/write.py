"""Pascal VOC folders, written: XML files, lists and JPEG images.

VOC has no masks here, no ids, scores and sources; a COCO file beside it, `coco/<split>.json`, keeps
them. Ignore regions are objects marked difficult, which VOC's evaluation passes over.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping
from dataclasses import asdict
from xml.sax.saxutils import escape

import numpy as np

from synthaug.pipeline.core.arrays import Ints
from synthaug.pipeline.core.boxes import Boxes, Size
from synthaug.pipeline.core.errors import DatasetError
from synthaug.pipeline.core.scene import Category, Dataset, Scene
from synthaug.pipeline.core.storage import Folder
from synthaug.pipeline.formats import image_files
from synthaug.pipeline.formats.coco.write import CocoWriter, lost_names
from synthaug.pipeline.formats.validation import is_text

CLASSES = "classes.json"
# characters that XML cannot spell, or changes
_NOT_IN_XML = re.compile("[^\t\n\r -\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]|\r")


def write(dataset: Dataset, out: Folder) -> None:
    """Write a data set as the list `train`."""
    write_splits({"train": dataset}, out)


def write_splits(splits: Mapping[str, Dataset], out: Folder) -> Counter[str]:
    """Write data sets as the lists of one folder; return what is lost, by reason.

    All have the same classes.

    Images that are no JPEG become JPEG of quality 95, because readers of this layout ask for names
    ending in .jpg. Raises DatasetError for a class name that XML cannot spell or that two classes
    share, and for two images of one name.
    """
    categories = next(iter(splits.values())).categories
    _check_names(categories)
    lost: Counter[str] = Counter()
    written: set[str] = set()
    annotations = out.sub("Annotations").create()
    for split, table in splits.items():
        names = []
        with CocoWriter(out, categories, f"coco/{split}.json", "JPEGImages") as writer:
            for scene in table:
                data, converted = image_files.encoded(scene, jpeg_only=True)
                file_name = writer.add(scene, data)
                name = file_name.removesuffix(".jpg")
                lost += lost_names(scene, name)
                if name in written:
                    raise DatasetError(
                        f"image {scene.image_id!r} is in two splits; give images of one folder own "
                        "ids"
                    )
                written.add(name)
                names.append(name)
                text = annotation(scene, file_name, categories)
                annotations.write_bytes(f"{name}.xml", text.encode(), durable=False)
                lost += _lost(scene)
                lost["images converted to JPEG"] += converted
        listing = "".join(f"{name}\n" for name in names)
        out.sub("ImageSets").sub("Main").write_bytes(f"{split}.txt", listing.encode())
    out.write_json(CLASSES, [asdict(category) for category in categories])
    return +lost


def _check_names(categories: tuple[Category, ...]) -> None:
    seen: set[str] = set()
    for category in categories:
        if not is_text(category.name) or _NOT_IN_XML.search(category.name):
            raise DatasetError(
                f"class {category.id}: XML cannot spell its name {category.name!r}; rename the "
                "class"
            )
        if category.name in seen:
            raise DatasetError(
                f"two classes are called {category.name!r}, and VOC knows classes by name; rename "
                "one"
            )
        seen.add(category.name)


def annotation(scene: Scene, file_name: str, categories: tuple[Category, ...]) -> str:
    """Return the XML of a scene whose image file is `file_name`."""
    objects = scene.objects
    boxes = whole_boxes(objects.boxes, scene.size).tolist()
    elements = [_head(scene, file_name)]
    for k, box in enumerate(boxes):
        name = categories[objects.category[k]].name
        elements.append(_object(name, box, bool(objects.iscrowd[k])))
    return "".join(elements) + "</annotation>\n"


def _head(scene: Scene, file_name: str) -> str:
    return (
        f"<annotation>\n <folder>JPEGImages</folder>\n <filename>{escape(file_name)}</filename>\n"
        f" <source><database>synthaug</database></source>\n"
        f" <size><width>{scene.width}</width><height>{scene.height}</height>"
        f"<depth>3</depth></size>\n"
        " <segmented>0</segmented>\n"
    )


def _object(name: str, box: list[int], difficult: bool) -> str:
    x1, y1, x2, y2 = box
    return (
        f" <object>\n  <name>{escape(name)}</name>\n  <pose>Unspecified</pose>\n"
        f"  <truncated>0</truncated>\n  <difficult>{int(difficult)}</difficult>\n"
        f"  <bndbox><xmin>{x1 + 1}</xmin><ymin>{y1 + 1}</ymin>"
        f"<xmax>{x2}</xmax><ymax>{y2}</ymax></bndbox>\n"
        " </object>\n"
    )


def whole_boxes(boxes: Boxes, size: Size) -> Ints:
    """Round boxes [N, 4] to whole pixels of the image (H, W), sides at least one."""
    height, width = size
    limit = np.array([width, height])
    rounded = np.floor(boxes.astype(np.float64) + 0.5).astype(np.int64)  # halves up
    near = rounded[:, :2].clip(0, limit - 1)
    far = rounded[:, 2:].clip(near + 1, limit)
    return np.concatenate([near, far], 1)


def _lost(scene: Scene) -> Counter[str]:
    """Count what the annotation of a scene does not hold."""
    objects = scene.objects
    off_grid = (objects.boxes != np.round(objects.boxes)).any(1)
    lost: Counter[str] = Counter()
    lost["masks (kept in coco/)"] = sum(rle is not None for rle in objects.rle)
    lost["boxes rounded to whole pixels (as they were in coco/)"] = int(off_grid.sum())
    return lost
