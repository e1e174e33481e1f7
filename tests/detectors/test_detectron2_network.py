"""Detectron2's networks as we put them together; skipped where detectron2 is not installed."""

from __future__ import annotations

import importlib
from dataclasses import replace
from types import ModuleType

import pytest
import torch

from synthaug.detectors.rcnn_config import Config
from synthaug.detectors.rcnn_detector import focal_loss
from tests.detectors.painted import needs

TINY = Config(
    backbone="small",
    width=8,
    fpn_channels=16,
    image_size=64,
    anchor_sizes=(16, 32),
    box_head=32,
    norm="gn",
)


@pytest.fixture
def network() -> ModuleType:
    needs("detectron2")
    return importlib.import_module("synthaug.detectors.detectron2_network")


def inputs() -> list[dict[str, torch.Tensor]]:
    image = torch.rand(3, 64, 64, generator=torch.Generator().manual_seed(0)) * 255
    boxes = torch.tensor([[4.0, 4, 30, 30]])
    return [{"image": image, "boxes": boxes, "labels": torch.tensor([1])}]


def test_a_bgr_network_is_given_blue_first_and_an_rgb_one_red_first(network: ModuleType) -> None:
    image = inputs()[0]["image"]
    for colors, channel in (("bgr", 2), ("rgb", 0)):
        config = replace(TINY, backbone="resnet50", fpn_channels=0, anchor_sizes=())
        config = replace(config, norm="bn", input_format=colors).resolved()
        with torch.device("meta"):
            model = network.build_network(config, 2)
        (entry,) = network._entries(model, [image])
        assert torch.equal(entry["image"][0], image[channel])


def test_the_focal_loss_replaces_the_class_loss_alone(network: ModuleType) -> None:
    losses = []
    for classification in ("cross_entropy", "focal"):
        torch.manual_seed(0)
        config = replace(TINY, classification=classification, focal_gamma=2.0).resolved()
        model = network.build_network(config, 2).train()
        torch.manual_seed(1)
        losses.append(network.network_losses(model, inputs()))
    plain, focal = losses
    assert float(focal["loss_cls"].detach()) < float(plain["loss_cls"].detach())
    assert torch.equal(plain["loss_box_reg"], focal["loss_box_reg"])
    assert focal_loss(torch.zeros(0, 3), torch.zeros(0, dtype=torch.long), 2.0) == 0


def test_in_bfloat16_the_resnets_maps_are_float32(network: ModuleType) -> None:
    config = replace(TINY, backbone="resnet50", fpn_channels=0, anchor_sizes=(), norm="bn")
    with torch.device("meta"):
        model = network.build_network(replace(config, precision="bfloat16").resolved(), 2)
    assert model.backbone.bf16
    strides = [shape.stride for shape in model.backbone.output_shape().values()]
    assert strides == [4, 8, 16, 32, 64]


def losses_of(
    model: torch.nn.Module, network: ModuleType, **targets: torch.Tensor
) -> dict[str, float]:
    torch.manual_seed(1)
    (plain,) = inputs()
    losses = network.network_losses(model, [{**plain, **targets}])
    return {name: float(loss.detach()) for name, loss in losses.items()}


def test_objects_without_a_box_loss_are_learned_as_objects_alone(network: ModuleType) -> None:
    torch.manual_seed(0)
    model = network.build_network(TINY.resolved(), 2).train()
    plain = losses_of(model, network)
    flagged = losses_of(model, network, box_loss=torch.tensor([True]))
    without = losses_of(model, network, box_loss=torch.tensor([False]))
    assert plain == flagged
    for name in ("loss_rpn_cls", "loss_cls"):
        assert plain[name] == without[name]
    for name in ("loss_rpn_loc", "loss_box_reg"):
        assert plain[name] > 0 and without[name] == 0


def test_ignored_background_is_not_sampled(network: ModuleType) -> None:
    torch.manual_seed(0)
    model = network.build_network(TINY.resolved(), 2).train()
    plain = losses_of(model, network)
    ignored = losses_of(model, network, ignore_background=torch.tensor(True))
    assert 0 < ignored["loss_rpn_cls"] < plain["loss_rpn_cls"], "a sum over fewer anchors"
    everywhere = torch.tensor([[0.0, 0, 64, 64]])
    regions = losses_of(model, network, ignore=everywhere)
    assert 0 < regions["loss_rpn_cls"] < ignored["loss_rpn_cls"], "nothing but objects"
    empty = {"boxes": torch.zeros(0, 4), "labels": torch.zeros(0, dtype=torch.long)}
    nothing = losses_of(model, network, **empty, ignore_background=torch.tensor(True))
    assert {0.0} == set(nothing.values())
