"""Painting into real images.

Each use changes its own places, labels are what is visible, the rest stays.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import partial

import numpy as np
import pytest

from synthaug.generators.base import Edit, EditedPhoto, Samples
from synthaug.generators.copy_paste import Config as PasteConfig
from synthaug.pipeline.config.schema import Synthesize
from synthaug.pipeline.core.images import decode, encode
from synthaug.pipeline.core.masks import decode_all, encode_with_boxes
from synthaug.pipeline.core.scene import (
    PAIRED_SAMPLE,
    Category,
    ImageRef,
    Objects,
    Provenance,
    Scene,
    SceneList,
)
from synthaug.pipeline.planning.planner import ADDED, is_mirrored
from synthaug.pipeline.synthesis.edits import EditSynthesizer, example_of, paint_with
from synthaug.pipeline.synthesis.object_bank import Bank, cutout_of

CATEGORIES = (Category(1, "cell"), Category(2, "platelet"), Category(3, "smear"))
HEIGHT, WIDTH = 40, 60
PIXELS = np.random.default_rng(0).integers(0, 256, (HEIGHT, WIDTH, 3), dtype=np.uint8)


def boxes(*rows: tuple[float, float, float, float]) -> np.ndarray:
    return np.array(rows, np.float32).reshape(-1, 4)


THERE = Objects.build([0, 2], boxes((2, 2, 20, 14), (44, 20, 58, 38)), iscrowd=[False, True])
SOURCE = Scene("photo", HEIGHT, WIDTH, ImageRef(encode(PIXELS, "png"), None), THERE)


SHADES = {"object": 255, "background": 0, "seam": 128}


class PlainPainter:
    """A sampler that paints objects white, background black and seams grey.

    Masks are boxes; a seam is a pixel wide.
    """

    def __init__(self) -> None:
        self.edits: list[Edit] = []

    def sample(self, conditions: Sequence[Edit], seeds: Sequence[int]) -> Samples:
        raise NotImplementedError

    def edit(self, edits: Sequence[Edit], seeds: Sequence[int]) -> list[EditedPhoto]:
        self.edits += edits
        edited = []
        for edit in edits:
            image = edit.photo.image.copy()
            masks = np.zeros((len(edit.paintings), *edit.photo.size), np.float32)
            for mask, painting in zip(masks, edit.paintings, strict=True):
                x0, y0, x1, y1 = painting.box.astype(int).tolist()
                mask[y0:y1, x0:x1] = 1
                if painting.shows == "seam":
                    mask[y0 + 1 : y1 - 1, x0 + 1 : x1 - 1] = 0
                image[mask > 0] = SHADES[painting.shows]
            edited.append(EditedPhoto(image, masks))
        return edited


def planned(new: np.ndarray, categories: list[int], reason: str = "balanced") -> Scene:
    """Return a plan that adds objects to the source, whose own object comes first."""
    own = THERE.select(~THERE.iscrowd)
    all_boxes = np.concatenate([own.boxes, new])
    sources = ["background"] * len(own) + [ADDED] * len(new)
    objects = Objects.build([*own.category, *categories], all_boxes, source=sources)
    origin = Provenance(5, "fill", "", "photo", reason)
    return Scene("job-00000000", HEIGHT, WIDTH, ImageRef(None, None), objects, None, origin)


def synthesizer(
    painter: PlainPainter,
    flip: float = 0.0,
    use: str = "insert",
    source: Scene = SOURCE,
    repaints: bool = False,
) -> EditSynthesizer:
    table = SceneList(CATEGORIES, [source])
    bank = Bank.of(table, table, PasteConfig(mirror=0.0, blends=("none",)))
    paint = partial(paint_with, painter)
    options = Synthesize(min_mask_area=4)
    return EditSynthesizer(bank, paint, options, flip, {use: 1.0}, repaints)


def test_only_planned_objects_are_painted_and_only_there() -> None:
    painter = PlainPainter()
    (finished,) = synthesizer(painter)([planned(boxes((30, 4, 40, 12)), [1])], CATEGORIES, "f" * 64)
    scene = finished.scene
    image = decode(scene)
    assert bool((image[4:12, 30:40] == 255).all())
    untouched = np.ones((HEIGHT, WIDTH), bool)
    untouched[4:12, 30:40] = False
    assert np.array_equal(image[untouched], PIXELS[untouched])
    assert scene.objects.category.tolist() == [0, 2, 1]
    assert scene.objects.boxes[2].tolist() == [30, 4, 40, 12]
    assert scene.objects.source[2] == ADDED
    assert not finished.lost


def test_the_network_is_told_of_objects_but_not_of_crowds() -> None:
    painter = PlainPainter()
    synthesizer(painter)([planned(boxes((30, 4, 40, 12)), [1])], CATEGORIES, "")
    (edit,) = painter.edits
    assert edit.photo.categories.tolist() == [0]
    assert edit.photo.boxes.tolist() == THERE.boxes[:1].tolist()
    assert [(1, "object")] == [(p.category, p.shows) for p in edit.paintings]


def test_stuff_takes_no_place_and_is_no_neighbour() -> None:
    """A sky as large as the photo does not keep objects from standing before it."""
    painter = PlainPainter()
    sky = Objects.build([2], boxes((0, 0, WIDTH, HEIGHT)), isthing=[False])
    synthesize = synthesizer(painter, source=SOURCE.with_objects(sky))
    (finished,) = synthesize([planned(boxes((30, 4, 40, 12)), [1])], CATEGORIES, "")
    assert not finished.lost["platelet"]
    (edit,) = painter.edits
    assert [30, 4, 40, 12] == edit.paintings[0].box.tolist()
    assert len(edit.photo.boxes) == 0


def test_a_mirrored_background_brings_its_labels_along() -> None:
    painter = PlainPainter()
    scene = planned(boxes((30, 4, 40, 12)), [1])
    own = replace(
        scene.objects, boxes=np.concatenate([boxes((40, 2, 58, 14)), boxes((24, 20, 34, 28))])
    )
    (finished,) = synthesizer(painter, flip=1.0)([scene.with_objects(own)], CATEGORIES, "")
    assert finished.scene.objects.boxes[0].tolist() == [WIDTH - 20, 2, WIDTH - 2, 14]
    image = decode(finished.scene)
    assert np.array_equal(image[2:14, 40:58], PIXELS[:, ::-1][2:14, 40:58])


def test_an_object_behind_a_painted_one_keeps_the_box_of_what_is_seen() -> None:
    """The own object reaches from 2 to 20; what is painted begins at 12."""
    plan = planned(boxes((12, 2, 30, 14)), [1])
    (finished,) = synthesizer(PlainPainter())([plan], CATEGORIES, "")
    objects = finished.scene.objects
    assert [2, 2, 12, 14] == objects.boxes[objects.category == 0][0].tolist()
    assert [10 * 12] == objects.area[objects.category == 0].tolist()


def test_masks_of_painted_objects_hide_what_lies_behind() -> None:
    """A new object may lie over a little of an old one.

    Masks are disjoint, areas those of pixels.
    """
    painter = PlainPainter()
    (finished,) = synthesizer(painter)([planned(boxes((18, 10, 30, 22)), [1])], CATEGORIES, "")
    objects = finished.scene.objects
    new = objects.select(objects.category == 1)
    mask = decode_all(new, (HEIGHT, WIDTH))[0]
    assert mask.sum() == new.area[0] == 12 * 12
    assert len(set(objects.id.tolist())) == len(objects)


class SmallPainter(PlainPainter):
    """Paints objects a pixel smaller than their boxes, on every side."""

    def edit(self, edits: Sequence[Edit], seeds: Sequence[int]) -> list[EditedPhoto]:
        smaller = []
        for photo in super().edit(edits, seeds):
            masks = np.zeros_like(photo.masks)
            inner = photo.masks[:, 2:, 2:] * photo.masks[:, :-2, :-2]
            masks[:, 1:-1, 1:-1] = inner
            smaller.append(EditedPhoto(photo.image, masks))
        return smaller


def test_the_box_is_that_of_what_was_painted_where_persons_draw_boxes_alone_too() -> None:
    """Measured on blood cells: with the boxes asked for, which are looser, detectors lost AP."""
    plan = planned(boxes((30, 4, 40, 12)), [1])
    (finished,) = synthesizer(SmallPainter())([plan], CATEGORIES, "")
    objects = finished.scene.objects
    new = objects.select(np.array([origin == ADDED for origin in objects.source]))
    assert new.boxes.tolist() == [[31, 5, 39, 11]]
    assert decode_all(new, (HEIGHT, WIDTH))[0].sum() == 8 * 6


def test_a_layout_alone_is_painted_on_a_background_whose_objects_are_no_labels() -> None:
    painter = PlainPainter()
    scene = planned(boxes((30, 4, 40, 12)), [1], reason=PAIRED_SAMPLE)
    (finished,) = synthesizer(painter)([scene], CATEGORIES, "")
    assert sorted(finished.scene.objects.id.tolist()) == sorted(scene.objects.id.tolist())
    assert len(painter.edits[0].paintings) == len(scene.objects)


def test_of_a_validation_image_all_things_are_painted_anew_and_nothing_else() -> None:
    """Scores ask whether what is painted in a photo that was never learned from can be detected."""
    painter = PlainPainter()
    unseen = np.random.default_rng(1).integers(0, 256, (HEIGHT, WIDTH, 3), dtype=np.uint8)
    crowd = boxes((44, 20, 58, 38))
    places = boxes((4, 4, 14, 12), (30, 4, 40, 12))
    objects = Objects.build(
        [0, 1, 2], np.concatenate([places, crowd]), id=[7, 8, 9], iscrowd=[False, False, True]
    )
    origin = Provenance(5, "fill", "", "val-1", PAIRED_SAMPLE)
    asked = Scene("val-1~0", HEIGHT, WIDTH, ImageRef(encode(unseen, "png")), objects, None, origin)
    (finished,) = synthesizer(painter, flip=1.0, repaints=True)([asked], CATEGORIES, "")
    (edit,) = painter.edits
    assert [(0, "object", 0), (1, "object", 1)] == [
        (p.category, p.shows, p.replaces) for p in edit.paintings
    ]
    image = decode(finished.scene)
    painted = np.zeros((HEIGHT, WIDTH), bool)
    painted[4:12, 4:14] = painted[4:12, 30:40] = True
    assert (image[painted] == 255).all()
    assert np.array_equal(image[~painted], unseen[~painted])
    found = finished.scene.objects
    assert found.id.tolist() == [7, 8]
    np.testing.assert_array_equal(found.boxes, places)
    assert set(found.source) == {ADDED}


def changed(own: dict[str, object] | None = None, empty: np.ndarray | None = None) -> Scene:
    """Return a plan that changes the photo's own object, or empties a further box."""
    scene = planned(boxes(), [])
    objects = scene.objects
    if own is not None:
        objects = replace(objects, **own)
    if empty is not None:
        rows = np.concatenate([objects.boxes, empty])
        objects = Objects.build(
            [0, 1], rows, source=["human", ADDED], iscrowd=[False, True], id=[1, 2]
        )
    return scene.with_objects(objects)


