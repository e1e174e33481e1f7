"""Faster and Mask R-CNN put together from torchvision's parts.

`backbone: resnet50` is torchvision's `fasterrcnn_resnet50_fpn` (`maskrcnn_resnet50_fpn` with `masks`), so its published
weights fit; `backbone: small` is a compact network that learns small images from scratch in a minute or two on two CPU
cores.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torchvision.models.detection.faster_rcnn import FastRCNNPredictor, TwoMLPHead
from torchvision.models.detection.generalized_rcnn import GeneralizedRCNN
from torchvision.models.detection.mask_rcnn import MaskRCNNHeads, MaskRCNNPredictor
from torchvision.models.detection.roi_heads import RoIHeads, fastrcnn_loss, project_masks_on_boxes
from torchvision.models.detection.rpn import AnchorGenerator, RPNHead
from torchvision.models.detection.transform import GeneralizedRCNNTransform

from synthaug.detectors import rcnn_config as rcnn
from synthaug.detectors.backbones import (
    IMAGENET_MEAN,
    IMAGENET_STD,
    norm_layer,
    resnet50_pyramid,
    small_pyramid,
)
from synthaug.detectors.base import Sample
from synthaug.detectors.ignore_regions import Proposals, spared
from synthaug.detectors.rcnn_detector import RcnnDetector, focal_loss, tensor
from synthaug.detectors.roi_pool import LookupRoIAlign, torchvision_pool
from synthaug.detectors.samplers import PlacedSampler, placed_choice
from synthaug.detectors.weights import torchvision_names

NAMES = {  # torchvision's names of losses, and ours
    "loss_objectness": "objectness",
    "loss_rpn_box_reg": "proposal_box",
    "loss_classifier": "class",
    "loss_box_reg": "box",
    "loss_mask": "mask",
}


@dataclass(frozen=True)
class Config(rcnn.Config):
    """The shared settings, but for what torchvision's networks do not know."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.input_format == "bgr":
            raise ValueError(
                "input_format: bgr is for detectron2's networks; leave it empty, or set backend: detectron2"
            )


class TorchvisionDetector(RcnnDetector):
    """Torchvision's network behind the contract."""

    backend = "torchvision"
    body: ClassVar[Mapping[str, str]] = {"small": "backbone.body.", "resnet50": "backbone.body."}

    @classmethod
    def network(cls, config: rcnn.Config, num_classes: int) -> nn.Module:
        """Put the parts together; index 0 of the class layer is the background."""
        return _network(config, num_classes)

    @classmethod
    def renamed(cls, weights: Mapping[str, Tensor]) -> Mapping[str, Tensor]:
        """Today's names of torchvision; detectron2's heads number the classes otherwise and are left out."""
        named = torchvision_names(weights)
        foreign = any(name.startswith("proposal_generator.") for name in named)
        return {
            name: tensor
            for name, tensor in named.items()
            if not foreign or name.startswith("backbone.")
        }

    def detect(self, images: Sequence[Tensor], scale: float) -> list[dict[str, Tensor]]:
        """Detect with labels from 0 on; see the base class."""
        self._resize_to(
            (round(self.config.image_size * scale),), round(self.config.max_size * scale)
        )
        outputs = self.model([image.float().div_(255) for image in images])
        return [{**output, "labels": output["labels"] - 1} for output in outputs]

    def losses(self, samples: Sequence[Sample]) -> Mapping[str, Tensor]:
        """The network's losses; see the base class."""
        self.model.train()
        self._resize_to(self.config.train_sizes or (self.config.image_size,), self.config.max_size)
        transform: Any = self.model.get_submodule("transform")
        transform.torch_choice = placed_choice(len(samples))
        images = [tensor(sample.image, self.device).float().div_(255) for sample in samples]
        targets = [_target(sample, self.config.masks, self.device) for sample in samples]
        losses: Mapping[str, Tensor] = self.model(images, targets)
        return {NAMES[name]: loss for name, loss in losses.items()}

    def _resize_to(self, shorter: tuple[int, ...], longer: int) -> None:
        """Let the network enlarge images to a shorter side of these, the longer one within a limit."""
        transform: Any = self.model.get_submodule("transform")
        transform.min_size, transform.max_size = shorter, longer


def build(
    config: rcnn.Config, num_classes: int, *, seed: int = 0, device: str | torch.device = "cpu"
) -> TorchvisionDetector:
    """Make a detector for classes 0..num_classes-1; raises ValueError for a weights file that does not fit."""
    return TorchvisionDetector.build(config, num_classes, seed, device)


def load(path: Path, *, device: str | torch.device = "cpu") -> TorchvisionDetector:
    """Read a detector that `save` wrote; raises ValueError naming the file when it cannot be used."""
    return TorchvisionDetector.load(path, device)


