"""Workers give what one process gives, in its order; their ends are told."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest

from synthaug.pipeline.core.errors import DatasetError, RunError
from synthaug.pipeline.core.scene import Dataset, Scene
from synthaug.pipeline.formats.toy import dataset as toy
from synthaug.pipeline.survey import workers
from synthaug.pipeline.survey.look import examine
from synthaug.pipeline.survey.workers import CHUNK, look_at_all, num_workers

TABLE = toy.read(toy.Config("train", 3 * CHUNK + 5, 48), Path())


class Broken(Dataset):
    """A table of which one scene does something else."""

    def __init__(self, at: int, ends: bool) -> None:
        self.categories, self.skipped = TABLE.categories, TABLE.skipped
        self._at, self._ends = at, ends

    def __len__(self) -> int:
        return len(TABLE)

    def __getitem__(self, index: int) -> Scene:
        if index == self._at and self._ends:
            os.kill(os.getpid(), signal.SIGKILL)
        if index == self._at:
            raise ValueError("this is none")
        return TABLE[index]

    def fingerprint(self) -> str:
        return ""


@pytest.mark.parametrize("count", [2, 3, 7])
def test_any_number_of_workers_gives_the_same_in_order(count: int) -> None:
    alone = list(look_at_all(TABLE, 1, examine))
    assert [CHUNK, CHUNK, CHUNK, 5] == [len(facts) for facts, _ in alone]
    together = list(look_at_all(TABLE, count, examine))
    assert [facts for facts, _ in alone] == [facts for facts, _ in together]


def test_an_exception_in_a_worker_is_that_of_the_parent() -> None:
    with pytest.raises(ValueError, match="this is none"):
        list(look_at_all(Broken(CHUNK + 1, ends=False), 2, examine))


def test_a_killed_worker_is_told_with_its_images() -> None:
    with pytest.raises(RunError, match=f"images {CHUNK} to {2 * CHUNK}"):
        list(look_at_all(Broken(CHUNK + 1, ends=True), 2, examine))


def test_a_set_that_says_stop_stops_in_a_worker_too() -> None:
    class Strict(Broken):
        def skips_bad(self, index: int) -> bool | None:
            return False

        def __getitem__(self, index: int) -> Scene:
            raise DatasetError("a.png: is broken")

    with pytest.raises(DatasetError, match="is broken"):
        list(look_at_all(Strict(0, ends=False), 2, examine))


def test_few_images_are_not_worth_a_worker(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(workers.os, "sched_getaffinity", lambda _: range(8))
    assert [1, 1, 2, 8] == [num_workers(images) for images in (0, 255, 256, 100_000)]
