"""The card of an export.

Valid front matter, names that cannot break out, and nothing claimed that is not known.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from typing import Any

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from synthaug.pipeline.core.scene import Category
from synthaug.pipeline.report.dataset_card import Facts, RunFacts, SetCounts, card, plain
from tests.hard_scenes import CATEGORIES

METRICS: dict[str, Any] = {
    "job": "a|job",
    "job_sha256": "ab",
    "synthetic": {"images": 5, "dropped": {"no": 2}},
    "versions": {"torch": "2"},
    "scores": {
        "dap": {
            "value": 0.5,
            "values": {"AP": 0.25, "AP50": 0.5},
            "controls": {"real": {"AP": 0.3, "AP50": 0.75}},
            "card": {
                "headline_key": "AP50",
                "protocol": "as | written",
                "generator_sha256": "cd",
                "images": 3,
                "list": [1],
            },
        }
    },
}


def facts(**changes: Any) -> Facts:
    sets = [
        SetCounts("train", "real", 4, Counter({(0, "human"): 3}), 1),
        SetCounts("train", "synthetic", 5, Counter({(1, "synthetic"): 7}), index=[2, 1, 0, 3]),
    ]
    base = Facts("job", "coco", CATEGORIES, sets, {"masks": 3, "none": 0}, {"empty box": 2}, "1")
    return replace(base, **changes)


def front(text: str) -> dict[str, Any]:
    head, rest = text.removeprefix("---\n").split("\n---\n", 1)
    assert rest
    return dict(yaml.safe_load(head))


def test_the_front_matter_says_how_to_open_it_and_leaves_the_licence_open() -> None:
    text = card(facts(data_files=[("train", "data/train-*")], run=RunFacts(METRICS, 3)))
    head = front(text)
    assert "license" not in head
    assert "# license:" in text
    assert head["task_categories"] == ["object-detection"]
    assert head["size_categories"] == ["n<1K"]
    assert head["configs"][0]["data_files"] == [{"split": "train", "path": "data/train-*"}]


def test_counts_are_by_class_and_source_of_the_export() -> None:
    lines = card(facts()).splitlines()
    assert "| train | real | 4 | 3 | 1 |" in lines
    row = next(line for line in lines if line.startswith("| 2 | no "))
    assert row.endswith("| 3 | 0 |")
    other = next(line for line in lines if line.startswith("| 5 | "))
    assert other.endswith("| 0 | 7 |")
    assert any("masks: 3" in line for line in lines)
    assert not any("none: 0" in line for line in lines)
    assert any("empty box: 2" in line for line in lines)


def test_a_run_tells_its_scores_with_their_controls_and_says_what_is_not_known() -> None:
    text = card(facts(run=RunFacts(METRICS, 3)))
    assert "**DAP** 0.500 (real 0.750)" in text
    assert "protocol: as \\| written" in text
    assert "No trial was run" in text
    assert "No detector checked" in text
    assert "sha256 `cd`" in text
    verified = METRICS | {
        "scores_unavailable": {"fid": "no weights"},
        "trial": {"says": ["synthetic: cannot tell"]},
        "verified": {
            "enabled": True,
            "images": {"verified": 4, "failed": 1},
            "kept": {"no": 5},
            "objects": {"no": 9},
            "missing": {"no": 2},
            "judge": {"steps": 3},
            "errors": {"no": {"rejects": 0.1}},
        },
    }
    told = card(facts(run=RunFacts(verified, 3)))
    assert "synthetic: cannot tell" in told
    assert "| kept | 5 |" in told
    assert "| missing | 2 |" in told
    assert "| 9 |" not in told
    assert "| failed | 1 |" in told
    assert "No trial" not in told
    assert "FID was not measured: no weights" in told
    assert "steps" not in told.split("## What it is known")[0].split("looked for every")[1]


@pytest.mark.parametrize(
    "name", ["a|b", "<script>", "x`y`", "# a", "[a](b)", "&amp;", "\ud800", "a\nb", "1. a", "- a"]
)
def test_a_name_stays_text(name: str) -> None:
    shown = plain(name)
    assert "\n" not in shown
    assert "<" not in shown
    assert "|" not in shown.replace("\\|", "")
    assert "`" not in shown.replace("\\`", "")
    text = card(facts(categories=(Category(1, name), *CATEGORIES[1:]), title=name))
    text.encode()
    assert front(text)["pretty_name"] == name.encode("utf-8", "replace").decode()


@settings(max_examples=40)
@given(st.text(max_size=30))
def test_any_title_gives_valid_front_matter(title: str) -> None:
    assert (
        front(card(facts(title=title)))["pretty_name"] == title.encode("utf-8", "replace").decode()
    )
