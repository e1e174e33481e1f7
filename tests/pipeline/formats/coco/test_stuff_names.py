"""The names of COCO-Stuff's pixel values against those that torchvision's COCO detectors have."""

from __future__ import annotations

from torchvision.models.detection import MaskRCNN_ResNet50_FPN_Weights

from synthaug.pipeline.formats.coco.stuff_names import NAMES, NUM_THINGS


def test_things_have_the_ids_of_coco() -> None:
    published = MaskRCNN_ResNet50_FPN_Weights.COCO_V1.meta["categories"]  # by id; 0 is background
    things = {key: name for key, name in enumerate(published) if key and name != "N/A"}
    assert len(things) == 80
    assert {key: NAMES[key - 1] for key in things} == things
    assert max(things) <= NUM_THINGS


def test_every_value_has_one_name_and_stuff_is_in_order_of_the_alphabet() -> None:
    assert len(set(NAMES)) == len(NAMES) == 182
    stuff = list(NAMES[NUM_THINGS:])
    assert len(stuff) == 91
    assert stuff == sorted(stuff)
    assert (stuff[0], stuff[-1]) == ("banner", "wood")
