"""SPADE: panoptic map to image (Park et al., CVPR 2019).

"Semantic Image Synthesis with Spatially-Adaptive Normalization".

Top to bottom: Config, SPADE norm, residual block, generator and objective. Where paper and
published code differ we follow the code, whose numbers the paper reports (docs/spade.md lists the
differences). Parameter names are those of the official checkpoints. The networks' view of a map,
the discriminator, the losses and the sampler have files of their own.

Legend: B images, H W pixels, S channels of the semantic tensor, C channels, Z length of the latent
code, U3 and U5 distinct windows of a batch of maps (semantics.py).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

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
from synthaug.generators.spade.windows import (
    by_tap,
    class_rows,
    convolve_classes,
    convolve_windows,
)
from synthaug.generators.training.adversarial import Fakes
from synthaug.generators.training.losses import Loss
from synthaug.ranges import above, at_least

HIDDEN = 128  # channels between semantic tensor and modulation, whatever the width
DOUBLINGS = {"normal": 5, "more": 6, "most": 7}  # of the side, from the first map to the image


@dataclass(frozen=True)
class Config:
    """Sizes and loss weights; defaults of the published COCO-Stuff model at 256."""

    resolution: int = 256  # pixels, width of the images
    aspect_ratio: float = 1.0  # width / height of the images; Cityscapes: 2
    upsampling: str = "normal"  # doublings of the side: normal 5, more 6 (Cityscapes), most 7
    width: int = 64  # base number of channels of G and of the encoder
    width_d: int = 64  # base number of channels of D; 0 = width
    dont_care: bool = True  # a channel for pixels of no class; Cityscapes: false
    edges: bool = True  # a channel for boundaries between instances; ADE20K: false
    # the image starts from a latent code, for which an encoder is trained (multi-modal)
    vae: bool = False
    z: int = 256  # length of the latent code
    num_scales: int = 2  # discriminators, each at half the resolution of the last
    num_layers: int = 4  # of each discriminator, before its scores; the last two have stride 1
    # hinge | ls (least squares) | original (cross entropy) | w (Wasserstein)
    gan_mode: str = "hinge"
    lambda_features: float = 10.0  # weight of feature matching; 0 switches it off
    lambda_perceptual: float = 10.0  # weight of the perceptual term
    lambda_kl: float = 0.05  # weight of the KL divergence of the latent codes
    # file with VGG-19 weights of ImageNet; vgg16 = of VGG-16, which a package brings
    # (docs/weights.md); "" = the term is off
    perceptual_weights: str = ""
    # train on parts of images stretched to 286/256 of the size (the code's COCO-Stuff and ADE20K)
    crop: bool = False
    weigh_scores: bool = True  # pixels of pseudo-labels weigh their score in D's loss; false = 1
    # train with one modulation per distinct window of the maps: equal, fewer products
    fast_modulation: bool = True

    def __post_init__(self) -> None:
        if self.upsampling not in DOUBLINGS:
            raise ValueError(
                f"upsampling: '{self.upsampling}' is not one of {', '.join(DOUBLINGS)}"
            )
        if self.gan_mode not in GAN_MODES:
            raise ValueError(f"gan_mode: '{self.gan_mode}' is not one of {', '.join(GAN_MODES)}")
        at_least(1, self, "resolution", "width", "z", "num_scales")
        if self.width % 2 and self.upsampling == "most":
            raise ValueError(
                f"width: {self.width} is odd; the last block of upsampling: most has half of it"
            )
        at_least(2, self, "num_layers")
        at_least(0, self, "width_d", "lambda_features", "lambda_perceptual", "lambda_kl")
        above(0, self, "aspect_ratio")
        factor = 2 ** DOUBLINGS[self.upsampling]
        if self.resolution % factor:
            raise ValueError(
                f"resolution: {self.resolution} is no multiple of {factor} "
                f"(upsampling: {self.upsampling})"
            )
        rows, _ = self.start
        if not rows:
            raise ValueError(
                f"aspect_ratio: {self.aspect_ratio} leaves no row of the first map; "
                "take a smaller one"
            )

    @property
    def start(self) -> tuple[int, int]:
        """Return (H, W) of the first map."""
        columns = self.resolution >> DOUBLINGS[self.upsampling]
        return round(columns / self.aspect_ratio), columns

    @property
    def size(self) -> tuple[int, int]:
        """Return (H, W) of the images."""
        height, width = self.start
        doublings = DOUBLINGS[self.upsampling]
        return height << doublings, width << doublings

    def semantic_channels(self, num_classes: int) -> int:
        """Return the number of channels of the semantic tensor, S."""
        return num_classes + int(self.dont_care) + int(self.edges)


class SpadeNorm(nn.Module):
    """Spatially-adaptive normalization (eqs. 1-3): batch norm, modulated by maps.

    `by_windows`: evaluate gamma and beta once per distinct window of the maps, not once per pixel.
    """

    def __init__(self, channels: int, semantic_channels: int, by_windows: bool = False) -> None:
        super().__init__()
        self.by_windows = by_windows
        self.param_free_norm = BatchNorm2d(channels, affine=False)
        first = nn.Conv2d(semantic_channels, HIDDEN, 3, padding=1)
        self.mlp_shared = nn.Sequential(first, nn.ReLU())
        self.mlp_gamma = nn.Conv2d(HIDDEN, channels, 3, padding=1)
        self.mlp_beta = nn.Conv2d(HIDDEN, channels, 3, padding=1)

    def forward(self, x: Tensor, maps: Semantics) -> Tensor:
        """Map x [B, C, H, W] to the same; maps are of its size."""
        normed = self.param_free_norm(x)
        if self.by_windows:
            gamma, beta = self._of_windows(maps)
        else:
            hidden = self.mlp_shared(maps.dense)
            gamma = self.mlp_gamma(hidden)
            beta = self.mlp_beta(hidden)
        return torch.addcmul(beta, normed, 1 + gamma)

    def _of_windows(self, maps: Semantics) -> tuple[Tensor, Tensor]:
        """Return gamma and beta [B, C, H, W], looked up by the window of each pixel."""
        first = self.mlp_shared[0]
        assert isinstance(first, nn.Conv2d) and first.bias is not None
        assert self.mlp_gamma.bias is not None and self.mlp_beta.bias is not None
        patterns = maps.patterns
        table, edge_rows = class_rows(first.weight, maps.num_classes)
        summed = convolve_classes(patterns, table, edge_rows, first.bias)
        hidden = F.relu(summed)  # [U3, 128]
        weights = torch.cat([self.mlp_gamma.weight, self.mlp_beta.weight])
        biases = torch.cat([self.mlp_gamma.bias, self.mlp_beta.bias])
        rows = convolve_windows(patterns, hidden, by_tap(weights), biases)  # [U5, 2 C]
        both = F.embedding(patterns.pixels, rows)
        both = both.permute(0, 3, 1, 2)
        gamma, beta = both.chunk(2, 1)
        return gamma, beta


class BlockConv(SpectralNormed):
    """Convolution of a residual block, same padding, spectrally normalized.

    Panoptic-aware systems read the maps here; SPADE does not.
    """

    def __init__(self, in_channels: int, out_channels: int, kernel: int, bias: bool = True) -> None:
        super().__init__((out_channels, in_channels, kernel, kernel), 1e-12, default_init)
        self.bias = nn.Parameter(torch.zeros(out_channels)) if bias else None
        self.padding = kernel // 2

    def forward(self, x: Tensor, _maps: Semantics) -> Tensor:
        """Map [B, in, H, W] to [B, out, H, W]; maps are of the size of x."""
        return F.conv2d(x, self.weight(), self.bias, padding=self.padding)


class SpadeBlock(nn.Module):
    """Residual block with SPADE before each convolution (paper Fig. 4).

    The shortcut is learned where widths differ. `norm` of a number of channels and `conv` of (in,
    out, kernel, bias) build modules that are called with (x, maps).
    """

    def __init__(
        self,
        channels_in: int,
        channels_out: int,
        norm: Callable[[int], nn.Module],
        conv: Callable[[int, int, int, bool], nn.Module] = BlockConv,
    ) -> None:
        super().__init__()
        middle = min(channels_in, channels_out)
        self.learned = channels_in != channels_out
        self.conv_0 = conv(channels_in, middle, 3, True)
        self.conv_1 = conv(middle, channels_out, 3, True)
        self.norm_0 = norm(channels_in)
        self.norm_1 = norm(middle)
        if self.learned:
            self.conv_s = conv(channels_in, channels_out, 1, False)
            self.norm_s = norm(channels_in)

    def forward(self, x: Tensor, maps: Semantics) -> Tensor:
        """Map [B, C, H, W] to [B, C', H, W]; maps are of the size of x."""
        main = F.leaky_relu(self.norm_0(x, maps), 0.2)
        main = self.conv_0(main, maps)
        main = F.leaky_relu(self.norm_1(main, maps), 0.2)
        main = self.conv_1(main, maps)
        shortcut = x
        if self.learned:
            shortcut = self.conv_s(self.norm_s(x, maps), maps)
        out: Tensor = main + shortcut
        return out


class Stage(NamedTuple):
    """One residual block of the generator."""

    name: str
    channels_in: int
    channels_out: int
    doubled: bool  # whether the map is doubled before it


def stages(config: Config) -> list[Stage]:
    """Return the residual blocks from the first map to the image."""
    width = config.width
    blocks = [
        Stage("head_0", 16 * width, 16 * width, False),
        Stage("G_middle_0", 16 * width, 16 * width, True),
        Stage("G_middle_1", 16 * width, 16 * width, config.upsampling != "normal"),
    ]
    for i in range(4):
        blocks.append(Stage(f"up_{i}", 16 * width >> i, 8 * width >> i, True))
    if config.upsampling == "most":
        blocks.append(Stage("up_4", width, width // 2, True))
    return blocks


class SpadeGenerator(nn.Module):
    """G: `forward` is differentiable; the sampler is in sampler.py."""

    def __init__(self, config: Config, num_classes: int) -> None:
        super().__init__()
        self.config = config
        self.num_classes = num_classes
        channels = config.semantic_channels(num_classes)
        self.stages = stages(config)
        self.fc = self.first_layer(channels)
        for stage in self.stages:
            block = self.block(stage.channels_in, stage.channels_out, channels)
            self.add_module(stage.name, block)
        last_width = self.stages[-1].channels_out
        self.conv_img = nn.Conv2d(last_width, 3, 3, padding=1)
        xavier_init(self)

    def first_layer(self, semantic_channels: int) -> nn.Module:
        """Return the layer of the first map; systems that start otherwise override it."""
        config = self.config
        channels = 16 * config.width
        if config.vae:
            rows, columns = config.start
            return nn.Linear(config.z, channels * rows * columns)
        return nn.Conv2d(semantic_channels, channels, 3, padding=1)

    def block(self, channels_in: int, channels_out: int, semantic_channels: int) -> nn.Module:
        """Return a residual block; systems with other convolutions override it."""

        def norm(channels: int) -> nn.Module:
            return SpadeNorm(channels, semantic_channels, self.config.fast_modulation)

        return SpadeBlock(channels_in, channels_out, norm)

    def embed(self, z: Tensor | None) -> Tensor | None:
        """Return the form of latent codes [B, Z] that `first_map` and `upsample` take."""
        if not self.config.vae:
            return None
        assert z is not None, "a generator with a latent code needs one"
        return z

    def upsample(self, x: Tensor, _maps: Semantics, _code: Tensor | None) -> Tensor:
        """Double both sides of x [B, C, H, W].

        Systems that override it may use the maps of the doubled size and the embedded code.
        """
        return upsample2(x)

    def first_map(self, maps: Semantics, code: Tensor | None) -> Tensor:
        """Return the map that the blocks start from [B, 16 width, H, W].

        From the smallest semantic tensor or, with a latent code, from the code alone.
        """
        if code is None:
            out: Tensor = self.fc(maps.dense)
            return out
        flat: Tensor = self.fc(code)
        height, width = self.config.start
        return flat.view(len(code), -1, height, width)

    def forward(self, maps: Semantics, z: Tensor | None = None) -> Tensor:
        """Return images [B, 3, H, W] in [-1, 1] of maps of that size, and z [B, Z]."""
        assert maps.size == self.config.size, f"maps are {maps.size}, not {self.config.size}"
        code = self.embed(z)
        current = maps.at(self.config.start)
        x = self.first_map(current, code)
        for stage in self.stages:
            if stage.doubled:
                height, width = current.size
                current = maps.at((2 * height, 2 * width))
                x = self.upsample(x, current, code)
            x = self.get_submodule(stage.name)(x, current)
        x = F.leaky_relu(x, 0.2)
        return torch.tanh(self.conv_img(x))


class SpadeObjective:
    """G, D, with a latent code E, and their losses (paper section 3.2)."""

    def __init__(self, config: Config, num_classes: int) -> None:
        self.config = config
        self.networks: Mapping[str, nn.Module] = self.build_networks(num_classes)
        self.perceptual = perceptual_loss(config.perceptual_weights, config.lambda_perceptual)

    def build_networks(self, num_classes: int) -> dict[str, nn.Module]:
        """Return fresh networks by name."""
        config = self.config
        width_d = config.width_d or config.width
        channels = config.semantic_channels(num_classes)
        networks: dict[str, nn.Module] = {
            "G": SpadeGenerator(config, num_classes),
            "D": Discriminator(channels, width_d, config.num_scales, config.num_layers),
        }
        if config.vae:
            networks["E"] = Encoder(config.width, config.z)
        return networks

    def generate(self, batch: MapBatch, rng: torch.Generator) -> Fakes:
        """Return fakes for the maps of the batch, with a latent code of its real images."""
        config = self.config
        z = None
        losses: dict[str, Loss] = {}
        if config.vae:
            mu, logvar = self.networks["E"](batch.images)
            noise = torch.randn(mu.shape, generator=rng)
            noise = noise.to(mu.device)
            z = mu + noise * (0.5 * logvar).exp()
            if config.lambda_kl:
                divergence = kl_divergence(mu, logvar)
                losses["g_kl_sum"] = Loss(config.lambda_kl * divergence, mean_over="sum")
        maps = self.semantics(batch)
        images: Tensor = self.networks["G"](maps, z)
        return Fakes(images, losses)

    def discriminator_losses(self, batch: MapBatch, fake: Tensor) -> dict[str, Loss]:
        """Return the two terms of D's loss."""
        fakes, reals = self._discriminate(batch, fake)
        weights = None
        if self.config.weigh_scores:
            weights = batch.weights
        on_real, on_fake = discriminator_loss(reals, fakes, self.config.gan_mode, weights)
        return {"d_real": Loss(on_real), "d_fake": Loss(on_fake)}

    def generator_losses(self, batch: MapBatch, fake: Tensor) -> dict[str, Loss]:
        """Return adversarial, feature matching and perceptual term, as far as they are on."""
        config = self.config
        fakes, reals = self._discriminate(batch, fake)
        losses = {"g_image": Loss(generator_loss(fakes, config.gan_mode))}
        if config.lambda_features:
            distance = feature_matching(fakes, reals)
            losses["g_features"] = Loss(config.lambda_features * distance)
        if self.perceptual is not None:
            perceptual = self.perceptual.to(fake.device)
            distance = perceptual(fake, batch.images)
            losses["g_perceptual"] = Loss(config.lambda_perceptual * distance)
        return losses

    def semantics(self, batch: MapBatch) -> Semantics:
        """Return the networks' view of the maps."""
        return semantics(batch.maps, self.config.dont_care, self.config.edges)

    def _discriminate(
        self, batch: MapBatch, fake: Tensor
    ) -> tuple[list[list[Tensor]], list[list[Tensor]]]:
        """Return D's outputs on fakes and on real images, from one pass."""
        semantic = self.semantics(batch).dense
        images = torch.cat([fake.float(), batch.images])
        twice = torch.cat([semantic, semantic])
        outputs = self.networks["D"](twice, images)
        fakes = slice(None, len(fake))
        reals = slice(len(fake), None)
        return _rows(outputs, fakes), _rows(outputs, reals)


def _rows(scales: Sequence[Sequence[Tensor]], rows: slice) -> list[list[Tensor]]:
    """Return some images' part of D's outputs."""
    parts = []
    for scale in scales:
        parts.append([output[rows] for output in scale])
    return parts
