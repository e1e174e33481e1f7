"""load.py: what a job file may say, and the one line a user reads when it says something else."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import FrozenInstanceError, dataclass, fields
from pathlib import Path
from types import ModuleType
from unittest.mock import patch

import pytest
import yaml
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from synthaug.detectors import DETECTORS
from synthaug.generators import GENERATORS
from synthaug.pipeline.config.load import load_job
from synthaug.pipeline.config.schema import DetectorJob, GeneratorJob, Job, section_dict
from synthaug.pipeline.core.errors import JobError
from synthaug.pipeline.scores import SCORES
from tests import paths

REPOSITORY = paths.ROOT
MINIMAL = "data: {labelled: 'toy:train'}\n"
Write = Callable[..., Path]


@dataclass(frozen=True)
class DetectorConfig:
    lr: float = 1e-3
    norm: str = "bn"
    ratios: tuple[float, ...] = (0.5, 1.0)
    nms: bool = True
    flip: bool = True
    masks: bool = False
    weights: str = ""
    backbone: str = ""

    def __post_init__(self) -> None:
        if self.lr <= 0:
            raise ValueError(f"lr: {self.lr} is not positive")


@dataclass(frozen=True)
class GeneratorConfig:
    width: int = 8
    size: tuple[int, int] = (64, 64)

    def __post_init__(self) -> None:
        if self.width > self.size[0]:
            raise ValueError("the width is larger than the image")


@dataclass(frozen=True)
class LoopConfig:
    lr_g: float = 1e-4


@dataclass(frozen=True)
class ScoreConfig:
    max_images: int = 0


@pytest.fixture(autouse=True)
def _components(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Small components in place of those that import torch."""
    configs = {
        "detector": DetectorConfig,
        "generator": GeneratorConfig,
        "score": ScoreConfig,
    }
    for name, config in configs.items():
        module = ModuleType(f"fake_{name}")
        module.Config = config  # type: ignore[attr-defined] # a module made here has no stub
        monkeypatch.setitem(sys.modules, f"fake_{name}", module)
    system = {"CONDITION": "layout", "FILES": {}, "Loop": LoopConfig}
    system |= {"LEARNS": True, "ADDS_ONLY": False, "TWO_STAGE": False}
    system |= {"build": None, "sampler": None, "training": None}
    vars(sys.modules["fake_generator"]).update(system)
    for name in ("build", "load", "check_installed"):
        setattr(sys.modules["fake_detector"], name, None)
    for name in ("extractors", "available", "score"):
        setattr(sys.modules["fake_score"], name, None)
    fakes = (
        (DETECTORS, {"torchvision": "fake_detector"}),
        (GENERATORS, {"lostgan": "fake_generator"}),
        (SCORES, {"dap": "fake_score", "cas": "fake_score"}),
    )
    with ExitStack() as patches:
        for room, content in fakes:
            patches.enter_context(patch.dict(room, content, clear=True))  # keeps its order
        yield


@pytest.fixture
def write(tmp_path: Path) -> Write:
    def write(text: str | bytes, name: str = "x.yaml") -> Path:
        path = tmp_path / name
        path.write_bytes(text.encode() if isinstance(text, str) else text)
        return path

    return write


def message(path: Path, *overrides: str, output: str | None = None) -> str:
    """Return the complaint without the folder; one line by contract."""
    with pytest.raises(JobError) as caught:
        load_job(path, overrides, output)
    text = str(caught.value).replace(f"{path.parent}/", "")
    assert "\n" not in text
    return text


def test_a_minimal_job_gets_every_default(write: Write) -> None:
    job = load_job(write(MINIMAL, "first.yaml"), [], None)
    assert (job.name, job.seed, job.output) == ("first", 0, "runs/first")
    assert DetectorJob() == job.detector.training
    assert GeneratorJob() == job.generator.training
    assert (DetectorConfig(), GeneratorConfig(), LoopConfig()) == (
        job.detector.config,
        job.generator.config,
        job.train_generator,
    )
    assert (job.score.names, job.score.asked, list(job.score.settings)) == (
        ("usual",),
        (),
        list(SCORES),
    )
    with pytest.raises(FrozenInstanceError):
        job.seed = 1  # type: ignore[misc] # that is the test


