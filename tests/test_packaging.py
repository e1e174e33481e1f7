"""The wheel and the editable install.

One import name, all files, and nobody's folders in the way.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from tests import paths

SOURCES = ("pipeline", "generators", "detectors", "jobs", "src")
FILES = ("pyproject.toml", "README.md", "LICENSE")
SMALL_JOB = (
    "smoke",
    "data.labelled=toy:train?count=6",
    "data.unlabelled=",
    "data.validation=toy:val?count=3",
    "plan.count=4",
)


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Build the wheel from a copy of the sources, so that nothing is left in the checkout."""
    folder = tmp_path_factory.mktemp("wheel")
    checkout = folder / "checkout"
    checkout.mkdir()
    for name in SOURCES:
        ignored = shutil.ignore_patterns("__pycache__", "*.egg-info")
        shutil.copytree(paths.ROOT / name, checkout / name, symlinks=True, ignore=ignored)
    for name in FILES:
        shutil.copy(paths.ROOT / name, checkout)
    pip = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--no-build-isolation"]
    subprocess.run([*pip, "--wheel-dir", str(folder), str(checkout)], check=True)
    (built,) = folder.glob("*.whl")
    return built


@pytest.fixture(scope="module")
def unpacked(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("site")
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(folder)
    return folder


@pytest.fixture
def users_folder(tmp_path: Path) -> Path:
    """A folder of a user whose own packages have the names of ours."""
    for name in ("pipeline", "generators", "detectors"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "__init__.py").write_text("raise ImportError('this is the user's')\n")
    return tmp_path


def run_cli(cwd: Path, import_from: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PYTHONPATH": str(import_from)}
    command = [sys.executable, "-m", "synthaug.pipeline.cli", *arguments]
    return subprocess.run(
        command, cwd=cwd, env=environment, capture_output=True, text=True, check=False
    )


def test_the_wheel_has_one_import_name_and_every_file(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())
    top_names = {name.split("/")[0] for name in names}
    assert {name for name in top_names if not name.endswith(".dist-info")} == {"synthaug"}
    expected = {"synthaug/__init__.py", "synthaug/py.typed"}
    package = paths.ROOT / "src" / "synthaug"
    for room in ("pipeline", "generators", "detectors", "published", "jobs"):
        for file in (package / room).rglob("*"):
            if file.is_file() and "__pycache__" not in file.parts:
                expected.add(f"synthaug/{file.relative_to(package).as_posix()}")
    assert expected - names == set()


def test_no_text_asks_an_index_for_what_is_not_there() -> None:
    """An extra of ours is installed from a checkout or a wheel, other packages by name."""
    files = [paths.ROOT / "README.md", *(paths.ROOT / "docs").glob("*.md")]
    for room in SOURCES[:-2]:
        files += (paths.ROOT / room).rglob("*.py")
    wrong = [file.name for file in files if "install 'synthaug[" in file.read_text()]
    assert [] == wrong


def test_the_command_of_the_wheel_is_ours(unpacked: Path) -> None:
    (entry_points,) = unpacked.glob("*.dist-info/entry_points.txt")
    assert "synthaug = synthaug.pipeline.cli:main" in entry_points.read_text()


@pytest.mark.parametrize("install", ["wheel", "editable"])
def test_a_users_folders_of_our_rooms_names_change_nothing_on_ray(
    install: str, unpacked: Path, users_folder: Path
) -> None:
    """The step that reads the data runs on Ray's workers, whose import path begins with the current
    folder.
    """
    import_from = unpacked if install == "wheel" else paths.ROOT / "src"
    done = run_cli(users_folder, import_from, "plan", *SMALL_JOB)
    assert done.returncode == 0, done.stderr
    assert (users_folder / "runs" / "smoke" / "plan.html").is_file()


def test_a_shipped_job_is_found_by_its_name_in_any_folder(unpacked: Path, tmp_path: Path) -> None:
    done = run_cli(tmp_path, unpacked, "run", "semi_supervised", "data.labelled=", "--dry-run")
    assert done.returncode == 2
    assert "data.labelled: names no data set" in done.stderr
