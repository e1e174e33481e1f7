"""Recognise a Layout2Im by key names and shapes: G and both discriminators."""

from __future__ import annotations

import re
from typing import Any

import torch

from synthaug.generators.layout2im.config import Config
from synthaug.generators.layout2im.discriminator import ImageDiscriminator, ObjectDiscriminator
from synthaug.generators.layout2im.network import Layout2ImGenerator
from synthaug.generators.official import Found, State, vote

CELL = re.compile(r"layout_encoder\.clstm\.cell_list\.(\d+)\.conv\.weight")


def recognise(state: State, _background: bool) -> Found | None:
    """Return the network of a state dict, None when its keys are not Layout2Im's.

    ValueError names a key that is wrong.
    """
    if any(key.startswith(("crop_encoder.", "layout_encoder.")) for key in state):
        return _generator(state)
    if "main.0.resi.0.weight_orig" not in state:
        return None
    width = vote(state, 0, ("main.0.resi.0.weight_orig", 0), ("main.0.resi.0.bias", 0))
    config = Config(width_d=width)
    if "classifier_src.weight_orig" in state:
        labels = vote(state, 0, ("classifier_cls.weight_orig", 0), ("classifier_cls.bias", 0))
        with torch.device("meta"):
            objects = ObjectDiscriminator(width, labels)
        title = f"Layout2Im, object discriminator of width {width}, {labels} label rows"
        return Found("discriminator", config, labels, title, objects)
    with torch.device("meta"):
        image = ImageDiscriminator(width)
    return Found(
        "discriminator", config, 1, f"Layout2Im, image discriminator of width {width}", image
    )


def _generator(state: State) -> Found:
    labels = vote(state, 0, ("layout_encoder.embedding.weight", 0))
    if labels < 2:
        raise ValueError(
            f"'layout_encoder.embedding.weight' has {labels} rows; a model has 2 or more"
        )
    sizes: dict[str, Any] = {
        "width": vote(state, 0, ("crop_encoder.c1.weight", 0), ("decoder.c4.weight", 1)),
        "embedding": vote(state, 0, ("layout_encoder.embedding.weight", 1)),
        "z_object": vote(
            state, 0, ("crop_encoder.fc_mu.weight", 0), ("crop_encoder.fc_mu.bias", 0)
        ),
        "lstm_layers": sum(bool(CELL.fullmatch(key)) for key in state),
    }
    try:
        config = Config(**sizes)
    except ValueError as err:
        raise ValueError(f"has sizes that no model has ({err})") from err
    title = f"Layout2Im at {config.resolution} pixels, width {config.width}, {labels} label rows"
    with torch.device("meta"):
        network = Layout2ImGenerator(config, labels)
    return Found("generator", config, labels, title, network)
