"""The systems that the papers compare with meet the recorded outputs of the official networks."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from synthaug.generators.sg2im.network import Sg2ImGenerator
from tests import paths
from tests.generators.sg2im.scenes import LABELS, network_of
from tests.parity.__main__ import main
from tests.parity.baselines import Fixture, sample, sums_of
from tests.parity.sg2im import graphs_of, noise_of
from tests.parity.weights import read_keys, rebuild

RECORDED = {  # system -> words of its report
    "sg2im": ("trace_samples", "g_grad_norm", "in production"),
    "layout2im": ("trace_samples", "g_grad_norm", "in production"),
    "grid2im": ("img/gan_true", "mask/gan_false", "obj_scores_train"),
}


def small_fixture(folder: Path) -> Path:
    """A generator's fixture of our own network at a small width, by the recorded ones' rule."""
    network = network_of(mask_side=4)
    keys = []
    for key, value in network.state_dict().items():
        keys.append([key, list(value.shape), str(value.dtype).removeprefix("torch.")])
    (folder / "g.keys.json").write_text(json.dumps(keys))
    state = rebuild(read_keys(folder / "g.keys.json"), rule="F")
    network.load_state_dict(state)
    inputs = {
        "system": np.array("sg2im"),
        "what": np.array("generator"),
        "rule": np.array("F"),
        "objs": np.array([1, 2, 0, 3, 0]),
        "boxes": np.array([[0, 0, 0.5, 0.5], [0.2, 0.3, 0.9, 1]] * 2 + [[0, 0, 1, 1]], np.float32),
        "masks": np.ones((5, 4, 4), np.uint8),
        "triples": np.array([[0, 1, 1], [0, 0, 2], [3, 0, 4]]),
        "obj_to_img": np.array([0, 0, 0, 1, 1]),
        "mask_size": np.array(4),
        "noise_dim": np.array(network.config.noise),
        "noise_tag": np.array("noise"),
        "trace_names": np.array(["box_net.0.out", "layout"]),
        "w_sums": sums_of(state.values()),
    }
    fixture = Fixture(folder, "g", inputs)
    arrays = dict(inputs)
    arrays |= _outputs(network, fixture)
    np.savez(folder / "g.npz", **arrays)
    return folder / "g.npz"


def _outputs(network: Sg2ImGenerator, fixture: Fixture) -> dict[str, np.ndarray]:
    graphs = graphs_of(fixture)
    hidden: list[np.ndarray] = []
    values = []
    network.box_net[0].register_forward_hook(lambda _m, _i, out: values.append(out.detach()))
    painted = network(graphs, noise_of(fixture, 2, 64), graphs.boxes, graphs.masks)
    (first,) = values
    flat = first.double()
    hidden.append(np.array([flat.mean(), flat.std(correction=0), flat.abs().max()]))
    return {
        "out_gt_gt": painted.images.detach().numpy()[:, :, ::2, ::2],
        "boxes_pred": painted.boxes.detach().numpy(),
        "trace_stats": np.stack([hidden[0], hidden[0]]),
        "trace_samples": np.stack([sample(first), sample(first)]),
    }


def test_a_faithful_fixture_passes_and_one_changed_value_does_not(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = small_fixture(tmp_path)
    assert LABELS == 6
    assert main([str(tmp_path)]) == 0
    assert "0 failed" in capsys.readouterr().out
    arrays = dict(np.load(path))
    arrays["boxes_pred"][3, 2] += 1e-3
    np.savez(path, **arrays)
    assert main([str(tmp_path)]) == 1
    failed = [line for line in capsys.readouterr().out.splitlines() if "FAIL" in line]
    assert [line.split()[1] for line in failed] == ["boxes_pred"]


def test_missing_keys_and_an_unknown_kind_are_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = small_fixture(tmp_path)
    shutil.copy(path, tmp_path / "h.npz")
    arrays = dict(np.load(path))
    arrays["what"] = np.array("encoder")
    np.savez(tmp_path / "i.npz", **arrays)
    assert main([str(tmp_path)]) == 1
    failed = [line for line in capsys.readouterr().out.splitlines() if "FAIL" in line]
    assert len(failed) == 2
    assert "h.keys.json is missing" in failed[0]
    assert "no encoder of sg2im" in failed[1]


@pytest.mark.slow
@pytest.mark.parametrize("system", RECORDED)
def test_the_recorded_networks_are_met(system: str, capsys: pytest.CaptureFixture[str]) -> None:
    code = main([str(paths.FIXTURES / system), "--tolerance", "1e-4"])
    out = capsys.readouterr().out
    assert code == 0, [line for line in out.splitlines() if "FAIL" in line]
    assert all(word in out for word in RECORDED[system])
