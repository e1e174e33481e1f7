"""The job files that ship with the package, found by their names from any folder."""

from __future__ import annotations

from pathlib import Path

import synthaug

FOLDER = Path(synthaug.__file__).parent / "jobs"


def shipped_names() -> list[str]:
    """Return the names of the shipped jobs, sorted."""
    return sorted(file.stem for file in FOLDER.glob("*.yaml"))


def find_job(named: Path) -> Path:
    """Return the file of a job named by its path, else by its name.

    `semi_supervised`, `semi_supervised.yaml` and `jobs/semi_supervised.yaml` name a shipped job
    wherever one stands. A path that names neither is returned as it is.
    """
    if named.is_file():
        return named
    names_a_shipped_job = named.parent in (Path(), Path("jobs")) and named.suffix in ("", ".yaml")
    shipped = FOLDER / f"{named.stem}.yaml"
    if names_a_shipped_job and shipped.is_file():
        return shipped
    return named


def find_base(name: str, job_file: Path) -> Path:
    """Return the file that `job_file` inherits from.

    Its neighbour, else the shipped job.
    """
    neighbour = job_file.with_name(f"{name}.yaml")
    shipped = FOLDER / f"{name}.yaml"
    if not neighbour.is_file() and shipped.is_file():
        return shipped
    return neighbour