def test_a_generator_that_lacks_a_part_of_its_contract_is_one_line(
    write: Write, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delattr(sys.modules["fake_generator"], "CONDITION")
    text = message(write(MINIMAL + "generator: {system: lostgan}"))
    assert text.startswith("x.yaml: generator.system: fake_generator lacks CONDITION; ")


def test_one_mapping_feeds_training_and_component(write: Write) -> None:
    path = write(
        MINIMAL
        + "detector: {steps: 7, lr: 1e-4, ratios: [1, 2]}\n"
        + "score: {names: [cas], cas: {max_images: 3}}\n"
    )
    job = load_job(path, [], None)
    assert job.detector.training.steps == 7
    assert DetectorConfig(lr=1e-4, ratios=(1.0, 2.0)) == job.detector.config
    assert {"cas": ScoreConfig(3)} == job.score.settings


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("detector: {stepz: 3}", "x.yaml: detector.stepz: unknown key; did you mean 'steps'?"),
        ("detector: {nmz: true}", "x.yaml: detector.nmz: unknown key; did you mean 'nms'?"),
        (
            "train_generator: {lr_q: 1}",
            "x.yaml: train_generator.lr_q: unknown key; did you mean 'lr_g'?",
        ),
        (
            "score: {dap: {max_image: 1}}",
            "x.yaml: score.dap.max_image: unknown key; did you mean 'max_images'?",
        ),
        (
            "score: {names: [dap], cas: {max_image: 1}}",
            "x.yaml: score.cas.max_image: unknown key; did you mean",
        ),
        ("score: {daq: {}}", "x.yaml: score.daq: unknown key; did you mean 'dap'?"),
        (
            "score: {names: [dab]}",
            "x.yaml: score.names: 'dab' is not one of usual, dap, cas; did you mean 'dap'?",
        ),
        ("score: {names: [dap, dap]}", "x.yaml: score.names: 'dap' is there twice"),
        ("sed: 1", "x.yaml: sed: unknown key; did you mean 'seed'?"),
        ("detector: {backend: yolo}", "x.yaml: detector.backend: 'yolo' is not one of"),
        (
            "generator: {system: lostgam}",
            "x.yaml: generator.system: 'lostgam' is not one of lostgan; did you mean 'lost",
        ),
        (
            "plan: {target: balancd}",
            "x.yaml: plan.target: 'balancd' is not one of natural, sqrt, balanced, counts, "
            "deficit, weak; did you mean 'balanced'?",
        ),
        ("detector: {steps: many}", "x.yaml: detector.steps: 'many' is not an integer"),
        ("detector: {steps: 3.0}", "x.yaml: detector.steps: 3.0 is not an integer"),
        ("detector: {steps: true}", "x.yaml: detector.steps: True is not an integer"),
        ("detector: {steps: 010}", "x.yaml: detector.steps: 010 is not a plain decimal number"),
        ("detector: {steps: 1:30}", "x.yaml: detector.steps: 1:30 is not a plain decimal number"),
        ("seed: " + "9" * 5000, "x.yaml: seed: 999"),
        ("detector: {steps: -1}", "x.yaml: detector.steps: -1 is out of range; give 0 or more"),
        ("detector: {lr: -1}", "x.yaml: detector.lr: -1.0 is not positive"),
        ("detector: {lr: .nan}", "x.yaml: detector.lr: nan is not a number"),
        ("detector: {lr: 1e999}", "x.yaml: detector.lr: inf is not a number"),
        ("detector: {lr: true}", "x.yaml: detector.lr: True is not a number"),
        (
            "detector: {norm: no}",
            "x.yaml: detector.norm: False is not text to YAML; write it in quotes",
        ),
        (
            "detector: {norm: 007}",
            "x.yaml: detector.norm: 007 is not a plain decimal number; write one, or put it in quo",
        ),
        ("detector: {norm: 1e3}", "x.yaml: detector.norm: 1000.0 is not text to YAML"),
        ("detector: {norm: }", "x.yaml: detector.norm: None is not text"),
        ("detector: {nms: 'yes'}", "x.yaml: detector.nms: 'yes' is not true or false"),
        ("detector: {ratios: 2}", "x.yaml: detector.ratios: 2 is not a list"),
        ("detector: {ratios: [1, x]}", "x.yaml: detector.ratios.1: 'x' is not a number"),
        ("generator: {size: [1]}", "x.yaml: generator.size: has 1 entries, not 2"),
        ("generator: {width: 65}", "x.yaml: generator: the width is larger than the image"),
        (
            "generator: {min_objects: 9}",
            "x.yaml: generator.min_objects: 9 is more than max_objects 8",
        ),
        ("plan: 3", "x.yaml: plan: 3 is not a mapping"),
        ("plan: {flip: 1.5}", "x.yaml: plan.flip: 1.5 is not between 0 and 1"),
        ("plan: {counts: {cat: 3}}", "x.yaml: plan.counts: class names with"),
        ("plan: {target: counts}", "x.yaml: plan.counts: class names with"),
        ("plan: {target: counts, counts: {cat: -3}}", "x.yaml: plan.counts: -3 objects of 'cat'"),
        (
            "plan: {target: counts, counts: {cat: many}}",
            "x.yaml: plan.counts.cat: 'many' is not an integer",
        ),
        ("name: a/b", "x.yaml: name: 'a/b' may have only"),
        ("seed: -1", "x.yaml: seed: -1 is out of range; give 0 or more"),
        ("seed:\n  ???", "x.yaml: seed: is still ???; give it a value"),
        (
            "detector: {_target_: os.system}",
            "x.yaml: detector._target_: key '_target_' is reserved: a job file names com",
        ),
        ("hydra: {run: {dir: x}}", "x.yaml: hydra: unknown key"),
        ("seed: 1\nseed: 2", "x.yaml: seed: is written twice (line 3); remove one"),
        ("seed: &a 1\nname: *a", "x.yaml: line 3: YAML aliases are not supported"),
        ("seed: !!python/object/apply:os.getcwd []", "x.yaml: line 2: YAML tags such as"),
        ("seed: " + "[" * 3000, "x.yaml: line 2: is nested more than 20 deep"),
        ("seed: [1", "x.yaml: is not valid YAML: expected ',' or ']'"),
        ("seed: {a: ???}", "x.yaml: "),
        ("? [a, b]\n: 1", "x.yaml: a key must be text (line 2)"),
        ("# @package hydra\nseed: 1", "x.yaml: a '# @package' line is not supported"),
        (
            "name: ${oc.env:HOME}",
            "x.yaml: name: '${oc.env:HOME}' is not allowed; only references to keys are",
        ),
        (r"name: \${oc.env:HOME}", r"x.yaml: name: '\${oc.env:HOME}' is not allowed"),
        (
            "name: '${seed}${oc.env:HOME}'\nseed: 1",
            "x.yaml: name: '${seed}${oc.env:HOME}' is not allowed",
        ),
        ("seed: 1\nname: ${data.${seed}}", "x.yaml: name: '${data.${seed}}' is not allowed"),
        (
            "name: ${plan.count}",
            "x.yaml: name: refers to 'plan.count', which the job file does not write",
        ),
        ("name: ${data}", "x.yaml: name: refers to 'data', which is not a single plain value"),
        ("name: ${name}", "x.yaml: name: refers to 'name', which is not a single plain value"),
        (
            "report: {title: '{oc.env:HOME}'}\nname: $${report.title}",
            "x.yaml: name: '$${report.title}' is not allowed",
        ),
        ("defaults: base", "x.yaml: defaults: must name files of this folder"),
        ("defaults: [_self_, base]", "x.yaml: defaults: must name files of this folder"),
        ("defaults: [../base, _self_]", "x.yaml: defaults: must name files of this folder"),
        (
            "defaults: [{override hydra/launcher: x}, _self_]",
            "x.yaml: defaults: must name files of this folder",
        ),
        ("defaults: [x, _self_]", "x.yaml: inherits from itself through x"),
        ("defaults: [y, _self_]", "y.yaml: no such file; did you mean 'x.yaml'?"),
    ],
)
def test_each_mistake_is_one_line_with_file_and_key(write: Write, text: str, expected: str) -> None:
    assert message(write(f"{MINIMAL}{text}\n")).startswith(expected)


