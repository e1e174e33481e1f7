"""Map batches: pure functions of the step, with image and maps cut and mirrored alike."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from synthaug.pipeline.batches.draw import Draw
from synthaug.pipeline.batches.maps import Entries, View, map_batches, stretch
from synthaug.pipeline.core import images
from synthaug.pipeline.core import panoptic_maps as panoptic
from synthaug.pipeline.core.errors import DatasetError
from synthaug.pipeline.formats.toy import dataset as toy

C = len(toy.CATEGORIES)
TABLE = toy.ToyDataset(toy.Config("train", count=5, size=48))


def batches(view: View, flip: bool = True, rank: int = 0, world: int = 1, tables=(TABLE,)):
    return map_batches(
        list(tables), Draw(sum(map(len, tables)), 4, seed=3), view, flip, rank, world
    )


@pytest.mark.parametrize("view", [View((32, 40)), View((32, 40), "resize_and_crop", (36, 50))])
def test_every_batch_is_a_cut_and_perhaps_mirrored_stretched_scene(view):
    """The image and both maps of each row are found at one and the same place of one scene, mirrored alike."""
    draw, make = Draw(5, 4, seed=3), batches(view)
    offsets, mirrors = set(), set()
    for step in range(3):
        batch = make(step)
        assert (4, 3, 32, 40) == batch.images.shape and (
            4,
            32,
            40,
        ) == batch.labels.shape == batch.instances.shape
        assert (np.float32, np.int64, np.int64) == (
            batch.images.dtype,
            batch.labels.dtype,
            batch.instances.dtype,
        )
        for row, index in enumerate(draw(step)):
            whole = view.stretched()
            maps = panoptic.maps_of(TABLE[index], C, whole)
            pixels = Image.fromarray(images.decode(TABLE[index])).resize(
                whole[::-1], Image.Resampling.BICUBIC
            )
            image = np.asarray(pixels, np.float64).transpose(2, 0, 1) / 127.5 - 1
            places = [
                (top, left, mirrored)
                for top in range(whole[0] - 31)
                for left in range(whole[1] - 39)
                for mirrored in (False, True)
                if np.allclose(cut(image, top, left, mirrored), batch.images[row], atol=1e-6)
            ]
            assert 1 == len(places)
            assert np.array_equal(cut(maps.labels, *places[0]), batch.labels[row])
            assert np.array_equal(cut(maps.instances, *places[0]), batch.instances[row])
            offsets.add(places[0][:2])
            mirrors.add(places[0][2])
    assert {False, True} == mirrors
    assert (len(offsets) > 6) == (view.mode == "resize_and_crop")


def cut(values, top, left, mirrored):
    part = values[..., top : top + 32, left : left + 40]
    return part[..., ::-1] if mirrored else part


def test_a_batch_depends_on_the_step_alone_and_workers_share_it():
    view = View((32, 32), "resize_and_crop")
    make, again = batches(view), batches(view)
    for step in (7, 2):
        whole = make(step)
        parts = [batches(view, rank=rank, world=2)(step) for rank in range(2)]
        for name in ("images", "labels", "instances"):
            assert np.array_equal(getattr(whole, name), getattr(again(step), name))
            for rank in range(2):
                assert np.array_equal(getattr(whole, name)[rank::2], getattr(parts[rank], name))
    assert not np.array_equal(make(2).images, make(7).images)


def test_the_budget_changes_nothing_but_memory_and_tables_lie_end_to_end():
    other = toy.ToyDataset(toy.Config("val", count=2, size=48))
    kept, bare = (Entries([TABLE, other], (20, 20), budget) for budget in (10**9, 0))
    for index in (6, 0, 6):
        assert all(
            np.array_equal(a, b)
            for a, b in zip(vars(kept[index]).values(), vars(bare[index]).values(), strict=True)
        )
    expected = stretch(images.decode(other[1]), (20, 20))
    assert np.array_equal(expected, kept[6].image)


def test_the_papers_sizes_and_bad_ones():
    assert (286, 286) == View((256, 256), "resize_and_crop").stretched()
    assert (256, 256) == View((256, 256), "resize_and_crop").stretched(training=False)
    assert (256, 512) == View((256, 512)).stretched()
    with pytest.raises(ValueError, match="mode is 'crop'; use one of"):
        View((2, 2), "crop")
    with pytest.raises(ValueError, match="smaller than the crop"):
        View((2, 4), "resize_and_crop", (4, 2))
    bare = toy.ToyDataset(toy.Config("train", count=4, size=48, labels=False))
    with pytest.raises(DatasetError, match="has no panoptic map"):
        batches(View((32, 32)), tables=(bare,))(0)
