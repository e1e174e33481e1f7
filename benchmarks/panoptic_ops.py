"""What panoptic awareness costs.

Convolution against a plain one, upsampling against nearest, on real maps at 256 x 256.

    python -m benchmarks.panoptic_ops MAPS [convolution] [upsampling] [guide] [memory]

On a GPU panoptic_ops_cuda.py prints these tables.

MAPS is a folder of COCO panoptic PNGs. Channels are those of the generator at each scale. One
thread of one process takes turns, every round with the next map: plain, ours, the definition by
unfolding; what counts is the median over rounds of the ratio of their CPU seconds, forward and
backward, which other work on the machine hardly moves. Memory is the peak of a process of its own
during forward and backward, less what it held before. Without parts, all.
"""

from __future__ import annotations

import ctypes
import re
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor

from synthaug.generators.nn.panoptic.conv import hole_features, panoptic_conv
from synthaug.generators.nn.panoptic.neighbourhood import Neighbourhood, NeighbourhoodPyramid
from synthaug.generators.nn.panoptic.reference import panoptic_conv_reference
from synthaug.generators.nn.panoptic.upsample import panoptic_upsample

SIDE, CLASSES, HEAD = (
    256,
    184,
    1024,
)  # full resolution; rows of the semantic map; channels of the first layer
# scale: channels in and out of the two convolutions there, of one image of the COCO generator
BLOCKS = {
    16: ((1024, 1024),),
    32: ((1024, 512), (512, 512)),
    64: ((512, 256), (256, 256)),
    128: ((256, 128), (128, 128)),
    256: ((128, 64), (64, 64)),
}
UPSAMPLED = {16: 1024, 32: 1024, 64: 512, 128: 256, 256: 128}  # channels that come to each scale
LIMITS = {64: 1.2, 128: 1.2, 256: 1.3}
Call = Callable[[], object]


def maps(folder: Path) -> list[tuple[Tensor, Tensor]]:
    """Identities and stand-ins for classes, each [1, 256, 256].

    Both follow from the id: costs depend on no more.
    """
    found = []
    for path in sorted(folder.glob("*.png")):
        image = Image.open(path).convert("RGB").resize((SIDE, SIDE), Image.Resampling.NEAREST)
        pixels = torch.from_numpy(np.asarray(image).astype(np.int64))
        identity = (pixels[..., 0] + 256 * pixels[..., 1] + 65536 * pixels[..., 2])[None]
        found.append((identity, identity % (CLASSES - 1)))
    if not found:
        raise SystemExit(f"{folder}: no *.png here; give a folder of COCO panoptic PNGs")
    return found


def turns(calls: Sequence[Mapping[str, Call]]) -> dict[str, list[float]]:
    """CPU seconds of each call, by rounds.

    Round by round in turn, after one that does not count.
    """
    seconds: dict[str, list[float]] = {name: [] for name in calls[0]}
    for counts, chosen in enumerate([calls[0], *calls]):
        for name, call in chosen.items():
            began = time.thread_time()
            call()
            if counts:
                seconds[name].append(time.thread_time() - began)
    return seconds


def ratio(own: list[float], other: list[float]) -> str:
    """Median and quartiles of the ratios of rounds."""
    ratios = [a / b for a, b in zip(own, other, strict=True)]
    low, middle, high = statistics.quantiles(ratios, n=4)
    return f"{middle:.2f} ({low:.2f}-{high:.2f})"


def both_ways(make: Callable[[], Tensor], leaves: Sequence[Tensor], grad: Tensor) -> None:
    for leaf in leaves:
        leaf.grad = None
    make().backward(grad)


