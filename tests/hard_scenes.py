"""Scenes that exports get wrong.

No objects, crowds, ids with gaps, awkward names, one-pixel masks, holes, borders.
"""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import numpy as np
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from numpy.typing import NDArray
from PIL import Image

from synthaug.pipeline.core import masks
from synthaug.pipeline.core.scene import (
    Category,
    Dataset,
    ImageRef,
    Objects,
    Provenance,
    Scene,
    SceneList,
)

CATEGORIES = (
    Category(2, "no", "answers"),
    Category(5, '🐮 cow\'s "calf"'),
    Category(90, "<b>&amp;: {x} # [|] - *`"),
    Category(91, "1.0", isthing=False),  # never shown
)
SIZE = (24, 40)


def png(size: tuple[int, int], value: int = 0) -> bytes:
    out = io.BytesIO()
    Image.fromarray(np.full((*size, 3), value, np.uint8)).save(out, "PNG")
    return out.getvalue()


def mask(*blocks: tuple[int, int, int, int], size: tuple[int, int] = SIZE) -> np.ndarray:
    """A mask of xyxy blocks, each turned over where it lies on an earlier one (so holes can be
    made).
    """
    made = np.zeros(size, bool)
    for x1, y1, x2, y2 in blocks:
        made[y1:y2, x1:x2] ^= True
    return made


def objects(rows: Sequence[tuple[int, np.ndarray, bool]], first: int, **columns: Any) -> Objects:
    """Objects of (category, mask, crowd)."""
    stack = np.array([m for _, m, _ in rows]).reshape(
        len(rows), *(rows[0][1].shape if rows else SIZE)
    )
    return Objects.build(
        [c for c, _, _ in rows],
        masks.tight_boxes(stack),
        id=np.arange(len(rows)) + first,
        rle=masks.encode(stack),
        area=stack.sum((1, 2)),
        iscrowd=[crowd for _, _, crowd in rows],
        **columns,
    )


def masked() -> SceneList:
    """Every object that is to be learnt has a mask."""
    h, w = SIZE
    rows: list[list[tuple[int, np.ndarray, bool]]] = [
        [],
        [
            (0, mask((0, 0, w, h)), False),
            (1, mask((w - 1, h - 1, w, h)), False),
        ],  # the whole image; its last pixel
        [
            (2, mask((3, 3, 13, 13), (5, 5, 9, 9)), False),
            (2, mask((20, 2, 24, 6), (24, 6, 28, 10)), False),
        ],  # hole; corner
        [
            (1, mask((2, 2, 9, 20)), False),
            (1, mask((12, 0, 38, 24)), True),
        ],  # beside a crowd of its class
        [(0, mask((0, 0, 30, 20)), True)],  # nothing but a crowd
        [
            (2, mask((5, 5, 6, 6)), False),
            (0, mask((5, 6, 6, 7), (9, 9, 11, 10)), False),
            (1, mask((0, 3, 4, 24)), False),
        ],
    ]
    scenes = []
    for i, row in enumerate(rows):
        made = i % 2 == 0
        origin = (
            Provenance(2**63 - 1 - i, "lostgan", "ab" * 32, f"real {i}", "balanced: +no")
            if made
            else None
        )
        kind = ["synthetic" if made else "human"] * len(row)
        found = objects(row, 10 * i + 1, source=kind)
        if i == 4:  # a region to be ignored of which only the box is known
            found = replace(found, rle=(None,))
        scenes.append(Scene(f"image-{i}", *SIZE, ImageRef(png(SIZE, 9 * i)), found, None, origin))
    return SceneList(CATEGORIES, scenes)


def boxed() -> SceneList:
    """No object has a mask, and boxes lie off the grid."""
    boxes = [
        [(0, 0, 3.25, 2.5)],
        [],
        [(1.3, 2.6, 39.9, 23.7), (36.5, 20.25, 40, 24)],
        [(0.1, 0.2, 0.9, 1.4)],
    ]
    scenes = []
    for i, row in enumerate(boxes):
        found = Objects.build(
            [2, 0][: len(row)], row, id=np.arange(len(row)) + 7 * i + 1, score=[0.75] * len(row)
        )
        scenes.append(Scene(f"box{i}", *SIZE, ImageRef(png(SIZE, i)), found))
    return SceneList(CATEGORIES, scenes)


