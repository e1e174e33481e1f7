"""Workers may be lost at any time: no item is, and one worker is enough to finish.

Ray is a stand-in here, whose machines come and go as a test says; test_ray_nodes.py has real ones.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from types import SimpleNamespace
from typing import Any

import pytest

from synthaug.pipeline.core.errors import RunError
from synthaug.pipeline.execution import ray_workers
from synthaug.pipeline.execution.ray_jobs import Board
from synthaug.pipeline.execution.ray_workers import Crew, Door


class ActorLostError(Exception):
    """Stands in for RayActorError."""


class Cluster:
    """Ray as far as a crew needs it: machines with places for workers.

    Every `wait` is one moment, in which workers start where there are places and each running one
    finishes its item. `lose` takes a machine away, with all on it.
    """

    exceptions = SimpleNamespace(RayActorError=ActorLostError)

    def __init__(self, **places: int) -> None:
        self.places = places  # machine -> workers it has room for
        self.actors: list[Any] = []
        self.lost: set[str] = set()
        self.done: list[Any] = []  # items, by whom and when
        self.moment: Callable[[int], None] = lambda number: None
        self.moments = 0
        self.broken = False  # no worker can be started

    def put(self, value: Any) -> Any:
        return value

    def actor(self) -> Any:
        new = SimpleNamespace(node="", dead=False)
        new.home = SimpleNamespace(remote=lambda: self.reference(new, "home", None))
        new.run = SimpleNamespace(
            remote=lambda work, item: self.reference(new, "run", (work[0], item))
        )
        new.call = SimpleNamespace(
            remote=lambda function, args: self.reference(new, "call", (function, args))
        )
        self.actors.append(new)
        return new

    def reference(self, actor: Any, kind: str, content: Any) -> Any:
        if kind != "home":
            assert actor.node, "work was given to a worker that does not run"

        class Reference(SimpleNamespace):
            __hash__ = object.__hash__
            __eq__ = object.__eq__

        return Reference(actor=actor, kind=kind, content=content)

    def lose(self, node: str) -> None:
        self.lost.add(node)
        for actor in self.actors:
            actor.dead = actor.dead or actor.node == node

    def wait(self, references: list[Any], timeout: float) -> tuple[list[Any], list[Any]]:
        assert references, "nothing was waited for"
        self.moments += 1
        assert self.moments < 300, "the pool hangs"
        self.moment(self.moments)
        for actor in self.actors:
            self._place(actor)
        done = [reference for reference in references if self._is_done(reference)]
        return done[:1], [one for one in references if one not in done[:1]]

    def _place(self, actor: Any) -> None:
        for node, room in self.places.items():
            taken = sum(one.node == node and not one.dead for one in self.actors)
            if not actor.node and not actor.dead and node not in self.lost and taken < room:
                actor.node = node

    def _is_done(self, reference: Any) -> bool:
        return reference.actor.dead or self.broken or bool(reference.actor.node)

    def get(self, reference: Any) -> Any:
        if reference.actor.dead or self.broken:
            raise ActorLostError("The actor died because of a cause.\nno module named synthaug")
        if reference.kind == "home":
            return reference.actor.node, f"10.0.0.{reference.actor.node}"
        work, content = reference.content
        if reference.kind == "call":
            return work(*content)
        self.done.append((content, reference.actor.node))
        return work()(content)

    def kill(self, actor: Any) -> None:
        actor.dead = True

    def nodes(self) -> list[dict[str, Any]]:
        return [{"NodeID": node, "Alive": node not in self.lost} for node in self.places]

    def room(self) -> int:
        return sum(count for node, count in self.places.items() if node not in self.lost)

    def living(self) -> int:
        return sum(bool(actor.node) and not actor.dead for actor in self.actors)


def crew_of(
    cluster: Cluster, lines: list[str], quota: Callable[[int], int | None] = lambda _: None
) -> Crew:
    start = SimpleNamespace(remote=cluster.actor)
    return Crew(Door(cluster, cluster.room, start, lines.append, quota), [])


def squares() -> Callable[[int], int]:
    return lambda item: item * item


def test_items_of_a_lost_machine_go_to_others_and_the_user_reads_one_line() -> None:
    cluster, lines = Cluster(a=1, b=2), list[str]()

    def moment(number: int) -> None:
        if number == 8:
            cluster.lose("b")

    cluster.moment = moment
    crew = crew_of(cluster, lines)
    assert sorted(crew.run(squares, iter(range(20)), 20)) == [i * i for i in range(20)]
    assert {node for item, node in cluster.done[-5:]} == {"a"}
    assert lines == ["  node 10.0.0.b was lost; 2 parts of the work go to other workers"]


def test_one_worker_finishes_though_all_others_wait_for_room_for_ever() -> None:
    cluster = Cluster(a=1)
    cluster.room = lambda: 8  # type: ignore[method-assign]
    crew = crew_of(cluster, [])
    assert sorted(crew.run(squares, iter(range(5)), 5)) == [0, 1, 4, 9, 16]
    assert cluster.living() == 1
    assert all(actor.node or actor.dead for actor in cluster.actors), "one waits still"


def test_the_room_is_not_asked_for_with_every_result() -> None:
    cluster, asked = Cluster(a=2), list[int]()

    def room() -> int:
        asked.append(1)
        return 2

    cluster.room = room  # type: ignore[method-assign]
    list(crew_of(cluster, []).run(squares, iter(range(40)), 40))
    assert len(asked) == 1


def test_machines_that_join_are_used(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ray_workers, "CHECK_SECONDS", 0.0)
    cluster = Cluster(a=1)

    def moment(number: int) -> None:
        if number == 6:
            cluster.places["b"] = 3

    cluster.moment = moment
    list(crew_of(cluster, []).run(squares, iter(range(30)), 30))
    assert {node for _, node in cluster.done} == {"a", "b"}
    assert cluster.living() == 4


def test_a_pool_has_no_more_workers_than_asked_for_and_keeps_them() -> None:
    cluster = Cluster(a=9)
    crew = crew_of(cluster, [])
    list(crew.run(squares, iter(range(30)), 2))
    assert cluster.living() == 2 == len(crew.idle)


def test_items_are_drawn_as_workers_come_free() -> None:
    cluster, drawn = Cluster(a=2), list[int]()

    def items() -> Iterator[int]:
        for item in itertools.count():
            drawn.append(item)
            yield item

    results = crew_of(cluster, []).run(squares, items(), 2)
    for _ in range(3):
        next(results)
    assert len(drawn) <= 3 + 2 + 1  # done, running, and one at hand
    results.close()  # type: ignore[attr-defined]
    assert cluster.living() == 0, "a worker goes on though nobody wants its results"


def test_a_worker_that_is_killed_is_told_of_and_replaced() -> None:
    cluster, lines = Cluster(a=1), list[str]()

    def moment(number: int) -> None:
        if number == 3:
            cluster.actors[0].dead = True

    cluster.moment = moment
    assert sorted(crew_of(cluster, lines).run(squares, iter(range(4)), 4)) == [0, 1, 4, 9]
    assert lines == ["  a worker on 10.0.0.a was lost; its work is done again"]


def test_work_that_fails_ends_every_worker() -> None:
    cluster = Cluster(a=3)

    def fails() -> Callable[[int], float]:
        return lambda item: 1 / (item - 4)

    with pytest.raises(ZeroDivisionError):
        list(crew_of(cluster, []).run(fails, iter(range(9)), 3))
    assert cluster.living() == 0


def test_an_item_that_ends_every_worker_ends_the_run() -> None:
    cluster = Cluster(a=1)

    def moment(number: int) -> None:
        for actor in cluster.actors:
            actor.dead = bool(actor.node)

    cluster.moment = moment
    with pytest.raises(RunError, match=r"8 workers were lost .* lower cluster\.workers"):
        list(crew_of(cluster, []).run(squares, iter(range(3)), 1))


def test_workers_that_cannot_be_started_end_the_run() -> None:
    cluster = Cluster(a=1)
    cluster.broken = True
    with pytest.raises(RunError, match=r"6 workers in a row .*no module named synthaug"):
        list(crew_of(cluster, []).run(squares, iter(range(3)), 1))


def test_failed_starts_count_in_a_row_alone() -> None:
    """Five before the first worker and four after its loss: never six in a row."""
    cluster, left = Cluster(a=1), [5, 5]

    def moment(number: int) -> None:
        phase = min(len(cluster.done), 1)
        if left[phase]:
            left[phase] -= 1
            for actor in cluster.actors:
                actor.dead = True

    cluster.moment = moment
    assert sorted(crew_of(cluster, []).run(squares, iter(range(3)), 1)) == [0, 1, 4]
    assert left == [0, 0]


def test_a_task_is_done_again_on_another_machine() -> None:
    cluster, lines, ticks = Cluster(a=1, b=1), list[str](), list[int]()

    def moment(number: int) -> None:
        if number == 2:
            cluster.lose("a")

    cluster.moment = moment
    crew = crew_of(cluster, lines)
    assert crew.call(pow, (2, 5), lambda: ticks.append(1)) == 32
    assert ticks and crew.idle[0].node == "b"
    assert lines == ["  node 10.0.0.a was lost; 1 part of the work goes to other workers"]


def test_a_task_that_ends_its_workers_is_not_tried_for_ever() -> None:
    cluster = Cluster(a=1)

    def moment(number: int) -> None:
        for actor in cluster.actors:
            actor.dead = bool(actor.node)

    cluster.moment = moment
    with pytest.raises(RunError, match="4 workers were lost"):
        crew_of(cluster, []).call(pow, (2, 5), lambda: None)


def test_the_user_is_told_when_no_worker_has_room(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ray_workers, "WAIT_SECONDS", -1.0)
    cluster, lines = Cluster(), list[str]()

    def moment(number: int) -> None:
        if number == 3:
            cluster.places["a"] = 1

    cluster.moment = moment
    list(crew_of(cluster, lines).run(squares, iter(range(2)), 2))
    assert lines[0].startswith("  no worker has room: ")
    assert len(lines) <= 3


# ---- Beside other jobs ----


def test_a_pool_gives_workers_up_when_another_job_wants_them(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(ray_workers, "CHECK_SECONDS", 0.0)
    cluster, lines = Cluster(a=6), list[str]()
    crew = crew_of(cluster, lines, lambda _: 2 if len(cluster.done) > 12 else None)
    assert sorted(crew.run(squares, iter(range(40)), 40)) == [i * i for i in range(40)]
    assert cluster.living() == 2
    assert len(cluster.actors) == 6, "workers were started to be ended"
    assert lines == [], "a worker that is given up is no loss"


def test_a_pool_that_may_have_more_again_takes_them(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ray_workers, "CHECK_SECONDS", 0.0)
    cluster = Cluster(a=4)
    crew = crew_of(cluster, [], lambda _: 1 if len(cluster.done) < 10 else None)
    results = crew.run(squares, iter(range(40)), 40)
    for _ in range(8):
        next(results)
    assert cluster.living() == 1
    assert len(list(results)) == 32
    assert cluster.living() == 4


def test_workers_that_wait_for_room_are_given_up_first(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ray_workers, "CHECK_SECONDS", 0.0)
    cluster = Cluster(a=2)
    cluster.room = lambda: 8  # type: ignore[method-assign]
    crew = crew_of(cluster, [], lambda _: 2 if len(cluster.done) > 4 else None)
    assert len(list(crew.run(squares, iter(range(20)), 20))) == 20
    assert cluster.living() == 2
    assert len(cluster.actors) == 8


@pytest.mark.parametrize(("weights", "least"), [((1.0, 1.0), (2, 2)), ((3.0, 1.0), (3, 1))])
def test_two_jobs_share_a_cluster_by_their_weights(
    monkeypatch: pytest.MonkeyPatch, weights: tuple[float, float], least: tuple[int, int]
) -> None:
    """The second comes when the first has all places, and neither waits for the other's end."""
    monkeypatch.setattr(ray_workers, "CHECK_SECONDS", 0.0)
    cluster, board = Cluster(a=4), Board()

    def job(name: str, weight: float) -> Crew:
        return crew_of(cluster, [], lambda wanted: board.quota("CPU", name, wanted, weight, 4))

    crews = [job("a", weights[0]), job("b", weights[1])]
    first, second = [crew.run(squares, itertools.count(), 4) for crew in crews]
    for _ in range(6):
        next(first)
    assert cluster.living() == 4

    def go_on_with_the_first(_: int) -> None:
        cluster.moment = lambda _: None
        next(first)
        cluster.moment = go_on_with_the_first

    cluster.moment = go_on_with_the_first
    for _ in range(16):
        next(second)
    numbers = [len(crew._running) + len(crew.idle) for crew in crews]
    assert numbers == list(least)


def test_a_task_that_waits_for_a_worker_says_so_to_other_jobs() -> None:
    cluster, wishes = Cluster(a=1), list[int]()

    def quota(wanted: int) -> int:
        wishes.append(wanted)
        return 1

    assert crew_of(cluster, [], quota).call(pow, (2, 5), lambda: None) == 32
    assert wishes[0] == 1
