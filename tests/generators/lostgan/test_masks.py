"""Mask networks: each object for itself in version 2, and logits of the side of the features."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from synthaug.generators.lostgan.masks import MaskRegression, PyramidHead, to_mask


@pytest.mark.parametrize("version", [1, 2])
def test_masks_are_shares_and_belong_to_their_codes(version: int) -> None:
    torch.manual_seed(0)
    network = MaskRegression(6, 8, version).double().eval()
    code = torch.randn(2, 3, 6, dtype=torch.float64)
    masks = network(code)
    assert masks.shape == (2, 3, 16, 16)
    assert 0 <= masks.min() and masks.max() <= 1
    torch.testing.assert_close(network(code[1:, 2:])[0, 0], masks[1, 2], rtol=0, atol=1e-9)


@pytest.mark.parametrize(("version", "own"), [(1, False), (2, True)])
def test_only_version_2_normalises_each_object_for_itself(version: int, own: bool) -> None:
    torch.manual_seed(0)
    network = MaskRegression(6, 8, version).train()
    code = torch.randn(1, 2, 6)
    changed = torch.cat([code[:, :1], code[:, 1:] + 5], 1)
    state = {key: value.clone() for key, value in network.state_dict().items()}
    before = network(code)[0, 0]
    network.load_state_dict(state)  # power iterations move in training
    after = network(changed)[0, 0]
    assert torch.allclose(before, after, atol=1e-6) == own


@pytest.mark.parametrize("pyramid", [False, True])
def test_a_head_has_a_logit_per_label_and_pixel(pyramid: bool) -> None:
    head = to_mask(4, 5, 7, pyramid).eval()
    assert isinstance(head[0], PyramidHead) == pyramid
    assert head(torch.randn(2, 4, 12, 12)).shape == (2, 7, 12, 12)


def test_a_pyramid_reads_its_pooled_maps_smallest_first_and_the_input_last() -> None:
    """In float64, against torch's own layers put together by the published names."""
    torch.manual_seed(0)
    head = PyramidHead(4, 3).double().eval()
    for buffer in head.buffers():
        if buffer.is_floating_point():
            buffer.uniform_(0.5, 2)
    x = torch.randn(2, 4, 12, 12, dtype=torch.float64)
    state = head.state_dict()

    def normalized(values: torch.Tensor, name: str) -> torch.Tensor:
        numbers = [state[f"{name}.{key}"] for key in ("running_mean", "running_var")]
        weight, bias = state[f"{name}.weight"], state[f"{name}.bias"]
        return F.batch_norm(values, *numbers, weight, bias, eps=1e-5)

    parts = []
    for stage, cells in enumerate((1, 2, 3, 6)):
        blocks = x.view(2, 4, cells, 12 // cells, cells, 12 // cells)
        pooled = F.conv2d(blocks.mean((3, 5)), state[f"stages.{stage}.1.weight"])
        pooled = normalized(pooled, f"stages.{stage}.2").clamp_min(0)
        spread = F.interpolate(pooled, size=(12, 12), mode="bilinear", align_corners=True)
        parts.append(spread)
    joined = torch.cat([*parts, x], 1)
    convolved = F.conv2d(joined, state["bottleneck.0.weight"], padding=1)
    expected = normalized(convolved, "bottleneck.1").clamp_min(0)
    torch.testing.assert_close(head(x), expected, rtol=0, atol=1e-12)


def test_masks_go_through_sides_of_four_eight_and_sixteen() -> None:
    sides = []
    network = MaskRegression(6, 8, 2).eval()
    for layer in (network.conv1, network.conv2, network.conv3):
        layer.register_forward_pre_hook(lambda _, inputs: sides.append(inputs[0].shape[-1]))
    network(torch.randn(1, 1, 6))
    assert sides == [4, 8, 16]


def test_a_mask_is_the_sigmoid_of_its_last_convolution() -> None:
    network = MaskRegression(6, 8, 2).eval()
    logits = []
    network.conv3[-1].register_forward_hook(lambda *call: logits.append(call[2]))
    masks = network(torch.randn(1, 2, 6))
    expected = 1 / (1 + torch.exp(-logits[0].double()))
    torch.testing.assert_close(masks.double().view(2, 1, 16, 16), expected, rtol=0, atol=1e-6)


def test_the_pyramids_dropout_is_off_in_evaluation_and_on_in_training() -> None:
    torch.manual_seed(0)
    head = PyramidHead(4, 30)
    x = torch.randn(4, 4, 6, 6)
    head.eval()
    assert torch.equal(head(x), head(x))
    head.train()
    assert not torch.equal(head(x), head(x))
