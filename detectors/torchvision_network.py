"""Torchvision's two-stage networks, put together in code from its parts and ours.

Legend: P proposals of an image, R boxes of all images, C classes, M cells per side of a mask.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torchvision.models.detection.faster_rcnn import FastRCNNPredictor, TwoMLPHead
from torchvision.models.detection.generalized_rcnn import GeneralizedRCNN
from torchvision.models.detection.mask_rcnn import MaskRCNNHeads, MaskRCNNPredictor
from torchvision.models.detection.roi_heads import RoIHeads, project_masks_on_boxes
from torchvision.models.detection.rpn import AnchorGenerator, RPNHead
from torchvision.models.detection.transform import GeneralizedRCNNTransform

from synthaug.detectors.backbones import (
    IMAGENET_MEAN,
    IMAGENET_STD,
    Pyramid,
    lite0_pyramid,
    norm_layer,
    resnet50_pyramid,
    small_pyramid,
)
from synthaug.detectors.base import Tensors
from synthaug.detectors.nn import lite0
from synthaug.detectors.partial_labels import (
    PartialProposals,
    box_losses,
    mean_loss,
    smooth_l1,
    without_ignored,
)
from synthaug.detectors.rcnn_config import MASK_CONVS, MASK_POOL, Config
from synthaug.detectors.rcnn_detector import focal_loss
from synthaug.detectors.roi_pool import LookupRoIAlign, torchvision_pool
from synthaug.detectors.samplers import BoxSampler

RPN_POSITIVE = 0.5  # share of objects among the anchors of the proposal loss
BOX_POSITIVE = 0.25  # and among the proposals of the box loss


def build_network(config: Config, num_classes: int) -> nn.Module:
    """Return the network of a resolved config; class 0 is the background."""
    pyramid = _pyramid(config)
    # Weights are drawn in this order: pyramid, heads, proposals.
    heads = _heads(config, num_classes, pyramid.out_channels)
    proposals = _proposals(config, pyramid.out_channels)
    mean, std = IMAGENET_MEAN, IMAGENET_STD
    if config.backbone == "lite0":
        mean, std = lite0.MEAN, lite0.STD
    transform = _Transform(config.image_size, config.max_size, mean, std)
    model: nn.Module = GeneralizedRCNN(pyramid, proposals, heads, transform)
    return model


def _pyramid(config: Config) -> Pyramid:
    norm = norm_layer(config.norm, config.norm_eps)
    channels = config.fpn_channels
    bf16 = config.precision == "bfloat16"
    if config.backbone == "small":
        return small_pyramid(config.width, config.strides(), channels, norm, bf16)
    if config.backbone == "lite0":
        return lite0_pyramid(config.strides(), channels, config.learning_stages(), bf16)
    return resnet50_pyramid(norm, config.learning_stages(), bf16)


def _proposals(config: Config, channels: int) -> nn.Module:
    """Return the region proposal network."""
    levels = len(config.anchor_sizes)
    sizes = tuple((size,) for size in config.anchor_sizes)
    ratios = (config.anchor_ratios,) * levels
    after_nms = {"training": config.proposals_train, "testing": config.proposals_test}
    before_nms = dict(after_nms)
    if config.is_compact():
        before_nms = {mode: 2 * count for mode, count in after_nms.items()}
    proposals: nn.Module = PartialProposals(
        AnchorGenerator(sizes, ratios),
        _ProposalHead(channels, len(config.anchor_ratios), config.precision == "bfloat16"),
        fg_iou_thresh=0.7,
        bg_iou_thresh=0.3,
        batch_size_per_image=config.rpn_samples,
        positive_fraction=RPN_POSITIVE,
        pre_nms_top_n=before_nms,
        post_nms_top_n=after_nms,
        nms_thresh=0.7,
    )
    proposals.fg_bg_sampler = BoxSampler(config.rpn_samples, RPN_POSITIVE)  # type: ignore[assignment]
    return proposals


def _heads(config: Config, num_classes: int, channels: int) -> nn.Module:
    """Return box and mask heads; index 0 of both outputs is the background."""
    pool_cells = config.pool_size**2
    box_pool = _pool(config, config.pool_size)
    bf16 = config.precision == "bfloat16"
    box_head = _BoxHead(channels * pool_cells, config.box_head, bf16)
    predictor = FastRCNNPredictor(config.box_head, num_classes + 1)
    mask_parts = {}
    if config.masks:
        convolutions = (channels,) * MASK_CONVS[config.backbone]
        mask_parts = {
            "mask_roi_pool": _pool(config, MASK_POOL),
            "mask_head": MaskRCNNHeads(channels, convolutions, 1),
            "mask_predictor": MaskRCNNPredictor(channels, channels, num_classes + 1),
        }
    focal_gamma = None
    if config.classification == "focal":
        focal_gamma = config.focal_gamma
    heads: nn.Module = _Heads(
        box_pool,
        box_head,
        predictor,
        fg_iou_thresh=0.5,
        bg_iou_thresh=0.5,
        batch_size_per_image=config.box_samples,
        positive_fraction=BOX_POSITIVE,
        bbox_reg_weights=None,
        score_thresh=config.score_floor,
        nms_thresh=config.nms,
        detections_per_img=config.detections_per_image,
        focal_gamma=focal_gamma,
        **mask_parts,
    )
    heads.fg_bg_sampler = BoxSampler(config.box_samples, BOX_POSITIVE)  # type: ignore[assignment]
    return heads


def _pool(config: Config, size: int) -> nn.Module:
    """Return a pooling of boxes to `size` cells a side."""
    strides = config.strides()
    if config.is_compact():
        return LookupRoIAlign(strides, size, samples=1, canonical=2 * config.anchor_sizes[0])
    return torchvision_pool(strides[:-1], size)  # from the convolutional levels only


class _ProposalHead(RPNHead):  # type: ignore[misc]
    """Torchvision's convolutions of the proposals; with `bf16` trained in bfloat16."""

    def __init__(self, channels: int, num_anchors: int, bf16: bool) -> None:
        super().__init__(channels, num_anchors)
        self.bf16 = bf16

    def forward(self, maps: list[Tensor]) -> tuple[list[Tensor], list[Tensor]]:
        """Return float32 logits and box offsets of each level's anchors."""
        rounded = self.bf16 and self.training
        with torch.autocast(maps[0].device.type, torch.bfloat16, enabled=rounded):
            logits, offsets = super().forward(maps)
        return [level.float() for level in logits], [level.float() for level in offsets]


