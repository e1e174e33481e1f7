"""The settings that all back-ends of the two-stage detectors share, so that a job works with each of them.

Faster R-CNN (Ren et al. 2015) and, with `masks`, Mask R-CNN (He et al. 2017), both on a feature pyramid (Lin et al. 2017).
"""

from __future__ import annotations

import copy
import math
from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any

from synthaug.detectors.backbones import NORMS
from synthaug.detectors.training import Recipe

LONGEST = 5 / 3  # usual limit of the longer side, in shorter sides: torchvision's 1333 to 800
MASK_CONVS = {
    "small": 2,
    "resnet50": 4,
}  # 3x3 convolutions of the mask head; four are the paper's (figure 4)
MASK_POOL = 14  # cells per side of a box pooled for its mask; the mask itself has twice as many
CLASSIFICATIONS = ("cross_entropy", "focal")
# What 0, "" or () in the Config stands for. The values of resnet50 are torchvision's own.
USUAL: Mapping[str, Mapping[str, Any]] = {
    "small": {  # measured on 64-pixel scenes: 900 steps of 16 images take 130 CPU seconds and reach AP50 0.98
        "fpn_channels": 48,
        "finest_stride": 8,
        "image_size": 128,
        "anchor_sizes": (24.0, 48.0, 96.0),
        "box_head": 128,
        "pool_size": 5,
        "proposals_train": 100,
        "proposals_test": 100,
        "rpn_samples": 128,
        "box_samples": 64,
        "norm": "gn",
        "lr": 4e-3,
    },
    "resnet50": {
        "fpn_channels": 256,
        "finest_stride": 4,
        "image_size": 800,
        "anchor_sizes": (32.0, 64.0, 128.0, 256.0, 512.0),
        "box_head": 1024,
        "pool_size": 7,
        "proposals_train": 2000,
        "proposals_test": 1000,
        "rpn_samples": 256,
        "box_samples": 512,
        "norm": "frozen_bn",
        "lr": 1e-4,
    },
}


