"""Shares of wrongly mapped features, against a loop over pixels."""

from __future__ import annotations

import torch

from synthaug.generators.nn.panoptic.misalignment import misalignments


def test_shares_are_those_that_a_loop_counts() -> None:
    rng = torch.Generator().manual_seed(0)
    blobs = torch.randint(0, 3, (2, 4, 8), generator=rng)
    identity = blobs.repeat_interleave(4, 1).repeat_interleave(4, 2)
    identity = identity.roll((1, 2), (1, 2))  # [2, 16, 32], boundaries off the grid
    for found, height in zip(misalignments(identity, (4, 8, 16)), (4, 8, 16), strict=True):
        step = 16 // height
        fine = identity[:, ::step, ::step]
        coarse = identity[:, :: 2 * step, :: 2 * step]
        wrong = holes = new = 0
        for image, row, column in torch.ones_like(fine).nonzero().tolist():
            new += row % 2 or column % 2
            parent = coarse[image, row // 2, column // 2]
            if fine[image, row, column] == parent:
                continue
            wrong += 1
            block = coarse[image, row // 2 : row // 2 + 2, column // 2 : column // 2 + 2]
            holes += fine[image, row, column] not in block
        assert (height, 2 * height) == found.size
        assert (wrong / new, holes / new) == (found.wrong, found.holes)
        assert wrong > holes


def test_a_map_of_one_identity_is_mapped_right() -> None:
    (found,) = misalignments(torch.zeros(1, 8, 8, dtype=torch.int64), [8])
    assert (0, 0) == (found.wrong, found.holes)
