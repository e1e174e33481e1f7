"""One honest screen about this machine."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from synthaug.pipeline.cli import main
from synthaug.pipeline.commands import doctor
from synthaug.pipeline.execution import ray_executor as cluster
from synthaug.pipeline.scores.features import weights
from synthaug.pipeline.scores.features.weights import FILES, Published
from tests import paths

SMOKE = paths.JOBS / "smoke.yaml"


@pytest.fixture(autouse=True)
def no_ray(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ray takes seconds to start; it is tested elsewhere."""
    monkeypatch.setattr(cluster, "open_executor", lambda *_: cluster.SerialExecutor())


def ask(*words: str) -> Result:
    return CliRunner().invoke(main, ["doctor", *words])


def test_a_machine_in_order(tmp_path: Path) -> None:
    """One screen, exit 0; every file that could be there is named, with what it is for."""
    found = ask("--weights", str(tmp_path))
    assert found.exit_code == 0, found.output
    lines = found.output.splitlines()
    assert len(lines) <= 30
    assert max(map(len, lines)) <= 160 + len(str(tmp_path))
    assert all(entry.file in found.output for entry in FILES.values())
    assert "is not there" in found.output
    assert "starts and runs a task" in found.output
    assert "can be had: dap, cas" in found.output
    impossible = next(line.strip() for line in lines if line.strip().startswith("not fid"))
    assert "inception" in impossible, "the file that is missing is named"


def test_weights_are_told_apart(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Sound, damaged, absent."""
    (tmp_path / "x").write_bytes(b"sound")
    digest = hashlib.sha256(b"sound").hexdigest()
    (tmp_path / f"good-{digest[:8]}.pth").write_bytes(b"sound")
    (tmp_path / "bad-00000000.pth").write_bytes(b"damaged")
    files = {
        "good": f"good-{digest[:8]}.pth",
        "bad": "bad-00000000.pth",
        "none": "none-00000000.pth",
    }
    monkeypatch.setattr(
        weights, "FILES", {k: Published(v, "a test's", 7) for k, v in files.items()}
    )
    monkeypatch.setattr(doctor, "FILES", weights.FILES)
    monkeypatch.setattr(doctor, "SCORES", {"dap": "synthaug.pipeline.scores.detection.dap"})
    lines = list(doctor.lines(None, str(tmp_path)))
    assert any(line.strip() == f"{files['good']}  sha256 {digest}" for line in lines)
    assert any("bad-00000000.pth  is damaged or another file" in line for line in lines)
    assert any("none-00000000.pth  is not there (7 MB)" in line for line in lines)


def test_a_job_says_where_to_look_and_a_serial_one_needs_no_ray(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Its own settings count; a wrong job is one line."""

    def refuse(*_: Any) -> None:
        raise AssertionError("Ray was started")

    monkeypatch.setattr(cluster, "open_executor", refuse)
    found = ask(str(SMOKE), "cluster.executor=serial")
    assert found.exit_code == 0, found.output
    assert "not used by this job" in found.output
    assert ask("nowhere.yaml").exit_code == 2


def test_something_needed_is_broken(monkeypatch: pytest.MonkeyPatch) -> None:
    """Named, with what to do, and exit code 1."""
    broken = doctor.Package(
        "torch", "1.0", "is 1.0, and >=2.11 is needed; install the project again"
    )
    monkeypatch.setattr(doctor, "packages", lambda: [broken])
    found = ask()
    assert found.exit_code == 1
    assert "torch: is 1.0, and >=2.11 is needed" in found.stderr
    assert "Traceback" not in found.output


def test_packages_are_judged_by_their_versions() -> None:
    """Too old, absent, in order."""
    from packaging.specifiers import SpecifierSet

    assert "is needed" in doctor._judged("numpy", SpecifierSet(">=99")).problem
    assert "not installed" in doctor._judged("no-such-thing", None).problem
    assert doctor._judged("numpy", SpecifierSet(">=2")).problem == ""
    assert {"torch", "ray", "numpy"} <= {package.name for package in doctor.packages()}
