"""LostGAN-V2: layout to mask to image (Sun & Wu, "Learning Layout and Style Reconfigurable GANs", 2021).

Top to bottom: Config, mask networks, ISLA-Norm, generator, discriminators, losses, build and trainee. Equation numbers are
the paper's. Where the published code differs from the paper we follow the code, whose numbers the paper reports
(docs/lostgan.md lists the differences). Parameter names are those of the official checkpoints.

Legend: B images, O object slots, K label rows (row 0 is background and padding), C channels, S side of a feature map,
R image side, Z width of a latent code, D_w width of the joint label and style code.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from generators.base import Layouts, Synthesis, TrainingBatch
from generators.layers import (
    BatchNorm2d,
    SNConv2d,
    SNEmbedding,
    SNLinear,
    inside_boxes,
    orthogonal_init,
    place_masks,
    resize,
    roi_features,
    upsample2,
)
from generators.losses import hinge_fake, hinge_real

CANVAS = 64  # side of the canvas masks are placed on, whatever the resolution (specs: section 4.2)

# multiples of the base width at the input of each residual block and at the end; 64 is ours, the others are published
WIDTHS = {64: (16, 8, 4, 2, 1), 128: (16, 16, 8, 4, 2, 1), 256: (16, 16, 8, 8, 4, 2, 1)}
PSP_STAGE = {128: 4}  # the one stage whose mask head is a pyramid (only in the published 128 model)


@dataclass(frozen=True)
class Config:
    """Sizes and loss weights; the defaults are the published 128 model."""

    resolution: int = 128  # 64, 128 or 256 pixels, square
    width: int = 64  # base number of channels of G
    width_d: int = 0  # base number of channels of D; 0 = width
    early_pool: bool = False  # D halves the image in its first block instead of its third: ours, for 64 pixels on a CPU
    z_image: int = 128  # length of z_img
    z_object: int = 128  # length of each z_obj
    embedding: int = 180  # length of a label embedding
    mask_hidden: int = 100  # channels inside a ToMask head
    background: bool = False  # add a whole-image object of label 0, as in the Visual Genome model
    align_corners: bool = True  # how masks are placed; True is what official checkpoints were trained with
    lambda_image: float = 0.1  # weight of the image terms (eq. 13)
    lambda_object: float = 1.0  # weight of the object terms
    lambda_l1: float = 1.0  # weight of the reconstruction term (eq. 11)
    weigh_scores: bool = True  # eq. 15; False trusts every pseudo-label fully (setting ii of Table 5)
    joint_pass: bool = False  # real and fake in one discriminator pass: faster, one power iteration fewer per step

    def __post_init__(self) -> None:
        if self.resolution not in WIDTHS:
            raise ValueError(f"resolution: {self.resolution} is not one of {sorted(WIDTHS)}")
        for name in ("width", "z_image", "z_object", "embedding", "mask_hidden"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name}: {getattr(self, name)} is not positive")
        if self.early_pool and self.resolution != 64:
            raise ValueError("early_pool: only the 64 pixel discriminator has it; the others pool early already")
        for name in ("width_d", "lambda_image", "lambda_object", "lambda_l1"):
            if getattr(self, name) < 0:
                raise ValueError(f"{name}: {getattr(self, name)} is negative")


class MaskRegression(nn.Module):
    """Component (iii): the joint code of one object to its 16 x 16 mask."""

    def __init__(self, code: int, channels: int) -> None:
        super().__init__()
        self.channels = channels
        self.fc = SNLinear(code, channels * 16)

        def stage(*head: nn.Module) -> nn.Sequential:
            norm = nn.InstanceNorm2d(channels)
            return nn.Sequential(SNConv2d(channels, channels, 3, eps=1e-12), norm, nn.ReLU(), *head)

        self.conv1 = stage()
        self.conv2 = stage()
        self.conv3 = stage(SNConv2d(channels, 1, 1, eps=1e-12))

    def forward(self, code: Tensor) -> Tensor:
        """[B, O, D_w] -> soft masks [B, O, 16, 16]."""
        batch, slots, _ = code.shape
        x = self.fc(code.flatten(0, 1)).view(-1, self.channels, 4, 4)
        x = resize(self.conv1(x), 8)
        x = resize(self.conv2(x), 16)
        return torch.sigmoid(self.conv3(x)).view(batch, slots, 16, 16)


class PyramidHead(nn.Module):
    """Pyramid pooling before the class logits, in the mask head of one stage of the 128 model."""

    def __init__(self, channels: int, hidden: int) -> None:
        super().__init__()
        self.stages = nn.ModuleList(
            nn.Sequential(
                nn.AdaptiveAvgPool2d(k), nn.Conv2d(channels, hidden, 1, bias=False), nn.BatchNorm2d(hidden), nn.ReLU()
            )
            for k in (1, 2, 3, 6)
        )
        wide = channels + 4 * hidden
        conv = nn.Conv2d(wide, hidden, 3, padding=1, bias=False)
        self.bottleneck = nn.Sequential(conv, BatchNorm2d(hidden), nn.ReLU(), nn.Dropout2d(0.1))

    def forward(self, x: Tensor) -> Tensor:
        """[B, C, S, S] -> [B, hidden, S, S]."""
        size = x.shape[-2:]
        parts = [F.interpolate(s(x), size=size, mode="bilinear", align_corners=True) for s in self.stages]
        out: Tensor = self.bottleneck(torch.cat([*parts, x], 1))
        return out


def to_mask(channels: int, hidden: int, labels: int, pyramid: bool) -> nn.Sequential:
    """Component (iv): class logits [B, K, S, S] from a block's output [B, C, S, S]."""
    if pyramid:
        return nn.Sequential(PyramidHead(channels, hidden), nn.Conv2d(hidden, labels, 1))
    first = nn.Conv2d(channels, hidden, 3, padding=1)
    return nn.Sequential(first, BatchNorm2d(hidden), nn.ReLU(), nn.Conv2d(hidden, labels, 1))


