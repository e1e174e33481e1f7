"""The judges of panoptic_against_spade.py, a detector and a segmentation network that learn from
real images; its table.
"""

from __future__ import annotations

import json
import statistics
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

from synthaug.detectors import torchvision_rcnn
from synthaug.generators.nn.panoptic.neighbourhood import matching_taps
from synthaug.pipeline.batches.detector import detector_batches
from synthaug.pipeline.batches.draw import draw_for
from synthaug.pipeline.batches.maps import View, map_batches
from synthaug.pipeline.core.images import decode
from synthaug.pipeline.core.panoptic_maps import maps_of
from synthaug.pipeline.core.scene import Dataset
from synthaug.pipeline.core.storage import Folder
from synthaug.pipeline.execution.training import train
from synthaug.pipeline.formats.parquet import read as parquet
from synthaug.pipeline.scores.detection.evaluator import DetectionEvaluator, DetectionRow
from synthaug.pipeline.scores.segmentation.segmentation import confusion, summary

SYSTEMS = ("panoptic", "spade")
NUMBERS = {
    "detAP": "detAP",
    "detAP50": "detAP50",
    "detAP50_meeting": "detAP50 of things that meet",
    "miou": "mIoU",
    "pixel_accuracy": "pixel accuracy",
    "edge_accuracy": "within 2 pixels of boundaries",
    "saturated_inside": "saturated pixels inside",
    "saturated_edge": "saturated at boundaries",
    "saturated_edge_1_3": "1 to 3 taps match",
    "saturated_edge_4_6": "4 to 6",
    "saturated_edge_7_8": "7 or 8",
}
POINTS = (0.25, 0.5, 1.0)  # shares of the steps after which images are painted


@dataclass(frozen=True)
class Plan:
    """What is trained on what; one object per call of the script."""

    out: Path
    device: str
    seeds: int
    steps: int
    batch: int
    size: int
    width: int
    width_d: int
    train_images: int
    held_out: int
    detector_steps: int
    segmenter_steps: int
    scaling: str
    precision: str
    by_windows: bool
    minutes: float
    processes: int

    def table(self, split: str) -> Dataset:
        return parquet.open_table(self.out / "data" / split)

    def points(self) -> list[int]:
        return sorted({max(1, round(share * self.steps)) for share in POINTS})


def train_detector(plan: Plan) -> None:
    table = plan.table("train")
    config = torchvision_rcnn.Config(backbone="small", image_size=max(128, plan.size))
    detector = torchvision_rcnn.build(config, len(table.categories), seed=1, device=plan.device)
    training = detector.training(plan.detector_steps, 1)
    batches = detector_batches(table, draw_for([table], 16, 1, "repeat_factor", 0.01))
    train(
        training,
        batches,
        plan.detector_steps,
        plan.detector_steps,
        Folder.at(plan.out / "judge-detector"),
    )
    training.finish()
    detector.save(plan.out / "judge-detector" / "part.safetensors", {})
    (plan.out / "judge-detector" / "part.safetensors").rename(
        plan.out / "judge-detector" / "weights.safetensors"
    )
    print("judge-detector: trained", flush=True)


class Segmenter(nn.Module):
    """A U-Net (Ronneberger et al., 2015) of four scales with batch norm.

    Images [B, 3, H, W] -> logits [B, K, H, W].
    """

    def __init__(self, num_classes: int, width: int = 32) -> None:
        super().__init__()
        widths = [width, 2 * width, 4 * width, 8 * width]
        self.down = nn.ModuleList(_two(a, b) for a, b in zip([3, *widths], widths, strict=False))
        self.up = nn.ModuleList(
            _two(a + b, b) for a, b in zip(widths[:0:-1], widths[-2::-1], strict=True)
        )
        self.head = nn.Conv2d(width, num_classes, 1)

    def forward(self, x: Tensor) -> Tensor:
        kept = []
        for i, block in enumerate(self.down):
            x = block(F.max_pool2d(x, 2) if i else x)
            kept.append(x)
        for block, skip in zip(self.up, kept[-2::-1], strict=True):
            x = block(torch.cat([F.interpolate(x, scale_factor=2.0, mode="nearest"), skip], 1))
        out: Tensor = self.head(x)
        return out


def _two(a: int, b: int) -> nn.Module:
    def one(a: int) -> list[nn.Module]:
        return [nn.Conv2d(a, b, 3, padding=1, bias=False), nn.BatchNorm2d(b), nn.ReLU()]

    return nn.Sequential(*one(a), *one(b))


class SegmenterTraining:
    """For the pipeline's loop: cross entropy over all pixels that have a class."""

    def __init__(self, plan: Plan, classes: int) -> None:
        torch.manual_seed(2)
        self.classes = classes  # which is the label of pixels without one, too
        self.network = Segmenter(self.classes).to(plan.device, memory_format=torch.channels_last)
        self.modules = {"network": self.network}
        adam = torch.optim.AdamW(self.network.parameters(), 2e-3, weight_decay=1e-4)
        self.optimizers: dict[str, torch.optim.Optimizer] = {"network": adam}
        self._steps = plan.segmenter_steps

    def step(self, index: int, batch: tuple[Tensor, Tensor]) -> dict[str, Tensor]:
        images, labels = batch
        self.network.train()
        for group in self.optimizers["network"].param_groups:
            group["lr"] = 2e-3 * (0.01 + 0.99 * (1 - index / self._steps))
        loss = F.cross_entropy(self.network(images), labels, ignore_index=self.classes)
        self.optimizers["network"].zero_grad()
        torch.autograd.backward(loss)
        self.optimizers["network"].step()
        return {"loss": loss.detach()}


