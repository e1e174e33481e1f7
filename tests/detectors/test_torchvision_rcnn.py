"""Our networks with `backbone: resnet50` are torchvision's own: their files fill them, and then they say the same."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torchvision.models.detection import fasterrcnn_resnet50_fpn, maskrcnn_resnet50_fpn
from torchvision.models.detection.roi_heads import paste_masks_in_image

from synthaug import detectors
from synthaug.detectors.samplers import size_chooser
from synthaug.detectors.torchvision_rcnn import Config, build
from synthaug.pipeline.core.masks import decode, paste
from tests.detectors.painted import painted

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
        backbone="resnet50", image_size=64, max_size=96, weights=str(tmp_path / "rcnn.pth"), norm="bn",
        score_floor=0.0, masks=masks, trainable_layers=5,
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


def test_pasted_masks_agree_with_torchvisions_within_a_pixel_of_rounding():
    """Torchvision rounds boxes to whole pixels and widens them by one: the outlines differ by up to one pixel."""
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
