"""The kernels of the panoptic-aware convolution against the definition.

On a GPU, and on a CPU under Triton's interpreter.
"""

from __future__ import annotations

import importlib.metadata
import importlib.util
import itertools
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch import Tensor

from synthaug.generators.nn.panoptic.conv import Form, panoptic_conv
from synthaug.generators.nn.panoptic.neighbourhood import Border, Neighbourhood
from synthaug.generators.nn.panoptic.reference import panoptic_conv_reference
from tests import paths
from tests.panoptic_maps import blobs, randn

CUDA = torch.cuda.is_available()
INTERPRETED = os.environ.get("TRITON_INTERPRET") == "1" and not CUDA
DEVICE = "cuda" if CUDA else "cpu"
FOUND = importlib.metadata.version("triton") if importlib.util.find_spec("triton") else "0.0"
INTERPRETS = tuple(int(part) for part in FOUND.split(".")[:2]) >= (3, 7)
kernels = [
    pytest.mark.gpu,
    pytest.mark.skipif(not (CUDA or INTERPRETED), reason="needs a CUDA device"),
]
# the interpreter is slow, and knows no products of bfloat16
DTYPES = [torch.float32, torch.float16, torch.bfloat16] if CUDA else [torch.float32]


def run_with(*marks: pytest.MarkDecorator):
    """Put several marks on a test."""

    def marked(test):
        for mark in (*kernels, *marks):
            test = mark(test)
        return test

    return marked


@pytest.fixture(autouse=True)
def exact_products():
    """float32 is multiplied as float32 here; TF32 has a test of its own."""
    before = torch.backends.cudnn.allow_tf32
    torch.backends.cudnn.allow_tf32 = False
    yield
    torch.backends.cudnn.allow_tf32 = before


def gradients(
    form: Form | None, border: Border, identity: Tensor, dtype: torch.dtype, *leaves: Tensor
) -> list[Tensor]:
    """The result and three gradients; by the definition in float64 with `form` None.

    Inputs and gradient have `dtype`.
    """
    device, wide = (DEVICE, dtype) if form else ("cpu", torch.float64)
    own = [leaf.to(dtype).to(device, wide).requires_grad_() for leaf in leaves]
    identity = identity.to(device)
    if form:
        out = panoptic_conv(*own, Neighbourhood(identity, border=border), form)
    else:
        out = panoptic_conv_reference(*own, identity, border)
    out.backward(randn(*out.shape, seed=9).to(dtype).to(device, wide))
    assert all(leaf.grad is not None for leaf in own)
    return [t.detach().cpu().double() for t in (out, *(leaf.grad for leaf in own))]


def check(made: list[Tensor], exact: list[Tensor], allowed: float) -> None:
    for m, e in zip(made, exact, strict=True):
        assert m.isfinite().all()
        assert ((m - e).norm() / e.norm()).item() < allowed
        assert (m - e).abs().max() < 20 * allowed * e.abs().max()


@run_with(
    pytest.mark.parametrize("dtype", DTYPES, ids=str),
    pytest.mark.parametrize(
        ("shape", "channels", "kernel", "border"),
        [
            ((2, 8, 7), (20, 24), 3, "hole"),
            ((1, 3, 4), (3, 2), 5, "same"),
            ((1, 1, 8), (16, 17), 3, "hole"),
        ],
    ),
)
def test_kernels_are_the_definition_with_its_gradients(
    dtype: torch.dtype,
    shape: tuple[int, int, int],
    channels: tuple[int, int],
    kernel: int,
    border: Border,
) -> None:
    identity = blobs(*shape, seed=3)
    c, d = channels
    leaves = (
        randn(shape[0], c, *shape[1:]),
        randn(d, c, kernel, kernel, seed=1) / 10,
        randn(d, seed=2),
    )
    exact = gradients(None, border, identity, dtype, *leaves)
    made = gradients("fused", border, identity, dtype, *leaves)
    check(made, exact, {torch.float32: 1e-6, torch.float16: 2e-3, torch.bfloat16: 1e-2}[dtype])


@run_with()
def test_one_identity_and_a_matching_border_is_a_plain_convolution() -> None:
    """No window is mixed and every list is empty."""
    identity = torch.full((1, 6, 6), 5)
    x, weight = randn(1, 16, 6, 6).float(), randn(16, 16, 3, 3, seed=1).float() / 12
    maps = Neighbourhood(identity.to(DEVICE), border="same")
    made = panoptic_conv(x.to(DEVICE), weight.to(DEVICE), None, maps, "fused")
    torch.testing.assert_close(
        made.cpu(), torch.nn.functional.conv2d(x, weight, padding=1), rtol=0, atol=1e-5
    )


