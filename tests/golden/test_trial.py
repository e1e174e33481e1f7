"""What a trial concludes from simulated runs, and what decides detectors from data."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from synthaug.pipeline.config.derive import Measured, derive
from synthaug.pipeline.config.load import load_job
from synthaug.pipeline.scores.detection import dap
from synthaug.pipeline.scores.detection.evaluator import DetectionEvaluator
from tests.golden.recorded import Row, flattened, hold
from tests.golden.test_verification import rows
from tests.imperfect_detector import TOY
from tests.paths import JOBS
from tests.trial_runs import whole_trial

TRIALS: dict[str, tuple[dict[str, float], dict[str, Any]]] = {
    "gain": (
        {"real": 0.0, "real_half": -0.06, "rfs": 0.01, "stack": 0.012, "synthetic": 0.04},
        {},
    ),
    "loss": (
        {"real": 0.0, "real_half": -0.05, "placebo": 0.0, "stack": 0.01, "synthetic": -0.02},
        {"goal": "rare"},
    ),
    "nothing": (
        {"real": 0.0, "real_half": 0.0, "stack": 0.001, "verified": 0.002, "synthetic": 0.001},
        {"confirmed": False, "margin": 0.05, "worthwhile": 0.02},
    ),
}
DATA = {
    "photos": Measured(192, 240, 320, (0.05, 0.11, 0.3)),
    "many_small": Measured(5000, 1080, 1920, (0.01, 0.03, 0.2)),
    "square": Measured(60, 512, 512, (0.2, 0.4, 0.8)),
    "toy": Measured(1900, 64, 64, (0.2, 0.3, 0.6)),
}


@pytest.mark.parametrize("name", TRIALS)
def test_conclusions_are_what_they_were(name: str) -> None:
    gains, options = TRIALS[name]
    found = whole_trial(gains, **options)
    hold(f"trial_{name}", flattened(found))


@pytest.mark.parametrize("name", DATA)
@pytest.mark.parametrize("backbone", ["small", "lite0"])
def test_settings_that_data_decides_are_what_they_were(name: str, backbone: str) -> None:
    words = [f"detector.backbone={backbone}", "detector.batch=8"]
    job, line = derive(load_job(JOBS / "base.yaml", words), DATA[name])
    decided = {**vars(job.detector.config), "steps": job.detector.training.steps, "line": line}
    hold(f"derived_{name}_{backbone}", decided)


# ---- detection ----


def test_average_precisions_are_what_they_were() -> None:
    """All of COCO's figures, per class and by group, of detections that are known."""
    categories = TOY.categories
    evaluator = DetectionEvaluator(categories, list(range(len(categories))))
    for row in rows():
        evaluator.add(row)
    result = evaluator.result()
    told: dict[str, Row] = {"all": result.values}
    told |= {f"class {label}": values for label, values in result.per_class.items()}
    hold("score_average_precision", told)


def test_dap_is_what_it_was() -> None:
    counts = tuple(10 * (k + 1) ** 2 for k in range(len(TOY.categories)))
    real = rows()[:30]
    painted = [replace(row, index=number) for number, row in enumerate(rows()[30:])]
    for name, config in (("usual", dap.Config()), ("ap", dap.Config(headline="AP"))):
        metric = dap.dap(painted, real, TOY.categories, counts, {}, config)
        told = flattened(metric.to_json())
        hold(f"score_dap_{name}", told)
