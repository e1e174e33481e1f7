"""Pascal VOC folders, written: an XML file per image, image lists, and JPEG images.

VOC has no masks here, no ids, scores and sources; a COCO file beside it, `coco/<split>.json`, keeps them. Ignore regions are
objects marked difficult, which VOC's evaluation passes over.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping
from dataclasses import asdict
from xml.sax.saxutils import escape

import numpy as np
from numpy.typing import NDArray

from synthaug.pipeline.core.errors import DatasetError
from synthaug.pipeline.core.scene import Category, Dataset, Scene
from synthaug.pipeline.core.storage import Folder
from synthaug.pipeline.formats import image_files as pictures
from synthaug.pipeline.formats.coco.write import CocoWriter
from synthaug.pipeline.formats.validation import is_text

CLASSES = "classes.json"
_IN_XML = re.compile(
    "[^\t\n\r -\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]|\r"
)  # characters it cannot spell, or changes


def write(dataset: Dataset, out: Folder) -> None:
    """Write a data set as the list `train`."""
    write_splits({"train": dataset}, out)


def write_splits(splits: Mapping[str, Dataset], out: Folder) -> Counter[str]:
    """Write data sets of the same classes as the lists of one folder; return what the format does not hold, by reason.

    Images that are no JPEG become JPEG of quality 95, because readers of this layout ask for names ending in .jpg. Raises
    DatasetError for a class name that XML cannot spell or that two classes share, and for two images of one name.
    """
    categories = next(iter(splits.values())).categories
    _check_names(categories)
    lost: Counter[str] = Counter()
    seen: set[str] = set()
    annotations = out.sub("Annotations").create()
    for split, table in splits.items():
        names = []
        with CocoWriter(out, categories, f"coco/{split}.json", "JPEGImages") as writer:
            for index in range(len(table)):
                scene = table[index]
                data, converted = pictures.encoded(scene, jpeg_only=True)
                name = writer.add(scene, data)
                stem = name.removesuffix(".jpg")
                if stem in seen:
                    raise DatasetError(
                        f"image {scene.image_id!r} is in two splits; give images of one folder own ids"
                    )
                seen.add(stem)
                names.append(stem)
                text = annotation(scene, name, categories)
                annotations.write_bytes(f"{stem}.xml", text.encode(), durable=False)
                lost += _lost(scene, converted)
        listing = "".join(f"{name}\n" for name in names)
        out.sub("ImageSets").sub("Main").write_bytes(f"{split}.txt", listing.encode())
    out.write_json(CLASSES, [asdict(category) for category in categories])
    return lost


def _check_names(categories: tuple[Category, ...]) -> None:
    seen: set[str] = set()
    for category in categories:
        if not is_text(category.name) or _IN_XML.search(category.name):
            raise DatasetError(
                f"class {category.id}: XML cannot spell its name {category.name!r}; rename the class"
            )
        if category.name in seen:
            raise DatasetError(
                f"two classes are called {category.name!r}, and VOC knows classes by name; rename one"
            )
        seen.add(category.name)


def annotation(scene: Scene, name: str, categories: tuple[Category, ...]) -> str:
    """Return the XML of a scene whose image file is `name`."""
    head = (
        f"<annotation>\n <folder>JPEGImages</folder>\n <filename>{escape(name)}</filename>\n"
        f" <source><database>synthaug</database></source>\n"
        f" <size><width>{scene.width}</width><height>{scene.height}</height><depth>3</depth></size>\n"
        f" <segmented>0</segmented>\n"
    )
    rows = []
    boxes = whole_boxes(scene.objects.boxes, (scene.height, scene.width))
    for (x1, y1, x2, y2), k, crowd in zip(
        boxes.tolist(), scene.objects.category, scene.objects.iscrowd, strict=True
    ):
        rows.append(
            f" <object>\n  <name>{escape(categories[k].name)}</name>\n  <pose>Unspecified</pose>\n"
            f"  <truncated>0</truncated>\n  <difficult>{int(crowd)}</difficult>\n"
            f"  <bndbox><xmin>{x1 + 1}</xmin><ymin>{y1 + 1}</ymin><xmax>{x2}</xmax><ymax>{y2}</ymax></bndbox>\n"
            f" </object>\n"
        )
    return head + "".join(rows) + "</annotation>\n"


def whole_boxes(boxes: NDArray[np.float32], size: tuple[int, int]) -> NDArray[np.int64]:
    """Round xyxy boxes [N, 4] to whole pixels inside the image (H, W), each side at least one pixel long."""
    limit = np.array([size[1], size[0]], np.int64)
    near = np.floor(boxes[:, :2].astype(np.float64) + 0.5).astype(np.int64).clip(0, limit - 1)
    far = np.floor(boxes[:, 2:].astype(np.float64) + 0.5).astype(np.int64).clip(near + 1, limit)
    return np.concatenate([near, far], 1)


def _lost(scene: Scene, converted: bool) -> Counter[str]:
    objects = scene.objects
    rounded = (objects.boxes != np.round(objects.boxes)).any(1)
    return Counter(
        {
            "masks (kept in coco/)": sum(rle is not None for rle in objects.rle),
            "boxes rounded to whole pixels (as they were in coco/)": int(rounded.sum()),
            "images converted to JPEG": int(converted),
        }
    )
