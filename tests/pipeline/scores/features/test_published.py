"""Published networks: what is missing is said in one line, and what measured stands in the card."""

from __future__ import annotations

from pathlib import Path

import pytest

from synthaug.pipeline.scores.base import MetricInputs
from synthaug.pipeline.scores.features import kid, networks, published, weights
from tests.feature_scenes import table, with_resources
from tests.score_inputs import score_inputs


def test_tables_are_asked_for_before_weights(inputs: MetricInputs) -> None:
    empty = score_inputs({"real": inputs.tables["real"], "synthetic": table([])})
    assert published.missing_network(empty, "inception") == "there are no synthetic images"
    assert "score.weights" in str(published.missing_network(inputs, "inception"))


def test_a_missing_library_comes_before_a_missing_file(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(networks, "find_spec", lambda _: None)
    assert "needs the library torch-fidelity" in str(published.unusable(None, "inception"))


@pytest.mark.usefixtures("stand_ins")
def test_the_card_names_the_file_and_its_digest(inputs: MetricInputs) -> None:
    entries = published.card_entries(with_resources(inputs, weights=Path("/x")), "vgg16")
    assert entries["network_file"] == weights.FILES["vgg16"].file
    assert entries["network_sha256"] == "cd" * 32
    assert "numpy" in entries["versions"]
    of_convolutions = published.convolution_entries(inputs, "alexnet")
    assert (of_convolutions["network_file"], of_convolutions["network_sha256"]) == ("x", "cd" * 32)
    assert "256 x 256" in of_convolutions["resize"]


def test_the_first_setting_below_its_least_is_named() -> None:
    published.check_at_least(1, "kid", kid.Config(), "subsets", "subset_size")
    with pytest.raises(ValueError, match=r"^kid\.subsets is 100; give 101 or more$"):
        published.check_at_least(101, "kid", kid.Config(), "subset_size", "subsets")
