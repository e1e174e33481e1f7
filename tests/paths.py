"""Places of the files that tests read."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
JOBS = ROOT / "jobs"
FIXTURES = ROOT / "tests" / "parity" / "fixtures"  # recorded outputs of published networks
SAMPLES_VARIABLE = "SYNTHAUG_TEST_DATA"


def sample_data(name: str) -> Path:
    """Return the folder of a sample data set, or skip the test where it is not at hand.

    Samples of real data sets may not be part of the project. They are looked for in the folder
    that the environment variable SYNTHAUG_TEST_DATA names (CONTRIBUTING.md says which there are).
    """
    samples = os.environ.get(SAMPLES_VARIABLE, "")
    if not samples:
        pytest.skip(f"{SAMPLES_VARIABLE} names no folder of sample data")
    folder = Path(samples).resolve() / name
    if not folder.is_dir():
        pytest.skip(f"{SAMPLES_VARIABLE} has no folder {name}")
    return folder
