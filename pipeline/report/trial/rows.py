"""The rows that the page and the Markdown of a trial share."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from synthaug.pipeline.core.json_values import Manifest

GROUPS = ("frequent", "common", "rare")  # of a trial's classes, in the order of the page
RULES = {
    "relative": "by labelled objects, relative to the largest class: frequent from a half on, rare "
    "below an eighth",
    "lvis": "by labelled images with the class, as in LVIS: rare up to 10, common up to 100, "
    "frequent above",
}
Difference = Mapping[str, float]
Row = tuple[str, Sequence[Difference | None]]  # a name, and a difference per column


def present_groups(trial: Manifest) -> list[str]:
    """Return the groups that have a class."""
    return [name for name in GROUPS if trial["groups"][name]]


def differences_to_real(trial: Manifest) -> dict[str, Difference]:
    """Return every arm's difference to `real` in screening, in the order of the arms."""
    known = dict(trial["controls"])
    for name, comparison in trial["comparisons"].items():
        known[name] = comparison["against_real"]
    names = [arm["name"] for arm in trial["arms"]]
    return {name: known[name] for name in names if name in known}


def screening_rows(trial: Manifest) -> list[Row]:
    """Return the differences of the judged arms to real data.

    Groups, fixed AP, then classes from the frequent to the rare.
    """
    return _rows(trial, list(trial["comparisons"].values()))


def confirmation_rows(trial: Manifest) -> list[Row]:
    """Return the differences of the confirmed recipe; none without one.

    There is a column for each arm that it was compared with.
    """
    confirmation = trial["confirmation"]
    if not confirmation:
        return []
    found = list(confirmation["against"].values())
    return [("AP", [entry["AP"] for entry in found]), *_rows(trial, found)]


def _rows(trial: Manifest, found: Sequence[Mapping[str, Any]]) -> list[Row]:
    rows: list[Row] = []
    for group in present_groups(trial):
        rows.append((f"{group} classes", [entry["groups"].get(group) for entry in found]))
    rows.append(("fixed AP", [entry["fixed"] for entry in found]))
    for group in GROUPS:
        for name in trial["groups"][group]:
            rows.append((name, [entry["classes"].get(name) for entry in found]))
    return rows


def confirmed_against(trial: Manifest) -> list[str]:
    """Return the heads of the columns of `confirmation_rows`."""
    heads = {"real": "against real data alone"}
    return [heads.get(name, f"against the {name}") for name in trial["confirmation"]["against"]]
