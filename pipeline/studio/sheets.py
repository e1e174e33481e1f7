"""Which scenes make a sheet: pure functions from a layout, seeds and edits to rows of scenes (LostGAN-V2, Figs. 9 to 13)."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from synthaug.pipeline.formats.validation import RecordError, is_int
from synthaug.pipeline.planning.exchange import overlap
from synthaug.pipeline.studio.layout_files import Box, GivenLayout, box_of, mapping, only, text

if TYPE_CHECKING:
    from synthaug.generators.lostgan.control import Controlled

COLUMNS = 6  # pictures beside each other where their order means nothing
SMALL = 0.25  # share of the image below which an object is one to move about
CONTRAST = 8  # differences are shown this many times stronger
REACH = 0.35  # share of the image a box is moved by, where there is room


@dataclass(frozen=True)
class Cell:
    """One picture: a scene's image, the map of its masks at a stage, or how far other scenes' images are from it."""

    caption: str
    scene: Controlled
    stage: int | None = None  # of the masks: 0 = initial, -1 = last; None for an image
    others: tuple[Controlled, ...] = ()  # mean absolute difference to these, times CONTRAST


@dataclass(frozen=True)
class Row:
    """Pictures beside a layout; `marked` objects are the ones it is about, none for all."""

    caption: str
    layout: Controlled
    cells: tuple[Cell, ...]
    marked: frozenset[int] = frozenset()


@dataclass(frozen=True)
class Edit:
    """One change of a layout; the box is in the layout's units."""

    action: str  # one of ACTIONS
    number: int = -1
    name: str = ""
    box: Box = (0, 0, 0, 0)
    seed: int = -1

    def apply(self, scene: Controlled, size: tuple[int, int]) -> Controlled:
        """Return the changed scene; boxes are divided by the size (H, W). ValueError for what cannot be."""
        height, width = size
        x0, y0, x1, y1 = self.box
        box = (x0 / width, y0 / height, x1 / width, y1 / height)
        made: dict[str, Callable[[], Controlled]] = {
            "move": lambda: scene.move(self.number, box),
            "relabel": lambda: scene.relabel(self.number, self.name),
            "add": lambda: scene.add(self.name, box),
            "remove": lambda: scene.remove(self.number),
            "restyle": lambda: scene.restyle(self.number, self.seed),
            "restyle_image": lambda: scene.restyle_image(self.seed),
        }
        return made[self.action]()

    def say(self, before: Controlled, after: Controlled) -> str:
        """Describe the change in words."""
        what = f"{self.number} {before[self.number].label}" if self.number >= 0 else ""
        moved = "move"
        if self.action == "move":
            old, new = before[self.number].box, after[self.number].box
            extents = [(b[2] - b[0], b[3] - b[1]) for b in (old, new)]
            moved = (
                "move"
                if all(abs(a - b) < 0.01 for a, b in zip(*extents, strict=True))
                else "resize"
            )
        return {
            "move": f"{moved} {what}",
            "relabel": f"{what} becomes {self.name}",
            "add": f"add {before.born} {self.name}",
            "remove": f"remove {what}",
            "restyle": f"new z_obj for {what} (seed {self.seed})",
            "restyle_image": f"new z_img (seed {self.seed})",
        }[self.action]

    def record(self) -> dict[str, Any]:
        """The edit as it is written in a file of edits."""
        values = {
            "object": self.number,
            "class": self.name,
            "box": list(self.box),
            "seed": self.seed,
        }
        return {"edit": self.action} | {key: values[key] for key in ACTIONS[self.action]}


ACTIONS = {  # what each edit needs
    "move": ("object", "box"),
    "relabel": ("object", "class"),
    "add": ("class", "box"),
    "remove": ("object",),
    "restyle": ("object", "seed"),
    "restyle_image": ("seed",),
}


def read_edits(listed: Any) -> tuple[Edit, ...]:
    """Edits from JSON, a list of {"edit": "move", "object": 0, "box": [...]}; RecordError says what is wrong."""
    if not isinstance(listed, list) or not listed:
        raise RecordError("bad value", "edits must be a list of at least one edit")
    return tuple(_edit(record, f"edit {place}") for place, record in enumerate(listed))


