"""Segmentation networks: any of torchvision or a TorchScript program from a local file, or a small one trained on the spot.

Legend: B batch, S side of the network's input, C classes of the data, K classes of the network.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property, lru_cache
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from synthaug.pipeline.core.errors import first_line, one_line
from synthaug.pipeline.core.panoptic_maps import maps_of, resize_map
from synthaug.pipeline.core.scene import Category
from synthaug.pipeline.core.seeding import permuted, rng_for, seed_for
from synthaug.pipeline.scores.base import MetricInputs, TrainingSpec

if TYPE_CHECKING:
    import torch
    from torch import Tensor, nn

OWN = "own"
IGNORE = 255  # of the loss
CACHED = 4096  # resized training images in memory
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)  # of torchvision's networks
TORCHVISION = (
    "deeplabv3_mobilenet_v3_large",
    "deeplabv3_resnet50",
    "deeplabv3_resnet101",
    "fcn_resnet50",
    "fcn_resnet101",
    "lraspp_mobilenet_v3_large",
)
Segment = Callable[
    [NDArray[np.uint8]], NDArray[np.int64]
]  # image [H, W, 3] -> class map [H, W], C = no class of ours


@dataclass(frozen=True)
class Own:
    """The small network that is trained on the labelled images: a U-Net of four levels (Ronneberger et al., 2015)."""

    width: int = 16  # channels of the first level; they double with each
    steps: int = 400
    batch: int = 16  # images
    lr: float = 2e-3  # Adam, with a cosine to 0
    side: int = 64  # images are resized to this square to be learnt from and to be segmented
    seed: int = 0

    def __post_init__(self) -> None:
        for name in ("width", "steps", "batch"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name}: {getattr(self, name)} is less than 1")
        if self.side < 16 or self.side % 8:
            raise ValueError(f"side: {self.side} is no multiple of 8 from 16 on")
        if not self.lr > 0:
            raise ValueError(f"lr: {self.lr} is not above 0")

    @property
    def name(self) -> str:
        """Its folder."""
        return f"segmenter-{hashlib.sha256(json.dumps(asdict(self), sort_keys=True).encode()).hexdigest()[:10]}"

    def training_spec(self, inputs: MetricInputs) -> TrainingSpec:
        """Return its training on the labelled images that have a map."""
        training = OwnTraining(self, len(inputs.categories), inputs.resources.device)
        return TrainingSpec(training, OwnBatches(self, inputs), self.steps)

    def segment(self, inputs: MetricInputs) -> Segment:
        """Return the trained network at work."""
        network = inputs.trained(self)["segmenter"].eval()

        def run(image: NDArray[np.uint8]) -> NDArray[np.int64]:
            import torch

            with torch.inference_mode():
                logits = network(normalised([resized(image, self.side)], inputs.resources.device))
            return resize_map(
                logits.argmax(1)[0].cpu().numpy().astype(np.int64), (image.shape[0], image.shape[1])
            )

        return run


class OwnBatches:
    """Step -> images [B, S, S, 3] and class maps [B, S, S]: epochs in random order, half of the images mirrored."""

    def __init__(self, own: Own, inputs: MetricInputs) -> None:
        table = inputs.tables["train"]
        self._own, self._table, self._classes = own, table, len(inputs.categories)
        self._read = lru_cache(CACHED)(self._one)

    @cached_property
    def _places(self) -> list[int]:
        return [i for i in range(len(self._table)) if self._table[i].panoptic is not None]

    def __call__(self, step: int) -> tuple[list[NDArray[np.uint8]], NDArray[np.int64]]:
        """Return the batch of a step."""
        own, count = self._own, len(self._places)
        places = range(step * own.batch, (step + 1) * own.batch)
        flips = rng_for(own.seed, "segmenter", "flip", step).random(own.batch) < 0.5
        drawn = [
            permuted(k % count, count, seed_for(own.seed, "segmenter", "epoch", k // count))
            for k in places
        ]
        pairs = [self._read(self._places[i]) for i in drawn]
        flipped = [
            (p[:, ::-1], m[:, ::-1]) if f else (p, m)
            for (p, m), f in zip(pairs, flips, strict=True)
        ]
        return [p for p, _ in flipped], np.stack([m for _, m in flipped])

    def _one(self, index: int) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
        from synthaug.pipeline.core.images import decode

        scene, side = self._table[index], self._own.side
        labels = resize_map(maps_of(scene, self._classes).labels, (side, side))
        return resized(decode(scene), side), np.where(labels < self._classes, labels, IGNORE)


class OwnTraining:
    """The network being trained, in the shape the loop of `pipeline/execution/training.py` drives."""

    def __init__(self, own: Own, num_classes: int, device: str) -> None:
        import torch

        self._own, self._device = own, device
        self._network = unet(own.width, num_classes, own.seed).to(device)
        self.modules: Mapping[str, nn.Module] = {"segmenter": self._network}
        self.optimizers: Mapping[str, torch.optim.Optimizer] = {
            "segmenter": torch.optim.Adam(self._network.parameters(), own.lr)
        }

    def step(
        self, index: int, batch: tuple[Sequence[NDArray[np.uint8]], NDArray[np.int64]]
    ) -> Mapping[str, Tensor]:
        """Do optimiser step `index`; return the loss: cross entropy over the pixels with a class."""
        import torch
        from torch.nn import functional as F

        (optimizer,) = self.optimizers.values()
        for group in optimizer.param_groups:
            group["lr"] = self._own.lr * 0.5 * (1 + np.cos(np.pi * index / self._own.steps))
        self._network.train()
        optimizer.zero_grad(set_to_none=True)
        truth = torch.from_numpy(batch[1]).to(self._device)
        logits = self._network(normalised(batch[0], self._device))
        known = (truth != IGNORE).sum().clamp(min=1)  # a batch without any would make the mean NaN
        loss = F.cross_entropy(logits, truth, ignore_index=IGNORE, reduction="sum") / known
        torch.autograd.backward(loss)
        optimizer.step()
        return {"loss": loss.detach()}


def unet(width: int, num_classes: int, seed: int) -> nn.Module:
    """Return the U-Net: [B, 3, S, S] -> logits [B, C, S, S], S a multiple of 8; weights drawn from `seed` alone."""
    import torch
    from torch import nn
    from torch.nn import functional as F

    def block(inputs: int, outputs: int) -> nn.Module:
        layers: list[nn.Module] = []
        for channels in (inputs, outputs):
            layers += [
                nn.Conv2d(channels, outputs, 3, padding=1, bias=False),
                nn.BatchNorm2d(outputs),
                nn.ReLU(True),
            ]
        return nn.Sequential(*layers)

    class UNet(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            sizes = [width * 2**level for level in range(4)]
            self.down = nn.ModuleList(block(a, b) for a, b in zip([3, *sizes], sizes, strict=False))
            self.up = nn.ModuleList(block(a + b, a) for a, b in pairwise(sizes))
            self.out = nn.Conv2d(width, num_classes, 1)

        def forward(self, x: Tensor) -> Tensor:
            kept: list[Tensor] = []
            for level, down in enumerate(self.down):
                x = down(F.max_pool2d(x, 2) if level else x)
                kept.append(x)
            for level in (2, 1, 0):
                wide = F.interpolate(x, scale_factor=2.0, mode="bilinear", align_corners=False)
                x = self.up[level](torch.cat([kept[level], wide], 1))
            logits: Tensor = self.out(x)
            return logits

    network = UNet()
    rng = torch.Generator().manual_seed(seed_for(seed, "segmenter", "weights"))
    for module in network.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, nonlinearity="relu", generator=rng)
            if module.bias is not None:
                nn.init.zeros_(module.bias)
    return network


def from_file(
    kind: str, file: Path, outputs: Sequence[str], categories: Sequence[Category], device: str
) -> Segment:
    """Return a network from a local file at work on images of any size.

    `kind`: a name of TORCHVISION (file: safetensors, or a state dict of tensors), or "torchscript" (file: a program that
    maps [1, 3, H, W] to logits [1, K, h, w]). `outputs` names the K outputs; () = the classes of the data in their order.
    ValueError when file, architecture and classes do not fit.
    """
    import torch
    from torch.nn import functional as F

    names = [category.name for category in categories]
    network = (
        _program(file, device)
        if kind == "torchscript"
        else _torchvision(kind, file, len(outputs or names), device)
    )
    place = {name: k for k, name in enumerate(names)}
    to_ours = np.array([place.get(name, len(names)) for name in outputs or names])  # [K]

    def run(image: NDArray[np.uint8]) -> NDArray[np.int64]:
        with torch.inference_mode():
            x = (
                torch.from_numpy(np.ascontiguousarray(image))
                .to(device)
                .permute(2, 0, 1)[None]
                .float()
                / 255
            )
            shift, scale = (torch.tensor(v, device=device).view(1, 3, 1, 1) for v in (MEAN, STD))
            answer = network((x - shift) / scale)
            logits = answer["out"] if isinstance(answer, dict) else answer
            if logits.shape[1] != len(to_ours):
                raise ValueError(
                    f"{file}: the network has {logits.shape[1]} outputs, {len(to_ours)} classes are named"
                )
            if logits.shape[2:] != image.shape[:2]:
                logits = F.interpolate(
                    logits, image.shape[:2], mode="bilinear", align_corners=False
                )
            return np.asarray(to_ours[logits.argmax(1)[0].cpu().numpy()], np.int64)

    return run


def _program(file: Path, device: str) -> Any:
    import torch

    try:
        program: Any = torch.jit.load(str(file), map_location=device)  # type: ignore[no-untyped-call] # torch has no types here
        return program.eval()
    except RuntimeError as err:
        raise ValueError(f"{file}: no TorchScript program ({first_line(err)})") from err


def _torchvision(kind: str, file: Path, outputs: int, device: str) -> Any:
    import torch
    import torchvision

    build = getattr(torchvision.models.segmentation, kind)
    if file.suffix == ".safetensors":
        from safetensors.torch import load_file

        state = load_file(file)
    else:
        state = torch.load(file, map_location="cpu", weights_only=True)
    auxiliary = any(key.startswith("aux_classifier") for key in state)
    extra = {} if kind.startswith("lraspp") else {"aux_loss": auxiliary}
    network = build(weights=None, weights_backbone=None, num_classes=outputs, **extra)
    try:
        network.load_state_dict(state)
    except RuntimeError as err:
        raise ValueError(
            f"{file}: not the weights of {kind} with {outputs} classes ({one_line(err)})"
        ) from err
    return network.eval().to(device)


def resized(image: NDArray[np.uint8], side: int) -> NDArray[np.uint8]:
    """Return an image [H, W, 3] as [S, S, 3], antialiased bilinear."""
    from synthaug.pipeline.core.images import resize

    return resize(image, (side, side))


def normalised(images: Sequence[NDArray[np.uint8]], device: str) -> torch.Tensor:
    """Return images [S, S, 3] as float32 [B, 3, S, S] in [-1, 1]."""
    import torch

    pixels = torch.from_numpy(np.stack(images)).to(device)
    return pixels.permute(0, 3, 1, 2).float().div_(127.5).sub_(1)
