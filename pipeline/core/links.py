"""The links of a run's chain.

Detector, pseudo-labels, generator, verification, scores, trial. What a link leaves is what the next
one is built on, so each is measured against a bound that a broken one cannot reach. A step tells of
its links from its manifest alone (`links` of its module): a change of the job's `checks` measures
nothing again.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict, dataclass
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
