"""Detectron2's networks, put together in code: no config files, no registries. Imported only where detectron2 is there."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
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
from detectron2.structures import BitMasks, Boxes, Instances
from detectron2.utils.events import EventStorage
from torch import Tensor, nn

from synthaug.detectors import rcnn_config as rcnn
from synthaug.detectors.backbones import (
    IMAGENET_MEAN,
    IMAGENET_STD,
    Pyramid,
    norm_layer,
    small_pyramid,
)
from synthaug.detectors.rcnn_detector import focal_loss

CAFFE_MEAN = (
    103.53,
    116.28,
    123.675,
)  # BGR, 0 to 255: what the zoo's Caffe-style networks are given, undivided
STAGES = ["res2", "res3", "res4", "res5"]
CANONICAL = 224.0  # pixels: boxes of this size are pooled at stride 16 (FPN, eq. 1)


@dataclass(frozen=True)
class Truth:
    """What is in one image, in the pixels the network sees."""

    boxes: Tensor  # [N, 4] xyxy
    labels: Tensor  # [N] 0..C-1
    masks: Tensor | None  # [N, H, W] bool


def network(config: rcnn.Config, num_classes: int) -> nn.Module:
    """Return the network of a resolved config; the last index of the class layer is the background."""
    backbone = _small(config) if config.backbone == "small" else _resnet50(config)
    caffe = config.input_format == "bgr"
    mean = CAFFE_MEAN if caffe else tuple(255 * value for value in IMAGENET_MEAN)
    model: nn.Module = GeneralizedRCNN(
        backbone=backbone,
        proposal_generator=_proposals(config, backbone),
        roi_heads=_heads(config, backbone, num_classes),
        pixel_mean=mean,
        pixel_std=(1.0, 1.0, 1.0) if caffe else tuple(255 * value for value in IMAGENET_STD),
        input_format="BGR" if caffe else "RGB",
    )
    return model


def losses(
    model: nn.Module, images: Sequence[Tensor], truths: Sequence[Truth]
) -> dict[str, Tensor]:
    """Return the network's losses on RGB images [3, H, W] in 0..255; raises ValueError where proposals are not finite."""
    inputs = _inputs(model, images)
    for entry, truth in zip(inputs, truths, strict=True):
        instances = Instances(
            entry["image"].shape[-2:], gt_boxes=Boxes(truth.boxes), gt_classes=truth.labels
        )
        if truth.masks is not None:
            instances.gt_masks = BitMasks(truth.masks)
        entry["instances"] = instances
    try:
        with EventStorage():  # detectron2 writes statistics there, which nobody reads
            named: dict[str, Tensor] = model(inputs)
    except FloatingPointError as err:
        raise ValueError(
            "training has diverged: a proposal is not finite; lower lr or set clip_grad"
        ) from err
    return named


def detections(model: nn.Module, images: Sequence[Tensor]) -> list[dict[str, Tensor]]:
    """Return what is found in RGB images [3, H, W] in 0..255: boxes, labels, scores and, with a mask head, soft masks."""
    whole: Any = model
    found = []
    for instances in whole.inference(_inputs(model, images), do_postprocess=False):
        output = {
            "boxes": instances.pred_boxes.tensor,
            "labels": instances.pred_classes,
            "scores": instances.scores,
        }
        if instances.has("pred_masks"):
            output["masks"] = instances.pred_masks[:, 0]
        found.append(output)
    return found


def _inputs(model: nn.Module, images: Sequence[Tensor]) -> list[dict[str, Any]]:
    blue_first = getattr(model, "input_format", "RGB") == "BGR"
    return [{"image": image.flip(0) if blue_first else image} for image in images]


class _Fpn(FPN):  # type: ignore[misc]
    """Detectron2's pyramid; with `bf16` its convolutions and the ResNet's run in bfloat16, the maps come out as float32."""

    bf16 = False

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        """Map normalised images [B, 3, H, W] to float32 maps by level name."""
        with torch.autocast(x.device.type, torch.bfloat16, enabled=self.bf16):
            maps = super().forward(x)
        return {name: feature.float() for name, feature in maps.items()}


class _Small(Pyramid, Backbone):  # type: ignore[misc]
    """The compact pyramid with what detectron2 asks of a backbone; parameters have the other back-end's names."""

    def __init__(self, pyramid: Pyramid, strides: Sequence[int]) -> None:
        super().__init__(pyramid.body, pyramid.fpn, pyramid.out_channels, pyramid.bf16)
        self._out_features = [str(i) for i in range(len(strides))]
        self._out_feature_strides = dict(zip(self._out_features, strides, strict=True))
        self._out_feature_channels = dict.fromkeys(self._out_features, pyramid.out_channels)

    @property
    def size_divisibility(self) -> int:
        """Images are padded to a multiple of this, as torchvision does."""
        return 32


