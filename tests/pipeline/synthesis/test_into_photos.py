"""A generator of layouts as the painter of insertions.

Its objects, by its masks, in real images.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import partial

import numpy as np
import pytest

from synthaug.generators.base import Layouts, Samples
from synthaug.generators.copy_paste import Config as PasteConfig
from synthaug.pipeline.config.load import load_job
from synthaug.pipeline.config.schema import Job, Synthesize
from synthaug.pipeline.core.errors import JobError
from synthaug.pipeline.core.images import decode, encode
from synthaug.pipeline.core.masks import decode_all
from synthaug.pipeline.core.scene import (
    Category,
    ImageRef,
    Objects,
    Provenance,
    Scene,
    SceneList,
)
from synthaug.pipeline.synthesis.conditioning import conditioning_of
from synthaug.pipeline.synthesis.edits import EditSynthesizer
from synthaug.pipeline.synthesis.into_photos import laid_over, paint_layouts
from synthaug.pipeline.synthesis.object_bank import Bank
from tests import paths

CATEGORIES = (Category(1, "car"), Category(2, "kite"), Category(3, "grass", isthing=False))
HEIGHT, WIDTH = 48, 64
PIXELS = np.random.default_rng(0).integers(0, 200, (HEIGHT, WIDTH, 3), dtype=np.uint8)
OWN = Objects.build([2, 0], [[0, 0, WIDTH, HEIGHT], [4, 4, 24, 20]], isthing=[False, True])
SOURCE = Scene("photo", HEIGHT, WIDTH, ImageRef(encode(PIXELS, "png"), None), OWN)


class DiscPainter:
    """Paints a grey image, and for every object a white disc in its box.

    Masks are low, as LostGAN's may be.
    """

    size = (24, 32)

    def __init__(self) -> None:
        self.layouts: list[Layouts] = []

    def sample(self, conditions: Layouts, seeds: Sequence[int]) -> Samples:
        self.layouts.append(conditions)
        height, width = self.size
        images = np.full((len(conditions), height, width, 3), 90, np.uint8)
        masks = np.zeros((*conditions.labels.shape, height, width), np.float32)
        rows, columns = np.mgrid[:height, :width] + 0.5
        for image, of_image, boxes in zip(images, masks, conditions.boxes.numpy(), strict=True):
            for mask, (x0, y0, x1, y1) in zip(of_image, boxes, strict=True):
                across = (columns / width - (x0 + x1) / 2) / max(1e-6, (x1 - x0) / 2)
                down = (rows / height - (y0 + y1) / 2) / max(1e-6, (y1 - y0) / 2)
                mask[:] = 0.2 * np.clip(1.4 - across**2 - down**2, 0, 1)
                image[mask > 0.05] = 255
        return Samples(images, masks)


def plan() -> Scene:
    """A plan that adds a kite to the photo's car and grass."""
    boxes = np.concatenate([OWN.boxes, [[34, 20, 58, 44]]])
    objects = Objects.build(
        [2, 0, 1], boxes, isthing=[False, True, True], source=["human", "human", "synthetic"]
    )
    origin = Provenance(5, "lostgan", "", "photo", "sqrt: +kite")
    return Scene("job-00000000", HEIGHT, WIDTH, ImageRef(None, None), objects, None, origin)


def finished(painter: DiscPainter, flip: float = 0.0) -> Scene:
    table = SceneList(CATEGORIES, [SOURCE])
    bank = Bank.of(table, table, PasteConfig())
    paint = partial(paint_layouts, painter)
    synthesize = EditSynthesizer(bank, paint, Synthesize(min_mask_area=4), flip, {}, False)
    (result,) = synthesize([plan()], CATEGORIES, "f" * 64)
    assert not result.lost
    return result.scene


def test_the_new_object_alone_is_taken_over_by_its_own_mask() -> None:
    scene = finished(DiscPainter())
    image = decode(scene)
    assert bool((image[28:36, 42:50] > 240).all()), "the middle of the kite"
    far = np.ones((HEIGHT, WIDTH), bool)
    far[14:, 28:] = False
    assert np.array_equal(image[far], PIXELS[far]), "also where the painter has a car"
    kite = scene.objects.select(scene.objects.category == 1)
    mask = decode_all(kite, (HEIGHT, WIDTH))[0]
    assert 0.6 < mask.sum() / (24 * 24) < 0.95, "a disc, not a box"
    assert ("synthetic",) == kite.source
    assert ("human", "human") == scene.objects.source[:2]


def test_the_painter_sees_the_whole_layout() -> None:
    painter = DiscPainter()
    finished(painter)
    (layouts,) = painter.layouts
    assert [[3, 1, 2]] == layouts.labels.tolist()
    np.testing.assert_allclose(layouts.boxes[0, 2] * 64, [34, 20 * 64 / 48, 58, 44 * 64 / 48])


def test_pixels_under_a_mask_are_replaced_with_a_soft_edge() -> None:
    photo, image = np.zeros((20, 20, 3), np.uint8), np.full((20, 20, 3), 200, np.uint8)
    mask = np.zeros((20, 20), bool)
    assert np.array_equal(laid_over(photo, image, mask), photo)
    mask[5:15, 5:15] = True
    result = laid_over(photo, image, mask)
    assert 200 == result[10, 10].min() and 0 == result[1, 1].max()
    assert 0 < result[5, 10, 0] < 200


def test_other_generators_and_other_uses_are_one_line() -> None:
    def job(*words: str) -> Job:
        return load_job(paths.JOBS / "smoke.yaml", ["cluster.executor=serial", *words])

    into = job("plan.into=photos")
    conditioning_of(into).check()
    redraw = replace(into, plan=replace(into.plan, uses={"redraw": 1.0}))
    for wrong, key in (
        (job("plan.into=photos", "generator.system=fill"), r"plan\.into: photos is for"),
        (redraw, r"plan\.uses: redraw for generator\.system lostgan, whose uses are insert;"),
        (job("plan.into=photos", "plan.empties=1"), r"plan\.empties: generator\.system lostgan"),
        (job("plan.into=photos", "synthesize.size=generator"), r"synthesize\.size: plan\.into"),
        (job("plan.uses={ring: 1}"), r"plan\.uses: ring .* makes whole images"),
    ):
        with pytest.raises(JobError, match=key) as error:
            conditioning_of(wrong).check()
        assert "\n" not in str(error.value)
