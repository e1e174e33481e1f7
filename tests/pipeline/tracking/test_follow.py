"""Logs that are followed: every row once, of the step and of the folders inside it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from synthaug.pipeline.core.storage import Folder
from synthaug.pipeline.tracking import follow
from synthaug.pipeline.tracking.follow import Follower


class Kept:
    def __init__(self) -> None:
        self.rows: list[Any] = []
        self.closed = False

    def scalars(self, group: str, values: Any, step: int) -> None:
        self.rows.append((group, dict(values), step))

    def close(self) -> None:
        self.closed = True


def write(folder: Path, file: str, *rows: dict[str, Any]) -> None:
    folder.mkdir(exist_ok=True)
    (folder / file).write_text("".join(json.dumps(row) + "\n" for row in rows))


ONE = {"step": 1, "steps": 9, "steps_per_s": 3.0, "total": 2.0}
TWO = {"step": 2, "steps": 9, "steps_per_s": 4.0, "total": 1.0, "note": "no number"}


def test_each_row_is_handed_on_once(tmp_path: Path) -> None:
    kept = Kept()
    follower = Follower(kept)
    folder = Folder.at(tmp_path)
    follower.follow("train", folder)
    write(tmp_path, "log.jsonl", ONE)
    follower.follow("train", folder)
    write(tmp_path, "log.jsonl", ONE, TWO)
    follower.follow("train", folder)
    follower.follow("train", folder)
    assert [
        ("train", {"steps_per_s": 3.0, "total": 2.0}, 1),
        ("train", {"steps_per_s": 4.0, "total": 1.0}, 2),
    ] == kept.rows
    follower.close()
    assert kept.closed


def test_evaluations_and_inner_trainings_have_groups_of_their_own(tmp_path: Path) -> None:
    kept = Kept()
    write(tmp_path, "evaluation.jsonl", {"step": 5, "AP": 0.5, "AP50": None, "images": 30})
    write(tmp_path / "judge", "log.jsonl", ONE)
    Follower(kept).follow("verify", Folder.at(tmp_path))
    assert [
        ("verify", {"AP": 0.5, "images": 30}, 5),
        ("verify/judge", {"steps_per_s": 3.0, "total": 2.0}, 1),
    ] == kept.rows


def test_progress_is_shown_and_followed_now_and_then(tmp_path: Path, monkeypatch: Any) -> None:
    kept = Kept()
    shown: list[int] = []
    clock = [100.0]
    monkeypatch.setattr(follow.time, "monotonic", lambda: clock[0])
    show = Follower(kept).beside("train", Folder.at(tmp_path), lambda done, *_: shown.append(done))
    write(tmp_path, "log.jsonl", ONE)
    show(1, 9, "steps")
    write(tmp_path, "log.jsonl", ONE, TWO)
    show(2, 9, "steps")
    assert 1 == len(kept.rows)
    clock[0] += follow.SECONDS
    show(3, 9, "steps")
    assert 2 == len(kept.rows)
    assert [1, 2, 3] == shown


def test_without_a_tracker_nothing_is_read(tmp_path: Path) -> None:
    def progress(*_: Any) -> None: ...

    follower = Follower(None)
    assert progress is follower.beside("train", Folder.at(tmp_path / "none"), progress)
    follower.follow("train", Folder.at(tmp_path / "none"))
    follower.close()
