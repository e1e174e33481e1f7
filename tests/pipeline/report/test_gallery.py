"""The gallery's data: which images, how many bytes, what is said of each object."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest

from synthaug.pipeline.core import masks
from synthaug.pipeline.core.images import encode
from synthaug.pipeline.core.scene import Category, ImageRef, Objects, Provenance, Scene, SceneList
from synthaug.pipeline.report import gallery as report_gallery
from synthaug.pipeline.report.gallery import (
    RESOLUTIONS,
    UNSEEN,
    GalleryTables,
    Item,
    content,
    find,
    planned_objects,
    spread,
    with_verdicts,
)

CATEGORIES = (
    Category(1, "</script><script>alert(1)</script>"),
    Category(2, "sky", isthing=False),
    Category(3, "car"),
)


def scene(name: str, seed: int, made: bool = False, size: int = 48) -> Scene:
    """Noise with two things, a bit of sky, and masks."""
    rng = np.random.default_rng(seed)
    pixels = rng.integers(0, 255, (size, size, 3), dtype=np.uint8)
    boxes = np.array([[4, 4, 20, 20], [0, 0, 48, 10], [24, 24, 44, 40]], np.float32) * size / 48
    drawn = np.zeros((3, size, size), bool)
    for mask, (x1, y1, x2, y2) in zip(drawn, boxes.astype(int), strict=True):
        mask[y1:y2, x1:x2] = True
    ids = np.arange(3) + 1 + 10 * seed
    objects = Objects.build(
        [0, 1, 2], boxes, id=ids, isthing=[True, False, True], rle=masks.encode(drawn)
    )
    origin = Provenance(seed, "g", "", f"real-{seed % 4}", "natural") if made else None
    return Scene(name, size, size, ImageRef(encode(pixels, "png")), objects, None, origin)


def tables(images: int = 12, pseudo: bool = True) -> GalleryTables:
    made = [scene(f"made-{k}", k, made=True) for k in range(images)]
    plan = [replace(s, image=ImageRef()) for s in made]
    seen = [s.with_objects(s.objects.select([0, 1])) for s in made]  # the car was dropped
    labelled = [scene(f"u-{k}", 50 + k) for k in range(8)]
    for k, found in enumerate(labelled):
        objects = replace(found.objects, source=("pseudo",) * 3, score=np.float32([0.5, 0.9, 0.7]))
        labelled[k] = found.with_objects(objects)
    real = [scene(f"real-{k}", 90 + k) for k in range(6)]
    lists = [SceneList(CATEGORIES, scenes) for scenes in (seen, plan, real, labelled)]
    return GalleryTables(*lists[:3], lists[3] if pseudo else None)


def test_places_are_evenly_spaced_and_within_the_table() -> None:
    assert [0, 3, 6] == spread(9, 3)
    assert [0, 1, 2] == spread(3, 10)
    assert [] == spread(0, 5)


def test_real_images_are_those_the_layouts_came_from() -> None:
    """Each once; a quarter as many pseudo-labelled ones; what is shown of how many is said."""
    found = content(tables(), tables().real, 8)
    by = {kind: [i for i in found["images"] if i["kind"] == kind] for kind in report_gallery.KINDS}
    assert (
        {"synthetic": 8, "real": 4, "pseudo": 2}
        == found["shown"]
        == {k: len(v) for k, v in by.items()}
    )
    assert {"synthetic": 12, "real": 6, "pseudo": 8} == found["totals"]
    assert {i["id"] for i in by["real"]} == {i["from"] for i in by["synthetic"]}
    assert {"natural"} == {i["why"] for i in by["synthetic"]}


def test_no_pixel_is_invented_and_shapes_are_in_their_own_units() -> None:
    image = report_gallery.record(tables(), Item("real", 0), RESOLUTIONS[0])
    assert (384, 384) == (image["w"], image["h"])
    assert "48 × 48" == image["size"]
    assert len(image["src"]) < 12_000
    car = next(found for found in image["objects"] if found["c"] == 2)
    assert [192, 192, 160, 128] == car["box"]
    assert car["path"].startswith("M")


def test_dropped_objects_scores_and_verdicts_are_told() -> None:
    given = replace(tables(), verdicts={1: ("too_small", 0.25)})
    made = report_gallery.record(given, Item("synthetic", 0), RESOLUTIONS[0])["objects"]
    first = next(found for found in made if found["kind"] == "thing")
    assert ("too small", 0.25) == (first["verdict"], first["score"])
    assert [UNSEEN] == [found["verdict"] for found in made if found["kind"] == "dropped"]
    assert first["asked"] == first["box"]
    pseudo = report_gallery.record(given, Item("pseudo", 0), RESOLUTIONS[0])["objects"]
    assert {0.5, 0.9, 0.7} == {found["score"] for found in pseudo}
    real = report_gallery.record(given, Item("real", 0), RESOLUTIONS[0])["objects"]
    assert all("verdict" not in found and "score" not in found for found in real)


@pytest.mark.parametrize("budget", [100_000, 20_000])
def test_the_budget_is_kept_by_fewer_pixels_and_then_by_fewer_images(budget: int) -> None:
    given = tables(pseudo=False)
    big = [scene(f"made-{k}", k, made=True, size=300) for k in range(12)]
    given = replace(given, synthetic=SceneList(CATEGORIES, big), plan=SceneList(CATEGORIES, big))
    found = content(given, given.real, 12, budget)
    assert len(json.dumps(found["images"])) < budget
    assert found["side"] < RESOLUTIONS[0].side
    assert (found["shown"]["synthetic"] < 12) == (budget == 20_000)
    places = [i["place"] for i in found["images"] if i["kind"] == "synthetic"]
    assert places == spread(12, len(places))


def test_nothing_fits_into_nothing() -> None:
    assert {} == content(tables(), tables().real, 12, 10)
    assert {} == content(tables(0), tables().real, 12)


def test_scenes_are_found_by_their_ids_and_the_search_ends_with_the_last() -> None:
    class Counted(SceneList):
        """Counts how many scenes are read."""

        reads = 0

        def __getitem__(self, index: int) -> Scene:
            Counted.reads += 1
            return super().__getitem__(index)

    table = Counted(CATEGORIES, [scene(f"real-{k}", k) for k in range(6)])
    assert find(table, {"real-2", "real-1"}) == {"real-1": 1, "real-2": 2}
    assert Counted.reads <= 4
    assert find(table, {"real-5", "gone"}) == {"real-5": 5}


def test_verdicts_are_those_of_the_objects_of_their_ids() -> None:
    own = scene("a", 0)
    judged = with_verdicts(own, {2: ("kept", 0.5), 99: ("missing", 0.0)}).objects
    assert judged.verdict == (None, "kept", None)
    assert np.isnan(judged.verdict_score[[0, 2]]).all()
    assert judged.verdict_score[1] == 0.5
    assert with_verdicts(own, {}) is own


def test_planned_objects_are_in_the_pixels_of_the_image() -> None:
    made = scene("a", 0, made=True, size=96)
    plan = scene("a", 0, made=True, size=48)
    np.testing.assert_array_equal(planned_objects(plan, made).boxes, plan.objects.boxes * 2)
    other = replace(plan, image_id="b")
    layout = made.objects.layout_boxes
    np.testing.assert_array_equal(planned_objects(other, made).boxes, layout)
