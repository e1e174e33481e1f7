"""Official SPADE files are recognised by keys and shapes, and wrong ones are named."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from synthaug.generators import checkpoint
from synthaug.generators import official as importing
from synthaug.generators import spade as spade_system
from synthaug.generators.spade import network as spade
from synthaug.generators.spade import official
from synthaug.generators.spade.discriminator import Discriminator, Encoder
from tests.generators.spade.networks import FORMS, SMALL


@pytest.mark.parametrize("config", FORMS, ids=["normal", "more", "most", "latent code"])
def test_generators_come_back_from_official_files(config: spade.Config, tmp_path: Path) -> None:
    """Widths, depth and channels as far as keys and shapes tell.

    Then our own file, and production on it.
    """
    classes = {(True, True): 182, (False, True): 35, (True, False): 150}[
        (config.dont_care, config.edges)
    ]
    config = replace(
        config, resolution=512 if classes == 35 else 256, aspect_ratio=2.0 if classes == 35 else 1.0
    )
    state = spade_system.build(config, classes).state_dict()
    torch.save(
        {f"module.{key}": value for key, value in state.items()}, tmp_path / "latest_net_G.pth"
    )
    imported = importing.read(tmp_path / "latest_net_G.pth")
    assert (config, classes + 1) == (imported.found.config, imported.found.labels)
    assert importing.write(
        imported, importing.class_names([], classes + 1), tmp_path / "g.safetensors"
    )
    _, network, header = checkpoint.load(tmp_path / "g.safetensors")
    assert all(torch.equal(value, network.state_dict()[key]) for key, value in state.items())
    assert classes == len(header["classes"])


def test_critics_come_back(tmp_path: Path) -> None:
    critics = {"discriminator": Discriminator(36, 3, 3, 5), "encoder": Encoder(2, 7)}
    for kind, network in critics.items():
        torch.save(network.state_dict(), tmp_path / f"{kind}.pth")
        imported = importing.read(tmp_path / f"{kind}.pth")
        assert kind == imported.found.kind
        names = importing.class_names([], imported.found.labels)
        assert importing.write(imported, names, tmp_path / f"{kind}.safetensors")
        loaded = load_file(tmp_path / f"{kind}.safetensors")
        assert all(torch.equal(v, loaded[k]) for k, v in network.state_dict().items())


@pytest.mark.parametrize(
    "key", ["fc.weight", "head_0.conv_0.bias", "up_3.norm_s.mlp_shared.0.weight", "conv_img.bias"]
)
def test_a_missing_or_misshapen_key_is_named(key: str, tmp_path: Path) -> None:
    state = spade_system.build(replace(SMALL, resolution=256), 182).state_dict()
    for change in ({}, {key: torch.zeros(*state[key].shape, 2)}):
        torch.save({k: v for k, v in state.items() if k != key} | change, tmp_path / "g.pth")
        with pytest.raises(ValueError, match=f"g.pth: .*'{key}'") as caught:
            importing.read(tmp_path / "g.pth")
        assert "\n" not in str(caught.value)


def test_other_systems_keys_are_not_spades() -> None:
    assert official.recognise({"conv1.weight": torch.zeros(1)}, False) is None


def test_channels_of_no_published_model_are_taken_as_classes_with_a_hint() -> None:
    state = spade_system.build(replace(SMALL, resolution=256), 10).state_dict()
    found = official.recognise(dict(state), False)
    assert found is not None
    assert (found.labels, found.config.width) == (11, 2)
    assert found.hint.startswith("12 channels for maps tell no data set")
    published = spade_system.build(replace(SMALL, resolution=256), 182).state_dict()
    known = official.recognise(dict(published), False)
    assert known is not None
    assert (known.hint, known.labels) == ("", 183)
    assert "COCO-Stuff" in known.title


def test_a_generator_of_too_few_channels_is_refused() -> None:
    config = replace(SMALL, resolution=256, dont_care=False, edges=False)
    state = spade_system.build(config, 2).state_dict()
    with pytest.raises(ValueError, match="has 2 channels for maps"):
        official.recognise(dict(state), False)
