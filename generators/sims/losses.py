"""What the networks of SIMS learn by.

Legend: B images, N segments, C channels of the map, H W pixels.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from synthaug.generators.crn.losses import RegressionLoss
from synthaug.generators.sims.network import Synthesis

LABELS = 10.0  # weight of the cross-entropy of the synthesis network's own map


def placement_loss(moved: Tensor, targets: Tensor, colors: Tensor) -> Tensor:
    """Return how far moved segments are from an image where they are to be.

    As in the published code: mean absolute difference of the sum of all segments, over the pixels
    that any is to fill. moved [N, 3, H, W] in [0, 1], targets [N, 1, H, W] 0 or 1, colors
    [3, H, W] of 0 to 255.
    """
    merged = (moved * targets).sum(0) * 255
    wanted = targets.sum(0)
    difference = (merged - colors * wanted).abs().mean(0)
    return difference.sum() / (wanted.sum() + 1)


class SynthesisLoss(nn.Module):
    """CRN's plain loss of the image, and the cross-entropy of the map."""

    def __init__(self, weights: tuple[float, ...], vgg: str, vgg_input: str) -> None:
        super().__init__()
        self.image = RegressionLoss(weights, False, vgg, vgg_input)

    def terms(
        self, made: Synthesis, real: Tensor, labels: Tensor, confidence: Tensor | None = None
    ) -> Tensor:
        """Return the weighted terms [7] of a batch, means over it.

        Six of the image, then the map's.

        real [B, 3, H, W] in [-1, 1], labels [B, H, W]; confidence [B, H, W] weighs each pixel.
        """
        of_image = self.image.errors(made.images, real, confidence)
        of_labels = F.cross_entropy(made.logits.float(), labels, reduction="none")
        if confidence is not None:
            of_labels = of_labels * confidence
        return torch.cat([of_image, LABELS * of_labels.mean()[None]])
