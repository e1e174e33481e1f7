"""A trained network's weights in float64, spectral norms folded in."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor


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
