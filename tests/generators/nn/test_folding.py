"""Folded weights are those that the trained layer multiplies with."""

from __future__ import annotations

import torch

from synthaug.generators.nn.folding import FoldedWeights
from synthaug.generators.nn.layers import SNConv2d


def test_the_folded_weight_of_a_spectral_norm_is_the_layers_in_float64() -> None:
    torch.manual_seed(0)
    layer = SNConv2d(3, 5, 3)
    for _ in range(30):
        layer.weight()
    layer.eval()
    folded = FoldedWeights(layer.state_dict(prefix="conv."))
    weight = folded.spectral("conv")
    assert weight.dtype == torch.float64
    torch.testing.assert_close(weight.float(), layer.weight(), rtol=1e-6, atol=1e-7)
    largest = torch.linalg.matrix_norm(weight.flatten(1), ord=2)
    assert abs(float(largest) - 1) < 1e-3


def test_counters_are_no_weights_and_the_state_is_not_changed() -> None:
    state = {"n": torch.tensor(3), "w": torch.ones(2, requires_grad=True)}
    folded = FoldedWeights(state)
    assert "w" in folded
    assert "n" not in folded
    assert not folded["w"].requires_grad
    folded["w"].zero_()
    assert state["w"].detach().tolist() == [1, 1]
