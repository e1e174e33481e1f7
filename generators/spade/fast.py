"""SPADE for production: the network of spade.py, in evaluation, rewritten for speed and equal to it up to rounding.

Spectral norms and batch norms are folded into the weights at construction. Modulation is evaluated once per distinct window
of the maps (spade_windows.py) and then looked up per pixel; convolutions are those of convolutions.py, on maps with
channels last.

Legend as in spade.py, and: N output channels. Maps are [B, H, W, C].
"""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from synthaug.generators.nn.winograd import SameConv
from synthaug.generators.spade.network import SpadeBlock, SpadeGenerator
from synthaug.generators.spade.semantics import Patterns, Semantics
from synthaug.generators.spade.windows import by_tap, class_rows, of_classes, of_windows

CHUNK_BYTES = (
    2**20
)  # of looked up scales and shifts at a time: they stay in the cache until they are used


class Folded:
    """A network's weights in float64, with norms turned into the numbers they multiply and add."""

    def __init__(self, state: Mapping[str, Tensor], num_classes: int) -> None:
        self.state = {
            name: value.detach().double()
            for name, value in state.items()
            if value.is_floating_point()
        }
        self.num_classes = num_classes  # class channels of the semantic tensor

    def __getitem__(self, name: str) -> Tensor:
        return self.state[name]

    def normed(self, name: str) -> Tensor:
        """Weight over its largest singular value of a spectrally normalised layer."""
        weight = self.state[f"{name}.weight_orig"]
        return weight / (
            self.state[f"{name}.weight_u"] @ (weight.flatten(1) @ self.state[f"{name}.weight_v"])
        )

    def modulation(self, name: str) -> tuple[Tensor, Tensor]:
        """Weights [2 C, 128, 3, 3] and biases [2 C] of what x is multiplied by and what is added then, batch norm and all."""
        scale = torch.rsqrt(self.state[f"{name}.param_free_norm.running_var"] + 1e-5)
        shift = -self.state[f"{name}.param_free_norm.running_mean"] * scale
        (gamma, one), (beta, zero) = (
            (self.state[f"{name}.mlp_{kind}.weight"], self.state[f"{name}.mlp_{kind}.bias"])
            for kind in ("gamma", "beta")
        )
        one, wide = 1 + one, (slice(None), None, None, None)
        weights = torch.cat([gamma * scale[wide], gamma * shift[wide] + beta])
        return weights, torch.cat([one * scale, one * shift + zero])


class Modulation(nn.Module):
    """Scales and shifts of one norm per distinct window; after a shortcut's convolution where one follows."""

    taps: Tensor
    bias: Tensor

    def __init__(self, folded: Folded, name: str, after: Tensor | None = None) -> None:
        """`after` [N, C]: the shifts go through it, to N channels."""
        super().__init__()
        weights, bias = folded.modulation(name)
        self.channels = len(bias) // 2
        if after is not None:
            shift = torch.einsum("nc,chuv->nhuv", after, weights[self.channels :])
            weights = torch.cat([weights[: self.channels], shift])
            bias = torch.cat([bias[: self.channels], after @ bias[self.channels :]])
        self.register_buffer(
            "taps", by_tap(weights).contiguous(), persistent=False
        )  # [9, 128, C + C or N]
        self.register_buffer("bias", bias, persistent=False)

    def forward(self, patterns: Patterns, hidden: Tensor) -> Tensor:
        """hidden [U3, 128] -> [U5, C + C or N]."""
        return of_windows(patterns, hidden, self.taps, self.bias)


class FirstConvolution(nn.Module):
    """A convolution of the semantic tensor, or several side by side, per distinct window."""

    table: Tensor
    edge_rows: Tensor | None
    bias: Tensor

    def __init__(self, folded: Folded, *names: str) -> None:
        super().__init__()
        weight = torch.cat([folded[f"{name}.weight"] for name in names])
        table, edge_rows = class_rows(weight, folded.num_classes)
        self.register_buffer("table", table.contiguous(), persistent=False)
        self.register_buffer(
            "edge_rows", None if edge_rows is None else edge_rows.contiguous(), persistent=False
        )
        self.register_buffer(
            "bias", torch.cat([folded[f"{name}.bias"] for name in names]), persistent=False
        )

    def forward(self, patterns: Patterns) -> Tensor:
        """[U3, N], of all side by side."""
        return of_classes(patterns, self.table, self.edge_rows, self.bias)


