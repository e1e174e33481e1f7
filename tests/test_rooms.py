"""The house as a test: which room may import which (docs/architecture.md).

A new file needs no line here; a new room does.
"""

from __future__ import annotations

import ast
import subprocess
import sys
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = ROOT / "src" / "synthaug"  # links to the folders at the top, and what has none there
NAMESPACE = "synthaug"

ROOMS = {  # room -> the rooms it may import
    "ranges": set(),
    "stand_ins": set(),
    "published": {"stand_ins"},
    "generators": {"published", "ranges"},
    "detectors": {"published", "ranges"},
    "pipeline/core": {"stand_ins"},
    "pipeline/formats": {"core", "detectors", "stand_ins"},
    "pipeline/scores": {"core", "detectors", "published", "ranges"},
    "pipeline/leaks": {"core"},
    "pipeline/survey": {"core", "formats"},
    "pipeline/planning": {"core"},
    "pipeline/config": {"core", "scores", "generators", "detectors", "ranges"},
    "pipeline/scaffold": {
        *("core", "formats", "scores", "leaks", "survey", "config", "generators"),
    },
    "pipeline/batches": {"core", "generators", "detectors"},
    "pipeline/execution": {"core", "config"},
    "pipeline/synthesis": {"core", "formats", "config", "batches", "planning", "generators"},
    "pipeline/detection": {"core", "scores", "config", "batches", "execution", "detectors"},
    "pipeline/joint": {
        *("core", "config", "batches", "detection", "detectors", "generators"),
    },
    "pipeline/verification": {"core", "scores", "config", "detection"},
    "pipeline/trial": {
        *("core", "formats", "scores", "config", "batches", "synthesis", "detectors"),
        *("detection", "execution"),
    },
    "pipeline/scoring": {"core", "scores", "execution"},
    "pipeline/studio": {"core", "formats", "planning", "generators", "synthesis"},
    "pipeline/report": {"core", "scores", "config", "planning", "verification"},
    "pipeline/steps": {"*"},  # everything above; never run, commands or cli
    "pipeline/tracking": {"core", "execution"},
    "pipeline/run": {"core", "config", "execution", "tracking", "steps"},
    "pipeline/display": {"core", "execution"},
    "pipeline/commands": {"*", "steps", "run"},
    "pipeline/cli": {"*", "steps", "run", "commands"},
}
LAST = {"steps", "run", "commands", "cli"}
DOORS = {  # framework -> the only files that may import it
    "ray": {"pipeline/execution/ray_executor.py"},
    "hydra": {"pipeline/config/load.py"},
    "omegaconf": {"pipeline/config/load.py", "pipeline/config/schema.py"},
    "click": {"pipeline/cli.py"},
    "rich": {"pipeline/display.py"},
    "tensorboardX": {"pipeline/tracking/trackers.py"},
    "mlflow": {"pipeline/tracking/trackers.py"},
    "wandb": {"pipeline/tracking/trackers.py"},
    "starlette": {"pipeline/studio/server/app.py", "pipeline/studio/server/serve.py"},
    "uvicorn": {"pipeline/studio/server/serve.py"},
}
BARE = {
    "ray",
    "hydra",
    "omegaconf",
    "click",
    "pycocotools",
    "pyarrow",
    "pandas",
}  # not in NETWORKS
NETWORKS = ("generators", "detectors", "published")  # rooms that run with torch alone
FILES = sorted(p for top in ("pipeline", *NETWORKS) for p in (PACKAGE / top).rglob("*.py"))
FILES.append(PACKAGE / "ranges.py")


FIRST_LINE = 80  # characters of a docstring's first line at most


def first_lines(path: Path) -> list[str]:
    """Return the first line of each docstring of a file."""
    documented = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)
    lines = []
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, documented):
            lines += (ast.get_docstring(node) or "").splitlines()[:1]
    return lines


