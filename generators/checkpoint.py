"""A trained network as one safetensors file.

Weights, and a JSON header that says what they are. Nothing is executed.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save_file
from torch import nn

from synthaug.generators import GENERATORS, System, load_system

HEADER = "synthaug"
# Keys of a Config that have another name in files; the files keep it so that all versions read
# them.
NAMES_IN_FILES = {"normalization": "normalisation", "flow_steps": "euler_steps"}
NAMES_IN_CONFIG = {name: key for key, name in NAMES_IN_FILES.items()}


def save(
    path: Path,
    network: nn.Module,
    system: str,
    config: Any,
    classes: list[str],
    extra: Mapping[str, Any],
    # | discriminator | encoder: imported from official files, for use elsewhere
    kind: str = "generator",
) -> None:
    """Write the weights of `network` with its system name, Config and class names."""
    header = {
        "kind": kind,
        "system": system,
        "config": _renamed(dataclasses.asdict(config), NAMES_IN_FILES),
        "classes": classes,
        **extra,
    }
    state = {}
    for name, value in network.state_dict().items():
        state[name] = value.detach().cpu().contiguous()
    header_text = json.dumps(header, sort_keys=True)
    save_file(state, path, {HEADER: header_text})


def read_header(path: Path) -> dict[str, Any]:
    """Return the header of a generator's checkpoint.

    ValueError in one sentence when the file is none of ours.
    """
    try:
        with safe_open(path, "pt") as file:
            metadata = file.metadata() or {}
    except (SafetensorError, OSError) as err:
        raise ValueError(
            f"{path}: not a readable safetensors file ({err}); train the generator again"
        ) from err
    try:
        header = dict(json.loads(metadata.get(HEADER, "{}")))
    except (ValueError, TypeError, RecursionError) as err:
        raise ValueError(
            f"{path}: its header is damaged ({err}); train the generator again"
        ) from err
    if header.get("kind") != "generator" or header.get("system") not in list(GENERATORS):
        raise ValueError(
            f"{path}: not a generator checkpoint of synthaug; give the file a training run wrote"
        )
    classes = header.get("classes")
    is_named = isinstance(classes, list) and all(isinstance(name, str) for name in classes)
    if not is_named or not isinstance(header.get("config"), dict):
        raise ValueError(
            f"{path}: its header lacks the settings or the class names; train the generator again"
        )
    return header


def read_config(system: System, header: Mapping[str, Any]) -> Any:
    """Return the Config of the network that a header describes.

    Raises ValueError where it is none.
    """
    try:
        return system.Config(**_renamed(header["config"], NAMES_IN_CONFIG))
    except TypeError as err:
        raise ValueError(f"its header is damaged ({err}); train the generator again") from err


def _renamed(config: Mapping[str, Any], names: Mapping[str, str]) -> dict[str, Any]:
    return {names.get(key, key): value for key, value in config.items()}


def load(
    path: Path, changes: Mapping[str, Any] | None = None
) -> tuple[System, nn.Module, dict[str, Any]]:
    """Return (system, network, header).

    `changes` are settings of its Config that change no weight.

    ValueError when the weights are not those of the header's network.
    """
    header = read_header(path)
    system = load_system(header["system"])
    config = dataclasses.replace(read_config(system, header), **(changes or {}))
    try:
        network = system.build(config, len(header["classes"]))
        network.load_state_dict(load_file(path), strict=True)
    except (RuntimeError, TypeError, OverflowError, MemoryError) as err:
        reason = str(err).split("\n")[0]
        raise ValueError(
            f"{path}: the weights do not fit the network of its header ({reason})"
        ) from err
    return system, network, header
