"""Old names of job keys.

Accepted with a warning, told apart from the new ones, refused beside them.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from synthaug.pipeline.config.load import load_job
from synthaug.pipeline.config.renamed import RENAMED
from synthaug.pipeline.config.schema import Job
from synthaug.pipeline.core.errors import JobError
from tests.paths import JOBS

TOY = "data: {labelled: toy:train}\n"


def load(folder: Path, text: str, *overrides: str) -> tuple[Job, list[str]]:
    """Return the job of a file that inherits nothing, and its warnings."""
    path = folder / "mine.yaml"
    path.write_text(TOY + text)
    warnings: list[str] = []
    return load_job(path, overrides, warn=warnings.append), warnings


@pytest.mark.parametrize(
    ("old", "value"),
    [
        ("verify.judge", "a.safetensors"),
        ("score.judge", "a.safetensors"),
        ("detector.bf16", "true"),
        ("detector.colour_jitter", "0.25"),
        ("self_train.strong.colour", "0.25"),
        ("self_train.strong.grey", "0.25"),
        ("generator.normalisation", "spade"),
        ("score.detector_features.neighbours", "7"),
        ("score.prdc.neighbours", "7"),
    ],
)
def test_an_old_name_says_the_same_as_the_new_one(tmp_path: Path, old: str, value: str) -> None:
    chosen = ("score.names=[detector_features,prdc]",)
    new_value = "bfloat16" if old == "detector.bf16" else value
    new, quiet = load(tmp_path, "", f"{RENAMED[old]}={new_value}", *chosen)
    job, warnings = load(tmp_path, "", f"{old}={value}", *chosen)
    assert job == new != load(tmp_path, "", *chosen)[0]
    assert quiet == []
    assert warnings == [
        f"override '{old}={value}': {old} is now called {RENAMED[old]}; "
        "the old name is accepted in this version only"
    ]


def test_every_renamed_key_is_tested_above() -> None:
    test = test_an_old_name_says_the_same_as_the_new_one
    (mark,) = test.pytestmark  # type: ignore[attr-defined]
    assert [old for old, _ in mark.args[1]] == list(RENAMED)


def test_the_file_is_named_in_the_warning(tmp_path: Path) -> None:
    job, warnings = load(tmp_path, "verify: {judge: a.safetensors}\n")
    assert job.verify.detector == "a.safetensors"
    assert warnings[0].startswith(f"{tmp_path}/mine.yaml: verify.judge is now called")


def test_both_names_in_one_file_are_an_error(tmp_path: Path) -> None:
    with pytest.raises(JobError, match=r"mine\.yaml: verify\.judge: is the old name of verify\.de"):
        load(tmp_path, "verify: {judge: a.safetensors, detector: b.safetensors}\n")


def test_both_names_on_the_command_line_are_an_error(tmp_path: Path) -> None:
    with pytest.raises(JobError, match=r"^override 'score\.judge=a': score\.judge: is the old"):
        load(tmp_path, "", "score.detector=b", "score.judge=a")


@pytest.mark.parametrize("in_file", ["judge", "detector"])
def test_the_command_line_beats_the_file_whichever_name_each_uses(
    tmp_path: Path, in_file: str
) -> None:
    on_the_line = {"judge": "detector", "detector": "judge"}[in_file]
    text = f"verify: {{{in_file}: file.safetensors}}\n"
    job, warnings = load(tmp_path, text, f"verify.{on_the_line}=line.safetensors")
    assert job.verify.detector == "line.safetensors"
    assert len(warnings) == 1


def test_an_old_name_beats_the_default_that_base_yaml_writes(tmp_path: Path) -> None:
    (tmp_path / "base.yaml").write_text((JOBS / "base.yaml").read_text())
    path = tmp_path / "mine.yaml"
    path.write_text("defaults: [base, _self_]\nverify: {judge: a.safetensors}\n")
    assert load_job(path, warn=lambda _: None).verify.detector == "a.safetensors"


def test_a_mapping_on_the_command_line_may_have_an_old_name(tmp_path: Path) -> None:
    job, warnings = load(tmp_path, "", "verify={judge: a.safetensors}")
    assert job.verify.detector == "a.safetensors"
    assert warnings[0].startswith("override 'verify={judge: a.safetensors}'")
