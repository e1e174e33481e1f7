"""Settings of the in-filler and of its training."""

from __future__ import annotations

from dataclasses import dataclass

from synthaug.generators.nn.precision import PRECISIONS
from synthaug.ranges import at_least, from_0_to_1, from_0_to_below_1


@dataclass(frozen=True)
class Config:
    """Sizes of the windows and of the U-Net, and how the flow is followed."""

    resolutions: tuple[int, ...] = (64, 128)  # pixels per side of windows, as the network sees them
    width: int = 32  # channels at the finest level; the others have 2, 3 and 4 times as many
    embedding: int = 128  # width of the vector of time, class and sizes
    heads: int = 4  # of the attention at the coarsest level
    surroundings: float = 1.6  # side of a window in longer sides of its box
    margin: float = 0.08  # share of the box by which the painted region reaches beyond it
    flow_steps: int = 6  # of the sampler
    guidance: float = 1.5  # towards the class; 1 = none
    examples: bool = True  # objects are painted after a real one of their class

    def __post_init__(self) -> None:
        if not self.resolutions or list(self.resolutions) != sorted(set(self.resolutions)):
            raise ValueError(f"resolutions: {list(self.resolutions)} is not a rising list")
        for resolution in self.resolutions:
            if resolution < 16 or resolution % 8:
                raise ValueError(f"resolutions: {resolution} is not a multiple of 8 from 16 on")
        if self.width < 4 or self.width % 4:
            raise ValueError(f"width: {self.width} is not a positive multiple of 4")
        at_least(1, self, "embedding", "flow_steps")
        at_least(0, self, "margin", "guidance")
        if self.heads < 1 or 4 * self.width % self.heads:
            raise ValueError(f"heads: {self.heads} does not divide {4 * self.width} channels")
        if self.surroundings < 1:
            raise ValueError(f"surroundings: {self.surroundings} is less than the box itself")


@dataclass(frozen=True)
class Loop:
    """How the flow is learned."""

    lr: float = 8e-4  # at its peak
    warmup: int = 100  # steps over which the rate rises; it falls by a cosine
    weight_decay: float = 0.01
    clip_grad: float = 1.0  # largest norm of the gradients
    ema: float = 0.999  # decay of the averaged weights
    dropout: float = 0.1  # inside the residual blocks
    class_dropout: float = 0.1  # share of the windows whose class the network is not told
    background: float = 0.2  # share of the windows that are filled with background, of no class
    ring: float = 0.15  # share of the windows in which only the seam around an object is painted
    shown: float = 0.8  # share of the objects of which an example is shown, where such are used
    # share of these of which no more is painted than the example's outline and a margin
    outlines: float = 0.5
    turns: bool = False  # turn windows by quarters: for images without an up (cells, maps)
    precision: str = "auto"  # float32 | bfloat16 | auto: bfloat16 where hardware has it

    def __post_init__(self) -> None:
        from_0_to_below_1(self, "ema", "dropout", "class_dropout", "background", "ring")
        from_0_to_1(self, "shown", "outlines")
        if self.background + self.ring > 1:
            raise ValueError("background: with ring it is more than all windows; lower one")
        at_least(0, self, "lr", "warmup", "weight_decay", "clip_grad")
        if self.precision not in PRECISIONS:
            raise ValueError(f"precision: '{self.precision}' is not one of {', '.join(PRECISIONS)}")
