"""LostGAN evaluated directly from its published equations.

The twin of `generators/` in tests, the baseline in benchmarks.

Nothing here is optimised and nothing is slowed down: every operation is the one the equations name,
in their order, on a state dict with the published key names. Per-object affine maps are 5-D
products, spectral norms are taken at every forward from `weight_orig`, `weight_u` and `weight_v`,
features are repeated 2 x 2 before the convolutions that follow, every mask head computes all its
classes, and the discriminator is passed three times per training step.

Legend: B images, O object slots, K label rows, C channels, S side of a map. Boxes are xywh,
normalised to [0, 1].
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor
from torchvision.ops import roi_align

from tests import paths

State = dict[str, Tensor]
CANVAS = 64
PARITY = paths.FIXTURES / "lostgan"

# names of the blocks of a discriminator that halve the side, its image head and the side from which
# an object is large
_D_POOLS = {64: (3, 4, 5), 128: (1, 2, 3, 4, 5), 256: (1, 2, 3, 4, 5, 6)}
_D_HEAD = {64: "l_im", 128: "l7", 256: "l8"}
_D_LARGE = {128: 64, 256: 128}


@dataclass(frozen=True)
class Net:
    """Layers over a state dict.

    In training, power iterations and running statistics are updated in it.
    """

    state: State
    training: bool
    dropout: float = 0.1

    def has(self, prefix: str) -> bool:
        """Whether any key starts with the prefix."""
        return any(key.startswith(prefix) for key in self.state)

    def normed(self, name: str, eps: float) -> Tensor:
        """Weight divided by its largest singular value, one power iteration per training pass."""
        weight, u, v = (self.state[f"{name}.weight_{part}"] for part in ("orig", "u", "v"))
        matrix = weight.reshape(len(weight), -1)
        if self.training:
            with torch.no_grad():
                v.copy_(F.normalize(torch.mv(matrix.t(), u), dim=0, eps=eps))
                u.copy_(F.normalize(torch.mv(matrix, v), dim=0, eps=eps))
            u, v = u.clone(), v.clone()
        return weight / torch.dot(u, torch.mv(matrix, v))

    def sn_conv(self, x: Tensor, name: str, eps: float = 1e-4) -> Tensor:
        """Spectrally normalised convolution, same padding."""
        weight = self.normed(name, eps)
        return F.conv2d(x, weight, self.state[f"{name}.bias"], padding=weight.shape[-1] // 2)

    def sn_linear(self, x: Tensor, name: str) -> Tensor:
        """Spectrally normalised linear layer."""
        return F.linear(x, self.normed(name, 1e-12), self.state[f"{name}.bias"])

    def conv(self, x: Tensor, name: str) -> Tensor:
        """Plain convolution, same padding, with a bias where there is one."""
        weight = self.state[f"{name}.weight"]
        return F.conv2d(x, weight, self.state.get(f"{name}.bias"), padding=weight.shape[-1] // 2)

    def batch_norm(self, x: Tensor, name: str) -> Tensor:
        """Batch norm, affine where the state has a scale."""
        mean, var = self.state[f"{name}.running_mean"], self.state[f"{name}.running_var"]
        scale, shift = self.state.get(f"{name}.weight"), self.state.get(f"{name}.bias")
        return F.batch_norm(x, mean, var, scale, shift, self.training, 0.1, 1e-5)


def generator(
    state: State,
    version: int,
    resolution: int,
    labels: Tensor,
    boxes: Tensor,
    z_image: Tensor,
    z_objects: Tensor,
    align_corners: bool = True,
    training: bool = False,
    dropout: float = 0.1,
) -> Tensor:
    """labels [B, O], boxes [B, O, 4], z_image [B, Z], z_objects [B, O, Z] -> images [B, 3, R, R] in
    [-1, 1].
    """
    net = Net(state, training, dropout)
    count, slots = labels.shape
    words = F.embedding(labels.reshape(-1), state["label_embedding.weight"])
    code = torch.cat([z_objects.reshape(count * slots, -1), words], 1)  # [B O, D_w]
    shapes = _mask_regression(net, code, version).view(count, slots, 16, 16)
    placed = _place(shapes, boxes, align_corners)  # [B, O, 64, 64]
    hard = _indicator(boxes, resolution // 2) if version == 2 else placed
    x = net.sn_linear(z_image, "fc").view(count, -1, 4, 4)
    stages = sorted({int(key[3 : key.index(".")]) for key in state if key.startswith("res")})
    masks = placed
    for stage in stages:
        x = _block(net, f"res{stage}", x, code, masks)
        if version == 2 and stage < stages[-1]:
            logits = _mask_head(net, f"res{stage}.conv_mask", x)
            masks = _refined(logits, state[f"alpha{stage}"], placed, hard, labels)
    x = F.relu(net.batch_norm(x, "final.0"))
    return torch.tanh(net.sn_conv(x, "final.2"))


def _mask_regression(net: Net, code: Tensor, version: int) -> Tensor:
    """[B O, D_w] -> [B O, 1, 16, 16]."""
    x = net.sn_linear(code, "mask_regress.fc").view(len(code), -1, 4, 4)
    for stage, side in ((1, 8), (2, 16), (3, 16)):
        x = net.sn_conv(x, f"mask_regress.conv{stage}.0", 1e-12)
        x = net.batch_norm(x, f"mask_regress.conv{stage}.1") if version == 1 else F.instance_norm(x)
        x = F.relu(x)
        if stage < 3:
            x = F.interpolate(x, size=(side, side), mode="bilinear", align_corners=False)
    return torch.sigmoid(net.sn_conv(x, "mask_regress.conv3.3", 1e-12))


def _lattice(boxes: Tensor, side: int) -> tuple[Tensor, Tensor]:
    """Coordinates inside each box of a lattice over the image.

    X [B, O, 1, N] and Y [B, O, N, 1], 0 and 1 at its edges.
    """
    x0, y0, w, h = (part[..., None, None] for part in boxes.unbind(-1))
    points = torch.linspace(0, 1, side, dtype=boxes.dtype, device=boxes.device)
    return (points.view(1, 1, 1, side) - x0) / w, (points.view(1, 1, side, 1) - y0) / h


def _place(shapes: Tensor, boxes: Tensor, align_corners: bool) -> Tensor:
    """Sample each 16 x 16 mask on the canvas of its box: [B, O, 64, 64]."""
    count, slots = boxes.shape[:2]
    x, y = (t.expand(count, slots, CANVAS, CANVAS) for t in _lattice(boxes, CANVAS))
    grid = (torch.stack([x, y], -1) * 2 - 1).view(count * slots, CANVAS, CANVAS, 2)
    flat = shapes.reshape(count * slots, 1, *shapes.shape[-2:])
    return F.grid_sample(flat, grid.to(flat.dtype), align_corners=align_corners).view(
        count, slots, CANVAS, CANVAS
    )


def _indicator(boxes: Tensor, side: int) -> Tensor:
    """1 inside each box, 0 outside: [B, O, N, N]."""
    x, y = _lattice(boxes, side)
    return ((x >= 0) & (x <= 1) & (y >= 0) & (y <= 1)).float()


def _isla(net: Net, name: str, x: Tensor, code: Tensor, masks: Tensor) -> Tensor:
    """Batch norm, then scale and shift each pixel by the mask-weighted mean over its objects."""
    count, slots = masks.shape[:2]
    normed = net.batch_norm(x, f"{name}.batch_norm2d")
    if masks.shape[-1] != x.shape[-1]:
        masks = F.interpolate(masks, size=x.shape[-2:], mode="bilinear", align_corners=False)
    wide = masks[:, :, None]  # [B, O, 1, S, S]
    gamma = net.sn_linear(code, f"{name}.weight_proj").view(count, slots, -1, 1, 1)
    beta = net.sn_linear(code, f"{name}.bias_proj").view(count, slots, -1, 1, 1)
    gamma = (wide * gamma).sum(1) / (wide.sum(1) + 1e-6) + 1
    beta = (wide * beta).sum(1) / (wide.sum(1) + 1e-6)
    return gamma * normed + beta


def _double(x: Tensor) -> Tensor:
    return F.interpolate(x, scale_factor=2, mode="nearest")


def _block(net: Net, name: str, x: Tensor, code: Tensor, masks: Tensor) -> Tensor:
    """[B, C, S, S] -> [B, C', 2 S, 2 S]."""
    main = F.relu(_isla(net, f"{name}.b1", x, code, masks))
    main = net.sn_conv(_double(main), f"{name}.conv1")
    main = F.relu(_isla(net, f"{name}.b2", main, code, masks))
    main = net.sn_conv(main, f"{name}.conv2")
    return main + net.sn_conv(_double(x), f"{name}.c_sc")


def _mask_head(net: Net, name: str, x: Tensor) -> Tensor:
    """Logits of every class: [B, K, S, S]."""
    if not net.has(f"{name}.0.stages"):
        x = F.relu(net.batch_norm(net.conv(x, f"{name}.0"), f"{name}.1"))
        return net.conv(x, f"{name}.3")
    parts = []
    for i, cells in enumerate((1, 2, 3, 6)):
        y = net.conv(F.adaptive_avg_pool2d(x, cells), f"{name}.0.stages.{i}.1")
        y = F.relu(net.batch_norm(y, f"{name}.0.stages.{i}.2"))
        parts.append(F.interpolate(y, size=x.shape[-2:], mode="bilinear", align_corners=True))
    y = net.conv(torch.cat([*parts, x], 1), f"{name}.0.bottleneck.0")
    y = F.relu(net.batch_norm(y, f"{name}.0.bottleneck.1"))
    return net.conv(F.dropout2d(y, net.dropout, net.training), f"{name}.1")


def _refined(logits: Tensor, alpha: Tensor, placed: Tensor, hard: Tensor, labels: Tensor) -> Tensor:
    """The masks for the next block: [B, O, S, S]."""
    count, slots = labels.shape
    size = logits.shape[-2:]
    chosen = logits.gather(1, labels[:, :, None, None].expand(count, slots, *size))
    learned = torch.sigmoid(chosen) * F.interpolate(hard, size=size, mode="nearest")
    share = torch.sigmoid(alpha).expand(count, -1, 1).gather(1, labels[:, :, None])[..., None]
    resized = F.interpolate(placed, size=size, mode="bilinear", align_corners=False)
    return (1 - share) * resized + share * learned


def discriminator(
    state: State,
    resolution: int,
    images: Tensor,
    labels: Tensor,
    boxes: Tensor,
    training: bool = False,
) -> tuple[Tensor, Tensor]:
    """Image scores [B, 1] and scores [n, 1] of the objects with label > 0, in input order."""
    net = Net(state, training)
    maps, x = {}, images
    stages = sorted(
        {
            int(key[5 : key.index(".")])
            for key in state
            if key.startswith("block") and key[5].isdigit()
        }
    )
    for stage in stages:
        x = _d_block(net, f"block{stage}", x, stage in _D_POOLS[resolution], first=stage == 1)
        maps[stage] = x
    pooled = F.relu(x).mean((2, 3)) if resolution == 64 else F.relu(x).sum((2, 3))
    image_scores = net.sn_linear(pooled, _D_HEAD[resolution])

    corners = torch.cat([boxes[..., :2], boxes[..., :2] + boxes[..., 2:]], -1) * resolution
    index = torch.arange(len(labels), dtype=boxes.dtype, device=boxes.device)[:, None, None].expand(
        *labels.shape, 1
    )
    kept = labels.reshape(-1) > 0
    rois, classes = torch.cat([index, corners], -1).view(-1, 5)[kept], labels.reshape(-1)[kept]
    if resolution == 64:
        regions = roi_align(maps[3], rois, 8, 1 / 2, 0)
        order, last = torch.arange(len(rois), device=rois.device), "block_obj4"
    else:
        regions, order = _two_scales(net, resolution, maps, rois)
        last = "block_obj5" if resolution == 128 else "block_obj6"
    vectors = F.relu(_d_block(net, last, regions, pool=True)).sum((2, 3))
    projected = (F.embedding(classes[order], net.normed("l_y", 1e-12)) * vectors).sum(
        1, keepdim=True
    )
    scores = net.sn_linear(vectors, "l_obj") + projected
    return image_scores, scores[order.argsort()]


def _two_scales(
    net: Net, resolution: int, maps: dict[int, Tensor], rois: Tensor
) -> tuple[Tensor, Tensor]:
    """Regions of large objects from a coarse map, then of small ones from a fine one, and their
    input indices.
    """
    fine, coarse = (maps[2], maps[3]) if resolution == 128 else (maps[3], maps[4])
    own, shared = (
        ("block_obj3", "block_obj4") if resolution == 128 else ("block_obj4", "block_obj5")
    )
    scale = 1 / 4 if resolution == 128 else 1 / 8
    limit = _D_LARGE[resolution]
    small = (rois[:, 3] - rois[:, 1] < limit) & (rois[:, 4] - rois[:, 2] < limit)
    fine = _d_block(net, shared, _d_block(net, own, fine, pool=False), pool=False)
    of_small = roi_align(fine, rois[small], 8, scale, 0)
    coarse = _d_block(net, shared, coarse, pool=False)
    of_large = roi_align(coarse, rois[~small], 8, scale / 2, 0)
    order = torch.cat([(~small).nonzero()[:, 0], small.nonzero()[:, 0]])
    return torch.cat([of_large, of_small]), order


def _d_block(net: Net, name: str, x: Tensor, pool: bool, first: bool = False) -> Tensor:
    """[B, C, S, S] -> [B, C', S, S] or half the side."""
    main = net.sn_conv(x if first else F.relu(x), f"{name}.conv1")
    main = net.sn_conv(F.relu(main), f"{name}.conv2")
    main = F.avg_pool2d(main, 2) if pool else main
    if first and pool:
        return main + net.sn_conv(F.avg_pool2d(x, 2), f"{name}.c_sc")
    skip = net.sn_conv(x, f"{name}.c_sc") if net.has(f"{name}.c_sc.") else x
    return main + (F.avg_pool2d(skip, 2) if pool else skip)


@dataclass(frozen=True)
class Training:
    """Both networks' states and two plain Adams.

    `step` is one iteration of the published loop without its VGG term.
    """

    version: int
    resolution: int
    g: State
    d: State
    adam_g: torch.optim.Optimizer
    adam_d: torch.optim.Optimizer

    @staticmethod
    def of(version: int, resolution: int, g: State, d: State) -> Training:
        """Copy both states and make their parameters trainable."""
        g, d = trainable(g), trainable(d)
        adams = [
            torch.optim.Adam(
                [t for t in state.values() if t.requires_grad], lr=1e-4, betas=(0.0, 0.999)
            )
            for state in (g, d)
        ]
        return Training(version, resolution, g, d, *adams)

    def step(
        self,
        images: Tensor,
        labels: Tensor,
        boxes: Tensor,
        z_image: Tensor,
        z_objects: Tensor,
        dropout: float = 0.1,
    ) -> dict[str, Tensor]:
        """Real images [B, 3, R, R] in [-1, 1] with their layouts -> the unweighted terms of both
        losses, and the fakes.
        """
        self.adam_d.zero_grad()
        real_image, real_object = self._scores(images, labels, boxes)
        given = (labels, boxes, z_image, z_objects)
        fake = generator(
            self.g, self.version, self.resolution, *given, training=True, dropout=dropout
        )
        fake_image, fake_object = self._scores(fake.detach(), labels, boxes)
        terms = {
            "d_img_real": F.relu(1 - real_image).mean(),
            "d_obj_real": F.relu(1 - real_object).mean(),
            "d_img_fake": F.relu(1 + fake_image).mean(),
            "d_obj_fake": F.relu(1 + fake_object).mean(),
        }
        loss = (
            terms["d_obj_real"]
            + terms["d_obj_fake"]
            + 0.1 * (terms["d_img_real"] + terms["d_img_fake"])
        )
        torch.autograd.backward(loss)
        self.adam_d.step()

        self.adam_g.zero_grad()
        fake_image, fake_object = self._scores(fake, labels, boxes)
        terms |= {
            "g_img": -fake_image.mean(),
            "g_obj": -fake_object.mean(),
            "l1": F.l1_loss(fake, images),
        }
        torch.autograd.backward(terms["g_obj"] + 0.1 * terms["g_img"] + terms["l1"])
        self.adam_g.step()
        return {name: value.detach() for name, value in terms.items()} | {"fake": fake.detach()}

    def _scores(self, images: Tensor, labels: Tensor, boxes: Tensor) -> tuple[Tensor, Tensor]:
        return discriminator(self.d, self.resolution, images, labels, boxes, training=True)


def trainable(state: State) -> State:
    """Copy a state so that its parameters, not its buffers, get gradients."""
    buffers = ("weight_u", "weight_v", "running_mean", "running_var", "num_batches_tracked")
    return {k: v.detach().clone().requires_grad_(not k.endswith(buffers)) for k, v in state.items()}


def power_iterated(state: State, rounds: int = 20) -> State:
    """Give every spectral norm of a state its singular vectors.

    Changes the state and returns it.
    """
    for key in [k for k in state if k.endswith("weight_orig")]:
        base = key[: -len("weight_orig")]
        matrix = state[key].detach().double().flatten(1)
        u = state[base + "weight_u"].double()
        for _ in range(rounds):
            v = F.normalize(matrix.t() @ u, dim=0)
            u = F.normalize(matrix @ v, dim=0)
        state[base + "weight_u"], state[base + "weight_v"] = u.float(), v.float()
    return state
