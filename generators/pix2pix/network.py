"""pix2pix (Isola et al., CVPR 2017): U-Net, patch discriminator and objective.

"Image-to-Image Translation with Conditional Adversarial Networks". The condition is painted into
channels: classes of boxes (painting.py) or of maps (spade/semantics.py). Where the paper and the
published PyTorch code differ we follow the code (docs/pix2pix.md). Parameter names are those of its
checkpoints.

Legend: B images, C channels of the condition, H W pixels.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Generic

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from synthaug.generators.base import AnyBatch
from synthaug.generators.nn.layers import BatchNorm2d
from synthaug.generators.pix2pix.config import Config
from synthaug.generators.training.adversarial import Fakes
from synthaug.generators.training.losses import Loss

MAX_GROWTH = 8  # widths stop growing at this multiple of the base width
SLOPE = 0.2  # of the leaky ReLUs
FULL_WIDTH_FROM = 4  # levels from this one on, counted from 0, have the full width below them


class Norm(BatchNorm2d):
    """Batch norm, by statistics of the batch or, `per_image`, of each image alone.

    The latter are those of a batch of one image, in training and in sampling, whatever the batch.
    """

    def __init__(self, channels: int, per_image: bool) -> None:
        super().__init__(channels)
        self.per_image = per_image

    def forward(self, x: Tensor) -> Tensor:
        """Map [B, C, H, W] to the same."""
        if not self.per_image:
            return super().forward(x)
        return norm_per_image(x, self.weight, self.bias, self.eps)


def norm_per_image(x: Tensor, gain: Tensor, bias: Tensor, eps: float) -> Tensor:
    """Normalize each channel of each image [B, C, H, W] by its own mean and variance."""
    values = x.float()  # statistics of bfloat16 features are float32
    variance, mean = torch.var_mean(values, (2, 3), correction=0, keepdim=True)
    scale = gain[:, None, None] * torch.rsqrt(variance + eps)
    shift = bias[:, None, None] - mean * scale
    return torch.addcmul(shift, values, scale).to(x.dtype)


class Level(nn.Module):
    """A halving, everything below it, and the doubling back.

    All but the outermost return their input beside what they make of it.
    """

    def __init__(self, layers: list[nn.Module], outermost: bool) -> None:
        super().__init__()
        self.outermost = outermost
        self.model = nn.Sequential(*layers)

    def forward(self, x: Tensor) -> Tensor:
        """Map [B, C, H, W] to [B, C + C', H, W], the outermost one to [B, 3, H, W]."""
        made: Tensor = self.model(x)
        if self.outermost:
            return made
        return torch.cat([x, made], 1)


class UNet(nn.Module):
    """G: `forward` is differentiable; the sampler is in sampler.py."""

    def __init__(self, config: Config, channels: int, num_classes: int) -> None:
        super().__init__()
        self.config = config
        self.num_classes = num_classes
        self.model = unet(
            channels, config.width, config.halvings, config.statistics == "image", config.dropout
        )
        normal_init(self)

    def forward(self, condition: Tensor) -> Tensor:
        """Return images [B, 3, H, W] in [-1, 1] of conditions [B, C, H, W]."""
        out: Tensor = self.model(condition)
        return out


def widths(width: int, downs: int) -> list[int]:
    """Return the channels behind each halving, from the outermost on."""
    return [width * min(2**level, MAX_GROWTH) for level in range(downs)]


def has_dropout(level: int, downs: int) -> bool:
    """Tell whether dropout follows a level's doubling.

    That is behind the full-width ones, but for the innermost (the published code).
    """
    return FULL_WIDTH_FROM <= level < downs - 1


def unet(channels: int, width: int, downs: int, per_image: bool, dropout: float) -> Level:
    """Return the outermost level of a U-Net, built from the innermost outwards."""
    behind = widths(width, downs)
    below: Level | None = None
    for level in reversed(range(1, downs)):
        above = behind[level - 1]
        own = behind[level]
        layers: list[nn.Module] = [nn.LeakyReLU(SLOPE), _halve(above, own)]
        if below is None:
            doubled = own
        else:
            layers += [Norm(own, per_image), below]
            doubled = 2 * own
        layers += [nn.ReLU(), _double(doubled, above), Norm(above, per_image)]
        if dropout and has_dropout(level, downs):
            layers.append(nn.Dropout(dropout))
        below = Level(layers, outermost=False)
    assert below is not None
    first = _halve(channels, width)
    last = _double(2 * width, 3, bias=True)
    return Level([first, below, nn.ReLU(), last, nn.Tanh()], outermost=True)


def _halve(channels_in: int, channels_out: int) -> nn.Conv2d:
    return nn.Conv2d(channels_in, channels_out, 4, stride=2, padding=1, bias=False)


def _double(channels_in: int, channels_out: int, bias: bool = False) -> nn.ConvTranspose2d:
    return nn.ConvTranspose2d(channels_in, channels_out, 4, stride=2, padding=1, bias=bias)


class PatchDiscriminator(nn.Module):
    """D: 4 x 4 convolutions over condition and image; a score per patch."""

    def __init__(self, channels: int, width: int, num_layers: int, per_image: bool) -> None:
        super().__init__()
        layers: list[nn.Module] = [
            nn.Conv2d(channels + 3, width, 4, stride=2, padding=1),
            nn.LeakyReLU(SLOPE),
        ]
        before = width
        for number in range(1, num_layers + 1):
            own = width * min(2**number, MAX_GROWTH)
            stride = 2
            if number == num_layers:
                stride = 1
            conv = nn.Conv2d(before, own, 4, stride=stride, padding=1, bias=False)
            layers += [conv, Norm(own, per_image), nn.LeakyReLU(SLOPE)]
            before = own
        layers.append(nn.Conv2d(before, 1, 4, stride=1, padding=1))
        self.model = nn.Sequential(*layers)
        normal_init(self)

    def forward(self, condition: Tensor, images: Tensor) -> Tensor:
        """Return scores [B, 1, h, w] of images [B, 3, H, W] for conditions [B, C, H, W]."""
        both = torch.cat([condition.to(images.dtype), images], 1)
        scores: Tensor = self.model(both)
        return scores


def normal_init(network: nn.Module) -> None:
    """Draw kernels from N(0, 0.02), gains of norms from N(1, 0.02); zero every bias."""
    for layer in network.modules():
        if isinstance(layer, (nn.Conv2d, nn.ConvTranspose2d)):
            nn.init.normal_(layer.weight, 0.0, 0.02)
            if layer.bias is not None:
                nn.init.zeros_(layer.bias)
        elif isinstance(layer, Norm):
            nn.init.normal_(layer.weight, 1.0, 0.02)
            nn.init.zeros_(layer.bias)


class Pix2PixObjective(Generic[AnyBatch]):
    """G, D and their losses: cross entropy of patches and absolute difference.

    `paint` returns the condition [B, C, H, W] of a batch, `confidence` the confidence of each
    pixel's label [B, H, W], or None where all are sure.
    """

    def __init__(
        self,
        config: Config,
        channels: int,
        num_classes: int,
        paint: Callable[[AnyBatch], Tensor],
        confidence: Callable[[AnyBatch], Tensor | None],
    ) -> None:
        self.config = config
        self.paint = paint
        self.confidence = confidence
        width_d = config.width_d or config.width
        per_image = config.statistics == "image"
        self.networks: Mapping[str, nn.Module] = {
            "G": UNet(config, channels, num_classes),
            "D": PatchDiscriminator(channels, width_d, config.num_layers, per_image),
        }

    def generate(self, batch: AnyBatch, _rng: torch.Generator) -> Fakes:
        """Return fakes for the conditions of the batch; all chance is in dropout."""
        condition = self.paint(batch)
        images: Tensor = self.networks["G"](condition)
        return Fakes(images)

    def discriminator_losses(self, batch: AnyBatch, fake: Tensor) -> dict[str, Loss]:
        """Return the two halves of D's loss.

        Patches are weighed by the confidence of their labels.
        """
        condition = self.paint(batch)
        weights = None
        if self.config.weigh_scores:
            weights = self.confidence(batch)
        on_fake = self.networks["D"](condition, fake.float())
        on_real = self.networks["D"](condition, batch.images)
        d_fake = 0.5 * patch_loss(on_fake, 0.0, weights)
        d_real = 0.5 * patch_loss(on_real, 1.0, weights)
        return {"d_fake": Loss(d_fake), "d_real": Loss(d_real)}

    def generator_losses(self, batch: AnyBatch, fake: Tensor) -> dict[str, Loss]:
        """Return the adversarial term and the weighted mean absolute difference."""
        fake = fake.float()
        scores = self.networks["D"](self.paint(batch), fake)
        losses = {"g_image": Loss(patch_loss(scores, 1.0))}
        if self.config.lambda_l1:
            distance = F.l1_loss(fake, batch.images)
            losses["g_l1"] = Loss(self.config.lambda_l1 * distance)
        return losses


def patch_loss(scores: Tensor, target: float, weights: Tensor | None = None) -> Tensor:
    """Return the mean cross entropy of scores [B, 1, h, w] with a target.

    `weights` [B, H, W]: each patch counts by their mean over its share of the image, and the sum is
    divided by the number of patches all the same (LostGAN-V2 eq. 15, for pixels).
    """
    scores = scores.float()
    targets = torch.full_like(scores, target)
    losses = F.binary_cross_entropy_with_logits(scores, targets, reduction="none")
    if weights is not None:
        height, width = scores.shape[2:]
        losses = losses * F.adaptive_avg_pool2d(weights[:, None], (height, width))
    return losses.mean()
