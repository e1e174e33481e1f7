"""Faster and Mask R-CNN of detectron2 (Wu et al. 2019) behind the contract.

`backbone: resnet50` is detectron2's own R50-FPN, so weights of its model zoo fit; `backbone: small`
is our compact pyramid with detectron2's proposals, pooling and heads. Detectron2 itself is imported
when a detector is built.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import ClassVar

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from synthaug.detectors import rcnn_config
from synthaug.detectors.base import Sample, Tensors
from synthaug.detectors.detectron2_zoo import is_caffe2, is_detectron2, is_resnet, to_detectron2
from synthaug.detectors.rcnn_detector import RcnnDetector
from synthaug.detectors.weights import read_settings, torchvision_names

NOT_INSTALLED = (
    "detectron2 is not installed; build it with pip install --no-build-isolation "
    "'git+https://github.com/facebookresearch/detectron2', or set backend: torchvision"
)
LOSS_NAMES = {  # detectron2's name -> the name in base.LOSSES
    "loss_rpn_cls": "objectness",
    "loss_rpn_loc": "proposal_box",
    "loss_cls": "class",
    "loss_box_reg": "box",
    "loss_mask": "mask",
}


@dataclass(frozen=True)
class Config(rcnn_config.Config):
    """The shared settings, without the backbone that is torchvision's only."""

    AUTO: ClassVar[tuple[str, ...]] = ("small",)

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.backbone == "lite0":
            raise ValueError(
                "backbone: lite0 is not built for detectron2; "
                "choose small or resnet50, or set backend: torchvision"
            )


class Detectron2Detector(RcnnDetector):
    """Detectron2's network behind the contract."""

    backend = "detectron2"
    body_prefixes: ClassVar[Mapping[str, str]] = {
        "small": "backbone.body.",
        "resnet50": "backbone.bottom_up.",
    }

    @classmethod
    def build_network(cls, config: rcnn_config.Config, num_classes: int) -> nn.Module:
        """Return the network; raises ValueError where detectron2 cannot be imported."""
        check_installed()
        try:
            from synthaug.detectors.detectron2_network import build_network
        except ImportError as err:  # built for another torch
            raise ValueError(
                f"detectron2 cannot be imported ({err}); build it again for this torch"
            ) from err
        return build_network(config, num_classes)

    @classmethod
    def adapt_config(cls, config: rcnn_config.Config, weights: Tensors) -> rcnn_config.Config:
        """Set the order of colors of the weights file, unless the job has set it.

        See docs/detectors.md.
        """
        config = super().adapt_config(config, weights)
        if config.input_format:
            return config
        input_format = "rgb"
        if config.backbone == "resnet50" and weights:
            input_format = _input_format(Path(config.weights), weights)
        return replace(config, input_format=input_format)

    @classmethod
    def rename_weights(cls, weights: Tensors) -> Tensors:
        """Return tensors under detectron2's names.

        Torchvision's heads number the classes otherwise and are left out.
        """
        if is_detectron2(weights) or is_caffe2(weights) or is_resnet(weights):
            return to_detectron2(weights)
        return to_detectron2(torchvision_names(weights))

    def detect(self, images: Sequence[Tensor], scale: float) -> list[dict[str, Tensor]]:
        """Detect, masks as they come from the head; see the base class."""
        from synthaug.detectors.detectron2_network import network_detections

        shorter = round(self.config.image_size * scale)
        longer = round(self.config.max_size * scale)
        resized = [_resize(image.float(), shorter, longer) for image in images]
        outputs = network_detections(self.model, resized)
        for output, image, input_image in zip(outputs, images, resized, strict=True):
            output["boxes"] = output["boxes"] / _ratios(image, input_image)
        return outputs

    def image_losses(self, images: Sequence[Tensor], samples: Sequence[Sample]) -> Tensors:
        """Return the network's losses; raises ValueError when training has diverged."""
        from synthaug.detectors.detectron2_network import network_losses

        self.model.train()
        sizes = self.config.shorter_sides()
        drawn = torch.randint(len(sizes), (len(samples),)).tolist()
        inputs = []
        for image, sample, index in zip(images, samples, drawn, strict=True):
            inputs.append(self._training_input(image, sample, sizes[index]))
        losses = network_losses(self.model, inputs)
        return {LOSS_NAMES[name]: loss for name, loss in losses.items()}

    def _training_input(self, image: Tensor, sample: Sample, shorter: int) -> dict[str, Tensor]:
        """Return an image [3, H, W] of a shorter side with its truth in its pixels.

        boxes [N, 4] xyxy, labels [N] 0..C-1, where they are learned and known masks [N, H, W], and
        where the sample has them the targets of `partial_labels`.
        """
        device = self.device
        resized = _resize(image.float(), shorter, self.config.max_size)
        boxes = torch.from_numpy(np.asarray(sample.boxes, np.float32).reshape(-1, 4)).to(device)
        labels = torch.from_numpy(np.asarray(sample.labels, np.int64)).to(device)
        network_input = {
            "image": resized,
            "boxes": boxes * _ratios(image, resized),
            "labels": labels,
        }
        if sample.ignore is not None and len(sample.ignore):
            regions = torch.from_numpy(np.asarray(sample.ignore, np.float32)).to(device)
            network_input["ignore"] = regions * _ratios(image, resized)
        if sample.box_loss is not None:
            network_input["box_loss"] = torch.from_numpy(sample.box_loss).to(device)
        if sample.ignore_background:
            network_input["ignore_background"] = torch.tensor(True, device=device)
        if self.config.masks and sample.masks is not None and len(sample.masks):
            masks = torch.from_numpy(sample.masks).to(device)[:, None].float()
            resized_masks = F.interpolate(masks, resized.shape[-2:])[:, 0]
            network_input["masks"] = resized_masks > 0
        return network_input


