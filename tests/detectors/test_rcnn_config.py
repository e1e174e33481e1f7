"""Settings of the two-stage detectors.

Usual values, and what is refused before anything is built.
"""

from __future__ import annotations

import dataclasses

import pytest

from synthaug import detectors
from synthaug.detectors.rcnn_config import USUAL, Config
from synthaug.detectors.training import Recipe

BACKENDS = tuple(detectors.DETECTORS)


@pytest.mark.parametrize(
    ("setting", "word"),
    [
        ({"backbone": "vgg"}, "backbone"),
        ({"norm": "layer"}, "norm"),
        ({"optimizer": "lion"}, "optimizer"),
        ({"lr": -1.0}, "lr"),
        ({"ema": 1.0}, "ema"),
        ({"image_size": 16}, "image_size"),
        ({"max_size": 64}, "image_size"),
        ({"anchor_sizes": (8, 16, 32, 64, 128)}, "anchor_sizes"),
        ({"backbone": "resnet50", "anchor_sizes": (8,)}, "anchor_sizes"),
        ({"backbone": "resnet50", "fpn_channels": 64}, "resnet50"),
        ({"anchor_ratios": ()}, "anchor_ratios"),
        ({"score_floor": -0.1}, "score_floor"),
        ({"weight_decay": float("nan")}, "weight_decay"),
        ({"frobnicate": 1}, "frobnicate"),
        ({"classification": "hinge"}, "classification"),
        ({"focal_gamma": -1.0}, "focal_gamma"),
        ({"train_sizes": (16, 64)}, "train_sizes"),
        ({"train_sizes": (9999,)}, "train_sizes"),
        ({"input_format": "hsv"}, "input_format"),
        ({"input_format": "bgr"}, "input_format"),
        ({"precision": "half"}, "precision"),
        ({"backbone": "lite0", "norm": "bn"}, "norm"),
        ({"backbone": "lite0", "input_format": "bgr"}, "input_format"),
    ],
)
def test_a_bad_setting_is_named(setting, word):
    for name in BACKENDS:  # the settings are checked without the back-end's library
        with pytest.raises(ValueError, match=word):
            detectors.build(name, setting, 2)


def test_what_is_left_out_takes_the_backbones_usual_value():
    assert tuple(
        getattr(Config(backbone="resnet50").resolved(), name)
        for name in ("image_size", "max_size", "fpn_channels", "lr")
    ) == (800, 1333, 256, 1e-4)
    assert (
        Config(image_size=96).resolved().image_size,
        Config(image_size=96).resolved().max_size,
    ) == (96, 160)


@pytest.mark.parametrize("backbone", USUAL)
def test_resolving_twice_changes_nothing_and_leaves_no_setting_open(backbone: str) -> None:
    resolved = Config(backbone=backbone).resolved()
    assert resolved.resolved() == resolved
    for name, usual in USUAL[backbone].items():
        assert getattr(resolved, name) == usual
    assert resolved.max_size > resolved.image_size


def test_only_statistics_that_were_read_are_frozen() -> None:
    fresh, read = Config(backbone="resnet50"), Config(backbone="resnet50", weights="r50.pth")
    assert ("gn", "frozen_bn") == (fresh.resolved().norm, read.resolved().norm)
    given = Config(backbone="resnet50", weights="r50.pth", norm="bn")
    assert "bn" == given.resolved().norm


def test_a_setting_of_the_job_wins_over_the_usual_value() -> None:
    chosen = {name: value for name, value in USUAL["resnet50"].items() if name != "norm"}
    chosen |= {"anchor_sizes": (8.0, 16.0), "finest_stride": 4}
    config = Config(backbone="small", **chosen)
    resolved = config.resolved()
    for name, value in chosen.items():
        assert getattr(resolved, name) == value
    assert resolved.norm == "gn"


def test_the_recipe_has_the_resolved_values_of_its_fields() -> None:
    config = Config(warmup=0.25, milestones=(0.5, 0.75), ema=0.5)
    recipe = config.recipe()
    assert (recipe.lr, recipe.backbone_lr) == (4e-3, 1.0)
    assert Config(backbone="lite0").recipe().backbone_lr == 0.1
    assert Config(backbone="lite0", backbone_lr=1.0).recipe().backbone_lr == 1.0
    for field in dataclasses.fields(Recipe):
        if field.name not in ("lr", "backbone_lr"):
            assert getattr(recipe, field.name) == getattr(config, field.name)


def test_strides_double_from_the_finest_level_on() -> None:
    assert Config().resolved().strides() == [8, 16, 32]
    assert Config(backbone="resnet50").resolved().strides() == [4, 8, 16, 32, 64]


def test_a_network_from_scratch_learns_in_all_stages_and_one_with_weights_in_three() -> None:
    assert Config(backbone="resnet50").learning_stages() == 5
    assert Config(backbone="lite0").learning_stages() == 3  # it never starts from scratch
    assert Config(backbone="resnet50", weights="x.pth").learning_stages() == 3
    assert Config(backbone="resnet50", weights="x.pth", trainable_layers=1).learning_stages() == 1


def test_lists_of_a_job_file_become_tuples_of_numbers() -> None:
    config = Config(anchor_sizes=[8, 16], train_sizes=[64.0, 96.0])
    assert config.anchor_sizes == (8.0, 16.0)
    assert config.train_sizes == (64, 96)
    assert hash(config) == hash(Config(anchor_sizes=(8.0, 16.0), train_sizes=(64, 96)))


def test_lite0_belongs_to_torchvision() -> None:
    with pytest.raises(ValueError, match=r"backbone: lite0 .* backend: torchvision"):
        detectors.build("detectron2", {"backbone": "lite0"}, 2)