REDRAWN = {"source": (ADDED,)}
ERASED = {"source": (ADDED,), "iscrowd": np.array([True])}


def test_a_redrawn_object_without_a_mask_keeps_its_box() -> None:
    painter = PlainPainter()
    source = SOURCE.with_objects(replace(THERE, boxes=boxes((2.4, 2, 20, 14), (44, 20, 58, 38))))
    synthesize = synthesizer(painter, use="redraw", source=source)
    (finished,) = synthesize([changed(REDRAWN)], CATEGORIES, "")
    objects = finished.scene.objects
    assert objects.category.tolist() == [0, 2]
    np.testing.assert_allclose(objects.boxes[0], [2.4, 2, 20, 14])
    assert (ADDED, None) == (objects.source[0], objects.rle[0])
    (edit,) = painter.edits
    assert [(0, "object", 0)] == [(p.category, p.shows, p.replaces) for p in edit.paintings]
    image = decode(finished.scene)
    assert bool((image[3:14, 3:20] == 255).all())
    assert np.array_equal(image[:, 21:], PIXELS[:, 21:])


def test_a_redrawn_object_with_a_mask_gets_that_of_what_was_painted() -> None:
    old = np.zeros((2, HEIGHT, WIDTH), bool)
    old[0, 4:14, 2:12] = True  # lower left part of its box, and its top right corner
    old[0, 2, 19] = True
    old[1, 10:30, 15:40] = True
    rles, tight = encode_with_boxes(old)
    objects = Objects.build([0, 1], tight, rle=rles, area=old.sum((1, 2)))
    plan = planned(boxes(), [])
    plan = plan.with_objects(Objects.build([0, 1], tight, source=[ADDED, "human"]))
    synthesize = synthesizer(PlainPainter(), use="redraw", source=SOURCE.with_objects(objects))
    (finished,) = synthesize([plan], CATEGORIES, "")
    after = finished.scene.objects
    masks = decode_all(after, (HEIGHT, WIDTH))
    assert 12 * 18 == masks[0].sum() == after.area[0]
    assert not (masks[0] & masks[1]).any()
    assert masks[1].sum() == 20 * 25 - 4 * 5
    assert [1, 2] == after.id.tolist()


