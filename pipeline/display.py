"""Progress as bars on a terminal, as lines, or as events for other programs.

Speeds and times are those of rich, which also draws the bars; no thread is started.
"""

from __future__ import annotations

import json
import math
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from datetime import timedelta
from itertools import islice
from typing import TYPE_CHECKING, Any, Protocol

from synthaug.pipeline.core.errors import printable
from synthaug.pipeline.execution.progress import (
    DONE,
    EARLIER,
    NOTHING,
    RUNNING,
    WAITING,
    Details,
)

if TYPE_CHECKING:
    from rich.live import Live
    from rich.progress import Progress, Task
    from rich.text import Text

KINDS = ("auto", "lines", "json")
MOST_DETAILS = 6  # that a line has room for
LONGEST_NAME = 24  # characters
SIGNS = {WAITING: "[ ]", RUNNING: "[>]", DONE: "[x]", EARLIER: "[x]"}
Say = Callable[[str], None]  # prints a line on stdout


class Display(Protocol):
    """Shows lines, progress and the states of a run's steps."""

    def tell(self, text: str) -> None:
        """Show a line that stays."""

    def show_progress(
        self, done: int, total: int, unit: str, details: Details = NOTHING, /
    ) -> None:
        """Show how far a piece of work is, unless that was shown just before."""

    def show_states(self, states: Mapping[str, str]) -> None:
        """Show the state of each step."""

    def close(self) -> None:
        """Leave nothing but lines on the terminal."""


def display(kind: str, say: Say) -> Display:
    """Return the display of a kind; auto: bars where stderr is a terminal, else lines."""
    if kind == "json":
        return JsonLines(say)
    is_closed = sys.stderr is None  # before we began
    if kind == "auto" and not is_closed and sys.stderr.isatty():
        return Bars(say)
    return Lines(say)


class Work:
    """One piece of work after the other, with the speed that rich finds.

    Another one begins where the total or the unit change, or less is done than before.
    """

    def __init__(self) -> None:
        from rich.progress import (
            BarColumn,
            MofNCompleteColumn,
            Progress,
            TextColumn,
            TimeRemainingColumn,
        )

        self.bars: Progress = Progress(
            TextColumn("{task.description}", markup=False),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("{task.fields[speed]}", markup=False),
            TimeRemainingColumn(),
            TextColumn("{task.fields[details]}", markup=False),
            auto_refresh=False,
            disable=True,
            get_time=time.monotonic,
        )

    def update(self, done: int, total: int, unit: str, details: Details) -> Task:
        """Take how far the work is, and return what is known of it."""
        task = next(iter(self.bars.tasks), None)
        if task is None or (task.description, task.total) != (unit, total) or done < task.completed:
            if task is not None:
                self.bars.remove_task(task.id)
            self.bars.add_task(unit, total=total, speed="", details="")
            task = self.bars.tasks[0]
        self.bars.update(task.id, completed=done)
        speed = "" if task.speed is None else f"{task.speed:.1f}/s"
        self.bars.update(task.id, speed=speed, details=", ".join(_described(details)))
        return task


def _described(details: Details) -> Iterator[str]:
    """Yield the largest of what is known, and whether there is more."""
    largest = sorted(details, key=lambda name: -details[name])
    for name in islice(largest, MOST_DETAILS):
        value = details[name]
        number = f"{value}" if isinstance(value, int) else f"{value:.3g}"
        yield f"{printable(name)[:LONGEST_NAME]} {number}"
    if len(largest) > MOST_DETAILS:
        yield "..."


class Clock:
    """Says when the last thing shown is old enough for the next."""

    def __init__(self, interval: float) -> None:
        self._interval = interval  # seconds
        self._shown_at = -math.inf

    def is_time(self) -> bool:
        """Whether to show the next; it then counts as shown now."""
        now = time.monotonic()
        if now - self._shown_at < self._interval:
            return False
        self._shown_at = now
        return True


