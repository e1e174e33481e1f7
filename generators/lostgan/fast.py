"""LostGAN for production, rewritten for speed.

The network of network.py in evaluation, equal to it up to rounding.

What does not depend on the input is done once: spectral norms, batch norms and the sums of weights
that fewer products need (nn/winograd.py, nn/upsample_conv.py) are folded at construction. The rest
is matrix products and convolutions on maps with channels last, for the objects and classes that are
there; no tensor has an object, a channel and two pixel axes.

Legend as in network.py, and: O' slots that show in the fullest image of the batch; A = O' + 1
affine rows, the last of which is the plain batch norm that every pixel gets. Maps are [B, S, S, C].
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor, nn

from synthaug.generators.base import Layouts
from synthaug.generators.lostgan.fast_masks import FastHead, FastMasks
from synthaug.generators.lostgan.folding import Affine, Folded, pixels_first
from synthaug.generators.lostgan.network import CANVAS, LostGanGenerator, top_left
from synthaug.generators.nn.folding import scaled
from synthaug.generators.nn.layers import inside_boxes, place_masks, resize
from synthaug.generators.nn.upsample_conv import DoublingConv, doubling_form
from synthaug.generators.nn.winograd import SameConv, same_tile

# of a block's output worked on at a time on a CPU: it and its inputs stay in the cache
CHUNK_BYTES = 2**22


class FastBlock(nn.Module):
    """GeneratorBlock, with the refinement of masks or the colors that follow it."""

    share: Tensor

    def __init__(
        self,
        folded: Folded,
        t: int,
        side: int,
        offset: int,
        follows: Literal["refinement", "colors", "nothing"],
        tile: int,
    ) -> None:
        """Take the side of its input and the offset of its columns in the affine rows.

        `tile` is that of convolutions at most.
        """
        super().__init__()
        name = f"res{t}"
        first, first_bias = folded.normed(f"{name}.conv1")
        second = folded.normed(f"{name}.conv2")
        shortcut = folded.normed(f"{name}.c_sc")
        self.colors: SameConv | None = None
        self.head: FastHead | None = None
        if follows == "colors":
            # the last batch norm scales the sum of conv2 and the shortcut
            scale, shift = folded.norm("final.0")
            second = scaled(second, (scale, shift))
            shortcut = scaled(shortcut, (scale, torch.zeros_like(shift)))
            self.colors = SameConv(*folded.normed("final.2"))
        if follows == "refinement":
            self.head = FastHead(folded, f"{name}.conv_mask", 2 * side, tile)
            alpha = torch.sigmoid(folded[f"alpha{t}"])
            share = alpha[0, :, 0].float()
            self.register_buffer("share", share, persistent=False)
        form = doubling_form(first, side) if tile > 1 else "transposed"
        self.conv1 = DoublingConv(first, first_bias, form)
        second_weight = second[0]
        bias = second[1] + shortcut[1]
        second_tile = same_tile(second_weight, 2 * side, tile)
        self.conv2 = SameConv(second_weight, bias, shortcut[0], second_tile)
        self.side = side
        self.channels_out = first.shape[0]
        # columns of the two norms in the affine rows
        middle = offset + 2 * first.shape[1]
        self.columns_1 = slice(offset, middle)
        end = middle + 2 * first.shape[0]
        self.columns_2 = slice(middle, end)

    def forward(
        self,
        x: Tensor,
        affine: Tensor,
        shares_1: Tensor,
        shares_2: Tensor,
        placed: Tensor,
        inside: Tensor,
        labels: Tensor,
    ) -> tuple[Tensor, Tensor | None]:
        """Map x [B, S, S, C] to [B, 2 S, 2 S, C'] and refined masks, or None.

        With affine [B, A, all], and shares at S and at 2 S.

        Colors [B, R, R, 3] take the place of the map where they follow.
        """
        affine_1 = affine[:, :, self.columns_1]
        affine_2 = affine[:, :, self.columns_2]
        main = self.conv1(modulated(x, shares_1, affine_1))
        out = self.conv2(modulated(main, shares_2, affine_2), x)
        if self.colors is not None:
            return torch.tanh(self.colors(out.relu_())), None
        if self.head is None:
            return out, None
        logits = self.head(out, labels)
        return out, self._refine(logits, placed, inside, labels)

    def _refine(self, logits: Tensor, placed: Tensor, inside: Tensor, labels: Tensor) -> Tensor:
        """M = (1 - a) M^S + a M^F (component iv), float32."""
        side = logits.shape[-1]
        from_features = torch.sigmoid(logits) * top_left(inside, side)
        of_slots = self.share[labels].float()
        alpha = of_slots[:, :, None, None]
        return torch.lerp(resize(placed, side), from_features, alpha)


def modulated(x: Tensor, shares: Tensor, affine: Tensor) -> Tensor:
    """Apply ISLA-Norm and ReLU to x [B, S, S, C].

    With shares [B, A, S S] and affine [B, A, 2 C].
    """
    by_pixel = shares.transpose(1, 2)  # [B, S S, A]
    channels = x.shape[3]
    scales = affine[:, :, :channels]
    shifts = affine[:, :, channels:]
    out = torch.bmm(by_pixel, scales)
    out = out.mul_(x.flatten(1, 2))
    return out.baddbmm_(by_pixel, shifts).relu_().view_as(x)


def shares_at(masks: Tensor, side: int, dtype: torch.dtype) -> Tensor:
    """Return masks [B, O', any, any] at a side, over their sum: [B, A, S S].

    Ones for the plain batch norm come last.
    """
    at_side = resize(masks, side)
    shares = at_side / (at_side.sum(1, keepdim=True) + 1e-6)
    plain = torch.ones_like(shares[:, :1])
    with_plain = torch.cat([shares, plain], 1)
    return with_plain.to(dtype).flatten(2)


class FastGenerator(nn.Module):
    """The forward of a trained LostGanGenerator with ISLA-Norm, in evaluation.

    Call it inside `torch.inference_mode()`.

    It copies the weights as they are at construction, to `dtype`, where they are. `compiled` hands
    the blocks to torch.compile: faster, after a minute or more at the first call and again whenever
    there are more objects or images than before.
    """

    embedding: Tensor
    affine: Tensor

    @torch.no_grad()
    def __init__(
        self, network: LostGanGenerator, dtype: torch.dtype = torch.float32, compiled: bool = False
    ) -> None:
        super().__init__()
        config = network.config
        assert config.normalization == "isla"
        self.config = config
        self.dtype = dtype
        folded = Folded(network.state_dict())
        on_cpu = folded["fc.bias"].device.type == "cpu"
        tile = 1  # the plain form is what torch.compile and a GPU do best
        if on_cpu and not compiled:
            tile = 4 if dtype == torch.float32 else 2  # larger ones round too coarsely for bfloat16
        self.chunk_bytes = CHUNK_BYTES if on_cpu else 0  # 0 = all at once
        weight, bias = folded.normed("fc")
        fc = Affine(pixels_first(weight), pixels_first(bias))
        self.fc = fc.to(dtype)
        self.masks: FastMasks | None = None
        if config.layout_to_mask:
            masks = FastMasks(folded, config.version, tile)
            self.masks = masks.to(dtype)
        self.blocks = nn.ModuleList()
        affine: list[Tensor] = []  # of every norm, [D_w + 2, 2 C]
        offset = 0
        for i, t in enumerate(network.names):
            follows: Literal["refinement", "colors", "nothing"] = "nothing"
            if t in network.refined:
                follows = "refinement"
            elif t == network.names[-1]:
                follows = "colors"
            block = FastBlock(folded, t, 4 << i, offset, follows, tile)
            block = block.to(dtype)
            self.blocks.append(block)
            affine += [folded.affine(f"res{t}.b1"), folded.affine(f"res{t}.b2")]
            offset = block.columns_2.stop
        embedding = folded["label_embedding.weight"].to(dtype)
        joined = torch.cat(affine, 1).to(dtype)
        self.register_buffer("affine", joined, persistent=False)
        self.register_buffer("embedding", embedding, persistent=False)
        if compiled:
            for module in self.blocks:
                module.compile()

    def forward(
        self, layouts: Layouts, z_image: Tensor, z_objects: Tensor
    ) -> tuple[Tensor, tuple[Tensor, ...]]:
        """Return images and mask stacks as LostGanGenerator.forward does, float32."""
        count, slots = layouts.labels.shape
        order, visible = visible_slots(layouts.boxes)
        labels = layouts.labels.gather(1, order)
        boxes = rows_at(layouts.boxes, order)
        z = rows_at(z_objects, order).to(self.dtype)
        code = torch.cat([z, self.embedding[labels]], -1)  # [B, O', D_w]
        placed = self._place(code, boxes, visible)
        inside = inside_boxes(boxes, self.config.resolution // 2)
        affine = self._affine_rows(code)
        flat = self.fc(z_image.to(self.dtype))
        x = flat.view(count, 4, 4, -1)
        stacks = [placed]
        shares: dict[int, Tensor] = {}  # side -> shares of the last masks
        for block in self.blocks:
            small = x.shape[1]
            large = 2 * x.shape[1]
            for side in (small, large):
                # where masks are not refined, the block before has made them
                if side not in shares:
                    shares[side] = shares_at(stacks[-1], side, self.dtype)
            x, refined = self._chunked(
                block, x, affine, shares[small], shares[large], placed, inside, labels
            )
            if refined is not None:
                stacks.append(refined)
                shares.clear()
        channels_first = x.permute(0, 3, 1, 2)
        images = channels_first.float().contiguous()
        return images, tuple(put_back(stack, order, slots) for stack in stacks)

    def _place(self, code: Tensor, boxes: Tensor, visible: Tensor) -> Tensor:
        """Return M^S of the slots [B, O', 64, 64], float32."""
        if self.masks is None:
            return inside_boxes(boxes, CANVAS)
        codes = code[visible]  # [n, D_w]
        each = 16 * 16 * self.masks.channels * code.element_size()
        shapes = boxes.new_zeros(*visible.shape, 16, 16)
        most = self._chunk(each, len(codes))
        chunks = torch.split(codes, most)
        masks = [self.masks(chunk) for chunk in chunks]
        shapes[visible] = torch.cat(masks)
        placed = place_masks(shapes, boxes, CANVAS, self.config.align_corners)
        if self.config.clip_masks:
            placed = placed * inside_boxes(boxes, CANVAS)
        return placed

    def _affine_rows(self, code: Tensor) -> Tensor:
        """Return scales and shifts of every norm, for every slot and for no object.

        Shape [B, A, all].
        """
        batch, slots, width = code.shape
        rows = code.new_zeros(batch, slots + 1, width + 2)
        rows[:, :slots, :width] = code
        rows[:, :slots, width] = 1
        rows[:, slots, width + 1] = 1
        return rows @ self.affine

    def _chunked(
        self, block: nn.Module, x: Tensor, *others: Tensor
    ) -> tuple[Tensor, Tensor | None]:
        """Run a block on as many images at a time as fit the cache."""
        assert isinstance(block, FastBlock)
        values = 4 * block.side * block.side * block.channels_out
        each = values * x.element_size()
        count = self._chunk(each, len(x))
        chunks = [torch.split(tensor, count) for tensor in (x, *others)]
        outs = []
        refined = []
        for inputs in zip(*chunks, strict=True):
            out, masks = block(*inputs)
            outs.append(out)
            if masks is not None:
                refined.append(masks)
        if not refined:
            return torch.cat(outs), None
        return torch.cat(outs), torch.cat(refined)

    def _chunk(self, each: int, count: int) -> int:
        """Return how many of `count` things of `each` bytes to work on at a time.

        At least 1.
        """
        if self.chunk_bytes:
            return max(1, self.chunk_bytes // each)
        return max(1, count)


def visible_slots(boxes: Tensor) -> tuple[Tensor, Tensor]:
    """Return slots [B, O'] that any mask can come from, in order, and a flag for each.

    Padding fills images with fewer.

    A mask leaks over its box by at most a fifteenth of its size (place_masks); a box further
    outside shows nowhere.
    """
    low = boxes[..., :2]
    high = boxes[..., 2:]
    leak = (high - low).clamp_min(1e-6) / 15
    meets = (high + leak >= 0) & (low - leak <= 1)
    visible = meets.all(-1)  # [B, O]
    most = int(visible.sum(1).max())
    count = max(1, most)
    hidden = visible.logical_not().to(torch.uint8)
    visible_first = hidden.argsort(stable=True, dim=1)
    order = visible_first[:, :count]
    return order, visible.gather(1, order)


def rows_at(values: Tensor, order: Tensor) -> Tensor:
    """values [B, O, n] at slots [B, O'] -> [B, O', n]."""
    columns = values.shape[2]
    index = order[..., None].expand(-1, -1, columns)
    return values.gather(1, index)


def put_back(masks: Tensor, order: Tensor, slots: int) -> Tensor:
    """Return masks [B, O', S, S] at the slots they came from, 0 elsewhere.

    Shape [B, O, S, S].
    """
    shape = (len(masks), slots, *masks.shape[2:])
    index = order[..., None, None].expand_as(masks)
    return masks.new_zeros(shape).scatter_(1, index, masks)