@st.composite
def random_scene(draw: Any, number: int) -> Scene:
    """A scene of 0 to 3 objects with any masks, or of any boxes."""
    size = (draw(st.integers(1, 12)), draw(st.integers(1, 12)))
    n = draw(st.integers(0, 3))
    label, crowd = (
        draw(st.lists(v, min_size=n, max_size=n)) for v in (st.integers(0, 3), st.booleans())
    )
    if draw(st.booleans()):
        rows = [draw(hnp.arrays(bool, size).filter(np.any)) for _ in range(n)]
        found = objects(list(zip(label, rows, crowd, strict=True)), 10 * number + 1)
    else:
        side = [st.tuples(st.floats(0, 1), st.floats(0.01, 1)) for _ in range(2)]
        pairs = [[draw(s) for s in side] for _ in range(n)]
        low = np.array([[x[0] * 0.98 * size[1], y[0] * 0.98 * size[0]] for x, y in pairs]).reshape(
            n, 2
        )
        far = np.array([[x[1], y[1]] for x, y in pairs]).reshape(n, 2)
        boxes = np.concatenate([low, low + far * ([size[1], size[0]] - low)], 1).astype(np.float32)
        found = Objects.build(label, boxes, id=np.arange(n) + 10 * number + 1, iscrowd=crowd)
    return Scene(f"s{number}", *size, ImageRef(png(size, number)), found)


def random_sets() -> Any:
    """Data sets of 0 to 4 scenes."""
    tables = st.integers(0, 4).flatmap(lambda n: st.tuples(*(random_scene(i) for i in range(n))))
    return tables.map(lambda rows: SceneList(CATEGORIES, list(rows)))


def content(ref: ImageRef) -> bytes:
    return ref.data if ref.data is not None else Path(ref.path or "").read_bytes()


def differences(a: Scene, b: Scene) -> list[str]:
    """Names of the fields in which two scenes differ; NaN equals NaN."""
    found = [
        n for n in ("image_id", "height", "width", "provenance") if getattr(a, n) != getattr(b, n)
    ]
    found += [] if content(a.image) == content(b.image) else ["image"]
    for field in fields(Objects):
        x, y = getattr(a.objects, field.name), getattr(b.objects, field.name)
        if isinstance(x, np.ndarray):
            same = x.shape == y.shape and np.array_equal(x, y, equal_nan=x.dtype.kind == "f")
        else:
            same = x == y
        found += [] if same else [f"{field.name}: {x} != {y}"]
    return found


def coco_record(table: Dataset) -> dict[str, Any]:
    """What a table says, as a COCO document.

    Written plainly, apart from the writer that is tested.
    """
    images, annotations = [], []
    for i in range(len(table)):
        scene, found = table[i], table[i].objects
        images.append(
            {"id": i + 1, "file_name": scene.image_id, "height": scene.height, "width": scene.width}
        )
        for k in range(len(found)):
            x1, y1, x2, y2 = found.boxes[k].tolist()
            rle = found.rle[k]
            record = {
                "id": len(annotations) + 1,
                "image_id": i + 1,
                "category_id": table.categories[found.category[k]].id,
                "bbox": [x1, y1, x2 - x1, y2 - y1],
                "area": float(found.area[k]),
                "iscrowd": int(found.iscrowd[k]),
            }
            if rle is None and record["iscrowd"]:
                rle = masks.from_polygons(
                    [[x1, y1, x2, y1, x2, y2, x1, y2]], (scene.height, scene.width)
                )
            if rle is not None:
                record["segmentation"] = {"size": [scene.height, scene.width], "counts": rle}
            annotations.append(record)
    categories = [{"id": c.id, "name": c.name} for c in table.categories]
    return {"info": {}, "images": images, "annotations": annotations, "categories": categories}


def perfect(table: Dataset, in_crowds: bool = True) -> list[dict[str, Any]]:
    """Detections of every object that is no crowd, at falling scores.

    And, surest of all, one in each crowd.
    """
    found = []
    for record in coco_record(table)["annotations"]:
        keys = (
            "image_id",
            "category_id",
            "bbox",
            *(["segmentation"] if "segmentation" in record else []),
        )
        if not record["iscrowd"]:
            found.append({k: record[k] for k in keys} | {"score": 0.9 - 0.001 * len(found)})
        elif in_crowds:
            found.append({k: record[k] for k in keys} | {"score": 0.99})
    return found


def edges(values: NDArray[Any]) -> NDArray[np.bool_]:
    """Return where a map [H, W] differs from one of its four neighbours."""
    found = np.zeros(values.shape, np.bool_)
    down, right = values[1:] != values[:-1], values[:, 1:] != values[:, :-1]
    found[1:] |= down
    found[:-1] |= down
    found[:, 1:] |= right
    found[:, :-1] |= right
    return found
