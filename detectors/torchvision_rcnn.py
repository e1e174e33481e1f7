"""Faster R-CNN (Ren et al. 2015) with a feature pyramid (Lin et al. 2017), put together from torchvision's parts.

`backbone: resnet50` is torchvision's `fasterrcnn_resnet50_fpn`, so its published weights fit; `backbone: small` is a
compact network that learns small images from scratch in a minute or two on two CPU cores.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torchvision.models.detection import FasterRCNN
from torchvision.models.detection.faster_rcnn import FastRCNNPredictor, TwoMLPHead
from torchvision.models.detection.rpn import AnchorGenerator

from detectors.backbones import NORMS, norm_layer, resnet50_pyramid, small_pyramid
from detectors.base import Prediction, Sample
from detectors.roi_pool import LookupRoIAlign, torchvision_pool
from detectors.samplers import PlacedSampler, placed_choice
from detectors.training import Recipe, StepTraining
from detectors.weights import load_checkpoint, load_pretrained, read_header, read_pretrained, write_checkpoint

BACKEND = "torchvision"
LONGEST = 5 / 3  # usual limit of the longer side, in shorter sides: torchvision's 1333 to 800
NAMES = {  # torchvision's names of losses, and ours
    "loss_objectness": "objectness",
    "loss_rpn_box_reg": "proposal_box",
    "loss_classifier": "class",
    "loss_box_reg": "box",
    "loss_mask": "mask",
}
COCO_ROWS = 91  # of the class layer in torchvision's COCO file: the ids 1..90 and the background
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
    width: int = 24  # small only: channels of the stem and of stride 4; doubled per level up to 4 x width
    fpn_channels: int = 0
    finest_stride: int = 0  # small only: pixels per cell of the finest pyramid level, 4 or 8
    image_size: int = 0  # pixels: the shorter side after resizing, up or down; a multiple of 32 wastes no padding
    max_size: int = 0  # pixels: limit of the longer side after resizing; 0: 5/3 of image_size
    anchor_sizes: tuple[float, ...] = ()  # pixels after resizing, one per pyramid level, finest first
    anchor_ratios: tuple[float, ...] = (0.5, 1.0, 2.0)  # height / width
    box_head: int = 0  # width of the two fully connected layers
    pool_size: int = 0  # cells per side of a pooled box
    proposals_train: int = 0  # kept after suppression, per image; twice as many go in, per level, for small
    proposals_test: int = 0
    rpn_samples: int = 0  # anchors per image in the proposal loss
    box_samples: int = 0  # proposals per image in the box loss
    detections_per_image: int = 100
    score_floor: float = 0.05
    nms: float = 0.5  # IoU above which the weaker of two boxes of one class goes
    norm: str = ""  # gn | bn | frozen_bn
    norm_eps: float = 1e-5
    trainable_layers: int = 0  # resnet50 only, 1-5: how many of its stages learn; 0: 3 with weights, 5 without
    weights: str = ""  # file to start from; empty: from scratch
    optimizer: str = "adamw"  # adamw | sgd
    lr: float = 0.0  # at its peak; the usual values are for adamw and a batch of 16
    warmup: float = 0.05  # part of the steps over which the rate rises; then it follows the schedule
    schedule: str = "cosine"  # cosine (down to 1 %) | step
    milestones: tuple[float, ...] = (0.67, 0.89)  # step only: shares of the steps at which the rate is multiplied
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
        if self.backbone not in USUAL:
            raise ValueError(f"backbone: '{self.backbone}' is unknown; choose small or resnet50")
        self._check_choices()
        self._check_ranges()
        self.recipe()  # raises on what is wrong there

    def _check_choices(self) -> None:
        if self.norm not in ("", *NORMS):
            raise ValueError(f"norm: '{self.norm}' is unknown; choose {', '.join(NORMS)}")
        if self.finest_stride not in (0, 4, 8):
            raise ValueError(f"finest_stride: {self.finest_stride} is not possible; choose 4 or 8")
        if self.backbone == "resnet50" and (self.finest_stride == 8 or self.fpn_channels not in (0, 256)):
            raise ValueError("backbone: resnet50 has finest_stride 4 and fpn_channels 256; leave both at 0")
        if not self.anchor_ratios or min(self.anchor_ratios) <= 0 or min(self.anchor_sizes, default=1.0) <= 0:
            raise ValueError("anchor_sizes and anchor_ratios: must be above 0; give at least one ratio")
        levels = 5 if self.backbone == "resnet50" else 4 - (self.resolved().finest_stride == 8)
        if self.backbone == "resnet50" and len(self.anchor_sizes) not in (0, levels):
            raise ValueError(f"anchor_sizes: resnet50 has {levels} levels; give {levels} sizes")
        if len(self.anchor_sizes) > levels:
            raise ValueError(f"anchor_sizes: {len(self.anchor_sizes)} sizes but at most {levels} levels; give fewer")

    def _check_ranges(self) -> None:
        whole = ("fpn_channels", "image_size", "max_size", "box_head", "pool_size", "proposals_train", "proposals_test")
        for name in (*whole, "rpn_samples", "box_samples", "norm_eps"):
            if not 0 <= getattr(self, name) < math.inf:
                raise ValueError(f"{name}: {getattr(self, name)} is out of range; give 0 or more")
        for name in ("width", "detections_per_image", "nms"):
            if not 0 < getattr(self, name) < math.inf:
                raise ValueError(f"{name}: {getattr(self, name)} is out of range; give more than 0")
        if not 0 <= self.score_floor < 1:
            raise ValueError(f"score_floor: {self.score_floor} is out of range; give 0 or more and less than 1")
        if self.trainable_layers not in range(6):
            raise ValueError(f"trainable_layers: {self.trainable_layers} is out of range; give 0 to 5")
        sizes = self.resolved()
        if sizes.image_size < 32 or sizes.max_size < sizes.image_size:
            raise ValueError(f"image_size: {sizes.image_size} must be 32 or more and at most max_size {sizes.max_size}")

    def resolved(self) -> Config:
        """Return the same settings with every 0, "" and () replaced by the backbone's usual value."""
        usual = {name: value for name, value in USUAL[self.backbone].items() if not getattr(self, name)}
        made = copy.copy(self)
        for name, value in usual.items():
            object.__setattr__(made, name, value)
        object.__setattr__(made, "max_size", self.max_size or round(made.image_size * LONGEST))
        return made

    def recipe(self) -> Recipe:
        """Return the settings of the training loop."""
        settings = self.resolved()
        return Recipe(**{field.name: getattr(settings, field.name) for field in fields(Recipe)})


