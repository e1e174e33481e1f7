"""Parts of a data set and data sets joined, as any reference may ask for."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from synthaug.pipeline.core.errors import DatasetError, JobError
from synthaug.pipeline.core.scene import Category, ImageRef, Objects, Scene, SceneList
from synthaug.pipeline.formats.combine import Joined, Part
from synthaug.pipeline.formats.reference import open_dataset


def some(count: int, name: str = "cat") -> SceneList:
    none = Objects.build([], [])
    return SceneList(
        (Category(1, name),), [Scene(str(i), 4, 4, ImageRef(), none) for i in range(count)]
    )


@given(st.integers(1, 60), st.integers(1, 7))
def test_parts_are_disjoint_of_equal_size_and_cover_the_set(count: int, parts: int) -> None:
    tables = [Part(some(count), f"{k}/{parts}") for k in range(1, parts + 1)]
    found = [[table[i].image_id for i in range(len(table))] for table in tables]
    assert sorted(name for part in found for name in part) == sorted(str(i) for i in range(count))
    assert max(map(len, found)) - min(map(len, found)) <= 1


def test_a_part_is_no_simple_prefix_and_has_a_name_of_its_own() -> None:
    half = Part(some(100), "1/2")
    assert [half[i].image_id for i in range(50)] != [str(i) for i in range(50)]
    assert half.fingerprint() != Part(some(100), "2/2").fingerprint()


@pytest.mark.parametrize("text", ["0/2", "3/2", "1", "a/b", "1/0", "-1/2", ""])
def test_what_is_no_part_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="part"):
        Part(some(4), text)


def test_joined_sets_keep_order_and_their_ids_do_not_collide() -> None:
    both = Joined([some(2), some(3)], "data.labelled")
    assert [both[i].image_id for i in range(len(both))] == ["1:0", "1:1", "2:0", "2:1", "2:2"]
    with pytest.raises(IndexError):
        both[5]


def test_sets_of_other_classes_are_not_joined() -> None:
    with pytest.raises(DatasetError, match=r"data\.labelled: data set 2 has other classes"):
        Joined([some(1), some(1, "dog")], "data.labelled")


def test_a_reference_may_join_parts() -> None:
    whole = open_dataset("toy:train?count=10&part=1/2 + toy:train?count=10&part=2/2", Path())
    assert len(whole) == 10
    with pytest.raises(JobError, match="data: option part is '3'"):
        open_dataset("toy:train?count=10&part=3", Path())
