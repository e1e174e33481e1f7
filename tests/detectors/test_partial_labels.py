"""Images that are not labelled in full teach what is known of them, and nothing else."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from synthaug import detectors
from synthaug.detectors.augmentations import augment, erase
from synthaug.detectors.base import Sample
from synthaug.detectors.partial_labels import (
    ignore_background,
    without_ignored,
)
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

    monkeypatch.setattr("synthaug.detectors.partial_labels.ignore_background", spy)
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


@pytest.fixture
def detector():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    config = replace(TINY, masks=True, proposals_train=200)
    yield detectors.backend("torchvision").build(config, 2, seed=0)
    torch.set_num_threads(before)


def losses_of(detector, *samples):
    torch.manual_seed(3)  # the same anchors and proposals are drawn
    return {name: float(loss.detach()) for name, loss in detector.losses(samples).items()}


def gradients_of(detector, name, *samples):
    """The largest gradient of one loss in each part of the network."""
    detector.model.zero_grad()
    torch.manual_seed(3)
    detector.losses(samples)[name].backward()
    largest = {}
    for part, parameter in detector.model.named_parameters():
        if parameter.grad is not None:
            largest[part] = float(parameter.grad.abs().max())
    return largest


def with_flags(sample, *flags):
    return replace(sample, box_loss=np.array(flags))


def test_flags_that_are_all_true_change_nothing(detector):
    sample = painted(3, masks=True)
    assert losses_of(detector, sample) == losses_of(detector, with_flags(sample, True, True))


def test_an_object_without_a_box_loss_is_still_an_object_of_its_class(detector):
    sample = painted(3, masks=True)
    plain = losses_of(detector, sample)
    first = losses_of(detector, with_flags(sample, True, False))
    second = losses_of(detector, with_flags(sample, False, True))
    none = losses_of(detector, with_flags(sample, False, False))
    for name in ("objectness", "class"):
        assert plain[name] == first[name] == second[name] == none[name]
    for name in ("proposal_box", "box"):
        assert 0 < first[name] < plain[name] and none[name] == 0
        # both are sums over objects, divided by the number of boxes drawn
        assert first[name] + second[name] == pytest.approx(plain[name], rel=1e-5)
    assert plain["mask"] > 0 and none["mask"] == 0


def test_no_box_loss_reaches_what_predicts_offsets(detector):
    sample = with_flags(painted(3, masks=True), False, False)
    other = painted(4, masks=True)
    for name, part in (
        ("proposal_box", "rpn.head.bbox_pred.weight"),
        ("box", "roi_heads.box_predictor.bbox_pred.weight"),
        ("mask", "roi_heads.mask_predictor.mask_fcn_logits.weight"),
    ):
        assert gradients_of(detector, name, sample).get(part, 0.0) == 0
        assert gradients_of(detector, name, sample, other)[part] > 0, "of the other image"


def test_the_proposal_losses_are_those_computed_by_hand():
    """Five anchors, all drawn.

    Two objects, one of them without a box loss, two of background, one neither.
    """
    rpn = detectors.backend("torchvision").build(TINY, 2, seed=0).model.rpn
    anchors = torch.tensor(
        [[0.0, 0, 10, 10], [20, 20, 30, 30], [0, 30, 10, 40], [40, 0, 50, 10], [1, 1, 14, 14]]
    )
    target = {
        "boxes": torch.tensor([[0.0, 0, 10, 10], [20, 20, 30, 30]]),
        "labels": torch.tensor([1, 2]),
        "box_loss": torch.tensor([True, False]),
    }
    labels, matched = rpn.assign_targets_to_anchors([anchors], [target])
    assert [[1, 2, 0, 0, -1]] == [one.tolist() for one in labels]
    assert target["boxes"][1].tolist() == matched[0][1].tolist()
    logits = torch.tensor([[1.0], [-2.0], [0.5], [0.0], [9.0]])
    deltas = torch.tensor([[0.5, 0, 0, 0.05], [3, 3, 3, 3], [1, 1, 1, 1], [0] * 4, [9] * 4])
    offsets = torch.zeros(5, 4)
    objectness, box = rpn.compute_loss(logits, deltas, labels, [offsets])
    truth = torch.tensor([1.0, 1, 0, 0])
    chances = logits[:4, 0].sigmoid()
    by_hand = -(truth * chances.log() + (1 - truth) * (1 - chances).log()).mean()
    assert float(objectness) == pytest.approx(float(by_hand), rel=1e-5)
    # smooth L1 with beta 1/9: 0.5 - 1/18 beyond it, 0.05^2 / (2 beta) within; over four anchors
    assert float(box) == pytest.approx((0.5 - 1 / 18 + 0.05**2 * 4.5) / 4, rel=1e-5)


def test_background_far_from_objects_teaches_nothing_where_it_is_ignored():
    boxes = torch.tensor([[0.0, 0, 10, 10], [0, 0, 10, 10], [5, 0, 15, 10], [9, 0, 19, 10]])
    labels = torch.tensor([1, 0, 0, 0])
    target = {"boxes": torch.tensor([[0.0, 0, 10, 10]]), "labels": torch.tensor([1])}
    assert without_ignored(boxes, labels, target) is labels
    flagged = {**target, "ignore_background": torch.tensor(True)}
    # IoU 1, 1/3 and 1/19
    assert [1, 0, 0, -1] == without_ignored(boxes, labels, flagged).tolist()
    nothing = {**flagged, "boxes": torch.zeros(0, 4)}
    assert [1, -1, -1, -1] == without_ignored(boxes, labels, nothing).tolist()


@pytest.mark.parametrize("classification", ["cross_entropy", "focal"])
def test_images_of_which_nothing_is_learned_have_losses_without_gradient(classification):
    config = replace(TINY, classification=classification, masks=True)
    detector = detectors.backend("torchvision").build(config, 2, seed=0)
    sample = painted(0)
    nothing = replace(
        sample, boxes=sample.boxes[:0], labels=sample.labels[:0], ignore_background=True
    )
    losses = detector.losses([nothing])
    assert {0.0} == {float(loss) for loss in losses.values()}
    sum(losses.values()).backward()
    for parameter in detector.model.parameters():
        assert parameter.grad is None or not parameter.grad.any()


def test_of_an_image_whose_background_is_ignored_its_objects_are_learned(detector):
    sample = replace(painted(3, masks=True), ignore_background=True)
    plain, ignored = losses_of(detector, painted(3, masks=True)), losses_of(detector, sample)
    assert all(loss > 0 for loss in ignored.values())
    assert plain["objectness"] != ignored["objectness"]


@pytest.mark.parametrize("seed", range(6))
def test_flags_follow_their_boxes_through_augmentation(seed):
    sample = painted(seed)
    sample = replace(sample, box_loss=sample.labels == 1, ignore_background=True)
    rng = np.random.default_rng(seed)
    moved = augment(sample, rng, True, 1.5, 0.1)
    holes = np.array([[0, 0, 24, 48]])
    for view in (moved, erase(sample, holes, rng)):
        assert view.ignore_background
        assert (view.labels == 1).tolist() == view.box_loss.tolist()
