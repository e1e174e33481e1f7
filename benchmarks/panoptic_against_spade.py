"""Does a panoptic-aware generator beat SPADE on the toy, trained alike? detAP, mIoU and pixel
accuracy over seeds.

    python -m benchmarks.panoptic_against_spade OUT [--device cuda] [--seeds 3] [--steps 3000] \
        [--size 128] ...

Both systems see the same batches at every step of a seed, start from the same seed and do the same
number of steps, through the generators' own training loop. Each paints the same held-out validation
maps. Two judges (panoptic_judges.py), trained here on the real training images, look at what was
painted: a Faster R-CNN (detAP: COCO AP against the boxes of the maps) and a segmentation network
(mIoU and pixel accuracy against the classes of the maps); what they say of the real images of these
maps is the ceiling.

Judges and generators are processes of their own that run side by side, and are looked at after a
quarter, half and all of the steps. What is finished is kept in OUT and not done again; the summary
compares the points that all runs reached, so a run that was cut short (`--minutes`) still tells
something. Leaves OUT/summary.md, OUT/<system>-<seed>/ with log, images and checkpoints,
OUT/examples/ for a sheet, and OUT/pack/ with all that is small and the first seed's checkpoints in
half precision.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tarfile
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from benchmarks.panoptic_judges import (
    SYSTEMS,
    Plan,
    measure,
    report,
    train_detector,
    train_segmenter,
)
from synthaug.generators import checkpoint, load_system
from synthaug.generators.base import MapBatch, Maps, SamplerOptions
from synthaug.generators.training.adversarial import Config as TrainingConfig
from synthaug.pipeline.batches.draw import draw_for
from synthaug.pipeline.batches.maps import View, map_batches
from synthaug.pipeline.core.images import encode
from synthaug.pipeline.core.panoptic_maps import maps_of
from synthaug.pipeline.core.scene import Scene
from synthaug.pipeline.core.seeding import seed_for
from synthaug.pipeline.core.storage import Folder
from synthaug.pipeline.execution.training import train
from synthaug.pipeline.formats.parquet import read as parquet
from synthaug.pipeline.formats.toy.dataset import Config as ToyConfig
from synthaug.pipeline.formats.toy.dataset import ToyDataset

EXAMPLES = 12  # maps whose images are kept as files


# ---- data


def painted_scene(split: str, count: int, size: int, index: int) -> Scene:
    return ToyDataset(ToyConfig(split, count, size))[index]


def prepare(plan: Plan) -> None:
    """Write the toy scenes as tables, painted on all cores."""
    with ProcessPoolExecutor() as pool:
        for split, count in (("train", plan.train_images), ("val", plan.held_out)):
            folder = plan.out / "data" / split
            if (folder / "done").exists():
                continue
            folder.mkdir(parents=True, exist_ok=True)
            tasks = [split] * count, [count] * count, [plan.size] * count, range(count)
            with parquet.ShardWriter(
                Folder.at(folder), "part-00000.parquet", ToyDataset.categories
            ) as writer:
                writer.write(list(pool.map(painted_scene, *tasks, chunksize=8)))
            (folder / "done").touch()


# ---- generators


def train_generator(plan: Plan, name: str) -> None:
    """Train one system with one seed; paint the held-out maps at every point."""
    system, seed = name.rsplit("-", 1)
    module = load_system(system)
    config = module.Config(
        resolution=plan.size,
        width=plan.width,
        width_d=plan.width_d,
        fast_modulation=plan.by_windows,
        **({"scaling": plan.scaling} if system == "panoptic" else {}),
    )
    table, classes = plan.table("train"), len(ToyDataset.categories)
    identity = seed_for("panoptic against spade", int(seed))  # the same for both systems
    loop = TrainingConfig(lr_d=4e-4, beta2=0.9, precision=plan.precision)  # SPADE's
    training = module.training(config, loop, classes, plan.steps, identity % 2**31, plan.device)
    read = map_batches(
        [table],
        draw_for([table], plan.batch, identity, "uniform", 0.0),
        View(config.size),
        flip=True,
    )
    began = time.monotonic()

    def batches(step: int) -> MapBatch:
        if step % 250 == 0:
            print(
                f"{name}: step {step} of {plan.steps} after {time.monotonic() - began:.0f} s",
                flush=True,
            )
        found = read(step)
        maps = Maps(torch.from_numpy(found.labels), torch.from_numpy(found.instances), classes)
        return MapBatch(torch.from_numpy(found.images), maps).to(plan.device)

    folder = plan.out / name
    for point in plan.points():
        if (folder / f"painted-{point}.npy").exists():
            continue
        train(training, batches, point, point, Folder.at(folder))
        network = training.generator()
        extra = {"seed": int(seed), "steps": point}
        classes_named = [c.name for c in ToyDataset.categories]
        checkpoint.save(
            folder / f"generator-{point}.safetensors", network, system, config, classes_named, extra
        )
        save(folder / f"painted-{point}.npy", paint(plan, module, network))
        print(
            f"{name}: {point} of {plan.steps} steps, painted, after {time.monotonic() - began:.0f} "
            "s",
            flush=True,
        )


@torch.no_grad()
def paint(plan: Plan, module: Any, network: nn.Module) -> NDArray[np.uint8]:
    """Images [N, H, W, 3] of the held-out maps."""
    table, made = plan.table("val"), []
    sampler = module.sampler(network, SamplerOptions(plan.device, precision=plan.precision))
    for start in range(0, len(table), plan.batch):
        scenes = [table[i] for i in range(start, min(len(table), start + plan.batch))]
        found = [maps_of(scene, sampler.num_classes, sampler.size) for scene in scenes]
        maps = Maps.collate(
            [m.labels for m in found], [m.instances for m in found], sampler.num_classes
        )
        made.append(sampler.sample(maps, [0] * len(scenes)).images)
    return np.concatenate(made)


def save(path: Path, array: NDArray[Any]) -> None:
    """Write whole or not at all."""
    part = path.with_suffix(".part")
    with part.open("wb") as file:
        np.save(file, array)
    part.rename(path)


# ---- what is left


def examples(plan: Plan) -> None:
    """Real images of the first held-out maps, and what every run painted of them last."""
    folder, table = plan.out / "examples", plan.table("val")
    folder.mkdir(exist_ok=True)
    count = min(EXAMPLES, len(table))
    for i in range(count):
        scene = table[i]
        (folder / f"{i:02d}-real.png").write_bytes(scene.image.data or b"")
        (folder / f"{i:02d}-map.png").write_bytes((scene.panoptic and scene.panoptic.data) or b"")
    for path in sorted(plan.out.glob("*-*/painted-*.npy")):
        for i, image in enumerate(np.load(path, mmap_mode="r")[:count]):
            point = path.stem.removeprefix("painted-")
            (folder / f"{i:02d}-{path.parent.name}-{point}.png").write_bytes(
                encode(np.asarray(image), "png")
            )


def pack(plan: Plan) -> None:
    """Gather what one takes along.

    Tables, logs, examples, and the first seed's last generators at half the bytes.
    """
    folder = plan.out / "pack"
    folder.mkdir(exist_ok=True)
    with tarfile.open(folder / "results.tar.gz", "w:gz") as archive:
        found = [
            *plan.out.glob("*/result-*.json"),
            *plan.out.glob("*/log.jsonl"),
            *(plan.out / "examples").glob("*"),
        ]
        for path in sorted([plan.out / "summary.md", *found]):
            archive.add(path, path.relative_to(plan.out))
    for system in SYSTEMS:
        paths = sorted(
            (plan.out / f"{system}-0").glob("generator-*"), key=lambda p: int(p.stem.split("-")[1])
        )
        if paths:
            module, network, header = checkpoint.load(paths[-1])
            extra = {"seed": header["seed"], "steps": header["steps"]}
            config = checkpoint.read_config(module, header)
            checkpoint.save(
                folder / f"{system}.safetensors",
                network.half(),
                system,
                config,
                header["classes"],
                extra,
            )


# ---- processes

VERBS: dict[str, Callable[..., None]] = {
    "train_generator": train_generator,
    "train_detector": train_detector,
    "train_segmenter": train_segmenter,
    "measure": measure,
}


def side_by_side(plan: Plan, tasks: list[list[str]], deadline: float) -> None:
    """Run tasks (verb and name) as processes of their own, so many at a time.

    End generators' trainings at the deadline.
    """
    waiting, running = list(tasks), dict[str, subprocess.Popen[bytes]]()
    while waiting or running:
        while waiting and len(running) < plan.processes:
            task = waiting.pop(0)
            code = [
                sys.executable,
                "-m",
                "benchmarks.panoptic_against_spade",
                *sys.argv[1:],
                "--task",
                *task,
            ]
            running[" ".join(task)] = subprocess.Popen(code)
        time.sleep(0.2)
        for name, process in list(running.items()):
            if (
                process.poll() is None
                and time.monotonic() > deadline
                and name.startswith("train_generator")
            ):
                print(f"{name}: ended at the deadline", flush=True)
                process.kill()
                process.wait()
            if process.poll() is not None:
                if process.returncode:
                    print(f"{name}: ended with {process.returncode}", flush=True)
                del running[name]
        if time.monotonic() > deadline:
            waiting.clear()


def run(plan: Plan) -> None:
    began = time.monotonic()
    deadline = began + 60 * plan.minutes if plan.minutes else float("inf")
    prepare(plan)
    print(f"scenes painted after {time.monotonic() - began:.0f} s", flush=True)
    runs = [f"{system}-{seed}" for seed in range(plan.seeds) for system in SYSTEMS]
    tasks = [["train_generator", name] for name in runs if not painted(plan, name)]
    for kind, weights in (("detector", "weights.safetensors"), ("segmenter", "weights.pt")):
        if not (plan.out / f"judge-{kind}" / weights).exists():
            tasks.insert(0, [f"train_{kind}"])
    side_by_side(plan, tasks, deadline)
    print(f"trained after {time.monotonic() - began:.0f} s", flush=True)
    side_by_side(plan, [["measure", name] for name in ["real", *runs]], float("inf"))
    examples(plan)
    text = report(plan)
    (plan.out / "summary.md").write_text(text + "\n")
    pack(plan)
    print(f"measured after {time.monotonic() - began:.0f} s\n\n{text}", flush=True)


def painted(plan: Plan, name: str) -> bool:
    return (plan.out / name / f"painted-{plan.points()[-1]}.npy").exists()


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("out", type=Path)
    parser.add_argument("--device", default="cpu", choices=["cpu", "cuda"])
    numbers = {
        "seeds": 3,
        "steps": 3000,
        "batch": 16,
        "size": 128,
        "width": 16,
        "width-d": 32,
        "train-images": 1600,
    }
    numbers |= {"held-out": 300, "detector-steps": 1200, "segmenter-steps": 1500}
    for name, usual in numbers.items():
        parser.add_argument(f"--{name}", type=int, default=usual, help=f"default {usual}")
    parser.add_argument(
        "--scaling", default="mean", choices=["mean", "root"], help="of the panoptic generator"
    )
    parser.add_argument("--precision", default="float32", choices=["float32", "bfloat16"])
    parser.add_argument(
        "--by-windows",
        action="store_true",
        help="SPADE's modulation once per distinct window: for CPUs",
    )
    parser.add_argument(
        "--minutes",
        type=float,
        default=0,
        help="trainings end then, finished or not; 0 = when finished",
    )
    parser.add_argument("--processes", type=int, default=8, help="at a time")
    parser.add_argument("--task", nargs="+", help=argparse.SUPPRESS)
    given = vars(parser.parse_args())
    task = given.pop("task")
    plan = Plan(**{**given, "out": given["out"].resolve()})
    if task:
        torch.set_num_threads(1)
        VERBS[task[0]](plan, *task[1:])
        return
    run(plan)


if __name__ == "__main__":
    main()
