"""What panoptic awareness costs on a GPU.

The tables of panoptic_ops.py, and the tiles of the kernels.

    python -m benchmarks.panoptic_ops_cuda MAPS [convolution] [upsampling] [guide] [memory] [tiles]

Batches of BATCH maps, channels last; forward and backward unless said; times are medians of calls
as a user makes them, by device events. float32 is multiplied as torch's defaults say. "lists" is
what is done without triton: a plain convolution with its mixed windows computed anew, or a product
per tap at coarse scales. Without parts all but tiles, which tries settings of the kernels.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor

from benchmarks.cuda_timing import (
    about,
    heading,
    in_parallel,
    milliseconds,
    peak_bytes,
    replayed,
    row,
    tried,
)
from benchmarks.panoptic_ops import (
    BLOCKS,
    CLASSES,
    LIMITS,
    UPSAMPLED,
    Ladder,
    both_ways,
    maps,
    naive,
)
from synthaug.generators.nn.panoptic.conv import panoptic_conv
from synthaug.generators.nn.panoptic.neighbourhood import Neighbourhood, NeighbourhoodPyramid
from synthaug.generators.nn.panoptic.reference import panoptic_conv_reference

BATCH = 8
DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16}
FORMS = ("fused", "lists")
# rows, columns, depth in bytes, warps, stages
TILES = (
    (128, 128, 128, 8, 3),
    (128, 128, 128, 8, 4),
    (128, 128, 64, 8, 4),
    (128, 128, 128, 4, 3),
    (128, 256, 128, 8, 3),
    (256, 128, 128, 8, 3),
    (64, 128, 128, 4, 4),
    (128, 64, 128, 4, 3),
    (128, 64, 128, 4, 4),
    (256, 64, 128, 8, 3),
)
SHAPES = {
    64: (512, 256),
    128: (256, 128),
    256: (128, 64),
}  # of the tiles: scale, channels in and out
Maps = tuple[Tensor, Tensor]  # identities and classes [B, 256, 256]


def batch_of(folder: Path) -> Maps:
    found = maps(folder)
    chosen = [found[i % len(found)] for i in range(BATCH)]
    return torch.cat([i for i, _ in chosen]).cuda(), torch.cat([c for _, c in chosen]).cuda()


def layer(
    channels: int, out: int, side: int, dtype: torch.dtype, batch: int = BATCH
) -> tuple[list[Tensor], Tensor]:
    """[features, weight, bias] and the gradient of the result; channels last."""
    rng = torch.Generator("cuda").manual_seed(0)
    shapes = [
        (batch, channels, side, side),
        (out, channels, 3, 3),
        (out,),
        (batch, out, side, side),
    ]
    x, weight, bias, grad = (torch.randn(shape, device="cuda", generator=rng) for shape in shapes)
    weight *= (9 * channels) ** -0.5
    last = torch.channels_last
    leaves = [x.to(dtype, memory_format=last), weight.to(dtype, memory_format=last), bias.to(dtype)]
    return [t.requires_grad_() for t in leaves], grad.to(dtype, memory_format=last)


def form_of(name: str, guide: Neighbourhood) -> Callable[..., Tensor]:
    if name == "lists":  # as panoptic_ops.py chooses without triton
        return partial(
            panoptic_conv,
            neighbourhood=guide,
            form="taps" if guide.windows(3).work > 0.2 else "windows",
        )
    return partial(panoptic_conv, neighbourhood=guide, form=name)


def convolution(given: Maps, dtypes: dict[str, torch.dtype]) -> None:
    names = [
        "scale",
        "channels",
        "",
        "plain, ms",
        *(f"{name} / plain" for name in FORMS),
        "unfolded / plain",
        "limit",
    ]
    heading(*names, "forward alone: plain, ms", "fused / plain", "errors: plain, fused")
    for dtype_name, dtype in dtypes.items():
        for side, blocks in BLOCKS.items():
            guide = NeighbourhoodPyramid(given[0]).at(side)
            for channels, out in blocks if side >= 64 else blocks[:1]:
                leaves, grad = layer(channels, out, side, dtype)
                forms = {"plain": partial(F.conv2d, padding=1)} | {
                    name: form_of(name, guide) for name in FORMS
                }
                if side >= 64 and dtype == torch.float32:
                    forms["naive"] = partial(naive, guide=guide)
                ways = {
                    n: partial(both_ways, partial(form, *leaves), leaves, grad)
                    for n, form in forms.items()
                }
                t = tried(ways, partial(milliseconds, seconds=0.15))
                with torch.no_grad():
                    ahead = {n: partial(forms[n], *leaves) for n in ("plain", "fused")}
                    f = tried(ahead, partial(milliseconds, seconds=0.1))
                ratios = [f"{t[n] / t['plain']:.2f}" if n in t else "" for n in (*FORMS, "naive")]
                cells = [
                    side,
                    f"{channels} -> {out}",
                    dtype_name,
                    f"{t['plain']:.2f}",
                    *ratios,
                    LIMITS.get(side, ""),
                ]
                row(
                    *cells,
                    f"{f['plain']:.2f}",
                    f"{f['fused'] / f['plain']:.2f}",
                    errors(leaves, given[0], side),
                )


def errors(leaves: list[Tensor], identity: Tensor, side: int) -> str:
    """Relative to the definition in float64, of one image; the plain convolution's to its own."""
    x, weight, bias = (t.detach() for t in leaves)
    x, one = (
        x[:1].contiguous(memory_format=torch.channels_last),
        NeighbourhoodPyramid(identity[:1]).at(side),
    )
    wide = [t.double() for t in (x, weight, bias)]
    exact = panoptic_conv_reference(*wide, one.identity)
    made = [
        (F.conv2d(x, weight, bias, padding=1), F.conv2d(*wide, padding=1)),
        (panoptic_conv(x, weight, bias, one, "fused"), exact),
    ]
    return ", ".join(f"{((m.double() - e).norm() / e.norm()).item():.0e}" for m, e in made)


