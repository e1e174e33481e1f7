"""Workers on Ray of which any may be lost at any time, and machines with them.

Ray is asked for as many workers as there is work for and starts those that it has room for, now or
when machines join. An item is given to a worker only once that worker runs, so that none waits for
a place which no longer exists; the item of a lost worker goes to the next one that is free. One
worker is enough to finish.
"""

from __future__ import annotations

import contextlib
import math
import time
from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any

from synthaug.pipeline.core.errors import RunError
from synthaug.pipeline.execution.executor import Tick

CHECK_SECONDS = 5.0  # between two looks at how much room there is
WAIT_SECONDS = 60.0  # without any worker until the user is told
NODE_SECONDS = 30.0  # Ray knows a dead machine by its silence, after some 15
MOST_DEATHS = 8  # of workers at one item: then it is the item that ends them
MOST_DEATHS_OF_A_TASK = 4  # a training is long, and goes on from what it saved
MOST_FAILED_STARTS = 6  # in a row


@dataclass(frozen=True)
class Hand:
    """A worker that runs, and the machine it is on."""

    actor: Any
    node: str  # Ray's name of the machine
    address: str


@dataclass(frozen=True)
class Item:
    """An item of a pool and how many workers were lost while they had it."""

    content: Any
    deaths: int = 0


@dataclass(frozen=True)
class Door:
    """Ray as a crew sees it."""

    ray: Any
    room: Callable[[], int]  # workers that there is room for in all
    start: Any  # the actor class, with what one worker needs
    tell: Callable[[str], None]  # one line to the user
    # of as many workers as this job could use, those it may have beside other jobs; None = all
    quota: Callable[[int], int | None] = lambda _: None


