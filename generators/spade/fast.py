"""SPADE for sampling: network.py in evaluation, rewritten for speed.

Equal to it up to rounding. Spectral norms and batch norms are folded into the weights at
construction. Modulation is evaluated once per distinct window of the maps (windows.py) and then
looked up per pixel; convolutions are those of nn/winograd.py, on maps with channels last.

Legend as in network.py, and: N output channels. Maps are [B, H, W, C].
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Mapping

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from synthaug.generators.nn.folding import FoldedWeights
from synthaug.generators.nn.winograd import SameConv, channels_first, channels_last
from synthaug.generators.spade.network import SpadeBlock, SpadeGenerator
from synthaug.generators.spade.semantics import Patterns, Semantics
from synthaug.generators.spade.windows import (
    by_tap,
    class_rows,
    convolve_classes,
    convolve_windows,
)

# of looked up scales and shifts at a time: they stay in the cache until they are used
CHUNK_BYTES = 2**20
NORM_EPS = 1e-5  # of the batch norms
MIN_TILE_CHANNELS = 128  # from which on tiles save more products than they cost sums, on CPUs
# weight, bias and tile -> a convolution that is called with (x, maps)
ConvBuilder = Callable[[Tensor, Tensor, int], nn.Module]


class Folded(FoldedWeights):
    """SPADE's weights with norms turned into scales and shifts."""

    def __init__(self, state: Mapping[str, Tensor], num_classes: int) -> None:
        super().__init__(state)
        self.num_classes = num_classes  # class channels of the semantic tensor

    def modulation(self, name: str) -> tuple[Tensor, Tensor]:
        """Return the convolution of a norm's scale and shift of x, batch norm included.

        Weights are [2 C, 128, 3, 3], biases [2 C].
        """
        mean = self[f"{name}.param_free_norm.running_mean"]
        var = self[f"{name}.param_free_norm.running_var"]
        scale = torch.rsqrt(var + NORM_EPS)
        shift = -mean * scale
        gamma = self[f"{name}.mlp_gamma.weight"]
        gamma_bias = 1 + self[f"{name}.mlp_gamma.bias"]
        beta = self[f"{name}.mlp_beta.weight"]
        beta_bias = self[f"{name}.mlp_beta.bias"]
        kernel_scale = scale[:, None, None, None]
        kernel_shift = shift[:, None, None, None]
        weights = torch.cat([gamma * kernel_scale, gamma * kernel_shift + beta])
        biases = torch.cat([gamma_bias * scale, gamma_bias * shift + beta_bias])
        return weights, biases


class Modulation(nn.Module):
    """Scales and shifts of one norm per distinct window.

    With `shortcut` [N, C] the shifts go through that convolution, to N channels.
    """

    taps: Tensor
    bias: Tensor

    def __init__(self, folded: Folded, name: str, shortcut: Tensor | None = None) -> None:
        super().__init__()
        weights, bias = folded.modulation(name)
        if shortcut is not None:
            scale, shift = weights.chunk(2)
            scale_bias, shift_bias = bias.chunk(2)
            shift = torch.einsum("nc,chuv->nhuv", shortcut, shift)
            weights = torch.cat([scale, shift])
            bias = torch.cat([scale_bias, shortcut @ shift_bias])
        taps = by_tap(weights).contiguous()  # [9, 128, C + C or N]
        self.register_buffer("taps", taps, persistent=False)
        self.register_buffer("bias", bias, persistent=False)

    def forward(self, patterns: Patterns, hidden: Tensor) -> Tensor:
        """Map hidden [U3, 128] to [U5, C + C or N]."""
        return convolve_windows(patterns, hidden, self.taps, self.bias)


class FirstConvolution(nn.Module):
    """Convolutions of the semantic tensor, side by side, per distinct window."""

    table: Tensor
    edge_rows: Tensor | None
    bias: Tensor

    def __init__(self, folded: Folded, *names: str) -> None:
        super().__init__()
        weight = torch.cat([folded[f"{name}.weight"] for name in names])
        bias = torch.cat([folded[f"{name}.bias"] for name in names])
        table, edge_rows = class_rows(weight, folded.num_classes)
        if edge_rows is not None:
            edge_rows = edge_rows.contiguous()
        self.register_buffer("table", table.contiguous(), persistent=False)
        self.register_buffer("edge_rows", edge_rows, persistent=False)
        self.register_buffer("bias", bias, persistent=False)

    def forward(self, patterns: Patterns) -> Tensor:
        """Return [U3, N], of all side by side."""
        return convolve_classes(patterns, self.table, self.edge_rows, self.bias)


