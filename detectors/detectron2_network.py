"""Detectron2's networks, put together in code: no config files, no registries.

Imported only where detectron2 is there.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

import torch
from detectron2.layers import FrozenBatchNorm2d, ShapeSpec
from detectron2.modeling.anchor_generator import DefaultAnchorGenerator
from detectron2.modeling.backbone import FPN, Backbone, ResNet
from detectron2.modeling.backbone.fpn import LastLevelMaxPool
from detectron2.modeling.backbone.resnet import BasicStem
from detectron2.modeling.box_regression import Box2BoxTransform
from detectron2.modeling.matcher import Matcher
from detectron2.modeling.meta_arch import GeneralizedRCNN
from detectron2.modeling.poolers import ROIPooler
from detectron2.modeling.proposal_generator.rpn import RPN, StandardRPNHead
from detectron2.modeling.roi_heads import (
    FastRCNNConvFCHead,
    FastRCNNOutputLayers,
    MaskRCNNConvUpsampleHead,
    StandardROIHeads,
)
from detectron2.structures import BitMasks, Boxes, Instances, pairwise_iou
from detectron2.utils.events import EventStorage
from torch import Tensor, nn

from synthaug.detectors.backbones import (
    IMAGENET_MEAN,
    IMAGENET_STD,
    Pyramid,
    norm_layer,
    small_pyramid,
)
from synthaug.detectors.base import Tensors
from synthaug.detectors.partial_labels import (
    OBJECT,
    OBJECT_WITHOUT_BOX,
    box_losses,
    without_ignored,
)
from synthaug.detectors.rcnn_config import MASK_CONVS, MASK_POOL, Config
from synthaug.detectors.rcnn_detector import focal_loss

# BGR, 0 to 255, not divided by a deviation: input of the zoo's Caffe-style networks
CAFFE_MEAN = (103.53, 116.28, 123.675)
CAFFE_STD = (1.0, 1.0, 1.0)
STAGES = ["res2", "res3", "res4", "res5"]
CANONICAL = 224.0  # pixels: boxes of this size are pooled at stride 16 (FPN, eq. 1)
CANONICAL_LEVEL = 4


def build_network(config: Config, num_classes: int) -> nn.Module:
    """Return the network of a resolved config.

    The last index of the class layer is the background.
    """
    small = config.backbone == "small"
    backbone = _small(config) if small else _resnet50(config)
    if config.input_format == "bgr":
        input_format = "BGR"
        mean = CAFFE_MEAN
        std = CAFFE_STD
    else:
        input_format = "RGB"
        mean = _times_255(IMAGENET_MEAN)
        std = _times_255(IMAGENET_STD)
    model: nn.Module = GeneralizedRCNN(
        backbone=backbone,
        proposal_generator=_proposals(config, backbone),
        roi_heads=_heads(config, backbone, num_classes),
        pixel_mean=mean,
        pixel_std=std,
        input_format=input_format,
    )
    return model


def network_losses(model: nn.Module, inputs: Sequence[Tensors]) -> dict[str, Tensor]:
    """Return the network's losses by detectron2's names.

    Inputs have an image [3, H, W], RGB in 0..255, and in its pixels boxes [N, 4] xyxy, labels [N],
    perhaps masks [N, H, W] bool, and the optional targets of `partial_labels`. Raises ValueError
    where proposals are not finite.
    """
    entries = _entries(model, [one["image"] for one in inputs])
    for entry, truth in zip(entries, inputs, strict=True):
        instances = _Truth(entry["image"].shape[-2:], truth)
        instances.gt_boxes = Boxes(truth["boxes"])
        instances.gt_classes = truth["labels"]
        instances.gt_box_loss = box_losses(truth)
        if "masks" in truth:
            instances.gt_masks = BitMasks(truth["masks"])
        entry["instances"] = instances
    try:
        with EventStorage():  # detectron2 writes statistics there, which nobody reads
            losses: dict[str, Tensor] = model(entries)
    except FloatingPointError as err:
        raise ValueError(
            "training has diverged: a proposal is not finite; lower lr or set clip_grad"
        ) from err
    return losses


def network_detections(model: nn.Module, images: Sequence[Tensor]) -> list[dict[str, Tensor]]:
    """Return boxes, labels, scores and, with a mask head, soft masks of each image.

    Images are RGB [3, H, W] in 0..255.
    """
    network: Any = model
    detections = []
    for instances in network.inference(_entries(model, images), do_postprocess=False):
        output = {
            "boxes": instances.pred_boxes.tensor,
            "labels": instances.pred_classes,
            "scores": instances.scores,
        }
        if instances.has("pred_masks"):
            output["masks"] = instances.pred_masks[:, 0]
        detections.append(output)
    return detections


def _entries(model: nn.Module, images: Sequence[Tensor]) -> list[dict[str, Any]]:
    """Return detectron2's input of RGB images [3, H, W], in the network's colors."""
    network: Any = model
    if network.input_format == "BGR":
        images = [image.flip(0) for image in images]
    return [{"image": image} for image in images]


def _times_255(values: tuple[float, float, float]) -> tuple[float, float, float]:
    red, green, blue = values
    return 255 * red, 255 * green, 255 * blue


# ---- backbones ----


class _Fpn(FPN):  # type: ignore[misc]
    """Detectron2's pyramid; with `bf16` it trains in bfloat16, maps are float32."""

    def __init__(self, *args: Any, bf16: bool, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.bf16 = bf16

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        """Map normalized images [B, 3, H, W] to float32 maps by level name."""
        rounded = self.bf16 and self.training
        with torch.autocast(x.device.type, torch.bfloat16, enabled=rounded):
            maps = super().forward(x)
        return {name: feature.float() for name, feature in maps.items()}


class _Small(Pyramid, Backbone):  # type: ignore[misc]
    """The compact pyramid as a backbone of detectron2, under torchvision's names."""

    def __init__(self, pyramid: Pyramid, strides: Sequence[int]) -> None:
        super().__init__(pyramid.body, pyramid.fpn, pyramid.out_channels, pyramid.bf16)
        names = [str(i) for i in range(len(strides))]
        self._out_features = names
        self._out_feature_strides = dict(zip(names, strides, strict=True))
        self._out_feature_channels = dict.fromkeys(names, pyramid.out_channels)

    @property
    def size_divisibility(self) -> int:
        """Return the number whose multiples images are padded to, as torchvision does."""
        return 32


def _small(config: Config) -> Backbone:
    strides = config.strides()
    norm = norm_layer(config.norm, config.norm_eps)
    bf16 = config.precision == "bfloat16"
    pyramid = small_pyramid(config.width, strides, config.fpn_channels, norm, bf16)
    return _Small(pyramid, strides)


def _resnet50(config: Config) -> Backbone:
    """Return the zoo's R50-FPN.

    Caffe-style ResNets halve the map in the first 1x1 convolution of a stage, others in its 3x3.
    """
    norm = norm_layer(config.norm, config.norm_eps)
    if config.norm == "frozen_bn":
        norm = partial(FrozenBatchNorm2d, eps=config.norm_eps)  # detectron2's own class
    caffe_style = config.input_format == "bgr"
    stages = ResNet.make_default_stages(50, stride_in_1x1=caffe_style, norm=norm)
    frozen_stages = 5 - config.learning_stages()
    body = ResNet(BasicStem(norm=norm), stages, out_features=STAGES, freeze_at=frozen_stages)
    return _Fpn(
        body,
        STAGES,
        config.fpn_channels,
        top_block=LastLevelMaxPool(),
        bf16=config.precision == "bfloat16",
    )


# ---- proposals and heads ----


class _Truth(Instances):  # type: ignore[misc]
    """Detectron2's true objects of an image.

    With what `partial_labels` says of the image.
    """

    def __init__(self, size: tuple[int, int], target: Tensors) -> None:
        super().__init__(size)
        self._target = target  # a name with an underscore is no column of the objects

    @property
    def target(self) -> Tensors:
        """Return the target that the objects were made from."""
        return self._target

    def to(self, *_args: Any, **_kwargs: Any) -> _Truth:
        """Return itself: targets are on the network's device already."""
        return self


class _Proposals(RPN):  # type: ignore[misc]
    """Detectron2's proposals for images that are not labelled in full."""

    def label_and_sample_anchors(
        self, anchors: list[Boxes], gt_instances: list[_Truth]
    ) -> tuple[list[Tensor], list[Tensor]]:
        """Return per image the labels of sampled anchors and their true boxes.

        Labels are 1 for an object, 2 for one without a box loss, 0 for background, -1 for neither.
        """
        boxes = Boxes.cat(anchors)
        all_labels, all_matched = [], []
        for truth in gt_instances:
            index, labels = self.anchor_matcher(pairwise_iou(truth.gt_boxes, boxes))
            labels = without_ignored(boxes.tensor, labels, truth.target)
            labels = self._subsample_labels(labels)
            matched = torch.zeros_like(boxes.tensor)
            if len(truth):
                matched = truth.gt_boxes.tensor[index]
                labels[(labels == OBJECT) & ~truth.gt_box_loss[index]] = round(OBJECT_WITHOUT_BOX)
            all_labels.append(labels)
            all_matched.append(matched)
        return all_labels, all_matched

    def losses(
        self,
        anchors: list[Boxes],
        pred_objectness_logits: list[Tensor],
        gt_labels: list[Tensor],
        pred_anchor_deltas: list[Tensor],
        gt_boxes: list[Tensor],
    ) -> dict[str, Tensor]:
        """Return the losses of sampled anchors by detectron2's names."""
        plain, with_box = [], []
        for labels in gt_labels:
            without = labels == OBJECT_WITHOUT_BOX
            plain.append(torch.where(without, 1, labels))
            with_box.append(torch.where(without, -1, labels))
        given = anchors, pred_objectness_logits
        predicted = pred_anchor_deltas, gt_boxes
        losses: dict[str, Tensor] = super().losses(*given, plain, *predicted)
        losses["loss_rpn_loc"] = super().losses(*given, with_box, *predicted)["loss_rpn_loc"]
        return losses


class _OutputLayers(FastRCNNOutputLayers):  # type: ignore[misc]
    """Detectron2's class and box outputs.

    With the focal loss where `gamma` is given, and for objects without a box loss.
    """

    def __init__(self, *args: Any, gamma: float | None, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.gamma = gamma

    def losses(
        self,
        predictions: tuple[Tensor, Tensor],
        proposals: list[Instances],
    ) -> dict[str, Tensor]:
        """Return the losses of sampled proposals by detectron2's names."""
        losses: dict[str, Tensor] = super().losses(predictions, proposals)
        # an object without a box loss is background to the box loss
        others = [self._without_boxes(of_image) for of_image in proposals]
        losses["loss_box_reg"] = super().losses(predictions, others)["loss_box_reg"]
        if self.gamma is not None:
            labels = torch.cat([instances.gt_classes for instances in proposals])
            losses["loss_cls"] = focal_loss(predictions[0], labels, self.gamma)
        return losses

    def _without_boxes(self, proposals: Instances) -> Instances:
        """Return sampled proposals with objects without a box loss as background."""
        if not proposals.has("gt_box_loss"):
            return proposals
        others = proposals[:]
        others.gt_classes = torch.where(
            proposals.gt_box_loss, proposals.gt_classes, self.num_classes
        )
        return others


class _Heads(StandardROIHeads):  # type: ignore[misc]
    """Detectron2's heads for images that are not labelled in full.

    Only some of the images have masks.
    """

    def label_and_sample_proposals(
        self, proposals: list[Instances], targets: list[_Truth]
    ) -> list[Instances]:
        """Return sampled proposals with what they are matched to.

        Background that teaches nothing is not sampled.
        """
        used = []
        for of_image, truth in zip(proposals, targets, strict=True):
            boxes = of_image.proposal_boxes
            _, labels = self.proposal_matcher(pairwise_iou(truth.gt_boxes, boxes))
            labels = without_ignored(boxes.tensor, labels, truth.target)
            used.append(of_image[labels >= 0])
        sampled: list[Instances] = super().label_and_sample_proposals(used, targets)
        return sampled

    def _forward_mask(self, features: dict[str, Tensor], instances: list[Instances]) -> Any:
        if not self.training:
            return super()._forward_mask(features, instances)
        with_masks = []
        for of_image in instances:
            if of_image.has("gt_masks"):
                of_image = of_image[of_image.gt_box_loss]
            else:
                of_image = of_image[:0]
            with_masks.append(of_image)
        return super()._forward_mask(features, with_masks)


def _proposals(config: Config, backbone: Backbone) -> RPN:
    shapes = backbone.output_shape()
    strides = [shape.stride for shape in shapes.values()]
    num_anchors = len(config.anchor_ratios)
    anchors = DefaultAnchorGenerator(
        sizes=[[size] for size in config.anchor_sizes],
        aspect_ratios=[list(config.anchor_ratios)],
        strides=strides,
        offset=0.0,  # the zoo's: on the corners of cells, as in the other back-end
    )
    after_nms = (config.proposals_train, config.proposals_test)
    before_nms = after_nms
    if config.backbone == "small":
        before_nms = (2 * config.proposals_train, 2 * config.proposals_test)
    return _Proposals(
        in_features=list(shapes),
        head=StandardRPNHead(in_channels=config.fpn_channels, num_anchors=num_anchors),
        anchor_generator=anchors,
        anchor_matcher=Matcher([0.3, 0.7], [0, -1, 1], allow_low_quality_matches=True),
        box2box_transform=Box2BoxTransform(weights=(1.0, 1.0, 1.0, 1.0)),
        batch_size_per_image=config.rpn_samples,
        positive_fraction=0.5,
        pre_nms_topk=before_nms,
        post_nms_topk=after_nms,
    )


def _heads(config: Config, backbone: Backbone, num_classes: int) -> nn.Module:
    features = list(backbone.output_shape())
    if config.backbone == "resnet50":
        features = features[:4]  # not from the coarsest level, which repeats the one before
    strides = [backbone.output_shape()[name].stride for name in features]
    channels = config.fpn_channels
    box_shape = ShapeSpec(channels=channels, height=config.pool_size, width=config.pool_size)
    box_head = FastRCNNConvFCHead(box_shape, conv_dims=[], fc_dims=[config.box_head] * 2)
    mask_parts = {}
    if config.masks:
        mask_shape = ShapeSpec(channels=channels, height=MASK_POOL, width=MASK_POOL)
        convolutions = MASK_CONVS[config.backbone] + 1
        mask_parts = {
            "mask_in_features": features,
            "mask_pooler": _pooler(config, strides, MASK_POOL),
            "mask_head": MaskRCNNConvUpsampleHead(
                mask_shape, num_classes=num_classes, conv_dims=[channels] * convolutions
            ),
        }
    heads: nn.Module = _Heads(
        box_in_features=features,
        box_pooler=_pooler(config, strides, config.pool_size),
        box_head=box_head,
        box_predictor=_outputs(config, box_head.output_shape, num_classes),
        num_classes=num_classes,
        batch_size_per_image=config.box_samples,
        positive_fraction=0.25,
        proposal_matcher=Matcher([0.5], [0, 1], allow_low_quality_matches=False),
        **mask_parts,
    )
    return heads


def _pooler(config: Config, strides: Sequence[int], size: int) -> ROIPooler:
    """Return a pooling of boxes to `size` cells a side."""
    scales = [1 / stride for stride in strides]
    if config.backbone == "small":
        # the second level takes boxes from twice the smallest anchor on, as in the other back-end
        level = strides[0].bit_length()
        canonical = 2 * config.anchor_sizes[0]
        return ROIPooler(size, scales, 1, "ROIAlignV2", canonical, level)
    return ROIPooler(size, scales, 0, "ROIAlignV2", CANONICAL, CANONICAL_LEVEL)


def _outputs(config: Config, shape: ShapeSpec, num_classes: int) -> nn.Module:
    gamma = None
    if config.classification == "focal":
        gamma = config.focal_gamma
    outputs: nn.Module = _OutputLayers(
        shape,
        gamma=gamma,
        box2box_transform=Box2BoxTransform(weights=(10.0, 10.0, 5.0, 5.0)),
        num_classes=num_classes,
        test_score_thresh=config.score_floor,
        test_nms_thresh=config.nms,
        test_topk_per_image=config.detections_per_image,
    )
    return outputs
