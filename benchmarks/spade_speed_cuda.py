"""SPADE and the panoptic-aware generator on a GPU.

Production and training by form, on real maps at 256 x 256.

    python -m benchmarks.spade_speed_cuda FOLDER [inference] [training]

Published widths, random weights; the maps' semantic tensors, windows and guides are made in each
call, as for a user. Times are medians by device events; the ratio is to the direct form in float32.
"by windows" evaluates the modulation once per distinct window of the maps, "direct" by the paper's
convolutions. float32 is multiplied as torch's defaults say.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path

import torch
from torch import Tensor

from benchmarks.cuda_timing import Call, about, heading, milliseconds, peak_bytes, row, tried
from benchmarks.spade_speed import CLASSES, CONFIG, LOOP, SIDE, read_maps, settled
from synthaug.generators import panoptic as panoptic_system
from synthaug.generators import spade as spade_system
from synthaug.generators.base import MapBatch, Maps
from synthaug.generators.panoptic import network as panoptic
from synthaug.generators.spade import network as spade
from synthaug.generators.spade.fast import FastGenerator
from synthaug.generators.spade.semantics import semantics

BATCHES = (1, 8)
TRAINED = 4  # images of a training step
BF16 = torch.bfloat16


def batch_of(maps: Sequence[Maps], count: int) -> Maps:
    chosen = [maps[i % len(maps)] for i in range(count)]
    return Maps(
        torch.cat([m.labels for m in chosen]), torch.cat([m.instances for m in chosen]), CLASSES
    ).to("cuda")


def networks() -> dict[str, torch.nn.Module]:
    """SPADE and the panoptic-aware generator, each direct and by windows."""
    found: dict[str, torch.nn.Module] = {}
    for name, fast in (("direct", False), ("by windows", True)):
        torch.manual_seed(0)
        found[f"SPADE {name}"] = settled(
            spade_system.build(replace(CONFIG, fast_modulation=fast), CLASSES)
        )
        config = panoptic.Config(**{**asdict(CONFIG), "fast_modulation": fast})
        found[f"panoptic {name}"] = settled(panoptic_system.build(config, CLASSES))
    return {
        name: network.to("cuda", memory_format=torch.channels_last)
        for name, network in found.items()
    }


def forms() -> dict[str, Callable[[Maps], Tensor]]:
    """Name -> maps to images; the first is what others are measured against."""

    def plainly(network: torch.nn.Module, maps: Maps, narrow: bool = False) -> Tensor:
        with torch.autocast("cuda", BF16, enabled=narrow):
            out: Tensor = network(semantics(maps, True, True)).float()
        return out

    made = networks()
    found: dict[str, Callable[[Maps], Tensor]] = {}
    for name, network in made.items():
        found[f"{name}, float32"] = partial(plainly, network)
        found[f"{name}, bfloat16"] = partial(plainly, network, narrow=True)
    for name, dtype in (("float32", torch.float32), ("bfloat16", BF16)):
        found[f"SPADE production, {name}"] = partial(
            plainly, FastGenerator(made["SPADE direct"], dtype)
        )
    return found


@torch.inference_mode()
def inference(maps: Sequence[Maps]) -> None:
    heading(
        "inference", "batch", "ms", "images/s", "times direct", "MB at most", "largest difference"
    )
    made = forms()
    for count in BATCHES:
        given = batch_of(maps, count)
        calls: dict[str, Call] = {name: partial(form, given) for name, form in made.items()}
        times = tried(calls, partial(milliseconds, seconds=0.4))
        peaks = tried(calls, peak_bytes)
        first = next(iter(times.values()))
        for name, form in made.items():
            exact = made[f"{name.split()[0]} direct, float32"](given)
            apart = (form(given) - exact).abs().max().item()
            cells = (
                f"{times[name]:.1f}",
                f"{1e3 * count / times[name]:.0f}",
                f"{first / times[name]:.2f}",
            )
            row(name, count, *cells, f"{peaks[name] / 1e6:.0f}", f"{apart:.0e}")


def training(maps: Sequence[Maps]) -> None:
    heading(
        f"training step, {TRAINED} images, no perceptual term",
        "ms",
        "images/s",
        "times direct",
        "MB at most",
    )
    images = torch.rand(TRAINED, 3, SIDE, SIDE, device="cuda") * 2 - 1
    batch, first = MapBatch(images, batch_of(maps, TRAINED)), float("nan")
    for system in (spade, panoptic):
        for precision in ("float32", "bfloat16"):
            for fast in (False, True):
                config = system.Config(**{**asdict(CONFIG), "fast_modulation": fast})
                loop = system.training(
                    config, replace(LOOP, precision=precision), CLASSES, 1000, 0, "cuda"
                )
                name = (
                    f"{system.__name__.split('.')[1]} {'by windows' if fast else 'direct'}, "
                    f"{precision}"
                )
                calls: dict[str, Call] = {name: partial(loop.step, 1, batch)}
                spent = tried(calls, partial(milliseconds, seconds=1.0))[name]
                peak = tried(calls, peak_bytes)[name]
                first = spent if first != first else first
                speeds = f"{spent:.0f}", f"{1e3 * TRAINED / spent:.1f}", f"{first / spent:.2f}"
                row(name, *speeds, f"{peak / 1e6:.0f}")
                del loop, calls


def main() -> None:
    """Print the tables that are named, or both."""
    if len(sys.argv) < 2:
        raise SystemExit(__doc__)
    maps = read_maps(Path(sys.argv[1]))
    words = sys.argv[2:] or ["inference", "training"]
    print(f"{len(maps)} maps, {about()}")
    if "inference" in words:
        inference(maps)
    if "training" in words:
        training(maps)


if __name__ == "__main__":
    main()
