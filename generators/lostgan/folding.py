"""A trained LostGAN's weights with its norms folded into them, for inference.

Legend as in lostgan.py.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class Folded:
    """A network's weights in float64, with norms turned into the numbers they multiply and add."""

    def __init__(self, state: Mapping[str, Tensor]) -> None:
        self.state = {
            name: value.detach().double()
            for name, value in state.items()
            if value.is_floating_point()
        }

    def __getitem__(self, name: str) -> Tensor:
        return self.state[name]

    def normed(self, name: str) -> tuple[Tensor, Tensor]:
        """Weight over its largest singular value, and bias, of a spectrally normalised layer."""
        weight = self.state[f"{name}.weight_orig"]
        sigma = self.state[f"{name}.weight_u"] @ (
            weight.flatten(1) @ self.state[f"{name}.weight_v"]
        )
        return weight / sigma, self.state[f"{name}.bias"]

    def norm(self, name: str) -> tuple[Tensor, Tensor]:
        """Scale and shift per channel [C] that a batch norm comes to."""
        scale = torch.rsqrt(self.state[f"{name}.running_var"] + 1e-5) * self.state.get(
            f"{name}.weight", 1
        )
        return scale, self.state.get(f"{name}.bias", 0) - self.state[f"{name}.running_mean"] * scale

    def affine(self, name: str) -> Tensor:
        """Of an ISLA-Norm: what a joint code, 1 and 0 (or zeros, 0 and 1) multiply to what x is multiplied by and added.

        [D_w + 2, 2 C]: the two projections, their biases, and the plain batch norm as if it were an object.
        """
        scale, shift = self.norm(f"{name}.batch_norm2d")
        gammas, betas = (
            torch.cat([w.t(), b[None]])
            for w, b in map(self.normed, (f"{name}.weight_proj", f"{name}.bias_proj"))
        )
        gammas, betas = (
            torch.cat([gammas * scale, scale[None]]),
            torch.cat([betas + gammas * shift, shift[None]]),
        )
        return torch.cat([gammas, betas], 1)


def scaled(layer: tuple[Tensor, Tensor], norm: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor]:
    """Return weight [N, ...] and bias of a layer followed by a scale and a shift of its N outputs."""
    (weight, bias), (scale, shift) = layer, norm
    return weight * scale.view(-1, *[1] * (weight.ndim - 1)), bias * scale + shift


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
    """Reorder rows [C 16, ...] that make a 4 x 4 map so that they make it channels last: [16 C, ...]."""
    return rows.view(-1, 16, *rows.shape[1:]).transpose(0, 1).flatten(0, 1)
