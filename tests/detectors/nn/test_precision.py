"""What `precision: auto` means on hardware with and without bfloat16."""

from __future__ import annotations

import pytest
import torch

from synthaug.detectors.nn import precision


@pytest.mark.parametrize(("has_it", "expected"), [(True, "bfloat16"), (False, "float32")])
def test_auto_is_bfloat16_where_the_hardware_has_it(
    has_it: bool, expected: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(precision, "has_bfloat16", lambda device: has_it)
    assert precision.resolve_precision("auto", "cpu") == expected
    for chosen in ("float32", "bfloat16"):
        assert precision.resolve_precision(chosen, "cpu") == chosen


def test_a_torch_without_a_probe_counts_as_hardware_without(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delattr(torch.cpu, "_is_avx512_bf16_supported", raising=False)
    assert not precision.has_bfloat16(torch.device("cpu"))