class _BoxHead(TwoMLPHead):  # type: ignore[misc]
    """Torchvision's two layers on pooled boxes; with `bf16` trained in bfloat16."""

    def __init__(self, in_channels: int, width: int, bf16: bool) -> None:
        super().__init__(in_channels, width)
        self.bf16 = bf16

    def forward(self, pooled: Tensor) -> Tensor:
        """Map pooled boxes [R, C, P, P] to float32 vectors [R, width]."""
        rounded = self.bf16 and self.training
        with torch.autocast(pooled.device.type, torch.bfloat16, enabled=rounded):
            vectors: Tensor = super().forward(pooled)
        return vectors.float()


class _Transform(GeneralizedRCNNTransform):  # type: ignore[misc]
    """Torchvision's resizing and normalization, with regions to ignore."""

    def resize(
        self,
        image: Tensor,
        target: dict[str, Tensor] | None = None,
    ) -> tuple[Tensor, dict[str, Tensor] | None]:
        """Resize an image with its boxes, masks and regions to ignore."""
        height, width = image.shape[-2:]
        image, target = super().resize(image, target)
        if target is not None and "ignore" in target:
            x_ratio = image.shape[-1] / width
            y_ratio = image.shape[-2] / height
            ratios = torch.tensor([x_ratio, y_ratio, x_ratio, y_ratio], device=image.device)
            target["ignore"] = target["ignore"] * ratios
        return image, target

    def postprocess(self, result: list[dict[str, Tensor]], *sizes: Any) -> list[dict[str, Tensor]]:
        """Scale boxes back to the pixels of the images as given; masks stay as they are."""
        masks = [output.pop("masks", None) for output in result]
        scaled: list[dict[str, Tensor]] = super().postprocess(result, *sizes)
        for output, of_image in zip(scaled, masks, strict=True):
            if of_image is not None:
                output["masks"] = of_image
        return scaled


