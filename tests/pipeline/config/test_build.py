"""Plain data becomes a Job: names, chosen components and the keys that belong to them."""

from __future__ import annotations

import sys
from dataclasses import make_dataclass
from types import ModuleType
from typing import Any
from unittest.mock import patch

import pytest

from synthaug.detectors import DETECTORS
from synthaug.generators import GENERATORS
from synthaug.generators.spade import Config as Spade
from synthaug.generators.training import adversarial
from synthaug.pipeline.config.build import FaultError, build, loop_config
from synthaug.pipeline.config.schema import Job, NoTraining
from synthaug.pipeline.core.errors import JobError
from synthaug.pipeline.scores import SCORES, USUAL


def job_of(**sections: Any) -> Job:
    return build({"data": {"labelled": "toy:train"}, **sections}, "mine")


def fault(**sections: Any) -> str:
    with pytest.raises(FaultError) as error:
        job_of(**sections)
    return str(error.value)


def test_a_job_is_called_like_its_file_and_goes_to_runs() -> None:
    assert (job_of().name, job_of().output) == ("mine", "runs/mine")
    assert job_of(name="other").output == "runs/other"
    assert job_of(name="", output="").name == "mine"


def test_each_half_of_a_component_gets_its_keys() -> None:
    job = job_of(generator={"system": "spade", "width": 8, "batch": 4})
    assert job.generator.config == Spade(width=8)
    assert job.generator.training.batch == 4


def test_keys_of_another_system_do_not_concern_this_one() -> None:
    """A job may inherit from one that chose another system."""
    assert job_of(generator={"system": "spade", "z_image": 8}).generator.config == Spade()


def test_a_key_of_no_system_is_refused() -> None:
    message = "generator.z_imag: unknown key; did you mean "
    assert fault(generator={"system": "lostgan", "z_imag": 8}).startswith(message)


def test_a_system_chooses_the_keys_of_its_training() -> None:
    learns = job_of(generator={"system": "spade"}, train_generator={"lr_d": 0.1})
    assert learns.train_generator == adversarial.Config(lr_d=0.1)
    assert loop_config("boxes") is NoTraining
    assert job_of(generator={"system": "boxes"}).train_generator == NoTraining()


def test_keys_of_another_training_do_not_concern_a_system_that_is_not_trained() -> None:
    job = job_of(generator={"system": "boxes"}, train_generator={"lr_d": 0.1})
    assert job.train_generator == NoTraining()


def test_a_key_of_no_training_is_refused() -> None:
    assert fault(train_generator={"lr_x": 1}).startswith("train_generator.lr_x: unknown key")
    boxes = {"system": "boxes"}
    assert fault(generator=boxes, train_generator={"lr_x": 1}).startswith("train_generator.lr_x")


def test_the_usual_scores_stand_in_the_order_of_the_house() -> None:
    assert tuple(job_of().score.settings) == USUAL
    chosen = job_of(score={"names": ["fid", "usual"]}).score
    in_order = tuple(name for name in SCORES if name in (*USUAL, "fid"))
    assert tuple(chosen.settings) == in_order
    assert chosen.asked == ("fid",)


def test_settings_of_a_score_that_is_not_measured_are_checked_too() -> None:
    message = "score.fid.train_image: unknown key; did you mean 'train_images'?"
    assert fault(score={"fid": {"train_image": 3}}) == message
    assert "fid" not in job_of(score={"fid": {"train_images": 3}}).score.settings


@pytest.mark.parametrize(
    ("sections", "message"),
    [
        ({"plan": 3}, "plan: 3 is not a mapping of keys to values"),
        ({"plan": {1: 2}}, "plan: the key 1 is not text; write it in quotes"),
        ({"plan": {"count": "???"}}, "plan.count: is still ???; give it a value"),
        ({"plan": {"count": 1.5}}, "plan.count: 1.5 is not an integer"),
        ({"plan": {"count": 2**63}}, "plan.count: 9223372036854775808 does not fit into 64 bits"),
        ({"plan": {"jitter": True}}, "plan.jitter: True is not a number"),
        ({"plan": {"jitter": "nan"}}, "plan.jitter: 'nan' is not a number"),
        ({"export": {"images": 1}}, "export.images: 1 is not true or false"),
        ({"report": {"title": 3}}, "report.title: 3 is not text to YAML; write it in quotes"),
        ({"trial": {"arms": "real"}}, "trial.arms: 'real' is not a list; write it in [ ]"),
        ({"plan": {"target": "equal"}}, "plan.target: 'equal' is not one of natural, sqrt, "),
        ({"score": {"names": ["dap", "dap"]}}, "score.names: 'dap' is there twice"),
        ({"train_generator": {"beta1": []}}, "train_generator.beta1: [] is not a number"),
        ({"detector": {"milestones": [0.5, "x"]}}, "detector.milestones.1: 'x' is not a number"),
    ],
)
def test_a_value_of_another_type_is_refused_with_its_key(
    sections: dict[str, Any], message: str
) -> None:
    assert fault(**sections).startswith(message)


