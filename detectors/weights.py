"""Files of detector weights: our checkpoints and other people's files.

Nothing in a file is ever executed: safetensors holds numbers only, other files are read with
`weights_only=True` or, a zoo's pickles, by a reader that knows arrays only (published/pickles.py).
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from synthaug.detectors.base import Tensors
from synthaug.detectors.detectron2_zoo import innermost, read_pickle
from synthaug.published.files import UNREADABLE, stand_in
from synthaug.published.pickles import one_line

KIND = "detector"
HEADER = "synthaug"  # key of the one entry in a file's metadata
RESERVED = ("kind", "backend", "config", "num_classes")
# Keys of a Config that have another name in files; the files keep it so that all versions read
# them.
NAMES_IN_FILES = {"color_jitter": "colour_jitter"}
NAMES_IN_CONFIG = {name: key for key, name in NAMES_IN_FILES.items()}
# Files made before torchvision 0.13 name these convolutions without the wrapper's indices.
OLD_NAMES = (
    (re.compile(r"^(backbone\.fpn\.(?:inner|layer)_blocks\.\d+)\.(weight|bias)$"), r"\1.0.\2"),
    (re.compile(r"^(rpn\.head\.conv)\.(weight|bias)$"), r"\1.0.0.\2"),
)


def write_checkpoint(
    path: Path,
    model: nn.Module,
    backend: str,
    config: Mapping[str, Any],
    num_classes: int,
    metadata: Mapping[str, str],
) -> None:
    """Write the model's tensors and its config to `path`, complete or not at all.

    Raises ValueError when `metadata` uses one of the names RESERVED.
    """
    taken = sorted(set(metadata) & set(RESERVED))
    if taken:
        raise ValueError(
            f"metadata: '{taken[0]}' is written by the detector itself; choose another name"
        )
    header = {
        "kind": KIND,
        "backend": backend,
        "config": _renamed(config, NAMES_IN_FILES),
        "num_classes": num_classes,
        **metadata,
    }
    tensors = {}
    for name, tensor in model.state_dict().items():
        tensors[name] = tensor.detach().cpu().contiguous()
    partial = path.with_name(path.name + ".partial")
    # one entry, because safetensors writes several in an order that changes from process to process
    save_file(tensors, partial, {HEADER: json.dumps(header, sort_keys=True)})
    partial.replace(path)


def read_header(path: Path) -> dict[str, Any]:
    """Return the metadata of a detector checkpoint, `config` as a dict.

    Raises ValueError, one line that names the file, when it is absent, damaged or not a detector.
    """
    metadata = _open(path).metadata() or {}
    try:
        header: dict[str, Any] = dict(json.loads(metadata.get(HEADER, "{}")))
    except (TypeError, json.JSONDecodeError) as err:
        raise ValueError(_damaged_header(path, err)) from err
    if header.get("kind") != KIND:
        kind = "no kind in its header"
        if "kind" in header:
            kind = f"a {header['kind']}"
        raise ValueError(
            f"{path}: is not a detector checkpoint ({kind}); give a file written by this program"
        )
    for key in RESERVED:
        if key not in header:
            raise ValueError(f"{path}: header lacks '{key}'; write the checkpoint again")
    try:
        header["config"] = _todays_settings(dict(header["config"]))
        header["num_classes"] = int(header["num_classes"])
    except (ValueError, TypeError) as err:
        raise ValueError(_damaged_header(path, err)) from err
    return header


def _todays_settings(config: Mapping[str, Any]) -> dict[str, Any]:
    """Return the config in a file by today's keys; `bf16` has become `precision`."""
    settings = _renamed(config, NAMES_IN_CONFIG)
    if "bf16" in settings:
        settings["precision"] = "bfloat16" if settings.pop("bf16") else "float32"
    return settings


def _renamed(config: Mapping[str, Any], names: Mapping[str, str]) -> dict[str, Any]:
    return {names.get(key, key): value for key, value in config.items()}


def read_settings(path: Path) -> dict[str, Any]:
    """Return the config in a checkpoint of this program, {} for any other file."""
    if path.suffix != ".safetensors":
        return {}
    try:
        return dict(read_header(path)["config"])
    except ValueError:
        return {}


