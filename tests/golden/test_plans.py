"""The first scenes of plans: whose layout, which objects where, why."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from synthaug.pipeline.core.scene import Dataset, class_counts, thing_flags
from synthaug.pipeline.planning.edit_planner import USES, EditPlanner
from synthaug.pipeline.planning.edit_planner import Config as Edits
from synthaug.pipeline.planning.map_planner import Config as Maps
from synthaug.pipeline.planning.map_planner import MapPlanner
from synthaug.pipeline.planning.planner import Config as Layouts
from synthaug.pipeline.planning.planner import LayoutPlanner, Planner
from synthaug.pipeline.planning.surfaces import Surfaces
from synthaug.pipeline.synthesis.base import NO_CROWDS, sources_of
from tests.golden.recorded import Row, hold
from tests.golden.scenes import CLASSES, described, mixed, painted

SHOWN = 6  # planned scenes of the beginning of a plan, and of its end, which is another epoch
WEAK = {"bus": 0.8, "windmill": 0.4}
LAYOUTS = {
    "natural": Layouts(24, "natural", jitter=0.1, seed=3, generator="lostgan"),
    "sqrt": Layouts(24, "sqrt", placement="natural", jitter=0.2, flip=0.3, max_objects=12),
    "balanced": Layouts(24, "balanced", placement="natural", seed=1, max_objects=9),
    "deficit": Layouts(0, "deficit", objects_per_class=14, seed=2),
    "weak": Layouts(16, "weak", weakness=WEAK, placement="uniform"),
}
EDITS = {
    "insert": Edits(24, "balanced", placement="natural", jitter=0.1, seed=3, most=2),
    "uses": Edits(24, "sqrt", uses=dict.fromkeys(USES, 1.0), empties=0.5, natural_share=0.3),
    "weak": Edits(16, "weak", weakness=WEAK, classes=("bus", "windmill"), most=4),
}
MAPS = {
    "natural": Maps(16, "natural", seed=4, rearrange=0.7, flip=0.3),
    "balanced": Maps(16, "balanced", seed=4, min_area=9, most=9),
    "smaller": Maps(16, "sqrt", rearrange=0.3, size=(36, 40)),
}


def rows_of(planner: Planner, table: Dataset, planned_areas: bool = True) -> dict[str, Row]:
    """Return what a plan is to reach, and its first scenes."""
    rows: dict[str, Row] = {
        "images": planner.count,
        "natural": planner.natural,
        "target": planner.target,
        "short": planner.short,
    }
    if planner.weights is not None:
        rows["weights"] = planner.weights
    first = min(SHOWN, planner.count)
    last = max(first, planner.count - SHOWN)
    for index in (*range(first), *range(last, planner.count)):
        rows[f"scene {index}"] = described(planner.scene(index), table, pixels=False)
    rows["refused"] = planner.refused
    return rows


@pytest.mark.parametrize("name", LAYOUTS)
def test_planned_layouts_are_what_they_were(name: str) -> None:
    table = mixed()
    labelled = class_counts(table, CLASSES)
    sources = sources_of(table, NO_CROWDS.select)
    planner = LayoutPlanner(sources, table.categories, labelled, LAYOUTS[name])
    hold(f"plan_layouts_{name}", rows_of(planner, table))


@pytest.mark.parametrize("name", EDITS)
def test_planned_edits_are_what_they_were(name: str) -> None:
    table = painted()
    labelled = class_counts(table, CLASSES)
    sources = sources_of(table, NO_CROWDS.select)
    surfaces = Surfaces(table) if name == "insert" else None
    planner = EditPlanner(sources, table.categories, labelled, EDITS[name], None, surfaces)
    hold(f"plan_edits_{name}", rows_of(planner, table))


@pytest.mark.parametrize("name", MAPS)
def test_planned_maps_are_what_they_were(name: str) -> None:
    table = painted()
    planner = MapPlanner(table, class_counts(table, CLASSES), MAPS[name])
    hold(f"plan_maps_{name}", rows_of(planner, table))


def test_an_earlier_planners_weights_are_taken() -> None:
    """They decide who receives what, so that other ones give another plan."""
    table = mixed()
    labelled = class_counts(table, CLASSES)
    sources = sources_of(table, NO_CROWDS.select)
    weights = np.linspace(0.1, 2, CLASSES) * (labelled > 0) * thing_flags(table.categories)
    config = replace(LAYOUTS["balanced"], count=8)
    planner = LayoutPlanner(sources, table.categories, labelled, config, weights)
    hold("plan_layouts_given_weights", rows_of(planner, table))
