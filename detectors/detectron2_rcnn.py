"""Faster and Mask R-CNN of detectron2 (Wu et al. 2019) behind the contract; detectron2 is imported when one is made.

`backbone: resnet50` is detectron2's own R50-FPN, so weights of its model zoo fit; `backbone: small` is our compact pyramid
with detectron2's proposals, pooling and heads.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import ClassVar

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from synthaug.detectors import detectron2_zoo as zoo
from synthaug.detectors import rcnn_config as rcnn
from synthaug.detectors.base import Sample
from synthaug.detectors.rcnn_detector import RcnnDetector, tensor
from synthaug.detectors.weights import read_settings, torchvision_names

Config = rcnn.Config
MISSING = (
    "detectron2 is not installed; build it with pip install --no-build-isolation "
    "'git+https://github.com/facebookresearch/detectron2', or set backend: torchvision"
)
NAMES = {  # detectron2's names of losses, and ours
    "loss_rpn_cls": "objectness",
    "loss_rpn_loc": "proposal_box",
    "loss_cls": "class",
    "loss_box_reg": "box",
    "loss_mask": "mask",
}


class Detectron2Detector(RcnnDetector):
    """Detectron2's network behind the contract."""

    backend = "detectron2"
    body: ClassVar[Mapping[str, str]] = {
        "small": "backbone.body.",
        "resnet50": "backbone.bottom_up.",
    }

    @classmethod
    def network(cls, config: rcnn.Config, num_classes: int) -> nn.Module:
        """Put the parts together; raises ValueError where detectron2 cannot be imported."""
        check_installed()
        try:
            from synthaug.detectors.detectron2_network import network
        except ImportError as err:  # built for another torch
            raise ValueError(
                f"detectron2 cannot be imported ({err}); build it again for this torch"
            ) from err
        return network(config, num_classes)

    @classmethod
    def suited(cls, config: rcnn.Config, weights: Mapping[str, Tensor]) -> rcnn.Config:
        """Settle the colours, unless the job has: what the file was trained with; see docs/detectors.md."""
        config = super().suited(config, weights)
        if config.input_format:
            return config
        if config.backbone == "small":
            return replace(config, input_format="rgb")
        own = read_settings(Path(config.weights)) if weights else {}
        if "input_format" in own:
            return replace(config, input_format=own["input_format"] or "rgb")
        caffe = zoo.is_caffe2(weights) or (zoo.is_detectron2(weights) and _unscaled(weights))
        return replace(config, input_format="bgr" if caffe else "rgb")

    @classmethod
    def renamed(cls, weights: Mapping[str, Tensor]) -> Mapping[str, Tensor]:
        """Detectron2's names; torchvision's heads number the classes otherwise and are left out."""
        known = (
            zoo.is_detectron2(weights)
            or zoo.is_caffe2(weights)
            or any(n.startswith("res2.") for n in weights)
        )
        return zoo.to_detectron2(weights if known else torchvision_names(weights))

    def detect(self, images: Sequence[Tensor], scale: float) -> list[dict[str, Tensor]]:
        """Detect, masks as they come from the head; see the base class."""
        from synthaug.detectors.detectron2_network import detections

        shorter, longer = round(self.config.image_size * scale), round(self.config.max_size * scale)
        resized = [_resized(image.float(), shorter, longer) for image in images]
        found = detections(self.model, resized)
        for output, image, seen in zip(found, images, resized, strict=True):
            output["boxes"] = output["boxes"] / _ratios(image, seen)
        return found

    def losses(self, samples: Sequence[Sample]) -> Mapping[str, Tensor]:
        """The network's losses; raises ValueError when training has diverged; see the base class."""
        from synthaug.detectors.detectron2_network import Truth, losses

        self.model.train()
        sizes = self.config.train_sizes or (self.config.image_size,)
        drawn = torch.randint(len(sizes), (len(samples),)).tolist()
        resized, truths = [], []
        for sample, k in zip(samples, drawn, strict=True):
            image = tensor(sample.image, self.device)
            seen = _resized(image.float(), sizes[k], self.config.max_size)
            boxes = torch.from_numpy(np.asarray(sample.boxes, np.float32).reshape(-1, 4)).to(
                self.device
            )
            labels = torch.from_numpy(np.asarray(sample.labels, np.int64)).to(self.device)
            masks = _masks(sample, seen) if self.config.masks else None
            resized.append(seen)
            truths.append(Truth(boxes * _ratios(image, seen), labels, masks))
        return {NAMES[name]: loss for name, loss in losses(self.model, resized, truths).items()}


def check_installed() -> None:
    """Raise ValueError, one line that says what to do, unless detectron2 is there."""
    if importlib.util.find_spec("detectron2") is None:
        raise ValueError(MISSING)


def build(
    config: rcnn.Config, num_classes: int, *, seed: int = 0, device: str | torch.device = "cpu"
) -> Detectron2Detector:
    """Make a detector for classes 0..num_classes-1; raises ValueError for a weights file that does not fit."""
    return Detectron2Detector.build(config, num_classes, seed, device)


def load(path: Path, *, device: str | torch.device = "cpu") -> Detectron2Detector:
    """Read a detector that `save` wrote; raises ValueError naming the file when it cannot be used."""
    return Detectron2Detector.load(path, device)


def _unscaled(weights: Mapping[str, Tensor]) -> bool:
    """Whether a zoo detector saw pixels that were not divided by their deviation, as all on Caffe-style ResNets."""
    return "pixel_std" not in weights or bool((weights["pixel_std"] == 1).all())


def _resized(image: Tensor, shorter: int, longer: int) -> Tensor:
    """Bring an image [3, H, W] to a shorter side, the longer one within a limit; averaged where it shrinks, as by PIL."""
    height, width = image.shape[-2:]
    factor = min(shorter / min(height, width), longer / max(height, width))
    size = (max(1, round(height * factor)), max(1, round(width * factor)))
    return F.interpolate(image[None], size, mode="bilinear", antialias=True)[0]


def _ratios(image: Tensor, seen: Tensor) -> Tensor:
    """By how much x, y, x, y grew between two sizes of an image [4]."""
    x, y = seen.shape[-1] / image.shape[-1], seen.shape[-2] / image.shape[-2]
    return torch.tensor([x, y, x, y], device=image.device)


def _masks(sample: Sample, seen: Tensor) -> Tensor | None:
    """A sample's masks at the size the network sees [N, H, W], None where it has none."""
    if sample.masks is None:
        return None
    masks = torch.from_numpy(sample.masks).to(seen.device)
    return F.interpolate(masks[:, None].float(), seen.shape[-2:])[:, 0] > 0 if len(masks) else None