def read_tensors(path: Path) -> dict[str, Tensor]:
    """Return the tensors of a safetensors, torch or detectron2 zoo file, on the CPU.

    Raises ValueError naming the file.
    """
    if path.suffix == ".safetensors":
        file = _open(path)
        return {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (the handle is no mapping)
    if not path.is_file():
        raise ValueError(f"{path}: no such weights file; check the path")
    if path.suffix == ".pkl":
        return read_pickle(path)
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except UNREADABLE as err:
        reason = stand_in(path) or one_line(err)
        raise ValueError(
            f"{path}: is not a readable file of plain weights ({reason}); download it again"
        ) from err
    tensors = {}
    for name, value in innermost(content, ("model", "state_dict")).items():
        if isinstance(value, Tensor):
            tensors[str(name)] = value
    if not tensors:
        raise ValueError(f"{path}: holds no weights by name; give a state dict")
    return tensors


def load_checkpoint(model: nn.Module, path: Path) -> None:
    """Fill the model from its own checkpoint.

    Raises ValueError when a tensor is missing, left over or misshapen.
    """
    tensors = read_tensors(path)
    state = model.state_dict()
    for name in sorted(state.keys() ^ tensors.keys()):
        verb = "has an unknown"
        if name in state:
            verb = "lacks"
        raise ValueError(
            f"{path}: {verb} tensor '{name}'; it was written for another model, write it again"
        )
    for name, tensor in tensors.items():
        if tensor.shape != state[name].shape:
            shapes = _compare_shapes(tensor, state[name])
            raise ValueError(
                f"{path}: tensor '{name}' is {shapes}; it was written for another model"
            )
    model.load_state_dict(tensors)


def load_pretrained(
    model: nn.Module,
    tensors: Tensors,
    path: Path,
    body_prefix: str,
) -> str:
    """Fill the model's tensors that a pretrained file has; return one line about it.

    The body, all tensors whose names begin with `body_prefix`, must be complete; heads that do not
    fit (other classes, other anchors) or are absent stay as they are. Raises ValueError, one line
    that names the file, for a file made for another network.
    """
    state = model.state_dict()
    _check_backbone(state, tensors, path, body_prefix)
    fitting = {}
    fresh = []
    for name, tensor in state.items():
        if name in tensors and tensors[name].shape == tensor.shape:
            fitting[name] = tensors[name]
        elif not _is_counter(name):
            fresh.append(name)
    model.load_state_dict({**state, **fitting})
    summary = f"{path.name}: {len(fitting)} of {len(state)} tensors"
    if fresh:
        return f"{summary}; fresh: {', '.join(fresh)}"
    return summary


def _check_backbone(
    state: Tensors,
    tensors: Tensors,
    path: Path,
    body_prefix: str,
) -> None:
    """Raise ValueError unless the file's backbone is the model's."""
    advice = "set backend, backbone and norm as in the file"
    for name in state:
        if name.startswith(body_prefix) and name not in tensors and not _is_counter(name):
            raise ValueError(f"{path}: lacks '{name}' of this backbone; {advice}")
    for name in tensors:
        if name.startswith("backbone.") and name not in state and not _is_counter(name):
            raise ValueError(f"{path}: '{name}' has no place in this backbone; {advice}")
    for name, tensor in state.items():
        if not name.startswith("backbone.") or name not in tensors:
            continue
        if tensors[name].shape != tensor.shape:
            shapes = _compare_shapes(tensors[name], tensor)
            raise ValueError(
                f"{path}: '{name}' is {shapes}; set backbone, width and fpn_channels as in the file"
            )


def torchvision_names(tensors: Tensors) -> dict[str, Tensor]:
    """Return tensors with old torchvision names under today's.

    A plain ResNet loses its classifier and becomes `backbone.body.*`.
    """
    plain_resnet = not any(name.startswith("backbone.") for name in tensors)
    renamed = {}
    for name, tensor in tensors.items():
        if plain_resnet:
            if name.startswith("fc."):
                continue
            name = f"backbone.body.{name}"
        for pattern, replacement in OLD_NAMES:
            name = pattern.sub(replacement, name)
        renamed[name] = tensor
    return renamed


def _is_counter(name: str) -> bool:
    """Return whether a tensor counts batches of a batch norm; files may lack it."""
    return name.endswith("num_batches_tracked")


def _compare_shapes(tensor: Tensor, expected: Tensor) -> str:
    return f"{list(tensor.shape)}, not {list(expected.shape)}"


def _damaged_header(path: Path, err: Exception) -> str:
    return f"{path}: header is damaged ({one_line(err)}); write the checkpoint again"


def _open(path: Path) -> Any:
    """Open a safetensors file; the library checks header and length first."""
    if not path.is_file():
        raise ValueError(f"{path}: no such weights file; check the path")
    try:
        return safe_open(path, "pt")
    except (SafetensorError, OSError) as err:
        reason = one_line(err)
        raise ValueError(
            f"{path}: is not a complete safetensors file ({reason}); write or copy it again"
        ) from err
