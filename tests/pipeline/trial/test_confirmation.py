"""Images are fresh once: the ledger of a run remembers what was confirmed on which."""

from __future__ import annotations

from dataclasses import asdict, replace
from pathlib import Path

from synthaug.pipeline.core.storage import Folder
from synthaug.pipeline.trial.confirmation import Use, ledger_lines, read_ledger, remember
from synthaug.pipeline.trial.stages import CONFIRMATION, SCREENING

USE = Use("images-1", "synthetic", ("a", "b"), 16)


def test_a_first_confirmation_has_none_before_it_and_the_same_one_stays_the_first(
    tmp_path: Path,
) -> None:
    folder = Folder.at(tmp_path)
    assert read_ledger(folder) == []
    assert remember(folder, USE) == []
    assert remember(folder, USE) == []
    assert read_ledger(folder) == [USE]


def test_another_recipe_or_more_seeds_on_the_same_images_are_further_uses(tmp_path: Path) -> None:
    folder = Folder.at(tmp_path)
    other = replace(USE, recipe="verified", arms=("a", "c"))
    more = replace(USE, seeds=32)
    remember(folder, USE)
    assert remember(folder, other) == [USE]
    assert remember(folder, more) == [USE, other]
    assert remember(folder, USE) == [], "what came later does not spoil it"
    assert len(read_ledger(folder)) == 3


def test_other_images_are_fresh(tmp_path: Path) -> None:
    folder = Folder.at(tmp_path)
    remember(folder, USE)
    assert remember(folder, replace(USE, images="images-2")) == []


def test_a_line_says_how_often_the_images_were_used() -> None:
    assert ledger_lines([]) == []
    (once,) = ledger_lines([asdict(USE)])
    assert "used to confirm once before (synthetic)" in once
    (thrice,) = ledger_lines([asdict(USE), asdict(USE), asdict(replace(USE, recipe="verified"))])
    assert "3 times before (synthetic, verified)" in thrice
    assert "no longer those of fresh images" in thrice


def test_no_seed_of_one_stage_is_one_of_the_other() -> None:
    screening = {SCREENING.seed(7, number) for number in range(50)}
    confirmation = {CONFIRMATION.seed(7, number) for number in range(50)}
    assert len(screening) == len(confirmation) == 50
    assert not screening & confirmation
    assert not screening & {SCREENING.seed(8, number) for number in range(50)}
