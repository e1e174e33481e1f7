"""Recognise a Grid2Im by key names and shapes: G and its discriminators."""

from __future__ import annotations

import re
from typing import Any

import torch

from synthaug.generators.grid2im.config import Config
from synthaug.generators.grid2im.discriminator import ImageDiscriminator, MaskDiscriminator
from synthaug.generators.grid2im.network import Grid2ImGenerator
from synthaug.generators.official import Found, State, vote

BLOCK = re.compile(r"layout_to_image\.model\.(\d+)\.conv_block\.1\.weight")
LAYER = re.compile(r"gconv_net\.gconvs\.(\d+)\.net1\.0\.weight")


def recognise(state: State, _background: bool) -> Found | None:
    """Return the network of a state dict, None when its keys are not Grid2Im's.

    ValueError names a key that is wrong.
    """
    if any(key.startswith(("layout_to_image.", "repr_net.")) for key in state):
        return _generator(state)
    if "scale1_layer4.0.weight" in state:
        width = vote(state, 0, ("scale0_layer0.0.weight", 0), ("scale0_layer0.0.bias", 0))
        channels = vote(state, 0, ("scale0_layer0.0.weight", 1)) - 3
        with torch.device("meta"):
            image = ImageDiscriminator(channels + 3, width)
        title = f"Grid2Im, image discriminator of width {width}, layouts of {channels} channels"
        return Found("discriminator", Config(width_d=width), 1, title, image)
    if "scale0_layer3.0.weight" in state and "scale0_layer4.0.weight" not in state:
        width = vote(state, 0, ("scale0_layer0.0.weight", 0), ("scale0_layer0.0.bias", 0))
        labels = vote(state, 0, ("scale0_layer2.0.weight", 1)) - 2 * width
        if labels < 2:
            raise ValueError("'scale0_layer2.0.weight' has no room for classes")
        with torch.device("meta"):
            masks = MaskDiscriminator(labels, width)
        title = f"Grid2Im, mask discriminator of width {width}, {labels} label rows"
        return Found("discriminator", Config(width_d=width), labels, title, masks)
    return None


def _generator(state: State) -> Found:
    labels = vote(state, 0, ("obj_embeddings.weight", 0))
    if labels < 2:
        raise ValueError(f"'obj_embeddings.weight' has {labels} rows; a model has 2 or more")
    embedding = vote(state, 0, ("obj_embeddings.weight", 1), ("pred_embeddings.weight", 1))
    joint = vote(state, 0, ("repr_net.0.weight", 1), ("image_encoder.cnn.2.weight", 0))
    doublings = sum(bool(re.fullmatch(r"mask_net\.\d+\.running_mean", key)) for key in state)
    blocks = sorted(int(match[1]) for key in state if (match := BLOCK.fullmatch(key)))
    if not blocks:
        raise ValueError("has no blocks 'layout_to_image.model.*.conv_block'; it is not complete")
    sizes: dict[str, Any] = {
        "width": vote(state, 0, ("layout_to_image.model.1.weight", 0)),
        "halvings": (blocks[0] - 4) // 3,
        "residual_blocks": len(blocks),
        "embedding": embedding,
        "hidden": vote(state, 0, ("box_net.0.weight", 0)),
        "graph_layers": 1 + sum(bool(LAYER.fullmatch(key)) for key in state),
        "mask_side": 2**doublings,
        "mask_noise": joint - embedding,
        "appearance": vote(state, 0, ("repr_net.2.weight", 0), ("repr_net.2.bias", 0)),
    }
    try:
        config = Config(**sizes)
    except ValueError as err:
        raise ValueError(f"has sizes that no model has ({err})") from err
    title = f"Grid2Im of width {config.width}, {labels} label rows"
    hint = (
        "its file does not tell the resolution it was trained at: "
        f"{config.resolution} pixels are assumed"
    )
    with torch.device("meta"):
        network = Grid2ImGenerator(config, labels)
    return Found("generator", config, labels, title, network, hint=hint)