def _edit(value: Any, where: str) -> Edit:
    record = mapping(value, where)
    action = text(record, "edit", where)
    if action not in ACTIONS:
        raise RecordError("bad value", f"{where}: '{action}' is none of {', '.join(ACTIONS)}")
    only(record, ("edit", *ACTIONS[action]), where)
    needs = ACTIONS[action]

    def whole(key: str) -> int:
        if key not in needs:
            return -1
        found = record.get(key)
        if not is_int(found) or found is None or found < 0:
            raise RecordError(
                "bad value", f"{where}: '{key}' must be a whole number from 0, not {found!r}"
            )
        return int(found)

    name = text(record, "class", where) if "class" in needs else ""
    box = box_of(record, where) if "box" in needs else Edit.box
    return Edit(action, whole("object"), name, box, whole("seed"))


def usual_edits(layout: GivenLayout, classes: Sequence[str]) -> tuple[Edit, ...]:
    """Move an object in two steps, put one like it in its old place, shrink it, change its class, remove another (Fig. 9).

    The object is the largest of the small ones. The same layout always gives the same edits.
    """
    focus = _focus(layout)
    own = layout.names[focus]
    x0, y0, x1, y1 = old = layout.boxes[focus]
    dx, dy = _way(layout, focus)
    shift = (
        (x0 + dx / 2, y0 + dy / 2, x1 + dx / 2, y1 + dy / 2),
        (x0 + dx, y0 + dy, x1 + dx, y1 + dy),
    )
    half, whole = (_rounded(box, layout.size is not None) for box in shift)
    wide, high = whole[2] - whole[0], whole[3] - whole[1]
    small = (whole[0] + 0.2 * wide, whole[1] + 0.4 * high, whole[2] - 0.2 * wide, whole[3])
    moves = [
        Edit("move", focus, box=half),
        Edit("move", focus, box=whole),
        Edit("add", name=own, box=old),
    ]
    last = [i for i in reversed(_small(layout)) if i != focus]
    return (
        *(moves if dx or dy else ()),
        Edit("move", focus, box=_rounded(small, layout.size is not None)),
        Edit("relabel", focus, name=_other(layout, own, classes)),
        Edit("remove", (last or [focus])[0]),
    )


def _share(layout: GivenLayout, place: int) -> float:
    height, width = layout.size or (1, 1)
    x0, y0, x1, y1 = layout.boxes[place]
    return (x1 - x0) * (y1 - y0) / (width * height)


def _small(layout: GivenLayout) -> list[int]:
    """Places of the small things; where nobody says what is a thing, of all small objects."""
    things = [
        i for i, name in enumerate(layout.names) if layout.things is None or name in layout.things
    ]
    return [i for i in things if _share(layout, i) < SMALL]


def _focus(layout: GivenLayout) -> int:
    """The largest small thing, else the smallest object."""
    small = _small(layout)
    if small:
        return max(small, key=lambda i: _share(layout, i))
    return min(range(len(layout.names)), key=lambda i: _share(layout, i))


def _other(layout: GivenLayout, own: str, classes: Sequence[str]) -> str:
    """The class after `own` among the generator's things; itself where there is no other."""
    known = [c for c in classes if layout.things is None or c in layout.things or c == own]
    return known[(known.index(own) + 1) % len(known)]


def _way(layout: GivenLayout, focus: int) -> tuple[float, float]:
    """How far to move a box: sideways if there is room, where it covers least of the other small things."""
    height, width = layout.size or (1, 1)
    x0, y0, x1, y1 = layout.boxes[focus]
    right, left = min(width - x1, REACH * width), -min(x0, REACH * width)
    down, up = min(height - y1, REACH * height), -min(y0, REACH * height)
    sideways = [(dx, 0.0) for dx in (right, left) if abs(dx) >= 0.1 * width]
    others = np.array([layout.boxes[i] for i in _small(layout) if i != focus], np.float32).reshape(
        -1, 4
    )

    def crowding(way: tuple[float, float]) -> tuple[float, float]:
        box = np.array((x0 + way[0], y0 + way[1], x1 + way[0], y1 + way[1]), np.float32)
        return round(float(overlap(box, others).sum()), 3), -abs(way[0]) - abs(way[1])

    return min(sideways or [(0.0, down), (0.0, up)], key=crowding)


def _rounded(box: Sequence[float], pixels: bool) -> Box:
    """Coordinates short enough to be written and read without change."""
    x0, y0, x1, y1 = (round(v, 3 if pixels else 6) for v in box)
    return x0, y0, x1, y1


