"""Settings of CRN: sizes, images per map and the weights of its loss."""

from __future__ import annotations

from dataclasses import dataclass

from synthaug.ranges import above, at_least

FIRST_ROWS = 4  # pixels, height of the first level
# height of the images from which on a level has this share of the base width (paper, section 3)
SHARES = ((512, 32), (256, 8), (64, 2), (0, 1))
PERCEPTUAL_INPUTS = ("caffe", "imagenet")
# inverse of each term's mean at epoch 100: of the image, then of conv1_2 to conv5_2
DIVERSE = (1.0, 1 / 1.6, 1 / 2.3, 1 / 1.8, 1 / 2.8, 10 / 0.8)  # Cityscapes, 256 rows
PLAIN = (1.0, 1 / 2.6, 1 / 4.8, 1 / 3.7, 1 / 5.6, 10 / 1.5)  # 512 rows and more


@dataclass(frozen=True)
class Config:
    """Sizes and loss weights; defaults of the published Cityscapes model at 256 rows."""

    resolution: int = 512  # pixels, width of the images; Cityscapes: twice their height
    aspect_ratio: float = 2.0  # width / height of the images
    width: int = (
        1024  # channels of the coarse levels; the finer ones have 1/2, 1/8 and 1/32 of them
    )
    widths: tuple[int, ...] = ()  # channels of every level, coarse to fine; [] = by width
    images: int = 9  # images per map, of which the nearest to the real one learns; 1 = one image
    dont_care: bool = True  # a channel for pixels of no class
    edges: bool = False  # a channel for boundaries between instances
    # weights of the six terms of the loss, image first; [] = the published ones, which are the
    # inverse means of the terms on Cityscapes: measure them anew on other data
    lambdas: tuple[float, ...] = ()
    # file with VGG-19 weights of ImageNet; vgg16 = of VGG-16, which a package brings
    # (docs/weights.md); "" = the image's own term alone
    perceptual_weights: str = ""
    # what these see: caffe (0 to 255 without the mean, as published) | imagenet (also 0 to 1 and
    # over the deviation, as torchvision's weights expect)
    perceptual_input: str = "caffe"
    crop: bool = False  # train on parts of images stretched to 286/256 of the size
    weigh_scores: bool = True  # pixels of pseudo-labels weigh their score in the loss; false = 1

    def __post_init__(self) -> None:
        at_least(1, self, "resolution", "width", "images")
        above(0, self, "aspect_ratio")
        if self.perceptual_input not in PERCEPTUAL_INPUTS:
            raise ValueError(
                f"perceptual_input: '{self.perceptual_input}' is not one of "
                f"{', '.join(PERCEPTUAL_INPUTS)}"
            )
        if self.lambdas and len(self.lambdas) != len(DIVERSE):
            raise ValueError(f"lambdas: {len(self.lambdas)} weights for {len(DIVERSE)} terms")
        if any(weight < 0 for weight in self.lambdas):
            raise ValueError(f"lambdas: {list(self.lambdas)} has a negative weight")
        height, width = self.size
        levels = doublings(height)
        if levels is None or width % 2**levels or not width >> levels:
            raise ValueError(
                f"resolution: {width} x {height} pixels are no doublings of {FIRST_ROWS} rows "
                "of whole columns; choose resolution and aspect_ratio so that height / 4 is a "
                "power of two that divides the width"
            )
        if self.widths and len(self.widths) != levels + 1:
            raise ValueError(
                f"widths: {len(self.widths)} widths for {levels + 1} levels of {height} rows"
            )
        if any(channels < 1 for channels in self.level_widths):
            raise ValueError(f"width: {self.width} leaves a level of {height} rows no channel")

    @property
    def size(self) -> tuple[int, int]:
        """Return (H, W) of the images."""
        return round(self.resolution / self.aspect_ratio), self.resolution

    @property
    def start(self) -> tuple[int, int]:
        """Return (H, W) of the first level."""
        height, width = self.size
        return FIRST_ROWS, width * FIRST_ROWS // height

    @property
    def level_widths(self) -> tuple[int, ...]:
        """Return the channels of every level, coarse to fine."""
        if self.widths:
            return self.widths
        height, _ = self.size
        levels = doublings(height)
        assert levels is not None
        return tuple(self._width_of(FIRST_ROWS << level) for level in range(levels + 1))

    def _width_of(self, rows: int) -> int:
        """Return the channels of a level of so many rows."""
        for limit, divisor in SHARES:
            if rows > limit:
                return self.width // divisor
        raise AssertionError(rows)

    @property
    def weights(self) -> tuple[float, ...]:
        """Return the weights of the six terms of the loss."""
        if self.lambdas:
            return self.lambdas
        if self.images > 1:
            return DIVERSE
        return PLAIN

    def map_channels(self, num_classes: int) -> int:
        """Return the number of channels that the network sees of a map."""
        return num_classes + int(self.dont_care) + int(self.edges)


def doublings(height: int) -> int | None:
    """Return how often the first level is doubled up to a height, None if never so."""
    rows = FIRST_ROWS
    count = 0
    while rows < height:
        rows *= 2
        count += 1
    if rows != height:
        return None
    return count
