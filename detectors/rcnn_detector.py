"""Two-stage detectors of all back-ends: everything but the network."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import asdict, fields, replace
from pathlib import Path
from typing import ClassVar, Self

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torchvision.ops import roi_align

from synthaug.detectors.base import Prediction, Sample, Tensors
from synthaug.detectors.boxes import Boxes, Floats32, Image
from synthaug.detectors.nn import lite0_weights
from synthaug.detectors.nn.precision import resolve_precision
from synthaug.detectors.rcnn_config import Config
from synthaug.detectors.training import StepTraining
from synthaug.detectors.weights import (
    load_checkpoint,
    load_pretrained,
    read_header,
    read_tensors,
    write_checkpoint,
)

COCO_ROWS = 91  # of the class layer in torchvision's COCO file: the ids 1..90 and the background
COARSE_LEVELS = ("pool", "p6")  # the back-ends' names of a level that only repeats another


class RcnnDetector(ABC):
    """A two-stage detector around a back-end's network.

    `loaded` is one line about the tensors read from the weights file.
    """

    backend: ClassVar[str]
    # backbone -> prefix of the names of its pretrained part
    body_prefixes: ClassVar[Mapping[str, str]]

    def __init__(
        self,
        config: Config,
        num_classes: int,
        model: nn.Module,
        loaded: str = "",
    ) -> None:
        self.config = config  # resolved
        self.num_classes = num_classes
        self.model = model
        self.loaded = loaded

    @classmethod
    @abstractmethod
    def build_network(cls, config: Config, num_classes: int) -> nn.Module:
        """Return the network of a resolved config, weights from torch's global generator."""

    @abstractmethod
    def detect(self, images: Sequence[Tensor], scale: float) -> list[dict[str, Tensor]]:
        """Detect in images [3, H, W] uint8 of one shape.

        Of each image, best first: boxes [N, 4] in its pixels, labels [N] 0..C-1, scores [N] and,
        with a mask head, masks [N, M, M] stretched over the boxes.
        """

    @abstractmethod
    def image_losses(self, images: Sequence[Tensor], samples: Sequence[Sample]) -> Tensors:
        """Return the network's losses, named as in base.LOSSES; sets the network to train.

        Images are [3, H, W] in 0..255, and have a gradient where they are given with one. The
        shorter sides of images are drawn from `train_sizes`.
        """

    def losses(self, samples: Sequence[Sample]) -> Tensors:
        """Return the network's losses on the samples' own images; see `image_losses`."""
        images = [image_tensor(sample.image, self.device) for sample in samples]
        return self.image_losses(images, samples)

    @classmethod
    def adapt_config(cls, config: Config, weights: Tensors) -> Config:
        """Return a resolved config with the settings that its weights file decides."""
        class_bias = weights.get("roi_heads.box_predictor.cls_score.bias")
        if class_bias is not None and len(class_bias) == COCO_ROWS:
            return replace(config, norm_eps=0.0)  # torchvision's COCO file was trained without it
        return config

    @classmethod
    @abstractmethod
    def rename_weights(cls, weights: Tensors) -> Tensors:
        """Return a pretrained file's tensors under the network's names.

        Tensors that mean something else in this network are left out.
        """

    @property
    def device(self) -> torch.device:
        """Return the device of the weights."""
        return next(self.model.parameters()).device

    def predict(self, images: Sequence[Image], scale: float = 1.0) -> list[Prediction]:
        """Detect in images of any sizes; a result does not depend on the other images.

        Images of one shape run together and others apart: padding would change the normalization
        and the borders.
        """
        self.model.eval()
        predictions: dict[int, Prediction] = {}
        for shape, members in _group_by_shape(images).items():
            tensors = [image_tensor(images[i], self.device) for i in members]
            with torch.inference_mode():
                outputs = self.detect(tensors, scale)
            for i, output in zip(members, outputs, strict=True):
                predictions[i] = _prediction(output, shape)
        return [predictions[i] for i in range(len(images))]

    def features(self, images: Sequence[Image]) -> Floats32:
        """Return the backbone's features [N, D]: maps averaged over the image, joined.

        They are recorded during `detect`, so the back-end's own resizing applies; images of one
        shape run together.
        """
        self.model.eval()
        pooled: list[Tensor] = []

        def record(_module: nn.Module, _inputs: object, maps: Tensors) -> None:
            pooled.append(_pool_maps(maps))

        hook = self.model.get_submodule("backbone").register_forward_hook(record)
        rows: dict[int, Floats32] = {}
        try:
            for members in _group_by_shape(images).values():
                pooled.clear()
                tensors = [image_tensor(images[i], self.device) for i in members]
                with torch.inference_mode():
                    self.detect(tensors, 1.0)
                features = torch.cat(pooled).cpu().numpy()
                rows.update(zip(members, features, strict=True))
        finally:
            hook.remove()
        in_order = [rows[i] for i in range(len(images))]
        return np.stack(in_order)

    def box_features(self, images: Sequence[Image], boxes: Sequence[Boxes]) -> list[Floats32]:
        """Return the backbone's features [N, D] of boxes [N, 4] of each image.

        See the contract. Maps are recorded during `detect`; a box lies in them as in the resized
        image, whose padding is on the right and below.
        """
        self.model.eval()
        recorded: list[tuple[int, Tensors]] = []

        def record(_module: nn.Module, inputs: tuple[Tensor], maps: Tensors) -> None:
            recorded.append((inputs[0].shape[-1], maps))

        hook = self.model.get_submodule("backbone").register_forward_hook(record)
        pooled: list[Floats32] = []
        try:
            for image, of_image in zip(images, boxes, strict=True):
                recorded.clear()
                with torch.inference_mode():
                    tensor = image_tensor(image, self.device)
                    self.detect([tensor], 1.0)
                    ((width, maps),) = recorded
                    scaled = torch.from_numpy(of_image * self._resize_ratio(image))
                    on_device = scaled.float().to(self.device)
                    features = _pool_boxes(maps, on_device, width)
                pooled.append(features.cpu().numpy())
        finally:
            hook.remove()
        return pooled

    def _resize_ratio(self, image: Image) -> float:
        """Return the size at which an image enters the network, as a multiple of its own."""
        shorter, longer = sorted(image.shape[:2])
        ratio: float = min(self.config.image_size / shorter, self.config.max_size / longer)
        return ratio

    def training(self, steps: int, seed: int) -> StepTraining:
        """Start a training from the present weights; `finish()` ends it."""
        return StepTraining(self.model, self.losses, self.config.recipe(), steps, seed)

    def save(self, path: Path, metadata: Mapping[str, str]) -> None:
        """Write weights and config to one safetensors file."""
        config = asdict(self.config)
        write_checkpoint(path, self.model, self.backend, config, self.num_classes, metadata)

    @classmethod
    def build(cls, config: Config, num_classes: int, seed: int, device: str | torch.device) -> Self:
        """Return a detector, weights drawn from `seed`, then read from `config.weights`.

        Raises ValueError when the weights file is absent, damaged or made for another network.
        """
        resolved = config.resolved()
        precision = resolve_precision(resolved.precision, device)
        resolved = replace(resolved, precision=precision)
        path, weights = _read_start(resolved)
        resolved = cls.adapt_config(resolved, weights)
        with torch.random.fork_rng([]):
            torch.manual_seed(seed)
            model = cls.build_network(resolved, num_classes)
        loaded = ""
        if weights:
            body_prefix = cls.body_prefixes[resolved.backbone]
            loaded = load_pretrained(model, cls.rename_weights(weights), path, body_prefix)
        return cls(resolved, num_classes, model.to(device), loaded)

    @classmethod
    def load(cls, path: Path, device: str | torch.device) -> Self:
        """Read a detector written by `save`; raises ValueError naming the file."""
        header = read_header(path)
        if header["backend"] != cls.backend:
            raise ValueError(_unknown_to(cls.backend, path, f"backend '{header['backend']}'"))
        known = {field.name for field in fields(Config)}
        unknown = sorted(set(header["config"]) - known)
        if unknown:
            raise ValueError(_unknown_to(cls.backend, path, f"setting '{unknown[0]}'"))
        try:
            config = Config(**header["config"]).resolved()
        except (ValueError, TypeError) as err:
            raise ValueError(f"{path}: {err}") from err
        num_classes = header["num_classes"]
        with torch.random.fork_rng([]):
            model = cls.build_network(config, num_classes)
        load_checkpoint(model, path)
        return cls(config, num_classes, model.to(device), f"{path.name}: whole detector")


