"""What the settings of a job follow from, and the form that they have."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from synthaug.pipeline.leaks.pairs import Pair
from synthaug.pipeline.scaffold.measure import SplitFacts
from synthaug.pipeline.scaffold.rates import Machine
from synthaug.pipeline.scaffold.roles import Roles
from synthaug.pipeline.scores.detection.evaluator import frequency_groups

FILL, MAPS = "fill", "panoptic"  # systems
EVEN = 2.0  # largest class over the smallest: below it there is no tail to be filled

Value = bool | int | float | str | tuple[Any, ...]


@dataclass(frozen=True)
class Key:
    """One line of a job: a key, its value, why."""

    name: str
    value: Value
    why: str = ""


@dataclass(frozen=True)
class Section:
    """A section of a job; "" = keys at the top."""

    name: str
    keys: tuple[Key, ...]

    def values(self) -> dict[str, Value]:
        """Return the keys with their values."""
        return {key.name: key.value for key in self.keys}


@dataclass(frozen=True)
class Given:
    """The data, the machine and the time."""

    name: str
    root: str
    roles: Roles
    facts: Mapping[str, SplitFacts]  # by split, "trial.evaluation" among them
    copies: Sequence[Pair] | None  # images that are in two splits; None = not looked for
    machine: Machine
    minutes: float

    @property
    def labelled(self) -> SplitFacts:
        """What the images to learn from hold."""
        return self.facts["labelled"]

    @property
    def system(self) -> str:
        """The generator: what is driven by maps where there are maps."""
        return MAPS if self.labelled.has_maps else FILL

    @property
    def counts(self) -> list[int]:
        """The objects of each class of things that has any, the fewest first."""
        counts = [self.labelled.objects[at] for at in self.labelled.things]
        return sorted(count for count in counts if count)

    @property
    def has_tail(self) -> bool:
        """Whether some classes are much rarer than others."""
        counts = self.counts
        return bool(counts) and counts[-1] >= EVEN * counts[0]


def groups_of(facts: SplitFacts) -> dict[str, list[int]]:
    """Return the classes of things: head, middle, tail and unseen, as in the trial."""
    things = facts.things
    counts = [facts.objects[at] for at in things]
    groups = {}
    for group, places in frequency_groups(counts).items():
        groups[group] = [things[place] for place in places]
    return groups
