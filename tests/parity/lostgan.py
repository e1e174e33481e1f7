"""LostGAN against the recorded outputs of the published networks, through the import of official
checkpoints.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from tests.parity.comparison import BrokenFileError, Row, compare, read_arrays
from tests.parity.lostgan_discriminator import discriminator_rows
from tests.parity.lostgan_fixtures import Fixture, Trace, sigma_row
from tests.parity.lostgan_step import step_rows

CROP = slice(80, 176)
IMAGE = re.compile(r"(out|pretanh)_ac([01])(?:_(crop|stride(\d+)))?")
INPUTS = {"z_obj", "z_img", "boxes_xywh", "labels", "rule", "torch_version", "sn_keys"}
FAULTS = (
    ValueError,
    RuntimeError,
    LookupError,
    FileNotFoundError,
)  # what a fixture that does not fit ends in


def run(folder: Path, tolerance: float) -> Iterator[Row]:
    """Yield the rows of every LostGAN fixture of a folder.

    ValueError, one line, for a file that is broken.
    """
    fixtures = [
        Fixture(folder, path.stem, read_arrays(path)) for path in sorted(folder.glob("*.npz"))
    ]
    for fixture in fixtures:
        arrays = fixture.arrays.keys()
        if arrays >= {"g_grad_keys", "d_grad_keys"}:
            rows = step_rows
        elif "boxes_xywh" in arrays and "out_img" in arrays:
            rows = discriminator_rows
        elif arrays >= {"boxes_xywh", "z_obj", "z_img"}:
            rows = generator_rows
        else:
            continue
        try:
            yield from rows(fixture, tolerance)
        except BrokenFileError:
            raise
        except FAULTS as err:
            reason = " ".join(str(err).split())[:300]
            yield Row(fixture.name, "", detail=f"cannot be compared: {reason}", fault=True)


def generator_rows(fixture: Fixture, tolerance: float) -> Iterator[Row]:
    """Images, traces and tanh's inputs under each recorded placement of masks, of the network and
    of production.
    """
    imported, state = fixture.network(fixture.keys())
    yield Row(fixture.name, "weights", detail=f"imported as {imported}")
    yield from sigma_row(fixture, state, tolerance)
    network: Any = imported.network.eval()
    settings = network.config
    done = INPUTS | {"sn_sigma"}
    for flag in ("1", "0"):
        names = [n for n in fixture.arrays if re.search(rf"_ac{flag}(_|$)", n)]
        if not names:
            continue
        network.config = replace(settings, align_corners=flag == "1")
        made, trace = forward(fixture, network, f"_ac{flag}")
        for name in names:
            if (match := IMAGE.fullmatch(name)) and match[1] in made:
                done |= {name}
                yield compare(
                    fixture.name, name, fixture.arrays[name], cut(made[match[1]], match), tolerance
                )
        if f"trace_names_ac{flag}" in names:
            done |= {f"trace_{part}_ac{flag}" for part in ("names", "stats", "samples")}
            yield from trace.rows(fixture, f"_ac{flag}", tolerance)
        yield from fast_rows(fixture, network, names, tolerance)
    if not any(name.startswith("out_ac") for name in done):
        yield Row(fixture.name, "out_ac1", detail="holds no image", fault=True)
    for name in sorted(fixture.arrays.keys() - done):
        yield Row(fixture.name, name, detail="not compared: unknown array")


def forward(fixture: Fixture, network: Any, suffix: str) -> tuple[dict[str, Tensor], Trace]:
    """Run the network on the recorded inputs.

    {"out": images, "pretanh": what tanh was given}, and the trace.
    """
    names = fixture.arrays.get(f"trace_names{suffix}")
    trace = Trace(network, [] if names is None else names.tolist())
    trace.changes["mask_regress.conv3.out"] = (
        torch.sigmoid
    )  # theirs ends in the sigmoid, ours stands after it
    trace.wanted = [
        name for name in trace.wanted if name != "mask_regress.out"
    ]  # theirs is placed already
    before_tanh = []
    handle = network.final[2].register_forward_hook(lambda _m, _i, out: before_tanh.append(out))
    with torch.inference_mode(), trace:
        z_image, z_objects = (
            torch.from_numpy(fixture.arrays[name]).float() for name in ("z_img", "z_obj")
        )
        images, stacks = network(fixture.layouts(), z_image, z_objects)
        trace.note("mask_regress.out", stacks[0])
    handle.remove()
    return {"out": images, "pretanh": before_tanh[0]}, trace


def fast_rows(fixture: Fixture, network: Any, names: list[str], tolerance: float) -> Iterator[Row]:
    """The same images by the network that production uses, where there is one."""
    if find_spec("synthaug.generators.lostgan.fast") is None:
        return
    from synthaug.generators.lostgan.fast import FastGenerator

    with torch.inference_mode():
        z_image, z_objects = (
            torch.from_numpy(fixture.arrays[name]).float() for name in ("z_img", "z_obj")
        )
        images = FastGenerator(network)(fixture.layouts(), z_image, z_objects)[0]
    for name in names:
        if (match := IMAGE.fullmatch(name)) and match[1] == "out":
            expected, actual = fixture.arrays[name], cut(images, match)
            yield compare(fixture.name, f"{name} in production", expected, actual, tolerance)


def cut(images: Tensor, match: re.Match[str]) -> Any:
    """The recorded part of images [B, 3, R, R]: all, the middle, or every n-th row and column."""
    if match[4]:
        step = int(match[4])
        return images[:, :, ::step, ::step].float().numpy()
    return (images[:, :, CROP, CROP] if match[3] else images).float().numpy()
