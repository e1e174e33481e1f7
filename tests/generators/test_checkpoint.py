"""Checkpoints of generators: a file of an earlier version describes the network of today."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save_file

from synthaug.generators import checkpoint, load_system
from synthaug.generators.lostgan import Config

TINY = Config(resolution=64, width=2, z_image=4, z_object=4, embedding=4, mask_hidden=4)


def test_a_renamed_key_keeps_its_old_name_in_files(tmp_path: Path) -> None:
    system = load_system("lostgan")
    path = tmp_path / "generator.safetensors"
    checkpoint.save(path, system.build(TINY, 2), "lostgan", TINY, ["car", "sky"], {})
    with safe_open(path, "pt") as file:
        header = json.loads(file.metadata()[checkpoint.HEADER])
    assert header["config"]["normalisation"] == "isla"
    assert "normalization" not in header["config"]
    _, network, _ = checkpoint.load(path)
    assert network.config == TINY


def test_an_in_filler_of_an_earlier_version_is_read_by_the_old_name_of_its_steps() -> None:
    header = {"config": {"resolutions": [16], "euler_steps": 9}}
    assert checkpoint.read_config(load_system("fill"), header).flow_steps == 9


def saved(tmp_path: Path, extra: dict[str, object], kind: str = "generator") -> Path:
    path = tmp_path / "generator.safetensors"
    network = load_system("lostgan").build(TINY, 2)
    checkpoint.save(path, network, "lostgan", TINY, ["car", "sky"], extra, kind)
    return path


def test_weights_come_back_bit_for_bit_with_names_in_their_order(tmp_path: Path) -> None:
    system = load_system("lostgan")
    network = system.build(TINY, 2)
    path = tmp_path / "generator.safetensors"
    checkpoint.save(path, network, "lostgan", TINY, ["sky", "car"], {"steps": 7})
    loaded_system, loaded, header = checkpoint.load(path)
    assert loaded_system is system
    assert header["classes"] == ["sky", "car"]
    assert header["steps"] == 7
    assert header["kind"] == "generator"
    state = loaded.state_dict()
    assert state.keys() == network.state_dict().keys()
    for name, value in network.state_dict().items():
        assert torch.equal(state[name], value)


def test_a_discriminator_is_no_generator(tmp_path: Path) -> None:
    path = saved(tmp_path, {}, kind="discriminator")
    with pytest.raises(ValueError, match="not a generator checkpoint of synthaug") as caught:
        checkpoint.read_header(path)
    assert str(caught.value).startswith(f"{path}: ")


def test_files_of_other_programs_are_refused_in_one_line(tmp_path: Path) -> None:
    path = tmp_path / "other.safetensors"
    with pytest.raises(ValueError, match="not a readable safetensors file"):
        checkpoint.read_header(path)
    path.write_bytes(b"nothing")
    with pytest.raises(ValueError, match="not a readable safetensors file"):
        checkpoint.read_header(path)
    weights = {"weight": torch.zeros(1)}
    save_file(weights, path)
    with pytest.raises(ValueError, match="not a generator checkpoint"):
        checkpoint.read_header(path)
    save_file(weights, path, {checkpoint.HEADER: "{"})
    with pytest.raises(ValueError, match="its header is damaged"):
        checkpoint.read_header(path)


def test_weights_of_another_network_do_not_fit(tmp_path: Path) -> None:
    path = saved(tmp_path, {})
    header = checkpoint.read_header(path)
    save_file({"weight": torch.zeros(1)}, path, {checkpoint.HEADER: json.dumps(header)})
    with pytest.raises(ValueError, match="weights do not fit the network of its header") as caught:
        checkpoint.load(path)
    assert "\n" not in str(caught.value)


def test_settings_that_change_no_weight_may_be_others_than_those_of_the_training(
    tmp_path: Path,
) -> None:
    path = saved(tmp_path, {})
    _, trained, _ = checkpoint.load(path)
    _, fewer, _ = checkpoint.load(path, {"refine_stages": 0})
    assert list(trained.refined) and not list(fewer.refined)
    state = fewer.state_dict()
    assert all(torch.equal(value, state[name]) for name, value in trained.state_dict().items())


def spoilt(path: Path, **changes: object) -> None:
    """Write other values into the header of a checkpoint; None removes a key."""
    from safetensors.torch import load_file

    with safe_open(path, "pt") as file:
        header = json.loads(file.metadata()[checkpoint.HEADER])
    header |= changes
    kept = {key: value for key, value in header.items() if value is not None}
    save_file(load_file(path), path, {checkpoint.HEADER: json.dumps(kept)})


@pytest.mark.parametrize(
    "changes",
    [
        {"classes": None},
        {"classes": "car"},
        {"classes": [1, 2]},
        {"config": None},
        {"config": []},
        {"config": {"width": "2"}},
        {"config": {"unknown": 2}},
        {"config": {"width": [2]}},
        {"system": ["lostgan"]},
    ],
)
def test_a_header_that_somebody_spoilt_is_one_sentence(
    tmp_path: Path, changes: dict[str, object]
) -> None:
    path = saved(tmp_path, {})
    spoilt(path, **changes)
    with pytest.raises(ValueError) as caught:  # noqa: PT011 (the sentence is asserted below)
        checkpoint.load(path)
    assert not isinstance(caught.value, UnicodeError)
    assert "\n" not in str(caught.value)
