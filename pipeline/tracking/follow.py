"""The logs of a run's trainings, followed while they grow."""

from __future__ import annotations

import time
from collections.abc import Mapping

from synthaug.pipeline.core.json_values import Json
from synthaug.pipeline.core.storage import Folder
from synthaug.pipeline.execution.progress import NOTHING, Details, ShowProgress
from synthaug.pipeline.execution.training import EVALUATION, LOG, read_log
from synthaug.pipeline.tracking.trackers import Tracker

SECONDS = 5.0  # at least, between two looks at a log
NO_VALUES = ("step", "steps")


class Follower:
    """Hands the rows of logs on to a tracker, each once."""

    def __init__(self, tracker: Tracker | None) -> None:
        """Take a tracker; None does nothing."""
        self._tracker = tracker
        self._told: dict[tuple[str, str], int] = {}  # group and file -> last step
        self._looked = 0.0

    def follow(self, step: str, folder: Folder) -> None:
        """Hand on what is new in the logs of a step's folder, and of the folders inside."""
        if self._tracker is None:
            return
        self._follow(step, folder)
        for name in folder.folders():
            self._follow(f"{step}/{name}", folder.sub(name))

    def _follow(self, group: str, folder: Folder) -> None:
        assert self._tracker is not None
        for file in (LOG, EVALUATION):
            last = self._told.get((group, file), 0)
            for row in read_log(folder, file):
                step = int(row["step"])
                if step > last:
                    self._tracker.scalars(group, _values(row), step)
                    self._told[group, file] = step

    def beside(self, step: str, folder: Folder, progress: ShowProgress) -> ShowProgress:
        """Return what shows progress and, every few seconds, follows the logs too."""
        if self._tracker is None:
            return progress

        def show(done: int, total: int, unit: str, details: Details = NOTHING, /) -> None:
            progress(done, total, unit, details)
            now = time.monotonic()
            if now - self._looked >= SECONDS:
                self._looked = now
                self.follow(step, folder)

        return show

    def close(self) -> None:
        """Close the tracker."""
        if self._tracker is not None:
            self._tracker.close()


def _values(row: Mapping[str, object]) -> dict[str, float]:
    """Return the numbers of a row of a log."""
    values: Json = {}
    for name, value in row.items():
        is_number = isinstance(value, (int, float)) and not isinstance(value, bool)
        if is_number and name not in NO_VALUES:
            values[name] = value
    return values