class IslaNorm(nn.Module):
    """Instance-sensitive and layout-aware normalisation (eqs. 2, 4, 7-9)."""

    def __init__(self, channels: int, code: int) -> None:
        super().__init__()
        self.weight_proj = SNLinear(code, channels)
        self.bias_proj = SNLinear(code, channels)
        self.batch_norm2d = BatchNorm2d(channels, affine=False)

    def forward(self, x: Tensor, code: Tensor, shares: Tensor) -> Tensor:
        """x [B, C, S, S], code [B, O, D_w], shares [B, O, S, S] (masks divided by their sum) -> [B, C, S, S].

        The per-object affine parameters (eq. 7) are spread over the pixels (eqs. 8-9) by one matrix product, so no
        (B, O, C, S, S) tensor is ever made.
        """
        batch, channels, height, width = x.shape
        affine = torch.cat([self.weight_proj(code), self.bias_proj(code)], -1)  # [B, O, 2 C]
        maps = torch.bmm(affine.transpose(1, 2), shares.flatten(2).to(affine.dtype))  # [B, 2 C, S S]
        gamma, beta = maps.view(batch, 2 * channels, height, width).chunk(2, 1)
        return torch.addcmul(beta, self.batch_norm2d(x), 1 + gamma)


def mask_shares(masks: Tensor, side: int) -> Tensor:
    """Masks [B, O, S, S] at another side, divided by their sum over objects (the M of eqs. 8-9)."""
    at_side = resize(masks, side)
    return at_side / (at_side.sum(1, keepdim=True) + 1e-6)