@pytest.mark.parametrize(
    ("override", "expected"),
    [
        (
            "detector.stepz=5",
            "override 'detector.stepz=5': detector.stepz: unknown key; did you mean 'steps'?",
        ),
        ("plan.count=many", "override 'plan.count=many': plan.count: 'many' is not an integer"),
        (
            "plan={count: many}",
            "override 'plan={count: many}': plan.count: 'many' is not an integer",
        ),
        ("nothing", "override 'nothing': is not key=value"),
        ("=3", "override '=3': is not key=value"),
        ("a b=3", "override 'a b=3': is not key=value"),
        ("data@x=3", "override 'data@x=3': is not key=value"),
        (
            "plan.counts.007=3",
            "override 'plan.counts.007=3': is not key=value, such as plan.count=100; put odd keys",
        ),
        ("plan.counts.1e3=3", "override 'plan.counts.1e3=3': is not key=value"),
        ("plan.counts.ü=3", "override 'plan.counts.ü=3': is not key=value"),
        ("+seed=3", "override '+seed=3': write plain key=value, without '+'"),
        ("++seed=3", "override '++seed=3': write plain key=value, without '++'"),
        ("~seed", "override '~seed': write plain key=value, without '~'"),
        ("seed=1,2", "override 'seed=1,2': gives several values"),
        ("seed=range(1,3)", "override 'seed=range(1,3)': a job has plain values, no calls"),
        (
            "score.names=shuffle([dap,cas])",
            "override 'score.names=shuffle([dap,cas])': a job has plain values",
        ),
        (
            "seed=9223372036854775808",
            "override 'seed=9223372036854775808': seed: 9223372036854775808 does not fit",
        ),
        ("name=[", "override 'name=[': cannot be read; put the value in quotes: 'name=\"...\"'"),
        ("name=a\nb", "override 'name=a b': cannot be read"),
        ("name=true", "override 'name=true': name: True is not text"),
        ("seed=" + "9" * 5000, "override 'seed=999"),
        (
            "detector._target_=os.system",
            "override 'detector._target_=os.system': detector._target_: key '_target_' is",
        ),
        (
            "data={_target_: x}",
            "override 'data={_target_: x}': data._target_: key '_target_' is reserved",
        ),
        ("hydra.run.dir=x", "override 'hydra.run.dir=x': hydra: unknown key"),
        ("defaults=[x]", "override 'defaults=[x]': defaults: unknown key"),
        (
            "name=${oc.env:HOME}",
            "override 'name=${oc.env:HOME}': name: '${oc.env:HOME}' is not allowed",
        ),
        (
            r"name=$\{oc.env:HOME\}",
            r"override 'name=$\{oc.env:HOME\}': name: '${oc.env:HOME}' is not allowed",
        ),
        (
            "name='${oc.env:HOME}'",
            "override 'name='${oc.env:HOME}'': name: '${oc.env:HOME}' is not allowed",
        ),
        (
            "plan.counts={true: 3}",
            "override 'plan.counts={true: 3}': plan.counts: the key True is not text",
        ),
        (
            "plan.counts={1e3: 3}",
            "override 'plan.counts={1e3: 3}': plan.counts: the key 1000.0 is not text",
        ),
        ("seed.x=3", "x.yaml: seed: {'x': 3} is not an integer"),
    ],
)
def test_each_wrong_override_is_one_line(write: Write, override: str, expected: str) -> None:
    assert message(write(MINIMAL), override).startswith(expected)