class _OutputLayers(FastRCNNOutputLayers):  # type: ignore[misc]
    """Detectron2's class and box outputs with the focal loss in place of the cross entropy."""

    def __init__(self, *args: Any, gamma: float, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.gamma = gamma

    def losses(
        self, predictions: tuple[Tensor, Tensor], proposals: list[Instances]
    ) -> dict[str, Tensor]:
        """Return the losses of sampled proposals by detectron2's names."""
        labels = torch.cat([instances.gt_classes for instances in proposals])
        return {
            **super().losses(predictions, proposals),
            "loss_cls": focal_loss(predictions[0], labels, self.gamma),
        }


class _Heads(StandardROIHeads):  # type: ignore[misc]
    """Detectron2's heads for images of which only some have masks."""

    def _forward_mask(self, features: dict[str, Tensor], instances: list[Instances]) -> Any:
        if self.training:
            instances = [one if one.has("gt_masks") else one[:0] for one in instances]
        return super()._forward_mask(features, instances)


def _small(config: rcnn.Config) -> Backbone:
    strides = [config.finest_stride * 2**i for i in range(len(config.anchor_sizes))]
    norm = norm_layer(config.norm, config.norm_eps)
    return _Small(
        small_pyramid(config.width, strides, config.fpn_channels, norm, config.bf16), strides
    )


def _resnet50(config: rcnn.Config) -> Backbone:
    """The zoo's R50-FPN; Caffe-style ResNets halve the map in the first 1x1 convolution of a stage, others in its 3x3."""
    frozen = partial(FrozenBatchNorm2d, eps=config.norm_eps)
    norm = frozen if config.norm == "frozen_bn" else norm_layer(config.norm, config.norm_eps)
    stages = ResNet.make_default_stages(50, stride_in_1x1=config.input_format == "bgr", norm=norm)
    learned = config.trainable_layers or (3 if config.weights else 5)
    body = ResNet(BasicStem(norm=norm), stages, out_features=STAGES, freeze_at=5 - learned)
    pyramid = _Fpn(body, STAGES, config.fpn_channels, top_block=LastLevelMaxPool())
    pyramid.bf16 = config.bf16
    return pyramid


def _proposals(config: rcnn.Config, backbone: Backbone) -> RPN:
    shapes = backbone.output_shape()
    before_nms = 1 + (config.backbone == "small")  # so many times the proposals that are kept
    return RPN(
        in_features=list(shapes),
        head=StandardRPNHead(
            in_channels=config.fpn_channels, num_anchors=len(config.anchor_ratios)
        ),
        anchor_generator=DefaultAnchorGenerator(
            sizes=[[size] for size in config.anchor_sizes],
            aspect_ratios=[list(config.anchor_ratios)],
            strides=[shape.stride for shape in shapes.values()],
            offset=0.0,  # the zoo's: on the corners of cells, as in the other back-end
        ),
        anchor_matcher=Matcher([0.3, 0.7], [0, -1, 1], allow_low_quality_matches=True),
        box2box_transform=Box2BoxTransform(weights=(1.0, 1.0, 1.0, 1.0)),
        batch_size_per_image=config.rpn_samples,
        positive_fraction=0.5,
        pre_nms_topk=(before_nms * config.proposals_train, before_nms * config.proposals_test),
        post_nms_topk=(config.proposals_train, config.proposals_test),
    )


def _heads(config: rcnn.Config, backbone: Backbone, num_classes: int) -> nn.Module:
    features = list(backbone.output_shape())[: 4 if config.backbone == "resnet50" else None]
    strides = [backbone.output_shape()[name].stride for name in features]
    small = config.backbone == "small"

    def pooler(size: int) -> ROIPooler:
        # the second level takes boxes from twice the smallest anchor on, as in the other back-end
        level = strides[0].bit_length() if small else 4
        canonical = 2 * config.anchor_sizes[0] if small else CANONICAL
        samples = 1 if small else 0
        return ROIPooler(size, [1 / s for s in strides], samples, "ROIAlignV2", canonical, level)

    pooled = ShapeSpec(
        channels=config.fpn_channels, height=config.pool_size, width=config.pool_size
    )
    head = FastRCNNConvFCHead(pooled, conv_dims=[], fc_dims=[config.box_head] * 2)
    masks = {}
    if config.masks:
        channels = [config.fpn_channels] * (rcnn.MASK_CONVS[config.backbone] + 1)
        shape = ShapeSpec(channels=config.fpn_channels, height=rcnn.MASK_POOL, width=rcnn.MASK_POOL)
        mask_head = MaskRCNNConvUpsampleHead(shape, num_classes=num_classes, conv_dims=channels)
        masks = {
            "mask_in_features": features,
            "mask_pooler": pooler(rcnn.MASK_POOL),
            "mask_head": mask_head,
        }
    heads: nn.Module = _Heads(
        box_in_features=features,
        box_pooler=pooler(config.pool_size),
        box_head=head,
        box_predictor=_outputs(config, head.output_shape, num_classes),
        num_classes=num_classes,
        batch_size_per_image=config.box_samples,
        positive_fraction=0.25,
        proposal_matcher=Matcher([0.5], [0, 1], allow_low_quality_matches=False),
        **masks,
    )
    return heads


def _outputs(config: rcnn.Config, shape: ShapeSpec, num_classes: int) -> nn.Module:
    kind = (
        partial(_OutputLayers, gamma=config.focal_gamma)
        if config.classification == "focal"
        else FastRCNNOutputLayers
    )
    outputs: nn.Module = kind(
        shape,
        box2box_transform=Box2BoxTransform(weights=(10.0, 10.0, 5.0, 5.0)),
        num_classes=num_classes,
        test_score_thresh=config.score_floor,
        test_nms_thresh=config.nms,
        test_topk_per_image=config.detections_per_image,
    )
    return outputs
