"""What `synthaug plan` says: a table for the terminal and a page with pictures; pure functions of numbers and scenes.

Every text of a job or a data file reaches the page through the template's autoescape; nothing here makes markup.
"""

from __future__ import annotations

import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from synthaug.pipeline.core.scene import Category
from synthaug.pipeline.planning.layout_statistics import Statistics
from synthaug.pipeline.planning.placement import lift, pair_counts
from synthaug.pipeline.report.frame import render_page
from synthaug.pipeline.report.number_text import count, percent
from synthaug.pipeline.report.pictures import COLOURS, Picture

WIDTH = 120  # columns of the terminal's table
NAME = 20  # columns of a class name; longer ones are cut
ENDS = 12  # rows at either end of a table that is too long for a terminal
COMPANIONS = 3  # classes named beside one
HEAD = (
    "class",
    "labelled",
    "images",
    "target",
    "change",
    "planned",
    "missing",
    "size",
    "where",
    "with (lift)",
)


@dataclass(frozen=True)
class Row:
    """One class from its labels to the plan."""

    name: str
    isthing: bool
    colour: int
    labelled: int  # objects
    images: int  # layouts that hold it
    natural: int  # objects, were the real layouts copied as they are
    target: int
    planned: int
    missing: int  # objects until `objects_per_class`
    size: float | None  # median share of the image
    where: str
    heat: Sequence[Sequence[float]]  # [GRID, GRID] 0 to 1, rows are y
    companions: Sequence[tuple[str, float, int]]  # name, lift, shared images

    @property
    def change(self) -> str:
        """Planned objects against the natural number."""
        return f"{self.target - self.natural:+,}" if self.target != self.natural else "="


@dataclass(frozen=True)
class Pair:
    """A planned layout, boxes on an empty picture, beside the real image it comes from."""

    planned: Picture
    real: Picture
    image_id: str
    source: str
    reason: str


@dataclass(frozen=True)
class Plan:
    """All that is told: the step's manifest, the classes, the distances to natural layouts, and pictures."""

    title: str
    target: str
    placement: str
    manifest: Mapping[str, Any]
    rows: Sequence[Row]
    deviation: Mapping[str, float]
    pairs: Sequence[Pair] = ()


def class_rows(
    categories: Sequence[Category], natural: Statistics, manifest: Mapping[str, Any]
) -> list[Row]:
    """Things before stuff, the most frequent first."""
    least, rows = manifest["need"]["objects_per_class"], []
    lifts, both = lift(natural.counts), pair_counts(natural.counts)  # [C, C]
    for index, category in enumerate(categories):
        told, area = manifest["classes"][category.name], float(natural.median_area[index])
        heat = natural.positions[index] / max(1, natural.positions[index].max())
        rows.append(
            Row(
                name=category.name,
                isthing=category.isthing,
                colour=index % COLOURS,
                labelled=told["labelled"],
                images=int((natural.counts[:, index] > 0).sum()),
                natural=round(told["natural"]),
                target=round(told["target"]),
                planned=told["planned"],
                missing=max(0, least - told["labelled"]) if category.isthing else 0,
                size=None if np.isnan(area) else area,
                where=place(natural.positions[index]),
                heat=heat.round(2).tolist(),
                companions=_companions(index, categories, lifts[index], both[index]),
            )
        )
    return sorted(rows, key=lambda row: (not row.isthing, -row.labelled))


def _companions(
    index: int,
    categories: Sequence[Category],
    lifts: NDArray[np.float64],
    both: NDArray[np.float64],
) -> list[tuple[str, float, int]]:
    """The classes that share images with one more often than by chance, the strongest first."""
    order = np.argsort(-lifts, kind="stable").tolist()
    found = [c for c in order if c != index and both[c] and lifts[c] > 1]
    return [(categories[c].name, float(lifts[c]), int(both[c])) for c in found[:COMPANIONS]]


def place(positions: NDArray[np.int64]) -> str:
    """Say in a word or two where box centres [GRID, GRID] lie: 'bottom', 'top left', 'centre', or 'anywhere'.

    A side is named when two thirds of the centres are in the three eighths of the image next to it (what spans the image has
    its centre on the middle line, on neither side), the centre when they are in the middle quarter.
    """
    total, side = positions.sum(), len(positions) // 2
    if not total:
        return "–"
    quarter = side // 2
    if positions[quarter:-quarter, quarter:-quarter].sum() * 3 >= total * 2:
        return "centre"
    halves = {
        "top": positions[: side - 1],
        "bottom": positions[side + 1 :],
        "left": positions[:, : side - 1],
        "right": positions[:, side + 1 :],
    }
    return (
        " ".join(name for name, half in halves.items() if half.sum() * 3 >= total * 2) or "anywhere"
    )


