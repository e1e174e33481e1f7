"""U-Net, patch discriminator and losses."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from synthaug.generators.base import Layouts, TrainingBatch
from synthaug.generators.pix2pix import Config, Loop, training
from synthaug.generators.pix2pix.network import (
    Norm,
    PatchDiscriminator,
    UNet,
    has_dropout,
    patch_loss,
    unet,
    widths,
)
from synthaug.generators.training.adversarial import AdversarialTraining

SMALL = Config(resolution=16, width=2, width_d=2, num_layers=1)


def batch_of(scores: float = 1.0) -> TrainingBatch:
    images = torch.rand(2, 3, 16, 16, generator=torch.Generator().manual_seed(1)) * 2 - 1
    boxes = np.array([[0, 0, 0.5, 1.0], [0.25, 0.25, 1, 1]], np.float32)
    certain = np.full(2, scores, np.float32)
    layouts = Layouts.collate([np.array([1, 3])] * 2, [boxes] * 2, [certain] * 2)
    return TrainingBatch(images, layouts)


def test_sizes_are_the_published_ones() -> None:
    with torch.device("meta"):
        sixty_four = UNet(Config(), 171, 171)
        for_pictures = unet(3, 64, 8, True, 0.5)
        judge = PatchDiscriminator(3, 64, 3, True)
    counts = [sum(p.numel() for p in n.parameters()) for n in (sixty_four, for_pictures, judge)]
    assert counts == [29_416_067, 54_413_955, 2_768_705]
    assert widths(64, 6) == [64, 128, 256, 512, 512, 512]
    assert [downs for downs in range(5, 9) for level in range(9) if has_dropout(level, downs)] == [
        *(6,),
        *(7, 7),
        *(8, 8, 8),
    ]


def test_a_patch_sees_seventy_pixels() -> None:
    """A pixel moves the scores of all patches that see it, and of no others."""
    judge = PatchDiscriminator(1, 2, 3, True).eval()
    for layer in judge.modules():
        if isinstance(layer, Norm):
            layer.per_image = False  # own statistics would see the whole image
    images = torch.zeros(1, 3, 128, 128, requires_grad=True)
    scores = judge(torch.zeros(1, 1, 128, 128), images)
    scores[0, 0, 7, 7].backward()
    assert images.grad is not None
    seen = images.grad.abs().sum((0, 1)) > 0
    rows = seen.any(1).nonzero()
    assert int(rows.max() - rows.min()) + 1 == 70


def test_own_statistics_are_those_of_a_batch_of_one() -> None:
    torch.manual_seed(0)
    norm, alone = Norm(3, per_image=True), Norm(3, per_image=False)
    with torch.no_grad():
        norm.weight.copy_(torch.tensor([1.0, 2.0, 0.5]))
    alone.load_state_dict(norm.state_dict())
    x = torch.randn(4, 3, 5, 6)
    expected = torch.cat([alone.train()(image[None]) for image in x])
    torch.testing.assert_close(norm.eval()(x), expected)
    torch.testing.assert_close(norm.train()(x), expected)


def test_an_unsure_patch_counts_less_and_the_others_no_more() -> None:
    scores = torch.tensor([[[[2.0, -1.0]]]])
    weights = torch.tensor([[[0.5, 0.5, 1.0, 1.0]]])
    losses = torch.nn.functional.softplus(-scores)[0, 0, 0]
    expected = (0.5 * losses[0] + losses[1]) / 2
    torch.testing.assert_close(patch_loss(scores, 1.0, weights), expected)
    torch.testing.assert_close(patch_loss(scores, 1.0), losses.mean())


def first_losses(config: Config, batch: TrainingBatch) -> dict[str, float]:
    own = training(config, Loop(), 3, 4, seed=5)
    return {name: float(loss) for name, loss in own.step(0, batch).items()}


def test_scores_of_pseudo_labels_weigh_the_discriminators_loss() -> None:
    sure, unsure = batch_of(), batch_of(0.5)
    full = first_losses(SMALL, sure)
    weighed = first_losses(SMALL, unsure)
    assert full.keys() == {"d_fake", "d_real", "g_image", "g_l1"}
    for name in ("d_real", "d_fake"):
        assert 0.4 * full[name] < weighed[name] < 0.9 * full[name]
    assert full["g_l1"] == weighed["g_l1"]
    trusting = Config(**{**vars(SMALL), "weigh_scores": False})
    assert first_losses(trusting, unsure) == full


def test_a_batch_learned_in_parts_moves_the_same_way() -> None:
    """Norms see one image at a time, so parts of a batch change nothing but rounding."""
    config = Config(**{**vars(SMALL), "dropout": 0.0})
    states = []
    for parts in (1, 2):
        own = training(config, Loop(accumulate=parts), 3, 4, seed=5)
        assert isinstance(own, AdversarialTraining)
        own.step(0, batch_of())
        gradients = [p.grad for p in own.modules["G"].parameters() if p.grad is not None]
        states.append(torch.cat([gradient.flatten() for gradient in gradients]))
    torch.testing.assert_close(states[0], states[1], rtol=2e-4, atol=1e-6)


@pytest.mark.parametrize("weight", [0.0, 7.0])
def test_the_pixel_term_can_be_weighed_or_left_out(weight: float) -> None:
    losses = first_losses(Config(**{**vars(SMALL), "lambda_l1": weight}), batch_of())
    usual = first_losses(SMALL, batch_of())
    if not weight:
        assert "g_l1" not in losses
    else:
        assert losses["g_l1"] == pytest.approx(usual["g_l1"] * weight / 100, rel=1e-5)
