"""Confirmation: one chosen recipe against real data and the stack.

Its seeds are fresh, and so are its images: nothing else has seen them. Images are fresh once. A
second recipe confirmed on them was chosen by somebody who has seen what the first one did there, so
a ledger in the run's folder keeps what was confirmed on which images, and later trials of the run
say so.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from synthaug.pipeline.core.storage import Folder

LEDGER = "confirmations.json"  # at the top of the run's folder


@dataclass(frozen=True)
class Use:
    """One confirmation on a set of evaluation images."""

    images: str  # fingerprint of the set
    recipe: str  # name of the arm that was confirmed
    arms: tuple[str, ...]  # keys of the arms that were compared
    seeds: int


def remember(folder: Folder, use: Use) -> list[Use]:
    """Add a confirmation to the ledger; return those before it on the same images.

    One that is there is not added again. To be called before anything is measured: a trial that is
    killed afterwards may have been seen. The same arms with the same seeds are the same
    confirmation; with more seeds it is another one, for whoever asks for more has seen fewer.
    """
    uses = read_ledger(folder)
    if use not in uses:
        uses.append(use)
        folder.write_json(LEDGER, [asdict(entry) for entry in uses])
    before = uses[: uses.index(use)]
    return [entry for entry in before if entry.images == use.images]


def read_ledger(folder: Folder) -> list[Use]:
    """Return the confirmations of a run, the first one first."""
    if not folder.exists(LEDGER):
        return []
    uses = []
    for entry in folder.read_json(LEDGER):
        arms = tuple(entry["arms"])
        uses.append(Use(**{**entry, "arms": arms}))
    return uses


def ledger_lines(before: Sequence[Mapping[str, Any]]) -> list[str]:
    """Return the line on earlier confirmations on the same images, or none."""
    if not before:
        return []
    count = len(before)
    times = "once" if count == 1 else f"{count} times"
    names = ", ".join(dict.fromkeys(entry["recipe"] for entry in before))
    return [
        f"these images were used to confirm {times} before ({names}): the intervals are no longer "
        "those of fresh images; name others in trial.evaluation for a clean answer"
    ]