def naive(x: Tensor, weight: Tensor, bias: Tensor, guide: Neighbourhood) -> Tensor:
    """Compute equations 1 and 2 by unfolding.

    Which taps match is known beforehand, as it is to ours.
    """
    batch, channels, height, width = x.shape
    windows = guide.windows(3)
    taps = F.unfold(x, 3, padding=1).view(batch, channels, 9, -1)  # [B, C, 9, H W]
    same = windows.same.view(9, batch, -1)  # [9, B, H W]
    same_by_image = same.transpose(0, 1)[:, None]  # [B, 1, 9, H W]
    matching = (taps * same_by_image).flatten(1, 2)  # [B, 9 C, H W]
    sums = weight.flatten(1) @ matching  # [B, D, H W]
    ratio = windows.ratio(None, x.dtype).view(batch, 1, -1)
    out = sums * ratio + bias[:, None]
    return out.view(batch, -1, height, width)


def layer(channels: int, out: int, side: int, batch: int = 1) -> tuple[list[Tensor], Tensor]:
    """[features, weight, bias] and the gradient of the result; channels last."""
    rng = torch.Generator().manual_seed(0)
    shapes = [
        (batch, channels, side, side),
        (out, channels, 3, 3),
        (out,),
        (batch, out, side, side),
    ]
    x, weight, bias, grad = (torch.randn(shape, generator=rng) for shape in shapes)
    weight *= (9 * channels) ** -0.5
    leaves = [t.contiguous(memory_format=torch.channels_last) for t in (x, weight)]
    leaves = [t.requires_grad_() for t in (*leaves, bias)]
    return leaves, grad.contiguous(memory_format=torch.channels_last)


def convolution(found: list[tuple[Tensor, Tensor]]) -> None:
    print(
        "\n| scale | channels | plain, ms | ours / plain | with guide | by unfolding / plain | "
        "limit | error | unfolded |"
    )
    print("|---|---|---|---|---|---|---|---|---|")
    for side, blocks in BLOCKS.items():
        for channels, out in blocks:
            leaves, grad = layer(channels, out, side)
            rounds, builds = [], []
            for identity, _ in found:
                began = time.thread_time()
                guide = NeighbourhoodPyramid(identity).at(side)
                prepare(guide)
                builds.append(time.thread_time() - began)
                forms: dict[str, Call] = {
                    "plain": partial(F.conv2d, *leaves, padding=1),
                    "ours": partial(panoptic_conv, *leaves, guide),
                    "naive": partial(naive, *leaves, guide),
                }
                rounds.append(
                    {name: partial(both_ways, form, leaves, grad) for name, form in forms.items()}
                )
            s = turns(rounds)
            shared = [
                own + build / len(blocks) for own, build in zip(s["ours"], builds, strict=True)
            ]
            wide = [t.detach().double() for t in leaves]
            exact = panoptic_conv_reference(*wide, guide.identity)
            errors = [
                (form(*leaves, guide) - exact).abs().max().item() for form in (panoptic_conv, naive)
            ]
            ratios = [ratio(own, s["plain"]) for own in (s["ours"], shared, s["naive"])]
            cells = [
                side,
                f"{channels} -> {out}",
                f"{1e3 * statistics.median(s['plain']):.0f}",
                *ratios,
            ]
            cells += [LIMITS.get(side, ""), *(f"{error:.0e}" for error in errors)]
            print(f"| {' | '.join(map(str, cells))} |", flush=True)


def prepare(guide: Neighbourhood) -> None:
    """Everything that the convolutions of a scale ask of the guide."""
    windows = guide.windows(3)
    _ = (windows.work, windows.pairs, windows.unmatched)


def nearest(x: Tensor) -> Tensor:
    return F.interpolate(x, scale_factor=2, mode="nearest").clone(memory_format=torch.channels_last)


