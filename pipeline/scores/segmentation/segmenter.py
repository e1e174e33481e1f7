"""Segmentation networks: torchvision's, a TorchScript program, or a small own one.

The first two come from a local file, the own one is trained on the spot.

Legend: B batch, S side of the network's input, C classes of the data, K classes of the network.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property, lru_cache
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from synthaug.pipeline.core.arrays import Bytes, Ints
from synthaug.pipeline.core.errors import first_line, one_line
from synthaug.pipeline.core.images import decode, resize
from synthaug.pipeline.core.json_values import json_digest
from synthaug.pipeline.core.panoptic_maps import maps_of, resize_map
from synthaug.pipeline.core.scene import Category
from synthaug.pipeline.core.seeding import permuted, rng_for, seed_for
from synthaug.pipeline.scores.base import MetricInputs, TrainingSpec
from synthaug.ranges import above, at_least

if TYPE_CHECKING:
    import torch
    from torch import Tensor, nn

OWN = "own"
IGNORE = 255  # of the loss
CACHED = 4096  # resized training images in memory
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)  # of torchvision's networks
# of networks of Caffe: BGR, 0 to 255 (DeepLab-V2, Chen et al. 2018)
CAFFE_MEAN = (104.008, 116.669, 122.675)
Convention = Literal["imagenet", "caffe"]
TORCHVISION = (
    "deeplabv3_mobilenet_v3_large",
    "deeplabv3_resnet50",
    "deeplabv3_resnet101",
    "fcn_resnet50",
    "fcn_resnet101",
    "lraspp_mobilenet_v3_large",
)
# image [H, W, 3] -> class map [H, W], C = no class of ours
Segment = Callable[[Bytes], Ints]


@dataclass(frozen=True)
class Own:
    """The small network that is trained on the labelled images.

    A U-Net of four levels (Ronneberger et al. 2015).
    """

    width: int = 16  # channels of the first level; they double with each
    steps: int = 400
    batch: int = 16  # images
    lr: float = 2e-3  # Adam, with a cosine to 0
    side: int = 64  # images are resized to this square to be learnt from and to be segmented
    seed: int = 0

    def __post_init__(self) -> None:
        at_least(1, self, "width", "steps", "batch")
        if self.side < 16 or self.side % 8:
            raise ValueError(f"side: {self.side} is no multiple of 8 from 16 on")
        above(0, self, "lr")

    @property
    def name(self) -> str:
        """The name of its folder."""
        digest = json_digest(asdict(self))
        return f"segmenter-{digest[:10]}"

    def training_spec(self, inputs: MetricInputs) -> TrainingSpec:
        """Return its training on the labelled images that have a map."""
        training = OwnTraining(self, len(inputs.categories), inputs.resources.device)
        return TrainingSpec(training, OwnBatches(self, inputs), self.steps)

    def segment(self, inputs: MetricInputs) -> Segment:
        """Return the function of the trained network."""
        network = inputs.trained(self)["segmenter"].eval()
        device = inputs.resources.device

        def run(image: Bytes) -> Ints:
            import torch

            height, width = image.shape[:2]
            square = resized(image, self.side)
            with torch.inference_mode():
                logits = network(normalized([square], device))
            labels = logits.argmax(1)[0].cpu().numpy().astype(np.int64)
            return resize_map(labels, (height, width))

        return run


class OwnBatches:
    """Step -> images [B, S, S, 3] and class maps [B, S, S].

    Epochs in random order, half of the images mirrored.
    """

    def __init__(self, own: Own, inputs: MetricInputs) -> None:
        self._own = own
        self._table = inputs.tables["train"]
        self._num_classes = len(inputs.categories)
        self._read = lru_cache(CACHED)(self._image_and_map)

    @cached_property
    def _indices(self) -> list[int]:
        """The images that have a map."""
        return [index for index, scene in enumerate(self._table) if scene.panoptic is not None]

    def __call__(self, step: int) -> tuple[list[Bytes], Ints]:
        """Return the batch of a step."""
        own = self._own
        count = len(self._indices)
        flips = rng_for(own.seed, "segmenter", "flip", step).random(own.batch) < 0.5
        images = []
        maps = []
        for position, flip in enumerate(flips, step * own.batch):
            epoch = position // count
            order_seed = seed_for(own.seed, "segmenter", "epoch", epoch)
            drawn = permuted(position % count, count, order_seed)
            image, labels = self._read(self._indices[drawn])
            if flip:
                image = image[:, ::-1]
                labels = labels[:, ::-1]
            images.append(image)
            maps.append(labels)
        return images, np.stack(maps)

    def _image_and_map(self, index: int) -> tuple[Bytes, Ints]:
        """Return one image [S, S, 3] and its class map [S, S].

        IGNORE stands where there is no class.
        """
        scene = self._table[index]
        side = self._own.side
        labels = resize_map(maps_of(scene, self._num_classes).labels, (side, side))
        return resized(decode(scene), side), np.where(labels < self._num_classes, labels, IGNORE)


class OwnTraining:
    """The network's training, in the shape the training loop drives.

    The loop is that of `pipeline/execution/training.py`.
    """

    def __init__(self, own: Own, num_classes: int, device: str) -> None:
        import torch

        self._own = own
        self._device = device
        self._network = unet(own.width, num_classes, own.seed).to(device)
        self._optimizer = torch.optim.Adam(self._network.parameters(), own.lr)
        self.modules: Mapping[str, nn.Module] = {"segmenter": self._network}
        self.optimizers: Mapping[str, torch.optim.Optimizer] = {"segmenter": self._optimizer}

    def step(self, index: int, batch: tuple[Sequence[Bytes], Ints]) -> Mapping[str, Tensor]:
        """Do optimizer step `index`; return the loss.

        Cross entropy over the pixels with a class.
        """
        import torch
        from torch.nn import functional as F

        images, maps = batch
        cosine = 1 + np.cos(np.pi * index / self._own.steps)
        for group in self._optimizer.param_groups:
            group["lr"] = self._own.lr * 0.5 * cosine
        self._network.train()
        self._optimizer.zero_grad(set_to_none=True)
        truth = torch.from_numpy(maps).to(self._device)
        logits = self._network(normalized(images, self._device))
        num_known = (truth != IGNORE).sum().clamp(min=1)  # without any the mean would be NaN
        total = F.cross_entropy(logits, truth, ignore_index=IGNORE, reduction="sum")
        loss = total / num_known
        torch.autograd.backward(loss)
        self._optimizer.step()
        return {"loss": loss.detach()}


def unet(width: int, num_classes: int, seed: int) -> nn.Module:
    """Return the U-Net: [B, 3, S, S] -> logits [B, C, S, S], S a multiple of 8.

    Its weights are drawn from `seed` alone.
    """
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
            self.down = nn.ModuleList()
            for inputs, outputs in pairwise([3, *sizes]):
                self.down.append(block(inputs, outputs))
            self.up = nn.ModuleList()
            for outputs, below in pairwise(sizes):
                self.up.append(block(outputs + below, outputs))
            self.out = nn.Conv2d(width, num_classes, 1)

        def forward(self, x: Tensor) -> Tensor:
            skips: list[Tensor] = []
            for level, down in enumerate(self.down):
                if level:
                    x = F.max_pool2d(x, 2)
                x = down(x)
                skips.append(x)
            for level in (2, 1, 0):
                wide = F.interpolate(x, scale_factor=2.0, mode="bilinear", align_corners=False)
                x = self.up[level](torch.cat([skips[level], wide], 1))
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
    kind: str,
    file: Path,
    outputs: Sequence[str],
    categories: Sequence[Category],
    device: str,
    convention: Convention = "imagenet",
) -> Segment:
    """Return a network from a local file at work on images of any size.

    Images are given to it as the convention says. `kind`: a name of TORCHVISION (file: safetensors,
    or a state dict of tensors), or "torchscript" (file: a program that maps [1, 3, H, W] to logits
    [1, K, h, w]). `outputs` names the K outputs; () = the classes of the data in their order.
    ValueError when file, architecture and classes do not fit.
    """
    import torch
    from torch.nn import functional as F

    names = [category.name for category in categories]
    output_names = list(outputs) or names
    network = _load_network(kind, file, len(output_names), device)
    class_of = {name: k for k, name in enumerate(names)}
    class_of_output = np.array([class_of.get(name, len(names)) for name in output_names])  # [K]

    def run(image: Bytes) -> Ints:
        with torch.inference_mode():
            answer = network(_network_input(image, convention, device))
            logits = answer["out"] if isinstance(answer, dict) else answer
            if logits.shape[1] != len(class_of_output):
                raise ValueError(
                    f"{file}: the network has {logits.shape[1]} outputs, {len(class_of_output)} "
                    "classes are named"
                )
            size = image.shape[:2]
            if logits.shape[2:] != size:
                logits = F.interpolate(logits, size, mode="bilinear", align_corners=False)
            best = logits.argmax(1)[0].cpu().numpy()
        return np.asarray(class_of_output[best], np.int64)

    return run


def check_file(
    kind: str, file: Path, outputs: Sequence[str], categories: Sequence[Category]
) -> None:
    """Open a network's file.

    Raises ValueError when file, architecture and classes do not fit. A program is run on one small
    image, because only then it tells its number of outputs.
    """
    if kind == "torchscript":
        segment = from_file(kind, file, outputs, categories, "cpu")
        segment(np.zeros((64, 64, 3), np.uint8))
        return
    from_file(kind, file, outputs, categories, "meta")


def _network_input(image: Bytes, convention: Convention, device: str) -> Tensor:
    """Return an image as float32 [1, 3, H, W], as the network is given it.

    By the convention of torchvision or of Caffe.
    """
    import torch

    pixels = torch.from_numpy(np.ascontiguousarray(image)).to(device)
    x = pixels.permute(2, 0, 1)[None].float()
    if convention == "caffe":
        blue_first = x.flip(1)
        return blue_first - torch.tensor(CAFFE_MEAN, device=device).view(1, 3, 1, 1)
    x = x / 255
    mean = torch.tensor(MEAN, device=device).view(1, 3, 1, 1)
    std = torch.tensor(STD, device=device).view(1, 3, 1, 1)
    return (x - mean) / std


def _load_network(kind: str, file: Path, num_outputs: int, device: str) -> Any:
    if kind == "torchscript":
        return _program(file, device)
    return _torchvision(kind, file, num_outputs, device)


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
    options = {"num_classes": outputs}
    if not kind.startswith("lraspp"):
        options["aux_loss"] = any(key.startswith("aux_classifier") for key in state)
    network = build(weights=None, weights_backbone=None, **options)
    try:
        network.load_state_dict(state)
    except RuntimeError as err:
        raise ValueError(
            f"{file}: not the weights of {kind} with {outputs} classes ({one_line(err)})"
        ) from err
    return network.eval().to(device)


def resized(image: Bytes, side: int) -> Bytes:
    """Return an image [H, W, 3] as [S, S, 3], antialiased bilinear."""
    return resize(image, (side, side))


def normalized(images: Sequence[Bytes], device: str) -> torch.Tensor:
    """Return images [S, S, 3] as float32 [B, 3, S, S] in [-1, 1]."""
    import torch

    pixels = torch.from_numpy(np.stack(images)).to(device)
    return pixels.permute(0, 3, 1, 2).float().div_(127.5).sub_(1)
