"""Timing on a GPU: device events around each call, after warm-up; the median counts.

For the scripts of this folder.
"""

from __future__ import annotations

import importlib.util
import os
import statistics
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence

import torch

FAILURES: tuple[type[Exception], ...] = (RuntimeError, ValueError)  # of a form that cannot run
if importlib.util.find_spec("triton"):
    from triton.errors import TritonError  # it does not compile, or needs too much

    FAILURES = (*FAILURES, TritonError)

Call = Callable[[], object]


def milliseconds(call: Call, seconds: float = 0.25, most: int = 50) -> float:
    """Median time of a call as a user has it, gaps between launches included.

    As often as fits into so many seconds.
    """
    for _ in range(3):
        call()
    torch.cuda.synchronize()
    times = [_once(call)]
    count = max(3, min(most, int(1e3 * seconds / max(times[0], 1e-3))))
    times += [_once(call) for _ in range(count)]
    return statistics.median(times[1:])


def _once(call: Call) -> float:
    begin, end = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
    begin.record()
    call()
    end.record()
    end.synchronize()
    return begin.elapsed_time(end)


def replayed(call: Call, seconds: float = 0.25) -> float:
    """Median time of a call that was captured as a CUDA graph.

    Without the gaps between launches.
    """
    side = torch.cuda.Stream()
    side.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(side):
        for _ in range(3):
            call()
    torch.cuda.current_stream().wait_stream(side)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        call()
    return milliseconds(graph.replay, seconds)


def peak_bytes(call: Call) -> int:
    """Most memory that tensors held during a call, less what they held before."""
    torch.cuda.synchronize()
    torch.cuda.empty_cache()
    torch.cuda.reset_peak_memory_stats()
    before = torch.cuda.memory_allocated()
    call()
    torch.cuda.synchronize()
    return torch.cuda.max_memory_allocated() - before


def about() -> str:
    """The card, the versions and how float32 is multiplied."""
    conv, products = torch.backends.cudnn.allow_tf32, torch.backends.cuda.matmul.allow_tf32
    names = {True: "TF32", False: "float32"}
    return (
        f"{torch.cuda.get_device_name()}, torch {torch.__version__}; float32 convolutions in "
        f"{names[conv]}, float32 matrix products in {names[products]}"
    )


def in_parallel(module: str, tasks: Sequence[Sequence[str]]) -> None:
    """Run `python -m module TASK` for all tasks at the same time, for what they leave in Triton's
    cache.
    """
    running = [subprocess.Popen([sys.executable, "-m", module, *task]) for task in tasks]
    for process in running:
        process.wait()


def row(*cells: object) -> None:
    """Print one row of a Markdown table."""
    print(f"| {' | '.join(map(str, cells))} |", flush=True)


def heading(*names: str) -> None:
    """Print the head of a Markdown table."""
    print()
    row(*names)
    print("|---" * len(names) + "|", flush=True)


def tried(forms: Mapping[str, Call], measure: Callable[[Call], float]) -> dict[str, float]:
    """Measure each form.

    One that fails is named with its error and is not a number, the others go on.
    """
    found = {}
    for name, form in forms.items():
        try:
            found[name] = measure(form)
        except FAILURES as err:
            if os.environ.get("RAISE"):
                raise
            print(
                f"{name}: {type(err).__name__}: "
                f"{str(err).splitlines()[0][:200] if str(err) else ''}",
                flush=True,
            )
            found[name] = float("nan")
    return found
