"""Losses of features, by hand."""

from __future__ import annotations

import torch

from synthaug.generators.grid2im.losses import feature_matching, squared_error


def test_squared_errors_are_means_summed_over_scales() -> None:
    scores = [[torch.zeros(1), torch.tensor([0.0, 2.0])], [torch.zeros(1), torch.tensor([3.0])]]
    assert float(squared_error(scores, 1)) == 1 + 4


def test_matching_leaves_out_the_scores_and_weighs_by_layers_and_scales() -> None:
    fake = [[torch.tensor([1.0, 3.0]), torch.tensor([9.0])]]
    real = [[torch.tensor([0.0, 0.0]), torch.tensor([0.0])]]
    assert float(feature_matching(fake, real)) == 4 / 2 / 1 * 2
