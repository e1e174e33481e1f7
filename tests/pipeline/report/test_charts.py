"""Charts.

Well-formed SVG without anything active, values where the axes say they are, odd input included.
"""

from __future__ import annotations

import math
import re
from xml.etree import ElementTree

import pytest
from hypothesis import given
from hypothesis import strategies as st

from synthaug.pipeline.report.charts import LEFT, RIGHT, WIDTH, line_chart, nice_ticks

HOSTILE = "\"'><script>alert(1)</script>&"
NUMBERS = st.one_of(st.floats(-1e6, 1e6), st.floats(-2, 2), st.integers(-3, 900).map(float))
SVG = "{http://www.w3.org/2000/svg}"


def parsed(svg: str) -> ElementTree.Element:
    return ElementTree.fromstring(
        svg.replace("<svg ", '<svg xmlns="http://www.w3.org/2000/svg" ', 1)
    )


def ticks_of(root: ElementTree.Element) -> list[tuple[float, float]]:
    """(Place, value) of the numbers left of the y axis."""
    texts = [
        t
        for t in root.iter(f"{SVG}text")
        if t.get("text-anchor") == "end" and t.get("transform") is None
    ]
    return [(float(str(t.get("y"))) - 4, float(str(t.text).replace(",", ""))) for t in texts]


def read_off(root: ElementTree.Element, y: float) -> float:
    """The value at a height, by the two outermost y ticks."""
    (low_y, low), (high_y, high) = min(ticks_of(root)), max(ticks_of(root))
    return low + (high - low) * (y - low_y) / (high_y - low_y)


@given(st.lists(st.tuples(st.floats(0, 1e5), NUMBERS), min_size=2, max_size=20))
def test_a_line_passes_where_the_ticks_say(points):
    root = parsed(line_chart("t", {"a": points}, "x", "y"))
    drawn = [
        tuple(map(float, p.split(",")))
        for p in str(root.find(f"{SVG}polyline").get("points")).split()
    ]
    assert len(drawn) == len(points)
    values = [value for _, value in ticks_of(root)]
    step = (max(values) - min(values)) / 150  # of a unit of height
    for (x, y), (_, value) in zip(drawn, points, strict=True):
        assert LEFT <= x <= WIDTH - RIGHT
        assert read_off(root, y) == pytest.approx(
            value, abs=0.2 * step + 1e-5 * max(map(abs, values))
        )


def test_texts_are_texts():
    svg = line_chart(HOSTILE, {HOSTILE: [(0, 1), (1, 2)]}, HOSTILE, HOSTILE)
    root = parsed(svg)
    assert {e.tag.removeprefix(SVG) for e in root.iter()} <= {
        "svg",
        "title",
        "text",
        "path",
        "rect",
        "polyline",
    }
    assert root.get("aria-label") == HOSTILE
    assert root.find(f"{SVG}title").text == HOSTILE
    assert not re.search(r"href|url\(|@import|\son\w+=", re.sub(r">[^<]*<", "><", svg))


@pytest.mark.parametrize("series", [{}, {"a": []}])
def test_nothing_to_draw_says_so(series):
    svg = line_chart("t", series, "x", "y")
    assert "no data" in svg
    parsed(svg)


def test_one_point_is_a_dot_and_a_constant_a_line_inside_the_frame():
    assert parsed(line_chart("t", {"a": [(5, 0.5)]}, "x", "y")).find(f"{SVG}circle") is not None
    flat = parsed(line_chart("t", {"a": [(0, 0.0), (9, 0.0)]}, "x", "y"))
    places = {
        float(p.split(",")[1]) for p in str(flat.find(f"{SVG}polyline").get("points")).split()
    }
    assert len(places) == 1
    assert min(ticks_of(flat))[0] <= places.pop() <= max(ticks_of(flat))[0]


def test_a_value_that_is_no_number_is_refused():
    with pytest.raises(AssertionError, match="not finite"):
        line_chart("t", {"a": [(0, math.nan)]}, "x", "y")


@pytest.mark.parametrize(
    ("low", "high"),
    [(0, 1), (0.012, 0.0123), (-3, 7), (0, 12345), (5, 5), (0, 0), (-1e-8, 1e-8), (5, 5 + 1e-12)],
)
def test_ticks_are_few_and_enclose_the_values(low, high):
    ticks = nice_ticks(low, high)
    assert 2 <= len(ticks) <= 8
    assert ticks[0] <= low
    assert high <= ticks[-1]
    assert ticks == sorted(set(ticks))
