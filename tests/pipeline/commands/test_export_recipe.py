"""The recipe beside an export: weights that make the added sets fill their share."""

from __future__ import annotations

import pytest

from synthaug.pipeline.commands.export_recipe import recipe_record
from tests.trial_runs import whole_trial


def test_weights_make_added_sets_fill_their_share() -> None:
    trial = {"seeds": 0, "recipe_keys": {"share": 0.4, "added_boxes": "agreed"}}
    images = {"real": 30, "pseudo": 10, "synthetic": 100}
    record = recipe_record({"trial": trial}, images)
    drawn = {name: count * record["weights"][name] for name, count in images.items()}
    total = sum(drawn.values())
    assert drawn["real"] / total == pytest.approx(0.6, rel=1e-4)
    assert drawn["pseudo"] / total == pytest.approx(0.2, rel=1e-4)
    assert drawn["synthetic"] / total == pytest.approx(0.2, rel=1e-4)
    assert "agreed" == record["recipe"]["added_boxes"]


@pytest.mark.parametrize("images", [{"real": 5}, {"synthetic": 7}, {"real": 0, "synthetic": 7}])
def test_a_set_that_is_alone_has_the_weight_one(images: dict[str, int]) -> None:
    assert {1.0} == set(recipe_record({}, images)["weights"].values())


def test_without_a_trial_the_keys_are_the_usual_ones_and_nothing_is_known() -> None:
    record = recipe_record({}, {"real": 5, "synthetic": 10})
    assert 0.5 == record["recipe"]["share"] and 0.5 == record["weights"]["synthetic"]
    assert "not known" in record["advice"]


@pytest.mark.parametrize(
    ("gain", "confirmed", "start"),
    [(0.2, True, "add them as synthetic did, which was confirmed"), (-0.2, False, "do not add")],
)
def test_the_record_recommends_what_the_trial_confirmed_and_nothing_else(
    gain: float, confirmed: bool, start: str
) -> None:
    gains = {"real": 0.0, "real_half": -0.2, "rfs": 0.05, "stack": 0.05, "synthetic": gain}
    trial = whole_trial(gains, confirmed=confirmed)
    record = recipe_record({"trial": trial}, {"real": 5, "synthetic": 10})
    assert record["advice"].startswith(start)
    assert record["recipe"]["real_last"] == 0.3
