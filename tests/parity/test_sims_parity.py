"""SIMS against the recordings where they are at hand, and damaged ones are noticed."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from tests.parity import sims
from tests.paths import sample_data

TOLERANCE = 1e-4


@pytest.fixture
def canvas(tmp_path: Path) -> Path:
    """The recorded canvas alone; its scripts need no weights."""
    source = sample_data("../parity/sims") / "canvas_512.npz"
    (tmp_path / source.name).write_bytes(source.read_bytes())
    return tmp_path


@pytest.mark.slow
def test_segments_retrieval_and_canvas_are_the_recorded_ones(canvas: Path) -> None:
    rows = list(sims.run(canvas, TOLERANCE))
    assert [str(row) for row in rows if row.failed] == []
    compared = {row.array for row in rows if row.error is not None}
    assert {"retrieved", "order_pairs", "edge/canvas", "intended/label"} <= compared
    file = canvas / "canvas_512.npz"
    with np.load(file) as recorded:
        arrays = dict(recorded)
    arrays["intended/label"][200, 300] += 1
    np.savez(file, **arrays)
    failed = [row.array for row in sims.run(canvas, TOLERANCE) if row.failed]
    assert failed == ["intended/label"]


def test_every_published_variable_has_a_name_here() -> None:
    names = {
        "g_transfrom_conv2/g_transfrom_conv2_1/weights": "trunk.stages.1.convs.0.weight",
        "g_selection_conv5/g_selection_conv5_3/LayerNorm/beta": "trunk.stages.4.norms.2.bias",
        "g_encoder_conv1/g_encoder_conv1_2/LayerNorm/gamma": "encoder.stages.0.norms.1.weight",
        "g_decoder_conv6/g_decoder_conv6_1/weights": "levels.0.conv1.weight",
        "g_decoder_final/g_decoder_final_2/LayerNorm/beta": "full.norm2.bias",
        "g_b_fc1": "head.bias",
        "g_semantic_512_conv100/biases": "logits.bias",
        "g_512_conv100/weights": "colors.weight",
    }
    assert {name: sims.our_name(name) for name in names} == names


def test_scopes_of_no_other_name_are_the_finer_level() -> None:
    names = ["g_b_fc1", "g_x_1/weights", "g_x_1/LayerNorm/beta", "g_x_2/LayerNorm/gamma"]
    expected = ["head.bias", "finer.0.conv1.weight", "finer.0.norm1.bias", "finer.0.norm2.weight"]
    assert list(sims.our_names(names).values()) == expected
