"""Jobs that share a Ray: how many workers each may have now.

Every driver with a pool tells a small actor, a few times a minute, how many workers it could use
and how much it counts. The actor divides what there is: none gets less than it would alone because
another one came first, and what one cannot use the others get.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

NAME, NAMESPACE = "synthaug-jobs", "synthaug"  # of the actor
SILENT_SECONDS = 20.0  # after which a job no longer counts; a pool asks every 5


@dataclass(frozen=True)
class Wish:
    """What a job could use."""

    wanted: int  # workers
    weight: float  # beside other jobs
    when: float  # it was told


class Board:
    """The jobs of a cluster and their wishes; an actor that takes no core."""

    def __init__(self) -> None:
        """Know of no job."""
        self._wishes: dict[str, dict[str, Wish]] = {}  # kind of worker -> job -> wish

    def quota(self, kind: str, job: str, wanted: int, weight: float, total: int) -> int | None:
        """Take a job's wish and return how many of `total` workers it may have.

        None where no other job wants any of this kind (CPU or GPU).
        """
        now = time.monotonic()
        known = self._wishes.setdefault(kind, {})
        known[job] = Wish(wanted, weight, now)
        for other in list(known):
            if now - known[other].when > SILENT_SECONDS:
                del known[other]
        if len(known) == 1:
            return None
        return divided(known, total)[job]


def divided(wishes: Mapping[str, Wish], total: int) -> dict[str, int]:
    """Return the workers of each job: by weight, no more than it wants, at least one.

    Workers are given one by one, to the job that has the fewest for its weight.
    """
    given = dict.fromkeys(wishes, 1)
    for _ in range(total - len(given)):
        hungry = [job for job, wish in wishes.items() if given[job] < wish.wanted]
        if not hungry:
            break
        poorest = min(hungry, key=lambda job: (given[job] / wishes[job].weight, job))
        given[poorest] += 1
    return given


class Shares:
    """The driver's side: asks the board without waiting for it."""

    def __init__(self, ray: Any, job: str, weight: float) -> None:
        """Find the board of the cluster, or start it."""
        self._ray = ray
        self._job = job
        self._weight = weight
        actor = ray.remote(num_cpus=0, max_restarts=-1)(Board)
        self._board = actor.options(
            name=NAME, namespace=NAMESPACE, lifetime="detached", get_if_exists=True
        ).remote()
        self._asked: dict[str, Any] = {}  # kind -> reference to the next answer
        self._answers: dict[str, int | None] = {}

    def quota(self, kind: str, wanted: int, total: int) -> int | None:
        """Return how many workers of a kind this job may have; None = all.

        It is what the board said when it was asked last: a few seconds ago.
        """
        asked = self._asked.get(kind)
        if asked is None or self._has_answered(kind, asked):
            ask = self._board.quota.remote
            self._asked[kind] = ask(kind, self._job, wanted, self._weight, total)
        return self._answers.get(kind)

    def _has_answered(self, kind: str, asked: Any) -> bool:
        """Take in the answer to the last question, where it has come."""
        done, _ = self._ray.wait([asked], timeout=0)
        if not done:
            return False
        try:
            self._answers[kind] = self._ray.get(asked)
        except self._ray.exceptions.RayError:  # its machine is lost, and it begins elsewhere
            self._answers[kind] = None
        return True
