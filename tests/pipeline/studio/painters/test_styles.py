"""LostGAN in the studio: production's pixels, and codes that change alone."""

from __future__ import annotations

import numpy as np
import pytest

from synthaug.generators import lostgan as lostgan_system
from synthaug.generators.base import SamplerOptions
from synthaug.generators.lostgan.control import Studio
from synthaug.generators.lostgan.network import Config
from synthaug.pipeline.config.schema import Synthesize
from synthaug.pipeline.core.images import decode
from synthaug.pipeline.core.masks import decode as decode_mask
from synthaug.pipeline.studio.painters.scenes import layout_scene
from synthaug.pipeline.studio.painters.styles import StylePainter
from synthaug.pipeline.studio.sketch import Sketch, of_objects
from synthaug.pipeline.synthesis.layouts import LayoutSynthesizer
from tests.generators.lostgan.test_control import TINY, trained
from tests.studio_room import toy_table

CATEGORIES = toy_table().categories[:4]
SIZE = (48, 80)


@pytest.fixture(scope="module")
def sampler() -> object:
    return lostgan_system.sampler(trained(Config(**TINY)), SamplerOptions())


@pytest.fixture(scope="module")
def painter(sampler: object) -> StylePainter:
    return StylePainter(Studio(sampler, [c.name for c in CATEGORIES]), CATEGORIES)


def sketch(seed: int = 3) -> Sketch:
    names = [category.name for category in CATEGORIES]
    boxes = [(0, 0, 80, 30), (10, 20, 40, 44), (50, 18, 70, 40)]
    return of_objects(SIZE, list(zip(names[:3], boxes, strict=True)), seed)


def test_a_sketch_of_one_seed_is_what_production_paints(
    painter: StylePainter, sampler: object
) -> None:
    made = sketch()
    planned = layout_scene(made, CATEGORIES, 3)
    (finished,) = LayoutSynthesizer(sampler, Synthesize())([planned], CATEGORIES, "")
    (painted,) = painter.paint([made])
    assert (decode(finished.scene) == painted.image).all()
    objects = finished.scene.objects
    for identity, rle in zip(objects.id.tolist(), objects.rle, strict=True):
        assert rle is not None
        assert (decode_mask(rle, SIZE) == painted.masks[identity - 1]).all()


def test_an_image_does_not_depend_on_those_beside_it(painter: StylePainter) -> None:
    sketches = [sketch(1), sketch(2).remove(1), sketch(4)]
    together = painter.paint(sketches)
    for one, painted in zip(sketches, together, strict=True):
        assert (painter.paint([one])[0].image == painted.image).all()


def test_every_style_changes_the_image_and_back_again(painter: StylePainter) -> None:
    made = sketch()
    (before,) = painter.paint([made])
    for changed in (made.restyle(1, 9), made.restyle_image(9), made.interpolate(1, 9, 0.5)):
        (after,) = painter.paint([changed])
        assert not (after.image == before.image).all()
    (again,) = painter.paint([made.restyle(1, 9).restyle(1, 3)])
    assert (again.image == before.image).all()


def test_a_class_that_the_checkpoint_has_not_is_named(painter: StylePainter) -> None:
    with pytest.raises(ValueError, match="knows no class 'unicorn'"):
        painter.check(sketch().add("unicorn", (0, 0, 9, 9)))


def test_an_empty_layout_has_an_image(painter: StylePainter) -> None:
    made = of_objects(SIZE, [], 0)
    (painted,) = painter.paint([made])
    assert (*SIZE, 3) == painted.image.shape
    assert (0, *SIZE) == painted.masks.shape
    assert painted.image.dtype == np.uint8
