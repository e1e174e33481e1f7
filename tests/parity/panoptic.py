"""The panoptic-aware operators against recorded evaluations of equations 1-3 and Algorithm 1 by
plain loops in float64.

Cases are told by their arrays, whatever their names: `<case>/P` belongs to the convolution,
`<case>/Pu` to upsampling. Each is met by the definition and by the fast form, in float64 to a
hundred-thousandth of the tolerance and in float32 to it.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

from synthaug.generators.nn.panoptic.conv import Form, hole_features, panoptic_conv
from synthaug.generators.nn.panoptic.neighbourhood import (
    Border,
    Neighbourhood,
    Order,
    matching_taps,
)
from synthaug.generators.nn.panoptic.reference import (
    panoptic_conv_reference,
    panoptic_upsample_reference,
)
from synthaug.generators.nn.panoptic.upsample import panoptic_upsample
from tests.parity.comparison import Array, BrokenFileError, Row, compare, read_arrays

FAULTS = (ValueError, RuntimeError, LookupError)  # what a case that does not fit ends in
FORMS: tuple[Form | Literal["definition"], ...] = ("definition", "auto", "windows", "taps")
TYPES = {torch.float64: 1e-5, torch.float32: 1.0}  # share of the tolerance
BORDERS: dict[Border, str] = {"hole": "", "same": "_border_same"}
ORDERS: tuple[Order, ...] = ("xy", "yx")
Case = dict[str, Array]


def run(folder: Path, tolerance: float) -> Iterator[Row]:
    """Yield the rows of every panoptic fixture of a folder.

    ValueError, one line, for a file that is broken.
    """
    for path in sorted(folder.glob("*.npz")):
        arrays = read_arrays(path)
        cases: dict[str, Case] = {}
        for name, array in arrays.items():
            case, _, part = name.partition("/")
            cases.setdefault(case, {})[part] = array
        if not any({"P", "Pu"} & case.keys() for case in cases.values()):
            continue
        for name, case in cases.items():
            rows = convolution_rows if "P" in case else upsampling_rows
            yield from guarded(path.stem, name, case, rows, tolerance)


def guarded(fixture: str, name: str, case: Case, rows: Any, tolerance: float) -> Iterator[Row]:
    """Rows of one case under its name.

    A case that cannot be evaluated is one failed row, an array nobody knows one more.
    """
    known: set[str] = set()
    try:
        for part, expected, actual, allowed, detail in rows(case, tolerance):
            known.add(part)
            yield compare(fixture, f"{name}/{part}", expected, actual, allowed, detail)
    except BrokenFileError:
        raise
    except FAULTS as err:
        yield Row(
            fixture,
            name,
            detail=f"cannot be compared: {' '.join(str(err).split())[:300]}",
            fault=True,
        )
        return
    inputs = {"x", "w", "b", "P", "g", "F", "Pd", "Pu", "S", "hole_w", "hole_b"}
    for part in sorted(case.keys() - known - inputs):
        yield Row(fixture, f"{name}/{part}", detail="not compared: unknown array")


def tensor(array: Array, dtype: torch.dtype, learned: bool = False) -> Tensor:
    """A recorded array; `learned` ones gather gradients."""
    return torch.from_numpy(array).to(dtype).requires_grad_(learned)


def convolution_rows(case: Case, tolerance: float) -> Iterator[tuple[str, Array, Any, float, str]]:
    """(array, recorded, ours, allowed, detail) of one case of the convolution."""
    identity = torch.from_numpy(case["P"])
    kernel = case["w"].shape[-1]
    if "mask" in case:
        yield (
            "mask",
            case["mask"],
            matching_taps(identity, kernel).transpose(0, 1).numpy(),
            tolerance,
            "definition",
        )
    for border, suffix in BORDERS.items():
        neighbourhood = Neighbourhood(identity, border=border)
        if f"ratio{suffix}" in case:
            ratio = (
                neighbourhood.windows(kernel)
                .ratio(None, torch.float64)
                .view(identity.shape)[:, None]
            )
            yield f"ratio{suffix}", case[f"ratio{suffix}"], ratio.numpy(), tolerance * 1e-5, "fast"
        for form in FORMS:
            for dtype, share in TYPES.items():
                x, weight = tensor(case["x"], dtype, True), tensor(case["w"], dtype, True)
                bias = tensor(case["b"], dtype, True) if "b" in case else None
                if form == "definition":
                    out = panoptic_conv_reference(x, weight, bias, identity, border)
                else:
                    out = panoptic_conv(x, weight, bias, neighbourhood, form)
                detail = f"{form}, {str(dtype).removeprefix('torch.')}"
                if f"out{suffix}" in case:
                    yield (
                        f"out{suffix}",
                        case[f"out{suffix}"],
                        out.detach().numpy(),
                        tolerance * share,
                        detail,
                    )
                if border == "hole" and "g" in case:
                    out.backward(tensor(case["g"], dtype))
                    for part, leaf in (("dx", x), ("dw", weight), ("db", bias)):
                        if part in case and leaf is not None:
                            assert leaf.grad is not None
                            yield part, case[part], leaf.grad.numpy(), tolerance * share, detail
                    if (
                        bias is None and "db" in case
                    ):  # recorded without a bias too: the sum of the gradient
                        yield (
                            "db",
                            case["db"],
                            tensor(case["g"], dtype).sum((0, 2, 3)).numpy(),
                            tolerance * share,
                            detail,
                        )


def upsampling_rows(case: Case, tolerance: float) -> Iterator[tuple[str, Array, Any, float, str]]:
    """The same of one case of upsampling and hole filling."""
    coarse, fine = torch.from_numpy(case["Pd"]), torch.from_numpy(case["Pu"])
    semantic = torch.from_numpy(case["S"])
    one_hot = bool(((semantic == 0) | (semantic == 1)).all() and (semantic.sum(1) == 1).all())
    for form in ("definition", "fast"):
        for dtype, share in TYPES.items():
            allowed, detail = tolerance * share, f"{form}, {str(dtype).removeprefix('torch.')}"
            weight = tensor(case["hole_w"], dtype)
            bias = tensor(case["hole_b"], dtype) if "hole_b" in case else None
            filling = panoptic_conv_reference(semantic.to(dtype), weight, bias, fine)
            if form == "definition":
                yield "f_hole", case["f_hole"], filling.numpy(), allowed, detail
            for order in ORDERS:
                if f"{order}/up" not in case:
                    continue
                x = tensor(case["F"], dtype, True)
                if form == "definition":
                    up, mask = panoptic_upsample_reference(x, coarse, fine, order)
                    final = up + ~mask[:, None] * filling
                else:
                    maps = (
                        {"classes": semantic.argmax(1)}
                        if one_hot
                        else {"extra": semantic.to(dtype)}
                    )
                    neighbourhood = Neighbourhood(fine, **maps, coarse=coarse, order=order)
                    up = panoptic_upsample(x, neighbourhood)
                    final = panoptic_upsample(
                        x, neighbourhood, hole_features(weight, bias, [neighbourhood])[0]
                    )
                    mask = torch.ones_like(fine, dtype=torch.bool)
                    mask.view(-1)[neighbourhood.upsampling.holes] = False
                    yield (
                        f"{order}/src",
                        case[f"{order}/src"],
                        passes(neighbourhood, case["Pd"], order),
                        allowed,
                        detail,
                    )
                up.backward(tensor(case["g"], dtype), retain_graph=True)
                assert x.grad is not None
                made = {"up": up, "M": mask, "final": final, "dF": x.grad}
                for part, actual in made.items():
                    yield (
                        f"{order}/{part}",
                        case[f"{order}/{part}"],
                        actual.detach().numpy(),
                        allowed,
                        detail,
                    )


def passes(neighbourhood: Neighbourhood, coarse: Array, order: Order) -> Array:
    """Which pass of Algorithm 1 gave each new pixel its feature, 0 to 3; -1 at holes."""
    b, height, width = neighbourhood.identity.shape
    plan, (_, h, w) = neighbourhood.upsampling, coarse.shape
    made = np.zeros(b * height * width, np.int8)
    place, source = plan.moved.numpy(), plan.source.numpy()
    down = source // w % h - place // width % height // 2
    right = source % w - place % width // 2
    made[place] = right + 2 * down if order == "xy" else down + 2 * right
    made[plan.holes.numpy()] = -1
    return made.reshape(b, height, width)
