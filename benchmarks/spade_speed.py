"""How much faster are SPADE's production form and its training by windows than its convolutions,
evaluated directly?

    python -m benchmarks.spade_speed FOLDER [inference] [training]

On a GPU spade_speed_cuda.py asks the same.

FOLDER is COCO-Stuff with `semantic_train` (class indices, 255 = don't care) and `panoptic_train`:
its maps, at 256 x 256. The baseline is `generators/spade/network.py` with `fast_modulation: false`:
every convolution the paper names, spectral norms at every forward, NCHW. Published widths, 182
classes, random weights, batch 1. One thread of one process runs every form on one map after the
other; what counts is the median over maps of the ratio of their CPU seconds, which other work on
the machine hardly moves.
"""

from __future__ import annotations

import statistics
import sys
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from synthaug.generators import spade as spade_system
from synthaug.generators.base import MapBatch, Maps
from synthaug.generators.spade import network as spade
from synthaug.generators.spade.fast import FastGenerator
from synthaug.generators.spade.semantics import semantics
from synthaug.generators.training.adversarial import Config as TrainingConfig

CLASSES, SIDE = 182, 256
CONFIG = spade.Config(fast_modulation=False)
LOOP = TrainingConfig(lr_d=4e-4, beta2=0.9)


def read_maps(folder: Path) -> list[Maps]:
    found = []
    for path in sorted((folder / "semantic_train").glob("*.png")):
        labels = np.asarray(Image.open(path).resize((SIDE, SIDE), Image.Resampling.NEAREST)).astype(
            np.int64
        )
        coded = Image.open(folder / "panoptic_train" / path.name).convert("RGB")
        rgb = np.asarray(coded.resize((SIDE, SIDE), Image.Resampling.NEAREST)).astype(np.int64)
        labels = np.where(labels == 255, CLASSES, labels)
        found.append(Maps.collate([labels], [rgb @ np.array([1, 256, 65536])], CLASSES))
    return found


def report(title: str, spent: dict[str, list[float]], apart: dict[str, float]) -> None:
    print(
        f"\n| {title} | CPU s, median (min to max) | ratio, median (min to max) | largest "
        "difference |\n|---|---|---|---|"
    )
    first = next(iter(spent.values()))
    for name, own in spent.items():
        ratios = [a / b for a, b in zip(first, own, strict=True)]
        columns = [
            f"{statistics.median(v):.2f} ({min(v):.2f} to {max(v):.2f})" for v in (own, ratios)
        ]
        print(f"| {name} | {columns[0]} | {columns[1]} | {apart[name]:.0e} |", flush=True)


def settled(network: spade.SpadeGenerator) -> spade.SpadeGenerator:
    """The network in evaluation, its numbers of the size of a trained one's."""
    for name, value in network.state_dict().items():
        if name.endswith("running_var"):
            value.uniform_(0.5, 1.5)
        elif name == "conv_img.weight" or (
            ".mlp_" in name and value.ndim > 1
        ):  # they start next to nothing
            value.normal_(std=0.05)
    network.train()
    for module in network.modules():
        if isinstance(module, spade.BlockConv):
            for _ in range(10):
                module.weight()
    return network.eval()


@torch.inference_mode()
def inference(maps: Sequence[Maps]) -> None:
    torch.manual_seed(0)
    direct = settled(spade_system.build(CONFIG, CLASSES))
    windows = spade_system.build(replace(CONFIG, fast_modulation=True), CLASSES).eval()
    windows.load_state_dict(direct.state_dict())
    forms: dict[str, torch.nn.Module] = {"direct": direct, "network by windows": windows}
    forms["production, float32"] = FastGenerator(direct)
    forms["production, bfloat16"] = FastGenerator(direct, torch.bfloat16)
    spent: dict[str, list[float]] = {name: [] for name in forms}
    apart = dict.fromkeys(forms, 0.0)
    for form in (forms["production, float32"], forms["production, bfloat16"]):
        form(semantics(maps[0], True, True))  # memory that is there already is no advantage
    for given in maps:
        expected: Tensor | None = None
        for name, form in forms.items():
            began = time.process_time()
            made = form(semantics(given, True, True))
            spent[name].append(time.process_time() - began)
            expected = made if expected is None else expected
            apart[name] = max(apart[name], (made - expected).abs().max().item())
    report(f"inference, {len(maps)} maps", spent, apart)


def training(maps: Sequence[Maps]) -> None:
    spent: dict[str, list[float]] = {}
    loops = {}
    for precision in ("float32", "bfloat16"):
        for fast in (False, True):
            name = f"{'by windows' if fast else 'by pixels'}, {precision}"
            config = replace(CONFIG, fast_modulation=fast)
            loop = replace(LOOP, precision=precision)
            loops[name] = spade_system.training(config, loop, CLASSES, 1000, seed=0)
            spent[name] = []
    real = torch.rand(1, 3, SIDE, SIDE, generator=torch.Generator().manual_seed(2)) * 2 - 1
    told: dict[str, dict[str, Tensor]] = {}
    for index, given in enumerate(maps):
        for name, loop in loops.items():
            batch = MapBatch(real, given)
            began = time.process_time()
            terms = loop.step(index, batch)
            spent[name].append(time.process_time() - began)
            told.setdefault(
                name, terms
            )  # later steps tell how Adam turns rounding into steps, not how large it is
    first = next(iter(told.values()))
    apart = {
        name: max(abs(float(terms[t] - first[t])) for t in first) for name, terms in told.items()
    }
    report(
        f"training step, {len(maps)} maps, no perceptual term; difference of the first losses",
        spent,
        apart,
    )


def main() -> None:
    torch.set_num_threads(1)
    if len(sys.argv) < 2 or not Path(sys.argv[1]).is_dir():
        raise SystemExit(
            "give the folder of COCO-Stuff that holds semantic_train and panoptic_train"
        )
    maps = read_maps(Path(sys.argv[1]))
    wanted = sys.argv[2:] or ["inference", "training"]
    if "inference" in wanted:
        inference(maps)
    if "training" in wanted:
        training(maps[:3])


if __name__ == "__main__":
    main()
