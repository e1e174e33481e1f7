"""Official checkpoints of pix2pix are recognised by keys and shapes alone."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor

from synthaug.generators import checkpoint
from synthaug.generators import official as importing
from synthaug.generators.pix2pix.config import Config, MapConfig
from synthaug.generators.pix2pix.network import PatchDiscriminator, UNet


def generator_state(channels: int, resolution: int = 32) -> dict[str, Tensor]:
    torch.manual_seed(0)
    return UNet(Config(resolution=resolution, width=2, num_layers=1), channels, 1).state_dict()


@pytest.mark.parametrize(
    ("channels", "system", "downs"), [(171, "pix2pix", 6), (34, "pix2pix_maps", 5)]
)
def test_a_generator_becomes_a_checkpoint(
    channels: int, system: str, downs: int, tmp_path: Path
) -> None:
    state = generator_state(channels, 2**downs)
    torch.save(state, tmp_path / "latest_net_G.pth")
    imported = importing.read(tmp_path / "latest_net_G.pth")
    config = imported.found.config
    assert (imported.system, imported.found.labels) == (system, channels + 1)
    assert (config.width, config.halvings, config.size) == (2, downs, (2**downs, 2**downs))
    assert isinstance(config, MapConfig) == (system == "pix2pix_maps")
    assert any("nothing tells the size of the images" in note for note in imported.notes)
    out = tmp_path / "ours.safetensors"
    importing.write(imported, [f"class {i}" for i in range(channels)], out)
    _, network, header = checkpoint.load(out)
    assert header["system"] == system
    for name, value in network.state_dict().items():
        assert torch.equal(value, state[name])


def test_pictures_as_input_are_said() -> None:
    state = generator_state(3)
    found = importing._recognised(state, False)[1]
    assert "3 channels are those of colored pictures" in found.hint


def test_a_discriminator_is_told_by_its_layers(tmp_path: Path) -> None:
    torch.manual_seed(0)
    judge = PatchDiscriminator(7, 4, 2, True)
    torch.save(judge.state_dict(), tmp_path / "latest_net_D.pth")
    imported = importing.read(tmp_path / "latest_net_D.pth")
    assert (imported.found.kind, imported.system) == ("discriminator", "pix2pix")
    assert (imported.found.config.num_layers, imported.found.config.width_d) == (2, 4)
    assert "2 strided layers, width 4, 7 channels" in str(imported)


@pytest.mark.parametrize("key", ["model.model.1.model.1.weight", "model.model.3.bias"])
def test_a_missing_key_is_named(key: str, tmp_path: Path) -> None:
    state = generator_state(9)
    del state[key]
    torch.save(state, tmp_path / "g.pth")
    with pytest.raises(ValueError, match=f"g.pth: lacks '{key}'") as caught:
        importing.read(tmp_path / "g.pth")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("key", ["model.model.0.weight", "model.0.weight"])
def test_another_networks_key_of_the_same_name_is_one_line(key: str, tmp_path: Path) -> None:
    torch.save({key: torch.zeros(2, 3, 4, 4)}, tmp_path / "g.pth")
    with pytest.raises(ValueError, match=r"g\.pth: ") as caught:
        importing.read(tmp_path / "g.pth")
    assert "\n" not in str(caught.value)
