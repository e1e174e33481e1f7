"""SPADE's two modulation convolutions over distinct windows, not pixels.

Equal up to rounding. The semantic tensor is one-hot, so the first convolution adds up at most nine
rows of a table (and nine more for boundaries) per 3 x 3 window; the second one sees nine of those
per 5 x 5 window. All padding is zero: pixels outside add nothing.

Legend: S channels of the semantic tensor, K class channels among them, N and M channels, U3 and U5
distinct windows.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from synthaug.generators.spade.semantics import Patterns

# From this many 5 x 5 windows per 3 x 3 window on, products are taken per 3 x 3 window and tap, and
# then added up per 5 x 5 window; with fewer it is cheaper to gather the nine taps of each 5 x 5
# window first (measured on CPUs).
MANY = 1.5


def class_rows(weight: Tensor, num_classes: int) -> tuple[Tensor, Tensor | None]:
    """Return a convolution [N, S, 3, 3] as tables of rows per tap.

    [9 (K + 1), N] for each class and outside, and [9, N] for boundaries where S has them.
    """
    by_tap = weight.permute(2, 3, 1, 0)
    taps = by_tap.flatten(0, 1)  # [9, S, N]
    of_classes = taps[:, :num_classes]
    with_outside = F.pad(of_classes, (0, 0, 0, 1))  # [9, K + 1, N]
    edge_rows = None
    if taps.shape[1] > num_classes:
        edge_rows = taps[:, num_classes]
    return with_outside.flatten(0, 1), edge_rows


def convolve_classes(
    patterns: Patterns,
    table: Tensor,
    edge_rows: Tensor | None,
    bias: Tensor,
) -> Tensor:
    """Return the first convolution of each 3 x 3 window, from `class_rows`: [U3, N]."""
    rows_per_tap = len(table) // 9
    offsets = rows_per_tap * torch.arange(9, device=table.device)
    rows = patterns.classes + offsets
    out = F.embedding_bag(rows, table, mode="sum") + bias
    if edge_rows is None:
        return out
    return out + patterns.edges.to(table.dtype) @ edge_rows


def by_tap(weight: Tensor) -> Tensor:
    """Return a convolution [M, N, 3, 3] as a matrix per tap [9, N, M]."""
    return weight.permute(2, 3, 1, 0).flatten(0, 1)


def convolve_windows(patterns: Patterns, hidden: Tensor, taps: Tensor, bias: Tensor) -> Tensor:
    """Return a convolution of hidden values [U3, N] of each 5 x 5 window [U5, M].

    Its weights are by tap [9, N, M].
    """
    hidden = F.pad(hidden, (0, 0, 0, 1))  # the last row: outside the image
    if len(patterns.taps) < MANY * len(hidden):
        gathered = F.embedding(patterns.taps, hidden).flatten(1)  # [U5, 9 N]
        return torch.addmm(bias, gathered, taps.flatten(0, 1))
    products = torch.matmul(hidden, taps).flatten(0, 1)  # [9 (U3 + 1), M]
    numbers = torch.arange(9, device=hidden.device)
    rows = patterns.taps + len(hidden) * numbers
    return F.embedding_bag(rows, products, mode="sum") + bias
