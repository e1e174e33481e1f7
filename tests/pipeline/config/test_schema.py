"""Sections of a job: every range, what decides results, and the record of a job."""

from __future__ import annotations

import re
from dataclasses import fields, is_dataclass, replace
from pathlib import Path
from typing import Any

import pytest

from synthaug.pipeline.config import schema
from synthaug.pipeline.config.load import load_job
from synthaug.pipeline.config.schema import EXECUTION, OUTSIDE, Job, Plan, Report, section_dict
from tests.paths import JOBS

NAMES = [
    "Data",
    "DetectorJob",
    "SelfTrainJob",
    "GeneratorJob",
    "PseudoLabel",
    "Joint",
    "Plan",
    "Synthesize",
    "Verify",
    "Trial",
    "Report",
    "Cluster",
]
OBLIGATORY: dict[str, dict[str, Any]] = {"Data": {"labelled": "toy:train"}}


def numbers() -> list[tuple[str, str, type]]:
    """Return (section, key, type) of every key that is a number."""
    found = []
    for name in NAMES:
        section = vars(schema)[name](**OBLIGATORY.get(name, {}))
        for field in fields(section):
            value = vars(section)[field.name]
            if type(value) in (int, float):
                found.append((name, field.name, type(value)))
    return found


def job_of(*overrides: str, output: str | None = None) -> Job:
    return load_job(JOBS / "base.yaml", overrides, output)


def test_every_section_with_a_range_is_tested() -> None:
    sections = {
        name
        for name, cls in vars(schema).items()
        if isinstance(cls, type) and is_dataclass(cls) and "__post_init__" in vars(cls)
    }
    assert sections - {"Job"} == set(NAMES)


@pytest.mark.parametrize(("section", "key", "kind"), numbers())
def test_a_number_far_below_its_range_is_refused_by_name(
    section: str, key: str, kind: type
) -> None:
    with pytest.raises(ValueError, match=rf"^{key}: -1000000(\.0)? is (out of range|not between)"):
        vars(schema)[section](**OBLIGATORY.get(section, {}), **{key: kind(-(10**6))})


@pytest.mark.parametrize(
    ("section", "values", "message"),
    [
        ("Data", {"labelled": ""}, "labelled: names no data set"),
        ("Data", {"labelled": "a", "validation_fraction": 1.0}, "validation_fraction: 1.0 is not"),
        ("DetectorJob", {"workers": 17}, "workers: 17 is more than the 16 images of a batch"),
        ("DetectorJob", {"keep": "best"}, "keep: 'best' needs more than one measurement"),
        ("DetectorJob", {"repeat_threshold": 1.1}, "repeat_threshold: 1.1 is not between 0 and 1"),
        ("SelfTrainJob", {"thresholds": {"car": 2.0}}, "thresholds.car: 2.0 is not between 0"),
        ("GeneratorJob", {"min_objects": 9}, "min_objects: 9 is more than max_objects 8"),
        ("PseudoLabel", {"precision": 1.0}, "precision: 1.0 is not between 0 and 1, both excluded"),
        ("PseudoLabel", {"scales": (20.0,)}, "scales: 20 is not between 0.1 and 10 times"),
        ("Plan", {"count": 0}, "count: 0 images, as many as are needed, belongs to target"),
        ("Plan", {"target": "counts"}, "counts: class names with numbers of objects belong to"),
        ("Plan", {"counts": {"car": 1}}, "counts: class names with numbers of objects belong to"),
        ("Plan", {"target": "counts", "counts": {"car": -1}}, "counts: -1 objects of 'car' is"),
        ("Verify", {"recall": 1.0}, "recall: 1.0 is not between 0 and 1, both excluded"),
        ("Verify", {"max_failed": 1.5}, "max_failed: 1.5 is not between 0 and 1"),
        ("Trial", {"seeds": 1}, "seeds: 1 training per arm has no spread"),
        ("Trial", {"curve": (1.0,)}, "curve: parts of the synthetic images lie between 0 and 1"),
        ("Trial", {"arms": ("rfs",)}, "arms: 'real' is missing"),
        ("Trial", {"arms": ("real", "rfs", "rfs")}, "arms: an arm is named twice"),
    ],
)
def test_what_does_not_fit_together_is_refused(
    section: str, values: dict[str, Any], message: str
) -> None:
    with pytest.raises(ValueError, match=f"^{re.escape(message)}"):
        vars(schema)[section](**values)


@pytest.mark.parametrize("name", ["", "-a", "a b", "a/b", "x" * 101, "ä"])
def test_a_name_that_is_no_file_name_is_refused(name: str) -> None:
    usual = vars(job_of())
    with pytest.raises(ValueError, match=r"^name: "):
        Job(**{**usual, "name": name})


# ---- What decides results ----


def test_who_works_and_where_is_not_in_the_digest(tmp_path: Path) -> None:
    others = ["cluster.workers=3", "cluster.executor=serial", "synthesize.workers=2"]
    assert job_of(*others, output=str(tmp_path)).sha256() == job_of().sha256()
    assert job_of("data.leaks=report").sha256() == job_of().sha256()


@pytest.mark.parametrize("override", ["seed=1", "name=other", "plan.jitter=0.1", "trial.margin=0"])
def test_what_decides_results_is_in_the_digest(override: str) -> None:
    assert job_of(override).sha256() != job_of().sha256()


def test_a_section_is_without_the_keys_of_execution() -> None:
    for section, keys in EXECUTION.items():
        content = section_dict(job_of(), section)
        assert content and not set(keys) & set(content)


@pytest.mark.parametrize("section", OUTSIDE)
def test_what_is_outside_of_every_section_is_never_hashed(section: str) -> None:
    with pytest.raises(AssertionError, match="decides no step's result"):
        section_dict(job_of(), section)


def test_a_component_is_one_mapping() -> None:
    content = section_dict(job_of("generator.width=32", "generator.batch=4"), "generator")
    assert (content["system"], content["width"], content["batch"]) == ("lostgan", 32, 4)


def test_the_record_of_a_job_is_the_job(tmp_path: Path) -> None:
    title = 'a\u2028b: "c" # no comment'
    plan = Plan(target="counts", counts={"no": 3, "1e3": 4})
    job = replace(job_of(), plan=plan, report=Report(title=title))
    path = tmp_path / "job.yaml"
    path.write_text(job.to_yaml(), "utf-8")
    assert load_job(path) == job
