"""Settings that all back-ends of the two-stage detectors share.

Faster R-CNN (Ren et al. 2015) and, with `masks`, Mask R-CNN (He et al. 2017), both on a feature
pyramid (Lin et al. 2017).
"""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from typing import Any, ClassVar

from synthaug.detectors.backbones import NORMS
from synthaug.detectors.nn.precision import PRECISIONS
from synthaug.detectors.training import Recipe
from synthaug.ranges import above, at_least, from_0_to_below_1

MAX_ASPECT = 5 / 3  # usual max_size / image_size: torchvision's 1333 / 800
# 3x3 convolutions of the mask head; four are the paper's (figure 4)
MASK_CONVS = {"small": 2, "lite0": 2, "resnet50": 4}
MASK_POOL = 14  # cells per side of a box pooled for its mask; the mask itself has twice as many
CLASSIFICATIONS = ("cross_entropy", "focal")
TRAINABLE_WITH_WEIGHTS = 3  # stages that learn by default, and without weights:
TRAINABLE_FROM_SCRATCH = 5
# The values that 0, "" or () in the Config stand for. Those of resnet50 are torchvision's own; a
# job whose images are not toy-sized has better ones for the other two (pipeline/config/derive.py).
# Small on 64-pixel scenes: 900 steps of 16 images take 130 CPU seconds and reach AP50 0.98.
USUAL: Mapping[str, Mapping[str, Any]] = {
    "small": {
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
        "backbone_lr": 1.0,
    },
    "lite0": {
        "fpn_channels": 96,
        "finest_stride": 4,
        "image_size": 320,
        "anchor_sizes": (16.0, 32.0, 64.0, 128.0),
        "box_head": 256,
        "pool_size": 7,
        "proposals_train": 200,
        "proposals_test": 200,
        "rpn_samples": 128,
        "box_samples": 64,
        "norm": "frozen_bn",
        "lr": 1e-3,
        "backbone_lr": 0.1,  # at the rate of the new layers what it knows of photos is lost
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
        "norm": "gn",
        "lr": 1e-4,
        "backbone_lr": 1.0,
    },
}


