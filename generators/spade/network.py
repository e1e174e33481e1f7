"""SPADE: panoptic map to image (Park et al., "Semantic Image Synthesis with Spatially-Adaptive Normalization", CVPR 2019).

Top to bottom: Config, SPADE norm, residual block, generator and objective. Where paper and published code differ we
follow the code, whose numbers the paper reports (docs/spade.md lists the differences). Parameter names are those of the
official checkpoints. What the networks see of a map, the discriminator, the losses and production have files of their own.

Legend: B images, H W pixels, S channels of the semantic tensor, C channels, Z length of the latent code, U3 and U5 distinct
windows of a batch of maps (spade_semantics.py).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from synthaug.generators.base import MapBatch
from synthaug.generators.nn.layers import BatchNorm2d, SpectralNormed, upsample2
from synthaug.generators.nn.perceptual import perceptual_loss
from synthaug.generators.spade.discriminator import (
    Discriminator,
    Encoder,
    default_init,
    xavier_init,
)
from synthaug.generators.spade.losses import (
    GAN_MODES,
    discriminator_loss,
    feature_matching,
    generator_loss,
    kl_divergence,
)
from synthaug.generators.spade.semantics import Semantics, semantics
from synthaug.generators.spade.windows import by_tap, class_rows, of_classes, of_windows
from synthaug.generators.training.adversarial import Fakes
from synthaug.generators.training.losses import Loss

HIDDEN = 128  # channels between semantic tensor and modulation, whatever the width
DOUBLINGS = {"normal": 5, "more": 6, "most": 7}  # of the side, from the first map to the image


@dataclass(frozen=True)
class Config:
    """Sizes and loss weights; the defaults are the published COCO-Stuff model's at 256 x 256."""

    resolution: int = 256  # pixels, width of the images
    aspect_ratio: float = 1.0  # width / height of the images; Cityscapes: 2
    upsampling: str = "normal"  # doublings of the side: normal 5, more 6 (Cityscapes), most 7
    width: int = 64  # base number of channels of G and of the encoder
    width_d: int = 64  # base number of channels of D; 0 = width
    dont_care: bool = True  # a channel for pixels of no class; Cityscapes: false
    edges: bool = True  # a channel for boundaries between instances; ADE20K: false
    vae: bool = (
        False  # the image starts from a latent code, for which an encoder is trained (multi-modal)
    )
    z: int = 256  # length of the latent code
    num_scales: int = 2  # discriminators, each at half the resolution of the last
    num_layers: int = 4  # of each discriminator, before its scores; the last two have stride 1
    gan_mode: str = (
        "hinge"  # hinge | ls (least squares) | original (cross entropy) | w (Wasserstein)
    )
    lambda_features: float = 10.0  # weight of feature matching; 0 switches it off
    lambda_perceptual: float = 10.0  # weight of the perceptual term
    lambda_kl: float = 0.05  # weight of the KL divergence of the latent codes
    perceptual_weights: str = (
        ""  # file with VGG-19 weights trained on ImageNet; without it the term is off
    )
    crop: bool = False  # train on parts of images stretched to 286/256 of the size (the code's COCO-Stuff and ADE20K)
    weigh_scores: bool = True  # pixels of pseudo-labels weigh their score in D's loss; false = 1
    fast_modulation: bool = (
        True  # train with one modulation per distinct window of the maps: equal, fewer products
    )

    def __post_init__(self) -> None:
        if self.upsampling not in DOUBLINGS:
            raise ValueError(
                f"upsampling: '{self.upsampling}' is not one of {', '.join(DOUBLINGS)}"
            )
        if self.gan_mode not in GAN_MODES:
            raise ValueError(f"gan_mode: '{self.gan_mode}' is not one of {', '.join(GAN_MODES)}")
        for name in ("resolution", "width", "z", "num_scales"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name}: {getattr(self, name)} is not positive")
        if self.width % 2 and self.upsampling == "most":
            raise ValueError(
                f"width: {self.width} is odd; the last block of upsampling: most has half of it"
            )
        if self.num_layers < 2:
            raise ValueError(f"num_layers: {self.num_layers} is less than 2")
        for name in ("width_d", "lambda_features", "lambda_perceptual", "lambda_kl"):
            if getattr(self, name) < 0:
                raise ValueError(f"{name}: {getattr(self, name)} is negative")
        if not self.aspect_ratio > 0:
            raise ValueError(f"aspect_ratio: {self.aspect_ratio} is not positive")
        factor = 2 ** DOUBLINGS[self.upsampling]
        if self.resolution % factor:
            raise ValueError(
                f"resolution: {self.resolution} is no multiple of {factor} (upsampling: {self.upsampling})"
            )
        if not self.start[0]:
            raise ValueError(
                f"aspect_ratio: {self.aspect_ratio} leaves no row of the first map; take a smaller one"
            )

    @property
    def start(self) -> tuple[int, int]:
        """(H, W) of the first map."""
        columns = self.resolution >> DOUBLINGS[self.upsampling]
        return round(columns / self.aspect_ratio), columns

    @property
    def size(self) -> tuple[int, int]:
        """(H, W) of the images."""
        height, width = self.start
        return height << DOUBLINGS[self.upsampling], width << DOUBLINGS[self.upsampling]

    def semantic_channels(self, num_classes: int) -> int:
        """Channels of the semantic tensor, S."""
        return num_classes + int(self.dont_care) + int(self.edges)