def test_overrides_have_types_and_reach_keys_no_file_mentions(write: Write) -> None:
    overrides = [
        "seed=4",
        "detector.lr=1e-4",
        "detector.nms=false",
        "detector.ratios=[1,2.5]",
        "data.labelled=toy:unlabelled?labels=false",
        "data.validation=coco:b c/a.json?images=x&y=ü",
        "plan.target=counts",
        "plan.counts={no: 3, traffic light: 2}",
        "plan.counts.dining-table=1",
        "report.title='a (b), c'",
        "name=",
    ]
    job = load_job(write(MINIMAL), overrides, None)
    assert job.seed == 4
    assert DetectorConfig(lr=1e-4, nms=False, ratios=(1.0, 2.5)) == job.detector.config
    assert job.data.labelled == "toy:unlabelled?labels=false"
    assert job.data.validation == "coco:b c/a.json?images=x&y=ü"
    assert job.plan.counts == {"no": 3, "traffic light": 2, "dining-table": 1}
    assert (job.report.title, job.name) == ("a (b), c", "x")


@pytest.mark.parametrize(
    "name", ["no", "yes", "on", "1e3", "007", "12_3", "~", "1.5", "1.5e3", "0x1f", "1:30", "null"]
)
def test_class_names_are_never_converted(write: Write, name: str) -> None:
    """A bare name that YAML 1.1 reads as something else is refused.

    In quotes it arrives as it is.
    """
    bare, quoted = (
        MINIMAL + f"plan: {{target: counts, counts: {{{key}: 3}}}}\n" for key in (name, f"'{name}'")
    )
    assert f"plan.counts: YAML does not read the key {name} as text" in message(write(bare))
    job = load_job(write(quoted), [], None)
    assert {name: 3} == job.plan.counts
    assert job == load_job(write(job.to_yaml()), [], None)


