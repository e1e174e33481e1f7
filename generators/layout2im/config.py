"""Settings of Layout2Im: sizes, object-wise attention, weights of its losses."""

from __future__ import annotations

from dataclasses import dataclass

RESOLUTION = 64  # of all published models
LSTM_WIDTHS = {1: (1,), 2: (2, 1), 3: (2, 1, 1)}  # multiples of the base width by layers


@dataclass(frozen=True)
class Config:
    """Sizes and loss weights; the defaults are the published ones."""

    resolution: int = 64  # pixels, square; 64 is the only one
    width: int = 64  # base number of channels of G
    width_d: int = 64  # base number of channels of both discriminators
    z_object: int = 64  # length of each z_obj
    embedding: int = 64  # length of a label embedding
    lstm_layers: int = 3  # layers of the convolutional LSTM over the objects; 1 to 3
    # object-wise attention: an object's vector fills a mask inferred from it, not its box (+OWA in
    # LostGAN-V2's Table 1; its code was never published, so this one is ours)
    owa: bool = False
    mask_side: int = 16  # of these masks, a power of two
    lambda_l1: float = 1.0  # of the reconstructed image
    lambda_z: float = 10.0  # of the codes read back from painted objects
    lambda_kl: float = 0.01  # of the codes of real objects, summed over objects
    lambda_class: float = 1.0  # of the class that D reads off painted objects
    lambda_object: float = 1.0  # of the adversarial term of objects
    lambda_image: float = 1.0  # of the adversarial term of images
    weigh_scores: bool = True  # object terms of D by the scores of pseudo-labelled objects
    # stretch each image to the whole range of grey levels, as the published code saves images
    stretch: bool = False

    @property
    def size(self) -> tuple[int, int]:
        """(H, W) of the images."""
        return self.resolution, self.resolution

    def __post_init__(self) -> None:
        if self.resolution != RESOLUTION:
            raise ValueError(f"resolution: {self.resolution} is not {RESOLUTION}")
        for name in ("width", "width_d", "z_object", "embedding"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name}: {getattr(self, name)} is not positive")
        if self.lstm_layers not in LSTM_WIDTHS:
            raise ValueError(f"lstm_layers: {self.lstm_layers} is not 1, 2 or 3")
        if self.mask_side < 2 or self.mask_side & (self.mask_side - 1):
            raise ValueError(f"mask_side: {self.mask_side} is not a power of two above 1")
        for name in (
            "lambda_l1",
            "lambda_z",
            "lambda_kl",
            "lambda_class",
            "lambda_object",
            "lambda_image",
        ):
            if getattr(self, name) < 0:
                raise ValueError(f"{name}: {getattr(self, name)} is negative")
