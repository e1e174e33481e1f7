"""The mask networks of a trained LostGAN for production.

MaskRegression and the ToMask heads of masks.py.

Legend as in network.py, and: O' slots that show in the fullest image of the batch; h hidden
channels of a head; k cells per side of a pooled map. Maps are [B, S, S, C].
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from synthaug.generators.lostgan.folding import Affine, Folded, pixels_first
from synthaug.generators.lostgan.masks import PYRAMID
from synthaug.generators.nn.folding import scaled
from synthaug.generators.nn.layers import resize
from synthaug.generators.nn.winograd import SameConv, same_tile


class FastMasks(nn.Module):
    """MaskRegression (component iii)."""

    def __init__(self, folded: Folded, version: int, tile: int) -> None:
        super().__init__()
        self.instance = version == 2
        weight, bias = folded.normed("mask_regress.fc")
        self.fc = Affine(pixels_first(weight), pixels_first(bias))
        self.channels = len(bias) // 16
        self.stages = nn.ModuleList()
        for i, side in ((1, 4), (2, 8), (3, 16)):
            layer = folded.normed(f"mask_regress.conv{i}.0")
            if not self.instance:
                layer = scaled(layer, folded.norm(f"mask_regress.conv{i}.1"))
            weight, bias = layer
            own_tile = same_tile(weight, side, tile)
            conv = SameConv(weight, bias, tile=own_tile)
            self.stages.append(conv)
        weight, bias = folded.normed("mask_regress.conv3.3")
        self.head = Affine(weight[:, :, 0, 0], bias)

    def forward(self, code: Tensor) -> Tensor:
        """[n, D_w] -> [n, 16, 16], float32."""
        flat = self.fc(code)
        x = flat.view(len(code), 4, 4, self.channels)
        for conv, side in zip(self.stages, (8, 16, 16), strict=True):
            x = conv(x)
            if self.instance:
                x = instance_norm_(x)
            x = x.relu_()
            enlarged = resize(x.permute(0, 3, 1, 2), side)
            x = enlarged.permute(0, 2, 3, 1).contiguous()
        logits = self.head(x)[..., 0]
        return torch.sigmoid(logits.float())


def instance_norm_(x: Tensor) -> Tensor:
    """Normalise each channel of each map [n, S, S, C] in place.

    By its own mean and biased variance.
    """
    rows = x.flatten(1, 2)
    pixels = rows.shape[1]
    # means as a product with a row of 1 / pixels
    one = x.new_full((1, 1, 1), 1 / pixels)
    average = one.expand(len(x), 1, pixels)
    rows.sub_(average @ rows)
    variance = (average @ (rows * rows)).float()
    factor = torch.rsqrt(variance + 1e-5).to(x.dtype)
    return rows.mul_(factor).view_as(x)


class FastHead(nn.Module):
    """A ToMask head (component iv) for the classes of the slots only.

    Plain, or with pyramid pooling (PyramidHead).
    """

    rows: Tensor
    row_bias: Tensor

    def __init__(self, folded: Folded, name: str, side: int, tile: int) -> None:
        super().__init__()
        self.pooled: PooledShare | None = None
        if f"{name}.0.bottleneck.0.weight" in folded:
            weight, bias = folded.convolution(f"{name}.0.bottleneck.0", f"{name}.0.bottleneck.1")
            pooled_channels = len(PYRAMID) * len(bias)
            of_pooled = weight[:, :pooled_channels]
            self.pooled = PooledShare(folded, f"{name}.0", of_pooled, side)
            weight = weight[:, pooled_channels:]
            last = f"{name}.1"
        else:
            layer = (folded[f"{name}.0.weight"], folded[f"{name}.0.bias"])
            weight, bias = scaled(layer, folded.norm(f"{name}.1"))
            last = f"{name}.3"
        own_tile = same_tile(weight, side, tile)
        self.conv = SameConv(weight, bias, tile=own_tile)
        last_weight = folded[f"{last}.weight"]
        rows = last_weight[:, :, 0, 0]
        self.register_buffer("rows", rows, persistent=False)
        self.register_buffer("row_bias", folded[f"{last}.bias"], persistent=False)

    def forward(self, x: Tensor, labels: Tensor) -> Tensor:
        """Return logits of each slot's class [B, O', S, S], float32.

        Of x [B, S, S, C] and labels [B, O'].
        """
        hidden = self.conv(x)
        if self.pooled is not None:
            self.pooled(x, hidden)
        hidden = hidden.relu_().flatten(1, 2)  # [B, S S, h]
        rows = self.rows[labels]
        bias = self.row_bias[labels][..., None]
        pixels = hidden.transpose(1, 2)
        logits = torch.baddbmm(bias, rows, pixels)
        height, width = x.shape[1:3]
        maps = logits.view(*labels.shape, height, width)
        return maps.float()


class PooledShare(nn.Module):
    """The part of a PyramidHead's 3 x 3 convolution that comes from its pooled maps.

    A map of k x k cells resized to S x S has rank k along each axis, so the convolution is done on
    cells: each tap of each cell once, then spread over the columns and the rows that see it.
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
        all_spreads = torch.cat(spreads, 1)  # [S, 36]
        self.register_buffer("spread", all_spreads, persistent=False)
        self.ones = nn.ModuleList()  # the 1 x 1 convolutions
        for i in range(len(PYRAMID)):
            stage = f"{name}.stages.{i}"
            one, bias = folded.convolution(f"{stage}.1", f"{stage}.2")
            self.ones.append(Affine(one[:, :, 0, 0], bias))
            of_map = weight[:, i * hidden : (i + 1) * hidden]
            taps = of_map.permute(1, 2, 3, 0)
            taps = taps.flatten(1)  # [h, 3 3 h]
            self.register_buffer(f"taps{i}", taps.contiguous(), persistent=False)
            self.register_buffer(f"pool{i}", pools[i], persistent=False)  # [k, S]
            self.register_buffer(f"spread{i}", spreads[i], persistent=False)  # [S, 3 k]

    def forward(self, x: Tensor, out: Tensor) -> None:
        """x [B, S, S, C]; added to out [B, S, S, h]."""
        batch, side, _, channels = x.shape
        rows = self.pool @ x.view(batch, side, -1)
        rows = rows.view(batch, -1, side, channels)  # [B, 12, S, C]
        parts = []
        of_maps = torch.split(rows, list(PYRAMID), 1)
        for i, row in enumerate(of_maps):
            cells = PYRAMID[i]
            pooled = self.get_buffer(f"pool{i}") @ row  # [B, k, k, C]
            z = self.ones[i](pooled).relu_()  # [B, k, k, h]
            taps = z @ self.get_buffer(f"taps{i}")
            taps = taps.view(batch, cells, cells, 3, 3, -1)
            # row and its tap, column and its tap
            taps = taps.transpose(2, 3)
            taps = taps.reshape(batch, 3 * cells, 3 * cells, -1)
            columns = self.get_buffer(f"spread{i}") @ taps  # [B, 3 k, S, h]
            parts.append(columns.flatten(2))
        spread = self.spread.expand(batch, -1, -1)
        all_columns = torch.cat(parts, 1)
        out.view(batch, side, -1).baddbmm_(spread, all_columns)


def _pool(cells: int, side: int, like: Tensor) -> Tensor:
    """Return adaptive average pooling of one axis as a matrix [k, S]."""
    out = like.new_zeros(cells, side)
    for cell in range(cells):
        low = cell * side // cells
        high = -((cell + 1) * side // -cells)  # rounded up
        out[cell, low:high] = 1 / (high - low)
    return out


def _spread(cells: int, side: int, like: Tensor) -> Tensor:
    """Return the weights of each cell's three taps at each pixel of an axis.

    Shape [S, 3 k].
    """
    position = torch.linspace(0, cells - 1, side, dtype=like.dtype, device=like.device)
    centers = torch.arange(cells, device=like.device)
    distance = position[:, None] - centers
    hat = 1 - distance.abs()
    hat = hat.clamp_min(0)  # [S, k]
    # [S, k, 3]: the pixel before, itself, the one after
    padded = F.pad(hat, (0, 0, 1, 1))
    taps = padded.unfold(0, 3, 1)
    return taps.flatten(1)
