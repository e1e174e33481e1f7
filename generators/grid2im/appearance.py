"""Appearance codes of earlier objects, for images with the wrong appearance.

Legend: n objects, L labels, A length of a code.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

SIZE = 100  # codes kept of each class


class AppearancePool(nn.Module):
    """The last codes of every class; its state is saved with the networks."""

    codes: Tensor
    counts: Tensor

    def __init__(self, labels: int, length: int, size: int = SIZE) -> None:
        super().__init__()
        self.register_buffer("codes", torch.zeros(labels, size, length))
        self.register_buffer("counts", torch.zeros(labels, dtype=torch.int64))

    @torch.no_grad()
    def exchange(self, labels: Tensor, codes: Tensor, choose: Callable[[int], int]) -> Tensor:
        """Give codes [n, A] of objects with labels [n]; get others of their classes.

        Each gets an earlier one, `choose(count)` says which; the first of a class gets its own. The
        pool is filled as it is asked; when it is full a new code takes the place of the one given
        out.
        """
        size = self.codes.shape[1]
        others = []
        for label, code in zip(labels.tolist(), codes.detach(), strict=True):
            count = int(self.counts[label])
            place = count
            other = code
            if count:
                chosen = choose(count)
                other = self.codes[label, chosen].clone()
                if count == size:
                    place = chosen
            self.codes[label, place] = code
            self.counts[label] = min(count + 1, size)
            others.append(other)
        if not others:
            return codes.detach()
        return torch.stack(others)
