"""Layouts drawn by hand come after those that a planner draws, each with a seed of its own."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from synthaug.pipeline.core.panoptic_maps import BITS
from synthaug.pipeline.core.scene import Category, ImageRef, Objects, Provenance, Scene
from synthaug.pipeline.planning.drawn import WithDrawn
from synthaug.pipeline.planning.exchange import Layout
from synthaug.pipeline.planning.planner import Config, LayoutPlanner, Source, is_mirrored

CATEGORIES = (Category(1, "cow"), Category(2, "car"))


def planner() -> LayoutPlanner:
    layout = Layout(np.array([0, 1], np.int32), np.array([[0, 0, 0.5, 0.5]] * 2, np.float32))
    source = Source("real", (40, 60), layout)
    config = Config(3, target="natural", name="job", seed=4)
    return LayoutPlanner([source], CATEGORIES, np.array([1, 1]), config)


def drawn(panoptic: bool = False) -> Scene:
    objects = Objects.build([1, 0], [[0, 0, 10, 20], [30, 5, 60, 40]], id=[1, 2])
    origin = Provenance(0, "lostgan", "", "", "drawn by hand")
    given = ImageRef(b"map") if panoptic else None
    return Scene("drawn", 40, 60, ImageRef(), objects, given, origin)


def test_they_come_last_with_seeds_and_ids_of_their_own() -> None:
    plain = planner()
    both = WithDrawn(plain, [drawn()] * 2, 4, "job", 0.0)
    assert 5 == both.count
    assert plain.scene(2).objects.boxes.tolist() == both.scene(2).objects.boxes.tolist()
    third, fourth = both.scene(3), both.scene(4)
    assert ("job-00000003", "job-00000004") == (third.image_id, fourth.image_id)
    assert third.provenance and fourth.provenance
    seeds = {third.provenance.seed, fourth.provenance.seed, 0}
    assert 3 == len(seeds)
    ids = [i for index in range(5) for i in both.scene(index).objects.id.tolist()]
    assert len(set(ids)) == len(ids)
    assert drawn().objects.boxes.tolist() == third.objects.boxes.tolist()
    assert third.objects.id.tolist() == both.scene(3).objects.id.tolist()


def test_ids_of_a_map_keep_those_of_its_pixels() -> None:
    both = WithDrawn(planner(), [drawn(panoptic=True)], 4, "job", 0.0)
    assert [(3 << BITS) + 1, (3 << BITS) + 2] == both.scene(3).objects.id.tolist()


def test_boxes_are_mirrored_where_the_photo_will_be() -> None:
    copies = 40
    both = WithDrawn(planner(), [drawn()] * copies, 4, "job", 0.5)
    mirrored = 0
    for index in range(3, 3 + copies):
        scene = both.scene(index)
        assert scene.provenance is not None
        is_turned = is_mirrored(scene.provenance.seed, 0.5)
        expected = [50, 0, 60, 20] if is_turned else [0, 0, 10, 20]
        assert expected == scene.objects.boxes[0].tolist()
        assert expected == scene.objects.layout_boxes[0].tolist()
        mirrored += is_turned
    assert 8 < mirrored < 32


def test_all_else_is_the_planners() -> None:
    plain = planner()
    both = WithDrawn(plain, [replace(drawn(), image_id="x")], 4, "job", 0.0)
    assert both.weights is plain.weights
    assert (plain.num_sources, plain.short, plain.refused) == (
        both.num_sources,
        both.short,
        both.refused,
    )