class RcnnDetector:
    """A Faster R-CNN; `loaded` says in one line what came from the weights file."""

    def __init__(self, config: Config, num_classes: int, model: nn.Module, loaded: str = "") -> None:
        self.config = config
        self.num_classes = num_classes
        self.model = model
        self.loaded = loaded

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        return next(self.model.parameters()).device

    def predict(self, images: Sequence[NDArray[np.uint8]], scale: float = 1.0) -> list[Prediction]:
        """Detect in images of any sizes; each result is best first and does not depend on the other images.

        Images of one shape run together and others apart: padding would change the normalisation and the borders.
        """
        self._resize_to(scale)
        groups: dict[tuple[int, ...], list[int]] = {}
        for i, image in enumerate(images):
            groups.setdefault(image.shape, []).append(i)
        self.model.eval()
        found: dict[int, Prediction] = {}
        for shape, members in groups.items():
            with torch.inference_mode():
                outputs = self.model([_tensor(images[i], self.device) for i in members])
            found |= {i: _prediction(out, shape) for i, out in zip(members, outputs, strict=True)}
        return [found[i] for i in range(len(images))]

    def training(self, steps: int, seed: int) -> StepTraining:
        """Start training from the present weights; call `finish()` on the result after the last step."""
        return StepTraining(self.model, self.losses, self.config.recipe(), steps, seed)

    def losses(self, samples: Sequence[Sample]) -> Mapping[str, Tensor]:
        """The network's losses on samples as they are; puts the network into training mode."""
        self.model.train()
        self._resize_to(1.0)
        transform: Any = self.model.get_submodule("transform")
        transform.torch_choice = placed_choice(len(samples))
        images = [_tensor(sample.image, self.device) for sample in samples]
        losses: Mapping[str, Tensor] = self.model(images, [_target(sample, self.device) for sample in samples])
        return {NAMES[name]: loss for name, loss in losses.items()}

    def _resize_to(self, scale: float) -> None:
        """Let the network see images `scale` times as large as configured."""
        transform: Any = self.model.get_submodule("transform")
        transform.min_size = (round(self.config.image_size * scale),)
        transform.max_size = round(self.config.max_size * scale)

    def save(self, path: Path, metadata: Mapping[str, str]) -> None:
        """Write weights and config to one safetensors file."""
        write_checkpoint(path, self.model, BACKEND, asdict(self.config), self.num_classes, metadata)


def build(config: Config, num_classes: int, *, seed: int = 0, device: str | torch.device = "cpu") -> RcnnDetector:
    """Make a detector for classes 0..num_classes-1, weights drawn from `seed` and then, if asked, read from a file.

    Raises ValueError when the weights file is absent, damaged or made for another network.
    """
    settings = config.resolved()
    if settings.norm == "frozen_bn" and not settings.weights:
        raise ValueError("norm: frozen_bn cannot learn from scratch; give weights, or set norm to gn or bn")
    weights = read_pretrained(Path(settings.weights)) if settings.weights else {}
    if len(weights.get("roi_heads.box_predictor.cls_score.bias", ())) == COCO_ROWS:
        settings = replace(settings, norm_eps=0.0)  # torchvision's COCO file was trained without it
    with torch.random.fork_rng([]):
        torch.manual_seed(seed)
        model = _network(settings, num_classes)
    loaded = load_pretrained(model, weights, Path(settings.weights)) if weights else ""
    return RcnnDetector(settings, num_classes, model.to(device), loaded)


