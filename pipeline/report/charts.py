"""Charts as SVG text: pure functions of numbers, without script, links or fonts; every string is escaped.

Axes, ticks and texts take the colour of the text around them (currentColor), series the palette of the page where it has one
(`--k0` .. `--k6`), so a chart suits a light and a dark page. Positions are in the units of the view box, about pixels.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape

WIDTH, PLOT_HEIGHT = 344, 150  # of a whole chart, of the part inside the axes
LEFT, RIGHT, TITLE_ROW, LEGEND_ROW = 58, 10, 20, 15
WIDEST = 720  # pixels of a chart on a page
FOREST_WIDTH, FOREST_NAMES, FOREST_ROW = (
    620,
    220,
    21,
)  # of a forest plot: whole, most for names, height of a row
LETTER = 6.3  # width of a letter at FONT, about
FONT = 11
PALETTE = ("#0b67a8", "#d9760a", "#00835f", "#b3568c", "#5f6670", "#8a6d00", "#3a9ad0")
DASHES = (
    "",
    "6 3",
    "2 2.5",
)  # of the first series, so that they can be told apart without colour; then solid

Points = Sequence[tuple[float, float]]


def line_chart(title: str, series: Mapping[str, Points], x_label: str, y_label: str) -> str:
    """Draw named lines through (x, y) points, in the order given; a series of one point is a dot.

    The x axis begins at 0 where all x are positive; the y axis spans the values. All numbers must be finite.
    """
    xs = [x for points in series.values() for x, _ in points]
    ys = [y for points in series.values() for _, y in points]
    assert all(map(math.isfinite, [*xs, *ys])), f"{title}: a value is not finite"
    if not xs:
        return _empty(title)
    x_ticks, y_ticks = nice_ticks(min(0.0, *xs), max(xs)), nice_ticks(min(ys), max(ys))
    frame = _Frame.below(
        title, list(series), (x_ticks[0], max(x_ticks[-1], *xs)), (y_ticks[0], y_ticks[-1]), 18
    )
    labels = [
        f'<text x="{frame.x(tick)}" y="{frame.bottom + 14}" text-anchor="middle">{tick:,g}</text>'
        for tick in x_ticks
    ]
    lines = []
    for k, points in enumerate(series.values()):
        dash = f";stroke-dasharray:{DASHES[k]}" if k < len(DASHES) and DASHES[k] else ""
        places = [(frame.x(x), frame.y(y)) for x, y in points]
        if len(places) == 1:
            lines.append(
                f'<circle cx="{places[0][0]}" cy="{places[0][1]}" r="2.5" style="fill:{_colour(k)}"/>'
            )
        elif places:
            path = " ".join(f"{x},{y}" for x, y in places)
            style = f"fill:none;stroke:{_colour(k)};stroke-width:1.6;stroke-linejoin:round{dash}"
            lines.append(f'<polyline points="{path}" style="{style}"/>')
    return _svg(
        title, frame, list(series), [*_grid(frame, y_ticks), *labels, *lines], x_label, y_label
    )


@dataclass(frozen=True)
class Interval:
    """One row of a forest plot."""

    name: str
    low: float
    mean: float
    high: float
    series: int = 0  # whose colour it has


def forest_chart(title: str, rows: Sequence[Interval], x_label: str) -> str:
    """Draw intervals below each other, a dot at each mean, around a line at 0. All numbers must be finite."""
    values = [v for row in rows for v in (row.low, row.mean, row.high)]
    assert all(map(math.isfinite, values)), f"{title}: a value is not finite"
    if not rows:
        return _empty(title)
    ticks = nice_ticks(min(0.0, *values), max(0.0, *values))
    top, left = TITLE_ROW + 6, min(FOREST_NAMES, 14 + LETTER * max(len(row.name) for row in rows))
    bottom = top + FOREST_ROW * len(rows)

    def x(value: float) -> float:
        return round(
            left + (FOREST_WIDTH - left - RIGHT - 8) * (value - ticks[0]) / (ticks[-1] - ticks[0]),
            1,
        )

    drawn = []
    for tick in ticks:
        strength = 0.6 if tick == 0 else 0.15
        drawn.append(
            f'<path d="M{x(tick)} {top}V{bottom}" stroke="currentColor" stroke-opacity="{strength}"/>'
        )
        drawn.append(f'<text x="{x(tick)}" y="{bottom + 14}" text-anchor="middle">{tick:,g}</text>')
    for k, row in enumerate(rows):
        y, colour = top + FOREST_ROW * (k + 0.5), _colour(row.series)
        told = escape(f"{row.name}: {row.mean:+.2f} [{row.low:+.2f}, {row.high:+.2f}]")
        ends = "".join(f"M{x(v)} {y - 4}v8" for v in (row.low, row.high))
        drawn.append(
            f'<text x="{left - 8:.1f}" y="{y + 4}" text-anchor="end">{escape(row.name)}</text>'
        )
        drawn.append(
            f'<g><title>{told}</title><path d="M{x(row.low)} {y}H{x(row.high)}{ends}" style="stroke:{colour}"'
        )
        drawn.append(
            f' stroke-width="1.6"/><circle cx="{x(row.mean)}" cy="{y}" r="4" style="fill:{colour}"/></g>'
        )
    frame = _Frame(top, bottom, bottom + 34, (0, 1), (0, 1))
    return _svg(title, frame, [], drawn, x_label, "", FOREST_WIDTH, left)


def nice_ticks(low: float, high: float) -> list[float]:
    """Two to eight round numbers from at most `low` to at least `high`; a spread too small to be told counts as none."""
    most = max(abs(low), abs(high))
    spread = high - low if high - low > max(1e-5 * most, 1e-9) else most if most > 1e-9 else 1.0
    power = 10.0 ** math.floor(math.log10(spread / 4))
    step = next(m * power for m in (1, 2, 2.5, 5, 10) if m * power * 5 >= spread)
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    return [round(k * step, 10) for k in range(first, max(last, first + 1) + 1)]


@dataclass(frozen=True)
class _Frame:
    """Where the axes are, and which values their ends stand for."""

    top: float
    bottom: float
    height: float  # of the whole chart
    x_range: tuple[float, float]
    y_range: tuple[float, float]

    @classmethod
    def below(
        cls,
        title: str,
        names: list[str],
        x_range: tuple[float, float],
        y_range: tuple[float, float],
        labels: float,
    ) -> _Frame:
        """Make the frame below the title and the legend, with `labels` units for the labels below it."""
        top = (TITLE_ROW if title else 6) + LEGEND_ROW * len(_legend_rows(names)) + 4
        return cls(top, top + PLOT_HEIGHT, top + PLOT_HEIGHT + labels + 16, x_range, y_range)

    def x(self, value: float) -> float:
        """Place of a value on the x axis."""
        low, high = self.x_range
        return round(LEFT + (WIDTH - LEFT - RIGHT) * (value - low) / ((high - low) or 1), 1)

    def y(self, value: float) -> float:
        """Place of a value on the y axis."""
        low, high = self.y_range
        return round(
            self.bottom - (self.bottom - self.top) * (value - low) / ((high - low) or 1), 1
        )


def _svg(
    title: str,
    frame: _Frame,
    names: list[str],
    inside: list[str],
    x_label: str,
    y_label: str,
    width: float = WIDTH,
    left: float = LEFT,
) -> str:
    middle = (frame.top + frame.bottom) / 2
    parts = [
        f'<svg class="chart" viewBox="0 0 {width} {frame.height:.0f}" role="img" aria-label="{escape(title)}"'
        f' style="display:block;width:100%;max-width:{min(1.5 * width, WIDEST):.0f}px;height:auto"'
        f' font-size="{FONT}" fill="currentColor">',
        f"<title>{escape(title)}</title>",
        f'<text x="0" y="13" font-size="13" font-weight="600">{escape(title)}</text>',
        *_legend(names, TITLE_ROW if title else 6),
        *inside,
        f'<text x="{(left + width - RIGHT) / 2}" y="{frame.height - 3:.0f}" text-anchor="middle">{escape(x_label)}</text>',
        f'<text x="11" y="{middle}" text-anchor="middle" transform="rotate(-90 11 {middle})">{escape(y_label)}</text>',
        "</svg>",
    ]
    return "".join(parts)


def _empty(title: str) -> str:
    frame = _Frame.below(title, [], (0, 1), (0, 1), 18)
    where = f'x="{WIDTH / 2}" y="{(frame.top + frame.bottom) / 2}"'
    return _svg(title, frame, [], [f'<text {where} text-anchor="middle">no data</text>'], "", "")


def _grid(frame: _Frame, ticks: Sequence[float]) -> list[str]:
    """Lines across at the y ticks, the lowest one as the axis, with their numbers."""
    drawn = []
    for tick in ticks:
        y, strength = frame.y(tick), 0.6 if tick in (0, ticks[0]) else 0.15
        drawn.append(
            f'<path d="M{LEFT} {y}H{WIDTH - RIGHT}" stroke="currentColor" stroke-opacity="{strength}"/>'
        )
        drawn.append(f'<text x="{LEFT - 6}" y="{y + 4:.1f}" text-anchor="end">{tick:,g}</text>')
    return drawn


def _legend(names: list[str], top: float) -> list[str]:
    drawn = []
    for row, members in enumerate(_legend_rows(names)):
        for k, x in members:
            y = top + LEGEND_ROW * row + 10
            drawn.append(
                f'<rect x="{x:.0f}" y="{y - 5:.0f}" width="14" height="4" style="fill:{_colour(k)}"/>'
            )
            drawn.append(f'<text x="{x + 18:.0f}" y="{y:.0f}">{escape(names[k])}</text>')
    return drawn


def _legend_rows(names: list[str]) -> list[list[tuple[int, float]]]:
    """(Series, x) per row of the legend: as many in a row as have room; a single series without a name needs none."""
    rows: list[list[tuple[int, float]]] = []
    x = float(WIDTH)
    for k, name in enumerate(names if any(names) else ()):
        width = 18 + LETTER * len(name) + 12
        if x + width > WIDTH:
            rows.append([])
            x = 0.0
        rows[-1].append((k, x))
        x += width
    return rows


def _colour(k: int) -> str:
    return f"var(--k{k % len(PALETTE)},{PALETTE[k % len(PALETTE)]})"