class _Transform(GeneralizedRCNNTransform):  # type: ignore[misc]
    """Torchvision's resizing and normalisation that leaves soft masks as they are instead of pasting them."""

    def resize(
        self, image: Tensor, target: dict[str, Tensor] | None = None
    ) -> tuple[Tensor, dict[str, Tensor] | None]:
        """Resize an image with all that is known of it, regions to ignore among that."""
        before = image.shape[-2:]
        image, target = super().resize(image, target)
        if target is not None and "ignore" in target:
            ratios = [after / old for after, old in zip(image.shape[-2:], before, strict=True)]
            scale = torch.tensor([ratios[1], ratios[0]] * 2, device=image.device)
            target["ignore"] = target["ignore"] * scale
        return image, target

    def postprocess(self, result: list[dict[str, Tensor]], *sizes: Any) -> list[dict[str, Tensor]]:
        """Bring boxes back to the pixels of the images as given."""
        masks = [output.pop("masks", None) for output in result]
        scaled: list[dict[str, Tensor]] = super().postprocess(result, *sizes)
        return [o if m is None else {**o, "masks": m} for o, m in zip(scaled, masks, strict=True)]


class _Heads(RoIHeads):  # type: ignore[misc]
    """Torchvision's box and mask heads with a choice of class loss, for images of which only some have masks."""

    focal_gamma: float | None = None  # None: cross entropy

    def select_training_samples(self, proposals: list[Tensor], targets: Any) -> Any:
        """Sample proposals with their labels; torchvision's, told where nothing is background."""
        self._ignore = [target.get("ignore") for target in targets]
        return super().select_training_samples(proposals, targets)

    def assign_targets_to_proposals(
        self, proposals: list[Tensor], gt_boxes: list[Tensor], gt_labels: list[Tensor]
    ) -> tuple[list[Tensor], list[Tensor]]:
        """Per image, the true box each proposal belongs to and its label: class, 0 background, -1 neither."""
        matched, labels = super().assign_targets_to_proposals(proposals, gt_boxes, gt_labels)
        return matched, [
            spared(p, c, r) for p, c, r in zip(proposals, labels, self._ignore, strict=True)
        ]

    def forward(
        self,
        features: Mapping[str, Tensor],
        proposals: list[Tensor],
        image_shapes: list[tuple[int, int]],
        targets: list[dict[str, Tensor]] | None = None,
    ) -> tuple[list[dict[str, Tensor]], dict[str, Tensor]]:
        """Return detections per image and no losses or, in training, the other way round."""
        matched: list[Tensor] = []
        if self.training:
            proposals, matched, labels, offsets = self.select_training_samples(proposals, targets)
        logits, deltas = self.box_predictor(
            self.box_head(self.box_roi_pool(features, proposals, image_shapes))
        )
        if self.training:
            assert targets is not None
            losses = self._box_losses(logits, deltas, labels, offsets)
            if self.has_mask():
                losses["loss_mask"] = self._mask_loss(
                    features, proposals, image_shapes, targets, matched, labels
                )
            return [], losses
        boxes, scores, labels = self.postprocess_detections(logits, deltas, proposals, image_shapes)
        found = [
            {"boxes": b, "scores": s, "labels": c}
            for b, s, c in zip(boxes, scores, labels, strict=True)
        ]
        if self.has_mask():
            soft = self._mask_logits(features, boxes, image_shapes).sigmoid()  # [R, C + 1, M, M]
            own = soft[torch.arange(len(soft), device=soft.device), torch.cat(labels)]
            for output, masks in zip(found, torch.split(own, [len(b) for b in boxes]), strict=True):
                output["masks"] = masks
        return found, {}

    def check_targets(self, targets: list[dict[str, Tensor]]) -> None:
        """Torchvision would ask for masks of every image."""

    def _box_losses(
        self, logits: Tensor, deltas: Tensor, labels: list[Tensor], offsets: list[Tensor]
    ) -> dict[str, Tensor]:
        of_class, of_box = fastrcnn_loss(logits, deltas, labels, offsets)
        if self.focal_gamma is not None:
            of_class = focal_loss(logits, torch.cat(labels), self.focal_gamma)
        return {"loss_classifier": of_class, "loss_box_reg": of_box}

    def _mask_loss(
        self,
        features: Mapping[str, Tensor],
        proposals: list[Tensor],
        image_shapes: list[tuple[int, int]],
        targets: list[dict[str, Tensor]],
        matched: list[Tensor],
        labels: list[Tensor],
    ) -> Tensor:
        """Binary cross entropy of the true class's mask (Mask R-CNN, section 3) over boxes of images with masks."""
        learned = [(c > 0) & ("masks" in t) for c, t in zip(labels, targets, strict=True)]
        boxes = [p[chosen] for p, chosen in zip(proposals, learned, strict=True)]
        logits = self._mask_logits(features, boxes, image_shapes)  # [R, C + 1, M, M]
        if not len(logits):
            return logits.sum()
        classes = torch.cat([c[chosen] for c, chosen in zip(labels, learned, strict=True)])
        truth = [
            project_masks_on_boxes(t["masks"], b, m[chosen], logits.shape[-1])
            for t, b, m, chosen in zip(targets, boxes, matched, learned, strict=True)
            if len(b)
        ]
        own = logits[torch.arange(len(logits), device=logits.device), classes]
        return F.binary_cross_entropy_with_logits(own, torch.cat(truth))

    def _mask_logits(
        self,
        features: Mapping[str, Tensor],
        boxes: list[Tensor],
        image_shapes: list[tuple[int, int]],
    ) -> Tensor:
        logits: Tensor = self.mask_predictor(
            self.mask_head(self.mask_roi_pool(features, boxes, image_shapes))
        )
        return logits