class FastBlock(nn.Module):
    """SpadeBlock, with the doubling before it."""

    def __init__(
        self, folded: Folded, name: str, block: SpadeBlock, doubled: bool, sums: bool
    ) -> None:
        super().__init__()
        self.doubled, self.learned = doubled, block.learned
        norms = ["norm_0", "norm_1", *(["norm_s"] if block.learned else [])]
        self.first = FirstConvolution(folded, *(f"{name}.{norm}.mlp_shared.0" for norm in norms))
        self.norm_0, self.norm_1 = (
            Modulation(folded, f"{name}.norm_0"),
            Modulation(folded, f"{name}.norm_1"),
        )
        self.conv_0, self.conv_1 = (
            SameConv(
                weight,
                folded[f"{name}.{conv}.bias"],
                tile=2 if sums and saves_products(weight) else 1,
            )
            for conv in ("conv_0", "conv_1")
            for weight in [folded.normed(f"{name}.{conv}")]
        )
        if block.learned:
            shortcut = folded.normed(f"{name}.conv_s")[:, :, 0, 0]  # [N, C]
            self.norm_s = Modulation(folded, f"{name}.norm_s", shortcut)
            self.register_buffer("shortcut", shortcut.t().contiguous(), persistent=False)

    shortcut: Tensor

    def forward(self, x: Tensor, patterns: Patterns) -> Tensor:
        """x [B, H, W, C], of half the sides where it is doubled -> [B, H, W, N]."""
        hidden = torch.relu_(self.first(patterns)).chunk(3 if self.learned else 2, 1)
        main = self.conv_0(self._modulated(x, self.doubled, self.norm_0, patterns, hidden[0]))
        out: Tensor = self.conv_1(self._modulated(main, False, self.norm_1, patterns, hidden[1]))
        if self.learned:
            return self._with_shortcut(out, x, self.norm_s(patterns, hidden[2]), patterns.pixels)
        if self.doubled:
            batch, height, width, channels = x.shape
            out.view(batch, height, 2, width, 2, channels).add_(x[:, :, None, :, None])
            return out
        return out.add_(x)

    def _modulated(
        self, x: Tensor, doubled: bool, norm: nn.Module, patterns: Patterns, hidden: Tensor
    ) -> Tensor:
        """SPADE and the leaky ReLU: [B, H, W, C]."""
        rows = norm(patterns, hidden)
        out = x.new_empty(*patterns.pixels.shape, x.shape[3])
        for windows, given, made in stripes(patterns.pixels, x, out, doubled, rows.shape[1]):
            scale, shift = F.embedding(windows, rows).chunk(2, -1)
            F.leaky_relu_(torch.addcmul(shift, given, scale, out=made), 0.2)
        return out

    def _with_shortcut(self, out: Tensor, x: Tensor, rows: Tensor, pixels: Tensor) -> Tensor:
        """Add the learned shortcut to `out`; rows hold scales of x and, already through the convolution, shifts."""
        channels = x.shape[3]
        for windows, given, made in stripes(pixels, x, out, self.doubled, rows.shape[1]):
            both = F.embedding(windows, rows)
            scaled = (given * both[..., :channels]).view(-1, channels)
            made.add_(both[..., channels:]).add_((scaled @ self.shortcut).view(made.shape))
        return out


def stripes(
    pixels: Tensor, x: Tensor, out: Tensor, doubled: bool, width: int
) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
    """Cut maps into stripes whose `width` values per pixel fit the cache: windows, x and out of each, in one shape.

    pixels [B, H, W], x [B, H, W, C] or half its sides where it is to be doubled, out [B, H, W, N]. On a GPU one stripe.
    """
    batch, rows, columns, channels = x.shape
    if doubled:
        pixels, out = (
            pixels.view(batch, rows, 2, columns, 2),
            out.view(batch, rows, 2, columns, 2, -1),
        )
        x = x.view(batch, rows, 1, columns, 1, channels)
    if x.device.type != "cpu":
        yield pixels, x, out
        return
    each = pixels[0, 0].numel() * width * x.element_size()
    count = max(1, CHUNK_BYTES // each)
    for image in range(batch):
        for start in range(0, rows, count):
            part = slice(start, start + count)
            yield pixels[image, part], x[image, part], out[image, part]


def saves_products(weight: Tensor) -> bool:
    """Whether the sums that the fast form of a 3 x 3 convolution adds cost less than it saves, on a CPU (measured)."""
    return weight.shape[1] >= 128


class FastGenerator(nn.Module):
    """The forward of a trained SpadeGenerator in evaluation; call it inside `torch.inference_mode()`.

    It copies the weights as they are at construction, to `dtype`, where they are.
    """

    def __init__(self, network: SpadeGenerator, dtype: torch.dtype = torch.float32) -> None:
        super().__init__()
        self.config, self.dtype = network.config, dtype
        folded = Folded(network.state_dict(), network.num_classes + int(network.config.dont_care))
        on_cpu = folded["conv_img.bias"].device.type == "cpu"
        self.fc = (
            copy.deepcopy(network.fc) if network.config.vae else FirstConvolution(folded, "fc")
        )
        height, width = network.config.start
        blocks: list[FastBlock] = []
        for name, _, _, doubled in network.stages:
            height, width = (2 * height, 2 * width) if doubled else (height, width)
            block = network.get_submodule(name)
            assert isinstance(block, SpadeBlock)
            sums = on_cpu and height % 2 == 0 and width % 2 == 0
            blocks.append(FastBlock(folded, name, block, doubled, sums))
        self.blocks = nn.ModuleList(blocks)
        self.colours = SameConv(folded["conv_img.weight"], folded["conv_img.bias"])
        self.to(dtype)

    def forward(self, seen: Semantics, z: Tensor | None = None) -> Tensor:
        """What SpadeGenerator.forward returns, float32."""
        now = seen.at(self.config.start)
        x = self._first_map(now, z)
        for block in self.blocks:
            assert isinstance(block, FastBlock)
            if block.doubled:
                height, width = now.size
                now = seen.at((2 * height, 2 * width))
            x = block(x, now.patterns)
        return torch.tanh(self.colours(F.leaky_relu_(x, 0.2))).permute(0, 3, 1, 2).float()

    def _first_map(self, now: Semantics, z: Tensor | None) -> Tensor:
        """[B, H, W, 16 width]."""
        height, width = now.size
        if self.config.vae:
            assert z is not None, "a generator with a latent code needs one"
            flat: Tensor = self.fc(z.to(self.dtype))
            return flat.view(len(z), -1, height, width).permute(0, 2, 3, 1).contiguous()
        centres = now.patterns.taps[:, 4][
            now.patterns.pixels
        ]  # [B, H, W]: the 3 x 3 window around each pixel
        return F.embedding(centres, self.fc(now.patterns))
