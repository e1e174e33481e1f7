"""sg2im for production, rewritten for speed.

The network of network.py in evaluation, equal to it up to rounding.

Batch norms are folded into convolutions at construction. What is predicted is only computed where
it is painted. The layout is never made: at each level of the cascade the convolution of an image's
objects, whose vectors do not vary inside their masks, is a convolution of their masks by kernels
made from the vectors. What comes from the coarser level is convolved before it is enlarged.

Legend as in network.py, and: K slots of the fullest image, N channels of noise, P = K + N planes.
Maps are [B, S, S, C].
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from synthaug.generators.nn.crops import as_slots
from synthaug.generators.nn.folding import FoldedWeights
from synthaug.generators.nn.upsample_conv import DoublingConv, doubling_form
from synthaug.generators.nn.winograd import SameConv, channels_first, same_tile
from synthaug.generators.sg2im.graphs import SceneGraphs
from synthaug.generators.sg2im.network import SLOPE, Painted, Sg2ImGenerator, shapes_of

# of a level's output worked on at a time on a CPU: it and its inputs stay in the cache
CHUNK_BYTES = 2**22


class FastLevel(nn.Module):
    """RefinementModule of masks and vectors instead of the layout."""

    bias: Tensor
    of_vectors: Tensor
    of_noise: Tensor

    def __init__(
        self, folded: FoldedWeights, number: int, side: int, vector: int, noise: int, tile: int
    ) -> None:
        super().__init__()
        name = f"refinement_net.refinement_modules.{number}.net"
        first, bias = folded.layer(f"{name}.0", f"{name}.1")
        second, second_bias = folded.layer(f"{name}.3", f"{name}.4")
        channels = len(bias)
        taps = first.flatten(2)  # [C, all inputs, 9]
        of_vectors = taps[:, :vector].permute(1, 0, 2)  # [D, C, 9]
        of_noise = taps[:, vector : vector + noise].permute(0, 2, 1)  # [C, 9, N]
        self.register_buffer("bias", bias, persistent=False)
        self.register_buffer("of_vectors", of_vectors.flatten(1).contiguous(), persistent=False)
        self.register_buffer("of_noise", of_noise.flatten(0, 1).contiguous(), persistent=False)
        self.doubling: DoublingConv | None = None
        if number:  # the coarsest level has none before it
            coarser = first[:, vector + noise :]
            form = doubling_form(coarser, side // 2) if tile > 1 else "transposed"
            self.doubling = DoublingConv(coarser, bias, form)
        self.second = SameConv(second, second_bias, tile=same_tile(second, side, tile))
        self.side = side
        self.channels = channels

    def forward(self, planes: Tensor, vectors: Tensor, coarser: Tensor | None) -> Tensor:
        """Planes [B, P, S, S], vectors [B, K, D], coarser level -> [B, S, S, C]."""
        kernels = self._kernels(vectors)
        planes = planes.contiguous(memory_format=torch.channels_last)
        if self.doubling is None:
            shape = (len(planes), self.side, self.side, self.channels)
            out = self.bias.expand(shape).contiguous()
        else:
            out = self.doubling(coarser)
        for i, kernel in enumerate(kernels):  # one convolution per image: its kernels are its own
            of_layout = F.conv2d(planes[i : i + 1], kernel, padding=1)
            out[i].add_(of_layout[0].permute(1, 2, 0))
        out = F.leaky_relu_(out, SLOPE)
        return F.leaky_relu_(self.second(out), SLOPE)

    def _kernels(self, vectors: Tensor) -> Tensor:
        """Return kernels [B, C, P, 3, 3], channels last, of vectors [B, K, D]."""
        batch = len(vectors)
        of_objects = (vectors @ self.of_vectors).transpose(1, 2)  # [B, 9 C, K]
        of_noise = self.of_noise.expand(batch, -1, -1)
        both = torch.cat([of_objects, of_noise], 2)
        by_tap = both.view(batch, self.channels, 3, 3, -1)
        return by_tap.permute(0, 1, 4, 2, 3)


class FastMaskNet(nn.Module):
    """The network of masks; norms go before the enlarging, which repeats pixels only."""

    weight: Tensor
    bias: Tensor

    def __init__(self, folded: FoldedWeights, doublings: int, tile: int) -> None:
        super().__init__()
        self.convs = nn.ModuleList()
        for number in range(doublings):
            norm = f"mask_net.{4 * number + 1}"
            conv = f"mask_net.{4 * number + 2}"
            scale, shift = folded.norm(norm)
            weight = folded[f"{conv}.weight"] * scale[:, None, None]
            # the zeros around a map come after its norm, so the shift cannot go into the bias
            self.register_buffer(f"shift{number}", shift / scale, persistent=False)
            form = doubling_form(weight, 2**number) if tile > 1 else "transposed"
            self.convs.append(DoublingConv(weight, folded[f"{conv}.bias"], form))
        last = f"mask_net.{4 * doublings}"
        weight = folded[f"{last}.weight"][0, :, 0, 0]
        self.register_buffer("weight", weight, persistent=False)
        self.register_buffer("bias", folded[f"{last}.bias"], persistent=False)

    def forward(self, vectors: Tensor) -> Tensor:
        """Vectors [n, D] -> logits [n, M, M]."""
        x = vectors[:, None, None]
        for number, conv in enumerate(self.convs):
            x = F.relu_(conv(x + self.get_buffer(f"shift{number}")))
        return x @ self.weight + self.bias


class FastGenerator(nn.Module):
    """The forward of a trained Sg2ImGenerator in evaluation.

    Call it inside `torch.inference_mode()`.

    It copies the weights as they are at construction, to `dtype`, where they are. `compiled` hands
    the levels to torch.compile.
    """

    head_weight: Tensor
    head_bias: Tensor

    @torch.no_grad()
    def __init__(
        self, network: Sg2ImGenerator, dtype: torch.dtype = torch.float32, compiled: bool = False
    ) -> None:
        super().__init__()
        config = network.config
        self.network = network
        self.dtype = dtype
        folded = FoldedWeights(network.state_dict())
        on_cpu = network.obj_embeddings.weight.device.type == "cpu"
        tile = 1  # the plain form is what torch.compile and a GPU do best
        if on_cpu and not compiled:
            tile = 4 if dtype == torch.float32 else 2  # larger ones round too coarsely for bfloat16
        self.chunk_bytes = CHUNK_BYTES if on_cpu else 0  # 0 = all at once
        self.masks: FastMaskNet | None = None
        if config.mask_side:
            masks = FastMaskNet(folded, config.mask_side.bit_length() - 1, tile)
            self.masks = masks.to(dtype)
        self.levels = nn.ModuleList()
        count = len(network.refinement_net.refinement_modules)
        for number in range(count):
            side = config.resolution >> (count - 1 - number)
            level = FastLevel(folded, number, side, config.embedding, config.noise, tile)
            self.levels.append(level.to(dtype))
        weight = folded["refinement_net.output_conv.0.weight"]
        bias = folded["refinement_net.output_conv.0.bias"]
        head = SameConv(weight, bias, tile=same_tile(weight, config.resolution, tile))
        self.head = head.to(dtype)
        colors = folded["refinement_net.output_conv.2.weight"][:, :, 0, 0].t().contiguous()
        self.register_buffer("head_weight", colors.to(dtype), persistent=False)
        color_bias = folded["refinement_net.output_conv.2.bias"]
        self.register_buffer("head_bias", color_bias.to(dtype), persistent=False)
        if compiled:
            for module in self.levels:
                module.compile()

    def forward(
        self,
        graphs: SceneGraphs,
        noise: Tensor,
        boxes: Tensor | None = None,
        masks: Tensor | None = None,
    ) -> Painted:
        """Return what Sg2ImGenerator.forward does, in float32.

        Masks and boxes that are not painted are not predicted: None, and the given boxes.
        """
        vectors = self.network.object_vectors(graphs)
        if boxes is None:
            boxes = self.network.box_net(vectors)
        logits = None
        shapes = masks
        if masks is None or masks.isnan().any():
            if self.masks is not None:
                logits = self.masks(vectors.to(self.dtype)).float()
            shapes = shapes_of(logits, vectors)
            if masks is not None:
                shapes = torch.where(masks.isnan(), shapes, masks)
        assert shapes is not None
        placed = self.network.place(shapes, boxes)
        images = self._paint(vectors, placed, noise, graphs.is_row)
        return Painted(images, boxes, logits, placed)

    def _paint(self, vectors: Tensor, placed: Tensor, noise: Tensor, is_row: Tensor) -> Tensor:
        """Return images [B, 3, S, S] of vectors [n, D], their masks [n, S, S] and noise."""
        of_slots = as_slots(vectors, is_row).to(self.dtype)  # [B, K, D]
        canvas = as_slots(placed, is_row)  # [B, K, S, S]
        planes = torch.cat([canvas, noise], 1).to(self.dtype)
        pyramid = [planes]
        for _ in range(len(self.levels) - 1):
            pyramid.append(F.avg_pool2d(pyramid[-1], 2))
        out: Tensor | None = None
        for level, planes in zip(self.levels, reversed(pyramid), strict=True):
            assert isinstance(level, FastLevel)
            out = self._chunked(level, planes, of_slots, out)
        assert out is not None
        hidden = F.leaky_relu_(self.head(out), SLOPE)
        images = hidden @ self.head_weight + self.head_bias
        return channels_first(images).float().contiguous()

    def _chunked(
        self, level: FastLevel, planes: Tensor, vectors: Tensor, coarser: Tensor | None
    ) -> Tensor:
        """Run a level on as many images at a time as fit the cache."""
        count = len(planes)
        if self.chunk_bytes:
            each = level.side * level.side * level.channels * planes.element_size()
            count = max(1, self.chunk_bytes // each)
        outs = []
        for start in range(0, len(planes), count):
            part = slice(start, start + count)
            before = None if coarser is None else coarser[part]
            outs.append(level(planes[part], vectors[part], before))
        return torch.cat(outs)
