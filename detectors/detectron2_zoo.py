"""Weights as detectron2's model zoo publishes them: pickles of numpy arrays, and other people's names of layers.

A pickle can name any function to be called while it is read. Here it can name what stands for arrays and is ours:
nothing else is ever looked up, and numpy itself never sees what the file says before it was checked.
"""

from __future__ import annotations

import io
import pickle
import re
import struct
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

KINDS = re.compile(r"[fiu][1248]|b1")  # of plain numbers, as numpy writes them
ADAPTED_VARIANCE = 1 - 1e-5  # with the usual eps the normalisation divides by one
# ---- What a pickle may name. All are immutable or have a `__setstate__`, so that no state goes anywhere else. ----


class _Kind:
    """Stands for `numpy.dtype`."""

    def __init__(self, name: str = "", *_: object) -> None:
        if not isinstance(name, str) or not KINDS.fullmatch(name):
            raise pickle.UnpicklingError(f"holds values of kind {str(name)[:20]!r}")
        self.dtype = np.dtype(name)

    def __setstate__(self, state: Any) -> None:
        if state[1] not in ("<", ">", "|", "="):
            raise pickle.UnpicklingError("has an unknown order of bytes")
        self.dtype = self.dtype.newbyteorder(state[1])


class _Array:
    """Stands for `numpy.ndarray` and for the function that makes an empty one, which a state then fills."""

    def __init__(self, *_: object) -> None:
        self.values: NDArray[Any] = np.zeros(0, np.float32)

    def __setstate__(self, state: Any) -> None:
        _, shape, kind, column_major, data = state
        self.values = _values(data, kind, shape, "F" if column_major else "C")


class _Buffer(_Array):
    """Stands for the function by which newer pickles make an array at once."""

    def __init__(self, data: Any, kind: Any, shape: Any, order: Any) -> None:
        super().__init__()
        self.values = _values(data, kind, shape, order)


class _Scalar(_Array):
    """Stands for the function that makes a single number."""

    def __init__(self, kind: Any, data: Any = b"") -> None:
        super().__init__()
        self.values = _values(data, kind, (), "C")


class _Encoded(bytes):
    """Stands for `bytes` and for `_codecs.encode`, by which older pickles write bytes as text."""

    def __new__(cls, text: str = "", *_: str) -> _Encoded:
        return super().__new__(cls, text.encode("latin1"))

    def __setstate__(self, state: Any) -> None:
        raise pickle.UnpicklingError("gives bytes a state")


PERMITTED: Mapping[tuple[str, str], type] = {
    ("numpy", "dtype"): _Kind,
    ("numpy", "ndarray"): _Array,
    ("numpy.core.multiarray", "_reconstruct"): _Array,
    ("numpy.core.multiarray", "scalar"): _Scalar,
    ("numpy.core.numeric", "_frombuffer"): _Buffer,
    ("_codecs", "encode"): _Encoded,
    ("__builtin__", "bytes"): _Encoded,
    ("collections", "OrderedDict"): dict,
}


class _Reader(pickle.Unpickler):
    """Reads plain containers and what is in PERMITTED."""

    def find_class(self, module: str, name: str) -> type:
        """Return what stands for a name; raises UnpicklingError for any other."""
        found = PERMITTED.get((module.replace("numpy._core", "numpy.core"), name))
        if found is None:
            raise pickle.UnpicklingError(f"names {module}.{name}"[:80])
        return found


def _values(data: Any, kind: Any, shape: Any, order: Any) -> NDArray[Any]:
    if not isinstance(kind, _Kind) or order not in ("C", "F"):
        raise pickle.UnpicklingError("holds an array of unknown make")
    data = data.encode("latin1") if isinstance(data, str) else data
    values = np.frombuffer(data, kind.dtype).reshape(tuple(int(n) for n in shape), order=order)
    return np.ascontiguousarray(values, kind.dtype.newbyteorder("=")).reshape(values.shape)


# ---- Files and names ----


