"""Speed of a piece of work, and the time it will still take."""

from __future__ import annotations


class Progress:
    """Measures from the first report on a piece of work.

    Another piece begins where the total or the unit change, or less is done than before.
    """

    def __init__(self) -> None:
        self._work: tuple[int, str] | None = None
        self._first_done = 0
        self._began = 0.0
        self._last_done = 0

    def line(self, done: int, total: int, unit: str, now: float) -> str:
        """Return a line on `done` of `total` at the time `now`, in seconds."""
        is_new = (total, unit) != self._work or done < self._last_done
        if is_new:
            self._work = (total, unit)
            self._first_done = done
            self._began = now
        self._last_done = done
        elapsed = max(now - self._began, 1e-9)
        rate = (done - self._first_done) / elapsed
        line = f"{done}/{total} {unit}, {rate:.1f}/s"
        if rate > 0:
            line += f", {clock((total - done) / rate)} left"
        return line


def clock(seconds: float) -> str:
    """Return seconds as M:SS, or H:MM:SS from an hour on."""
    minutes, seconds = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes}:{seconds:02d}"
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{seconds:02d}"
