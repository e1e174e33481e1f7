"""Our heads on torchvision's: sampling as theirs, regions to ignore, and masks of some images."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import Tensor
from torchvision.models.detection.roi_heads import RoIHeads, fastrcnn_loss

from synthaug.detectors import torchvision_network
from synthaug.detectors.rcnn_config import Config
from synthaug.detectors.torchvision_network import build_network

TINY = Config(
    width=8, fpn_channels=16, image_size=64, anchor_sizes=(16, 32), box_head=32, box_samples=24
)


@pytest.fixture(scope="module")
def heads() -> RoIHeads:
    torch.manual_seed(0)
    return build_network(TINY.resolved(), 3).get_submodule("roi_heads")


def proposals_and_targets() -> tuple[list[Tensor], list[dict[str, Tensor]]]:
    """Two images, the second without objects."""
    rng = torch.Generator().manual_seed(1)
    proposals = []
    for _ in range(2):
        corner = torch.rand(60, 2, generator=rng) * 40
        size = torch.rand(60, 2, generator=rng) * 30 + 2
        proposals.append(torch.cat([corner, corner + size], 1))
    with_objects = {
        "boxes": torch.tensor([[5.0, 5, 25, 25], [30, 20, 60, 50]]),
        "labels": torch.tensor([2, 3]),
    }
    without = {"boxes": torch.zeros(0, 4), "labels": torch.zeros(0, dtype=torch.long)}
    return proposals, [with_objects, without]


def sample(
    method: object, heads: RoIHeads, proposals: list[Tensor], targets: list[dict[str, Tensor]]
) -> list[list[Tensor]]:
    torch.manual_seed(4)
    return [list(column) for column in method(heads, list(proposals), targets)]


def test_without_regions_sampling_is_torchvisions(heads: RoIHeads) -> None:
    proposals, targets = proposals_and_targets()
    ours = sample(type(heads).select_training_samples, heads, proposals, targets)
    theirs = sample(RoIHeads.select_training_samples, heads, proposals, targets)
    for our_column, their_column in zip(ours, theirs, strict=True):
        for our_rows, their_rows in zip(our_column, their_column, strict=True):
            torch.testing.assert_close(our_rows, their_rows, rtol=0, atol=0)


def test_regions_belong_to_their_image_and_remove_its_background_only(heads: RoIHeads) -> None:
    proposals, targets = proposals_and_targets()
    everything = torch.tensor([[0.0, 0, 100, 100]])
    targets[0]["ignore"] = everything
    _, _, labels, _ = sample(type(heads).select_training_samples, heads, proposals, targets)
    assert (labels[0] > 0).all()
    assert len(labels[0]) >= 2
    assert (labels[1] == 0).all()
    assert len(labels[1]) == 24
    del targets[0]["ignore"]
    _, _, labels, _ = sample(type(heads).select_training_samples, heads, proposals, targets)
    assert (labels[0] == 0).any()


def test_the_small_network_lets_twice_the_proposals_into_suppression() -> None:
    config = replace(TINY, proposals_train=30, proposals_test=20).resolved()
    rpn = build_network(config, 2).get_submodule("rpn")
    assert rpn._pre_nms_top_n == {"training": 60, "testing": 40}
    assert rpn._post_nms_top_n == {"training": 30, "testing": 20}


def test_weights_are_those_of_the_seed_and_the_background_is_row_zero() -> None:
    networks = []
    for _ in range(2):
        torch.manual_seed(7)
        networks.append(build_network(TINY.resolved(), 5))
    first, second = (network.state_dict() for network in networks)
    assert all(torch.equal(first[name], second[name]) for name in first)
    assert first["roi_heads.box_predictor.cls_score.weight"].shape[0] == 6
    masked = build_network(replace(TINY, masks=True).resolved(), 5).state_dict()
    assert masked["roi_heads.mask_predictor.mask_fcn_logits.weight"].shape[0] == 6


def test_masks_of_a_class_are_taken_row_by_row() -> None:
    masks = torch.arange(3 * 4 * 2 * 2).view(3, 4, 2, 2)
    chosen = torchvision_network._of_class(masks, torch.tensor([3, 0, 1]))
    expected = torch.stack([masks[0, 3], masks[1, 0], masks[2, 1]])
    assert torch.equal(chosen, expected)
    assert torchvision_network._of_class(masks[:0], torch.zeros(0, dtype=torch.long)).shape == (
        0,
        2,
        2,
    )


def test_offsets_are_learned_of_the_own_class_and_shared_by_all_boxes() -> None:
    """Against torchvision's own loss, where every object has a box loss."""
    rng = torch.Generator().manual_seed(2)
    classes = torch.tensor([0, 2, 1, 3, 0, 2])
    deltas, logits = torch.randn(6, 16, generator=rng), torch.randn(6, 4, generator=rng)
    offsets = torch.randn(6, 4, generator=rng)
    with_box = classes > 0
    found = torchvision_network._box_loss(deltas, classes, offsets, with_box)
    _, expected = fastrcnn_loss(logits, deltas, [classes], [offsets])
    torch.testing.assert_close(found, expected)
    own = offsets.repeat(1, 4)
    own[:, :4] += 9.0  # of the background, which nobody learns
    assert torchvision_network._box_loss(own, classes, offsets, with_box) == 0


@pytest.mark.parametrize("size", [(40, 100), (100, 40)])
def test_regions_are_resized_as_boxes_are(size: tuple[int, int]) -> None:
    transform = build_network(TINY.resolved(), 2).get_submodule("transform")
    boxes = torch.tensor([[1.0, 2, 21, 32], [10, 5, 30, 39]])
    target = {"boxes": boxes, "ignore": boxes.clone(), "labels": torch.tensor([1, 2])}
    _, resized = transform.resize(torch.zeros(3, *size), target)
    assert not torch.equal(resized["boxes"], boxes)
    torch.testing.assert_close(resized["ignore"], resized["boxes"])
