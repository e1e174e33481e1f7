"""Where tests find files that are not beside them."""

from __future__ import annotations

from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
JOBS = ROOT / "jobs"
SHARED = (
    ROOT / ".." / "shared"
)  # recorded outputs and sample data; tests that need them are skipped without
