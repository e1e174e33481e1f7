"""Panoptic-aware convolution and upsampling as the paper writes them, slow.

Panoptic-based Image Synthesis, Dundar et al., CVPR 2020, section 3; every step is torch's, so
gradients are autograd's.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from synthaug.generators.nn.panoptic.neighbourhood import Border, Order, Scaling, matching_taps

# (down, right) of the pixels tried one after the other, Algorithm 1's passes 1-4
PASSES: dict[Order, tuple[tuple[int, int], ...]] = {
    "xy": ((0, 0), (0, 1), (1, 0), (1, 1)),
    "yx": ((0, 0), (1, 0), (0, 1), (1, 1)),
}


def panoptic_conv_reference(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    identity: Tensor,
    border: Border = "hole",
    scaling: Scaling = "mean",
) -> Tensor:
    """Compute equations 1 and 2 as they are written.

    x [B, C, H, W], weight [D, C, k, k], identity [B, H, W] -> [B, D, H, W]. Taps outside the image
    do not match (`hole`) or match with the value 0 (`same`). `root` scales by the square root of
    equation 2's ratio.
    """
    kernel = weight.shape[-1]
    reach = kernel // 2
    batch, _, height, width = x.shape
    same = matching_taps(identity, kernel)  # [k * k, B, H, W]
    inside = matching_taps(torch.zeros_like(identity), kernel)
    padded = F.pad(x, (reach,) * 4)
    total = x.new_zeros(batch, weight.shape[0], height, width)
    for tap, mask in enumerate(same):
        row, column = divmod(tap, kernel)
        neighbours = padded[:, :, row : row + height, column : column + width]
        masked = neighbours * mask[:, None]
        of_tap = weight[:, :, row, column]
        total = total + torch.einsum("dc,bchw->bdhw", of_tap, masked)
    counted = same
    if border == "same":
        counted = same | ~inside
    matching = counted.sum(0).to(x.dtype)
    ratio = kernel * kernel / matching
    if scaling == "root":
        ratio = ratio.sqrt()
    out = total * ratio[:, None]
    if bias is None:
        return out
    return out + bias[:, None, None]


def panoptic_upsample_reference(
    x: Tensor,
    coarse: Tensor,
    fine: Tensor,
    order: Order = "xy",
) -> tuple[Tensor, Tensor]:
    """Compute Algorithm 1 as it is written.

    x [B, C, H, W], its identities, those of the result [B, 2 H, 2 W]. Returns the features, 0 where
    nothing matched, and the mask M_correction [B, 2 H, 2 W].
    """
    batch, channels = x.shape[:2]
    height, width = fine.shape[1:]
    last_row = coarse.shape[1] - 1
    last_column = coarse.shape[2] - 1
    all_rows = torch.arange(height, device=x.device)
    all_columns = torch.arange(width, device=x.device)
    parent_rows = all_rows[:, None] // 2
    parent_columns = all_columns[None] // 2
    out = x.new_zeros(batch, channels, height, width)
    corrected = torch.zeros_like(fine, dtype=torch.bool)
    for down, right in PASSES[order]:
        rows = parent_rows + down
        columns = parent_columns + right
        exists = (rows <= last_row) & (columns <= last_column)
        rows = rows.clamp_max(last_row)
        columns = columns.clamp_max(last_column)
        same = fine == coarse[:, rows, columns]
        match = same & exists & ~corrected
        moved = x[:, :, rows, columns]
        out = torch.where(match[:, None], moved, out)
        corrected = corrected | match
    return out, corrected
