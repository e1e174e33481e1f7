"""A trained network as one safetensors file: weights, and a JSON header that says what they are. Nothing is executed."""

from __future__ import annotations

import dataclasses
import importlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save_file
from torch import nn

from synthaug.generators import GENERATORS

HEADER = "synthaug"
PARTS = {
    "discriminator": "D",
    "encoder": "E",
}  # kinds of checkpoints besides generators: their names in a trainee


def save(
    path: Path,
    network: nn.Module,
    system: str,
    config: Any,
    classes: list[str],
    extra: Mapping[str, Any],
    kind: str = "generator",  # or a key of PARTS
) -> None:
    """Write the weights of `network` with its system name, Config and class names."""
    header = {
        "kind": kind,
        "system": system,
        "config": dataclasses.asdict(config),
        "classes": classes,
        **extra,
    }
    state = {
        name: value.detach().cpu().contiguous() for name, value in network.state_dict().items()
    }
    save_file(state, path, {HEADER: json.dumps(header, sort_keys=True)})


def read_header(path: Path, kind: str = "generator") -> dict[str, Any]:
    """Return the header of a checkpoint; ValueError in one sentence when the file is not one of ours of that kind."""
    try:
        with safe_open(path, "pt") as file:
            metadata = file.metadata() or {}
    except (SafetensorError, OSError) as err:
        raise ValueError(
            f"{path}: not a readable safetensors file ({err}); train the generator again"
        ) from err
    try:
        header = dict(json.loads(metadata.get(HEADER, "{}")))
    except (ValueError, TypeError) as err:
        raise ValueError(
            f"{path}: its header is damaged ({err}); train the generator again"
        ) from err
    if header.get("kind") != kind or header.get("system") not in GENERATORS:
        raise ValueError(
            f"{path}: not a {kind} checkpoint of synthaug; give the file a training run wrote"
        )
    return header


def load(path: Path) -> tuple[Any, nn.Module, dict[str, Any]]:
    """Return (system module, network, header)."""
    header = read_header(path)
    system = importlib.import_module(GENERATORS[header["system"]])
    network = system.build(system.Config(**header["config"]), len(header["classes"]))
    _fill(network, path)
    return system, network, header


def load_discriminator(path: Path) -> tuple[nn.Module, dict[str, Any]]:
    """Return (discriminator, header) of a checkpoint of that kind, the network as the system's trainee builds it."""
    return load_part(path, "discriminator")


def load_part(path: Path, kind: str) -> tuple[nn.Module, dict[str, Any]]:
    """Return (network, header) of a checkpoint of a kind in PARTS, the network as the system's trainee builds it."""
    header = read_header(path, kind)
    system = importlib.import_module(GENERATORS[header["system"]])
    with torch.device("meta"):  # the trainee makes a generator too, which nobody needs here
        trainee = system.trainee(system.Config(**header["config"]), len(header["classes"]))
        network: nn.Module = trainee.networks[PARTS[kind]]
    _fill(network.to_empty(device="cpu"), path)
    return network, header


def _fill(network: nn.Module, path: Path) -> None:
    try:
        network.load_state_dict(load_file(path), strict=True)
    except RuntimeError as err:
        reason = str(err).split("\n")[0]
        raise ValueError(
            f"{path}: the weights do not fit the network of its header ({reason})"
        ) from err
