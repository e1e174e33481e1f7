"""Settings of sg2im: sizes, relations, weights of its losses."""

from __future__ import annotations

from dataclasses import dataclass

from synthaug.generators.base import IN_IMAGE
from synthaug.ranges import at_least

# multiples of the base width at each level of the cascade, coarse to fine
WIDTHS = {64: (16, 8, 4, 2, 1), 128: (16, 8, 4, 2, 1, 1)}
# relations told from boxes alone, in the order of the published vocabulary
GEOMETRIC = (IN_IMAGE, "left of", "right of", "above", "below", "inside", "surrounding")


@dataclass(frozen=True)
class Config:
    """Sizes and loss weights; the defaults are the published ones at 64 pixels."""

    resolution: int = 64  # pixels, square; 64 or 128
    width: int = 64  # channels of the last level of the cascade
    width_d: int = 64  # channels of the first convolution of both discriminators
    embedding: int = 128  # length of the vectors of objects and of relations
    hidden: int = 512  # channels inside the graph network and the box network
    graph_layers: int = 5  # 0 = objects are not told of each other
    mask_side: int = 16  # of an object's mask, a power of two; 0 = boxes are filled
    # paint the true masks of the data where it has them, as published with COCO-Stuff; false =
    # always the predicted ones, as with Visual Genome
    given_masks: bool = True
    # paint in the boxes of the layout; false = only what is where relative to what is taken from
    # it, and boxes are predicted from that scene graph
    given_boxes: bool = True
    # names of the relations, of which the first is that to the whole image; [] = the geometric
    # ones, told from boxes; [data] = those of the labelled images (Visual Genome)
    relations: tuple[str, ...] = ()
    noise: int = 32  # channels of noise beside the layout
    lambda_l1: float = 1.0
    lambda_box: float = 10.0  # of the squared error of predicted boxes
    lambda_mask: float = 0.0  # of predicted masks; 0.1 is the published advice for COCO-Stuff
    lambda_class: float = 0.1  # of the class that D reads off a painted object
    lambda_object: float = 0.01  # of the adversarial term of objects
    lambda_image: float = 0.01  # of the adversarial term of images
    weigh_scores: bool = True  # object terms of D by the scores of pseudo-labelled objects
    # stretch each image to the whole range of grey levels, as the published code saves images
    stretch: bool = False

    @property
    def size(self) -> tuple[int, int]:
        """(H, W) of the images."""
        return self.resolution, self.resolution

    @property
    def learns_masks(self) -> int:
        """Side of the true masks that it is told of; 0 = none."""
        return self.mask_side if self.given_masks or self.lambda_mask else 0

    @property
    def geometric(self) -> bool:
        """Whether relations are told from boxes."""
        return not self.relations

    @property
    def vocabulary(self) -> tuple[str, ...]:
        """Names of the relations by their ids."""
        return self.relations or GEOMETRIC

    def __post_init__(self) -> None:
        if self.resolution not in WIDTHS:
            raise ValueError(f"resolution: {self.resolution} is not one of {sorted(WIDTHS)}")
        at_least(1, self, "width", "width_d", "embedding", "hidden")
        if self.mask_side < 0 or self.mask_side & (self.mask_side - 1) or self.mask_side == 1:
            raise ValueError(f"mask_side: {self.mask_side} is not 0 or a power of two above 1")
        if len(set(self.relations)) < len(self.relations):
            raise ValueError("relations: a name is there twice; name each relation once")
        at_least(0, self, "graph_layers", "noise", "lambda_l1", "lambda_box", "lambda_mask")
        at_least(0, self, "lambda_class", "lambda_object", "lambda_image")
