"""The output of `synthaug plan`: a table for the terminal, a page with pictures.

Pure functions of numbers and scenes. Every text of a job or a data file reaches the page through
the template's autoescape; nothing here makes markup.
"""

from __future__ import annotations

import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from synthaug.pipeline.core.arrays import Floats, Ints
from synthaug.pipeline.core.scene import Category
from synthaug.pipeline.planning.layout_statistics import Statistics
from synthaug.pipeline.planning.placement import lift, pair_counts
from synthaug.pipeline.report.frame import render_page
from synthaug.pipeline.report.number_text import count, percent
from synthaug.pipeline.report.pictures import COLORS, Picture

WIDTH = 120  # columns of the terminal's table
NAME_WIDTH = 20  # columns of a class name; longer ones are cut
ENDS = 12  # rows at either end of a table that is too long for a terminal
COMPANIONS = 3  # classes named beside one
NAMES_SHOWN = 5  # of classes that cannot be planned
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
WORD_COLUMNS = (0, len(HEAD) - 2)  # to the left; numbers stand to the right


@dataclass(frozen=True)
class ClassPlan:
    """One class from its labels to the plan."""

    name: str
    isthing: bool
    color: int
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
        if self.target == self.natural:
            return "="
        return f"{self.target - self.natural:+,}"


@dataclass(frozen=True)
class LayoutPair:
    """A planned layout beside the real image it comes from.

    Its boxes are drawn on an empty picture.
    """

    planned: Picture
    real: Picture
    image_id: str
    source: str
    reason: str


@dataclass(frozen=True)
class PlanPage:
    """The content of the page.

    The step's manifest, the classes, the distances to natural layouts, and pictures.
    """

    title: str
    target: str
    placement: str
    manifest: Mapping[str, Any]
    rows: Sequence[ClassPlan]
    deviation: Mapping[str, float]
    pairs: Sequence[LayoutPair] = ()


def class_rows(
    categories: Sequence[Category], natural: Statistics, manifest: Mapping[str, Any]
) -> list[ClassPlan]:
    """Return the classes, things before stuff, the most frequent first."""
    objects_per_class = manifest["need"]["objects_per_class"]
    lifts = lift(natural.counts)  # [C, C]
    shared = pair_counts(natural.counts)  # [C, C]
    rows = []
    for index, category in enumerate(categories):
        counts = manifest["classes"][category.name]
        labelled = counts["labelled"]
        missing = 0
        if category.isthing:
            missing = max(0, objects_per_class - labelled)
        area = float(natural.median_area[index])
        positions = natural.positions[index]
        heat = positions / max(1, positions.max())
        size = None
        if not np.isnan(area):
            size = area
        rows.append(
            ClassPlan(
                name=category.name,
                isthing=category.isthing,
                color=index % COLORS,
                labelled=labelled,
                images=int((natural.counts[:, index] > 0).sum()),
                natural=round(counts["natural"]),
                target=round(counts["target"]),
                planned=counts["planned"],
                missing=missing,
                size=size,
                where=position_words(positions),
                heat=heat.round(2).tolist(),
                companions=_companions(index, categories, lifts[index], shared[index]),
            )
        )
    return sorted(rows, key=lambda row: (not row.isthing, -row.labelled))


def _companions(
    index: int,
    categories: Sequence[Category],
    lifts: Floats,
    shared: Floats,
) -> list[tuple[str, float, int]]:
    """Return the classes that share images with one more often than by chance.

    The strongest first.
    """
    companions = []
    for other in np.argsort(-lifts, kind="stable").tolist():
        if other != index and shared[other] and lifts[other] > 1:
            name = categories[other].name
            companions.append((name, float(lifts[other]), int(shared[other])))
    return companions[:COMPANIONS]


def position_words(positions: Ints) -> str:
    """Say in a word or two where box centers [GRID, GRID] lie.

    'bottom', 'top left', 'centre', or 'anywhere'. A side is named when two thirds of the centres
    are in the three eighths of the image next to it (a box that spans the image has its centre on
    the middle line, on neither side), the centre when they are in the middle quarter.
    """
    total = positions.sum()
    if not total:
        return "–"
    half = len(positions) // 2
    quarter = half // 2
    middle = positions[quarter:-quarter, quarter:-quarter]
    if middle.sum() * 3 >= total * 2:
        return "centre"
    sides = {
        "top": positions[: half - 1],
        "bottom": positions[half + 1 :],
        "left": positions[:, : half - 1],
        "right": positions[:, half + 1 :],
    }
    names = [name for name, side in sides.items() if side.sum() * 3 >= total * 2]
    return " ".join(names) or "anywhere"