class PlainConv(SameConv):
    """A block's convolution, which does not read the maps."""

    def __init__(self, weight: Tensor, bias: Tensor, tile: int) -> None:
        super().__init__(weight, bias, tile=tile)

    def forward(self, x: Tensor, _maps: object = None) -> Tensor:
        """Map [B, H, W, C] to [B, H, W, N]."""
        return super().forward(x)


class FastBlock(nn.Module):
    """SpadeBlock in evaluation; `doubled`: with the nearest doubling before it."""

    shortcut: Tensor

    def __init__(
        self,
        folded: Folded,
        name: str,
        learned: bool,
        doubled: bool,
        tiles: bool,
        conv: ConvBuilder = PlainConv,
    ) -> None:
        super().__init__()
        self.learned = learned
        self.doubled = doubled
        norms = ["norm_0", "norm_1"]
        if learned:
            norms.append("norm_s")
        self.first = FirstConvolution(folded, *(f"{name}.{norm}.mlp_shared.0" for norm in norms))
        self.norm_0 = Modulation(folded, f"{name}.norm_0")
        self.norm_1 = Modulation(folded, f"{name}.norm_1")
        self.conv_0 = _build_conv(folded, f"{name}.conv_0", tiles, conv)
        self.conv_1 = _build_conv(folded, f"{name}.conv_1", tiles, conv)
        if learned:
            shortcut = folded.spectral(f"{name}.conv_s")[:, :, 0, 0]  # [N, C]
            self.norm_s = Modulation(folded, f"{name}.norm_s", shortcut)
            transposed = shortcut.t().contiguous()
            self.register_buffer("shortcut", transposed, persistent=False)

    def forward(self, x: Tensor, maps: Semantics) -> Tensor:
        """Map [B, H, W, C], of half the maps' sides where it is doubled, to [B, H, W, N]."""
        patterns = maps.patterns
        hidden = torch.relu_(self.first(patterns))
        if self.learned:
            hidden_0, hidden_1, hidden_s = hidden.chunk(3, 1)
        else:
            hidden_0, hidden_1 = hidden.chunk(2, 1)
        modulation = self.norm_0(patterns, hidden_0)
        main = _modulate(x, modulation, patterns.pixels, self.doubled)
        main = self.conv_0(main, maps)
        modulation = self.norm_1(patterns, hidden_1)
        main = _modulate(main, modulation, patterns.pixels, False)
        out: Tensor = self.conv_1(main, maps)
        if self.learned:
            rows = self.norm_s(patterns, hidden_s)
            return self._add_shortcut(out, x, rows, patterns.pixels)
        if self.doubled:
            batch, height, width, channels = x.shape
            pixels = out.view(batch, height, 2, width, 2, channels)
            pixels.add_(x[:, :, None, :, None])
            return out
        return out.add_(x)

    def _add_shortcut(self, out: Tensor, x: Tensor, rows: Tensor, pixels: Tensor) -> Tensor:
        """Add the learned shortcut to `out`.

        Rows hold scales of x and, already through the convolution, shifts.
        """
        channels = x.shape[3]
        for stripe in stripes(pixels, x, out, self.doubled, rows.shape[1]):
            windows, x_stripe, out_stripe = stripe
            both = F.embedding(windows, rows)
            scale = both[..., :channels]
            shift = both[..., channels:]
            scaled = (x_stripe * scale).view(-1, channels)
            added = scaled @ self.shortcut
            out_stripe.add_(shift).add_(added.view(out_stripe.shape))
        return out


def _build_conv(folded: Folded, name: str, tiles: bool, conv: ConvBuilder) -> nn.Module:
    """Return a block's 3 x 3 convolution, by 2 x 2 tiles where that is faster."""
    weight = folded.spectral(name)
    tile = 1
    if tiles and weight.shape[1] >= MIN_TILE_CHANNELS:
        tile = 2
    return conv(weight, folded[f"{name}.bias"], tile)


def _modulate(x: Tensor, rows: Tensor, pixels: Tensor, doubled: bool) -> Tensor:
    """Return SPADE and the leaky ReLU [B, H, W, C]; rows: scale, shift per window."""
    out = x.new_empty(*pixels.shape, x.shape[3])
    parts = stripes(pixels, x, out, doubled, rows.shape[1])
    for windows, x_stripe, out_stripe in parts:
        of_windows = F.embedding(windows, rows)
        scale, shift = of_windows.chunk(2, -1)
        torch.addcmul(shift, x_stripe, scale, out=out_stripe)
        F.leaky_relu_(out_stripe, 0.2)
    return out


