"""jobs/base.yaml and the dataclasses say the same."""

from __future__ import annotations

from synthaug.pipeline.config.load import load_job
from tests.paths import JOBS


def test_base_yaml_loads_by_itself() -> None:
    job = load_job(JOBS / "base.yaml", [], None)
    assert (job.name, job.data.labelled, job.data.validation) == ("base", "toy:train", "toy:val")
