"""Our R50-FPN of detectron2 is the zoo's own.

Built from its configuration there, in code here, and equal.
"""

from __future__ import annotations

import importlib
import pickle
import re
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torchvision.models import resnet50

from synthaug import detectors
from synthaug.detectors import detectron2_rcnn
from synthaug.detectors.rcnn_config import Config
from synthaug.pipeline.core.masks import decode, paste
from tests.detectors.painted import needs, painted

R50 = Config(
    backbone="resnet50",
    image_size=64,
    max_size=96,
    norm="frozen_bn",
    score_floor=0.0,
    trainable_layers=3,
)
SMALL = Config(
    width=8, fpn_channels=16, image_size=64, max_size=128, anchor_sizes=(16, 32), box_head=32
)


def zoo_model(masks: bool) -> torch.nn.Module:
    """The zoo's Faster or Mask R-CNN with two classes and random weights."""
    kind = "COCO-InstanceSegmentation/mask_rcnn" if masks else "COCO-Detection/faster_rcnn"
    package = Path(str(importlib.import_module("detectron2").__file__)).parent
    cfg = importlib.import_module("detectron2.config").get_cfg()
    cfg.merge_from_file(str(package / "model_zoo" / "configs" / f"{kind}_R_50_FPN_3x.yaml"))
    cfg.MODEL.DEVICE, cfg.MODEL.ROI_HEADS.NUM_CLASSES, cfg.MODEL.ROI_HEADS.SCORE_THRESH_TEST = (
        "cpu",
        2,
        0.0,
    )
    cfg.MODEL.RPN.PRE_NMS_TOPK_TRAIN = cfg.MODEL.RPN.POST_NMS_TOPK_TRAIN = 2000  # our usual values
    torch.manual_seed(0)
    model: torch.nn.Module = importlib.import_module("detectron2.modeling").build_model(cfg)
    return model


def as_zoo_file(model: torch.nn.Module, path: Path) -> str:
    arrays = {name: tensor.numpy() for name, tensor in model.state_dict().items()}
    path.write_bytes(pickle.dumps({"model": arrays, "__author__": "Detectron2 Model Zoo"}))
    return str(path)


@pytest.mark.parametrize("masks", [False, True])
def test_a_zoo_file_fills_every_tensor_and_predictions_and_losses_are_the_same(tmp_path, masks):
    needs("detectron2")
    torch.set_num_threads(1)
    structures = importlib.import_module("detectron2.structures")
    events = importlib.import_module("detectron2.utils.events")
    theirs = zoo_model(masks).eval()
    config = replace(R50, weights=as_zoo_file(theirs, tmp_path / "model_final.pkl"), masks=masks)
    ours = detectron2_rcnn.build(config, 2)
    assert "fresh" not in ours.loaded
    assert ours.config.input_format == "bgr"
    sample = painted(3, (64, 80), masks=masks)
    entry = {
        "image": torch.from_numpy(sample.image[:, :, ::-1].copy()).permute(2, 0, 1),
        "height": 64,
        "width": 80,
    }
    with torch.inference_mode():
        expected = theirs.inference([entry], do_postprocess=False)[0]
    (actual,) = ours.predict([sample.image])
    np.testing.assert_allclose(expected.scores.numpy(), actual.scores, atol=1e-5)
    np.testing.assert_allclose(expected.pred_boxes.tensor.numpy(), actual.boxes, atol=1e-3)
    if masks:
        np.testing.assert_allclose(expected.pred_masks[:, 0].numpy(), actual.masks, atol=1e-5)
    truth = structures.Instances((64, 80))
    truth.gt_boxes = structures.Boxes(torch.from_numpy(sample.boxes))
    truth.gt_classes = torch.from_numpy(sample.labels)
    if masks:
        truth.gt_masks = structures.BitMasks(torch.from_numpy(sample.masks))
    torch.manual_seed(5)
    torch.randint(1, (1,))  # the draw of the training size
    with events.EventStorage():
        named = theirs.train()([{**entry, "instances": truth}])
    torch.manual_seed(5)
    losses = {k: float(v) for k, v in ours.losses([sample]).items()}
    assert losses == pytest.approx(
        {detectron2_rcnn.LOSS_NAMES[name]: float(loss) for name, loss in named.items()}, rel=1e-4
    )
    theirs_frozen = {name for name, p in theirs.named_parameters() if not p.requires_grad}
    assert theirs_frozen == {
        name for name, p in ours.model.named_parameters() if not p.requires_grad
    }


