"""The page of `synthaug score`: every score with what it must be compared with, and images of the sets, as HTML.

Every text of a data set reaches the page through the template's autoescape; nothing here makes markup.
"""

from __future__ import annotations

import base64
import mimetypes
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from synthaug.pipeline.core.images import decode
from synthaug.pipeline.core.scene import Dataset
from synthaug.pipeline.report import cards as report_cards
from synthaug.pipeline.report import frame as report_frame
from synthaug.pipeline.report import pictures as report_pictures
from synthaug.pipeline.report.gallery import spread
from synthaug.pipeline.report.pictures import Picture

PICTURES, SIDE = 8, 224  # images of each set, the longer side of one in pixels


@dataclass(frozen=True)
class Shown:
    """What the page tells of one data set."""

    name: str  # real | synthetic | train
    reference: str
    images: int
    pictures: Sequence[Picture]


def shown(name: str, reference: str, table: Dataset) -> Shown:
    """Take images from evenly spaced places of a table, never picked by how they look."""
    scenes = [table[place] for place in spread(len(table), PICTURES)]
    made = [report_pictures.whole(scene, decode(scene), table.categories, SIDE) for scene in scenes]
    return Shown(name, reference, len(table), made)


def render(
    sets: Sequence[Shown],
    scores: Mapping[str, Mapping[str, Any]],
    reasons: Mapping[str, str],
    sheets: Mapping[str, bytes],
    versions: Mapping[str, str],
) -> bytes:
    """Return the page, UTF-8; `reasons` says why a score was not measured, `sheets` are picture files that scores drew."""
    return report_frame.render_framed(
        "score_page.html.j2",
        title=next((s.reference for s in sets if s.name == "synthetic"), ""),
        sets=sets,
        cards=report_cards.cards(scores),
        reasons=reasons,
        sheets={name: _embedded(name, data) for name, data in sheets.items()},
        versions=versions,
    )


def _embedded(name: str, data: bytes) -> str:
    """A picture file as a data URI."""
    return f"data:{mimetypes.guess_type(name)[0] or 'image/jpeg'};base64,{base64.b64encode(data).decode()}"
