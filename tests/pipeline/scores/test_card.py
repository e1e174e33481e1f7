"""Metric cards: plain JSON, every key, and the caller's entries last."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from typing import ClassVar

import numpy as np
import pytest

from synthaug.pipeline.core.scene import Category, ImageRef, Objects, Scene, SceneList
from synthaug.pipeline.scores.base import Extractor
from synthaug.pipeline.scores.card import (
    CARD,
    Metric,
    comparability,
    deviations,
    file_formats,
    full_card,
    metric_of,
    versions,
)
from tests.score_inputs import score_inputs


@dataclass(frozen=True)
class Nothing(Extractor):
    name: ClassVar[str] = "nothing"


def table(count: int, path: str | None) -> SceneList:
    scenes = [
        Scene(f"r{i}", 8, 8, ImageRef(None, path), Objects.build([], [])) for i in range(count)
    ]
    return SceneList((Category(1, "cat"),), scenes)


def test_numpy_becomes_plain_and_what_is_not_finite_becomes_none() -> None:
    metric = Metric(
        "x",
        float("nan"),
        {"a": np.float32(0.5), "b": np.inf},
        {"cat": {"n": np.int64(3)}},
        {"pair": (1, np.nan), 5: np.arange(2), "none": None},
    )
    assert metric.value is None
    assert metric.values == {"a": 0.5, "b": None}
    assert metric.card == {"pair": [1, None], "5": [0, 1], "none": None}
    record = metric.to_json()
    assert json.loads(json.dumps(record, allow_nan=False)) == record
    assert type(record["per_class"]["cat"]["n"]) is int


def test_an_object_that_json_does_not_know_is_a_fault_of_ours() -> None:
    with pytest.raises(AssertionError, match="a card holds no set"):
        Metric("x", 1.0, card={"classes": {1, 2}})


def test_a_card_has_every_key_and_the_callers_entries_win() -> None:
    tables = {"real": table(3, "a/b.JPG"), "synthetic": table(3, None), "train": table(2, "t.png")}
    inputs = score_inputs(tables, seed=7, card_entries={"protocol": "theirs", "generator": "g"})
    card = full_card(
        inputs,
        Nothing(limit=2),
        protocol="ours",
        headline_key="x",
        splits="ten",
    )
    assert set(CARD) <= set(card)
    assert (card["protocol"], card["generator"], card["splits"]) == ("theirs", "g", "ten")
    assert card["seed"] == 7
    assert card["images"] == {"real": 2, "synthetic": 2}
    assert card["selection"] == "the first 2 layouts and their synthetic images"
    assert full_card(inputs, Nothing(), protocol="", headline_key="")["images"] == {
        "real": 3,
        "synthetic": 3,
    }


def test_a_card_without_a_protocol_is_a_fault_of_ours() -> None:
    inputs = score_inputs({"real": table(1, None), "synthetic": table(1, None)})
    with pytest.raises(AssertionError, match="the card has no"):
        full_card(inputs, Nothing(), headline_key="x")


def test_the_file_format_is_that_of_the_first_image() -> None:
    tables = {"real": table(1, "a/b.JPG"), "synthetic": table(1, None)}
    inputs = score_inputs(tables)
    assert file_formats(inputs) == {"real": "jpg", "synthetic": "unknown"}
    empty = replace(inputs, tables={"real": table(0, None)})
    assert file_formats(empty) == {"real": "unknown"}


def test_a_library_that_is_not_installed_has_no_version() -> None:
    found = versions("numpy", "no-such-library")
    assert found == {"numpy": np.__version__}


@dataclass(frozen=True)
class Inner:
    side: int = 8


@dataclass(frozen=True)
class Settings:
    width: int = 4
    names: tuple[str, ...] = ()
    file: str = ""
    steps: int = 10
    inner: Inner = Inner()


def test_every_setting_that_is_not_the_published_one_is_told() -> None:
    assert [] == deviations("x", Settings(), Settings(), ())
    ours = Settings(width=2, names=("a", "b"), file="f", steps=1, inner=Inner(16))
    assert [
        "x.width 2 instead of 4",
        "x.names a, b instead of none",
        "x.file f instead of none",
        "x.inner.side 16 instead of 8",
    ] == deviations("x", ours, Settings(), ("steps",))


def test_a_number_compares_only_with_those_of_its_settings() -> None:
    assert "the settings of the paper" == comparability([], "the paper")
    assert "not comparable with the paper: a; b" == comparability(["a", "b"], "the paper")


def test_a_metric_has_its_headline_from_its_values_and_names_it_in_its_card() -> None:
    inputs = score_inputs({"real": table(1, None), "synthetic": table(1, None)})
    metric = metric_of(
        inputs,
        Nothing(),
        name="two",
        headline="second",
        values={"first": 1.0, "second": 2.0},
        controls={"real": {"second": 3.0}},
        protocol="counted",
    )
    assert (metric.name, metric.value) == ("two", 2.0)
    assert metric.card["headline_key"] == "second"
    assert metric.card["protocol"] == "counted"
    assert metric.controls == {"real": {"second": 3.0}}
