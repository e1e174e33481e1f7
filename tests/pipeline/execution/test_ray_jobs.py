"""Jobs on one cluster divide its workers by their weights, and none waits for another's end."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from synthaug.pipeline.execution import ray_jobs
from synthaug.pipeline.execution.ray_jobs import Board, Shares, Wish, divided


def wishes(**jobs: tuple[int, float]) -> dict[str, Wish]:
    return {name: Wish(wanted, weight, 0.0) for name, (wanted, weight) in jobs.items()}


def test_workers_go_by_weight() -> None:
    assert divided(wishes(a=(99, 1), b=(99, 1)), 8) == {"a": 4, "b": 4}
    assert divided(wishes(a=(99, 3), b=(99, 1)), 8) == {"a": 6, "b": 2}
    assert divided(wishes(a=(99, 1), b=(99, 0.01)), 8) == {"a": 7, "b": 1}


def test_what_one_job_cannot_use_the_others_get() -> None:
    assert divided(wishes(a=(2, 5), b=(99, 1), c=(99, 1)), 8) == {"a": 2, "b": 3, "c": 3}
    assert divided(wishes(a=(2, 1), b=(3, 1)), 8) == {"a": 2, "b": 3}


jobs = st.dictionaries(
    st.sampled_from("abcdef"), st.tuples(st.integers(1, 40), st.floats(0.01, 100)), min_size=1
)


@settings(deadline=None, max_examples=60)
@given(jobs, st.integers(0, 60))
def test_no_job_starves_and_no_worker_is_given_twice(
    asked: dict[str, tuple[int, float]], total: int
) -> None:
    given_to = divided(wishes(**asked), total)
    assert min(given_to.values()) >= 1
    assert all(given_to[job] <= wanted for job, (wanted, _) in asked.items())
    wanted_in_all = sum(wanted for wanted, _ in asked.values())
    assert sum(given_to.values()) == max(len(asked), min(total, wanted_in_all))


def test_a_job_alone_has_all(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [100.0]
    monkeypatch.setattr(ray_jobs.time, "monotonic", lambda: now[0])
    board = Board()
    assert board.quota("CPU", "a", 8, 1.0, 8) is None
    assert board.quota("CPU", "b", 8, 1.0, 8) == 4
    assert board.quota("GPU", "b", 8, 1.0, 2) is None, "each kind is divided by itself"
    assert board.quota("CPU", "a", 8, 1.0, 8) == 4
    now[0] += ray_jobs.SILENT_SECONDS - 1
    assert board.quota("CPU", "a", 8, 1.0, 8) == 4
    now[0] += 2
    assert board.quota("CPU", "a", 8, 1.0, 8) is None, "the other one said nothing any more"


class LostError(Exception):
    """Stands for RayError."""


class FakeRay:
    """Ray as far as a driver needs it to ask a board."""

    exceptions = SimpleNamespace(RayError=LostError)

    def __init__(self) -> None:
        self.asked: list[tuple[Any, ...]] = []
        self.answers: list[Any] = []  # of questions, in their order, as far as there are any
        self.options: dict[str, Any] = {}

    def remote(self, **_: Any) -> Any:
        def ask(*question: Any) -> int:
            self.asked.append(question)
            return len(self.asked) - 1

        actor = SimpleNamespace(quota=SimpleNamespace(remote=ask))

        def options(**given_options: Any) -> Any:
            self.options = given_options
            return SimpleNamespace(remote=lambda: actor)

        return lambda _: SimpleNamespace(options=options)

    def wait(self, references: list[int], timeout: float) -> tuple[list[int], list[int]]:
        assert timeout == 0, "the pool waits for the board"
        done = [one for one in references if one < len(self.answers)]
        return done, [one for one in references if one not in done]

    def get(self, reference: int) -> Any:
        answer = self.answers[reference]
        if isinstance(answer, Exception):
            raise answer
        return answer


def test_a_driver_goes_by_the_last_answer_and_waits_for_none() -> None:
    ray = FakeRay()
    shares = Shares(ray, "mine", 2.0)
    assert ray.options["get_if_exists"] and ray.options["lifetime"] == "detached"
    assert shares.quota("CPU", 8, 16) is None
    assert shares.quota("CPU", 8, 16) is None
    assert ray.asked == [("CPU", "mine", 8, 2.0, 16)], "asked again before there was an answer"
    ray.answers.append(3)
    assert shares.quota("CPU", 9, 16) == 3
    assert ray.asked[1:] == [("CPU", "mine", 9, 2.0, 16)]
    ray.answers.append(LostError())
    assert shares.quota("CPU", 9, 16) is None, "a lost board stops nobody"
    assert len(ray.asked) == 3