def test_an_erased_object_loses_its_label_and_its_pixels() -> None:
    painter = PlainPainter()
    (finished,) = synthesizer(painter, use="erase")([changed(ERASED)], CATEGORIES, "")
    assert [2] == finished.scene.objects.category.tolist(), "the crowd stays"
    assert not finished.lost
    image = decode(finished.scene)
    assert not image[2:14, 2:20].any()
    assert np.array_equal(image[14:], PIXELS[14:])
    (edit,) = painter.edits
    assert [("background", 0)] == [(p.shows, p.replaces) for p in edit.paintings]


def test_stuff_is_what_is_seen_where_background_was_painted() -> None:
    """A sky keeps its pixels there; a thing behind the erased one does not come to light."""
    sky = np.zeros((1, HEIGHT, WIDTH), bool)
    sky[0, :20] = True
    rles, tight = encode_with_boxes(sky)
    objects = Objects.build(
        [2, 0],
        np.concatenate([tight, boxes((2, 2, 20, 14))]),
        rle=(*rles, None),
        isthing=[False, True],
    )
    plan = planned(boxes(), [])
    plan = plan.with_objects(
        Objects.build(
            [2, 0],
            objects.boxes,
            source=["human", ADDED],
            iscrowd=[False, True],
            isthing=[False, True],
        )
    )
    synthesize = synthesizer(PlainPainter(), use="erase", source=SOURCE.with_objects(objects))
    (finished,) = synthesize([plan], CATEGORIES, "")
    after = finished.scene.objects
    assert after.category.tolist() == [2]
    assert np.array_equal(decode_all(after, (HEIGHT, WIDTH)), sky)


