"""A studio without a network: what tests of sessions, of the server and of the page share."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from synthaug.pipeline.core.scene import Category, Dataset, SceneList
from synthaug.pipeline.core.storage import Folder
from synthaug.pipeline.formats.toy import dataset as toy
from synthaug.pipeline.studio.painters.base import Abilities, Painted, labels_of
from synthaug.pipeline.studio.real_photos import Outlines, RealPhotos, Split
from synthaug.pipeline.studio.session import Judge, Session, Workshop
from synthaug.pipeline.studio.sketch import Sketch

LAYOUT = Abilities("layout", object_styles=True, image_style=True, interpolates=True, erases=False)
HOSTILE = "<img src=x onerror=alert(1)>"


class FlatPainter:
    """Fills each box with a color of its style, on a ground of the image's style."""

    def __init__(self, categories: Sequence[Category], abilities: Abilities = LAYOUT) -> None:
        self.abilities = abilities
        self.painted = 0  # sketches
        self.drafts = 0
        self._known = labels_of(categories)

    def check(self, sketch: Sketch) -> None:
        for item in sketch.items:
            if item.label not in self._known:
                raise ValueError(f"no class '{item.label}'")

    def paint(self, sketches: Sequence[Sketch], draft: bool = False) -> list[Painted]:
        self.painted += len(sketches)
        self.drafts += draft * len(sketches)
        return [self._paint(sketch) for sketch in sketches]

    def _paint(self, sketch: Sketch) -> Painted:
        image = np.full((*sketch.size, 3), _color(sketch.style), np.uint8)
        masks = np.zeros((len(sketch.items), *sketch.size), bool)
        for place, item in enumerate(sketch.items):
            x0, y0, x1, y1 = (round(value) for value in item.box)
            masks[:place, y0:y1, x0:x1] = False
            masks[place, y0:y1, x0:x1] = True
            image[y0:y1, x0:x1] = _color(item.style, item.number + 1)
        return Painted(image, masks)


def _color(style: Sequence[tuple[int, float]], number: int = 0) -> list[int]:
    total = 40 * number + sum((seed % 251) * weight for seed, weight in style)
    return [int(total) % 256, int(total * 3) % 256, int(total * 7) % 256]


def toy_table(split: str = "val", count: int = 4) -> SceneList:
    """Return toy images; their first class has a name full of markup."""
    table = toy.read(toy.Config(split, count=count), Path())
    first, *others = table.categories
    categories = (replace(first, name=HOSTILE), *others)
    return SceneList(categories, [table[index] for index in range(len(table))])


def photos_of(table: Dataset) -> RealPhotos:
    return RealPhotos({"validation": Split(table, table)})


def session_in(
    folder: Path, painter: FlatPainter | None = None, judge: Judge | None = None
) -> Session:
    """Return a session on four toy images that saves into a folder."""
    table = toy_table()
    return Session(
        Workshop(
            run="a run",
            system="flat",
            categories=table.categories,
            painter=painter or FlatPainter(table.categories),
            photos=photos_of(table),
            outlines=Outlines(table),
            folder=Folder.at(folder),
            seed=7,
            judge=judge,
            no_judge="nothing judges here",
        )
    )
