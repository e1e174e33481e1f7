"""How fast a piece of work goes and how long it will take, from what is told of it now and then."""

from __future__ import annotations


class Pace:
    """Knows when the work of now began; another one begins where total or unit change, or less is done than before."""

    def __init__(self) -> None:
        self._work: tuple[int, str] | None = None
        self._first, self._began, self._last = 0, 0.0, 0

    def line(self, done: int, total: int, unit: str, now: float) -> str:
        """What to show of `done` of `total` at the time `now`, seconds."""
        if (total, unit) != self._work or done < self._last:
            self._work, self._first, self._began = (total, unit), done, now
        self._last = done
        rate = (done - self._first) / max(now - self._began, 1e-9)
        left = f", {clock((total - done) / rate)} left" if rate > 0 else ""
        return f"{done}/{total} {unit}, {rate:.1f}/s{left}"


def clock(seconds: float) -> str:
    """Seconds as minutes and seconds, or hours, minutes and seconds."""
    minutes, rest = divmod(round(seconds), 60)
    return (
        f"{minutes // 60}:{minutes % 60:02d}:{rest:02d}"
        if minutes >= 60
        else f"{minutes}:{rest:02d}"
    )
