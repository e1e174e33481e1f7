"""Recognition of CRN's published variables by their TensorFlow names and shapes."""

from __future__ import annotations

import re
from dataclasses import replace

import torch
from torch import Tensor

from synthaug.generators.crn.config import FIRST_ROWS, Config
from synthaug.generators.crn.network import CascadedRefinement
from synthaug.generators.official import Found, State, vote

VARIABLE = re.compile(r"g_(\d+)_conv(1|2|100)/(weights|biases|LayerNorm/gamma|LayerNorm/beta)")
FIRST = f"g_{FIRST_ROWS}_conv1/weights"
UNUSED = re.compile(r".*/Adam(_1)?|beta[12]_power|global_step")  # of the optimizer
RATIO = 2  # width / height of the published models
CITYSCAPES = 19  # classes


def recognise(state: State, background: bool) -> Found | None:
    """Return the network of published variables, or None when they are not CRN's.

    Raises ValueError naming a variable that is wrong.
    """
    del background  # of other systems
    if FIRST not in state:
        return None
    rows = sorted({int(match[1]) for match in map(VARIABLE.fullmatch, state) if match})
    if rows != [FIRST_ROWS << level for level in range(len(rows))]:
        raise ValueError(f"has levels of {rows} rows, which are no doublings of {FIRST_ROWS}")
    widths = tuple(_width(state, height) for height in rows)
    channels = vote(state, 0, (FIRST, 2))
    head = f"g_{rows[-1]}_conv100"
    colors = vote(state, 0, (f"{head}/biases", 0), (f"{head}/weights", 3))
    if channels < 2 or colors % 3 or not colors:
        raise ValueError(
            f"'{FIRST}' has {channels} channels of maps and '{head}/biases' {colors} of images; "
            "it is no complete checkpoint"
        )
    classes = channels - 1
    config = Config(RATIO * rows[-1], float(RATIO), widths[0], widths, colors // 3)
    usual = replace(config, widths=())
    if usual.level_widths == widths:
        config = usual
    with torch.device("meta"):
        network = CascadedRefinement(config, classes)
    height, width = config.size
    title = (
        f"CRN at {width} x {height} pixels, width {config.width}, {classes} classes, "
        f"{config.images} images per map"
    )
    hint = ""
    if classes != CITYSCAPES:
        hint = f"{channels} channels for maps are taken as {classes} classes and don't care"
    return Found(
        "generator", config, classes + 1, title, network, UNUSED, hint, convert=with_our_names
    )


def _width(state: State, rows: int) -> int:
    name = f"g_{rows}_conv"
    width = vote(
        state,
        0,
        (f"{name}1/LayerNorm/beta", 0),
        (f"{name}2/LayerNorm/beta", 0),
        (f"{name}1/weights", 3),
    )
    if not width:
        raise ValueError(f"'{name}1/LayerNorm/beta' is empty; it is no complete checkpoint")
    return width


def with_our_names(state: State) -> State:
    """Return variables by our names and in our shapes; others as they are."""
    return {our_name(name): our_shape(value) for name, value in state.items()}


def our_name(name: str) -> str:
    """Return our name of a TensorFlow variable."""
    match = VARIABLE.fullmatch(name)
    if match is None:
        return name
    kind = "bias" if match[3] in ("biases", "LayerNorm/beta") else "weight"
    if match[2] == "100":
        return f"head.{kind}"
    level = (int(match[1]) // FIRST_ROWS).bit_length() - 1
    layer = "norm" if "LayerNorm" in match[3] else "conv"
    return f"levels.{level}.{layer}{match[2]}.{kind}"


def our_shape(value: Tensor) -> Tensor:
    """Return a kernel [height, width, in, out] as [out, in, height, width]."""
    if value.ndim != 4:
        return value
    return value.permute(3, 2, 0, 1)
