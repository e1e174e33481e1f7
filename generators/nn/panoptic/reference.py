"""Panoptic-aware convolution and upsampling as the paper writes them: what `panoptic_ops` must equal, and slow.

Panoptic-based Image Synthesis, Dundar et al., CVPR 2020, section 3; every step is torch's, so gradients are autograd's.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from synthaug.generators.nn.panoptic.neighbourhood import Border, Order, Scaling, matching_taps


def panoptic_conv_reference(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    identity: Tensor,
    border: Border = "hole",
    scaling: Scaling = "mean",
) -> Tensor:
    """Equations 1 and 2 as they are written: x [B, C, H, W], weight [D, C, k, k], identity [B, H, W] -> [B, D, H, W].

    Taps outside the image do not match (`hole`) or match with the value 0 (`same`). `root` scales by the square root of
    equation 2's ratio.
    """
    kernel = weight.shape[-1]
    reach, (height, width) = kernel // 2, x.shape[2:]
    same = matching_taps(identity, kernel)  # [k * k, B, H, W]
    inside = matching_taps(torch.zeros_like(identity), kernel)
    padded = F.pad(x, (reach,) * 4)
    total = x.new_zeros(x.shape[0], weight.shape[0], height, width)
    for tap, mask in enumerate(same):
        row, column = divmod(tap, kernel)
        neighbours = padded[:, :, row : row + height, column : column + width]
        total = total + torch.einsum(
            "dc,bchw->bdhw", weight[:, :, row, column], neighbours * mask[:, None]
        )
    counted = same if border == "hole" else same | ~inside
    ratio = kernel * kernel / counted.sum(0).to(x.dtype)
    out = total * (ratio if scaling == "mean" else ratio.sqrt())[:, None]
    return out if bias is None else out + bias[:, None, None]


def panoptic_upsample_reference(
    x: Tensor, coarse: Tensor, fine: Tensor, order: Order = "xy"
) -> tuple[Tensor, Tensor]:
    """Algorithm 1 as it is written: x [B, C, H, W], its identities, those of the result [B, 2 H, 2 W].

    Returns the features, 0 where nothing matched, and the mask M_correction [B, 2 H, 2 W].
    """
    height, width = fine.shape[1:]
    rows = torch.arange(height, device=x.device)[:, None] // 2
    columns = torch.arange(width, device=x.device)[None] // 2
    out = x.new_zeros(x.shape[0], x.shape[1], height, width)
    done = torch.zeros_like(fine, dtype=torch.bool)
    right_first = [(0, 0), (0, 1), (1, 0), (1, 1)]
    for down, right in (
        right_first if order == "xy" else sorted(right_first, key=lambda step: (step[1], step[0]))
    ):
        y, x_ = (
            (rows + down).clamp_max(coarse.shape[1] - 1),
            (columns + right).clamp_max(coarse.shape[2] - 1),
        )
        exists = (rows + down < coarse.shape[1]) & (columns + right < coarse.shape[2])
        match = (fine == coarse[:, y, x_]) & exists & ~done
        out = torch.where(match[:, None], x[:, :, y, x_], out)
        done = done | match
    return out, done