@dataclass(frozen=True)
class Config:
    """Settings of the network and of its training; 0, "" or () means the backbone's usual value (USUAL)."""

    backbone: str = "small"  # small | resnet50
    width: int = (
        24  # small only: channels of the stem and of stride 4; doubled per level up to 4 x width
    )
    fpn_channels: int = 0
    finest_stride: int = 0  # small only: pixels per cell of the finest pyramid level, 4 or 8
    image_size: int = (
        0  # pixels: the shorter side after resizing, up or down; a multiple of 32 wastes no padding
    )
    max_size: int = 0  # pixels: limit of the longer side after resizing; 0: 5/3 of image_size
    anchor_sizes: tuple[
        float, ...
    ] = ()  # pixels after resizing, one per pyramid level, finest first
    anchor_ratios: tuple[float, ...] = (0.5, 1.0, 2.0)  # height / width
    box_head: int = 0  # width of the two fully connected layers
    pool_size: int = 0  # cells per side of a pooled box
    proposals_train: int = (
        0  # kept after suppression, per image; twice as many go in, per level, for small
    )
    proposals_test: int = 0
    rpn_samples: int = 0  # anchors per image in the proposal loss
    box_samples: int = 0  # proposals per image in the box loss
    detections_per_image: int = 100
    score_floor: float = 0.05
    nms: float = 0.5  # IoU above which the weaker of two boxes of one class goes
    norm: str = ""  # gn | bn | frozen_bn
    norm_eps: float = 1e-5
    trainable_layers: int = (
        0  # resnet50 only, 1-5: how many of its stages learn; 0: 3 with weights, 5 without
    )
    weights: str = ""  # file to start from; empty: from scratch
    input_format: str = ""  # rgb | bgr (detectron2's Caffe-style ResNets, and only they); "": as the weights file wants
    masks: bool = False  # learn a mask head from the images that have masks
    classification: str = "cross_entropy"  # cross_entropy | focal: the box head's class loss
    focal_gamma: float = (
        1.5  # focal only: how much less a box counts that is classified well already
    )
    train_sizes: tuple[
        int, ...
    ] = ()  # pixels: shorter sides drawn from per image in training; empty: image_size
    optimizer: str = "adamw"  # adamw | sgd
    lr: float = 0.0  # at its peak; the usual values are for adamw and a batch of 16
    warmup: float = (
        0.05  # part of the steps over which the rate rises; then it follows the schedule
    )
    schedule: str = "cosine"  # cosine (down to 1 %) | step
    milestones: tuple[float, ...] = (
        0.67,
        0.89,
    )  # step only: shares of the steps at which the rate is multiplied
    decay: float = 0.1  # step only: by how much
    weight_decay: float = 0.02
    momentum: float = 0.9  # sgd only
    clip_grad: float = 5.0  # largest gradient norm; 0: no limit
    flip: bool = True
    scale_jitter: float = 0.0  # zoom by up to this much more or less
    colour_jitter: float = 0.0  # brightness, contrast and tint by up to this part
    ema: float = 0.995  # decay per step of the averaged weights that predict in the end; 0: none
    bf16: bool = False  # convolutions of the pyramid in bfloat16

    def __post_init__(self) -> None:
        for name in ("anchor_sizes", "anchor_ratios", "milestones"):
            object.__setattr__(self, name, tuple(float(v) for v in getattr(self, name)))
        object.__setattr__(self, "train_sizes", tuple(int(v) for v in self.train_sizes))
        if self.backbone not in USUAL:
            raise ValueError(f"backbone: '{self.backbone}' is unknown; choose small or resnet50")
        self._check_choices()
        self._check_ranges()
        self.recipe()  # raises on what is wrong there

    def _check_choices(self) -> None:
        if self.norm not in ("", *NORMS):
            raise ValueError(f"norm: '{self.norm}' is unknown; choose {', '.join(NORMS)}")
        if self.classification not in CLASSIFICATIONS:
            raise ValueError(
                f"classification: '{self.classification}' is unknown; choose {' or '.join(CLASSIFICATIONS)}"
            )
        if self.input_format not in ("", "rgb", "bgr"):
            raise ValueError(f"input_format: '{self.input_format}' is unknown; choose rgb or bgr")
        if self.input_format == "bgr" and self.backbone != "resnet50":
            raise ValueError(
                f"input_format: bgr is what Caffe-style ResNets want; leave it empty for {self.backbone}"
            )
        if self.finest_stride not in (0, 4, 8):
            raise ValueError(f"finest_stride: {self.finest_stride} is not possible; choose 4 or 8")
        if self.backbone == "resnet50" and (
            self.finest_stride == 8 or self.fpn_channels not in (0, 256)
        ):
            raise ValueError(
                "backbone: resnet50 has finest_stride 4 and fpn_channels 256; leave both at 0"
            )
        if (
            not self.anchor_ratios
            or min(self.anchor_ratios) <= 0
            or min(self.anchor_sizes, default=1.0) <= 0
        ):
            raise ValueError(
                "anchor_sizes and anchor_ratios: must be above 0; give at least one ratio"
            )
        levels = 5 if self.backbone == "resnet50" else 4 - (self.resolved().finest_stride == 8)
        if self.backbone == "resnet50" and len(self.anchor_sizes) not in (0, levels):
            raise ValueError(f"anchor_sizes: resnet50 has {levels} levels; give {levels} sizes")
        if len(self.anchor_sizes) > levels:
            raise ValueError(
                f"anchor_sizes: {len(self.anchor_sizes)} sizes but at most {levels} levels; give fewer"
            )

    def _check_ranges(self) -> None:
        whole = (
            "fpn_channels",
            "image_size",
            "max_size",
            "box_head",
            "pool_size",
            "proposals_train",
            "proposals_test",
        )
        for name in (*whole, "rpn_samples", "box_samples", "norm_eps", "focal_gamma"):
            if not 0 <= getattr(self, name) < math.inf:
                raise ValueError(f"{name}: {getattr(self, name)} is out of range; give 0 or more")
        for name in ("width", "detections_per_image", "nms"):
            if not 0 < getattr(self, name) < math.inf:
                raise ValueError(f"{name}: {getattr(self, name)} is out of range; give more than 0")
        if not 0 <= self.score_floor < 1:
            raise ValueError(
                f"score_floor: {self.score_floor} is out of range; give 0 or more and less than 1"
            )
        if self.trainable_layers not in range(6):
            raise ValueError(
                f"trainable_layers: {self.trainable_layers} is out of range; give 0 to 5"
            )
        sizes = self.resolved()
        if sizes.image_size < 32 or sizes.max_size < sizes.image_size:
            raise ValueError(
                f"image_size: {sizes.image_size} must be 32 or more and at most max_size {sizes.max_size}"
            )
        if any(not 32 <= size <= sizes.max_size for size in self.train_sizes):
            raise ValueError(
                f"train_sizes: must be 32 or more and at most max_size {sizes.max_size}"
            )

    def resolved(self) -> Config:
        """Return the same settings with every 0, "" and () replaced by the backbone's usual value."""
        usual = {
            name: value for name, value in USUAL[self.backbone].items() if not getattr(self, name)
        }
        made = copy.copy(self)
        for name, value in usual.items():
            object.__setattr__(made, name, value)
        object.__setattr__(made, "max_size", self.max_size or round(made.image_size * LONGEST))
        return made

    def recipe(self) -> Recipe:
        """Return the settings of the training loop."""
        settings = self.resolved()
        return Recipe(**{field.name: getattr(settings, field.name) for field in fields(Recipe)})
