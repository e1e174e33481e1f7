"""A trained network's weights in float64, its norms folded in."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

EPSILON = 1e-5  # of batch norms

Layer = tuple[Tensor, Tensor]  # weight [N, ...] and bias [N]
Norm = tuple[Tensor, Tensor]  # scale [C] and shift [C]


class FoldedWeights:
    """The floating-point entries of a state dict by name, in float64."""

    def __init__(self, state: Mapping[str, Tensor]) -> None:
        self.state: dict[str, Tensor] = {}
        for name, value in state.items():
            if value.is_floating_point():
                self.state[name] = value.detach().double()

    def __getitem__(self, name: str) -> Tensor:
        return self.state[name]

    def __contains__(self, name: str) -> bool:
        return name in self.state

    def spectral(self, name: str) -> Tensor:
        """Return the weight of a spectrally normalized layer over its singular value."""
        weight = self.state[f"{name}.weight_orig"]
        u = self.state[f"{name}.weight_u"]
        v = self.state[f"{name}.weight_v"]
        sigma = u @ (weight.flatten(1) @ v)
        return weight / sigma

    def norm(self, name: str) -> Norm:
        """Return scale and shift of a batch norm in evaluation."""
        scale = torch.rsqrt(self[f"{name}.running_var"] + EPSILON)
        if f"{name}.weight" in self:
            scale = scale * self[f"{name}.weight"]
        shift = -self[f"{name}.running_mean"] * scale
        if f"{name}.bias" in self:
            shift = self[f"{name}.bias"] + shift
        return scale, shift

    def layer(self, name: str, norm: str) -> Layer:
        """Return weight and bias of a layer and the batch norm after it."""
        weight = self[f"{name}.weight"]
        bias = weight.new_zeros(len(weight))
        if f"{name}.bias" in self:
            bias = self[f"{name}.bias"]
        return scaled((weight, bias), self.norm(norm))


def scaled(layer: Layer, norm: Norm) -> Layer:
    """Return weight and bias of a layer with a scale and a shift of its N outputs."""
    weight, bias = layer
    scale, shift = norm
    ones = [1] * (weight.ndim - 1)
    per_output = scale.view(-1, *ones)
    return weight * per_output, bias * scale + shift
