"""LostGAN whose G also learns to be recognized, by whoever looks at its images."""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor

from synthaug.generators.base import Layouts, TrainingBatch
from synthaug.generators.lostgan.config import Config
from synthaug.generators.lostgan.network import LostGanObjective
from synthaug.generators.training.losses import Loss

# images [B, 3, R, R] in [-1, 1] and what they are to show -> a scalar with a gradient to them, low
# where it is seen
Recognition = Callable[[Tensor, Layouts], Tensor]


class RecognizedObjective(LostGanObjective):
    """The losses of LostGAN, and in G's the loss of a detector on its images."""

    def __init__(
        self, config: Config, labels: int, recognition: Recognition, weight: float
    ) -> None:
        super().__init__(config, labels)
        self.recognition = recognition
        self.weight = weight

    def generator_losses(self, batch: TrainingBatch, fake: Tensor) -> dict[str, Loss]:
        """Return eq. 11, and the weighted recognition; a weight of 0 leaves it out."""
        losses = super().generator_losses(batch, fake)
        if self.weight:
            recognition = self.recognition(fake, batch.layouts)
            losses["g_recognized"] = Loss(self.weight * recognition)
        return losses