@settings(
    max_examples=12, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    name=st.text(st.characters(exclude_categories=["Cs"]), min_size=1).filter(
        lambda t: "${" not in t and t[0] != "_" and t != "???"
    )
)
@example(name="a\x85b")
@example(name="\u2028 1e5")
def test_any_text_survives_the_round_trip(write: Write, name: str) -> None:
    """Keys and values of any text.

    Written with json, which is YAML, read, written with to_yaml, read again.
    """
    data = {"labelled": "toy:train", "root": name}
    plan = {"target": "counts", "counts": {name: 1}}
    job = load_job(
        write(
            yaml.safe_dump({"data": data, "plan": plan}, default_style='"').replace(
                '!!int "1"', "1"
            )
        ),
        [],
    )
    assert (name, {name: 1}) == (job.data.root, job.plan.counts)
    assert job == load_job(write(job.to_yaml()), [])


def test_to_yaml_round_trips_and_is_readable_yaml(write: Write) -> None:
    job = load_job(write(MINIMAL), ["detector.lr=1e-5", "score.names=[cas]", "name=n"], "out/here")
    again = load_job(write(job.to_yaml(), "job.yaml"), [], None)
    assert job == again
    assert job.sha256() == again.sha256()
    assert [f.name for f in fields(Job)] == list(yaml.safe_load(job.to_yaml()))


def test_sha256_follows_the_results_not_comments_output_or_workers(write: Write) -> None:
    path = write(MINIMAL)
    plain = load_job(path, [], None).sha256()
    assert plain == load_job(write("# why\n\n" + MINIMAL + "seed: 0  # zero\n"), [], None).sha256()
    assert (
        plain
        == load_job(
            path, ["cluster.workers=7", "synthesize.workers=3", "cluster.executor=serial"], "o"
        ).sha256()
    )
    for change in (
        "seed=1",
        "plan.count=5",
        "detector.lr=0.5",
        "train_generator.lr_g=0.5",
        "name=other",
    ):
        assert plain != load_job(path, [change], None).sha256(), change


def test_section_dict_is_json_without_who_does_the_work(write: Write) -> None:
    job = load_job(write(MINIMAL), ["detector.lr=0.5"], None)
    detector = section_dict(job, "detector")
    assert (detector["lr"], detector["steps"], detector["ratios"]) == (0.5, 0, [0.5, 1.0])
    own = {"names": ["usual"], "detector": "", "weights": "", "size": "source"}
    own["layouts"] = "validation"
    assert own | {name: {"max_images": 0} for name in SCORES} == section_dict(job, "score")
    assert "workers" not in section_dict(job, "synthesize")
    assert json.loads(json.dumps(section_dict(job, "train_generator"))) == {"lr_g": 1e-4}
    with pytest.raises(AssertionError):
        section_dict(job, "cluster")