def test_photo_and_plan_are_mirrored_together() -> None:
    """Which photos are is said by the seed of the plan alone."""
    for seed in range(8):
        plan = planned(boxes((30, 4, 40, 12)), [1])
        assert plan.provenance is not None
        plan = replace(plan, provenance=replace(plan.provenance, seed=seed))
        (finished,) = synthesizer(PlainPainter(), flip=0.5)([plan], CATEGORIES, "")
        image = decode(finished.scene)
        expected = PIXELS[:, ::-1] if is_mirrored(seed, 0.5) else PIXELS
        assert np.array_equal(image[20:], expected[20:])


def test_an_empty_place_changes_pixels_and_no_label() -> None:
    plan = changed(empty=boxes((30, 4, 40, 12)))
    (finished,) = synthesizer(PlainPainter(), use="empty")([plan], CATEGORIES, "")
    objects = finished.scene.objects
    assert [0, 2] == objects.category.tolist()
    assert ("human", "human") == objects.source
    assert [2, 2, 20, 14] == objects.boxes[0].tolist()
    assert not decode(finished.scene)[4:12, 30:40].any()


def test_pasted_objects_are_real_and_only_their_seams_painted() -> None:
    """The only object to paste is the photo's own, 18 by 12 pixels, cut by its box."""
    painter = PlainPainter()
    plan = planned(boxes((24, 22, 42, 34)), [0])
    (finished,) = synthesizer(painter, use="ring")([plan], CATEGORIES, "")
    (edit,) = painter.edits
    assert [("seam", 1)] == [(p.shows, p.replaces) for p in edit.paintings]
    assert [0, 0] == edit.photo.categories.tolist()
    image = decode(finished.scene)
    assert np.array_equal(image[23:33, 25:41], PIXELS[3:13, 3:19])
    assert bool((image[22, 24:42] == 128).all())
    objects = finished.scene.objects
    pasted = objects.select(np.array([source == ADDED for source in objects.source]))
    assert [24, 22, 42, 34] == pasted.boxes[0].tolist()
    assert (None,) == pasted.rle, "labels of boxes stay boxes"


