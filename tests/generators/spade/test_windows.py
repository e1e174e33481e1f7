"""Modulation by distinct windows is modulation by pixels, values and gradients."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st

from synthaug.generators.spade import network as spade
from synthaug.generators.spade import windows
from synthaug.generators.spade.semantics import semantics
from tests.generators.spade.networks import maps_of


@settings(max_examples=30, deadline=None)
@given(
    st.integers(1, 12),
    st.integers(1, 12),
    st.integers(1, 5),
    st.integers(0, 1000),
    st.booleans(),
    st.booleans(),
)
def test_modulation_by_windows_is_that_by_pixels(
    height: int, width: int, classes: int, seed: int, dont_care: bool, edges: bool
) -> None:
    """Values and every gradient in float64, on maps of any size down to one pixel."""
    seen = semantics(
        maps_of(height, width, classes, seed, count=2, cell=1 + seed % 4), dont_care, edges
    )
    torch.manual_seed(seed)
    norm = spade.SpadeNorm(3, classes + dont_care + edges).double().eval()
    x = torch.randn(2, 3, height, width, dtype=torch.float64)
    weight = torch.randn(2, 3, height, width, dtype=torch.float64)
    found = []
    for by_windows in (False, True):
        norm.by_windows = by_windows
        given_x = x.clone().requires_grad_()
        hidden = seen if by_windows else _as_double(seen)
        out = norm(given_x, hidden)
        grads = torch.autograd.grad((out * weight).sum(), [given_x, *norm.parameters()])
        found.append([out.detach(), *grads])
    for by_pixels, by_window in zip(*found, strict=True):
        torch.testing.assert_close(by_window, by_pixels, rtol=0, atol=1e-11)


def _as_double(seen: Any) -> Any:
    other = replace(seen)
    other.__dict__["dense"] = seen.dense.double()
    return other


@pytest.mark.parametrize("many", [0.0, 1e9], ids=["products first", "gathered first"])
@pytest.mark.parametrize("edges", [False, True])
def test_both_ways_of_convolving_windows_are_the_convolution(monkeypatch, many, edges) -> None:
    monkeypatch.setattr(windows, "MANY", many)
    maps = semantics(maps_of(7, 9, 3, seed=2, count=2), True, edges)
    rng = torch.Generator().manual_seed(0)
    first = torch.randn(5, 4 + edges, 3, 3, dtype=torch.float64, generator=rng)
    second = torch.randn(6, 5, 3, 3, dtype=torch.float64, generator=rng)
    first_bias = torch.randn(5, dtype=torch.float64, generator=rng)
    second_bias = torch.randn(6, dtype=torch.float64, generator=rng)
    hidden = F.conv2d(maps.dense.double(), first, first_bias, padding=1)
    expected = F.conv2d(hidden, second, second_bias, padding=1)
    table, edge_rows = windows.class_rows(first, maps.num_classes)
    assert (edge_rows is not None) == edges
    rows = windows.convolve_classes(maps.patterns, table, edge_rows, first_bias)
    by_window = windows.convolve_windows(maps.patterns, rows, windows.by_tap(second), second_bias)
    made = by_window[maps.patterns.pixels].permute(0, 3, 1, 2)
    torch.testing.assert_close(made, expected, rtol=0, atol=1e-11)
