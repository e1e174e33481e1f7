"""Checkpoints of generators: a file of an earlier version describes the network of today."""

from __future__ import annotations

import json
from pathlib import Path

from safetensors import safe_open

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
