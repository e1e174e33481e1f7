"""Settings of SIMS: sizes, the memory of segments and the rules of the canvas."""

from __future__ import annotations

from dataclasses import dataclass

from synthaug.generators.crn.config import PERCEPTUAL_INPUTS, PLAIN
from synthaug.ranges import above, at_least, from_0_to_below_1

ALIGNMENTS = ("image", "box")
FOLLOWED = ("map", "canvas")


@dataclass(frozen=True)
class Config:
    """Sizes and rules; the published model at 256 rows, without rules for classes."""

    resolution: int = 512  # pixels, width of the images; Cityscapes: twice their height
    aspect_ratio: float = 2.0  # width / height of the images
    width: int = 64  # channels of the finest stage of each network
    dont_care: bool = True  # a channel for pixels of no class
    edges: bool = False  # a channel for boundaries between instances
    # share of an image's pixels beyond which a segment of a map is given a real one; published:
    # 1000 of 256 x 512
    large: float = 0.0076294
    # where shapes are compared: image = at their places in it, as published | box = both stretched
    # to one box, and the real one is stretched to that of the map's
    align: str = "image"
    # whose shapes the image shows: map = real segments are cut to their places, so that masks of
    # the map are right | canvas = the map is made to follow them, as published
    follow: str = "map"
    choices: int = 1  # segments nearest in shape of which the seed takes one; 1 = the nearest
    among: int = 100  # images that a training step looks for segments in; 0 = all
    memory: int = 0  # labelled images that are kept, the first ones; 0 = all
    order: bool = True  # ask the order network, as intended; the published script never does
    thin: tuple[int, ...] = ()  # class indices: poles and the like do not cut what is behind them
    layers: tuple[int, ...] = ()  # class indices, back to front; others follow by their statistics
    ground: tuple[int, ...] = ()  # class indices: on which casters throw shadows
    casters: tuple[int, ...] = ()  # class indices: what throws shadows
    loose: tuple[int, ...] = ()  # class indices: whose border is left open, as leaves'
    background: tuple[int, ...] = ()  # class indices: that keep what no segment covers
    # weights of the six terms of the loss, image first; [] = CRN's for 512 rows, as published
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
        at_least(1, self, "resolution", "width", "choices")
        at_least(0, self, "among", "memory")
        above(0, self, "aspect_ratio")
        from_0_to_below_1(self, "large")
        if self.align not in ALIGNMENTS:
            raise ValueError(f"align: '{self.align}' is not one of {', '.join(ALIGNMENTS)}")
        if self.follow not in FOLLOWED:
            raise ValueError(f"follow: '{self.follow}' is not one of {', '.join(FOLLOWED)}")
        if self.perceptual_input not in PERCEPTUAL_INPUTS:
            raise ValueError(
                f"perceptual_input: '{self.perceptual_input}' is not one of "
                f"{', '.join(PERCEPTUAL_INPUTS)}"
            )
        if self.lambdas and len(self.lambdas) != len(PLAIN):
            raise ValueError(f"lambdas: {len(self.lambdas)} weights for {len(PLAIN)} terms")
        if any(weight < 0 for weight in self.lambdas):
            raise ValueError(f"lambdas: {list(self.lambdas)} has a negative weight")
        height, width = self.size
        if min(height, width) < 32:
            raise ValueError(
                f"resolution: {width} x {height} pixels are too few for the networks' six "
                "halvings; choose resolution and aspect_ratio for 32 or more"
            )
        self._check_classes()

    def _check_classes(self) -> None:
        """Raise ValueError for a class index below 0, or one named twice."""
        lists = {
            "thin": self.thin,
            "layers": self.layers,
            "ground": self.ground,
            "casters": self.casters,
            "loose": self.loose,
            "background": self.background,
        }
        for key, classes in lists.items():
            if any(label < 0 for label in classes) or len(set(classes)) < len(classes):
                raise ValueError(
                    f"{key}: {list(classes)} are not different class indices; give each class once"
                )

    @property
    def size(self) -> tuple[int, int]:
        """Return (H, W) of the images."""
        return round(self.resolution / self.aspect_ratio), self.resolution

    @property
    def weights(self) -> tuple[float, ...]:
        """Return the weights of the six terms of the loss."""
        return self.lambdas or PLAIN

    def map_channels(self, num_classes: int) -> int:
        """Return the number of channels that the networks see of a map."""
        return num_classes + int(self.dont_care) + int(self.edges)
