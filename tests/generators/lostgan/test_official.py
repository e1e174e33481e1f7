"""What the keys and shapes of a LostGAN's file tell, without a file."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from synthaug.generators.lostgan.config import Config
from synthaug.generators.lostgan.discriminator import Discriminator
from synthaug.generators.lostgan.network import LostGanGenerator
from synthaug.generators.lostgan.official import recognise
from synthaug.generators.official import Found

State = dict[str, Tensor]
LABELS = 9


def generator(version: int = 2, resolution: int = 64, **sizes: Any) -> State:
    small: dict[str, Any] = {"width": 2, "z_image": 8, "z_object": 6, "embedding": 5}
    if version == 2:
        small["mask_hidden"] = 7
    config = Config(version=version, resolution=resolution, **(small | sizes))
    with torch.device("meta"):
        return LostGanGenerator(config, LABELS).state_dict()


def found(state: State, background: bool = False) -> Found:
    result = recognise(state, background)
    assert result is not None
    return result


def refused(state: State) -> str:
    with pytest.raises(ValueError, match=r"^['h]") as caught:
        recognise(state, False)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_other_systems_are_left_to_others() -> None:
    assert recognise({}, False) is None
    assert recognise({"G_middle_0.conv_0.weight": torch.zeros(1)}, False) is None


@pytest.mark.parametrize(
    "sizes",
    [
        {"width": 3},
        {"z_image": 11},
        {"z_object": 13, "embedding": 4},
        {"mask_hidden": 9},
        {"mask_labels": 12},
    ],
)
def test_every_size_is_read_off_its_own_tensors(sizes: dict[str, int]) -> None:
    config = found(generator(**sizes)).config
    for name, value in sizes.items():
        assert value == getattr(config, name)
    assert 64 == config.resolution


def test_mask_heads_of_all_labels_are_no_setting() -> None:
    own = found(generator())
    assert (LABELS, 0) == (own.labels, own.config.mask_labels)
    assert "mask heads" not in own.title
    more = found(generator(mask_labels=LABELS + 3))
    assert f"{LABELS + 3} in the mask heads" in more.title


def test_fewer_mask_heads_than_labels_are_refused() -> None:
    state = generator(mask_labels=LABELS + 3)
    for key in list(state):
        if key.startswith("label_embedding"):
            state[key] = torch.zeros(LABELS + 5, 5, device="meta")
    assert f"{LABELS + 5} rows, the mask heads only {LABELS + 3}" in refused(state)


def test_the_number_of_blocks_is_the_resolution() -> None:
    for resolution in (64, 128, 256, 512):
        assert resolution == found(generator(resolution=resolution)).config.resolution
    state = generator(version=1, resolution=64)
    extra = {f"res{k}.conv1.weight_orig": torch.zeros(1) for k in range(20, 26)}
    assert "no model of version 1 has so many" in refused(state | extra)
    bare = {key: value for key, value in state.items() if not key.startswith("res")}
    assert "has 0 blocks" in refused(bare)


def test_one_tensor_out_of_line_does_not_outvote_the_others() -> None:
    """The key that is wrong is named later, by the check against the network."""
    state = generator()
    block = next(key for key in state if key.endswith("b1.weight_proj.weight_orig"))
    state[block] = torch.zeros(3, 99, device="meta")
    assert 6 == found(state).config.z_object


def test_a_file_of_too_few_labels_is_refused() -> None:
    state = generator()
    state["label_embedding.weight"] = torch.zeros(1, 5, device="meta")
    assert "has 1 rows; a model has the background's and one per class" in refused(state)


def test_codes_shorter_than_the_embedding_are_refused() -> None:
    state = generator()
    state["label_embedding.weight"] = torch.zeros(LABELS, 40, device="meta")
    assert "has 40 columns, the joint codes only 11" in refused(state)


def test_a_background_is_what_the_user_says() -> None:
    assert not found(generator()).config.background
    assert found(generator(), background=True).config.background
    assert "" == found(generator()).hint, "only the size of Visual Genome gives a hint"


def discriminator(resolution: int) -> State:
    with torch.device("meta"):
        return Discriminator(resolution, 2, LABELS).state_dict()


def test_a_discriminator_has_one_image_head() -> None:
    for resolution in (64, 128, 256, 512):
        own = found(discriminator(resolution))
        assert ("discriminator", resolution) == (own.kind, own.config.resolution)
    both = discriminator(64) | discriminator(128)
    assert "has 2 of the image heads" in refused(both)
    headless = {"l_y.weight_orig": torch.zeros(LABELS, 4, device="meta")}
    assert "has none of the image heads" in refused(headless)
