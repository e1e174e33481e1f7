"""Files of detector weights: our own safetensors checkpoints, and pretrained files in torchvision's naming.

Nothing in a file is ever executed: safetensors holds numbers only, other files are read with `weights_only=True` or, a
zoo's pickles, by a reader that knows arrays only (detectron2_zoo.py).
"""

from __future__ import annotations

import json
import pickle
import re
import struct
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from synthaug.detectors.detectron2_zoo import read_pickle

KIND = "detector"
HEADER = "synthaug"
RESERVED = ("kind", "backend", "config", "num_classes")
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
    """Write the model's tensors and what is needed to rebuild it to `path`, complete or not at all.

    Raises ValueError when `metadata` uses one of the names RESERVED.
    """
    taken = sorted(set(metadata) & set(RESERVED))
    if taken:
        raise ValueError(
            f"metadata: '{taken[0]}' is written by the detector itself; choose another name"
        )
    header = {"kind": KIND, "backend": backend, "config": dict(config), "num_classes": num_classes}
    tensors = {
        name: tensor.detach().cpu().contiguous() for name, tensor in model.state_dict().items()
    }
    partial = path.with_name(path.name + ".partial")
    # one entry, because safetensors writes several in an order that changes from process to process
    save_file(tensors, partial, {HEADER: json.dumps({**header, **metadata}, sort_keys=True)})
    partial.replace(path)


def read_header(path: Path) -> dict[str, Any]:
    """Return the metadata of a detector checkpoint, `config` as a dict.

    Raises ValueError, one line that names the file, when it is absent, damaged or not a detector.
    """
    try:
        header: dict[str, Any] = dict(json.loads((_open(path).metadata() or {}).get(HEADER, "{}")))
    except (TypeError, json.JSONDecodeError) as err:
        raise ValueError(
            f"{path}: header is damaged ({_line(err)}); write the checkpoint again"
        ) from err
    if header.get("kind") != KIND:
        found = f"a {header['kind']}" if "kind" in header else "no kind in its header"
        raise ValueError(
            f"{path}: is not a detector checkpoint ({found}); give a file written by this program"
        )
    missing = [key for key in RESERVED if key not in header]
    if missing:
        raise ValueError(f"{path}: header lacks '{missing[0]}'; write the checkpoint again")
    try:
        header["config"] = dict(header["config"])
        header["num_classes"] = int(header["num_classes"])
    except (ValueError, TypeError) as err:
        raise ValueError(
            f"{path}: header is damaged ({_line(err)}); write the checkpoint again"
        ) from err
    return header


def read_settings(path: Path) -> dict[str, Any]:
    """Return the config in a checkpoint of this program, nothing for any other file of weights."""
    try:
        return dict(read_header(path)["config"]) if path.suffix == ".safetensors" else {}
    except ValueError:
        return {}


def read_tensors(path: Path) -> dict[str, Tensor]:
    """Return the tensors of a safetensors, torch or detectron2 zoo file, on the CPU; raises ValueError naming the file."""
    if path.suffix == ".safetensors":
        file = _open(path)
        return {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (the handle is no mapping)
    if not path.is_file():
        raise ValueError(f"{path}: no such weights file; check the path")
    if path.suffix == ".pkl":
        return read_pickle(path)
    broken = (
        RuntimeError,
        EOFError,
        OSError,
        ValueError,
        LookupError,
        AttributeError,
        TypeError,
        struct.error,
    )
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except (pickle.UnpicklingError, *broken) as err:
        raise ValueError(
            f"{path}: is not a readable file of plain weights ({_line(err)}); download it again"
        ) from err
    for key in ("model", "state_dict"):
        if isinstance(content, Mapping) and isinstance(content.get(key), Mapping):
            content = content[key]
    tensors = (
        {str(k): v for k, v in content.items() if isinstance(v, Tensor)}
        if isinstance(content, Mapping)
        else {}
    )
    if not tensors:
        raise ValueError(f"{path}: holds no weights by name; give a state dict")
    return tensors


def load_checkpoint(model: nn.Module, path: Path) -> None:
    """Fill the model from its own checkpoint; raises ValueError when a tensor is missing, left over or misshapen."""
    tensors = read_tensors(path)
    state = model.state_dict()
    for name in sorted(state.keys() ^ tensors.keys()):
        what = "lacks" if name in state else "has an unknown"
        raise ValueError(
            f"{path}: {what} tensor '{name}'; it was written for another model, write it again"
        )
    for name, tensor in tensors.items():
        if tensor.shape != state[name].shape:
            shapes = f"{list(tensor.shape)}, not {list(state[name].shape)}"
            raise ValueError(
                f"{path}: tensor '{name}' is {shapes}; it was written for another model"
            )
    model.load_state_dict(tensors)


def load_pretrained(model: nn.Module, tensors: Mapping[str, Tensor], path: Path, body: str) -> str:
    """Fill what fits from a detector's or a plain ResNet's file; return one line that says what was loaded.

    The body, all whose names begin with `body`, must be complete;
    heads that do not fit (other classes, other anchors) or are absent stay as they are.
    Raises ValueError, one line that names the file, for a file that is damaged or made for another network.
    """
    state = model.state_dict()
    needed = [
        name for name in state if name.startswith(body) and not name.endswith("num_batches_tracked")
    ]
    absent = [name for name in needed if name not in tensors]
    if absent:
        raise ValueError(
            f"{path}: lacks '{absent[0]}' of this backbone; set backend, backbone and norm as in the file"
        )
    alien = [
        n
        for n in tensors
        if n.startswith("backbone.") and n not in state and not n.endswith("tracked")
    ]
    if alien:
        raise ValueError(
            f"{path}: '{alien[0]}' has no place in this backbone; set backend, backbone and norm as in the file"
        )
    misfits = [
        name for name in state if name in tensors and tensors[name].shape != state[name].shape
    ]
    for name in misfits:
        if name.startswith("backbone."):
            shapes = f"{list(tensors[name].shape)}, not {list(state[name].shape)}"
            raise ValueError(
                f"{path}: '{name}' is {shapes}; set backbone, width and fpn_channels as in the file"
            )
    fitting = {name: tensors[name] for name in state if name in tensors and name not in misfits}
    model.load_state_dict({**state, **fitting})
    fresh = [n for n in state if n not in fitting and not n.endswith("num_batches_tracked")]
    text = f"{path.name}: {len(fitting)} of {len(state)} tensors"
    return f"{text}; fresh: {', '.join(fresh)}" if fresh else text


def torchvision_names(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Bring old torchvision names to today's; a plain ResNet loses its classifier and becomes `backbone.body.*`."""
    plain = not any(name.startswith("backbone.") for name in tensors)
    renamed = {}
    for name, tensor in tensors.items():
        if plain and name.startswith("fc."):
            continue
        new = f"backbone.body.{name}" if plain else name
        for pattern, replacement in OLD_NAMES:
            new = pattern.sub(replacement, new)
        renamed[new] = tensor
    return renamed


def _open(path: Path) -> Any:
    """Open a safetensors file; the library checks header and length before any tensor is read."""
    if not path.is_file():
        raise ValueError(f"{path}: no such weights file; check the path")
    try:
        return safe_open(path, "pt")
    except (SafetensorError, OSError) as err:
        raise ValueError(
            f"{path}: is not a complete safetensors file ({_line(err)}); write or copy it again"
        ) from err


def _line(err: Exception) -> str:
    """First line of an error's text, short."""
    text = str(err).strip() or type(err).__name__
    return text.splitlines()[0][:120]
