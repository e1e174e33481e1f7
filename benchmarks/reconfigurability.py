"""Does a change of one object stay where it was made? (LostGAN-V2, section 2.1.

Layout and object style reconfiguration)

    python benchmarks/reconfigurability.py RUN [LAYOUTS]

RUN is the output folder of a finished run with a LostGAN. Each of its first LAYOUTS (64) validation
layouts is painted once; then, one object at a time, its box is moved, or its z_obj drawn again, and
everything else kept. Prints what share of all absolute pixel change lies inside the affected boxes
(old and new), beside the share of the image these boxes cover, which is what a change spread evenly
would give; the share inside the boxes widened by MARGIN; and how strong the change is inside and
outside, in grey levels. As a control z_img is drawn again, which should change all places alike.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from synthaug.generators.lostgan.control import Controlled, Studio
from synthaug.pipeline.core.scene import Scene
from synthaug.pipeline.core.seeding import seed_for
from synthaug.pipeline.formats.parquet import read as parquet

SMALL = 0.1  # share of the image below which boxes are also counted apart
STEP = 0.25  # how far a box is moved, share of the image
MARGIN = 1 / 16  # of the image's side
Boxes = list[NDArray[np.float32]]


@dataclass(frozen=True)
class Change:
    kind: str
    inside: float  # share of the total absolute change inside the boxes
    area: float  # share of the image inside the boxes
    near: float  # share of the change inside the widened boxes
    level: float  # mean absolute change per pixel and channel inside, grey levels
    around: float  # outside


def moved(box: NDArray[np.float32]) -> NDArray[np.float32] | None:
    """The box moved by STEP to the side with more room, at least half of it.

    None where there is no room.
    """
    for axis in (0, 1):
        low, high = float(box[axis]), float(1 - box[axis + 2])
        step = min(STEP, max(low, high)) * (1 if high >= low else -1)
        if abs(step) >= STEP / 2:
            shift = np.zeros(4, np.float32)
            shift[[axis, axis + 2]] = step
            return np.clip(box + shift, 0, 1)
    return None


def inside(boxes: Boxes, side: int, margin: float = 0.0) -> NDArray[np.bool_]:
    """Return the pixels [side, side] touched by any of the boxes, widened by a margin."""
    touched = np.zeros((side, side), bool)
    relative = np.array(boxes, np.float32).reshape(-1, 4)
    wider = relative + np.array([-margin, -margin, margin, margin])
    corners = wider.clip(0, 1) * side
    lows = np.floor(corners[:, :2]).astype(int)
    highs = np.ceil(corners[:, 2:]).astype(int)
    for (left, top), (right, bottom) in zip(lows, highs, strict=True):
        touched[top:bottom, left:right] = True
    return touched


def measure(kind: str, pair: NDArray[np.uint8], boxes: Boxes) -> Change | None:
    """Compare two images [2, R, R, 3].

    None where nothing changed at all, or where the boxes leave no outside.
    """
    before, after = pair.astype(np.int16)
    apart = np.abs(after - before).mean(2)
    where, near = inside(boxes, len(apart)), inside(boxes, len(apart), MARGIN)
    if not apart.any() or where.all():
        return None
    return Change(
        kind,
        inside=float(apart[where].sum() / apart.sum()),
        area=float(where.mean()),
        near=float(apart[near].sum() / apart.sum()),
        level=float(apart[where].mean()),
        around=float(apart[~where].mean()),
    )


def edits(
    base: Controlled, things: frozenset[str], seed: int
) -> list[tuple[str, Controlled, Boxes]]:
    """What is changed, the changed scene and the boxes it should be seen in."""
    made: list[tuple[str, Controlled, Boxes]] = []
    other = base.restyle_image(seed)
    for thing in base.objects:
        box = np.array(thing.box, np.float32)
        restyled = base.restyle(thing.number, seed)
        if thing.label not in things:
            made.append(("redraw z_obj of stuff", restyled, [box]))
            continue
        made.append(("redraw z_obj of a thing", restyled, [box]))
        made.append(("redraw z_img, seen in boxes of things (control)", other, [box]))
        if (new := moved(box)) is not None:
            made.append(("move a thing", base.move(thing.number, new.tolist()), [box, new]))
    return made


def layout_of(scene: Scene, names: list[str]) -> list[tuple[str, list[float]]]:
    objects = scene.objects.without_crowds()
    sides = np.array([scene.width, scene.height] * 2, np.float32)
    shares = (objects.boxes / sides).clip(0, 1)
    classes = [names[index] for index in objects.category.tolist()]
    return list(zip(classes, shares.tolist(), strict=True))


def main() -> None:
    run, count = Path(sys.argv[1]), int(sys.argv[2]) if len(sys.argv) > 2 else 64
    torch.set_num_threads(1)
    studio = Studio.open(run / "checkpoints" / "generator.safetensors")
    ingest = max(
        (p.parent for p in run.glob("steps/ingest-*/manifest.json")),
        key=lambda p: p.stat().st_mtime,
    )
    table = parquet.open_table(ingest / "validation")
    names = [c.name for c in table.categories]
    things = frozenset(c.name for c in table.categories if c.isthing)
    changes: list[Change | None] = []
    for index in range(min(count, len(table))):
        base = studio.scene(layout_of(table[index], names), seed_for("reconfigurability", index))
        made = edits(base, things, seed_for("reconfigurability", "other", index))
        scenes = list(dict.fromkeys([base, *(scene for _, scene, _ in made)]))
        images = studio.render(scenes).images
        changes += [
            measure(kind, images[[0, scenes.index(scene)]], boxes) for kind, scene, boxes in made
        ]
    kept = [change for change in changes if change is not None]
    print(
        f"{min(count, len(table))} validation layouts, {studio.resolution} pixels, {len(changes)} "
        "changes"
    )
    print(
        f"left out: {len(changes) - len(kept)} without any effect or whose boxes leave no outside\n"
    )
    show(kept)


def show(changes: list[Change]) -> None:
    print(
        "| change | boxes | cases | change inside | chance (area) | ratio | with margin | level "
        "inside | outside |"
    )
    print("|---|---|---|---|---|---|---|---|---|")
    for kind in sorted({c.kind for c in changes}):
        for name, few in (("all", 1.0), (f"under {SMALL:.0%}", SMALL)):
            some = [c for c in changes if c.kind == kind and c.area < few]
            if not some:
                continue
            share, area, near = (
                float(np.mean([getattr(c, key) for c in some]))
                for key in ("inside", "area", "near")
            )
            level, around = (
                float(np.mean([getattr(c, key) for c in some])) for key in ("level", "around")
            )
            shares = f"{share:.2f} | {area:.2f} | {share / area:.1f} | {near:.2f}"
            print(f"| {kind} | {name} | {len(some)} | {shares} | {level:.1f} | {around:.2f} |")


if __name__ == "__main__":
    main()
