"""Settings of Grid2Im: sizes and weights of its losses."""

from __future__ import annotations

from dataclasses import dataclass

SIZE_BINS = 10  # of an object's area
CELLS = 5  # per side of the grid that says where an object is
ATTRIBUTES = SIZE_BINS + CELLS * CELLS


@dataclass(frozen=True)
class Config:
    """Sizes and loss weights; the defaults are the published ones at 128 pixels."""

    resolution: int = 128  # pixels, square; a multiple of 32
    width: int = 64  # base number of channels of the network from layouts to images
    width_d: int = 64  # base number of channels of the discriminators
    residual_blocks: int = 9  # at the lowest resolution
    halvings: int = 4  # of the side before them
    embedding: int = 128  # length of the vectors of objects and of relations
    hidden: int = 512  # channels inside the graph network and the box network
    graph_layers: int = 5
    mask_side: int = 32  # of an object's mask, a power of two from 8 on
    mask_noise: int = 64  # length of the noise that masks vary by
    appearance: int = 32  # length of an object's appearance code
    lambda_box: float = 10.0  # of the squared error of predicted boxes
    lambda_class: float = 0.1  # of the class that D reads off a painted object
    lambda_object: float = 0.1  # of the adversarial term of objects
    lambda_mask: float = 1.0  # of the adversarial term of predicted masks
    lambda_mask_features: float = 10.0  # of feature matching of masks
    lambda_image: float = 1.0  # of the adversarial term of images
    lambda_image_features: float = 10.0  # of feature matching of images
    lambda_perceptual: float = 10.0  # of the perceptual term
    # file with VGG-19 weights of ImageNet; vgg16 = of VGG-16, which a package brings
    # (docs/weights.md); "" = the term is off
    perceptual_weights: str = ""
    weigh_scores: bool = True  # object terms of D by the scores of pseudo-labelled objects

    @property
    def size(self) -> tuple[int, int]:
        """(H, W) of the images."""
        return self.resolution, self.resolution

    @property
    def learns_masks(self) -> int:
        """Side of the true masks that it is told of."""
        return self.mask_side

    def __post_init__(self) -> None:
        if self.resolution < 32 or self.resolution % 32:
            raise ValueError(f"resolution: {self.resolution} is not a multiple of 32")
        for name in (
            "width",
            "width_d",
            "residual_blocks",
            "halvings",
            "embedding",
            "hidden",
            "graph_layers",
            "mask_noise",
            "appearance",
        ):
            if getattr(self, name) < 1:
                raise ValueError(f"{name}: {getattr(self, name)} is not positive")
        if self.mask_side < 8 or self.mask_side & (self.mask_side - 1):
            raise ValueError(f"mask_side: {self.mask_side} is not a power of two from 8 on")
        for name, value in vars(self).items():
            if name.startswith("lambda_") and value < 0:
                raise ValueError(f"{name}: {value} is negative")
