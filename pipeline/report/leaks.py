"""On the report's page: which images are in two splits, and which synthetic images are copies of real ones."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from synthaug.pipeline.report.frame import render_section


def splits(told: Mapping[str, Any]) -> str:
    """Return the HTML of the section about real images, every text escaped."""
    if "splits" not in told:
        return ""
    sizes = ", ".join(f"{entry['count']} {name}" for name, entry in told["splits"].items())
    says = (
        f"Every image was compared with those of the other splits ({sizes}), by its pixels and, for copies that were encoded "
        f"again, resized, mirrored or cropped, by perceptual hashes. Splits {told['sha256'][:12]} (splits.json)."
    )
    return _render("leaks", "Is an image in two splits?", told, says)


def copies(told: Mapping[str, Any]) -> str:
    """Return the HTML of the section about synthetic images, every text escaped."""
    if "copies" not in told:
        return ""
    says = f"{told['copies']} of {told['images']} synthetic images are near copies of a real one, by the same comparison."
    return _render("copies", "Are synthetic images copies?", told, says)


def _render(step: str, title: str, told: Mapping[str, Any], says: str) -> str:
    leaks = sum(number for key, number in told["pairs"].items() if key.startswith("leak"))
    return render_section(
        "leaks.html.j2", step=step, title=title, leaks=leaks, says=says, rows=told["shown"]
    )
