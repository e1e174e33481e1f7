"""A survey as lines for a terminal."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from synthaug.pipeline.core.errors import printable
from synthaug.pipeline.survey.findings import ERROR, NOTE, WARNING, Finding

SHOWN = 3  # names of each finding, a line for each
_SHORT, _SHORT_SHOWN = 25, 12  # letters of names that share a line, and how many do
_MANY = 40  # classes: of more, the most and the least frequent are told
_HEAD, _TAIL = 25, 10
_SIZES = 3


def set_lines(summary: Mapping[str, Any], state: str) -> Iterator[str]:
    """Yield what is in one set of the record, its state in the first line."""
    classes = summary["classes"]
    head = f"{summary['images']} images, {summary['objects']} objects, {len(classes)} classes"
    yield f"{head}: {state}"
    for name, text in _rows(summary):
        yield f"  {name:<11} {text}"
    yield from _class_lines(classes)


def _rows(summary: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    if not summary["images"]:
        return
    yield "sizes", _sizes(summary["sizes"])
    kinds = [f"{count} {kind}" for kind, count in summary["files"].items()]
    yield "files", f"{', '.join(kinds)}; {_bytes(summary['bytes'])}"
    if not summary["objects"]:
        return
    spread = summary["objects_per_image"]
    yield (
        "per image",
        f"{spread['least']} to {spread['most']} objects, median {spread['median']}, "
        f"mean {spread['mean']:.1f}",
    )
    sides = summary["shorter_sides"]
    yield (
        "object size",
        f"shorter side {sides['p05']} to {sides['p95']} pixels for nine in ten, "
        f"median {sides['median']}",
    )
    yield "smallest", printable(summary["smallest"]["what"])
    if summary["masks"] or summary["crowds"]:
        yield "masks", f"{summary['masks']} of {summary['objects']} objects have one"
    if summary["crowds"]:
        yield "crowds", f"{summary['crowds']} objects are ignore regions"


def _sizes(sizes: Sequence[Mapping[str, int]]) -> str:
    parts = []
    for row in sizes[:_SIZES]:
        parts.append(f"{row['width']}x{row['height']} ({row['images']})")
    if len(sizes) > _SIZES:
        widths = [row["width"] for row in sizes]
        heights = [row["height"] for row in sizes]
        parts.append(
            f"{len(sizes) - _SIZES} others; "
            f"from {min(widths)} to {max(widths)} wide, {min(heights)} to {max(heights)} high"
        )
    return ", ".join(parts)


def _bytes(number: int) -> str:
    if number < 1000:
        return f"{number} bytes"
    power = min(int(math.log10(number)) // 3, 3)
    return f"{number / 1000**power:.3g} {('', 'kB', 'MB', 'GB')[power]}"


def _class_lines(classes: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    shown = [row for row in classes if row["objects"]]
    if not shown:
        return
    yield "   objects  in images  class"
    left_out = range(0)
    if len(shown) > _MANY:
        left_out = range(_HEAD, len(shown) - _TAIL)
    for at, row in enumerate(shown):
        if at not in left_out:
            kind = "" if row["thing"] else " (stuff)"
            yield f"  {row['objects']:>8}  {row['images']:>9}  {printable(row['name'])}{kind}"
        elif at == left_out.start:
            yield f"       ...        ...  {len(left_out)} classes between these (all: --json FILE)"


_HEADS = {
    ERROR: "wrong, and a run would stop at it:",
    WARNING: "warnings, the most harmful first:",
    NOTE: "notes:",
}


def finding_lines(found: Sequence[Finding], several: bool) -> Iterator[str]:
    """Yield the findings with the first names of each; `several` sets were read."""
    level = ""
    for finding in found:
        if finding.level != level:
            level = finding.level
            yield _HEADS[level]
        of = ""
        if several and finding.data:
            of = f" ({finding.data})"
        yield f"  {finding.count:>8}  {finding.what}{of}"
        if finding.advice:
            yield f"            {finding.advice}"
        yield from _name_lines(finding.names)


def _name_lines(names: Sequence[str]) -> Iterator[str]:
    """Yield the first names; short ones in one line."""
    shown = SHOWN
    rows = [printable(name) for name in names[:SHOWN]]
    if names and all(len(name) < _SHORT for name in names):
        shown = _SHORT_SHOWN
        rows = [", ".join(printable(name) for name in names[:shown])]
    for row in rows:
        yield f"            - {row}"
    if len(names) > shown:
        yield f"            - and {len(names) - shown} more (all: --json FILE)"
