"""Recognise a LostGAN by key names and shapes.

Both versions, generators and discriminators of all sizes.
"""

from __future__ import annotations

import re
from dataclasses import replace
from typing import Any

import torch

from synthaug.generators.lostgan.config import VERSIONS, WIDTHS, Config
from synthaug.generators.lostgan.discriminator import PLANS, Discriminator
from synthaug.generators.lostgan.network import LostGanGenerator
from synthaug.generators.official import Found, State, vote

VISUAL_GENOME_ROWS = 179
# buffers of a batch norm that the code of 2019 made in every normalisation and never used
UNUSED_OF_VERSION_1 = re.compile(r"res\d+\.b[12]\.(running_mean|running_var|num_batches_tracked)")


def recognise(state: State, background: bool) -> Found | None:
    """Return the network of a state dict, None when its keys are not LostGAN's.

    ValueError names a key that is wrong.
    """
    if any(key.startswith(("mask_regress.", "label_embedding.")) for key in state):
        return _generator(state, background)
    if any(key.startswith(("l_obj.", "l_y.")) for key in state):
        return _discriminator(state, background)
    return None


def _generator(state: State, background: bool) -> Found:
    version = 1
    if any(re.match(r"alpha\d|res\d+\.conv_mask\.", key) for key in state):
        version = 2
    first, blocks = _blocks(state)
    resolution = 0
    for candidate in VERSIONS[version]:
        if len(WIDTHS[candidate]) - 1 == blocks:
            resolution = candidate
            break
    if not resolution:
        raise ValueError(f"has {blocks} blocks 'res*'; no model of version {version} has so many")
    labels = _labels(state, ("label_embedding.weight", 0))
    sizes = _sizes(state, first, version)
    config = Config(version=version, resolution=resolution, background=background, **sizes)
    if config.mask_labels and config.mask_labels < labels:
        raise ValueError(
            f"'label_embedding.weight' has {labels} rows, the mask heads only {config.mask_labels}"
        )
    title = (
        f"LostGAN version {version} at {resolution} pixels, width {config.width}, {labels} label "
        "rows"
    )
    if config.mask_labels == labels:
        config = replace(config, mask_labels=0)  # as many as label rows
    elif config.mask_labels:
        title += f" ({config.mask_labels} in the mask heads)"
    hint = ""
    if labels == VISUAL_GENOME_ROWS and not background:
        hint = (
            f"{labels} label rows are those of Visual Genome, whose models were trained with a "
            "whole-image object: if this is one, import it with --background"
        )
    with torch.device("meta"):
        network = LostGanGenerator(config, labels)
    unused = UNUSED_OF_VERSION_1 if version == 1 else None
    return Found("generator", config, labels, title, network, unused, hint)


def _blocks(state: State) -> tuple[int, int]:
    """Return the number of the first residual block, and how many there are."""
    numbers = []
    for key in state:
        match = re.match(r"res(\d+)\.", key)
        if match:
            numbers.append(int(match[1]))
    if not numbers:
        return 1, 0
    return min(numbers), max(numbers) - min(numbers) + 1


def _labels(state: State, *places: tuple[str, int]) -> int:
    """Return the number of label rows.

    ValueError names the key when there are too few.
    """
    labels = vote(state, 0, *places)
    if labels < 2:
        raise ValueError(
            f"'{places[0][0]}' has {labels} rows; a model has the background's and one per class"
        )
    return labels


def _sizes(state: State, first: int, version: int) -> dict[str, Any]:
    """Return widths of a generator by the names of Config."""
    block = f"res{first}"
    width = vote(state, 0, ("final.0.weight", 0), ("final.0.bias", 0), ("final.2.weight_orig", 1))
    code = vote(
        state,
        0,
        ("mask_regress.fc.weight_orig", 1),
        (f"{block}.b1.weight_proj.weight_orig", 1),
        (f"{block}.b1.bias_proj.weight_orig", 1),
        (f"{block}.b2.weight_proj.weight_orig", 1),
        (f"{block}.b2.bias_proj.weight_orig", 1),
    )
    embedding = vote(state, 0, ("label_embedding.weight", 1))
    if embedding >= code:
        raise ValueError(
            f"'label_embedding.weight' has {embedding} columns, the joint codes only {code}"
        )
    sizes = {"width": width, "embedding": embedding, "z_object": code - embedding}
    sizes["z_image"] = vote(state, Config.z_image, ("fc.weight_orig", 1), ("fc.weight_v", 0))
    if version == 1:
        return sizes
    head = f"{block}.conv_mask"
    sizes["mask_hidden"] = vote(
        state,
        Config.mask_hidden,
        (f"{head}.0.weight", 0),
        (f"{head}.1.weight", 0),
        (f"{head}.3.weight", 1),
    )
    sizes["mask_labels"] = vote(
        state, 0, (f"alpha{first}", 1), (f"{head}.3.weight", 0), (f"{head}.3.bias", 0)
    )
    return sizes


def _discriminator(state: State, background: bool) -> Found:
    resolutions = []
    for side, plan in PLANS.items():
        head = plan.image_head
        if f"{head}.weight_orig" in state or f"{head}.bias" in state:
            resolutions.append(side)
    if len(resolutions) != 1:
        count = len(resolutions) or "none"
        heads = ", ".join(plan.image_head for plan in PLANS.values())
        raise ValueError(f"has {count} of the image heads {heads}; it is no complete checkpoint")
    resolution = resolutions[0]
    width = vote(
        state,
        0,
        ("block1.conv1.weight_orig", 0),
        ("block1.conv1.bias", 0),
        ("block1.conv2.weight_orig", 0),
    )
    labels = _labels(state, ("l_y.weight_orig", 0), ("l_y.weight_u", 0))
    config = Config(resolution=resolution, width=width, background=background)
    with torch.device("meta"):
        network = Discriminator(resolution, width, labels)
    title = f"LostGAN at {resolution} pixels, width {width}, {labels} label rows"
    return Found("discriminator", config, labels, title, network)
