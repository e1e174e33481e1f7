"""LostGAN for production: the network of lostgan.py, in evaluation, rewritten for speed and equal to it up to rounding.

What does not depend on the input is done once: spectral norms, batch norms and the sums of weights that fewer products
need (convolutions.py, doubling.py) are folded at construction. The rest is matrix products and convolutions on maps with
channels last, for the objects and classes that are there; no tensor has an object, a channel and two pixel axes.

Legend as in lostgan.py, and: O' slots that show in the fullest image of the batch; A = O' + 1 affine rows, the last of
which is the plain batch norm that every pixel gets. Maps are [B, S, S, C].
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from synthaug.generators.base import Layouts
from synthaug.generators.lostgan.fast_masks import FastHead, FastMasks, same_tile
from synthaug.generators.lostgan.folding import Affine, Folded, pixels_first, scaled
from synthaug.generators.lostgan.network import CANVAS, LostGanGenerator
from synthaug.generators.nn.layers import inside_boxes, place_masks, resize
from synthaug.generators.nn.upsample_conv import DoublingConv
from synthaug.generators.nn.winograd import SameConv

CHUNK_BYTES = (
    2**22
)  # a block's output worked on at a time on a CPU: it and what it is made from stay in the cache


class FastBlock(nn.Module):
    """GeneratorBlock, with the refinement of masks or the colours that follow it."""

    def __init__(
        self, folded: Folded, t: int, side: int, offset: int, follows: str, tile: int
    ) -> None:
        """`side` of its input, `offset` of its affine numbers, and what follows: refined, plain or colours."""
        super().__init__()
        name = f"res{t}"
        first, second, shortcut = (
            folded.normed(f"{name}.{part}") for part in ("conv1", "conv2", "c_sc")
        )
        self.channels = (first[0].shape[1], first[0].shape[0])
        self.side, self.offset = side, offset
        if follows == "colours":  # the last batch norm scales what conv2 and the shortcut make
            norm = folded.norm("final.0")
            second, shortcut = (
                scaled(second, norm),
                scaled(shortcut, (norm[0], torch.zeros_like(norm[1]))),
            )
        self.conv1 = DoublingConv(
            *first, doubling_form(first[0], side) if tile > 1 else "transposed"
        )
        bias = second[1] + shortcut[1]
        self.conv2 = SameConv(second[0], bias, shortcut[0], same_tile(second[0], 2 * side, tile))
        self.colours = SameConv(*folded.normed("final.2")) if follows == "colours" else None
        self.head = (
            FastHead(folded, f"{name}.conv_mask", 2 * side, tile) if follows == "refined" else None
        )
        if self.head is not None:
            share = torch.sigmoid(folded[f"alpha{t}"])[0, :, 0].float()
            self.register_buffer("share", share, persistent=False)

    share: Tensor

    def forward(
        self,
        x: Tensor,
        affine: Tensor,
        near: Tensor,
        far: Tensor,
        placed: Tensor,
        hard: Tensor,
        labels: Tensor,
    ) -> tuple[Tensor, Tensor | None]:
        """x [B, S, S, C], affine [B, A, all], shares at S and at 2 S -> [B, 2 S, 2 S, C'], refined masks or None.

        Colours [B, R, R, 3] take the place of the map where they follow.
        """
        middle = self.offset + 2 * self.channels[0]
        first, second = (
            affine[:, :, self.offset : middle],
            affine[:, :, middle : middle + 2 * self.channels[1]],
        )
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
        return torch.lerp(
            resize(placed, side), learned, self.share[labels].float()[:, :, None, None]
        )


def doubling_form(weight: Tensor, side: int) -> str:
    """Form of a DoublingConv [N, C, 3, 3] of a map of that side that is fastest on a CPU (measured)."""
    if weight.shape[0] < 128:
        return "transposed"
    return "pairs" if side >= 8 else "steps"


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

    def __init__(
        self, network: LostGanGenerator, dtype: torch.dtype = torch.float32, compiled: bool = False
    ) -> None:
        super().__init__()
        self.config, self.dtype = network.config, dtype
        self.plain = network if network.config.normalization != "isla" else None
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
        # what torch.compile and a GPU do best is the plain form; the largest tiles round too coarsely for bfloat16
        tile = (4 if self.dtype == torch.float32 else 2) if on_cpu and not compiled else 1
        self.chunk_bytes = CHUNK_BYTES if on_cpu else 0
        self.fc = Affine(*map(pixels_first, folded.normed("fc"))).to(self.dtype)
        self.masks = (
            FastMasks(folded, self.config.version, tile).to(self.dtype)
            if self.config.layout_to_mask
            else None
        )
        blocks: list[FastBlock] = []
        affine: list[Tensor] = []
        for i, t in enumerate(network.names):
            follows = (
                "refined"
                if t in network.refined
                else "colours"
                if t == network.names[-1]
                else "plain"
            )
            offset = sum(part.shape[1] for part in affine)
            blocks.append(FastBlock(folded, t, 4 << i, offset, follows, tile).to(self.dtype))
            affine += [folded.affine(f"res{t}.b1"), folded.affine(f"res{t}.b2")]
        self.blocks = nn.ModuleList(blocks)
        self.register_buffer(
            "affine", torch.cat(affine, 1).to(self.dtype), persistent=False
        )  # [D_w + 2, all]
        self.register_buffer(
            "embedding", folded["label_embedding.weight"].to(self.dtype), persistent=False
        )

    def forward(
        self, layouts: Layouts, z_image: Tensor, z_objects: Tensor
    ) -> tuple[Tensor, tuple[Tensor, ...]]:
        """The pair that LostGanGenerator.forward returns, float32."""
        if self.plain is not None:
            images, stacks = self.plain(layouts, z_image, z_objects)
            return images, stacks
        order, shown = visible_slots(layouts.boxes)
        labels, boxes = layouts.labels.gather(1, order), rows_at(layouts.boxes, order)
        code = torch.cat(
            [rows_at(z_objects, order).to(self.dtype), self.embedding[labels]], -1
        )  # [B, O', D_w]
        placed = self._placed(code, boxes, shown)
        hard = inside_boxes(boxes, self.config.resolution // 2)
        affine = self._affine_rows(code)
        x = self.fc(z_image.to(self.dtype)).view(len(labels), 4, 4, -1)
        found, shares = [placed], dict[int, Tensor]()
        for block in self.blocks:
            sides = (x.shape[1], 2 * x.shape[1])
            for side in sides:
                if (
                    side not in shares
                ):  # where masks are not refined, the block before has made them
                    shares[side] = shares_at(found[-1], side, self.dtype)
            x, refined = self._chunked(
                block, x, affine, *(shares[side] for side in sides), placed, hard, labels
            )
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
        parts = [
            block(*part) for part in zip(*(torch.split(t, count) for t in (x, *given)), strict=True)
        ]
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
