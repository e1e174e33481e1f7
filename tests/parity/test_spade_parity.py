"""The official SPADE networks' recorded outputs are met, and a damaged recording is noticed."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest

from tests import paths
from tests.parity.spade import run

RECORDED = paths.FIXTURES / "spade"


def some(folder: Path, *names: str) -> Path:
    for name in names:
        for path in RECORDED.glob(f"{name}.*"):
            shutil.copy(path, folder)
    return folder


def test_small_recordings_are_met(tmp_path: Path) -> None:
    rows = list(
        run(
            some(
                tmp_path, "losses", "vgg_slices", "d_coco_ndf16", "e_coco_ngf16", "train_step_ngf8"
            ),
            2e-5,
        )
    )
    assert [str(row) for row in rows if row.failed] == []
    compared = {row.fixture for row in rows if row.error is not None}
    assert compared == {"losses", "vgg_slices", "d_coco_ndf16", "e_coco_ngf16", "train_step_ngf8"}
    assert not [row for row in rows if "not compared" in row.detail]


@pytest.mark.slow
def test_generators_are_met_by_pixels_by_windows_and_in_production(tmp_path: Path) -> None:
    rows = list(run(some(tmp_path, "g_coco_ngf16", "g_coco_vae_ngf16"), 2e-5))
    assert [str(row) for row in rows if row.failed] == []
    assert 4 == sum(row.array in ("image by windows", "image in production") for row in rows)


def test_a_damaged_recording_is_noticed(tmp_path: Path) -> None:
    some(tmp_path, "e_coco_ngf16")
    arrays = dict(np.load(tmp_path / "e_coco_ngf16.npz"))
    arrays["logvar"][0, 7] += 1e-3
    np.savez(tmp_path / "e_coco_ngf16.npz", **arrays)
    assert ["logvar"] == [row.array for row in run(tmp_path, 2e-5) if row.failed]
    (tmp_path / "e_coco_ngf16.keys.json").unlink()
    assert [
        "cannot be compared: e_coco_ngf16.keys.json is missing, so its weights cannot be rebuilt"
    ] == [row.detail for row in run(tmp_path, 2e-5) if row.failed]