class SpadeNorm(nn.Module):
    """Spatially-adaptive normalisation (paper eqs. 1-3): batch norm, scaled and shifted by what stands in the map."""

    def __init__(self, channels: int, semantic_channels: int, by_windows: bool = False) -> None:
        """`by_windows`: evaluate gamma and beta once per distinct window of the maps, not once per pixel."""
        super().__init__()
        self.by_windows = by_windows
        self.param_free_norm = BatchNorm2d(channels, affine=False)
        self.mlp_shared = nn.Sequential(
            nn.Conv2d(semantic_channels, HIDDEN, 3, padding=1), nn.ReLU()
        )
        self.mlp_gamma = nn.Conv2d(HIDDEN, channels, 3, padding=1)
        self.mlp_beta = nn.Conv2d(HIDDEN, channels, 3, padding=1)

    def forward(self, x: Tensor, seen: Semantics) -> Tensor:
        """x [B, C, H, W], maps of the same size -> [B, C, H, W]."""
        normed = self.param_free_norm(x)
        if self.by_windows:
            gamma, beta = self._of_windows(seen)
        else:
            hidden = self.mlp_shared(seen.dense)
            gamma, beta = self.mlp_gamma(hidden), self.mlp_beta(hidden)
        return torch.addcmul(beta, normed, 1 + gamma)

    def _of_windows(self, seen: Semantics) -> tuple[Tensor, Tensor]:
        first = self.mlp_shared[0]
        assert isinstance(first, nn.Conv2d) and first.bias is not None
        assert self.mlp_gamma.bias is not None and self.mlp_beta.bias is not None
        patterns = seen.patterns
        hidden = F.relu(
            of_classes(patterns, *class_rows(first.weight, seen.num_classes), first.bias)
        )  # [U3, 128]
        taps = by_tap(torch.cat([self.mlp_gamma.weight, self.mlp_beta.weight]))
        rows = of_windows(
            patterns, hidden, taps, torch.cat([self.mlp_gamma.bias, self.mlp_beta.bias])
        )  # [U5, 2 C]
        gamma, beta = F.embedding(patterns.pixels, rows).permute(0, 3, 1, 2).chunk(2, 1)
        return gamma, beta


class BlockConv(SpectralNormed):
    """Convolution of a residual block, same padding, spectrally normalised; another system may look at the map here."""

    def __init__(self, in_channels: int, out_channels: int, kernel: int, bias: bool = True) -> None:
        super().__init__((out_channels, in_channels, kernel, kernel), 1e-12, default_init)
        self.bias = nn.Parameter(torch.zeros(out_channels)) if bias else None
        self.padding = kernel // 2

    def forward(self, x: Tensor, _seen: Semantics) -> Tensor:
        """x [B, in, H, W], maps of the same size -> [B, out, H, W]."""
        return F.conv2d(x, self.weight(), self.bias, padding=self.padding)


