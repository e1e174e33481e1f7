"""Weights of detectron2's model zoo: pickles of arrays under several names.

A pickle can name any function to be called while it is read. Here it can name our stand-ins for
arrays only: nothing else is ever looked up, and numpy itself sees nothing of the file before it was
checked.
"""

from __future__ import annotations

import io
import pickle
import re
import struct
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

DTYPES = re.compile(r"[fiu][1248]|b1")  # of plain numbers, as numpy writes them
NEUTRAL_VARIANCE = 1 - 1e-5  # with the usual eps the normalization divides by one


# ---- Stand-ins for the names in a pickle ----
# All are immutable or have a `__setstate__`, so that no state goes anywhere else.


class _Dtype:
    """Stands for `numpy.dtype`."""

    def __init__(self, name: str = "", *_: object) -> None:
        plain = isinstance(name, str) and DTYPES.fullmatch(name)
        if not plain:
            raise pickle.UnpicklingError(f"holds values of kind {str(name)[:20]!r}")
        self.dtype = np.dtype(name)

    def __setstate__(self, state: Any) -> None:
        byte_order = state[1]
        if byte_order not in ("<", ">", "|", "="):
            raise pickle.UnpicklingError("has an unknown order of bytes")
        self.dtype = self.dtype.newbyteorder(byte_order)


class _Array:
    """Stands for `numpy.ndarray` and for its constructor; a state fills it."""

    def __init__(self, *_: object) -> None:
        self.values: NDArray[Any] = np.zeros(0, np.float32)

    def __setstate__(self, state: Any) -> None:
        _version, shape, dtype, column_major, data = state
        order = "C"
        if column_major:
            order = "F"
        self.values = _values(data, dtype, shape, order)


class _Buffer(_Array):
    """Stands for the function by which newer pickles make an array at once."""

    def __init__(self, data: Any, dtype: Any, shape: Any, order: Any) -> None:
        super().__init__()
        self.values = _values(data, dtype, shape, order)


class _Scalar(_Array):
    """Stands for the function that makes a single number."""

    def __init__(self, dtype: Any, data: Any = b"") -> None:
        super().__init__()
        self.values = _values(data, dtype, (), "C")


class _Encoded(bytes):
    """Stands for `bytes` and `_codecs.encode`, which older pickles write bytes by."""

    def __new__(cls, text: str = "", *_: str) -> _Encoded:
        return super().__new__(cls, text.encode("latin1"))

    def __setstate__(self, state: Any) -> None:
        raise pickle.UnpicklingError("gives bytes a state")


PERMITTED: Mapping[tuple[str, str], type] = {
    ("numpy", "dtype"): _Dtype,
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
        """Return the stand-in for a name; raises UnpicklingError for any other."""
        old_module = module.replace("numpy._core", "numpy.core")
        stand_in = PERMITTED.get((old_module, name))
        if stand_in is None:
            raise pickle.UnpicklingError(f"names {module}.{name}"[:80])
        return stand_in


def _values(data: Any, dtype: Any, shape: Any, order: Any) -> NDArray[Any]:
    """Return an array of the bytes in a pickle, in this machine's byte order."""
    if not isinstance(dtype, _Dtype) or order not in ("C", "F"):
        raise pickle.UnpicklingError("holds an array of unknown make")
    if isinstance(data, str):  # bytes of a pickle of Python 2
        data = data.encode("latin1")
    flat = np.frombuffer(data, dtype.dtype)
    values = flat.reshape(tuple(int(n) for n in shape), order=order)
    native = dtype.dtype.newbyteorder("=")
    # reshaped, because a contiguous copy of a single number would have an axis
    return np.ascontiguousarray(values, native).reshape(values.shape)


# ---- Files and names ----

# Errors that unpickling damaged data raises
UNREADABLE = (
    pickle.UnpicklingError,
    RecursionError,
    OSError,
    EOFError,
    ValueError,
    LookupError,
    AttributeError,
    TypeError,
    OverflowError,
    MemoryError,
    struct.error,
)


def read_pickle(path: Path) -> dict[str, Tensor]:
    """Return the arrays of a zoo file by name; raises ValueError naming the file."""
    content = _read(path, "give a file of detectron2's zoo")
    tensors = {}
    for name, value in innermost(content, ("model", "blobs")).items():
        if isinstance(value, _Array):
            tensors[str(name)] = torch.from_numpy(value.values.copy())
    if not tensors:
        raise ValueError(f"{path}: holds no arrays by name; give a file of detectron2's zoo")
    return tensors


def read_nested_pickle(path: Path) -> dict[str, NDArray[Any]]:
    """Return the arrays of a pickle of dicts of dicts, their names joined by "/".

    Raises ValueError, which names the file, for one that is damaged or holds anything else.
    """
    advice = "install what brought it again"
    arrays: dict[str, NDArray[Any]] = {}

    def collect(content: object, prefix: str) -> None:
        if isinstance(content, _Array):
            arrays[prefix.rstrip("/")] = content.values
        elif isinstance(content, Mapping):
            for name, value in content.items():
                collect(value, f"{prefix}{name}/")
        else:
            raise ValueError(f"{path}: holds something else than arrays; {advice}")

    collect(_read(path, advice), "")
    return arrays


def _read(path: Path, advice: str) -> object:
    """Return the content of a pickle of plain arrays and containers."""
    try:
        return _Reader(io.BytesIO(path.read_bytes()), encoding="latin1").load()
    except UNREADABLE as err:
        reason = one_line(err)
        raise ValueError(f"{path}: is not a pickle of plain arrays ({reason}); {advice}") from err


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


def one_line(err: Exception) -> str:
    """Return the first line of an error's text, at most 120 characters."""
    text = str(err).strip() or type(err).__name__
    return text.splitlines()[0][:120]


def is_caffe2(tensors: Mapping[str, Tensor]) -> bool:
    """Return whether a file has Caffe2's names, as the zoo's MSRA ResNets do."""
    return "conv1_w" in tensors


def is_detectron2(tensors: Mapping[str, Tensor]) -> bool:
    """Return whether a file has detectron2's names of a whole detector on a ResNet."""
    return any(name.startswith("backbone.bottom_up.") for name in tensors)


def is_resnet(tensors: Mapping[str, Tensor]) -> bool:
    """Return whether a file has detectron2's names of a ResNet alone."""
    return any(name.startswith("res2.") for name in tensors)


def to_detectron2(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
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


def from_caffe2(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
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


def _from_resnet(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
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


def _from_torchvision(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
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
