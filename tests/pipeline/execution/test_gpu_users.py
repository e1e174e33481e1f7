"""Every pool of workers says whether it runs networks, and those that do ask for the GPU."""

from __future__ import annotations

import ast
from pathlib import Path

from tests import paths

NETWORKS = {
    "detection/inference.py",
    "scoring/engine.py",
    "steps/pseudo_label.py",
    "steps/score.py",
    "steps/synthesize.py",
    "steps/verify.py",
    "trial/bench.py",
}
NONE = {"steps/copies.py", "steps/ingest.py", "steps/leaks.py", "steps/plan.py"}


def asks_for_the_gpu(call: ast.Call) -> bool:
    """Return whether a call says gpu=True."""
    for keyword in call.keywords:
        if keyword.arg == "gpu":
            return isinstance(keyword.value, ast.Constant) and keyword.value.value is True
    return False


def pools_of(file: Path) -> list[bool]:
    """Return, of each call of `context.shards` in a file, whether it asks for the GPU."""
    calls = []
    for node in ast.walk(ast.parse(file.read_text())):
        if not isinstance(node, ast.Call) or not isinstance(node.func, ast.Attribute):
            continue
        if node.func.attr == "shards":
            calls.append(asks_for_the_gpu(node))
    return calls


def test_pools_that_run_networks_ask_for_the_gpu_and_no_others() -> None:
    with_gpu, without = set(), set()
    for file in sorted((paths.ROOT / "pipeline").rglob("*.py")):
        name = file.relative_to(paths.ROOT / "pipeline").as_posix()
        for asks in pools_of(file):
            (with_gpu if asks else without).add(name)
    assert with_gpu == NETWORKS
    assert without == NONE