class SpadeBlock(nn.Module):
    """Residual block with SPADE before each convolution (paper Fig. 4); the shortcut is learned where widths differ."""

    def __init__(
        self,
        channels_in: int,
        channels_out: int,
        norm: Callable[[int], nn.Module],
        conv: Callable[[int, int, int, bool], nn.Module] = BlockConv,
    ) -> None:
        """`norm` of a number of channels, `conv` of (in, out, kernel, bias); both are called with (x, maps)."""
        super().__init__()
        middle = min(channels_in, channels_out)
        self.learned = channels_in != channels_out
        self.conv_0, self.conv_1 = (
            conv(channels_in, middle, 3, True),
            conv(middle, channels_out, 3, True),
        )
        self.norm_0, self.norm_1 = norm(channels_in), norm(middle)
        if self.learned:
            self.conv_s, self.norm_s = conv(channels_in, channels_out, 1, False), norm(channels_in)

    def forward(self, x: Tensor, seen: Semantics) -> Tensor:
        """x [B, C, H, W], maps of the same size -> [B, C', H, W]."""
        main = self.conv_0(F.leaky_relu(self.norm_0(x, seen), 0.2), seen)
        main = self.conv_1(F.leaky_relu(self.norm_1(main, seen), 0.2), seen)
        out: Tensor = main + (self.conv_s(self.norm_s(x, seen), seen) if self.learned else x)
        return out