def read_pickle(path: Path) -> dict[str, Tensor]:
    """Return the arrays of a zoo file by name; raises ValueError, one line that names the file."""
    broken = (
        EOFError,
        ValueError,
        LookupError,
        AttributeError,
        TypeError,
        OverflowError,
        MemoryError,
        struct.error,
    )
    try:
        content = _Reader(io.BytesIO(path.read_bytes()), encoding="latin1").load()
    except (pickle.UnpicklingError, RecursionError, OSError, *broken) as err:
        reason = (str(err).strip() or type(err).__name__).splitlines()[0][:120]
        raise ValueError(
            f"{path}: is not a pickle of plain arrays ({reason}); give a file of detectron2's zoo"
        ) from err
    for key in ("model", "blobs"):
        if isinstance(content, Mapping) and isinstance(content.get(key), Mapping):
            content = content[key]
    found = content.items() if isinstance(content, Mapping) else ()
    tensors = {
        str(name): torch.from_numpy(value.values.copy())
        for name, value in found
        if isinstance(value, _Array)
    }
    if not tensors:
        raise ValueError(f"{path}: holds no arrays by name; give a file of detectron2's zoo")
    return tensors


CAFFE2 = re.compile(r"^(?:res_)?(conv1|res\d_\d+_branch(?:1|2[abc]))_(?:(w)|bn_(s|b))$")
CAFFE2_LAYERS = {
    "branch1": "shortcut",
    "branch2a": "conv1",
    "branch2b": "conv2",
    "branch2c": "conv3",
}
CAFFE2_PARTS = {"w": "weight", "s": "norm.weight", "b": "norm.bias"}
TORCHVISION = (  # torchvision's names of a ResNet and of its pyramid, and detectron2's
    (re.compile(r"^backbone\.body\.(conv1|bn1)\."), r"backbone.bottom_up.stem.\1."),
    (
        re.compile(r"^backbone\.body\.layer(\d)\."),
        lambda m: f"backbone.bottom_up.res{int(m[1]) + 1}.",
    ),
    (re.compile(r"^(backbone\.bottom_up\..*)bn(\d)\."), r"\1conv\2.norm."),
    (re.compile(r"\.downsample\.0\."), ".shortcut."),
    (re.compile(r"\.downsample\.1\."), ".shortcut.norm."),
    (
        re.compile(r"^backbone\.fpn\.inner_blocks\.(\d)\.0\."),
        lambda m: f"backbone.fpn_lateral{int(m[1]) + 2}.",
    ),
    (
        re.compile(r"^backbone\.fpn\.layer_blocks\.(\d)\.0\."),
        lambda m: f"backbone.fpn_output{int(m[1]) + 2}.",
    ),
)


def is_caffe2(tensors: Mapping[str, Tensor]) -> bool:
    """Whether a file has Caffe2's names, as the zoo's ImageNet ResNets of MSRA do."""
    return "conv1_w" in tensors


def from_caffe2(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return a Caffe2 ResNet under detectron2's names; its normalisation is a scale and a shift, nothing else."""
    named = {}
    for name, tensor in tensors.items():
        if not (match := CAFFE2.match(name)):
            continue  # the classifier, and a bias of conv1 that is zero
        *stage, layer = match[1].rsplit("_", 1)
        place = f"{stage[0].replace('_', '.')}.{CAFFE2_LAYERS[layer]}" if stage else "stem.conv1"
        part = CAFFE2_PARTS[match[2] or match[3]]
        named[f"backbone.bottom_up.{place}.{part}"] = tensor
        if part == "norm.weight":
            named[f"backbone.bottom_up.{place}.norm.running_mean"] = torch.zeros_like(tensor)
            named[f"backbone.bottom_up.{place}.norm.running_var"] = torch.full_like(
                tensor, ADAPTED_VARIANCE
            )
    return named


def is_detectron2(tensors: Mapping[str, Tensor]) -> bool:
    """Whether a file has detectron2's names of a whole detector on a ResNet."""
    return any(name.startswith("backbone.bottom_up.") for name in tensors)


def to_detectron2(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return a ResNet, or a detector on one, under detectron2's names.

    Torchvision's heads number the classes otherwise and are left out.
    """
    if is_detectron2(tensors) or any(name.startswith("proposal_generator.") for name in tensors):
        return dict(tensors)
    if is_caffe2(tensors):
        return from_caffe2(tensors)
    if any(name.startswith("res2.") for name in tensors):  # a ResNet alone, the classifier left out
        kept = [name for name in tensors if re.match(r"(stem\.conv1|res\d)\.", name)]
        return {f"backbone.bottom_up.{name}": tensors[name] for name in kept}
    named = {}
    for name, tensor in tensors.items():
        if name.startswith("backbone."):
            for pattern, replacement in (
                TORCHVISION if "backbone.body.conv1.weight" in tensors else ()
            ):
                name = pattern.sub(replacement, name)
            named[name] = tensor
    return named