def cut(text: str, most: int) -> str:
    """Shorten a text to columns of a terminal.

    What would move its cursor becomes a question mark.
    """
    characters = []
    for character in text:
        if not character.isprintable():
            character = "?"
        characters.append(character)
    plain = "".join(characters)
    if len(plain) <= most:
        return plain
    return f"{plain[: most - 1]}…"


def lines(page: PlanPage) -> list[str]:
    """Return the table for a terminal and the sentences below it.

    At most WIDTH columns.
    """
    table = [HEAD, *(_cells(row) for row in page.rows)]
    widths = []
    for column in range(len(HEAD) - 1):
        widths.append(max(len(cells[column]) for cells in table))
    body = [_align(cells, widths) for cells in table]
    hidden = len(page.rows) - 2 * ENDS
    if hidden > 0:
        note = f"... {hidden} more classes are on the page ..."
        body = [*body[: ENDS + 1], note, *body[-ENDS:]]
    body.append("")
    for sentence in sentences(page):
        body += textwrap.wrap(sentence, WIDTH, subsequent_indent="  ")
    return body


def _cells(row: ClassPlan) -> tuple[str, ...]:
    """Return a class as the cells of the terminal's table."""
    companions = [f"{cut(name, NAME_WIDTH)} {value:.1f}" for name, value, _ in row.companions]
    return (
        cut(row.name, NAME_WIDTH),
        count(row.labelled),
        count(row.images),
        count(row.target),
        row.change,
        count(row.planned),
        count(row.missing),
        percent(row.size),
        row.where,
        ", ".join(companions) or "–",
    )


def _align(cells: Sequence[str], widths: Sequence[int]) -> str:
    """Return a line of the table; the last column takes what is left of it."""
    parts = []
    for column, (cell, width) in enumerate(zip(cells, widths, strict=False)):
        if column in WORD_COLUMNS:
            parts.append(cell.ljust(width))
        else:
            parts.append(cell.rjust(width))
    start = "  ".join(parts)
    rest = max(1, WIDTH - len(start) - 2)
    return f"{start}  {cut(cells[-1], rest)}".rstrip()


def sentences(page: PlanPage) -> list[str]:
    """Return what the plan costs, what is missing, and how natural it is."""
    manifest = page.manifest
    texts = [_exchange_sentence(page), _need_sentence(manifest["need"])]
    never = [row.name for row in page.rows if row.isthing and not row.images]
    if never:
        names = [cut(name, NAME_WIDTH) for name in never[:NAMES_SHOWN]]
        text = ", ".join(names)
        if len(never) > NAMES_SHOWN:
            text += " ..."
        texts.append(
            f"{count(len(never))} thing classes are in no layout and cannot be planned: {text}"
        )
    if manifest["short"]:
        texts.append(
            f"{count(manifest['short'])} objects of the target have no place; raise plan.count"
        )
    texts.append(_distance_sentence(page.placement, page.deviation))
    return texts


def _exchange_sentence(page: PlanPage) -> str:
    manifest = page.manifest
    total = count(sum(row.natural for row in page.rows))
    above = count(sum(max(0, row.natural - row.target) for row in page.rows))
    added = count(sum(max(0, row.target - row.natural) for row in page.rows))
    if manifest.get("adds_only"):
        change = f"all {total} objects stay, {above} of them above the target"
        added = count(sum(max(0, row.planned - row.natural) for row in page.rows))
    else:
        change = f"of {total} objects {above} are given up"
    return (
        f"{count(manifest['images'])} images from {count(manifest['sources'])} real layouts, "
        f"target '{page.target}': {change}, {added} are added"
    )


def _need_sentence(need: Mapping[str, Any]) -> str:
    objects_per_class = count(need["objects_per_class"])
    if not need["objects"]:
        return f"every thing class that can be planned has {objects_per_class} objects or more"
    return (
        f"to {objects_per_class} objects in every thing class {count(need['objects'])} are "
        f"missing: {count(need['exchanged'])} images with exchanged objects (plan.target=deficit "
        f"plan.count=0), {count(need['natural'])} with natural layouts"
    )


def _distance_sentence(placement: str, deviation: Mapping[str, float]) -> str:
    return (
        f"distance to natural layouts in bits (0 to 1), placement '{placement}': class pairs "
        f"{deviation['pairs']:.4f} ({deviation['pairs_given_frequency']:.4f} to natural pairs at "
        f"the new frequencies), objects per image {deviation['objects_per_image']:.4f}, sizes "
        f"{deviation['sizes']:.4f}, positions {deviation['positions']:.4f}"
    )


def render(page: PlanPage) -> bytes:
    """Return the page, UTF-8."""
    return render_page("plan_page.html.j2", plan=page, sentences=sentences(page))
