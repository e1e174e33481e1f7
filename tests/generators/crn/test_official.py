"""Published variables of CRN become ours, out of TensorFlow's checkpoint."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from synthaug.generators import checkpoint
from synthaug.generators import official as importing
from synthaug.generators.crn.config import Config
from synthaug.generators.crn.network import CascadedRefinement
from synthaug.generators.crn.official import our_name, recognise
from tests.generators.bundles import write_bundle

CONFIG = Config(resolution=32, width=4, widths=(4, 4, 3), images=2)
CLASSES = 5


def published(config: Config = CONFIG) -> dict[str, Tensor]:
    """The variables of a fresh network under their TensorFlow names."""
    torch.manual_seed(0)
    network = CascadedRefinement(config, CLASSES)
    state = {}
    for name, value in network.state_dict().items():
        level, _, layer = name.removeprefix("levels.").partition(".")
        kind = name.rpartition(".")[2]
        rows = config.size[0]
        scope, variable = "conv100", {"weight": "weights", "bias": "biases"}[kind]
        if level.isdigit():
            rows = 4 << int(level)
            scope = f"conv{layer.partition('.')[0][-1]}"
            if layer.startswith("norm"):
                variable = {"weight": "LayerNorm/gamma", "bias": "LayerNorm/beta"}[kind]
        if value.ndim == 4:
            value = value.permute(2, 3, 1, 0)
        state[f"g_{rows}_{scope}/{variable}"] = value.contiguous() + 0.5
    return state


def test_a_checkpoint_of_tensorflow_becomes_ours(tmp_path: Path) -> None:
    state = published()
    arrays = {name: value.numpy() for name, value in state.items()}
    arrays["g_4_conv1/weights/Adam"] = np.zeros((3, 3, 6, 4), np.float32)
    arrays["beta1_power"] = np.array(0.9, np.float32)
    imported = importing.read(write_bundle(tmp_path / "model.ckpt", arrays))
    assert (imported.system, imported.found.config) == ("crn", CONFIG)
    assert "32 x 16 pixels, width 4, 5 classes, 2 images per map" in str(imported)
    assert any(note.startswith("ignored 2 buffers") for note in imported.notes)
    out = tmp_path / "ours.safetensors"
    importing.write(imported, [f"class {i}" for i in range(CLASSES)], out)
    _, network, _ = checkpoint.load(out)
    torch.manual_seed(0)
    expected = CascadedRefinement(CONFIG, CLASSES).state_dict()
    for name, value in network.state_dict().items():
        torch.testing.assert_close(value, expected[name] + 0.5)


def test_names_are_translated() -> None:
    assert our_name("g_4_conv1/weights") == "levels.0.conv1.weight"
    assert our_name("g_256_conv2/LayerNorm/beta") == "levels.6.norm2.bias"
    assert our_name("g_256_conv100/biases") == "head.bias"


def test_published_widths_need_no_list() -> None:
    config = Config(resolution=32, width=4, images=1)
    found = recognise(published(config), False)
    assert found is not None
    assert (found.config.widths, found.config) == ((), config)
    assert found.hint == "6 channels for maps are taken as 5 classes and don't care"


@pytest.mark.parametrize(
    ("key", "message"),
    [
        ("g_8_conv2/weights", "lacks 'levels.1.conv2.weight'"),
        ("g_16_conv100/biases", "lacks 'head.bias'"),
    ],
)
def test_a_missing_variable_is_named(key: str, message: str, tmp_path: Path) -> None:
    state = published()
    del state[key]
    path = tmp_path / "g.pth"
    torch.save(state, path)
    with pytest.raises(ValueError, match=message) as caught:
        importing.read(path)
    assert "\n" not in str(caught.value)


def test_levels_that_leave_one_out_are_refused() -> None:
    state = {name: value for name, value in published().items() if not name.startswith("g_8_")}
    with pytest.raises(ValueError, match=r"has levels of \[4, 16\] rows"):
        recognise(state, False)
    assert recognise({"conv1.weight": torch.zeros(1)}, False) is None
