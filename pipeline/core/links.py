"""The links of a run's chain.

Detector, pseudo-labels, generator, verification, scores, trial. What a link leaves is what the next
one is built on, so each is measured against a bound that a broken one cannot reach. A step tells of
its links from its manifest alone (`links` of its module): a change of the job's `checks` measures
nothing again.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict, dataclass, replace
from typing import Literal

from synthaug.pipeline.core.json_values import Json


@dataclass(frozen=True)
class Link:
    """One link as it was measured."""

    name: str
    state: Literal["ok", "weak", "untested"]
    figure: str  # what was measured and its bound, in a line
    advice: str = ""  # what to do about a weak one
    stops: bool = False  # whether nothing should be built on it while it is weak

    @property
    def is_weak(self) -> bool:
        """Whether it was measured and does not hold."""
        return self.state == "weak"

    @property
    def line(self) -> str:
        """The link in one line: name, figure and advice."""
        parts = [f"{self.name}: {self.figure}"]
        if self.advice:
            parts.append(self.advice)
        return "; ".join(parts)

    def to_json(self) -> Json:
        """Return plain data."""
        return asdict(self)


def weak(links: Iterable[Link]) -> list[Link]:
    """Return the links that do not hold."""
    return [link for link in links if link.is_weak]


def merged(links: Iterable[Link]) -> list[Link]:
    """Return the links with those of one name, which several steps measured, made one.

    It stands where the first stood. One weak part makes it weak, and its figure comes first.
    """
    by_name: dict[str, Link] = {}
    for link in links:
        earlier = by_name.get(link.name)
        by_name[link.name] = link if earlier is None else _joined(earlier, link)
    return list(by_name.values())


STATES = ("weak", "ok", "untested")  # the first of them counts


def _joined(one: Link, other: Link) -> Link:
    """Return two measurements of one link as one."""
    first, second = sorted((one, other), key=lambda link: STATES.index(link.state))
    advice = [link.advice for link in (first, second) if link.advice]
    return replace(
        first,
        figure=f"{first.figure}; {second.figure}",
        advice=", ".join(advice),
        stops=one.stops or other.stops,
    )


def weak_first(links: Iterable[Link]) -> list[Link]:
    """Return the links that do not hold before the others, each in their order."""
    return sorted(links, key=lambda link: not link.is_weak)
