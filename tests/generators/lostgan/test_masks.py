"""Mask networks: each object for itself in version 2, and logits of the side of the features."""

from __future__ import annotations

import pytest
import torch

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
