"""Settings of pix2pix: sizes, norms, weights of its losses, and how it is trained."""

from __future__ import annotations

from dataclasses import dataclass

from synthaug.generators.training import adversarial
from synthaug.ranges import above, at_least, from_0_to_below_1

STATISTICS = ("image", "batch")
MIN_DOWNS = 2  # halvings of the U-Net: the outermost and the innermost


@dataclass(frozen=True)
class Config:
    """Sizes and loss weights; defaults of the baseline of layouts at 64 pixels."""

    resolution: int = 64  # pixels, width of the images
    width: int = 64  # base number of channels of G
    width_d: int = 64  # base number of channels of D; 0 = width
    downs: int = 0  # halvings in the U-Net; 0 = as often as both sides of an image halve evenly
    num_layers: int = 3  # strided layers of D: 3 judge 70 x 70 pixels, 2 judge 34 x 34
    # of the norms: image (each image's own, what batches of one image have) | batch (those of the
    # batch, and running ones when sampling)
    statistics: str = "image"
    dropout: float = 0.5  # share of features left out in training, behind the norms it belongs to
    noise: bool = (
        False  # dropout when sampling too, by the seed: images of a layout differ a little
    )
    lambda_l1: float = 100.0  # weight of the mean absolute difference from the real image
    weigh_scores: bool = True  # pixels of pseudo-labels weigh their score in D's loss; false = 1

    def __post_init__(self) -> None:
        at_least(1, self, "resolution", "width", "num_layers")
        at_least(0, self, "width_d", "downs", "lambda_l1")
        from_0_to_below_1(self, "dropout")
        if self.statistics not in STATISTICS:
            raise ValueError(
                f"statistics: '{self.statistics}' is not one of {', '.join(STATISTICS)}"
            )
        height, width = self.size
        halvings = even_halvings(height, width)
        if halvings < MIN_DOWNS:
            raise ValueError(
                f"resolution: images of {width} x {height} pixels do not halve evenly "
                f"{MIN_DOWNS} times; take a multiple of {2**MIN_DOWNS}"
            )
        if self.downs and not MIN_DOWNS <= self.downs <= halvings:
            raise ValueError(
                f"downs: {self.downs} is not 0 or {MIN_DOWNS} to {halvings}, as often as "
                f"{width} x {height} pixels halve evenly"
            )
        patches = min(height, width) >> self.num_layers
        if patches < 3:
            raise ValueError(
                f"num_layers: {self.num_layers} leave no patch of {width} x {height} pixels; "
                "take fewer"
            )

    @property
    def size(self) -> tuple[int, int]:
        """Return (H, W) of the images."""
        return self.resolution, self.resolution

    @property
    def learns_masks(self) -> int:
        """Return the side of the true masks that it learns from: none."""
        return 0

    @property
    def halvings(self) -> int:
        """Return the number of halvings in the U-Net."""
        return self.downs or even_halvings(*self.size)


@dataclass(frozen=True)
class MapConfig(Config):
    """Also how maps become channels; defaults of the published maps at 256 pixels."""

    resolution: int = 256  # pixels, width of the images
    aspect_ratio: float = 1.0  # width / height of the images
    dont_care: bool = True  # a channel for pixels of no class
    edges: bool = False  # a channel for boundaries between instances
    # train on parts of images stretched to 286/256 of the size, as published
    crop: bool = True

    def __post_init__(self) -> None:
        above(0, self, "aspect_ratio")
        height, _ = self.size
        if not height:
            raise ValueError(
                f"aspect_ratio: {self.aspect_ratio} leaves no row of pixels; take a smaller one"
            )
        super().__post_init__()

    @property
    def size(self) -> tuple[int, int]:
        """Return (H, W) of the images."""
        return round(self.resolution / self.aspect_ratio), self.resolution

    def map_channels(self, num_classes: int) -> int:
        """Return the number of channels that the networks see of a map."""
        return num_classes + int(self.dont_care) + int(self.edges)


@dataclass(frozen=True)
class Loop(adversarial.Config):
    """Optimiser settings; the defaults are the published ones."""

    lr_g: float = 2e-4  # Adam
    lr_d: float = 2e-4
    beta1: float = 0.5
    # share of the steps after which the rates fall to 0 linearly; 1 = never
    decay_from: float = 0.5


def even_halvings(height: int, width: int) -> int:
    """Return how often both sides can be halved without a rest."""
    count = 0
    while height and not (height % 2 or width % 2):
        height //= 2
        width //= 2
        count += 1
    return count