@run_with(pytest.mark.skipif(not CUDA, reason="needs a CUDA device"))
def test_float64_and_large_kernels_go_the_other_way() -> None:
    """What the kernels cannot take is computed by the lists, to the same end."""
    identity = blobs(1, 9, 9)
    for kernel, dtype in ((7, torch.float32), (3, torch.float64)):
        x, weight = randn(1, 4, 9, 9).to(dtype), randn(4, 4, kernel, kernel, seed=1).to(dtype)
        made = panoptic_conv(x.cuda(), weight.cuda(), None, Neighbourhood(identity.cuda()))
        exact = panoptic_conv_reference(x.double(), weight.double(), None, identity)
        torch.testing.assert_close(made.cpu().double(), exact, rtol=0, atol=1e-4)


@run_with(
    pytest.mark.parametrize(
        "size", [(256, 128, 8, 3), (128, 256, 8, 3), (64, 128, 4, 4), (128, 64, 4, 3)]
    )
)
def test_every_tile_gives_the_same(size: tuple[int, int, int, int]) -> None:
    """More rows and channels than the map and the kernel have among them."""
    from synthaug.generators.nn.panoptic import triton

    dtype, (rows, columns, warps, stages) = DTYPES[-1], size
    x, weight, grad = (
        randn(1, 20, 6, 5),
        randn(18, 20, 3, 3, seed=1) / 13,
        randn(1, 18, 6, 5, seed=2),
    )
    x, weight, grad = (
        t.to(DEVICE, dtype, memory_format=torch.channels_last) for t in (x, weight, grad)
    )
    windows = Neighbourhood(blobs(1, 6, 5).to(DEVICE)).windows(3)
    made = []
    for tile in (triton.Tile(32, 32, 32, 4, 2), triton.Tile(rows, columns, 32, warps, stages)):
        calls = (
            triton.convolve(x, weight, None, windows, tile),
            triton.gradient_of_input(grad, weight, windows, tile),
        )
        made.append([*calls, triton.gradient_of_weight(grad, x, windows, tile)])
    for one, other in zip(*made, strict=True):
        check([other.double()], [one.double()], 1e-6 if dtype == torch.float32 else 1e-2)


@run_with(pytest.mark.skipif(not CUDA, reason="needs a CUDA device"))
def test_large_maps_of_many_channels() -> None:
    """As in training: the large tiles, many programs, float32 products in TF32 as cuDNN's."""
    torch.backends.cudnn.allow_tf32 = True
    identity = blobs(2, 128, 128, cell=9, ids=6)
    leaves = randn(2, 132, 128, 128), randn(136, 132, 3, 3, seed=1) / 34, randn(136, seed=2)
    for dtype, allowed in ((torch.float32, 1e-3), (torch.bfloat16, 1e-2)):
        exact = gradients(None, "hole", identity, dtype, *leaves)
        check(gradients("fused", "hole", identity, dtype, *leaves), exact, allowed)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
@pytest.mark.parametrize("kilobytes", [99, 163, 227])  # of compute capability 8.6, 8.0 and 9.0
def test_a_tile_fits_the_memory_of_a_program(dtype: torch.dtype, kilobytes: int) -> None:
    triton = pytest.importorskip("synthaug.generators.nn.panoptic.triton")
    memory, spare = kilobytes * 1024, 8 * 1024
    sizes = (1, 24, 64, 128, 200, 256, 1024)
    for d, c, rows in itertools.product(sizes, sizes, (2**11, 2**19)):
        tile = triton.tile_of(dtype, rows, d, c, memory)
        mixed = triton.weight_tile(dtype, d, c, memory)
        for t in (tile, mixed):
            assert t.stages * (t.rows + t.columns) * t.depth * dtype.itemsize + spare <= memory
            assert all(n >= 16 and n & (n - 1) == 0 for n in (t.rows, t.columns, t.depth))


@pytest.mark.skipif(CUDA or INTERPRETED, reason="the tests above run as they are")
@pytest.mark.skipif(
    not INTERPRETS,
    reason="needs triton 3.7; the interpreter of older ones cannot count with numpy 2.4",
)
def test_under_the_interpreter() -> None:
    """Triton decides when it is imported whether it interprets: a process of its own."""
    root = paths.ROOT
    code = [
        sys.executable,
        "-m",
        "pytest",
        "-p",
        "no:cacheprovider",
        str(Path(__file__).relative_to(root)),
    ]
    env = {**os.environ, "TRITON_INTERPRET": "1"}
    told = subprocess.run(code, check=False, cwd=root, env=env, capture_output=True, text=True)
    assert told.returncode == 0, told.stdout[-3000:]
    assert "passed" in told.stdout


def test_a_form_for_gpus_is_refused_elsewhere() -> None:
    x = randn(1, 4, 6, 6)
    with pytest.raises(ValueError, match="form: fused needs triton, a GPU"):
        panoptic_conv(x, randn(4, 4, 3, 3), None, Neighbourhood(blobs(1, 6, 6)), "fused")
