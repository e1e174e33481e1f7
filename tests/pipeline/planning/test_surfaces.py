"""Surfaces: what a box stands on, what a class is seen on, and where it may therefore come."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from synthaug.pipeline.core.masks import encode
from synthaug.pipeline.core.scene import Category, ImageRef, Objects, Scene, SceneList
from synthaug.pipeline.formats.toy import dataset as toy
from synthaug.pipeline.planning.surfaces import (
    OBJECTS,
    UNKNOWN,
    Surfaces,
    _some_of_each,
    belongs,
    has_stuff,
    seen_surfaces,
    stuff_map,
    surface_lines,
    surface_of,
)

COW, BOAT, GRASS, WATER = range(4)
CLASSES = (
    Category(1, "cow"),
    Category(2, "boat"),
    Category(3, "grass", isthing=False),
    Category(4, "water", isthing=False),
)
SIZE = (20, 40)


def shore(*things: tuple[int, list[int]], masks: bool = True, source: str = "human") -> Scene:
    """Grass on the left, water on the right, and things that hide them."""
    free = np.ones(SIZE, bool)
    for _, (x0, y0, x1, y1) in things:
        free[y0:y1, x0:x1] = False
    left = np.arange(SIZE[1]) < 20
    rles = encode(np.stack([free & left, free & ~left]))
    labels = [label for label, _ in things]
    boxes = [box for _, box in things]
    objects = Objects.build(
        [*labels, GRASS, WATER],
        [*boxes, [0, 0, 20, 20], [20, 0, 40, 20]],
        rle=(*[None] * len(things), *(rles if masks else (None, None))),
        isthing=[*[True] * len(things), False, False],
        source=(source,) * (len(things) + 2),
    )
    return Scene("shore", *SIZE, ImageRef(), objects)


def table_of(*scenes: Scene) -> SceneList:
    return SceneList(CLASSES, list(scenes))


def relative(box: list[int]) -> np.ndarray:
    return np.array(box, np.float32) / [40, 20, 40, 20]


def test_the_surface_is_what_most_of_the_foot_shows() -> None:
    stuff = stuff_map(shore().objects, SIZE)
    assert surface_of(stuff, np.array([2, 2, 10, 12], np.float32)) == GRASS
    assert surface_of(stuff, np.array([25, 2, 35, 12], np.float32)) == WATER
    assert surface_of(stuff, np.array([8, 2, 24, 12], np.float32)) == GRASS
    assert surface_of(stuff, np.array([16, 2, 32, 12], np.float32)) == WATER


def test_what_is_above_the_foot_does_not_count() -> None:
    stuff = np.full(SIZE, GRASS, np.int32)
    stuff[14:] = WATER
    assert surface_of(stuff, np.array([5, 2, 15, 15], np.float32)) == WATER
    assert surface_of(stuff, np.array([5, 2, 15, 12], np.float32)) == GRASS


def test_an_object_hides_its_own_surface_but_not_that_beside_it() -> None:
    scene = shore((COW, [4, 10, 14, 20]))
    stuff = stuff_map(scene.objects, SIZE)
    assert (stuff[10:20, 4:14] == UNKNOWN).all()
    assert surface_of(stuff, scene.objects.boxes[0]) == UNKNOWN, "it ends with the image"
    higher = shore((COW, [4, 4, 14, 14])).objects
    assert surface_of(stuff_map(higher, SIZE), higher.boxes[0]) == GRASS
    everything = stuff_map(shore((COW, [0, 0, 40, 20])).objects, SIZE)
    assert surface_of(everything, np.array([3, 3, 9, 9], np.float32)) == UNKNOWN


@given(
    st.floats(-0.5, 1.5), st.floats(-0.5, 1.5), st.floats(0, 1), st.floats(0, 1), st.integers(0, 99)
)
def test_every_box_has_a_surface_of_the_map_or_none(
    x: float, y: float, wide: float, high: float, seed: int
) -> None:
    """Also boxes at the border, of no size, and outside of the image."""
    stuff = np.random.default_rng(seed).integers(UNKNOWN, 4, SIZE).astype(np.int32)
    box = np.array([x, y, x + wide, y + high], np.float32) * [40, 20, 40, 20]
    surface = surface_of(stuff, box.astype(np.float32))
    assert surface == UNKNOWN or surface in stuff


def test_classes_are_seen_where_their_objects_stand() -> None:
    table = table_of(
        shore((COW, [4, 4, 14, 14])),
        shore((COW, [1, 1, 9, 9]), (BOAT, [24, 4, 34, 14])),
    )
    seen = seen_surfaces(table)
    assert [GRASS] == np.flatnonzero(seen[COW]).tolist()
    assert [WATER] == np.flatnonzero(seen[BOAT]).tolist()
    assert not seen[GRASS].any() and not seen[WATER].any()


def test_one_in_twenty_is_an_accident_and_no_habit() -> None:
    on_grass = [shore((COW, [4, 4, 14, 14]))] * 30
    swimming = shore((COW, [24, 4, 34, 14]))
    assert [GRASS] == np.flatnonzero(seen_surfaces(table_of(*on_grass, swimming))[COW]).tolist()
    both = seen_surfaces(table_of(*on_grass, swimming, swimming))[COW]
    assert [GRASS, WATER] == np.flatnonzero(both).tolist()


def test_pseudo_labels_and_stuff_without_masks_teach_nothing() -> None:
    assert not seen_surfaces(table_of(shore((COW, [4, 4, 14, 14]), source="pseudo"))).any()
    bare = shore((COW, [4, 4, 14, 14]), masks=False)
    assert not has_stuff(bare.objects)
    assert not seen_surfaces(table_of(bare)).any()


@given(
    st.lists(st.lists(st.booleans(), min_size=4, max_size=4), min_size=4, max_size=4),
    st.integers(0, 3),
    st.integers(UNKNOWN, 3),
)
def test_a_class_belongs_where_it_was_seen_and_where_nothing_is_known(
    rows: list[list[bool]], label: int, surface: int
) -> None:
    seen = np.array(rows)
    found = belongs(seen, label, surface)
    if found and surface != UNKNOWN and seen[label].any():
        assert seen[label, surface]
    if not found:
        assert surface != UNKNOWN and seen[label].any() and not seen[label, surface]


def test_places_are_allowed_by_the_stuff_of_their_own_image() -> None:
    mirrored = shore((BOAT, [24, 4, 34, 14]))
    swapped = [COW, BOAT, WATER, GRASS]
    objects = mirrored.objects
    relabelled = Objects.build(
        [swapped[c] for c in objects.category.tolist()],
        objects.boxes,
        rle=objects.rle,
        isthing=objects.isthing,
    )
    other = mirrored.with_objects(relabelled.select(relabelled.isthing == 0))
    surfaces = Surfaces(table_of(mirrored, other))
    left, right = relative([4, 4, 14, 14]), relative([24, 4, 34, 14])
    assert surfaces.allow(0, BOAT, right) and not surfaces.allow(0, BOAT, left)
    assert surfaces.allow(1, BOAT, left) and not surfaces.allow(1, BOAT, right)
    assert surfaces.allow(0, COW, right), "no cow was ever seen"


def test_a_class_is_possible_in_images_that_show_a_surface_of_its_own() -> None:
    both = shore((COW, [4, 4, 14, 14]), (BOAT, [24, 4, 34, 14]))
    objects = both.objects
    dry = both.with_objects(objects.select(objects.category != WATER))
    unknown = shore((COW, [4, 4, 14, 14]), masks=False)
    possible = Surfaces(table_of(both, dry, unknown)).possible()
    assert possible[:, BOAT].tolist() == [True, False, True]
    assert possible[:, COW].all()
    assert possible[:, GRASS].all(), "grass was seen on nothing, so nothing rules it out"


def test_surfaces_are_told_in_words() -> None:
    both = shore((COW, [4, 4, 14, 14]), (BOAT, [24, 4, 34, 14]))
    lines = surface_lines(table_of(both))
    assert lines == ["cow comes to grass (plan.surface)", "boat comes to water (plan.surface)"]
    (line,) = surface_lines(table_of(shore((COW, [4, 4, 14, 14]), masks=False)))
    assert line == "no stuff has a mask here: objects come to any place (plan.surface)"


def test_a_box_moves_up_or_down_to_its_surface_by_its_own_height_at_most() -> None:
    stuff = np.full((40, 40), GRASS, np.int32)
    stuff[30:] = WATER

    class OneMap(Surfaces):
        def __init__(self) -> None:
            self.seen = np.zeros((4, 4), bool)
            self.seen[BOAT, WATER] = self.seen[COW, GRASS] = True

        def _stuff(self, index: int) -> np.ndarray:
            return stuff

    surfaces = OneMap()
    above = np.array([4, 14, 14, 24], np.float32) / 40
    boat = surfaces.nearest(0, BOAT, above)
    assert boat is not None
    moved = boat * 40 - [4, 14, 14, 24]
    assert moved[0] == moved[2] == 0
    assert moved[1] == pytest.approx(moved[3], abs=1e-4)
    assert 6 <= moved[1] <= 8, "its foot is the lowest tenth"
    cow = surfaces.nearest(0, COW, above)
    assert cow is not None and (cow == above).all()
    far_above = np.array([4, 2, 14, 12], np.float32) / 40
    assert surfaces.nearest(0, BOAT, far_above) is None


def test_a_box_leaves_the_image_for_no_surface_and_moves_down_rather_than_up() -> None:
    stuff = np.full((40, 40), GRASS, np.int32)

    class OneMap(Surfaces):
        def __init__(self) -> None:
            self.seen = np.zeros((4, 4), bool)
            self.seen[BOAT, WATER] = True

        def _stuff(self, index: int) -> np.ndarray:
            return stuff

    surfaces = OneMap()
    stuff[39] = WATER  # too little of the foot of a tall box that ends with the image
    tall = np.array([4, 8, 14, 38], np.float32) / 40
    assert surfaces.nearest(0, BOAT, tall) is None
    stuff[:] = WATER
    stuff[17:23] = GRASS
    between = np.array([4, 10.5, 14, 20.5], np.float32) / 40
    moved = surfaces.nearest(0, BOAT, between)
    assert moved is not None and moved[1] > between[1], "up and down are as far"


@given(st.integers(1, 3 * OBJECTS), st.integers(1, 5))
def test_of_many_objects_some_of_each_class_are_looked_at(many: int, few: int) -> None:
    rows = [(COW, index, 0) for index in range(many)] + [(BOAT, index, 1) for index in range(few)]
    chosen = _some_of_each(rows)
    cows = [index for index, positions in chosen.items() if 0 in positions]
    boats = [index for index, positions in chosen.items() if 1 in positions]
    assert len(cows) == min(OBJECTS, many)
    assert len(boats) == few
    assert max(cows) >= many - 1 - many // OBJECTS


@pytest.fixture(scope="module")
def toy_surfaces() -> np.ndarray:
    return seen_surfaces(SceneList(toy.CATEGORIES, list(toy.ToyDataset(toy.Config("train", 120)))))


@pytest.mark.parametrize(
    ("name", "never"),
    [("boat", {"road", "sky"}), ("balloon", {"road", "water"}), ("tree", {"sky"})],
)
def test_the_toy_s_things_are_seen_where_they_are_painted(
    toy_surfaces: np.ndarray, name: str, never: set[str]
) -> None:
    names = [category.name for category in toy.CATEGORIES]
    seen = {names[c] for c in np.flatnonzero(toy_surfaces[names.index(name)])}
    usual = {"boat": "water", "balloon": "sky", "tree": "grass"}
    assert usual[name] in seen
    assert not seen & never