class _Heads(RoIHeads):  # type: ignore[misc]
    """Torchvision's box and mask heads with a choice of class loss.

    Takes images of which only some have masks, and such that are not labelled in full.
    `focal_gamma` None means the cross entropy.
    """

    def __init__(self, *args: Any, focal_gamma: float | None, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.focal_gamma = focal_gamma

    def select_training_samples(
        self,
        proposals: list[Tensor],
        targets: list[dict[str, Tensor]],
    ) -> tuple[list[Tensor], list[Tensor], list[Tensor], list[Tensor]]:
        """Sample proposals; return them, their true boxes' indices, labels and offsets.

        As torchvision's, but background that teaches nothing is not sampled.
        """
        dtype = proposals[0].dtype
        gt_boxes = [target["boxes"].to(dtype) for target in targets]
        gt_labels = [target["labels"] for target in targets]
        proposals = self.add_gt_proposals(proposals, gt_boxes)
        matched, labels = self.assign_targets_to_proposals(proposals, gt_boxes, gt_labels)
        for i, target in enumerate(targets):
            of_image = proposals[i]
            labels[i] = without_ignored(of_image, labels[i], target)
        sampled = self.subsample(labels)
        matched_boxes = []
        for i, chosen in enumerate(sampled):
            proposals[i] = proposals[i][chosen]
            labels[i] = labels[i][chosen]
            matched[i] = matched[i][chosen]
            boxes = gt_boxes[i]
            if not len(boxes):
                boxes = torch.zeros((1, 4), dtype=dtype, device=boxes.device)
            matched_boxes.append(boxes[matched[i]])
        offsets = self.box_coder.encode(matched_boxes, proposals)
        return proposals, matched, labels, offsets

    def forward(
        self,
        features: Tensors,
        proposals: list[Tensor],
        image_shapes: list[tuple[int, int]],
        targets: list[dict[str, Tensor]] | None = None,
    ) -> tuple[list[dict[str, Tensor]], dict[str, Tensor]]:
        """Return detections per image and no losses or, in training, the other way round."""
        if self.training:
            assert targets is not None
            return [], self._losses(features, proposals, image_shapes, targets)
        return self._detections(features, proposals, image_shapes), {}

    def _losses(
        self,
        features: Tensors,
        proposals: list[Tensor],
        image_shapes: list[tuple[int, int]],
        targets: list[dict[str, Tensor]],
    ) -> dict[str, Tensor]:
        """Return the losses by torchvision's names."""
        proposals, matched, labels, offsets = self.select_training_samples(proposals, targets)
        logits, deltas = self._classify(features, proposals, image_shapes)
        with_box = []
        for i, target in enumerate(targets):
            flags = torch.zeros_like(labels[i], dtype=torch.bool)
            if len(target["boxes"]):
                has_box = box_losses(target)[matched[i]]
                flags = (labels[i] > 0) & has_box
            with_box.append(flags)
        classes = torch.cat(labels)
        if self.focal_gamma is None:
            class_loss = mean_loss(F.cross_entropy, logits, classes)
        else:
            class_loss = focal_loss(logits, classes, self.focal_gamma)
        box_loss = _box_loss(deltas, classes, torch.cat(offsets), torch.cat(with_box))
        losses = {"loss_classifier": class_loss, "loss_box_reg": box_loss}
        if self.has_mask():
            losses["loss_mask"] = self._mask_loss(
                features, proposals, image_shapes, targets, matched, labels, with_box
            )
        return losses

    def _detections(
        self,
        features: Tensors,
        proposals: list[Tensor],
        image_shapes: list[tuple[int, int]],
    ) -> list[dict[str, Tensor]]:
        """Return boxes, labels, scores and, with a mask head, soft masks of each image."""
        logits, deltas = self._classify(features, proposals, image_shapes)
        boxes, scores, labels = self.postprocess_detections(logits, deltas, proposals, image_shapes)
        detections = []
        for k in range(len(boxes)):
            detections.append({"boxes": boxes[k], "scores": scores[k], "labels": labels[k]})
        if self.has_mask():
            all_masks = self._mask_logits(features, boxes, image_shapes).sigmoid()
            masks = _of_class(all_masks, torch.cat(labels))  # [R, M, M]
            counts = [len(of_image) for of_image in boxes]
            of_images = torch.split(masks, counts)
            for detection, of_image in zip(detections, of_images, strict=True):
                detection["masks"] = of_image
        return detections

    def _classify(
        self,
        features: Tensors,
        boxes: list[Tensor],
        image_shapes: list[tuple[int, int]],
    ) -> tuple[Tensor, Tensor]:
        """Return class logits [R, C + 1] and box offsets [R, 4 (C + 1)]."""
        pooled = self.box_roi_pool(features, boxes, image_shapes)
        logits, deltas = self.box_predictor(self.box_head(pooled))
        return logits, deltas

    def check_targets(self, targets: list[dict[str, Tensor]]) -> None:
        """Check nothing: torchvision would ask for masks of every image."""

    def _mask_loss(
        self,
        features: Tensors,
        proposals: list[Tensor],
        image_shapes: list[tuple[int, int]],
        targets: list[dict[str, Tensor]],
        matched: list[Tensor],
        labels: list[Tensor],
        with_box: list[Tensor],
    ) -> Tensor:
        """Return the cross entropy of the true class's mask (Mask R-CNN, section 3).

        Over objects of images that have masks, of which `with_box` [P] per image says that they are
        learned.
        """
        boxes = []
        classes = []
        chosen_masks = []  # per image with objects: its true masks, and the index of each box's
        for i, target in enumerate(targets):
            learned = with_box[i] & ("masks" in target)
            boxes.append(proposals[i][learned])
            classes.append(labels[i][learned])
            if len(boxes[i]):
                chosen_masks.append((target["masks"], boxes[i], matched[i][learned]))
        logits = self._mask_logits(features, boxes, image_shapes)  # [R, C + 1, M, M]
        if not len(logits):
            return logits.sum()
        size = logits.shape[-1]
        truth = []
        for masks, of_image, index in chosen_masks:
            truth.append(project_masks_on_boxes(masks, of_image, index, size))
        own_logits = _of_class(logits, torch.cat(classes))
        return F.binary_cross_entropy_with_logits(own_logits, torch.cat(truth))

    def _mask_logits(
        self,
        features: Tensors,
        boxes: list[Tensor],
        image_shapes: list[tuple[int, int]],
    ) -> Tensor:
        """Return mask logits [R, C + 1, M, M] of boxes."""
        pooled = self.mask_roi_pool(features, boxes, image_shapes)
        logits: Tensor = self.mask_predictor(self.mask_head(pooled))
        return logits


def _box_loss(deltas: Tensor, classes: Tensor, offsets: Tensor, with_box: Tensor) -> Tensor:
    """Return the smooth L1 loss of some boxes [R], a share of the mean over all R.

    Of the offsets [R, 4]. deltas are [R, 4 (C + 1)], of every class; classes [R].
    """
    rows = with_box.nonzero()[:, 0]
    own = deltas.reshape(len(deltas), deltas.shape[1] // 4, 4)[rows, classes[rows]]
    return smooth_l1(own, offsets[rows]) / max(1, len(classes))


def _of_class(masks: Tensor, classes: Tensor) -> Tensor:
    """Return of masks [R, C + 1, M, M] those of each box's class [R, M, M]."""
    rows = torch.arange(len(masks), device=masks.device)
    return masks[rows, classes]
