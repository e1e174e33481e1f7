"""Official checkpoints of Layout2Im: sizes are told from the file."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor

from synthaug.generators import official as importing
from synthaug.generators.layout2im.discriminator import ImageDiscriminator, ObjectDiscriminator
from tests.generators.layout2im.scenes import LABELS, network_of


def written(folder: Path, state: dict[str, Tensor]) -> Path:
    path = folder / "layout2im.pth"
    torch.save(state, path)
    return path


@pytest.mark.parametrize("layers", [1, 2, 3])
def test_every_generator_comes_back(layers: int, tmp_path: Path) -> None:
    network = network_of(lstm_layers=layers, mask_side=16)
    state = network.state_dict()
    imported = importing.read(written(tmp_path, state))
    found = imported.found
    assert (layers, 5, 6) == (
        found.config.lstm_layers,
        found.config.embedding,
        found.config.z_object,
    )
    assert LABELS == found.labels
    for key, value in imported.network.state_dict().items():
        assert torch.equal(value, state[key])


def test_the_discriminators_come_back(tmp_path: Path) -> None:
    objects = importing.read(written(tmp_path, ObjectDiscriminator(2, LABELS).state_dict()))
    assert "object discriminator of width 2, 6 label rows" in str(objects)
    image = importing.read(written(tmp_path, ImageDiscriminator(2).state_dict()))
    assert "image discriminator of width 2" in str(image)


def test_what_no_model_has_is_one_line(tmp_path: Path) -> None:
    state = network_of().state_dict()
    for key in list(state):
        if ".cell_list." in key:
            del state[key]
    with pytest.raises(ValueError, match="has sizes that no model has") as caught:
        importing.read(written(tmp_path, state))
    assert "\n" not in str(caught.value)
