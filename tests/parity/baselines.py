"""What the fixtures of the systems that the papers compare with share: rule F, samples, steps."""

from __future__ import annotations

import zlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from tests.parity.comparison import Array, BrokenFileError, Row, compare, compare_each, read_arrays
from tests.parity.lostgan_fixtures import Trace
from tests.parity.weights import read_keys, rebuild

FAULTS = (ValueError, RuntimeError, LookupError, FileNotFoundError, AssertionError)
SAMPLES = 64
# rounding gathers on the way back through the networks: relative to each parameter's norm, which a
# sample of it may miss by more
GRADIENT = 1e-3
GRADIENT_FACTOR = 10
SAMPLE_FACTOR = 3
ZERO = 1e-5  # of the network's largest norm: gradients below it are rounding
TURNED = 0.001  # share of a tensor's entries that Adam may move the other way, net
KNOWN = {"system", "what", "rule", "torch_version", "parameters"}


@dataclass(frozen=True)
class Fixture:
    """One .npz file and the folder with its keys."""

    folder: Path
    name: str
    arrays: dict[str, Array]

    def weights(self, network: str = "") -> dict[str, Tensor]:
        """Rebuild the weights of a network by rule F, with what the file overrides."""
        stem = f"{self.name}_{network}" if network else self.name
        path = self.folder / f"{stem}.keys.json"
        if not path.is_file():
            raise FileNotFoundError(f"{path.name} is missing, so its weights cannot be rebuilt")
        state = rebuild(read_keys(path), rule=self.text("rule"))
        for name, value in self.arrays.items():
            key = name.removeprefix("override/")
            if name.startswith("override/") and key in state:
                state[key] = torch.from_numpy(value).to(state[key].dtype)
        return state

    def text(self, name: str) -> str:
        """Return an array of one text."""
        return str(self.arrays[name].ravel()[0])

    def number(self, name: str) -> int:
        """Return an array of one whole number."""
        return int(self.arrays[name].ravel()[0])

    def tensor(self, name: str) -> Tensor:
        """Return an array as a tensor."""
        return torch.from_numpy(self.arrays[name])

    def noise(self, name: str, shape: tuple[int, ...]) -> Tensor:
        """Return standard normal noise of the tag in an array."""
        rng = np.random.default_rng(zlib.crc32(self.text(name).encode()))
        return torch.from_numpy(rng.standard_normal(shape).astype(np.float32))

    def image(self, name: str, count: int, height: int, width: int) -> Tensor:
        """Return images [count, 3, H, W] of the tag in an array: coarse cells and grain."""
        rng = np.random.default_rng(zlib.crc32(self.text(name).encode()))
        cells = rng.uniform(-1, 1, (count, 3, 8, 8))
        grain = rng.uniform(-1, 1, (count, 3, height, width))
        coarse = cells.repeat(height // 8, 2).repeat(width // 8, 3)
        scale = 1.0
        if "image_scale" in self.arrays:
            scale = float(self.arrays["image_scale"].ravel()[0])
        values = scale * (0.75 * coarse + 0.25 * grain)
        return torch.from_numpy(values.astype(np.float32))

    def weight_sums(self, state: Mapping[str, Tensor], network: str = "") -> Iterator[Row]:
        """Compare the sums of the rebuilt weights: a check of the fill itself."""
        name = f"w_sums_{network}" if network else "w_sums"
        if name in self.arrays:
            yield compare(self.name, name, self.arrays[name], sums_of(state.values()), 1e-6)


def run_fixtures(
    folder: Path,
    system: str,
    kinds: Mapping[str, Callable[[Fixture, float], Iterator[Row]]],
    tolerance: float,
) -> Iterator[Row]:
    """Yield the rows of every fixture of a system in a folder.

    ValueError, one line, for a file that is broken.
    """
    for path in sorted(folder.glob("*.npz")):
        arrays = read_arrays(path)
        if "system" not in arrays or str(arrays["system"].ravel()[0]) != system:
            continue
        fixture = Fixture(folder, path.stem, arrays)
        what = fixture.text("what")
        if what not in kinds:
            yield Row(path.stem, "", detail=f"no {what} of {system} is known here", fault=True)
            continue
        try:
            yield from kinds[what](fixture, tolerance)
        except BrokenFileError:
            raise
        except FAULTS as err:
            reason = " ".join(str(err).split())[:300] or type(err).__name__
            yield Row(path.stem, "", detail=f"cannot be compared: {reason}", fault=True)


def sums_of(tensors: Any) -> Array:
    """Return sum and sum of absolutes [keys, 2] of tensors, in float64."""
    rows = []
    for tensor in tensors:
        values = tensor.detach().double()
        rows.append([values.sum().item(), values.abs().sum().item()])
    return np.array(rows)


def sample(value: Tensor, count: int = SAMPLES) -> Array:
    """Return `count` values at even distances, the first and the last among them."""
    flat = value.detach().reshape(-1).double().numpy()
    places = np.floor(np.linspace(0, flat.size - 1, count)).astype(np.int64)
    return np.asarray(flat[places])


def strided(value: Tensor, recorded: Array) -> Array:
    """Return a tensor at the recorded shape: every k-th entry along each axis."""
    steps = []
    for ours, theirs in zip(value.shape, recorded.shape, strict=True):
        step = max(1, round(ours / max(1, theirs)))
        steps.append(slice(None, None, step))
    return value.detach()[tuple(steps)].numpy()


def magnitude(value: Tensor) -> Array:
    """Return the sum of absolutes of a tensor, in float64."""
    return np.array(value.detach().double().abs().sum().item())


def recorded_rows(
    fixture: Fixture,
    made: Mapping[str, Array | Tensor],
    tolerance: float,
    looser: Mapping[str, float] | None = None,
) -> Iterator[Row]:
    """Compare what was made with the arrays of the same names.

    `looser` gives prefixes of names that need more than the tolerance.
    """
    for name, value in made.items():
        if name not in fixture.arrays:
            continue
        recorded = fixture.arrays[name]
        actual = value
        if isinstance(value, Tensor):
            actual = strided(value, recorded)
        allowed = tolerance
        for prefix, least in (looser or {}).items():
            if name.startswith(prefix):
                allowed = max(tolerance, least)
        yield compare(fixture.name, name, recorded, actual, allowed)


def rest(fixture: Fixture, done: set[str]) -> Iterator[Row]:
    """Name every array that was not compared."""
    for name in sorted(fixture.arrays.keys() - done - KNOWN):
        if not name.startswith(("trace_", "override/", "ac0_", "f32_error", "w_sums")):
            yield Row(fixture.name, name, detail="not compared: unknown array")


def traced(network: nn.Module, fixture: Fixture) -> Trace:
    """Return a view into a network by the names that a fixture has recorded."""
    return Trace(network, [str(name) for name in fixture.arrays["trace_names"]])


def trace_rows(
    fixture: Fixture, trace: Trace, tolerance: float, skipped: str = "\n"
) -> Iterator[Row]:
    """Compare the trace of a forward, but for modules whose name holds `skipped`."""
    parts: dict[str, list[tuple[str, Array, Array]]] = {"trace_stats": [], "trace_samples": []}
    absent = []
    counts: dict[str, int] = {}
    for place, name in enumerate(fixture.arrays["trace_names"].tolist()):
        turn = counts.get(name, 0)
        counts[name] = turn + 1
        entries = trace.seen.get(name, [])
        if turn >= len(entries) or skipped in name:
            absent.append(name)
            continue
        for kind, made in zip(parts, entries[turn], strict=True):
            parts[kind].append((name, fixture.arrays[kind][place], made))
    left = ""
    if absent:
        left = f"not compared, no such tensor here: {', '.join(absent)}"
    for kind, compared in parts.items():
        if compared:
            yield compare_each(fixture.name, kind, compared, tolerance, left)


@dataclass(frozen=True)
class StepOf:
    """One network of a recorded step."""

    name: str  # prefix of the arrays
    network: nn.Module
    rate: float  # of its optimiser
    prefix: str = ""  # of the recorded keys

    def own(self, key: str) -> str:
        """Return our name of a recorded key."""
        return key.removeprefix(self.prefix)


def step_rows(fixture: Fixture, of: StepOf, tolerance: float) -> Iterator[Row]:
    """Compare gradients and what the step left behind of one network."""
    gradients = {name: p.grad for name, p in of.network.named_parameters()}
    keys = [str(key) for key in fixture.arrays[f"{of.name}_params"]]
    norms = fixture.arrays[f"{of.name}_grad_norm"]
    samples = fixture.arrays[f"{of.name}_grad_samples"]
    least = ZERO * float(norms.max())
    norm_parts: list[tuple[str, Array, Array]] = []
    sample_parts: list[tuple[str, Array, Array]] = []
    moved: set[str] = set()
    zero: set[str] = set()
    for key, norm, few in zip(keys, norms, samples, strict=True):
        gradient = gradients.get(of.own(key))
        if norm < 0:  # no gradient there, and none here
            if gradient is not None and float(gradient.norm()) > 0:
                yield Row(fixture.name, f"{of.name}_params", detail=f"'{key}' learns", fault=True)
            continue
        if gradient is None:
            yield Row(
                fixture.name, f"{of.name}_params", detail=f"'{key}' has no gradient", fault=True
            )
            continue
        if norm <= least:
            zero.add(key)
            continue
        moved.add(key)
        ours = gradient.detach().double()
        norm_parts.append((key, np.array(1.0), np.array(float(ours.norm()) / float(norm))))
        count = min(few.size, gradient.numel())  # fewer are padded with zeros
        sample_parts.append((key, few[:count] / norm, sample(gradient, count) / norm))
    allowed = max(GRADIENT, GRADIENT_FACTOR * tolerance)
    yield compare_each(fixture.name, f"{of.name}_grad_norm", norm_parts, allowed)
    of_samples = SAMPLE_FACTOR * allowed
    yield compare_each(fixture.name, f"{of.name}_grad_samples", sample_parts, of_samples)
    yield from _after_rows(fixture, of, moved, zero, tolerance)


def _after_rows(
    fixture: Fixture, of: StepOf, moved: set[str], zero: set[str], tolerance: float
) -> Iterator[Row]:
    """Compare sums of all tensors after the step.

    Those that Adam moved by the share of their entries that went the other way.
    """
    state = of.network.state_dict()
    still: list[tuple[str, Array, Array]] = []
    turned: list[tuple[str, Array, Array]] = []
    absent = []
    recorded = fixture.arrays[f"{of.name}_after"]
    for key, sums in zip(fixture.arrays[f"{of.name}_keys"].tolist(), recorded, strict=True):
        own = of.own(str(key))
        if own not in state:
            absent.append(str(key))
            continue
        ours = sums_of([state[own]])[0]
        if key in zero:
            continue
        if key in moved:
            slack = tolerance * np.maximum(1.0, np.abs(sums)) + 2 * of.rate
            off = np.maximum(0.0, np.abs(sums - ours) - slack)
            share = off / (2 * of.rate * state[own].numel())
            turned.append((str(key), np.zeros(2), share))
        else:
            still.append((str(key), sums, ours))
    left = f"; not ours: {', '.join(absent)}" if absent else ""
    if turned:
        yield compare_each(
            fixture.name,
            f"{of.name}_after, moved",
            turned,
            TURNED,
            f"share of entries that Adam moved the other way{left}",
        )
    if still:
        yield compare_each(fixture.name, f"{of.name}_after, buffers", still, tolerance)