class Crew:
    """The workers of one pool or task.

    Those that start, those that wait and those that work.
    """

    def __init__(self, door: Door, idle: list[Hand]) -> None:
        """Begin with workers of an earlier pool: to start one takes seconds of imports."""
        self._ray = door.ray
        self._door = door
        self.idle = idle
        self._starting: dict[Any, Any] = {}  # reference to the home -> actor
        self._running: dict[Any, tuple[Hand, Item]] = {}  # reference to the result -> who, at what
        self._failed_starts = 0  # in a row
        self._losses: list[tuple[Hand, float]] = []  # and when; those the user was not told of
        self._waits_since = time.monotonic()  # for a worker
        self._room = 0
        self._quota: int | None = None
        self._room_seen = -math.inf  # when; asking goes over the network, so not with every result

    def run(
        self, make: Callable[[], Callable[[Any], Any]], items: Iterator[Any], most: int
    ) -> Iterator[Any]:
        """Yield the results of items as they come, from at most so many workers at once.

        Items are drawn as workers come free, so that a long stream costs no memory. RunError for
        an item that ends every worker.
        """
        work = [self._ray.put(make)]  # in a list: fetched once per worker, not with every item
        waiting: deque[Item] = deque()
        with self._ended_on_error():
            while True:
                self._hand_out(work, waiting, items, most)
                if not waiting and not self._running:
                    break
                for reference in self._finished():
                    hand, item = self._running[reference]  # stays there if the work fails: ended
                    try:
                        result = self._ray.get(reference)
                    except self._ray.exceptions.RayActorError:
                        del self._running[reference]
                        self._lost(hand)
                        waiting.appendleft(_once_more(item, MOST_DEATHS))
                        continue
                    del self._running[reference]
                    self.idle.append(hand)
                    self._hand_out(work, waiting, items, most)
                    yield result
        self._stop(self._starting.values())

    def call(self, function: Callable[..., Any], args: tuple[Any, ...], tick: Tick) -> Any:
        """Return the result of one task; where its worker is lost it is run again.

        RunError where that happens too often.
        """
        item = Item(None)
        with self._ended_on_error():
            while True:
                hand = self._first_idle(tick)
                reference = hand.actor.call.remote(function, args)
                self._running[reference] = (hand, item)
                while not self._ray.wait([reference], timeout=1.0)[0]:
                    tick()
                tick()
                try:
                    result = self._ray.get(reference)
                except self._ray.exceptions.RayActorError:
                    del self._running[reference]
                    self._lost(hand)
                    item = _once_more(item, MOST_DEATHS_OF_A_TASK)
                    continue
                del self._running[reference]
                self.idle.insert(0, hand)
                return result

    @contextlib.contextmanager
    def _ended_on_error(self) -> Iterator[None]:
        """End all workers when no more results are wanted: what still runs must stop."""
        with contextlib.ExitStack() as undo:
            undo.callback(self._end)
            yield
            undo.pop_all()
        self._tell_of_losses(at_once=True)

    def _end(self) -> None:
        working = [hand.actor for hand, _ in self._running.values()]
        waiting = [hand.actor for hand in self.idle]
        self._stop([*working, *waiting, *self._starting.values()])
        self._running.clear()
        self._starting.clear()
        self.idle.clear()

    def _hand_out(
        self, work: list[Any], waiting: deque[Item], items: Iterator[Any], most: int
    ) -> None:
        """Give every idle worker an item; ask for further workers while items are left."""
        if not _is_at_hand(waiting, items):
            return
        allowed = self._allowed(most)
        while self.idle and _is_at_hand(waiting, items):
            hand = self.idle.pop(0)
            item = waiting.popleft()
            reference = hand.actor.run.remote(work, item.content)
            self._running[reference] = (hand, item)
        if _is_at_hand(waiting, items):
            self._ask_for(allowed)

    def _allowed(self, most: int) -> int:
        """Return how many workers there may be in all.

        Those that other jobs are to have are ended, each once it has done its item.
        """
        now = time.monotonic()
        if now - self._room_seen >= CHECK_SECONDS:
            self._room = max(1, self._door.room())
            self._quota = self._door.quota(min(most, self._room))
            self._room_seen = now
        allowed = min(most, self._room)
        if self._quota is None:
            return allowed
        allowed = max(1, min(allowed, self._quota))
        surplus = len(self._starting) + len(self.idle) + len(self._running) - allowed
        for reference in list(self._starting)[: max(0, surplus)]:
            self._stop([self._starting.pop(reference)])
            surplus -= 1
        if surplus > 0:
            given_up = self.idle[:surplus]
            self.idle = self.idle[surplus:]
            self._stop(hand.actor for hand in given_up)
        return allowed

    def _ask_for(self, count: int) -> None:
        """Have so many workers in all, those that wait for room included."""
        while len(self._starting) + len(self.idle) + len(self._running) < count:
            actor = self._door.start.remote()
            self._starting[actor.home.remote()] = actor

    def _finished(self) -> list[Any]:
        """Wait a little and return the references of results that are there.

        Workers that have started by now become idle.
        """
        references = [*self._starting, *self._running]  # Ray looks at the first ones first
        done, _ = self._ray.wait(references, timeout=CHECK_SECONDS)
        results = []
        for reference in done:
            if reference in self._starting:
                self._arrived(reference)
            else:
                results.append(reference)
        self._tell_of_waiting()
        self._tell_of_losses()
        return results

    def _first_idle(self, tick: Tick) -> Hand:
        """Return a worker that waits, or a new one as soon as there is room for it."""
        while not self.idle:
            self._allowed(1)  # another job learns that this one waits
            self._ask_for(1)
            done, _ = self._ray.wait(list(self._starting), timeout=1.0)
            for reference in done:
                self._arrived(reference)
            self._tell_of_waiting()
            self._tell_of_losses()
            tick()
        return self.idle.pop(0)

    def _arrived(self, reference: Any) -> None:
        """Take in a worker that has started, or failed to.

        RunError where none of several could be started.
        """
        actor = self._starting.pop(reference)
        try:
            node, address = self._ray.get(reference)
        except self._ray.exceptions.RayActorError as err:
            self._failed_starts += 1
            if self._failed_starts >= MOST_FAILED_STARTS:
                raise RunError(
                    f"cluster: {self._failed_starts} workers in a row could not be started "
                    f"({_reason(err)}); is the same synthaug installed on all machines?"
                ) from err
            return
        self._failed_starts = 0
        self.idle.append(Hand(actor, node, address))

    def _tell_of_waiting(self) -> None:
        """Tell the user when nothing has run for a while."""
        now = time.monotonic()
        if self.idle or self._running:
            self._waits_since = now
        elif now - self._waits_since > WAIT_SECONDS:
            self._waits_since = now
            self._door.tell(
                "  no worker has room: the cluster's cores are taken by others, or its machines "
                "are gone; going on as soon as there is room"
            )

    def _lost(self, hand: Hand) -> None:
        """Give a worker up.

        Also one that is only out of reach: it must not go on beside others.
        """
        self._ray.kill(hand.actor)
        self._losses.append((hand, time.monotonic()))

    def _tell_of_losses(self, at_once: bool = False) -> None:
        """Tell the user of lost workers: one line for all of a lost machine.

        A worker is missed long before Ray knows whether its whole machine is gone.
        """
        if not self._losses:
            return
        alive = {node["NodeID"] for node in self._ray.nodes() if node["Alive"]}
        alive |= {hand.node for hand, _ in self._running.values()}  # more will be missed there
        gone = Counter(hand.address for hand, _ in self._losses if hand.node not in alive)
        for address, number in gone.items():
            parts = "1 part of the work goes" if number == 1 else f"{number} parts of the work go"
            self._door.tell(f"  node {address} was lost; {parts} to other workers")
        losses = [(hand, since) for hand, since in self._losses if hand.node in alive]
        long_ago = time.monotonic() - NODE_SECONDS
        for hand, since in losses:
            if at_once or since < long_ago:
                self._door.tell(f"  a worker on {hand.address} was lost; its work is done again")
        self._losses = [] if at_once else [loss for loss in losses if loss[1] >= long_ago]

    def _stop(self, actors: Iterable[Any]) -> None:
        for actor in actors:
            self._ray.kill(actor)


def _once_more(item: Item, most: int) -> Item:
    """Return an item that a worker was lost with; RunError where it were too many."""
    deaths = item.deaths + 1
    if deaths >= most:
        raise RunError(
            f"{deaths} workers were lost one after the other at the same part of the work: it "
            "needs more memory than there is, or machines go too often; lower cluster.workers or "
            "the step's batch, and run the same command again"
        )
    return Item(item.content, deaths)


def _is_at_hand(waiting: deque[Item], items: Iterator[Any]) -> bool:
    """Draw the next item unless one waits; returns whether one waits now."""
    if not waiting:
        for content in items:
            waiting.append(Item(content))
            break
    return bool(waiting)


def _reason(err: Exception) -> str:
    """Return the last line of an error that says something."""
    lines = [line.strip() for line in str(err).splitlines() if line.strip()]
    return lines[-1][:200] if lines else type(err).__name__