@dataclass(frozen=True)
class Config:
    """Settings of network and training; 0, "" or () means the value of USUAL.

    A job's data decides `auto` and some of the zeros (pipeline/config/derive.py); for a detector
    that is built without a job `auto` is small.
    """

    AUTO: ClassVar[tuple[str, ...]] = ("lite0", "small")  # what `auto` may become
    # ---- network ----
    # small (for CPUs, from scratch) | lite0 (for CPUs, EfficientNet-Lite0 with ImageNet weights) |
    # resnet50 (the papers' R50-FPN) | auto (small for toy-sized images or without lite0's package)
    backbone: str = "auto"
    # small only: channels of the stem and of stride 4; doubled per level up to 4 x width
    width: int = 24
    fpn_channels: int = 0
    # small, lite0: pixels per cell of the finest pyramid level, 4 or 8; 0 = with anchor_sizes
    finest_stride: int = 0
    # pixels: the shorter side after resizing, up or down; a multiple of 32 wastes no padding;
    # 0 = from the sizes of images and objects
    image_size: int = 0
    # pixels, limit of the longer side after resizing; 0 = with image_size, or 5/3 of it
    max_size: int = 0
    # pixels after resizing, one per pyramid level, finest first; [] = from the objects' sizes
    anchor_sizes: tuple[float, ...] = ()
    anchor_ratios: tuple[float, ...] = (0.5, 1.0, 2.0)  # height / width
    box_head: int = 0  # width of the two fully connected layers
    pool_size: int = 0  # cells per side of a pooled box
    # kept after suppression, per image; twice as many go in, per level, but for resnet50
    proposals_train: int = 0
    proposals_test: int = 0
    rpn_samples: int = 0  # anchors per image in the proposal loss
    box_samples: int = 0  # proposals per image in the box loss
    detections_per_image: int = 100
    score_floor: float = 0.05  # detections below it are not returned
    nms: float = 0.5  # IoU above which the weaker of two boxes of one class goes
    # gn | bn | frozen_bn; "": frozen_bn for lite0 and for resnet50 with weights, else gn
    norm: str = ""
    norm_eps: float = 1e-5  # not of lite0, which has its own
    # resnet50, lite0, 1-5: how many of the stages learn; 0: 3 with weights, 5 without
    trainable_layers: int = 0
    # local .safetensors, .pth or detectron2 zoo .pkl to start from; "" = from scratch, lite0 from
    # ImageNet
    weights: str = ""
    # rgb | bgr (detectron2's Caffe-style ResNets, and only they); "": as the weights file wants
    input_format: str = ""
    masks: bool = False  # learn a mask head from the images that have masks
    classification: str = "cross_entropy"  # cross_entropy | focal: the box head's class loss
    # focal only: how much less a box counts that is classified well already
    focal_gamma: float = 1.5
    # ---- training ----
    # pixels, shorter sides drawn from per image in training; [] = image_size
    train_sizes: tuple[int, ...] = ()
    optimizer: str = "adamw"  # adamw | sgd
    lr: float = 0.0  # at its peak; the usual values are for adamw and a batch of 16
    # of the backbone without its pyramid, share of lr; 0 = 0.1 for lite0, which has learned before,
    # else 1
    backbone_lr: float = 0.0
    # part of the steps over which the rate rises; then it follows the schedule
    warmup: float = 0.05
    schedule: str = "cosine"  # cosine (down to 1 %) | step
    # step only: shares of the steps at which the rate is multiplied by decay
    milestones: tuple[float, ...] = (0.67, 0.89)
    decay: float = 0.1  # step only: by how much
    weight_decay: float = 0.02
    momentum: float = 0.9  # sgd only
    clip_grad: float = 5.0  # largest gradient norm; 0 = no limit
    flip: bool = True  # mirror half of the images
    scale_jitter: float = 0.0  # zoom by up to this much more or less
    color_jitter: float = 0.0  # brightness, contrast and tint by up to this part
    ema: float = 0.995  # decay of the averaged weights that predict in the end; 0 = none
    # of training: float32 | bfloat16 | auto (bfloat16 where the hardware has it); boxes, losses and
    # predictions are float32
    precision: str = "auto"

    def __post_init__(self) -> None:
        for name in ("anchor_sizes", "anchor_ratios", "milestones"):
            numbers = tuple(float(value) for value in getattr(self, name))
            object.__setattr__(self, name, numbers)
        sizes = tuple(int(size) for size in self.train_sizes)
        object.__setattr__(self, "train_sizes", sizes)
        if self.backbone not in ("auto", *USUAL):
            choices = ", ".join(("auto", *USUAL))
            raise ValueError(f"backbone: '{self.backbone}' is unknown; choose {choices}")
        if self.backbone == "auto":
            for backbone in self.AUTO:
                replace(self, backbone=backbone)  # raises ValueError for what one of them refuses
        self._check_choices()
        self._check_pyramid()
        self._check_ranges()
        self._check_sizes()
        self.recipe()  # raises ValueError for its own fields

    def _check_choices(self) -> None:
        if self.norm not in ("", *NORMS):
            raise ValueError(f"norm: '{self.norm}' is unknown; choose {', '.join(NORMS)}")
        if self.backbone == "lite0" and self.norm not in ("", "frozen_bn"):
            raise ValueError(
                f"norm: '{self.norm}' is not what lite0 was trained with; "
                "leave it empty, or set backbone: small"
            )
        if self.precision not in PRECISIONS:
            raise ValueError(
                f"precision: '{self.precision}' is unknown; choose {', '.join(PRECISIONS)}"
            )
        if self.classification not in CLASSIFICATIONS:
            choices = " or ".join(CLASSIFICATIONS)
            raise ValueError(
                f"classification: '{self.classification}' is unknown; choose {choices}"
            )
        if self.input_format not in ("", "rgb", "bgr"):
            raise ValueError(f"input_format: '{self.input_format}' is unknown; choose rgb or bgr")
        if self.input_format == "bgr" and self.backbone != "resnet50":
            raise ValueError(
                "input_format: bgr is what Caffe-style ResNets want; "
                f"leave it empty for {self.backbone}"
            )

    def _check_pyramid(self) -> None:
        if self.finest_stride not in (0, 4, 8):
            raise ValueError(f"finest_stride: {self.finest_stride} is not possible; choose 4 or 8")
        resnet = self.backbone == "resnet50"
        usual_pyramid = self.finest_stride in (0, 4) and self.fpn_channels in (0, 256)
        if resnet and not usual_pyramid:
            raise ValueError(
                "backbone: resnet50 has finest_stride 4 and fpn_channels 256; leave both at 0"
            )
        smallest_anchor = min(self.anchor_sizes, default=1.0)
        smallest_ratio = min(self.anchor_ratios, default=0.0)
        if smallest_anchor <= 0 or smallest_ratio <= 0:
            raise ValueError(
                "anchor_sizes and anchor_ratios: must be above 0; give at least one ratio"
            )
        levels = self.max_levels()
        count = len(self.anchor_sizes)
        if resnet and count not in (0, levels):
            raise ValueError(f"anchor_sizes: resnet50 has {levels} levels; give {levels} sizes")
        if count > levels:
            raise ValueError(f"anchor_sizes: {count} sizes but at most {levels} levels; give fewer")

    def max_levels(self) -> int:
        """Return the largest number of levels of the pyramid."""
        if self.backbone == "resnet50":
            return 5
        if self.resolved().finest_stride == 8:
            return 3
        return 4

    def _check_ranges(self) -> None:
        at_least(0, self, "fpn_channels", "image_size", "max_size", "box_head", "pool_size")
        at_least(0, self, "proposals_train", "proposals_test", "rpn_samples", "box_samples")
        at_least(0, self, "norm_eps", "focal_gamma")
        above(0, self, "width", "detections_per_image", "nms")
        from_0_to_below_1(self, "score_floor")
        if self.trainable_layers not in range(6):
            raise ValueError(
                f"trainable_layers: {self.trainable_layers} is out of range; give 0 to 5"
            )

    def _check_sizes(self) -> None:
        resolved = self.resolved()
        image_size = resolved.image_size
        max_size = resolved.max_size
        if image_size < 32 or max_size < image_size:
            raise ValueError(
                f"image_size: {image_size} must be 32 or more and at most max_size {max_size}"
            )
        for size in self.train_sizes:
            if not 32 <= size <= max_size:
                raise ValueError(f"train_sizes: must be 32 or more and at most max_size {max_size}")

    def resolved(self) -> Config:
        """Return the settings with every 0, "" and () replaced by the usual value."""
        resolved = copy.copy(self)
        if self.backbone == "auto":
            object.__setattr__(resolved, "backbone", "small")
        for name, usual in USUAL[resolved.backbone].items():
            if not getattr(self, name):
                object.__setattr__(resolved, name, usual)
        if self.backbone == "resnet50" and not self.norm and self.weights:
            object.__setattr__(resolved, "norm", "frozen_bn")  # as in torchvision's files
        if not self.max_size:
            object.__setattr__(resolved, "max_size", round(resolved.image_size * MAX_ASPECT))
        return resolved

    def recipe(self) -> Recipe:
        """Return the settings of the training loop."""
        resolved = self.resolved()
        values = {field.name: getattr(resolved, field.name) for field in fields(Recipe)}
        return Recipe(**values)

    def strides(self) -> list[int]:
        """Return the strides of the pyramid's levels, one per anchor size, finest first."""
        return [self.finest_stride * 2**level for level in range(len(self.anchor_sizes))]

    def is_compact(self) -> bool:
        """Return whether the network is one for CPUs: fewer proposals, fast pooling."""
        return self.backbone != "resnet50"

    def learning_stages(self) -> int:
        """Return the number of stages of a ResNet or of lite0 that learn."""
        if self.trainable_layers:
            return self.trainable_layers
        if self.weights or self.backbone == "lite0":
            return TRAINABLE_WITH_WEIGHTS
        return TRAINABLE_FROM_SCRATCH

    def shorter_sides(self) -> tuple[int, ...]:
        """Return the shorter sides that training draws from."""
        return self.train_sizes or (self.image_size,)