def stripes(
    pixels: Tensor,
    x: Tensor,
    out: Tensor,
    doubled: bool,
    width: int,
) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
    """Cut maps into stripes whose `width` values per pixel fit the cache.

    Yields windows, x and out of each, in one shape. pixels [B, H, W], x [B, H, W, C] or half its
    sides where it is to be doubled, out [B, H, W, N]. On a GPU one stripe.
    """
    batch, rows, columns, channels = x.shape
    if doubled:
        pixels = pixels.view(batch, rows, 2, columns, 2)
        out = out.view(batch, rows, 2, columns, 2, -1)
        x = x.view(batch, rows, 1, columns, 1, channels)
    if x.device.type != "cpu":
        yield pixels, x, out
        return
    columns_of_row = pixels[0, 0].numel()
    row_bytes = columns_of_row * width * x.element_size()
    count = max(1, CHUNK_BYTES // row_bytes)
    for image in range(batch):
        for start in range(0, rows, count):
            part = slice(start, start + count)
            x_stripe = x[image, part]
            yield pixels[image, part], x_stripe, out[image, part]


def fast_blocks(
    network: SpadeGenerator,
    folded: Folded,
    tiles: bool,
    doubling: bool,
    conv: ConvBuilder = PlainConv,
) -> nn.ModuleList:
    """Return the residual blocks of a network in order.

    `tiles`: convolutions may go by tiles, where sides are even; `doubling`: blocks include the
    nearest doubling before them.
    """
    height, width = network.config.start
    blocks = nn.ModuleList()
    for stage in network.stages:
        if stage.doubled:
            height = 2 * height
            width = 2 * width
        block = network.get_submodule(stage.name)
        assert isinstance(block, SpadeBlock)
        even = height % 2 == 0 and width % 2 == 0
        doubled = stage.doubled and doubling
        tiled = tiles and even
        fast = FastBlock(folded, stage.name, block.learned, doubled, tiled, conv)
        blocks.append(fast)
    return blocks


class FastGenerator(nn.Module):
    """A trained SpadeGenerator's forward, inside `torch.inference_mode()`.

    It copies the weights as they are at construction, to `dtype`, where they are.
    """

    def __init__(self, network: SpadeGenerator, dtype: torch.dtype = torch.float32) -> None:
        super().__init__()
        self.config = network.config
        self.stages = network.stages
        self.dtype = dtype
        channels = network.num_classes + int(network.config.dont_care)
        folded = Folded(network.state_dict(), channels)
        on_cpu = folded["conv_img.bias"].device.type == "cpu"
        if network.config.vae:
            self.fc = copy.deepcopy(network.fc)
        else:
            self.fc = FirstConvolution(folded, "fc")
        self.blocks = fast_blocks(network, folded, tiles=on_cpu, doubling=True)
        self.to_rgb = SameConv(folded["conv_img.weight"], folded["conv_img.bias"])
        self.to(dtype)

    def forward(self, maps: Semantics, z: Tensor | None = None) -> Tensor:
        """Return SpadeGenerator's images, float32."""
        current = maps.at(self.config.start)
        x = self._first_map(current, z)
        for block, stage in zip(self.blocks, self.stages, strict=True):
            if stage.doubled:
                height, width = current.size
                current = maps.at((2 * height, 2 * width))
            x = block(x, current)
        return to_images(x, self.to_rgb)

    def _first_map(self, maps: Semantics, z: Tensor | None) -> Tensor:
        """Return [B, H, W, 16 width]."""
        if self.config.vae:
            assert z is not None, "a generator with a latent code needs one"
            flat: Tensor = self.fc(z.to(self.dtype))
            as_maps = flat.view(len(z), -1, *maps.size)
            return channels_last(as_maps)
        patterns = maps.patterns
        # the 3 x 3 window around each pixel: the centre of its 5 x 5 window
        threes = patterns.taps[:, 4][patterns.pixels]  # [B, H, W]
        return F.embedding(threes, self.fc(patterns))


def to_images(x: Tensor, to_rgb: nn.Module) -> Tensor:
    """Return images [B, 3, H, W] in [-1, 1], float32, of the last map [B, H, W, C]."""
    images = torch.tanh(to_rgb(F.leaky_relu_(x, 0.2)))
    return channels_first(images).float()
