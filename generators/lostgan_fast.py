"""LostGAN for production: the network of lostgan.py, in evaluation, rewritten for speed and equal to it up to rounding.

What does not depend on the input is done once: spectral norms, batch norms and the sums of weights that fewer products
need (convolutions.py) are folded at construction. The rest is matrix products and convolutions on maps with channels last,
for the objects and classes that are there; no tensor has an object, a channel and two pixel axes.

Legend as in lostgan.py, and: O' slots that show in the fullest image of the batch; A = O' + 1 affine rows, the last of
which is the plain batch norm that every pixel gets. Maps are [B, S, S, C].
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from generators.base import Layouts
from generators.convolutions import DoublingConv, SameConv
from generators.layers import inside_boxes, place_masks, resize
from generators.lostgan import CANVAS, LostGanGenerator

CHUNK_BYTES = 2**22  # a block's output worked on at a time on a CPU: it and what it is made from stay in the cache
PYRAMID = (1, 2, 3, 6)  # cells per side of the pooled maps


class Folded:
    """A network's weights in float64, with norms turned into the numbers they multiply and add."""

    def __init__(self, state: Mapping[str, Tensor]) -> None:
        self.state = {name: value.detach().double() for name, value in state.items() if value.is_floating_point()}

    def __getitem__(self, name: str) -> Tensor:
        return self.state[name]

    def normed(self, name: str) -> tuple[Tensor, Tensor]:
        """Weight over its largest singular value, and bias, of a spectrally normalised layer."""
        weight = self.state[f"{name}.weight_orig"]
        sigma = self.state[f"{name}.weight_u"] @ (weight.flatten(1) @ self.state[f"{name}.weight_v"])
        return weight / sigma, self.state[f"{name}.bias"]

    def norm(self, name: str) -> tuple[Tensor, Tensor]:
        """Scale and shift per channel [C] that a batch norm comes to."""
        scale = torch.rsqrt(self.state[f"{name}.running_var"] + 1e-5) * self.state.get(f"{name}.weight", 1)
        return scale, self.state.get(f"{name}.bias", 0) - self.state[f"{name}.running_mean"] * scale

    def affine(self, name: str) -> Tensor:
        """Of an ISLA-Norm: what a joint code, 1 and 0 (or zeros, 0 and 1) multiply to what x is multiplied by and added.

        [D_w + 2, 2 C]: the two projections, their biases, and the plain batch norm as if it were an object.
        """
        scale, shift = self.norm(f"{name}.batch_norm2d")
        gammas, betas = (
            torch.cat([w.t(), b[None]]) for w, b in map(self.normed, (f"{name}.weight_proj", f"{name}.bias_proj"))
        )
        gammas, betas = torch.cat([gammas * scale, scale[None]]), torch.cat([betas + gammas * shift, shift[None]])
        return torch.cat([gammas, betas], 1)


def scaled(layer: tuple[Tensor, Tensor], norm: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor]:
    """Return weight [N, ...] and bias of a layer followed by a scale and a shift of its N outputs."""
    (weight, bias), (scale, shift) = layer, norm
    return weight * scale.view(-1, *[1] * (weight.ndim - 1)), bias * scale + shift


class FastMasks(nn.Module):
    """MaskRegression (component iii)."""

    def __init__(self, folded: Folded, version: int, sums: bool) -> None:
        super().__init__()
        self.instance = version == 2
        weight, bias = folded.normed("mask_regress.fc")
        self.fc = Affine(pixels_first(weight), pixels_first(bias))
        stages = []
        for i in (1, 2, 3):
            layer = folded.normed(f"mask_regress.conv{i}.0")
            if not self.instance:
                layer = scaled(layer, folded.norm(f"mask_regress.conv{i}.1"))
            stages.append(SameConv(*layer, fast=sums and saves_products(layer[0])))
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
    mean = x.new_full((1, 1, 1), 1 / rows.shape[1]).expand(len(x), 1, rows.shape[1])  # averages, as a product
    rows.sub_(mean @ rows)
    return rows.mul_(torch.rsqrt((mean @ (rows * rows)).float() + 1e-5).to(x.dtype)).view_as(x)


