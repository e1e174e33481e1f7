"""What the two links of verification say: figures, advice, and of which classes."""

from __future__ import annotations

from typing import Any

import pytest

from synthaug.pipeline.verification.links import generator_link, links, verification_link
from synthaug.pipeline.verification.policy import NOT_JUDGED
from synthaug.pipeline.verification.verdicts import FAILED, KEPT, MISSING, SWAPPED

NO_ERRORS: dict[str, Any] = {"true": {}, "planted": {}}
GOOD: dict[str, Any] = {
    "true": {"cat": {KEPT: 9, MISSING: 1}},
    "planted": {SWAPPED: {"planted": 9, "accepted": 0}},
}


def recognised(
    made: tuple[int, int], real: tuple[int, int] = (90, 100), chance: tuple[int, int] = (10, 100)
) -> dict[str, Any]:
    return {"recognised": {"made": made, "real": real, "chance": chance}}


def verified(judges: dict[str, str], found: dict[str, Any] = NO_ERRORS) -> dict[str, Any]:
    """Return a manifest with one kept object of each class."""
    manifest: dict[str, Any] = {key: {} for key in (*FAILED, NOT_JUDGED)}
    manifest[KEPT] = dict.fromkeys(judges, 1)
    manifest["things"] = list(judges)
    manifest["bars"] = {name: {"judge": judge} for name, judge in judges.items()}
    manifest["errors"] = found
    return manifest


def test_a_weak_generator_is_told_with_its_bound_and_keys() -> None:
    """Chance 10 %, real 90 %: a quarter of the way between them is 30 %."""
    link = generator_link(recognised((50, 200)))
    assert "25 % of 200 synthetic objects are recognised, 90 % of real ones" in link.figure
    assert "at least 30 % must be, with certainty" in link.figure
    for key in ("generator.steps", "generator.system"):
        assert key in link.advice


def test_few_objects_are_not_certain_enough() -> None:
    states = [generator_link(recognised((total // 2, total))).state for total in (4, 400)]
    assert ["weak", "ok"] == states


@pytest.mark.parametrize("chance", [(0, 0), (0, 100)])
def test_without_chance_the_bound_is_a_quarter_of_real_ones(chance: tuple[int, int]) -> None:
    assert "0 % by chance" in generator_link(recognised((50, 100), chance=chance)).figure
    weak = generator_link(recognised((20, 100), chance=chance))
    assert "at least 22 %" in weak.figure


def test_classes_without_a_judge_are_named_and_none_at_all_has_advice() -> None:
    some = verification_link(verified({"cat": "detector", "dog": ""}, GOOD))
    assert some.figure.startswith("1 of 2 classes are judged (not dog)")
    assert "ok" == some.state
    none = verification_link(verified({"cat": "", "dog": ""}))
    assert "no class has a judge" in none.figure
    assert "verify.detector" in none.advice


def test_a_class_of_which_nothing_was_made_does_not_count() -> None:
    manifest = verified({"cat": "detector", "dog": ""}, GOOD)
    manifest[KEPT] = {"cat": 3}
    assert verification_link(manifest).figure.startswith("1 of 1 classes are judged;")
    manifest[NOT_JUDGED] = {"dog": 1}
    assert "(not dog)" in verification_link(manifest).figure


def test_a_manifest_of_an_earlier_version_has_no_links() -> None:
    assert [] == links({"enabled": True})
    off = links({"enabled": False})
    assert ["generator", "verification"] == [link.name for link in off]
    assert {"untested"} == {link.state for link in off}