@dataclass(frozen=True)
class Subject:
    """What all sheets are made of."""

    layout: GivenLayout
    samples: tuple[Controlled, ...]  # the layout with one seed after the other
    edits: tuple[Edit, ...]
    stages: int  # mask stacks there are

    @property
    def base(self) -> Controlled:
        """The scene that is varied."""
        return self.samples[0]

    @property
    def others(self) -> list[int]:
        """The seeds of all samples but the first; the next one where there is no other."""
        return [scene.seed for scene in self.samples[1:]] or [self.base.seed + 1]


def samples(subject: Subject) -> Iterator[Row]:
    """One layout, all codes drawn anew (Fig. 10)."""
    cells = [Cell(f"seed {scene.seed}", scene) for scene in subject.samples]
    for start in range(0, len(cells), COLUMNS):
        caption = "same layout, all codes drawn anew" if not start else ""
        yield Row(caption, subject.base, tuple(cells[start : start + COLUMNS]))


def style(subject: Subject) -> Iterator[Row]:
    """The image's style alone, then those of all objects alone."""
    base, first = subject.base, Cell(f"seed {subject.base.seed}", subject.base)
    changed = [Cell(f"z_img of seed {seed}", base.restyle_image(seed)) for seed in subject.others]
    yield Row("only z_img changes", base, (first, *changed))
    changed = []
    for seed in subject.others:
        scene = base.restyle_background(seed)
        for thing in base.objects:
            scene = scene.restyle(thing.number, seed)
        changed.append(Cell(f"z_obj of seed {seed}", scene))
    yield Row("z_img stays, every z_obj changes", base, (first, *changed))


def object_style(subject: Subject) -> Iterator[Row]:
    """The style of one object alone, each in turn (Fig. 11)."""
    base = subject.base
    for thing in base.objects:
        cells = [Cell(f"seed {base.seed}", base)]
        changed = [base.restyle(thing.number, seed) for seed in subject.others]
        cells += [
            Cell(f"its seed {seed}", scene)
            for seed, scene in zip(subject.others, changed, strict=True)
        ]
        cells.append(Cell(f"mean change, x {CONTRAST}", base, others=tuple(changed)))
        yield Row(
            f"only z_obj of {thing.number} {thing.label} changes",
            base,
            tuple(cells),
            frozenset({thing.number}),
        )


def layouts(subject: Subject) -> Iterator[Row]:
    """The layout changes step by step, each sample keeps its codes (Fig. 9)."""
    size, scenes = subject.layout.size or (1, 1), list(subject.samples)
    yield Row("the layout as given", scenes[0], tuple(Cell(f"seed {s.seed}", s) for s in scenes))
    for edit in subject.edits:
        before = scenes[0]
        scenes = [edit.apply(scene, size) for scene in scenes]
        caption = edit.say(before, scenes[0])
        marked = frozenset({before.born if edit.action == "add" else edit.number} - {-1})
        # what was removed cannot be marked
        there = marked & {thing.number for thing in scenes[0].objects}
        yield Row(caption, scenes[0], tuple(Cell(f"seed {s.seed}", s) for s in scenes), there)


def interpolate(subject: Subject) -> Iterator[Row]:
    """The style of one object between two seeds, linearly, and the masks that come of it; each in turn (Fig. 12)."""
    base, end, steps = subject.base, subject.base.seed + 1, max(2, len(subject.samples))
    for thing in base.objects:
        shares = [step / (steps - 1) for step in range(steps)]
        scenes = [base.interpolate(thing.number, end, share) for share in shares]
        pictures = tuple(
            Cell(f"t = {share:.2f}", scene) for share, scene in zip(shares, scenes, strict=True)
        )
        caption = f"z_obj of {thing.number} {thing.label} from seed {base.seed} to seed {end}"
        yield Row(caption, base, pictures, frozenset({thing.number}))
        yield Row(
            "", base, tuple(Cell("masks", scene, -1) for scene in scenes), frozenset({thing.number})
        )


def masks(subject: Subject) -> Iterator[Row]:
    """Which object owns each pixel in the initial masks and after each refinement, and the image (Fig. 13)."""
    for scene in subject.samples:
        stages = [Cell(f"refined {i}" if i else "initial", scene, i) for i in range(subject.stages)]
        cells = (*stages, Cell(f"seed {scene.seed}", scene))
        yield Row(f"masks stage by stage, seed {scene.seed}", scene, cells)


SHEETS: Mapping[str, Callable[[Subject], Iterator[Row]]] = {
    "samples": samples,
    "style": style,
    "object-style": object_style,
    "layout": layouts,
    "interpolate": interpolate,
    "masks": masks,
}
