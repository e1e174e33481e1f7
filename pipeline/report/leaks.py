"""Leaks on the report's page.

Images in two splits, and synthetic images that are copies of real ones.
"""

from __future__ import annotations

from synthaug.pipeline.core.json_values import Manifest
from synthaug.pipeline.report.frame import render_section


def splits(manifest: Manifest) -> str:
    """Return the section about real images; empty where nothing was compared.

    HTML, every text escaped.
    """
    if "splits" not in manifest:
        return ""
    counts = [f"{entry['count']} {name}" for name, entry in manifest["splits"].items()]
    summary = (
        f"Every image was compared with those of the other splits ({', '.join(counts)}), by its "
        "pixels and, for copies that were encoded again, resized, mirrored or cropped, by "
        f"perceptual hashes. Splits {manifest['sha256'][:12]} (splits.json)."
    )
    return _section("leaks", "Is an image in two splits?", manifest, summary)


def copies(manifest: Manifest) -> str:
    """Return the section about synthetic images; empty where none was compared.

    HTML, every text escaped.
    """
    if "copies" not in manifest:
        return ""
    copied = manifest["copies"]
    total = manifest["images"]
    summary = (
        f"{copied} of {total} synthetic images are near copies of a real one, by the same "
        "comparison."
    )
    return _section("copies", "Are synthetic images copies?", manifest, summary)


def _section(step: str, title: str, manifest: Manifest, summary: str) -> str:
    leaks = 0
    for kind, number in manifest["pairs"].items():
        if kind.startswith("leak"):
            leaks += number
    return render_section(
        "leaks.html.j2",
        step=step,
        title=title,
        leaks=leaks,
        summary=summary,
        rows=manifest["shown"],
    )
