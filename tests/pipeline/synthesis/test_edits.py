"""Painting into real images: places that are free, labels of what is visible, and nothing else changed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest

from synthaug.generators.base import Edit, EditedPhoto, Samples
from synthaug.pipeline.batches.pixels import Pixels
from synthaug.pipeline.config.schema import Synthesize
from synthaug.pipeline.core.images import decode, encode
from synthaug.pipeline.core.masks import decode_all
from synthaug.pipeline.core.scene import (
    PAIRED_SAMPLE,
    Category,
    ImageRef,
    Objects,
    Provenance,
    Scene,
    SceneList,
)
from synthaug.pipeline.planning.planner import ADDED
from synthaug.pipeline.synthesis.edits import (
    MAX_OVERLAP,
    EditSynthesizer,
    Photos,
    largest_overlap,
    placed,
)

CATEGORIES = (Category(1, "cell"), Category(2, "platelet"), Category(3, "smear"))
HEIGHT, WIDTH = 40, 60
PIXELS = np.random.default_rng(0).integers(0, 256, (HEIGHT, WIDTH, 3), dtype=np.uint8)


def boxes(*rows: tuple[float, float, float, float]) -> np.ndarray:
    return np.array(rows, np.float32).reshape(-1, 4)


THERE = Objects.build([0, 2], boxes((2, 2, 20, 14), (44, 20, 58, 38)), iscrowd=[False, True])
SOURCE = Scene("photo", HEIGHT, WIDTH, ImageRef(encode(PIXELS, "png"), None), THERE)


class WhitePainter:
    """A sampler that paints every object white, and its box for its mask."""

    def __init__(self) -> None:
        self.edits: list[Edit] = []

    def sample(self, conditions: Sequence[Edit], seeds: Sequence[int]) -> Samples:
        raise NotImplementedError

    def edit(self, edits: Sequence[Edit], seeds: Sequence[int]) -> list[EditedPhoto]:
        self.edits += edits
        edited = []
        for edit in edits:
            image = edit.photo.image.copy()
            masks = np.zeros((len(edit.new_boxes), *edit.photo.size), np.float32)
            for mask, (x0, y0, x1, y1) in zip(masks, edit.new_boxes.astype(int), strict=True):
                image[y0:y1, x0:x1] = 255
                mask[y0:y1, x0:x1] = 1
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


def synthesizer(painter: WhitePainter, flip: float = 0.0) -> EditSynthesizer:
    table = SceneList(CATEGORIES, [SOURCE])
    photos = Photos(Pixels([table]), {"photo": 0})
    return EditSynthesizer(photos, painter, Synthesize(min_mask_area=4), flip)


def test_only_planned_objects_are_painted_and_only_there() -> None:
    painter = WhitePainter()
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
    painter = WhitePainter()
    synthesizer(painter)([planned(boxes((30, 4, 40, 12)), [1])], CATEGORIES, "")
    (edit,) = painter.edits
    assert edit.photo.categories.tolist() == [0]
    assert edit.photo.boxes.tolist() == THERE.boxes[:1].tolist()
    assert edit.new_categories.tolist() == [1]


def test_stuff_takes_no_place_and_is_no_neighbour() -> None:
    """A sky as large as the photo does not keep objects from standing before it."""
    painter = WhitePainter()
    sky = Objects.build([2], boxes((0, 0, WIDTH, HEIGHT)), isthing=[False])
    table = SceneList(CATEGORIES, [SOURCE.with_objects(sky)])
    synthesize = EditSynthesizer(Photos(Pixels([table]), {"photo": 0}), painter, Synthesize(), 0.0)
    (finished,) = synthesize([planned(boxes((30, 4, 40, 12)), [1])], CATEGORIES, "")
    assert not finished.lost["platelet"]
    (edit,) = painter.edits
    assert edit.new_boxes.tolist() == [[30, 4, 40, 12]]
    assert len(edit.photo.boxes) == 0


def test_an_object_without_a_free_place_is_lost_and_counted() -> None:
    """A box as large as the photo covers what is there, wherever it lies."""
    painter = WhitePainter()
    scene = planned(boxes((0, 0, WIDTH, HEIGHT)), [1])
    (finished,) = synthesizer(painter)([scene], CATEGORIES, "")
    assert dict(finished.lost) == {"platelet": 1}
    assert np.array_equal(decode(finished.scene), PIXELS)
    assert finished.scene.objects.category.tolist() == [0, 2]


def test_a_mirrored_background_brings_its_labels_along() -> None:
    painter = WhitePainter()
    scene = planned(boxes((30, 4, 40, 12)), [1])
    own = replace(
        scene.objects, boxes=np.concatenate([boxes((40, 2, 58, 14)), boxes((24, 20, 34, 28))])
    )
    (finished,) = synthesizer(painter, flip=1.0)([scene.with_objects(own)], CATEGORIES, "")
    assert finished.scene.objects.boxes[0].tolist() == [WIDTH - 20, 2, WIDTH - 2, 14]
    image = decode(finished.scene)
    assert np.array_equal(image[2:14, 40:58], PIXELS[:, ::-1][2:14, 40:58])


def test_masks_of_painted_objects_hide_what_lies_behind() -> None:
    """A new object may lie over a little of an old one: masks are disjoint, areas those of pixels."""
    painter = WhitePainter()
    (finished,) = synthesizer(painter)([planned(boxes((18, 10, 30, 22)), [1])], CATEGORIES, "")
    objects = finished.scene.objects
    new = objects.select(objects.category == 1)
    mask = decode_all(new, (HEIGHT, WIDTH))[0]
    assert mask.sum() == new.area[0] == 12 * 12
    assert len(set(objects.id.tolist())) == len(objects)


def test_a_layout_alone_is_painted_on_a_background_whose_objects_are_no_labels() -> None:
    painter = WhitePainter()
    scene = planned(boxes((30, 4, 40, 12)), [1], reason=PAIRED_SAMPLE)
    (finished,) = synthesizer(painter)([scene], CATEGORIES, "")
    assert sorted(finished.scene.objects.id.tolist()) == sorted(scene.objects.id.tolist())
    assert len(painter.edits[0].new_boxes) == len(scene.objects)


@pytest.mark.parametrize(
    ("box", "expected"),
    [
        ((0, 0, 10, 10), 1.0),  # a small box inside a large one is wholly covered
        ((20, 0, 30, 10), 0.0),
        ((15, 0, 25, 10), 0.5),
        ((0, 0, 40, 40), 1.0),
    ],
)
def test_overlap_is_a_share_of_the_smaller_box(
    box: tuple[float, float, float, float], expected: float
) -> None:
    others = boxes((0, 0, 20, 20))
    assert largest_overlap(boxes(box)[0], others) == pytest.approx(expected)


def test_nothing_overlaps_with_no_box() -> None:
    assert largest_overlap(boxes((0, 0, 5, 5))[0], boxes()) == 0.0


def test_a_free_place_is_kept_and_a_taken_one_is_left() -> None:
    taken = boxes((0, 0, 20, 20))
    free, covered = boxes((30, 10, 40, 20)), boxes((2, 2, 12, 12))
    wanted = Objects.build([0, 1], np.concatenate([free, covered]))
    result = placed(wanted, taken, (HEIGHT, WIDTH), seed=3)
    assert result.boxes[0].tolist() == free[0].tolist()
    assert result.id.tolist() == [1, 2]
    sides = result.boxes[1, 2:] - result.boxes[1, :2]
    np.testing.assert_allclose(sides, [10, 10], atol=1e-4)
    everything = np.concatenate([taken, result.boxes[:1]])
    assert largest_overlap(result.boxes[1], everything) <= MAX_OVERLAP


def test_new_objects_do_not_cover_each_other() -> None:
    same = np.repeat(boxes((20, 10, 30, 20)), 4, 0)
    result = placed(Objects.build([0] * 4, same), boxes(), (HEIGHT, WIDTH), seed=1)
    for number in range(1, len(result)):
        before = result.boxes[:number]
        assert largest_overlap(result.boxes[number], before) <= MAX_OVERLAP


def test_places_stay_inside_the_photo_and_derive_from_the_seed() -> None:
    taken = boxes((0, 0, 30, 40))
    wanted = Objects.build([0], boxes((5, 5, 25, 15)))
    results = [placed(wanted, taken, (HEIGHT, WIDTH), seed) for seed in (1, 1, 2)]
    for result in results:
        assert (result.boxes[:, :2] >= 0).all()
        assert (result.boxes[:, 2:] <= [WIDTH, HEIGHT]).all()
    assert np.array_equal(results[0].boxes, results[1].boxes)
    assert not np.array_equal(results[0].boxes, results[2].boxes)