def _read_start(config: Config) -> tuple[Path, Tensors]:
    """Return the weights to start from and their file; none from scratch."""
    if config.weights:
        path = Path(config.weights)
        return path, read_tensors(path)
    if config.backbone == "lite0":
        return lite0_weights.read_published()
    if config.norm == "frozen_bn":
        raise ValueError(
            "norm: frozen_bn cannot learn from scratch; give weights, or set norm to gn or bn"
        )
    return Path(), {}


def image_tensor(image: Image, device: torch.device) -> Tensor:
    """Return an image [H, W, 3] uint8 as a tensor [3, H, W] uint8 on a device."""
    return torch.from_numpy(np.array(image)).to(device).permute(2, 0, 1)


def focal_loss(logits: Tensor, labels: Tensor, gamma: float) -> Tensor:
    """Return the mean of (1 - p)^gamma times the cross entropy; 0 without boxes.

    p is the true class's probability. Logits [R, C], labels [R]: the multi-class form of Lin et al.
    2017 (eq. 4) that Unbiased Teacher (Liu et al. 2021, section 3.3) puts in the place of the box
    head's cross entropy.
    """
    cross_entropy = F.cross_entropy(logits, labels, reduction="none")  # [R] -log p
    probability = torch.exp(-cross_entropy)
    losses = (1 - probability) ** gamma * cross_entropy
    return losses.sum() / max(1, len(labels))


