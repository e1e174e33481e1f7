"""All that makes images of maps: three networks and the memory of segments."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from synthaug.generators.sims.bank import SegmentBank
from synthaug.generators.sims.config import Config
from synthaug.generators.sims.network import OrderNetwork, SynthesisNetwork, TransformNetwork


class Networks(nn.Module):
    """What is learned."""

    palette: Tensor  # [C + 1, 3] in [0, 1]: a color per class, black = no class

    def __init__(self, config: Config, num_classes: int) -> None:
        super().__init__()
        channels = config.map_channels(num_classes)
        self.transform = TransformNetwork(channels, config.width)
        self.order = OrderNetwork(num_classes + 1, config.width)
        self.synthesis = SynthesisNetwork(channels, config.width, config.size)
        self.register_buffer("palette", distinct_colors(num_classes))


class Sims(nn.Module):
    """The networks and the memory of segments."""

    def __init__(self, config: Config, num_classes: int) -> None:
        super().__init__()
        check_classes(config, num_classes)
        self.config = config
        self.num_classes = num_classes
        self.networks = Networks(config, num_classes)
        self.bank = SegmentBank(config, num_classes)


def check_classes(config: Config, num_classes: int) -> None:
    """Raise ValueError where a rule is for a class that is not there."""
    rules = {
        "thin": config.thin,
        "layers": config.layers,
        "ground": config.ground,
        "casters": config.casters,
        "loose": config.loose,
        "background": config.background,
    }
    for key, classes in rules.items():
        unknown = [label for label in classes if label >= num_classes]
        if unknown:
            raise ValueError(
                f"{key}: {unknown[0]} is no index of {num_classes} classes; give 0 to "
                f"{num_classes - 1}"
            )


def distinct_colors(num_classes: int) -> Tensor:
    """Return colors [num_classes + 1, 3] in [0, 1] that all differ; the last is black."""
    numbers = torch.arange(1, num_classes + 1, dtype=torch.float64)
    # multiples of three irrational numbers fill the cube evenly (Roberts 2018)
    plastic = 1.2207440846057596
    steps = torch.tensor([plastic**-1, plastic**-2, plastic**-3], dtype=torch.float64)
    colors = torch.frac(0.5 + numbers[:, None] * steps)
    black = torch.zeros(1, 3, dtype=torch.float64)
    return torch.cat([colors, black]).float()
