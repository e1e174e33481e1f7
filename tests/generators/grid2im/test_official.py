"""Official checkpoints of Grid2Im: sizes are told from the file."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor

from synthaug.generators import official as importing
from synthaug.generators.grid2im.discriminator import ImageDiscriminator, MaskDiscriminator
from tests.generators.grid2im.scenes import LABELS, TINY, network_of


def written(folder: Path, state: dict[str, Tensor]) -> Path:
    path = folder / "grid2im.pt"
    torch.save({"model_state": state}, path)
    return path


def test_the_generator_comes_back(tmp_path: Path) -> None:
    state = network_of().state_dict()
    imported = importing.read(written(tmp_path, state))
    told = vars(imported.found.config)
    for name, value in TINY.items():
        if name not in ("resolution", "width_d"):  # which no generator's file tells
            assert told[name] == value, name
    assert LABELS == imported.found.labels
    for key, value in imported.network.state_dict().items():
        assert torch.equal(value, state[key])


def test_the_discriminators_come_back(tmp_path: Path) -> None:
    image = importing.read(written(tmp_path, ImageDiscriminator(12, 4).state_dict()))
    assert "image discriminator of width 4, layouts of 9 channels" in str(image)
    masks = importing.read(written(tmp_path, MaskDiscriminator(LABELS, 4).state_dict()))
    assert "mask discriminator of width 4, 6 label rows" in str(masks)
