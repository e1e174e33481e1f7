"""Charts as SVG text: pure functions of numbers, without script, links or fonts.

Every string is escaped. Axes, ticks and texts take the colour of the text around them
(currentColor), series the palette of the page where it has one (`--k0` .. `--k6`), so a chart suits
a light and a dark page. Positions are in the units of the view box, about pixels.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape

WIDTH, PLOT_HEIGHT = 344, 150  # of the full chart, of the part inside the axes
LEFT, RIGHT, TITLE_ROW, LEGEND_ROW = 58, 10, 20, 15
WIDEST = 720  # pixels of a chart on a page
# Of a forest plot: its width, the most for names, the height of a row.
FOREST_WIDTH, FOREST_NAMES, FOREST_ROW = 620, 220, 21
LETTER = 6.3  # width of a letter at FONT, about
FONT = 11
PALETTE = ("#0b67a8", "#d9760a", "#00835f", "#b3568c", "#5f6670", "#8a6d00", "#3a9ad0")
# Of the first series, so that they differ without colour; then solid.
DASHES = ("", "6 3", "2 2.5")

Points = Sequence[tuple[float, float]]


def line_chart(title: str, series: Mapping[str, Points], x_label: str, y_label: str) -> str:
    """Draw named lines through (x, y) points, in the order given.

    A series of one point is a dot. The x axis begins at 0 where all x are positive; the y axis
    spans the values. All numbers must be finite.
    """
    xs: list[float] = []
    ys: list[float] = []
    for points in series.values():
        xs += [x for x, _ in points]
        ys += [y for _, y in points]
    assert all(map(math.isfinite, [*xs, *ys])), f"{title}: a value is not finite"
    if not xs:
        return _empty(title)
    names = list(series)
    x_ticks = nice_ticks(min(0.0, *xs), max(xs))
    y_ticks = nice_ticks(min(ys), max(ys))
    x_range = (x_ticks[0], max(x_ticks[-1], *xs))
    y_range = (y_ticks[0], y_ticks[-1])
    axes = _Axes.below(title, names, x_range, y_range, 18)
    drawn = _grid(axes, y_ticks)
    for tick in x_ticks:
        position = f'x="{axes.x(tick)}" y="{axes.bottom + 14}"'
        drawn.append(f'<text {position} text-anchor="middle">{tick:,g}</text>')
    for number, points in enumerate(series.values()):
        on_page = [(axes.x(x), axes.y(y)) for x, y in points]
        drawn += _line(number, on_page)
    return _svg(title, axes, names, drawn, x_label, y_label)


def _line(number: int, points: Points) -> list[str]:
    """Return a series as a line, or a dot where it is one point; nothing without any."""
    color = _color(number)
    if not points:
        return []
    if len(points) == 1:
        ((x, y),) = points
        return [f'<circle cx="{x}" cy="{y}" r="2.5" style="fill:{color}"/>']
    style = f"fill:none;stroke:{color};stroke-width:1.6;stroke-linejoin:round"
    if number < len(DASHES) and DASHES[number]:
        style += f";stroke-dasharray:{DASHES[number]}"
    path = " ".join(f"{x},{y}" for x, y in points)
    return [f'<polyline points="{path}" style="{style}"/>']


@dataclass(frozen=True)
class Interval:
    """One row of a forest plot."""

    name: str
    low: float
    mean: float
    high: float
    series: int = 0  # whose color it has


def forest_chart(title: str, rows: Sequence[Interval], x_label: str) -> str:
    """Draw intervals below each other, a dot at each mean, around a line at 0.

    All numbers must be finite.
    """
    values: list[float] = []
    for row in rows:
        values += [row.low, row.mean, row.high]
    assert all(map(math.isfinite, values)), f"{title}: a value is not finite"
    if not rows:
        return _empty(title)
    ticks = nice_ticks(min(0.0, *values), max(0.0, *values))
    longest = max(len(row.name) for row in rows)
    left = min(FOREST_NAMES, 14 + LETTER * longest)
    top = TITLE_ROW + 6
    bottom = top + FOREST_ROW * len(rows)
    plot_width = FOREST_WIDTH - left - RIGHT - 8

    low = ticks[0]
    high = ticks[-1]

    def x(value: float) -> float:
        return round(left + plot_width * (value - low) / (high - low), 1)

    drawn = []
    for tick in ticks:
        strength = 0.15
        if tick == 0:
            strength = 0.6
        line = f"M{x(tick)} {top}V{bottom}"
        drawn.append(f'<path d="{line}" stroke="currentColor" stroke-opacity="{strength}"/>')
        drawn.append(f'<text x="{x(tick)}" y="{bottom + 14}" text-anchor="middle">{tick:,g}</text>')
    for number, row in enumerate(rows):
        y = top + FOREST_ROW * (number + 0.5)
        color = _color(row.series)
        name = escape(row.name)
        numbers = escape(f"{row.name}: {row.mean:+.2f} [{row.low:+.2f}, {row.high:+.2f}]")
        ends = f"M{x(row.low)} {y - 4}v8M{x(row.high)} {y - 4}v8"
        line = f"M{x(row.low)} {y}H{x(row.high)}{ends}"
        drawn.append(f'<text x="{left - 8:.1f}" y="{y + 4}" text-anchor="end">{name}</text>')
        drawn.append(f"<g><title>{numbers}</title>")
        drawn.append(f'<path d="{line}" style="stroke:{color}" stroke-width="1.6"/>')
        drawn.append(f'<circle cx="{x(row.mean)}" cy="{y}" r="4" style="fill:{color}"/></g>')
    axes = _Axes(top, bottom, bottom + 34, (0, 1), (0, 1))
    return _svg(title, axes, [], drawn, x_label, "", FOREST_WIDTH, left)


def nice_ticks(low: float, high: float) -> list[float]:
    """Return two to eight round numbers from at most `low` to at least `high`.

    A spread too small to be seen counts as none.
    """
    most = max(abs(low), abs(high))
    spread = high - low
    if spread <= max(1e-5 * most, 1e-9):
        spread = most if most > 1e-9 else 1.0
    power = 10.0 ** math.floor(math.log10(spread / 4))
    step = next(m * power for m in (1, 2, 2.5, 5, 10) if m * power * 5 >= spread)
    first = math.floor(low / step + 1e-9)
    last = max(math.ceil(high / step - 1e-9), first + 1)
    return [round(k * step, 10) for k in range(first, last + 1)]


@dataclass(frozen=True)
class _Axes:
    """The position of the axes, and the values at their ends."""

    top: float
    bottom: float
    height: float  # of the full chart
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
    ) -> _Axes:
        """Return the axes below title and legend, with `labels` units left for labels."""
        title_row = TITLE_ROW if title else 6
        top = title_row + LEGEND_ROW * len(_legend_rows(names)) + 4
        bottom = top + PLOT_HEIGHT
        return cls(top, bottom, bottom + labels + 16, x_range, y_range)

    def x(self, value: float) -> float:
        """Return the position of a value on the x axis."""
        low, high = self.x_range
        share = (value - low) / ((high - low) or 1)
        width = WIDTH - LEFT - RIGHT
        return round(LEFT + width * share, 1)

    def y(self, value: float) -> float:
        """Return the position of a value on the y axis."""
        low, high = self.y_range
        share = (value - low) / ((high - low) or 1)
        height = self.bottom - self.top
        return round(self.bottom - height * share, 1)


def _svg(
    title: str,
    axes: _Axes,
    names: list[str],
    inside: list[str],
    x_label: str,
    y_label: str,
    width: float = WIDTH,
    left: float = LEFT,
) -> str:
    middle = (axes.top + axes.bottom) / 2
    legend_y = 6
    if title:
        legend_y = TITLE_ROW
    parts = [
        f'<svg class="chart" viewBox="0 0 {width} {axes.height:.0f}" role="img" '
        f'aria-label="{escape(title)}" '
        f'style="display:block;width:100%;max-width:{min(1.5 * width, WIDEST):.0f}px;height:auto" '
        f'font-size="{FONT}" fill="currentColor">',
        f"<title>{escape(title)}</title>",
        f'<text x="0" y="13" font-size="13" font-weight="600">{escape(title)}</text>',
        *_legend(names, legend_y),
        *inside,
        f'<text x="{(left + width - RIGHT) / 2}" y="{axes.height - 3:.0f}" '
        f'text-anchor="middle">{escape(x_label)}</text>',
        f'<text x="11" y="{middle}" text-anchor="middle" transform="rotate(-90 11 '
        f'{middle})">{escape(y_label)}</text>',
        "</svg>",
    ]
    return "".join(parts)


def _empty(title: str) -> str:
    axes = _Axes.below(title, [], (0, 1), (0, 1), 18)
    where = f'x="{WIDTH / 2}" y="{(axes.top + axes.bottom) / 2}"'
    return _svg(title, axes, [], [f'<text {where} text-anchor="middle">no data</text>'], "", "")


def _grid(axes: _Axes, ticks: Sequence[float]) -> list[str]:
    """Return the lines across at the y ticks, the lowest one as the axis.

    Their numbers stand beside them.
    """
    drawn = []
    for tick in ticks:
        y = axes.y(tick)
        strength = 0.15
        if tick in (0, ticks[0]):
            strength = 0.6
        drawn.append(
            f'<path d="M{LEFT} {y}H{WIDTH - RIGHT}" stroke="currentColor" '
            f'stroke-opacity="{strength}"/>'
        )
        drawn.append(f'<text x="{LEFT - 6}" y="{y + 4:.1f}" text-anchor="end">{tick:,g}</text>')
    return drawn


def _legend(names: list[str], top: float) -> list[str]:
    drawn = []
    for row, members in enumerate(_legend_rows(names)):
        for k, x in members:
            y = top + LEGEND_ROW * row + 10
            drawn.append(
                f'<rect x="{x:.0f}" y="{y - 5:.0f}" width="14" height="4" '
                f'style="fill:{_color(k)}"/>'
            )
            drawn.append(f'<text x="{x + 18:.0f}" y="{y:.0f}">{escape(names[k])}</text>')
    return drawn


def _legend_rows(names: list[str]) -> list[list[tuple[int, float]]]:
    """Return (series, x) per row of the legend, as many in a row as have room.

    A single series without a name needs no legend.
    """
    rows: list[list[tuple[int, float]]] = []
    if not any(names):
        return rows
    x = float(WIDTH)
    for k, name in enumerate(names):
        width = 18 + LETTER * len(name) + 12
        if x + width > WIDTH:
            rows.append([])
            x = 0.0
        rows[-1].append((k, x))
        x += width
    return rows


def _color(k: int) -> str:
    return f"var(--k{k % len(PALETTE)},{PALETTE[k % len(PALETTE)]})"