def train_segmenter(plan: Plan) -> None:
    table = plan.table("train")
    training = SegmenterTraining(plan, len(table.categories))
    read = map_batches(
        [table], draw_for([table], 16, 2, "uniform", 0.0), View((plan.size, plan.size)), flip=True
    )

    def batches(step: int) -> tuple[Tensor, Tensor]:
        found = read(step)
        return torch.from_numpy(found.images).to(plan.device), torch.from_numpy(found.labels).to(
            plan.device
        )

    folder = plan.out / "judge-segmenter"
    train(training, batches, plan.segmenter_steps, plan.segmenter_steps, Folder.at(folder))
    torch.save(training.network.state_dict(), folder / "part.pt")
    (folder / "part.pt").rename(folder / "weights.pt")
    print("judge-segmenter: trained", flush=True)


def measure(plan: Plan, name: str) -> None:
    """Let both judges look at what a run painted at each point, or at the real images."""
    table = plan.table("val")
    detector = torchvision_rcnn.load(
        plan.out / "judge-detector" / "weights.safetensors", device=plan.device
    )
    network = Segmenter(len(table.categories)).to(plan.device)
    weights = plan.out / "judge-segmenter" / "weights.pt"
    network.load_state_dict(torch.load(weights, map_location=plan.device, weights_only=True))
    network.eval()
    for point in plan.points() if name != "real" else [plan.steps]:
        path = plan.out / name / f"painted-{point}.npy"
        result = plan.out / name / f"result-{point}.json"
        if result.exists() or (name != "real" and not path.exists()):
            continue
        images = (
            np.stack([decode(table[i]) for i in range(len(table))])
            if name == "real"
            else np.load(path)
        )
        numbers = {
            **detected(detector, table, images),
            **segmented(network, table, images, plan.device),
        }
        numbers |= saturated(table, images)
        result.parent.mkdir(exist_ok=True)
        result.write_text(json.dumps(numbers, indent=1))
        print(f"{name} at {point}: {numbers}", flush=True)


def detected(detector: Any, table: Dataset, images: NDArray[np.uint8]) -> dict[str, float]:
    """COCO AP over the things of all maps, and AP50 of those whose box meets another one."""
    things = [c for c, category in enumerate(table.categories) if category.isthing]
    every, meeting = (DetectionEvaluator(table.categories, things) for _ in range(2))
    for start in range(0, len(images), 32):
        for i, p in enumerate(detector.predict(list(images[start : start + 32])), start):
            truth = table[i].objects
            height, width = images.shape[1:3]
            found = DetectionRow.of(i, replace(table[i], height=height, width=width), p)
            every.add(found)
            alone = ~meets_another(truth.boxes, truth.isthing)
            meeting.add(
                replace(found, crowd=truth.iscrowd | alone)
            )  # what is found of these counts neither way
    values, only = every.result().values, meeting.result().values
    numbers = {"detAP": values["AP"], "detAP50": values["AP50"], "detAP50_meeting": only["AP50"]}
    return {name: float(value or 0) for name, value in numbers.items()}


