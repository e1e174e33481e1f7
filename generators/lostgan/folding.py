"""A trained LostGAN's weights with its norms folded into them, for inference.

Legend as in network.py.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from synthaug.generators.nn.folding import FoldedWeights, Layer, scaled


class Folded(FoldedWeights):
    """LostGAN's weights in float64, with norms folded in.

    Norms are turned into the numbers they multiply and add.
    """

    def normed(self, name: str) -> Layer:
        """Return weight and bias of a spectrally normalised layer.

        The weight is divided by its largest singular value.
        """
        return self.spectral(name), self[f"{name}.bias"]

    def convolution(self, name: str, norm: str) -> Layer:
        """Return weight and bias of a convolution and the batch norm after it.

        The convolution has neither bias nor spectral norm.
        """
        scale, shift = self.norm(norm)
        weight = self[f"{name}.weight"]
        no_bias = torch.zeros_like(scale)
        return scaled((weight, no_bias), (scale, shift))

    def affine(self, name: str) -> Tensor:
        """Return an ISLA-Norm as a matrix [D_w + 2, 2 C].

        It leads from codes to scales and shifts of x, batch norm and all.

        Its rows are those of a joint code, of a 1 for objects (the biases of the two projections),
        and of a 1 for the plain batch norm, as if it were an object.
        """
        scale, shift = self.norm(f"{name}.batch_norm2d")
        gamma_weight, gamma_bias = self.normed(f"{name}.weight_proj")
        beta_weight, beta_bias = self.normed(f"{name}.bias_proj")
        gammas = torch.cat([gamma_weight.t(), gamma_bias[None]])  # [D_w + 1, C]
        betas = torch.cat([beta_weight.t(), beta_bias[None]])
        scales = torch.cat([gammas * scale, scale[None]])  # [D_w + 2, C]
        moved = betas + gammas * shift
        shifts = torch.cat([moved, shift[None]])
        return torch.cat([scales, shifts], 1)


class Affine(nn.Module):
    """Linear layer with given numbers."""

    weight: Tensor
    bias: Tensor

    def __init__(self, weight: Tensor, bias: Tensor) -> None:
        super().__init__()
        self.register_buffer("weight", weight.contiguous(), persistent=False)
        self.register_buffer("bias", bias, persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        """[..., in] -> [..., out]."""
        return F.linear(x, self.weight, self.bias)


def pixels_first(rows: Tensor) -> Tensor:
    """Reorder rows [C 16, ...] of a 4 x 4 map to channels last [16 C, ...]."""
    of_pixels = rows.view(-1, 16, *rows.shape[1:])
    return of_pixels.transpose(0, 1).flatten(0, 1)