def test_parts_of_a_batch_must_be_equal() -> None:
    message = "train_generator.accumulate: 3 parts for each of 2 workers"
    assert fault(train_generator={"accumulate": 3}, generator={"workers": 2}).startswith(message)
    job_of(train_generator={"accumulate": 4}, generator={"workers": 2})


# ---- Components that are not complete ----


@pytest.fixture
def bare(monkeypatch: pytest.MonkeyPatch) -> str:
    """The path of a module that defines nothing."""
    monkeypatch.setitem(sys.modules, "bare_component", ModuleType("bare_component"))
    return "bare_component"


def test_a_detector_without_its_parts_is_told_in_one_line(bare: str) -> None:
    with patch.dict(DETECTORS, {"new": bare}):
        message = fault(detector={"backend": "new"})
    assert message == (
        "detector.backend: bare_component lacks Config, build, load, check_installed; "
        "detectors/__init__.py says what it has"
    )


def test_a_detector_without_a_key_that_is_asked_of_it_is_told_in_one_line(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    module = ModuleType("forgetful")
    config = make_dataclass("Config", [("flip", bool, True)], frozen=True)
    vars(module).update({"Config": config, "build": None, "load": None, "check_installed": None})
    monkeypatch.setitem(sys.modules, "forgetful", module)
    with patch.dict(DETECTORS, {"new": "forgetful"}):
        message = fault(detector={"backend": "new"})
    assert message == (
        "detector.backend: forgetful lacks Config.backbone, Config.masks, Config.weights; "
        "detectors/__init__.py says what it has"
    )


def component(monkeypatch: pytest.MonkeyPatch, config: type, **parts: Any) -> str:
    """Return the path of a generator with this Config."""
    usual = {"CONDITION": "edit", "LEARNS": False, "ADDS_ONLY": True, "TWO_STAGE": False}
    module = ModuleType("new_generator")
    vars(module).update({**usual, "FILES": {}, "build": None, "sampler": None, **parts})
    vars(module)["Config"] = config
    monkeypatch.setitem(sys.modules, "new_generator", module)
    return "new_generator"


def test_settings_that_are_no_dataclass_are_told_in_one_line(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    plain = type("Plain", (), {"__module__": "new_generator"})
    good = make_dataclass("Config", [("shade", int, 1)], frozen=True)
    message = "generator.system: new_generator.Plain is no dataclass; make it a frozen one"
    learning = {"LEARNS": True, "Loop": plain, "training": None}
    for config, parts in ((plain, {}), (good, learning)):
        path = component(monkeypatch, config, **parts)
        with patch.dict(GENERATORS, {"new": path}):
            assert message == fault(generator={"system": "new"})


def test_a_key_that_the_section_has_already_is_told_in_one_line(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    config = make_dataclass("Config", [("steps", int, 1), ("shade", int, 1)], frozen=True)
    path = component(monkeypatch, config)
    with patch.dict(GENERATORS, {"new": path}):
        message = fault(generator={"system": "new"})
    assert message.startswith("generator.system: new_generator.Config has steps, which section ")
    assert message.endswith("rename it there")


def test_a_generator_without_its_parts_is_told_in_one_line(bare: str) -> None:
    with patch.dict(GENERATORS, {"new": bare}):
        message = fault(generator={"system": "new"})
    assert message.startswith("generator.system: bare_component lacks CONDITION, LEARNS, ")
    assert "\n" not in message


def test_a_score_without_its_parts_is_told_in_one_line(bare: str) -> None:
    with patch.dict(SCORES, {"new": bare}), pytest.raises(JobError) as error:
        job_of(score={"names": ["new"]})
    assert str(error.value).startswith("score.names: bare_component lacks Config, ")


@pytest.mark.parametrize(
    ("room", "sections", "key"),
    [
        (DETECTORS, {"detector": {"backend": "new"}}, "detector.backend"),
        (GENERATORS, {"generator": {"system": "new"}}, "generator.system"),
        (SCORES, {"score": {"names": ["new"]}}, "score.names"),
    ],
)
def test_a_component_whose_library_is_absent_is_told_by_the_library(
    room: dict[str, str], sections: dict[str, Any], key: str
) -> None:
    with patch.dict(room, {"new": "no_such_library.part"}):
        message = fault(**sections)
    assert (
        message == f"{key}: needs the library 'no_such_library', which is not installed; install it"
    )
