"""What lies in a region to ignore teaches nothing: neither that it is an object nor that it is none."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from synthaug import detectors
from synthaug.detectors.augmentations import augment
from synthaug.detectors.base import Sample
from synthaug.detectors.ignore_regions import ignore_background
from synthaug.detectors.rcnn_config import Config
from tests.detectors.painted import painted

TINY = Config(
    width=8,
    fpn_channels=16,
    image_size=64,
    max_size=128,
    anchor_sizes=(16, 32),
    box_head=32,
    flip=False,
)


def test_background_in_a_region_is_neither_and_objects_stay():
    boxes = torch.tensor(
        [[0.0, 0, 10, 10], [0, 0, 10, 10], [5, 0, 15, 10], [6, 0, 16, 10], [40, 40, 50, 50]]
    )
    region = torch.tensor([[0.0, 0, 10, 10]])
    labels = torch.tensor([0, 2, 0, 0, 0])
    assert ignore_background(boxes, labels, region).tolist() == [-1, 2, -1, 0, 0]
    assert ignore_background(boxes, labels, None) is labels
    everything = torch.tensor([[0.0, 0, 100, 100]])
    assert ignore_background(boxes[:1], labels[:1], everything).tolist() == [0], (
        "an image without anything to learn"
    )


def unlabelled(sample: Sample, ignored: bool) -> Sample:
    """The sample without its second object; the place is a region to ignore, or background."""
    return replace(
        sample,
        boxes=sample.boxes[:1],
        labels=sample.labels[:1],
        ignore=sample.boxes[1:] if ignored else None,
    )


@pytest.fixture
def one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.mark.usefixtures("one_thread")
def test_neither_anchors_nor_proposals_in_a_region_are_background(monkeypatch):
    """Of an image the network enlarges: the region is enlarged with it."""
    detector = detectors.backend("torchvision").build(replace(TINY, proposals_train=400), 2, seed=0)
    seen = []

    def spy(boxes, labels, ignore):
        seen.append((boxes, ignore_background(boxes, labels, ignore)))
        return seen[-1][1]

    for module in (
        "synthaug.detectors.ignore_regions.ignore_background",
        "synthaug.detectors.torchvision_network.ignore_background",
    ):
        monkeypatch.setattr(module, spy)
    sample = painted(3)
    for ignored in (False, True):
        detector.losses([unlabelled(sample, ignored)])
    region = torch.from_numpy(sample.boxes[1]) * 64 / 48
    assert len(seen) == 4, "anchors and proposals, of both"
    background = [_inside(boxes[labels == 0], region) for boxes, labels in seen]
    assert [share >= 0.5 for share in background] == [True, True, False, False]


def _inside(boxes: torch.Tensor, region: torch.Tensor) -> float:
    """The largest share of a box that lies in the region."""
    sides = torch.minimum(boxes[:, 2:], region[2:]) - torch.maximum(boxes[:, :2], region[:2])
    return float(
        (sides.clamp(min=0).prod(1) / (boxes[:, 2:] - boxes[:, :2]).prod(1).clamp(min=1e-6)).max()
    )


@pytest.mark.parametrize("seed", range(12))
def test_regions_follow_their_pixels_as_boxes_do(seed):
    sample = painted(seed)
    moved = augment(
        replace(sample, ignore=sample.boxes.copy()), np.random.default_rng(seed), True, 0.4, 0.0
    )
    assert moved.ignore is not None
    for box in moved.boxes.tolist():
        assert box in moved.ignore.tolist()
    assert (moved.ignore >= 0).all()
    assert (moved.ignore <= moved.image.shape[1]).all()


@pytest.mark.usefixtures("one_thread")
def test_an_empty_region_list_and_a_region_over_everything_train_alike():
    detector = detectors.backend("torchvision").build(TINY, 2, seed=0)
    sample = painted(0)
    whole = np.array([[0, 0, 48, 48]], np.float32)
    bare = replace(sample, boxes=sample.boxes[:0], labels=sample.labels[:0])
    for ignore in (whole[:0], whole):
        losses = detector.losses([replace(bare, ignore=ignore)])
        assert all(torch.isfinite(loss) for loss in losses.values())


def test_half_of_a_box_in_a_region_is_enough_and_less_is_not():
    """The share is of the box, not of the region; each axis counts."""
    boxes = torch.tensor([[0.0, 0, 10, 4], [0.0, 0, 10, 4]])
    labels = torch.tensor([0, 1])
    for right, expected in ((5.0, -1), (4.9, 0)):
        region = torch.tensor([[0.0, 0, right, 100]])
        assert ignore_background(boxes, labels, region).tolist() == [expected, 1]
    for bottom, expected in ((2.0, -1), (1.9, 0)):
        region = torch.tensor([[0.0, 0, 100, bottom]])
        assert ignore_background(boxes, labels, region).tolist() == [expected, 1]


def test_regions_do_not_add_up_and_any_of_them_suffices():
    boxes = torch.tensor([[0.0, 0, 10, 10], [50, 50, 60, 60]])
    labels = torch.tensor([0, 0])
    thirds = torch.tensor([[0.0, 0, 4, 10], [6, 0, 10, 10]])
    assert ignore_background(boxes, labels, thirds).tolist() == [0, 0]
    both = torch.cat([thirds, torch.tensor([[0.0, 0, 10, 6]])])
    assert ignore_background(boxes, labels, both).tolist() == [-1, 0]
    nowhere = torch.zeros(0, 4)
    assert ignore_background(boxes, labels, nowhere).tolist() == [0, 0]


def test_boxes_apart_on_both_axes_do_not_overlap():
    """Two negative sides have a positive product."""
    boxes = torch.tensor([[0.0, 0, 10, 10], [90, 90, 99, 99]])
    region = torch.tensor([[60.0, 60, 70, 70]])
    assert ignore_background(boxes, torch.tensor([0, 1]), region).tolist() == [0, 1]
