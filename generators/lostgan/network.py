"""LostGAN, versions 1 and 2: layout to mask to image.

Sun & Wu, "Learning Layout and Style Reconfigurable GANs", 2021.

Top to bottom: norms, generator, objective. Equation and section numbers are the paper's. Where the
published code differs from the paper we follow the code, whose numbers the paper reports
(docs/lostgan.md lists the differences). Parameter names are those of the official checkpoints.
Config, mask networks, discriminator, sampler and fast form have files of their own.

Legend: B images, O object slots, K label rows (row 0 is background and padding), C channels, S side
of a feature map, R image side, Z width of a latent code, D_w width of the joint label and style
code.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from synthaug.generators.base import Layouts, TrainingBatch
from synthaug.generators.lostgan.config import PSP_STAGE, WIDTHS
from synthaug.generators.lostgan.config import Config as Config
from synthaug.generators.lostgan.discriminator import Discriminator
from synthaug.generators.lostgan.masks import MaskRegression, to_mask
from synthaug.generators.nn.layers import (
    BatchNorm2d,
    SNConv2d,
    SNLinear,
    inside_boxes,
    orthogonal_init,
    place_masks,
    resize,
    upsample2,
)
from synthaug.generators.nn.perceptual import perceptual_loss
from synthaug.generators.training.adversarial import Fakes
from synthaug.generators.training.losses import Loss, hinge_fake, hinge_real

CANVAS = (
    64  # side of the canvas masks are placed on, whatever the resolution, as in the published code
)


class IslaNorm(nn.Module):
    """Instance-sensitive and layout-aware normalisation (eqs. 2, 4, 7-9)."""

    def __init__(self, channels: int, code: int) -> None:
        super().__init__()
        self.weight_proj = SNLinear(code, channels)
        self.bias_proj = SNLinear(code, channels)
        self.batch_norm2d = BatchNorm2d(channels, affine=False)

    def forward(self, x: Tensor, masks: Tensor, code: Tensor, _labels: Tensor) -> Tensor:
        """x [B, C, S, S], masks [B, O, any, any], code [B, O, D_w] -> [B, C, S, S].

        The per-object affine parameters (eq. 7) are spread over the pixels (eqs. 8-9) by one matrix
        product, so no (B, O, C, S, S) tensor is ever made.
        """
        batch, channels, height, width = x.shape
        gammas = self.weight_proj(code)
        betas = self.bias_proj(code)
        affine = torch.cat([gammas, betas], -1)  # [B, O, 2 C]
        shares = mask_shares(masks, width).flatten(2)  # [B, O, S S]
        shares = shares.to(affine.dtype)
        maps = torch.bmm(affine.transpose(1, 2), shares)  # [B, 2 C, S S]
        maps = maps.view(batch, 2 * channels, height, width)
        gamma, beta = maps.chunk(2, 1)
        normed = self.batch_norm2d(x)
        return torch.addcmul(beta, normed, 1 + gamma)


def mask_shares(masks: Tensor, side: int) -> Tensor:
    """Return masks [B, O, S, S] at another side, over their sum over objects.

    The M of eqs. 8-9.
    """
    at_side = resize(masks, side)
    total = at_side.sum(1, keepdim=True)
    return at_side / (total + 1e-6)


class SpadeNorm(nn.Module):
    """SPADE in the place of ISLA-Norm (section 2.2.3, Table 6).

    A label map made of the masks, through convolutions.

    The paper does not say how masks become a label map; ours has one channel per label row, which
    at each pixel is the highest mask value among the objects of that label.
    """

    def __init__(self, channels: int, labels: int, hidden: int) -> None:
        super().__init__()
        self.labels = labels
        first = nn.Conv2d(labels, hidden, 3, padding=1)
        self.mlp_shared = nn.Sequential(first, nn.ReLU())
        self.mlp_gamma = nn.Conv2d(hidden, channels, 3, padding=1)
        self.mlp_beta = nn.Conv2d(hidden, channels, 3, padding=1)
        self.batch_norm2d = BatchNorm2d(channels, affine=False)

    def forward(self, x: Tensor, masks: Tensor, _code: Tensor, labels: Tensor) -> Tensor:
        """x [B, C, S, S], masks [B, O, any, any], labels [B, O] -> [B, C, S, S]."""
        at_side = resize(masks, x.shape[-1])  # [B, O, S, S]
        rows = labels[:, :, None, None].expand_as(at_side)
        shape = (len(x), self.labels, *at_side.shape[2:])
        empty = at_side.new_zeros(shape)  # [B, K, S, S]
        label_map = empty.scatter_reduce(1, rows, at_side, "amax")
        hidden = self.mlp_shared(label_map)
        gamma = self.mlp_gamma(hidden)
        beta = self.mlp_beta(hidden)
        normed = self.batch_norm2d(x)
        return torch.addcmul(beta, normed, 1 + gamma)


class GeneratorBlock(nn.Module):
    """Residual block that doubles the side (Fig. 3)."""

    def __init__(
        self, channels_in: int, channels_out: int, norms: tuple[nn.Module, nn.Module]
    ) -> None:
        super().__init__()
        self.conv1 = SNConv2d(channels_in, channels_out, 3)
        self.conv2 = SNConv2d(channels_out, channels_out, 3)
        self.b1, self.b2 = norms
        self.c_sc = SNConv2d(channels_in, channels_out, 1)

    def forward(self, x: Tensor, masks: Tensor, code: Tensor, labels: Tensor) -> Tensor:
        """Map x [B, C, S, S] to [B, C', 2 S, 2 S].

        With masks [B, O, any, any], code [B, O, D_w] and labels [B, O].
        """
        main = self.b1(x, masks, code, labels)
        main = upsample2(F.relu(main))
        main = self.conv1(main)
        main = self.b2(main, masks, code, labels)
        main = self.conv2(F.relu(main))
        # a 1 x 1 convolution commutes with repeating pixels, and costs a quarter before it
        out: Tensor = main + upsample2(self.c_sc(x))
        return out


class LostGanGenerator(nn.Module):
    """G of eq. 1: `forward` is differentiable; the sampler is in sampler.py."""

    def __init__(self, config: Config, labels: int) -> None:
        super().__init__()
        self.config = config
        widths = [config.width * multiple for multiple in WIDTHS[config.resolution]]
        code = config.z_object + config.embedding
        self.label_embedding = nn.Embedding(labels, config.embedding)
        self.fc = SNLinear(config.z_image, widths[0] * 16)
        # the published 64 pixel model counts its blocks from 2
        first = 1
        if config.version == 1 and config.resolution == 64:
            first = 2
        self.names = range(first, first + len(widths) - 1)
        can_refine = range(0)
        if config.version == 2:
            can_refine = self.names[:-1]
        self.refined = can_refine
        if config.refine_stages >= 0:
            self.refined = can_refine[: config.refine_stages]
        mask_labels = config.mask_labels or labels
        pairs = zip(self.names, widths, widths[1:], strict=False)
        for t, wide, narrow in pairs:
            norm_1 = make_norm(config, wide, labels)
            norm_2 = make_norm(config, narrow, labels)
            norms = (norm_1, norm_2)
            block = GeneratorBlock(wide, narrow, norms)
            if t in can_refine:
                pyramid = PSP_STAGE.get(config.resolution) == t
                block.conv_mask = to_mask(narrow, config.mask_hidden, mask_labels, pyramid)
                alpha = nn.Parameter(torch.zeros(1, mask_labels, 1))
                self.register_parameter(f"alpha{t}", alpha)
            self.add_module(f"res{t}", block)
        last = widths[-1]
        rgb = SNConv2d(last, 3, 3)
        self.final = nn.Sequential(BatchNorm2d(last), nn.ReLU(), rgb, nn.Tanh())
        if config.layout_to_mask:
            channels = 4 * config.width
            if config.version == 1:
                channels = 2 * config.width
            self.mask_regress = MaskRegression(code, channels, config.version)
        orthogonal_init(self)

    def forward(
        self, layouts: Layouts, z_image: Tensor, z_objects: Tensor
    ) -> tuple[Tensor, tuple[Tensor, ...]]:
        """Return images [B, 3, R, R] in [-1, 1] and the mask stacks m_0, m_1, ...

        Of z_image [B, Z] and z_objects [B, O, Z].

        m_0 is [B, O, 64, 64]; m_t [B, O, S, S] has the side of what block t made. Stages that are
        not refined go on with the last refined masks, so version 1 returns m_0 only.
        """
        labels = layouts.labels
        boxes = layouts.boxes
        # eq. 6, z first: [B, O, D_w]
        embedded = self.label_embedding(labels)
        code = torch.cat([z_objects, embedded], -1)
        placed = self._place(code, boxes)  # M^S [B, O, 64, 64]
        inside = inside_boxes(boxes, self.config.resolution // 2)  # [B, O, R/2, R/2]
        flat = self.fc(z_image)
        x = flat.view(len(labels), -1, 4, 4)
        stacks = [placed]
        for t in self.names:
            block = self.get_submodule(f"res{t}")
            x = block(x, stacks[-1], code, labels)
            if t in self.refined:
                logits = block.get_submodule("conv_mask")(x)
                refined = self._refine(t, logits, placed, inside, labels)
                stacks.append(refined)
        return self.final(x), tuple(stacks)

    def _place(self, code: Tensor, boxes: Tensor) -> Tensor:
        """Return M^S: the mask of each object in its box on the canvas [B, O, 64, 64]."""
        if not self.config.layout_to_mask:
            return inside_boxes(boxes, CANVAS)
        masks = self.mask_regress(code)
        placed = place_masks(masks, boxes, CANVAS, self.config.align_corners)
        if self.config.clip_masks:
            placed = placed * inside_boxes(boxes, CANVAS)
        return placed

    def _refine(
        self, t: int, logits: Tensor, placed: Tensor, inside: Tensor, labels: Tensor
    ) -> Tensor:
        """Refine masks [B, O, S, S]: M = (1 - a) M^S + a M^F (component iv).

        With one learnable weight a per class and stage.
        """
        side = logits.shape[-1]
        index = labels[:, :, None, None].expand(-1, -1, side, side)
        own_logits = logits.gather(1, index)  # [B, O, S, S]
        on_box = top_left(inside, side)
        from_features = torch.sigmoid(own_logits) * on_box
        rows = torch.sigmoid(self.get_parameter(f"alpha{t}"))
        weights = rows[0, :, 0]  # [K]
        of_objects = weights[labels]
        alpha = of_objects[:, :, None, None]
        at_side = resize(placed, side)
        return (1 - alpha) * at_side + alpha * from_features


def make_norm(config: Config, channels: int, labels: int) -> nn.Module:
    """Return a norm of a generator's block.

    It is called with (x, masks, code, labels).
    """
    if config.normalization == "spade":
        return SpadeNorm(channels, labels, config.spade_hidden)
    return IslaNorm(channels, config.z_object + config.embedding)


def top_left(masks: Tensor, side: int) -> Tensor:
    """Return masks [B, O, any, any] at a smaller side.

    The top-left sample of each cell.
    """
    cells = torch.arange(side, device=masks.device)
    pick = cells * masks.shape[-1] // side
    rows = masks[:, :, pick]
    return rows[:, :, :, pick]


class LostGanObjective:
    """G, D and their losses (eqs. 11-15)."""

    def __init__(self, config: Config, labels: int) -> None:
        self.config = config
        width = config.width_d or config.width
        orthogonal = config.orthogonal_d or None
        generator = LostGanGenerator(config, labels)
        discriminator = Discriminator(
            config.resolution, width, labels, config.early_pool, orthogonal
        )
        self.networks: Mapping[str, nn.Module] = {"G": generator, "D": discriminator}
        self.perceptual = perceptual_loss(config.perceptual_weights, config.lambda_perceptual)

    def generate(self, batch: TrainingBatch, rng: torch.Generator) -> Fakes:
        """Return fakes for the layouts of the batch, latents from N(0, I)."""
        return Fakes(self.paint(self.networks["G"], batch, rng))

    def paint(self, network: nn.Module, batch: TrainingBatch, rng: torch.Generator) -> Tensor:
        """Return images of a G for the layouts of the batch, latents from N(0, I)."""
        device = batch.images.device
        layouts = batch.layouts
        if self.config.background:
            layouts = with_background(layouts)
        count, slots = layouts.labels.shape
        config = self.config
        z_image = torch.randn(count, config.z_image, generator=rng)
        z_objects = torch.randn(count, slots, config.z_object, generator=rng)
        z_image = z_image.to(device)
        z_objects = z_objects.to(device)
        images: Tensor
        images, _ = network(layouts, z_image, z_objects)
        return images

    def discriminator_losses(self, batch: TrainingBatch, fake: Tensor) -> dict[str, Loss]:
        """Return the terms of eq. 14.

        Those of objects are weighed by the detection scores of pseudo-labelled objects (eq. 15).
        """
        config = self.config
        layouts = batch.layouts
        if config.joint_pass:
            both = torch.cat([batch.images, fake])
            images, objects = self.networks["D"](both, _twice(layouts))
            real_images, fake_images = images.chunk(2)
            real_objects, fake_objects = objects.chunk(2)
        else:
            real_images, real_objects = self.networks["D"](batch.images, layouts)
            fake_images, fake_objects = self.networks["D"](fake, layouts)
        weights = self._object_weights(layouts)
        real_object_loss = hinge_real(real_objects, weights)
        fake_object_loss = hinge_fake(fake_objects, weights)
        object_loss = real_object_loss + fake_object_loss
        image_loss = hinge_real(real_images) + hinge_fake(fake_images)
        d_image = Loss(config.lambda_image * image_loss)
        if config.per_image:
            d_object = Loss(config.lambda_object * object_loss, mean_over="images")
            return {"d_object_image": d_object, "d_image": d_image}
        d_object = Loss(config.lambda_object * object_loss, mean_over="objects")
        return {"d_object": d_object, "d_image": d_image}

    def generator_losses(self, batch: TrainingBatch, fake: Tensor) -> dict[str, Loss]:
        """Return eq. 11."""
        config = self.config
        layouts = batch.layouts
        images, objects = self.networks["D"](fake, layouts)
        losses: dict[str, Loss] = {}
        if config.per_image:
            weighed = objects * per_image_weights(layouts)
            object_loss = _negative_mean(weighed)
            losses["g_object_image"] = Loss(config.lambda_object * object_loss, mean_over="images")
        else:
            object_loss = _negative_mean(objects)
            losses["g_object"] = Loss(config.lambda_object * object_loss, mean_over="objects")
        losses["g_image"] = Loss(-config.lambda_image * images.mean())
        l1 = F.l1_loss(fake.float(), batch.images)
        losses["g_l1"] = Loss(config.lambda_l1 * l1)
        if self.perceptual is not None:
            perceptual = self.perceptual.to(fake.device)
            distance = perceptual(fake, batch.images)
            losses["g_perceptual"] = Loss(config.lambda_perceptual * distance)
        return losses

    def _object_weights(self, layouts: Layouts) -> Tensor | None:
        """Return the weight of each object term of D [n].

        Its detection score p_i (eq. 15); None when all are 1.
        """
        scores = None
        if self.config.weigh_scores:
            scores = layouts.scores[layouts.labels > 0]
        if not self.config.per_image:
            return scores
        weights = per_image_weights(layouts)
        if scores is None:
            return weights
        return weights * scores


def _negative_mean(scores: Tensor) -> Tensor:
    """Return minus the mean of scores [n], 0 when n = 0."""
    if not len(scores):
        return scores.sum()
    return -scores.mean()


def _twice(layouts: Layouts) -> Layouts:
    """Return the layouts, and after them the same again."""
    labels = torch.cat([layouts.labels] * 2)
    boxes = torch.cat([layouts.boxes] * 2)
    scores = torch.cat([layouts.scores] * 2)
    return Layouts(labels, boxes, scores)


def per_image_weights(layouts: Layouts) -> Tensor:
    """Return weights [n] that give each image the same say.

    They turn a mean over all n objects into the mean over images of each image's mean.
    """
    is_object = layouts.labels > 0  # [B, O]
    counts = is_object.sum(1)  # [B]
    images = (counts > 0).sum()
    of_image = is_object.sum() / images / counts
    image = is_object.nonzero()[:, 0]  # [n]
    return of_image[image]


def with_background(layouts: Layouts) -> Layouts:
    """Append a whole-image object of label 0 ("Handling Background", section 2.2.2)."""
    count = len(layouts)
    label = layouts.labels.new_zeros(count, 1)
    whole_image = layouts.boxes.new_tensor([0, 0, 1, 1])
    box = whole_image.expand(count, 1, 4)
    score = layouts.scores.new_ones(count, 1)
    labels = torch.cat([layouts.labels, label], 1)
    boxes = torch.cat([layouts.boxes, box], 1)
    scores = torch.cat([layouts.scores, score], 1)
    return Layouts(labels, boxes, scores)
