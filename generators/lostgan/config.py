"""Settings of a LostGAN.

Sizes, variants of the paper's tables, weights of its losses.
"""

from __future__ import annotations

from dataclasses import dataclass

from synthaug.ranges import at_least

# multiples of the base width at the input of each residual block and at the end; 512, and version 2
# at 64, are ours
WIDTHS = {
    64: (16, 8, 4, 2, 1),
    128: (16, 16, 8, 4, 2, 1),
    256: (16, 16, 8, 8, 4, 2, 1),
    512: (16, 16, 8, 8, 8, 4, 2, 1),
}
VERSIONS = {1: (64, 128), 2: (64, 128, 256, 512)}
PSP_STAGE = {128: 4}  # the one stage whose mask head is a pyramid (only in the published 128 model)


@dataclass(frozen=True)
class Config:
    """Sizes and loss weights; the defaults are the published version 2 at 128 pixels."""

    version: int = 2  # 1: ISLA-Norm with the initial masks only; 2: with refinement (component iv)
    resolution: int = 128  # pixels, square; version 1: 64, 128; version 2: 64, 128, 256, 512
    width: int = 64  # base number of channels of G
    width_d: int = 0  # base number of channels of D; 0 = width
    early_pool: bool = False  # D halves the image in its first block: ours, for 64 pixels on a CPU
    z_image: int = 128  # length of z_img
    z_object: int = 128  # length of each z_obj
    embedding: int = 180  # length of a label embedding (published version 1 at 64 pixels: 128)
    mask_hidden: int = 100  # channels inside a ToMask head
    mask_labels: int = 0  # label rows of the ToMask heads; 0 = all; official checkpoints: 184
    background: bool = False  # add a whole-image object of label 0, as in the Visual Genome model
    align_corners: bool = True  # of placed masks; official checkpoints were trained with true
    # cut placed masks at their box as the paper says; the code lets them leak by one mask pixel
    clip_masks: bool = False
    layout_to_mask: bool = True  # false fills each box instead of a learned mask (Table 7, row 1)
    # stages whose masks are refined: -1 all, 0 none, i = m_0 .. m_i only (Tables 7 and 8)
    refine_stages: int = -1
    # isla, or spade: label maps made of the masks modulate through convolutions (Table 6)
    normalization: str = "isla"
    spade_hidden: int = 128  # channels between label map and modulation with spade
    lambda_image: float = 0.1  # weight of the image terms (eq. 13); 0 = no image head (Table 7)
    lambda_object: float = 1.0  # weight of the object terms; 0 = no object head (Table 7)
    lambda_l1: float = 1.0  # of the reconstruction term (eq. 11); 0 in version 1's first release
    lambda_perceptual: float = 1.0  # weight of the perceptual term (eq. 11)
    # file with VGG-19 weights of ImageNet; vgg16 = of VGG-16, which a package brings
    # (docs/weights.md); "" = the term is off
    perceptual_weights: str = ""
    # average object terms within each image first (eq. 12); the code averages over the batch
    per_image: bool = False
    # initialise every D orthogonally (section 2.2.7); the code does so at 64 pixels only
    orthogonal_d: bool = False
    weigh_scores: bool = True  # eq. 15; false trusts every pseudo-label fully (Table 5, setting ii)
    # real and fake in one discriminator pass: faster, one power iteration fewer per step
    joint_pass: bool = False

    @property
    def size(self) -> tuple[int, int]:
        """(H, W) of the images."""
        return self.resolution, self.resolution

    def __post_init__(self) -> None:
        if self.version not in VERSIONS:
            raise ValueError(f"version: {self.version} is not 1 or 2")
        if self.resolution not in VERSIONS[self.version]:
            raise ValueError(
                f"resolution: {self.resolution} is not one of {sorted(VERSIONS[self.version])}"
            )
        at_least(1, self, "width", "z_image", "z_object", "embedding")
        at_least(1, self, "mask_hidden", "spade_hidden")
        if self.early_pool and self.resolution != 64:
            raise ValueError(
                "early_pool: only the 64 pixel discriminator has it; the others pool early already"
            )
        last_stage = len(WIDTHS[self.resolution]) - 2
        if not -1 <= self.refine_stages <= last_stage:
            raise ValueError(f"refine_stages: {self.refine_stages} is not -1 (all) to {last_stage}")
        if self.normalization not in ("isla", "spade"):
            raise ValueError(f"normalization: '{self.normalization}' is not isla or spade")
        at_least(0, self, "width_d", "mask_labels")
        at_least(0, self, "lambda_image", "lambda_object", "lambda_l1", "lambda_perceptual")
