"""Finished scenes of layouts: tight boxes of what is visible, at the size that is asked for."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest

from synthaug.generators import load_system
from synthaug.generators.base import Layouts, Samples
from synthaug.pipeline.config.load import load_job
from synthaug.pipeline.config.schema import Synthesize
from synthaug.pipeline.core import masks
from synthaug.pipeline.core.errors import DatasetError
from synthaug.pipeline.core.images import decode
from synthaug.pipeline.core.scene import Category, ImageRef, Objects, Provenance, Scene, SceneList
from synthaug.pipeline.synthesis.layouts import (
    LayoutConditioning,
    LayoutSynthesizer,
    at_output_size,
    finish,
    resized_sample,
)
from tests.paths import JOBS

CLASSES = (Category(7, "car"), Category(9, "bus"))


def planned(boxes: list[list[float]], size: tuple[int, int] = (8, 8)) -> Scene:
    objects = Objects.build([0] * len(boxes), boxes, id=np.arange(len(boxes)) + 40)
    provenance = Provenance(5, "lostgan", "", "real-1", "natural")
    return Scene("x-00000004", *size, ImageRef(), objects, None, provenance)


def test_finished_objects_are_tight_and_hidden_ones_are_counted() -> None:
    visible = np.zeros((2, 8, 8), bool)
    visible[0, 2:5, 1:7] = True
    scene = planned([[0, 0, 8, 8], [1, 1, 2, 2]])
    image = np.zeros((8, 8, 3), np.uint8)
    finished = finish(scene, image, visible, CLASSES, Synthesize(min_mask_area=4), "abc")
    assert dict(finished.lost) == {"car": 1}
    objects = finished.scene.objects
    assert objects.boxes.tolist() == [[1, 2, 7, 5]]
    assert objects.layout_boxes.tolist() == [[0, 0, 8, 8]]
    assert objects.area.tolist() == [18]
    assert objects.id.tolist() == [40]
    np.testing.assert_array_equal(masks.decode_all(objects, (8, 8))[0], visible[0])
    assert finished.scene.provenance is not None
    assert finished.scene.provenance.checkpoint == "abc"


def test_the_area_of_an_object_is_that_of_its_mask_and_its_box_is_tight() -> None:
    visible = np.zeros((1, 8, 8), bool)
    visible[0, np.arange(1, 6), np.arange(1, 6)] = True  # a diagonal in a box of 25 pixels
    image = np.zeros((8, 8, 3), np.uint8)
    finished = finish(
        planned([[0, 0, 8, 8]]), image, visible, CLASSES, Synthesize(min_mask_area=1), "f"
    )
    assert [[1, 1, 6, 6]] == finished.scene.objects.boxes.tolist()
    assert [5] == finished.scene.objects.area.tolist()


def test_an_object_without_a_pixel_is_lost_whatever_the_limit() -> None:
    image, visible = np.zeros((8, 8, 3), np.uint8), np.zeros((1, 8, 8), bool)
    scene = planned([[0, 0, 8, 8]])
    finished = finish(scene, image, visible, CLASSES, Synthesize(min_mask_area=0), "abc")
    assert 0 == len(finished.scene.objects) and dict(finished.lost) == {"car": 1}


def test_an_image_is_written_at_the_size_that_is_asked_for() -> None:
    scene = planned([[0, 0, 20, 5]], (10, 40))
    assert at_output_size(scene, Synthesize(size="source"), (64, 32)) is scene
    scaled = at_output_size(scene, Synthesize(size="generator"), (64, 32))
    assert (64, 32) == scaled.size and [[0, 0, 16, 32]] == scaled.objects.boxes.tolist()


def test_a_sample_is_resized_with_its_own_masks_without_the_padding() -> None:
    images = np.stack([np.full((4, 4, 3), value, np.uint8) for value in (10, 200)])
    soft = np.zeros((2, 3, 4, 4), np.float32)
    soft[1, 0] = 0.5
    image, resized = resized_sample(Samples(images, soft), 1, 2, (8, 6))
    assert (8, 6, 3) == image.shape and 200 == image.max() == image.min()
    assert (2, 8, 6) == resized.shape and 0.5 == resized[0].max() and 0 == resized[1].max()


class OneBox:
    """A sampler of images [S, S] whose only mask is the left half."""

    size = (16, 16)

    def sample(self, conditions: object, seeds: list[int]) -> Samples:
        soft = np.zeros((len(seeds), 1, 16, 16), np.float32)
        soft[..., :8] = 1
        images = np.stack([np.full((16, 16, 3), seed, np.uint8) for seed in seeds])
        return Samples(images, soft)


def test_masks_are_found_at_the_size_of_the_scene() -> None:
    synthesize = LayoutSynthesizer(OneBox(), Synthesize())
    (finished,) = synthesize([planned([[0, 0, 20, 30]], (30, 40))], CLASSES, "f")
    assert (30, 40, 3) == decode(finished.scene).shape and 5 == decode(finished.scene).max()
    (box,) = finished.scene.objects.boxes
    assert np.abs(box - [0, 0, 20, 30]).max() <= 2  # nine tenths of the layout's box


def test_a_layout_without_objects_is_an_image_without_labels() -> None:
    synthesize = LayoutSynthesizer(OneBox(), Synthesize())
    (finished,) = synthesize([planned([], (8, 8))], CLASSES, "f")
    assert 0 == len(finished.scene.objects) and not finished.lost


class OwnPlace:
    """Places its object in the lower right quarter, whatever the layout says."""

    size = (8, 8)

    def sample(self, conditions: Layouts, seeds: Sequence[int]) -> Samples:
        soft = np.zeros((1, 1, 8, 8), np.float32)
        soft[0, 0, 4:, 4:] = 1
        boxes = np.array([[[0.5, 0.5, 1, 1]]], np.float32)
        return Samples(np.zeros((1, 8, 8, 3), np.uint8), soft, boxes)


def test_a_network_that_places_objects_by_itself_is_believed() -> None:
    synthesizer = LayoutSynthesizer(OwnPlace(), Synthesize(min_mask_area=1))
    (finished,) = synthesizer([planned([[0, 0, 3, 3]])], CLASSES, "abc")
    assert finished.scene.objects.boxes.tolist() == [[4, 4, 8, 8]]
    assert finished.scene.objects.layout_boxes.tolist() == [[0, 0, 3, 3]]


def test_a_filter_that_takes_no_image_says_what_they_have() -> None:
    job = load_job(JOBS / "smoke.yaml", ["generator.max_objects=2", "generator.min_area=0.1"])
    conditioning = LayoutConditioning(job, load_system("lostgan"))
    large, small = [0.0, 0.0, 4.0, 4.0], [0.0, 0.0, 1.0, 1.0]
    full, empty = planned([large] * 5), planned([small] * 2)
    conditioning.check_data(SceneList(CLASSES, [full, empty, planned([large, small])]))
    with pytest.raises(DatasetError) as caught:
        conditioning.check_data(SceneList(CLASSES, [full, empty]))
    assert str(caught.value) == (
        "generator.min_objects/max_objects/min_area: images have 0 to 5 objects of over 0.1 of "
        "their area, the filter takes 1 to 2: none passes, widen it"
    )


def test_objects_that_would_all_be_dropped_are_told_before() -> None:
    labelled = SceneList(CLASSES, [planned([[0, 0, 5, 3]]), planned([[1, 1, 3, 3]])])
    for area, size in ((15, "source"), (0, "source"), (16, "generator")):
        conditioning_of(area, size).check_data(labelled)
    with pytest.raises(DatasetError, match=r"^synthesize\.min_mask_area: 16 .*\(15 at most\)"):
        conditioning_of(16, "source").check_data(labelled)


def conditioning_of(area: int, size: str) -> LayoutConditioning:
    words = [f"synthesize.min_mask_area={area}", f"synthesize.size={size}"]
    return LayoutConditioning(load_job(JOBS / "smoke.yaml", words), load_system("lostgan"))
