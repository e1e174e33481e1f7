"""Maps of pseudo-labels: who is in front, what stays unlabelled, what each pixel weighs.

A generator learns from them.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from synthaug.pipeline.batches.draw import Draw
from synthaug.pipeline.batches.maps import View, map_batches
from synthaug.pipeline.config.load import load_job
from synthaug.pipeline.core import masks
from synthaug.pipeline.core import panoptic_maps as panoptic
from synthaug.pipeline.core.errors import JobError
from synthaug.pipeline.core.scene import ImageRef, Objects, Scene, SceneList
from synthaug.pipeline.formats.toy import dataset as toy
from synthaug.pipeline.synthesis.conditioning import conditioning_of
from synthaug.pipeline.synthesis.pseudo_maps import (
    can_compose,
    with_composed_map,
    with_composed_maps,
)
from tests import paths

ROOT = paths.ROOT
TOY = toy.ToyDataset(toy.Config("train", count=3, size=48))


def scene_of(
    stack: np.ndarray, scores: list[float], things: list[bool], source: str = "pseudo"
) -> Scene:
    n, height, width = stack.shape
    objects = Objects.build(
        np.arange(n) % 2,
        masks.tight_boxes(stack),
        id=(7 << 24) + np.arange(n),  # the low bits of the first are no id of a map
        rle=masks.encode(stack),
        score=scores,
        isthing=things,
        source=(source,) * n,
    )
    return Scene("a", height, width, ImageRef(), objects)


def pseudo(index: int, score: float) -> Scene:
    """A toy scene as a detector might have labelled it: things alone, no map."""
    scene = TOY[index]
    objects = scene.objects.select(scene.objects.isthing)
    n = len(objects)
    return replace(
        scene,
        panoptic=None,
        objects=replace(objects, score=np.full(n, score, np.float32), source=("pseudo",) * n),
    )


@st.composite
def stacks(draw):
    n = draw(st.integers(1, 5))
    stack = draw(hnp.arrays(bool, (n, draw(st.integers(1, 6)), draw(st.integers(1, 6)))))
    scores = [draw(st.sampled_from([0.25, 0.5, 1.0])) for _ in range(n)]
    return stack, scores, [draw(st.booleans()) for _ in range(n)]


@settings(max_examples=60, deadline=None)
@given(stacks())
def test_things_are_before_stuff_and_the_surer_before_the_less_sure(given_):
    stack, scores, things = given_
    scene = scene_of(stack, scores, things)
    made = with_composed_map(scene)
    ids = panoptic.map_of(made)
    assert list(range(1, len(made.objects) + 1)) == panoptic.segment_ids(made.objects).tolist()
    assert np.array_equal(ids == 0, ~stack.any(0))
    for y, x in np.argwhere(ids > 0):
        there = np.flatnonzero(stack[:, y, x])
        winner = max(there, key=lambda k: (things[k], scores[k], -k))
        shown = ids[y, x] - 1
        assert made.objects.score[shown] == np.float32(scores[winner])
        assert (made.objects.category[shown], made.objects.isthing[shown]) == (
            winner % 2,
            things[winner],
        )
    assert made.objects.area.tolist() == [
        int((ids == k).sum()) for k in range(1, len(made.objects) + 1)
    ]
    assert set(made.objects.source) <= {"pseudo"}


def test_only_pseudo_labels_with_masks_are_composed():
    stack = np.ones((1, 2, 2), bool)
    mine = scene_of(stack, [0.5], [True])
    assert can_compose(mine) and not can_compose(scene_of(stack, [1.0], [True], "human"))
    assert not can_compose(replace(mine, objects=replace(mine.objects, rle=(None,))))
    assert not can_compose(mine.with_objects(mine.objects.select(np.zeros(1, bool))))
    table = SceneList(toy.CATEGORIES, [TOY[0], mine, scene_of(stack, [1.0], [True], "human")])
    maps = [with_composed_maps(table)[i].panoptic for i in range(3)]
    assert maps[0] == TOY[0].panoptic and maps[1] is not None and maps[2] is None
    conditioning = conditioning_of(load_job(ROOT / "jobs" / "panoptic.yaml"))
    assert len(conditioning.select(table)) == 2


def test_a_pixel_weighs_the_score_of_its_label():
    table = with_composed_maps(SceneList(toy.CATEGORIES, [pseudo(0, 0.25)]))
    batch = map_batches([table], Draw(1, 2, seed=1), View((48, 48)), False)(0)
    assert batch.weights is not None and batch.weights.shape == batch.labels.shape
    unlabelled = batch.labels == len(toy.CATEGORIES)
    assert unlabelled.any() and (batch.weights == np.where(unlabelled, 1, np.float32(0.25))).all()
    assert map_batches([TOY], Draw(3, 2, seed=1), View((48, 48)), True)(0).weights is None


def test_unsure_labels_move_the_discriminator_less():
    """D's loss of a map of score p is p times that of score 1, and a patch of both lies between;
    G's loss is as it was.
    """
    import torch

    from synthaug.generators.spade.losses import discriminator_loss

    scores = [[torch.randn(1, 1, 5, 5, generator=torch.Generator().manual_seed(0))]]
    whole = torch.stack(discriminator_loss(scores, scores, "hinge"))
    quarter = torch.stack(
        discriminator_loss(scores, scores, "hinge", torch.full((1, 40, 40), 0.25))
    )
    assert torch.allclose(quarter, whole / 4)
    half = torch.ones(1, 40, 40)
    half[:, :, :8] = 0  # the first column of scores
    expected = torch.relu(1 - scores[0][0][..., 1:]).sum() / 25
    assert torch.allclose(discriminator_loss(scores, scores, "hinge", half)[0], expected)


def test_a_generator_learns_from_them_by_their_weight():
    """One step with pseudo-labels of a low score changes D less surely than the same labels taken
    as certain.
    """
    import torch

    from synthaug.generators import spade as spade_system
    from synthaug.generators.spade import network as spade
    from synthaug.generators.training.adversarial import Config as Loop

    job = load_job(
        ROOT / "jobs" / "panoptic.yaml", ["generator.system=spade", "generator.resolution=32"]
    )
    told = {}
    for score in (1.0, 0.25):
        conditioning = conditioning_of(job)
        table = conditioning.select(SceneList(toy.CATEGORIES, [pseudo(i, score) for i in range(3)]))
        assert len(table) == 3
        config = spade.Config(resolution=32, width=2, width_d=2)
        loop = spade_system.training(config, Loop(accumulate=2), len(toy.CATEGORIES), 1, 0)
        batch = conditioning.batches([table], Draw(3, 4, seed=1), 0, 1)(0)
        told[score] = loop.step(0, batch)
    assert told[0.25]["d_real"] < told[1.0]["d_real"]
    assert torch.equal(told[0.25]["g_image"], told[1.0]["g_image"])


def test_without_a_channel_for_the_unlabelled_it_is_refused():
    overrides = ["generator.dont_care=false", "detector.masks=true", "generator.use_pseudo=true"]
    job = load_job(
        ROOT / "jobs" / "panoptic.yaml", [*overrides, "data.unlabelled='toy:unlabelled?count=4'"]
    )
    with pytest.raises(JobError, match=r"generator\.dont_care: false"):
        conditioning_of(job).check()
    conditioning_of(load_job(ROOT / "jobs" / "panoptic.yaml", overrides)).check()
