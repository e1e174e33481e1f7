from __future__ import annotations

import math

import torch

from synthaug.generators.sims.losses import LABELS, SynthesisLoss, placement_loss
from synthaug.generators.sims.network import Synthesis


def test_a_placed_segment_costs_nothing_and_a_missing_one_its_colors() -> None:
    colors = torch.full((3, 4, 4), 51.0)
    targets = torch.zeros(1, 1, 4, 4)
    targets[..., :2] = 1
    there = torch.full((1, 3, 4, 4), 0.2) * targets
    assert float(placement_loss(there, targets, colors)) < 1e-5
    missing = placement_loss(torch.zeros_like(there), targets, colors)
    assert math.isclose(float(missing), 51 * 8 / 9, rel_tol=1e-6)


def test_the_map_counts_ten_times_and_by_confidence() -> None:
    loss = SynthesisLoss((1.0, 0, 0, 0, 0, 0), "", "caffe")
    real = torch.zeros(1, 3, 2, 2)
    made = Synthesis(real + 0.5, torch.zeros(1, 4, 2, 2))
    labels = torch.zeros(1, 2, 2, dtype=torch.int64)
    terms = loss.terms(made, real, labels)
    torch.testing.assert_close(terms[-1], torch.tensor(LABELS * math.log(4)))
    half = loss.terms(made, real, labels, torch.full((1, 2, 2), 0.5))
    torch.testing.assert_close(half, terms / 2)
