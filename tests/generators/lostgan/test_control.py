"""Editing a scene by hand: what an edit does not name keeps its codes bit for bit."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from synthaug.generators import boxes, checkpoint
from synthaug.generators import lostgan as lostgan_system
from synthaug.generators.base import Layouts, SamplerOptions
from synthaug.generators.lostgan import network as lostgan
from synthaug.generators.lostgan.control import Controlled, Studio

TINY = {"resolution": 64, "width": 4, "z_image": 8, "z_object": 6, "embedding": 8, "mask_hidden": 8}
CLASSES = ["cow", "tree", "sky", "house"]
LAYOUT = [("sky", (0, 0, 1, 0.5)), ("cow", (0.1, 0.5, 0.4, 0.9)), ("cow", (0.5, 0.4, 0.9, 0.8))]


def trained(config: lostgan.Config) -> lostgan.LostGanGenerator:
    """A random network after one pass in training, so that its spectral norms mean something."""
    with torch.random.fork_rng():
        torch.manual_seed(3)
        network = lostgan_system.build(config, len(CLASSES))
        layouts = Layouts(
            torch.ones(2, 1, dtype=torch.int64),
            torch.tensor([[[0, 0, 1, 1.0]]] * 2),
            torch.ones(2, 1),
        )
        slots = 1 + int(config.background)
        given = lostgan.with_background(layouts) if config.background else layouts
        network(given, torch.randn(2, config.z_image), torch.randn(2, slots, config.z_object))
    return network


def studio_of(**settings: object) -> Studio:
    network = trained(lostgan.Config(**(TINY | settings)))
    return Studio(lostgan_system.sampler(network, SamplerOptions()), CLASSES)


@pytest.fixture(scope="module")
def studio() -> Studio:
    return studio_of()


EDITS: dict[
    str, tuple[Callable[[Controlled], Controlled], set[object]]
] = {  # edit, whose code may change
    "move": (lambda s: s.move(1, (0, 0, 0.5, 0.5)), set()),
    "relabel": (lambda s: s.relabel(1, "tree"), set()),
    "add": (lambda s: s.add("house", (0.2, 0.2, 0.4, 0.4)), {3}),
    "remove": (lambda s: s.remove(1), {1}),
    "restyle": (lambda s: s.restyle(1, 77), {1}),
    "restyle_image": (lambda s: s.restyle_image(77), {"image"}),
    "restyle_background": (lambda s: s.restyle_background(77), {"background"}),
    "interpolate": (lambda s: s.interpolate(1, 77, 0.3), {1}),
}


def codes(scene: Controlled) -> dict[object, bytes]:
    found: dict[object, bytes] = {
        thing.number: thing.z.numpy().tobytes() for thing in scene.objects
    }
    found["image"] = scene.z_image.numpy().tobytes()
    if scene.z_background is not None:
        found["background"] = scene.z_background.numpy().tobytes()
    return found


@pytest.mark.parametrize("name", EDITS)
@pytest.mark.parametrize("background", [False, True])
def test_an_edit_changes_no_other_code(name: str, background: bool) -> None:
    scene = studio_of(background=background).scene(LAYOUT, seed=5)
    edit, own = EDITS[name]
    before, after = codes(scene), codes(edit(scene))
    changed = {key for key in before.keys() | after.keys() if before.get(key) != after.get(key)}
    assert changed == own - (set() if background else {"background"})
    assert before == codes(scene)


def test_a_scene_is_what_production_makes_of_its_seed() -> None:
    for background in (False, True):
        studio = studio_of(background=background)
        scene = studio.scene(LAYOUT, seed=11)
        labels = np.array([CLASSES.index(name) + 1 for name, _ in LAYOUT])
        boxes_ = np.array([box for _, box in LAYOUT], np.float32)
        layouts = Layouts.collate([labels], [boxes_], [np.ones(3, np.float32)])
        made = studio._sampler.sample(layouts, [11])
        shown = studio.render([scene])
        np.testing.assert_array_equal(made.images, shown.images)
        np.testing.assert_array_equal(made.masks, shown.masks)


def test_pictures_do_not_depend_on_the_batch(studio: Studio) -> None:
    alone = studio.scene(LAYOUT, seed=1)
    crowded = studio.scene(
        [*LAYOUT, ("tree", (0.3, 0.3, 0.6, 0.6)), ("house", (0, 0, 0.2, 0.2))], seed=2
    )
    many = studio.render([crowded] * 17 + [alone])  # more than are painted at once, and padded
    one = studio.render([alone])
    assert np.abs(many.images[-1].astype(int) - one.images[0].astype(int)).max() <= 1
    assert not many.masks[-1, 3:].any()
    assert (18, 64, 64, 3) == many.images.shape
    assert (18, 5, 64, 64) == many.masks.shape
    assert [64, 8, 16, 32] == [stack.shape[-1] for stack in many.stages]
    assert studio.stages == len(many.stages)


def test_equal_seeds_give_equal_codes_and_other_seeds_others(studio: Studio) -> None:
    longer = studio.scene([*LAYOUT, ("tree", (0, 0, 1, 1))], seed=5)
    assert codes(studio.scene(LAYOUT, seed=5)).items() <= codes(longer).items()
    assert not codes(studio.scene(LAYOUT, seed=6)).items() & codes(longer).items()
    assert codes(longer)[0] != codes(longer)[1]


def test_numbers_stay_and_are_never_given_twice(studio: Studio) -> None:
    scene = (
        studio.scene(LAYOUT, seed=5)
        .remove(0)
        .add("tree", (0, 0, 1, 1))
        .remove(3)
        .add("house", (0, 0, 1, 1))
    )
    assert [1, 2, 4] == [thing.number for thing in scene.objects]
    assert scene.objects[-1].z.equal(studio.codebook.object(((5, 1.0),), 4))


def test_interpolation_is_linear_and_meets_both_ends(studio: Studio) -> None:
    scene = studio.scene(LAYOUT, seed=5)
    end = scene.restyle(1, 77)
    assert scene.interpolate(1, 77, 0) == scene
    assert scene.interpolate(1, 77, 1) == end
    assert scene.interpolate(1, 77, 1)[1].z.equal(end[1].z)
    expected = 0.75 * scene[1].z + 0.25 * end[1].z
    torch.testing.assert_close(expected, scene.interpolate(1, 77, 0.25)[1].z)
    back = scene.interpolate(1, 77, 0.25).interpolate(1, 5, 0.5)  # a style may be changed again
    torch.testing.assert_close((scene[1].z + expected) / 2, back[1].z)


def test_a_scene_survives_being_written(studio: Studio) -> None:
    scene = studio.scene(LAYOUT, seed=5)
    scene = (
        scene.move(0, (0.1, 0, 1, 1 / 3))
        .remove(1)
        .interpolate(2, 9, 0.1)
        .add("tree", (0, 0, 1, 1), seed=8)
    )
    again = studio.restore(json.loads(json.dumps(scene.restyle_image(4).record())))
    assert again == scene.restyle_image(4)
    assert codes(again) == codes(scene.restyle_image(4))


def test_changes_are_named(studio: Studio) -> None:
    scene = studio.scene(LAYOUT, seed=5)
    edited = scene.restyle_image(9).move(1, (0, 0, 1, 1)).relabel(1, "tree").restyle(2, 9).remove(0)
    edited = edited.add("house", (0, 0, 1, 1))
    assert ["z_img", "removed 0", "class 1", "box 1", "z_obj 2", "added 3"] == edited.changes(scene)
    assert [] == scene.changes(scene)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (
            lambda s: s.scene([("cwo", (0, 0, 1, 1))], 0),
            r"object 0 \(cwo\): .* did you mean 'cow'\?",
        ),
        (lambda s: s.scene([("zebra", (0, 0, 1, 1))], 0), "known: cow, tree, sky, house"),
        (lambda s: s.scene([("cow", (0, 0, 64, 64))], 0), "reaches outside the image"),
        (lambda s: s.scene([("cow", (0.5, 0, 0.5, 1))], 0), "is empty"),
        (lambda s: s.scene([("cow", (0, 0, float("nan"), 1))], 0), "not four finite numbers"),
        (lambda s: s.scene([("cow", (0, 0, 1))], 0), "not four finite numbers"),
        (lambda s: s.scene(LAYOUT, -1), "seed -1"),
        (lambda s: s.scene(LAYOUT, 0).remove(3), "no object 3; the scene has 0, 1, 2"),
        (lambda s: s.scene([], 0).move(0, (0, 0, 1, 1)), "the scene has none"),
        (lambda s: s.scene(LAYOUT, 0).relabel(0, "tre"), "did you mean 'tree'"),
        (lambda s: s.scene(LAYOUT, 0).interpolate(0, 1, 1.5), "interpolate from 0 to 1"),
        (lambda s: s.render([]), "nothing to render"),
    ],
)
def test_what_cannot_be_is_said_in_one_line(
    studio: Studio, wrong: Callable[[Studio], object], message: str
) -> None:
    with pytest.raises(ValueError, match=message) as caught:
        wrong(studio)
    assert "\n" not in str(caught.value)


def test_rounding_at_the_border_is_forgiven(studio: Studio) -> None:
    assert (0.0, 0.0, 1.0, 1.0) == studio.scene([("cow", (-1e-9, 0, 1 + 1e-7, 1))], 0)[0].box


def test_an_empty_layout_can_be_painted(studio: Studio) -> None:
    assert (1, 64, 64, 3) == studio.render([studio.scene([], 0)]).images.shape


def test_open_reads_a_checkpoint_and_refuses_systems_without_styles(
    tmp_path: Path, studio: Studio
) -> None:
    config = lostgan.Config(**TINY)
    checkpoint.save(tmp_path / "g.safetensors", trained(config), "lostgan", config, CLASSES, {})
    opened = Studio.open(tmp_path / "g.safetensors")
    scene = opened.scene(LAYOUT, 3)
    np.testing.assert_array_equal(opened.render([scene]).images, studio.render([scene]).images)
    flat = boxes.Config(resolution=16)
    checkpoint.save(tmp_path / "b.safetensors", boxes.build(flat, 4), "boxes", flat, CLASSES, {})
    with pytest.raises(ValueError, match="'boxes' has no layout and style codes"):
        Studio.open(tmp_path / "b.safetensors")
    with pytest.raises(ValueError, match="not a readable safetensors file"):
        Studio.open(tmp_path / "absent.safetensors")


def test_truncation_bounds_the_codes(tmp_path: Path) -> None:
    config = lostgan.Config(**TINY)
    checkpoint.save(tmp_path / "g.safetensors", trained(config), "lostgan", config, CLASSES, {})
    scene = Studio.open(tmp_path / "g.safetensors", truncation=0.5).scene(LAYOUT * 5, 3)
    assert max(float(thing.z.abs().max()) for thing in scene.objects) <= 0.5
