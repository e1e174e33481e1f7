"""The gallery's data: many small images with outlines and boxes.

It is plain content for JSON. Images are chosen by their position in the tables, never by how they
look. How many pixels of each are kept follows from how many bytes the page may have: the best
resolution that fits, tried on a few images first.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from synthaug.pipeline.core.images import decode
from synthaug.pipeline.core.json_values import Json
from synthaug.pipeline.core.scene import Dataset, Objects, Scene
from synthaug.pipeline.report.pictures import COLORS, Picture, Resolution, Shape, full_picture

VIEW = 384  # units of an image's longer side in which outlines and boxes are given
RESOLUTIONS = (  # best first
    Resolution(320, 82),
    Resolution(256, 80),
    Resolution(192, 78),
    Resolution(160, 75),
    Resolution(128, 72),
    Resolution(96, 70),
)
BUDGET = 25_000_000  # bytes of the gallery
PROBES = 16  # images on which a resolution is tried
PSEUDO_SHARE = 4  # one pseudo-labelled image for so many synthetic ones
UNSEEN = "no visible mask"  # verdict of a planned object that synthesis dropped
KINDS = ("synthetic", "real", "pseudo")

Verdicts = Mapping[int, tuple[str | None, float]]  # object id -> verdict and score


@dataclass(frozen=True)
class GalleryTables:
    """The tables of the images; `plan` has a row for every row of `synthetic`."""

    synthetic: Dataset
    plan: Dataset
    real: Dataset
    pseudo: Dataset | None = None
    verdicts: Verdicts = field(default_factory=dict)

    def of(self, kind: str) -> Dataset:
        """Return the table of a kind of image."""
        tables = {"synthetic": self.synthetic, "real": self.real, "pseudo": self.pseudo}
        table = tables[kind]
        assert table is not None
        return table

    def size(self, kind: str) -> int:
        """Return the number of images of a kind."""
        if kind == "pseudo" and self.pseudo is None:
            return 0
        return len(self.of(kind))


@dataclass(frozen=True)
class Item:
    """One image of the gallery: its table and its position there."""

    kind: str
    index: int


def spread(total: int, most: int) -> list[int]:
    """Return at most `most` indices of a table of `total` rows, evenly spaced."""
    number = min(total, most)
    return [k * total // number for k in range(number)]


def find(table: Dataset, image_ids: set[str]) -> dict[str, int]:
    """Return the index in a table of the scenes of these ids, where they are in it."""
    indices: dict[str, int] = {}
    for index, scene in enumerate(table):
        if len(indices) == len(image_ids):
            break
        if scene.image_id in image_ids:
            indices[scene.image_id] = index
    return indices


def choose(tables: GalleryTables, bare: Dataset, samples: int) -> list[Item]:
    """Choose synthetic images, their real originals, and pseudo-labelled ones.

    `bare` is the table of the real images without pixels.
    """
    synthetic = spread(len(tables.synthetic), samples)
    origins = [tables.plan[index].provenance for index in synthetic]
    sources = find(bare, {origin.source_image for origin in origins if origin})
    pseudo = []
    if tables.pseudo and synthetic:
        pseudo = spread(len(tables.pseudo), max(1, samples // PSEUDO_SHARE))
    items = [Item("synthetic", index) for index in synthetic]
    items += [Item("real", index) for index in sorted(sources.values())]
    items += [Item("pseudo", index) for index in pseudo]
    return items


def content(tables: GalleryTables, bare: Dataset, samples: int, budget: int | None = None) -> Json:
    """Return the gallery's data, of about `budget` bytes of JSON at most.

    Empty without synthetic images; BUDGET where nothing else is said. Where even the coarsest
    resolution is too much, fewer images are shown, still evenly spaced; the numbers are in the
    data.
    """
    budget = BUDGET if budget is None else budget
    items = choose(tables, bare, samples)
    while items:
        for resolution in RESOLUTIONS:
            is_last = resolution == RESOLUTIONS[-1]
            if not is_last and _estimate(tables, items, resolution) > budget:
                continue
            images = [record(tables, item, resolution) for item in items]
            weight = sum(_weight(image) for image in images)
            if weight <= budget:
                return _data(tables, items, images, resolution)
        samples = min(samples - 1, int(samples * budget / weight))
        items = choose(tables, bare, samples) if samples > 0 else []
    return {}


def record(tables: GalleryTables, item: Item, resolution: Resolution) -> Json:
    """Return one image: its pixels as a data URI, its objects as numbers."""
    table = tables.of(item.kind)
    scene = table[item.index]
    planned = None
    if item.kind == "synthetic":
        scene = with_verdicts(scene, tables.verdicts)
        planned = planned_objects(tables.plan[item.index], scene)
    picture = full_picture(scene, decode(scene), table.categories, VIEW, planned, resolution)
    reason = ""
    source = ""
    if scene.provenance:
        reason = scene.provenance.reason
        source = scene.provenance.source_image
    return {
        "id": scene.image_id,
        "kind": item.kind,
        "place": item.index,
        "src": picture.src,
        "w": picture.width,
        "h": picture.height,
        "size": f"{scene.width} × {scene.height}",
        "why": reason,
        "from": source,
        "objects": list(_objects(picture)),
    }


def with_verdicts(scene: Scene, verdicts: Verdicts) -> Scene:
    """Return the scene with verification's verdicts on its objects."""
    if not verdicts:
        return scene
    unknown = (None, float("nan"))
    ids = scene.objects.id.tolist()
    own = [verdicts.get(int(number), unknown) for number in ids]
    names = tuple(name for name, _ in own)
    scores = np.array([score for _, score in own], np.float32)
    objects = replace(scene.objects, verdict=names, verdict_score=scores)
    return scene.with_objects(objects)