def meets_another(boxes: NDArray[np.float32], isthing: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Whether each box xyxy [N, 4] has pixels in common with that of another thing: [N]."""
    low = np.maximum(boxes[:, None, :2], boxes[None, :, :2])
    high = np.minimum(boxes[:, None, 2:], boxes[None, :, 2:])
    common = (high > low).all(-1) & isthing[None] & ~np.eye(len(boxes), dtype=bool)
    return np.asarray(common.any(1))


@torch.no_grad()
def segmented(
    network: nn.Module, table: Dataset, images: NDArray[np.uint8], device: str
) -> dict[str, float]:
    """mIoU and pixel accuracy over all classes, and accuracy near boundaries between instances."""
    classes = [c.name for c in table.categories]
    matrix, near = (np.zeros((len(classes), len(classes) + 1), np.int64) for _ in range(2))
    for start in range(0, len(images), 32):
        part = images[start : start + 32]
        pixels = torch.from_numpy(part).to(device).permute(0, 3, 1, 2).float() / 127.5 - 1
        found = network(pixels).argmax(1).cpu().numpy()
        for i, labels in enumerate(found, start):
            maps = maps_of(table[i], len(classes), labels.shape)
            matrix += confusion(maps.labels, labels, len(classes))
            far = ~beside_boundary(maps.instances)
            near += confusion(
                np.where(far, len(classes), maps.labels), labels, len(classes)
            )  # far: without a class
    values, edge = summary(matrix, classes).values, summary(near, classes).values
    numbers = {
        "miou": values["miou"],
        "pixel_accuracy": values["pixel_accuracy"],
        "edge_accuracy": edge["pixel_accuracy"],
    }
    return {name: float(value or 0) for name, value in numbers.items()}


def saturated(table: Dataset, images: NDArray[np.uint8]) -> dict[str, float]:
    """Shares of pixels with a value in the outermost hundredths, by how many taps of their 3 x 3
    window match.
    """
    size = images.shape[1:3]
    maps = np.stack(
        [maps_of(table[i], len(table.categories), size).instances for i in range(len(table))]
    )
    matching = matching_taps(torch.from_numpy(maps), 3).sum(0).numpy()
    inner = np.ones(matching.shape, bool)
    inner[:, [0, -1]] = inner[:, :, [0, -1]] = False  # there the image ends
    mixed = inner & (matching < 9)
    extreme = ((images <= 3) | (images >= 252)).any(-1)
    shares = {"mixed_share": float(mixed.mean())}  # of pixels; a property of the maps
    for name, taps in (
        ("edge_1_3", (1, 3)),
        ("edge_4_6", (4, 6)),
        ("edge_7_8", (7, 8)),
        ("inside", (9, 9)),
    ):
        chosen = inner & (matching >= taps[0]) & (matching <= taps[1])
        shares[f"saturated_{name}"] = float(extreme[chosen].mean()) if chosen.any() else 0.0
    return {**shares, "saturated_edge": float(extreme[mixed].mean())}


def beside_boundary(instances: NDArray[np.int64]) -> NDArray[np.bool_]:
    """Pixels [H, W] with another instance at most two pixels away, along rows or columns."""
    found = np.zeros(instances.shape, bool)
    for step in (1, 2):
        for a, b in ((np.s_[:-step], np.s_[step:]), (np.s_[:, :-step], np.s_[:, step:])):
            differs = instances[a] != instances[b]
            found[a] |= differs
            found[b] |= differs
    return found


def results(plan: Plan) -> Iterator[tuple[str, int, int, dict[str, float]]]:
    """(system, seed, point, numbers) of all that was measured."""
    for system in SYSTEMS:
        for seed in range(plan.seeds):
            for point in plan.points():
                path = plan.out / f"{system}-{seed}" / f"result-{point}.json"
                if path.exists():
                    yield system, seed, point, json.loads(path.read_text())


def spread(values: list[float]) -> str:
    """Mean and sample standard deviation."""
    deviation = statistics.stdev(values) if len(values) > 1 else float("nan")
    return f"{statistics.mean(values):.3f} ± {deviation:.3f}"


def report(plan: Plan) -> str:
    """Markdown: the comparison at every point that all seeds reached, the ceiling, and each run."""
    found = {(system, seed, point): numbers for system, seed, point, numbers in results(plan)}
    head = f"| {' | '.join(NUMBERS.values())} |"
    lines = [
        f"{plan.size} x {plan.size}, width {plan.width} (D {plan.width_d}), batch {plan.batch}, "
        f"{plan.precision}, scaling {plan.scaling}, {plan.train_images} training images, "
        f"{plan.held_out} held-out maps, {plan.seeds} seeds. Mean ± standard deviation; "
        "differences are paired by seed.\n",
        f"| steps | system {head}",
        "|---" * (len(NUMBERS) + 2) + "|",
    ]
    for point in plan.points():
        lines += _compared(
            plan, {key[:2]: numbers for key, numbers in found.items() if key[2] == point}, point
        )
    real = plan.out / "real" / f"result-{plan.steps}.json"
    if real.exists():
        numbers = json.loads(real.read_text())
        lines.append(f"| | real images | {' | '.join(f'{numbers[k]:.3f}' for k in NUMBERS)} |")
        lines.append(f"\nWindows of {numbers['mixed_share']:.1%} of all pixels are mixed.")
    lines += ["", f"| system | seed | steps {head}", "|---" * (len(NUMBERS) + 3) + "|"]
    for (system, seed, at), numbers in found.items():
        lines.append(
            f"| {system} | {seed} | {at} | {' | '.join(f'{numbers[k]:.3f}' for k in NUMBERS)} |"
        )
    return "\n".join(lines)


def _compared(
    plan: Plan, found: Mapping[tuple[str, int], Mapping[str, float]], point: int
) -> list[str]:
    """Rows of the table for what all seeds of both systems have at one point."""
    seeds = range(plan.seeds)
    if len(found) < len(SYSTEMS) * len(seeds):
        return []
    rows = []
    for system in SYSTEMS:
        rows.append(
            f"| {point} | {system} | "
            f"{' | '.join(spread([found[system, s][k] for s in seeds]) for k in NUMBERS)} |"
        )
    told = []
    for k in NUMBERS:
        differences = [found["panoptic", s][k] - found["spade", s][k] for s in seeds]
        told.append(f"{spread(differences)}, {sum(d > 0 for d in differences)} of {len(seeds)}")
    return [*rows, f"| | panoptic - spade, seeds where it is larger | {' | '.join(told)} |"]
