"""Weights of a recorded network from its key names alone, by the rule all fixtures share."""

from __future__ import annotations

import functools
import json
import math
import zlib
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType

import numpy as np
import torch
from torch import Tensor

from tests.parity.comparison import Array, BrokenFileError

Keys = list[tuple[str, tuple[int, ...], str]]  # key, shape and dtype in the order of the state dict


def read_keys(path: Path) -> Keys:
    """Read a `<name>.keys.json`; BrokenFileError, one line, when it is broken."""
    try:
        rows = json.loads(path.read_text())
        return [(str(key), tuple(int(n) for n in shape), str(dtype)) for key, shape, dtype in rows]
    except (OSError, ValueError, TypeError) as err:
        raise BrokenFileError(
            f"{path}: no readable list of keys ({' '.join(str(err).split())[:120]})"
        ) from err


@functools.cache  # one test file asks for the same forty million numbers several times
def recorded_weights(folder: Path, name: str, prefix: str = "") -> Mapping[str, Tensor]:
    """Weights of a fixture (rule B) from its key names alone, without the wrapper's prefix."""
    rebuilt = rebuild(read_keys(folder / f"{name}.keys.json"))
    return MappingProxyType({key.removeprefix(prefix): value for key, value in rebuilt.items()})


def rebuild(keys: Keys, iterations: int = 20, rule: str = "B") -> dict[str, Tensor]:
    """Return the state dict.

    `iterations` of the power method make spectral norms true (rule B), 0 leaves them (rule A). Rule
    F keeps activations in range where weights have no spectral norm.
    """
    names = {key for key, _, _ in keys}
    state = {}
    for key, shape, dtype in keys:
        value = _value_of_rule_f(key, shape, names) if rule == "F" else None
        if value is None or not dtype.startswith("float"):
            value = _value(key, shape, dtype)
        state[key] = torch.from_numpy(value)
    for key in [k for k in state if iterations and k.endswith(".weight_orig")]:
        stem = key.removesuffix("orig")
        matrix = state[key].float().double().flatten(1)
        u, v = state[f"{stem}u"], state[f"{stem}v"]
        for _ in range(iterations):
            v = matrix.t() @ u
            v /= v.norm()
            u = matrix @ v
            u /= u.norm()
        state[f"{stem}u"], state[f"{stem}v"] = u, v
    return {
        key: value.float() if value.is_floating_point() else value for key, value in state.items()
    }


def _value(key: str, shape: tuple[int, ...], dtype: str) -> np.ndarray:
    """One array, in float64 where it is no counter."""
    if not dtype.startswith("float"):
        return np.zeros(shape, dtype)
    g = np.random.default_rng(zlib.crc32(key.encode()))
    if key.endswith("running_var"):
        return g.uniform(0.5, 1.5, shape)
    if key.endswith("running_mean"):
        return 0.1 * g.standard_normal(shape)
    if len(shape) == 1 and key.endswith(".weight"):
        return 1 + 0.1 * g.standard_normal(shape)
    if key.endswith(("weight_u", "weight_v")):
        value = g.standard_normal(shape)
        return value / np.linalg.norm(value)
    return 0.05 * g.standard_normal(shape)


def _value_of_rule_f(key: str, shape: tuple[int, ...], names: set[str]) -> Array | None:
    """One array in float64 where rule F has a line of its own; None where it is rule B's."""
    g = np.random.default_rng(zlib.crc32(key.encode()))
    if key.endswith(".embed.weight"):  # of class-conditional norms: scales, then shifts
        value: Array = 0.1 * g.standard_normal(shape)
        value[:, : shape[1] // 2] += 1
        return value
    if key.endswith(".weight") and len(shape) >= 2:
        inputs = max(shape[:2]) * math.prod(shape[2:])
        gain = math.sqrt(2 / inputs)
        if ".cell_list." in key:  # gates would swallow the signal
            gain *= 4
        weight: Array = gain * g.standard_normal(shape)
        return weight
    if key.endswith(".bias") and key.removesuffix("bias") + "weight_orig" in names:
        bias: Array = 0.002 * g.standard_normal(shape)
        return bias
    return None
