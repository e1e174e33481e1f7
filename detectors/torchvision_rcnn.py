"""Faster and Mask R-CNN of torchvision's parts behind the contract.

`backbone: resnet50` is torchvision's `fasterrcnn_resnet50_fpn` (`maskrcnn_resnet50_fpn` with
`masks`), so its published weights fit; `backbone: small` is a compact network that learns small
images from scratch in a minute or two on two CPU cores.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor, nn

from synthaug.detectors import rcnn_config
from synthaug.detectors.base import Sample, Tensors
from synthaug.detectors.nn.lite0_weights import body_names, is_lite0
from synthaug.detectors.rcnn_detector import RcnnDetector
from synthaug.detectors.samplers import size_chooser
from synthaug.detectors.torchvision_network import build_network
from synthaug.detectors.weights import torchvision_names

LOSS_NAMES = {  # torchvision's name -> the name in base.LOSSES
    "loss_objectness": "objectness",
    "loss_rpn_box_reg": "proposal_box",
    "loss_classifier": "class",
    "loss_box_reg": "box",
    "loss_mask": "mask",
}


@dataclass(frozen=True)
class Config(rcnn_config.Config):
    """The shared settings, without those that torchvision's networks do not know."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.input_format == "bgr":
            raise ValueError(
                "input_format: bgr is for detectron2's networks; "
                "leave it empty, or set backend: detectron2"
            )


class TorchvisionDetector(RcnnDetector):
    """Torchvision's network behind the contract."""

    backend = "torchvision"
    body_prefixes: ClassVar[Mapping[str, str]] = {
        "small": "backbone.body.",
        "lite0": "backbone.body.",
        "resnet50": "backbone.body.",
    }

    @classmethod
    def build_network(cls, config: rcnn_config.Config, num_classes: int) -> nn.Module:
        """Return the network; index 0 of the class layer is the background."""
        return build_network(config, num_classes)

    @classmethod
    def rename_weights(cls, weights: Tensors) -> Tensors:
        """Return tensors under today's names of torchvision.

        Detectron2's heads number the classes otherwise and are left out, as is the classifier of an
        EfficientNet.
        """
        if is_lite0(weights):
            body = body_names(weights)
            return {f"backbone.body.{name}": tensor for name, tensor in body.items()}
        named = torchvision_names(weights)
        of_detectron2 = any(name.startswith("proposal_generator.") for name in named)
        if not of_detectron2:
            return named
        return {name: t for name, t in named.items() if name.startswith("backbone.")}

    def detect(self, images: Sequence[Tensor], scale: float) -> list[dict[str, Tensor]]:
        """Detect with labels from 0 on; see the base class."""
        shorter = round(self.config.image_size * scale)
        longer = round(self.config.max_size * scale)
        self._resize_to((shorter,), longer)
        outputs: list[dict[str, Tensor]] = self.model([_unit_range(image) for image in images])
        for output in outputs:
            output["labels"] = output["labels"] - 1
        return outputs

    def image_losses(self, images: Sequence[Tensor], samples: Sequence[Sample]) -> Tensors:
        """Return the network's losses; see the base class."""
        self.model.train()
        self._resize_to(self.config.shorter_sides(), self.config.max_size)
        transform: Any = self.model.get_submodule("transform")
        transform.torch_choice = size_chooser(len(samples))
        inputs = [_unit_range(image) for image in images]
        targets = [_target(sample, self.config.masks, self.device) for sample in samples]
        losses: Tensors = self.model(inputs, targets)
        return {LOSS_NAMES[name]: loss for name, loss in losses.items()}

    def _resize_to(self, shorter: tuple[int, ...], longer: int) -> None:
        """Set the shorter sides that images are resized to, and the longer limit."""
        transform: Any = self.model.get_submodule("transform")
        transform.min_size = shorter
        transform.max_size = longer


def check_installed() -> None:
    """Do nothing: torchvision is always there."""


def build(
    config: rcnn_config.Config,
    num_classes: int,
    *,
    seed: int = 0,
    device: str | torch.device = "cpu",
) -> TorchvisionDetector:
    """Return a detector for classes 0..num_classes-1.

    Raises ValueError for a weights file that does not fit.
    """
    return TorchvisionDetector.build(config, num_classes, seed, device)


def load(path: Path, *, device: str | torch.device = "cpu") -> TorchvisionDetector:
    """Read a detector written by `save`; raises ValueError naming the file."""
    return TorchvisionDetector.load(path, device)


def _unit_range(image: Tensor) -> Tensor:
    """Return an image in 0..255 as float32 in [0, 1]."""
    return image.float() / 255


def _target(sample: Sample, masks: bool, device: torch.device) -> dict[str, Tensor]:
    """Return a sample under torchvision's names, and those of `partial_labels`.

    Class 0 is the background. What is optional is there only where the sample has it.
    """
    boxes = torch.from_numpy(np.asarray(sample.boxes, np.float32).reshape(-1, 4))
    labels = torch.from_numpy(np.asarray(sample.labels, np.int64)) + 1
    target = {"boxes": boxes.to(device), "labels": labels.to(device)}
    if masks and sample.masks is not None:
        target["masks"] = torch.from_numpy(sample.masks).to(device)
    if sample.ignore is not None and len(sample.ignore):
        regions = torch.from_numpy(np.asarray(sample.ignore, np.float32))
        target["ignore"] = regions.to(device)
    if sample.box_loss is not None:
        target["box_loss"] = torch.from_numpy(np.asarray(sample.box_loss, bool)).to(device)
    if sample.ignore_background:
        target["ignore_background"] = torch.tensor(True, device=device)
    return target
