"""How fast this program works: measured rates, and those of other machines.

The one place of such numbers. They were measured on two virtual CPUs, the two threads of one core,
of a Xeon that has bfloat16 (AMX); `source` says where. A machine with more of them is counted as
faster by CPUS_HELP, which is an assumption.
"""

from __future__ import annotations

import os
from dataclasses import dataclass

MEASURED_CPUS = 2
CPUS_HELP = 0.8  # n times as many work n^0.8 times as fast; not measured
SMALLEST_WINDOW = 58**2  # pixels: smaller ones take as long (36 a second of 32 and 48 pixels)


@dataclass(frozen=True)
class Rate:
    """Work done in a second by MEASURED_CPUS, with bfloat16 and without."""

    bfloat16: float
    float32: float
    source: str


# pixels per second, of images as the network sees them; what was measured on one thread is counted
# as 1.2 times as much on two, as the in-filler gains (24 to 26 and 30.0 windows a second)
LEARN = {  # backbone of the detector -> forth, back and a step of the optimizer
    "lite0": Rate(1.6e6, 1.2e6, "docs/detectors.md: 1.6 CPU s a step of 8 x 448 x 597, stride 8"),
    "small": Rate(2.46e6, 2.46e6, "docs/detectors.md: 0.15 s a step of 4 x 240 x 320"),
}
DETECT = {  # both mirror images are looked at
    "lite0": Rate(1.25e6, 1.25e6, "not measured: as much faster than learning as small is"),
    "small": Rate(2.95e6, 2.95e6, "2026-11-22-pseudo-labels.md: 32 images of 240 x 320 a second"),
}
# pixels per second of windows, or of whole images: at a width of 8 channels
GENERATOR_LEARN = {
    "fill": Rate(123e3, 41e3, "2026-11-30-fill-speed.md: 30.0 windows of 64 x 64 a second"),
    "panoptic": Rate(
        36e3, 36e3, "2026-11-28-panoptic-against-spade.md: 600 steps of 8 x 64 x 64 in 9 minutes"
    ),
}
GENERATOR_PAINT = {
    "fill": Rate(19.7e3, 6.6e3, "2026-11-30-fill-speed.md: 4.8 windows of 64 x 64 a second"),
    "panoptic": Rate(145e3, 145e3, "not measured: four times as fast as learning"),
}


@dataclass(frozen=True)
class Machine:
    """What decides how fast this program works."""

    cpus: int  # that this process may use, threads of a core among them
    has_bfloat16: bool
    gpu: str = ""  # its name; "" = none that torch can use

    @property
    def is_measured(self) -> bool:
        """Whether there are rates for it: none were measured on a GPU."""
        return not self.gpu

    def per_second(self, rate: Rate) -> float:
        """Return a rate on this machine."""
        measured = rate.bfloat16 if self.has_bfloat16 else rate.float32
        times_as_many = self.cpus / MEASURED_CPUS
        speed: float = measured * times_as_many**CPUS_HELP
        return speed

    def __str__(self) -> str:
        if self.gpu:
            return f"{self.gpu}, {self.cpus} CPUs"
        numbers = "with bfloat16" if self.has_bfloat16 else "without bfloat16"
        return f"{self.cpus} CPUs {numbers}, no GPU"


def this_machine() -> Machine:
    """Return the machine that this process runs on."""
    import torch

    from synthaug.generators.nn.precision import has_bfloat16

    cpus = os.cpu_count() or 1
    if hasattr(os, "sched_getaffinity"):
        cpus = len(os.sched_getaffinity(0))
    if torch.cuda.is_available():
        return Machine(cpus, has_bfloat16(torch.device("cuda")), torch.cuda.get_device_name(0))
    return Machine(cpus, has_bfloat16(torch.device("cpu")))
