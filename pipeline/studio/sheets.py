"""Sheets as rows of scenes (LostGAN-V2, Figs. 9 to 13).

Pure functions from a layout, seeds and edits.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from synthaug.pipeline.studio.edits import Edit
from synthaug.pipeline.studio.layout_files import GivenLayout

if TYPE_CHECKING:
    from synthaug.generators.lostgan.control import Controlled

COLUMNS = 6  # pictures beside each other where their order means nothing
CONTRAST = 8  # differences are shown this many times stronger


@dataclass(frozen=True)
class Cell:
    """One picture of a scene.

    Its image, the map of its masks at a stage, or how far other scenes' images are from it.
    """

    caption: str
    scene: Controlled
    stage: int | None = None  # of the masks: 0 = initial, -1 = last; None for an image
    others: tuple[Controlled, ...] = ()  # mean absolute difference to these, times CONTRAST


@dataclass(frozen=True)
class Row:
    """Pictures beside a layout.

    It is about the `marked` objects, or about all where none is marked.
    """

    caption: str
    layout: Controlled
    cells: tuple[Cell, ...]
    marked: frozenset[int] = frozenset()


@dataclass(frozen=True)
class Subject:
    """A layout with its samples and edits, which all sheets are made of."""

    layout: GivenLayout
    samples: tuple[Controlled, ...]  # the layout with one seed after the other
    edits: tuple[Edit, ...]
    stages: int  # stages of the masks, the initial one included

    @property
    def base(self) -> Controlled:
        """Return the scene that is varied."""
        return self.samples[0]

    @property
    def others(self) -> list[int]:
        """Return the seeds of all samples but the first.

        The next seed where there is no other.
        """
        seeds = [scene.seed for scene in self.samples[1:]]
        return seeds or [self.base.seed + 1]


def _cells(scenes: Sequence[Controlled]) -> tuple[Cell, ...]:
    """Return the images of scenes, captioned by their seeds."""
    return tuple(Cell(f"seed {scene.seed}", scene) for scene in scenes)


def samples(subject: Subject) -> Iterator[Row]:
    """Yield one layout with all codes drawn anew (Fig. 10)."""
    caption = "same layout, all codes drawn anew"
    for start in range(0, len(subject.samples), COLUMNS):
        scenes = subject.samples[start : start + COLUMNS]
        yield Row(caption, subject.base, _cells(scenes))
        caption = ""  # further rows go on with the first


def style(subject: Subject) -> Iterator[Row]:
    """Yield the image's style alone changed, then those of all objects alone."""
    base = subject.base
    cells = list(_cells([base]))
    for seed in subject.others:
        cells.append(Cell(f"z_img of seed {seed}", base.restyle_image(seed)))
    yield Row("only z_img changes", base, tuple(cells))
    cells = list(_cells([base]))
    for seed in subject.others:
        scene = base.restyle_background(seed)
        for thing in base.objects:
            scene = scene.restyle(thing.number, seed)
        cells.append(Cell(f"z_obj of seed {seed}", scene))
    yield Row("z_img stays, every z_obj changes", base, tuple(cells))


def object_style(subject: Subject) -> Iterator[Row]:
    """Yield the style of one object alone changed, each in turn (Fig. 11)."""
    base = subject.base
    for thing in base.objects:
        changed = tuple(base.restyle(thing.number, seed) for seed in subject.others)
        cells = list(_cells([base]))
        for seed, scene in zip(subject.others, changed, strict=True):
            cells.append(Cell(f"its seed {seed}", scene))
        cells.append(Cell(f"mean change, x {CONTRAST}", base, others=changed))
        caption = f"only z_obj of {thing.number} {thing.label} changes"
        yield Row(caption, base, tuple(cells), frozenset({thing.number}))


def layouts(subject: Subject) -> Iterator[Row]:
    """Yield the layout changed step by step; each sample keeps its codes (Fig. 9)."""
    size = subject.layout.size or (1, 1)
    scenes = list(subject.samples)
    yield Row("the layout as given", scenes[0], _cells(scenes))
    for edit in subject.edits:
        before = scenes[0]
        scenes = [edit.apply(scene, size) for scene in scenes]
        after = scenes[0]
        edited = before.born if edit.action == "add" else edit.number
        # an object that was removed cannot be marked, nor can the image
        marked = {thing.number for thing in after.objects} & {edited}
        yield Row(edit.describe(before, after), after, _cells(scenes), frozenset(marked))


def interpolate(subject: Subject) -> Iterator[Row]:
    """Yield the style of one object between two seeds, linearly (Fig. 12).

    And the masks that follow, each in turn.
    """
    base = subject.base
    end = base.seed + 1
    steps = max(2, len(subject.samples))
    for thing in base.objects:
        images = []
        mask_maps = []
        for step in range(steps):
            t = step / (steps - 1)
            scene = base.interpolate(thing.number, end, t)
            images.append(Cell(f"t = {t:.2f}", scene))
            mask_maps.append(Cell("masks", scene, -1))
        marked = frozenset({thing.number})
        caption = f"z_obj of {thing.number} {thing.label} from seed {base.seed} to seed {end}"
        yield Row(caption, base, tuple(images), marked)
        yield Row("", base, tuple(mask_maps), marked)


def masks(subject: Subject) -> Iterator[Row]:
    """Yield the owner of each pixel in the masks of every stage (Fig. 13).

    The initial ones, those after each refinement, and the image.
    """
    for scene in subject.samples:
        cells = [Cell("initial", scene, 0)]
        for stage in range(1, subject.stages):
            cells.append(Cell(f"refined {stage}", scene, stage))
        cells += _cells([scene])
        yield Row(f"masks stage by stage, seed {scene.seed}", scene, tuple(cells))


SHEETS: Mapping[str, Callable[[Subject], Iterator[Row]]] = {
    "samples": samples,
    "style": style,
    "object-style": object_style,
    "layout": layouts,
    "interpolate": interpolate,
    "masks": masks,
}
