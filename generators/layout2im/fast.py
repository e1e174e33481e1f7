"""Layout2Im for production, rewritten for speed.

The network of network.py in evaluation, equal to it up to rounding.

Norms are folded into convolutions, class-conditional ones into gains and biases per object. Where
objects fill their boxes, the map before the second convolution has two values per object and
channel, one inside and one outside; so that convolution is one of the box alone, by kernels made of
these values, and no object has a full-size map. Of the LSTM all inputs are convolved at once, wide
ones by tiles (nn/five_conv.py) on a CPU; its first step has no hidden map to convolve.

Legend as in network.py.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from synthaug.generators.layout2im.config import LSTM_WIDTHS
from synthaug.generators.layout2im.network import (
    RESIDUALS,
    Layout2ImGenerator,
    Painted,
    next_state,
)
from synthaug.generators.layout2im.rows import ObjectRows
from synthaug.generators.nn.crops import as_slots
from synthaug.generators.nn.five_conv import FiveConv
from synthaug.generators.nn.folding import FoldedWeights

MIN_TILE_CHANNELS = 64  # from which on tiles save more products than they cost sums


class FastClassNorm(nn.Module):
    """A class-conditional norm as a gain and a bias per label and channel."""

    table: Tensor

    def __init__(self, folded: FoldedWeights, name: str) -> None:
        super().__init__()
        scale, shift = folded.norm(f"{name}.bn")
        gains, biases = folded[f"{name}.embed.weight"].chunk(2, 1)
        folded_gains = gains * scale
        folded_biases = gains * shift + biases
        table = torch.stack([folded_gains, folded_biases], 1)  # [labels, 2, C]
        self.register_buffer("table", table, persistent=False)

    def forward(self, labels: Tensor) -> tuple[Tensor, Tensor]:
        """Labels [n] -> gains and biases [n, C]."""
        gains, biases = self.table[labels].unbind(1)
        return gains, biases


class FastObjects(nn.Module):
    """What LayoutEncoder makes of single objects, before its LSTM."""

    c1: Tensor
    c2: Tensor
    c3: Tensor
    c4: Tensor

    def __init__(self, folded: FoldedWeights) -> None:
        super().__init__()
        for name in ("c1", "c2", "c3", "c4"):
            weight = folded[f"layout_encoder.{name}.weight"].contiguous()
            self.register_buffer(name, weight, persistent=False)
        names = [f"layout_encoder.bn{number}" for number in range(1, 5)]
        self.norms = nn.ModuleList(FastClassNorm(folded, name) for name in names)

    def forward(self, labels: Tensor, vectors: Tensor, masks: Tensor, in_boxes: bool) -> Tensor:
        """Vectors [n, D] in masks [n, S, S] -> maps [n, 8 C, S/8, S/8].

        `in_boxes`: masks are 0 or 1.
        """
        gain, bias = self.norms[0](labels)
        matrix = self.c1[:, :, 0, 0]
        inside = gain * (vectors @ matrix.t())  # what 1 in the mask adds
        if in_boxes:
            second = self._of_boxes(inside, bias, masks, labels)
        else:
            padded = F.pad(masks, (1, 1, 1, 1))[:, None]
            first = torch.addcmul(_as_map(bias), _as_map(inside), padded).relu_()
            halved = F.conv2d(first, self.c2, stride=2, padding=1)
            second = self._normed(1, halved, labels).relu_()
        halved = F.conv2d(second, self.c3, stride=2, padding=1)
        third = self._normed(2, halved, labels).relu_()
        halved = F.conv2d(third, self.c4, stride=2, padding=1)
        return self._normed(3, halved, labels)

    def _of_boxes(self, inside: Tensor, bias: Tensor, masks: Tensor, labels: Tensor) -> Tensor:
        """Return the second map [n, 2 C, 33, 33] of masks that are 0 or 1."""
        outer = bias.relu()  # [n, C]
        step = (inside + bias).relu_() - outer
        gain, shift = self.norms[1](labels)
        of_ones = torch.einsum("nc,ocuv->nouv", outer, self.c2).flatten(2)
        of_mask = torch.einsum("nc,ocuv->nouv", step, self.c2).flatten(2)
        both = torch.cat([of_ones, of_mask], 2)
        kernels = both * gain[..., None]  # [n, 2 C, 32]
        padded = F.pad(masks, (1, 1, 1, 1))[:, None]
        ones = torch.ones_like(padded[:1]).expand(padded.shape)
        planes = torch.cat([ones, padded], 1)
        windows = F.unfold(planes, 4, padding=1, stride=2)  # [n, 32, 33 33]
        out = torch.baddbmm(shift[..., None], kernels, windows).relu_()
        side = (padded.shape[-1]) // 2
        return out.view(len(labels), -1, side, side)

    def _normed(self, number: int, x: Tensor, labels: Tensor) -> Tensor:
        gain, bias = self.norms[number](labels)
        return torch.addcmul(_as_map(bias), _as_map(gain), x)


def _as_map(values: Tensor) -> Tensor:
    return values[:, :, None, None]


class FastCell(nn.Module):
    """A cell whose convolution of inputs is apart from that of its hidden map.

    The former by tiles where asked for, if it is wide.
    """

    of_input: Tensor
    of_hidden: Tensor
    bias: Tensor

    def __init__(self, folded: FoldedWeights, number: int, width: int, tiles: bool) -> None:
        super().__init__()
        name = f"layout_encoder.clstm.cell_list.{number}.conv"
        weight = folded[f"{name}.weight"]
        of_input = weight[:, :-width].contiguous()
        of_hidden = weight[:, -width:].contiguous()
        self.register_buffer("of_input", of_input, persistent=False)
        self.register_buffer("of_hidden", of_hidden, persistent=False)
        bias = folded[f"{name}.bias"]
        self.register_buffer("bias", bias, persistent=False)
        self.by_tiles: FiveConv | None = None
        if tiles and of_input.shape[1] >= MIN_TILE_CHANNELS:
            self.by_tiles = FiveConv(of_input, bias)
        self.width = width

    def forward(self, steps: list[Tensor]) -> list[Tensor]:
        """Inputs [B_t, C, H, W] of steps, fewer images each -> hidden maps."""
        sizes = [len(step) for step in steps]
        all_gates = self._of_inputs(torch.cat(steps))
        outputs: list[Tensor] = []
        memory = all_gates.new_zeros(0)
        for number, gates in enumerate(torch.split(all_gates, sizes)):
            if number:
                before = outputs[-1][: len(gates)]
                gates = gates + F.conv2d(before, self.of_hidden, padding=2)
                memory = memory[: len(gates)]
            else:
                shape = (len(gates), self.width, *gates.shape[2:])
                memory = gates.new_zeros(shape)
            hidden, memory = next_state(gates, memory)
            outputs.append(hidden)
        return outputs

    def _of_inputs(self, x: Tensor) -> Tensor:
        """Return the convolution of inputs [n, C, H, W] with its bias."""
        height, width = x.shape[2:]
        if self.by_tiles is not None and height % 2 == 0 and width % 2 == 0:
            gates: Tensor = self.by_tiles(x)
            return gates
        return F.conv2d(x, self.of_input, self.bias, padding=2)


class FastGenerator(nn.Module):
    """The forward of a trained Layout2ImGenerator in evaluation.

    Call it inside `torch.inference_mode()`.

    It copies the weights as they are at construction, to `dtype`, where they are. `compiled` hands
    the decoder to torch.compile.
    """

    def __init__(
        self,
        network: Layout2ImGenerator,
        dtype: torch.dtype = torch.float32,
        compiled: bool = False,
    ) -> None:
        super().__init__()
        self.network = network
        self.dtype = dtype
        folded = FoldedWeights(network.state_dict())
        on_cpu = next(network.parameters()).device.type == "cpu"
        tiles = on_cpu and not compiled and dtype == torch.float32
        with torch.no_grad():
            self.objects = FastObjects(folded).to(dtype)
            self.cells = nn.ModuleList()
            multiples = LSTM_WIDTHS[network.config.lstm_layers]
            for number, multiple in enumerate(multiples):
                width = multiple * network.config.width
                cell = FastCell(folded, number, width, tiles)
                self.cells.append(cell.to(dtype))
            self.painter = FastPainter(folded).to(dtype)
        self.width = network.config.width
        if compiled:
            self.painter.compile()

    def forward(self, rows: ObjectRows, z: Tensor) -> Painted:
        """Return what Layout2ImGenerator.forward does, images in float32."""
        encoder = self.network.layout_encoder
        vectors = encoder.vectors(rows.labels, z)
        masks = self.network.fill(rows.boxes, vectors)
        vectors = vectors.to(self.dtype)
        fused = self._fused(rows, vectors, masks.to(self.dtype))
        images = self.painter(fused)
        return Painted(images.float(), masks)

    def _fused(self, rows: ObjectRows, vectors: Tensor, masks: Tensor) -> Tensor:
        """Return the last hidden map of each image [B, C, S/8, S/8]; 0 without objects."""
        counts = rows.counts
        side = masks.shape[-1] // 8
        fused = masks.new_zeros(len(counts), self.width, side, side)
        if not len(vectors):
            return fused
        in_boxes = self.network.mask_net is None
        maps = self.objects(rows.labels, vectors, masks, in_boxes)
        most_first = counts.argsort(descending=True, stable=True)
        left = counts[most_first].tolist()
        ordered = as_slots(maps, rows.packed)[most_first]  # [B, T, 8 C, H, W]
        steps = []
        for step in range(ordered.shape[1]):
            going = sum(count > step for count in left)
            steps.append(ordered[:going, step])
        for cell in self.cells:
            steps = cell(steps)
        for position, count in enumerate(left):
            if count:
                last = steps[count - 1]
                fused[most_first[position]] = last[position]
        return fused


class FastPainter(nn.Module):
    """Residual blocks and decoder with norms folded in."""

    def __init__(self, folded: FoldedWeights) -> None:
        super().__init__()
        for number in range(RESIDUALS):
            for part in (0, 3):
                name = f"layout_encoder.residual.{number}.main"
                layer = folded.layer(f"{name}.{part}", f"{name}.{part + 1}")
                self._keep(f"residual{number}_{part}", layer)
        self._keep("c0", folded.layer("decoder.c0", "decoder.bn0"))
        for number in (1, 2, 3):
            scale, shift = folded.norm(f"decoder.bn{number}")
            weight = folded[f"decoder.dc{number}.weight"]
            self._keep(f"dc{number}", (weight * scale[:, None, None], shift))
        weight = folded["decoder.c4.weight"]
        bias = folded["decoder.c4.bias"]
        self._keep("c4", (weight, bias))

    def forward(self, x: Tensor) -> Tensor:
        """Maps [B, C, S/8, S/8] -> images [B, 3, S, S]."""
        for number in range(RESIDUALS):
            main = self._conv(x, f"residual{number}_0", 1).relu_()
            x = x + self._conv(main, f"residual{number}_3", 1)
        x = self._conv(x, "c0", 1).relu_()
        for number in (1, 2, 3):
            weight, bias = self._layer(f"dc{number}")
            x = F.conv_transpose2d(x, weight, bias, stride=2, padding=1).relu_()
        return self._conv(x, "c4", 3)

    def _keep(self, name: str, layer: tuple[Tensor, Tensor]) -> None:
        weight, bias = layer
        self.register_buffer(f"{name}_weight", weight.contiguous(), persistent=False)
        self.register_buffer(f"{name}_bias", bias, persistent=False)

    def _layer(self, name: str) -> tuple[Tensor, Tensor]:
        weight = self.get_buffer(f"{name}_weight")
        bias = self.get_buffer(f"{name}_bias")
        return weight, bias

    def _conv(self, x: Tensor, name: str, padding: int) -> Tensor:
        weight, bias = self._layer(name)
        return F.conv2d(x, weight, bias, padding=padding)
