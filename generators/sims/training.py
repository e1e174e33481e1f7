"""The training of SIMS: three networks side by side, each at its own rate."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from synthaug.generators.base import MapBatch
from synthaug.generators.nn.pixels import to_pixels
from synthaug.generators.sims.bank import SegmentBank
from synthaug.generators.sims.depth import Statistics
from synthaug.generators.sims.generator import Networks, Sims
from synthaug.generators.sims.objective import SimsObjective
from synthaug.generators.sims.retrieval import Bytes
from synthaug.generators.sims.segments import Ints, large_segments, segments_of
from synthaug.generators.training import regression
from synthaug.ranges import above, from_0_to_1


@dataclass(frozen=True)
class Loop(regression.Config):
    """Optimiser settings; `lr` is the synthesis network's."""

    lr_transform: float = 1e-5  # Adam, of the transform network
    lr_order: float = 1e-5  # of the order network
    rise_from: float = 1.0  # factor of the rates at the first step, that grows by equal factors
    rise_until: float = 0.0  # share of the steps after which it is 1

    def __post_init__(self) -> None:
        super().__post_init__()
        above(0, self, "lr_transform", "lr_order", "rise_from")
        from_0_to_1(self, "rise_until")


class SimsTraining(regression.RegressionTraining[MapBatch]):
    """An objective with its optimizer and its memory (generators.base.Remembers)."""

    objective: SimsObjective
    config: Loop

    def parameter_groups(self) -> list[dict[str, Any]]:
        """Return the weights of each network."""
        networks = self.objective.networks["G"]
        assert isinstance(networks, Networks)
        loop = self.config
        of_networks: list[tuple[nn.Module, float]] = [
            (networks.transform, loop.lr_transform),
            (networks.order, loop.lr_order),
            (networks.synthesis, loop.lr),
        ]
        groups = []
        for network, rate in of_networks:
            groups.append({"params": list(network.parameters()), "full_rate": rate})
        return groups

    def rate(self, group: dict[str, Any], factor: float, index: int) -> float:
        """Return the rate of a network at a step."""
        loop = self.config
        rise = loop.rise_until * self.steps
        if index < rise:
            factor *= loop.rise_from ** (1 - index / rise)
        return float(group["full_rate"] * factor)

    def remember(self, batches: Iterable[MapBatch]) -> None:
        """Fill the memory with the segments of labelled images, in order."""
        config = self.objective.config
        num_classes = self.objective.num_classes
        statistics = Statistics(num_classes)

        def pictures() -> Iterable[tuple[Bytes, Ints]]:
            kept = 0
            for batch in batches:
                images = to_pixels(batch.images)
                for image, labels in zip(images, batch.maps.labels.numpy(), strict=True):
                    if config.memory and kept == config.memory:
                        return
                    segments = segments_of(labels, num_classes, config.thin)
                    large = large_segments(segments, config.large, config.size)
                    statistics.add(large, config.size)
                    yield image, labels
                    kept += 1

        stored = list(pictures())
        self.bank.fill(stored, statistics.shares())

    @property
    def bank(self) -> SegmentBank:
        """Return the memory."""
        return self.objective.bank

    def generator(self) -> Sims:
        """Return the networks, the averaged ones where there are any, with the memory."""
        networks = super().generator()
        assert isinstance(networks, Networks)
        with torch.device("meta"):
            shipped = Sims(self.objective.config, self.objective.num_classes)
        shipped.networks = networks
        shipped.bank = self.bank
        return shipped