def cut(text: str, most: int) -> str:
    """Shorten a text to columns of a terminal; what would move its cursor becomes a question mark."""
    plain = "".join(c if c.isprintable() else "?" for c in text)
    return plain if len(plain) <= most else f"{plain[: most - 1]}…"


def lines(plan: Plan) -> list[str]:
    """The table for a terminal, at most WIDTH columns, and what is to be said below it."""
    table = [HEAD, *(_cells(row) for row in plan.rows)]
    widths = [max(len(cells[i]) for cells in table) for i in range(len(HEAD) - 1)]
    body = [_aligned(cells, widths) for cells in table]
    if len(plan.rows) > 2 * ENDS:
        hidden = len(plan.rows) - 2 * ENDS
        body = [*body[: ENDS + 1], f"... {hidden} more classes are on the page ...", *body[-ENDS:]]
    wrapped = [
        line
        for said in sentences(plan)
        for line in textwrap.wrap(said, WIDTH, subsequent_indent="  ")
    ]
    return [*body, "", *wrapped]


def _cells(row: Row) -> tuple[str, ...]:
    numbers = (row.labelled, row.images, row.target)
    companions = ", ".join(f"{cut(name, NAME)} {lift:.1f}" for name, lift, _ in row.companions)
    return (
        cut(row.name, NAME),
        *map(count, numbers),
        row.change,
        *map(count, (row.planned, row.missing)),
        percent(row.size),
        row.where,
        companions or "–",
    )


def _aligned(cells: Sequence[str], widths: Sequence[int]) -> str:
    """Names and words to the left, numbers to the right; the last column takes what is left of the line."""
    words = (0, len(HEAD) - 2)
    parts = [
        c.ljust(w) if i in words else c.rjust(w)
        for i, (c, w) in enumerate(zip(cells, widths, strict=False))
    ]
    start = "  ".join(parts)
    return f"{start}  {cut(cells[-1], max(1, WIDTH - len(start) - 2))}".rstrip()


def sentences(plan: Plan) -> list[str]:
    """What the plan costs, what is missing, and how natural it is."""
    things = [row for row in plan.rows if row.isthing]
    need, d = plan.manifest["need"], plan.deviation
    total = sum(row.natural for row in plan.rows)
    moved = sum(max(0, row.natural - row.target) for row in plan.rows)
    added = sum(max(0, row.target - row.natural) for row in plan.rows)
    stay = f"all {count(total)} objects stay, {count(moved)} of them above the target"
    gone = (
        stay
        if plan.manifest.get("adds_only")
        else f"of {count(total)} objects {count(moved)} are given up"
    )
    said = [
        f"{count(plan.manifest['images'])} images from {count(plan.manifest['sources'])} real layouts, target "
        f"'{plan.target}': {gone}, {count(added)} are added"
    ]
    if need["objects"]:
        said.append(
            f"to {count(need['objects_per_class'])} objects in every thing class {count(need['objects'])} are missing: "
            f"{count(need['exchanged'])} images with exchanged objects (plan.target=deficit plan.count=0), "
            f"{count(need['natural'])} with natural layouts"
        )
    else:
        said.append(
            f"every thing class that can be planned has {count(need['objects_per_class'])} objects or more"
        )
    never = [row.name for row in things if not row.images]
    if never:
        names = ", ".join(cut(name, NAME) for name in never[:5]) + (
            " ..." if len(never) > 5 else ""
        )
        said.append(
            f"{count(len(never))} thing classes are in no layout and cannot be planned: {names}"
        )
    if plan.manifest["short"]:
        said.append(
            f"{count(plan.manifest['short'])} objects of the target have no place; raise plan.count"
        )
    said.append(
        f"distance to natural layouts in bits (0 to 1), placement '{plan.placement}': class pairs {d['pairs']:.4f} "
        f"({d['pairs_given_frequency']:.4f} to natural pairs at the new frequencies), objects per image "
        f"{d['objects_per_image']:.4f}, sizes {d['sizes']:.4f}, positions {d['positions']:.4f}"
    )
    return said


def render(plan: Plan) -> bytes:
    """Return the page, UTF-8."""
    return render_page("plan_page.html.j2", plan=plan, sentences=sentences(plan))
