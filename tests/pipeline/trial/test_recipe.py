"""The recipe of added images.

Whose boxes are learned, whose background is not, and the real end of a training.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from synthaug.pipeline.config.schema import Trial
from synthaug.pipeline.core.box_losses import learned_boxes
from synthaug.pipeline.core.images import decode
from synthaug.pipeline.core.scene import ImageRef, Objects, Provenance, Scene, SceneList
from synthaug.pipeline.formats.toy import dataset as toy
from synthaug.pipeline.trial.arms import ARMS, Arm, RealEnd, arm_batches, real_draw, stacked
from synthaug.pipeline.trial.recipe import Recipe, sample_of

SOURCES = ("human", "pseudo", "synthetic", "synthetic", "synthetic")
OBJECTS = Objects.build(
    [0] * 5,
    [[0, 0, 4, 4]] * 5,
    source=SOURCES,
    verdict_iou=[np.nan, np.nan, np.nan, 0.79, 0.8],
)
PIXELS = np.zeros((8, 8, 3), np.uint8)
ORIGIN = Provenance(1, "fill", "", "real", "natural")


@pytest.mark.parametrize(
    ("added", "pseudo", "expected"),
    [
        ("all", "none", [1, 0, 1, 1, 1]),
        ("agreed", "none", [1, 0, 0, 0, 1]),
        ("agreed", "all", [1, 1, 0, 0, 1]),
        ("none", "all", [1, 1, 0, 0, 0]),
    ],
)
def test_boxes_are_learned_by_the_rule_for_their_source(
    added: Any, pseudo: Any, expected: list[int]
) -> None:
    """A person's always.

    The judge's agreement counts from an IoU of 0.8 on, and not to be judged is no agreement.
    """
    flags = learned_boxes(OBJECTS, added, pseudo)
    assert [bool(flag) for flag in expected] == flags.tolist()


def test_no_flags_where_every_box_is_learned() -> None:
    scene = Scene("a", 8, 8, ImageRef(None, None), OBJECTS)
    assert sample_of(scene, PIXELS, Recipe(pseudo_boxes="all")).box_loss is None
    a_persons = scene.with_objects(OBJECTS.select([0]))
    assert sample_of(a_persons, PIXELS, Recipe(added_boxes="none")).box_loss is None


def test_background_is_ignored_in_synthetic_images_alone() -> None:
    scene = Scene("a", 8, 8, ImageRef(None, None), OBJECTS)
    made = replace(scene, provenance=ORIGIN)
    ignoring = Recipe(added_background="ignore")
    flags = [sample_of(one, PIXELS, ignoring).ignore_background for one in (scene, made)]
    assert [False, True] == flags
    assert not sample_of(made, PIXELS, Recipe()).ignore_background


def test_flags_belong_to_the_objects_that_are_left_when_crowds_are_regions() -> None:
    crowd = np.array([False, False, True, False, False])
    scene = Scene("a", 8, 8, ImageRef(None, None), replace(OBJECTS, iscrowd=crowd))
    sample = sample_of(scene, PIXELS, Recipe(added_boxes="agreed"))
    assert sample.box_loss is not None and sample.ignore is not None
    assert [True, False, False, True] == sample.box_loss.tolist() and 1 == len(sample.ignore)


def test_an_arm_changes_keys_of_the_jobs_recipe_and_a_stack_does_what_its_parts_do() -> None:
    trial = Trial(seeds=2, share=0.25, added_boxes="none")
    assert Recipe(share=0.25, added_boxes="none") == Recipe.of(trial, {})
    changed = Arm("a", "candidate", "", recipe=(("real_last", 0.3), ("share", 0.5)))
    recipe = Recipe.of(trial, dict(changed.recipe))
    assert (0.5, 0.3, "none") == (recipe.share, recipe.real_last, recipe.added_boxes)
    other = Arm("b", "candidate", "", recipe=(("share", 0.1), ("added_boxes", "all")))
    both = dict(stacked([changed, other], "c", "candidate").recipe)
    assert {"share": 0.5, "real_last": 0.3, "added_boxes": "all"} == both
    assert not dict(ARMS["pseudo"].recipe), "its boxes are left out by their source"


def test_the_last_steps_have_real_images_only_and_as_many() -> None:
    real = toy.ToyDataset(toy.Config("train", count=9))
    added = toy.ToyDataset(toy.Config("val", count=4))
    known = {decode(scene).tobytes() for scene in real}
    draw = real_draw(real, 4, 7, "uniform", 0.1)
    end = RealEnd(Recipe(real_last=0.3).real_from(10), real_draw(real, 2, 8, "uniform", 0.1))
    usual = arm_batches(real, draw, [added], 2, 7)
    ended = arm_batches(real, draw, [added], 2, 7, end=end)
    counts = []
    for step in range(10):
        images = [sample.image.tobytes() for sample in ended(step)]
        counts.append(sum(image in known for image in images))
        assert 6 == len(images)
        before = [sample.image.tobytes() for sample in usual(step)]
        assert (images == before) == (step < 7)
        kept = sorted(image for image in before if image in known)
        assert set(kept) <= set(images), "the real images of a step are those of all arms"
    assert [4] * 7 + [6] * 3 == counts


def test_places_without_a_table_stay_empty() -> None:
    real = toy.ToyDataset(toy.Config("train", count=5))
    nothing = SceneList(real.categories, [])
    batches = arm_batches(real, real_draw(real, 3, 7, "uniform", 0.1), [nothing], 2, 7)
    assert [3, 3, 3] == [len(batches(step)) for step in range(3)]
    assert ("nothing",) == ARMS["diluted"].added


@pytest.mark.parametrize(
    ("keys", "named"),
    [
        ({"real_last": 1.5}, "real_last"),
        ({"soft_resolution": 0}, "soft_resolution"),
        ({"arms": ("real", "diluted"), "share": 1.0}, "share"),
        ({"arms": ("real", "empties")}, "empties"),
    ],
)
def test_recipes_that_cannot_be_are_refused(keys: dict[str, Any], named: str) -> None:
    with pytest.raises(ValueError, match=rf"^{named}: "):
        Trial(**{"seeds": 2, **keys})
