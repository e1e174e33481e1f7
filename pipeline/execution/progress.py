"""What is told of work while it goes on, and the call that takes it."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Protocol

Details = Mapping[str, float]  # losses of a training, objects of each class that were made
NOTHING: Details = MappingProxyType({})
# states of a step
WAITING, RUNNING, DONE, EARLIER = "waiting", "running", "done", "finished earlier"


class ShowProgress(Protocol):
    """Takes how far a piece of work is; may pass over what comes too soon."""

    def __call__(self, done: int, total: int, unit: str, details: Details = NOTHING, /) -> None:
        """Take that `done` of `total` are done, and what else is known of them."""
        ...


def no_states(states: Mapping[str, str]) -> None:
    """Pass over the states of the steps."""
