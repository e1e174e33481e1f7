"""Images left out or mended when a data set is read, counted by reason and named."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

SHOWN = 3  # of each reason, on the screen
FILE = "skipped.txt"  # all of them, beside what a command writes


class Skipped(Counter[str]):
    """Counts by reason; `names` says of what, in the order of reading.

    Some reasons are only counted: those that are true of most objects of a set. `unread` counts, by
    name, what a file says and a scene has no place for: nothing is left out, but it is not kept.
    `wrong` counts, by reason, what would have stopped the reading without on_bad=skip.
    """

    def __init__(self, counts: Mapping[str, int] | Iterable[str] = ()) -> None:
        super().__init__(counts)
        self.names: dict[str, list[str]] = {}
        self.unread: Counter[str] = Counter()
        self.wrong: Counter[str] = Counter()
        if isinstance(counts, Skipped):
            self.names = {reason: list(names) for reason, names in counts.names.items()}
            self.unread = Counter(counts.unread)
            self.wrong = Counter(counts.wrong)

    def __reduce__(self) -> tuple[Any, ...]:
        return _restored, (dict(self), self.names, self.unread, self.wrong)

    def note(self, reason: str, name: str, wrong: bool = False) -> None:
        """Count one thing that has a name; `wrong` says whether it is a mistake."""
        self[reason] += 1
        self.wrong[reason] += wrong
        self.names.setdefault(reason, []).append(name)

    def take(self, other: Mapping[str, int]) -> None:
        """Add the counts of another, and its names where it has them."""
        for reason, count in other.items():
            self[reason] += count
        if isinstance(other, Skipped):
            for reason, names in other.names.items():
                self.names.setdefault(reason, []).extend(names)
            self.unread.update(other.unread)
            self.wrong.update(other.wrong)

    def positive(self) -> Skipped:
        """Return a copy without what was counted 0 times."""
        kept = Skipped()
        for reason, count in self.items():
            if count > 0:
                kept[reason] = count
        for reason, names in self.names.items():
            kept.names[reason] = list(names)
        kept.unread = Counter(self.unread)
        kept.wrong = Counter(self.wrong)
        return kept


def _restored(
    counts: dict[str, int], names: dict[str, list[str]], unread: Any, wrong: Any
) -> Skipped:
    skipped = Skipped(counts)
    skipped.names = names
    skipped.unread = unread
    skipped.wrong = wrong
    return skipped


def short_lines(skipped: Mapping[str, int], shown: int = SHOWN) -> Iterator[str]:
    """Yield a line per reason with its number, and below it the first names."""
    names = skipped.names if isinstance(skipped, Skipped) else {}
    for reason, count in sorted(skipped.items()):
        yield f"  {count:>8}  {reason}"
        named = names.get(reason, [])
        for name in named[:shown]:
            yield f"            - {name}"
        if len(named) > shown:
            yield f"            - and {len(named) - shown} more"


def all_lines(skipped: Skipped) -> Iterator[str]:
    """Yield a line for each thing with a name: its reason and its name."""
    for reason, names in sorted(skipped.names.items()):
        for name in names:
            yield f"{reason}: {' '.join(name.split())}"