def check_installed() -> None:
    """Raise ValueError, one line with a remedy, unless detectron2 is there."""
    if importlib.util.find_spec("detectron2") is None:
        raise ValueError(NOT_INSTALLED)


def build(
    config: rcnn_config.Config,
    num_classes: int,
    *,
    seed: int = 0,
    device: str | torch.device = "cpu",
) -> Detectron2Detector:
    """Return a detector for classes 0..num_classes-1.

    Raises ValueError for a weights file that does not fit.
    """
    return Detectron2Detector.build(config, num_classes, seed, device)


def load(path: Path, *, device: str | torch.device = "cpu") -> Detectron2Detector:
    """Read a detector written by `save`; raises ValueError naming the file."""
    return Detectron2Detector.load(path, device)


def _input_format(path: Path, weights: Tensors) -> str:
    """Return the order of colors, rgb or bgr, that a file's ResNet was trained with."""
    settings = read_settings(path)
    if "input_format" in settings:
        return str(settings["input_format"] or "rgb")
    if is_caffe2(weights):
        return "bgr"
    if is_detectron2(weights) and _is_unscaled(weights):
        return "bgr"
    return "rgb"


def _is_unscaled(weights: Tensors) -> bool:
    """Return whether a zoo detector's pixels were not divided by their deviation.

    This is so for all on Caffe-style ResNets.
    """
    if "pixel_std" not in weights:
        return True
    return bool((weights["pixel_std"] == 1).all())


def _resize(image: Tensor, shorter: int, longer: int) -> Tensor:
    """Resize an image [3, H, W] to a shorter side, the longer one within a limit.

    It is averaged where it shrinks, as by PIL.
    """
    height, width = image.shape[-2:]
    factor = min(shorter / min(height, width), longer / max(height, width))
    new_height = max(1, round(height * factor))
    new_width = max(1, round(width * factor))
    resized = F.interpolate(image[None], (new_height, new_width), mode="bilinear", antialias=True)
    return resized[0]


def _ratios(image: Tensor, resized: Tensor) -> Tensor:
    """Return the factors [4] of x, y, x, y from an image to its resized version."""
    x = resized.shape[-1] / image.shape[-1]
    y = resized.shape[-2] / image.shape[-2]
    return torch.tensor([x, y, x, y], device=image.device)
