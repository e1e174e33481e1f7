"""Official checkpoints of sg2im: sizes are told from the file, nothing in it is executed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from synthaug.generators import official as importing
from synthaug.generators.sg2im.discriminator import ImageDiscriminator, ObjectDiscriminator
from tests.generators.sg2im.scenes import LABELS, network_of


def written(folder: Path, state: dict[str, Tensor], **beside: Any) -> Path:
    path = folder / "sg2im.pt"
    torch.save({"model_state": state, **beside}, path)
    return path


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"resolution": 128},
        {"mask_side": 0},
        {"graph_layers": 0},
        {"graph_layers": 1, "noise": 0},
    ],
)
def test_every_generator_comes_back(settings: dict[str, Any], tmp_path: Path) -> None:
    network = network_of(**settings)
    state = network.state_dict()
    unused = {"rel_aux_net.0.weight": torch.zeros(2, 2)}
    imported = importing.read(written(tmp_path, {**state, **unused}, epoch=3))
    found = imported.found
    told = (found.config.resolution, found.config.mask_side, found.config.graph_layers)
    config = network.config
    assert (config.resolution, config.mask_side, config.graph_layers) == told
    assert (LABELS, config.noise) == (found.labels, found.config.noise)
    for key, value in imported.network.state_dict().items():
        assert torch.equal(value, state[key])
    assert "ignored 1 buffers" in imported.notes[0]


def test_the_discriminators_come_back(tmp_path: Path) -> None:
    objects = ObjectDiscriminator(4, LABELS, hidden=8).state_dict()
    wrapped = {f"discriminator.{key}": value for key, value in objects.items()}
    imported = importing.read(written(tmp_path, wrapped))
    assert "object discriminator of width 4, 6 label rows" in str(imported)
    image = ImageDiscriminator(4).state_dict()
    classifier = {"classifier.weight": torch.zeros(1, 16, 1, 1), "classifier.bias": torch.zeros(1)}
    imported = importing.read(written(tmp_path, {**image, **classifier}))
    assert "image discriminator of width 4" in str(imported)
    assert "ignored 2" in imported.notes[0]


def test_relations_of_a_data_set_are_said(tmp_path: Path) -> None:
    names = ("__in_image__", "on", "near")
    imported = importing.read(written(tmp_path, network_of(relations=names).state_dict()))
    assert imported.found.config.relations == ("__in_image__", "relation 1", "relation 2")
    assert "3 relations are not the geometric ones" in imported.notes[-1]


@pytest.mark.parametrize(
    ("key", "shape", "message"),
    [
        ("box_net.2.bias", (3,), r"'box_net.2.bias' is \[3\], not \[4\]"),
        ("gconv.net1.0.weight", (10, 4), "'gconv.net1.0.weight' is"),
    ],
)
def test_a_misshapen_tensor_is_named(
    key: str, shape: tuple[int, ...], message: str, tmp_path: Path
) -> None:
    state = {**network_of().state_dict(), key: torch.zeros(shape)}
    with pytest.raises(ValueError, match=message):
        importing.read(written(tmp_path, state))


def test_a_cascade_of_another_length_is_refused(tmp_path: Path) -> None:
    state = network_of().state_dict()
    for key in list(state):
        if ".4." in key and key.startswith("refinement_net.refinement_modules.4"):
            del state[key]
    with pytest.raises(ValueError, match="has 4 blocks"):
        importing.read(written(tmp_path, state))