def upsampling(given: Maps, dtypes: dict[str, torch.dtype]) -> None:
    heading(
        "to scale",
        "",
        "nearest and copy, ms",
        "holes given",
        "holes looked up",
        "forward: given",
        "looked up",
    )
    for dtype_name, dtype in dtypes.items():
        for sides in (*((side,) for side in UPSAMPLED), tuple(UPSAMPLED)):
            ladder = Ladder(sides, BATCH, "cuda", dtype)
            guide = NeighbourhoodPyramid(*given)
            for side in sides:
                guide.at(side).hole_table(3, CLASSES)
            forms = {
                "nearest": ladder.nearest,
                "given": ladder.given,
                "looked up": ladder.looked_up,
            }
            t = tried(
                {n: partial(ladder.both_ways, form, guide) for n, form in forms.items()},
                milliseconds,
            )
            with torch.no_grad():
                f = tried(
                    {n: partial(form, guide) for n, form in forms.items()},
                    partial(milliseconds, seconds=0.1),
                )
            cells = [f"{s[n] / s['nearest']:.2f}" for s in (t, f) for n in ("given", "looked up")]
            name = sides[0] if len(sides) == 1 else "all in one pass"
            row(name, dtype_name, f"{t['nearest']:.2f}", *cells)


def guides(given: Maps, _dtypes: dict[str, torch.dtype]) -> None:
    heading(
        "scale",
        "for the kernels, ms",
        "with lists, ms",
        "upsampling and holes, ms",
        "mixed windows",
        "holes",
    )
    for side in BLOCKS:

        def kernels(side: int = side) -> None:
            windows = NeighbourhoodPyramid(given[0]).at(side).windows(3)
            _ = windows.bits, windows.scale, windows.pure_scale

        def lists(side: int = side) -> None:
            windows = NeighbourhoodPyramid(given[0]).at(side).windows(3)
            _ = windows.work, windows.pairs, windows.unmatched

        def rising(side: int = side) -> None:
            NeighbourhoodPyramid(*given).at(side).hole_table(3, CLASSES)

        times = [f"{milliseconds(call, 0.1):.2f}" for call in (kernels, lists, rising)]
        guide = NeighbourhoodPyramid(*given).at(side)
        pixels = BATCH * side**2
        mixed, holes = len(guide.windows(3).mixed) / pixels, len(guide.upsampling.holes) / pixels
        row(side, *times, f"{mixed:.1%}", f"{holes:.2%}")


def memory(given: Maps, dtypes: dict[str, torch.dtype]) -> None:
    heading("scale", "channels", "", "plain, MB", *(f"{name} / plain" for name in FORMS))
    for dtype_name, dtype in dtypes.items():
        for side in LIMITS:
            for channels, out in BLOCKS[side]:
                leaves, grad = layer(channels, out, side, dtype)
                guide = NeighbourhoodPyramid(given[0]).at(side)
                forms = {"plain": partial(F.conv2d, padding=1)} | {
                    name: form_of(name, guide) for name in FORMS
                }
                calls = {
                    n: partial(both_ways, partial(form, *leaves), leaves, grad)
                    for n, form in forms.items()
                }
                for call in calls.values():
                    call()  # what libraries and guides keep is not the pass's
                peaks = tried(calls, peak_bytes)
                ratios = [f"{peaks[name] / peaks['plain']:.2f}" for name in FORMS]
                row(
                    side, f"{channels} -> {out}", dtype_name, f"{peaks['plain'] / 1e6:.0f}", *ratios
                )


