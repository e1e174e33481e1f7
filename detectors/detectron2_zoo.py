"""Weights of detectron2's model zoo: pickles of arrays under several names."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from synthaug.detectors.base import Tensors
from synthaug.published.pickles import PlainArray, read_plain_pickle

NEUTRAL_VARIANCE = 1 - 1e-5  # with the usual eps the normalization divides by one


def read_pickle(path: Path) -> dict[str, Tensor]:
    """Return the arrays of a zoo file by name; raises ValueError naming the file."""
    content = read_plain_pickle(path, "give a file of detectron2's zoo")
    tensors = {}
    for name, value in innermost(content, ("model", "blobs")).items():
        if isinstance(value, PlainArray):
            tensors[str(name)] = torch.from_numpy(value.values.copy())
    if not tensors:
        raise ValueError(f"{path}: holds no arrays by name; give a file of detectron2's zoo")
    return tensors


def innermost(content: object, keys: Sequence[str]) -> Mapping[Any, Any]:
    """Return the mapping of tensors in a file, which may lie under one of `keys`.

    A content that is no mapping has none.
    """
    if not isinstance(content, Mapping):
        return {}
    for key in keys:
        inner = content.get(key)
        if isinstance(inner, Mapping):
            content = inner
    return content


def is_caffe2(tensors: Tensors) -> bool:
    """Return whether a file has Caffe2's names, as the zoo's MSRA ResNets do."""
    return "conv1_w" in tensors


def is_detectron2(tensors: Tensors) -> bool:
    """Return whether a file has detectron2's names of a whole detector on a ResNet."""
    return any(name.startswith("backbone.bottom_up.") for name in tensors)


def is_resnet(tensors: Tensors) -> bool:
    """Return whether a file has detectron2's names of a ResNet alone."""
    return any(name.startswith("res2.") for name in tensors)


def to_detectron2(tensors: Tensors) -> dict[str, Tensor]:
    """Return a ResNet, or a detector on one, under detectron2's names.

    Torchvision's heads number the classes otherwise and are left out.
    """
    is_small = any(name.startswith("proposal_generator.") for name in tensors)
    if is_detectron2(tensors) or is_small:
        return dict(tensors)
    if is_caffe2(tensors):
        return from_caffe2(tensors)
    if is_resnet(tensors):
        return _from_resnet(tensors)
    return _from_torchvision(tensors)


CAFFE2 = re.compile(r"^(?:res_)?(conv1|res\d_\d+_branch(?:1|2[abc]))_(?:(w)|bn_(s|b))$")
CAFFE2_LAYERS = {
    "branch1": "shortcut",
    "branch2a": "conv1",
    "branch2b": "conv2",
    "branch2c": "conv3",
}
CAFFE2_PARTS = {"w": "weight", "s": "norm.weight", "b": "norm.bias"}


def from_caffe2(tensors: Tensors) -> dict[str, Tensor]:
    """Return a Caffe2 ResNet under detectron2's names.

    Its normalization is a scale and a shift, so mean and variance are neutral.
    """
    named = {}
    for name, tensor in tensors.items():
        match = CAFFE2.match(name)
        if match is None:
            continue  # the classifier, and a bias of conv1 that is zero
        *stage, layer = match[1].rsplit("_", 1)
        module = "stem.conv1"
        if stage:
            block = stage[0].replace("_", ".")
            module = f"{block}.{CAFFE2_LAYERS[layer]}"
        part = CAFFE2_PARTS[match[2] or match[3]]
        prefix = f"backbone.bottom_up.{module}"
        named[f"{prefix}.{part}"] = tensor
        if part == "norm.weight":
            named[f"{prefix}.norm.running_mean"] = torch.zeros_like(tensor)
            named[f"{prefix}.norm.running_var"] = torch.full_like(tensor, NEUTRAL_VARIANCE)
    return named


def _from_resnet(tensors: Tensors) -> dict[str, Tensor]:
    """Return a ResNet of detectron2 as a backbone, the classifier left out."""
    named = {}
    for name, tensor in tensors.items():
        if re.match(r"(stem\.conv1|res\d)\.", name):
            named[f"backbone.bottom_up.{name}"] = tensor
    return named


def _next_stage(match: re.Match[str]) -> str:
    """Return detectron2's prefix of a stage: torchvision's layer1 is its res2."""
    return f"backbone.bottom_up.res{int(match[1]) + 1}."


def _lateral(match: re.Match[str]) -> str:
    return f"backbone.fpn_lateral{int(match[1]) + 2}."


def _output(match: re.Match[str]) -> str:
    return f"backbone.fpn_output{int(match[1]) + 2}."


TORCHVISION = (  # torchvision's names of a ResNet and of its pyramid, and detectron2's
    (re.compile(r"^backbone\.body\.(conv1|bn1)\."), r"backbone.bottom_up.stem.\1."),
    (re.compile(r"^backbone\.body\.layer(\d)\."), _next_stage),
    (re.compile(r"^(backbone\.bottom_up\..*)bn(\d)\."), r"\1conv\2.norm."),
    (re.compile(r"\.downsample\.0\."), ".shortcut."),
    (re.compile(r"\.downsample\.1\."), ".shortcut.norm."),
    (re.compile(r"^backbone\.fpn\.inner_blocks\.(\d)\.0\."), _lateral),
    (re.compile(r"^backbone\.fpn\.layer_blocks\.(\d)\.0\."), _output),
)


def _from_torchvision(tensors: Tensors) -> dict[str, Tensor]:
    """Return the backbone of a torchvision detector; the compact one keeps its names."""
    on_resnet = "backbone.body.conv1.weight" in tensors
    named = {}
    for name, tensor in tensors.items():
        if not name.startswith("backbone."):
            continue
        if on_resnet:
            for pattern, replacement in TORCHVISION:
                name = pattern.sub(replacement, name)
        named[name] = tensor
    return named