def planned_objects(layout: Scene, scene: Scene) -> Objects:
    """Return the planned objects of a scene, in its pixels.

    Without the plan's row, the boxes that its objects were to fill.
    """
    if layout.image_id != scene.image_id:
        return replace(scene.objects, boxes=scene.objects.layout_boxes)
    return layout.objects.scaled(layout.size, scene.size)


def _objects(picture: Picture) -> Iterator[Json]:
    """Yield the shapes in full units; the planned box of an object stands with it."""
    planned = {}
    for shape in picture.shapes:
        if shape.kind == "asked":
            planned[shape.id] = _box(shape)
    for shape in picture.shapes:
        if shape.kind == "asked":
            continue
        entry: Json = {"kind": shape.kind, "c": shape.category, "box": _box(shape)}
        if shape.path:
            entry["path"] = shape.path
        if shape.score is not None:
            entry["score"] = shape.score
        verdict = shape.verdict.replace("_", " ")
        if shape.kind == "dropped":
            verdict = UNSEEN
        if verdict:
            entry["verdict"] = verdict
        if shape.kind == "thing" and shape.id in planned:
            entry["asked"] = planned[shape.id]
        yield entry


def _box(shape: Shape) -> list[int]:
    """Return a shape's box as x, y, width, height in full units."""
    x = round(shape.x)
    y = round(shape.y)
    right = round(shape.x + shape.width)
    bottom = round(shape.y + shape.height)
    return [x, y, right - x, bottom - y]


def _weight(image: Mapping[str, Any]) -> int:
    """Return the bytes an image adds to the page, about."""
    weight = len(image["src"]) + 200
    for entry in image["objects"]:
        weight += len(entry.get("path", "")) + 110
    return weight


def _estimate(tables: GalleryTables, items: Sequence[Item], resolution: Resolution) -> float:
    """Estimate the bytes of all items from some of them."""
    chosen = spread(len(items), PROBES)
    probes = [items[index] for index in chosen]
    records = [record(tables, item, resolution) for item in probes]
    weight = sum(_weight(image) for image in records)
    return weight * len(items) / len(probes)


def _data(
    tables: GalleryTables,
    items: Sequence[Item],
    images: list[Json],
    resolution: Resolution,
) -> Json:
    """Return the gallery as the page's script reads it."""
    shown = dict.fromkeys(KINDS, 0)
    for item in items:
        shown[item.kind] += 1
    return {
        "classes": [category.name for category in tables.synthetic.categories],
        "colours": COLORS,
        "shown": shown,
        "totals": {kind: tables.size(kind) for kind in KINDS},
        "side": resolution.side,
        "images": images,
    }
