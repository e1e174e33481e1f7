"""The two stages of a trial: their images, and seeds that no other stage has."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from synthaug.pipeline.core.seeding import seed_for


@dataclass(frozen=True)
class Stage:
    """A stage of a trial."""

    name: Literal["screening", "confirmation"]
    images: Literal["validation", "evaluation"]  # that its arms are measured on

    def seed(self, job_seed: int, number: int) -> int:
        """Return the seed of the stage's pair `number`.

        It is the same for every arm: the comparison is paired.
        """
        return seed_for(job_seed, "trial", self.name, number)


SCREENING = Stage("screening", "validation")
CONFIRMATION = Stage("confirmation", "evaluation")
