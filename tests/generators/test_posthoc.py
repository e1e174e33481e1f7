"""Posthoc.

Maps of masks, and one line, beginning with its key, for each mistake in the two files.
"""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from synthaug.generators import boxes, checkpoint, panoptic, posthoc

MAPS = panoptic.Config(resolution=32, width=2, width_d=2)
CLASSES = ["car", "sky"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("parts")
    painter = panoptic.build(MAPS, 2)
    for name, classes in (("maps", CLASSES), ("others", CLASSES[::-1])):
        checkpoint.save(folder / name, painter, "panoptic", MAPS, classes, {})
    config = boxes.Config(resolution=32)
    checkpoint.save(folder / "layouts", boxes.build(config, 2), "boxes", config, CLASSES, {})
    return folder


def config_of(folder: Path, layouts: str = "layouts", maps: str = "maps") -> posthoc.Config:
    return posthoc.Config(str(folder / layouts), str(folder / maps))


def test_a_pixel_is_of_the_object_whose_mask_is_highest() -> None:
    soft = torch.zeros(1, 2, 2, 2)
    soft[0, 0, 0] = torch.tensor([0.9, 0.4])
    soft[0, 1, 0] = torch.tensor([0.2, 0.6])
    labels = torch.tensor([[2, 1]])
    maps, masks = posthoc.maps_of_masks(soft, labels, num_classes=2, dont_care=True)
    assert maps.labels.tolist() == [[[1, 0], [2, 2]]]  # class indices; 2 = don't care
    assert maps.instances[0, 0, 0] != maps.instances[0, 0, 1]
    assert masks[0].tolist() == [[[1, 0], [0, 0]], [[0, 1], [0, 0]]]


def test_pixels_of_no_mask_are_of_the_first_class_where_maps_must_have_one() -> None:
    maps, masks = posthoc.maps_of_masks(
        torch.zeros(1, 1, 2, 2), torch.tensor([[2]]), num_classes=2, dont_care=False
    )
    assert maps.labels.unique().tolist() == [0] and not masks.any()


def test_its_own_checkpoint_needs_neither_file(folder: Path, tmp_path: Path) -> None:
    network = posthoc.build(config_of(folder), 2)
    path = tmp_path / "both.safetensors"
    checkpoint.save(path, network, "posthoc", network.config, CLASSES, {})
    header = checkpoint.read_header(path)
    assert json.loads(header["config"]["parts"]).keys() == {"layouts", "maps"}
    elsewhere = replace(network.config, layouts="gone", maps="gone")
    again = posthoc.build(elsewhere, 2)
    assert again.state_dict().keys() == network.state_dict().keys()
    assert again.classes == CLASSES


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"layouts": "maps"}, "^layouts: .* panoptic generator, .* not conditioned on a layout"),
        ({"maps": "layouts"}, "^maps: .* boxes generator, .* not conditioned on a map"),
        ({"maps": "others"}, "^maps: .* other classes than"),
        ({"maps": "gone"}, "^maps: .*gone: not a readable safetensors file"),
    ],
)
def test_mistakes_begin_with_their_key(
    settings: dict[str, str], message: str, folder: Path
) -> None:
    with pytest.raises(ValueError, match=message) as caught:
        posthoc.build(config_of(folder, **settings), 2)
    assert "\n" not in str(caught.value)


def test_weights_that_do_not_fit_are_named_with_their_key(folder: Path, tmp_path: Path) -> None:
    wider = replace(MAPS, width=4)
    path = tmp_path / "wrong"
    checkpoint.save(path, panoptic.build(MAPS, 2), "panoptic", wider, CLASSES, {})
    config = posthoc.Config(str(folder / "layouts"), str(path))
    with pytest.raises(ValueError, match=r"^maps: .*wrong: the weights do not fit"):
        posthoc.build(config, 2)
