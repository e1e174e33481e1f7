"""`python -m tests.parity`.

The published networks' recorded outputs are met, and a report that should fail does.
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from synthaug.generators.lostgan import network as lostgan
from tests import paths
from tests.parity.__main__ import main
from tests.parity.comparison import compare
from tests.parity.lostgan_discriminator import forward
from tests.parity.lostgan_fixtures import Fixture
from tests.parity.weights import read_keys, rebuild

RECORDED = paths.FIXTURES / "lostgan"


def test_errors_are_absolute_up_to_one_and_relative_above() -> None:
    small = compare("f", "a", np.array([0.5, -1.0]), np.array([0.5, -0.9]), 0.2)
    assert (small.failed, small.detail) == (False, "absolute")
    assert small.error == pytest.approx(0.1)
    large = compare("f", "a", np.array([100.0, 1.0]), np.array([100.0, 3.0]), 1e-2)
    assert large.error == pytest.approx(0.02)
    assert large.failed
    for other in (np.array([0.5]), np.array([0.5, np.nan]), np.array([0.5, np.inf])):
        assert compare("f", "a", np.array([0.5, 1.0]), other, 1.0).failed


def small_fixture(folder: Path) -> dict[str, Any]:
    """A discriminator's fixture of our own network at a small width, by the rules of the recorded
    ones.
    """
    torch.manual_seed(0)
    module = lostgan.Discriminator(64, 2, 5)
    state = {f"obD.{k}": v for k, v in module.state_dict().items()}
    keys = [[k, list(v.shape), str(v.dtype).removeprefix("torch.")] for k, v in state.items()]
    (folder / "d_64.keys.json").write_text(json.dumps(keys))
    weights = rebuild(read_keys(folder / "d_64.keys.json"))
    module.load_state_dict({k.removeprefix("obD."): v for k, v in weights.items()})
    boxes = np.array(
        [[[0, 0, 1, 0.5], [0.2, 0.2, 0.4, 0.3]], [[0.1, 0.5, 0.5, 0.5], [-0.6, -0.6, 0.5, 0.5]]],
        np.float32,
    )
    inputs = {"boxes_xywh": boxes, "labels": np.array([[1, 4], [2, 0]]), "rule": np.array(["B"])}
    made, _ = forward(Fixture(folder, "d_64", inputs), module.eval())
    arrays = inputs | {name: made[name] for name in ("out_img", "out_obj", "order", "image_stride")}
    np.savez(folder / "d_64.npz", **arrays)
    return arrays


def test_a_faithful_fixture_passes_and_one_changed_value_does_not(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arrays = small_fixture(tmp_path)
    assert main([str(tmp_path)]) == 0
    assert "4 arrays compared, 0 failed" in capsys.readouterr().out
    arrays["out_obj"] = arrays["out_obj"].copy()
    arrays["out_obj"][1] += 1e-3
    np.savez(tmp_path / "d_64.npz", **arrays)
    assert main([str(tmp_path)]) == 1
    lines = [line for line in capsys.readouterr().out.splitlines() if "FAIL" in line]
    assert len(lines) == 1
    assert lines[0].split()[:2] == ["d_64", "out_obj"]
    assert main([str(tmp_path), "--tolerance", "1e-2"]) == 0


def test_a_missing_partner_or_an_unknown_fixture_fails_and_is_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    small_fixture(tmp_path)
    shutil.copy(tmp_path / "d_64.npz", tmp_path / "d_99.npz")
    np.savez(tmp_path / "other.npz", x=np.zeros(3))
    assert main([str(tmp_path)]) == 1
    failed = [line for line in capsys.readouterr().out.splitlines() if "FAIL" in line]
    assert len(failed) == 2
    assert "d_99.keys.json is missing" in failed[0]
    assert failed[1].startswith("other ")


def test_nothing_to_compare_and_broken_files_are_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for breakage in ("empty", "foreign", "truncated", "keys"):
        folder = tmp_path / breakage
        folder.mkdir()
        if breakage == "foreign":
            np.savez(folder / "x.npz", x=np.zeros(3))
        if breakage in ("truncated", "keys"):
            small_fixture(folder)
            broken = folder / ("d_64.npz" if breakage == "truncated" else "d_64.keys.json")
            broken.write_bytes(broken.read_bytes()[:-100])
        assert main([str(folder)]) == 2
        lines = capsys.readouterr().err.splitlines()
        assert len(lines) == 1
        assert lines[0].startswith(f"error: {folder}")


@pytest.mark.slow
def test_the_recorded_networks_are_met(capsys: pytest.CaptureFixture[str]) -> None:
    code = main([str(RECORDED), "--tolerance", "1e-4"])  # what other CPUs' rounding stays within
    out = capsys.readouterr().out
    assert code == 0, [line for line in out.splitlines() if "FAIL" in line]
    assert all(word in out for word in ("g_v2_128", "out_ac0", "g_grad_norms"))


def test_a_damaged_recording_is_noticed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    shutil.copy(RECORDED / "g_v1_64.keys.json", tmp_path)
    arrays = dict(np.load(RECORDED / "g_v1_64.npz"))
    arrays["out_ac1"][1, 2, 30, 40] += 1e-3
    np.savez(tmp_path / "g_v1_64.npz", **arrays)
    assert main([str(tmp_path)]) == 1
    failed = [line.split()[:2] for line in capsys.readouterr().out.splitlines() if "FAIL" in line]
    assert ["g_v1_64", "out_ac1"] in failed
    assert all(array == "out_ac1" for _, array in failed)
