"""Speed and memory of the in-filler: windows learned from and objects painted, per second.

    python benchmarks/fill_speed.py [THREADS] [STEPS] [OBJECTS]

Trains the network at its default size on windows of 64 pixels of toy images enlarged to 320 pixels,
then paints objects into them. The share of the hardware's peak is of what 3 x 3 convolutions of the
network's own widths reach in the same run, in the precision that training takes here.
"""

from __future__ import annotations

import resource
import sys
import time
from collections.abc import Callable

import numpy as np
import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from synthaug.generators import fill
from synthaug.generators.base import Edit, Painting, Photo, PhotoBatch, SamplerOptions
from synthaug.generators.fill.config import Config, Loop
from synthaug.pipeline.batches.pixels import Pixels
from synthaug.pipeline.formats.toy.dataset import Config as ToyConfig
from synthaug.pipeline.formats.toy.dataset import ToyDataset

BATCH = 32
SCALE = 5  # toy images are 64 pixels


def photos() -> list[Photo]:
    """Return enlarged toy images with their things."""
    pixels = Pixels([ToyDataset(ToyConfig("train", count=BATCH))])
    found = []
    for index in range(BATCH):
        scene, image = pixels[index]
        things = scene.objects.select(scene.objects.isthing)
        large = np.repeat(np.repeat(image, SCALE, 0), SCALE, 1)
        found.append(Photo(large, things.category.astype(np.int64), things.boxes * SCALE))
    return found


def seconds(work: Callable[[int], object], times: int) -> float:
    """Return the wall time of a call, after one that does not count."""
    work(0)
    began = time.perf_counter()
    for number in range(times):
        work(number + 1)
    return (time.perf_counter() - began) / times


def peak(dtype: torch.dtype) -> float:
    """Return the floating-point operations per second of the network's largest convolutions."""
    best = 0.0
    for channels, side in ((32, 64), (64, 32), (96, 16), (128, 8)):
        x = torch.randn(BATCH, channels, side, side, dtype=dtype)
        x = x.to(memory_format=torch.channels_last)
        layer = nn.Conv2d(channels, channels, 3, padding=1, dtype=dtype)
        layer = layer.to(memory_format=torch.channels_last)
        with torch.no_grad():
            taken = seconds(lambda _, x=x, layer=layer: layer(x), 10)
        best = max(best, 2 * 9 * channels**2 * side**2 * BATCH / taken)
    return best


def main(threads: int = 2, steps: int = 20, objects: int = 64) -> None:
    """Measure and print."""
    torch.set_num_threads(threads)
    config = Config(resolutions=(64,))
    num_classes = len(ToyDataset(ToyConfig("train", count=1)).categories)
    there = photos()
    training = fill.training(config, Loop(), num_classes, steps + 1, seed=0)
    counter = FlopCounterMode(display=False)
    with counter:
        training.step(0, PhotoBatch(there, []))
    taken = seconds(lambda number: training.step(number, PhotoBatch(there, [])), steps)
    precision = torch.bfloat16 if training.bf16 else torch.float32
    share = counter.get_total_flops() / taken / peak(precision)
    print(f"{threads} threads, {precision}, {config.width} wide")
    print(
        f"training: {BATCH / taken:.1f} windows/s of 64 pixels, {share:.0%} of the convolutions' "
        "peak"
    )

    sampler = fill.sampler(training.generator(), SamplerOptions(precision="auto"))
    edits = []
    for photo in there:
        box = np.array([40, 40, 80, 80], np.float32)
        edits.append(Edit(photo, (Painting(0, box),)))
    rounds = max(1, objects // BATCH)
    taken = seconds(lambda number: sampler.edit(edits, range(number, number + BATCH)), rounds)
    print(f"painting: {BATCH / taken:.1f} objects/s with masks, {config.flow_steps} steps, guided")
    used = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    print(f"memory: {used:.2f} GB at its peak")


if __name__ == "__main__":
    main(*(int(word) for word in sys.argv[1:4]))
