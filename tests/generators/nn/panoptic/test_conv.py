"""Panoptic-aware convolution.

The definition against loops, fast forms against the definition and recorded evaluations.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from synthaug.generators.nn.panoptic.conv import Form, panoptic_conv
from synthaug.generators.nn.panoptic.neighbourhood import Border, Neighbourhood, Scaling
from synthaug.generators.nn.panoptic.reference import panoptic_conv_reference
from synthaug.generators.nn.panoptic.upsample import panoptic_upsample
from tests import paths
from tests.panoptic_maps import blobs, randn, with_gradients
from tests.parity import panoptic as parity

RECORDED = paths.FIXTURES / "spade"
FORMS: tuple[Form, ...] = ("windows", "taps")
BORDERS: tuple[Border, ...] = ("hole", "same")
SCALINGS: tuple[Scaling, ...] = ("mean", "root")
forms = pytest.mark.parametrize("form", FORMS)
borders = pytest.mark.parametrize("border", BORDERS)


def looped(
    x: Tensor,
    weight: Tensor,
    bias: Tensor,
    identity: Tensor,
    border: Border,
    scaling: Scaling = "mean",
) -> Tensor:
    """Equations 1 and 2, one tap of one window at a time."""
    (images, _, height, width), kernel = x.shape, weight.shape[-1]
    out = x.new_zeros(images, len(weight), height, width)
    for b, y, z in np.ndindex(images, height, width):
        total, count = x.new_zeros(len(weight)), 0
        for i, j in np.ndindex(kernel, kernel):
            row, column = y + i - kernel // 2, z + j - kernel // 2
            if not (0 <= row < height and 0 <= column < width):
                count += border == "same"
            elif identity[b, row, column] == identity[b, y, z]:
                count += 1
                total += weight[:, :, i, j] @ x[b, :, row, column]
        ratio = kernel**2 / count
        out[b, :, y, z] = (ratio if scaling == "mean" else ratio**0.5) * total + bias
    return out


@borders
@pytest.mark.parametrize("kernel", [1, 3, 5])
def test_the_definition_is_the_equation_tap_by_tap(kernel: int, border: Border) -> None:
    identity = blobs(2, 5, 6)
    x, weight, bias = randn(2, 2, 5, 6), randn(3, 2, kernel, kernel, seed=1), randn(3, seed=2)
    for scaling in SCALINGS:
        expected = looped(x, weight, bias, identity, border, scaling)
        found = panoptic_conv_reference(x, weight, bias, identity, border, scaling)
        torch.testing.assert_close(found, expected, rtol=0, atol=1e-12)


@settings(max_examples=60, deadline=None, derandomize=True)
@given(
    st.tuples(st.integers(1, 3), st.integers(1, 9), st.integers(1, 9)),
    st.tuples(st.integers(1, 3), st.integers(1, 3)),
    st.sampled_from([1, 3, 5, 7]),
    st.sampled_from(BORDERS),
    st.sampled_from(SCALINGS),
    st.integers(1, 5),
    st.integers(0, 99),
)
def test_every_form_is_the_definition_with_its_gradients(
    shape: tuple[int, int, int],
    channels: tuple[int, int],
    kernel: int,
    border: Border,
    scaling: Scaling,
    ids: int,
    seed: int,
) -> None:
    identity = blobs(*shape, seed=seed, cell=1 + seed % 4, ids=ids)
    leaves = (
        randn(shape[0], channels[0], *shape[1:]),
        randn(channels[1], channels[0], kernel, kernel),
        randn(channels[1]),
    )
    neighbourhood = Neighbourhood(identity, border=border, scaling=scaling)
    expected = with_gradients(
        lambda x, w, b: panoptic_conv_reference(x, w, b, identity, border, scaling), *leaves
    )
    for form in ("auto", *FORMS):
        made = with_gradients(
            lambda x, w, b, form=form: panoptic_conv(x, w, b, neighbourhood, form), *leaves
        )
        for e, m in zip(expected, made, strict=True):
            torch.testing.assert_close(m, e, rtol=0, atol=1e-11)


@forms
@pytest.mark.parametrize("kernel", [3, 5])
def test_gradients_are_those_of_finite_differences(form: Form, kernel: int) -> None:
    neighbourhood = Neighbourhood(blobs(2, 4, 5))
    leaves = [
        t.requires_grad_() for t in (randn(2, 2, 4, 5), randn(2, 2, kernel, kernel), randn(2))
    ]
    assert torch.autograd.gradcheck(
        lambda *given: panoptic_conv(*given, neighbourhood, form), leaves
    )


@forms
def test_one_identity_is_a_plain_convolution(form: Form) -> None:
    x, weight, bias = randn(2, 3, 6, 7), randn(4, 3, 3, 3), randn(4)
    neighbourhood = Neighbourhood(torch.full((2, 6, 7), 5), border="same")
    made = with_gradients(
        lambda *given: panoptic_conv(*given, neighbourhood, form), x, weight, bias
    )
    expected = with_gradients(lambda *given: F.conv2d(*given, padding=1), x, weight, bias)
    for e, m in zip(expected, made, strict=True):
        torch.testing.assert_close(m, e, rtol=0, atol=1e-12)


def test_root_keeps_the_variance_of_independent_features_and_mean_does_not() -> None:
    """What equation 2 does to windows with few matching taps.

    Independent values of variance 1 come out with 9 / n.
    """
    identity = (
        torch.arange(8)[None, None].expand(1, 8, 8).contiguous()
    )  # columns: three taps of nine match
    x, weight = (
        randn(1, 400, 8, 8, seed=3),
        randn(400, 400, 3, 3, seed=4) / 60,
    )  # 60 = sqrt(9 x 400)
    for scaling, variance in (("root", 1.0), ("mean", 3.0)):
        made = panoptic_conv(
            x, weight, None, Neighbourhood(identity, border="same", scaling=scaling)
        )[:, :, 1:-1, 1:-1]
        assert float(made.var()) == pytest.approx(variance, rel=0.1)


@forms
def test_names_of_identities_do_not_matter(form: Form) -> None:
    identity = blobs(1, 9, 8)
    other = torch.tensor([2**40, -1, torch.iinfo(torch.int64).min, 0])[identity]
    x, weight = randn(1, 3, 9, 8), randn(2, 3, 3, 3)
    made = [panoptic_conv(x, weight, None, Neighbourhood(ids), form) for ids in (identity, other)]
    assert torch.equal(*made)


@forms
def test_nothing_of_one_identity_reaches_another(form: Form) -> None:
    """Not a bit changes where the identity's own features are the same, even beside values that are
    no numbers.
    """
    identity, neighbourhood = blobs(1, 12, 11), Neighbourhood(blobs(1, 12, 11))
    weight, own = randn(4, 3, 3, 3).float(), (identity == 1)[:, None]
    x, grad = randn(1, 3, 12, 11).float(), randn(1, 4, 12, 11).float()

    def forward_backward(x: Tensor, grad: Tensor) -> tuple[Tensor, Tensor]:
        x = x.clone().requires_grad_()
        out = panoptic_conv(x, weight, None, neighbourhood, form)
        out.backward(grad)
        assert x.grad is not None
        return out.detach(), x.grad

    out, grad_x = forward_backward(x, grad)
    strange = torch.tensor(float("nan"))
    out_beside, grad_beside = forward_backward(
        torch.where(own, x, strange), torch.where(own, grad, strange)
    )
    assert own.any() and not own.all()
    for before, after in ((out, out_beside), (grad_x, grad_beside)):
        assert torch.equal(before * own, after.nan_to_num() * own)
        assert after.masked_select(own).isfinite().all()


@forms
def test_a_mirrored_map_gives_the_mirrored_result(form: Form) -> None:
    identity, x, weight = blobs(2, 7, 10), randn(2, 3, 7, 10), randn(2, 3, 3, 3)
    made = panoptic_conv(x, weight, None, Neighbourhood(identity), form)
    mirrored = panoptic_conv(x.flip(3), weight.flip(3), None, Neighbourhood(identity.flip(2)), form)
    torch.testing.assert_close(mirrored.flip(3), made, rtol=0, atol=1e-12)


@forms
def test_a_batch_is_its_images(form: Form) -> None:
    identity, x, weight = blobs(3, 6, 7), randn(3, 2, 6, 7), randn(2, 2, 5, 5)
    made = panoptic_conv(x, weight, None, Neighbourhood(identity), form)
    for i in range(3):
        alone = panoptic_conv(x[i : i + 1], weight, None, Neighbourhood(identity[i : i + 1]), form)
        torch.testing.assert_close(made[i : i + 1], alone, rtol=0, atol=1e-12)


@forms
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_short_numbers_cost_one_rounding_of_the_exact_result(
    form: Form, dtype: torch.dtype
) -> None:
    """On windows of few taps too, where equation 2 multiplies by up to 9; gradients likewise."""
    identity = blobs(1, 24, 24, cell=4, ids=9)
    leaves = [t.to(dtype) for t in (randn(1, 64, 24, 24), randn(32, 64, 3, 3) / 24, randn(32))]
    neighbourhood = Neighbourhood(identity)
    made = with_gradients(lambda *given: panoptic_conv(*given, neighbourhood, form), *leaves)
    wide = [t.double() for t in leaves]
    grad = randn(1, 32, 24, 24, seed=9).to(dtype).double()
    own = [t.requires_grad_() for t in wide]
    out = panoptic_conv_reference(*own, identity)
    out.backward(grad)
    step = torch.finfo(dtype).eps
    for m, e in zip(made, [out.detach(), *(t.grad for t in own)], strict=True):
        assert m.dtype == dtype and e is not None
        error = (m.double() - e).abs()
        assert (error <= 3 * step * (e.abs() + e.square().mean().sqrt())).all(), error.max()


def test_autocast_decides_the_type() -> None:
    x, weight, bias = (
        randn(1, 4, 6, 6).float().requires_grad_(),
        randn(4, 4, 3, 3).float(),
        randn(4).float(),
    )
    neighbourhood = Neighbourhood(blobs(1, 6, 6))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        out = panoptic_conv(x, weight, bias, neighbourhood)
    assert out.dtype == torch.bfloat16
    out.float().sum().backward()
    assert x.grad is not None and x.grad.dtype == torch.float32
    exact = panoptic_conv_reference(x, weight, bias, neighbourhood.identity)
    torch.testing.assert_close(out.float(), exact, rtol=0.03, atol=0.3)


def test_neither_inputs_nor_gradients_are_changed() -> None:
    identity = blobs(1, 8, 8)
    x, weight, grad = (
        t.contiguous(memory_format=torch.channels_last)
        for t in (randn(1, 4, 8, 8), randn(4, 4, 3, 3), randn(1, 4, 8, 8))
    )
    kept = [t.clone() for t in (x, weight, grad)]
    for form in FORMS:
        leaves = [x.requires_grad_(), weight.requires_grad_()]
        panoptic_conv(*leaves, None, Neighbourhood(identity), form).backward(grad)
        up = x.detach()[:, :, ::2, ::2].clone().requires_grad_()
        panoptic_upsample(up, Neighbourhood(identity)).backward(grad)
    assert all(torch.equal(a, b) for a, b in zip((x, weight, grad), kept, strict=True))


@forms
def test_features_may_be_their_own_gradient(form: Form) -> None:
    """The incoming gradient is worked on in place.

    Where it is the saved input, that must not show.
    """
    x, weight = randn(1, 4, 8, 8).contiguous(memory_format=torch.channels_last), randn(4, 4, 3, 3)
    neighbourhood, made = Neighbourhood(blobs(1, 8, 8)), []
    for grad in (x, x.clone()):
        leaves = [x.detach().requires_grad_(), weight.clone().requires_grad_()]
        made.append(
            torch.autograd.grad(panoptic_conv(*leaves, None, neighbourhood, form), leaves, grad)
        )
    assert all(torch.equal(*pair) for pair in zip(*made, strict=True))


def test_gradients_of_gradients_are_refused() -> None:
    x, weight = randn(1, 2, 6, 6).requires_grad_(), randn(2, 2, 3, 3)
    neighbourhood = Neighbourhood(blobs(1, 6, 6))
    for out in (
        panoptic_conv(x, weight, None, neighbourhood),
        panoptic_upsample(x[:, :, ::2, ::2], neighbourhood),
    ):
        (grad,) = torch.autograd.grad(out.square().sum(), x, create_graph=True)
        with pytest.raises(RuntimeError, match="once_differentiable"):
            grad.sum().backward()


def test_the_recorded_evaluations_are_met() -> None:
    rows = list(parity.run(RECORDED, 1e-5))
    assert {row.fixture for row in rows} >= {"panoptic_conv", "panoptic_upsample"}
    assert all(row.error is not None and not row.failed for row in rows)
    double = [row for row in rows if "float64" in row.detail]
    assert len(double) > 300 and all(row.allowed == pytest.approx(1e-10) for row in double)


@pytest.mark.parametrize(
    ("name", "array"), [("panoptic_conv", "k5/dx"), ("panoptic_upsample", "large_ids/xy/dF")]
)
def test_a_damaged_recording_is_noticed(tmp_path: Path, name: str, array: str) -> None:
    arrays = dict(np.load(RECORDED / f"{name}.npz"))
    arrays[array].flat[0] += 1e-3
    np.savez(tmp_path / f"{name}.npz", **arrays)
    failed = {row.array for row in parity.run(tmp_path, 1e-5) if row.failed}
    assert failed == {array}


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@forms
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16])
def test_a_gpu_gives_the_same(form: Form, dtype: torch.dtype) -> None:
    identity = blobs(2, 16, 16)
    leaves = [t.to(dtype) for t in (randn(2, 8, 16, 16), randn(8, 8, 3, 3) / 9, randn(8))]
    expected = with_gradients(
        lambda *given: panoptic_conv(*given, Neighbourhood(identity), form), *leaves
    )
    neighbourhood = Neighbourhood(identity.cuda())
    leaves = [t.cuda() for t in leaves]
    made = with_gradients(lambda *given: panoptic_conv(*given, neighbourhood, form).cpu(), *leaves)
    for e, m in zip(expected, made, strict=True):
        torch.testing.assert_close(
            m.cpu().double(),
            e.double(),
            rtol=20 * torch.finfo(dtype).eps,
            atol=1e-2 if dtype != torch.float64 else 1e-10,
        )