def test_a_pasted_object_with_a_mask_keeps_it() -> None:
    mask = np.zeros((1, HEIGHT, WIDTH), bool)
    mask[0, 2:14, 2:20] = True
    mask[0, 2:6, 2:8] = False
    rles, tight = encode_with_boxes(mask)
    source = SOURCE.with_objects(Objects.build([0], tight, rle=rles, area=mask.sum((1, 2))))
    painter = PlainPainter()
    plan = planned(boxes((24, 22, 42, 34)), [0])
    (finished,) = synthesizer(painter, use="ring", source=source)([plan], CATEGORIES, "")
    pasted = decode_all(finished.scene.objects, (HEIGHT, WIDTH))[1]
    assert np.array_equal(pasted[22:34, 24:42], mask[0, 2:14, 2:20])
    seam = painter.edits[0].paintings[0].mask
    assert seam is not None and np.array_equal(seam, pasted)


def test_a_class_without_real_objects_is_lost_and_counted() -> None:
    plan = planned(boxes((24, 22, 42, 34)), [1])
    (finished,) = synthesizer(PlainPainter(), use="ring")([plan], CATEGORIES, "")
    assert {"platelet": 1} == dict(finished.lost)
    assert np.array_equal(decode(finished.scene), PIXELS)


def test_a_pasted_object_keeps_its_size_and_stays_inside() -> None:
    plan = planned(boxes((46, 30, 60, 40)), [0])  # smaller than the only object, and in a corner
    (finished,) = synthesizer(PlainPainter(), use="ring")([plan], CATEGORIES, "")
    pasted = finished.scene.objects.boxes[-1]
    assert [WIDTH - 18, HEIGHT - 12, WIDTH, HEIGHT] == pasted.tolist()


def with_examples(painter: PlainPainter, sources: Sequence[Scene]) -> EditSynthesizer:
    table = SceneList(CATEGORIES, sources)
    bank = Bank.of(table, table, PasteConfig(mirror=0.0, blends=("none",)))
    paint = partial(paint_with, painter)
    return EditSynthesizer(bank, paint, Synthesize(), 0.0, {"insert": 1.0}, True, [bank])


def colored(image_id: str, value: int) -> Scene:
    pixels = np.full((HEIGHT, WIDTH, 3), value, np.uint8)
    image = ImageRef(encode(pixels, "png"), None)
    return replace(SOURCE, image_id=image_id, image=image)


def test_an_object_is_painted_after_one_of_its_class_in_another_image() -> None:
    painter = PlainPainter()
    own = colored("photo", 10)
    others = [colored("a", 20), colored("b", 30)]
    synthesize = with_examples(painter, [own, *others])
    scene = planned(boxes((30, 4, 40, 12), (4, 24, 12, 30)), [0, 1])
    for _ in range(2):
        synthesize([scene], CATEGORIES, "")
    first, again = painter.edits
    cell, platelet = first.paintings
    assert platelet.example is None  # none is labelled
    assert cell.example is not None and again.paintings[0].example is not None
    assert cell.example.pixels.shape == (12, 18, 3)
    assert int(cell.example.pixels.max()) in (20, 30)
    assert np.array_equal(cell.example.pixels, again.paintings[0].example.pixels)


@pytest.mark.parametrize("shown", [True, False])
def test_an_example_with_a_box_alone_has_its_outline_where_color_shows_it(shown: bool) -> None:
    rows, columns = np.mgrid[:30, :30] + 0.5
    disc = (rows - 15) ** 2 + (columns - 15) ** 2 <= 64
    pixels = np.where(disc[..., None] & shown, 60, 200).astype(np.uint8).repeat(3, 2)
    cutout = cutout_of(
        Scene(
            "disc",
            30,
            30,
            ImageRef(encode(pixels, "png")),
            Objects.build([0], boxes((7, 7, 23, 23))),
        ),
        pixels,
        0,
        1.0,
        PasteConfig(cut="auto"),
    )
    example = example_of(cutout)
    if not shown:
        assert example.mask is None
        return
    assert example.mask is not None
    assert np.array_equal(example.mask > 0.5, disc[7:23, 7:23])


