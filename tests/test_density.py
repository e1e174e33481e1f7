"""The counting of benchmarks/density.py, on sources whose counts are known."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from types import ModuleType

import pytest

from tests.paths import ROOT


@pytest.fixture(scope="module")
def density() -> ModuleType:
    spec = importlib.util.spec_from_file_location("density", ROOT / "benchmarks" / "density.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    import sys

    sys.modules["density"] = module  # its dataclass looks itself up there
    spec.loader.exec_module(module)
    return module


SOURCE = '''"""A module
of two lines."""

# a comment
VALUE = 1  # three tokens


def f(a):
    """Return twice."""
    b = f"{a} and {VALUE}"  # an f-string is one token

    def g():
        return 2

    return (
        b
    )
'''


def test_docstrings_comments_and_layout_are_no_tokens(density: ModuleType) -> None:
    counts = density.measure(SOURCE)
    assert 3 + 6 + 3 + 5 + 2 + 2 + 1 + 1 == counts.tokens
    assert 8 == counts.lines
    assert {"f:8": 20, "g:12": 7} == counts.functions


def test_a_string_over_lines_counts_its_lines(density: ModuleType) -> None:
    counts = density.measure('x = """a\nb\nc"""\n')
    assert (3, 3) == (counts.tokens, counts.lines)
    assert 1 == counts.per_line
    assert 0 == density.measure("# nothing\n").per_line


def test_a_twin_lies_in_the_same_room_of_the_tests(
    density: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(density, "ROOT", tmp_path)
    sources = ["pipeline/a/x.py", "pipeline/b/x.py", "pipeline/a/__init__.py"]
    sources.append("src/synthaug/published/y.py")
    for name in (*sources, "tests/pipeline/a/test_x.py", "tests/published/test_y.py"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text("1\n\n")
    paths = [tmp_path / name for name in sources]
    twinned, others = density.files_with_twin(paths)
    assert [paths[0], paths[3]] == twinned
    assert [paths[1]] == others
    assert 6 == density.count_lines([tmp_path / "pipeline"])
    density.print_tests([tmp_path / "pipeline", tmp_path / "src"], paths)


def test_links_in_the_sources_are_not_counted_twice(density: ModuleType) -> None:
    files = density.measure_folders([ROOT / "src"])
    assert {"synthaug", "published"} == {path.parent.name for path in files}
