"""The mask networks of a trained LostGAN for production: MaskRegression and the ToMask heads of lostgan_masks.py.

Legend as in lostgan.py; O' slots that show in the fullest image of the batch. Maps are [B, S, S, C].
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from synthaug.generators.lostgan.folding import Affine, Folded, pixels_first, scaled
from synthaug.generators.nn.layers import resize
from synthaug.generators.nn.winograd import SameConv

PYRAMID = (1, 2, 3, 6)  # cells per side of the pooled maps


def same_tile(weight: Tensor, side: int, most: int) -> int:
    """Largest tile of a 3 x 3 convolution of a map of that side whose sums cost less than it saves, on a CPU (measured).

    At small sides a batch of one has too few tiles to pay for reading the larger transformed weight.
    """
    if weight.shape[1] < 64 or (weight.shape[1] < 128 and most < 4):
        return 1
    return most if side >= 16 else min(most, 2)


class FastMasks(nn.Module):
    """MaskRegression (component iii)."""

    def __init__(self, folded: Folded, version: int, tile: int) -> None:
        super().__init__()
        self.instance = version == 2
        weight, bias = folded.normed("mask_regress.fc")
        self.fc = Affine(pixels_first(weight), pixels_first(bias))
        stages = []
        for i, side in ((1, 4), (2, 8), (3, 16)):
            layer = folded.normed(f"mask_regress.conv{i}.0")
            if not self.instance:
                layer = scaled(layer, folded.norm(f"mask_regress.conv{i}.1"))
            stages.append(SameConv(*layer, tile=same_tile(layer[0], side, tile)))
        self.stages = nn.ModuleList(stages)
        head, bias = folded.normed("mask_regress.conv3.3")
        self.head = Affine(head[:, :, 0, 0], bias)

    def forward(self, code: Tensor) -> Tensor:
        """[n, D_w] -> [n, 16, 16], float32."""
        x = self.fc(code).view(len(code), 4, 4, self.fc.weight.shape[0] // 16)
        for conv, side in zip(self.stages, (8, 16, 16), strict=True):
            x = conv(x)
            x = instance_norm_(x).relu_() if self.instance else x.relu_()
            x = resize(x.permute(0, 3, 1, 2), side).permute(0, 2, 3, 1).contiguous()
        return torch.sigmoid(self.head(x)[..., 0].float())


def instance_norm_(x: Tensor) -> Tensor:
    """Normalise each channel of each map [n, S, S, C] by its own mean and biased variance, in place."""
    rows = x.flatten(1, 2)
    mean = x.new_full((1, 1, 1), 1 / rows.shape[1]).expand(
        len(x), 1, rows.shape[1]
    )  # averages, as a product
    rows.sub_(mean @ rows)
    return rows.mul_(torch.rsqrt((mean @ (rows * rows)).float() + 1e-5).to(x.dtype)).view_as(x)


class FastHead(nn.Module):
    """A ToMask head (component iv) for the classes of the slots only; plain, or with pyramid pooling (PyramidHead)."""

    rows: Tensor
    row_bias: Tensor

    def __init__(self, folded: Folded, name: str, side: int, tile: int) -> None:
        super().__init__()
        pyramid = f"{name}.0.bottleneck.0.weight" in folded.state
        if pyramid:
            weight, norm = (
                folded[f"{name}.0.bottleneck.0.weight"],
                folded.norm(f"{name}.0.bottleneck.1"),
            )
            weight, bias = scaled((weight, torch.zeros_like(norm[0])), norm)
            pooled = len(PYRAMID) * len(bias)
            self.pooled: nn.Module | None = PooledShare(
                folded, f"{name}.0", weight[:, :pooled], side
            )
            layer = (weight[:, pooled:], bias)
        else:
            self.pooled = None
            layer = scaled(
                (folded[f"{name}.0.weight"], folded[f"{name}.0.bias"]), folded.norm(f"{name}.1")
            )
        self.conv = SameConv(*layer, tile=same_tile(layer[0], side, tile))
        last = f"{name}.1" if pyramid else f"{name}.3"
        self.register_buffer("rows", folded[f"{last}.weight"][:, :, 0, 0], persistent=False)
        self.register_buffer("row_bias", folded[f"{last}.bias"], persistent=False)

    def forward(self, x: Tensor, labels: Tensor) -> Tensor:
        """x [B, S, S, C], labels [B, O'] -> logits of each slot's class [B, O', S, S], float32."""
        hidden = self.conv(x)
        if self.pooled is not None:
            self.pooled(x, hidden)
        hidden = hidden.relu_().flatten(1, 2)
        logits = torch.baddbmm(
            self.row_bias[labels][..., None], self.rows[labels], hidden.transpose(1, 2)
        )
        return logits.view(*labels.shape, *x.shape[1:3]).float()


class PooledShare(nn.Module):
    """What the pooled maps of a PyramidHead add in its 3 x 3 convolution.

    A map of k x k cells resized to S x S has rank k along each axis, so the convolution is done on cells: each tap of each
    cell once, then spread over the columns and the rows that see it.
    """

    pool: Tensor
    spread: Tensor

    def __init__(self, folded: Folded, name: str, weight: Tensor, side: int) -> None:
        """weight [h, 4 h, 3, 3] of the four pooled maps, in the order of PYRAMID."""
        super().__init__()
        hidden = len(weight)
        pools = [_pool(cells, side, weight) for cells in PYRAMID]
        spreads = [_spread(cells, side, weight) for cells in PYRAMID]
        self.register_buffer("pool", torch.cat(pools), persistent=False)  # [12, S]
        self.register_buffer("spread", torch.cat(spreads, 1), persistent=False)  # [S, 36]
        ones = []
        for i in range(len(PYRAMID)):
            one, norm = (
                folded[f"{name}.stages.{i}.1.weight"][:, :, 0, 0],
                folded.norm(f"{name}.stages.{i}.2"),
            )
            ones.append(Affine(*scaled((one, torch.zeros_like(norm[0])), norm)))
            taps = (
                weight[:, i * hidden : (i + 1) * hidden].permute(1, 2, 3, 0).flatten(1)
            )  # [h, 3 3 h]
            self.register_buffer(f"taps{i}", taps.contiguous(), persistent=False)
            self.register_buffer(f"pool{i}", pools[i], persistent=False)  # [k, S]
            self.register_buffer(f"spread{i}", spreads[i], persistent=False)  # [S, 3 k]
        self.ones = nn.ModuleList(ones)

    def forward(self, x: Tensor, out: Tensor) -> None:
        """x [B, S, S, C]; added to out [B, S, S, h]."""
        batch, side = x.shape[:2]
        rows = (self.pool @ x.view(batch, side, -1)).view(batch, -1, *x.shape[2:])  # [B, 12, S, C]
        parts = []
        for i, (one, row) in enumerate(
            zip(self.ones, torch.split(rows, list(PYRAMID), 1), strict=True)
        ):
            cells = PYRAMID[i]
            z = one(self.get_buffer(f"pool{i}") @ row).relu_()  # [B, k, k, h]
            taps = (z @ self.get_buffer(f"taps{i}")).view(batch, cells, cells, 3, 3, -1)
            taps = taps.transpose(2, 3).reshape(
                batch, 3 * cells, 3 * cells, -1
            )  # row and its tap, column and its tap
            parts.append((self.get_buffer(f"spread{i}") @ taps).flatten(2))  # [B, 3 k, S h]
        out.view(batch, side, -1).baddbmm_(self.spread.expand(batch, -1, -1), torch.cat(parts, 1))


def _pool(cells: int, side: int, like: Tensor) -> Tensor:
    """Adaptive average pooling of one axis as a matrix [k, S]."""
    out = like.new_zeros(cells, side)
    for a in range(cells):
        low, high = a * side // cells, -((a + 1) * side // -cells)
        out[a, low:high] = 1 / (high - low)
    return out


def _spread(cells: int, side: int, like: Tensor) -> Tensor:
    """How much each of the three taps of each cell counts at each pixel of one axis: [S, 3 k]."""
    position = torch.linspace(0, cells - 1, side, dtype=like.dtype, device=like.device)
    hat = (1 - (position[:, None] - torch.arange(cells, device=like.device)).abs()).clamp_min(
        0
    )  # [S, k]
    taps = F.pad(hat, (0, 0, 1, 1)).unfold(
        0, 3, 1
    )  # [S, k, 3]: the pixel before, itself, the one after
    return taps.flatten(1)