def _unknown_to(backend: str, path: Path, subject: str) -> str:
    """Return the message of a checkpoint with a setting unknown to this version."""
    return f"{path}: {subject} is unknown to {backend}; read it with the version that wrote it"


def _group_by_shape(images: Sequence[Image]) -> dict[tuple[int, ...], list[int]]:
    """Return the indices of the images of each shape."""
    groups: dict[tuple[int, ...], list[int]] = {}
    for i, image in enumerate(images):
        groups.setdefault(image.shape, []).append(i)
    return groups


def _pool_maps(maps: Tensors) -> Tensor:
    """Return maps [B, C, h, w] averaged over the image and joined [B, levels x C]."""
    means = []
    for name, level in maps.items():
        if name not in COARSE_LEVELS:
            means.append(level.float().mean(dim=(2, 3)))
    return torch.cat(means, dim=1)


def _pool_boxes(maps: Tensors, boxes: Tensor, width: int) -> Tensor:
    """Return maps averaged inside boxes [N, 4], [N, levels x C].

    Maps are [1, C, h, w], of an input that wide.
    """
    means = []
    for name, level in maps.items():
        if name not in COARSE_LEVELS:
            ratio = level.shape[-1] / width
            cells = roi_align(level.float(), [boxes], 1, spatial_scale=ratio, aligned=True)
            means.append(cells.flatten(1))
    return torch.cat(means, dim=1)


def _prediction(output: Tensors, shape: tuple[int, ...]) -> Prediction:
    """Return a network's output for an image of shape (H, W, 3), best first.

    Boxes are clipped, because scaling them back may overshoot.
    """
    height, width = shape[:2]
    order = torch.argsort(output["scores"], descending=True, stable=True)
    limit = torch.tensor([width, height, width, height], device=order.device)
    boxes = torch.minimum(output["boxes"][order].clamp(min=0), limit)
    labels = output["labels"][order]
    scores = output["scores"][order]
    masks = None
    if "masks" in output:
        masks = output["masks"][order].float().cpu().numpy()
    return Prediction(boxes.cpu().numpy(), labels.cpu().numpy(), scores.cpu().numpy(), masks)
