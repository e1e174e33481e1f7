"""The page of `synthaug score`: scores beside their comparisons, and images.

As HTML. Every text of a data set reaches the page through the template's autoescape; nothing here
makes markup.
"""

from __future__ import annotations

import base64
import mimetypes
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from synthaug.pipeline.core.images import decode
from synthaug.pipeline.core.scene import Dataset
from synthaug.pipeline.report.cards import cards
from synthaug.pipeline.report.frame import render_framed
from synthaug.pipeline.report.gallery import spread
from synthaug.pipeline.report.pictures import Picture, full_picture

NUM_PICTURES = 8  # of each set
SIDE = 224  # pixels, the longer side of a picture


@dataclass(frozen=True)
class ScoredSet:
    """One data set on the page."""

    name: str  # real | synthetic | train
    reference: str
    images: int
    pictures: Sequence[Picture]


def scored_set(name: str, reference: str, table: Dataset) -> ScoredSet:
    """Return a set with images from evenly spaced positions of its table.

    They are never picked by how they look.
    """
    pictures = []
    for index in spread(len(table), NUM_PICTURES):
        scene = table[index]
        pictures.append(full_picture(scene, decode(scene), table.categories, SIDE))
    return ScoredSet(name, reference, len(table), pictures)


def render(
    sets: Sequence[ScoredSet],
    scores: Mapping[str, Mapping[str, Any]],
    reasons: Mapping[str, str],
    sheets: Mapping[str, bytes],
    versions: Mapping[str, str],
) -> bytes:
    """Return the page, UTF-8.

    `reasons` says why a score was not measured, `sheets` are picture files that scores drew.
    """
    title = ""
    for own in sets:
        if own.name == "synthetic":
            title = own.reference
    return render_framed(
        "score_page.html.j2",
        title=title,
        sets=sets,
        cards=cards(scores),
        reasons=reasons,
        sheets={name: _data_uri(name, data) for name, data in sheets.items()},
        versions=versions,
    )


def _data_uri(name: str, data: bytes) -> str:
    """Return a picture file as a data URI."""
    kind = mimetypes.guess_type(name)[0] or "image/jpeg"
    return f"data:{kind};base64,{base64.b64encode(data).decode()}"