def room_of(parts: tuple[str, ...]) -> str:
    """Return the room of a path, or of a dotted name without the namespace, by its parts."""
    top = parts[0].removesuffix(".py")
    if top != "pipeline" or len(parts) < 2:
        return top
    return f"pipeline/{parts[1].removesuffix('.py')}"


def short(room: str) -> str:
    """Return the name by which ROOMS names a room that may be imported."""
    return room.split("/")[-1]


def imports(path: Path) -> set[str]:
    """Return the dotted names of everything a file imports, at any depth, without the namespace."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            names |= {f"{node.module}.{alias.name}" for alias in node.names}
    return {name.removeprefix(f"{NAMESPACE}.") for name in names}


def libraries(path: Path) -> set[str]:
    """Return the top-level names of everything a file imports."""
    return {name.split(".")[0] for name in imports(path)}


def allowed(room: str) -> set[str]:
    names = ROOMS[room]
    if "*" not in names:
        return names
    everything = {short(other) for other in ROOMS}
    return (names - {"*"}) | (everything - LAST)


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(PACKAGE)))
def test_a_file_imports_only_the_rooms_its_own_may(path: Path) -> None:
    own = room_of(path.relative_to(PACKAGE).parts)
    if own == "pipeline/__init__":
        assert not imports(path)
        return
    assert own in ROOMS, f"{own} is a new room: say in ROOMS what it may import"
    for name in imports(path):
        if name.split(".")[0] not in ("pipeline", "ranges", "stand_ins", *NETWORKS):
            continue
        other = room_of(tuple(name.split(".")))
        permitted = other == own or short(other) in allowed(own)
        assert permitted, f"{own} must not import {other}: {name}"


def test_no_room_is_in_a_circle() -> None:
    graph = {short(room): allowed(room) for room in ROOMS}
    TopologicalSorter(graph).prepare()  # raises CycleError, naming the circle


def test_no_file_is_in_a_circle() -> None:
    """Imports inside functions count too: a circle that is only opened late is still one."""
    modules = {}
    for path in [*FILES, *(ROOT / "benchmarks").rglob("*.py")]:
        folder = PACKAGE if path in FILES else ROOT
        dotted = ".".join(path.relative_to(folder).with_suffix("").parts)
        modules[dotted.removesuffix(".__init__")] = path
    graph = {}
    for module, path in modules.items():
        names = {name if name in modules else name.rpartition(".")[0] for name in imports(path)}
        graph[module] = names & modules.keys() - {module}
    TopologicalSorter(graph).prepare()


def test_the_first_line_of_a_docstring_is_short() -> None:
    for path in FILES:
        name = path.relative_to(PACKAGE).as_posix()
        too_long = [line for line in first_lines(path) if len(line) > FIRST_LINE]
        assert not too_long, f"{name}: a docstring's first line has over {FIRST_LINE} characters"


@pytest.mark.parametrize("library", sorted(DOORS))
def test_each_framework_has_one_door(library: str) -> None:
    users = {str(path.relative_to(PACKAGE)) for path in FILES if library in libraries(path)}
    assert users <= DOORS[library]


@pytest.mark.parametrize("room", NETWORKS)
def test_networks_run_without_the_pipeline(room: str) -> None:
    for path in FILES:
        if path.is_relative_to(PACKAGE / room):
            assert not libraries(path) & (BARE | {"pipeline"}), path


def test_a_folder_has_at_most_twenty_files() -> None:
    for folder in {path.parent for path in FILES}:
        count = len(list(folder.glob("*.py")))
        assert count <= 20, (
            f"{folder.relative_to(PACKAGE)} has {count} files: give some of them a room"
        )


def test_help_needs_no_heavy_library() -> None:
    heavy = "('torch', 'ray', 'pyarrow', 'cv2')"
    code = f"import {NAMESPACE}.pipeline.cli, sys; print([m for m in {heavy} if m in sys.modules])"
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, capture_output=True, text=True, check=True, cwd=ROOT)
    assert done.stdout.strip() == "[]"
