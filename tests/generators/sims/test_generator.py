from __future__ import annotations

import pytest
import torch

from synthaug.generators.sims import build
from synthaug.generators.sims.config import Config
from synthaug.generators.sims.generator import distinct_colors


def test_colors_of_classes_all_differ() -> None:
    colors = distinct_colors(1203)
    assert len(torch.unique((colors * 255).round(), dim=0)) == 1204
    assert not colors[-1].any()


def test_a_rule_for_a_class_that_is_not_there_is_one_line() -> None:
    config = Config(resolution=64, aspect_ratio=1, width=1, ground=(1, 5))
    with pytest.raises(ValueError, match=r"^ground: 5 is no index of 5 classes; give 0 to 4$"):
        build(config, 5)