def test_output_flag_beats_the_key_and_the_key_beats_the_default(write: Write) -> None:
    path = write(MINIMAL + "output: here\n")
    assert load_job(path, [], None).output == "here"
    assert load_job(path, ["output=elsewhere"], "there").output == "there"
    assert "--output: output: '${oc.env:HOME}' is not allowed" in message(
        path, output="${oc.env:HOME}"
    )


def test_children_win_over_what_they_inherit_and_errors_name_the_file_that_wrote_the_key(
    write: Write,
) -> None:
    write(MINIMAL + "seed: 1\ndetector: {steps: 5, batch: 2}\n", "base.yaml")
    write("defaults: [base, _self_]\ndetector: {batch: 3}\n", "middle.yaml")
    path = write(
        "defaults: [middle, _self_]\nseed: 2\nreport: {title: 'run ${seed} on ${data.labelled}'}\n",
        "my job.yaml",
    )
    job = load_job(path, ["name=n"], None)
    assert (job.seed, job.detector.training.steps, job.detector.training.batch) == (2, 5, 3)
    assert job.report.title == "run 2 on toy:train"
    write(MINIMAL + "detector: {stepz: 5}\n", "base.yaml")
    assert message(path).startswith("base.yaml: detector.stepz: unknown key")
    write("defaults: [child, _self_]\n", "base.yaml")
    assert "inherits from itself" in message(write("defaults: [base, _self_]\n", "child.yaml"))


def test_a_reference_keeps_the_type_of_what_it_copies(write: Write) -> None:
    job = load_job(
        write(MINIMAL + "seed: 3\ndetector: {steps: '${seed}'}\n"),
        ["generator.steps=${seed}"],
        None,
    )
    assert (job.detector.training.steps, job.generator.training.steps) == (3, 3)


def test_a_section_without_keys_is_its_defaults(write: Write) -> None:
    assert load_job(write(MINIMAL + "plan:\n  # count: 3\n"), [], None).plan.count == 1000


def test_a_list_in_place_of_a_section_is_named(write: Write) -> None:
    told = message(write(MINIMAL + "detector: [3, 2]\n"))
    assert told == "x.yaml: detector: is a list; no section or key of a job is one"


def test_files_that_are_no_job_files(write: Write, tmp_path: Path) -> None:
    write(MINIMAL, "smoke.yaml")
    assert message(tmp_path / "smok.yaml") == "smok.yaml: no such file; did you mean 'smoke.yaml'?"
    assert message(tmp_path / "absent" / "x.yaml").startswith("x.yaml: no such file")
    assert message(write(MINIMAL, "x.yml")).startswith("x.yml: a job file ends in .yaml")
    assert message(write(b"name: \xff\n")).startswith("x.yaml: is not UTF-8 text (byte 6)")
    assert message(write("a\0b")).startswith("x.yaml: is not valid YAML")
    assert message(write("- a\n")).startswith("x.yaml: must hold keys with values")
    assert message(write("#" * 1_000_001)).startswith("x.yaml: is larger than 1000000 bytes")
    told = message(write("seed: 1\nname: " + "A" * 1_000_001))
    assert told.endswith("its longest line is 2, 'name': shorten it")
    assert message(write("")).startswith("x.yaml: data.labelled: is missing; give it a value")


def test_a_folder_with_odd_characters_and_no_traces(
    write: Write, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "a b,c=d%20#é"
    folder.mkdir()
    monkeypatch.chdir(folder)
    write(MINIMAL, f"{folder.name}/j.yaml")
    assert load_job(Path("j.yaml"), ["seed=1"], None).name == "j"
    assert [p.name for p in folder.iterdir()] == ["j.yaml"]


def test_a_component_whose_library_is_absent_is_named(
    write: Write, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(DETECTORS, "other", "no_such_library.module")
    expected = (
        "override 'detector.backend=other': detector.backend: needs the library 'no_such_library'"
    )
    assert message(write(MINIMAL), "detector.backend=other").startswith(expected)


def test_importing_job_imports_nothing_heavy() -> None:
    heavy = "('torch', 'hydra', 'ray', 'cv2')"
    code = (
        f"import sys, synthaug.pipeline.config.load; print([m for m in {heavy} if m in "
        "sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=REPOSITORY, capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "[]"
