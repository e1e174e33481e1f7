"""Measure how dense the code is, and how much of it is tests.

    python benchmarks/density.py [FOLDER ...]        # all source folders

Dense: tokens per code line, and tokens in the median function.
A token is what Python's tokenizer yields, without comments, line ends, indentation and docstrings;
an f-string is one token, as it is to Python 3.11. A code line is a line on which such a token lies.
A function's tokens are those from its `def` to its end, functions inside it included.
Issue 14 aims at under 9 tokens per line and under 60 in the median function.

Tests: lines of tests/ (of every Python file, blank ones too) per line of source, and the share of
source files, `__init__.py` apart, that have a twin: pipeline/x/y.py has tests/pipeline/x/test_y.py.
Issue 14 asks for 0.9 and 75 %.
"""

from __future__ import annotations

import ast
import io
import statistics
import sys
import tokenize
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
FOLDERS = ("pipeline", "generators", "detectors", "src")  # links in src/ are not followed
TESTS = "tests"
LAYOUT = {
    tokenize.COMMENT,
    tokenize.NL,
    tokenize.NEWLINE,
    tokenize.INDENT,
    tokenize.DEDENT,
    tokenize.ENCODING,
    tokenize.ENDMARKER,
}
FSTRING_START = getattr(tokenize, "FSTRING_START", -1)  # from Python 3.12 on
FSTRING_END = getattr(tokenize, "FSTRING_END", -1)

DOCUMENTED = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)
FUNCTIONS = (ast.FunctionDef, ast.AsyncFunctionDef)


@dataclass(frozen=True)
class Density:
    """Counts of one file: its tokens, the lines they lie on, and the tokens of each function."""

    tokens: int
    lines: int
    functions: dict[str, int]

    @property
    def per_line(self) -> float:
        """Return tokens per code line; 0 for a file without code."""
        return self.tokens / max(1, self.lines)


def measure(source: str) -> Density:
    """Return the counts of one file's source."""
    tree = ast.parse(source)
    docstrings = docstring_lines(tree)
    tokens_on: dict[int, int] = defaultdict(int)
    code_lines: set[int] = set()
    for first, last in code_tokens(source):
        if first in docstrings:
            continue
        tokens_on[first] += 1
        code_lines.update(range(first, last + 1))
    functions = {}
    for node in ast.walk(tree):
        if isinstance(node, FUNCTIONS):
            assert node.end_lineno is not None
            own_lines = range(node.lineno, node.end_lineno + 1)
            functions[f"{node.name}:{node.lineno}"] = sum(tokens_on[line] for line in own_lines)
    return Density(sum(tokens_on.values()), len(code_lines), functions)


def code_tokens(source: str) -> Iterator[tuple[int, int]]:
    """Yield the first and the last line of each token of code."""
    depth = 0  # of f-strings inside f-strings
    began = 0
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        if token.type == FSTRING_START:
            if depth == 0:
                began = token.start[0]
            depth += 1
        elif token.type == FSTRING_END:
            depth -= 1
            if depth == 0:
                yield began, token.end[0]
        elif depth == 0 and token.type not in LAYOUT:
            yield token.start[0], token.end[0]


def docstring_lines(tree: ast.Module) -> set[int]:
    """Return the numbers of all lines that belong to a docstring."""
    lines: set[int] = set()
    for node in ast.walk(tree):
        if isinstance(node, DOCUMENTED) and ast.get_docstring(node, clean=False) is not None:
            docstring = node.body[0]
            assert docstring.end_lineno is not None
            lines.update(range(docstring.lineno, docstring.end_lineno + 1))
    return lines


def measure_folders(folders: list[Path]) -> dict[Path, Density]:
    """Return the counts of every Python file in the folders."""
    measured = {}
    for folder in folders:
        for path in sorted(folder.rglob("*.py")):
            measured[path] = measure(path.read_text("utf-8"))
    return measured


def count_lines(folders: list[Path]) -> int:
    """Return the lines of every Python file in the folders."""
    count = 0
    for folder in folders:
        for path in folder.rglob("*.py"):
            count += len(path.read_text("utf-8").splitlines())
    return count


def files_with_twin(files: list[Path]) -> tuple[list[Path], list[Path]]:
    """Return the source files that have a test of their name in the same room, and the others."""
    twinned, others = [], []
    for path in files:
        if path.name == "__init__.py":
            continue
        room = path.relative_to(ROOT).parent
        if room.parts[:2] == ("src", "synthaug"):
            room = room.relative_to("src/synthaug")
        twin = ROOT / TESTS / room / f"test_{path.name}"
        if twin.is_file():
            twinned.append(path)
        else:
            others.append(path)
    return twinned, others


def tokens_per_line(files: dict[Path, Density]) -> float:
    """Return tokens per code line of all files together."""
    tokens = sum(file.tokens for file in files.values())
    lines = sum(file.lines for file in files.values())
    return tokens / max(1, lines)


def median_function(files: dict[Path, Density]) -> float:
    """Return the tokens of the median function."""
    counts = []
    for file in files.values():
        counts.extend(file.functions.values())
    return statistics.median(counts)


def main(arguments: list[str]) -> None:
    """Print the four figures, then every folder's and the twenty densest files'."""
    folders = [Path(name).resolve() for name in arguments]
    if not folders:
        folders = [ROOT / name for name in FOLDERS]
    files = measure_folders(folders)
    print(f"{tokens_per_line(files):.2f} tokens per code line")
    print(f"{median_function(files):.0f} tokens in the median function")
    if not arguments:
        print_tests(folders, list(files))
    rooms: dict[Path, dict[Path, Density]] = defaultdict(dict)
    for path, density in files.items():
        rooms[path.parent][path] = density
    for room, inside in sorted(rooms.items(), key=lambda item: -tokens_per_line(item[1])):
        lines = sum(file.lines for file in inside.values())
        print(f"{tokens_per_line(inside):6.2f} {lines:6} lines  {room.relative_to(ROOT)}")
    densest = sorted(files.items(), key=lambda item: -item[1].per_line)
    for path, density in densest[:20]:
        print(f"{density.per_line:6.2f} {density.lines:6} lines  {path.relative_to(ROOT)}")


def print_tests(folders: list[Path], files: list[Path]) -> None:
    """Print the lines of tests per line of source, and the share of files with a twin."""
    source_lines = count_lines(folders)
    test_lines = count_lines([ROOT / TESTS])
    ratio = test_lines / source_lines
    print(f"{ratio:.3f} lines of tests per line of source ({test_lines} : {source_lines})")
    twinned, others = files_with_twin(files)
    count = len(twinned) + len(others)
    print(f"{len(twinned) / count:.1%} of {count} source files have a test twin; not these:")
    for path in others:
        print(f"    {path.relative_to(ROOT)}")


if __name__ == "__main__":
    main(sys.argv[1:])
