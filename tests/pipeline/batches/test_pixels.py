"""The cache of decoded scenes: what is kept changes memory and nothing else."""

from __future__ import annotations

import numpy as np

from synthaug.pipeline.batches.pixels import Pixels, SceneCache
from synthaug.pipeline.core.images import decode, resize
from synthaug.pipeline.core.scene import Scene
from synthaug.pipeline.formats.toy import dataset as toy

TRAIN = toy.ToyDataset(toy.Config("train", count=3, size=48))
VAL = toy.ToyDataset(toy.Config("val", count=2, size=48))


def test_tables_lie_end_to_end_under_their_own_names():
    pixels = Pixels([TRAIN, VAL])
    assert 5 == len(pixels)
    for index, expected in enumerate([*TRAIN, *VAL]):
        scene, image = pixels[index]
        assert expected.image_id == scene.image_id
        assert np.array_equal(decode(expected), image)


def test_images_are_resized_where_a_size_is_given():
    _, image = Pixels([TRAIN], (20, 30))[1]
    assert np.array_equal(resize(decode(TRAIN[1]), (20, 30)), image)


def test_the_budget_says_how_many_are_kept():
    loaded: list[str] = []

    def load(scene: Scene) -> str:
        loaded.append(scene.image_id)
        return scene.image_id

    cache = SceneCache([TRAIN], load, num_bytes=lambda _: 10, budget=25)
    names = [cache[index] for index in (0, 1, 2, 0, 1, 2)]
    assert names[:3] == names[3:]
    assert [*names[:3], names[2]] == loaded  # the third does not fit