def _network(config: rcnn.Config, num_classes: int) -> nn.Module:
    norm = norm_layer(config.norm, config.norm_eps)
    levels = len(config.anchor_sizes)
    strides = tuple(config.finest_stride * 2**i for i in range(levels))
    small = config.backbone == "small"
    if small:
        pyramid = small_pyramid(config.width, strides, config.fpn_channels, norm, config.bf16)
    else:
        pyramid = resnet50_pyramid(
            norm, config.trainable_layers or (3 if config.weights else 5), config.bf16
        )
        strides = strides[:-1]  # boxes are pooled from the convolutional levels only

    def pool(size: int) -> nn.Module:
        if small:
            return LookupRoIAlign(strides, size, samples=1, canonical=2 * config.anchor_sizes[0])
        return torchvision_pool(strides, size)

    heads = _heads(config, num_classes, pyramid.out_channels, pool)
    before_nms = {
        "training": config.proposals_train * (1 + small),
        "testing": config.proposals_test * (1 + small),
    }
    rpn = Proposals(
        AnchorGenerator(tuple((s,) for s in config.anchor_sizes), (config.anchor_ratios,) * levels),
        RPNHead(pyramid.out_channels, len(config.anchor_ratios)),
        fg_iou_thresh=0.7,
        bg_iou_thresh=0.3,
        batch_size_per_image=config.rpn_samples,
        positive_fraction=0.5,
        pre_nms_top_n=before_nms,
        post_nms_top_n={"training": config.proposals_train, "testing": config.proposals_test},
        nms_thresh=0.7,
    )
    for part, number, positive in (
        (rpn, config.rpn_samples, 0.5),
        (heads, config.box_samples, 0.25),
    ):
        part.fg_bg_sampler = PlacedSampler(number, positive)
    transform = _Transform(config.image_size, config.max_size, IMAGENET_MEAN, IMAGENET_STD)
    model: nn.Module = GeneralizedRCNN(pyramid, rpn, heads, transform)
    return model


def _heads(
    config: rcnn.Config, num_classes: int, channels: int, pool: Callable[[int], nn.Module]
) -> nn.Module:
    """Box and mask heads; `pool` makes a pooling with so many cells a side. Index 0 of both outputs is the background."""
    heads: nn.Module = _Heads(
        pool(config.pool_size),
        TwoMLPHead(channels * config.pool_size**2, config.box_head),
        FastRCNNPredictor(config.box_head, num_classes + 1),
        fg_iou_thresh=0.5,
        bg_iou_thresh=0.5,
        batch_size_per_image=config.box_samples,
        positive_fraction=0.25,
        bbox_reg_weights=None,
        score_thresh=config.score_floor,
        nms_thresh=config.nms,
        detections_per_img=config.detections_per_image,
        **(_mask_parts(config, num_classes, channels, pool) if config.masks else {}),
    )
    if config.classification == "focal":
        heads.focal_gamma = config.focal_gamma  # type: ignore[assignment]
    return heads


def _mask_parts(
    config: rcnn.Config, num_classes: int, channels: int, pool: Callable[[int], nn.Module]
) -> dict[str, nn.Module]:
    convolutions = (channels,) * rcnn.MASK_CONVS[config.backbone]
    return {
        "mask_roi_pool": pool(rcnn.MASK_POOL),
        "mask_head": MaskRCNNHeads(channels, convolutions, 1),
        "mask_predictor": MaskRCNNPredictor(channels, channels, num_classes + 1),
    }


def _target(sample: Sample, masks: bool, device: torch.device) -> dict[str, Tensor]:
    """True boxes, labels and, where wanted and there, masks as torchvision wants them: class 0 is the background."""
    boxes = torch.from_numpy(np.asarray(sample.boxes, np.float32).reshape(-1, 4))
    labels = torch.from_numpy(np.asarray(sample.labels, np.int64)) + 1
    target = {"boxes": boxes.to(device), "labels": labels.to(device)}
    if masks and sample.masks is not None:
        target["masks"] = torch.from_numpy(sample.masks).to(device)
    if sample.ignore is not None and len(sample.ignore):
        target["ignore"] = torch.from_numpy(np.asarray(sample.ignore, np.float32)).to(device)
    return target
