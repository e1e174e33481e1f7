"""What does the whole panoptic-aware generator cost, against our SPADE generator, on real maps at
256 x 256?

    python -m benchmarks.panoptic_generator FOLDER [--device cuda] [network] [production] [training]

FOLDER is COCO-Stuff as for benchmarks/spade_speed.py. Published widths, 182 classes, random
weights, batch 1. Both run on one map after the other, in turns that begin with another one each
time; what counts is the median over maps of the ratio of their seconds: CPU seconds of one thread,
or on a GPU the time until it is done. Each pair is of equals:

    network     both as they are trained, in evaluation: modulation by distinct windows, spectral
                norms at every pass
    production  both as images are produced, float32 and bfloat16: norms folded, the fastest
                convolutions each may use
    training    one step of D and G, both as they are trained
"""

from __future__ import annotations

import statistics
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path

import torch
from torch import Tensor, nn

from benchmarks.spade_speed import CLASSES, LOOP, SIDE, read_maps
from synthaug.generators import panoptic as panoptic_system
from synthaug.generators import spade as spade_system
from synthaug.generators.base import MapBatch, Maps, SamplerOptions
from synthaug.generators.panoptic import network as panoptic
from synthaug.generators.spade import network as spade
from synthaug.generators.spade.semantics import semantics

CONFIG = panoptic.Config()
BAR = 1.15
Call = Callable[[Maps], object]


def clock(device: str) -> float:
    if device == "cpu":
        return time.process_time()
    torch.cuda.synchronize()
    return time.perf_counter()


def turns(calls: Mapping[str, Call], maps: Sequence[Maps], device: str) -> dict[str, list[float]]:
    """Seconds of each call per map, after a map that does not count.

    Who begins changes from map to map.
    """
    seconds: dict[str, list[float]] = {name: [] for name in calls}
    for number, given in enumerate([maps[0], *maps]):
        names = list(calls)
        for name in names[number % len(names) :] + names[: number % len(names)]:
            began = clock(device)
            calls[name](given)
            spent = clock(device) - began
            if number:
                seconds[name].append(spent)
    return seconds


def report(title: str, seconds: dict[str, list[float]]) -> None:
    (_, own), (_, other) = seconds.items()
    ratios = sorted(a / b for a, b in zip(own, other, strict=True))
    row = [f"{statistics.median(values):.3f}" for values in (own, other)]
    print(
        f"| {title} | {' | '.join(row)} | {statistics.median(ratios):.2f} ({ratios[0]:.2f} to "
        f"{ratios[-1]:.2f}) |",
        flush=True,
    )


def networks(device: str) -> tuple[panoptic.PanopticGenerator, spade.SpadeGenerator]:
    """Both in evaluation, with weights that are no accident of the start."""
    torch.manual_seed(0)
    own = panoptic_system.build(CONFIG, CLASSES)
    plain = {
        name: value
        for name, value in asdict(CONFIG).items()
        if name in spade.Config.__dataclass_fields__
    }
    other = spade_system.build(spade.Config(**plain), CLASSES)
    with torch.no_grad():
        for name, value in own.state_dict().items():
            if name.endswith("running_var"):
                value.uniform_(0.5, 1.5)
            elif name == "conv_img.weight" or (
                ".mlp_" in name and value.ndim > 1
            ):  # they start next to nothing
                value.normal_(std=0.05)
    for module in own.train().modules():
        if isinstance(module, spade.BlockConv):
            for _ in range(10):
                module.weight()
    other.load_state_dict({k: v for k, v in own.state_dict().items() if not k.startswith("fill.")})
    layout = torch.channels_last  # as the pipeline has it
    return own.eval().to(device, memory_format=layout), other.eval().to(
        device, memory_format=layout
    )  # type: ignore[call-overload]


@torch.inference_mode()
def network(maps: Sequence[Maps], device: str) -> None:
    own, other = networks(device)

    def run(net: nn.Module, given: Maps) -> Tensor:
        made: Tensor = net(semantics(given.to(device), True, True))
        return made

    report(
        "network",
        turns({"panoptic": partial(run, own), "spade": partial(run, other)}, maps, device),
    )


@torch.inference_mode()
def production(maps: Sequence[Maps], device: str) -> None:
    own, other = networks(device)
    for precision in ("float32", "bfloat16"):
        options = SamplerOptions(device, precision=precision)
        ours = panoptic_system.sampler(own, options)
        theirs = spade_system.sampler(other, options)
        calls: dict[str, Call] = {
            name: (lambda given, sampler=sampler: sampler.sample(given, [0]))
            for name, sampler in {"panoptic": ours, "spade": theirs}.items()
        }
        report(f"production, {precision}", turns(calls, maps, device))


def training(maps: Sequence[Maps], device: str) -> None:
    real = torch.rand(1, 3, SIDE, SIDE, generator=torch.Generator().manual_seed(2)) * 2 - 1
    for precision in ("float32", "bfloat16"):
        calls: dict[str, Call] = {}
        for name, system in (("panoptic", panoptic_system), ("spade", spade_system)):
            config = replace(LOOP, precision=precision)
            loop = system.training(CONFIG, config, CLASSES, 1000, 0, device)
            calls[name] = lambda given, loop=loop: loop.step(0, MapBatch(real, given).to(device))
        report(
            f"training step, {precision}",
            turns(calls, maps[: 13 if device == "cuda" else 3], device),
        )


PARTS = {"network": network, "production": production, "training": training}


def main() -> None:
    arguments = sys.argv[1:]
    device = "cpu"
    if "--device" in arguments:
        place = arguments.index("--device")
        device = arguments[place + 1]
        del arguments[place : place + 2]
    torch.set_num_threads(1)
    if not arguments or not Path(arguments[0]).is_dir() or set(arguments[1:]) - set(PARTS):
        raise SystemExit(__doc__)
    maps = read_maps(Path(arguments[0]))
    print(f"{len(maps)} maps, torch {torch.__version__}, {device}; the bar is {BAR}\n")
    print("| | panoptic, s | SPADE, s | ratio, median (least to most) |\n|---|---|---|---|")
    for part in arguments[1:] or PARTS:
        PARTS[part](maps, device)


if __name__ == "__main__":
    main()
