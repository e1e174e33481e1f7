"""The gallery's data: many images, small, with their objects as outlines and boxes, as plain content for JSON.

Images are chosen by their place in the tables, never by how they look. How many pixels of each are kept follows from how many
bytes the page may have: the best grain that fits, tried on a few images first.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from synthaug.pipeline.core.images import decode
from synthaug.pipeline.core.scene import Dataset, Objects, Scene
from synthaug.pipeline.report import pictures as report_pictures
from synthaug.pipeline.report.pictures import Grain, Picture, Shape

VIEW = 384  # units of an image's longer side in which outlines and boxes are given
GRAINS = tuple(
    Grain(*pair) for pair in ((320, 82), (256, 80), (192, 78), (160, 75), (128, 72), (96, 70))
)  # best first
BUDGET = 25_000_000  # bytes of the gallery
PROBES = 16  # images a grain is tried on
PSEUDO_SHARE = 4  # one pseudo-labelled image for so many synthetic ones
UNSEEN = "no visible mask"  # what is said of a planned object that synthesis dropped
KINDS = ("synthetic", "real", "pseudo")

Verdicts = Mapping[int, tuple[str | None, float]]  # object id -> verdict and score


@dataclass(frozen=True)
class Tables:
    """Where the images are; `plan` has a row for every row of `made`."""

    made: Dataset
    plan: Dataset
    real: Dataset
    pseudo: Dataset | None = None
    verdicts: Verdicts = field(default_factory=dict)

    def of(self, kind: str) -> Dataset:
        """The table of a kind of image."""
        found = {"synthetic": self.made, "real": self.real, "pseudo": self.pseudo}[kind]
        assert found is not None
        return found


@dataclass(frozen=True)
class Item:
    """One image of the gallery: its table and its place there."""

    kind: str
    place: int


def spread(total: int, most: int) -> list[int]:
    """Return at most `most` places of a table of `total` rows, evenly spaced."""
    number = min(total, most)
    return [k * total // number for k in range(number)]


def find(table: Dataset, image_ids: set[str]) -> dict[str, int]:
    """Where in a table the scenes of these ids are."""
    found: dict[str, int] = {}
    for index in range(len(table)):
        if len(found) == len(image_ids):
            break
        name = table[index].image_id
        if name in image_ids:
            found[name] = index
    return found


def choose(tables: Tables, bare: Dataset, samples: int) -> list[Item]:
    """Synthetic images, the real ones their layouts came from (`bare`: their table without pixels), pseudo-labelled ones."""
    made = spread(len(tables.made), samples)
    origins = [tables.plan[place].provenance for place in made]
    sources = find(bare, {origin.source_image for origin in origins if origin})
    pseudo = (
        spread(len(tables.pseudo), max(1, samples // PSEUDO_SHARE))
        if tables.pseudo and made
        else []
    )
    places = {"synthetic": made, "real": sorted(sources.values()), "pseudo": pseudo}
    return [Item(kind, place) for kind in KINDS for place in places[kind]]


def content(
    tables: Tables, bare: Dataset, samples: int, budget: int | None = None
) -> dict[str, Any]:
    """Return the gallery's data, of at most `budget` (BUDGET) bytes of JSON, about; empty without synthetic images.

    Where even the coarsest grain is too much, fewer images are shown, still evenly spaced; the numbers are in the data.
    """
    items, budget = choose(tables, bare, samples), BUDGET if budget is None else budget
    while items:
        for grain in GRAINS:
            if grain != GRAINS[-1] and _estimate(tables, items, grain) > budget:
                continue
            images = [record(tables, item, grain) for item in items]
            weight = sum(map(_weight, images))
            if weight <= budget:
                return _whole(tables, items, images, grain)
        samples = min(samples - 1, int(samples * budget / weight))
        items = choose(tables, bare, samples) if samples > 0 else []
    return {}


def record(tables: Tables, item: Item, grain: Grain) -> dict[str, Any]:
    """Draw one image: its pixels as a data URI, its objects as numbers."""
    table = tables.of(item.kind)
    scene, planned = table[item.place], None
    if item.kind == "synthetic":
        scene, planned = (
            judged(scene, tables.verdicts),
            planned_objects(tables.plan[item.place], scene),
        )
    picture = report_pictures.whole(scene, decode(scene), table.categories, VIEW, planned, grain)
    origin = scene.provenance
    return {
        "id": scene.image_id,
        "kind": item.kind,
        "place": item.place,
        "src": picture.src,
        "w": picture.width,
        "h": picture.height,
        "size": f"{scene.width} × {scene.height}",
        "why": origin.reason if origin else "",
        "from": origin.source_image if origin else "",
        "objects": list(_objects(picture)),
    }


def judged(scene: Scene, verdicts: Verdicts) -> Scene:
    """The scene with what verification said of its objects."""
    if not verdicts:
        return scene
    told = [verdicts.get(int(number), (None, float("nan"))) for number in scene.objects.id.tolist()]
    names, scores = (
        tuple(name for name, _ in told),
        np.array([score for _, score in told], np.float32),
    )
    return scene.with_objects(replace(scene.objects, verdict=names, verdict_score=scores))


def planned_objects(layout: Scene, scene: Scene) -> Objects:
    """The planned objects of a scene, in its pixels; without the plan's row, the boxes its objects were to fill."""
    if layout.image_id != scene.image_id:
        return replace(scene.objects, boxes=scene.objects.layout_boxes)
    scale = np.array([scene.width / layout.width, scene.height / layout.height] * 2, np.float32)
    return replace(layout.objects, boxes=layout.objects.boxes * scale)


def _objects(picture: Picture) -> Iterator[dict[str, Any]]:
    """What is drawn, in whole units; the planned box of an object is told with it."""
    asked = {shape.id: _box(shape) for shape in picture.shapes if shape.kind == "asked"}
    for shape in picture.shapes:
        if shape.kind == "asked":
            continue
        told = {"kind": shape.kind, "c": shape.category, "box": _box(shape)}
        planned = asked.get(shape.id) if shape.kind == "thing" else None
        optional = {
            "path": shape.path,
            "score": shape.score,
            "verdict": _verdict(shape),
            "asked": planned,
        }
        yield {**told, **{key: value for key, value in optional.items() if value not in ("", None)}}


def _box(shape: Shape) -> list[int]:
    x, y = round(shape.x), round(shape.y)
    return [x, y, round(shape.x + shape.width) - x, round(shape.y + shape.height) - y]


def _verdict(shape: Shape) -> str:
    return UNSEEN if shape.kind == "dropped" else shape.verdict.replace("_", " ")


def _weight(image: Mapping[str, Any]) -> int:
    """Bytes an image adds to the page, about."""
    return (
        len(image["src"])
        + 200
        + sum(len(found.get("path", "")) + 110 for found in image["objects"])
    )


def _estimate(tables: Tables, items: Sequence[Item], grain: Grain) -> float:
    tried = [items[place] for place in spread(len(items), PROBES)]
    return sum(_weight(record(tables, item, grain)) for item in tried) * len(items) / len(tried)


def _whole(
    tables: Tables, items: Sequence[Item], images: list[dict[str, Any]], grain: Grain
) -> dict[str, Any]:
    totals = {
        kind: 0 if kind == "pseudo" and tables.pseudo is None else len(tables.of(kind))
        for kind in KINDS
    }
    shown = {kind: sum(1 for item in items if item.kind == kind) for kind in KINDS}
    return {
        "classes": [category.name for category in tables.made.categories],
        "colours": report_pictures.COLOURS,
        "shown": shown,
        "totals": totals,
        "side": grain.side,
        "images": images,
    }