class GeneratorBlock(nn.Module):
    """Residual block that doubles the side (Fig. 3)."""

    def __init__(self, channels_in: int, channels_out: int, code: int, head: nn.Module | None) -> None:
        super().__init__()
        self.conv1 = SNConv2d(channels_in, channels_out, 3)
        self.conv2 = SNConv2d(channels_out, channels_out, 3)
        self.b1 = IslaNorm(channels_in, code)
        self.b2 = IslaNorm(channels_out, code)
        self.c_sc = SNConv2d(channels_in, channels_out, 1)
        if head is not None:
            self.conv_mask = head

    def forward(self, x: Tensor, code: Tensor, masks: Tensor) -> Tensor:
        """x [B, C, S, S], masks [B, O, any, any] -> [B, C', 2 S, 2 S]."""
        side = x.shape[-1]
        main = F.relu(self.b1(x, code, mask_shares(masks, side)))
        main = self.conv1(upsample2(main))
        main = F.relu(self.b2(main, code, mask_shares(masks, 2 * side)))
        # a 1 x 1 convolution commutes with repeating pixels, and costs a quarter before it
        out: Tensor = self.conv2(main) + upsample2(self.c_sc(x))
        return out


class LostGanGenerator(nn.Module):
    """G of eq. 1 in its second version: `forward` is differentiable, `__call__` of LostGan produces."""

    def __init__(self, config: Config, labels: int) -> None:
        super().__init__()
        self.config = config
        widths = [config.width * w for w in WIDTHS[config.resolution]]
        code = config.z_object + config.embedding
        self.label_embedding = nn.Embedding(labels, config.embedding)
        self.fc = SNLinear(config.z_image, widths[0] * 16)
        self.num_blocks = len(widths) - 1
        for t in range(1, self.num_blocks + 1):
            head = None
            if t < self.num_blocks:
                pyramid = PSP_STAGE.get(config.resolution) == t
                head = to_mask(widths[t], config.mask_hidden, labels, pyramid)
                self.register_parameter(f"alpha{t}", nn.Parameter(torch.zeros(1, labels, 1)))
            self.add_module(f"res{t}", GeneratorBlock(widths[t - 1], widths[t], code, head))
        rgb = SNConv2d(widths[-1], 3, 3)
        self.final = nn.Sequential(BatchNorm2d(widths[-1]), nn.ReLU(), rgb, nn.Tanh())
        self.mask_regress = MaskRegression(code, 4 * config.width)
        orthogonal_init(self)

    def forward(self, layouts: Layouts, z_image: Tensor, z_objects: Tensor) -> tuple[Tensor, Tensor]:
        """z_image [B, Z], z_objects [B, O, Z] -> images [B, 3, R, R] in [-1, 1], last masks [B, O, R/2, R/2]."""
        labels, boxes = layouts.labels, layouts.boxes
        code = torch.cat([z_objects, self.label_embedding(labels)], -1)  # eq. 6, z first: [B, O, D_w]
        placed = place_masks(self.mask_regress(code), boxes, CANVAS, self.config.align_corners)  # M^S [B, O, 64, 64]
        hard = inside_boxes(boxes, self.config.resolution // 2)  # [B, O, R/2, R/2]
        x = self.fc(z_image).view(len(labels), -1, 4, 4)
        masks = placed
        for t in range(1, self.num_blocks + 1):
            block = self.get_submodule(f"res{t}")
            assert isinstance(block, GeneratorBlock)
            x = block(x, code, masks)
            if t < self.num_blocks:
                masks = self._refine(t, block.conv_mask(x), placed, hard, labels)
        return self.final(x), masks

    def _refine(self, t: int, logits: Tensor, placed: Tensor, hard: Tensor, labels: Tensor) -> Tensor:
        """Component (iv): M = (1 - a) M^S + a M^F with one learnable weight a per class and stage; [B, O, S, S]."""
        side = logits.shape[-1]
        chosen = logits.gather(1, labels[:, :, None, None].expand(-1, -1, side, side))  # [B, O, S, S]
        pick = (torch.arange(side, device=hard.device) * hard.shape[-1]) // side  # top-left sample of each cell
        from_features = torch.sigmoid(chosen) * hard[:, :, pick][:, :, :, pick]
        alpha = torch.sigmoid(self.get_parameter(f"alpha{t}"))[0, :, 0][labels][:, :, None, None]
        return (1 - alpha) * resize(placed, side) + alpha * from_features


class DiscriminatorBlock(nn.Module):
    """Residual block of D, optionally halving the side."""

    def __init__(self, channels_in: int, channels_out: int, pool: bool, first: bool = False) -> None:
        super().__init__()
        self.conv1 = SNConv2d(channels_in, channels_out, 3)
        self.conv2 = SNConv2d(channels_out, channels_out, 3)
        if pool or first or channels_in != channels_out:
            self.c_sc = SNConv2d(channels_in, channels_out, 1)
        self.pool, self.first = pool, first

    def forward(self, x: Tensor) -> Tensor:
        """[B, C, S, S] -> [B, C', S, S] or half of it."""
        main = self.conv2(F.relu(self.conv1(x if self.first else F.relu(x))))
        # pooling and a 1 x 1 convolution commute; pooling first costs a quarter
        skip = F.avg_pool2d(x, 2) if self.pool else x
        skip = self.c_sc(skip) if hasattr(self, "c_sc") else skip
        return (F.avg_pool2d(main, 2) if self.pool else main) + skip


class Discriminator(nn.Module):
    """D of eq. 10: an image score and a score per object, from RoI-aligned features and a label projection."""

    def __init__(self, resolution: int, width: int, labels: int, early_pool: bool = False) -> None:
        super().__init__()
        self.resolution = resolution
        c = [3] + [width * m for m in _D_WIDTHS[resolution]]
        pools = (True, False, False, True, True) if early_pool else _D_POOLS[resolution]
        self.num_blocks = len(pools)
        for i, pool in enumerate(pools, start=1):
            self.add_module(f"block{i}", DiscriminatorBlock(c[i - 1], c[i], pool, first=i == 1))
        self.image_head = {64: "l_im", 128: "l7", 256: "l8"}[resolution]
        self.add_module(self.image_head, SNLinear(c[-1], 1))
        self.tap, names, channels = _OBJECT_PATH[resolution]
        for name, (a, b, pool) in zip(names, channels, strict=True):
            self.add_module(name, DiscriminatorBlock(a * width, b * width, pool))
        self.object_blocks = names
        feature = channels[-1][1] * width
        self.l_obj = SNLinear(feature, 1)
        self.l_y = SNEmbedding(labels, feature)
        if resolution == 64:  # only the 64 model is initialised orthogonally in the published code
            orthogonal_init(self)

    def forward(self, images: Tensor, layouts: Layouts) -> tuple[Tensor, Tensor]:
        """images [B, 3, R, R] -> image scores [B], scores [n] of the n objects with label > 0, in input order."""
        maps = []
        x = images
        for i in range(1, self.num_blocks + 1):
            x = self.get_submodule(f"block{i}")(x)
            maps.append(x)
        pooled = F.relu(x).sum((2, 3)) if self.resolution > 64 else F.relu(x).mean((2, 3))
        image_scores = self.get_submodule(self.image_head)(pooled)[:, 0]

        keep = layouts.labels > 0
        index = keep.nonzero()[:, :1].to(images.dtype)  # [n, 1] image of each object
        rois = torch.cat([index, layouts.boxes[keep] * self.resolution], 1)  # [n, 5] xyxy pixels
        features = F.relu(self._object_features(maps, rois)).sum((2, 3))  # [n, F]
        projection = (self.l_y(layouts.labels[keep]) * features).sum(1)
        return image_scores, self.l_obj(features)[:, 0] + projection

    def _object_features(self, maps: list[Tensor], rois: Tensor) -> Tensor:
        """RoI features [n, F, 4, 4]; above 64 pixels small objects are read from a finer map than large ones."""
        blocks = [self.get_submodule(name) for name in self.object_blocks]
        if self.resolution == 64:
            out: Tensor = blocks[0](roi_features(maps[self.tap], rois, 8, 1 / 2))
            return out
        finer, shared, last = blocks
        scale = maps[self.tap].shape[-1] / self.resolution
        size = rois[:, 3:] - rois[:, 1:3]
        small = (size < self.resolution // 2).all(1)
        near = roi_features(shared(finer(maps[self.tap])), rois[small], 8, scale)
        far = roi_features(shared(maps[self.tap + 1]), rois[~small], 8, scale / 2)
        both = near.new_empty(len(rois), *near.shape[1:])
        both[small], both[~small] = near, far.to(near.dtype)
        result: Tensor = last(both)
        return result


_D_WIDTHS = {64: (1, 2, 4, 8, 16), 128: (1, 2, 4, 8, 16, 16), 256: (1, 2, 4, 8, 8, 16, 16)}
_D_POOLS = {
    64: (False, False, True, True, True),
    128: (True, True, True, True, True, False),
    256: (True, True, True, True, True, True, False),
}
# per resolution: index of the first tapped map, names of the object blocks, their (in, out, pool) in multiples of the width
_OBJECT_PATH: dict[int, tuple[int, tuple[str, ...], tuple[tuple[int, int, bool], ...]]] = {
    64: (2, ("block_obj4",), ((4, 8, True),)),
    128: (1, ("block_obj3", "block_obj4", "block_obj5"), ((2, 4, False), (4, 8, False), (8, 16, True))),
    256: (2, ("block_obj4", "block_obj5", "block_obj6"), ((4, 8, False), (8, 8, False), (8, 16, True))),
}


class LostGanTrainee:
    """G, D and their losses (eqs. 11-15)."""

    def __init__(self, config: Config, labels: int) -> None:
        self.config = config
        self.networks: Mapping[str, nn.Module] = {
            "G": LostGanGenerator(config, labels),
            "D": Discriminator(config.resolution, config.width_d or config.width, labels, config.early_pool),
        }

    def forward(self, batch: TrainingBatch, rng: torch.Generator) -> Tensor:
        """Fake images [B, 3, R, R] for the layouts of the batch, latents from N(0, I)."""
        layouts = with_background(batch.layouts) if self.config.background else batch.layouts
        count, slots = layouts.labels.shape
        z_image = torch.randn(count, self.config.z_image, generator=rng).to(batch.images.device)
        z_objects = torch.randn(count, slots, self.config.z_object, generator=rng).to(batch.images.device)
        images: Tensor = self.networks["G"](layouts, z_image, z_objects)[0]
        return images

    def discriminator_losses(self, batch: TrainingBatch, fake: Tensor) -> dict[str, Tensor]:
        """Eq. 14 with the object terms weighed by the detection scores of pseudo-labelled objects (eq. 15)."""
        d, layouts = self.networks["D"], batch.layouts
        if self.config.joint_pass:
            both = Layouts(*(torch.cat([t, t]) for t in (layouts.labels, layouts.boxes, layouts.scores)))
            image, objects = d(torch.cat([batch.images, fake]), both)
            (real_image, fake_image), (real_obj, fake_obj) = image.chunk(2), objects.chunk(2)
        else:
            real_image, real_obj = d(batch.images, layouts)
            fake_image, fake_obj = d(fake, layouts)
        weights = layouts.scores[layouts.labels > 0] if self.config.weigh_scores else None
        objects_loss = hinge_real(real_obj, weights) + hinge_fake(fake_obj, weights)
        image_loss = hinge_real(real_image) + hinge_fake(fake_image)
        return {"d_object": self.config.lambda_object * objects_loss, "d_image": self.config.lambda_image * image_loss}

    def generator_losses(self, batch: TrainingBatch, fake: Tensor) -> dict[str, Tensor]:
        """Eq. 11 without the perceptual term."""
        image, objects = self.networks["D"](fake, batch.layouts)
        object_mean = objects.mean() if len(objects) else objects.sum()
        return {
            "g_object": -self.config.lambda_object * object_mean,
            "g_image": -self.config.lambda_image * image.mean(),
            "g_l1": self.config.lambda_l1 * F.l1_loss(fake.float(), batch.images),
        }


def with_background(layouts: Layouts) -> Layouts:
    """Append a whole-image object of label 0 ("Handling Background", section 2.2.2)."""
    count = len(layouts)
    whole = layouts.boxes.new_tensor([0, 0, 1, 1]).expand(count, 1, 4)
    return Layouts(
        torch.cat([layouts.labels, layouts.labels.new_zeros(count, 1)], 1),
        torch.cat([layouts.boxes, whole], 1),
        torch.cat([layouts.scores, layouts.scores.new_ones(count, 1)], 1),
    )


def draw_latents(config: Config, slots: int, seed: int, truncation: float) -> tuple[Tensor, Tensor]:
    """z_img [Z] and z_obj [slots, Z] of one image; elements over `truncation` are redrawn (0 = none are).

    Slot i draws the same whatever comes after it.
    """
    rng = torch.Generator().manual_seed(seed)

    def draw(width: int) -> Tensor:
        z = torch.randn(width, generator=rng)
        while truncation and bool((outside := z.abs() > truncation).any()):
            z[outside] = torch.randn(int(outside.sum()), generator=rng)
        return z

    z_image = draw(config.z_image)
    return z_image, torch.stack([draw(config.z_object) for _ in range(slots)])


class LostGan:
    """A trained generator, ready to produce (generators.base.Generator)."""

    def __init__(self, network: LostGanGenerator, device: torch.device | str, truncation: float) -> None:
        self.network = network.eval().to(device)
        self.truncation = truncation
        self.config = network.config
        self.device = device
        self.resolution = (network.config.resolution, network.config.resolution)

    @torch.inference_mode()
    def __call__(self, layouts: Layouts, seeds: Sequence[int]) -> Synthesis:
        """One uint8 image and one soft mask per object slot."""
        slots = layouts.labels.shape[1]
        # the background's latents are drawn first, so that they do not depend on how many objects there are
        extra = int(self.config.background)
        drawn = [draw_latents(self.config, slots + extra, seed, self.truncation) for seed in seeds]
        z_image = torch.stack([z for z, _ in drawn]).to(self.device)
        z_objects = torch.stack([z.roll(-extra, 0) for _, z in drawn]).to(self.device)
        layouts = layouts.to(self.device)
        given = with_background(layouts) if extra else layouts
        images, masks = self.network(given, z_image, z_objects)
        full = resize(masks, self.config.resolution).float().cpu().numpy().astype(np.float32)  # [B, O (+1), R, R]
        pixels = ((images.float() + 1) * 127.5).round().clamp(0, 255).to(torch.uint8)
        return Synthesis(
            images=np.ascontiguousarray(pixels.permute(0, 2, 3, 1).cpu().numpy()),
            masks=full[:, :slots],  # without the background's own
        )


def build(config: Config, num_classes: int) -> LostGanGenerator:
    """Return a fresh network for a number of classes; row 0 of its labels is the background."""
    return LostGanGenerator(config, num_classes + 1)


def producer(network: nn.Module, device: torch.device | str = "cpu", truncation: float = 2.0) -> LostGan:
    """Wrap a trained network for production; latents are truncated at 2 like the published samples, unless told else."""
    assert isinstance(network, LostGanGenerator)
    return LostGan(network, device, truncation)


def trainee(config: Config, num_classes: int) -> LostGanTrainee:
    """Return G, D and losses for training."""
    return LostGanTrainee(config, num_classes + 1)