def load(path: Path, *, device: str | torch.device = "cpu") -> RcnnDetector:
    """Read a detector that `save` wrote; raises ValueError naming the file when it cannot be used."""
    header = read_header(path)
    known = {field.name for field in fields(Config)}
    unknown = sorted(set(header["config"]) - known)
    if header["backend"] != BACKEND or unknown:
        what = f"setting '{unknown[0]}'" if unknown else f"backend '{header['backend']}'"
        raise ValueError(f"{path}: {what} is unknown to {BACKEND}; read it with the version that wrote it")
    try:
        config = Config(**header["config"]).resolved()
    except (ValueError, TypeError) as err:
        raise ValueError(f"{path}: {err}") from err
    with torch.random.fork_rng([]):
        model = _network(config, header["num_classes"])
    load_checkpoint(model, path)
    return RcnnDetector(config, header["num_classes"], model.to(device), f"{path.name}: whole detector")


def _network(config: Config, num_classes: int) -> nn.Module:
    """Put the parts together; `config` is resolved, and index 0 of the class layer is the background."""
    norm = norm_layer(config.norm, config.norm_eps)
    levels = len(config.anchor_sizes)
    strides = tuple(config.finest_stride * 2**i for i in range(levels))
    if config.backbone == "resnet50":
        pyramid = resnet50_pyramid(norm, config.trainable_layers or (3 if config.weights else 5), config.bf16)
        strides = strides[:-1]  # boxes are pooled from the convolutional levels only
        pool: nn.Module = torchvision_pool(strides, config.pool_size)
        pre_nms = (config.proposals_train, config.proposals_test)
    else:
        pyramid = small_pyramid(config.width, strides, config.fpn_channels, norm, config.bf16)
        pool = LookupRoIAlign(strides, config.pool_size, samples=1, canonical=2 * config.anchor_sizes[0])
        pre_nms = (2 * config.proposals_train, 2 * config.proposals_test)
    model: nn.Module = FasterRCNN(
        pyramid,
        min_size=config.image_size,
        max_size=config.max_size,
        rpn_anchor_generator=AnchorGenerator(
            tuple((s,) for s in config.anchor_sizes), (config.anchor_ratios,) * levels
        ),
        rpn_pre_nms_top_n_train=pre_nms[0],
        rpn_pre_nms_top_n_test=pre_nms[1],
        rpn_post_nms_top_n_train=config.proposals_train,
        rpn_post_nms_top_n_test=config.proposals_test,
        rpn_batch_size_per_image=config.rpn_samples,
        box_head=TwoMLPHead(pyramid.out_channels * config.pool_size**2, config.box_head),
        box_predictor=FastRCNNPredictor(config.box_head, num_classes + 1),
        box_score_thresh=config.score_floor,
        box_nms_thresh=config.nms,
        box_detections_per_img=config.detections_per_image,
        box_batch_size_per_image=config.box_samples,
    )
    model.get_submodule("roi_heads").box_roi_pool = pool
    for part, number, positive in (("rpn", config.rpn_samples, 0.5), ("roi_heads", config.box_samples, 0.25)):
        sampled: Any = model.get_submodule(part)
        sampled.fg_bg_sampler = PlacedSampler(number, positive)
    return model


def _tensor(image: NDArray[np.uint8], device: torch.device) -> Tensor:
    """Image [H, W, 3] uint8 as float32 [3, H, W] in [0, 1]."""
    return torch.from_numpy(np.array(image)).to(device).permute(2, 0, 1).float().div_(255)


def _target(sample: Sample, device: torch.device) -> dict[str, Tensor]:
    """True boxes and labels as torchvision wants them: class 0 is the background."""
    boxes = torch.from_numpy(np.asarray(sample.boxes, np.float32).reshape(-1, 4))
    labels = torch.from_numpy(np.asarray(sample.labels, np.int64)) + 1
    return {"boxes": boxes.to(device), "labels": labels.to(device)}


def _prediction(output: Mapping[str, Tensor], shape: tuple[int, ...]) -> Prediction:
    """Torchvision's output of one image of shape (H, W, 3): clipped (scaling back may overshoot) and best first."""
    order = torch.argsort(output["scores"], descending=True, stable=True)
    limit = torch.tensor([shape[1], shape[0], shape[1], shape[0]], device=order.device)
    boxes = torch.minimum(output["boxes"][order].clamp(min=0), limit)
    labels, scores = output["labels"][order] - 1, output["scores"][order]
    return Prediction(boxes.cpu().numpy(), labels.cpu().numpy(), scores.cpu().numpy())