class Affine(nn.Module):
    """Linear layer with given numbers."""

    weight: Tensor
    bias: Tensor

    def __init__(self, weight: Tensor, bias: Tensor) -> None:
        super().__init__()
        self.register_buffer("weight", weight.contiguous(), persistent=False)
        self.register_buffer("bias", bias, persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        """[..., in] -> [..., out]."""
        return F.linear(x, self.weight, self.bias)


def pixels_first(rows: Tensor) -> Tensor:
    """Reorder rows [C 16, ...] that make a 4 x 4 map so that they make it channels last: [16 C, ...]."""
    return rows.view(-1, 16, *rows.shape[1:]).transpose(0, 1).flatten(0, 1)


def saves_products(weight: Tensor) -> bool:
    """Whether the sums that the fast form of a 3 x 3 convolution adds cost less than it saves, on a CPU (measured)."""
    return weight.shape[1] >= 128


class FastHead(nn.Module):
    """A ToMask head (component iv) for the classes of the slots only; plain, or with pyramid pooling (PyramidHead)."""

    rows: Tensor
    row_bias: Tensor

    def __init__(self, folded: Folded, name: str, side: int, sums: bool) -> None:
        super().__init__()
        pyramid = f"{name}.0.bottleneck.0.weight" in folded.state
        if pyramid:
            weight, norm = folded[f"{name}.0.bottleneck.0.weight"], folded.norm(f"{name}.0.bottleneck.1")
            weight, bias = scaled((weight, torch.zeros_like(norm[0])), norm)
            pooled = len(PYRAMID) * len(bias)
            self.pooled: nn.Module | None = PooledShare(folded, f"{name}.0", weight[:, :pooled], side)
            layer = (weight[:, pooled:], bias)
        else:
            self.pooled = None
            layer = scaled((folded[f"{name}.0.weight"], folded[f"{name}.0.bias"]), folded.norm(f"{name}.1"))
        self.conv = SameConv(*layer, fast=sums and saves_products(layer[0]))
        last = f"{name}.1" if pyramid else f"{name}.3"
        self.register_buffer("rows", folded[f"{last}.weight"][:, :, 0, 0], persistent=False)
        self.register_buffer("row_bias", folded[f"{last}.bias"], persistent=False)

    def forward(self, x: Tensor, labels: Tensor) -> Tensor:
        """x [B, S, S, C], labels [B, O'] -> logits of each slot's class [B, O', S, S], float32."""
        hidden = self.conv(x)
        if self.pooled is not None:
            self.pooled(x, hidden)
        hidden = hidden.relu_().flatten(1, 2)
        logits = torch.baddbmm(self.row_bias[labels][..., None], self.rows[labels], hidden.transpose(1, 2))
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
            one, norm = folded[f"{name}.stages.{i}.1.weight"][:, :, 0, 0], folded.norm(f"{name}.stages.{i}.2")
            ones.append(Affine(*scaled((one, torch.zeros_like(norm[0])), norm)))
            taps = weight[:, i * hidden : (i + 1) * hidden].permute(1, 2, 3, 0).flatten(1)  # [h, 3 3 h]
            self.register_buffer(f"taps{i}", taps.contiguous(), persistent=False)
            self.register_buffer(f"pool{i}", pools[i], persistent=False)  # [k, S]
            self.register_buffer(f"spread{i}", spreads[i], persistent=False)  # [S, 3 k]
        self.ones = nn.ModuleList(ones)

    def forward(self, x: Tensor, out: Tensor) -> None:
        """x [B, S, S, C]; added to out [B, S, S, h]."""
        batch, side = x.shape[:2]
        rows = (self.pool @ x.view(batch, side, -1)).view(batch, -1, *x.shape[2:])  # [B, 12, S, C]
        parts = []
        for i, (one, row) in enumerate(zip(self.ones, torch.split(rows, list(PYRAMID), 1), strict=True)):
            cells = PYRAMID[i]
            z = one(self.get_buffer(f"pool{i}") @ row).relu_()  # [B, k, k, h]
            taps = (z @ self.get_buffer(f"taps{i}")).view(batch, cells, cells, 3, 3, -1)
            taps = taps.transpose(2, 3).reshape(batch, 3 * cells, 3 * cells, -1)  # row and its tap, column and its tap
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
    hat = (1 - (position[:, None] - torch.arange(cells, device=like.device)).abs()).clamp_min(0)  # [S, k]
    taps = F.pad(hat, (0, 0, 1, 1)).unfold(0, 3, 1)  # [S, k, 3]: the pixel before, itself, the one after
    return taps.flatten(1)


class FastBlock(nn.Module):
    """GeneratorBlock, with the refinement of masks or the colours that follow it."""

    def __init__(self, folded: Folded, t: int, side: int, offset: int, follows: str, sums: bool) -> None:
        """`side` of its input, `offset` of its affine numbers, and what follows: refined, plain or colours."""
        super().__init__()
        name = f"res{t}"
        first, second, shortcut = (folded.normed(f"{name}.{part}") for part in ("conv1", "conv2", "c_sc"))
        self.channels = (first[0].shape[1], first[0].shape[0])
        self.side, self.offset = side, offset
        if follows == "colours":  # the last batch norm scales what conv2 and the shortcut make
            norm = folded.norm("final.0")
            second, shortcut = scaled(second, norm), scaled(shortcut, (norm[0], torch.zeros_like(norm[1])))
        form = "steps" if saves_steps(first[0]) else "transposed"
        self.conv1 = DoublingConv(*first, form if sums else "transposed")
        bias = second[1] + shortcut[1]
        self.conv2 = SameConv(second[0], bias, shortcut[0], fast=sums and saves_products(second[0]))
        self.colours = SameConv(*folded.normed("final.2")) if follows == "colours" else None
        self.head = FastHead(folded, f"{name}.conv_mask", 2 * side, sums) if follows == "refined" else None
        if self.head is not None:
            share = torch.sigmoid(folded[f"alpha{t}"])[0, :, 0].float()
            self.register_buffer("share", share, persistent=False)

    share: Tensor

    def forward(
        self, x: Tensor, affine: Tensor, near: Tensor, far: Tensor, placed: Tensor, hard: Tensor, labels: Tensor
    ) -> tuple[Tensor, Tensor | None]:
        """x [B, S, S, C], affine [B, A, all], shares at S and at 2 S -> [B, 2 S, 2 S, C'], refined masks or None.

        Colours [B, R, R, 3] take the place of the map where they follow.
        """
        middle = self.offset + 2 * self.channels[0]
        first, second = affine[:, :, self.offset : middle], affine[:, :, middle : middle + 2 * self.channels[1]]
        main = self.conv1(modulated(x, near, first))
        out = self.conv2(modulated(main, far, second), x)
        if self.colours is not None:
            return torch.tanh(self.colours(out.relu_())), None
        if self.head is None:
            return out, None
        return out, self._refined(self.head(out, labels), placed, hard, labels)

    def _refined(self, logits: Tensor, placed: Tensor, hard: Tensor, labels: Tensor) -> Tensor:
        """M = (1 - a) M^S + a M^F (component iv), float32."""
        side = logits.shape[-1]
        pick = (torch.arange(side, device=hard.device) * hard.shape[-1]) // side
        learned = torch.sigmoid(logits) * hard[:, :, pick][:, :, :, pick]
        return torch.lerp(resize(placed, side), learned, self.share[labels].float()[:, :, None, None])


def saves_steps(weight: Tensor) -> bool:
    """Whether nine products per pixel and their sums cost less than a transposed convolution, on a CPU (measured)."""
    return weight.shape[0] >= 128


def modulated(x: Tensor, shares: Tensor, affine: Tensor) -> Tensor:
    """ISLA-Norm and ReLU: x [B, S, S, C], shares [B, A, S S], affine [B, A, 2 C] -> [B, S, S, C]."""
    spread, channels = shares.transpose(1, 2), x.shape[3]
    out = torch.bmm(spread, affine[:, :, :channels]).mul_(x.flatten(1, 2))
    return out.baddbmm_(spread, affine[:, :, channels:]).relu_().view_as(x)


def shares_at(masks: Tensor, side: int, dtype: torch.dtype) -> Tensor:
    """Masks [B, O', any, any] at a side, over their sum, and ones for the plain batch norm: [B, A, S S]."""
    at_side = resize(masks, side)
    shares = at_side / (at_side.sum(1, keepdim=True) + 1e-6)
    return torch.cat([shares, torch.ones_like(shares[:, :1])], 1).to(dtype).flatten(2)


class FastGenerator(nn.Module):
    """The forward of a trained LostGanGenerator in evaluation; call it inside `torch.inference_mode()`.

    It copies the weights as they are at construction, to `dtype`, where they are. With SPADE in the place of ISLA-Norm it
    is the network itself, in float32. `compiled` hands the blocks to torch.compile: faster, after a minute or more at the
    first call and again whenever there are more objects or images than before.
    """

    def __init__(self, network: LostGanGenerator, dtype: torch.dtype = torch.float32, compiled: bool = False) -> None:
        super().__init__()
        self.config, self.dtype = network.config, dtype
        self.plain = network if network.config.normalisation != "isla" else None
        if self.plain is not None:
            return
        with torch.no_grad():
            self._fold(network, compiled)
        if compiled:
            for block in self.blocks:
                block.compile()

    embedding: Tensor
    affine: Tensor

    def _fold(self, network: LostGanGenerator, compiled: bool) -> None:
        folded = Folded(network.state_dict())
        on_cpu = folded["fc.bias"].device.type == "cpu"
        sums = on_cpu and not compiled
        self.chunk_bytes = CHUNK_BYTES if on_cpu else 0
        self.fc = Affine(*map(pixels_first, folded.normed("fc"))).to(self.dtype)
        self.masks = FastMasks(folded, self.config.version, sums).to(self.dtype) if self.config.layout_to_mask else None
        blocks: list[FastBlock] = []
        affine: list[Tensor] = []
        for i, t in enumerate(network.names):
            follows = "refined" if t in network.refined else "colours" if t == network.names[-1] else "plain"
            offset = sum(part.shape[1] for part in affine)
            blocks.append(FastBlock(folded, t, 4 << i, offset, follows, sums).to(self.dtype))
            affine += [folded.affine(f"res{t}.b1"), folded.affine(f"res{t}.b2")]
        self.blocks = nn.ModuleList(blocks)
        self.register_buffer("affine", torch.cat(affine, 1).to(self.dtype), persistent=False)  # [D_w + 2, all]
        self.register_buffer("embedding", folded["label_embedding.weight"].to(self.dtype), persistent=False)

    def forward(self, layouts: Layouts, z_image: Tensor, z_objects: Tensor) -> tuple[Tensor, tuple[Tensor, ...]]:
        """The pair that LostGanGenerator.forward returns, float32."""
        if self.plain is not None:
            images, stacks = self.plain(layouts, z_image, z_objects)
            return images, stacks
        order, shown = visible_slots(layouts.boxes)
        labels, boxes = layouts.labels.gather(1, order), rows_at(layouts.boxes, order)
        code = torch.cat([rows_at(z_objects, order).to(self.dtype), self.embedding[labels]], -1)  # [B, O', D_w]
        placed = self._placed(code, boxes, shown)
        hard = inside_boxes(boxes, self.config.resolution // 2)
        affine = self._affine_rows(code)
        x = self.fc(z_image.to(self.dtype)).view(len(labels), 4, 4, -1)
        found, shares = [placed], dict[int, Tensor]()
        for block in self.blocks:
            sides = (x.shape[1], 2 * x.shape[1])
            for side in sides:
                if side not in shares:  # where masks are not refined, the block before has made them
                    shares[side] = shares_at(found[-1], side, self.dtype)
            x, refined = self._chunked(block, x, affine, *(shares[side] for side in sides), placed, hard, labels)
            if refined is not None:
                found.append(refined)
                shares.clear()
        images = x.permute(0, 3, 1, 2).float().contiguous()
        return images, tuple(put_back(stack, order, layouts.labels.shape[1]) for stack in found)

    def _placed(self, code: Tensor, boxes: Tensor, shown: Tensor) -> Tensor:
        """M^S of the slots [B, O', 64, 64], float32."""
        if self.masks is None:
            return inside_boxes(boxes, CANVAS)
        shapes = boxes.new_zeros(*shown.shape, 16, 16)
        codes = code[shown]
        each = 16 * 16 * self.masks.fc.weight.shape[0] // 16 * code.element_size()
        count = max(1, self.chunk_bytes // each) if self.chunk_bytes else max(1, len(codes))
        shapes[shown] = torch.cat([self.masks(part) for part in torch.split(codes, count)])
        placed = place_masks(shapes, boxes, CANVAS, self.config.align_corners)
        return placed * inside_boxes(boxes, CANVAS) if self.config.clip_masks else placed

    def _affine_rows(self, code: Tensor) -> Tensor:
        """Scales and shifts of every norm, for every slot and for no object: [B, A, all]."""
        batch, slots, width = code.shape
        rows = code.new_zeros(batch, slots + 1, width + 2)
        rows[:, :slots, :width] = code
        rows[:, :slots, width] = 1
        rows[:, slots, width + 1] = 1
        return rows @ self.affine

    def _chunked(self, block: nn.Module, x: Tensor, *given: Tensor) -> tuple[Tensor, Tensor | None]:
        """Run a block on as many images at a time as fit the cache."""
        assert isinstance(block, FastBlock)
        each = 4 * block.side * block.side * block.channels[1] * x.element_size()
        count = max(1, self.chunk_bytes // each) if self.chunk_bytes else len(x)
        parts = [block(*part) for part in zip(*(torch.split(t, count) for t in (x, *given)), strict=True)]
        refined = [masks for _, masks in parts if masks is not None]
        return torch.cat([out for out, _ in parts]), torch.cat(refined) if refined else None


def visible_slots(boxes: Tensor) -> tuple[Tensor, Tensor]:
    """Slots [B, O'] that any mask can come from, in order, and which of them do: padding fills up images with fewer.

    A mask leaks over its box by at most a fifteenth of its size (place_masks); a box further outside shows nowhere.
    """
    low, high = boxes[..., :2], boxes[..., 2:]
    leak = (high - low).clamp_min(1e-6) / 15
    visible = ((high + leak >= 0) & (low - leak <= 1)).all(-1)  # [B, O]
    count = max(1, int(visible.sum(1).max()))
    order = visible.logical_not().to(torch.uint8).argsort(stable=True, dim=1)[:, :count]
    return order, visible.gather(1, order)


def rows_at(values: Tensor, order: Tensor) -> Tensor:
    """values [B, O, n] at slots [B, O'] -> [B, O', n]."""
    return values.gather(1, order[..., None].expand(-1, -1, values.shape[2]))


def put_back(masks: Tensor, order: Tensor, slots: int) -> Tensor:
    """Masks [B, O', S, S] at the slots they came from, 0 elsewhere: [B, O, S, S]."""
    out = masks.new_zeros(len(masks), slots, *masks.shape[2:])
    return out.scatter_(1, order[..., None, None].expand_as(masks), masks)