def stages(config: Config) -> list[tuple[str, int, int, bool]]:
    """Name, channels in, channels out of each block, and whether the map is doubled before it."""
    width = config.width
    found = [
        ("head_0", 16 * width, 16 * width, False),
        ("G_middle_0", 16 * width, 16 * width, True),
        ("G_middle_1", 16 * width, 16 * width, config.upsampling != "normal"),
    ]
    found += [(f"up_{i}", 16 * width >> i, 8 * width >> i, True) for i in range(4)]
    return [*found, ("up_4", width, width // 2, True)] if config.upsampling == "most" else found


class SpadeGenerator(nn.Module):
    """G: `forward` is differentiable; the sampler is in sampler.py."""

    def __init__(self, config: Config, num_classes: int) -> None:
        super().__init__()
        self.config, self.num_classes = config, num_classes
        channels = config.semantic_channels(num_classes)
        self.stages = stages(config)
        self.fc = self.first_layer(channels)
        for name, wide, narrow, _ in self.stages:
            self.add_module(name, self.block(wide, narrow, channels))
        self.conv_img = nn.Conv2d(self.stages[-1][2], 3, 3, padding=1)
        xavier_init(self)

    def first_layer(self, semantic_channels: int) -> nn.Module:
        """Return what makes the map that the blocks start from; systems that start otherwise override it."""
        config = self.config
        rows, columns = config.start
        if config.vae:
            return nn.Linear(config.z, 16 * config.width * rows * columns)
        return nn.Conv2d(semantic_channels, 16 * config.width, 3, padding=1)

    def block(self, channels_in: int, channels_out: int, semantic_channels: int) -> nn.Module:
        """Return a residual block; systems with other convolutions override it."""
        return SpadeBlock(
            channels_in,
            channels_out,
            lambda c: SpadeNorm(c, semantic_channels, self.config.fast_modulation),
        )

    def upsample(self, x: Tensor, _small: Semantics, _large: Semantics) -> Tensor:
        """Double both sides of x [B, C, H, W]; given the maps before and after, which systems that override it may use."""
        return upsample2(x)

    def first_map(self, seen: Semantics, z: Tensor | None) -> Tensor:
        """The map that the blocks start from [B, 16 width, H, W]: from the smallest semantic tensor, or from z."""
        if not self.config.vae:
            out: Tensor = self.fc(seen.dense)
            return out
        assert z is not None, "a generator with a latent code needs one"
        flat: Tensor = self.fc(z)
        return flat.view(len(z), -1, *self.config.start)

    def forward(self, seen: Semantics, z: Tensor | None = None) -> Tensor:
        """Maps of the size of the images, z [B, Z] with a latent code -> images [B, 3, H, W] in [-1, 1]."""
        assert seen.size == self.config.size, f"maps are {seen.size}, not {self.config.size}"
        now = seen.at(self.config.start)
        x = self.first_map(now, z)
        for name, _, _, doubled in self.stages:
            if doubled:
                height, width = now.size
                before, now = now, seen.at((2 * height, 2 * width))
                x = self.upsample(x, before, now)
            x = self.get_submodule(name)(x, now)
        return torch.tanh(self.conv_img(F.leaky_relu(x, 0.2)))


class SpadeObjective:
    """G, D, with a latent code E, and their losses (paper section 3.2)."""

    def __init__(self, config: Config, num_classes: int) -> None:
        self.config = config
        self.networks: Mapping[str, nn.Module] = self.build_networks(num_classes)
        self.perceptual = perceptual_loss(config.perceptual_weights, config.lambda_perceptual)

    def build_networks(self, num_classes: int) -> dict[str, nn.Module]:
        """Return fresh networks by name."""
        config = self.config
        wide = config.width_d or config.width
        channels = config.semantic_channels(num_classes)
        networks: dict[str, nn.Module] = {
            "G": SpadeGenerator(config, num_classes),
            "D": Discriminator(channels, wide, config.num_scales, config.num_layers),
        }
        return networks | {"E": Encoder(config.width, config.z)} if config.vae else networks

    def generate(self, batch: MapBatch, rng: torch.Generator) -> Fakes:
        """Return fakes for the maps of the batch; with a latent code from codes of its real images."""
        config = self.config
        z = None
        losses: dict[str, Loss] = {}
        if config.vae:
            mu, logvar = self.networks["E"](batch.images)
            z = mu + torch.randn(mu.shape, generator=rng).to(mu.device) * (0.5 * logvar).exp()
            if config.lambda_kl:
                divergence = kl_divergence(mu, logvar)
                losses["g_kl_sum"] = Loss(config.lambda_kl * divergence, mean_over="sum")
        images: Tensor = self.networks["G"](self.see(batch), z)
        return Fakes(images, losses)

    def discriminator_losses(self, batch: MapBatch, fake: Tensor) -> dict[str, Loss]:
        """Return the two terms of D's loss."""
        fakes, reals = self._judged(batch, fake)
        weights = batch.weights if self.config.weigh_scores else None
        real, fooled = discriminator_loss(reals, fakes, self.config.gan_mode, weights)
        return {"d_real": Loss(real), "d_fake": Loss(fooled)}

    def generator_losses(self, batch: MapBatch, fake: Tensor) -> dict[str, Loss]:
        """Return adversarial, feature matching and perceptual term, as far as they are on."""
        config = self.config
        fakes, reals = self._judged(batch, fake)
        losses = {"g_image": Loss(generator_loss(fakes, config.gan_mode))}
        if config.lambda_features:
            distance = feature_matching(fakes, reals)
            losses["g_features"] = Loss(config.lambda_features * distance)
        if self.perceptual is not None:
            distance = self.perceptual.to(fake.device)(fake, batch.images)
            losses["g_perceptual"] = Loss(config.lambda_perceptual * distance)
        return losses

    def see(self, batch: MapBatch) -> Semantics:
        """What the networks see of the maps."""
        return semantics(batch.maps, self.config.dont_care, self.config.edges)

    def _judged(
        self, batch: MapBatch, fake: Tensor
    ) -> tuple[list[list[Tensor]], list[list[Tensor]]]:
        """What D makes of fakes and of real images, in one pass."""
        semantic = self.see(batch).dense
        both = self.networks["D"](
            torch.cat([semantic, semantic]), torch.cat([fake.float(), batch.images])
        )
        count = len(fake)
        return (
            [[x[:count] for x in scale] for scale in both],
            [[x[count:] for x in scale] for scale in both],
        )