def test_pseudo_labelled_objects_are_shown_where_the_job_lends_them() -> None:
    painter = PlainPainter()
    labelled_only = with_examples(painter, [colored("photo", 10)])
    bare = SceneList(CATEGORIES, [colored("found", 90)])
    config = PasteConfig(mirror=0.0, blends=("none",))
    lent = Bank.of(bare, bare, config, lambda objects: [0])
    options = labelled_only._options
    both = EditSynthesizer(
        labelled_only._bank, labelled_only._paint, options, 0.0, {"insert": 1.0}, True,
        [labelled_only._bank, lent],
    )  # fmt: skip
    shades = set()
    for number in range(12):
        plan = planned(boxes((30, 4, 40, 12)), [0])
        assert plan.provenance is not None
        seeded = replace(plan, provenance=replace(plan.provenance, seed=number))
        both([seeded], CATEGORIES, "")
        example = painter.edits[-1].paintings[0].example
        assert example is not None
        shades.add(int(example.pixels[0, 0, 0]))
    assert shades == {10, 90}


def test_the_only_photo_with_a_class_lends_its_own_object() -> None:
    painter = PlainPainter()
    synthesize = with_examples(painter, [colored("photo", 10)])
    synthesize([planned(boxes((30, 4, 40, 12)), [0])], CATEGORIES, "")
    example = painter.edits[0].paintings[0].example
    assert example is not None
    assert int(example.pixels.max()) == 10


def test_no_example_is_drawn_where_the_system_has_no_use_for_one() -> None:
    painter = PlainPainter()
    synthesizer(painter)([planned(boxes((30, 4, 40, 12)), [0])], CATEGORIES, "")
    assert painter.edits[0].paintings[0].example is None


def test_what_is_redrawn_is_told_by_its_mask_where_it_has_one() -> None:
    canvas_mask = np.zeros((HEIGHT, WIDTH), bool)
    canvas_mask[4:10, 6:12] = True
    rles, tight = encode_with_boxes(canvas_mask[None])
    own = Objects.build([0], tight, rle=[rles[0]])
    for objects, has_mask in ((own, True), (THERE.select([0]), False)):
        painter = PlainPainter()
        source = SOURCE.with_objects(objects)
        scene = planned(boxes(), [])
        redrawn = Objects.build([0], objects.boxes, source=[ADDED])
        synthesize = synthesizer(painter, use="redraw", source=source)
        synthesize([scene.with_objects(redrawn)], CATEGORIES, "")
        (painting,) = painter.edits[0].paintings
        assert painting.replaces == 0
        if has_mask:
            assert painting.mask is not None
            assert np.array_equal(painting.mask, canvas_mask)
        else:
            assert painting.mask is None


def test_each_pasted_object_is_drawn_anew() -> None:
    """Eight cells of one size, of which two are pasted: two different ones."""
    cells = boxes(*[(2 + 7 * k, 2, 8 + 7 * k, 8) for k in range(8)])
    source = SOURCE.with_objects(Objects.build([0] * 8, cells))
    new = boxes((24, 22, 30, 28), (40, 22, 46, 28))
    marks = ["background"] * 8 + [ADDED] * 2
    objects = Objects.build([0] * 10, np.concatenate([cells, new]), source=marks)
    plan = replace(planned(new, [0, 0]), objects=objects)
    (finished,) = synthesizer(PlainPainter(), use="ring", source=source)([plan], CATEGORIES, "")
    image = decode(finished.scene)
    first, second = image[23:27, 25:29], image[23:27, 41:45]
    known = [PIXELS[3:7, 3 + 7 * k : 7 + 7 * k].tolist() for k in range(8)]
    assert first.tolist() in known and second.tolist() in known
    assert first.tolist() != second.tolist()
