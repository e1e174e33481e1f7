"""The page of `synthaug validate`: what is in data sets, what is wrong there.

Every text of a data set reaches the page through the template's autoescape; nothing here makes
markup.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from synthaug.pipeline.core.images import decode
from synthaug.pipeline.core.scene import Dataset
from synthaug.pipeline.report.frame import render_framed
from synthaug.pipeline.report.gallery import spread
from synthaug.pipeline.report.pictures import Picture, full_picture

NUM_PICTURES = 8  # of each set
SIDE = 224  # pixels, the longer side of a picture
NAMES = 20  # of each finding
LEVELS = {"error": "Wrong", "warning": "Warnings", "note": "Notes"}


@dataclass(frozen=True)
class Level:
    """The findings of one level."""

    title: str
    findings: Sequence[Mapping[str, Any]]


def pictures(table: Dataset, index: Sequence[int]) -> list[Picture]:
    """Return images from evenly spaced positions of those at `index` in a table."""
    drawn = []
    for place in spread(len(index), NUM_PICTURES):
        scene = table[index[place]]
        drawn.append(full_picture(scene, decode(scene), table.categories, SIDE))
    return drawn


def render(record: Mapping[str, Any], shown: Sequence[Sequence[Picture]]) -> bytes:
    """Return the page of a survey's record, UTF-8; `shown` are pictures of each set."""
    levels = []
    for level, title in LEVELS.items():
        chosen = [finding for finding in record["findings"] if finding["level"] == level]
        levels.append(Level(title, chosen))
    return render_framed(
        "survey_page.html.j2",
        title=", ".join(own["data"] for own in record["sets"]),
        state=record["state"],
        sets=list(zip(record["sets"], shown, strict=True)),
        levels=[level for level in levels if level.findings],
        names=NAMES,
    )
