"""The house as a test: who may import whom (docs/architecture.md)."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]

# rows of pipeline/, top to bottom; a file imports only from rows above its own
ROWS = [
    {"errors"},
    {"scene"},
    {"sampling", "storage", "masks", "images", "charts", "placement", "report_frame", "outlines"},
    {"panoptic"},
    {"formats", "scores", "layouts", "map_canvas", "training", "comparison", "image_hash"},
    {
        "loading",
        "map_plans",
        "pseudo_maps",
        "evidence",
        "observations",
        "calibration",
        "report_pictures",
        "sections",
        "layout_files",
        "control_sheets",
        "report_trial",
        "report_curves",
        "report_leaks",
        "layout_statistics",
        "verification",
        "leaks",
        "executor",
        "pace",
        "dataset_card",
    },
    {
        "report_pseudo",
        "report_tables",
        "report_gallery",
        "report_cards",
        "report_verify",
        "planted",
        "verification_policy",
        "pasting",
    },
    {"report_scores", "report_tiles"},
    {
        "evaluation",
        "judge",
        "map_loading",
        "production",
        "detecting",
        "report_page",
        "report_compare",
        "plan_page",
        "score_page",
        "control_plans",
        "arms",
        "verification_bars",
        "paste_guide",
    },
    {"job", "cluster", "trial_tables", "guides"},
    {"context", "twins"},
    {"measuring"},
    {"steps"},
    {"run", "status", "doctor", "generate", "handover_sources"},
    {"planning", "reporting", "handover", "scoring"},
    {"cli"},
]
DOORS = {"ray": {"cluster"}, "hydra": {"job"}, "omegaconf": {"job", "sections"}, "click": {"cli"}}  # who may import it
BARE = {"ray", "hydra", "omegaconf", "click", "pycocotools", "pyarrow", "pandas", "pipeline"}  # not in the other rooms
EDGES = {  # files of one row that may import each other: the parts of one component
    ("formats", "formats"),
    ("scores", "scores"),
    ("steps", "steps"),
}


def files(room: str) -> list[Path]:
    return sorted((ROOT / room).rglob("*.py"))


def imports(path: Path) -> set[str]:
    """Dotted names of everything a file imports, at any depth of it."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found |= {node.module} | {f"{node.module}.{alias.name}" for alias in node.names}
    return found


def row_of(name: str) -> int:
    return next(i for i, row in enumerate(ROWS) if name in row)


def unit(path: Path) -> str:
    """The name in ROWS of a file of pipeline/."""
    first = path.relative_to(ROOT / "pipeline").parts[0]
    return first.removesuffix(".py")


@pytest.mark.parametrize("path", files("pipeline"), ids=lambda p: str(p.relative_to(ROOT)))
def test_a_file_imports_only_rows_above_its_own(path: Path) -> None:
    own = unit(path)
    if own == "__init__":
        assert not imports(path)
        return
    for name in imports(path):
        parts = name.split(".")
        if parts[0] == "pipeline" and len(parts) > 1 and parts[1] != own:
            assert row_of(parts[1]) < row_of(own), f"{path.name} imports {name}"
        elif parts[0] == "pipeline" and len(parts) > 1:
            assert (own, parts[1]) in EDGES, f"{path.name} imports its own row: {name}"


@pytest.mark.parametrize("room", ["generators", "detectors"])
def test_the_other_rooms_know_nobody(room: str) -> None:
    other = {"generators": "detectors", "detectors": "generators"}[room]
    for path in files(room):
        roots = {name.split(".")[0] for name in imports(path)}
        assert not roots & (BARE | {other}), f"{path.name} imports {roots & (BARE | {other})}"


@pytest.mark.parametrize("library", sorted(DOORS))
def test_each_framework_has_one_door(library: str) -> None:
    users = {unit(p) for p in files("pipeline") if any(n.split(".")[0] == library for n in imports(p))}
    assert users <= DOORS[library]


def test_no_code_runs_what_a_file_brings() -> None:
    """No pickle, no eval, no unsafe load anywhere in the three packages; one reader knows arrays only (its own tests)."""
    banned = {"pickle", "dill", "joblib", "marshal", "shelve"}
    for path in [*files("pipeline"), *files("generators"), *files("detectors")]:
        named = {n for n in imports(path) if n not in ("pickle", "pickle.UnpicklingError")}  # naming an error is fine
        assert not {n.split(".")[0] for n in named} & banned, path
        allowed = {"UnpicklingError"} | ({"Unpickler"} if path == ROOT / "detectors" / "zoo.py" else set())
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == "pickle":
                assert node.attr in allowed, f"{path}: pickle.{node.attr}"
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
                assert node.func.id not in {"eval", "exec"}, path
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr == "load":
                keywords = {k.arg: k.value for k in node.keywords}
                if isinstance(node.func.value, ast.Name) and node.func.value.id == "torch":
                    flag = keywords.get("weights_only")
                    assert getattr(flag, "value", None) is True, f"{path}: torch.load"


def test_help_needs_no_heavy_library() -> None:
    """`synthaug --help` and the job reader load neither torch nor ray nor pyarrow."""
    import subprocess
    import sys

    code = (
        "import pipeline.cli, sys; print([m for m in ('torch', 'ray', 'pyarrow', 'pandas', 'cv2') if m in sys.modules])"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT)
    assert result.stdout.strip() == "[]"