def test_torchvisions_resnet_gives_the_same_features_and_is_shown_rgb(tmp_path):
    needs("detectron2")
    torch.manual_seed(0)
    plain = resnet50(weights=None).eval()
    for name, buffer in plain.named_buffers():
        if name.endswith(("running_mean", "running_var")):
            buffer.copy_(torch.rand_like(buffer) + 0.5)
    torch.save(plain.state_dict(), tmp_path / "r50.pth")
    ours = detectron2_rcnn.build(replace(R50, weights=str(tmp_path / "r50.pth")), 2)
    assert ours.config.input_format == "rgb"
    x = torch.rand(1, 3, 64, 64)
    with torch.inference_mode():
        expected = plain.layer3(
            plain.layer2(plain.layer1(plain.maxpool(plain.relu(plain.bn1(plain.conv1(x))))))
        )
        actual = ours.model.get_submodule("backbone.bottom_up")(x)["res4"]
    torch.testing.assert_close(expected, actual, atol=1e-3, rtol=1e-3)


def test_the_back_ends_share_the_small_body_but_never_each_others_heads(tmp_path):
    """Their class layers have the same shape and another order of rows."""
    needs("detectron2")
    for one, other in (("torchvision", "detectron2"), ("detectron2", "torchvision")):
        path = tmp_path / f"{one}.safetensors"
        first = detectors.backend(one).build(SMALL, 2, seed=1)
        first.save(path, {})
        second = detectors.backend(other).build(replace(SMALL, weights=str(path)), 2)
        name = "backbone.body.stem.0.weight"
        assert torch.equal(first.model.state_dict()[name], second.model.state_dict()[name])
        assert "roi_heads.box_predictor.cls_score.weight" in second.loaded.partition("fresh: ")[2]


def test_its_own_file_says_how_colours_were_given(tmp_path):
    needs("detectron2")
    path = tmp_path / "own.safetensors"
    detectron2_rcnn.build(replace(R50, norm="bn", input_format="bgr"), 2).save(path, {})
    assert detectron2_rcnn.load(path).config.input_format == "bgr"
    again = detectron2_rcnn.build(replace(R50, norm="bn", weights=str(path)), 2)
    assert again.config.input_format == "bgr"
    assert "fresh" not in again.loaded
    forced = detectron2_rcnn.build(
        replace(R50, norm="bn", weights=str(path), input_format="rgb"), 2
    )
    assert forced.config.input_format == "rgb"


def test_a_training_that_has_diverged_is_one_sentence():
    needs("detectron2")
    detector = detectron2_rcnn.build(SMALL, 2)
    with torch.no_grad():
        detector.model.get_submodule("proposal_generator.rpn_head.conv").weight.fill_(float("nan"))
    with pytest.raises(ValueError, match="lower lr"):
        detector.losses([painted(0)])


def test_without_the_library_settings_are_checked_and_building_is_refused(monkeypatch):
    monkeypatch.setitem(sys.modules, "detectron2", None)
    monkeypatch.setattr(detectron2_rcnn.importlib.util, "find_spec", lambda _: None)
    with pytest.raises(ValueError, match="width"):
        detectors.build("detectron2", {"width": 0}, 2)
    with pytest.raises(ValueError, match=re.escape("detectron2 is not installed")) as caught:
        detectors.build("detectron2", {}, 2)
    assert "\n" not in str(caught.value)
    detectors.check_installed("torchvision")


def test_pasted_masks_are_detectron2s():
    needs("detectron2")
    theirs = importlib.import_module("detectron2.layers.mask_ops").paste_masks_in_image
    rng = np.random.default_rng(0)
    corner = rng.uniform(-2, 40, (20, 2))
    boxes = np.concatenate([corner, corner + rng.uniform(4, 40, (20, 2))], 1).astype(np.float32)
    masks = rng.random((20, 28, 28)).astype(np.float32)
    expected = theirs(
        torch.from_numpy(masks), torch.from_numpy(boxes), (50, 60), threshold=0.5
    ).numpy()
    actual = np.stack([decode(counts, (50, 60)) for counts in paste(masks, boxes, (50, 60))])
    assert (expected != actual).mean() < 1e-4  # values within rounding of the threshold
    assert expected.any()
