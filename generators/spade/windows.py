"""SPADE's two modulation convolutions over distinct windows instead of pixels: equal up to rounding, differentiable.

The semantic tensor is one-hot, so the first convolution adds up at most nine rows of a table (and nine more for boundaries)
per 3 x 3 window; the second one sees nine of those per 5 x 5 window. All padding is zero: what lies outside adds nothing.

Legend: S channels of the semantic tensor, K class channels among them, N and M channels, U3 and U5 distinct windows.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from synthaug.generators.spade.semantics import Patterns

# From this many 5 x 5 windows per 3 x 3 window on, products are taken per 3 x 3 window and tap, and then added up per 5 x 5
# window; with fewer it is cheaper to gather the nine taps of each 5 x 5 window first (measured on CPUs).
MANY = 1.5


def class_rows(weight: Tensor, num_classes: int) -> tuple[Tensor, Tensor | None]:
    """Convolution [N, S, 3, 3] as a table: rows per tap for each class and outside [9 (K + 1), N], for boundaries [9, N]."""
    taps = weight.permute(2, 3, 1, 0).flatten(0, 1)  # [9, S, N]
    table = F.pad(taps[:, :num_classes], (0, 0, 0, 1)).flatten(0, 1)
    return table, taps[:, num_classes] if taps.shape[1] > num_classes else None


def of_classes(patterns: Patterns, table: Tensor, edge_rows: Tensor | None, bias: Tensor) -> Tensor:
    """The first convolution of each 3 x 3 window, from `class_rows`: [U3, N]."""
    rows = len(table) // 9
    index = patterns.classes + rows * torch.arange(9, device=table.device)
    out = F.embedding_bag(index, table, mode="sum") + bias
    return out if edge_rows is None else out + patterns.edges.to(table.dtype) @ edge_rows


def by_tap(weight: Tensor) -> Tensor:
    """Convolution [M, N, 3, 3] as a matrix per tap [9, N, M]."""
    return weight.permute(2, 3, 1, 0).flatten(0, 1)


def of_windows(patterns: Patterns, hidden: Tensor, taps: Tensor, bias: Tensor) -> Tensor:
    """A convolution of hidden values [U3, N], its weights by tap [9, N, M]: of each 5 x 5 window [U5, M]."""
    hidden = F.pad(hidden, (0, 0, 0, 1))  # the last row: outside the image
    if len(patterns.taps) < MANY * len(hidden):
        around = F.embedding(patterns.taps, hidden).flatten(1)  # [U5, 9 N]
        return torch.addmm(bias, around, taps.flatten(0, 1))
    products = torch.matmul(hidden, taps).flatten(0, 1)  # [9 (U3 + 1), M]
    index = patterns.taps + len(hidden) * torch.arange(9, device=hidden.device)
    return F.embedding_bag(index, products, mode="sum") + bias