class Lines:
    """Plain lines; one of progress every ten seconds."""

    def __init__(self, say: Say) -> None:
        self._say = say
        self._work = Work()
        self._clock = Clock(10.0)

    def tell(self, text: str) -> None:
        """Print a line."""
        self._say(text)

    def show_progress(
        self, done: int, total: int, unit: str, details: Details = NOTHING, /
    ) -> None:
        """Print a line with speed, time left and details."""
        task = self._work.update(done, total, unit, details)
        if not self._clock.is_time():
            return
        parts = [
            f"{done}/{total} {unit}",
            task.fields["speed"],
            _left(task),
            task.fields["details"],
        ]
        self._say(f"  {', '.join(part for part in parts if part)}")

    def show_states(self, states: Mapping[str, str]) -> None:
        """Print nothing: each step has its own line."""

    def close(self) -> None:
        """Do nothing."""


def _left(task: Task) -> str:
    """Return the time that a piece of work will still take, "" where it is not known."""
    if task.time_remaining is None or not task.speed:
        return ""
    return f"{timedelta(seconds=round(task.time_remaining))} left"


class JsonLines:
    """An event a line, as JSON: lines, states, progress at most once a second."""

    def __init__(self, say: Say) -> None:
        self._say = say
        self._work = Work()
        self._clock = Clock(1.0)

    def tell(self, text: str) -> None:
        """Print a line as an event."""
        self._event("line", text=text.strip())

    def show_progress(
        self, done: int, total: int, unit: str, details: Details = NOTHING, /
    ) -> None:
        """Print how far the work is as an event; the end always."""
        task = self._work.update(done, total, unit, details)
        if not self._clock.is_time() and done < total:
            return
        self._event(
            "progress",
            done=done,
            total=total,
            unit=unit,
            per_second=task.speed,
            seconds_left=task.time_remaining,
            details=dict(details),
        )

    def show_states(self, states: Mapping[str, str]) -> None:
        """Print the state of each step as an event."""
        self._event("steps", states=dict(states))

    def close(self) -> None:
        """Do nothing."""

    def _event(self, name: str, **content: Any) -> None:
        self._say(json.dumps({"event": name, **content}))


class Bars:
    """Bars of rich on stderr, redrawn in place; lines go to stdout above them."""

    def __init__(self, say: Say) -> None:
        from rich.console import Console
        from rich.text import Text

        self._say = say
        self._work = Work()
        self._clock = Clock(0.2)
        self._console = Console(stderr=True)
        self._states: Text = Text()
        self._live: Live | None = None

    def tell(self, text: str) -> None:
        """Print a line in place of the bars, which come back with the next progress."""
        self.close()
        self._say(text)

    def show_progress(
        self, done: int, total: int, unit: str, details: Details = NOTHING, /
    ) -> None:
        """Draw the bar of the work anew."""
        self._work.update(done, total, unit, details)
        if self._clock.is_time():
            self._draw()

    def show_states(self, states: Mapping[str, str]) -> None:
        """Keep the states of the steps for above the bar."""
        from rich.text import Text

        styles = {WAITING: "dim", RUNNING: "bold", DONE: "green", EARLIER: "green"}
        line = Text()
        for name, state in states.items():
            line.append(f"{SIGNS[state]} {name}  ", style=styles[state])
        self._states = line

    def close(self) -> None:
        """Take the bars off the terminal."""
        if self._live is not None:
            self._live.stop()
            self._live = None

    def _draw(self) -> None:
        from rich.console import Group
        from rich.live import Live

        parts = [self._work.bars.get_renderable()]
        if self._states:
            parts.insert(0, self._states)
        drawn = Group(*parts)
        if self._live is None:
            self._live = Live(
                drawn,
                console=self._console,
                auto_refresh=False,
                transient=True,
                redirect_stdout=False,
                redirect_stderr=False,
            )
            self._live.start()
        self._live.update(drawn, refresh=True)