def tiles(given: Maps, dtypes: dict[str, torch.dtype]) -> None:
    """The three products by tile.

    Times over a plain convolution's, forward, without the gaps between launches.
    """
    from synthaug.generators.nn.panoptic import triton as kernels

    heading("scale", "", "tile", "result", "gradient of input", "gradient of weight, mixed windows")
    for side, (channels, out) in SHAPES.items():
        windows = NeighbourhoodPyramid(given[0]).at(side).windows(3)
        for dtype_name, dtype in dtypes.items():
            leaves, grad = layer(channels, out, side, dtype)
            x, weight, bias = (t.detach() for t in leaves)
            plain = replayed(partial(F.conv2d, x, weight, bias, padding=1), 0.05)
            for rows, columns, size, warps, stages in TILES:
                tile = kernels.Tile(rows, columns, size // dtype.itemsize, warps, stages)
                calls = {
                    "all": partial(kernels.convolve, x, weight, bias, windows, tile=tile),
                    "back": partial(kernels.gradient_of_input, grad, weight, windows, tile=tile),
                    "weight": partial(kernels.gradient_of_weight, grad, x, windows, tile),
                }
                if columns > 2 * out:
                    calls.pop("all")
                t = tried(calls, partial(milliseconds, seconds=0.03))
                cells = [f"{t[n] / plain:.2f}" if n in t else "" for n in ("all", "back", "weight")]
                row(
                    side,
                    dtype_name,
                    f"{tile.rows} x {tile.columns} x {tile.depth}, {warps} w, {stages} s",
                    *cells,
                )


def compile_tiles(given: Maps, number: int, of: int) -> None:
    """Compile every `of`-th tile from the `number`-th on, on small maps."""
    from synthaug.generators.nn.panoptic import triton as kernels

    windows = NeighbourhoodPyramid(given[0][:1]).at(64).windows(3)
    for place, (rows, columns, size, warps, stages) in enumerate(TILES * len(DTYPES)):
        if place % of != number:
            continue
        dtype = list(DTYPES.values())[place // len(TILES)]
        leaves, grad = layer(128, 128, 64, dtype, 1)
        x, weight, bias = (t.detach() for t in leaves)
        tile = kernels.Tile(rows, columns, size // dtype.itemsize, warps, stages)
        calls = {
            "all": partial(kernels.convolve, x, weight, bias, windows, tile=tile),
            "back": partial(kernels.gradient_of_input, grad, weight, windows, tile=tile),
            "weight": partial(kernels.gradient_of_weight, grad, x, windows, tile),
        }
        tried(calls, lambda call: float(call() is None))


def compile_forms(given: Maps, dtype: torch.dtype, side: int) -> None:
    """Compile what `convolution` needs at a scale; tiles depend on the number of rows."""
    guide = NeighbourhoodPyramid(given[0]).at(side)
    for channels, out in BLOCKS[side]:
        leaves, grad = layer(channels, out, side, dtype)
        fused = partial(form_of("fused", guide), *leaves)
        tried(
            {"fused": partial(both_ways, fused, leaves, grad)}, lambda call: float(call() is None)
        )


def main() -> None:
    """Print the tables that are named, or all but the tiles'."""
    if len(sys.argv) < 2:
        raise SystemExit(__doc__)
    folder, words = Path(sys.argv[1]), sys.argv[2:]
    given = batch_of(folder)
    if words[:1] == ["compile-tiles"]:
        compile_tiles(given, int(words[1]), int(words[2]))
        return
    if words[:1] == ["compile-forms"]:
        compile_forms(given, DTYPES[words[1]], int(words[2]))
        return
    parts = {
        "convolution": convolution,
        "upsampling": upsampling,
        "guide": guides,
        "memory": memory,
        "tiles": tiles,
    }
    print(f"{BATCH} maps of {len(maps(folder))} at a time, {about()}")
    dtypes = {n: d for n, d in DTYPES.items() if n in words} or DTYPES
    for name in [w for w in words if w in parts] or list(parts)[:-1]:
        tasks: list[list[str]] = []
        if name == "tiles":
            tasks = [["compile-tiles", str(n), "10"] for n in range(10)]
        elif name == "convolution":
            tasks = [["compile-forms", dtype, str(side)] for dtype in dtypes for side in BLOCKS]
        in_parallel("benchmarks.panoptic_ops_cuda", [[str(folder), *task] for task in tasks])
        parts[name](given, dtypes)


if __name__ == "__main__":
    main()
