"""The one training loop: for detectors, generators and classifiers alike.

Log, checkpoint and exact resume.

A training is anything with `modules`, `optimizers` and `step(index, batch)`. Batches are a pure
function of the step index and all of a step's randomness derives from it, so the state on disk is
weights, optimiser moments and one number.
"""

from __future__ import annotations

import json
import math
import os
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any, Protocol

from synthaug.pipeline.core.errors import RunError
from synthaug.pipeline.core.json_values import Json
from synthaug.pipeline.core.storage import Folder

if TYPE_CHECKING:
    from torch import Tensor, nn
    from torch.optim import Optimizer

STATE = "state.safetensors"
LOG = "log.jsonl"
EVALUATION = "evaluation.jsonl"  # rows of a detector's evaluations during its training
LOG_ROWS = 400  # rows a finished log has, however long the training
FLUSH_SECONDS = 2.0


def device() -> str:
    """Return the device that networks run on: the GPU where there is one."""
    import torch

    return "cuda" if torch.cuda.is_available() else "cpu"


def cores() -> int:
    """Return the number of CPU cores this process may use."""
    return len(os.sched_getaffinity(0))


class Training(Protocol):
    """Networks and optimizers that the loop drives."""

    @property
    def modules(self) -> Mapping[str, nn.Module]:
        """Networks, by name."""
        ...

    @property
    def optimizers(self) -> Mapping[str, Optimizer]:
        """Optimisers, by name."""
        ...

    def step(self, index: int, batch: Any) -> Mapping[str, Tensor]:
        """Do one optimiser step and return named losses."""
        ...


def train(
    training: Training,
    batches: Callable[[int], Any],
    steps: int,
    save_every: int,
    folder: Folder,
    rank: int = 0,
) -> int:
    """Train to `steps`, resuming from the folder's state.

    Returns the step it resumed from.

    Only rank 0 writes. A kill loses at most the steps since the last save.
    """
    start = load_state(training, folder)
    log = _Log(folder, steps, start) if rank == 0 else None
    for index, batch in _ahead(batches, start, steps):
        losses = training.step(index, batch)
        if log:
            log.add(index + 1, losses)
        if log and ((index + 1) % save_every == 0 or index + 1 == steps):
            log.flush()  # first: the log of a resumed training has every row up to its checkpoint
            save_state(training, folder, index + 1)
    return start


def _ahead(batches: Callable[[int], Any], start: int, stop: int) -> Iterator[tuple[int, Any]]:
    """Yield (step, batch), reading the next batch while the current one is used."""
    with ThreadPoolExecutor(1) as reader:
        following = reader.submit(batches, start) if start < stop else None
        for index in range(start, stop):
            assert following is not None
            batch = following.result()
            following = reader.submit(batches, index + 1) if index + 1 < stop else None
            yield index, batch


def save_state(training: Training, folder: Folder, step: int) -> None:
    """Write everything that changes from step to step as one file, atomically."""
    from safetensors.torch import save

    tensors = {}
    for name, module in training.modules.items():
        for key, value in module.state_dict().items():
            tensors[f"module/{name}/{key}"] = value.detach().cpu().contiguous().clone()
    for name, optimizer in training.optimizers.items():
        for position, moments in optimizer.state_dict()["state"].items():
            for key, value in moments.items():
                if value is not None:
                    tensors[f"optimizer/{name}/{position}/{key}"] = (
                        value.detach().cpu().contiguous().clone()
                    )
    folder.write_bytes(STATE, save(tensors, {"step": str(step)}))


def load_state(training: Training, folder: Folder) -> int:
    """Restore a training in place.

    Returns the step to go on with, 0 when nothing was saved.
    """
    if not folder.exists(STATE):
        return 0
    from safetensors.torch import load

    data = folder.read_bytes(STATE)
    header_bytes = int.from_bytes(data[:8], "little")
    header = json.loads(data[8 : 8 + header_bytes])
    modules: dict[str, Json] = {}
    moments: dict[str, dict[int, Json]] = {}
    for full, value in load(data).items():
        kind, name, rest = full.split("/", 2)
        if kind == "module":
            modules.setdefault(name, {})[rest] = value
        else:
            position, key = rest.split("/")
            moments.setdefault(name, {}).setdefault(int(position), {})[key] = value
    for name, module in training.modules.items():
        module.load_state_dict(modules[name], strict=True)
    for name, optimizer in training.optimizers.items():
        groups = optimizer.state_dict()["param_groups"]
        parameters = []
        for group in optimizer.param_groups:
            parameters.extend(group["params"])
        state = _laid_out(moments.get(name, {}), parameters)
        optimizer.load_state_dict({"state": state, "param_groups": groups})
    return int(header["__metadata__"]["step"])


def _laid_out(moments: dict[int, Json], parameters: list[Any]) -> dict[int, Json]:
    """Give moments the memory layout of their parameters.

    Fused optimisers go through both as flat memory.
    """
    import torch

    laid_out: dict[int, Json] = {}
    for position, entry in moments.items():
        parameter = parameters[position]
        laid_out[position] = {}
        for key, value in entry.items():
            if value.shape == parameter.shape and value.ndim:
                value = torch.empty_like(parameter).copy_(value)
            laid_out[position][key] = value
    return laid_out


def read_log(folder: Folder, name: str = LOG) -> list[Json]:
    """Return the rows written so far, oldest first."""
    if not folder.exists(name):
        return []
    return [json.loads(line) for line in folder.read_bytes(name).decode().splitlines()]


class _Log:
    """Mean losses per interval, as JSON lines.

    Rows after the resumed step are forgotten.
    """

    def __init__(self, folder: Folder, steps: int, start: int) -> None:
        self._folder = folder
        self._steps = steps
        self._every = max(1, steps // LOG_ROWS)
        self._rows = [row for row in read_log(folder) if row["step"] <= start]
        self._sums: Json = {}
        self._count = 0
        self._start = start
        self._began = time.monotonic()
        self._flushed = 0.0

    def add(self, step: int, losses: Mapping[str, Tensor]) -> None:
        for name, value in losses.items():
            self._sums[name] = self._sums.get(name, 0) + value
        self._count += 1
        if step % self._every == 0 or step == self._steps:
            self._close(step)

    def _close(self, step: int) -> None:
        means = {}
        for name, total in self._sums.items():
            mean = float(total) / self._count
            means[name] = round(mean, 6)
        bad = [name for name, value in means.items() if not math.isfinite(value)]
        if bad:
            raise RunError(
                f"{self._folder.uri}: loss '{bad[0]}' is not a number at step {step}; lower the "
                "learning rate or set clip_grad, then run the same command to go on from the last "
                "checkpoint"
            )
        elapsed = time.monotonic() - self._began
        rate = (step - self._start) / max(elapsed, 1e-9)
        self._rows.append(
            {"step": step, "steps": self._steps, "steps_per_s": round(rate, 3), **means}
        )
        self._sums = {}
        self._count = 0
        if time.monotonic() - self._flushed > FLUSH_SECONDS:
            self.flush()

    def flush(self) -> None:
        text = "".join(json.dumps(row) + "\n" for row in self._rows)
        self._folder.write_bytes(LOG, text.encode())
        self._flushed = time.monotonic()