class Ladder:
    """Features on their way to some scales, with what looking holes up needs.

    The first layer and its 1 x 1 reductions.
    """

    def __init__(
        self,
        sides: Sequence[int],
        batch: int = 1,
        device: str = "cpu",
        dtype: torch.dtype = torch.float32,
    ) -> None:
        rng = torch.Generator(device).manual_seed(0)
        self.make = {"device": device, "dtype": dtype, "generator": rng}
        self.sides, self.features, self.grads, self.reductions = sides, [], [], []
        for side in sides:
            channels = UPSAMPLED[side]
            x = torch.randn(batch, channels, side // 2, side // 2, **self.make)
            self.features.append(x.contiguous(memory_format=torch.channels_last).requires_grad_())
            grad = torch.randn(batch, channels, side, side, **self.make)
            self.grads.append(grad.contiguous(memory_format=torch.channels_last))
            weight = (
                torch.randn(channels, HEAD, **self.make).requires_grad_()
                if channels < HEAD
                else None
            )
            self.reductions.append(weight)
        self.head = torch.randn(HEAD, CLASSES, 3, 3, **self.make).requires_grad_()
        self.bias = torch.zeros(HEAD, device=device, dtype=dtype).requires_grad_()

    def nearest(self, _guide: NeighbourhoodPyramid) -> list[Tensor]:
        return [nearest(x) for x in self.features]

    def given(self, guide: NeighbourhoodPyramid) -> list[Tensor]:
        """Holes filled with features that are there; here 0."""
        return [
            panoptic_upsample(x, guide.at(side))
            for side, x in zip(self.sides, self.features, strict=True)
        ]

    def looked_up(self, guide: NeighbourhoodPyramid) -> list[Tensor]:
        """With all of hole filling: look-up, reduction, placement."""
        scales = [guide.at(side) for side in self.sides]
        rows = hole_features(self.head, self.bias, scales)
        rows = [
            r if w is None else F.linear(r, w) for r, w in zip(rows, self.reductions, strict=True)
        ]
        return [
            panoptic_upsample(x, scale, r)
            for x, scale, r in zip(self.features, scales, rows, strict=True)
        ]

    def both_ways(
        self, form: Callable[[NeighbourhoodPyramid], list[Tensor]], guide: NeighbourhoodPyramid
    ) -> None:
        for leaf in (*self.features, *self.reductions, self.head, self.bias):
            if leaf is not None:
                leaf.grad = None
        torch.autograd.backward(form(guide), self.grads)


def upsampling(found: list[tuple[Tensor, Tensor]]) -> None:
    print(
        "\n| to scale | nearest and copy, ms | holes given | holes looked up | forward: given | "
        "looked up |"
    )
    print("|---|---|---|---|---|---|")
    for sides in (*((side,) for side in UPSAMPLED), tuple(UPSAMPLED)):
        ladder = Ladder(sides)
        forms = {"nearest": ladder.nearest, "given": ladder.given, "looked up": ladder.looked_up}
        rounds: list[Mapping[str, Call]] = []
        for identity, classes in found * 3:
            guide = NeighbourhoodPyramid(identity, classes)
            for side in sides:
                guide.at(side).hole_table(3, CLASSES)
            calls: dict[str, Call] = {
                name: partial(ladder.both_ways, form, guide) for name, form in forms.items()
            }
            rounds.append(
                calls | {f"{name}, forward": partial(form, guide) for name, form in forms.items()}
            )
        s = turns(rounds)
        cells = [ratio(s[name], s["nearest"]) for name in ("given", "looked up")]
        cells += [
            ratio(s[f"{name}, forward"], s["nearest, forward"]) for name in ("given", "looked up")
        ]
        name = str(sides[0]) if len(sides) == 1 else "all in one pass"
        print(
            f"| {name} | {1e3 * statistics.median(s['nearest']):.1f} | {' | '.join(cells)} |",
            flush=True,
        )


def guides(found: list[tuple[Tensor, Tensor]]) -> None:
    print(
        "\n| scale | windows and their lists, ms | upsampling and holes, ms | mixed windows | "
        "holes |\n|---|---|---|---|---|"
    )
    for side in BLOCKS:
        calls, shares, holes = [], [], []
        for identity, classes in found:
            guide = NeighbourhoodPyramid(identity, classes).at(side)
            shares.append(len(guide.windows(3).mixed) / side**2)
            holes.append(len(guide.upsampling.holes) / side**2)

            def convolving(identity: Tensor = identity, side: int = side) -> None:
                prepare(NeighbourhoodPyramid(identity).at(side))

            def rising(
                identity: Tensor = identity, classes: Tensor = classes, side: int = side
            ) -> None:
                NeighbourhoodPyramid(identity, classes).at(side).hole_table(3, CLASSES)

            calls.append({"conv": convolving, "up": rising})
        s = turns(calls)
        conv, up = (1e3 * statistics.median(s[name]) for name in ("conv", "up"))
        print(
            f"| {side} | {conv:.2f} | {up:.2f} | {statistics.mean(shares):.1%} | "
            f"{statistics.mean(holes):.2%} |",
            flush=True,
        )


def resident(key: str) -> int:
    """Bytes of memory this process holds (VmRSS) or held at most (VmHWM)."""
    found = re.search(rf"{key}:\s+(\d+) kB", Path("/proc/self/status").read_text())
    assert found is not None
    return int(found.group(1)) * 1024


def peak_of(form: str, side: int, channels: int, out: int, folder: Path, batch: int = 4) -> int:
    """Bytes that forward and backward of one layer add to this process, its guide included."""
    identity = torch.cat([identity for identity, _ in maps(folder)[:batch]])
    forms: dict[str, Callable[..., Tensor]] = {
        "plain": lambda _identity, *given: F.conv2d(*given, padding=1),
        "ours": lambda identity, *given: panoptic_conv(
            *given, NeighbourhoodPyramid(identity).at(side)
        ),
        "naive": lambda identity, *given: naive(*given, NeighbourhoodPyramid(identity).at(side)),
    }
    small, small_grad = layer(
        channels, out, side, 1
    )  # the libraries keep what they set up at their first call
    both_ways(partial(forms[form], identity[:1], *small), small, small_grad)
    del small, small_grad
    leaves, grad = layer(channels, out, side, batch)
    ctypes.CDLL("libc.so.6").malloc_trim(
        0
    )  # what construction left free must not serve the pass unseen
    Path("/proc/self/clear_refs").write_text("5")  # the peak starts anew
    before = resident("VmRSS")
    both_ways(partial(forms[form], identity, *leaves), leaves, grad)
    return resident("VmHWM") - before


def memory(folder: Path) -> None:
    print(
        "\n| scale | channels | plain, MB | ours / plain | by unfolding / plain "
        "|\n|---|---|---|---|---|"
    )
    for side in LIMITS:
        for channels, out in BLOCKS[side]:
            peaks = {}
            for form in ("plain", "ours", "naive"):
                words = ["peak", str(folder), form, str(side), str(channels), str(out)]
                child = [sys.executable, "-m", "benchmarks.panoptic_ops", *words]
                peaks[form] = int(
                    subprocess.run(child, check=True, capture_output=True, text=True).stdout
                )
            shares = (f"{peaks[form] / peaks['plain']:.2f}" for form in ("ours", "naive"))
            print(
                f"| {side} | {channels} -> {out} | {peaks['plain'] / 1e6:.0f} | "
                f"{' | '.join(shares)} |",
                flush=True,
            )


def main() -> None:
    torch.set_num_threads(1)
    if len(sys.argv) < 2:
        raise SystemExit(__doc__)
    if sys.argv[1] == "peak":
        folder, form, *sizes = sys.argv[2:]
        print(peak_of(form, *map(int, sizes), Path(folder)))
        return
    folder = Path(sys.argv[1])
    parts: dict[str, Callable[[list[tuple[Tensor, Tensor]]], None]] = {
        "convolution": convolution,
        "upsampling": upsampling,
        "guide": guides,
        "memory": lambda _found: memory(folder),
    }
    found = maps(folder)
    print(f"{len(found)} maps, torch {torch.__version__}, one thread")
    for name in sys.argv[2:] or parts:
        parts[name](found)


if __name__ == "__main__":
    main()
